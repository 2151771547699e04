// The only header through which a kernel file sees CUDA: the runtime under nvcc, or the emulator
// that runs the same kernels on the CPU in the tests (-DCUDA_EMU). Kernels live in an anonymous
// namespace, start only through launch() and assume no lockstep within a warp.
#pragma once
#if defined(CUDA_EMU)
#include "cuda_emu.h"
// Shared memory whose size the launch gives: an array of T.
#define DEEPLAB_DYNAMIC_SHARED(T, name) T* name = reinterpret_cast<T*>(emu::blk->smem.data())
#define __grid_constant__
#else
#include <cuda_runtime.h>
#define DEEPLAB_DYNAMIC_SHARED(T, name)                                  \
  extern __shared__ __align__(16) unsigned char deeplab_shared_bytes_[]; \
  T* name = reinterpret_cast<T*>(deeplab_shared_bytes_)
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace deeplab_native {

// Starts kernel(args...), each argument converted to the parameter's own type.
template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
                   cudaStream_t stream, Arguments... args) {
#if defined(CUDA_EMU)
  (void)stream;
  emu::launch(reinterpret_cast<const void*>(kernel), grid, block, shared_bytes,
              [&] { kernel(static_cast<Parameters>(args)...); });
#else
  // clang-format off: it knows no >>>
  kernel<<<grid, block, shared_bytes, stream>>>(static_cast<Parameters>(args)...);
  // clang-format on
#endif
  return cudaGetLastError();
}

// Reads what other threads change by atomic operations meanwhile: some value that it had.
__device__ inline int32_t read_relaxed(const int32_t* from) {
#if defined(CUDA_EMU)
  return __atomic_load_n(from, __ATOMIC_RELAXED);
#else
  return *static_cast<const volatile int32_t*>(from);
#endif
}

// The same from this multiprocessor's own cache, where it may be long out of date.
__device__ inline int32_t read_cached(const int32_t* from) {
#if defined(CUDA_EMU)
  return __atomic_load_n(from, __ATOMIC_RELAXED);
#else
  return __ldca(from);
#endif
}

// A store that the compiler does not take apart into words.
__device__ inline void store_whole(float4* to, float4 value) {
#if defined(CUDA_EMU)
  *to = value;
#else
  __stwb(to, value);
#endif
}

// a b, in the one instruction that adds it to an address, too: where the compiler widens b before a
// loop, it no longer sees that 32 bits are enough.
__device__ inline uint64_t wide_product(uint32_t a, uint32_t b) {
#if defined(CUDA_EMU)
  return uint64_t{a} * b;
#else
  uint64_t product;
  asm("mul.wide.u32 %0, %1, %2;" : "=l"(product) : "r"(a), "r"(b));
  return product;
#endif
}

// Row number `row` of rows of values: the product of 32 bits is one instruction, of 64 four or
// more.
template <class T>
__device__ T* row_at(T* rows, uint32_t row, int64_t width) {
  // as bytes and not as a number, so that the compiler still knows it is device memory
  using Byte = std::conditional_t<std::is_const_v<T>, const char, char>;
  const uint32_t row_bytes = static_cast<uint32_t>(width) * static_cast<uint32_t>(sizeof(T));
  return reinterpret_cast<T*>(reinterpret_cast<Byte*>(rows) + wide_product(row, row_bytes));
}

// For __launch_bounds__: so many blocks of a multiprocessor at the least, where it has the threads.
constexpr int at_least_blocks(int wanted, int threads) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
  constexpr int kThreadsOfMultiprocessor = 1024;
#else
  constexpr int kThreadsOfMultiprocessor = 1536;
#endif
  return wanted * threads <= kThreadsOfMultiprocessor ? wanted : kThreadsOfMultiprocessor / threads;
}

// Multiprocessors of the current device.
inline int num_multiprocessors() {
  int device = 0, count = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device) != cudaSuccess) {
    return 1;
  }
  return count;
}

// Blocks for a kernel that strides over `items`, one to a thread, with strided_begin and
// strided_step: as many as fill the device, but no more than there is work for.
inline unsigned strided_blocks(int64_t items, unsigned threads) {
  constexpr int kThreadsPerMultiprocessor = 2048, kWaves = 2;
  const int64_t full =
      int64_t{num_multiprocessors()} * kWaves * (kThreadsPerMultiprocessor / threads);
  const int64_t wanted = (items + threads - 1) / threads;
  return static_cast<unsigned>(std::max<int64_t>(1, std::min(full, wanted)));
}
constexpr int64_t kMaxGrid = 65535;  // of y and z; kernels stride over what is beyond
__device__ inline int64_t strided_begin() { return int64_t{blockIdx.x} * blockDim.x + threadIdx.x; }
__device__ inline int64_t strided_step() { return int64_t{gridDim.x} * blockDim.x; }

}  // namespace deeplab_native
