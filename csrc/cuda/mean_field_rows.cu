// Between the layout of the user, a map for each label, and that of the mean field, a row for each
// point: transposed tile by tile through shared memory, so that reads and writes are whole lines,
// or whole sectors where points go through tiles of pixels.
#include <algorithm>

#include "cuda/pixel_order.cuh"
#include "ops/mean_field.h"

namespace deeplab_native {
namespace {

constexpr int kTile = 32;     // points and labels
constexpr int kTileRows = 8;  // of threads, each a line of the tile
constexpr unsigned kThreads = kTile * kTileRows;

struct RowShape {
  int64_t batch, num_points, labels, width;
};

RowShape row_shape(const CudaMeanFieldShape& shape) {
  return {shape.batch, shape.num_points, shape.num_labels, mean_field_width_cuda(shape.num_labels)};
}

dim3 tile_grid(const CudaMeanFieldShape& shape) {
  return dim3(strided_blocks((shape.num_points + kTile - 1) / kTile * kThreads, kThreads),
              static_cast<unsigned>(std::min(shape.batch, kMaxGrid)));
}

// f(image, first point, first label) for every tile; blockIdx.y has an image. All threads of a
// block come together.
template <class F>
__device__ void each_tile(const RowShape& s, int64_t labels, const F& f) {
  for (int64_t b = blockIdx.y; b < s.batch; b += gridDim.y) {
    for (int64_t point = int64_t{blockIdx.x} * kTile; point < s.num_points;
         point += int64_t{gridDim.x} * kTile) {
#pragma unroll 1  // there is one, mostly
      for (int64_t label = 0; label < labels; label += kTile) f(b, point, label);
    }
  }
}

// f(i, where line i begins) for the lines of a tile that this thread has, of the first `count`;
// `lines` is where line 0 begins, they are `stride` apart.
template <class T, class F>
__device__ void each_line(int64_t count, T* lines, int64_t stride, const F& f) {
  const int end = static_cast<int>(min(count, int64_t{kTile}));
  lines += threadIdx.y * stride;
#pragma unroll
  for (int j = 0; j < kTile; j += kTileRows, lines += kTileRows * stride) {
    const int i = static_cast<int>(threadIdx.y) + j;
    if (i < end) f(i, lines);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    labels_to_rows_kernel(const T* __restrict__ values, T* __restrict__ rows, RowShape s,
                          PixelOrder order, T factor, T padding) {
  __shared__ T tile[kTile][kTile + 1];
  const int x = threadIdx.x;
  each_tile(s, s.width, [&](int64_t b, int64_t point, int64_t label) {
    const bool on_map = point + x < s.num_points;
    const int64_t pixel = on_map ? order.pixel(static_cast<uint32_t>(point + x)) : 0;
    const T* from = values + (b * s.labels + label) * s.num_points + pixel;
    const int labels = static_cast<int>(min(s.labels - label, int64_t{kTile}));
    each_line(s.width - label, from, s.num_points, [&](int i, const T* line) {
      tile[i][x] = on_map && i < labels ? factor * *line : padding;
    });
    __syncthreads();
    T* to = rows + (b * s.num_points + point) * s.width + label + x;
    if (label + x < s.width) {
      each_line(s.num_points - point, to, s.width, [&](int i, T* line) { *line = tile[x][i]; });
    }
    __syncthreads();
  });
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    rows_to_labels_kernel(const T* __restrict__ rows, T* __restrict__ values, RowShape s,
                          PixelOrder order) {
  __shared__ T tile[kTile][kTile + 1];
  const int x = threadIdx.x;
  each_tile(s, s.labels, [&](int64_t b, int64_t point, int64_t label) {
    const T* from = rows + (b * s.num_points + point) * s.width + label + x;
    if (label + x < s.labels) {
      each_line(s.num_points - point, from, s.width,
                [&](int i, const T* line) { tile[i][x] = *line; });
    }
    __syncthreads();
    if (point + x < s.num_points) {
      const int64_t pixel = order.pixel(static_cast<uint32_t>(point + x));
      T* to = values + (b * s.labels + label) * s.num_points + pixel;
      each_line(s.labels - label, to, s.num_points, [&](int i, T* line) { *line = tile[x][i]; });
    }
    __syncthreads();
  });
}

}  // namespace

int64_t mean_field_width_cuda(int64_t num_labels) {
  return num_labels <= 2 ? num_labels : (num_labels + 3) / 4 * 4;
}

template <class T>
int labels_to_rows_cuda(const CudaMeanFieldShape& shape, const CudaPixelOrder& order,
                        const T* values, T* rows, T factor, T padding, void* stream) {
  if (shape.batch * shape.num_points == 0) return cudaSuccess;
  return launch(labels_to_rows_kernel<T>, tile_grid(shape), dim3(kTile, kTileRows), 0,
                static_cast<cudaStream_t>(stream), values, rows, row_shape(shape),
                PixelOrder(order, shape.num_points), factor, padding);
}

template <class T>
int rows_to_labels_cuda(const CudaMeanFieldShape& shape, const CudaPixelOrder& order, const T* rows,
                        T* values, void* stream) {
  if (shape.batch * shape.num_points == 0) return cudaSuccess;
  return launch(rows_to_labels_kernel<T>, tile_grid(shape), dim3(kTile, kTileRows), 0,
                static_cast<cudaStream_t>(stream), rows, values, row_shape(shape),
                PixelOrder(order, shape.num_points));
}

#define DEEPLAB_INSTANTIATE(T)                                                                     \
  template int labels_to_rows_cuda(const CudaMeanFieldShape&, const CudaPixelOrder&, const T*, T*, \
                                   T, T, void*);                                                   \
  template int rows_to_labels_cuda(const CudaMeanFieldShape&, const CudaPixelOrder&, const T*, T*, \
                                   void*);
DEEPLAB_INSTANTIATE(float)
DEEPLAB_INSTANTIATE(double)
#undef DEEPLAB_INSTANTIATE

}  // namespace deeplab_native
