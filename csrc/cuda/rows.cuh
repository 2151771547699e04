// Kernels that work row by row, a row to each row of threads of a block, so that the int64
// divisions which find a row are paid once a row and not once an item.
#pragma once
#include "cuda/compat.cuh"

namespace deeplab_native {

constexpr unsigned kRowThreads = 256;       // of a block
constexpr int64_t kMaxRowBlocks = 1 << 20;  // the kernels stride over what a grid does not reach

__device__ inline int64_t first_row() { return int64_t{blockIdx.x} * blockDim.y + threadIdx.y; }
__device__ inline int64_t row_step() { return int64_t{gridDim.x} * blockDim.y; }

// The threads of a block of kRowThreads, a row of channels to each `lanes` of them: how many are
// needed may be known on the device alone.
struct RowThreads {
  uint32_t lanes, rows;  // threads to a row, rows to a block
  uint32_t lane, row;    // this thread's; a row beyond the last has nothing to do

  __device__ explicit RowThreads(uint32_t chunks)
      : lanes(min(chunks, kRowThreads)),
        rows(kRowThreads / lanes),
        lane(threadIdx.x % lanes),
        row(threadIdx.x / lanes) {}
};

// f(row, offset) for every chunk of W channels of the rows from begin to end, a chunk to a thread.
// Rows and channels fit 31 bits: addresses of 32 bits take a third of the instructions.
template <int W, class F>
__device__ void each_chunk(int64_t begin, int64_t end, uint32_t channels, const F& f) {
  const RowThreads mine(channels / W);
  if (mine.row >= mine.rows) return;
  const uint32_t last = static_cast<uint32_t>(end), step = gridDim.x * mine.rows;
  const uint32_t first = static_cast<uint32_t>(begin) + blockIdx.x * mine.rows + mine.row;
  for (uint32_t offset = mine.lane * W; offset < channels; offset += mine.lanes * W) {
    for (uint32_t row = first; row < last; row += step) f(row, offset);
  }
}

// The grid for each_chunk: x for the rows; y and z as given. No more blocks in all than fill the
// device twice, or 64 along x: many that find nothing to do take as long as the work.
inline dim3 chunk_grid(int64_t rows, int64_t chunks, unsigned y, int64_t z) {
  const int64_t in_block = kRowThreads / std::min<int64_t>(chunks, kRowThreads);
  const unsigned filling =
      strided_blocks((rows + in_block - 1) / in_block * kRowThreads, kRowThreads);
  const int64_t others = std::max<int64_t>(1, y * z);
  const int64_t most =
      std::max<int64_t>(64, int64_t{strided_blocks(INT64_MAX / 2, kRowThreads)} * 2 / others);
  return dim3(static_cast<unsigned>(std::min<int64_t>(filling, most)), y,
              static_cast<unsigned>(std::min(z, kMaxGrid)));
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
