// Runs CUDA kernels on the CPU, for tests on machines without a GPU; never shipped.
//
// A kernel file includes cuda/compat.cuh, which pulls in cuda_runtime.h under nvcc and this header
// under a host compiler with -DCUDA_EMU. "Device" pointers are host pointers. What it finds:
// accesses out of bounds (-fsanitize=address), undefined behaviour (-fsanitize=undefined), missing
// barriers (-fsanitize=thread, where each CUDA thread is a TSan fiber and barriers are the only
// edges, or a result that changes with CUDA_EMU_SEED) and divergent barriers (a deadlock report).
// What it cannot: blocks run in order, so races between blocks go unseen; of tensor cores it has
// the layout of the fragments (cuda_emu_tensor.h), not the rounding.
#pragma once
#include <atomic>
#include <bit>
#include <cmath>

#include "cuda_emu_fibers.h"
#include "cuda_emu_tensor.h"

// ---- language surface ----
#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __shared__ static  // blocks run one after the other: one copy is enough, and ASan guards it
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __grid_constant__

struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) double2 {
  double x, y;
};
inline int2 make_int2(int x, int y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline double2 make_double2(double x, double y) { return {x, y}; }
constexpr int warpSize = 32;

// ---- host runtime API: the calls that csrc may make ----
using cudaStream_t = struct CUstream_st*;
enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInvalidDeviceFunction = 98,
  cudaErrorNoKernelImageForDevice = 209,
  cudaErrorIllegalAddress = 700,
  cudaErrorLaunchFailure = 719,
};
enum cudaMemcpyKind {
  cudaMemcpyHostToDevice = 1,
  cudaMemcpyDeviceToHost,
  cudaMemcpyDeviceToDevice
};
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };

namespace emu {
inline std::atomic<cudaError_t> last_error =
    cudaSuccess;  // tests set it to see what an op says of it
}
inline cudaError_t cudaPeekAtLastError() { return emu::last_error; }
inline cudaError_t cudaGetLastError() {
  const cudaError_t error = emu::last_error;
  if (error < cudaErrorIllegalAddress) emu::last_error = cudaSuccess;  // later ones are sticky
  return error;
}
inline const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorNoKernelImageForDevice:
      return "no kernel image is available for execution on the device";
    case cudaErrorIllegalAddress:
      return "an illegal memory access was encountered";
    default:
      return "another error";
  }
}
inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrMultiProcessorCount            ? 2
           : attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin ? 48 << 10
                                                                  : 0;  // capability 0.0
  return cudaSuccess;
}
template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel*, cudaFuncAttribute, int) {
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* p, int value, size_t n, cudaStream_t = nullptr) {
  std::memset(p, value, n);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t n, cudaMemcpyKind,
                                   cudaStream_t = nullptr) {
  std::memcpy(to, from, n);
  return cudaSuccess;
}

namespace emu {
template <class F>
EMU_INTERNAL void launch(const void* kernel, dim3 grid, dim3 dim, size_t smem, F&& body) {
  const uint64_t n = uint64_t{dim.x} * dim.y * dim.z;
  if (n == 0 || n > kMaxThreads || dim.z > 64 || grid.x == 0 || grid.x > INT32_MAX || grid.y == 0 ||
      grid.z == 0 || grid.y > 65535 || grid.z > 65535) {
    last_error = cudaErrorInvalidConfiguration;
  } else if (last_error == cudaSuccess) {
    run_grid(kernel, grid, dim, smem, std::forward<F>(body));
  }
}
}  // namespace emu

// ---- device built-ins ----
#define threadIdx (emu::tid())
#define blockIdx (emu::blk->idx)
#define blockDim (emu::blk->dim)
#define gridDim (emu::blk->grid)
#define __syncthreads() emu::barrier("__syncthreads, " __FILE__)
inline void __syncwarp(uint32_t mask = ~0u) { emu::warp_sync(mask, "__syncwarp"); }
inline void __threadfence() {}
template <class T>
T __shfl_sync(uint32_t mask, T v, int source, int width = 32) {
  const unsigned w = width - 1u;
  return emu::exchange(mask, v, (emu::lane() & ~w) + (unsigned(source) & w), "__shfl_sync");
}
template <class T>
T __shfl_down_sync(uint32_t mask, T v, unsigned delta, int width = 32) {
  const unsigned l = emu::lane(), w = width - 1u;
  return emu::exchange(mask, v, (l & w) + delta <= w ? l + delta : l, "__shfl_down_sync");
}
template <class T>
T __shfl_up_sync(uint32_t mask, T v, unsigned delta, int width = 32) {
  const unsigned l = emu::lane(), w = width - 1u;
  return emu::exchange(mask, v, (l & w) >= delta ? l - delta : l, "__shfl_up_sync");
}
template <class T>
T __shfl_xor_sync(uint32_t mask, T v, unsigned x, int width = 32) {
  const unsigned l = emu::lane(), w = width - 1u;
  return emu::exchange(mask, v, ((l ^ x) & ~w) <= (l & ~w) ? l ^ x : l, "__shfl_xor_sync");
}
inline uint32_t __ballot_sync(uint32_t mask, int p) {
  return uint32_t(emu::exchange<uint64_t>(mask, p != 0, emu::kVote, "__ballot_sync"));
}
inline int __any_sync(uint32_t mask, int p) { return __ballot_sync(mask, p) != 0; }
inline int __all_sync(uint32_t mask, int p) { return __ballot_sync(mask, !p) == 0; }

template <class T>
using emu_same = std::common_type_t<T>;  // no deduction from this argument
template <class T, class Op>
T emu_rmw(T* p, Op op) {  // a CAS loop on the bits: works for float and double, too
  T old, now;
  __atomic_load(p, &old, __ATOMIC_RELAXED);
  do now = op(old);
  while (!__atomic_compare_exchange(p, &old, &now, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return old;
}
template <class T>
T atomicAdd(T* p, emu_same<T> v) {
  return emu_rmw(p, [=](T o) { return T(o + v); });
}
template <class T>
T atomicMax(T* p, emu_same<T> v) {
  return emu_rmw(p, [=](T o) { return o < v ? v : o; });
}
template <class T>
T atomicMin(T* p, emu_same<T> v) {
  return emu_rmw(p, [=](T o) { return v < o ? v : o; });
}
template <class T>
T atomicExch(T* p, emu_same<T> v) {
  return emu_rmw(p, [=](T) { return v; });
}
template <class T>
T atomicOr(T* p, emu_same<T> v) {
  return emu_rmw(p, [=](T o) { return T(o | v); });
}
template <class T>
T atomicCAS(T* p, emu_same<T> c, emu_same<T> v) {
  __atomic_compare_exchange(p, &c, &v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  return c;
}

template <class T>
T __ldg(const T* p) {
  return *p;
}
// compiled with -ffp-contract=off: no operation is fused with another
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __expf(float x) { return std::exp(x); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline uint32_t __float_as_uint(float x) { return std::bit_cast<uint32_t>(x); }
inline float __uint_as_float(uint32_t x) { return std::bit_cast<float>(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
using std::max;
using std::min;
