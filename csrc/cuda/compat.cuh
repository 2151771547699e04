// The only header through which a kernel file sees CUDA: the runtime under nvcc, or the emulator
// that runs the same kernels on the CPU in the tests (-DCUDA_EMU). Kernels live in an anonymous
// namespace, start only through launch() and assume no lockstep within a warp.
#pragma once
#if defined(CUDA_EMU)
#include "cuda_emu.h"
#else
#include <cuda_runtime.h>
#endif

#include <cstddef>
#include <cstdint>

namespace deeplab_native {

// Starts kernel(args...), each argument converted to the parameter's own type.
template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
                   cudaStream_t stream, Arguments... args) {
#if defined(CUDA_EMU)
  (void)stream;
  emu::launch(grid, block, shared_bytes, [&] { kernel(static_cast<Parameters>(args)...); });
#else
  // clang-format off: it knows no >>>
  kernel<<<grid, block, shared_bytes, stream>>>(static_cast<Parameters>(args)...);
  // clang-format on
#endif
  return cudaGetLastError();
}

}  // namespace deeplab_native
