// The pass over the pixels: slice, add, softmax and splat of a block of 16 while its values are in
// the first-level cache, so that Q is never stored between iterations.
#include "cpu/rows.h"
#include "cpu/simd_kernels.h"

namespace deeplab_native::DEEPLAB_ISA {
namespace {

constexpr int kCorners = kMaxFeatureDim + 1;

template <class T, int kStride>
class BlockPass {
 public:
  explicit BlockPass(const PixelPass<T>& pass)
      : p_(pass),
        stride_(kStride > 0 ? kStride : pass.stride),
        x_(pass.scratch),
        y_(pass.scratch + kBlock * stride_) {}

  void run(int64_t block) {
    block_ = block;
    first_ = block * kBlock;
    const int64_t left = p_.num_points - first_;
    count_ = left < kBlock ? static_cast<int>(left) : kBlock;

    prefetch_next();
    const T* from = source();
    for (int m = 0; m < p_.num_kernels; ++m) {
      if (p_.kernels[m].read) {
        slice(p_.kernels[m], from);
        from = x_;
      }
    }
    if constexpr (kStride != 1) {
      if (p_.softmax) {
        softmax(from);
        from = y_;
      }
    }
    if (p_.out.data) write_out(from);
    for (int m = 0; m < p_.num_kernels; ++m) {
      if (p_.kernels[m].write) splat(p_.kernels[m], from);
    }
  }

 private:
  // The next block's vertices, weights and unary: streams too many for the hardware to follow.
  void prefetch_next() const {
    for (int m = 0; m < p_.num_kernels; ++m) {
      const PassKernel<T>& k = p_.kernels[m];
      const int64_t next = (block_ + 1) * (k.d + 1) * kBlock;
      for (int r = 0; r <= k.d; ++r) {
        __builtin_prefetch(k.vertices + next + r * kBlock);
        __builtin_prefetch(k.weights + next + r * kBlock);
      }
      if (k.scale_out) __builtin_prefetch(k.scale_out + (block_ + 1) * kBlock);
    }
    if (p_.base) {
      const T* base = p_.base + (first_ + kBlock) * stride_;
      for (int i = 0; i < kBlock * stride_; i += 64 / static_cast<int>(sizeof(T))) {
        __builtin_prefetch(base + i);
      }
    }
  }

  // Rows of the block before any kernel: where they are, or a copy in x_.
  const T* source() {
    if (!p_.in.data && p_.base) return p_.base + first_ * stride_;
    for (int i = 0; i < kBlock * stride_; ++i) x_[i] = T(0);
    if (p_.in.data) {
      const T* in = p_.in.data + first_ * p_.in.point_stride;
      for (int c = 0; c < p_.num_labels; ++c) {
        for (int i = 0; i < count_; ++i) {
          x_[i * stride_ + c] = in[i * p_.in.point_stride + c * p_.in.channel_stride];
        }
      }
    } else if (!p_.kernels[0].read) {
      for (int i = 0; i < count_; ++i) x_[i * stride_] = T(1);
    }
    return x_;
  }

  // Barycentric weights of the block times scale and factor.
  void scaled_weights(const PassKernel<T>& k, const float* scale, T factor, T* w) const {
    const float* from = k.weights + block_ * (k.d + 1) * kBlock;
    if (!scale) {
      for (int i = 0; i < (k.d + 1) * kBlock; ++i) w[i] = factor * static_cast<T>(from[i]);
      return;
    }
    T pixel[kBlock];
    for (int i = 0; i < kBlock; ++i) pixel[i] = factor * static_cast<T>(scale[first_ + i]);
    for (int r = 0; r <= k.d; ++r) {
      for (int i = 0; i < kBlock; ++i) {
        w[r * kBlock + i] = pixel[i] * static_cast<T>(from[r * kBlock + i]);
      }
    }
  }

  template <class F>
  DEEPLAB_INLINE void with_dimension(int d, const F& f) const {
    if (d == 5) {
      f.template operator()<5>();
    } else if (d == 2) {
      f.template operator()<2>();
    } else {
      f.template operator()<0>();
    }
  }

  void slice(const PassKernel<T>& k, const T* from) {
    alignas(64) T w[kCorners * kBlock];
    scaled_weights(k, k.scale_out, k.factor, w);
    const int32_t* vertices = k.vertices + block_ * (k.d + 1) * kBlock;
    const bool direct = k.kind == CompatibilityKind::kPotts;
    if (!direct) {
      for (int i = 0; i < kBlock * stride_; ++i) y_[i] = T(0);
    }
    with_dimension(k.d, [&]<int kDim>() {
      for_chunks<kStride>(stride_, [&]<int N>(int c) {
        slice_rows<T, N, kDim>(k.d, vertices, w, k.read + c, stride_, (direct ? from : y_) + c,
                               (direct ? x_ : y_) + c);
      });
    });
    if (k.kind == CompatibilityKind::kVector) subtract_vector(k.compatibility, from);
    if (k.kind == CompatibilityKind::kMatrix) subtract_matrix(k.compatibility, from);
  }

  // x = from - v y, label by label
  void subtract_vector(const T* v, const T* from) {
    for (int i = 0; i < kBlock; ++i) {
      for (int c = 0; c < stride_; ++c) {
        x_[i * stride_ + c] = from[i * stride_ + c] - v[c] * y_[i * stride_ + c];
      }
    }
  }

