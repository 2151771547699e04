#pragma once
#include <string>

namespace deeplab_native {

// What a cudaError_t means and what to do about it, for code that includes no CUDA header.
std::string cuda_error_message(int error);

}  // namespace deeplab_native
