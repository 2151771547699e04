// A contiguous map to channels_last and back, for products that want the other layout: matrices
// whose rows are an odd number of 2-byte elements long are multiplied at a quarter of the speed.
//
// A block moves tiles of 128 bytes of `to` by 256 bytes of `from` through shared memory, so that
// warps read and write adjacent elements, whole sectors but for those at the ends of rows that are
// not aligned. Rows of the tile are an odd number of 4-byte banks apart: neither way has conflicts.
#include <algorithm>

#include "cuda/compat.cuh"
#include "ops/aspp.h"

namespace deeplab_native {
namespace {

constexpr unsigned kThreads = 256, kLanes = 32, kWarps = kThreads / kLanes;

template <class T>
struct TransposeTile {
  static constexpr int kRows = 128 / sizeof(T), kColumns = 256 / sizeof(T);
  static constexpr int kPitch = kRows + 4 / sizeof(T);
  alignas(16) T items[kColumns * kPitch];
};

// T: an unsigned integer of the element's size. Pair: two of them where rows is even, so that they
// are aligned in `to`, else T.
template <class T, class Pair>
__global__ void __launch_bounds__(kThreads, 4)  // registers for all loads of a batch
    aspp_transpose_kernel(const T* __restrict__ from, T* __restrict__ to, AsppTransposeShape s) {
  using Tile = TransposeTile<T>;
  constexpr int kItems = sizeof(Pair) / sizeof(T), kRowPairs = Tile::kRows / kItems;
  __shared__ Tile tile;
  constexpr int kAcross = Tile::kColumns / static_cast<int>(kLanes), kBatch = 4;
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  const int64_t row_tiles = (s.rows + Tile::kRows - 1) / Tile::kRows;
  const int64_t column_tiles = (s.columns + Tile::kColumns - 1) / Tile::kColumns;
  const int64_t tiles = s.batch * row_tiles * column_tiles;
  for (int64_t i = blockIdx.x; i < tiles; i += gridDim.x) {
    // neighbours in columns one after the other: they share the sectors at their ends
    const int64_t b = i / (row_tiles * column_tiles), of_image = i - b * row_tiles * column_tiles;
    const int64_t first_row = of_image / column_tiles * Tile::kRows;
    const int64_t first_column = of_image % column_tiles * Tile::kColumns;
    const int rows = static_cast<int>(min(int64_t{Tile::kRows}, s.rows - first_row));
    const int columns = static_cast<int>(min(int64_t{Tile::kColumns}, s.columns - first_column));
    const T* source = from + (b * s.rows + first_row) * s.columns + first_column;
#pragma unroll
    for (int r = 0; r < Tile::kRows; r += kBatch * static_cast<int>(kWarps)) {
      T items[kBatch][kAcross];  // so that all are on their way at once
#pragma unroll
      for (int j = 0; j < kBatch; ++j) {
        const int row = r + j * static_cast<int>(kWarps) + warp;
#pragma unroll
        for (int c = 0; c < kAcross; ++c) {
          const int column = c * static_cast<int>(kLanes) + lane;
          const bool inside = row < rows && column < columns;
          items[j][c] = inside ? source[row * s.columns + column] : T{};
        }
      }
#pragma unroll
      for (int j = 0; j < kBatch; ++j) {
        const int row = r + j * static_cast<int>(kWarps) + warp;
#pragma unroll
        for (int c = 0; c < kAcross; ++c) {
          tile.items[(c * static_cast<int>(kLanes) + lane) * Tile::kPitch + row] = items[j][c];
        }
      }
    }
    __syncthreads();
    const int row = static_cast<int>(threadIdx.x) % kRowPairs * kItems;
    constexpr int kStep = static_cast<int>(kThreads) / kRowPairs;
    T* target = to + (b * s.columns + first_column) * s.rows + first_row + row;
    if (row < rows) {
#pragma unroll 4
      for (int c = static_cast<int>(threadIdx.x) / kRowPairs; c < columns; c += kStep) {
        *reinterpret_cast<Pair*>(target + c * s.rows) =
            *reinterpret_cast<const Pair*>(tile.items + c * Tile::kPitch + row);
      }
    }
    __syncthreads();
  }
}

template <class T, class Pair>
cudaError_t transpose(const void* from, void* to, const AsppTransposeShape& s, void* stream) {
  using Tile = TransposeTile<T>;
  const int64_t tiles = s.batch * ((s.rows + Tile::kRows - 1) / Tile::kRows) *
                        ((s.columns + Tile::kColumns - 1) / Tile::kColumns);
  if (tiles == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(std::min<int64_t>(tiles, INT32_MAX)));
  return launch(aspp_transpose_kernel<T, Pair>, grid, dim3(kThreads), 0,
                static_cast<cudaStream_t>(stream), static_cast<const T*>(from), static_cast<T*>(to),
                s);
}

}  // namespace

int aspp_transpose_cuda(const void* from, void* to, const AsppTransposeShape& s, FloatType type,
                        void* stream) {
  if (type == FloatType::kFloat64) return cudaErrorInvalidValue;
  if (type == FloatType::kFloat32) return transpose<uint32_t, uint32_t>(from, to, s, stream);
  const bool pairs = s.rows % 2 == 0 && reinterpret_cast<uintptr_t>(to) % 4 == 0;
  return pairs ? transpose<uint16_t, uint32_t>(from, to, s, stream)
               : transpose<uint16_t, uint16_t>(from, to, s, stream);
}

}  // namespace deeplab_native
