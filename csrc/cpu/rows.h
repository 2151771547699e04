// Rows of label values in vector registers, and the loops over a pixel block that read (slice) and
// write (splat) rows of the lattice. Included only by files compiled per instruction set.
#pragma once
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
  DEEPLAB_INLINE Row operator+(const Row& o) const { return {head + o.head, tail + o.tail}; }
  DEEPLAB_INLINE Row exp_minus(T shift) const {
    return {DEEPLAB_ISA::exp<kHead>(head - shift), tail.exp_minus(shift)};
  }
  DEEPLAB_INLINE T max() const {
    T m = reduce<kHead>(head, [](auto a, auto b) { return a > b ? a : b; });
    if constexpr (N > kHead) {
      const T t = tail.max();
      m = t > m ? t : m;
    }
    return m;
  }
  DEEPLAB_INLINE T sum() const {
    T s = reduce<kHead>(head, [](auto a, auto b) { return a + b; });
    if constexpr (N > kHead) s += tail.sum();
    return s;
  }

 private:
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
  DEEPLAB_INLINE Row operator+(const Row&) const { return {}; }
  DEEPLAB_INLINE Row exp_minus(T) const { return {}; }
};

// Sums of the 16 rows of a block. Summing one row after the other is a chain of shuffles; sixteen
// rows at once are a transposition that adds on the way.
template <class T, int N>
struct RowSums {
  T sums[kBlock];
  DEEPLAB_INLINE void set(int i, const Row<T, N>& row) { sums[i] = row.sum(); }
  DEEPLAB_INLINE void get(T* to) const {
    for (int i = 0; i < kBlock; ++i) to[i] = sums[i];
  }
};
#if defined(__AVX512F__)
template <int N>
  requires(N >= 16)
struct RowSums<float, N> {
  __m512 folded[kBlock];
  DEEPLAB_INLINE void set(int i, const Row<float, N>& row) {
    __m512 sum = (__m512)row.head;
    if constexpr (N == 24) {
      sum = _mm512_add_ps(sum, _mm512_zextps256_ps512((__m256)row.tail.head));
    } else if constexpr (N == 32) {
      sum = _mm512_add_ps(sum, (__m512)row.tail.head);
    }
    folded[i] = sum;
  }
  DEEPLAB_INLINE void get(float* to) const {
    __m512 a[8], b[4], c[2];
    for (int i = 0; i < 8; ++i) {
      a[i] = _mm512_add_ps(_mm512_unpacklo_ps(folded[2 * i], folded[2 * i + 1]),
                           _mm512_unpackhi_ps(folded[2 * i], folded[2 * i + 1]));
    }
    for (int i = 0; i < 4; ++i) {
      const __m512d even = (__m512d)a[2 * i], odd = (__m512d)a[2 * i + 1];
      b[i] = _mm512_add_ps((__m512)_mm512_unpacklo_pd(even, odd),
                           (__m512)_mm512_unpackhi_pd(even, odd));
    }
    for (int i = 0; i < 2; ++i) {
      c[i] = _mm512_add_ps(_mm512_shuffle_f32x4(b[2 * i], b[2 * i + 1], 0x88),
                           _mm512_shuffle_f32x4(b[2 * i], b[2 * i + 1], 0xdd));
    }
    _mm512_storeu_ps(to, _mm512_add_ps(_mm512_shuffle_f32x4(c[0], c[1], 0x88),
                                       _mm512_shuffle_f32x4(c[0], c[1], 0xdd)));
  }
};
#endif

// Calls f.operator()<N>(c) for the chunks [c, c + N) of a row: one where the row's width is known
// when compiling (kStride > 0), else 32 wide ones and a rest.
template <int kStride, class F>
DEEPLAB_INLINE void for_chunks(int stride, const F& f) {
  if constexpr (kStride > 0) {
    f.template operator()<kStride>(0);
  } else {
    int c = 0;
    for (; c + 32 <= stride; c += 32) f.template operator()<32>(c);
    if (stride - c == 24) f.template operator()<24>(c);
    if (stride - c == 16) f.template operator()<16>(c);
    if (stride - c == 8) f.template operator()<8>(c);
  }
}

// Row of an entry: kScale values apart, or `scale` where that is not known when compiling.
template <int kScale, class T, class Index>
DEEPLAB_INLINE T* row_at(T* rows, Index entry, int scale) {
  return rows + static_cast<int64_t>(entry) * (kScale > 0 ? kScale : scale);
}

// sum_r w[r][i] row(entry[r][i]) for pixel i of a block, onto `sum`; kCorners 0: not known when
// compiling.
template <int kCorners, int kScale, class T, int N, class Index>
DEEPLAB_INLINE void slice_pixel(int corners, const Index* entries, const T* weights, const T* rows,
                                int scale, int i, Row<T, N>* sum) {
#pragma GCC unroll 10
  for (int r = 0; r < (kCorners > 0 ? kCorners : corners); ++r) {
    const T* row = row_at<kScale>(rows, entries[r * kBlock + i], scale);
    sum->add_scaled(weights[r * kBlock + i], Row<T, N>::load(row));
  }
}

// row(entry[r][i]) += w[r][i] value for every corner r.
template <int kCorners, int kScale, class T, int N, class Index>
DEEPLAB_INLINE void splat_pixel(int corners, const Index* entries, const T* weights, T* rows,
                                int scale, int i, const Row<T, N>& value) {
#pragma GCC unroll 10
  for (int r = 0; r < (kCorners > 0 ? kCorners : corners); ++r) {
    T* p = row_at<kScale>(rows, entries[r * kBlock + i], scale);
    Row<T, N> row = Row<T, N>::load(p);
    row.add_scaled(weights[r * kBlock + i], value);
    row.store(p);
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
    case 24:
      return f.template operator()<24>();
    case 32:
      return f.template operator()<32>();
    default:
      return f.template operator()<0>();
  }
}

}  // namespace deeplab_native::DEEPLAB_ISA
