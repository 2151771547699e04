// Bindings of the exact Gaussian sum, see ops/gauss_transform.h.
#include "bindings.h"
#include "ops/gauss_transform.h"

namespace deeplab_native {
namespace {

template <class T>
void bind(pybind11::module_& m, const char* transform, const char* features) {
  m.def(
      transform,
      [](Address points, Address values, Address out, int64_t images, int64_t n, int d,
         int64_t channels, T far, int num_threads) {
        gauss_transform_cpu<T>({pointer<const T>(points), images, n, d, far},
                               pointer<const T>(values), pointer<T>(out), channels, num_threads);
      },
      Unlocked());
  m.def(
      features,
      [](Address points, Address values, Address grad, Address out, int64_t images, int64_t n,
         int d, int64_t channels, T far, int num_threads) {
        gauss_transform_features_cpu<T>({pointer<const T>(points), images, n, d, far},
                                        pointer<const T>(values), pointer<const T>(grad),
                                        pointer<T>(out), channels, num_threads);
      },
      Unlocked());
}

}  // namespace

void bind_gauss(pybind11::module_& m) {
  bind<float>(m, "gauss_transform_cpu_float", "gauss_transform_features_cpu_float");
  bind<double>(m, "gauss_transform_cpu_double", "gauss_transform_features_cpu_double");
}

}  // namespace deeplab_native
