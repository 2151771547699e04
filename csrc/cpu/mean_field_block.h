// The pass over one block of 16 pixels: slice, softmax and splat while its values are in registers
// and the first-level cache, so that Q is never stored between iterations.
#pragma once
#include "cpu/mean_field_labels.h"
#include "cpu/rows.h"
#include "cpu/simd_kernels.h"

namespace deeplab_native::DEEPLAB_ISA {

// kCold: width of the cold plane, -1 where that is not known when compiling. kUsual: the kernels
// are a Gaussian and a bilateral one, both Potts.
template <class T, int kCold, bool kUsual>
class BlockPass : LabelRows<T, kCold> {
 public:
  explicit BlockPass(const MeanFieldPass<T>& pass)
      : LabelRows<T, kCold>(pass), splat_weights_(this->scratch_end()) {
    int corners = 0;
    for (int k = 0; k < p_.num_kernels; ++k) corners += p_.kernels[k].corners;
    splat_entries_ = reinterpret_cast<uint32_t*>(splat_weights_ + corners * kBlock);
    cold_entries_ = splat_entries_ + corners * kBlock;
  }

  void run(int64_t block) {
    this->locate(block);
    if (p_.q_in) {
      this->read_marginals();
      cold_is_here_ = active_ = true;
    } else {
      from_ = this->slice_label_kernels();
      if (p_.softmax) {
        softmax();
      } else {
        copy_energies(p_.reads);
      }
    }
    if (p_.writes) {
      clear_fresh_rows();
      splat();
      *p_.num_active += active_;
    }
    if (p_.q_out) {
      if (!cold_is_here_) exp_cold(from_.cold);
      this->write_marginals(inverse_sums_);
    }
  }

 private:
  using Base = LabelRows<T, kCold>;
  using Base::block_, Base::cold_, Base::for_cold, Base::hot_, Base::p_;
  using Hot = Row<T, kPlane>;
  using Sums = Row<T, kBlock>;  // one value for each pixel
  static constexpr bool kHasCold = kCold != 0;

  // ---- slicing ----
  // to[i] = from[i] plus what the Potts kernels slice, for each pixel i.
  template <int N, class CornersOf>
  DEEPLAB_INLINE void slice_rows(const T* from, T* to, int width, size_t scale,
                                 const CornersOf& corners_of) const {
    if constexpr (kUsual) {
      const auto gaussian = corners_of(0, 0), bilateral = corners_of(1, kGaussianCorners);
      for (int i = 0; i < kBlock; ++i) {
        auto x = Row<T, N>::load(from + i * width);
        Base::template slice_pixel<kGaussianCorners>(gaussian, scale, i, &x);
        Base::template slice_pixel<kBilateralCorners>(bilateral, scale, i, &x);
        x.store(to + i * width);
      }
    } else {
      for (int i = 0; i < kBlock; ++i) {
        auto x = Row<T, N>::load(from + i * width);
        for (int k = 0, first = 0; k < p_.num_potts; first += p_.kernels[k++].corners) {
          Base::template slice_pixel<0>(corners_of(k, first), scale, i, &x);
        }
        x.store(to + i * width);
      }
    }
  }

  // Where the cold plane is one wide vector a row, both planes are done in one go when it is known
  // that both are wanted: entries and weights are then read once.
  static constexpr bool kJoint = kUsual && kCold == 16;
  using Both = Row<T, 16 + kPlane>;  // cold, hot

  template <int kCorners>
  static DEEPLAB_INLINE void slice_both(const typename Base::template Corners<const T>& hot,
                                        const T* cold, int i, Both* x) {
    Both sum = Both::zero();
#pragma GCC unroll 6
    for (int r = 0; r < kCorners; ++r) {
      const size_t entry = hot.entries[r * kBlock + i];
      sum.add_scaled(hot.weights[r * kBlock + i],
                     Both::template load_split<16>(cold + entry * 2, hot.rows + entry));
    }
    x->add_scaled(hot.scale[i], sum);
  }
  void slice_both() const {
    const KernelPass<T>&g = p_.kernels[0], &b = p_.kernels[1];
    const auto gaussian = this->hot_corners(g), bilateral = this->hot_corners(b);
    const T *const cold_g = g.read.cold, *const cold_b = b.read.cold;
    const T *const from_hot = from_.hot, *const from_cold = from_.cold;
    T *const to_hot = hot_, *const to_cold = cold_;
    for (int i = 0; i < kBlock; ++i) {
      auto x = Both::template load_split<16>(from_cold + i * 16, from_hot + i * kPlane);
      slice_both<kGaussianCorners>(gaussian, cold_g, i, &x);
      slice_both<kBilateralCorners>(bilateral, cold_b, i, &x);
      x.template store_split<16>(to_cold + i * 16, to_hot + i * kPlane);
    }
  }

