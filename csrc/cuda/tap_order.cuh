// In what order the pixels of a grid are the rows of a product, so that tiles of them have as few
// taps on the map as there can be.
//
// Where a tap leaves the map, it leaves it for a whole range of rows and of columns: these ranges
// cut the grid into rectangles whose pixels have all the same taps on the map (9 of them for 3 x 3
// taps). The pixels go rectangle by rectangle, in each of them image by image and row by row: only
// a tile across two rectangles has taps that some of its pixels do not need. 41 x 41 pixels at rate
// 12, 8 images, tiles of 256: 0.68 of all taps instead of 0.86; at least 0.65 are needed.
#pragma once
#include "cuda/window.cuh"

namespace deeplab_native {

constexpr int kMaxRanges = 12;  // of an axis; more taps than these tell apart are not told apart

// The cuts of one axis: range r is [cut[r], cut[r + 1]).
struct Ranges {
  int count;
  int cut[kMaxRanges + 1];

  // The range that `place` lies in.
  __device__ int of(int place) const {
    int r = 0;
    while (r + 1 < count && cut[r + 1] <= place) ++r;
    return r;
  }
  __device__ int size(int r) const { return cut[r + 1] - cut[r]; }
};

struct Pixel {
  int image, y, x;
};

struct TapOrder {
  int images, height, width;  // pixels of all images together: less than 2^31
  Ranges rows, cols;

  // Pixel number `place`.
  __device__ Pixel pixel(int place) const {
    const int line = images * width;
    const int i = rows.of(place / line);
    const int height_of = rows.size(i);
    place -= rows.cut[i] * line;
    const int j = cols.of(place / (images * height_of));
    const int width_of = cols.size(j);
    place -= cols.cut[j] * images * height_of;
    const int row = place / width_of;
    const int image = row / height_of;
    return {image, rows.cut[i] + row - image * height_of, cols.cut[j] + place - row * width_of};
  }
};

// The ranges of an axis of `grid` pixels whose taps lie at pixel * step + offset + i * tap, on the
// map from 0 up to `size` (times the division of Window); one range where there are too many.
inline Ranges ranges_of_taps(int grid, int64_t step, int64_t offset, int64_t tap, int taps,
                             int64_t size) {
  Ranges ranges{1, {0, grid}};
  const auto add_cut = [&](int64_t place) {  // the first pixel at or beyond it; kept in order
    if (place <= 0) return true;
    const int64_t cut = (place + step - 1) / step;
    if (cut >= grid) return true;
    int r = 1;
    while (ranges.cut[r] < cut) ++r;
    if (ranges.cut[r] == cut) return true;
    if (ranges.count == kMaxRanges) return false;
    for (int later = ++ranges.count; later > r; --later) ranges.cut[later] = ranges.cut[later - 1];
    ranges.cut[r] = static_cast<int>(cut);
    return true;
  };
  for (int i = 0; i < taps; ++i) {
    if (!add_cut(-offset - i * tap) || !add_cut(size - offset - i * tap)) return {1, {0, grid}};
  }
  return ranges;
}

}  // namespace deeplab_native
