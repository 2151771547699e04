// The whole head on the CPU. A tile of about 6 x 8 pixels is multiplied with the
// taps that carry any of its pixels into the map: with rates of 6 to 24 and a map of 41 x 41 those
// are 20 of 33, which a product of whole matrices cannot leave out. The tile's pixels are
// copied together first, a slice of channels at a time, and stay in the first-level cache while all
// taps go by.
#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <type_traits>

#include "common/buffer.h"
#include "common/isa.h"
#include "common/parallel.h"
#include "cpu/aspp_product_kernel.h"
#include "cpu/aspp_tiles.h"
#include "ops/aspp.h"

namespace deeplab_native {
namespace {

ProductKernels product_kernels() {
  ProductKernels kernels;
#if defined(DEEPLAB_X86_64)
  if (current_isa() == Isa::kAvx512) {
    avx512::fill(&kernels);
    return kernels;
  }
  if (current_isa() == Isa::kAvx2) {
    avx2::fill(&kernels);
    return kernels;
  }
#endif
  baseline::fill(&kernels);
  return kernels;
}

template <class T>
ProductKernel<T> product_kernel() {
  if constexpr (std::is_same_v<T, double>) {
    return product_kernels().f64;
  } else {
    return product_kernels().f32;
  }
}

// to[i][0, kLength) = from[i][0, kLength) of rows that lie a stride apart. `ahead` is what will be
// read as `from` is now, or null: rows a plane apart are further than the processor looks ahead.
template <class T, int64_t kLength>
void copy_rows(const T* from, int64_t from_stride, T* to, int64_t to_stride, int64_t count,
               const T* ahead) {
  for (int64_t i = 0; i < count; ++i, from += from_stride, to += to_stride) {
    if (ahead != nullptr) {
      __builtin_prefetch(ahead, 0, 2);
      __builtin_prefetch(ahead + kLength - 1, 0, 2);
      ahead += from_stride;
    }
    std::copy_n(from, kLength, to);
  }
}

// The same for any length: most runs are short, and a loop over an unknown few is slow.
template <class T>
void copy_rows(const T* from, int64_t from_stride, T* to, int64_t to_stride, int64_t count,
               int64_t length, const T* ahead = nullptr) {
  using Copy = void (*)(const T*, int64_t, T*, int64_t, int64_t, const T*);
  static constexpr Copy kCopies[] = {
      copy_rows<T, 1>,  copy_rows<T, 2>,  copy_rows<T, 3>,  copy_rows<T, 4>,
      copy_rows<T, 5>,  copy_rows<T, 6>,  copy_rows<T, 7>,  copy_rows<T, 8>,
      copy_rows<T, 9>,  copy_rows<T, 10>, copy_rows<T, 11>, copy_rows<T, 12>,
      copy_rows<T, 13>, copy_rows<T, 14>, copy_rows<T, 15>, copy_rows<T, 16>};
  constexpr int64_t kMost = std::size(kCopies);
  for (; length > 0; length -= kMost, from += kMost, to += kMost) {
    kCopies[std::min(length, kMost) - 1](from, from_stride, to, to_stride, count, ahead);
    if (ahead != nullptr) ahead += kMost;
  }
}

// Channels [first, first + count) of a tile's pixels to pixels[channel][lane].
template <class T>
void take_pixels(const T* image, const AsppForwardShape& s, const Tile& tile, int64_t first,
                 int64_t count, T* pixels, int64_t width) {
  const int64_t plane = s.height * s.width;
  for (const Run& run : tile.runs) {
    const int64_t at = run.y * s.width + run.x;
    T* to = pixels + run.lane;
    if (!s.channels_last) {
      const T* from = image + first * plane + at;
      const bool more = first + 2 * count <= s.channels;
      copy_rows(from, plane, to, width, count, run.length, more ? from + count * plane : nullptr);
      continue;
    }
    const T* from = image + at * s.channels + first;
    constexpr int64_t kTogether = 4;  // pixels, whose channels then share the tile's cache lines
    int64_t p = 0;
    for (; p + kTogether <= run.length; p += kTogether, from += kTogether * s.channels) {
      for (int64_t c = 0; c < count; ++c) {
        for (int64_t i = 0; i < kTogether; ++i) to[c * width + p + i] = from[i * s.channels + c];
      }
    }
    for (; p < run.length; ++p, from += s.channels) {
      for (int64_t c = 0; c < count; ++c) to[c * width + p] = from[c];
    }
  }
}

// Where the blocks of filters begin: as few as possible, all about as large.
std::vector<int64_t> filter_blocks(int64_t filters) {
  const int64_t blocks = (filters + kAsppBlock - 1) / kAsppBlock;
  std::vector<int64_t> edges;
  for (int64_t i = 0; i <= blocks; ++i) edges.push_back(filters * i / blocks);
  return edges;
}

// One filter tap of a block of kRows filters: to[c][r] = from[r][c], or += it.
template <class T, int64_t kRows>
void fill_block(const T* from, int64_t filter_stride, int64_t channel_stride, T* to, int64_t count,
                bool add) {
  for (int64_t c = 0; c < count; ++c, from += channel_stride, to += kRows) {
    for (int64_t r = 0; r < kRows; ++r) {
      const T value = from[r * filter_stride];
      to[r] = add ? to[r] + value : value;
    }
  }
}

template <class T>
void fill_panels(const AsppBranch& branch, const std::vector<bool>& add, T* panels,
                 const AsppForwardShape& s, int64_t num_taps, int num_threads) {
  using Fill = void (*)(const T*, int64_t, int64_t, T*, int64_t, bool);
  static constexpr Fill kFills[kAsppBlock] = {fill_block<T, 1>, fill_block<T, 2>, fill_block<T, 3>,
                                              fill_block<T, 4>, fill_block<T, 5>, fill_block<T, 6>,
                                              fill_block<T, 7>};
  const std::vector<int64_t> edges = filter_blocks(s.filters);
  const int64_t blocks = static_cast<int64_t>(edges.size()) - 1;
  const int64_t slices = (s.channels + kAsppSlice - 1) / kAsppSlice;
  const auto body = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i / blocks * kAsppSlice, block = i % blocks;
      const int64_t count = std::min(kAsppSlice, s.channels - first);
      const int64_t filter = edges[block], rows = edges[block + 1] - filter;
      const T* from = static_cast<const T*>(branch.weight) + filter * branch.filter_stride +
                      first * branch.channel_stride;
      for (size_t k = 0; k < branch.index.size(); ++k, from += branch.tap_stride) {
        if (branch.index[k] < 0) continue;
        T* to =
            panels + first * num_taps * s.filters + (branch.index[k] * s.filters + filter) * count;
        kFills[rows - 1](from, branch.filter_stride, branch.channel_stride, to, count, add[k]);
      }
    }
  };
  const int64_t bytes =
      kAsppSlice * kAsppBlock * static_cast<int64_t>(branch.index.size() * sizeof(T));
  parallel_for(num_threads, slices * blocks, kGrainBytes / bytes, body);
}

