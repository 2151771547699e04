// The values of a block of 16 pixels, label by label: to and from Q, and through compatibilities
// that are no single number.
#pragma once
#include "cpu/rows.h"
#include "cpu/simd_kernels.h"

namespace deeplab_native::DEEPLAB_ISA {

template <class T, int kCold>
class LabelRows {
 protected:
  explicit LabelRows(const MeanFieldPass<T>& pass)
      : p_(pass),
        hot_(pass.scratch),
        cold_(hot_ + kBlock * kPlane),
        sliced_{cold_ + kBlock * pass.cold, cold_ + kBlock * (pass.cold + kPlane)} {}

  T* scratch_end() const { return sliced_.cold + kBlock * p_.cold; }

  // Of two hot rows: places of labels, where there is no cold plane, and where there is one.
  static constexpr T kOnes[2 * kPlane] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  static constexpr T kLabels[2 * kPlane] = {1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 0};
  static constexpr T kSumUnit[kPlane] = {0, 0, 0, 0, 0, 0, 0, 1};

  void locate(int64_t block) {
    block_ = block;
    span_ = (*p_.blocks)[block];
  }

  // f.operator()<N>(c) for the chunks of a cold row.
  template <class F>
  DEEPLAB_INLINE void for_cold(const F& f) const {
    if constexpr (kCold != 0) for_chunks<(kCold > 0 ? kCold : 0)>(p_.cold, f);
  }
  // One kernel in this block, copied: what the compiler cannot know to be constant while rows are
  // written it would load again for each pixel.
  template <class Rows>
  struct Corners {
    const uint32_t* entries;  // [corners][16]
    const float* weights;
    const T* scale;  // [16]
    Rows* rows;
    int count;
  };
  Corners<const T> hot_corners(const KernelPass<T>& k) const {
    const int64_t first = block_ * k.corners * kBlock;
    return {k.entries + first, k.weights + first, k.scale_out + block_ * kBlock, k.read.hot,
            k.corners};
  }
  Corners<const T> cold_corners(const KernelPass<T>& k, int c) const {
    const int64_t first = block_ * k.corners * kBlock;
    return {k.entries + first, k.weights + first, k.scale_out + block_ * kBlock, k.read.cold + c,
            k.corners};
  }
  // Rows of a plane are so many times as far apart as entries.
  DEEPLAB_INLINE size_t cold_scale() const {
    return static_cast<size_t>((kCold > 0 ? kCold : p_.cold) / kPlane);
  }

  // x += scale sum_r w[r] row(entry[r]) for pixel i; kCorners 0: not known when compiling.
  template <int kCorners, int N>
  static DEEPLAB_INLINE void slice_pixel(const Corners<const T>& k, size_t row_scale, int i,
                                         Row<T, N>* x) {
    auto sum = Row<T, N>::zero();
#pragma GCC unroll 6
    for (int r = 0; r < (kCorners > 0 ? kCorners : k.count); ++r) {
      const T* row = k.rows + k.entries[r * kBlock + i] * row_scale;
      sum.add_scaled(k.weights[r * kBlock + i], Row<T, N>::load(row));
    }
    x->add_scaled(k.scale[i], sum);
  }

  T& value(int i, int place) const {
    return place < kPlane ? hot_[i * kPlane + place] : cold_[i * p_.cold + place - kPlane];
  }

  void read_marginals() {
    for (int i = 0; i < kBlock * kPlane; ++i) hot_[i] = T(0);
    for (int i = 0; i < kBlock * p_.cold; ++i) cold_[i] = T(0);
    for (int l = 0; l < p_.num_labels; ++l) {
      const T* from = p_.q_in + l * p_.blocks->num_points() + span_.first;
      for (int i = 0; i < span_.count; ++i) value(i, p_.places[l]) = from[i];
    }
  }

