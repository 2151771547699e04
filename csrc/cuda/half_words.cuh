// float16 in pairs, as words of memory: for rows that are stored so and summed up in float.
#pragma once
#include "common/half.h"
#include "cuda/compat.cuh"

namespace deeplab_native {

// Four float16, loaded and stored as one.
struct alignas(8) HalfWords {
  uint32_t first, second;
};

__device__ inline void widen(uint32_t word, float& low, float& high) {
#if defined(CUDA_EMU)
  low = Float16{static_cast<uint16_t>(word)};
  high = Float16{static_cast<uint16_t>(word >> 16)};
#else
  asm("{\n\t.reg .b16 low, high;\n\t"
      "mov.b32 {low, high}, %2;\n\t"
      "cvt.f32.f16 %0, low;\n\t"
      "cvt.f32.f16 %1, high;\n\t}"
      : "=f"(low), "=f"(high)
      : "r"(word));
#endif
}

// Nearest, ties to even.
__device__ inline uint32_t narrow(float low, float high) {
#if defined(CUDA_EMU)
  return uint32_t{Float16::from(low).bits} | uint32_t{Float16::from(high).bits} << 16;
#else
  uint32_t word;
#if __CUDA_ARCH__ >= 800
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
#else
  asm("{\n\t.reg .b16 low, high;\n\t"
      "cvt.rn.f16.f32 low, %1;\n\t"
      "cvt.rn.f16.f32 high, %2;\n\t"
      "mov.b32 %0, {low, high};\n\t}"
      : "=r"(word)
      : "f"(low), "f"(high));
#endif
  return word;
#endif
}

}  // namespace deeplab_native
