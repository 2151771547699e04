// What MeanField keeps of each pairwise kernel.
#pragma once
#include <memory>

#include "ops/mean_field.h"

namespace deeplab_native {

inline int64_t blocks_of(int64_t points) { return (points + kBlock - 1) / kBlock; }

template <class T>
struct MeanField<T>::Kernel {
  std::shared_ptr<const Lattice> lattice;
  CompatibilityKind kind;
  T factor;                 // on what is sliced: alpha, times w of a Potts kernel
  Buffer<T> compatibility;  // rows for kVector and kMatrix, padded
  Buffer<float> norm;       // [blocks * 16]
  const float *scale_in = nullptr, *scale_out = nullptr;
  int64_t first_row = 0;  // of its rows among those of all kernels

  // Whether one weight can serve for splatting and slicing.
  bool symmetric() const {
    return kind == CompatibilityKind::kPotts && factor > 0 && scale_in == scale_out;
  }
};

}  // namespace deeplab_native