  // The hot rows' x.
  const T* slice_hot() const {
    if (!p_.reads) return from_.hot;
    slice_rows<kPlane>(from_.hot, hot_, kPlane, 1,
                       [this](int k, int) { return this->hot_corners(p_.kernels[k]); });
    return hot_;
  }

  // The cold rows' x, with or without messages.
  const T* slice_cold(bool messages) const {
    if (!messages) return from_.cold;
    if (p_.read_sparse) find_cold_rows();
    for_cold([&]<int N>(int c) {
      slice_rows<N>(from_.cold + c, cold_ + c, kCold > 0 ? kCold : p_.cold, this->cold_scale(),
                    [this, c](int k, int corner) {
                      auto corners = this->cold_corners(p_.kernels[k], c);
                      if (p_.read_sparse) corners.entries = cold_entries_ + corner * kBlock;
                      return corners;
                    });
    });
    return cold_;
  }

  // The entries of this block, with rows of zeros for the cold rows that are not there.
  void find_cold_rows() const {
    uint32_t* to = cold_entries_;
    for (int k = 0; k < p_.num_potts; ++k) {
      const KernelPass<T>& kernel = p_.kernels[k];
      const uint32_t* entries = kernel.entries + block_ * kernel.corners * kBlock;
      const T* sums = kernel.read.hot + kColdSum;
      const uint32_t missing = kernel.missing;
      for (int r = 0; r < kernel.corners * kBlock; ++r) {
        *to++ = sums[entries[r]] > T(kNegligibleRow) ? entries[r] : missing;
      }
    }
  }

  // ---- softmax ----
  // exp of what is sliced, not divided by its sum: that is done where it is used. The usual
  // subtraction of the maximum only guards the range of exp, so it is done only for blocks whose
  // sums show the need.
  void softmax() {
    constexpr T kLeast = T(1e-20), kMost = T(1e20);  // weights / sum stay normal numbers
    const bool both = kJoint && p_.reads && !p_.read_sparse;
    if constexpr (kJoint) {
      if (both) slice_both();
    }
    const T messages_to_cold = exp_hot(both ? hot_ : slice_hot());
    const Sums hot_sums = row_sums<T, kPlane>(hot_, kPlane);
    Sums sums = hot_sums, cold_sums = Sums::zero();
    bool messages = false;  // to cold labels
    if constexpr (kHasCold) {
      T* const constant = p_.cold_sums + block_ * kBlock;  // without messages
      cold_is_here_ = false;
      if (!p_.reads) {
        cold_sums = exp_cold(from_.cold);
        cold_sums.store(constant);
      } else if (both) {
        messages = true;
        cold_sums = exp_cold(cold_);
      } else {
        cold_sums = Sums::load(constant);
        // Messages of m in all change the marginals of cold labels by a factor of exp(m) at most.
        const T growth = DEEPLAB_ISA::exp(messages_to_cold) - T(1);
        const T largest = cold_sums.times((hot_sums + cold_sums).inverse()).max();
        // Not for messages below 0, nor where this is NaN: 0 times an infinite growth.
        messages = p_.negligible_marginal < 0 || !(largest * growth <= p_.negligible_marginal);
        if (messages) cold_sums = exp_cold(slice_cold(true));
      }
      cold_sums.store(cold_sums_);
      sums = sums + cold_sums;
    }
    sums.inverse().store(inverse_sums_);
    if (!sums.within(kLeast, kMost)) exp_minus_maximum(messages);
    active_ = false;
    if constexpr (kHasCold) {
      const T largest = Sums::load(cold_sums_).times(Sums::load(inverse_sums_)).max();
      active_ = largest > p_.negligible_marginal;
      if (active_ && p_.writes && !cold_is_here_) exp_cold(from_.cold);
    }
  }

  // Two rows of 8 at a time: half as many chains of operations as row by row.
  using TwoRows = Row<T, 2 * kPlane>;

  // hot = exp(x), 0 in place of the cold sum. Returns the sum of what was there: the messages to
  // all cold labels of all pixels.
  T exp_hot(const T* x) const {
    const TwoRows labels = TwoRows::load(kHasCold ? Base::kLabels : Base::kOnes);
    TwoRows total = TwoRows::zero();
    for (int i = 0; i < kBlock * kPlane; i += 2 * kPlane) {
      const TwoRows rows = TwoRows::load(x + i);
      total = total + rows;
      rows.exp_minus(T(0)).times(labels).store(hot_ + i);
    }
    T sums[2 * kPlane];
    total.store(sums);
    return sums[kColdSum] + sums[kPlane + kColdSum];
  }

