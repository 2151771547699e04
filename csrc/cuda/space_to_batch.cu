// Divisions find out where an item is from and where it goes; they are paid once for many items:
// - contiguous maps: a thread has one place (p, q, yb, xb) of the blocks, or one (y, x) of the map,
//   in plane after plane. The strided side of the copy stays within one row, which the L1 cache
//   holds;
// - channels_last maps: a row of threads has one pixel with all its channels, copied in the widest
//   words (up to 16 bytes) that its size and both addresses allow.
#include <algorithm>

#include "cuda/rows.cuh"
#include "ops/space_to_batch.h"

namespace deeplab_native {
namespace {

constexpr unsigned kThreads = kRowThreads;

struct alignas(16) Word16 {
  uint64_t low, high;
};

// to[c * to_plane] = from[c * from_plane], or 0 without from, of the channels c of a thread.
template <class T>
__device__ void copy_planes(const T* from, int64_t from_plane, T* to, int64_t to_plane,
                            int64_t channels) {
  const int64_t from_step = row_step() * from_plane, to_step = row_step() * to_plane;
  int64_t c = first_row();
  to += c * to_plane;
  if (!from) {
    for (; c < channels; c += row_step(), to += to_step) *to = T{};
    return;
  }
  from += c * from_plane;
  // 8 loads of 1024 threads on their way: for items of 4 bytes enough to hide the latency of device
  // memory (some 22 KB a multiprocessor of an H200), for 2 bytes not quite; of larger items 4
  constexpr int kLoads = sizeof(T) <= 4 ? 8 : 4;
#pragma unroll kLoads
  for (; c < channels; c += row_step(), from += from_step, to += to_step) *to = *from;
}

// blockIdx.z has (b, p), y has yb, threadIdx.x (q, xb): T is an element. For more blocks of a
// multiprocessor than four the compiler spills registers.
template <class T>
__global__ void __launch_bounds__(kThreads, 4)
    space_to_batch_kernel(const T* __restrict__ map, T* __restrict__ blocks, SpaceToBatchShape s) {
  const int64_t plane = s.height * s.width, block_plane = s.block_height * s.block_width;
  for (int64_t bp = blockIdx.z; bp < s.batch * s.rate_h; bp += gridDim.z) {
    const int64_t b = bp / s.rate_h, p = bp - b * s.rate_h;
    for (int64_t yb = blockIdx.y; yb < s.block_height; yb += gridDim.y) {
      const int64_t y = yb * s.rate_h + p - s.pad_h;
      for (int64_t i = threadIdx.x; i < s.rate_w * s.block_width; i += blockDim.x) {
        const int64_t q = i / s.block_width, xb = i - q * s.block_width;
        const int64_t x = xb * s.rate_w + q - s.pad_w;
        const bool valid = y >= 0 && y < s.height && x >= 0 && x < s.width;
        const T* from = valid ? map + (b * s.channels * s.height + y) * s.width + x : nullptr;
        T* to = blocks + (bp * s.rate_w + q) * s.channels * block_plane + yb * s.block_width + xb;
        copy_planes(from, plane, to, block_plane, s.channels);
      }
    }
  }
}

// blockIdx.z has b, y has y, threadIdx.x x of the map: T is an element.
template <class T>
__global__ void __launch_bounds__(kThreads, 4)
    batch_to_space_kernel(const T* __restrict__ blocks, T* __restrict__ map, SpaceToBatchShape s) {
  const int64_t plane = s.height * s.width, block_plane = s.block_height * s.block_width;
  for (int64_t b = blockIdx.z; b < s.batch; b += gridDim.z) {
    for (int64_t y = blockIdx.y; y < s.height; y += gridDim.y) {
      const int64_t yb = (y + s.pad_h) / s.rate_h, p = y + s.pad_h - yb * s.rate_h;
      for (int64_t x = threadIdx.x; x < s.width; x += blockDim.x) {
        const int64_t xb = (x + s.pad_w) / s.rate_w, q = x + s.pad_w - xb * s.rate_w;
        const int64_t block = (b * s.rate_h + p) * s.rate_w + q;
        const T* from = blocks + block * s.channels * block_plane + yb * s.block_width + xb;
        T* to = map + (b * s.channels * s.height + y) * s.width + x;
        copy_planes(from, block_plane, to, plane, s.channels);
      }
    }
  }
}

// Threads for copy_planes: as many along x as a row has items, the others of a block along the
// channels; as many blocks along these as fill the device, so that a thread has many planes.
template <class T>
cudaError_t launch_planes(void (*kernel)(const T*, T*, SpaceToBatchShape), int64_t row_items,
                          int64_t rows, int64_t images, const void* from, void* to,
                          const SpaceToBatchShape& s, void* stream) {
  if (row_items == 0 || rows == 0 || images == 0 || s.channels == 0) return cudaSuccess;
  const unsigned width = static_cast<unsigned>(std::min<int64_t>(row_items, kThreads));
  const dim3 block(width, kThreads / width);
  const auto y = static_cast<unsigned>(std::min(rows, kMaxGrid));
  const auto z = static_cast<unsigned>(std::min(images, kMaxGrid));
  const int64_t enough = strided_blocks(INT64_MAX / 2, kThreads) / (int64_t{y} * z) + 1;
  const int64_t most = (s.channels + block.y - 1) / block.y;
  const dim3 grid(static_cast<unsigned>(std::min(enough, most)), y, z);
  return launch(kernel, grid, block, 0, static_cast<cudaStream_t>(stream), from, to, s);
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
  return launch_planes(space_to_batch_kernel<T>, s.rate_w * s.block_width, s.block_height,
                       s.batch * s.rate_h, map, blocks, s, stream);
}

template <class T>
cudaError_t to_map(const void* blocks, void* map, const SpaceToBatchShape& s, void* stream) {
  return launch_planes(batch_to_space_kernel<T>, s.width, s.height, s.batch, blocks, map, s,
                       stream);
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
