// The tiles that the taps' product on the CPU works on.
#pragma once
#include <cstdint>
#include <vector>

#include "ops/aspp.h"

namespace deeplab_native {

// Neighbours in a row of the map, that lie one after the other in the tile, too.
struct Run {
  int64_t y, x, length, lane;
};
struct Tile {
  std::vector<Run> runs;
  std::vector<int64_t> taps;  // that carry a pixel of the tile into the map
};

// Bands of rows, walked column by column, to and fro, and cut every `pixels` pixels: every tile but
// the last is full, and all are about square.
std::vector<Tile> make_tiles(int64_t height, int64_t width, const std::vector<TapOffset>& taps,
                             int64_t pixels);

}  // namespace deeplab_native
