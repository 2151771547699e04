#include "common/cuda_error.h"
#include "cuda/compat.cuh"

namespace deeplab_native {

const char* cuda_error_string(int error) {
  return cudaGetErrorString(static_cast<cudaError_t>(error));
}

}  // namespace deeplab_native
