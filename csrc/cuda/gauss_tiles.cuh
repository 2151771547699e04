// Tiles of the exact Gaussian sum: 64 successive points, with their bounding box. A block of 128
// threads has one tile of points i, and takes the tiles of points j that are near enough one after
// the other, always in the same order.
#pragma once
#include "cuda/arena.cuh"
#include "cuda/compat.cuh"
#include "ops/gauss_transform.h"
#include "ops/permutohedral.h"  // kMaxFeatureDim

namespace deeplab_native {
namespace {

constexpr int kGaussTile = 64;  // points
constexpr int kGaussGroup = 8;  // tiles whose bounds fill a sector of memory: dealt out together
constexpr unsigned kGaussThreads = 128;
constexpr int kGaussWarps = kGaussThreads / 32;

template <class T>
struct GaussTiles {
  const T* features;  // [images][points][d]
  T* boxes;           // [images][lower, upper][d][tiles]
  int64_t points;     // of an image
  int tiles, d;
  T far;
  // Tiles of points j are dealt out to so many blocks, whose sums are added in order: a function of
  // the number of points alone, so that an image's sums are the same in any batch.
  int parts;

  __device__ const T* box(int64_t image) const { return boxes + image * 2 * d * tiles; }
  __device__ const T* features_of(int64_t image) const { return features + image * points * d; }
};

// 2^x within 2 units of the last place, 0 where that is less than 2^-126: one instruction.
__device__ inline float fast_exp2(float x) {
#if defined(CUDA_EMU)
  return std::exp2(x);
#else
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
#endif
}

// What a block works on; the parts of a tile are neighbours, then come tiles, chunks of channels
// and images.
struct GaussTask {
  int64_t image;
  int tile, part, chunk;

  __device__ GaussTask(int parts, int tiles, int chunks) {
    uint32_t at = blockIdx.x;
    const auto take = [&](int count) {
      const uint32_t rest = at / static_cast<uint32_t>(count);
      const int own = static_cast<int>(at - rest * static_cast<uint32_t>(count));
      at = rest;
      return own;
    };
    part = take(parts);
    tile = take(tiles);
    chunk = take(chunks);
    image = at;
  }
};

// How many parts: enough blocks of 128 points that the longest, of points that are near to most of
// an image, is short beside the whole (16 times what 132 multiprocessors hold).
inline int gauss_parts(int64_t tiles) {
  constexpr int64_t kBlocks = 8192, kMost = 16;
  const int64_t blocks = (tiles + 1) / 2, groups = (tiles + kGaussGroup - 1) / kGaussGroup;
  return static_cast<int>(std::min({(kBlocks + blocks - 1) / blocks, kMost, groups}));
}

// A warp has the box of one tile along one dimension.
template <class T>
__global__ void __launch_bounds__(kGaussThreads)
    gauss_boxes_kernel(const __grid_constant__ GaussTiles<T> tiles, int64_t images) {
  const int64_t items = images * tiles.tiles * tiles.d;
  const int lane = threadIdx.x % 32;
  for (int64_t i = int64_t{blockIdx.x} * kGaussWarps + threadIdx.x / 32; i < items;
       i += int64_t{gridDim.x} * kGaussWarps) {
    const int k = static_cast<int>(i % tiles.d);
    const int64_t of_all = i / tiles.d, image = of_all / tiles.tiles;
    const int tile = static_cast<int>(of_all - image * tiles.tiles);
    const T* const features = tiles.features_of(image);
    const auto at = [&](int item) {
      const int64_t point = min(int64_t{tile} * kGaussTile + item, tiles.points - 1);
      return features[point * tiles.d + k];
    };
    const T a = at(lane), b = at(lane + 32);
    T lower = min(a, b), upper = max(a, b);
    for (int step = 16; step > 0; step /= 2) {
      const T other_lower = __shfl_xor_sync(~0u, lower, step);
      const T other_upper = __shfl_xor_sync(~0u, upper, step);
      lower = min(lower, other_lower), upper = max(upper, other_upper);
    }
    if (lane == 0) {
      T* const box = tiles.boxes + image * 2 * tiles.d * tiles.tiles + tile;
      box[int64_t{k} * tiles.tiles] = lower;
      box[int64_t{tiles.d + k} * tiles.tiles] = upper;
    }
  }
}

// The tiles j of a part, every parts-th group, that are not farther from a block's own than
// sqrt(far), in their order. All threads of the block go along: the next is the same for all.
template <class T, int kOwn = 1>
class NearTiles {
 public:
  static constexpr int kWords = 8;  // so many times 32 tiles are looked at, then the next
  struct Shared {
    uint32_t words[kWords];
    T box[2 * kMaxFeatureDim];  // of the block's own tile
  };

  // The block's own points i are those of kOwn tiles from `own` on. A barrier comes before the
  // first next() has read what this writes.
  __device__ NearTiles(const GaussTiles<T>& tiles, const GaussTask& task, int own, Shared& shared)
      : tiles_(tiles),
        boxes_(tiles.box(task.image)),
        shared_(shared),
        part_(task.part),
        count_(((tiles.tiles + kGaussGroup - 1) / kGaussGroup - task.part + tiles.parts - 1) /
               tiles.parts * kGaussGroup) {
    for (int k = threadIdx.x; k < 2 * tiles.d; k += kGaussThreads) {
      const T* const bounds = boxes_ + int64_t{k} * tiles.tiles + own;
      T bound = bounds[0];
      for (int i = 1; i < kOwn && own + i < tiles.tiles; ++i) {
        bound = k < tiles.d ? min(bound, bounds[i]) : max(bound, bounds[i]);
      }
      shared.box[k] = bound;
    }
  }

  // -1: there are no more.
  __device__ int next() {
    while (bits_ == 0) {
      if (++word_ >= kWords) {
        first_ += kWords * 32;
        if (first_ >= count_) return -1;
        look();
        word_ = 0;
      }
      bits_ = shared_.words[word_];
    }
    const int bit = __ffs(static_cast<int>(bits_)) - 1;
    bits_ &= bits_ - 1;
    return tile(first_ + word_ * 32 + bit);
  }

 private:
  __device__ int tile(int i) const {
    return (i / kGaussGroup * tiles_.parts + part_) * kGaussGroup + i % kGaussGroup;
  }

  __device__ void look() {
    __syncthreads();  // the words are no longer read, and the box is there
    for (int word = threadIdx.x / 32; word < kWords; word += kGaussWarps) {
      const int at = first_ + word * 32 + static_cast<int>(threadIdx.x % 32);
      const bool near = at < count_ && tile(at) < tiles_.tiles && !is_far(tile(at));
      const uint32_t bits = __ballot_sync(~0u, near);
      if (threadIdx.x % 32 == 0) shared_.words[word] = bits;
    }
    __syncthreads();
  }

  __device__ bool is_far(int tile) const {
    T sum = 0;
    for (int k = 0; k < tiles_.d; ++k) {
      const T lower = boxes_[int64_t{k} * tiles_.tiles + tile];
      const T upper = boxes_[int64_t{tiles_.d + k} * tiles_.tiles + tile];
      const T gap = max(max(lower - shared_.box[tiles_.d + k], shared_.box[k] - upper), T(0));
      sum += gap * gap;
    }
    return sum > tiles_.far;
  }

  const GaussTiles<T>& tiles_;
  const T* boxes_;
  Shared& shared_;
  int part_, count_;
  // of the window that begins with first_, the bits that are left of word_
  int first_ = -kWords * 32, word_ = kWords - 1;
  uint32_t bits_ = 0;
};

}  // namespace
}  // namespace deeplab_native