// The sums of one tile and all its taps: sums[tap of the tile][filter][lane].
template <class T>
void multiply_tile(const T* image, const T* panels, const AsppForwardShape& s, int64_t num_taps,
                   const std::vector<int64_t>& edges, const Tile& tile,
                   const ProductKernel<T>& kernel, T* pixels, T* sums) {
  for (int64_t first = 0; first < s.channels; first += kAsppSlice) {
    const int64_t channels = std::min(kAsppSlice, s.channels - first);
    take_pixels(image, s, tile, first, channels, pixels, kernel.width);
    const T* slice = panels + first * num_taps * s.filters;
    T* to = sums;
    for (const int64_t tap : tile.taps) {
      for (size_t b = 0; b + 1 < edges.size(); ++b) {
        const int rows = static_cast<int>(edges[b + 1] - edges[b]);
        kernel.multiply(slice + (tap * s.filters + edges[b]) * channels, rows, pixels, channels, to,
                        first > 0);
        to += rows * kernel.width;
      }
    }
  }
}

template <class T>
void product(const T* input, const T* panels, T* y, const AsppForwardShape& s,
             const std::vector<TapOffset>& taps, int num_threads) {
  const ProductKernel<T> kernel = product_kernel<T>();
  const std::vector<Tile> tiles = make_tiles(s.height, s.width, taps, kernel.width);
  const std::vector<int64_t> edges = filter_blocks(s.filters);
  const int64_t plane = s.height * s.width, num_taps = static_cast<int64_t>(taps.size());
  const int64_t of_image = static_cast<int64_t>(tiles.size()), count = s.batch * of_image;
  if (count == 0) return;
  std::atomic<int64_t> next{0};  // tiles near the border have fewer taps, so no fixed shares
  run_team(static_cast<int>(std::clamp<int64_t>(num_threads, 1, count)), [&](Team&) {
    Buffer<T> pixels(kAsppSlice * kernel.width), sums(num_taps * s.filters * kernel.width);
    // the last tile is not full, and computes with what else lies there
    std::fill_n(pixels.data(), kAsppSlice * kernel.width, T(0));
    for (int64_t i; (i = next.fetch_add(1)) < count;) {
      const Tile& tile = tiles[i % of_image];
      const int64_t image = i / of_image;
      multiply_tile(input + image * s.channels * plane, panels, s, num_taps, edges, tile, kernel,
                    pixels.data(), sums.data());
      const T* from = sums.data();
      for (const int64_t tap : tile.taps) {
        T* planes = y + (image * num_taps + tap) * s.filters * plane;
        for (const Run& run : tile.runs) {
          copy_rows(from + run.lane, kernel.width, planes + run.y * s.width + run.x, plane,
                    s.filters, run.length);
        }
        from += s.filters * kernel.width;
      }
    }
  });
}

