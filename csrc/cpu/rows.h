// Rows of values in vector registers. Included only by files compiled per instruction set.
#pragma once
#include <type_traits>

#include "common/simd.h"
#include "cpu/simd_kernels.h"

namespace deeplab_native::DEEPLAB_ISA {

constexpr int largest_vector(int n, int most) {
  int v = 1;
  while (v * 2 <= n && v * 2 <= most) v *= 2;
  return v;
}

// N values of T, as the fewest vectors of this instruction set.
template <class T, int N>
struct Row {
  static constexpr int kHead = largest_vector(N, kLanes<T>);
  Vec<T, kHead> head;
  Row<T, N - kHead> tail;

  static DEEPLAB_INLINE Row load(const T* p) {
    return {DEEPLAB_ISA::load<T, kHead>(p), Row<T, N - kHead>::load(p + kHead)};
  }
  // The first kFirst values from one place, the others from another.
  template <int kFirst>
  static DEEPLAB_INLINE Row load_split(const T* first, const T* second) {
    if constexpr (kFirst == 0) {
      return load(second);
    } else {
      static_assert(kFirst % kHead == 0);
      return {DEEPLAB_ISA::load<T, kHead>(first),
              Row<T, N - kHead>::template load_split<kFirst - kHead>(first + kHead, second)};
    }
  }
  template <int kFirst>
  DEEPLAB_INLINE void store_split(T* first, T* second) const {
    if constexpr (kFirst == 0) {
      store(second);
    } else {
      DEEPLAB_ISA::store<T, kHead>(first, head);
      tail.template store_split<kFirst - kHead>(first + kHead, second);
    }
  }
  static DEEPLAB_INLINE Row zero() { return {Vec<T, kHead>{}, Row<T, N - kHead>::zero()}; }
  DEEPLAB_INLINE void store(T* p) const {
    DEEPLAB_ISA::store<T, kHead>(p, head);
    tail.store(p + kHead);
  }
  // this += w * other
  DEEPLAB_INLINE void add_scaled(T w, const Row& other) {
    if constexpr (kHead == 1) {
      head = fma<T>(w, other.head, head);
    } else {
      add_scaled(broadcast<T, kHead>(w), other);
    }
  }
  // The same with w in every lane; one broadcast serves the narrower vectors too.
  DEEPLAB_INLINE void add_scaled(Vec<T, kHead> w, const Row& other)
    requires(kHead > 1)
  {
    head = fma<Vec<T, kHead>>(w, other.head, head);
    if constexpr (N > kHead) {
      using Tail = Row<T, N - kHead>;
      if constexpr (Tail::kHead == kHead) {
        tail.add_scaled(w, other.tail);
      } else {
        static_assert(Tail::kHead * 2 == kHead);
        tail.add_scaled(low_half<T, kHead>(w), other.tail);
      }
    }
  }
  // The row itself, or zeros, without a branch.
  DEEPLAB_INLINE Row where(bool wanted) const {
    if constexpr (kHead == 1) {
      return {wanted ? head : T(0), tail.where(wanted)};
    } else {
      using Int = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
      const Vec<Int, kHead> mask = Vec<Int, kHead>{} - Int{wanted};
      return {(Vec<T, kHead>)((Vec<Int, kHead>)head & mask), tail.where(wanted)};
    }
  }
  DEEPLAB_INLINE Row operator+(const Row& o) const { return {head + o.head, tail + o.tail}; }
  DEEPLAB_INLINE Row times(const Row& o) const { return {head * o.head, tail.times(o.tail)}; }
  DEEPLAB_INLINE Row exp_minus(T shift) const {
    return {DEEPLAB_ISA::exp<kHead>(head - shift), tail.exp_minus(shift)};
  }
  DEEPLAB_INLINE Row minus(const Row& o) const { return {head - o.head, tail.minus(o.tail)}; }
  DEEPLAB_INLINE Row min(const Row& o) const {
    return {smaller<T, kHead>(head, o.head), tail.min(o.tail)};
  }
  DEEPLAB_INLINE Row max(const Row& o) const {
    return {larger<T, kHead>(head, o.head), tail.max(o.tail)};
  }
  DEEPLAB_INLINE Row inverse() const { return {T(1) / head, tail.inverse()}; }
  DEEPLAB_INLINE T max() const {
    T m = reduce<kHead>(head, [](auto a, auto b) { return a > b ? a : b; });
    if constexpr (N > kHead) {
      const T t = tail.max();
      m = t > m ? t : m;
    }
    return m;
  }
  // Whether all are larger than `least` and smaller than `most`; not where one is NaN.
  DEEPLAB_INLINE bool within(T least, T most) const {
    bool all = true;
    if constexpr (kHead == 1) {
      all = head > least && head < most;
    } else {
      const auto outside = ~((head > least) & (head < most));
      using Word = std::remove_cvref_t<decltype(outside[0])>;
      all = reduce_words<Word, kHead>(outside) == 0;
    }
    if constexpr (N > kHead) all = all && tail.within(least, most);
    return all;
  }
  DEEPLAB_INLINE T last() const {
    if constexpr (N > kHead) {
      return tail.last();
    } else {
      return head[kHead - 1];
    }
  }
  DEEPLAB_INLINE T sum() const {
    T s = reduce<kHead>(head, [](auto a, auto b) { return a + b; });
    if constexpr (N > kHead) s += tail.sum();
    return s;
  }

