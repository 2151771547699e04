// Bindings of the exact Gaussian sum, see ops/gauss_transform.h.
#include "bindings.h"
#include "ops/gauss_transform.h"

namespace deeplab_native {
namespace {

template <class T>
void transform(Address features, Address values, Address out, int64_t images, int64_t n, int d,
               int64_t channels, T far, int num_threads) {
  gauss_transform_cpu<T>({pointer<const T>(features), images, n, d, far}, pointer<const T>(values),
                         pointer<T>(out), channels, num_threads);
}

template <class T>
void transform_features(Address features, Address values, Address grad, Address out, int64_t images,
                        int64_t n, int d, int64_t channels, T far, int num_threads) {
  gauss_transform_features_cpu<T>({pointer<const T>(features), images, n, d, far},
                                  pointer<const T>(values), pointer<const T>(grad), pointer<T>(out),
                                  channels, num_threads);
}

}  // namespace

void bind_gauss(pybind11::module_& m) {
  m.def("gauss_transform_cpu_float", &transform<float>, Unlocked());
  m.def("gauss_transform_features_cpu_float", &transform_features<float>, Unlocked());
  m.def("gauss_transform_cpu_double", &transform<double>, Unlocked());
  m.def("gauss_transform_features_cpu_double", &transform_features<double>, Unlocked());
}

}  // namespace deeplab_native
