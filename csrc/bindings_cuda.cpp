// The CUDA part of the module _C, in a file of its own: the tests build it over emulated kernels,
// too. Functions take addresses of device memory and a stream, and return before the work is done.
#include "bindings.h"
#include "common/cuda_error.h"

namespace py = pybind11;

namespace deeplab_native {

void check_cuda(const char* op, int error) {
  if (error != 0) throw std::runtime_error(op + std::string(": ") + cuda_error_message(error));
}

namespace {

void bind_atrous_im2col(py::module_& m) {
  m.def(
      "atrous_im2col_cuda",
      [](Address map, Address columns, Quad size, Quad map_stride, Pair kernel, Pair stride,
         Pair padding, Pair rate, Quad window, int element_size, Address stream) {
        check_cuda("atrous_im2col",
                   atrous_im2col_cuda(
                       pointer<const void>(map), pointer<void>(columns),
                       im2col_shape(size, map_stride, kernel, stride, padding, rate, window),
                       element_size, pointer<void>(stream)));
      },
      Unlocked());
  m.def(
      "atrous_col2im_cuda",
      [](Address columns, Address map, Quad size, Quad map_stride, Pair kernel, Pair stride,
         Pair padding, Pair rate, Quad window, const std::string& dtype, Address stream) {
        check_cuda("atrous_col2im",
                   atrous_col2im_cuda(
                       pointer<const void>(columns), pointer<void>(map),
                       im2col_shape(size, map_stride, kernel, stride, padding, rate, window),
                       column_type(dtype), pointer<void>(stream)));
      },
      Unlocked());
}

using DirectPair = std::array<int, 2>;  // tile and parts of a DirectPlan

void bind_atrous_direct(py::module_& m) {
  m.def(
      "atrous_direct_cuda",
      [](Address map, Address weight, Address bias, Address out, Address partial, Quad size,
         Quad map_stride, Quad out_size, Quad out_stride, Pair kernel, Pair stride, Pair padding,
         Pair rate, const std::string& type, DirectPair plan, Address stream) {
        const auto shape =
            direct_shape(size, map_stride, out_size, out_stride, kernel, stride, padding, rate);
        check_cuda("atrous_conv2d",
                   atrous_direct_cuda(pointer<const void>(map), pointer<const void>(weight),
                                      pointer<const void>(bias), pointer<void>(out),
                                      pointer<void>(partial), shape, direct_type(type),
                                      {plan[0], plan[1]}, pointer<void>(stream)));
      },
      Unlocked());
  m.def(
      "atrous_direct_map_gradient_cuda",
      [](Address grad, Address weight, Address grad_map, Address partial, Quad size,
         Quad map_stride, Quad out_size, Quad out_stride, Pair kernel, Pair stride, Pair padding,
         Pair rate, const std::string& type, DirectPair plan, Address stream) {
        const auto shape =
            direct_shape(size, map_stride, out_size, out_stride, kernel, stride, padding, rate);
        check_cuda("atrous_conv2d_backward",
                   atrous_direct_map_gradient_cuda(
                       pointer<const void>(grad), pointer<const void>(weight),
                       pointer<void>(grad_map), pointer<void>(partial), shape, direct_type(type),
                       {plan[0], plan[1]}, pointer<void>(stream)));
      },
      Unlocked());
  m.def(
      "atrous_direct_weight_gradient_cuda",
      [](Address map, Address grad, Address grad_weight, Address partial, Quad size,
         Quad map_stride, Quad out_size, Quad out_stride, Pair kernel, Pair stride, Pair padding,
         Pair rate, const std::string& type, DirectPair plan, Address stream) {
        const auto shape =
            direct_shape(size, map_stride, out_size, out_stride, kernel, stride, padding, rate);
        check_cuda("atrous_conv2d_backward",
                   atrous_direct_weight_gradient_cuda(
                       pointer<const void>(map), pointer<const void>(grad),
                       pointer<void>(grad_weight), pointer<void>(partial), shape, direct_type(type),
                       {plan[0], plan[1]}, pointer<void>(stream)));
      },
      Unlocked());
}

void bind_space_to_batch(py::module_& m) {
  m.def(
      "space_to_batch_cuda",
      [](Address map, Address blocks, Quad size, Pair rate, Pair padding, Pair block,
         int element_size, bool channels_last, Address stream) {
        check_cuda("space_to_batch",
                   space_to_batch_cuda(pointer<const void>(map), pointer<void>(blocks),
                                       space_to_batch_shape(size, rate, padding, block),
                                       element_size, channels_last, pointer<void>(stream)));
      },
      Unlocked());
  m.def(
      "batch_to_space_cuda",
      [](Address blocks, Address map, Quad size, Pair rate, Pair padding, Pair block,
         int element_size, bool channels_last, Address stream) {
        check_cuda("batch_to_space",
                   batch_to_space_cuda(pointer<const void>(blocks), pointer<void>(map),
                                       space_to_batch_shape(size, rate, padding, block),
                                       element_size, channels_last, pointer<void>(stream)));
      },
      Unlocked());
}

}  // namespace

void bind_cuda(py::module_& m) {
  bind_crf_cuda(m);
  bind_atrous_direct(m);
  bind_atrous_im2col(m);
  bind_space_to_batch(m);
}

}  // namespace deeplab_native
