// Both kernels move items row by row, a row to each row of threads, so that the int64 divisions are
// paid once a row and not once an item:
// - contiguous maps: the row is one map row (padded), its elements dealt to or from rate_w blocks.
//   The strided side of the copy stays within that one row, which the L1 cache holds;
// - channels_last maps: the row is one pixel with all its channels, copied in the widest words (up
//   to 16 bytes) that its size and both addresses allow.
#include <algorithm>

#include "cuda/rows.cuh"
#include "ops/space_to_batch.h"

namespace deeplab_native {
namespace {

constexpr unsigned kThreads = kRowThreads;

struct alignas(16) Word16 {
  uint64_t low, high;
};

// Rows (b, p, c, yb) of the blocks: T is an element.
template <class T>
__global__ void __launch_bounds__(kThreads)
    space_to_batch_kernel(const T* __restrict__ map, T* __restrict__ blocks, SpaceToBatchShape s) {
  const int64_t rows = s.batch * s.rate_h * s.channels * s.block_height;
  const int64_t block_items = s.channels * s.block_height * s.block_width;
  for (int64_t row = first_row(); row < rows; row += row_step()) {
    const int64_t yb = row % s.block_height;
    const int64_t c = row / s.block_height % s.channels;
    const int64_t bp = row / s.block_height / s.channels;  // b * rate_h + p
    const int64_t y = yb * s.rate_h + bp % s.rate_h - s.pad_h;
    const bool inside = y >= 0 && y < s.height;
    const int64_t map_row = ((bp / s.rate_h * s.channels + c) * s.height + y) * s.width;
    const int64_t block_row =
        bp * s.rate_w * block_items + (c * s.block_height + yb) * s.block_width;
    for (int64_t i = threadIdx.x; i < s.rate_w * s.block_width; i += blockDim.x) {
      const int64_t q = i / s.block_width, xb = i - q * s.block_width;
      const int64_t x = xb * s.rate_w + q - s.pad_w;
      const bool valid = inside && x >= 0 && x < s.width;
      blocks[block_row + q * block_items + xb] = valid ? map[map_row + x] : T{};
    }
  }
}

// Rows (b, c, y) of the map: T is an element.
template <class T>
__global__ void __launch_bounds__(kThreads)
    batch_to_space_kernel(const T* __restrict__ blocks, T* __restrict__ map, SpaceToBatchShape s) {
  const int64_t rows = s.batch * s.channels * s.height;
  const int64_t block_items = s.channels * s.block_height * s.block_width;
  for (int64_t row = first_row(); row < rows; row += row_step()) {
    const int64_t y = row % s.height + s.pad_h;
    const int64_t c = row / s.height % s.channels;
    const int64_t b = row / s.height / s.channels;
    const int64_t block_row = (b * s.rate_h + y % s.rate_h) * s.rate_w * block_items +
                              (c * s.block_height + y / s.rate_h) * s.block_width;
    for (int64_t i = threadIdx.x; i < s.width; i += blockDim.x) {
      const int64_t xb = (i + s.pad_w) / s.rate_w, q = i + s.pad_w - xb * s.rate_w;
      map[row * s.width + i] = blocks[block_row + q * block_items + xb];
    }
  }
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
  const int64_t rows = s.batch * s.rate_h * s.channels * s.block_height;
  return launch_rows(space_to_batch_kernel<T>, rows, s.rate_w * s.block_width, stream, map, blocks,
                     s);
}

template <class T>
cudaError_t to_map(const void* blocks, void* map, const SpaceToBatchShape& s, void* stream) {
  return launch_rows(batch_to_space_kernel<T>, s.batch * s.channels * s.height, s.width, stream,
                     blocks, map, s);
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
