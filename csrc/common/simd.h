// The vector layer: everything that depends on the instruction set, in one place.
//
// A file that includes this is compiled once per instruction set with DEEPLAB_ISA set to its name
// (CMakeLists.txt); all it defines lives in the namespace of that name. Such a file must not use
// inline functions or templates of the standard library that could be emitted out of line: the
// linker would keep one copy for all, possibly the one with instructions that a processor lacks
// (.ci/check_isa_symbols.sh looks).
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#ifndef DEEPLAB_ISA
#error \
    "DEEPLAB_ISA is not set: include simd.h only in files that CMakeLists.txt lists as simd_sources"
#endif
#define DEEPLAB_INLINE inline __attribute__((always_inline))

namespace deeplab_native::DEEPLAB_ISA {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;  // SSE2, NEON
#endif
template <class T>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

template <class T, int N>
struct VecOf {
  typedef T type __attribute__((vector_size(N * sizeof(T))));
};
template <class T>
struct VecOf<T, 1> {
  typedef T type;
};
// N lanes of T; comparisons give integer lanes of 0 or -1, `mask ? a : b` selects.
template <class T, int N>
using Vec = typename VecOf<T, N>::type;

template <class T, int N>
DEEPLAB_INLINE Vec<T, N> load(const T* p) {
  Vec<T, N> v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
template <class T, int N>
DEEPLAB_INLINE void store(T* p, Vec<T, N> v) {
  std::memcpy(p, &v, sizeof(v));
}
template <class T, int N>
DEEPLAB_INLINE Vec<T, N> broadcast(T x) {
  if constexpr (N == 1) {
    return x;
  } else {
    return x - Vec<T, N>{};  // keeps the sign of a zero
  }
}

// a * b + c, rounded once where the instruction set can.
template <class V>
DEEPLAB_INLINE V fma(V a, V b, V c) {
  return a * b + c;
}
#if defined(__FMA__)
template <>
DEEPLAB_INLINE float fma(float a, float b, float c) {
  return __builtin_fmaf(a, b, c);
}
template <>
DEEPLAB_INLINE double fma(double a, double b, double c) {
  return __builtin_fma(a, b, c);
}
#define DEEPLAB_FMA(T, N, INTRINSIC)                                    \
  template <>                                                           \
  DEEPLAB_INLINE Vec<T, N> fma(Vec<T, N> a, Vec<T, N> b, Vec<T, N> c) { \
    return (Vec<T, N>)INTRINSIC(a, b, c);                               \
  }
DEEPLAB_FMA(float, 4, _mm_fmadd_ps)
DEEPLAB_FMA(float, 8, _mm256_fmadd_ps)
DEEPLAB_FMA(double, 2, _mm_fmadd_pd)
DEEPLAB_FMA(double, 4, _mm256_fmadd_pd)
#if defined(__AVX512F__)
DEEPLAB_FMA(float, 16, _mm512_fmadd_ps)
DEEPLAB_FMA(double, 8, _mm512_fmadd_pd)
#endif
#undef DEEPLAB_FMA
#endif

// The larger and the smaller of two; the second where one is NaN.
template <class T, int N>
DEEPLAB_INLINE Vec<T, N> larger(Vec<T, N> a, Vec<T, N> b) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4 && N == 16) return (Vec<T, N>)_mm512_max_ps((__m512)a, (__m512)b);
#endif
#if defined(__AVX2__)
  if constexpr (sizeof(T) == 4 && N == 8) return (Vec<T, N>)_mm256_max_ps((__m256)a, (__m256)b);
#endif
  return a > b ? a : b;
}
template <class T, int N>
DEEPLAB_INLINE Vec<T, N> smaller(Vec<T, N> a, Vec<T, N> b) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4 && N == 16) return (Vec<T, N>)_mm512_min_ps((__m512)a, (__m512)b);
#endif
#if defined(__AVX2__)
  if constexpr (sizeof(T) == 4 && N == 8) return (Vec<T, N>)_mm256_min_ps((__m256)a, (__m256)b);
#endif
  return a < b ? a : b;
}

// To the nearest integer, ties to even, for |x| < 2^22: the addition leaves no bits for a fraction.
template <int N>
DEEPLAB_INLINE Vec<float, N> round_even(Vec<float, N> x) {
  const Vec<float, N> magic = broadcast<float, N>(12582912.0f);  // 1.5 * 2^23
  return (x + magic) - magic;
}

