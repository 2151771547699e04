// The taps' product, of float32 on the CPU. A tile of about 6 x 8 pixels is multiplied with the
// taps that carry any of its pixels into the map: with rates of 6 to 24 and a map of 41 x 41 those
// are 20 of 33, which a product of whole matrices cannot leave out. The tile's pixels are
// copied together first, a slice of channels at a time, and stay in the first-level cache while all
// taps go by.
#include <algorithm>
#include <atomic>

#include "common/buffer.h"
#include "common/isa.h"
#include "common/parallel.h"
#include "cpu/aspp_product_kernel.h"
#include "ops/aspp.h"

namespace deeplab_native {
namespace {

AsppProductKernel product_kernel() {
  AsppProductKernel kernel;
#if defined(DEEPLAB_X86_64)
  if (current_isa() == Isa::kAvx512) {
    avx512::fill(&kernel);
    return kernel;
  }
  if (current_isa() == Isa::kAvx2) {
    avx2::fill(&kernel);
    return kernel;
  }
#endif
  baseline::fill(&kernel);
  return kernel;
}

// Neighbours in a row of the map, that lie one after the other in the tile, too.
struct Run {
  int64_t y, x, length, lane;
};
struct Tile {
  std::vector<Run> runs;
  std::vector<int64_t> taps;  // that carry a pixel of the tile into the map
};

// Rows of the bands that tiles are cut from; measured with the paper's rates, multiples of 6.
constexpr int64_t kBandRows = 6;

// Bands of rows, walked column by column, to and fro, and cut every `width` pixels: every tile but
// the last is full, and all are about square.
std::vector<Tile> make_tiles(const AsppProductShape& s, const std::vector<TapOffset>& taps,
                             int64_t width) {
  std::vector<Tile> tiles;
  std::vector<Run> open;  // of the rows of the band
  int64_t pixels = 0;
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
        return y >= 0 && y < s.height && x + run.length > 0 && x < s.width;
      });
      if (live) tile.taps.push_back(static_cast<int64_t>(t));
    }
    tiles.push_back(std::move(tile));
    open.clear();
    pixels = 0;
  };
  const int64_t bands = std::max<int64_t>(1, (s.height + kBandRows / 2) / kBandRows);
  for (int64_t band = 0; band < bands; ++band) {
    const int64_t top = s.height * band / bands, bottom = s.height * (band + 1) / bands;
    size_t first = open.size();  // of this band's runs: a tile may go on from the last band
    for (int64_t i = 0; i < s.width; ++i) {
      const int64_t x = band % 2 ? s.width - 1 - i : i;
      for (int64_t y = top; y < bottom; ++y) {
        if (open.size() == first) {
          for (int64_t row = top; row < bottom; ++row) open.push_back({row, x, 0, 0});
        }
        Run& run = open[first + y - top];
        run.x = run.length == 0 ? x : std::min(run.x, x);
        ++run.length;
        if (++pixels == width) {
          close();
          first = 0;
        }
      }
    }
  }
  if (pixels > 0) close();
  return tiles;
}

// to[i][0, kLength) = from[i][0, kLength) of rows that lie a stride apart.
template <int64_t kLength>
void copy_rows(const float* from, int64_t from_stride, float* to, int64_t to_stride,
               int64_t count) {
  for (int64_t i = 0; i < count; ++i, from += from_stride, to += to_stride) {
    std::copy_n(from, kLength, to);
  }
}

// The same for any length: most runs are short, and a loop over an unknown few is slow.
void copy_rows(const float* from, int64_t from_stride, float* to, int64_t to_stride, int64_t count,
               int64_t length) {
  using Copy = void (*)(const float*, int64_t, float*, int64_t, int64_t);
  static constexpr Copy kCopies[] = {copy_rows<1>,  copy_rows<2>,  copy_rows<3>,  copy_rows<4>,
                                     copy_rows<5>,  copy_rows<6>,  copy_rows<7>,  copy_rows<8>,
                                     copy_rows<9>,  copy_rows<10>, copy_rows<11>, copy_rows<12>,
                                     copy_rows<13>, copy_rows<14>, copy_rows<15>, copy_rows<16>};
  constexpr int64_t kMost = std::size(kCopies);
  for (; length > 0; length -= kMost, from += kMost, to += kMost) {
    kCopies[std::min(length, kMost) - 1](from, from_stride, to, to_stride, count);
  }
}

