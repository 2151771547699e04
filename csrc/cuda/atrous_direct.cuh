// The kernels of the direct atrous convolution; what they compute is in ops/atrous_direct.h.
#pragma once
#include "cuda/tile_product.cuh"

namespace deeplab_native {
namespace {

// Blocks of a multiprocessor at a time, at the least: bounds the registers where the compiler would
// otherwise choose a bound that spills.
template <class T, bool kTensor, class Tile>
constexpr int kMinBlocks = Tile::kThreads > 128            ? 1
                           : kTensor && kHasTensorCores<T> ? 3
                                                           : 2;

// ---- the convolution, and its gradient by the map ----
// Rows: the pixels of a grid; columns: filters; sums: along the channels of the map, tap by tap.
template <class T>
struct WindowProduct {
  MapView<T> map;
  Window window;
  MapView<T> filters;  // a filter as a map: batch_stride apart, its taps col_stride
  Result<T> result;
};

template <class T, bool kTensor, class Tile>
__global__ void __launch_bounds__(Tile::kThreads, (kMinBlocks<T, kTensor, Tile>))
    atrous_direct_window_kernel(WindowProduct<T> p, int parts) {
  __shared__ SharedBytes<T, Tile, true> shared;
  __shared__ uint32_t shared_mask;
  const int64_t row0 = int64_t{blockIdx.x} * Tile::kRows, col0 = int64_t{blockIdx.y} * Tile::kCols;
  WindowLoader<T, kTensor, Tile::kRows, Tile::kThreads> a(p.map, p.window, row0, p.result.rows);
  FilterLoader<T, kTensor, Tile::kCols, Tile::kThreads> b(p.filters, col0, p.result.cols);

  const TapSet taps =
      taps_in_reach(p.window, &shared_mask, [&](int i, int j) { return a.reaches(i, j); });
  const int chunks = (p.map.channels + kStepDepth<T> - 1) / kStepDepth<T>;  // of a tap's channels
  const Share share(int64_t{taps.count()} * chunks, blockIdx.z, parts);
  int skip = static_cast<int>(share.begin / chunks), chunk = static_cast<int>(share.begin % chunks);
  int tap = taps.from(0);
  while (skip-- > 0) tap = taps.from(tap + 1);

  using Sums = typename WarpTileOf<T, kTensor, Tile, true>::Type;
  Sums sums;
  sums.clear();
  const auto fetch = [&] {
    const int i = tap / p.window.kernel_w, j = tap - i * p.window.kernel_w;
    a.fetch(i, j, chunk * kStepDepth<T>);
    b.fetch(tap, chunk * kStepDepth<T>);
    if (++chunk == chunks) chunk = 0, tap = taps.from(tap + 1);
  };
  const auto put = [&](T* to_a, T* to_b) { a.put(to_a), b.put(to_b); };
  const Buffers<T, Tile, true> buffers{reinterpret_cast<T*>(shared.bytes)};
  multiply(sums, buffers, share.end - share.begin, fetch, put);
  write_tile<T, Tile>(sums, shared.bytes, p.result, row0, col0, blockIdx.z);
}

// ---- the gradient by the weights ----
// Rows: channels of the map under one tap; columns: filters; sums: along the output's pixels.
template <class T>
struct WeightProduct {
  MapView<T> map, grad;
  int64_t batch;
  int height, width, out_height, out_width;
  int kernel_w, stride_h, stride_w, pad_h, pad_w, rate_h, rate_w;
  int row_tiles;  // of one tap
  Result<T> result;
};

// The output pixels of one axis whose tap lies on the map: begin, and how many.
struct Reach {
  int begin, count, offset;  // offset: of the map pixel under output pixel 0
  __device__ Reach(int tap, int stride, int padding, int rate, int size, int out_size)
      : offset(tap * rate - padding) {
    begin = offset < 0 ? (-offset + stride - 1) / stride : 0;
    const int end = offset < size ? (size - offset + stride - 1) / stride : 0;
    count = min(end, out_size) - begin;
  }
};

template <class T, bool kTensor, class Tile>
__global__ void __launch_bounds__(Tile::kThreads, (kMinBlocks<T, kTensor, Tile>))
    atrous_direct_weight_kernel(WeightProduct<T> p, int parts) {
  __shared__ SharedBytes<T, Tile, false> shared;
  const int tap = blockIdx.x / p.row_tiles;
  const int channel0 = (blockIdx.x - tap * p.row_tiles) * Tile::kRows;
  const int64_t filter0 = int64_t{blockIdx.y} * Tile::kCols;
  const int i = tap / p.kernel_w, j = tap - i * p.kernel_w;
  const Reach ys(i, p.stride_h, p.pad_h, p.rate_h, p.height, p.out_height);
  const Reach xs(j, p.stride_w, p.pad_w, p.rate_w, p.width, p.out_width);
  const bool any = ys.count > 0 && xs.count > 0;
  const int height = any ? ys.count : 1, width = any ? xs.count : 1;
  const int64_t pixels = any ? p.batch * height * width : 0;
  const int64_t steps = (pixels + kStepDepth<T> - 1) / kStepDepth<T>;
  const Share share(steps, blockIdx.z, parts);

  // the rectangles of both maps that lie under each other, pixel by pixel
  MapView<T> map = p.map, grad = p.grad;
  map.data += (ys.begin * p.stride_h + ys.offset) * map.row_stride +
              (xs.begin * p.stride_w + xs.offset) * map.col_stride;
  map.row_stride *= p.stride_h, map.col_stride *= p.stride_w;
  grad.data += ys.begin * grad.row_stride + xs.begin * grad.col_stride;
  const int64_t first = share.begin * kStepDepth<T>;
  PixelLoader<T, kTensor, Tile::kRows, Tile::kThreads> a(map, channel0, first, p.batch, height,
                                                         width);
  PixelLoader<T, kTensor, Tile::kCols, Tile::kThreads> b(grad, static_cast<int>(filter0), first,
                                                         p.batch, height, width);
  using Sums = typename WarpTileOf<T, kTensor, Tile, false>::Type;
  Sums sums;
  sums.clear();
  const auto fetch = [&] { a.fetch(), b.fetch(); };
  const auto put = [&](T* to_a, T* to_b) { a.put(to_a), b.put(to_b); };
  const Buffers<T, Tile, false> buffers{reinterpret_cast<T*>(shared.bytes)};
  multiply(sums, buffers, share.end - share.begin, fetch, put);
  Result<T> result = p.result;
  const int64_t of_tap = int64_t{tap} * p.map.channels;
  result.data += of_tap;
  if (result.partial != nullptr) result.partial += of_tap;
  write_tile<T, Tile>(sums, shared.bytes, result, channel0, filter0, blockIdx.z);
}

}  // namespace
}  // namespace deeplab_native
