// Every row of the output gathers its own sum, tap after tap in their order, so the result depends
// neither on the number of threads nor on the run. The row's sums stay in the first-level cache.
#include "ops/aspp.h"

#include <algorithm>
#include <cstring>

#include "common/parallel.h"

namespace deeplab_native {
namespace {

struct Range {
  int64_t begin, end;
};

// The x of a row of n pixels for which x + distance lies in the row, too.
Range inside(int64_t distance, int64_t n) {
  const int64_t begin = std::clamp<int64_t>(-distance, 0, n);
  return {begin, std::clamp<int64_t>(n - distance, begin, n)};
}

// Where rows and taps lie. A row is that of one channel in planes, of all channels in
// channels_last maps; `items` of them are one pixel.
struct Rows {
  Rows(const AsppShape& s, int64_t taps)
      : height(s.height),
        width(s.width),
        planes(s.channels_last ? 1 : s.channels),
        items(s.channels_last ? s.channels : 1),
        tap_stride(s.channels_last ? s.padded : s.channels * s.height * s.width),
        pixel_stride(s.channels_last ? taps * s.padded : 1),
        image_stride(taps * s.height * s.width * (s.channels_last ? s.padded : s.channels)),
        count(s.batch * planes * s.height) {}
  // Of row (b, plane, 0) in Y, of the first tap.
  int64_t first(int64_t row) const {
    const int64_t plane = row / height;
    return plane / planes * image_stride + plane % planes * height * width;
  }
  int64_t at(int64_t y, int64_t x) const { return (y * width + x) * pixel_stride; }

  int64_t height, width, planes, items, tap_stride, pixel_stride, image_stride, count;
};

// Adds `pixels` pixels of Y to sums.
template <class T, class Sum>
void add_pixels(const T* from, Sum* sums, const Rows& rows, int64_t pixels) {
  if (rows.pixel_stride == 1) {
    for (int64_t x = 0; x < pixels; ++x) sums[x] += from[x];
    return;
  }
  for (int64_t x = 0; x < pixels; ++x, from += rows.pixel_stride, sums += rows.items) {
    for (int64_t i = 0; i < rows.items; ++i) sums[i] += from[i];
  }
}

template <class T>
void gather(const T* y, const typename Number<T>::Sum* bias, T* out, const AsppShape& s,
            const std::vector<TapOffset>& taps, int num_threads) {
  using Sum = typename Number<T>::Sum;
  const Rows rows(s, static_cast<int64_t>(taps.size()));
  const int64_t row_items = s.width * rows.items;
  const int64_t row_bytes = row_items * sizeof(T) * (taps.size() + 1);
  const auto body = [&](int64_t begin, int64_t end) {
    std::vector<Sum> sums(row_items);
    for (int64_t row = begin; row < end; ++row) {
      const int64_t map_y = row % s.height, plane = row / s.height % rows.planes;
      for (int64_t i = 0; i < row_items; ++i) {
        sums[i] = bias == nullptr ? Sum(0) : bias[s.channels_last ? i % rows.items : plane];
      }
      const T* tap = y + rows.first(row);
      for (const TapOffset& offset : taps) {
        const int64_t from_y = map_y + offset.dy;
        if (from_y >= 0 && from_y < s.height) {
          const Range xs = inside(offset.dx, s.width);
          add_pixels(tap + rows.at(from_y, xs.begin + offset.dx), &sums[xs.begin * rows.items],
                     rows, xs.end - xs.begin);
        }
        tap += rows.tap_stride;
      }
      T* to = out + row * row_items;
      for (int64_t i = 0; i < row_items; ++i) to[i] = Number<T>::from(sums[i]);
    }
  };
  parallel_for(num_threads, rows.count, kGrainBytes / std::max<int64_t>(1, row_bytes), body);
}

// Copies pixels of a map to Y, and what a tap has beyond their items becomes zero; from == nullptr:
// all of them are zero.
template <class T>
void write_pixels(const T* from, T* to, const Rows& rows, int64_t written, int64_t pixels) {
  if (rows.pixel_stride == 1) {
    from == nullptr ? std::fill_n(to, pixels, T(0)) : std::copy_n(from, pixels, to);
    return;
  }
  for (int64_t x = 0; x < pixels; ++x, to += rows.pixel_stride) {
    const int64_t items = from == nullptr ? 0 : rows.items;
    if (items > 0) std::copy_n(from + x * items, items, to);
    std::fill(to + items, to + written, T(0));
  }
}

// T: an unsigned integer of the element's size; the values are moved as they are.
template <class T>
void spread(const T* map, T* y, const AsppShape& s, const std::vector<TapOffset>& taps,
            int num_threads) {
  const Rows rows(s, static_cast<int64_t>(taps.size()));
  const int64_t row_items = s.width * rows.items;
  const int64_t written = s.channels_last ? s.padded : 1;
  const int64_t row_bytes = row_items * sizeof(T) * (taps.size() + 1);
  const auto body = [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t map_y = row % s.height;
      T* tap = y + rows.first(row) + rows.at(map_y, 0);
      for (const TapOffset& offset : taps) {
        const int64_t from_y = map_y - offset.dy;
        const bool in_map = from_y >= 0 && from_y < s.height;
        const Range xs = in_map ? inside(-int64_t{offset.dx}, s.width) : Range{0, 0};
        const T* from = nullptr;
        if (xs.begin < xs.end) {
          from = map + (row - offset.dy) * row_items + (xs.begin - offset.dx) * rows.items;
        }
        const auto pixel = [&](int64_t x) { return tap + x * rows.pixel_stride; };
        write_pixels<T>(nullptr, tap, rows, written, xs.begin);
        write_pixels<T>(from, pixel(xs.begin), rows, written, xs.end - xs.begin);
        write_pixels<T>(nullptr, pixel(xs.end), rows, written, s.width - xs.end);
        tap += rows.tap_stride;
      }
    }
  };
  parallel_for(num_threads, rows.count, kGrainBytes / std::max<int64_t>(1, row_bytes), body);
}

// Channels that are packed together, so that a filter tap's row is written in runs.
constexpr int64_t kPackChannels = 256;

// body(k, row of the matrix or -1, first weight, first item of the row, channels).
template <class Body>
void for_each_filter_tap(const AsppPackShape& s, int num_threads, const Body& body) {
  const int64_t taps = static_cast<int64_t>(s.index.size());
  const int64_t grain = kGrainBytes / std::max<int64_t>(1, s.channels * taps * sizeof(float));
  parallel_for(num_threads, s.filters, grain, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o) {
      for (int64_t c = 0; c < s.channels; c += kPackChannels) {
        const int64_t count = std::min(kPackChannels, s.channels - c);
        for (int64_t k = 0; k < taps; ++k) {
          const int64_t row = (s.index[k] * s.filters + o) * s.channels + c;
          body(k, (o * s.channels + c) * taps + k, s.index[k] < 0 ? -1 : row, count);
        }
      }
    }
  });
}

