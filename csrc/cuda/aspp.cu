// Threads run along a row of the output, each with one item of it, and loop over the taps: the
// offsets are then the same in a whole block and come from the constant bank, and the reads and
// writes of neighbouring threads are adjacent. An item is an element of a map in planes, where a
// shift by dx pixels leaves no alignment to rely on; in channels_last maps it is 16 bytes of
// channels, at which every tap of Y is aligned, or one channel where taps have no gap between them.
#include <algorithm>

#include "cuda/aspp_words.cuh"
#include "cuda/rows.cuh"
#include "ops/aspp.h"

namespace deeplab_native {
namespace {

constexpr unsigned kThreads = kRowThreads;

struct Taps {
  int count;
  TapOffset offset[kMaxAsppTaps];
};

// 0 <= i < n
__device__ bool within(int64_t i, int64_t n) {
  return static_cast<uint64_t>(i) < static_cast<uint64_t>(n);
}

// ---- planes: rows (b, o, y), an item is an element ----
template <class T>
__global__ void __launch_bounds__(kThreads)
    aspp_gather_planes_kernel(const T* __restrict__ y, const typename Number<T>::Sum* bias,
                              T* __restrict__ out, AsppShape s, Taps taps) {
  using Sum = typename Number<T>::Sum;
  const int64_t plane = s.height * s.width, tap_stride = s.channels * plane;
  const int64_t rows = s.batch * s.channels * s.height;
  for (int64_t row = first_row(); row < rows; row += row_step()) {
    const int64_t map_y = row % s.height, o = row / s.height % s.channels;
    const int64_t b = row / s.height / s.channels;
    const T* from = y + b * taps.count * tap_stride + o * plane + map_y * s.width;
    for (int64_t x = threadIdx.x; x < s.width; x += blockDim.x) {
      Sum sum = bias == nullptr ? Sum(0) : bias[o];
#pragma unroll 4
      for (int t = 0; t < taps.count; ++t) {
        const int64_t dy = taps.offset[t].dy, dx = taps.offset[t].dx;
        const bool valid = within(map_y + dy, s.height) && within(x + dx, s.width);
        sum += valid ? Sum(from[t * tap_stride + dy * s.width + x + dx]) : Sum(0);
      }
      out[row * s.width + x] = Number<T>::from(sum);
    }
  }
}

// T: an unsigned integer of the element's size, here and where values only move.
template <class T>
__global__ void __launch_bounds__(kThreads)
    aspp_spread_planes_kernel(const T* __restrict__ map, T* __restrict__ y, AsppShape s,
                              Taps taps) {
  const int64_t plane = s.height * s.width, tap_stride = s.channels * plane;
  const int64_t rows = s.batch * s.channels * s.height;
  for (int64_t row = first_row(); row < rows; row += row_step()) {
    const int64_t map_y = row % s.height, o = row / s.height % s.channels;
    const int64_t b = row / s.height / s.channels;
    T* image = y + b * taps.count * tap_stride + o * plane + map_y * s.width;
    for (int64_t x = threadIdx.x; x < s.width; x += blockDim.x) {
#pragma unroll 4
      for (int t = 0; t < taps.count; ++t) {
        const int64_t dy = taps.offset[t].dy, dx = taps.offset[t].dx;
        const bool valid = within(map_y - dy, s.height) && within(x - dx, s.width);
        image[t * tap_stride + x] = valid ? map[(row - dy) * s.width + x - dx] : T(0);
      }
    }
  }
}

// ---- channels_last: rows (b, y), an item is 16 bytes of a pixel's channels, or one of them ----

// store(row, map_y, x, first, sums rounded to T) for every word W of the output's pixels.
template <class W, class T, class Store>
__device__ void gather_pixels(const T* y, const typename Number<T>::Sum* bias, const AsppShape& s,
                              const Taps& taps, const Store& store) {
  using Sum = typename Number<T>::Sum;
  constexpr int kItems = W::kItems;
  const int words = static_cast<int>(s.padded / kItems);
  const int64_t pixel_stride = taps.count * s.padded;
  for (int64_t row = first_row(); row < s.batch * s.height; row += row_step()) {
    const int64_t map_y = row % s.height;
    for (int i = threadIdx.x; i < static_cast<int>(s.width) * words; i += blockDim.x) {
      const int x = i / words, first = (i - x * words) * kItems;
      Sum sum[kItems];
      for (int k = 0; k < kItems; ++k) {
        sum[k] = bias == nullptr || first + k >= s.channels ? Sum(0) : bias[first + k];
      }
#pragma unroll 4
      for (int t = 0; t < taps.count; ++t) {
        const int64_t dy = taps.offset[t].dy, dx = taps.offset[t].dx;
        if (!within(map_y + dy, s.height) || !within(x + dx, s.width)) continue;
        const T* pixel = y + ((row + dy) * s.width + x + dx) * pixel_stride + t * s.padded;
        const W word = load_word<true, W>(pixel, first, s.channels);
        for (int k = 0; k < kItems; ++k) sum[k] += Sum(word.items[k]);
      }
      W word;
      for (int k = 0; k < kItems; ++k) word.items[k] = Number<T>::from(sum[k]);
      store(row, map_y, x, first, word);
    }
  }
}

template <class T, bool kWhole>
__global__ void __launch_bounds__(kThreads)
    aspp_gather_pixels_kernel(const T* __restrict__ y, const typename Number<T>::Sum* bias,
                              T* __restrict__ out, AsppShape s, Taps taps) {
  gather_pixels<Word<T>>(
      y, bias, s, taps, [&](int64_t row, int64_t, int x, int first, const Word<T>& word) {
        store_word<kWhole>(out + (row * s.width + x) * s.channels, first, s.channels, word);
      });
}

// Taps without a gap between them, so that they are aligned as elements only.
template <class T>
__global__ void __launch_bounds__(kThreads)
    aspp_gather_dense_kernel(const T* __restrict__ y, const typename Number<T>::Sum* bias,
                             T* __restrict__ out, AsppShape s, Taps taps) {
  using W = Word<T, 1>;
  gather_pixels<W>(y, bias, s, taps, [&](int64_t row, int64_t, int x, int first, const W& word) {
    out[(row * s.width + x) * s.channels + first] = word.items[0];
  });
}

// To a contiguous map. What a warp stores at once is short pieces of planes, but of few bytes:
// there are as many taps as much to read.
template <class T>
__global__ void __launch_bounds__(kThreads)
    aspp_gather_to_planes_kernel(const T* __restrict__ y, const typename Number<T>::Sum* bias,
                                 T* __restrict__ out, AsppShape s, Taps taps) {
  const int64_t plane = s.height * s.width;
  gather_pixels<Word<T>>(
      y, bias, s, taps, [&](int64_t row, int64_t map_y, int x, int first, const Word<T>& word) {
        // of an image's first row in a map of one channel: row - map_y
        T* to = out + ((row - map_y) * s.channels + map_y) * s.width + first * plane + x;
        for (int k = 0; k < Word<T>::kItems; ++k, to += plane) {
          if (first + k < s.channels) *to = word.items[k];
        }
      });
}

// As spread: word W of the taps' items, of which the map's pixels are kWhole aligned ones.
template <bool kWhole, class W, class T>
__device__ void spread_pixels(const T* map, T* y, const AsppShape& s, const Taps& taps) {
  constexpr int kItems = W::kItems;
  const int words = static_cast<int>(s.padded / kItems);
  const int64_t pixel_stride = taps.count * s.padded;
  for (int64_t row = first_row(); row < s.batch * s.height; row += row_step()) {
    const int64_t map_y = row % s.height;
    for (int i = threadIdx.x; i < static_cast<int>(s.width) * words; i += blockDim.x) {
      const int x = i / words, first = (i - x * words) * kItems;
      T* to = y + (row * s.width + x) * pixel_stride;
#pragma unroll 4
      for (int t = 0; t < taps.count; ++t) {
        const int64_t dy = taps.offset[t].dy, dx = taps.offset[t].dx;
        W word{};
        if (within(map_y - dy, s.height) && within(x - dx, s.width)) {
          const T* pixel = map + ((row - dy) * s.width + x - dx) * s.channels;
          word = load_word<kWhole, W>(pixel, first, s.channels);
        }
        store_word<true>(to + t * s.padded, first, s.padded, word);
      }
    }
  }
}

template <class T, bool kWhole>
__global__ void __launch_bounds__(kThreads)
    aspp_spread_pixels_kernel(const T* __restrict__ map, T* __restrict__ y, AsppShape s,
                              Taps taps) {
  spread_pixels<kWhole, Word<T>>(map, y, s, taps);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    aspp_spread_dense_kernel(const T* __restrict__ map, T* __restrict__ y, AsppShape s, Taps taps) {
  spread_pixels<true, Word<T, 1>>(map, y, s, taps);
}

// ---- host ----
bool as_argument(const std::vector<TapOffset>& taps, Taps* result) {
  if (taps.size() > kMaxAsppTaps) return false;
  result->count = static_cast<int>(taps.size());
  std::copy(taps.begin(), taps.end(), result->offset);
  return true;
}

// How the kernels for channels_last Y can read and write.
enum class Words {
  kNone,    // not at all: too large, or taps without room for the channels
  kDense,   // taps follow one another without a gap, element by element
  kPadded,  // taps are whole aligned words
  kWhole,   // and so are the map's pixels
};
template <class T>
Words words_of(const void* map, const void* y, const AsppShape& s) {
  constexpr int64_t kItems = Word<T>::kItems;
  const bool aligned = s.padded % kItems == 0 && reinterpret_cast<uintptr_t>(y) % 16 == 0;
  if (s.padded < s.channels || s.width * s.padded > INT32_MAX - int64_t{kThreads}) {
    return Words::kNone;
  }
  if (!aligned) return s.padded == s.channels ? Words::kDense : Words::kNone;
  const bool whole = s.padded == s.channels && reinterpret_cast<uintptr_t>(map) % 16 == 0;
  return whole ? Words::kWhole : Words::kPadded;
}

template <class T>
cudaError_t gather(const T* y, const typename Number<T>::Sum* bias, T* out, const AsppShape& s,
                   const Taps& taps, void* stream) {
  if (!s.channels_last) {
    if (s.map_channels_last) return cudaErrorInvalidValue;
    return launch_rows(aspp_gather_planes_kernel<T>, s.batch * s.channels * s.height, s.width,
                       stream, y, bias, out, s, taps);
  }
  const Words words = words_of<T>(out, y, s);
  const bool dense = words == Words::kDense;
  if (words == Words::kNone || (dense && !s.map_channels_last)) return cudaErrorInvalidValue;
  const auto kernel = !s.map_channels_last      ? aspp_gather_to_planes_kernel<T>
                      : dense                   ? aspp_gather_dense_kernel<T>
                      : words == Words::kPadded ? aspp_gather_pixels_kernel<T, false>
                                                : aspp_gather_pixels_kernel<T, true>;
  const int64_t row_items = s.width * s.padded / (dense ? 1 : Word<T>::kItems);
  return launch_rows(kernel, s.batch * s.height, row_items, stream, y, bias, out, s, taps);
}

template <class T>
cudaError_t spread(const T* map, T* y, const AsppShape& s, const Taps& taps, void* stream) {
  if (s.channels_last != s.map_channels_last) return cudaErrorInvalidValue;
  if (!s.channels_last) {
    return launch_rows(aspp_spread_planes_kernel<T>, s.batch * s.channels * s.height, s.width,
                       stream, map, y, s, taps);
  }
  const Words words = words_of<T>(map, y, s);
  if (words == Words::kNone) return cudaErrorInvalidValue;
  const bool dense = words == Words::kDense;
  const auto kernel = dense                     ? aspp_spread_dense_kernel<T>
                      : words == Words::kPadded ? aspp_spread_pixels_kernel<T, false>
                                                : aspp_spread_pixels_kernel<T, true>;
  const int64_t row_items = s.width * s.padded / (dense ? 1 : Word<T>::kItems);
  return launch_rows(kernel, s.batch * s.height, row_items, stream, map, y, s, taps);
}

// Calls run with an unsigned integer of the type's size.
template <class Run>
cudaError_t with_bits(FloatType type, const Run& run) {
  if (type == FloatType::kFloat64) return run(uint64_t{});
  if (type == FloatType::kFloat32) return run(uint32_t{});
  return run(uint16_t{});
}

}  // namespace

int aspp_gather_cuda(const void* y, const void* bias, void* out, const AsppShape& shape,
                     const std::vector<TapOffset>& taps, FloatType type, void* stream) {
  Taps argument;
  if (!as_argument(taps, &argument)) return cudaErrorInvalidValue;
  return with_float_type(type, [&](auto zero) {
    using T = decltype(zero);
    return gather(static_cast<const T*>(y), static_cast<const typename Number<T>::Sum*>(bias),
                  static_cast<T*>(out), shape, argument, stream);
  });
}

int aspp_spread_cuda(const void* map, void* y, const AsppShape& shape,
                     const std::vector<TapOffset>& taps, FloatType type, void* stream) {
  Taps argument;
  if (!as_argument(taps, &argument)) return cudaErrorInvalidValue;
  return with_bits(type, [&](auto bits) {
    using T = decltype(bits);
    return spread(static_cast<const T*>(map), static_cast<T*>(y), shape, argument, stream);
  });
}

}  // namespace deeplab_native
