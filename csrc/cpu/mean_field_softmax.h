// Slicing the rows of a block of 16 pixels, and the softmax of what they give.
#pragma once
#include "cpu/mean_field_labels.h"
#include "cpu/rows.h"
#include "cpu/simd_kernels.h"

namespace deeplab_native::DEEPLAB_ISA {

// kCold: width of the cold plane, -1 where that is not known when compiling. kUsual: the kernels
// are a Gaussian and a bilateral one, both Potts.
template <class T, int kCold, bool kUsual>
class SoftmaxRows : protected LabelRows<T, kCold> {
 protected:
  using Base = LabelRows<T, kCold>;
  using Base::block_, Base::cold_, Base::for_cold, Base::hot_, Base::p_;
  using Hot = Row<T, kPlane>;
  using Sums = Row<T, kBlock>;  // one value for each pixel
  static constexpr bool kHasCold = kCold != 0;
  // Where the cold plane is one wide vector a row, both planes are done in one go when it is known
  // that both are wanted: entries and weights are then read once.
  static constexpr bool kJoint = kUsual && kCold == 16;
  using Both = Row<T, 16 + kPlane>;  // cold, hot

  explicit SoftmaxRows(const MeanFieldPass<T>& pass)
      : Base(pass), cold_entries_(reinterpret_cast<uint32_t*>(Base::scratch_end())) {
    for (int k = 0; k < p_.num_kernels; ++k) corners_ += p_.kernels[k].corners;
  }
  T* scratch_end() const { return Base::scratch_end() + corners_ * kBlock; }

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
    const T message_to_cold = exp_hot(both ? hot_ : slice_hot());
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
        // A message of m changes a marginal by a factor of exp(m) at most; a marginal of 0 may be a
        // small number that was too small.
        constexpr T kTooSmall = T(1e-36);
        const T growth = DEEPLAB_ISA::exp(message_to_cold) - T(1);
        const T largest = cold_sums.times((hot_sums + cold_sums).inverse()).max() + kTooSmall;
        // Also where that is NaN, and for messages below 0.
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

  // hot = exp(x), 0 in place of the cold sum. Returns the largest of what was there: the messages
  // to all cold labels together, of a pixel.
  T exp_hot(const T* x) const {
    const TwoRows labels = TwoRows::load(kHasCold ? Base::kLabels : Base::kOnes);
    TwoRows most = TwoRows::zero();
    for (int i = 0; i < kBlock * kPlane; i += 2 * kPlane) {
      const TwoRows rows = TwoRows::load(x + i);
      most = most.max(rows);
      rows.exp_minus(T(0)).times(labels).store(hot_ + i);
    }
    T row[2 * kPlane];
    most.store(row);
    return row[kColdSum] > row[kPlane + kColdSum] ? row[kColdSum] : row[kPlane + kColdSum];
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

  uint32_t* const cold_entries_;
  int corners_ = 0;
  Planes<const T> from_{};    // -U and what kernels that are not Potts slice
  bool cold_is_here_ = true;  // whether the values of this block are in cold_
  bool active_ = false;       // whether its cold labels are worth splatting
  alignas(64) T inverse_sums_[kBlock], cold_sums_[kBlock];
};

}  // namespace deeplab_native::DEEPLAB_ISA
