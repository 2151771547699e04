// The labels of each image in the order of their largest initial marginals (see hot_labels.cuh),
// and the way back to the user's maps.
#include <cmath>

#include "cuda/hot_labels_memory.cuh"
#include "cuda/pixel_order.cuh"
#include "ops/mean_field.h"

namespace deeplab_native {
namespace {

constexpr unsigned kThreads = 128;

// Of the rows of -U: a thread has a point of image blockIdx.y, a warp stays whole.
struct Rows {
  int64_t batch, num_points;
  uint32_t labels, width;
};

template <class F>
__device__ void each_point(const Rows& s, const F& f) {
  const uint32_t points = static_cast<uint32_t>(s.num_points), step = gridDim.x * blockDim.x;
  for (int64_t b = blockIdx.y; b < s.batch; b += gridDim.y) {
    const uint32_t warp = blockIdx.x * blockDim.x + threadIdx.x / kWarp * kWarp;
    for (uint32_t first = warp; first < points; first += step) {
      f(b, first + threadIdx.x % kWarp);
    }
  }
}

__device__ uint32_t warp_max(uint32_t x) {
  for (int d = kWarp / 2; d > 0; d /= 2) {
    const uint32_t other = __shfl_xor_sync(~0u, x, d);
    x = max(x, other);
  }
  return x;
}

// raise() of to[i], i < count, by the largest of what the threads of a warp have: as many at once
// as it has lanes, since each waits for what is there. own(i) is the value of a thread.
template <class Own>
__device__ void raise_each(uint32_t* to, uint32_t count, const Own& own) {
  const uint32_t lane = threadIdx.x % kWarp;
  for (uint32_t first = 0; first < count; first += kWarp) {
    uint32_t mine = 0;
    for (uint32_t i = first; i < min(count, first + kWarp); ++i) {
      const uint32_t bits = warp_max(ordered_bits(own(i)));
      if (i - first == lane) mine = bits;
    }
    if (first + lane < count) raise(to + first + lane, mine);
  }
}

__device__ float largest(const float* row, uint32_t width) {
  float most = -INFINITY;
  for (uint32_t l = 0; l < width; l += kHotChunk) {
    const auto c = Chunk<float, kHotChunk>::load(row + l);
    for (int k = 0; k < kHotChunk; ++k) most = max(most, c.v[k]);
  }
  return most;
}

// label_most[b][l], zeros before: the largest marginal of each label, its bits.
__global__ void __launch_bounds__(kThreads)
    label_most_kernel(const float* negative_unary, uint32_t* label_most, Rows s) {
  each_point(s, [&](int64_t b, uint32_t point) {
    const bool here = point < s.num_points;
    const float* row = negative_unary + (b * s.num_points + (here ? point : 0)) * s.width;
    const float most = largest(row, s.width);
    float sum = 0;
    for (uint32_t l = 0; l < s.width; ++l) sum += exp(row[l] - most);
    raise_each(label_most + b * s.width, s.width,
               [&](uint32_t l) { return exp(row[l] - most) / sum; });
  });
}

// mu: see hot_labels.cuh.
__device__ float bound_of(const HotKernels& kernels, uint32_t labels) {
  float weights = 0;
  for (int m = 0; m < kernels.count; ++m) {
    const float* const own = kernels.compatibilities[m];
    const uint32_t count = kernels.kinds[m] == CompatibilityKind::kVector ? labels : 1;
    float most = 0;
    for (uint32_t l = 0; l < count; ++l) {
      const float w = fabs(own[l]);
      if (!(w <= most)) most = w;
    }
    weights += most;
  }
  constexpr float kEnergy = 0.00552427173f;       // 2^-7.5
  return kEnergy / (weights <= 1 ? 1 : weights);  // NaN for NaN
}

// The rows with each label at its place and their softmax q, rest[c] = log sum exp(-U) from chunk c
// on, most[b][c] the largest sum of a chunk's marginals.
__global__ void __launch_bounds__(kThreads)
    order_kernel(const float* negative_unary, const uint32_t* label_most,
                 const __grid_constant__ HotKernels kernels, HotMemory to, float* q, Rows s) {
  DEEPLAB_DYNAMIC_SHARED(int32_t, label_at);  // [width]
  using C = Chunk<float, kHotChunk>;
  if (blockIdx.x == 0 && blockIdx.y == 0 && threadIdx.x == 0) {
    *to.bound = bound_of(kernels, s.labels);
  }
  const uint32_t chunks = s.width / kHotChunk, points = static_cast<uint32_t>(s.num_points);
  for (int64_t b = blockIdx.y; b < s.batch; b += gridDim.y) {
    const uint32_t* const own_most = label_most + b * s.width;
    if (blockIdx.x == 0 && threadIdx.x == 0) to.counts[b] = static_cast<int32_t>(chunks);
    __syncthreads();  // the labels of the image before are no longer read
    for (uint32_t l = threadIdx.x; l < s.width; l += blockDim.x) {
      uint32_t place = 0;
      for (uint32_t other = 0; other < s.width; ++other) {
        place += own_most[other] > own_most[l] || (own_most[other] == own_most[l] && other < l);
      }
      label_at[place] = static_cast<int32_t>(l);
      if (blockIdx.x == 0) to.labels[b * s.width + place] = static_cast<int32_t>(l);
    }
    __syncthreads();
    const uint32_t warp = blockIdx.x * blockDim.x + threadIdx.x / kWarp * kWarp;
    for (uint32_t first = warp; first < points; first += gridDim.x * blockDim.x) {
      const bool here = first + threadIdx.x % kWarp < points;
      const int64_t at = b * s.num_points + (here ? first + threadIdx.x % kWarp : first);
      const float* row = negative_unary + at * s.width;
      float* ordered = to.negative_unary + at * s.width;
      const float most = largest(row, s.width);
      float sum = 0;
      for (uint32_t c = chunks; c-- > 0;) {
        C x;
        for (int k = 0; k < kHotChunk; ++k) x.v[k] = row[label_at[c * kHotChunk + k]];
        for (int k = 0; k < kHotChunk; ++k) sum += exp(x.v[k] - most);
        if (!here) continue;
        x.store(ordered + c * kHotChunk);
        to.rest[c * s.batch * s.num_points + at] = most + log(sum);
      }
      raise_each(to.most + b * chunks, chunks, [&](uint32_t c) {
        C x;
        float own = 0;
        for (int k = 0; k < kHotChunk; ++k) {
          x.v[k] = exp(row[label_at[c * kHotChunk + k]] - most) / sum;
          own += x.v[k];
        }
        if (here) x.store(q + at * s.width + c * kHotChunk);
        return own;
      });
    }
  }
}

// The marginals of all labels from those of the last update, which has stored the hot ones only. A
// tile of points and places through shared memory, as in mean_field_rows.cu.
constexpr int kTile = 32, kTileRows = 8;
__global__ void __launch_bounds__(kTile* kTileRows)
    hot_rows_to_labels_kernel(HotStep hot, const float* q, float* values, Rows s,
                              PixelOrder order) {
  __shared__ float tile[kTile][kTile + 1];
  const int64_t points = s.num_points;
  for (int64_t b = blockIdx.y; b < s.batch; b += gridDim.y) {
    const uint32_t given = static_cast<uint32_t>(hot.count_before[b]) * kHotChunk;
    const float* const own = q + b * points * s.width;
    const float* const unary = hot.negative_unary + b * points * s.width;
    for (int64_t from = int64_t{blockIdx.x} * kTile; from < points;
         from += int64_t{gridDim.x} * kTile) {
      for (uint32_t first = 0; first < s.width; first += kTile) {
        const uint32_t place = first + threadIdx.x;
        for (uint32_t i = threadIdx.y; i < kTile && place < s.width; i += kTileRows) {
          const int64_t p = from + i;
          if (p >= points) break;
          tile[i][threadIdx.x] =
              place < given ? own[p * given + place]
                            : exp(unary[p * s.width + place] - hot.log_sum_before[b * points + p]);
        }
        __syncthreads();
        for (uint32_t i = threadIdx.y; i < kTile && first + i < s.width; i += kTileRows) {
          const auto label = static_cast<uint32_t>(hot.labels[b * s.width + first + i]);
          const int64_t p = from + threadIdx.x;
          if (label < s.labels && p < points) {
            const int64_t pixel = order.pixel(static_cast<uint32_t>(p));
            values[(b * s.labels + label) * points + pixel] = tile[threadIdx.x][i];
          }
        }
        __syncthreads();
      }
    }
  }
}

Rows rows_of(const CudaMeanFieldShape& shape) {
  return {shape.batch, shape.num_points, static_cast<uint32_t>(shape.num_labels),
          static_cast<uint32_t>(mean_field_width_cuda(shape.num_labels))};
}

dim3 image_grid(const Rows& s, int64_t items, unsigned threads) {
  return dim3(strided_blocks(items, threads), static_cast<unsigned>(std::min(s.batch, kMaxGrid)));
}

}  // namespace

cudaError_t order_labels(const CudaMeanFieldShape& shape, const float* negative_unary,
                         const HotKernels& kernels, const HotMemory& to, float* q,
                         cudaStream_t stream) {
  const Rows s = rows_of(shape);
  auto error = cudaMemsetAsync(to.zeros, 0, to.zero_bytes, stream);
  const dim3 grid = image_grid(s, s.num_points, kThreads);
  const auto step = [&](cudaError_t result) { error = error ? error : result; };
  if (!error)
    step(launch(label_most_kernel, grid, kThreads, 0, stream, negative_unary, to.label_most, s));
  if (!error)
    step(launch(order_kernel, grid, kThreads, s.width * sizeof(int32_t), stream, negative_unary,
                to.label_most, kernels, to, q, s));
  return error;
}

int hot_rows_to_labels_cuda(const CudaMeanFieldShape& shape, const CudaPixelOrder& order,
                            const float* rows, float* values, void* memory, int updates,
                            void* stream) {
  if (shape.batch * shape.num_points == 0) return cudaSuccess;
  const Rows s = rows_of(shape);
  const HotStep last = hot_memory(shape, updates, memory).step(shape, updates + 1);
  const int64_t tiles = (s.num_points + kTile - 1) / kTile;
  constexpr unsigned kBlock = kTile * kTileRows;
  return launch(hot_rows_to_labels_kernel, image_grid(s, tiles * kBlock, kBlock),
                dim3(kTile, kTileRows), 0, static_cast<cudaStream_t>(stream), last, rows, values, s,
                PixelOrder(order, s.num_points));
}

HotMemory hot_memory(const CudaMeanFieldShape& shape, int updates, void* base, size_t* bytes) {
  const Rows s = rows_of(shape);
  const int64_t chunks = s.width / kHotChunk, all = s.batch * s.num_points;
  HotMemory m{};
  Arena arena(base);
  m.negative_unary = arena.take<float>(all * s.width);
  m.rest = arena.take<float>(all * chunks);
  m.log_sum = arena.take<float>(all);
  m.labels = arena.take<int32_t>(s.batch * s.width);
  m.bound = arena.take<float>(1);
  const size_t before = arena.used();
  m.counts = arena.take<int32_t>((updates + 1) * s.batch);
  m.most = arena.take<uint32_t>((updates + 1) * s.batch * chunks);
  m.label_most = arena.take<uint32_t>(s.batch * s.width);
  m.zeros = m.counts;
  m.zero_bytes = arena.used() - before;
  if (bytes) *bytes = arena.used();
  return m;
}

size_t hot_labels_bytes_cuda(const CudaMeanFieldShape& shape, int updates) {
  const int64_t width = mean_field_width_cuda(shape.num_labels);
  if (width % kHotChunk != 0 || width < 2 * kHotChunk || width > kMaxHotChunks * kHotChunk) {
    return 0;
  }
  size_t bytes = 0;
  hot_memory(shape, updates, nullptr, &bytes);
  return bytes;
}

}  // namespace deeplab_native
