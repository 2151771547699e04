// Copies to shared memory that run beside the arithmetic, and the product of two fragments by
// tensor cores, as PTX has them (ISA 9.7.9.25, 9.7.14.5): devices of compute capability 8.0 and
// newer. The emulator has a plain twin of each with the same layout of fragments, lane by lane, so
// that whoever runs it runs the index arithmetic, the swizzle and the pipeline as they are.
#pragma once
#include "common/half.h"
#include "cuda/compat.cuh"

namespace deeplab_native {

// What an architecture below 8.0 compiles of a kernel that needs the above: nothing.
#if defined(CUDA_EMU) || !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define DEEPLAB_HAS_TENSOR_CORE_PTX 1
#else
#define DEEPLAB_HAS_TENSOR_CORE_PTX 0
#endif

// Starts a copy of 16 bytes to shared memory, both ends aligned; zeros where `there` is false, and
// nothing is read then.
__device__ inline void copy_async(void* shared, const void* from, bool there) {
#if defined(CUDA_EMU)
  emu::copy_async(shared, from, there ? 16 : 0);
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                   static_cast<uint32_t>(__cvta_generic_to_shared(shared))),
               "l"(from), "r"(there ? 16 : 0)
               : "memory");
#endif
}

// What this thread started since the last call is a group.
__device__ inline void commit_copies() {
#if defined(CUDA_EMU)
  emu::commit_copies();
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until this thread's groups are there but for the `pending` latest.
template <int pending>
__device__ inline void wait_for_copies() {
#if defined(CUDA_EMU)
  emu::wait_for_copies(pending);
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#endif
}

// Four matrices of 8 rows of 16 bytes. Lane l gives the address of row l % 8 of matrix l / 8, and
// gets of each matrix the 4 bytes at l % 4 of row l / 4. The whole warp calls it.
__device__ inline void load_matrices(uint32_t (&to)[4], const void* shared) {
#if defined(CUDA_EMU)
  emu::load_matrices(to, shared);
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(shared))));
#endif
}

// float32 rounded to the 10 bits of mantissa of tfloat32, nearest, ties away from zero.
__device__ inline uint32_t tfloat32_bits(uint32_t bits) {
#if defined(CUDA_EMU)
  return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) & 0xffffe000u;
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  uint32_t rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(__uint_as_float(bits)));
  return rounded;
#else
  return bits;
#endif
}

// sum += a b: 16 rows, 8 columns, 32 bytes of terms: 16 of the 2-byte types, 8 of tfloat32. The
// whole warp calls it. With g = lane / 4 and t = lane % 4, in units of 4 bytes along the terms:
// a[0], a[1]: rows g, g + 8 at t; a[2], a[3]: the same at t + 4; b0, b1: column g at t, t + 4;
// sum[0], sum[1]: row g, columns 2 t and 2 t + 1; sum[2], sum[3]: row g + 8.
template <class T>
__device__ void add_product(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  static_assert(std::is_same_v<T, Bfloat16> || std::is_same_v<T, Float16> ||
                std::is_same_v<T, float>);
#if defined(CUDA_EMU)
  emu::add_product<T>(sum, a, b0, b1);
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#define DEEPLAB_MMA(shape, type)                                                      \
  asm volatile("mma.sync.aligned." shape ".row.col.f32." type "." type                \
               ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
               : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])               \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1))
  if constexpr (std::is_same_v<T, Bfloat16>) {
    DEEPLAB_MMA("m16n8k16", "bf16");
  } else if constexpr (std::is_same_v<T, Float16>) {
    DEEPLAB_MMA("m16n8k16", "f16");
  } else {
    DEEPLAB_MMA("m16n8k8", "tf32");
  }
#undef DEEPLAB_MMA
#endif
}

}  // namespace deeplab_native
