// The parts that the sums of a product were cut into, added in their order.
#pragma once
#include "common/half.h"
#include "cuda/compat.cuh"

namespace deeplab_native {
namespace {

constexpr unsigned kAddThreads = 256;

template <class T>
__global__ void __launch_bounds__(kAddThreads)
    atrous_direct_add_kernel(const typename Number<T>::Sum* __restrict__ partial,
                             T* __restrict__ out, int64_t size, int parts) {
  for (int64_t i = strided_begin(); i < size; i += strided_step()) {
    auto sum = partial[i];
    for (int part = 1; part < parts; ++part) sum += partial[part * size + i];
    out[i] = Number<T>::from(sum);
  }
}

// out = the sum of `parts` times `size` partial sums.
template <class T>
cudaError_t add_parts(const typename Number<T>::Sum* partial, T* out, int64_t size, int parts,
                      cudaStream_t stream) {
  return launch(atrous_direct_add_kernel<T>, dim3(strided_blocks(size, kAddThreads)),
                dim3(kAddThreads), 0, stream, partial, out, size, parts);
}

}  // namespace
}  // namespace deeplab_native
