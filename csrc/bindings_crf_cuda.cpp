// The lattice and the mean field of the CUDA part of _C. dtype is "float32" or "float64".
#include <tuple>
#include <vector>

#include "bindings.h"
#include "common/cuda_error.h"
#include "ops/lattice_gradient.h"
#include "ops/mean_field.h"
#include "ops/pairwise_features.h"
#include "ops/permutohedral.h"

namespace py = pybind11;

namespace deeplab_native {
namespace {

using Order = std::tuple<int64_t, int>;  // width and tile of CudaPixelOrder
// images, points, d, like_pydensecrf, order, bridged_room
using LatticeSize = std::tuple<int64_t, int64_t, int, bool, Order, int>;
// size of the lattice, replicas, addresses: lattice, splat entries, slice weights, filter's memory;
// half_scale
using Filter = std::tuple<LatticeSize, int64_t, Address, Address, Address, Address, float>;
using PairwiseKernel = std::tuple<Filter, int, Address>;  // with kind and address of compatibility

CudaPixelOrder pixel_order(const Order& order) { return {std::get<0>(order), std::get<1>(order)}; }

CudaLatticeShape lattice_shape(const LatticeSize& s) {
  return {
      std::get<0>(s), std::get<1>(s), std::get<2>(s), std::get<3>(s), pixel_order(std::get<4>(s)),
      std::get<5>(s)};
}

CudaFilter filter_of(const Filter& f) {
  const auto& [size, replicas, lattice, splat_entries, slice_weights, memory, half_scale] = f;
  return {lattice_shape(size),
          replicas,
          pointer<void>(lattice),
          pointer<const void>(splat_entries),
          pointer<const void>(slice_weights),
          pointer<void>(memory),
          half_scale};
}

void bind_lattice(py::module_& m) {
  m.def("lattice_bytes_cuda",
        [](const LatticeSize& size) { return lattice_bytes_cuda(lattice_shape(size)); });
  m.def("lattice_scratch_bytes_cuda",
        [](const LatticeSize& size) { return lattice_scratch_bytes_cuda(lattice_shape(size)); });
  m.def("lattice_entries_cuda",
        [](const LatticeSize& size) { return lattice_entries_cuda(lattice_shape(size)); });
  m.def("vertex_begin_cuda", [](const LatticeSize& size, Address lattice) {
    return reinterpret_cast<Address>(
        vertex_begin_cuda(lattice_shape(size), pointer<const void>(lattice)));
  });
  m.def(
      "build_lattice_cuda",
      [](const LatticeSize& size, Address features, std::array<int64_t, 3> strides, bool near,
         Address lattice, Address scratch, Address stream) {
        check_cuda("permutohedral",
                   build_lattice_cuda(
                       lattice_shape(size),
                       {pointer<const float>(features), strides[0], strides[1], strides[2]}, near,
                       pointer<void>(lattice), pointer<void>(scratch), pointer<void>(stream)));
      },
      Unlocked());
  m.def(
      "fold_weights_cuda",
      [](const std::string& dtype, const LatticeSize& size, Address lattice, Address scale_in,
         Address scale_out, Address splat_entries, Address slice_weights, Address stream) {
        with_float(dtype, [&](auto type) {
          using T = Value<decltype(type)>;
          check_cuda(
              "permutohedral",
              fold_weights_cuda(lattice_shape(size), pointer<const void>(lattice),
                                pointer<const float>(scale_in), pointer<const float>(scale_out),
                                pointer<void>(splat_entries), pointer<T>(slice_weights),
                                pointer<void>(stream)));
        });
      },
      Unlocked());
  m.def("lattice_scale_bytes_cuda",
        [](const LatticeSize& size) { return lattice_scale_bytes_cuda(lattice_shape(size)); });
  m.def(
      "lattice_scale_cuda",
      [](const LatticeSize& size, Address lattice, Address rows, Address scale, bool root,
         Address stream) {
        check_cuda("permutohedral", lattice_scale_cuda(lattice_shape(size), pointer<void>(lattice),
                                                       pointer<void>(rows), pointer<float>(scale),
                                                       root, pointer<void>(stream)));
      },
      Unlocked());
  m.def("filter_bytes_cuda", [](const std::string& dtype, const Filter& filter, int64_t channels) {
    return with_float(dtype, [&](auto type) {
      return filter_bytes_cuda<Value<decltype(type)>>(filter_of(filter), channels);
    });
  });
  m.def(
      "permutohedral_filter_cuda",
      [](const std::string& dtype, const Filter& filter, Address in, Address out, int64_t channels,
         bool transposed, Address stream) {
        with_float(dtype, [&](auto type) {
          using T = Value<decltype(type)>;
          check_cuda(
              "permutohedral_filter",
              permutohedral_filter_cuda(filter_of(filter), pointer<const T>(in), pointer<T>(out),
                                        channels, transposed, pointer<void>(stream)));
        });
      },
      Unlocked());
}

void bind_lattice_gradient(py::module_& m) {
  m.def(
      "lattice_gradient_cuda",
      [](const std::string& dtype, const Filter& of_x, const Filter& of_g, Address x, Address g,
         Address back, std::array<Address, 2> scales, Address weights, Address of_scales,
         int64_t channels, bool transposed, Address stream) {
        with_float(dtype, [&](auto type) {
          using T = Value<decltype(type)>;
          const CudaLatticeGradient<T> gradient{filter_of(of_x),
                                                filter_of(of_g),
                                                pointer<const T>(x),
                                                pointer<const T>(g),
                                                pointer<T>(back),
                                                pointer<const float>(scales[0]),
                                                pointer<const float>(scales[1]),
                                                pointer<T>(weights),
                                                pointer<T>(of_scales)};
          check_cuda("lattice_gradient",
                     lattice_gradient_cuda(gradient, channels, transposed, pointer<void>(stream)));
        });
      },
      Unlocked());
  m.def(
      "features_gradient_cuda",
      [](const std::string& dtype, const LatticeSize& size, Address features,
         std::array<int64_t, 3> strides, Address lattice, Address weights, Address out,
         Address stream) {
        with_float(dtype, [&](auto type) {
          using T = Value<decltype(type)>;
          check_cuda("features_gradient",
                     features_gradient_cuda(
                         lattice_shape(size),
                         {pointer<const float>(features), strides[0], strides[1], strides[2]},
                         pointer<const void>(lattice), pointer<const T>(weights), pointer<T>(out),
                         pointer<void>(stream)));
        });
      },
      Unlocked());
}

using Batch = std::array<int64_t, 3>;  // images, labels, points

std::vector<CudaPairwiseKernel> pairwise_kernels(const std::vector<PairwiseKernel>& kernels) {
  std::vector<CudaPairwiseKernel> native;
  for (const auto& [filter, kind, compatibility] : kernels) {
    native.push_back({filter_of(filter), static_cast<CompatibilityKind>(kind),
                      pointer<const void>(compatibility)});
  }
  return native;
}

void bind_mean_field(py::module_& m) {
  m.def("mean_field_width_cuda", &mean_field_width_cuda);
  m.def(
      "labels_to_rows_cuda",
      [](const std::string& dtype, Batch s, const Order& order, Address values, Address rows,
         double factor, double padding, Address stream) {
        with_float(dtype, [&](auto type) {
          using T = Value<decltype(type)>;
          check_cuda(
              "mean_field",
              labels_to_rows_cuda({s[0], s[1], s[2]}, pixel_order(order), pointer<const T>(values),
                                  pointer<T>(rows), static_cast<T>(factor), static_cast<T>(padding),
                                  pointer<void>(stream)));
        });
      },
      Unlocked());
  m.def(
      "rows_to_labels_cuda",
      [](const std::string& dtype, Batch s, const Order& order, Address rows, Address values,
         Address stream) {
        with_float(dtype, [&](auto type) {
          using T = Value<decltype(type)>;
          check_cuda("mean_field", rows_to_labels_cuda({s[0], s[1], s[2]}, pixel_order(order),
                                                       pointer<const T>(rows), pointer<T>(values),
                                                       pointer<void>(stream)));
        });
      },
      Unlocked());
  m.def(
      "mean_field_cuda",
      [](const std::string& dtype, Batch s, const std::vector<PairwiseKernel>& kernels,
         Address negative_unary, Address q, Address scratch, int updates, bool q_is_given,
         bool softmax, Address stream) {
        const auto native = pairwise_kernels(kernels);
        with_float(dtype, [&](auto type) {
          using T = Value<decltype(type)>;
          check_cuda("mean_field",
                     mean_field_cuda({s[0], s[1], s[2]}, native, pointer<const T>(negative_unary),
                                     pointer<T>(q), pointer<T>(scratch), updates, q_is_given,
                                     softmax, pointer<void>(stream)));
        });
      },
      Unlocked());
}

void bind_hot_labels(py::module_& m) {
  m.def("hot_labels_bytes_cuda",
        [](Batch s, int updates) { return hot_labels_bytes_cuda({s[0], s[1], s[2]}, updates); });
  m.def(
      "hot_mean_field_cuda",
      [](Batch s, const std::vector<PairwiseKernel>& kernels, Address negative_unary, Address q,
         Address memory, int updates, Address stream) {
        check_cuda("mean_field",
                   hot_mean_field_cuda({s[0], s[1], s[2]}, pairwise_kernels(kernels),
                                       pointer<const float>(negative_unary), pointer<float>(q),
                                       pointer<void>(memory), updates, pointer<void>(stream)));
      },
      Unlocked());
  m.def(
      "hot_rows_to_labels_cuda",
      [](Batch s, const Order& order, Address rows, Address values, Address memory, int updates,
         Address stream) {
        check_cuda("mean_field",
                   hot_rows_to_labels_cuda({s[0], s[1], s[2]}, pixel_order(order),
                                           pointer<const float>(rows), pointer<float>(values),
                                           pointer<void>(memory), updates, pointer<void>(stream)));
      },
      Unlocked());
}

}  // namespace

void bind_crf_cuda(py::module_& m) {
  bind_lattice(m);
  bind_lattice_gradient(m);
  bind_mean_field(m);
  bind_hot_labels(m);
  m.def(
      "pairwise_features_cuda",
      [](Address image, const std::string& dtype, std::vector<int64_t> strides, int64_t batch,
         const std::vector<int64_t>& size, const std::vector<float>& sigmas,
         const std::vector<float>& channel_sigmas, Address features, Address stream) {
        const int64_t image_stride = strides.at(0);
        strides.erase(strides.begin());
        check_cuda("pairwise_features",
                   pairwise_features_cuda(
                       image_of(image, dtype, strides, size, sigmas, channel_sigmas), image_stride,
                       batch, pointer<float>(features), pointer<void>(stream)));
      },
      Unlocked());
}

}  // namespace deeplab_native
