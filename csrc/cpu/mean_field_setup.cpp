// Preparing the mean field: energies and kernels in the layout that the pass over the pixels wants.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <utility>

#include "common/parallel.h"
#include "cpu/mean_field_kernel.h"
#include "cpu/simd_kernels.h"

namespace deeplab_native {
namespace {

// -U of the labels that only fill up a row: their marginal is exactly 0.
template <class T>
constexpr T kPadding = -std::numeric_limits<T>::infinity();

// From k = K 1, in place, what kernels are scaled with: 1 / sqrt(k) on both sides, or 1 / k on one;
// computed in double and kept as float, as pydensecrf does.
void normalise(Normalization normalization, int64_t n, float* k) {
  constexpr double kTiny = 1e-20;  // where a point has no mass at all
  for (int64_t i = 0; i < n; ++i) {
    const double mass = double{k[i]} + kTiny;
    k[i] = static_cast<float>(
        1.0 / (normalization == Normalization::kSymmetric ? std::sqrt(mass) : mass));
  }
}

template <class T>
Buffer<T> compatibility_rows(CompatibilityKind kind, const T* values, int labels, int stride) {
  Buffer<T> rows;
  if (kind == CompatibilityKind::kVector) {
    rows.resize(stride);
    std::fill_n(rows.data(), stride, T(0));
    std::copy_n(values, labels, rows.data());
  } else if (kind == CompatibilityKind::kMatrix) {
    rows.resize(size_t(labels) * stride);
    std::fill_n(rows.data(), size_t(labels) * stride, T(0));
    for (int l = 0; l < labels; ++l) {
      for (int m = 0; m < labels; ++m) {
        rows[size_t(l) * stride + m] = T(0.5) * (values[l * labels + m] + values[m * labels + l]);
      }
    }
  }
  return rows;
}

}  // namespace

template <class T>
bool all_finite_cpu(const T* values, int64_t count, int num_threads) {
  std::atomic<bool> finite{true};
  parallel_for(num_threads, count, 1 << 16, [&](int64_t begin, int64_t end) {
    constexpr int kSums = 16;  // x - x is 0 for finite x, else NaN; summed as vectors
    T sums[kSums] = {};
    int64_t i = begin;
    for (; i + kSums <= end; i += kSums) {
      for (int k = 0; k < kSums; ++k) sums[k] += values[i + k] - values[i + k];
    }
    for (; i < end; ++i) sums[0] += values[i] - values[i];
    for (const T sum : sums) {
      if (sum != 0) finite = false;
    }
  });
  return finite;
}
template bool all_finite_cpu<float>(const float*, int64_t, int);
template bool all_finite_cpu<double>(const double*, int64_t, int);

template <class T>
MeanField<T>::MeanField(int64_t num_points, int num_labels, int num_threads)
    : num_points_(num_points),
      num_labels_(num_labels),
      num_threads_(static_cast<int>(
          std::clamp<int64_t>(blocks_of(num_points), 1, std::max(1, num_threads)))),
      // one label has no use for a row of one value: softmax works on vectors
      stride_(std::max(4, row_stride(num_labels))) {}

template <class T>
void MeanField<T>::add_kernel(std::shared_ptr<const Lattice> lattice, CompatibilityKind kind,
                              const T* compatibility, Normalization normalization) {
  if (lattice->num_points != num_points_ || lattice->num_threads != num_threads_) {
    throw std::invalid_argument("features: the lattice was built for other points or threads");
  }
  Kernel k{std::move(lattice), kind, T(0), {}, {}, nullptr, nullptr, 0};
  k.factor = k.lattice->alpha;
  if (kind == CompatibilityKind::kPotts) k.factor *= compatibility[0];
  k.compatibility = compatibility_rows(kind, compatibility, num_labels_, stride_);
  if (normalization != Normalization::kNone) {
    const int64_t padded = blocks_of(num_points_) * kBlock;
    k.norm.resize(padded);
    std::fill_n(k.norm.data(), padded, 0.0f);
    permutohedral_filter_cpu<float>(*k.lattice, {}, {k.norm.data(), 1, 1}, 1, nullptr, nullptr,
                                    false);
    normalise(normalization, num_points_, k.norm.data());
    if (normalization != Normalization::kAfter) k.scale_in = k.norm.data();
    if (normalization != Normalization::kBefore) k.scale_out = k.norm.data();
  }
  kernels_.push_back(std::move(k));
  prepared_ = false;
}

// One list of entries for all kernels, with everything that is constant folded into the weights.
template <class T>
void MeanField<T>::prepare() {
  if (prepared_) return;
  // What Potts kernels slice can be added up in one go: they come first.
  ordered_.clear();
  for (Kernel& k : kernels_) ordered_.push_back(&k);
  std::stable_partition(ordered_.begin(), ordered_.end(),
                        [](const Kernel* k) { return k->kind == CompatibilityKind::kPotts; });
  corners_ = potts_corners_ = 0;
  num_rows_ = 0;
  same_weights_ = true;
  for (Kernel* k : ordered_) {
    k->first_row = num_rows_;
    num_rows_ += k->lattice->num_rows();
    corners_ += k->lattice->d + 1;
    if (k->kind == CompatibilityKind::kPotts) potts_corners_ += k->lattice->d + 1;
    same_weights_ = same_weights_ && k->symmetric();
  }
  const int64_t halves = stride_ / 2;
  if (num_rows_ * halves > UINT32_MAX) {
    throw std::invalid_argument(
        "kernels: more than 2^33 values on the lattices; use fewer threads");
  }
  const int64_t blocks = blocks_of(num_points_);
  const size_t size = size_t(blocks) * corners_ * kBlock;
  entries_out_.resize(size);
  if (num_threads_ > 1) entries_in_.resize(size);
  weights_out_.resize(size);
  if (!same_weights_) weights_in_.resize(size);

  run_team(num_threads_, [&](Team& team) {
    for (int64_t b = team.begin(blocks); b < team.end(blocks); ++b) {
      int64_t to = b * corners_ * kBlock;
      for (const Kernel* kernel : ordered_) {
        const Kernel& k = *kernel;
        const int64_t first = k.first_row * halves;
        const T out = same_weights_ ? std::sqrt(k.factor) : k.factor;
        for (int64_t r = b * (k.lattice->d + 1); r < (b + 1) * (k.lattice->d + 1); ++r) {
          for (int i = 0; i < kBlock; ++i, ++to) {
            const int64_t from = r * kBlock + i, point = b * kBlock + i;
            const T w = k.lattice->weights[from];
            entries_out_[to] = static_cast<uint32_t>(first + k.lattice->vertices[from] * halves);
            if (num_threads_ > 1) {
              const int64_t row = k.lattice->private_rows[from];
              entries_in_[to] = static_cast<uint32_t>(first + row * halves);
            }
            weights_out_[to] = out * w * (k.scale_out ? T(k.scale_out[point]) : T(1));
            if (same_weights_) continue;
            weights_in_[to] = w * (k.scale_in ? T(k.scale_in[point]) : T(1));
          }
        }
      }
    }
  });
  prepared_ = true;
}

template <class T>
void MeanField<T>::set_unary(const T* unary) {
  const int64_t blocks = blocks_of(num_points_);
  negative_unary_.resize(size_t(blocks) * kBlock * stride_);
  parallel_for(num_threads_, blocks, 64, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      T* rows = negative_unary_.data() + b * kBlock * stride_;
      std::fill_n(rows, kBlock * stride_, kPadding<T>);
      const int64_t first = b * kBlock;
      const int count = static_cast<int>(std::min<int64_t>(kBlock, num_points_ - first));
      for (int l = 0; l < num_labels_; ++l) {
        const T* from = unary + l * num_points_ + first;
        for (int i = 0; i < count; ++i) rows[i * stride_ + l] = -from[i];
      }
      // The missing points of the last block have weight 0; 0 times infinity would still be NaN.
      std::fill(rows + count * stride_, rows + kBlock * stride_, T(0));
    }
  });
}

template MeanField<float>::MeanField(int64_t, int, int);
template void MeanField<float>::add_kernel(std::shared_ptr<const Lattice>, CompatibilityKind,
                                           const float*, Normalization);
template void MeanField<float>::set_unary(const float*);
template void MeanField<float>::prepare();
template MeanField<double>::MeanField(int64_t, int, int);
template void MeanField<double>::add_kernel(std::shared_ptr<const Lattice>, CompatibilityKind,
                                            const double*, Normalization);
template void MeanField<double>::set_unary(const double*);
template void MeanField<double>::prepare();

}  // namespace deeplab_native
