// Columns lie pixel by pixel, so the lanes of a warp run along pixels there. Where the map lies
// pixel by pixel, too (contiguous), one kernel reads and writes; where its channels are closer
// together than its pixels (channels_last), the map side of a tile of pixels and channels runs
// along the channels, and the tile turns over in shared memory.
#include "common/half.h"
#include "cuda/rows.cuh"
#include "ops/atrous_im2col.h"

namespace deeplab_native {
namespace {

constexpr unsigned kThreads = kRowThreads;
constexpr int kTile = 32;  // pixels and channels of a tile
constexpr int kTileStep = kThreads / kTile;
constexpr int64_t kMaxBlocks = kMaxRowBlocks;  // the kernels stride over what a grid does not reach

// The shape with what device code cannot ask of it: std::array and host functions.
struct Shape : AtrousIm2colShape {
  int64_t step_b, step_c, step_y, step_x;  // map_stride
  int64_t cols, pixels;                    // of the window
  explicit Shape(const AtrousIm2colShape& s)
      : AtrousIm2colShape(s),
        step_b(s.map_stride[0]),
        step_c(s.map_stride[1]),
        step_y(s.map_stride[2]),
        step_x(s.map_stride[3]),
        cols(s.window_cols()),
        pixels(s.window_rows() * s.window_cols()) {}
};

// One tap of one channel, or of one group of channels.
struct Tap {
  int64_t b, c, i, j;
  __device__ Tap(int64_t row, int64_t channels, const Shape& s)
      : b(row / s.kernel_w / s.kernel_h / channels),
        c(row / s.kernel_w / s.kernel_h % channels),
        i(row / s.kernel_w % s.kernel_h),
        j(row % s.kernel_w) {}
};

template <class T>
struct alignas(16) Word16 {
  static constexpr int kItems = 16 / sizeof(T);
  T items[kItems];
};

// Rows (b, c, i, j) of the columns, one to a row of threads. A thread fills one aligned 16-byte
// word at a time, whatever the alignment of the row: the first word begins before the row.
template <class T>
__global__ void __launch_bounds__(kThreads)
    im2col_kernel(const T* __restrict__ map, T* __restrict__ columns, Shape s) {
  constexpr int kItems = Word16<T>::kItems;
  const int64_t cols = s.cols, pixels = s.pixels;
  const int64_t rows = s.batch * s.channels * s.kernel_h * s.kernel_w;
  const int64_t skew = reinterpret_cast<uint64_t>(columns) / sizeof(T) % kItems;
  for (int64_t row = int64_t{blockIdx.x} * blockDim.y + threadIdx.y; row < rows;
       row += int64_t{gridDim.x} * blockDim.y) {
    const Tap tap(row, s.channels, s);
    const T* plane = map + tap.b * s.step_b + tap.c * s.step_c;
    const int64_t offset_y = s.row_begin * s.stride_h + tap.i * s.rate_h - s.pad_h;
    const int64_t offset_x = s.col_begin * s.stride_w + tap.j * s.rate_w - s.pad_w;
    T* to = columns + row * pixels;
    const int64_t before = (row * pixels + skew) % kItems;
    for (int64_t word = threadIdx.x; word * kItems - before < pixels; word += blockDim.x) {
      const int64_t first = word * kItems - before;
      // most images have fewer than 2^32 pixels, whose division is much cheaper
      const int64_t start = first < 0 ? 0 : first;
      const int64_t y0 = pixels <= UINT32_MAX ? uint32_t(start) / uint32_t(cols) : start / cols;
      int64_t y = y0 * s.stride_h + offset_y, x = start - y0 * cols;
      Word16<T> values;
#pragma unroll
      for (int item = 0; item < kItems; ++item) {
        values.items[item] = T{};
        if (first + item < 0 || first + item >= pixels) continue;
        const int64_t map_x = x * s.stride_w + offset_x;
        if (y >= 0 && y < s.height && map_x >= 0 && map_x < s.width) {
          values.items[item] = plane[y * s.step_y + map_x * s.step_x];
        }
        if (++x == cols) x = 0, y += s.stride_h;
      }
      if (first >= 0 && first + kItems <= pixels) {
        *reinterpret_cast<Word16<T>*>(to + first) = values;
        continue;
      }
#pragma unroll
      for (int item = 0; item < kItems; ++item) {
        if (first + item >= 0 && first + item < pixels) to[first + item] = values.items[item];
      }
    }
  }
}

// Tiles (b, group of channels, i, j, group of pixels): read along the channels, written along the
// pixels.
template <class T>
__global__ void __launch_bounds__(kThreads)
    im2col_tile_kernel(const T* __restrict__ map, T* __restrict__ columns, Shape s) {
  __shared__ T tile[kTile][kTile + 1];
  const int lane = threadIdx.x % kTile, line = threadIdx.x / kTile;
  const int64_t cols = s.cols, pixels = s.pixels;
  const int64_t groups = (s.channels + kTile - 1) / kTile;
  const int64_t pixel_tiles = (pixels + kTile - 1) / kTile;
  const int64_t tiles = s.batch * groups * s.kernel_h * s.kernel_w * pixel_tiles;
  for (int64_t t = blockIdx.x; t < tiles; t += gridDim.x) {
    const Tap tap(t / pixel_tiles, groups, s);
    const int64_t channel = tap.c * kTile, pixel = t % pixel_tiles * kTile;
    for (int k = line; k < kTile; k += kTileStep) {
      const int64_t y0 = (pixel + k) / cols, x0 = pixel + k - y0 * cols;
      const int64_t y = (s.row_begin + y0) * s.stride_h + tap.i * s.rate_h - s.pad_h;
      const int64_t x = (s.col_begin + x0) * s.stride_w + tap.j * s.rate_w - s.pad_w;
      const bool inside = channel + lane < s.channels && pixel + k < pixels && y >= 0 &&
                          y < s.height && x >= 0 && x < s.width;
      const int64_t from =
          tap.b * s.step_b + (channel + lane) * s.step_c + y * s.step_y + x * s.step_x;
      tile[k][lane] = inside ? map[from] : T{};
    }
    __syncthreads();
    for (int k = line; k < kTile && channel + k < s.channels; k += kTileStep) {
      const int64_t row = ((tap.b * s.channels + channel + k) * s.kernel_h + tap.i) * s.kernel_w;
      if (pixel + lane < pixels) columns[(row + tap.j) * pixels + pixel + lane] = tile[lane][k];
    }
    __syncthreads();
  }
}

// The value plus the columns of pixel (y, x) of one channel, in the order of the taps; `columns`
// are those of the channel.
template <class Column, class Map>
__device__ Map add_taps(Map value, const Column* columns, const Shape& s, int64_t y, int64_t x) {
  const int64_t cols = s.cols, pixels = s.pixels;
  for (int64_t i = 0; i < s.kernel_h; ++i) {
    int64_t out_y = y + s.pad_h - i * s.rate_h;
    if (s.stride_h != 1) out_y = out_y % s.stride_h == 0 ? out_y / s.stride_h : -1;
    if (out_y < s.row_begin || out_y >= s.row_end) continue;
    for (int64_t j = 0; j < s.kernel_w; ++j) {
      int64_t out_x = x + s.pad_w - j * s.rate_w;
      if (s.stride_w != 1) out_x = out_x % s.stride_w == 0 ? out_x / s.stride_w : -1;
      if (out_x < s.col_begin || out_x >= s.col_end) continue;
      value += static_cast<Map>(columns[(i * s.kernel_w + j) * pixels +
                                        (out_y - s.row_begin) * cols + out_x - s.col_begin]);
    }
  }
  return value;
}

// Rows (b, c, y) of the map, one to a row of threads.
template <class Column, class Map>
__global__ void __launch_bounds__(kThreads, 4)  // else sm_90 is given 48 registers, and spills
    col2im_kernel(const Column* __restrict__ columns, Map* __restrict__ map, Shape s) {
  const int64_t rows = s.batch * s.channels * s.height;
  const int64_t channel_columns = s.kernel_h * s.kernel_w * s.pixels;
  for (int64_t row = int64_t{blockIdx.x} * blockDim.y + threadIdx.y; row < rows;
       row += int64_t{gridDim.x} * blockDim.y) {
    const int64_t y = row % s.height, plane = row / s.height;
    const int64_t b = plane / s.channels, c = plane % s.channels;
    Map* to = map + b * s.step_b + c * s.step_c + y * s.step_y;
    for (int64_t x = threadIdx.x; x < s.width; x += blockDim.x) {
      Map& pixel = to[x * s.step_x];
      pixel = add_taps(pixel, columns + plane * channel_columns, s, y, x);
    }
  }
}

// Tiles (b, group of channels, group of pixels of the map): the map side along the channels.
template <class Column, class Map>
__global__ void __launch_bounds__(kThreads)
    col2im_tile_kernel(const Column* __restrict__ columns, Map* __restrict__ map, Shape s) {
  __shared__ Map tile[kTile][kTile + 1];
  const int lane = threadIdx.x % kTile, line = threadIdx.x / kTile;
  const int64_t pixels = s.height * s.width, pixel_tiles = (pixels + kTile - 1) / kTile;
  const int64_t groups = (s.channels + kTile - 1) / kTile;
  const int64_t channel_columns = s.kernel_h * s.kernel_w * s.pixels;
  for (int64_t t = blockIdx.x; t < s.batch * groups * pixel_tiles; t += gridDim.x) {
    const int64_t pixel = t % pixel_tiles * kTile, channel = t / pixel_tiles % groups * kTile;
    const int64_t b = t / pixel_tiles / groups;
    const auto place = [&](int k) {
      const int64_t y = (pixel + k) / s.width, x = pixel + k - y * s.width;
      return map + b * s.step_b + (channel + lane) * s.step_c + y * s.step_y + x * s.step_x;
    };
    const bool mine = channel + lane < s.channels;
    for (int k = line; k < kTile; k += kTileStep) {
      if (mine && pixel + k < pixels) tile[k][lane] = *place(k);
    }
    __syncthreads();
    const int64_t y = (pixel + lane) / s.width, x = pixel + lane - y * s.width;
    for (int k = line; k < kTile && channel + k < s.channels; k += kTileStep) {
      const Column* from = columns + (b * s.channels + channel + k) * channel_columns;
      if (pixel + lane < pixels) tile[lane][k] = add_taps(tile[lane][k], from, s, y, x);
    }
    __syncthreads();
    for (int k = line; k < kTile; k += kTileStep) {
      if (mine && pixel + k < pixels) *place(k) = tile[k][lane];
    }
    __syncthreads();
  }
}

// Whether the map's neighbours in memory are channels.
bool channels_closer(const Shape& s) { return s.channels > 1 && s.step_c < s.step_x; }

template <class... Parameters, class... Arguments>
cudaError_t launch_tiles(void (*kernel)(Parameters...), int64_t tiles, void* stream,
                         Arguments... args) {
  if (tiles == 0) return cudaSuccess;
  return launch(kernel, dim3(static_cast<unsigned>(std::min(kMaxBlocks, tiles))), dim3(kThreads), 0,
                static_cast<cudaStream_t>(stream), args...);
}

int64_t num_tiles(int64_t items) { return (items + kTile - 1) / kTile; }

template <class T>
cudaError_t im2col(const void* map, void* columns, const Shape& s, void* stream) {
  const int64_t taps = s.kernel_h * s.kernel_w, pixels = s.pixels;
  if (channels_closer(s)) {
    const int64_t tiles = s.batch * num_tiles(s.channels) * taps * num_tiles(pixels);
    return launch_tiles(im2col_tile_kernel<T>, tiles, stream, static_cast<const T*>(map),
                        static_cast<T*>(columns), s);
  }
  return launch_rows(im2col_kernel<T>, s.batch * s.channels * taps, pixels / Word16<T>::kItems + 2,
                     stream, static_cast<const T*>(map), static_cast<T*>(columns), s);
}

template <class Column, class Map>
cudaError_t col2im(const void* columns, void* map, const Shape& s, void* stream) {
  const auto* from = static_cast<const Column*>(columns);
  if (channels_closer(s)) {
    const int64_t tiles = s.batch * num_tiles(s.channels) * num_tiles(s.height * s.width);
    return launch_tiles(col2im_tile_kernel<Column, Map>, tiles, stream, from,
                        static_cast<Map*>(map), s);
  }
  return launch_rows(col2im_kernel<Column, Map>, s.batch * s.channels * s.height, s.width, stream,
                     from, static_cast<Map*>(map), s);
}

}  // namespace

int atrous_im2col_cuda(const void* map, void* columns, const AtrousIm2colShape& shape,
                       int element_size, void* stream) {
  switch (element_size) {
    case 2:
      return im2col<uint16_t>(map, columns, Shape(shape), stream);
    case 4:
      return im2col<uint32_t>(map, columns, Shape(shape), stream);
    case 8:
      return im2col<uint64_t>(map, columns, Shape(shape), stream);
  }
  return cudaErrorInvalidValue;
}

int atrous_col2im_cuda(const void* columns, void* map, const AtrousIm2colShape& shape,
                       FloatType type, void* stream) {
  switch (type) {
    case FloatType::kFloat32:
      return col2im<float, float>(columns, map, Shape(shape), stream);
    case FloatType::kFloat64:
      return col2im<double, double>(columns, map, Shape(shape), stream);
    case FloatType::kBfloat16:
      return col2im<Bfloat16, float>(columns, map, Shape(shape), stream);
    case FloatType::kFloat16:
      return col2im<Float16, float>(columns, map, Shape(shape), stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace deeplab_native
