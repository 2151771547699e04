#pragma once

namespace deeplab_native {

// What cudaGetErrorString says of a cudaError_t, for code that includes no CUDA header.
const char* cuda_error_string(int error);

}  // namespace deeplab_native
