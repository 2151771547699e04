// The Python module _C: raw addresses, sizes and thread counts in, nothing else. Arguments were
// checked in Python (src/deeplab_native/_native.py); the GIL is released in every kernel call.
#include "bindings.h"

#include <array>
#include <exception>
#include <new>
#include <string>
#include <tuple>
#include <vector>

#include "common/buffer.h"
#include "common/isa.h"
#include "ops/lattice_gradient.h"
#include "ops/mean_field.h"
#include "ops/permutohedral.h"

namespace py = pybind11;
using namespace deeplab_native;  // NOLINT(build/namespaces)

namespace {

// ---- permutohedral lattice and mean field ----
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

// Features (N, d) as Python gives them: address, points, dimensions, strides.
using FeaturesOf = std::tuple<Address, int64_t, int, int64_t, int64_t>;
Features features_of(const FeaturesOf& f) {
  const auto& [data, n, d, point_stride, dim_stride] = f;
  return {pointer<const float>(data), point_stride, dim_stride, n, d};
}

int64_t entries_of(const Lattice& l) { return l.blocks.size() * (l.d + 1) * kBlock; }

template <class T>
void bind_gradient(py::module_& m, const std::string& dtype) {
  m.def(("lattice_gradient_cpu_" + dtype).c_str(),
        [](const Lattice& lattice, Address x, Address g, Address back, int num_channels,
           bool transposed, Address weights) {
          lattice_gradient_cpu<T>(lattice, {{pointer<const T>(x), num_channels, 1},
                                            {pointer<const T>(g), num_channels, 1},
                                            {pointer<T>(back), num_channels, 1},
                                            num_channels,
                                            nullptr,
                                            nullptr,
                                            transposed,
                                            pointer<T>(weights),
                                            nullptr});
        },
        Unlocked());
  m.def(("features_gradient_cpu_" + dtype).c_str(),
        [](const Lattice& lattice, const FeaturesOf& features, Address weights, Address out) {
          features_gradient_cpu<T>(lattice, features_of(features), pointer<const T>(weights),
                                   pointer<T>(out));
        },
        Unlocked());
}

template <class T>
void bind_all_finite(py::module_& m, const char* name) {
  m.def(
      name,
      [](Address values, int64_t count, int num_threads) {
        return all_finite_cpu(pointer<const T>(values), count, num_threads);
      },
      Unlocked());
}

template <class T>
void bind_mean_field(py::module_& m, const char* name) {
  using M = MeanField<T>;
  py::class_<M>(m, name)
      .def(py::init<int64_t, int, int, int64_t>(), py::arg("num_points"), py::arg("num_labels"),
           py::arg("num_threads"), py::arg("width") = 0)
      .def(
          "add_kernel",
          [](M& self, std::shared_ptr<const Lattice> lattice, int kind,
             const std::vector<T>& compatibility, int normalization) {
            self.add_kernel(std::move(lattice), static_cast<CompatibilityKind>(kind),
                            compatibility.data(), static_cast<Normalization>(normalization));
          },
          Unlocked())
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
      .def(
          "filter_gradient",
          [](M& self, int kernel, Address x, Address g, Address back, Address weights,
             Address scales) {
            self.filter_gradient(kernel, pointer<const T>(x), pointer<const T>(g), pointer<T>(back),
                                 pointer<T>(weights), pointer<T>(scales));
          },
          Unlocked())
      .def(
          "features_gradient",
          [](M& self, int kernel, const FeaturesOf& features, Address weights, Address scales,
             Address out) {
            self.features_gradient(kernel, features_of(features), pointer<T>(weights),
                                   pointer<const T>(scales), pointer<T>(out));
          },
          Unlocked())
      .def("num_entries", [](const M& self, int k) { return entries_of(self.lattice(k)); })
      .def("num_places",
           [](const M& self, int k) { return self.lattice(k).blocks.size() * kBlock; })
      .def_property_readonly("num_kernels", &M::num_kernels)
      .def("num_vertices", [](const M& self, int k) { return self.lattice(k).num_vertices; });
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Native kernels of deeplab_native";
  m.attr("__version__") = DEEPLAB_NATIVE_VERSION;
  m.attr("pybind11_version") = PYBIND11_TOSTRING(PYBIND11_VERSION_MAJOR) "." PYBIND11_TOSTRING(
      PYBIND11_VERSION_MINOR) "." PYBIND11_TOSTRING(PYBIND11_VERSION_PATCH);
  py::register_local_exception_translator([](std::exception_ptr thrown) {
    try {
      if (thrown) std::rethrow_exception(thrown);
    } catch (const std::bad_alloc&) {  // whose own words mean nothing to a user of Python
      PyErr_SetString(PyExc_MemoryError, "out of memory in a native kernel");
    }
  });
#ifdef DEEPLAB_NATIVE_WITH_CUDA
  m.attr("has_cuda") = true;
  m.attr("cuda_architectures") = DEEPLAB_NATIVE_CUDA_ARCHITECTURES;
  m.attr("cuda_version") = DEEPLAB_NATIVE_CUDA_VERSION;
  bind_cuda(m);
#else
  m.attr("has_cuda") = false;
  m.attr("cuda_architectures") = "";
  m.attr("cuda_version") = "";
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

  m.def("release_memory", [] {
    release_kept_lattices();
    release_kept_blocks();
  });
  m.def("kept_memory", &kept_bytes);

  // ---- atrous im2col ----
  m.def(
      "atrous_im2col_cpu",
      [](Address map, Address columns, Quad size, Quad map_stride, Pair kernel, Pair stride,
         Pair padding, Pair rate, Quad window, int element_size, int num_threads) {
        atrous_im2col_cpu(pointer<const void>(map), pointer<void>(columns),
                          im2col_shape(size, map_stride, kernel, stride, padding, rate, window),
                          element_size, num_threads);
      },
      Unlocked());
  m.def(
      "atrous_col2im_cpu",
      [](Address columns, Address map, Quad size, Quad map_stride, Pair kernel, Pair stride,
         Pair padding, Pair rate, Quad window, const std::string& dtype, int num_threads) {
        atrous_col2im_cpu(pointer<const void>(columns), pointer<void>(map),
                          im2col_shape(size, map_stride, kernel, stride, padding, rate, window),
                          float_type(dtype), num_threads);
      },
      Unlocked());

  // ---- space to batch ----
  m.def(
      "space_to_batch_cpu",
      [](Address map, Address blocks, Quad size, Pair rate, Pair padding, Pair block,
         int element_size, bool channels_last, int num_threads) {
        space_to_batch_cpu(pointer<const void>(map), pointer<void>(blocks),
                           space_to_batch_shape(size, rate, padding, block), element_size,
                           channels_last, num_threads);
      },
      Unlocked());
  m.def(
      "batch_to_space_cpu",
      [](Address blocks, Address map, Quad size, Pair rate, Pair padding, Pair block,
         int element_size, bool channels_last, int num_threads) {
        batch_to_space_cpu(pointer<const void>(blocks), pointer<void>(map),
                           space_to_batch_shape(size, rate, padding, block), element_size,
                           channels_last, num_threads);
      },
      Unlocked());
  bind_aspp(m);
  bind_gauss(m);
  bind_joint(m);

  // ---- permutohedral lattice ----
  py::class_<Lattice, std::shared_ptr<Lattice>>(m, "Lattice")
      .def_readonly("num_vertices", &Lattice::num_vertices)
      .def_property_readonly("num_entries", &entries_of);
  m.def(
      "check_features_cpu",
      [](Address features, int64_t n, int d, int64_t point_stride, int64_t dim_stride,
         int num_threads, bool like_pydensecrf, bool bridged) {
        check_features_cpu({pointer<const float>(features), point_stride, dim_stride, n, d,
                            like_pydensecrf, 0, bridged},
                           num_threads);
      },
      py::arg("features"), py::arg("n"), py::arg("d"), py::arg("point_stride"),
      py::arg("dim_stride"), py::arg("num_threads"), py::arg("like_pydensecrf"),
      py::arg("bridged") = false, Unlocked());
  m.def(
      "build_lattice_cpu",
      [](Address features, int64_t n, int d, int64_t point_stride, int64_t dim_stride,
         int num_threads, bool like_pydensecrf, int64_t width, bool bridged) {
        return std::const_pointer_cast<Lattice>(
            build_lattice_cpu({pointer<const float>(features), point_stride, dim_stride, n, d,
                               like_pydensecrf, width, bridged},
                              num_threads));
      },
      py::arg("features"), py::arg("n"), py::arg("d"), py::arg("point_stride"),
      py::arg("dim_stride"), py::arg("num_threads"), py::arg("like_pydensecrf"),
      py::arg("width") = 0, py::arg("bridged") = false, Unlocked());
  m.def(
      "build_image_lattice_cpu",
      [](Address image, const std::string& dtype, const std::vector<int64_t>& strides,
         const std::vector<int64_t>& size, const std::vector<float>& sigmas,
         const std::vector<float>& channel_sigmas, int num_threads, bool bridged) {
        return std::const_pointer_cast<Lattice>(build_image_lattice_cpu(
            image_of(image, dtype, strides, size, sigmas, channel_sigmas, bridged), num_threads));
      },
      py::arg("image"), py::arg("dtype"), py::arg("strides"), py::arg("size"), py::arg("sigmas"),
      py::arg("channel_sigmas"), py::arg("num_threads"), py::arg("bridged") = false, Unlocked());
  m.def(
      "check_image_features_cpu",
      [](Address image, const std::string& dtype, const std::vector<int64_t>& strides,
         const std::vector<int64_t>& size, const std::vector<float>& sigmas,
         const std::vector<float>& channel_sigmas, int num_threads, bool bridged) {
        check_image_features_cpu(
            image_of(image, dtype, strides, size, sigmas, channel_sigmas, bridged), num_threads);
      },
      py::arg("image"), py::arg("dtype"), py::arg("strides"), py::arg("size"), py::arg("sigmas"),
      py::arg("channel_sigmas"), py::arg("num_threads"), py::arg("bridged") = false, Unlocked());
  m.attr("max_feature_dim") = kMaxFeatureDim;
  bind_filter<float>(m, "permutohedral_filter_cpu_float");
  bind_filter<double>(m, "permutohedral_filter_cpu_double");
  bind_gradient<float>(m, "float");
  bind_gradient<double>(m, "double");

  // ---- mean field ----
  m.def(
      "pairwise_features_cpu",
      [](Address image, const std::string& dtype, const std::vector<int64_t>& strides,
         const std::vector<int64_t>& size, const std::vector<float>& sigmas,
         const std::vector<float>& channel_sigmas, Address features, int num_threads) {
        pairwise_features_cpu(image_of(image, dtype, strides, size, sigmas, channel_sigmas),
                              pointer<float>(features), num_threads);
      },
      Unlocked());
  bind_all_finite<float>(m, "all_finite_cpu_float");
  bind_all_finite<double>(m, "all_finite_cpu_double");
  bind_mean_field<float>(m, "MeanFieldFloat");
  bind_mean_field<double>(m, "MeanFieldDouble");
}
