#include "ops/atrous_im2col.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "common/half.h"
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

// Calls body(b, c, plane, shape) for every channel of every image; plane is the channel's pixel
// (0, 0), shape its strides. Where the columns of the map are not adjacent (channels_last), as many
// channels as share a cache line are copied to planes of their own first, the rows that this window
// needs, and copied back if the body changes them: a channel by itself would read the whole line
// for each of its pixels, tap after tap.
template <bool kChanges, class T, class Body>
void for_each_plane(T* map, const AtrousIm2colShape& s, int num_threads, const Body& body) {
  const bool direct = s.map_stride[3] == 1;
  const int64_t together = direct ? 1 : std::min<int64_t>(s.channels, kCacheLine / sizeof(T));
  const int64_t groups = ceil_div(s.channels, together);
  const int64_t first = std::clamp<int64_t>(s.row_begin * s.stride_h - s.pad_h, 0, s.height);
  const int64_t last = std::clamp<int64_t>(
      (s.row_end - 1) * s.stride_h + (s.kernel_h - 1) * s.rate_h - s.pad_h + 1, first, s.height);
  // a line more, lest planes of 2^n bytes all fall on the same lines of the cache
  const int64_t plane = (last - first) * s.width + kCacheLine / sizeof(T);

  AtrousIm2colShape local = s;
  local.height = last - first;
  local.pad_h += first;
  local.map_stride = {0, plane, s.width, 1};
  const auto copy = [&](T* group, T* planes, int64_t channels, bool back) {
    for (int64_t y = 0; y < local.height; ++y) {
      for (int64_t x = 0; x < s.width; ++x) {
        T* pixel = group + (first + y) * s.map_stride[2] + x * s.map_stride[3];
        T* item = planes + y * s.width + x;
        for (int64_t c = 0; c < channels; ++c) {
          T& outside = pixel[c * s.map_stride[1]];
          T& inside = item[c * plane];
          back ? outside = inside : inside = outside;
        }
      }
    }
  };

  const int64_t unit_bytes = together * s.window_rows() * s.window_cols() * sizeof(T);
  const int64_t grain = kGrainBytes / std::max<int64_t>(1, unit_bytes);
  parallel_for(num_threads, s.batch * groups, grain, [&](int64_t begin, int64_t end) {
    std::vector<T> planes(direct ? 0 : together * plane);
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t b = unit / groups, channel = unit % groups * together;
      const int64_t channels = std::min(together, s.channels - channel);
      T* group = map + b * s.map_stride[0] + channel * s.map_stride[1];
      if (direct) {
        body(b, channel, group, s);
        continue;
      }
      copy(group, planes.data(), channels, false);
      for (int64_t c = 0; c < channels; ++c) body(b, channel + c, &planes[c * plane], local);
      if (kChanges) copy(group, planes.data(), channels, true);
    }
  });
}

// One tap of one channel: its row of the columns, in the pixels of the window.
template <class T>
void im2col_tap(const T* plane, T* columns, const AtrousIm2colShape& s, int64_t i, int64_t j) {
  const int64_t offset_y = i * s.rate_h - s.pad_h, offset_x = j * s.rate_w - s.pad_w;
  const Range xs = inside(s.col_begin, s.col_end, s.stride_w, offset_x, s.width);
  const int64_t count = xs.end - xs.begin;
  for (int64_t y = s.row_begin; y < s.row_end; ++y, columns += s.window_cols()) {
    const int64_t map_y = y * s.stride_h + offset_y;
    if (map_y < 0 || map_y >= s.height || count == 0) {
      std::memset(columns, 0, s.window_cols() * sizeof(T));
      continue;
    }
    const T* from = plane + map_y * s.map_stride[2] + xs.begin * s.stride_w + offset_x;
    T* to = std::fill_n(columns, xs.begin - s.col_begin, T(0));
    if (s.stride_w == 1) {
      std::memcpy(to, from, count * sizeof(T));
    } else {
      for (int64_t x = 0; x < count; ++x) to[x] = from[x * s.stride_w];
    }
    std::fill_n(to + count, s.col_end - xs.end, T(0));
  }
}

template <class T>
void im2col(const void* map, void* columns, const AtrousIm2colShape& s, int num_threads) {
  const int64_t taps = s.kernel_h * s.kernel_w;
  const int64_t pixels = s.window_rows() * s.window_cols();
  for_each_plane<false>(const_cast<T*>(static_cast<const T*>(map)), s, num_threads,
                        [&](int64_t b, int64_t c, const T* plane, const AtrousIm2colShape& shape) {
                          T* tap = static_cast<T*>(columns) + (b * s.channels + c) * taps * pixels;
                          for (int64_t i = 0; i < s.kernel_h; ++i) {
                            for (int64_t j = 0; j < s.kernel_w; ++j, tap += pixels) {
                              im2col_tap(plane, tap, shape, i, j);
                            }
                          }
                        });
}

// Adds to one row of one channel of the map what the taps took from it.
template <class Column, class Map>
void gather_row(const Column* columns, Map* row, const AtrousIm2colShape& s, int64_t map_y) {
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
      Map* to = row + xs.begin * s.stride_w + offset_x;
      const int64_t count = xs.end - xs.begin;
      if (s.stride_w == 1) {
        for (int64_t x = 0; x < count; ++x) to[x] += from[x];
      } else {
        for (int64_t x = 0; x < count; ++x) to[x * s.stride_w] += from[x];
      }
    }
  }
}

template <class Column, class Map>
void col2im(const void* columns, void* map, const AtrousIm2colShape& s, int num_threads) {
  const int64_t channel_columns = s.kernel_h * s.kernel_w * s.window_rows() * s.window_cols();
  for_each_plane<true>(static_cast<Map*>(map), s, num_threads,
                       [&](int64_t b, int64_t c, Map* plane, const AtrousIm2colShape& shape) {
                         const Column* from = static_cast<const Column*>(columns) +
                                              (b * s.channels + c) * channel_columns;
                         for (int64_t y = 0; y < shape.height; ++y) {
                           gather_row(from, plane + y * shape.map_stride[2], shape, y);
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
                       FloatType type, int num_threads) {
  switch (type) {
    case FloatType::kFloat32:
      return col2im<float, float>(columns, map, shape, num_threads);
    case FloatType::kFloat64:
      return col2im<double, double>(columns, map, shape, num_threads);
    case FloatType::kBfloat16:
      return col2im<Bfloat16, float>(columns, map, shape, num_threads);
    case FloatType::kFloat16:
      return col2im<Float16, float>(columns, map, shape, num_threads);
  }
}

}  // namespace deeplab_native
