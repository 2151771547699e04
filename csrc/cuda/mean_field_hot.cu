// The pass of a mean field over the points that works on the hot labels alone: the same as in
// mean_field.cu, with the sum of the cold marginals as a number that is known before. How many
// threads share a point is decided on the device, by the chunks of the image.
#include <cmath>

#include "cuda/hot_labels_memory.cuh"
#include "cuda/mean_field_chunks.cuh"

namespace deeplab_native {
namespace {

constexpr unsigned kThreads = 128;
using C = Chunk<float, kHotChunk>;

__device__ float group_max(float x, uint32_t group) {
  for (uint32_t d = group / 2; d > 0; d /= 2) x = max(x, __shfl_xor_sync(~0u, x, d));
  return x;
}
__device__ float group_sum(float x, uint32_t group) {
  for (uint32_t d = group / 2; d > 0; d /= 2) x += __shfl_xor_sync(~0u, x, d);
  return x;
}
// Of the threads of a warp with this one's place in their group.
__device__ uint32_t same_lane_max(uint32_t x, uint32_t group) {
  for (uint32_t d = group; d < kWarp; d *= 2) {
    const uint32_t other = __shfl_xor_sync(~0u, x, d);
    x = max(x, other);
  }
  return x;
}

template <class Own, class Row>
__device__ void add_messages(Own& own, const FilterSet<float, Row>& filters,
                             const HotKernels& kernels, const HotStep& hot, int64_t b,
                             uint32_t point, RowWidth width) {
  for (int m = 0; m < filters.count; ++m) {
    const float* const compatibility = kernels.compatibilities[m];
    const bool potts = kernels.kinds[m] == CompatibilityKind::kPotts;
    const int32_t* const labels = hot.labels + b * width.width;
    const float w = *compatibility;
    const int32_t count = kernels.labels;
    own.each_sliced(filters.filters[m], b, point, width, [&](C& x, const C& f, int64_t offset) {
      if (potts) return x.add_scaled(w, f);
      for (int k = 0; k < kHotChunk; ++k) {
        const int32_t label = labels[offset + k];
        if (label < count) x.v[k] -= compatibility[label] * f.v[k];
      }
    });
  }
}

// Points of image b, `group` threads to each.
template <int kOwn, class Row>
__device__ void pass(const FilterSet<float, Row>& filters, const HotKernels& kernels,
                     const HotStep& hot, float* out, int64_t b, uint32_t chunks,
                     uint32_t group_bits) {
  const uint32_t group = 1u << group_bits;
  const uint32_t lane = threadIdx.x & (group - 1), in_warp = threadIdx.x % kWarp;
  const uint32_t begin = (blockIdx.x * blockDim.x + threadIdx.x - in_warp) >> group_bits;
  const uint32_t step = (gridDim.x * blockDim.x) >> group_bits;
  const uint32_t points = static_cast<uint32_t>(hot.num_points);
  const uint32_t stride = chunks * kHotChunk;
  const RowWidth width{int64_t{hot.chunks} * kHotChunk, stride};
  const float* const unary = hot.unary_of(b);
  const int64_t first_point = b * hot.num_points;
  float* const rows = out + first_point * width.width;
  const bool rests = chunks < hot.chunks;
  for (uint32_t first = begin; first < points; first += step) {
    const uint32_t p = first + (in_warp >> group_bits);
    const bool active = p < points;
    const uint32_t point = active ? p : points - 1;
    OwnChunks<float, kHotChunk, kOwn> own(nullptr, chunks, lane, group);
    own.each(
        [&](C& x, int64_t offset) { x = C::load(row_at(unary + offset, point, width.width)); });
    add_messages(own, filters, kernels, hot, b, point, width);
    const float cold =
        rests ? hot.rest[chunks * hot.batch * hot.num_points + first_point + point] : -INFINITY;
    float most = cold;
    own.each([&](C& x, int64_t) {
      for (int k = 0; k < kHotChunk; ++k) most = max(most, x.v[k]);
    });
    most = group_max(most, group);
    float sum = 0;
    own.each([&](C& x, int64_t) {
      for (int k = 0; k < kHotChunk; ++k) {
        x.v[k] = exp(x.v[k] - most);
        sum += x.v[k];
      }
    });
    const float cold_sum = exp(cold - most);
    sum = group_sum(sum, group) + cold_sum;
    if (active && lane == 0) hot.log_sum[first_point + point] = most + log(sum);
    const float inverse_sum = 1 / sum;
    uint32_t* const most_after = hot.most_after + b * hot.chunks;
    for (int i = 0; i < kOwn; ++i) {
      C& x = own.chunk[i];
      float chunk_sum = 0;
      if (own.has(i)) {
        for (int k = 0; k < kHotChunk; ++k) {
          x.v[k] *= inverse_sum;
          chunk_sum += x.v[k];
        }
      }
      const uint32_t bits = same_lane_max(ordered_bits(chunk_sum), group);
      if (in_warp < group && own.has(i)) raise(most_after + own.first + 2 * i, bits);
    }
    if (rests) {
      const float cold_marginals = cold_sum * inverse_sum;
      const uint32_t bits = same_lane_max(ordered_bits(cold_marginals), group);
      // which of the cold labels have grown is not known: all of them may
      const bool grown = !(__uint_as_float(bits) <= *hot.bound);
      if (in_warp == 0) raise(most_after + (grown ? hot.chunks - 1 : chunks), bits);
    }
    if (!active) continue;
    own.each([&](C& x, int64_t offset) { x.store(row_at(rows + offset, point, stride)); });
  }
}

// blockIdx.y has an image. The warps stay whole, as in mean_field.cu.
template <class Row>
__global__ void __launch_bounds__(kThreads, 5)
    hot_mean_field_kernel(FilterSet<float, Row> filters, const __grid_constant__ HotKernels kernels,
                          HotStep hot, float* out) {
  for (int64_t b = blockIdx.y; b < hot.batch; b += gridDim.y) {
    const uint32_t chunks = static_cast<uint32_t>(hot.count[b]);
    uint32_t bits = chunks > 1;
    while ((1u << bits) < kWarp && (kMostOwn<float> << bits) < chunks) ++bits;
    const uint32_t own = (chunks + (1u << bits) - 1) >> bits;
    if (own == 1) pass<1>(filters, kernels, hot, out, b, chunks, bits);
    if (own == 2) pass<2>(filters, kernels, hot, out, b, chunks, bits);
    if (own == 3) pass<3>(filters, kernels, hot, out, b, chunks, bits);
  }
}

template <class Row>
cudaError_t hot_pass(const CudaMeanFieldShape& shape, const FilterSet<float, Row>& filters,
                     const HotKernels& kernels, const HotStep& step, float* q,
                     cudaStream_t stream) {
  uint32_t group = 2;
  while (group < kWarp && kMostOwn<float> * group < step.chunks) group *= 2;
  const dim3 grid(strided_blocks(shape.num_points * group, kThreads),
                  static_cast<unsigned>(std::min(shape.batch, kMaxGrid)));
  return launch(hot_mean_field_kernel<Row>, grid, kThreads, 0, stream, filters, kernels, step, q);
}

template <class Row>
cudaError_t update_hot(const CudaMeanFieldShape& shape,
                       const std::vector<CudaPairwiseKernel>& kernels, const HotKernels& hot,
                       const HotMemory& labels, float* q, int updates, cudaStream_t stream) {
  const int64_t width = mean_field_width_cuda(shape.num_labels);
  FilterSet<float, Row> filters{};
  for (const CudaPairwiseKernel& kernel : kernels) {
    filters.filters[filters.count++] = filter_view<float, Row>(kernel.filter, width);
  }
  cudaError_t error = cudaSuccess;
  for (int update = 1; update <= updates && !error; ++update) {
    const HotStep step = labels.step(shape, update);
    error = splat_and_blur(filters, q, width, false, &step, stream);
    if (!error) error = hot_pass(shape, filters, hot, step, q, stream);
  }
  return error;
}

}  // namespace

int hot_mean_field_cuda(const CudaMeanFieldShape& shape,
                        const std::vector<CudaPairwiseKernel>& kernels, const float* negative_unary,
                        float* q, void* memory, int updates, void* stream_address) {
  const auto stream = static_cast<cudaStream_t>(stream_address);
  const int64_t width = mean_field_width_cuda(shape.num_labels);
  if (shape.batch * shape.num_points == 0) return cudaSuccess;
  bool half = false;
  if (shape.num_points > INT32_MAX || kernels.size() > kMaxFilters ||
      !find_half_rows<float>(kernels, width, &half)) {
    return cudaErrorInvalidValue;
  }
  HotKernels hot{};
  hot.labels = static_cast<int32_t>(shape.num_labels);
  for (const CudaPairwiseKernel& kernel : kernels) {
    if (kernel.kind == CompatibilityKind::kMatrix) return cudaErrorInvalidValue;
    hot.kinds[hot.count] = kernel.kind;
    hot.compatibilities[hot.count++] = static_cast<const float*>(kernel.compatibility);
  }
  const HotMemory labels = hot_memory(shape, updates, memory);
  if (const auto error = order_labels(shape, negative_unary, hot, labels, q, stream)) return error;
  return half ? update_hot<Float16>(shape, kernels, hot, labels, q, updates, stream)
              : update_hot<float>(shape, kernels, hot, labels, q, updates, stream);
}

}  // namespace deeplab_native
