// As many pixels side by side as a vector holds, label after label: three short runs over the
// labels, whose scores for these pixels are in the first-level cache after the first.
#include "common/simd.h"
#include "cpu/upsample_unary_kernel.h"

namespace deeplab_native::DEEPLAB_ISA {
namespace {

template <class T, int N>
DEEPLAB_INLINE Vec<T, N> log(Vec<T, N> v) {  // one a pixel, against an exp for each label
  for (int i = 0; i < N; ++i) {
    if constexpr (sizeof(T) == sizeof(float)) {
      v[i] = __builtin_logf(v[i]);
    } else {
      v[i] = __builtin_log(v[i]);
    }
  }
  return v;
}

template <class T>
void energies(const UnaryRow<T>& row) {
  constexpr int kN = kLanes<T>;
  using V = Vec<T, kN>;
  static_assert(kUnaryStride % kN == 0);
  const V f = broadcast<T, kN>(row.fraction), rest = broadcast<T, kN>(T(1) - row.fraction);
  for (int64_t x = 0; x < row.width; x += kN) {
    const auto score = [&](int64_t label) {
      const int64_t at = label * row.stride + x;
      return fma(f, load<T, kN>(row.lower + at), rest * load<T, kN>(row.upper + at));
    };
    V largest = score(0);
    for (int64_t label = 1; label < row.labels; ++label) {
      const V value = score(label);
      largest = value > largest ? value : largest;
    }
    V sum = {};
    for (int64_t label = 0; label < row.labels; ++label) sum += exp<kN>(score(label) - largest);
    const V log_sum = log<T, kN>(sum);
    const int64_t count = row.width - x < kN ? row.width - x : kN;
    for (int64_t label = 0; label < row.labels; ++label) {
      const V energy = (largest - score(label)) + log_sum;
      T* to = row.energies + label * row.plane + x;
      if (count == kN) {
        store<T, kN>(to, energy);
      } else {
        std::memcpy(to, &energy, count * sizeof(T));
      }
    }
  }
}

template <class T>
void gradient(const T* energies, const T* grad, const T* grad_sum, T* out, int64_t width) {
  constexpr int kN = kLanes<T>;
  int64_t x = 0;
  for (; x + kN <= width; x += kN) {
    const Vec<T, kN> p = exp<kN>(-load<T, kN>(energies + x));
    store<T, kN>(out + x, p * load<T, kN>(grad_sum + x) - load<T, kN>(grad + x));
  }
  for (; x < width; ++x) out[x] = exp(-energies[x]) * grad_sum[x] - grad[x];
}

}  // namespace

void fill(UpsampleKernels* kernels) {
  kernels->f32 = {energies<float>, gradient<float>};
  kernels->f64 = {energies<double>, gradient<double>};
}

}  // namespace deeplab_native::DEEPLAB_ISA
