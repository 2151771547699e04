// What the files of the bindings share: addresses and shapes as Python passes them.
#pragma once
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "common/float_state.h"
#include "common/float_type.h"
#include "ops/aspp.h"
#include "ops/atrous_direct.h"
#include "ops/atrous_im2col.h"
#include "ops/atrous_pipelined.h"
#include "ops/conv_epilogue.h"
#include "ops/pairwise_features.h"
#include "ops/space_to_batch.h"
#include "ops/upsample_unary.h"

namespace deeplab_native {

void bind_aspp(pybind11::module_& m);
void bind_gauss(pybind11::module_& m);
void bind_joint(pybind11::module_& m);
#ifdef DEEPLAB_NATIVE_WITH_CUDA
void bind_cuda(pybind11::module_& m);
void bind_crf_cuda(pybind11::module_& m);  // parts of it
void bind_gauss_cuda(pybind11::module_& m);

// Throws std::runtime_error unless the cudaError_t is cudaSuccess.
void check_cuda(const char* op, int error);
#endif

using Address = uintptr_t;  // of a tensor's or an array's first element
// Of every kernel call: without the GIL, in a floating-point state that is always the same.
using Unlocked = pybind11::call_guard<pybind11::gil_scoped_release, OwnFloatState>;

template <class T>
T* pointer(Address address) {
  return reinterpret_cast<T*>(address);
}

// Calls run with a null pointer of the type that is named.
template <class Run>
auto with_float(const std::string& dtype, const Run& run) {
  if (dtype == "float32") return run(static_cast<float*>(nullptr));
  if (dtype == "float64") return run(static_cast<double*>(nullptr));
  throw std::invalid_argument("dtype: expected float32 or float64, got " + dtype);
}

template <class P>
using Value = std::remove_pointer_t<P>;

using Pair = std::array<int64_t, 2>;  // vertical, horizontal
using Quad = std::array<int64_t, 4>;

inline AtrousIm2colShape im2col_shape(const Quad& size, const Quad& map_stride, Pair kernel,
                                      Pair stride, Pair padding, Pair rate, const Quad& window) {
  return {size[0],   size[1],   size[2],   size[3],    map_stride, kernel[0],
          kernel[1], stride[0], stride[1], padding[0], padding[1], rate[0],
          rate[1],   window[0], window[1], window[2],  window[3]};
}

inline AtrousDirectShape direct_shape(const Quad& size, const Quad& map_stride,
                                      const Quad& out_size, const Quad& out_stride, Pair kernel,
                                      Pair stride, Pair padding, Pair rate) {
  return {size[0],     size[1],    size[2],    size[3],   out_size[1], out_size[2],
          out_size[3], map_stride, out_stride, kernel[0], kernel[1],   stride[0],
          stride[1],   padding[0], padding[1], rate[0],   rate[1]};
}

inline DirectType direct_type(const std::string& name) {
  if (name == "float32") return DirectType::kFloat32;
  if (name == "tfloat32") return DirectType::kTfloat32;
  if (name == "float64") return DirectType::kFloat64;
  if (name == "bfloat16") return DirectType::kBfloat16;
  if (name == "float16") return DirectType::kFloat16;
  throw std::invalid_argument("input: expected a floating-point type, got " + name);
}

inline SpaceToBatchShape space_to_batch_shape(const Quad& size, Pair rate, Pair padding,
                                              Pair block) {
  return {size[0], size[1],    size[2],    size[3],  rate[0],
          rate[1], padding[0], padding[1], block[0], block[1]};
}

inline PixelType pixel_type(const std::string& name) {
  if (name == "uint8") return PixelType::kUint8;
  if (name == "float32") return PixelType::kFloat32;
  if (name == "float64") return PixelType::kFloat64;
  throw std::invalid_argument("image: expected uint8, float32 or float64, got " + name);
}

// An image (C, H, W) or a volume (C, D, H, W): strides of the channels and of the axes, and sizes
// and sigmas of the axes, in the tensor's order.
inline Image image_of(Address data, const std::string& dtype, const std::vector<int64_t>& strides,
                      const std::vector<int64_t>& size, const std::vector<float>& sigmas,
                      const std::vector<float>& channel_sigmas, bool bridged = false) {
  const size_t axes = size.size();
  if ((axes != 2 && axes != 3) || strides.size() != axes + 1 || sigmas.size() != axes) {
    throw std::invalid_argument("image: expected 2 or 3 axes with a stride and a sigma each");
  }
  Image image{pointer<const void>(data),
              pixel_type(dtype),
              static_cast<int>(axes),
              {1, 0, 0},
              {strides[0]},
              {1, 1, 1},
              channel_sigmas,
              bridged};
  for (size_t k = 0; k < axes; ++k) {
    const size_t axis = k + 3 - axes;
    image.size[axis] = size[k];
    image.strides[axis + 1] = strides[k + 1];
    image.sigmas[axis] = sigmas[k];
  }
  return image;
}

inline AsppShape aspp_shape(const Quad& size, int64_t padded, bool channels_last,
                            bool map_channels_last) {
  return {size[0], size[1], size[2], size[3], padded, channels_last, map_channels_last};
}
inline std::vector<TapOffset> tap_offsets(const std::vector<std::array<int32_t, 2>>& offsets) {
  std::vector<TapOffset> taps;
  for (const auto& offset : offsets) taps.push_back({offset[0], offset[1]});
  return taps;
}

// grid: the interpolated size; out: the part of it that is computed
inline UpsampleShape upsample_shape(const Quad& size, const Quad& stride, Pair grid, Pair out) {
  return {size[0],
          size[1],
          {size[2], grid[0], out[0]},
          {size[3], grid[1], out[1]},
          {stride[0], stride[1], stride[2], stride[3]}};
}

}  // namespace deeplab_native
