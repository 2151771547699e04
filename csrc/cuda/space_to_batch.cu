// Contiguous maps go through shared memory, tile by tile: space_to_batch_tiles.cuh. Of
// channels_last maps a row of threads has one pixel with all its channels, copied in the widest
// words (up to 16 bytes) that its size and both addresses allow.
#include <algorithm>

#include "cuda/rows.cuh"
#include "cuda/space_to_batch_tiles.cuh"
#include "ops/space_to_batch.h"

namespace deeplab_native {
namespace {

constexpr unsigned kThreads = kRowThreads;

template <class T>
__device__ uint32_t bytes_into_word(const T* address) {
  return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(address) % 16);
}

// blockIdx.x has the tile, y the image: T is an element.
template <class T>
__global__ void __launch_bounds__(kTileThreads)
    space_to_batch_kernel(const T* __restrict__ map, T* __restrict__ blocks, SpaceToBatchShape s,
                          TilePlan plan) {
  DEEPLAB_DYNAMIC_SHARED(unsigned char, shared);
  for (int64_t image = blockIdx.y; image < s.batch; image += gridDim.y) {
    const Tile tile = find_tile(blockIdx.x, image, s, plan);
    const T* run = map + tile.begin;
    const uint32_t head = bytes_into_word(run);
    copy_run<false, T>(run, tile.items, head, shared);
    __syncthreads();
    const auto move = [&](const BlockItems& items) {
      T* to = blocks + items.first;
      uint32_t byte = items.byte;
#pragma unroll 4
      for (int32_t q = 0; q < tile.rates_w.count; ++q, to += items.step, byte += sizeof(T)) {
        *to = items.valid(q) ? *reinterpret_cast<const T*>(shared + slot<T>(byte)) : T{};
      }
    };
    each_block_item<T>(tile, image, s, plan, head, move);
    __syncthreads();
  }
}

// The same the other way.
template <class T>
__global__ void __launch_bounds__(kTileThreads)
    batch_to_space_kernel(const T* __restrict__ blocks, T* __restrict__ map, SpaceToBatchShape s,
                          TilePlan plan) {
  DEEPLAB_DYNAMIC_SHARED(unsigned char, shared);
  constexpr int32_t kLoads = sizeof(T) < 16 ? 6 : 2;  // on their way; 6 divides the nets' rates
  for (int64_t image = blockIdx.y; image < s.batch; image += gridDim.y) {
    const Tile tile = find_tile(blockIdx.x, image, s, plan);
    T* run = map + tile.begin;
    const uint32_t head = bytes_into_word(run);
    const auto move = [&](const BlockItems& items) {
      const T* from = blocks + items.first;
      const int32_t count = tile.rates_w.count;
      for (int32_t q = 0; q < count; q += kLoads) {
        T values[kLoads] = {};
#pragma unroll
        for (int32_t k = 0; k < kLoads; ++k, from += items.step) {
          if (q + k < count && items.valid(q + k)) values[k] = *from;
        }
#pragma unroll
        for (int32_t k = 0; k < kLoads; ++k) {
          const uint32_t byte = items.byte + static_cast<uint32_t>(q + k) * sizeof(T);
          if (q + k < count && items.valid(q + k)) {
            *reinterpret_cast<T*>(shared + slot<T>(byte)) = values[k];
          }
        }
      }
    };
    each_block_item<T>(tile, image, s, plan, head, move);
    __syncthreads();
    copy_run<true, T>(run, tile.items, head, shared);
    __syncthreads();
  }
}

template <class T>
cudaError_t launch_tiles(void (*kernel)(const T*, T*, SpaceToBatchShape, TilePlan),
                         const void* from, void* to, const SpaceToBatchShape& s, void* stream) {
  if (s.batch * s.channels * s.block_height * s.block_width == 0) return cudaSuccess;
  const TilePlan plan = make_tile_plan(s, sizeof(T));
  const dim3 grid(static_cast<unsigned>(plan.tiles),
                  static_cast<unsigned>(std::min(s.batch, kMaxGrid)));
  return launch(kernel, grid, dim3(plan.threads), static_cast<size_t>(plan.shared_bytes),
                static_cast<cudaStream_t>(stream), from, to, s, plan);
}

// Rows (b, p, q, yb, xb), the pixels of the blocks, of `words` words of type T each.
template <class T>
__global__ void __launch_bounds__(kThreads)
    space_to_batch_pixels_kernel(const T* __restrict__ map, T* __restrict__ blocks,
                                 SpaceToBatchShape s, int64_t words) {
  const int64_t block_pixels = s.block_height * s.block_width;
  const int64_t rows = s.batch * s.rate_h * s.rate_w * block_pixels;
  for (int64_t row = first_row(); row < rows; row += row_step()) {
    const int64_t block = row / block_pixels, pixel = row % block_pixels;
    const int64_t q = block % s.rate_w, p = block / s.rate_w % s.rate_h;
    const int64_t b = block / s.rate_w / s.rate_h;
    const int64_t y = pixel / s.block_width * s.rate_h + p - s.pad_h;
    const int64_t x = pixel % s.block_width * s.rate_w + q - s.pad_w;
    const bool valid = y >= 0 && y < s.height && x >= 0 && x < s.width;
    const int64_t from = ((b * s.height + y) * s.width + x) * words;
    for (int64_t i = threadIdx.x; i < words; i += blockDim.x) {
      blocks[row * words + i] = valid ? map[from + i] : T{};
    }
  }
}

// Rows (b, y, x), the pixels of the map, of `words` words of type T each.
template <class T>
__global__ void __launch_bounds__(kThreads)
    batch_to_space_pixels_kernel(const T* __restrict__ blocks, T* __restrict__ map,
                                 SpaceToBatchShape s, int64_t words) {
  const int64_t rows = s.batch * s.height * s.width;
  for (int64_t row = first_row(); row < rows; row += row_step()) {
    const int64_t x = row % s.width + s.pad_w;
    const int64_t y = row / s.width % s.height + s.pad_h;
    const int64_t b = row / s.width / s.height;
    const int64_t block = (b * s.rate_h + y % s.rate_h) * s.rate_w + x % s.rate_w;
    const int64_t from = ((block * s.block_height + y / s.rate_h) * s.block_width + x / s.rate_w);
    for (int64_t i = threadIdx.x; i < words; i += blockDim.x) {
      map[row * words + i] = blocks[from * words + i];
    }
  }
}

template <class T>
cudaError_t to_blocks(const void* map, void* blocks, const SpaceToBatchShape& s, void* stream) {
  return launch_tiles(space_to_batch_kernel<T>, map, blocks, s, stream);
}

template <class T>
cudaError_t to_map(const void* blocks, void* map, const SpaceToBatchShape& s, void* stream) {
  return launch_tiles(batch_to_space_kernel<T>, blocks, map, s, stream);
}

template <class T>
cudaError_t to_block_pixels(const void* map, void* blocks, const SpaceToBatchShape& s,
                            int64_t pixel_bytes, void* stream) {
  const int64_t words = pixel_bytes / static_cast<int64_t>(sizeof(T));
  const int64_t rows = s.batch * s.rate_h * s.rate_w * s.block_height * s.block_width;
  return launch_rows(space_to_batch_pixels_kernel<T>, rows, words, stream, map, blocks, s, words);
}

template <class T>
cudaError_t to_map_pixels(const void* blocks, void* map, const SpaceToBatchShape& s,
                          int64_t pixel_bytes, void* stream) {
  const int64_t words = pixel_bytes / static_cast<int64_t>(sizeof(T));
  return launch_rows(batch_to_space_pixels_kernel<T>, s.batch * s.height * s.width, words, stream,
                     blocks, map, s, words);
}

// Calls run(T{}) with the word of `bytes` bytes: 1, 2, 4, 8 or 16.
template <class Run>
cudaError_t with_word(int64_t bytes, const Run& run) {
  switch (bytes) {
    case 1:
      return run(uint8_t{});
    case 2:
      return run(uint16_t{});
    case 4:
      return run(uint32_t{});
    case 8:
      return run(uint64_t{});
    case 16:
      return run(Word16{});
  }
  return cudaErrorInvalidValue;
}

// The largest power of two, up to 16, that divides a pixel and both addresses.
int64_t widest_word(int64_t pixel_bytes, const void* a, const void* b) {
  const uint64_t all = static_cast<uint64_t>(pixel_bytes) | reinterpret_cast<uint64_t>(a) |
                       reinterpret_cast<uint64_t>(b) | 16u;
  return static_cast<int64_t>(all & (~all + 1));
}

}  // namespace

int space_to_batch_cuda(const void* map, void* blocks, const SpaceToBatchShape& s, int element_size,
                        bool channels_last, void* stream) {
  const int64_t pixel_bytes = s.channels * element_size;
  if (!channels_last) {
    return with_word(element_size,
                     [&](auto word) { return to_blocks<decltype(word)>(map, blocks, s, stream); });
  }
  return with_word(widest_word(pixel_bytes, map, blocks), [&](auto word) {
    return to_block_pixels<decltype(word)>(map, blocks, s, pixel_bytes, stream);
  });
}

int batch_to_space_cuda(const void* blocks, void* map, const SpaceToBatchShape& s, int element_size,
                        bool channels_last, void* stream) {
  const int64_t pixel_bytes = s.channels * element_size;
  if (!channels_last) {
    return with_word(element_size,
                     [&](auto word) { return to_map<decltype(word)>(blocks, map, s, stream); });
  }
  return with_word(widest_word(pixel_bytes, map, blocks), [&](auto word) {
    return to_map_pixels<decltype(word)>(blocks, map, s, pixel_bytes, stream);
  });
}

}  // namespace deeplab_native
