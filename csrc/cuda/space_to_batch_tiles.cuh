// Space-to-batch of contiguous maps by way of shared memory: a block of threads moves a tile, one
// run of the memory of a map, in words of 16 bytes; what is dealt out from it to one block of the
// blocks is one run there, too, which neighbouring threads move in whole sectors.
#pragma once
#include <algorithm>
#include <numeric>

#include "cuda/fast_divide.cuh"
#include "ops/space_to_batch.h"

namespace deeplab_native {

constexpr unsigned kTileThreads = 256;     // at the most
constexpr int64_t kTileBytes = 42 * 1024;  // with the words that are skipped at most 48 KiB
constexpr int64_t kSectorBytes = 32;

struct alignas(16) Word16 {
  uint64_t low, high;
};

// Channels, rows of a block, rates p, columns of a block, rates q: of a tile, or how many tiles.
// Of those behind the first that is not 1 a tile has all there are, so that it is a run of the map.
struct TileSize {
  int64_t channels, block_rows, rates_h, block_cols, rates_w;
};

// The largest tile of which the map, or what lies in the blocks of it, fits; with less than
// `enough` tiles in all one of fewer channels.
inline TileSize choose_tile(const SpaceToBatchShape& s, int64_t item, int64_t enough) {
  TileSize t{1, s.block_height, s.rate_h, s.block_width, s.rate_w};
  const int64_t room = kTileBytes / item;  // items
  const int64_t row = s.block_width * s.rate_w, plane = s.block_height * s.rate_h * row;
  if (plane <= room) {
    const int64_t run = s.block_height * s.block_width * item;
    const int64_t whole = kSectorBytes / std::gcd(run, kSectorBytes);  // channels: whole sectors
    t.channels = std::min(s.channels, room / plane);
    while (t.channels > 1 && s.batch * s.channels < enough * t.channels &&
           t.channels * run > 4 * kSectorBytes) {
      t.channels = (t.channels + 1) / 2;
    }
    if (t.channels > whole) t.channels -= t.channels % whole;
  } else if (row * s.rate_h <= room) {
    t.block_rows = room / (row * s.rate_h);
  } else if (t.block_rows = 1; row <= room) {
    t.rates_h = room / row;
  } else if (t.rates_h = 1; s.rate_w <= room) {
    t.block_cols = room / s.rate_w;
  } else {
    t.block_cols = 1;
    t.rates_w = room;
  }
  return t;
}

struct TilePlan {
  TileSize tile, count;
  int64_t tiles;         // of an image; numbered with the rates q fastest
  int64_t shared_bytes;  // of a block of threads
  uint32_t run;          // items of a whole tile in one block (p, q)
  unsigned threads;
  FastDivide by_run, by_channel, by_row;
  FastDivide by_rates_w, by_block_cols, by_rates_h, by_block_rows;  // of tiles
};

inline TilePlan make_tile_plan(const SpaceToBatchShape& s, int64_t item) {
  const auto parts = [](int64_t all, int64_t of_tile) { return (all + of_tile - 1) / of_tile; };
  const auto divide = [](int64_t by) { return FastDivide(static_cast<uint32_t>(by)); };
  TilePlan plan;
  const TileSize t = plan.tile = choose_tile(s, item, 4 * num_multiprocessors());
  const TileSize n = plan.count = {parts(s.channels, t.channels),
                                   parts(s.block_height, t.block_rows), parts(s.rate_h, t.rates_h),
                                   parts(s.block_width, t.block_cols), parts(s.rate_w, t.rates_w)};
  plan.tiles = n.channels * n.block_rows * n.rates_h * n.block_cols * n.rates_w;
  const int64_t channel = t.block_rows * t.block_cols;
  plan.run = static_cast<uint32_t>(t.channels * channel);
  plan.threads = 32;
  while (plan.threads < kTileThreads && plan.threads < plan.run * t.rates_h) plan.threads *= 2;
  plan.by_run = divide(plan.run);
  plan.by_channel = divide(channel);
  plan.by_row = divide(t.block_cols);
  plan.by_rates_w = divide(n.rates_w);
  plan.by_block_cols = divide(n.block_cols);
  plan.by_rates_h = divide(n.rates_h);
  plan.by_block_rows = divide(n.block_rows);
  const int64_t bytes = item * plan.run * t.rates_h * t.rates_w;
  const int64_t of_map = item * t.channels * s.height * s.width + 16;
  const int64_t held = std::min(bytes + 16, of_map);
  plan.shared_bytes = held + (held / 128 + 1) * std::max<int64_t>(item, 4);
  return plan;
}

struct TileRange {
  int64_t first;
  int32_t count;
};

// Of the tile number `index` along a size; the last one has what is left.
__device__ inline TileRange tile_range(uint32_t index, int64_t of_tile, int64_t all) {
  const int64_t first = index * of_tile;
  return {first, static_cast<int32_t>(all - first < of_tile ? all - first : of_tile)};
}

// Pixels of the map that a tile has, of `all` from `from` on, counted from the first one; shift: of
// pixel `from`, negative in the padding.
struct TilePixels {
  int64_t first;
  int32_t count, shift;
};

__device__ inline TilePixels tile_pixels(int64_t from, int64_t count, int64_t all) {
  constexpr int64_t kFar = 1 << 30;  // beyond every tile
  const int64_t first = from < 0 ? 0 : from < all ? from : all;
  const int64_t end = from + count < 0 ? 0 : from + count < all ? from + count : all;
  const int64_t shift = from - first;
  return {first, static_cast<int32_t>(end > first ? end - first : 0),
          static_cast<int32_t>(shift < -kFar  ? -kFar
                               : shift < kFar ? shift
                                              : kFar)};
}

struct Tile {
  TileRange channels, block_rows, rates_h, block_cols, rates_w;
  TilePixels y, x;
  int64_t begin;  // of its run of the map, and how many items that has
  uint32_t items;
};

__device__ inline Tile find_tile(uint32_t index, int64_t image, const SpaceToBatchShape& s,
                                 const TilePlan& plan) {
  uint32_t c, row, p, col, q;
  index = plan.by_rates_w(index, &q);
  index = plan.by_block_cols(index, &col);
  index = plan.by_rates_h(index, &p);
  c = plan.by_block_rows(index, &row);
  Tile t;
  t.rates_w = tile_range(q, plan.tile.rates_w, s.rate_w);
  t.block_cols = tile_range(col, plan.tile.block_cols, s.block_width);
  t.rates_h = tile_range(p, plan.tile.rates_h, s.rate_h);
  t.block_rows = tile_range(row, plan.tile.block_rows, s.block_height);
  t.channels = tile_range(c, plan.tile.channels, s.channels);
  t.y = tile_pixels(t.block_rows.first * s.rate_h + t.rates_h.first - s.pad_h,
                    (t.block_rows.count - 1) * s.rate_h + t.rates_h.count, s.height);
  t.x = tile_pixels(t.block_cols.first * s.rate_w + t.rates_w.first - s.pad_w,
                    (t.block_cols.count - 1) * s.rate_w + t.rates_w.count, s.width);
  t.begin = ((image * s.channels + t.channels.first) * s.height + t.y.first) * s.width + t.x.first;
  t.items = static_cast<uint32_t>(t.channels.count * t.y.count * t.x.count);
  return t;
}

// Where a byte of the tile lies in shared memory. A word is skipped after every 128 bytes: pixels
// that are `rate` apart would share few of the 32 banks.
template <class T>
__device__ uint32_t slot(uint32_t byte) {
  constexpr uint32_t kSkip = sizeof(T) < 4 ? 4 : sizeof(T);
  return byte + byte / 128 * kSkip;
}

// Copies the run of the map, which begins at `run`, to shared memory or (kBack) from it. Its bytes
// lie there from `head` on, so that 16 bytes of the map at an address that they divide are 16 bytes
// there.
template <bool kBack, class T>
__device__ void copy_run(std::conditional_t<kBack, T, const T>* run, uint32_t items, uint32_t head,
                         unsigned char* shared) {
  constexpr uint32_t kItem = sizeof(T), kOfWord = 16 / kItem;
  // what is never cut by a skipped word
  using Piece = std::conditional_t<kItem <= 4, uint32_t, T>;
  constexpr uint32_t kPieces = 16 / sizeof(Piece);
  using Wide = std::conditional_t<kBack, Word16, const Word16>;
  const uint32_t to_word = (16 - head) % 16 / kItem;  // items
  const uint32_t first = items < to_word ? items : to_word;
  const uint32_t words = (items - first) / kOfWord, last = first + words * kOfWord;
  const auto copy_one = [&](uint32_t i) {
    T* place = reinterpret_cast<T*>(shared + slot<T>(head + i * kItem));
    if constexpr (kBack) {
      run[i] = *place;
    } else {
      *place = run[i];
    }
  };
  if (threadIdx.x < first) copy_one(threadIdx.x);
  if (threadIdx.x < items - last) copy_one(last + threadIdx.x);
  Wide* wide = reinterpret_cast<Wide*>(run + first);
  union Word {
    Word16 whole;
    Piece of[kPieces];
  };
  constexpr uint32_t kBatch = 4;  // loads on their way
  for (uint32_t begin = threadIdx.x; begin < words; begin += kBatch * blockDim.x) {
    Word word[kBatch];
    if constexpr (!kBack) {
#pragma unroll
      for (uint32_t k = 0; k < kBatch; ++k) {
        const uint32_t i = begin + k * blockDim.x;
        if (i < words) word[k].whole = wide[i];
      }
    }
#pragma unroll
    for (uint32_t k = 0; k < kBatch; ++k) {
      const uint32_t i = begin + k * blockDim.x;
      if (i >= words) break;
      const uint32_t byte = head + (first + i * kOfWord) * kItem;
      Piece* place = reinterpret_cast<Piece*>(shared + slot<T>(byte));
#pragma unroll
      for (uint32_t j = 0; j < kPieces; ++j) {
        if constexpr (kBack) {
          word[k].of[j] = place[j];
        } else {
          place[j] = word[k].of[j];
        }
      }
      if constexpr (kBack) wide[i] = word[k].whole;
    }
  }
}

// Items of the blocks, one in each of the blocks (p, q) of all q of a tile.
struct BlockItems {
  int64_t first, step;  // which items; from one to the next
  uint32_t byte;        // in the tile, of the first
  int32_t x;            // of the first; a pixel of the map where 0 <= x < on_row
  uint32_t on_row;