  // cold = exp(x); returns the sums of the rows.
  Sums exp_cold(const T* x) {
    Sums sums = Sums::zero();
    for (int i = 0; i < kBlock * p_.cold; i += 2 * kPlane) {
      TwoRows::load(x + i).exp_minus(T(0)).store(cold_ + i);
    }
    for_cold([&]<int N>(int c) { sums = sums + row_sums<T, N>(cold_ + c, p_.cold); });
    cold_is_here_ = true;
    return sums;
  }

  static DEEPLAB_INLINE void copy_rows(const T* from, T* to, int64_t count) {
    if (from == to) return;
    for (int64_t i = 0; i < count; i += kPlane) Hot::load(from + i).store(to + i);
  }

  // x itself, for those who want no softmax.
  void copy_energies(bool messages) {
    copy_rows(slice_hot(), hot_, kBlock * kPlane);
    if constexpr (kHasCold) copy_rows(slice_cold(messages), cold_, kBlock * p_.cold);
    cold_is_here_ = true;
  }

  void exp_minus_maximum(bool messages) {
    from_ = this->slice_label_kernels();
    copy_energies(messages);
    for (int i = 0; i < kBlock; ++i) {
      T* const hot = hot_ + i * kPlane;
      T* const cold = cold_ + i * p_.cold;
      const int labels = kHasCold ? kColdSum : kPlane;
      T most = hot[0], sum = 0, cold_sum = 0;
      for (int c = 0; c < labels; ++c) most = hot[c] > most ? hot[c] : most;
      for (int c = 0; c < p_.cold; ++c) most = cold[c] > most ? cold[c] : most;
      Hot::load(hot).exp_minus(most).store(hot);
      if constexpr (kHasCold) hot[kColdSum] = 0;
      for_cold([&]<int N>(int c) { Row<T, N>::load(cold + c).exp_minus(most).store(cold + c); });
      for (int c = 0; c < labels; ++c) sum += hot[c];
      for (int c = 0; c < p_.cold; ++c) cold_sum += cold[c];
      cold_sums_[i] = cold_sum;
      inverse_sums_[i] = T(1) / (sum + cold_sum);
    }
  }

  // ---- splatting ----
  // Rows are cleared when the first of their pixels comes by: they are in cache from then on.
  void clear_fresh_rows() const {
    for (int k = 0; k < p_.num_kernels; ++k) {
      const KernelPass<T>& kernel = p_.kernels[k];
      const int64_t begin = kernel.fresh[block_], end = kernel.fresh[block_ + 1];
      clear(kernel.write.hot + begin * kPlane, (end - begin) * kPlane);
      if (kHasCold && !p_.write_sparse) {
        clear(kernel.write.cold + begin * p_.cold, (end - begin) * p_.cold);
      }
    }
  }
  // Cold rows that none of the blocks before has touched.
  void clear_missing_cold_rows() const {
    const uint32_t* entry = splat_entries_;
    for (int k = 0; k < p_.num_kernels; ++k) {
      const KernelPass<T>& kernel = p_.kernels[k];
      for (const uint32_t* end = entry + kernel.corners * kBlock; entry < end; ++entry) {
        if (kernel.write.hot[*entry + kColdSum] == 0) {
          clear(kernel.write.cold + *entry * this->cold_scale(), p_.cold);
        }
      }
    }
  }
  static DEEPLAB_INLINE void clear(T* p, int64_t count) {  // a multiple of 8
    for (int64_t i = 0; i < count; i += kPlane) Hot::zero().store(p + i);
  }

  void splat() {
    prepare_entries();
    if (kHasCold && active_ && p_.write_sparse) clear_missing_cold_rows();
    const Hot sum_unit = Hot::load(Base::kSumUnit);
    const T *const hot = hot_, *const sums = cold_sums_;
    const auto hot_rows = [](const KernelPass<T>& k) { return k.write.hot; };
    if constexpr (kJoint) {
      if (active_ && p_.softmax) return splat_both();
    }
    if (kHasCold && active_ && p_.softmax) {
      splat_rows<kPlane>(1, hot_rows, [=](int i) {
        Hot value = Hot::load(hot + i * kPlane);
        value.add_scaled(sums[i], sum_unit);
        return value;
      });
    } else {
      splat_rows<kPlane>(1, hot_rows, [=](int i) { return Hot::load(hot + i * kPlane); });
    }
    if (!kHasCold || !active_) return;
    for_cold([&]<int N>(int c) {
      const T* const cold = cold_ + c;
      const int width = kCold > 0 ? kCold : p_.cold;
      splat_rows<N>(
          this->cold_scale(), [c](const KernelPass<T>& k) { return k.write.cold + c; },
          [=](int i) { return Row<T, N>::load(cold + i * width); });
    });
  }

