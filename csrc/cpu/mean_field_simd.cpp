// The pass over the pixels: slice, softmax and splat of a block of 16 while its values are in
// registers and the first-level cache, so that Q is never stored between iterations.
#include "cpu/rows.h"
#include "cpu/simd_kernels.h"

namespace deeplab_native::DEEPLAB_ISA {
namespace {

constexpr int kEntryScale = 2;        // entries count halves of a row's stride
constexpr int kUsualCorners = 3 + 6;  // a Gaussian and a bilateral kernel

template <class T, int kStride, int kCorners>
class BlockPass {
 public:
  explicit BlockPass(const MeanFieldPass<T>& pass)
      : p_(pass),
        stride_(kStride > 0 ? kStride : pass.stride),
        corners_(kCorners > 0 ? kCorners : pass.corners),
        x_(pass.scratch),
        y_(pass.scratch + kBlock * stride_) {}

  void run(int64_t block) {
    first_ = block * kBlock;
    const int64_t left = p_.num_points - first_;
    count_ = left < kBlock ? static_cast<int>(left) : kBlock;
    const int64_t entry = block * corners_ * kBlock;
    entries_out_ = p_.entries_out + entry;
    entries_in_ = p_.entries_in + entry;
    weights_out_ = p_.weights_out + entry;
    weights_in_ = p_.weights_in + entry;

    const T* from = p_.q_in ? read_marginals() : p_.negative_unary + first_ * stride_;
    if (p_.read) from = slice_label_kernels(from);
    const T* result = p_.softmax ? softmax(from) : slice_potts_kernels(from);
    if (p_.q_out) write_marginals(result);
    if (p_.write) {
      clear_fresh_rows(block);
      splat(result);
    }
  }

 private:
  int potts_corners() const {
    if (!p_.read) return 0;
    return kCorners > 0 ? kCorners : p_.potts_corners;  // kCorners: all of them are
  }

  const T* read_marginals() {
    for (int i = 0; i < kBlock * stride_; ++i) x_[i] = T(0);
    for (int l = 0; l < p_.num_labels; ++l) {
      const T* from = p_.q_in + l * p_.num_points + first_;
      for (int i = 0; i < count_; ++i) x_[i * stride_ + l] = from[i];
    }
    return x_;
  }

  // x = from - sum over kernels with vectors or matrices of C (K Q)
  const T* slice_label_kernels(const T* from) {
    for (int k = 0; k < p_.num_label_kernels; ++k) {
      const LabelKernel<T>& kernel = p_.label_kernels[k];
      const int offset = kernel.first_corner * kBlock;
      for_chunks<kStride>(stride_, [&]<int N>(int c) {
        for (int i = 0; i < kBlock; ++i) {
          auto sum = Row<T, N>::zero();
          slice_pixel<0, kEntryScale>(kernel.corners, entries_out_ + offset, weights_out_ + offset,
                                      p_.read + c, 0, i, &sum);
          sum.store(y_ + i * stride_ + c);
        }
      });
      if (kernel.kind == CompatibilityKind::kVector) {
        subtract_vector(kernel.compatibility, from);
      } else {
        subtract_matrix(kernel.compatibility, from);
      }
      from = x_;
    }
    return from;
  }

  void subtract_vector(const T* v, const T* from) {
    for (int i = 0; i < kBlock; ++i) {
      for (int c = 0; c < stride_; ++c) {
        x_[i * stride_ + c] = from[i * stride_ + c] - v[c] * y_[i * stride_ + c];
      }
    }
  }

  // The matrix is symmetric, so its rows are its columns.
  void subtract_matrix(const T* matrix, const T* from) {
    for (int i = 0; i < kBlock; ++i) {
      for_chunks<kStride>(stride_, [&]<int N>(int c) {
        auto sum = Row<T, N>::load(from + i * stride_ + c);
        for (int l = 0; l < p_.num_labels; ++l) {
          sum.add_scaled(-y_[i * stride_ + l], Row<T, N>::load(matrix + l * stride_ + c));
        }
        sum.store(x_ + i * stride_ + c);
      });
    }
  }

  const T* slice_potts_kernels(const T* from) {
    const int corners = potts_corners();
    if (corners == 0) return from;
    for_chunks<kStride>(stride_, [&]<int N>(int c) {
      for (int i = 0; i < kBlock; ++i) {
        auto sum = Row<T, N>::load(from + i * stride_ + c);
        slice_pixel<0, kEntryScale>(corners, entries_out_, weights_out_, p_.read + c, 0, i, &sum);
        sum.store(x_ + i * stride_ + c);
      }
    });
    return x_;
  }

  // exp of what is sliced, not divided by its sum: that is done where it is used. The usual
  // subtraction of the maximum only guards the range of exp, so it is done only for blocks whose
  // sums show the need.
  const T* softmax(const T* from) {
    if constexpr (kStride > 0) {
      if (slice_and_exp<kStride>(from)) return y_;
    }
    return exp_minus_maximum(slice_potts_kernels(from));
  }

