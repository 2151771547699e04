// The exact Gaussian sum of the CUDA part of _C, see ops/gauss_transform.h. dtype is "float32" or
// "float64".
#include "bindings.h"
#include "ops/gauss_transform.h"

namespace deeplab_native {
void bind_gauss_cuda(pybind11::module_& m) {
  m.def("gauss_transform_scratch_bytes_cuda",
        [](int64_t images, int64_t num_points, int d, int64_t channels, const std::string& dtype) {
          return with_float(dtype, [&](auto type) {
            return gauss_transform_scratch_bytes_cuda<Value<decltype(type)>>(images, num_points, d,
                                                                             channels);
          });
        });
  m.def(
      "gauss_transform_cuda",
      [](Address features, Address values, Address out, int64_t images, int64_t num_points, int d,
         int64_t channels, double far, const std::string& dtype, bool half, Address scratch,
         Address stream) {
        with_float(dtype, [&](auto type) {
          using T = Value<decltype(type)>;
          check_cuda("gauss_transform",
                     gauss_transform_cuda<T>(
                         {pointer<const T>(features), images, num_points, d, static_cast<T>(far)},
                         pointer<const T>(values), pointer<T>(out), channels, half,
                         pointer<void>(scratch), pointer<void>(stream)));
        });
      },
      Unlocked());
  m.def(
      "gauss_transform_features_cuda",
      [](Address features, Address values, Address grad, Address grad_features, int64_t images,
         int64_t num_points, int d, int64_t channels, double far, const std::string& dtype,
         bool half, Address scratch, Address stream) {
        with_float(dtype, [&](auto type) {
          using T = Value<decltype(type)>;
          check_cuda(
              "gauss_transform",
              gauss_transform_features_cuda<T>(
                  {pointer<const T>(features), images, num_points, d, static_cast<T>(far)},
                  pointer<const T>(values), pointer<const T>(grad), pointer<T>(grad_features),
                  channels, half, pointer<void>(scratch), pointer<void>(stream)));
        });
      },
      Unlocked());
}

}  // namespace deeplab_native
