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
                       float_type(dtype), pointer<void>(stream)));
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

void bind_atrous_pipelined(py::module_& m) {
  m.def("atrous_pipelined_first_tile_cuda", [](Address) { return atrous_pipelined_first_tile(); });
  m.def(
      "atrous_pipelined_cuda",
      [](Address map, Address weight, Address bias, Address out, Address partial, Quad size,
         Quad map_stride, Quad out_size, Quad out_stride, Pair kernel, Pair stride, Pair padding,
         Pair rate, const std::string& type, DirectPair plan, Address stream) {
        const auto shape =
            direct_shape(size, map_stride, out_size, out_stride, kernel, stride, padding, rate);
        check_cuda("atrous_conv2d",
                   atrous_pipelined_cuda(pointer<const void>(map), pointer<const void>(weight),
                                         pointer<const void>(bias), pointer<void>(out),
                                         pointer<void>(partial), shape, direct_type(type),
                                         {plan[0], plan[1]}, pointer<void>(stream)));
      },
      Unlocked());
  m.def(
      "channels_last_cuda",
      [](Address map, Address out, std::array<int64_t, 3> size, std::array<int64_t, 3> map_stride,
         int64_t padded, int element_size, Address stream) {
        check_cuda("atrous_conv2d", channels_last_cuda(pointer<const void>(map), pointer<void>(out),
                                                       {size[0], size[1], size[2], map_stride[0],
                                                        map_stride[1], map_stride[2], padded},
                                                       element_size, pointer<void>(stream)));
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

void bind_aspp_kernels(py::module_& m) {
  using Offsets = std::vector<std::array<int32_t, 2>>;
  using Triple = std::array<int64_t, 3>;
  m.def(
      "aspp_gather_cuda",
      [](Address y, Address bias, Address out, Quad size, int64_t padded, const Offsets& offsets,
         bool channels_last, bool map_channels_last, const std::string& dtype, Address stream) {
        check_cuda(
            "aspp",
            aspp_gather_cuda(pointer<const void>(y), pointer<const void>(bias), pointer<void>(out),
                             aspp_shape(size, padded, channels_last, map_channels_last),
                             tap_offsets(offsets), float_type(dtype), pointer<void>(stream)));
      },
      Unlocked());
  m.def(
      "aspp_spread_cuda",
      [](Address map, Address y, Quad size, int64_t padded, const Offsets& offsets,
         bool channels_last, const std::string& dtype, Address stream) {
        check_cuda("aspp", aspp_spread_cuda(pointer<const void>(map), pointer<void>(y),
                                            aspp_shape(size, padded, channels_last, channels_last),
                                            tap_offsets(offsets), float_type(dtype),
                                            pointer<void>(stream)));
      },
      Unlocked());
  m.def(
      "aspp_transpose_cuda",
      [](Address from, Address to, Triple size, const std::string& dtype, Address stream) {
        check_cuda("aspp", aspp_transpose_cuda(pointer<const void>(from), pointer<void>(to),
                                               {size[0], size[1], size[2]}, float_type(dtype),
                                               pointer<void>(stream)));
      },
      Unlocked());
  // branches, and filter taps, that aspp_pack_cuda takes at once
  m.def("most_packed_cuda", [] { return std::make_pair(kMaxPackBranches, kMaxPackSources); });
  m.def(
      "aspp_pack_cuda",
      [](const std::vector<std::pair<Address, std::vector<int32_t>>>& weights,
         const std::vector<Address>& biases, Address packed, Address bias, Quad size,
         const std::string& dtype, const std::string& packed_dtype, Address stream) {
        std::vector<AsppPackBranch> branches;
        for (const auto& [weight, index] : weights) {
          branches.push_back({pointer<const void>(weight), index});
        }
        std::vector<const void*> addends;
        for (const Address address : biases) addends.push_back(pointer<const void>(address));
        check_cuda("aspp",
                   aspp_pack_cuda(branches, addends, pointer<void>(packed), pointer<void>(bias),
                                  {size[0], size[1], size[2], size[3]}, float_type(dtype),
                                  float_type(packed_dtype), pointer<void>(stream)));
      },
      Unlocked());
  m.def(
      "aspp_unpack_cuda",
      [](Address packed, Address weight, Pair size, const std::vector<int32_t>& index,
         const std::string& dtype, Address stream) {
        check_cuda("aspp", aspp_unpack_cuda(pointer<const void>(packed), pointer<void>(weight),
                                            {size[0], size[1], index, {}}, float_type(dtype),
                                            pointer<void>(stream)));
      },
      Unlocked());
}

void bind_conv_epilogue(py::module_& m) {
  m.def(
      "conv_epilogue_cuda",
      [](Address map, Address bias, Address residual, std::array<int64_t, 3> size,
         bool channels_last, float low, float high, const std::string& dtype, Address stream) {
        check_cuda("conv_epilogue",
                   conv_epilogue_cuda(pointer<void>(map), pointer<const float>(bias),
                                      pointer<const void>(residual),
                                      {size[0], size[1], size[2], channels_last}, low, high,
                                      float_type(dtype), pointer<void>(stream)));
      },
      Unlocked());
}

void bind_upsample_unary(py::module_& m) {
  m.def(
      "upsample_unary_cuda",
      [](Address scores, Address energies, Quad size, Quad stride, Pair grid, Pair out,
         const std::string& dtype, Address stream) {
        check_cuda("upsample_unary",
                   upsample_unary_cuda(pointer<const void>(scores), pointer<void>(energies),
                                       upsample_shape(size, stride, grid, out), float_type(dtype),
                                       pointer<void>(stream)));
      },
      Unlocked());
  m.def(
      "upsample_unary_backward_cuda",
      [](Address energies, Address grad, Address grad_sum, Address rows, Address grad_scores,
         Quad size, Pair grid, Pair out, const std::string& dtype, Address stream) {
        check_cuda(
            "upsample_unary",
            upsample_unary_backward_cuda(
                pointer<const void>(energies), pointer<const void>(grad),
                pointer<const void>(grad_sum), pointer<void>(rows), pointer<void>(grad_scores),
                upsample_shape(size, {}, grid, out), float_type(dtype), pointer<void>(stream)));
      },
      Unlocked());
}

}  // namespace

void bind_cuda(py::module_& m) {
  bind_aspp_kernels(m);
  bind_atrous_direct(m);
  bind_atrous_im2col(m);
  bind_atrous_pipelined(m);
  bind_conv_epilogue(m);
  bind_crf_cuda(m);
  bind_gauss_cuda(m);
  bind_space_to_batch(m);
  bind_upsample_unary(m);
}

}  // namespace deeplab_native
