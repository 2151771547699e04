#include "ops/atrous_im2col.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <stdexcept>

#include "common/index.h"
#include "common/parallel.h"

namespace deeplab_native {
namespace {

constexpr int64_t kCacheLine = 64;

struct Range {
  int64_t begin, end;
};

// The x of [begin, end) with 0 <= x * stride + offset < size: where one tap reads inside the map.
// Found once per tap, so that the inner loops need no comparison.
Range inside(int64_t begin, int64_t end, int64_t stride, int64_t offset, int64_t size) {
  const int64_t first = std::clamp(ceil_div(-offset, stride), begin, end);
  const int64_t last = std::clamp(ceil_div(size - offset, stride), first, end);
  return {first, last};
}

// Channels handled together. In a channels_last map the next pixel of a channel is far away, but
// its neighbours in the same cache line are the next channels of this pixel.
int64_t channels_at_once(const AtrousIm2colShape& s, int64_t element_size) {
  return s.map_stride[3] == 1 ? 1 : std::min(s.channels, kCacheLine / element_size);
}

template <class T>
void im2col_tap(const T* map, T* columns, const AtrousIm2colShape& s, int64_t b, Range channels,
                int64_t i, int64_t j) {
  const int64_t offset_y = i * s.rate_h - s.pad_h, offset_x = j * s.rate_w - s.pad_w;
  const Range xs = inside(s.col_begin, s.col_end, s.stride_w, offset_x, s.width);
  const int64_t count = xs.end - xs.begin;
  const int64_t step = s.stride_w * s.map_stride[3];
  const int64_t taps = s.kernel_h * s.kernel_w;
  const int64_t pixels = s.window_rows() * s.window_cols();
  for (int64_t y = s.row_begin; y < s.row_end; ++y) {
    const int64_t map_y = y * s.stride_h + offset_y;
    const bool outside = map_y < 0 || map_y >= s.height || count == 0;
    for (int64_t c = channels.begin; c < channels.end; ++c) {
      T* row = columns + ((b * s.channels + c) * taps + i * s.kernel_w + j) * pixels +
               (y - s.row_begin) * s.window_cols();
      if (outside) {
        std::memset(row, 0, s.window_cols() * sizeof(T));
        continue;
      }
      const T* from = map + b * s.map_stride[0] + c * s.map_stride[1] + map_y * s.map_stride[2] +
                      (xs.begin * s.stride_w + offset_x) * s.map_stride[3];
      T* to = std::fill_n(row, xs.begin - s.col_begin, T(0));
      if (step == 1) {
        std::memcpy(to, from, count * sizeof(T));
      } else {
        for (int64_t x = 0; x < count; ++x) to[x] = from[x * step];
      }
      std::fill_n(to + count, s.col_end - xs.end, T(0));
    }
  }
}

template <class T>
void im2col(const void* map, void* columns, const AtrousIm2colShape& s, int num_threads) {
  const int64_t taps = s.kernel_h * s.kernel_w;
  const int64_t together = channels_at_once(s, sizeof(T));
  const int64_t groups = ceil_div(s.channels, together);
  const int64_t unit_bytes = together * s.window_rows() * s.window_cols() * sizeof(T);
  const int64_t grain = kGrainBytes / std::max<int64_t>(1, unit_bytes);
  parallel_for(num_threads, s.batch * groups * taps, grain, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t tap = unit % taps, group = unit / taps % groups, b = unit / taps / groups;
      const Range channels{group * together, std::min(s.channels, (group + 1) * together)};
      im2col_tap(static_cast<const T*>(map), static_cast<T*>(columns), s, b, channels,
                 tap / s.kernel_w, tap % s.kernel_w);
    }
  });
}

// bfloat16 and half are storage types here: their sums are float.
struct Bfloat16 {
  uint16_t bits;
  operator float() const { return std::bit_cast<float>(uint32_t(bits) << 16); }
};

