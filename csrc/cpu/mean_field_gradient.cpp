// Gradients of the mean field's filters with respect to their features, on the CPU.
#include "common/parallel.h"
#include "cpu/mean_field_kernel.h"
#include "ops/lattice_gradient.h"

namespace deeplab_native {

template <class T>
void MeanField<T>::filter_gradient(int kernel, const T* x, const T* g, T* back, T* weights,
                                   T* scales) {
  const Kernel& k = kernels_.at(kernel);
  const int64_t points = blocks_.num_points();
  lattice_gradient_cpu<T>(*k.lattice, {{x, 1, points},
                                       {g, 1, points},
                                       {back, 1, points},
                                       num_labels_,
                                       k.norm_in(),
                                       k.norm_out(),
                                       false,
                                       weights,
                                       scales});
}

// Scales are n = k^-1/2, on both sides, or 1 / k on one, of the masses k = K 1; so with dL/dk =
// -n^3 / 2 dL/dn, or -n^2 dL/dn, for <dL/dk, K 1>.
template <class T>
void MeanField<T>::features_gradient(int kernel, const Features& features, T* weights,
                                     const T* scales, T* out) {
  const Kernel& k = kernels_.at(kernel);
  if (k.normalization != Normalization::kNone) {
    const int64_t points = blocks_.num_points();
    Buffer<T> ones(points), of_mass(points);
    std::fill_n(ones.data(), points, T(1));
    for (int64_t b = 0; b < blocks_.size(); ++b) {
      const Blocks::Span span = blocks_[b];
      for (int i = 0; i < span.count; ++i) {
        const T n = k.norm[b * kBlock + i], of_n = scales[b * kBlock + i];
        of_mass[span.first + i] = k.normalization == Normalization::kSymmetric
                                      ? T(-0.5) * n * n * n * of_n
                                      : -n * n * of_n;
      }
    }
    lattice_gradient_cpu<T>(*k.lattice, {{ones.data(), 1, points},
                                         {of_mass.data(), 1, points},
                                         {nullptr, 1, points},
                                         1,
                                         nullptr,
                                         nullptr,
                                         false,
                                         weights,
                                         nullptr});
  }
  features_gradient_cpu<T>(*k.lattice, features, weights, out);
}

template void MeanField<float>::filter_gradient(int, const float*, const float*, float*, float*,
                                                float*);
template void MeanField<float>::features_gradient(int, const Features&, float*, const float*,
                                                  float*);
template void MeanField<double>::filter_gradient(int, const double*, const double*, double*,
                                                 double*, double*);
template void MeanField<double>::features_gradient(int, const Features&, double*, const double*,
                                                   double*);

}  // namespace deeplab_native
