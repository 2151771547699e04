// The head of DeepLab in the module _C: ASPP, and its scores as unary energies.
#include <tuple>

#include "bindings.h"

namespace py = pybind11;

namespace deeplab_native {

void bind_aspp(py::module_& m) {
  using Offsets = std::vector<std::array<int32_t, 2>>;
  using Triple = std::array<int64_t, 3>;
  m.def(
      "aspp_gather_cpu",
      [](Address y, Address bias, Address out, Quad size, int64_t padded, const Offsets& offsets,
         bool channels_last, const std::string& dtype, int num_threads) {
        aspp_gather_cpu(pointer<const void>(y), pointer<const void>(bias), pointer<void>(out),
                        aspp_shape(size, padded, channels_last, channels_last),
                        tap_offsets(offsets), float_type(dtype), num_threads);
      },
      Unlocked());
  m.def(
      "aspp_spread_cpu",
      [](Address map, Address y, Quad size, int64_t padded, const Offsets& offsets,
         bool channels_last, const std::string& dtype, int num_threads) {
        aspp_spread_cpu(pointer<const void>(map), pointer<void>(y),
                        aspp_shape(size, padded, channels_last, channels_last),
                        tap_offsets(offsets), float_type(dtype), num_threads);
      },
      Unlocked());
  m.def(
      "aspp_pack_cpu",
      [](Address weight, Address packed, Pair size, const std::vector<int32_t>& index,
         const std::vector<bool>& add, const std::string& dtype, int num_threads) {
        aspp_pack_cpu(pointer<const void>(weight), pointer<void>(packed),
                      {size[0], size[1], index, add}, float_type(dtype), num_threads);
      },
      Unlocked());
  m.def(
      "aspp_unpack_cpu",
      [](Address packed, Address weight, Pair size, const std::vector<int32_t>& index,
         const std::string& dtype, int num_threads) {
        aspp_unpack_cpu(pointer<const void>(packed), pointer<void>(weight),
                        {size[0], size[1], index, {}}, float_type(dtype), num_threads);
      },
      Unlocked());
  using Branch = std::tuple<Address, Triple, std::vector<int32_t>>;
  m.def(
      "aspp_forward_cpu",
      [](Address input, const std::vector<Branch>& branches, Address bias, Address out, Quad size,
         bool channels_last, int64_t filters, int64_t images, const Offsets& offsets,
         const std::string& dtype, int num_threads) {
        std::vector<AsppBranch> all;
        for (const auto& [weight, stride, index] : branches) {
          all.push_back({pointer<const void>(weight), stride[0], stride[1], stride[2], index});
        }
        aspp_forward_cpu(pointer<const void>(input), all, pointer<const void>(bias),
                         pointer<void>(out),
                         {size[0], size[1], size[2], size[3], channels_last, filters, images},
                         tap_offsets(offsets), float_type(dtype), num_threads);
      },
      Unlocked());

  m.def(
      "upsample_unary_cpu",
      [](Address scores, Address energies, Quad size, Quad stride, Pair grid, Pair out,
         const std::string& dtype, int num_threads) {
        upsample_unary_cpu(pointer<const void>(scores), pointer<void>(energies),
                           upsample_shape(size, stride, grid, out), float_type(dtype), num_threads);
      },
      Unlocked());
  m.def(
      "upsample_unary_backward_cpu",
      [](Address energies, Address grad, Address grad_sum, Address rows, Address grad_scores,
         Quad size, Pair grid, Pair out, const std::string& dtype, int num_threads) {
        upsample_unary_backward_cpu(pointer<const void>(energies), pointer<const void>(grad),
                                    pointer<const void>(grad_sum), pointer<void>(rows),
                                    pointer<void>(grad_scores), upsample_shape(size, {}, grid, out),
                                    float_type(dtype), num_threads);
      },
      Unlocked());
}

}  // namespace deeplab_native
