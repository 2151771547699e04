// A tile of the product stays in registers while the channels go by: each step takes kVectors
// vectors of pixels and as many weights as there are rows.
#include "common/simd.h"
#include "cpu/aspp_product_kernel.h"

namespace deeplab_native::DEEPLAB_ISA {
namespace {

constexpr int kVectors = 3;
// 7 x 3 sums fit 32 registers, 4 x 3 fit 16.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kRows = 7;
#else
constexpr int kRows = 4;
#endif
template <class T>
constexpr int kWidth = kVectors * kLanes<T>;

// kR of a block's `rows` rows.
template <class T, int kR>
void multiply_rows(const T* a, int rows, const T* b, int64_t channels, T* y, bool add) {
  constexpr int kN = kLanes<T>;
  using V = Vec<T, kN>;
  V sums[kR][kVectors] = {};
  for (int64_t c = 0; c < channels; ++c, a += rows, b += kWidth<T>) {
    V pixels[kVectors];
    for (int v = 0; v < kVectors; ++v) pixels[v] = load<T, kN>(b + v * kN);
    for (int r = 0; r < kR; ++r) {
      const V weight = broadcast<T, kN>(a[r]);
      for (int v = 0; v < kVectors; ++v) sums[r][v] = fma(weight, pixels[v], sums[r][v]);
    }
  }
  for (int r = 0; r < kR; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      T* to = y + r * kWidth<T> + v * kN;
      store<T, kN>(to, add ? load<T, kN>(to) + sums[r][v] : sums[r][v]);
    }
  }
}

template <class T>
void multiply(const T* a, int rows, const T* b, int64_t channels, T* y, bool add) {
  static_assert(kAsppBlock <= 7);
  for (int first = 0; first < rows; first += kRows) {
    const int count = rows - first < kRows ? rows - first : kRows;
    const T* from = a + first;
    T* to = y + first * kWidth<T>;
    if (count == 1) multiply_rows<T, 1>(from, rows, b, channels, to, add);
    if (count == 2) multiply_rows<T, 2>(from, rows, b, channels, to, add);
    if (count == 3) multiply_rows<T, 3>(from, rows, b, channels, to, add);
    if (count == 4) multiply_rows<T, 4>(from, rows, b, channels, to, add);
    if constexpr (kRows > 4) {
      if (count == 5) multiply_rows<T, 5>(from, rows, b, channels, to, add);
      if (count == 6) multiply_rows<T, 6>(from, rows, b, channels, to, add);
      if (count == 7) multiply_rows<T, 7>(from, rows, b, channels, to, add);
    }
  }
}

}  // namespace

void fill(ProductKernels* kernels) {
  kernels->f32 = {kWidth<float>, multiply<float>};
  kernels->f64 = {kWidth<double>, multiply<double>};
}

}  // namespace deeplab_native::DEEPLAB_ISA