  // False where a sum left the range in which nothing was lost.
  template <int N>
  bool slice_and_exp(const T* from) {
    constexpr T kLeast = T(1e-20), kMost = T(1e20);  // weights / sum stay normal numbers
    RowSums<T, N> row_sums;
    const bool read = p_.read;
    for (int i = 0; i < kBlock; ++i) {
      auto x = Row<T, N>::load(from + i * N);
      if (read) {
        slice_pixel<kCorners, kEntryScale>(p_.potts_corners, entries_out_, weights_out_, p_.read, 0,
                                           i, &x);
      }
      const Row<T, N> e = x.exp_minus(T(0));
      e.store(y_ + i * N);
      row_sums.set(i, e);
    }
    T sums[kBlock];
    row_sums.get(sums);
    bool in_range = true;
    for (int i = 0; i < kBlock; ++i) {
      in_range &= sums[i] > kLeast && sums[i] < kMost;
      inverse_sum_[i] = T(1) / sums[i];
    }
    return in_range;
  }

  const T* exp_minus_maximum(const T* from) {
    for (int i = 0; i < kBlock; ++i) {
      const T* row = from + i * stride_;
      T most = row[0];
      for_chunks<kStride>(stride_, [&]<int N>(int c) {
        const T m = Row<T, N>::load(row + c).max();
        most = m > most ? m : most;
      });
      T sum = 0;
      for_chunks<kStride>(stride_, [&]<int N>(int c) {
        const Row<T, N> e = Row<T, N>::load(row + c).exp_minus(most);
        e.store(y_ + i * stride_ + c);
        sum += e.sum();
      });
      inverse_sum_[i] = T(1) / sum;
    }
    return y_;
  }

  void write_marginals(const T* from) const {
    for (int l = 0; l < p_.num_labels; ++l) {
      T* to = p_.q_out + l * p_.num_points + first_;
      for (int i = 0; i < count_; ++i) {
        const T value = from[i * stride_ + l];
        to[i] = p_.softmax ? value * inverse_sum_[i] : value;
      }
    }
  }

  // Rows are cleared when the first of their pixels comes by: they are in cache from then on.
  void clear_fresh_rows(int64_t block) {
    for (int k = 0; k < p_.num_kernels; ++k) {
      const KernelRows<T>& kernel = p_.write_rows[k];
      T* row = kernel.rows + int64_t{kernel.fresh[block]} * stride_;
      const T* end = kernel.rows + int64_t{kernel.fresh[block + 1]} * stride_;
      for (; row < end; row += 4) store<T, 4>(row, Vec<T, 4>{});
    }
  }

  void splat(const T* from) {
    const T* w = weights_in_;

    if (p_.softmax) {
      for (int r = 0; r < corners_; ++r) {
        for (int i = 0; i < kBlock; ++i) {
          p_.own_weights[r * kBlock + i] = weights_in_[r * kBlock + i] * inverse_sum_[i];
        }
      }
      w = p_.own_weights;
    }
    for_chunks<kStride>(stride_, [&]<int N>(int c) {
      for (int i = 0; i < kBlock; ++i) {
        const auto value = Row<T, N>::load(from + i * stride_ + c);
        splat_pixel<kCorners, kEntryScale>(corners_, entries_in_, w, p_.write + c, 0, i, value);
      }
    });
  }

  const MeanFieldPass<T>& p_;
  const int stride_, corners_;
  T *const x_, *const y_;
  const uint32_t *entries_out_ = nullptr, *entries_in_ = nullptr;
  const T *weights_out_ = nullptr, *weights_in_ = nullptr;
  int64_t first_ = 0;
  int count_ = 0;
  alignas(64) T inverse_sum_[kBlock];
};

template <class T, int kStride, int kCorners>
void run_blocks(const MeanFieldPass<T>& pass, int64_t begin, int64_t end) {
  BlockPass<T, kStride, kCorners> block_pass(pass);
  for (int64_t b = begin; b < end; ++b) block_pass.run(b);
}

template <class T>
void mean_field(const MeanFieldPass<T>& pass, int64_t begin, int64_t end) {
  FlushDenormals flush;
  const bool usual = pass.corners == kUsualCorners && pass.potts_corners == kUsualCorners;
  with_stride(pass.stride, [&]<int kStride>() {
    if constexpr (kStride != 1) {
      if (usual) {
        run_blocks<T, kStride, kUsualCorners>(pass, begin, end);
      } else {
        run_blocks<T, kStride, 0>(pass, begin, end);
      }
    }
  });
}

}  // namespace

void fill_mean_field(SimdKernels* kernels) {
  kernels->rows_f32.mean_field = mean_field<float>;
  kernels->rows_f64.mean_field = mean_field<double>;
}

}  // namespace deeplab_native::DEEPLAB_ISA
