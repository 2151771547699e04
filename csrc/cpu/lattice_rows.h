// Values on a lattice's vertices while several threads splat, blur and slice them.
#pragma once
#include <cstring>

#include "common/buffer.h"
#include "common/parallel.h"
#include "cpu/simd_kernels.h"

namespace deeplab_native {

// A view of lattice.num_rows() rows; splatting clears those of vertices, clear_private the others.
template <class T>
class LatticeRows {
 public:
  LatticeRows(const Lattice& lattice, T* data, int stride)
      : lattice_(lattice), data_(data), stride_(stride) {}

  // The private rows that this thread will splat into.
  void clear_private(const Team& team) {
    for (const int32_t v : lattice_.shared[team.id()]) {
      std::memset(private_row(team.id(), v), 0, stride_ * sizeof(T));
    }
  }

  // After a barrier: the private rows of all threads onto the shared ones, in the threads' order.
  // Each thread does a range of vertices.
  void add_private(const Team& team) {
    const auto begin = static_cast<int32_t>(team.begin(lattice_.num_vertices));
    const auto end = static_cast<int32_t>(team.end(lattice_.num_vertices));
    for (int t = 1; t < lattice_.num_threads; ++t) {
      for (const int32_t v : lattice_.shared[t]) {
        if (v < begin || v >= end) continue;
        const T* from = private_row(t, v);
        T* to = data_ + int64_t{v} * stride_;
        for (int c = 0; c < stride_; ++c) to[c] += from[c];
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
  T* private_row(int thread, int32_t v) {
    return data_ + (lattice_.private_shift(thread) + v) * stride_;
  }

  const Lattice& lattice_;
  T* data_;
  int stride_;
};

}  // namespace deeplab_native
