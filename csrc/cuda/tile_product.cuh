// The loop that all products of the direct convolution share, and the way of their results to
// memory.
#pragma once
#include "cuda/tile_loader.cuh"

namespace deeplab_native {

// Where the result of a product goes. Row r and column c lie at r / batch_rows * batch_stride +
// r % batch_rows * row_stride + c * col_stride.
template <class T>
struct Result {
  T* data;
  typename Number<T>::Sum* partial;  // instead, where the sums are cut into parts: `size` of each
  const T* bias;                     // of a column; or null
  int64_t size;
  int64_t rows, cols;
  int64_t batch_rows, batch_stride, row_stride, col_stride;
};

// Steps [begin, end) that part `part` of `parts` sums up, of `steps`: equal shares, in order.
struct Share {
  int64_t begin, end;
  __device__ Share(int64_t steps, int part, int parts)
      : begin(steps * part / parts), end(steps * (part + 1) / parts) {}
};

template <class T, class Tile, bool kAlongChannels>
struct Buffers {
  using Sizes = SharedBytes<T, Tile, kAlongChannels>;
  T* start;
  __device__ T* a(int which) const { return start + which * (Sizes::kA + Sizes::kB); }
  __device__ T* b(int which) const { return a(which) + Sizes::kA; }
};

template <class Tile>
__device__ inline int warp_row() {
  return threadIdx.x / kWarpLanes / Tile::kWarpsAcross * Tile::kWarpRows;
}
template <class Tile>
__device__ inline int warp_col() {
  return threadIdx.x / kWarpLanes % Tile::kWarpsAcross * Tile::kWarpCols;
}

// Adds `steps` steps to the sums. fetch(step) starts the loads of a step, put(a, b) writes what
// they brought to the tiles. The tiles are buffered twice, so one barrier a step is enough: whoever
// passes it has read the buffer that the next step writes.
template <class T, class Tile, bool kAlongChannels, class Sums, class Fetch, class Put>
__device__ void multiply(Sums& sums, const Buffers<T, Tile, kAlongChannels>& buffers, int64_t steps,
                         const Fetch& fetch, const Put& put) {
  constexpr int kPitchA = FactorTile<T, kAlongChannels, Tile::kRows>::kPitch;
  constexpr int kPitchB = FactorTile<T, kAlongChannels, Tile::kCols>::kPitch;
  const int a = warp_row<Tile>() * (kAlongChannels ? kPitchA : 1);
  const int b = warp_col<Tile>() * (kAlongChannels ? kPitchB : 1);
  if (steps > 0) {
    fetch();
    put(buffers.a(0), buffers.b(0));
  }
  __syncthreads();
  int which = 0;
  for (int64_t step = 0; step < steps; ++step) {
    const bool more = step + 1 < steps;
    if (more) fetch();
    sums.add(buffers.a(which) + a, buffers.b(which) + b);
    which ^= 1;
    if (more) put(buffers.a(which), buffers.b(which));
    __syncthreads();
  }
}

// One patch of a warp to memory, the lanes along what is adjacent there.
template <class T>
__device__ void write_patch(const typename Number<T>::Sum* patch, const Result<T>& to, int64_t row0,
                            int64_t col0, int part) {
  const int lane = threadIdx.x % kWarpLanes;
  const bool along_rows = to.row_stride == 1;
  int row = along_rows ? lane % kPatchRows : 0;
  int col = along_rows ? lane / kPatchRows : lane;
  const int64_t r = row0 + row;
  // where all rows follow each other, batch_rows is all of them: no division
  const int64_t b = to.batch_rows < to.rows ? r / to.batch_rows : 0;
  int64_t at =
      b * to.batch_stride + (r - b * to.batch_rows) * to.row_stride + (col0 + col) * to.col_stride;
  int64_t in_batch = r - b * to.batch_rows;
#pragma unroll 4
  for (int e = 0; e < kPatchRows; ++e) {
    if (row0 + row < to.rows && col0 + col < to.cols) {
      auto sum = patch[row * kPatchPitch + col];
      if (to.bias != nullptr && part == 0) sum += to.bias[col0 + col];
      if (to.partial != nullptr) {
        to.partial[part * to.size + at] = sum;
      } else {
        to.data[at] = Number<T>::from(sum);
      }
    }
    if (along_rows) {
      col += kWarpLanes / kPatchRows;
      at += kWarpLanes / kPatchRows * to.col_stride;
      continue;
    }
    ++row;
    at += to.row_stride;
    if (++in_batch == to.batch_rows) {  // on to the next map
      in_batch = 0;
      at += to.batch_stride - to.batch_rows * to.row_stride;
    }
  }
}

template <class T, class Tile, class Sums, int i, int j>
__device__ void write_patches(const Sums& sums, typename Number<T>::Sum* patch, const Result<T>& to,
                              int64_t row0, int64_t col0, int part) {
  sums.template store<i, j>(patch);
  __syncwarp();
  write_patch(patch, to, row0 + i * kPatchRows, col0 + j * kPatchCols, part);
  __syncwarp();
  if constexpr ((j + 1) * kPatchCols < Tile::kWarpCols) {
    write_patches<T, Tile, Sums, i, j + 1>(sums, patch, to, row0, col0, part);
  } else if constexpr ((i + 1) * kPatchRows < Tile::kWarpRows) {
    write_patches<T, Tile, Sums, i + 1, 0>(sums, patch, to, row0, col0, part);
  }
}

// The sums of the block's tile at (row0, col0) to memory; `shared` is free for patches by now.
template <class T, class Tile, class Sums>
__device__ void write_tile(const Sums& sums, void* shared, const Result<T>& to, int64_t row0,
                           int64_t col0, int part) {
  auto* patch = static_cast<typename Number<T>::Sum*>(shared) +
                threadIdx.x / kWarpLanes * (kPatchRows * kPatchPitch);
  write_patches<T, Tile, Sums, 0, 0>(sums, patch, to, row0 + warp_row<Tile>(),
                                     col0 + warp_col<Tile>(), part);
}

}  // namespace deeplab_native
