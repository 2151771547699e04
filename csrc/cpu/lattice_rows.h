// Values on a lattice's vertices while several threads splat, blur and slice them.
#pragma once
#include <cstring>

#include "common/buffer.h"
#include "common/parallel.h"
#include "cpu/simd_kernels.h"

namespace deeplab_native {

// A view of lattice.num_rows() rows. Splatting clears the vertices' rows, clear_private the others.
template <class T>
class LatticeRows {
 public:
  LatticeRows(const Lattice& lattice, T* data, int stride)
      : lattice_(lattice), data_(data), stride_(stride) {}

  // The private rows that this thread will splat into.
  void clear_private(const Team& team) {
    std::memset(private_rows(team.id()), 0,
                lattice_.shared[team.id()].size() * stride_ * sizeof(T));
  }

  // After a barrier: the private rows of all threads onto the shared ones, in the threads' order.
  // Each thread does a range of vertices.
  void add_private(const Team& team) {
    const auto begin = static_cast<int32_t>(team.begin(lattice_.num_vertices));
    const auto end = static_cast<int32_t>(team.end(lattice_.num_vertices));
    for (int t = 1; t < lattice_.num_threads; ++t) {
      const T* from = private_rows(t);
      for (const int32_t v : lattice_.shared[t]) {
        if (v >= begin && v < end) {
          T* to = data_ + int64_t{v} * stride_;
          for (int c = 0; c < stride_; ++c) to[c] += from[c];
        }
        from += stride_;
      }
    }
  }

  void blur(const Team& team, int axis) {
    if (axis > lattice_.d) return;
    const Lattice::Axis& lines = lattice_.axes[axis];
    row_kernels<T>().blur_lines(data_, stride_, lines.order.data(), lines.cuts[team.id()],
                                lines.cuts[team.id() + 1]);
  }

 private:
  T* private_rows(int thread) {
    return data_ + (lattice_.num_vertices + lattice_.private_base[thread]) * stride_;
  }

  const Lattice& lattice_;
  T* data_;
  int stride_;
};

}  // namespace deeplab_native
