// Where a point of more than kPackedDim dimensions lies: a warp has a point, each lane up to three
// of its coordinates. The same bits as elevate() and find_simplex().
#pragma once
#include "cuda/compat.cuh"
#include "cuda/lattice_keys.cuh"

namespace deeplab_native {
namespace {

constexpr int kWideOwn = (kMaxFeatureDim + kWarp) / kWarp;  // coordinates of a lane

struct WideScale {
  float of[kMaxFeatureDim];
};

// A lane's coordinates lane, lane + 32 and lane + 64 of a point.
struct WidePoint {
  float elevated[kWideOwn];
  int cell[kWideOwn], rank[kWideOwn];  // of the remainder-0 vertex
  float offset[kWideOwn];
};

// As elevate(), with `scale` that of the lane's coordinates j - 1.
__device__ inline bool elevate_wide(const float* feature, int64_t dim_stride, bool at_zero,
                                    const float (&scale)[kWideOwn], int d, WidePoint& p) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  float sum_above = 0.0f;
  bool good = true;
#pragma unroll
  for (int k = kWideOwn - 1; k >= 0; --k) {
    const int own = lane + k * kWarp;
    float scaled = 0.0f;
    if (own >= 1 && own <= d && !at_zero) {
      scaled = __fmul_rn(feature[(own - 1) * dim_stride], scale[k]);
    }
    p.elevated[k] = 0.0f;
    const int first = k == 0 ? 1 : 0, last = min(d - k * kWarp, kWarp - 1);
    for (int from = last; from >= first; --from) {
      const float x = __shfl_sync(~0u, scaled, from);
      if (lane == from) {
        p.elevated[k] = __fsub_rn(sum_above, __fmul_rn(x, static_cast<float>(own)));
      }
      sum_above = __fadd_rn(sum_above, x);
    }
    if (own == 0) p.elevated[k] = sum_above;
    good = good && fabsf(p.elevated[k]) <= kMostElevated;  // not NaN
  }
  good = __all_sync(~0u, good) != 0;
#pragma unroll
  for (int k = 0; k < kWideOwn; ++k) {
    if (!good) p.elevated[k] = 0.0f;
  }
  return good;
}

// As find_simplex(), but for the weights.
__device__ inline void find_wide_simplex(int d, WidePoint& p) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  const float d1 = static_cast<float>(d + 1), inverse_d1 = __fdiv_rn(1.0f, d1);
  float nearest[kWideOwn], difference[kWideOwn];
  int sum = 0;
#pragma unroll
  for (int k = 0; k < kWideOwn; ++k) {
    const float rounded = rintf(__fmul_rn(p.elevated[k], inverse_d1));
    nearest[k] = __fmul_rn(rounded, d1);
    difference[k] = __fsub_rn(p.elevated[k], nearest[k]);
    p.cell[k] = static_cast<int>(rounded);  // 0 where the lane has no coordinate
    p.rank[k] = 0;
    sum += p.cell[k];
  }
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    sum += __shfl_xor_sync(~0u, sum, distance);
  }
#pragma unroll
  for (int k = 0; k < kWideOwn; ++k) {
    const int count = min(d + 1 - k * kWarp, kWarp);
    for (int from = 0; from < count; ++from) {
      const float other = __shfl_sync(~0u, difference[k], from);
      const int j = k * kWarp + from;
#pragma unroll
      for (int m = 0; m < kWideOwn; ++m) {
        const int own = lane + m * kWarp;
        if (own < j) p.rank[m] += difference[m] < other;
        if (own > j) p.rank[m] += !(other < difference[m]);
      }
    }
  }
#pragma unroll
  for (int k = 0; k < kWideOwn; ++k) {
    p.rank[k] += sum;
    const int wrap = p.rank[k] < 0 ? 1 : p.rank[k] > d ? -1 : 0;
    p.rank[k] += wrap * (d + 1);
    p.cell[k] += wrap;
    nearest[k] = __fadd_rn(nearest[k], static_cast<float>(wrap * (d + 1)));
    p.offset[k] = __fmul_rn(__fsub_rn(p.elevated[k], nearest[k]), inverse_d1);
  }
}

}  // namespace
}  // namespace deeplab_native