struct Float16 {
  uint16_t bits;
  operator float() const {
    const uint32_t magnitude = uint32_t(bits & 0x7fff) << 13;
    // Times 2^112 moves the exponent from half's bias to float's, for subnormal numbers as well.
    const float value = (bits & 0x7c00) == 0x7c00
                            ? std::bit_cast<float>(magnitude | 0x7f800000u)  // infinity, NaN
                            : std::bit_cast<float>(magnitude) * 0x1p112f;
    return bits & 0x8000 ? -value : value;
  }
};

// Adds to one row of one channel of the map what the taps took from it.
template <class Column, class Map>
void gather_row(const Column* columns, Map* row, const AtrousIm2colShape& s, int64_t map_y) {
  const int64_t step = s.stride_w * s.map_stride[3];
  const int64_t pixels = s.window_rows() * s.window_cols();
  for (int64_t i = 0; i < s.kernel_h; ++i) {
    const int64_t stretched_y = map_y + s.pad_h - i * s.rate_h;
    const int64_t y = floor_div(stretched_y, s.stride_h);
    if (y * s.stride_h != stretched_y || y < s.row_begin || y >= s.row_end) continue;
    for (int64_t j = 0; j < s.kernel_w; ++j) {
      const int64_t offset_x = j * s.rate_w - s.pad_w;
      const Range xs = inside(s.col_begin, s.col_end, s.stride_w, offset_x, s.width);
      if (xs.begin == xs.end) continue;
      const Column* from = columns + (i * s.kernel_w + j) * pixels +
                           (y - s.row_begin) * s.window_cols() + xs.begin - s.col_begin;
      Map* to = row + (xs.begin * s.stride_w + offset_x) * s.map_stride[3];
      const int64_t count = xs.end - xs.begin;
      if (step == 1) {
        for (int64_t x = 0; x < count; ++x) to[x] += from[x];
      } else {
        for (int64_t x = 0; x < count; ++x) to[x * step] += from[x];
      }
    }
  }
}

template <class Column, class Map>
void col2im(const void* columns, void* map, const AtrousIm2colShape& s, int num_threads) {
  const int64_t channel_columns = s.kernel_h * s.kernel_w * s.window_rows() * s.window_cols();
  const int64_t together = channels_at_once(s, sizeof(Map));
  const int64_t groups = ceil_div(s.channels, together);
  const int64_t grain = kGrainBytes / std::max<int64_t>(1, together * s.width * sizeof(Map));
  parallel_for(num_threads, s.batch * groups * s.height, grain, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t y = unit % s.height, group = unit / s.height % groups;
      const int64_t b = unit / s.height / groups;
      const int64_t last = std::min(s.channels, (group + 1) * together);
      for (int64_t c = group * together; c < last; ++c) {
        gather_row(static_cast<const Column*>(columns) + (b * s.channels + c) * channel_columns,
                   static_cast<Map*>(map) + b * s.map_stride[0] + c * s.map_stride[1] +
                       y * s.map_stride[2],
                   s, y);
      }
    }
  });
}

}  // namespace

void atrous_im2col_cpu(const void* map, void* columns, const AtrousIm2colShape& shape,
                       int element_size, int num_threads) {
  switch (element_size) {
    case 2:
      return im2col<uint16_t>(map, columns, shape, num_threads);
    case 4:
      return im2col<uint32_t>(map, columns, shape, num_threads);
    case 8:
      return im2col<uint64_t>(map, columns, shape, num_threads);
  }
  throw std::invalid_argument("atrous_im2col: element_size must be 2, 4 or 8");
}

void atrous_col2im_cpu(const void* columns, void* map, const AtrousIm2colShape& shape,
                       ColumnType type, int num_threads) {
  switch (type) {
    case ColumnType::kFloat32:
      return col2im<float, float>(columns, map, shape, num_threads);
    case ColumnType::kFloat64:
      return col2im<double, double>(columns, map, shape, num_threads);
    case ColumnType::kBfloat16:
      return col2im<Bfloat16, float>(columns, map, shape, num_threads);
    case ColumnType::kFloat16:
      return col2im<Float16, float>(columns, map, shape, num_threads);
  }
}

}  // namespace deeplab_native