  // x = from - M y; M is symmetric, so its rows are its columns
  void subtract_matrix(const T* matrix, const T* from) {
    for (int i = 0; i < kBlock; ++i) {
      for_chunks<kStride>(stride_, [&]<int N>(int c) {
        Row<T, N> sum = Row<T, N>::load(from + i * stride_ + c);
        for (int l = 0; l < p_.num_labels; ++l) {
          sum.add_scaled(-y_[i * stride_ + l], Row<T, N>::load(matrix + l * stride_ + c));
        }
        sum.store(x_ + i * stride_ + c);
      });
    }
  }

  // x = exp(from); its sum is divided out where x is used. The usual subtraction of the maximum
  // only guards the range of exp, so it is done only for blocks whose sums show the need.
  void softmax(const T* from) {
    if (exp_block(from, nullptr)) return;
    T most[kBlock];
    for (int i = 0; i < kBlock; ++i) {
      most[i] = from[i * stride_];
      for_chunks<kStride>(stride_, [&]<int N>(int c) {
        const T m = Row<T, N>::load(from + i * stride_ + c).max();
        most[i] = m > most[i] ? m : most[i];
      });
    }
    exp_block(from, most);
  }

  // e = exp(from - shift) into y_, unless a sum left the range in which nothing was lost: then
  // false, with `from` as it was.
  bool exp_block(const T* from, const T* shift) {
    constexpr T kLeast = T(1e-20), kMost = T(1e37);
    T sums[kBlock];
    for_chunks<kStride>(stride_, [&]<int N>(int c) {
      RowSums<T, N> chunk;
      for (int i = 0; i < kBlock; ++i) {
        const T s = shift ? shift[i] : T(0);
        const Row<T, N> e = Row<T, N>::load(from + i * stride_ + c).exp_minus(s);
        e.store(y_ + i * stride_ + c);
        chunk.set(i, e);
      }
      chunk.add_to(sums, c == 0);
    });
    bool in_range = true;
    for (int i = 0; i < kBlock; ++i) {
      in_range &= sums[i] > kLeast && sums[i] < kMost;
      inverse_sum_[i] = T(1) / sums[i];
    }
    return in_range;
  }

  void write_out(const T* from) const {
    T* out = p_.out.data + first_ * p_.out.point_stride;
    for (int c = 0; c < p_.num_labels; ++c) {
      for (int i = 0; i < count_; ++i) {
        const T value = from[i * stride_ + c];
        out[i * p_.out.point_stride + c * p_.out.channel_stride] =
            p_.softmax ? value * inverse_sum_[i] : value;
      }
    }
  }

  void splat(const PassKernel<T>& k, const T* from) {
    alignas(64) T w[kCorners * kBlock];
    alignas(64) int32_t own[kCorners * kBlock];
    scaled_weights(k, k.scale_in, T(1), w);
    const int corners = (k.d + 1) * kBlock;
    if (p_.softmax) {
      for (int r = 0; r <= k.d; ++r) {
        for (int i = 0; i < kBlock; ++i) w[r * kBlock + i] *= inverse_sum_[i];
      }
    }
    const int32_t* vertices = k.vertices + block_ * corners;
    if (k.first_shared > 0) {
      for (int i = 0; i < corners; ++i) {
        const int32_t v = vertices[i];
        own[i] = v + (v < k.first_shared ? k.private_shift : 0);
      }
      vertices = own;
    }
    with_dimension(k.d, [&]<int kDim>() {
      for_chunks<kStride>(stride_, [&]<int N>(int c) {
        splat_rows<T, N, kDim>(k.d, vertices, w, k.write + c, stride_, from + c);
      });
    });
  }

  const PixelPass<T>& p_;
  const int stride_;
  T *const x_, *const y_;
  int64_t block_ = 0, first_ = 0;
  int count_ = 0;
  alignas(64) T inverse_sum_[kBlock];
};

template <class T, int kStride>
void run_blocks(const PixelPass<T>& pass, int64_t begin, int64_t end) {
  BlockPass<T, kStride> block_pass(pass);
  for (int64_t b = begin; b < end; ++b) block_pass.run(b);
}

template <class T>
void pixel_pass(const PixelPass<T>& pass, int64_t begin, int64_t end) {
  FlushDenormals flush;
  switch (pass.stride) {
    case 1:
      return run_blocks<T, 1>(pass, begin, end);
    case 4:
      return run_blocks<T, 4>(pass, begin, end);
    case 8:
      return run_blocks<T, 8>(pass, begin, end);
    case 16:
      return run_blocks<T, 16>(pass, begin, end);
    case 24:
      return run_blocks<T, 24>(pass, begin, end);
    case 32:
      return run_blocks<T, 32>(pass, begin, end);
    default:
      return run_blocks<T, 0>(pass, begin, end);
  }
}

}  // namespace

void fill_mean_field(SimdKernels* kernels) {
  kernels->rows_f32.pixel_pass = pixel_pass<float>;
  kernels->rows_f64.pixel_pass = pixel_pass<double>;
}

}  // namespace deeplab_native::DEEPLAB_ISA