// p * 2^n for integers n, |n| <= 150
template <int N>
DEEPLAB_INLINE Vec<float, N> scale_exponent(Vec<float, N> p, Vec<float, N> n) {
#if defined(__AVX512F__)
  if constexpr (N == 16) return (Vec<float, N>)_mm512_scalef_ps((__m512)p, (__m512)n);
  if constexpr (N == 8) return (Vec<float, N>)_mm256_scalef_ps((__m256)p, (__m256)n);
#endif
  using I = Vec<int32_t, N>;
  const I exponent = __builtin_convertvector(n, I) + 127;  // 0 and below: flushed to zero
  return p * (Vec<float, N>)((exponent > 0 ? exponent : I{}) << 23);
}

// exp to 2 units in the last place; 0 below -87. Cephes' polynomial for 2^f, |f| <= 1/2.
template <int N>
DEEPLAB_INLINE Vec<float, N> exp(Vec<float, N> x) {
  using F = Vec<float, N>;
  x = larger<float, N>(broadcast<float, N>(-100.0f), x);  // in this order NaN stays
  x = smaller<float, N>(broadcast<float, N>(88.0f), x);
  const F n = round_even<N>(x * 1.44269504088896341f);
  F r = fma(n, broadcast<float, N>(-0.693359375f), x);
  r = fma(n, broadcast<float, N>(2.12194440e-4f), r);
  F p = broadcast<float, N>(1.9875691500e-4f);
  p = fma(p, r, broadcast<float, N>(1.3981999507e-3f));
  p = fma(p, r, broadcast<float, N>(8.3334519073e-3f));
  p = fma(p, r, broadcast<float, N>(4.1665795894e-2f));
  p = fma(p, r, broadcast<float, N>(1.6666665459e-1f));
  p = fma(p, r, broadcast<float, N>(5.0000001201e-1f));
  p = fma(p, r * r, r + 1.0f);
  return scale_exponent<N>(p, n);
}
DEEPLAB_INLINE float exp(float x) { return x < -87.0f ? 0.0f : __builtin_expf(x); }
DEEPLAB_INLINE double exp(double x) { return __builtin_exp(x); }
template <int N>
DEEPLAB_INLINE Vec<double, N> exp(Vec<double, N> x) {
  for (int i = 0; i < N; ++i) x[i] = __builtin_exp(x[i]);
  return x;
}

// Halves of a vector, for reductions over its lanes.
template <class T, int N>
DEEPLAB_INLINE Vec<T, N / 2> low_half(Vec<T, N> v) {
  Vec<T, N / 2> h;
  std::memcpy(&h, &v, sizeof(h));
  return h;
}
template <class T, int N>
DEEPLAB_INLINE Vec<T, N / 2> high_half(Vec<T, N> v) {
#if defined(__AVX512F__)
  if constexpr (sizeof(v) == 64 && sizeof(T) == 4) {
    return (Vec<T, N / 2>)_mm512_extractf32x8_ps((__m512)v, 1);
  }
#endif
#if defined(__AVX2__)
  if constexpr (sizeof(v) == 32 && sizeof(T) == 4) {
    return (Vec<T, N / 2>)_mm256_extractf128_ps((__m256)v, 1);
  }
#endif
  Vec<T, N / 2> h;
  std::memcpy(&h, reinterpret_cast<const char*>(&v) + sizeof(h), sizeof(h));
  return h;
}

// p[i] for each lane's i < 2^31.
template <int N>
DEEPLAB_INLINE Vec<float, N> gather(const float* p, Vec<uint32_t, N> i) {
#if defined(__AVX512F__)
  if constexpr (N == 16) return (Vec<float, N>)_mm512_i32gather_ps((__m512i)i, p, 4);
#endif
#if defined(__AVX2__)
  if constexpr (N == 8) return (Vec<float, N>)_mm256_i32gather_ps(p, (__m256i)i, 4);
#endif
  Vec<float, N> v;
  for (int k = 0; k < N; ++k) v[k] = p[i[k]];
  return v;
}

// Sets "flush to zero, denormals are zero" while it lives: the far tails of Q are denormal, and
// each such number costs a hundred cycles.
class [[maybe_unused]] FlushDenormals {
 public:
#if defined(__x86_64__)
  FlushDenormals() : old_(__builtin_ia32_stmxcsr()) { __builtin_ia32_ldmxcsr(old_ | 0x8040u); }
  ~FlushDenormals() { __builtin_ia32_ldmxcsr(old_); }

 private:
  unsigned old_;
#endif
};

}  // namespace deeplab_native::DEEPLAB_ISA