  template <int kCorners>
  static DEEPLAB_INLINE void splat_both(const uint32_t* entries, const T* weights, Planes<T> rows,
                                        const Both& value) {
#pragma GCC unroll 6
    for (int r = 0; r < kCorners; ++r) {
      const size_t entry = entries[r * kBlock];
      T *const hot = rows.hot + entry, *const cold = rows.cold + entry * 2;
      auto sum = Both::template load_split<16>(cold, hot);
      sum.add_scaled(weights[r * kBlock], value);
      sum.template store_split<16>(cold, hot);
    }
  }
  void splat_both() const {
    constexpr int kFirst = kGaussianCorners * kBlock;
    const Hot sum_unit = Hot::load(Base::kSumUnit);
    const Planes<T> gaussian = p_.kernels[0].write, bilateral = p_.kernels[1].write;
    const T *const hot = hot_, *const cold = cold_, *const sums = cold_sums_;
    const uint32_t* const entries = splat_entries_;
    const T* const weights = splat_weights_;
    for (int i = 0; i < kBlock; ++i) {
      Hot hot_value = Hot::load(hot + i * kPlane);
      hot_value.add_scaled(sums[i], sum_unit);
      T hot_row[kPlane];
      hot_value.store(hot_row);
      const auto value = Both::template load_split<16>(cold + i * 16, hot_row);
      splat_both<kGaussianCorners>(entries + i, weights + i, gaussian, value);
      splat_both<kBilateralCorners>(entries + kFirst + i, weights + kFirst + i, bilateral, value);
    }
  }

  // This thread's rows, and the weights over the sums of the softmax: [corners of all][16].
  void prepare_entries() {
    int to = 0;
    for (int k = 0; k < p_.num_kernels; ++k) {
      const KernelPass<T>& kernel = p_.kernels[k];
      const int64_t first = block_ * kernel.corners * kBlock;
      T scale[kBlock];
      for (int i = 0; i < kBlock; ++i) {
        scale[i] = kernel.scale_in[block_ * kBlock + i] * (p_.softmax ? inverse_sums_[i] : T(1));
      }
      for (int r = 0; r < kernel.corners; ++r, to += kBlock) {
        const uint32_t* entries = kernel.entries + first + r * kBlock;
        const float* weights = kernel.weights + first + r * kBlock;
        for (int i = 0; i < kBlock; ++i) {
          splat_entries_[to + i] = entries[i] + (entries[i] < kernel.shared ? kernel.copies : 0);
          splat_weights_[to + i] = weights[i] * scale[i];
        }
      }
    }
  }

  // row += w value for every corner of every pixel.
  template <int N, class RowsOf, class ValueOf>
  DEEPLAB_INLINE void splat_rows(size_t scale, const RowsOf& rows_of,
                                 const ValueOf& value_of) const {
    const uint32_t* const entries = splat_entries_;
    const T* const weights = splat_weights_;
    if constexpr (kUsual) {
      T *const gaussian = rows_of(p_.kernels[0]), *const bilateral = rows_of(p_.kernels[1]);
      constexpr int kFirst = kGaussianCorners * kBlock;
      for (int i = 0; i < kBlock; ++i) {
        const Row<T, N> value = value_of(i);
        splat_pixel<kGaussianCorners>(entries + i, weights + i, 0, gaussian, scale, value);
        splat_pixel<kBilateralCorners>(entries + kFirst + i, weights + kFirst + i, 0, bilateral,
                                       scale, value);
      }
    } else {
      for (int i = 0; i < kBlock; ++i) {
        const Row<T, N> value = value_of(i);
        int first = i;
        for (int k = 0; k < p_.num_kernels; ++k) {
          const KernelPass<T>& kernel = p_.kernels[k];
          splat_pixel<0>(entries + first, weights + first, kernel.corners, rows_of(kernel), scale,
                         value);
          first += kernel.corners * kBlock;
        }
      }
    }
  }
  template <int kCorners, int N>
  static DEEPLAB_INLINE void splat_pixel(const uint32_t* entries, const T* weights, int corners,
                                         T* rows, size_t scale, const Row<T, N>& value) {
#pragma GCC unroll 6
    for (int r = 0; r < (kCorners > 0 ? kCorners : corners); ++r) {
      T* row = rows + entries[r * kBlock] * scale;
      auto sum = Row<T, N>::load(row);
      sum.add_scaled(weights[r * kBlock], value);
      sum.store(row);
    }
  }

  T* const splat_weights_;
  uint32_t *splat_entries_, *cold_entries_;
  Planes<const T> from_{};
  bool cold_is_here_ = true;  // whether the values of this block are in cold_
  bool active_ = false;       // whether its cold labels are worth splatting
  alignas(64) T inverse_sums_[kBlock], cold_sums_[kBlock];
};

}  // namespace deeplab_native::DEEPLAB_ISA
