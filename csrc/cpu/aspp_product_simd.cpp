// A tile of the product stays in registers while the channels go by: each step takes kVectors
// vectors of pixels and as many weights as there are rows.
#include "common/simd.h"
#include "cpu/aspp_product_kernel.h"

namespace deeplab_native::DEEPLAB_ISA {
namespace {

constexpr int kN = kLanes<float>;
constexpr int kVectors = 3;
// 7 x 3 sums fit 32 registers, 4 x 3 fit 16.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kRows = 7;
#else
constexpr int kRows = 4;
#endif
constexpr int kWidth = kVectors * kN;

// Of the block's `rows` rows kR are computed.
template <int kR>
void multiply_rows(const float* a, int rows, const float* b, int64_t channels, float* y, bool add) {
  using V = Vec<float, kN>;
  V sums[kR][kVectors] = {};
  for (int64_t c = 0; c < channels; ++c, a += rows, b += kWidth) {
    V pixels[kVectors];
    for (int v = 0; v < kVectors; ++v) pixels[v] = load<float, kN>(b + v * kN);
    for (int r = 0; r < kR; ++r) {
      const V weight = broadcast<float, kN>(a[r]);
      for (int v = 0; v < kVectors; ++v) sums[r][v] = fma(weight, pixels[v], sums[r][v]);
    }
  }
  for (int r = 0; r < kR; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      float* to = y + r * kWidth + v * kN;
      store<float, kN>(to, add ? load<float, kN>(to) + sums[r][v] : sums[r][v]);
    }
  }
}

void multiply(const float* a, int rows, const float* b, int64_t channels, float* y, bool add) {
  static_assert(kAsppBlock == 7);
  for (int first = 0; first < rows; first += kRows) {
    const int count = rows - first < kRows ? rows - first : kRows;
    const float* from = a + first;
    float* to = y + first * kWidth;
    if (count == 1) multiply_rows<1>(from, rows, b, channels, to, add);
    if (count == 2) multiply_rows<2>(from, rows, b, channels, to, add);
    if (count == 3) multiply_rows<3>(from, rows, b, channels, to, add);
    if (count == 4) multiply_rows<4>(from, rows, b, channels, to, add);
    if constexpr (kRows > 4) {
      if (count == 5) multiply_rows<5>(from, rows, b, channels, to, add);
      if (count == 6) multiply_rows<6>(from, rows, b, channels, to, add);
      if (count == 7) multiply_rows<7>(from, rows, b, channels, to, add);
    }
  }
}

}  // namespace

void fill(AsppProductKernel* kernel) { *kernel = {kWidth, multiply}; }

}  // namespace deeplab_native::DEEPLAB_ISA
