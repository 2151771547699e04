// Mean field inference for a batch: between splats and blurs (permutohedral.cu) one fused pass over
// the points slices every kernel, applies the compatibilities, adds the unary and takes the
// softmax. A group of 1 to 32 threads has a point, a thread up to three chunks of up to 4 labels.
#include <cmath>
#include <type_traits>

#include "cuda/mean_field_chunks.cuh"
#include "ops/mean_field.h"

namespace deeplab_native {
namespace {

constexpr unsigned kThreads = 128;  // few: the registers of large blocks do not add up to all

template <class T, class Row = T>
struct KernelSet {
  FilterSet<T, Row> filters;
  CompatibilityKind kinds[kMaxFilters];
  const T* compatibilities[kMaxFilters];
};

struct PassShape {
  int64_t batch, num_points, labels, width;
  uint32_t group, group_bits;  // threads to a point, 2^group_bits

  __device__ RowWidth rows() const { return {width, static_cast<uint32_t>(width)}; }
};

template <class T>
__device__ T group_max(T x, int group) {
  for (int d = group / 2; d > 0; d /= 2) x = max(x, __shfl_xor_sync(~0u, x, d));
  return x;
}
template <class T>
__device__ T group_sum(T x, int group) {
  for (int d = group / 2; d > 0; d /= 2) x += __shfl_xor_sync(~0u, x, d);
  return x;
}

// x -= M F: F passes through memory, since every label needs all of it.
template <class T, int W, class Row, class Own>
__device__ void subtract_matrix(Own& own, const FilterView<T, Row>& f, const T* matrix, T* filtered,
                                const PassShape& s, int64_t b, uint32_t point) {
  using C = Chunk<T, W>;
  T* row = filtered + (b * s.num_points + point) * s.width;
  own.each_sliced(f, b, point, s.rows(),
                  [&](C&, const C& sliced, int64_t offset) { sliced.store(row + offset); });
  __syncwarp();
  own.each([&](C& x, int64_t offset) {
    const uint32_t left = static_cast<uint32_t>(s.labels - offset);
    for (int64_t m = 0; m < s.labels; ++m) {
      for (uint32_t k = 0; k < W; ++k) {
        if (k < left) x.v[k] -= matrix[m * s.labels + offset + k] * row[m];
      }
    }
  });
  __syncwarp();  // the next kernel writes the row again
}

template <class T, int W, class Row, class Own>
__device__ void add_kernels(Own& own, const KernelSet<T, Row>& set, T* filtered, const PassShape& s,
                            int64_t b, uint32_t point) {
  using C = Chunk<T, W>;
  for (int m = 0; m < set.filters.count; ++m) {
    const FilterView<T, Row>& f = set.filters.filters[m];
    const T* compatibility = set.compatibilities[m];
    if (set.kinds[m] == CompatibilityKind::kMatrix) {
      subtract_matrix<T, W>(own, f, compatibility, filtered, s, b, point);
      continue;
    }
    const bool potts = set.kinds[m] == CompatibilityKind::kPotts;
    const T w = *compatibility;
    own.each_sliced(f, b, point, s.rows(), [&](C& x, const C& sliced, int64_t offset) {
      if (potts) return x.add_scaled(w, sliced);
      const uint32_t left = static_cast<uint32_t>(s.labels - offset);
      for (uint32_t k = 0; k < W; ++k) {
        if (k < left) x.v[k] -= compatibility[offset + k] * sliced.v[k];
      }
    });
  }
}

template <class T, int W, class Own>
__device__ void take_softmax(Own& own, int group) {
  using C = Chunk<T, W>;
  T most = -T(INFINITY), sum = T(0);
  own.each([&](C& x, int64_t) {
    for (int k = 0; k < W; ++k) most = max(most, x.v[k]);
  });
  most = group_max(most, group);
  own.each([&](C& x, int64_t) {
    for (int k = 0; k < W; ++k) {
      x.v[k] = exp(x.v[k] - most);
      sum += x.v[k];
    }
  });
  const T inverse_sum = T(1) / group_sum(sum, group);
  own.each([&](C& x, int64_t) {
    for (int k = 0; k < W; ++k) x.v[k] *= inverse_sum;
  });
}

// Blocks of a multiprocessor at a time, at the least: bounds the registers.
template <class T, int kOwn>
constexpr int kMinBlocks = sizeof(T) == 8 ? 4
                           : kOwn == 3    ? 5
                           : kOwn == 2    ? 6
                                          : 7;

// out = softmax(from - sum_m C_m (K_m q)), or without the softmax; row by row, so that from and
// out may be the same. blockIdx.y has an image. The warps stay whole: groups beyond the last point
// work on the last one, and do not write.
template <class T, int W, int kOwn, class Row = T>
__global__ void __launch_bounds__(kThreads, (kMinBlocks<T, kOwn>))
    mean_field_kernel(KernelSet<T, Row> set, const T* from, T* out, T* __restrict__ filtered,
                      PassShape s, bool softmax) {
  using C = Chunk<T, W>;
  const uint32_t lane = threadIdx.x & (s.group - 1), in_warp = threadIdx.x % kWarp;
  const uint32_t begin = (blockIdx.x * blockDim.x + threadIdx.x - in_warp) >> s.group_bits;
  const uint32_t step = (gridDim.x * blockDim.x) >> s.group_bits;
  const uint32_t points = static_cast<uint32_t>(s.num_points);
  const uint32_t chunks = static_cast<uint32_t>(s.width) / W;
  for (int64_t b = blockIdx.y; b < s.batch; b += gridDim.y) {
    for (uint32_t first = begin; first < points; first += step) {
      const uint32_t p = first + (in_warp >> s.group_bits);
      const bool active = p < points;
      const uint32_t point = active ? p : points - 1;
      const int64_t row = (b * s.num_points + point) * s.width;
      // a group without a point must leave the row in memory to the group that has it
      OwnChunks<T, W, kOwn> own(out + row, active ? chunks : 0, lane, s.group);
      own.each([&](C& x, int64_t offset) { x = C::load(from + row + offset); });
      add_kernels<T, W>(own, set, filtered, s, b, point);
      if (softmax) take_softmax<T, W>(own, static_cast<int>(s.group));
      if (kOwn > 0) own.each([&](C& x, int64_t offset) { x.store(out + row + offset); });
    }
  }
}

// As few threads to a point as have room for its chunks, but two where there are two chunks.
template <class T>
PassShape pass_shape(const CudaMeanFieldShape& shape, int64_t width, int64_t chunks) {
  uint32_t bits = chunks > 1;
  while ((1u << bits) < kWarp && (kMostOwn<T> << bits) < chunks) ++bits;
  return {shape.batch, shape.num_points, shape.num_labels, width, 1u << bits, bits};
}

template <class T, class Row>
cudaError_t pass(const KernelSet<T, Row>& set, const CudaMeanFieldShape& shape, const T* from,
                 T* out, T* filtered, bool softmax, cudaStream_t stream) {
  const int64_t width = mean_field_width_cuda(shape.num_labels);
  const int64_t chunks = width % 4 == 0 ? width / 4 : 1;
  const PassShape s = pass_shape<T>(shape, width, chunks);
  const auto run = [&](auto kernel) {
    const dim3 grid(strided_blocks(s.num_points * s.group, kThreads),
                    static_cast<unsigned>(std::min(s.batch, kMaxGrid)));
    return launch(kernel, grid, kThreads, 0, stream, set, from, out, filtered, s, softmax);
  };
  if constexpr (std::is_same_v<T, Row>) {
    if (width == 1) return run(mean_field_kernel<T, 1, 1>);
    if (width == 2) return run(mean_field_kernel<T, 2, 1>);
  }
  const int64_t own = (chunks + s.group - 1) / s.group;
  if (own == 1) return run(mean_field_kernel<T, 4, 1, Row>);
  if constexpr (kMostOwn<T> == 3) {
    if (own == 2) return run(mean_field_kernel<T, 4, 2, Row>);
    if (own == 3) return run(mean_field_kernel<T, 4, 3, Row>);
  }
  return run(mean_field_kernel<T, 4, 0, Row>);
}

template <class T, class Row>
std::vector<KernelSet<T, Row>> kernel_sets(const std::vector<CudaPairwiseKernel>& kernels,
                                           int64_t width) {
  std::vector<KernelSet<T, Row>> sets;
  for (const CudaPairwiseKernel& kernel : kernels) {
    if (sets.empty() || sets.back().filters.count == kMaxFilters) sets.push_back({});
    KernelSet<T, Row>& set = sets.back();
    const int m = set.filters.count++;
    set.filters.filters[m] = filter_view<T, Row>(kernel.filter, width);
    set.kinds[m] = kernel.kind;
    set.compatibilities[m] = static_cast<const T*>(kernel.compatibility);
  }
  if (sets.empty()) sets.push_back({});
  return sets;
}

template <class T, class Row>
cudaError_t update_all(const CudaMeanFieldShape& shape,
                       const std::vector<CudaPairwiseKernel>& kernels, const T* negative_unary,
                       T* q, T* scratch, int updates, bool softmax, cudaStream_t stream) {
  const int64_t width = mean_field_width_cuda(shape.num_labels);
  const int64_t points = shape.batch * shape.num_points;
  const auto sets = kernel_sets<T, Row>(kernels, width);
  T *sums = scratch, *filtered = scratch ? scratch + points * width : nullptr;
  cudaError_t error = cudaSuccess;
  const auto step = [&](cudaError_t result) { error = error ? error : result; };
  for (int update = 0; update < updates && !error; ++update) {
    for (const KernelSet<T, Row>& set : sets) {
      if (set.filters.count) step(splat_and_blur(set.filters, q, width, false, nullptr, stream));
    }
    const T* from = negative_unary;
    for (size_t i = 0; i < sets.size(); ++i) {
      const bool last = i + 1 == sets.size();
      const bool normalised = last && (softmax || update + 1 < updates);
      step(pass(sets[i], shape, from, last ? q : sums, filtered, normalised, stream));
      from = sums;
    }
  }
  return error;
}

}  // namespace

template <class T>
int mean_field_cuda(const CudaMeanFieldShape& shape, const std::vector<CudaPairwiseKernel>& kernels,
                    const T* negative_unary, T* q, T* scratch, int updates, bool q_is_given,
                    bool softmax, void* stream_address) {
  const auto stream = static_cast<cudaStream_t>(stream_address);
  const int64_t width = mean_field_width_cuda(shape.num_labels);
  if (shape.batch * shape.num_points == 0) return cudaSuccess;
  bool half = false;
  if (shape.num_points > INT32_MAX || !find_half_rows<T>(kernels, width, &half)) {
    return cudaErrorInvalidValue;
  }
  if (!q_is_given) {
    T* const none = nullptr;
    const auto error = pass(KernelSet<T>{}, shape, negative_unary, q, none, true, stream);
    if (error) return error;
  }
  if constexpr (std::is_same_v<T, float>) {
    if (half) {
      return update_all<T, Float16>(shape, kernels, negative_unary, q, scratch, updates, softmax,
                                    stream);
    }
  }
  return update_all<T, T>(shape, kernels, negative_unary, q, scratch, updates, softmax, stream);
}

template int mean_field_cuda(const CudaMeanFieldShape&, const std::vector<CudaPairwiseKernel>&,
                             const float*, float*, float*, int, bool, bool, void*);
template int mean_field_cuda(const CudaMeanFieldShape&, const std::vector<CudaPairwiseKernel>&,
                             const double*, double*, double*, int, bool, bool, void*);

}  // namespace deeplab_native
