// The pass over one block of 16 pixels: slice, softmax and splat while its values are in registers
// and the first-level cache, so that Q is never stored between iterations.
#pragma once
#include "cpu/mean_field_softmax.h"

namespace deeplab_native::DEEPLAB_ISA {

template <class T, int kCold, bool kUsual>
class BlockPass : SoftmaxRows<T, kCold, kUsual> {
 public:
  explicit BlockPass(const MeanFieldPass<T>& pass)
      : Base(pass),
        splat_weights_(Base::scratch_end()),
        splat_entries_(reinterpret_cast<uint32_t*>(splat_weights_ + this->corners_ * kBlock)) {}

  void run(int64_t block) {
    this->locate(block);
    if (p_.q_in) {
      this->read_marginals();
      cold_is_here_ = active_ = true;
    } else {
      from_ = this->slice_label_kernels();
      if (p_.softmax) {
        this->softmax();
      } else {
        this->copy_energies(p_.reads);
      }
    }
    if (p_.writes) {
      clear_fresh_rows();
      splat();
      *p_.num_active += active_;
    }
    if (p_.q_out) {
      if (!cold_is_here_) this->exp_cold(from_.cold);
      this->write_marginals(inverse_sums_);
    }
  }

 private:
  using Base = SoftmaxRows<T, kCold, kUsual>;
  using Base::active_, Base::block_, Base::cold_, Base::cold_is_here_, Base::cold_sums_;
  using Base::for_cold, Base::from_, Base::hot_, Base::inverse_sums_, Base::kHasCold;
  using Base::kJoint, Base::p_;
  using typename Base::Both, typename Base::Hot;

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

  // The order in which pixels are splatted: neighbours often add to the same row, and the sum of
  // one would have to wait for that of the other.
  static constexpr int pixel(int k) { return k / 2 + k % 2 * (kBlock / 2); }

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
    for (int k = 0; k < kBlock; ++k) {
      const int i = pixel(k);
      Hot hot_value = Hot::load(hot + i * kPlane);
      hot_value.add_scaled(sums[i], sum_unit);
      T hot_row[kPlane];
      hot_value.store(hot_row);
      const auto value = Both::template load_split<16>(cold + i * 16, hot_row);
      splat_both<kGaussianCorners>(entries + i, weights + i, gaussian, value);
      splat_both<kBilateralCorners>(entries + kFirst + i, weights + kFirst + i, bilateral, value);
    }
  }

  static constexpr int kW = kLanes<T>;
  using Lanes = Vec<T, kW>;

  // This thread's rows, and the weights over the sums of the softmax: [corners of all][16].
  void prepare_entries() {
    int to = 0;
    for (int k = 0; k < p_.num_kernels; ++k) {
      const KernelPass<T>& kernel = p_.kernels[k];
      const int64_t first = block_ * kernel.corners * kBlock;
      Lanes scale[kBlock / kW];
      for (int i = 0; i < kBlock / kW; ++i) {
        scale[i] = load<T, kW>(kernel.scale_in + block_ * kBlock + i * kW);
        if (p_.softmax) scale[i] = scale[i] * load<T, kW>(inverse_sums_ + i * kW);
      }
      for (int r = 0; r < kernel.corners; ++r, to += kBlock) {
        const uint32_t* entries = kernel.entries + first + r * kBlock;
        const float* weights = kernel.weights + first + r * kBlock;
        for (int i = 0; i < kBlock / kW; ++i) {
          using Index = Vec<uint32_t, kW>;
          const Index entry = load<uint32_t, kW>(entries + i * kW);
          const Index copies = entry < kernel.shared ? Index{} + kernel.copies : Index{};
          store<uint32_t, kW>(splat_entries_ + to + i * kW, entry + copies);
          const auto w = __builtin_convertvector((load<float, kW>(weights + i * kW)), Lanes);
          store<T, kW>(splat_weights_ + to + i * kW, w * scale[i]);
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
      for (int k = 0; k < kBlock; ++k) {
        const int i = pixel(k);
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
  uint32_t* const splat_entries_;
};

}  // namespace deeplab_native::DEEPLAB_ISA
