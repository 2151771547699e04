// Labels that matter. After a few updates most labels are improbable everywhere in an image, and
// what they send themselves changes nothing: these are cold, and left out of splat, join, blur and
// slice. The labels of each image are ordered once, by their largest marginal of softmax(-U). From
// then on an update works on as many chunks of 4 of them as are hot, a number that each image has
// in device memory: no kernel waits for the host, and an image's result is the same in any batch.
//
// A label receives only what it sends itself, W = sum_m |w_m| times its largest marginal at most,
// since what normalised kernels filter is as large as what they are given (so says the CPU's bound,
// too). Where the cold marginals of a point sum up to mu at most, everywhere, leaving their
// messages out changes them by mu (e^(W mu) - 1) at most. With mu = 2^-7.5 / max(1, W) that is
// 2^-15 / max(1, W), and the energies of the next update change by no more than 2^-15: the bound
// of the CPU (mean_field_setup.cpp), which rounding hides.
//
// Cold marginals of one image are exp(-U - log Z), with the log Z of the point. They are not
// stored, but part of each softmax by the log of their sum; they are counted again after each
// update, so that a label which grows is worked on again.
#pragma once
#include "cuda/lattice.cuh"

namespace deeplab_native {

constexpr int kHotChunk = 4;       // labels
constexpr int kMaxHotChunks = 96;  // of all labels: what the pass has in registers

// One update of a mean field, with its hot labels; all null where every label is worked on.
struct HotStep {
  int64_t batch, num_points;
  uint32_t chunks;              // of all labels
  const float* negative_unary;  // [batch][points][width], labels in their order
  const int32_t* labels;        // [batch][width] the label at each place of the order
  const float* rest;            // [chunks][batch][points] log of the sum of exp(-U) from chunk c on
  const float* bound;           // [1] mu
  const float* log_sum_before;  // [batch][points] log Z of the marginals that are given ...
  const int32_t* count_before;  // [batch] ... of which so many chunks are stored, side by side
  const uint32_t* most;         // [batch][chunks] their largest sums, the bits of floats
  int32_t* count;               // [batch] chunks that this update works on
  float* log_sum;               // [batch][points] and most_after: of its result
  uint32_t* most_after;

  __device__ bool all() const { return count == nullptr; }
  // Channels of the rows of image b.
  __device__ uint32_t stride(int64_t b, int64_t width) const {
    return all() ? static_cast<uint32_t>(width) : static_cast<uint32_t>(count[b]) * kHotChunk;
  }
  __device__ const float* unary_of(int64_t b) const {
    return negative_unary + b * num_points * chunks * kHotChunk;
  }
  // Chunks of image b up to the last one whose marginals, with those of all after it, may sum up to
  // more than mu somewhere; also where that is NaN.
  __device__ uint32_t hot_chunks(int64_t b) const {
    const float limit = *bound;
    const uint32_t* own = most + b * chunks;
    uint32_t hot = 1;
    float sum = 0;
    for (uint32_t c = chunks; c-- > 1;) {
      sum += __uint_as_float(own[c]);
      if (hot == 1 && !(sum <= limit)) hot = c + 1;
    }
    return hot;
  }
};

// Of all threads that come, the largest of what they have becomes `to`, if it was less. The bits of
// numbers that are not negative order them, and NaN above all.
__device__ inline void raise(uint32_t* to, uint32_t bits) {
  // mostly it is there already: so many atomic operations on one address would take their time
  if (bits > static_cast<uint32_t>(read_relaxed(reinterpret_cast<const int32_t*>(to)))) {
    atomicMax(to, bits);
  }
}
// NaN of either sign is above all.
__device__ inline uint32_t ordered_bits(float x) { return __float_as_uint(x) & 0x7fffffffu; }

}  // namespace deeplab_native
