// Between the layout of the user, a map for each label, and that of the mean field, a row for each
// point: transposed tile by tile through shared memory, so that reads and writes are whole lines.
#include "cuda/compat.cuh"
#include "ops/mean_field.h"

namespace deeplab_native {
namespace {

constexpr unsigned kThreads = 256;
constexpr int kTile = 32;

struct RowShape {
  int64_t batch, num_points, labels, width;
};

RowShape row_shape(const CudaMeanFieldShape& shape) {
  return {shape.batch, shape.num_points, shape.num_labels, mean_field_width_cuda(shape.num_labels)};
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    labels_to_rows_kernel(const T* __restrict__ values, T* __restrict__ rows, RowShape s, T factor,
                          T padding) {
  __shared__ T tile[kTile][kTile + 1];
  const int64_t tiles = (s.num_points + kTile - 1) / kTile;
  for (int64_t t = blockIdx.x; t < s.batch * tiles; t += gridDim.x) {
    const int64_t b = t / tiles, first = (t - b * tiles) * kTile;
    for (int64_t label = 0; label < s.width; label += kTile) {
      for (int i = threadIdx.y; i < kTile; i += blockDim.y) {
        const int64_t l = label + i, point = first + threadIdx.x;
        const bool real = l < s.labels && point < s.num_points;
        tile[i][threadIdx.x] =
            real ? factor * values[(b * s.labels + l) * s.num_points + point] : padding;
      }
      __syncthreads();
      for (int i = threadIdx.y; i < kTile; i += blockDim.y) {
        const int64_t l = label + threadIdx.x, point = first + i;
        if (l < s.width && point < s.num_points) {
          rows[(b * s.num_points + point) * s.width + l] = tile[threadIdx.x][i];
        }
      }
      __syncthreads();
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    rows_to_labels_kernel(const T* __restrict__ rows, T* __restrict__ values, RowShape s) {
  __shared__ T tile[kTile][kTile + 1];
  const int64_t tiles = (s.num_points + kTile - 1) / kTile;
  for (int64_t t = blockIdx.x; t < s.batch * tiles; t += gridDim.x) {
    const int64_t b = t / tiles, first = (t - b * tiles) * kTile;
    for (int64_t label = 0; label < s.labels; label += kTile) {
      for (int i = threadIdx.y; i < kTile; i += blockDim.y) {
        const int64_t l = label + threadIdx.x, point = first + i;
        if (l < s.labels && point < s.num_points) {
          tile[i][threadIdx.x] = rows[(b * s.num_points + point) * s.width + l];
        }
      }
      __syncthreads();
      for (int i = threadIdx.y; i < kTile; i += blockDim.y) {
        const int64_t l = label + i, point = first + threadIdx.x;
        if (l < s.labels && point < s.num_points) {
          values[(b * s.labels + l) * s.num_points + point] = tile[threadIdx.x][i];
        }
      }
      __syncthreads();
    }
  }
}

}  // namespace

int64_t mean_field_width_cuda(int64_t num_labels) {
  return num_labels <= 2 ? num_labels : (num_labels + 3) / 4 * 4;
}

template <class T>
int labels_to_rows_cuda(const CudaMeanFieldShape& shape, const T* values, T* rows, T factor,
                        T padding, void* stream) {
  const int64_t tiles = shape.batch * ((shape.num_points + kTile - 1) / kTile);
  if (tiles == 0) return cudaSuccess;
  return launch(labels_to_rows_kernel<T>, strided_blocks(tiles * kThreads, kThreads),
                dim3(kTile, kThreads / kTile), 0, static_cast<cudaStream_t>(stream), values, rows,
                row_shape(shape), factor, padding);
}

template <class T>
int rows_to_labels_cuda(const CudaMeanFieldShape& shape, const T* rows, T* values, void* stream) {
  const int64_t tiles = shape.batch * ((shape.num_points + kTile - 1) / kTile);
  if (tiles == 0) return cudaSuccess;
  return launch(rows_to_labels_kernel<T>, strided_blocks(tiles * kThreads, kThreads),
                dim3(kTile, kThreads / kTile), 0, static_cast<cudaStream_t>(stream), rows, values,
                row_shape(shape));
}

#define DEEPLAB_INSTANTIATE(T)                                                            \
  template int labels_to_rows_cuda(const CudaMeanFieldShape&, const T*, T*, T, T, void*); \
  template int rows_to_labels_cuda(const CudaMeanFieldShape&, const T*, T*, void*);
DEEPLAB_INSTANTIATE(float)
DEEPLAB_INSTANTIATE(double)
#undef DEEPLAB_INSTANTIATE

}  // namespace deeplab_native