// Channels [first, first + count) of a tile's pixels to pixels[channel][lane].
void take_pixels(const float* image, const AsppProductShape& s, const Tile& tile, int64_t first,
                 int64_t count, float* pixels, int64_t width) {
  const int64_t plane = s.height * s.width;
  for (const Run& run : tile.runs) {
    const int64_t at = run.y * s.width + run.x;
    float* to = pixels + run.lane;
    if (!s.channels_last) {
      copy_rows(image + first * plane + at, plane, to, width, count, run.length);
      continue;
    }
    const float* from = image + at * s.channels + first;
    constexpr int64_t kTogether = 4;  // pixels, so that each store finds its line in the cache
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

}  // namespace

void aspp_panels_cpu(const float* weight, float* panels, const AsppPanelShape& s, int num_threads) {
  const std::vector<int64_t> edges = filter_blocks(s.filters);
  const int64_t blocks = static_cast<int64_t>(edges.size()) - 1;
  const int64_t slices = (s.channels + kAsppSlice - 1) / kAsppSlice;
  parallel_for(num_threads, slices * blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i / blocks * kAsppSlice, block = i % blocks;
      const int64_t count = std::min(kAsppSlice, s.channels - first);
      const int64_t filter = edges[block], rows = edges[block + 1] - filter;
      for (size_t k = 0; k < s.index.size(); ++k) {
        if (s.index[k] < 0) continue;
        const float* from = weight + filter * s.filter_stride + first * s.channel_stride +
                            static_cast<int64_t>(k) * s.tap_stride;
        float* to = panels + first * s.taps * s.filters + (s.index[k] * s.filters + filter) * count;
        for (int64_t c = 0; c < count; ++c, from += s.channel_stride) {
          for (int64_t r = 0; r < rows; ++r, ++to) {
            const float value = from[r * s.filter_stride];
            *to = s.add[k] ? *to + value : value;
          }
        }
      }
    }
  });
}

void aspp_product_cpu(const float* input, const float* panels, float* y, const AsppProductShape& s,
                      const std::vector<TapOffset>& taps, int num_threads) {
  const AsppProductKernel kernel = product_kernel();
  const std::vector<Tile> tiles = make_tiles(s, taps, kernel.width);
  const std::vector<int64_t> edges = filter_blocks(s.filters);
  const int64_t plane = s.height * s.width, num_taps = static_cast<int64_t>(taps.size());
  const int64_t count = s.batch * static_cast<int64_t>(tiles.size());
  std::atomic<int64_t> next{0};  // tiles near the border have fewer taps, so no fixed shares
  const int threads =
      static_cast<int>(std::clamp<int64_t>(num_threads, 1, std::max<int64_t>(count, 1)));
  run_team(threads, [&](Team&) {
    Buffer<float> pixels(kAsppSlice * kernel.width), sums(num_taps * s.filters * kernel.width);
    std::fill_n(pixels.data(), kAsppSlice * kernel.width, 0.0f);  // the last tile is not full
    for (int64_t i; (i = next.fetch_add(1)) < count;) {
      const Tile& tile = tiles[i % tiles.size()];
      const int64_t image = i / static_cast<int64_t>(tiles.size());
      for (int64_t first = 0; first < s.channels; first += kAsppSlice) {
        const int64_t channels = std::min(kAsppSlice, s.channels - first);
        take_pixels(input + image * s.channels * plane, s, tile, first, channels, pixels.data(),
                    kernel.width);
        const float* slice = panels + first * num_taps * s.filters;
        float* to = sums.data();
        for (const int64_t tap : tile.taps) {
          for (size_t b = 0; b + 1 < edges.size(); ++b) {
            const int rows = static_cast<int>(edges[b + 1] - edges[b]);
            kernel.multiply(slice + (tap * s.filters + edges[b]) * channels, rows, pixels.data(),
                            channels, to, first > 0);
            to += rows * kernel.width;
          }
        }
      }
      const float* from = sums.data();
      for (const int64_t tap : tile.taps) {
        float* planes = y + (image * num_taps + tap) * s.filters * plane;
        for (const Run& run : tile.runs) {
          copy_rows(from + run.lane, kernel.width, planes + run.y * s.width + run.x, plane,
                    s.filters, run.length);
        }
        from += s.filters * kernel.width;
      }
    }
  });
}

}  // namespace deeplab_native
