// The Python module _C: raw addresses, sizes and thread counts in, nothing else. Arguments were
// checked in Python (src/deeplab_native/_native.py); the GIL is released in every kernel call.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <string>
#include <vector>

#include "common/cuda_error.h"
#include "common/isa.h"
#include "ops/atrous_im2col.h"
#include "ops/space_to_batch.h"

namespace py = pybind11;
using namespace deeplab_native;  // NOLINT(build/namespaces)

namespace {

using NoGil = py::call_guard<py::gil_scoped_release>;
using Pair = std::array<int64_t, 2>;  // vertical, horizontal
using Quad = std::array<int64_t, 4>;

const void* address(uintptr_t value) { return reinterpret_cast<const void*>(value); }
void* out_address(uintptr_t value) { return reinterpret_cast<void*>(value); }

// ---- atrous im2col ----
AtrousIm2colShape im2col_shape(const Quad& size, const Quad& map_stride, Pair kernel, Pair stride,
                               Pair padding, Pair rate, const Quad& window) {
  return {size[0],   size[1],   size[2],   size[3],    map_stride, kernel[0],
          kernel[1], stride[0], stride[1], padding[0], padding[1], rate[0],
          rate[1],   window[0], window[1], window[2],  window[3]};
}

ColumnType column_type(const std::string& name) {
  if (name == "float32") return ColumnType::kFloat32;
  if (name == "float64") return ColumnType::kFloat64;
  if (name == "bfloat16") return ColumnType::kBfloat16;
  if (name == "float16") return ColumnType::kFloat16;
  throw std::invalid_argument("columns: expected a floating-point type, got " + name);
}

// ---- space to batch ----
SpaceToBatchShape space_to_batch_shape(const Quad& size, Pair rate, Pair padding, Pair block) {
  return {size[0], size[1],    size[2],    size[3],  rate[0],
          rate[1], padding[0], padding[1], block[0], block[1]};
}

#ifdef DEEPLAB_NATIVE_WITH_CUDA
void check_cuda(const char* op, int error) {
  if (error != 0) throw std::runtime_error(op + std::string(": CUDA: ") + cuda_error_string(error));
}
#endif

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

  // ---- atrous im2col ----
  m.def(
      "atrous_im2col_cpu",
      [](uintptr_t map, uintptr_t columns, Quad size, Quad map_stride, Pair kernel, Pair stride,
         Pair padding, Pair rate, Quad window, int element_size, int num_threads) {
        atrous_im2col_cpu(address(map), out_address(columns),
                          im2col_shape(size, map_stride, kernel, stride, padding, rate, window),
                          element_size, num_threads);
      },
      NoGil());
  m.def(
      "atrous_col2im_cpu",
      [](uintptr_t columns, uintptr_t map, Quad size, Quad map_stride, Pair kernel, Pair stride,
         Pair padding, Pair rate, Quad window, const std::string& dtype, int num_threads) {
        atrous_col2im_cpu(address(columns), out_address(map),
                          im2col_shape(size, map_stride, kernel, stride, padding, rate, window),
                          column_type(dtype), num_threads);
      },
      NoGil());

  // ---- space to batch ----
  m.def(
      "space_to_batch_cpu",
      [](uintptr_t map, uintptr_t blocks, Quad size, Pair rate, Pair padding, Pair block,
         int element_size, bool channels_last, int num_threads) {
        space_to_batch_cpu(address(map), out_address(blocks),
                           space_to_batch_shape(size, rate, padding, block), element_size,
                           channels_last, num_threads);
      },
      NoGil());
  m.def(
      "batch_to_space_cpu",
      [](uintptr_t blocks, uintptr_t map, Quad size, Pair rate, Pair padding, Pair block,
         int element_size, bool channels_last, int num_threads) {
        batch_to_space_cpu(address(blocks), out_address(map),
                           space_to_batch_shape(size, rate, padding, block), element_size,
                           channels_last, num_threads);
      },
      NoGil());
#ifdef DEEPLAB_NATIVE_WITH_CUDA
  m.def(
      "space_to_batch_cuda",
      [](uintptr_t map, uintptr_t blocks, Quad size, Pair rate, Pair padding, Pair block,
         int element_size, bool channels_last, uintptr_t stream) {
        check_cuda("space_to_batch",
                   space_to_batch_cuda(address(map), out_address(blocks),
                                       space_to_batch_shape(size, rate, padding, block),
                                       element_size, channels_last, out_address(stream)));
      },
      NoGil());
  m.def(
      "batch_to_space_cuda",
      [](uintptr_t blocks, uintptr_t map, Quad size, Pair rate, Pair padding, Pair block,
         int element_size, bool channels_last, uintptr_t stream) {
        check_cuda("batch_to_space",
                   batch_to_space_cuda(address(blocks), out_address(map),
                                       space_to_batch_shape(size, rate, padding, block),
                                       element_size, channels_last, out_address(stream)));
      },
      NoGil());
#endif
}
