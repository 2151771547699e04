// The lattice's vector kernels: where a point lies, and the blur along one axis.
#include "cpu/rows.h"
#include "cpu/simd_kernels.h"

namespace deeplab_native::DEEPLAB_ISA {

void fill_mean_field(SimdKernels* kernels);

namespace {

using F = Vec<float, kLanes<float>>;
using I = Vec<int32_t, kLanes<float>>;
constexpr int kW = kLanes<float>;

// Adams et al. 2010, section 3.1.1 and 3.1.2, for kW points at once. The order of operations is
// pydensecrf's, and none of them may be fused: which vertices exist depends on the last bit.
template <int kDim>
DEEPLAB_INLINE void embed_points(const float* features, const float* scale, int dim, int lane,
                                 Embedding* out) {
  const int d = kDim > 0 ? kDim : dim;
  constexpr int kMost = (kDim > 0 ? kDim : kMaxFeatureDim) + 1;
  const F one = broadcast<float, kW>(1.0f);
  const float d1 = static_cast<float>(d + 1);
  const float inverse_d1 = 1.0f / d1;

  // y = E p: onto the hyperplane where the coordinates sum to 0
  F elevated[kMost];
  F sum_above{};
  for (int j = d; j > 0; --j) {
    const F scaled = load<float, kW>(features + (j - 1) * kBlock + lane) * scale[j - 1];
    elevated[j] = sum_above - scaled * static_cast<float>(j);
    sum_above = sum_above + scaled;
  }
  elevated[0] = sum_above;

  // the nearest remainder-0 point, by rounding each coordinate to a multiple of d + 1
  F remainder0[kMost], rank[kMost], difference[kMost];
  F sum{};
  for (int i = 0; i <= d; ++i) {
    const F rounded = round_even<kW>(elevated[i] * inverse_d1);
    remainder0[i] = rounded * d1;
    sum = sum + rounded;
    rank[i] = F{};
    difference[i] = elevated[i] - remainder0[i];
  }
  for (int i = 0; i < d; ++i) {
    for (int j = i + 1; j <= d; ++j) {
      const I less = difference[i] < difference[j];
      rank[i] = rank[i] + (less ? one : F{});
      rank[j] = rank[j] + (less ? F{} : one);
    }
  }
  // back onto the hyperplane where the rounded coordinates do not sum to 0
  for (int i = 0; i <= d; ++i) {
    rank[i] = rank[i] + sum;
    const F wrap = (rank[i] < 0.0f ? broadcast<float, kW>(d1) : F{}) -
                   (rank[i] >= d1 ? broadcast<float, kW>(d1) : F{});
    rank[i] = rank[i] + wrap;
    remainder0[i] = remainder0[i] + wrap;
  }

  // barycentric weights: differences of the coordinates in the order of their ranks
  F sorted[kMost]{};
  for (int i = 0; i <= d; ++i) {
    const F v = (elevated[i] - remainder0[i]) * inverse_d1;
    for (int r = 0; r <= d; ++r) sorted[r] = rank[i] == static_cast<float>(r) ? v : sorted[r];
    store<int32_t, kW>(out->remainder0[i] + lane, __builtin_convertvector(remainder0[i], I));
    store<int32_t, kW>(out->rank[i] + lane, __builtin_convertvector(rank[i], I));
  }
  store<float, kW>(out->weights[0] + lane, sorted[d] + (one - sorted[0]));
  for (int r = 1; r <= d; ++r) {
    store<float, kW>(out->weights[r] + lane, sorted[d - r] - sorted[d - r + 1]);
  }
}

void embed(const float* features, const float* scale, int d, Embedding* out) {
  for (int lane = 0; lane < kBlock; lane += kW) {
    switch (d) {
      case 2:
        embed_points<2>(features, scale, d, lane, out);
        break;
      case 3:
        embed_points<3>(features, scale, d, lane, out);
        break;
      case 5:
        embed_points<5>(features, scale, d, lane, out);
        break;
      default:
        embed_points<0>(features, scale, d, lane, out);
    }
  }
}

// Walks the lines with the previous, the current and the next row in registers, so that each row is
// read and written once and no second buffer is needed.
template <class T, int N>
void blur_chunk(T* rows, int stride, const int32_t* order, int64_t begin, int64_t end) {
  constexpr int32_t kVertex = 0x7fffffff;
  constexpr int kAhead = 12;  // rows to prefetch: about the latency of memory
  const auto row_of = [&](int64_t i) { return rows + int64_t{order[i] & kVertex} * stride; };
  Row<T, N> previous = Row<T, N>::zero();
  Row<T, N> current = Row<T, N>::load(row_of(begin));
  for (int64_t i = begin; i < end; ++i) {
    const T* ahead = row_of(i + kAhead < end ? i + kAhead : i);
    __builtin_prefetch(ahead);
    __builtin_prefetch(ahead + N - 1);
    T* here = row_of(i);
    Row<T, N> sum = previous;
    if (order[i] < 0) {  // the end of a line: what follows is another one
      Row<T, N> result = current;
      result.add_scaled(T(0.5), sum);
      result.store(here);
      if (i + 1 == end) break;
      previous = Row<T, N>::zero();
      current = Row<T, N>::load(row_of(i + 1));
    } else {
      const Row<T, N> next = Row<T, N>::load(row_of(i + 1));
      sum = sum + next;
      Row<T, N> result = current;
      result.add_scaled(T(0.5), sum);
      result.store(here);
      previous = current;
      current = next;
    }
  }
}

template <class T>
void blur_lines(T* rows, int stride, const int32_t* order, int64_t begin, int64_t end) {
  if (begin == end) return;
  with_stride(stride, [&]<int kStride>() {
    for_chunks<kStride>(
        stride, [&]<int N>(int c) { blur_chunk<T, N>(rows + c, stride, order, begin, end); });
  });
}

constexpr int kCorners = kMaxFeatureDim + 1;

// Barycentric weights of a block, times the scale of each point and the factor: [d + 1][16].
template <class T>
void scaled_weights(const FilterPass<T>& p, int64_t block, T* w) {
  const int corners = p.lattice->d + 1;
  const float* from = p.lattice->weights.data() + block * corners * kBlock;
  T point[kBlock];
  for (int i = 0; i < kBlock; ++i) {
    point[i] = p.scale ? p.factor * static_cast<T>(p.scale[block * kBlock + i]) : p.factor;
  }
  for (int r = 0; r < corners; ++r) {
    for (int i = 0; i < kBlock; ++i) {
      w[r * kBlock + i] = point[i] * static_cast<T>(from[r * kBlock + i]);
    }
  }
}

int points_in(const Lattice& lattice, int64_t block) {
  const int64_t left = lattice.num_points - block * kBlock;
  return left < kBlock ? static_cast<int>(left) : kBlock;
}

template <class T, int kStride>
void splat_block(const FilterPass<T>& p, Values<const T> in, int64_t block) {
  const Lattice& lattice = *p.lattice;
  const int corners = lattice.d + 1, count = points_in(lattice, block);
  const int stride = kStride > 0 ? kStride : p.stride;
  T* x = p.scratch;
  for (int i = 0; i < kBlock * stride; ++i) x[i] = T(0);
  for (int i = 0; i < count; ++i) {
    const T* from = in.data ? in.data + (block * kBlock + i) * in.point_stride : nullptr;
    for (int c = 0; c < p.num_channels; ++c) {
      x[i * stride + c] = from ? from[c * in.channel_stride] : T(1);
    }
  }
  alignas(64) T w[kCorners * kBlock];
  scaled_weights(p, block, w);
  const int32_t* entries = lattice.splat_rows() + block * corners * kBlock;

  // Rows are cleared when the first of their points comes by: they are in cache from then on.
  const int64_t fresh = int64_t{lattice.fresh[block]} * stride;
  const int64_t fresh_end = int64_t{lattice.fresh[block + 1]} * stride;
  for (int64_t k = fresh; k < fresh_end; ++k) p.rows[k] = T(0);
  for_chunks<kStride>(stride, [&]<int N>(int c) {
    for (int i = 0; i < kBlock; ++i) {
      const auto value = Row<T, N>::load(x + i * stride + c);
      splat_pixel<0, kStride>(corners, entries, w, p.rows + c, stride, i, value);
    }
  });
}

template <class T, int kStride>
void slice_block(const FilterPass<T>& p, Values<T> out, int64_t block) {
  const Lattice& lattice = *p.lattice;
  const int corners = lattice.d + 1, count = points_in(lattice, block);
  const int stride = kStride > 0 ? kStride : p.stride;
  alignas(64) T w[kCorners * kBlock];
  scaled_weights(p, block, w);
  const int32_t* vertices = lattice.vertices.data() + block * corners * kBlock;
  for_chunks<kStride>(stride, [&]<int N>(int c) {
    for (int i = 0; i < kBlock; ++i) {
      auto sum = Row<T, N>::zero();
      slice_pixel<0, kStride>(corners, vertices, w, static_cast<const T*>(p.rows) + c, stride, i,
                              &sum);
      sum.store(p.scratch + i * stride + c);
    }
  });
  for (int i = 0; i < count; ++i) {
    T* to = out.data + (block * kBlock + i) * out.point_stride;
    for (int c = 0; c < p.num_channels; ++c) to[c * out.channel_stride] = p.scratch[i * stride + c];
  }
}

template <class T>
void splat(const FilterPass<T>& p, Values<const T> in, int64_t begin, int64_t end) {
  FlushDenormals flush;
  with_stride(p.stride, [&]<int kStride>() {
    for (int64_t b = begin; b < end; ++b) splat_block<T, kStride>(p, in, b);
  });
}

template <class T>
void slice(const FilterPass<T>& p, Values<T> out, int64_t begin, int64_t end) {
  FlushDenormals flush;
  with_stride(p.stride, [&]<int kStride>() {
    for (int64_t b = begin; b < end; ++b) slice_block<T, kStride>(p, out, b);
  });
}

template <class T>
void fill_rows(RowKernels<T>* kernels) {
  kernels->splat = splat<T>;
  kernels->slice = slice<T>;
  kernels->blur_lines = blur_lines<T>;
}

}  // namespace

void fill(SimdKernels* kernels) {
  kernels->embed = embed;
  fill_rows(&kernels->rows_f32);
  fill_rows(&kernels->rows_f64);
  fill_mean_field(kernels);
}

}  // namespace deeplab_native::DEEPLAB_ISA
