// exp(-r^2 / 2) of vectors: for files that are compiled once per instruction set (common/simd.h).
#pragma once
#include <cstdint>

#include "common/simd.h"

namespace deeplab_native::DEEPLAB_ISA {

// 2^r, |r| <= 1/2, as 1 + r (p[0] + r (p[1] + ...)).
template <class T>
struct PowerOfTwo;
template <>
struct PowerOfTwo<float> {  // Cephes' polynomial
  using Integer = int32_t;
  static constexpr int kBits = 23, kTerms = 6;
  static constexpr float kLeast = -125, kMagic = 12582912.0f;  // 1.5 * 2^23
  static constexpr float kFactors[] = {6.931472028550421e-1f, 2.402264791363012e-1f,
                                       5.550332471162809e-2f, 9.618437357674640e-3f,
                                       1.339887440266574e-3f, 1.535336188319500e-4f};
};
template <>
struct PowerOfTwo<double> {  // ln(2)^k / k!
  using Integer = int64_t;
  static constexpr int kBits = 52, kTerms = 12;
  static constexpr double kLeast = -1021, kMagic = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double kFactors[] = {
      6.931471805599453094e-01, 2.402265069591007123e-01, 5.550410866482157995e-02,
      9.618129107628477162e-03, 1.333355814642844343e-03, 1.540353039338160995e-04,
      1.525273380405984028e-05, 1.321548679014430949e-06, 1.017808600923969972e-07,
      7.054911620801123329e-09, 4.445538271870811498e-10, 2.567843599348820514e-11};
};

// exp(-square / 2) for squares of 0 and above; at the least 2^kLeast.
template <class T, int N>
DEEPLAB_INLINE Vec<T, N> gauss(Vec<T, N> square) {
  using P = PowerOfTwo<T>;
  using V = Vec<T, N>;
  using I = Vec<typename P::Integer, N>;
  const V power = square * broadcast<T, N>(T(-0.72134752044448170368));  // -log2(e) / 2
  const V x = larger<T, N>(power, broadcast<T, N>(P::kLeast));
  const V magic = broadcast<T, N>(P::kMagic);
  const V shifted = x + magic;  // its last bits are the nearest integer
  const V r = x - (shifted - magic);
  V p = broadcast<T, N>(P::kFactors[P::kTerms - 1]);
  for (int k = P::kTerms - 2; k >= 0; --k) p = fma(p, r, broadcast<T, N>(P::kFactors[k]));
  p = fma(p, r, broadcast<T, N>(T(1)));
  return (V)((I)p + ((I)shifted << P::kBits));
}

}  // namespace deeplab_native::DEEPLAB_ISA