  __device__ bool valid(int32_t q) const { return static_cast<uint32_t>(x + q) < on_row; }
};

// f(BlockItems) for all that a tile has: of neighbouring threads they are neighbours of a run.
template <class T, class F>
__device__ void each_block_item(const Tile& t, int64_t image, const SpaceToBatchShape& s,
                                const TilePlan& plan, uint32_t head, const F& f) {
  const int64_t block_plane = s.block_height * s.block_width, block = s.channels * block_plane;
  const auto rate_h = static_cast<int32_t>(s.rate_h), rate_w = static_cast<int32_t>(s.rate_w);
  const uint32_t count = plan.run * static_cast<uint32_t>(t.rates_h.count);
  const auto width = static_cast<uint32_t>(t.x.count);
  for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) {
    uint32_t rest, rest_col;
    const auto p = static_cast<int32_t>(plan.by_run(i, &rest));
    const auto c = static_cast<int32_t>(plan.by_channel(rest, &rest));
    const auto row = static_cast<int32_t>(plan.by_row(rest, &rest_col));
    const auto col = static_cast<int32_t>(rest_col);
    if (c >= t.channels.count || row >= t.block_rows.count || col >= t.block_cols.count) continue;
    const int64_t pq = (image * s.rate_h + t.rates_h.first + p) * s.rate_w + t.rates_w.first;
    const int32_t y = row * rate_h + p + t.y.shift, x = col * rate_w + t.x.shift;
    BlockItems items;
    items.first = (pq * s.channels + t.channels.first + c) * block_plane +
                  (t.block_rows.first + row) * s.block_width + t.block_cols.first + col;
    items.step = block;
    items.byte = static_cast<uint32_t>((c * t.y.count + y) * t.x.count + x) * sizeof(T) + head;
    items.x = x;
    items.on_row = static_cast<uint32_t>(y) < static_cast<uint32_t>(t.y.count) ? width : 0;
    f(items);
  }
}

}  // namespace deeplab_native
