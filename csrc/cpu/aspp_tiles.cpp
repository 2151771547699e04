#include "cpu/aspp_tiles.h"

#include <algorithm>

namespace deeplab_native {
namespace {

// Rows of the bands that tiles are cut from; measured with the paper's rates, multiples of 6.
constexpr int64_t kBandRows = 6;

}  // namespace

std::vector<Tile> make_tiles(int64_t height, int64_t width, const std::vector<TapOffset>& taps,
                             int64_t pixels) {
  std::vector<Tile> tiles;
  std::vector<Run> open;  // of the rows of the band
  int64_t taken = 0;
  const auto close = [&] {
    Tile tile;
    int64_t lane = 0;
    for (Run& run : open) {
      if (run.length == 0) continue;
      run.lane = lane;
      lane += run.length;
      tile.runs.push_back(run);
    }
    for (size_t t = 0; t < taps.size(); ++t) {
      const bool live = std::any_of(tile.runs.begin(), tile.runs.end(), [&](const Run& run) {
        const int64_t y = run.y - taps[t].dy, x = run.x - taps[t].dx;
        return y >= 0 && y < height && x + run.length > 0 && x < width;
      });
      if (live) tile.taps.push_back(static_cast<int64_t>(t));
    }
    tiles.push_back(std::move(tile));
    open.clear();
    taken = 0;
  };
  const int64_t bands = std::max<int64_t>(1, (height + kBandRows / 2) / kBandRows);
  for (int64_t band = 0; band < bands; ++band) {
    const int64_t top = height * band / bands, bottom = height * (band + 1) / bands;
    size_t first = open.size();  // of this band's runs: a tile may go on from the last band
    for (int64_t i = 0; i < width; ++i) {
      const int64_t x = band % 2 ? width - 1 - i : i;
      for (int64_t y = top; y < bottom; ++y) {
        if (open.size() == first) {
          for (int64_t row = top; row < bottom; ++row) open.push_back({row, x, 0, 0});
        }
        Run& run = open[first + y - top];
        run.x = run.length == 0 ? x : std::min(run.x, x);
        ++run.length;
        if (++taken == pixels) {
          close();
          first = 0;
        }
      }
    }
  }
  if (taken > 0) close();
  return tiles;
}

}  // namespace deeplab_native
