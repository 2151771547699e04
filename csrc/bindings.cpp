// The Python module _C: raw addresses, sizes and thread counts in, nothing else. Arguments were
// checked in Python (src/deeplab_native/_native.py); the GIL is released in every kernel call.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "common/buffer.h"
#include "common/isa.h"
#include "ops/mean_field.h"
#include "ops/permutohedral.h"

namespace py = pybind11;
using namespace deeplab_native;  // NOLINT(build/namespaces)

namespace {

using Address = uintptr_t;  // of a tensor's or an array's first element
using Unlocked = py::call_guard<py::gil_scoped_release>;

template <class T>
T* pointer(Address address) {
  return reinterpret_cast<T*>(address);
}

template <class T>
void bind_filter(py::module_& m, const char* name) {
  m.def(
      name,
      [](const Lattice& lattice, Address in, Address out, int num_channels, bool transposed) {
        permutohedral_filter_cpu<T>(lattice, {pointer<const T>(in), num_channels, 1},
                                    {pointer<T>(out), num_channels, 1}, num_channels, nullptr,
                                    nullptr, transposed);
      },
      Unlocked());
}

template <class T>
void bind_mean_field(py::module_& m, const char* name) {
  using M = MeanField<T>;
  py::class_<M>(m, name)
      .def(py::init<int64_t, int, int>(), py::arg("num_points"), py::arg("num_labels"),
           py::arg("num_threads"))
      .def("add_kernel",
           [](M& self, std::shared_ptr<const Lattice> lattice, int kind,
              const std::vector<T>& compatibility, int normalization) {
             py::gil_scoped_release unlocked;
             self.add_kernel(std::move(lattice), static_cast<CompatibilityKind>(kind),
                             compatibility.data(), static_cast<Normalization>(normalization));
           })
      .def(
          "set_unary", [](M& self, Address u) { self.set_unary(pointer<const T>(u)); }, Unlocked())
      .def(
          "inference",
          [](M& self, Address q, int iterations) { self.inference(pointer<T>(q), iterations); },
          Unlocked())
      .def(
          "start", [](M& self, Address q) { self.start(pointer<T>(q)); }, Unlocked())
      .def(
          "step",
          [](M& self, Address q, Address next) {
            self.step(pointer<const T>(q), pointer<T>(next));
          },
          Unlocked())
      .def(
          "kl_divergence",
          [](M& self, Address q) { return self.kl_divergence(pointer<const T>(q)); }, Unlocked())
      .def(
          "filter",
          [](M& self, int kernel, Address in, Address out, bool transposed) {
            self.filter(kernel, pointer<const T>(in), pointer<T>(out), transposed);
          },
          Unlocked())
      .def_property_readonly("num_kernels", &M::num_kernels)
      .def("num_vertices", [](const M& self, int k) { return self.lattice(k).num_vertices; });
}

}  // namespace

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

  m.def("release_memory", &release_kept_blocks, "Give the buffers kept for the next call back");

  // ---- permutohedral lattice ----
  py::class_<Lattice, std::shared_ptr<Lattice>>(m, "Lattice")
      .def_readonly("num_vertices", &Lattice::num_vertices)
      .def_readonly("num_points", &Lattice::num_points)
      .def_readonly("d", &Lattice::d);
  m.def(
      "build_lattice",
      [](Address features, int64_t n, int d, int64_t point_stride, int64_t dim_stride,
         int num_threads) {
        return std::const_pointer_cast<Lattice>(build_lattice_cpu(
            {pointer<const float>(features), point_stride, dim_stride, n, d}, num_threads));
      },
      Unlocked());
  m.attr("max_feature_dim") = kMaxFeatureDim;
  bind_filter<float>(m, "permutohedral_filter_float");
  bind_filter<double>(m, "permutohedral_filter_double");

  // ---- mean field ----
  bind_mean_field<float>(m, "MeanFieldFloat");
  bind_mean_field<double>(m, "MeanFieldDouble");
}
