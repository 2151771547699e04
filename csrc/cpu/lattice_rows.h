// Values on a lattice's vertices while several threads splat, blur and slice them.
#pragma once
#include <cstring>

#include "common/buffer.h"
#include "common/parallel.h"
#include "cpu/simd_kernels.h"

namespace deeplab_native {

inline Lines lines_of(const Lattice& lattice, int axis, int thread) {
  const Lattice::Axis& lines = lattice.axes[axis];
  return {lines.order.data(), lines.cuts[thread], lines.cuts[thread + 1]};
}

// A view of lattice.num_rows() rows of `stride` values. Splatting clears the rows that it is the
// first to touch; clear_others clears the others.
template <class T>
class LatticeRows {
 public:
  LatticeRows(const Lattice& lattice, T* data, int stride)
      : lattice_(lattice), data_(data), stride_(stride) {}

  // The shared ones that this thread will splat into, and its part of the bridges, into which
  // nobody does.
  void clear_others(const Team& team) const {
    clear(lattice_.copies_of_shared(team.id()), lattice_.num_shared);
    const int64_t bridges = lattice_.num_bridges, begin = team.begin(bridges);
    clear(lattice_.num_vertices - bridges + begin, team.end(bridges) - begin);
  }

  // After a barrier: the copies of all threads onto the shared rows, in the threads' order. Each
  // thread does a range of them.
  void add_copies(const Team& team) const {
    const int64_t begin = team.begin(lattice_.num_shared) * stride_;
    const int64_t end = team.end(lattice_.num_shared) * stride_;
    for (int t = 1; t < lattice_.num_threads; ++t) {
      const T* from = row(lattice_.copies_of_shared(t));
      for (int64_t i = begin; i < end; ++i) data_[i] += from[i];
    }
  }

  void blur(const Team& team, int axis) const {
    if (axis > lattice_.d) return;
    row_kernels<T>().blur_rows(data_, stride_, lines_of(lattice_, axis, team.id()));
  }

 private:
  T* row(int64_t r) const { return data_ + r * stride_; }
  void clear(int64_t first, int64_t count) const {
    if (count <= 0 || stride_ == 0) return;  // without channels there is no memory
    std::memset(row(first), 0, size_t(count) * stride_ * sizeof(T));
  }

  const Lattice& lattice_;
  T* data_;
  int stride_;
};

}  // namespace deeplab_native
