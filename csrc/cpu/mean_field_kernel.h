// What MeanField keeps of each pairwise kernel.
#pragma once
#include <cmath>
#include <memory>
#include <vector>

#include "ops/mean_field.h"

namespace deeplab_native {

template <class T>
struct MeanField<T>::Kernel {
  std::shared_ptr<const Lattice> lattice;
  CompatibilityKind kind;
  Normalization normalization;
  std::vector<T> values;  // of the compatibility, as given
  Buffer<float> norm;     // [blocks * 16], in the order of the blocks; not for kNone
  const float* norm_in() const {
    return normalization == Normalization::kBefore || normalization == Normalization::kSymmetric
               ? norm.data()
               : nullptr;
  }
  const float* norm_out() const {
    return normalization == Normalization::kAfter || normalization == Normalization::kSymmetric
               ? norm.data()
               : nullptr;
  }

  // Made by prepare():
  Buffer<T> compatibility;        // rows for kVector and kMatrix, by the labels' places
  Buffer<T> scale_out, scale_in;  // everything that is constant, of each point; see symmetric()
  int64_t first_row = 0;          // of its rows among those of all kernels

  // What is sliced is multiplied with.
  T factor() const {
    return kind == CompatibilityKind::kPotts ? T(lattice->alpha) * values[0] : T(lattice->alpha);
  }
  // Whether scale_out serves for splatting, too.
  bool symmetric() const {
    return kind == CompatibilityKind::kPotts && factor() > 0 && norm_in() == norm_out();
  }

  void fold_scales(int64_t points) {
    const bool same = symmetric();
    const T out = same ? std::sqrt(factor()) : factor();
    scale_out.resize(points);
    for (int64_t i = 0; i < points; ++i) scale_out[i] = norm_out() ? out * T(norm[i]) : out;
    if (same) return;
    scale_in.resize(points);
    for (int64_t i = 0; i < points; ++i) scale_in[i] = norm_in() ? T(norm[i]) : T(1);
  }
};

}  // namespace deeplab_native
