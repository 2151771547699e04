// The labels of one point that one thread of the mean field's pass has, and their filtered values.
#pragma once
#include <vector>

#include "cuda/lattice.cuh"
#include "ops/mean_field.h"

namespace deeplab_native {

template <class T>
constexpr int kMostOwn = sizeof(T) == 4 ? 3 : 1;  // chunks in the registers of a thread

// Whether all kernels have rows of Float16; false where some have and some have not.
template <class T>
bool find_half_rows(const std::vector<CudaPairwiseKernel>& kernels, int64_t width, bool* half) {
  size_t count = 0;
  for (const CudaPairwiseKernel& kernel : kernels) count += has_half_rows<T>(kernel.filter, width);
  *half = count > 0;
  return count == 0 || count == kernels.size();
}

// How the channels of a point's rows lie: see FilteredImage.
struct RowWidth {
  int64_t width;
  uint32_t stride;
};

// What a filter has made of values b of a batch, from a channel on.
template <class T, class Row>
__device__ FilteredImage<T, Row> filtered_image(const FilterView<T, Row>& f, int64_t b,
                                                RowWidth width, int64_t channel) {
  const uint32_t images = static_cast<uint32_t>(f.lattice.images), all = static_cast<uint32_t>(b);
  const uint32_t replica = f.replicas == 1 ? 0 : images == 1 ? all : all / images;
  return FilteredImage<T, Row>(f, replica, all - replica * images, width.width, width.stride,
                               channel);
}

// kOwn chunks, which stay in registers. Those of a pair of threads lie side by side, every second
// one with each, so that a pair reads whole sectors and the distance from chunk to chunk is a
// constant.
template <class T, int W, int kOwn>
struct OwnChunks {
  using C = Chunk<T, W>;
  static constexpr int64_t kStep = 2 * W;
  C chunk[kOwn];
  uint32_t first, chunks;  // of this thread, of the point

  __device__ OwnChunks(T*, uint32_t chunks, uint32_t lane, uint32_t)
      : first(lane / 2 * (2 * kOwn) + lane % 2), chunks(chunks) {}

  __device__ bool has(int k) const { return first + 2 * k < chunks; }
  __device__ int64_t begin() const { return int64_t{first} * W; }

  template <class F>
  __device__ void each(const F& f) {
#pragma unroll
    for (int k = 0; k < kOwn; ++k) {
      if (has(k)) f(chunk[k], begin() + k * kStep);
    }
  }

  // f(chunk, what the filter makes of it, offset): a corner is looked up once for all chunks.
  template <class Row, class F>
  __device__ void each_sliced(const FilterView<T, Row>& filter, int64_t b, uint32_t point,
                              RowWidth width, const F& f) {
    C sums[kOwn];
    const auto mine = [this](int k) { return has(k); };
    filtered_image(filter, b, width, begin()).slice(point, kStep, mine, sums);
#pragma unroll
    for (int k = 0; k < kOwn; ++k) {
      if (has(k)) f(chunk[k], sums[k], begin() + k * kStep);
    }
  }
};

// More labels than the registers of a warp take: chunks lane, lane + group, ..., which lie where
// the result will.
template <class T, int W>
struct OwnChunks<T, W, 0> {
  using C = Chunk<T, W>;
  T* memory;
  uint32_t chunks, lane, group;

  __device__ OwnChunks(T* memory, uint32_t chunks, uint32_t lane, uint32_t group)
      : memory(memory), chunks(chunks), lane(lane), group(group) {}

  template <class F>
  __device__ void each(const F& f) {
    for (uint32_t c = lane; c < chunks; c += group) {
      C x = C::load(memory + c * W);
      f(x, int64_t{c} * W);
      x.store(memory + c * W);
    }
  }
  template <class Row, class F>
  __device__ void each_sliced(const FilterView<T, Row>& filter, int64_t b, uint32_t point,
                              RowWidth width, const F& f) {
    each([&](C& x, int64_t offset) {
      C sum[1];
      filtered_image(filter, b, width, offset).slice(point, 0, [](int) { return true; }, sum);
      f(x, sum[0], offset);
    });
  }
};

}  // namespace deeplab_native
