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

// Whether every later call of the process returns the error again. Not all high numbers do: those
// of stream capture, for one, end with the capture.
bool is_sticky(int error) {
  constexpr int kEccUncorrectable = 214, kLaunchTimeout = 702;
  constexpr int kAssert = 710, kHardwareStackError = 714;
  return error == kEccUncorrectable || error == cudaErrorIllegalAddress ||
         error == kLaunchTimeout || error == kAssert ||
         (error >= kHardwareStackError && error <= cudaErrorLaunchFailure);
}

bool is_old_driver(int error) {
  constexpr int kInsufficientDriver = 35, kUnsupportedPtxVersion = 222;
  return error == kInsufficientDriver || error == kUnsupportedPtxVersion;
}

}  // namespace

std::string cuda_error_message(int error) {
  const std::string text =
      std::string("CUDA: ") + cudaGetErrorString(static_cast<cudaError_t>(error));
  if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction) {
    return text + ". The GPU has compute capability " + capability() +
           ", for which this deeplab_native was not built (" DEEPLAB_NATIVE_CUDA_ARCHITECTURES
           "): install it again with -Ccmake.define.CMAKE_CUDA_ARCHITECTURES=native";
  }
  if (is_old_driver(error)) {
    return text +
           ". The GPU's driver is older than the CUDA toolkit that built deeplab_native: "
           "update the driver, or install deeplab_native again with an older toolkit";
  }
  if (is_sticky(error)) {
    return text +
           ". A kernel that ran before this call, of any library, failed, and this process can "
           "no longer use the GPU: start it again, with CUDA_LAUNCH_BLOCKING=1 to see which it was";
  }
  return text;
}

}  // namespace deeplab_native
