// A thread has one (filter, channel) and walks its filter taps: adjacent in the weight, so that a
// warp reads whole cache lines, while each tap's row of the matrix is written by adjacent threads.
#include <algorithm>

#include "cuda/compat.cuh"
#include "ops/aspp.h"

namespace deeplab_native {
namespace {

constexpr unsigned kThreads = 256;

// A run of a branch's filter taps; larger kernels take several launches.
struct TapRows {
  static constexpr int kMax = 256;
  int count;
  int64_t stride;       // taps of the whole kernel
  int32_t index[kMax];  // row of the matrix, or negative
  unsigned char add[kMax];
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    aspp_pack_kernel(const T* __restrict__ weight, typename Number<T>::Sum* packed, int64_t items,
                     TapRows rows) {
  using Sum = typename Number<T>::Sum;
  for (int64_t i = strided_begin(); i < items; i += strided_step()) {
    for (int k = 0; k < rows.count; ++k) {
      if (rows.index[k] < 0) continue;
      Sum& to = packed[rows.index[k] * items + i];
      const Sum value = weight[i * rows.stride + k];
      to = rows.add[k] ? to + value : value;
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    aspp_unpack_kernel(const T* __restrict__ packed, T* __restrict__ weight, int64_t items,
                       TapRows rows) {
  for (int64_t i = strided_begin(); i < items; i += strided_step()) {
    for (int k = 0; k < rows.count; ++k) {
      const int row = rows.index[k];
      weight[i * rows.stride + k] = row < 0 ? T{} : packed[row * items + i];
    }
  }
}

// Calls run(first filter tap, rows, items, blocks) for every run of filter taps.
template <class Run>
cudaError_t for_each_run(const AsppPackShape& s, const Run& run) {
  const int64_t items = s.filters * s.channels;
  const int64_t taps = static_cast<int64_t>(s.index.size());
  if (items == 0) return cudaSuccess;
  for (int64_t first = 0; first < taps; first += TapRows::kMax) {
    TapRows rows{};
    rows.count = static_cast<int>(std::min<int64_t>(TapRows::kMax, taps - first));
    rows.stride = taps;
    std::copy_n(s.index.begin() + first, rows.count, rows.index);
    if (!s.add.empty()) std::copy_n(s.add.begin() + first, rows.count, rows.add);
    const cudaError_t error = run(first, rows, items, dim3(strided_blocks(items, kThreads)));
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace

int aspp_pack_cuda(const void* weight, void* packed, const AsppPackShape& shape, FloatType type,
                   void* stream) {
  return with_float_type(type, [&](auto zero) {
    using T = decltype(zero);
    return for_each_run(shape, [&](int64_t first, const TapRows& rows, int64_t items, dim3 grid) {
      return launch(aspp_pack_kernel<T>, grid, dim3(kThreads), 0, static_cast<cudaStream_t>(stream),
                    static_cast<const T*>(weight) + first,
                    static_cast<typename Number<T>::Sum*>(packed), items, rows);
    });
  });
}

int aspp_unpack_cuda(const void* packed, void* weight, const AsppPackShape& shape, FloatType type,
                     void* stream) {
  return with_float_type(type, [&](auto zero) {
    using T = decltype(zero);
    return for_each_run(shape, [&](int64_t first, const TapRows& rows, int64_t items, dim3 grid) {
      return launch(aspp_unpack_kernel<T>, grid, dim3(kThreads), 0,
                    static_cast<cudaStream_t>(stream), static_cast<const T*>(packed),
                    static_cast<T*>(weight) + first, items, rows);
    });
  });
}

}  // namespace deeplab_native
