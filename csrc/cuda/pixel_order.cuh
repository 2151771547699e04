// Which pixel of an image a point is.
#pragma once
#include <algorithm>

#include "cuda/compat.cuh"
#include "ops/permutohedral.h"

namespace deeplab_native {

// The pixels of an image go through tiles of tile x tile of them, strip after strip, row by row
// within a tile; those at the right and at the bottom are smaller. What lies together in the image
// touches the same vertices of a lattice: their rows are then still in the cache.
class PixelOrder {
 public:
  PixelOrder(const CudaPixelOrder& order, int64_t num_points)
      : width_(static_cast<uint32_t>(order.tile > 0 ? order.width : 0)),
        tile_(static_cast<uint32_t>(order.tile)),
        height_(static_cast<uint32_t>(width_ > 0 ? num_points / width_ : 0)) {}

  // The pixel, row by row, that point p is; p itself where the points are in no image.
  __device__ uint32_t pixel(uint32_t p) const {
    if (width_ == 0) return p;
    const uint32_t strip = p / (tile_ * width_), in_strip = p - strip * tile_ * width_;
    const uint32_t rows = min(tile_, height_ - strip * tile_);
    const uint32_t column = in_strip / (rows * tile_), in_tile = in_strip - column * rows * tile_;
    const uint32_t columns = min(tile_, width_ - column * tile_), row = in_tile / columns;
    return (strip * tile_ + row) * width_ + column * tile_ + in_tile - row * columns;
  }

 private:
  uint32_t width_, tile_, height_;
};

}  // namespace deeplab_native
