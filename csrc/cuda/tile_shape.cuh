// Tiles of the matrix products: what a block of threads computes at a time, and how the tiles of
// the two factors lie in shared memory.
//
// A factor's tile is `items` x `vectors`: an item is a pixel or a filter, a vector 16 bytes of its
// channels, as they are loaded. One vector of padding after each item keeps the 128-bit accesses of
// neighbouring items on different banks. The sum of a product runs either along the channels
// (kAlongChannels; the items of the factors are the rows and columns of the result) or along the
// items, pixels then (the channels of the factors are the rows and columns).
#pragma once
#include "common/half.h"
#include "cuda/compat.cuh"

namespace deeplab_native {

constexpr int kWarpLanes = 32;
constexpr int kStepVectors = 4;  // of channels, that one step along the channels multiplies

template <class T>
constexpr int kVectorItems = 16 / sizeof(T);
template <class T>
constexpr int kStepDepth = kStepVectors * kVectorItems<T>;  // terms of a sum in one step

// Rows and columns of the result, of a block and of each of its warps.
template <int rows, int cols, int warp_rows, int warp_cols>
struct TileShape {
  static constexpr int kRows = rows, kCols = cols;
  static constexpr int kWarpRows = warp_rows, kWarpCols = warp_cols;
  static constexpr int kWarpsAcross = cols / warp_cols;
  static constexpr int kThreads = rows / warp_rows * kWarpsAcross * kWarpLanes;
};
// In the order of DirectPlan::tile.
using LargeTile = TileShape<128, 128, 32, 64>;
using SmallTile = TileShape<64, 64, 32, 32>;
using NarrowTile = TileShape<128, 32, 32, 32>;  // for a score map of few classes

// The tile of one factor that covers `extent` rows or columns of the result.
template <class T, bool kAlongChannels, int extent>
struct FactorTile {
  static constexpr int kItems = kAlongChannels ? extent : kStepDepth<T>;
  static constexpr int kVectors = kAlongChannels ? kStepVectors : extent / kVectorItems<T>;
  static constexpr int kPitch = (kVectors + 1) * kVectorItems<T>;  // elements from item to item
  static constexpr int kSize = kItems * kPitch;
};

// The result leaves the registers by patches of 16 x 32, through shared memory.
constexpr int kPatchRows = 16, kPatchCols = 32, kPatchPitch = kPatchCols + 4;

// Shared memory of a block: two buffers of both factors' tiles, and later the warps' patches.
template <class T, class Tile, bool kAlongChannels>
struct alignas(32) SharedBytes {  // 32: of a fragment's rows for the tensor cores
  static constexpr int kA = FactorTile<T, kAlongChannels, Tile::kRows>::kSize;
  static constexpr int kB = FactorTile<T, kAlongChannels, Tile::kCols>::kSize;
  static constexpr int kBuffers = 2 * (kA + kB) * sizeof(T);
  static constexpr int kPatches =
      Tile::kThreads / kWarpLanes * kPatchRows * kPatchPitch * sizeof(typename Number<T>::Sum);
  unsigned char bytes[kBuffers > kPatches ? kBuffers : kPatches];
};

}  // namespace deeplab_native