// Adds up what the branches have at the same offset.
template <class T>
void fill_all_panels(const std::vector<AsppBranch>& branches, T* panels, const AsppForwardShape& s,
                     int64_t num_taps, int num_threads) {
  std::vector<bool> seen(num_taps);
  for (const AsppBranch& branch : branches) {
    std::vector<bool> add;
    for (const int32_t row : branch.index) {
      if (row >= num_taps) throw std::invalid_argument("index: expected rows of the offsets");
      add.push_back(row >= 0 && seen[row]);
      if (row >= 0) seen[row] = true;
    }
    fill_panels(branch, add, panels, s, num_taps, num_threads);
  }
  if (!std::all_of(seen.begin(), seen.end(), [](bool row) { return row; })) {
    throw std::invalid_argument("index: expected every row of the offsets");
  }
}

template <class T>
void forward(const void* input, const std::vector<AsppBranch>& branches, const void* bias,
             void* out, const AsppForwardShape& shape, const std::vector<TapOffset>& taps,
             FloatType type, int num_threads) {
  const int64_t plane = shape.height * shape.width, num_taps = static_cast<int64_t>(taps.size());
  // kept for the next call: fresh memory would have to be cleared, a tenth of the time
  Buffer<T> panels(num_taps * shape.filters * shape.channels);
  fill_all_panels(branches, panels.data(), shape, num_taps, num_threads);
  Buffer<T> y(shape.images * num_taps * shape.filters * plane);
  for (int64_t first = 0; first < shape.batch; first += shape.images) {
    AsppForwardShape group = shape;
    group.batch = std::min(shape.images, shape.batch - first);
    product(static_cast<const T*>(input) + first * shape.channels * plane, panels.data(), y.data(),
            group, taps, num_threads);
    aspp_gather_cpu(
        y.data(), bias, static_cast<T*>(out) + first * shape.filters * plane,
        {group.batch, group.filters, group.height, group.width, group.filters, false, false}, taps,
        type, num_threads);
  }
}

}  // namespace

void aspp_forward_cpu(const void* input, const std::vector<AsppBranch>& branches, const void* bias,
                      void* out, const AsppForwardShape& shape, const std::vector<TapOffset>& taps,
                      FloatType type, int num_threads) {
  if (type != FloatType::kFloat32 && type != FloatType::kFloat64) {
    throw std::invalid_argument("dtype: expected float32 or float64");
  }
  const auto run = type == FloatType::kFloat64 ? forward<double> : forward<float>;
  run(input, branches, bias, out, shape, taps, type, num_threads);
}

}  // namespace deeplab_native
