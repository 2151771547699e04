#include "common/cuda_error.h"
#include "cuda/compat.cuh"

namespace deeplab_native {
namespace {

std::string capability() {
  int device = 0, major = 0, minor = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  return std::to_string(major) + "." + std::to_string(minor);
}

// From here on an error stays: every later call of the process returns it again.
constexpr int kFirstSticky = cudaErrorIllegalAddress;

}  // namespace

std::string cuda_error_message(int error) {
  const std::string text =
      std::string("CUDA: ") + cudaGetErrorString(static_cast<cudaError_t>(error));
  if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction) {
    return text + ". The GPU has compute capability " + capability() +
           ", for which this deeplab_native was not built (" DEEPLAB_NATIVE_CUDA_ARCHITECTURES
           "): install it again with -Ccmake.define.CMAKE_CUDA_ARCHITECTURES=native";
  }
  if (error >= kFirstSticky) {
    return text +
           ". A kernel that ran before this call, of any library, failed, and this process can "
           "no longer use the GPU: start it again, with CUDA_LAUNCH_BLOCKING=1 to see which it was";
  }
  return text;
}

}  // namespace deeplab_native
