// Kernels that work row by row, a row to each row of threads of a block, so that the int64
// divisions which find a row are paid once a row and not once an item.
#pragma once
#include "cuda/compat.cuh"

namespace deeplab_native {

constexpr unsigned kRowThreads = 256;       // of a block
constexpr int64_t kMaxRowBlocks = 1 << 20;  // the kernels stride over what a grid does not reach

__device__ inline int64_t first_row() { return int64_t{blockIdx.x} * blockDim.y + threadIdx.y; }
__device__ inline int64_t row_step() { return int64_t{gridDim.x} * blockDim.y; }

// f(row, offset) for every chunk of W channels of the rows from begin to end, a chunk to
// threadIdx.x. Rows and channels fit 31 bits: addresses of 32 bits take a third of the
// instructions.
template <int W, class F>
__device__ void each_chunk(int64_t begin, int64_t end, int64_t width, const F& f) {
  const uint32_t last = static_cast<uint32_t>(end), step = gridDim.x * blockDim.y;
  const uint32_t channels = static_cast<uint32_t>(width);
  const uint32_t first = static_cast<uint32_t>(begin) + blockIdx.x * blockDim.y + threadIdx.y;
  for (uint32_t offset = threadIdx.x * W; offset < channels; offset += blockDim.x * W) {
    for (uint32_t row = first; row < last; row += step) f(row, offset);
  }
}

// The grid for each_chunk: x for the rows, as many blocks as fill the device; y and z as given.
struct ChunkGrid {
  dim3 block, grid;
};
inline ChunkGrid chunk_grid(int64_t rows, int64_t chunks, unsigned y, int64_t z) {
  const unsigned width = static_cast<unsigned>(std::min<int64_t>(chunks, kRowThreads));
  const dim3 block(width, kRowThreads / width);
  const unsigned blocks = strided_blocks((rows + block.y - 1) / block.y * kRowThreads, kRowThreads);
  return {block, dim3(blocks, y, static_cast<unsigned>(std::min(z, kMaxGrid)))};
}

// As many threads along a row as it has items, in powers of two, and as many rows as then fit.
template <class... Parameters, class... Arguments>
cudaError_t launch_rows(void (*kernel)(Parameters...), int64_t rows, int64_t row_items,
                        void* stream, Arguments... args) {
  if (rows == 0 || row_items == 0) return cudaSuccess;
  unsigned width = 1;
  while (width < kRowThreads && width < row_items) width *= 2;
  const dim3 block(width, kRowThreads / width);
  const int64_t grid = std::min(kMaxRowBlocks, (rows + block.y - 1) / block.y);
  return launch(kernel, dim3(static_cast<unsigned>(grid)), block, 0,
                static_cast<cudaStream_t>(stream), args...);
}

}  // namespace deeplab_native
