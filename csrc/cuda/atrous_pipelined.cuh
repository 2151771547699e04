// The kernel of the direct atrous convolution for tensor cores, compute capability 8.0 and newer:
// an implicit matrix product, pixels by filters, summed over taps and channels (cutting the columns
// of atrous_im2col.h into tiles that only shared memory ever holds).
//
// Lines of channels come to the stages of pipelined_tile.cuh by cp.async.
#pragma once
#include "cuda/pipelined_tile.cuh"
#include "cuda/tap_order.cuh"

namespace deeplab_native {
namespace {

constexpr int kNowhere = -(1 << 30);  // of an offset: it stays negative with any channel added

template <class T>
struct PipelinedProduct {
  const uint4* map;                          // channels adjacent
  int batch_stride, row_stride, col_stride;  // vectors of 16 bytes
  const uint4* filters;                      // (filters, taps, vectors)
  int vectors;                               // of a pixel's channels
  Window window;                             // without divisions
  TapOrder order;
  int rows, row_tiles;  // of one group of pixels: a group begins a new tile
  int cols;             // filters
  T* out;
  float* partial;  // instead, where the sums are cut into parts: `size` of each
  const T* bias;   // or null
  int64_t size;
  int out_batch_stride, out_row_stride, out_col_stride, out_filter_stride;  // elements
  bool whole;  // 4 adjacent filters of a result are one store
};

// What a block knows of one of its pixels.
struct RowPlace {
  int start;  // of its map, in vectors
  int y, x;   // before the taps' offsets, in the units of Window; y: kNowhere beyond the last pixel
  int out;    // of its first result, in elements; negative beyond the last pixel
};

template <class T>
__device__ RowPlace row_place(const PipelinedProduct<T>& p, int group, int row) {
  if (row >= p.rows) return {0, kNowhere, 0, -1};
  const Pixel pixel = p.order.pixel(row);
  const int b = group + pixel.image;
  return {b * p.batch_stride, pixel.y * p.window.step_h + p.window.offset_h,
          pixel.x * p.window.step_w + p.window.offset_w,
          b * p.out_batch_stride + pixel.y * p.out_row_stride + pixel.x * p.out_col_stride};
}

// The copies of one step that a thread starts: neighbouring threads take the vectors of a line.
template <class T, class Tile>
class LineCopies {
 public:
  __device__ LineCopies(const PipelinedProduct<T>& p, const RowPlace* places, int col0)
      : p_(p), places_(places + first()), vector_(threadIdx.x % kLineVectors) {
    to_ = first() * kLineBytes + ((vector_ ^ first() % 8) * 16);
    const int taps = p.window.kernel_h * p.window.kernel_w;
#pragma unroll
    for (int slot = 0; slot < kFilterSlots; ++slot) {
      // beyond the last filter its sums are computed again, and not written
      const int col = min(col0 + first() + slot * kLinesAtOnce, p.cols - 1);
      filter_[slot] = col * taps * p.vectors;
    }
  }

  // From now on, of this tap.
  __device__ void to_tap(int tap) {
    const Window& w = p_.window;
    const int i = tap / w.kernel_w, j = tap - i * w.kernel_w;
    tap_ = tap * p_.vectors;
#pragma unroll
    for (int slot = 0; slot < kPixelSlots; ++slot) {
      const RowPlace place = places_[slot * kLinesAtOnce];
      const int y = place.y + i * w.tap_h, x = place.x + j * w.tap_w;
      const bool on_map = static_cast<unsigned>(y) < static_cast<unsigned>(w.height) &&
                          static_cast<unsigned>(x) < static_cast<unsigned>(w.width);
      pixel_[slot] = on_map ? place.start + y * p_.row_stride + x * p_.col_stride : kNowhere;
    }
  }

  // The lines of chunk `chunk` of the channels, to a stage.
  __device__ void start(unsigned char* stage, int chunk) const {
    const int vector = chunk * kLineVectors + vector_;
    const bool there = vector < p_.vectors;
    const int of_map = there ? vector : kNowhere, of_filter = there ? tap_ + vector : 0;
#pragma unroll
    for (int slot = 0; slot < kPixelSlots; ++slot) {
      const int at = pixel_[slot] + of_map;
      copy_async(stage + to_ + slot * kLinesAtOnce * kLineBytes, p_.map + max(at, 0), at >= 0);
    }
    unsigned char* filters = stage + Tile::kRows * kLineBytes;
#pragma unroll
    for (int slot = 0; slot < kFilterSlots; ++slot) {
      copy_async(filters + to_ + slot * kLinesAtOnce * kLineBytes,
                 p_.filters + filter_[slot] + of_filter, there);
    }
  }

 private:
  static constexpr int kLinesAtOnce = Tile::kThreads / kLineVectors;
  static constexpr int kPixelSlots = Tile::kRows / kLinesAtOnce;
  static constexpr int kFilterSlots = Tile::kCols / kLinesAtOnce;
  static_assert(kPixelSlots * kLinesAtOnce == Tile::kRows, "no thread is left over");
  static_assert(kFilterSlots * kLinesAtOnce == Tile::kCols, "no thread is left over");
  static_assert(kLinesAtOnce % 8 == 0, "a thread's vector lies at the same place of every line");

  __device__ static int first() { return threadIdx.x / kLineVectors; }

