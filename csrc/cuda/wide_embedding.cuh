// The embedding of points of more than kPackedDim dimensions: the same bits as embed_kernel's.
#pragma once
#include "cuda/lattice_build.cuh"
#include "cuda/pixel_order.cuh"
#include "cuda/wide_point.cuh"

namespace deeplab_native {
namespace {

// What a warp puts in the order of the ranks.
struct WideByRank {
  float offset[kMaxFeatureDim + 1];
  uint64_t factor[kMaxFeatureDim + 1];
};

// The hash of vertex r for r = lane, lane + 32, lane + 64: r + 1 follows from r by adding 1 to all
// coordinates and taking d + 1 off that of rank d - r.
__device__ inline void wide_hashes(const WidePoint& p, const WideByRank& sorted,
                                   const uint64_t (&factor)[kWideOwn], int d,
                                   uint64_t (&hashes)[kWideOwn]) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  uint64_t before = 0;
#pragma unroll
  for (int k = 0; k < kWideOwn; ++k) {
    before += static_cast<uint64_t>(static_cast<int64_t>(p.cell[k])) * factor[k];
  }
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    before += __shfl_xor_sync(~0u, before, distance);
  }
#pragma unroll
  for (int k = 0; k < kWideOwn; ++k) {
    const int r = lane + k * kWarp;
    const uint64_t own = r <= d ? wide_factor(d) - sorted.factor[d - r] : 0;
    uint64_t sum = own;
    for (int distance = 1; distance < kWarp; distance *= 2) {
      const uint64_t below = __shfl_up_sync(~0u, sum, distance);
      if (lane >= distance) sum += below;
    }
    hashes[k] = before + sum - own;
    before += __shfl_sync(~0u, sum, kWarp - 1);
  }
}

// A warp to a block of 32 points, one after the other; beside that as embed_kernel.
__global__ void __launch_bounds__(kChunkThreads)
    embed_wide_kernel(LatticeView l, CudaFeatures features, PixelOrder order,
                      const __grid_constant__ WideScale scale, Table table, Scratch s) {
  __shared__ WideByRank by_rank[kChunkWarps];
  const int d = l.d, words = record_words(d), lane = static_cast<int>(threadIdx.x % kWarp);
  WideByRank& sorted = by_rank[threadIdx.x / kWarp];
  clear_scratch(l, s);
  float own_scale[kWideOwn];
  uint64_t factor[kWideOwn];
#pragma unroll
  for (int k = 0; k < kWideOwn; ++k) {
    const int j = lane + k * kWarp;
    own_scale[k] = j >= 1 && j <= d ? scale.of[j - 1] : 0.0f;
    factor[k] = cell_factor(j, d, table.last_factor);
  }
  each_item(l.images, l.blocks * kWarp, [&](int64_t image, uint32_t first) {
    uint32_t bad = 0;
    first -= static_cast<uint32_t>(lane);
    for (uint32_t i = 0; i < kWarp; ++i) {
      const uint32_t point = first + i;
      const bool real = point < l.num_points;
      const int64_t from = order.pixel(real ? point : static_cast<uint32_t>(l.num_points) - 1);
      const float* feature =
          features.data + image * features.image_stride + from * features.point_stride;
      WidePoint p;
      const bool at_zero = !real && l.zero_point;
      if (!elevate_wide(feature, features.dim_stride, at_zero, own_scale, d, p)) bad |= 1u << i;
      find_wide_simplex(d, p);
      uint32_t* record = s.records + (image * l.blocks * kWarp + point) * words;
#pragma unroll
      for (int k = 0; k < kWideOwn; ++k) {
        const int j = lane + k * kWarp;
        if (j <= d) {
          sorted.offset[p.rank[k]] = p.offset[k];
          sorted.factor[p.rank[k]] = factor[k];
        }
        if (j < words)
          record[j] = j < d ? wide_word(p.cell[k], p.rank[k]) : wide_word(0, kWideMask);
      }
      __syncwarp();
      uint64_t hashes[kWideOwn];
      wide_hashes(p, sorted, factor, d, hashes);
#pragma unroll
      for (int k = 0; k < kWideOwn; ++k) {
        const int r = lane + k * kWarp;
        if (r > d) continue;
        const float before = r == 0 ? sorted.offset[0] : sorted.offset[d - r + 1];
        const float here = sorted.offset[d - r];
        const float weight =
            r == 0 ? __fadd_rn(here, __fsub_rn(1.0f, before)) : __fsub_rn(here, before);
        const int64_t entry = l.entry(image, point, r);
        l.weights[entry] = real ? weight : 0.0f;
        s.hashes[entry] = hashes[k];
      }
      __syncwarp();  // the next point is sorted in the same memory
    }
    if (lane == 0) s.bad_blocks[image * l.blocks + first / kWarp] = static_cast<int32_t>(bad);
  });
}

}  // namespace
}  // namespace deeplab_native
