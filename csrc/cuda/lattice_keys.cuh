// Where a point lies in the lattice, and how the lattice's points are named, on the device.
#pragma once
#include "cuda/lattice.cuh"

namespace deeplab_native {
namespace {

// Rounding to multiples of d + 1 is exact below this, and coordinates fit their fields.
constexpr float kMostElevated = 1 << 22;

// Diagonal of E (Adams et al. 2010, section 3.1), computed on the host as pydensecrf does.
struct Scale {
  float of[kMaxFeatureDim];
};

// The d + 1 vertices around a point: vertex r has remainder0[j] + r in every coordinate j, less
// d + 1 where rank[j] > d - r (the canonical simplex).
template <int kMost>
struct Embedding {
  float elevated[kMost + 1];
  int remainder0[kMost + 1], rank[kMost + 1];
  float weights[kMost + 1];

  __device__ int coordinate(int j, int r, int d) const {
    return remainder0[j] + r - (rank[j] > d - r ? d + 1 : 0);
  }
};

// y = E p: onto the hyperplane where the coordinates sum to 0. The order of operations is
// pydensecrf's, and none of them may be fused: which vertices exist depends on the last bit.
// False where a coordinate is not finite, or too large; the point then lies at 0.
template <int kMost>
__device__ bool elevate(const float* feature, int64_t dim_stride, bool at_zero, const Scale& scale,
                        int d, Embedding<kMost>& e) {
  float sum_above = 0.0f, most = 0.0f;
#pragma unroll
  for (int j = kMost; j > 0; --j) {
    if (j > d) continue;
    const float f = at_zero ? 0.0f : feature[(j - 1) * dim_stride];
    const float scaled = __fmul_rn(f, scale.of[j - 1]);
    e.elevated[j] = __fsub_rn(sum_above, __fmul_rn(scaled, static_cast<float>(j)));
    sum_above = __fadd_rn(sum_above, scaled);
    most = fmaxf(most, fabsf(e.elevated[j]));
    if (!(fabsf(e.elevated[j]) <= kMostElevated)) most = 2 * kMostElevated;  // NaN, too
  }
  e.elevated[0] = sum_above;
  const bool good = most <= kMostElevated && fabsf(sum_above) <= kMostElevated;
#pragma unroll
  for (int j = 0; j <= kMost; ++j) {
    if (!good && j <= d) e.elevated[j] = 0.0f;
  }
  return good;
}

// The nearest remainder-0 point, the ranks of the differences to it, the barycentric weights
// (Adams et al. 2010, sections 3.1.1 and 3.1.2).
template <int kMost>
__device__ void find_simplex(int d, Embedding<kMost>& e) {
  const float d1 = static_cast<float>(d + 1), inverse_d1 = __fdiv_rn(1.0f, d1);
  float nearest[kMost + 1], difference[kMost + 1];
  int sum = 0;
#pragma unroll
  for (int i = 0; i <= kMost; ++i) {
    if (i > d) continue;
    const float rounded = rintf(__fmul_rn(e.elevated[i], inverse_d1));
    nearest[i] = __fmul_rn(rounded, d1);
    sum += static_cast<int>(rounded);
    difference[i] = __fsub_rn(e.elevated[i], nearest[i]);
    e.rank[i] = 0;
  }
#pragma unroll
  for (int i = 0; i < kMost; ++i) {
#pragma unroll
    for (int j = i + 1; j <= kMost; ++j) {
      if (j > d) continue;
      const bool less = difference[i] < difference[j];
      e.rank[i] += less;
      e.rank[j] += !less;
    }
  }
  // back onto the hyperplane where the rounded coordinates do not sum to 0
  float offset[kMost + 1];
#pragma unroll
  for (int i = 0; i <= kMost; ++i) {
    if (i > d) continue;
    e.rank[i] += sum;
    const int wrap = e.rank[i] < 0 ? d + 1 : e.rank[i] > d ? -(d + 1) : 0;
    e.rank[i] += wrap;
    nearest[i] = __fadd_rn(nearest[i], static_cast<float>(wrap));
    e.remainder0[i] = static_cast<int>(nearest[i]);
    offset[i] = __fmul_rn(__fsub_rn(e.elevated[i], nearest[i]), inverse_d1);
  }
  // differences of the offsets in the order of their ranks: sorted without a run-time index
  float sorted[kMost + 1];
#pragma unroll
  for (int r = 0; r <= kMost; ++r) {
    sorted[r] = 0.0f;
#pragma unroll
    for (int i = 0; i <= kMost; ++i) {
      if (i <= d && e.rank[i] == r) sorted[r] = offset[i];
    }
  }
#pragma unroll
  for (int r = 0; r <= kMost; ++r) {
    if (r > d) continue;
    float here = 0.0f, before = 0.0f;  // sorted[d - r], sorted[d - r + 1]
#pragma unroll
    for (int k = 0; k <= kMost; ++k) {
      if (k == d - r) here = sorted[k];
      if (k == d - r + 1) before = sorted[k];
    }
    e.weights[r] = r == 0 ? __fadd_rn(here, __fsub_rn(1.0f, sorted[0])) : __fsub_rn(here, before);
  }
}

// A vertex's name: its first d coordinates (the last one follows), two to a word.
__host__ __device__ inline int key_words(int d) { return (d + 1) / 2; }

__device__ inline uint64_t key_word(int even, int odd) {
  return static_cast<uint32_t>(even) | uint64_t{static_cast<uint32_t>(odd)} << 32;
}

__device__ inline uint64_t mix(uint64_t hash, uint64_t word) {
  hash = (hash ^ word ^ (word >> 29)) * 0x9E3779B97F4A7C15ull;  // 2^64 / golden ratio
  return hash ^ (hash >> 32);
}

// The hash tables of a batch: `capacity` slots for each image, open addressing. A slot holds the
// first entry that has its key, or -1: keys are compared where the entries lie.
struct Table {
  int32_t* slots;
  const uint64_t* keys;  // [entries][key_words]
  int64_t capacity;      // at least 1.5 entries of an image: there is always an empty slot
  int words;

  __device__ int64_t start(uint64_t hash) const {
    return static_cast<int64_t>(((hash >> 32) * static_cast<uint64_t>(capacity)) >> 32);
  }
  __device__ bool same(int64_t a, int64_t b) const {
    for (int w = 0; w < words; ++w) {
      if (keys[a * words + w] != keys[b * words + w]) return false;
    }
    return true;
  }
};

}  // namespace
}  // namespace deeplab_native