 private:
  template <class Word, int M>
  static DEEPLAB_INLINE Word reduce_words(Vec<Word, M> v) {
    if constexpr (M == 2) {
      return v[0] | v[1];
    } else {
      return reduce_words<Word, M / 2>(low_half<Word, M>(v) | high_half<Word, M>(v));
    }
  }
  template <int M, class Op>
  static DEEPLAB_INLINE T reduce(Vec<T, M> v, Op op) {
    if constexpr (M == 1) {
      return v;
    } else if constexpr (M == 2) {
      return op(v[0], v[1]);
    } else {
      return reduce<M / 2>(op(low_half<T, M>(v), high_half<T, M>(v)), op);
    }
  }
};
template <class T>
struct Row<T, 0> {
  static DEEPLAB_INLINE Row load(const T*) { return {}; }
  static DEEPLAB_INLINE Row zero() { return {}; }
  DEEPLAB_INLINE void store(T*) const {}
  DEEPLAB_INLINE void add_scaled(T, const Row&) {}
  DEEPLAB_INLINE Row where(bool) const { return {}; }
  DEEPLAB_INLINE Row operator+(const Row&) const { return {}; }
  DEEPLAB_INLINE Row times(const Row&) const { return {}; }
  DEEPLAB_INLINE Row minus(const Row&) const { return {}; }
  DEEPLAB_INLINE Row min(const Row&) const { return {}; }
  DEEPLAB_INLINE Row max(const Row&) const { return {}; }
  DEEPLAB_INLINE Row inverse() const { return {}; }
  DEEPLAB_INLINE Row exp_minus(T) const { return {}; }
};

// Sums of the 16 rows [16][N] of a block. Summing one row after the other is a chain of shuffles;
// all at once are a transposition that adds on the way.
template <class T, int N>
DEEPLAB_INLINE Row<T, kBlock> row_sums(const T* rows, int stride) {
  T sums[kBlock];
  for (int i = 0; i < kBlock; ++i) sums[i] = Row<T, N>::load(rows + i * stride).sum();
  return Row<T, kBlock>::load(sums);
}
#if defined(__AVX512F__)
DEEPLAB_INLINE __m512 add_pairs(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
}
DEEPLAB_INLINE __m512 add_fours(__m512 a, __m512 b) {
  const __m512d x = (__m512d)a, y = (__m512d)b;
  return _mm512_add_ps((__m512)_mm512_unpacklo_pd(x, y), (__m512)_mm512_unpackhi_pd(x, y));
}
DEEPLAB_INLINE __m512 add_quarters(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
}
template <>
DEEPLAB_INLINE Row<float, kBlock> row_sums<float, 16>(const float* rows, int stride) {
  __m512 a[8], b[4];
  for (int i = 0; i < 8; ++i) {
    a[i] = add_pairs(_mm512_loadu_ps(rows + 2 * i * stride),
                     _mm512_loadu_ps(rows + (2 * i + 1) * stride));
  }
  for (int i = 0; i < 4; ++i) b[i] = add_fours(a[2 * i], a[2 * i + 1]);
  return {(Vec<float, 16>)add_quarters(add_quarters(b[0], b[1]), add_quarters(b[2], b[3])), {}};
}
template <>
DEEPLAB_INLINE Row<float, kBlock> row_sums<float, 8>(const float* rows, int stride) {
  __m512 two[8], b[2];  // rows i and i + 8
  for (int i = 0; i < 8; ++i) {
    two[i] = _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(rows + i * stride)),
                                _mm256_loadu_ps(rows + (i + 8) * stride), 1);
  }
  for (int i = 0; i < 2; ++i) {
    const __m512* t = two + 4 * i;
    b[i] = add_fours(add_pairs(t[0], t[1]), add_pairs(t[2], t[3]));
  }
  // quarters: rows 0-3 and 8-11 of b[0], 4-7 and 12-15 of b[1]
  const __m512 sums = add_quarters(b[0], b[1]);
  return {(Vec<float, 16>)_mm512_shuffle_f32x4(sums, sums, 0xd8), {}};
}
#elif defined(__AVX2__)
DEEPLAB_INLINE Vec<float, 8> eight_sums(const float* rows, int stride) {
  const auto pair = [&](int i) {
    return _mm256_hadd_ps(_mm256_loadu_ps(rows + i * stride),
                          _mm256_loadu_ps(rows + (i + 1) * stride));
  };
  const __m256 low = _mm256_hadd_ps(pair(0), pair(2)), high = _mm256_hadd_ps(pair(4), pair(6));
  return (Vec<float, 8>)_mm256_add_ps(_mm256_permute2f128_ps(low, high, 0x20),
                                      _mm256_permute2f128_ps(low, high, 0x31));
}
template <>
DEEPLAB_INLINE Row<float, kBlock> row_sums<float, 8>(const float* rows, int stride) {
  return {eight_sums(rows, stride), {eight_sums(rows + 8 * stride, stride), {}}};
}
template <>
DEEPLAB_INLINE Row<float, kBlock> row_sums<float, 16>(const float* rows, int stride) {
  return row_sums<float, 8>(rows, stride) + row_sums<float, 8>(rows + 8, stride);
}
#endif