  const PipelinedProduct<T>& p_;
  const RowPlace* places_;
  int vector_, to_, tap_;
  int pixel_[kPixelSlots], filter_[kFilterSlots];
};

template <class T>
struct alignas(4 * sizeof(T)) Four {
  T items[4];
};

// A warp's part of the tile to memory. Four adjacent filters of a pixel at once where they are
// adjacent in memory, too; else pixel after pixel of one filter, adjacent where the map is
// contiguous.
template <class To, class T, class Tile>
__device__ void write_sums(To* to, const float* sums, const PipelinedProduct<T>& p,
                           const RowPlace* places, int col0, const T* bias) {
  const int lane = threadIdx.x % 32;
  if (p.whole) {
    constexpr int kLanes = Tile::kWarpCols / 4;  // of a pixel
    const int col = lane % kLanes * 4;
    if (col0 + col >= p.cols) return;
    float add[4] = {};
    if (bias != nullptr) {
      for (int e = 0; e < 4; ++e) add[e] = float(bias[col0 + col + e]);
    }
#pragma unroll 4
    for (int row = lane / kLanes; row < Tile::kWarpRows; row += 32 / kLanes) {
      const int out = places[row].out;
      if (out < 0) continue;
      const auto four = *reinterpret_cast<const float4*>(sums + row * kSumPitch<Tile> + col);
      *reinterpret_cast<Four<To>*>(to + (int64_t{out} + col0 + col)) = {
          Number<To>::from(four.x + add[0]), Number<To>::from(four.y + add[1]),
          Number<To>::from(four.z + add[2]), Number<To>::from(four.w + add[3])};
    }
    return;
  }
  for (int row = lane; row < Tile::kWarpRows; row += 32) {
    const int out = places[row].out;
    const int cols = min(Tile::kWarpCols, p.cols - col0);
    if (out < 0) continue;
    To* pixel = to + (int64_t{out} + int64_t{col0} * p.out_filter_stride);
#pragma unroll 4
    for (int col = 0; col < cols; ++col) {
      const float add = bias == nullptr ? 0.0f : float(bias[col0 + col]);
      *pixel = Number<To>::from(sums[row * kSumPitch<Tile> + col] + add);
      pixel += p.out_filter_stride;
    }
  }
}

// Blocks: x the tiles of pixels, group after group; y those of filters; z the parts of the sums.
template <class T, class Tile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks)
    atrous_pipelined_kernel(PipelinedProduct<T> p, int parts) {
#if DEEPLAB_HAS_TENSOR_CORE_PTX
  DEEPLAB_DYNAMIC_SHARED(unsigned char, stages);
  __shared__ RowPlace places[Tile::kRows];
  __shared__ uint32_t shared_mask;
  const int group = blockIdx.x / p.row_tiles;
  const int row0 = (blockIdx.x - group * p.row_tiles) * Tile::kRows;
  const int col0 = blockIdx.y * Tile::kCols;
  for (int row = threadIdx.x; row < Tile::kRows; row += Tile::kThreads) {
    places[row] = row_place(p, group, row0 + row);
  }
  __syncthreads();
  const TapSet taps = taps_in_reach(p.window, &shared_mask, [&](int i, int j) {
    bool any = false;
    for (int row = threadIdx.x; row < Tile::kRows; row += Tile::kThreads) {
      any |= p.window.reaches(places[row].y, places[row].x, i, j);
    }
    return any;
  });

  // the part's steps: the chunks of the channels under one tap, then under the next in reach
  const int chunks = (p.vectors + kLineVectors - 1) / kLineVectors;
  const int64_t every = int64_t{taps.count()} * chunks;
  const int64_t begin = every * blockIdx.z / parts, end = every * (blockIdx.z + 1) / parts;
  const int steps = static_cast<int>(end - begin);
  int skip = static_cast<int>(begin / chunks), chunk = static_cast<int>(begin % chunks);
  int tap = taps.from(0);
  while (skip-- > 0) tap = taps.from(tap + 1);

  LineCopies<T, Tile> copies(p, places, col0);
  if (steps > 0) copies.to_tap(tap);
  int started = 0, filling = 0;  // steps; the offset of the stage that is filled next
  const auto start_next = [&] {
    if (started < steps) {
      copies.start(stages + filling, chunk);
      if (++chunk == chunks && started + 1 < steps) {
        chunk = 0, tap = taps.from(tap + 1);
        copies.to_tap(tap);
      }
    }
    commit_copies();  // of none, too: what is waited for is counted in groups
    ++started;
    filling = filling + Tile::kStageBytes < Tile::kSharedBytes ? filling + Tile::kStageBytes : 0;
  };
#pragma unroll 1
  for (int stage = 0; stage + 1 < kStages; ++stage) start_next();

  WarpSums<T, Tile> sums;
  int reading = 0;
  for (int step = 0; step < steps; ++step) {
    wait_for_copies<kStages - 2>();
    __syncthreads();  // everyone's copies are there, and all have read the stage that is filled now
    sums.add(stages + reading, start_next);
    reading = reading + Tile::kStageBytes < Tile::kSharedBytes ? reading + Tile::kStageBytes : 0;
  }
  __syncthreads();  // the stages have been read: they have room for the sums
  float* own =
      reinterpret_cast<float*>(stages) + threadIdx.x / 32 * (Tile::kWarpRows * kSumPitch<Tile>);
  sums.store(own);
  __syncwarp();
  const RowPlace* rows = places + sums.warp_row();
  const int col = col0 + sums.warp_col();
  const T* bias = blockIdx.z == 0 ? p.bias : nullptr;
  if (p.partial != nullptr) {
    write_sums<float, T, Tile>(p.partial + blockIdx.z * p.size, own, p, rows, col, bias);
  } else {
    write_sums<T, T, Tile>(p.out, own, p, rows, col, bias);
  }
#endif
}

}  // namespace
}  // namespace deeplab_native
