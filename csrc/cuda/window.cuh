// Where the taps of a filter lie on a map, and which of them lie on it at all.
#pragma once
#include "cuda/compat.cuh"

namespace deeplab_native {

// Where the taps of pixel (y, x) of a grid lie on a map: row (y * step_h + offset_h + i * tap_h) /
// div_h for tap row i, nothing where that leaves a remainder or the map; columns alike.
struct Window {
  int height, width;            // of the map
  int grid_height, grid_width;  // pixels of the grid, in each of the batch's maps
  int kernel_h, kernel_w;
  int step_h, step_w, offset_h, offset_w, tap_h, tap_w, div_h, div_w;

  // The row, or column, of the map; -1 outside.
  __device__ static int on_map(int place, int div, int size) {
    if (place < 0) return -1;
    if (div != 1) {
      const int quotient = place / div;
      if (quotient * div != place) return -1;
      place = quotient;
    }
    return place < size ? place : -1;
  }

  // Whether tap (i, j) lies on the map, of a pixel whose y * step_h + offset_h and so on are given.
  __device__ bool reaches(int y, int x, int i, int j) const {
    return on_map(y + i * tap_h, div_h, height) >= 0 && on_map(x + j * tap_w, div_w, width) >= 0;
  }
};

// The taps that reach the map from at least one row of the tile; with more than 32 taps, all.
struct TapSet {
  uint32_t mask;
  int taps;

  __device__ bool has(int tap) const { return taps > 32 || mask >> tap & 1; }
  __device__ int count() const { return taps > 32 ? taps : __popc(mask); }
  __device__ int from(int tap) const {
    while (tap < taps && !has(tap)) ++tap;
    return tap;
  }
};

// reaches(i, j): whether tap (i, j) of any of this thread's pixels lies on the map.
template <class Reaches>
__device__ TapSet taps_in_reach(const Window& window, uint32_t* shared_mask,
                                const Reaches& reaches) {
  const int taps = window.kernel_h * window.kernel_w;
  if (taps > 32) return {0, taps};
  if (threadIdx.x == 0) *shared_mask = 0;
  __syncthreads();
  uint32_t mine = 0;
  for (int tap = 0, i = 0, j = 0; tap < taps; ++tap) {
    if (reaches(i, j)) mine |= 1u << tap;
    if (++j == window.kernel_w) j = 0, ++i;
  }
  if (mine != 0) atomicOr(shared_mask, mine);  // of bits: in any order the same
  __syncthreads();
  return {*shared_mask, taps};
}

}  // namespace deeplab_native