// to[c][i] = from[i][c] of 8 x 8 values, rows `from_stride` and `to_stride` apart.
template <class T>
DEEPLAB_INLINE void transpose_8x8(const T* from, int64_t from_stride, T* to, int64_t to_stride) {
  using V = Vec<T, 8>;
  V a[8], b[8];
  for (int i = 0; i < 8; ++i) a[i] = load<T, 8>(from + i * from_stride);
  for (int i = 0; i < 8; i += 2) {  // pairs of values, then fours, then eights
    b[i] = __builtin_shufflevector(a[i], a[i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
    b[i + 1] = __builtin_shufflevector(a[i], a[i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
  }
  for (int i = 0; i < 8; i += 4) {
    for (int k = i; k < i + 2; ++k) {
      a[k] = __builtin_shufflevector(b[k], b[k + 2], 0, 1, 8, 9, 4, 5, 12, 13);
      a[k + 2] = __builtin_shufflevector(b[k], b[k + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  }
  for (int k = 0; k < 4; ++k) {
    store<T, 8>(to + k * to_stride,
                __builtin_shufflevector(a[k], a[k + 4], 0, 1, 2, 3, 8, 9, 10, 11));
    store<T, 8>(to + (k + 4) * to_stride,
                __builtin_shufflevector(a[k], a[k + 4], 4, 5, 6, 7, 12, 13, 14, 15));
  }
}

// Calls f.operator()<N>(c) for the chunks [c, c + N) of a row: one where the row's width is known
// when compiling (kStride > 0), else 16 wide ones and a rest.
template <int kStride, class F>
DEEPLAB_INLINE void for_chunks(int stride, const F& f) {
  if constexpr (kStride > 0) {
    f.template operator()<kStride>(0);
  } else {
    int c = 0;
    for (; c + 16 <= stride; c += 16) f.template operator()<16>(c);
    if (stride - c == 8) f.template operator()<8>(c);
  }
}

// Calls f.operator()<stride>() for the widths of a row that the kernels are compiled for, with 0
// for wider ones.
template <class F>
DEEPLAB_INLINE void with_stride(int stride, const F& f) {
  switch (stride) {
    case 1:
      return f.template operator()<1>();
    case 4:
      return f.template operator()<4>();
    case 8:
      return f.template operator()<8>();
    case 16:
      return f.template operator()<16>();
    default:
      return f.template operator()<0>();
  }
}

}  // namespace deeplab_native::DEEPLAB_ISA
