// Values on a lattice's vertices while several threads splat, blur and slice them.
#pragma once
#include <cstring>

#include "common/buffer.h"
#include "common/parallel.h"
#include "cpu/simd_kernels.h"

namespace deeplab_native {

template <class T>
class LatticeRows {
 public:
  LatticeRows() = default;
  LatticeRows(const Lattice& lattice, int stride)
      : lattice_(&lattice), stride_(stride), data_(size_t(lattice.num_rows()) * stride) {}

  T* data() { return data_.data(); }

  // Ready to be splatted into: this thread's share of the vertices, and the rows of its own.
  void clear(const Team& team) {
    clear_shared(team);
    clear_private(team);
  }

  void clear_shared(const Team& team) {
    const int64_t begin = team.begin(lattice_->num_vertices);
    const int64_t end = team.end(lattice_->num_vertices);
    std::memset(row(begin), 0, size_t(end - begin) * stride_ * sizeof(T));
  }

  void clear_private(const Team& team) {
    for (const int32_t v : lattice_->shared[team.id()]) {
      std::memset(private_row(team.id(), v), 0, stride_ * sizeof(T));
    }
  }

  // After a barrier: the private rows of all threads onto the shared ones, in the threads' order.
  // Each thread does a range of vertices; shared[t] is in no order, so it looks at all of them.
  void add_private(const Team& team) {
    const int32_t begin = static_cast<int32_t>(team.begin(lattice_->num_vertices));
    const int32_t end = static_cast<int32_t>(team.end(lattice_->num_vertices));
    for (int t = 1; t < lattice_->num_threads; ++t) {
      for (const int32_t v : lattice_->shared[t]) {
        if (v < begin || v >= end) continue;
        const T* from = private_row(t, v);
        T* to = row(v);
        for (int c = 0; c < stride_; ++c) to[c] += from[c];
      }
    }
  }

  void blur(const Team& team, int axis) {
    if (axis > lattice_->d) return;
    const Lattice::Axis& lines = lattice_->axes[axis];
    row_kernels<T>().blur_lines(data_.data(), stride_, lines.order.data(), lines.cuts[team.id()],
                                lines.cuts[team.id() + 1]);
  }

  // What a pass needs to know of the lattice; rows to read and to write are the caller's choice.
  PassKernel<T> pass_kernel(const Team& team) const {
    PassKernel<T> k{};
    k.d = lattice_->d;
    k.vertices = lattice_->vertices.data();
    k.weights = lattice_->weights.data();
    k.first_shared = lattice_->first[team.id()];
    k.private_shift =
        static_cast<int32_t>(lattice_->num_vertices + lattice_->private_base[team.id()]);
    return k;
  }

 private:
  T* row(int64_t r) { return data_.data() + r * stride_; }
  T* private_row(int thread, int32_t v) {
    return row(lattice_->num_vertices + lattice_->private_base[thread] + v);
  }

  const Lattice* lattice_ = nullptr;
  int stride_ = 0;
  Buffer<T> data_;
};

// A pass over this thread's blocks: the same ones whose vertices it numbered first.
template <class T>
void run_pass(const Team& team, const PixelPass<T>& pass) {
  const int64_t blocks = (pass.num_points + kBlock - 1) / kBlock;
  row_kernels<T>().pixel_pass(pass, team.begin(blocks), team.end(blocks));
}

}  // namespace deeplab_native
