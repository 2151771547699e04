// The Python module _C: raw addresses, sizes and thread counts in, nothing else. Arguments were
// checked in Python (src/deeplab_native/_native.py); the GIL is released in every kernel call.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "common/isa.h"

namespace py = pybind11;
using namespace deeplab_native;  // NOLINT(build/namespaces)

PYBIND11_MODULE(_C, m) {
  m.doc() = "Native kernels of deeplab_native";
  m.attr("__version__") = DEEPLAB_NATIVE_VERSION;
#ifdef DEEPLAB_NATIVE_WITH_CUDA
  m.attr("has_cuda") = true;
#else
  m.attr("has_cuda") = false;
#endif

  // ---- instruction set ----
  m.def("isa", [] { return isa_name(current_isa()); });
  m.def("available_isas", [] {
    std::vector<std::string> names;
    for (int i = 0; i <= static_cast<int>(best_isa()); ++i) {
      names.emplace_back(isa_name(static_cast<Isa>(i)));
    }
    return names;
  });
  m.def("set_isa", [](const std::string& name) {
    for (int i = 0; i <= static_cast<int>(Isa::kAvx512); ++i) {
      if (name == isa_name(static_cast<Isa>(i))) return set_isa(static_cast<Isa>(i));
    }
    throw std::invalid_argument("isa: expected baseline, avx2 or avx512, got " + name);
  });
}
