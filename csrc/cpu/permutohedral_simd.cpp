// The lattice's vector kernels: where points lie, splatting and slicing.
#include "cpu/rows.h"
#include "cpu/simd_kernels.h"

namespace deeplab_native::DEEPLAB_ISA {

void fill_blur(SimdKernels* kernels);
void fill_gradient(SimdKernels* kernels);
void fill_mean_field(SimdKernels* kernels);
void fill_two_labels(SimdKernels* kernels);
void fill_vertex_names(SimdKernels* kernels);

namespace {

using F = Vec<float, kLanes<float>>;
using I = Vec<int32_t, kLanes<float>>;
constexpr int kW = kLanes<float>;

// Adams et al. 2010, section 3.1.1 and 3.1.2, for kW points at once. The order of operations is
// pydensecrf's, and none of them may be fused: which vertices exist depends on the last bit.
template <int kDim, class E>
DEEPLAB_INLINE void embed_points(const float* features, const float* scale, int dim, int lane,
                                 E* out) {
  const int d = kDim > 0 ? kDim : dim;
  constexpr int kMost = (kDim > 0 ? kDim : E::kMost) + 1;
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

void embed_wide(const float* features, const float* scale, int d, WideEmbedding* out) {
  for (int lane = 0; lane < kBlock; lane += kW) embed_points<0>(features, scale, d, lane, out);
}

// Keys of the vertices of 16 points: one 64-bit field of bits per coordinate. See
// Builder::point_keys.
void pack_keys(const Embedding& e, const int* shift, const int32_t* least, int d, uint64_t* keys) {
  constexpr int kWide = kLanes<int64_t>;
  using I64 = Vec<int64_t, kWide>;
  using U64 = Vec<uint64_t, kWide>;  // the uppermost field may reach the sign
  const auto widened = [](const int32_t* p) {
    return __builtin_convertvector(load<int32_t, kWide>(p), I64);
  };
  uint64_t ones = 0;
  for (int j = 0; j < d; ++j) ones += uint64_t{1} << shift[j];
  for (int lane = 0; lane < kBlock; lane += kWide) {
    U64 key{};
    for (int j = 0; j < d; ++j) {
      key += (U64)(widened(e.remainder0[j] + lane) - int64_t{least[j]}) << uint64_t(shift[j]);
    }
    for (int r = 0;; ++r) {
      store<uint64_t, kWide>(keys + r * kBlock + lane, key);
      if (r == d) break;
      key += ones;
      for (int j = 0; j < d; ++j) {  // the last coordinate is not stored
        const U64 wraps = (U64)(widened(e.rank[j] + lane) == int64_t{d - r});
        key -= wraps & (uint64_t(d + 1) << shift[j]);
      }
    }
  }
}

// What splat_block and slice_block are compiled for: more corners take more of the stack, and other
// code.
constexpr int kFewCorners = kPackedDim + 1, kManyCorners = kMaxFeatureDim + 1;

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

template <class T, int kStride, int kCorners>
void splat_block(const FilterPass<T>& p, Values<const T> in, int64_t block) {
  const Lattice& lattice = *p.lattice;
  const int corners = lattice.d + 1;
  const Blocks::Span span = lattice.blocks[block];
  const int stride = kStride > 0 ? kStride : p.stride;
  T* x = p.scratch;
  for (int i = 0; i < kBlock * stride; ++i) x[i] = T(0);
  for (int i = 0; i < span.count; ++i) {
    const T* from = in.data + (span.first + i) * in.point_stride;
    for (int c = 0; c < p.num_channels; ++c) x[i * stride + c] = from[c * in.channel_stride];
  }
  alignas(64) T w[kCorners * kBlock];
  scaled_weights(p, block, w);
  const uint32_t* entries = lattice.entries.data() + block * corners * kBlock;
  const auto shared = static_cast<uint32_t>(lattice.num_shared) * kPlane;
  int64_t starts[kCorners * kBlock];  // of the rows
  for (int k = 0; k < corners * kBlock; ++k) {
    starts[k] = (entries[k] / kPlane + (entries[k] < shared ? p.copies : 0)) * stride;
  }

  // Rows are cleared when the first of their points comes by: they are in cache from then on.
  const int64_t fresh = int64_t{lattice.fresh[block]} * stride;
  const int64_t fresh_end = int64_t{lattice.fresh[block + 1]} * stride;
  for (int64_t k = fresh; k < fresh_end; ++k) p.rows[k] = T(0);
  for_chunks<kStride>(stride, [&]<int N>(int c) {
    for (int i = 0; i < kBlock; ++i) {
      const auto value = Row<T, N>::load(x + i * stride + c);
      for (int r = 0; r < corners; ++r) {
        T* row = p.rows + starts[r * kBlock + i] + c;
        auto sum = Row<T, N>::load(row);
        sum.add_scaled(w[r * kBlock + i], value);
        sum.store(row);
      }
    }
  });
}

template <class T, int kStride, int kCorners>
void slice_block(const FilterPass<T>& p, Values<T> out, int64_t block) {
  const Lattice& lattice = *p.lattice;
  const int corners = lattice.d + 1;
  const Blocks::Span span = lattice.blocks[block];
  const int stride = kStride > 0 ? kStride : p.stride;
  alignas(64) T w[kCorners * kBlock];
  scaled_weights(p, block, w);
  const uint32_t* entries = lattice.entries.data() + block * corners * kBlock;
  for_chunks<kStride>(stride, [&]<int N>(int c) {
    for (int i = 0; i < kBlock; ++i) {
      auto sum = Row<T, N>::zero();
      for (int r = 0; r < corners; ++r) {
        const int64_t vertex = entries[r * kBlock + i] / kPlane;
        sum.add_scaled(w[r * kBlock + i], Row<T, N>::load(p.rows + vertex * stride + c));
      }
      sum.store(p.scratch + i * stride + c);
    }
  });
  for (int i = 0; i < span.count; ++i) {
    T* to = out.data + (span.first + i) * out.point_stride;
    for (int c = 0; c < p.num_channels; ++c) to[c * out.channel_stride] = p.scratch[i * stride + c];
  }
}

template <class T, class F>
void with_shape(const FilterPass<T>& p, const F& f) {
  if (p.lattice->d <= kPackedDim) {
    with_stride(p.stride, [&]<int kStride>() { f.template operator()<kStride, kFewCorners>(); });
  } else if (p.stride == 1) {
    f.template operator()<1, kManyCorners>();
  } else if (p.stride == 4) {
    f.template operator()<4, kManyCorners>();
  } else {
    f.template operator()<0, kManyCorners>();
  }
}

template <class T>
void splat(const FilterPass<T>& p, Values<const T> in, int64_t begin, int64_t end) {
  FlushDenormals flush;
  with_shape(p, [&]<int kStride, int kCorners>() {
    for (int64_t b = begin; b < end; ++b) splat_block<T, kStride, kCorners>(p, in, b);
  });
}

template <class T>
void slice(const FilterPass<T>& p, Values<T> out, int64_t begin, int64_t end) {
  FlushDenormals flush;
  with_shape(p, [&]<int kStride, int kCorners>() {
    for (int64_t b = begin; b < end; ++b) slice_block<T, kStride, kCorners>(p, out, b);
  });
}

void splat_ones(const SumPass& p, int64_t begin, int64_t end) {
  const Lattice& lattice = *p.lattice;
  const int64_t per_block = int64_t{lattice.d + 1} * kBlock;
  const auto shared = static_cast<uint32_t>(lattice.num_shared) * kPlane;
  const uint32_t copies = p.copies * kPlane;
  for (int64_t b = begin; b < end; ++b) {
    for (int32_t v = lattice.fresh[b]; v < lattice.fresh[b + 1]; ++v) p.rows[v] = 0;
    for (int64_t k = b * per_block; k < (b + 1) * per_block; ++k) {
      const uint32_t entry = lattice.entries[k];
      p.rows[(entry + (entry < shared ? copies : 0)) / kPlane] += lattice.weights[k];
    }
  }
}

void slice_sums(const SumPass& p, int64_t begin, int64_t end) {
  const Lattice& lattice = *p.lattice;
  const int corners = lattice.d + 1;
  for (int64_t b = begin; b < end; ++b) {
    for (int lane = 0; lane < kBlock; lane += kW) {
      F sum{};
      for (int r = 0; r < corners; ++r) {
        const int64_t k = (b * corners + r) * kBlock + lane;
        const auto vertices = load<uint32_t, kW>(lattice.entries.data() + k) / kPlane;
        const F w = load<float, kW>(lattice.weights.data() + k);
        sum = sum + w * gather<kW>(p.rows, vertices) * lattice.alpha;
      }
      store<float, kW>(p.sums + b * kBlock + lane, sum);
    }
  }
}

template <class T>
void fill_rows(RowKernels<T>* kernels) {
  kernels->splat = splat<T>;
  kernels->slice = slice<T>;
}

}  // namespace

void fill(SimdKernels* kernels) {
  kernels->embed = embed;
  kernels->pack_keys = pack_keys;
  kernels->embed_wide = embed_wide;
  kernels->splat_ones = splat_ones;
  kernels->slice_sums = slice_sums;
  fill_rows(&kernels->rows_f32);
  fill_rows(&kernels->rows_f64);
  fill_blur(kernels);
  fill_gradient(kernels);
  fill_mean_field(kernels);
  fill_two_labels(kernels);
  fill_vertex_names(kernels);
}

}  // namespace deeplab_native::DEEPLAB_ISA