  void write_marginals(const T* inverse_sums) const {
    for (int c = 0; c < kPlane + p_.cold; c += kPlane) {  // labels of 8 places
      alignas(64) T columns[kPlane][kBlock];
      const T* from = c == 0 ? hot_ : cold_ + c - kPlane;
      const int width = c == 0 ? kPlane : p_.cold;
      transpose_8x8(from, width, columns[0], kBlock);
      transpose_8x8(from + 8 * width, width, columns[0] + 8, kBlock);
      for (int k = 0; k < kPlane; ++k) {
        if (p_.labels[c + k] >= 0) write_label(p_.labels[c + k], columns[k], inverse_sums);
      }
    }
  }
  void write_label(int label, const T* x, const T* inverse_sums) const {
    using Sixteen = Row<T, kBlock>;
    T values[kBlock];
    const Sixteen scale = Sixteen::load(inverse_sums);
    T* to = p_.q_out + label * p_.blocks->num_points() + span_.first;
    // The planes of all labels are too many streams for the processor to see where they go.
    __builtin_prefetch(to + p_.blocks->step(), 1);
    __builtin_prefetch(to + p_.blocks->step() + kBlock - 1, 1);
    if (p_.softmax) {
      Sixteen::load(x).times(scale).store(span_.count == kBlock ? to : values);
      if (span_.count == kBlock) return;
    } else {
      const T* least = p_.least_unary + block_ * kBlock;
      for (int i = 0; i < kBlock; ++i) values[i] = x[i] - least[i];
    }
    for (int i = 0; i < span_.count; ++i) to[i] = values[i];
  }

  // -U - sum over kernels with vectors or matrices of C (K Q).
  Planes<const T> slice_label_kernels() {
    const Planes<const T> unary{p_.negative_unary.hot + block_ * kBlock * kPlane,
                                p_.negative_unary.cold + block_ * kBlock * p_.cold};
    if (!p_.reads || p_.num_potts == p_.num_kernels) return unary;
    for (int i = 0; i < kBlock * kPlane; ++i) hot_[i] = unary.hot[i];
    for (int i = 0; i < kBlock * p_.cold; ++i) cold_[i] = unary.cold[i];
    for (int k = p_.num_potts; k < p_.num_kernels; ++k) {
      slice_label_kernel(p_.kernels[k]);
      if (p_.kernels[k].kind == CompatibilityKind::kVector) {
        subtract_vector(p_.kernels[k].compatibility);
      } else {
        subtract_matrix(p_.kernels[k].compatibility);
      }
    }
    return {hot_, cold_};
  }

  const MeanFieldPass<T>& p_;
  T *const hot_, *const cold_;  // [16][8], [16][cold]
  int64_t block_ = 0;
  Blocks::Span span_{};

 private:
  void slice_label_kernel(const KernelPass<T>& kernel) {
    for (int i = 0; i < kBlock; ++i) {
      auto sum = Row<T, kPlane>::zero();
      slice_pixel<0>(hot_corners(kernel), 1, i, &sum);
      sum.store(sliced_.hot + i * kPlane);
      for_cold([&]<int N>(int c) {
        auto cold_sum = Row<T, N>::zero();
        slice_pixel<0>(cold_corners(kernel, c), cold_scale(), i, &cold_sum);
        cold_sum.store(sliced_.cold + i * p_.cold + c);
      });
    }
  }

  void subtract_vector(const T* v) {
    for (int i = 0; i < kBlock; ++i) {
      for (int c = 0; c < kPlane; ++c) hot_[i * kPlane + c] -= v[c] * sliced_.hot[i * kPlane + c];
      for (int c = 0; c < p_.cold; ++c) {
        cold_[i * p_.cold + c] -= v[kPlane + c] * sliced_.cold[i * p_.cold + c];
      }
    }
  }

  // The matrix is symmetric, so its rows are its columns.
  void subtract_matrix(const T* matrix) {
    for (int i = 0; i < kBlock; ++i) {
      for (int l = 0; l < p_.num_labels; ++l) {
        const int place = p_.places[l];
        const T factor = place < kPlane ? sliced_.hot[i * kPlane + place]
                                        : sliced_.cold[i * p_.cold + place - kPlane];
        const T* row = matrix + place * (kPlane + p_.cold);
        add_scaled<kPlane>(-factor, row, hot_ + i * kPlane);
        for_cold([&]<int N>(int c) {
          add_scaled<N>(-factor, row + kPlane + c, cold_ + i * p_.cold + c);
        });
      }
    }
  }
  template <int N>
  static DEEPLAB_INLINE void add_scaled(T factor, const T* row, T* to) {
    auto sum = Row<T, N>::load(to);
    sum.add_scaled(factor, Row<T, N>::load(row));
    sum.store(to);
  }

  const Planes<T> sliced_;  // K Q of one kernel
};

}  // namespace deeplab_native::DEEPLAB_ISA
