// The Python module _C_emu: the CUDA bindings of the package over kernels that run on the CPU.
#include <pybind11/pybind11.h>

#include "bindings.h"
#include "cuda_emu.h"

PYBIND11_MODULE(_C_emu, m) {
  m.doc() = "The CUDA kernels of deeplab_native, executed on the CPU";
  deeplab_native::bind_cuda(m);
  m.def("set_last_error", [](int error) { emu::last_error = static_cast<cudaError_t>(error); });
}
