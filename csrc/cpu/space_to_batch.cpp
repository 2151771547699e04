#include "ops/space_to_batch.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "common/index.h"
#include "common/parallel.h"

namespace deeplab_native {
namespace {

// The item that moves: an element of a contiguous map, or a pixel with all its channels of a
// channels_last one, whose "channels" are then 1.
template <int kBytes>
struct Fixed {
  static constexpr int64_t bytes() { return kBytes; }
};
struct Pixel {
  int64_t size;
  int64_t bytes() const { return size; }
};

template <class Item>
void zero(char* row, int64_t x, Item item) {
  std::memset(row + x * item.bytes(), 0, item.bytes());
}

// The items [begin, end) of a row of block q that lie inside the map, for every q: the same in
// every row, and the rows are too short to divide for each of them.
struct Range {
  int64_t begin, end;
};
std::vector<Range> columns_inside(const SpaceToBatchShape& s) {
  std::vector<Range> ranges;
  for (int64_t q = 0; q < s.rate_w; ++q) {
    const int64_t begin = std::clamp<int64_t>(ceil_div(s.pad_w - q, s.rate_w), 0, s.block_width);
    const int64_t end = std::clamp(ceil_div(s.width + s.pad_w - q, s.rate_w), begin, s.block_width);
    ranges.push_back({begin, end});
  }
  return ranges;
}

// One padded row of one channel: items x = xb * rate_w + q - pad_w of the map against items xb of
// the rate_w blocks q. block_stride: items from one block to the next.
template <bool kToBlocks, class Item>
void move_row(char* map_row, char* block_row, const std::vector<Range>& inside,
              const SpaceToBatchShape& s, int64_t block_stride, Item item) {
  for (int64_t q = 0; q < s.rate_w; ++q) {
    const Range range = inside[q];
    char* block = block_row + q * block_stride * item.bytes();
    char* pixel = map_row + (range.begin * s.rate_w + q - s.pad_w) * item.bytes();
    for (int64_t xb = range.begin; xb < range.end; ++xb, pixel += s.rate_w * item.bytes()) {
      char* other = block + xb * item.bytes();
      std::memcpy(kToBlocks ? other : pixel, kToBlocks ? pixel : other, item.bytes());
    }
    if (kToBlocks) {
      for (int64_t xb = 0; xb < range.begin; ++xb) zero(block, xb, item);
      for (int64_t xb = range.end; xb < s.block_width; ++xb) zero(block, xb, item);
    }
  }
}

template <bool kToBlocks, class Item>
void move_items(char* map, char* blocks, const SpaceToBatchShape& s, Item item, int num_threads) {
  const int64_t padded_rows = s.block_height * s.rate_h;
  const int64_t block_plane = s.block_height * s.block_width;
  const int64_t row_bytes = std::max<int64_t>(1, s.block_width * s.rate_w * item.bytes());
  const std::vector<Range> inside = columns_inside(s);
  const std::vector<Range> outside(s.rate_w, Range{0, 0});
  const auto move_rows = [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      // p before the block row, so that a thread writes a block's plane in one go
      const int64_t yb = row % s.block_height, p = row / s.block_height % s.rate_h;
      const int64_t plane = row / padded_rows, b = plane / s.channels, c = plane % s.channels;
      const int64_t y = yb * s.rate_h + p - s.pad_h;
      const bool in_map = y >= 0 && y < s.height;
      if (!kToBlocks && !in_map) continue;
      const int64_t block = (b * s.rate_h + p) * s.rate_w;
      const int64_t to = (block * s.channels + c) * block_plane + yb * s.block_width;
      move_row<kToBlocks>(map + (plane * s.height + y) * s.width * item.bytes(),
                          blocks + to * item.bytes(), in_map ? inside : outside, s,
                          s.channels * block_plane, item);
    }
  };
  parallel_for(num_threads, s.batch * s.channels * padded_rows, kGrainBytes / row_bytes, move_rows);
}

template <bool kToBlocks>
void dispatch(char* map, char* blocks, SpaceToBatchShape s, int element_size, bool channels_last,
              int num_threads) {
  if (channels_last) {
    const Pixel pixel{s.channels * element_size};
    s.channels = 1;
    return move_items<kToBlocks>(map, blocks, s, pixel, num_threads);
  }
  switch (element_size) {
    case 1:
      return move_items<kToBlocks>(map, blocks, s, Fixed<1>(), num_threads);
    case 2:
      return move_items<kToBlocks>(map, blocks, s, Fixed<2>(), num_threads);
    case 4:
      return move_items<kToBlocks>(map, blocks, s, Fixed<4>(), num_threads);
    case 8:
      return move_items<kToBlocks>(map, blocks, s, Fixed<8>(), num_threads);
    case 16:
      return move_items<kToBlocks>(map, blocks, s, Fixed<16>(), num_threads);
  }
  throw std::invalid_argument("space_to_batch: element_size must be 1, 2, 4, 8 or 16");
}

}  // namespace

void space_to_batch_cpu(const void* map, void* blocks, const SpaceToBatchShape& shape,
                        int element_size, bool channels_last, int num_threads) {
  dispatch<true>(const_cast<char*>(static_cast<const char*>(map)), static_cast<char*>(blocks),
                 shape, element_size, channels_last, num_threads);
}

void batch_to_space_cpu(const void* blocks, void* map, const SpaceToBatchShape& shape,
                        int element_size, bool channels_last, int num_threads) {
  dispatch<false>(static_cast<char*>(map), const_cast<char*>(static_cast<const char*>(blocks)),
                  shape, element_size, channels_last, num_threads);
}

}  // namespace deeplab_native