template <class T>
void pack(const T* weight, typename Number<T>::Sum* packed, const AsppPackShape& s,
          int num_threads) {
  using Sum = typename Number<T>::Sum;
  const int64_t taps = static_cast<int64_t>(s.index.size());
  for_each_filter_tap(s, num_threads, [&](int64_t k, int64_t from, int64_t to, int64_t count) {
    if (to < 0) return;
    for (int64_t c = 0; c < count; ++c) {
      const Sum value = weight[from + c * taps];
      packed[to + c] = s.add[k] ? packed[to + c] + value : value;
    }
  });
}

template <class T>
void unpack(const T* packed, T* weight, const AsppPackShape& s, int num_threads) {
  const int64_t taps = static_cast<int64_t>(s.index.size());
  for_each_filter_tap(s, num_threads, [&](int64_t, int64_t to, int64_t from, int64_t count) {
    for (int64_t c = 0; c < count; ++c) weight[to + c * taps] = from < 0 ? T{} : packed[from + c];
  });
}

// run(an unsigned integer of the type's size)
template <class Run>
void with_bits(FloatType type, const Run& run) {
  if (type == FloatType::kFloat64) return run(uint64_t{});
  if (type == FloatType::kFloat32) return run(uint32_t{});
  run(uint16_t{});
}

}  // namespace

void aspp_gather_cpu(const void* y, const void* bias, void* out, const AsppShape& shape,
                     const std::vector<TapOffset>& taps, FloatType type, int num_threads) {
  with_float_type(type, [&](auto zero) {
    using T = decltype(zero);
    gather(static_cast<const T*>(y), static_cast<const typename Number<T>::Sum*>(bias),
           static_cast<T*>(out), shape, taps, num_threads);
  });
}

void aspp_spread_cpu(const void* map, void* y, const AsppShape& shape,
                     const std::vector<TapOffset>& taps, FloatType type, int num_threads) {
  with_bits(type, [&](auto bits) {
    using T = decltype(bits);
    spread(static_cast<const T*>(map), static_cast<T*>(y), shape, taps, num_threads);
  });
}

void aspp_pack_cpu(const void* weight, void* packed, const AsppPackShape& shape, FloatType type,
                   int num_threads) {
  with_float_type(type, [&](auto zero) {
    using T = decltype(zero);
    pack(static_cast<const T*>(weight), static_cast<typename Number<T>::Sum*>(packed), shape,
         num_threads);
  });
}

void aspp_unpack_cpu(const void* packed, void* weight, const AsppPackShape& shape, FloatType type,
                     int num_threads) {
  with_bits(type, [&](auto bits) {
    using T = decltype(bits);
    unpack(static_cast<const T*>(packed), static_cast<T*>(weight), shape, num_threads);
  });
}

}  // namespace deeplab_native
