// Preparing the mean field: energies and kernels in the layout that the pass over the pixels wants.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "common/parallel.h"
#include "cpu/mean_field_kernel.h"
#include "cpu/simd_kernels.h"

namespace deeplab_native {
namespace {

// From k = K 1, in place, what kernels are scaled with: 1 / sqrt(k) on both sides, or 1 / k on one;
// computed in double and kept as float, as pydensecrf does.
void normalise(Normalization normalization, int64_t begin, int64_t end, float* k) {
  constexpr double kTiny = 1e-20;  // where a point has no mass at all
  for (int64_t i = begin; i < end; ++i) {
    const double mass = double{k[i]} + kTiny;
    k[i] = static_cast<float>(
        1.0 / (normalization == Normalization::kSymmetric ? std::sqrt(mass) : mass));
  }
}

// A vector, or 1/2 (M + M^T), with labels at their places; rows of `width`.
template <class T>
void fill_compatibility(CompatibilityKind kind, const std::vector<T>& values,
                        const std::vector<int>& places, int width, Buffer<T>* rows) {
  const int labels = static_cast<int>(places.size());
  const size_t size = kind == CompatibilityKind::kMatrix ? size_t(width) * width : width;
  rows->resize(size);
  std::fill_n(rows->data(), size, T(0));
  for (int l = 0; l < labels; ++l) {
    if (kind == CompatibilityKind::kVector) (*rows)[places[l]] = values[l];
    if (kind != CompatibilityKind::kMatrix) continue;
    for (int m = 0; m < labels; ++m) {
      (*rows)[size_t(places[l]) * width + places[m]] =
          T(0.5) * (values[l * labels + m] + values[m * labels + l]);
    }
  }
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
MeanField<T>::MeanField(int64_t num_points, int num_labels, int num_threads, int64_t width)
    : blocks_(num_points, width),
      num_labels_(num_labels),
      num_threads_(
          static_cast<int>(std::clamp<int64_t>(blocks_.size(), 1, std::max(1, num_threads)))),
      cold_(cold_width(num_labels)),
      places_(num_labels) {}

template <class T>
void MeanField<T>::add_kernel(std::shared_ptr<const Lattice> lattice, CompatibilityKind kind,
                              const T* compatibility, Normalization normalization) {
  if (!(lattice->blocks == blocks_) || lattice->num_threads != num_threads_) {
    throw std::invalid_argument("features: the lattice was built for other points or threads");
  }
  constexpr size_t kPowers[] = {0, 1, 2};
  size_t count = 1;
  for (size_t k = 0; k < kPowers[static_cast<int>(kind)]; ++k) count *= num_labels_;
  Kernel k{};
  k.lattice = std::move(lattice);
  k.kind = kind;
  k.normalization = normalization;
  k.values.assign(compatibility, compatibility + count);
  if (normalization != Normalization::kNone) {
    const int64_t size = blocks_.size() * kBlock;
    k.norm.resize(size);
    if (const float* mass = k.lattice->mass.data()) {
      std::copy_n(mass, size, k.norm.data());
    } else {
      lattice_mass_cpu(*k.lattice, k.norm.data());
    }
    parallel_for(num_threads_, size, 1 << 14, [&](int64_t begin, int64_t end) {
      normalise(normalization, begin, end, k.norm.data());
    });
  }
  const std::lock_guard lock(mutex_);
  kernels_.push_back(std::move(k));
  prepared_ = false;
}

// The hot plane is for the labels that matter most in this image: by the sum of the squares of
// softmax(-U) over some of the pixels.
template <class T>
void MeanField<T>::choose_places(const T* unary) {
  std::iota(places_.begin(), places_.end(), 0);
  if (cold_ > 0) choose_by_score(unary);
  labels_.assign(kPlane + cold_, -1);
  for (int l = 0; l < num_labels_; ++l) labels_[places_[l]] = l;
}
template <class T>
void MeanField<T>::choose_by_score(const T* unary) {
  constexpr int64_t kSamples = 2048;
  const int64_t points = blocks_.num_points();
  const int64_t step = std::max<int64_t>(1, points / kSamples) | 1;
  std::vector<double> p(num_labels_), score(num_labels_, 0.0);
  for (int64_t i = 0; i < points; i += step) {
    double least = std::numeric_limits<double>::infinity(), sum = 0;
    for (int l = 0; l < num_labels_; ++l) least = std::min<double>(least, unary[l * points + i]);
    for (int l = 0; l < num_labels_; ++l) sum += p[l] = std::exp(least - unary[l * points + i]);
    for (int l = 0; l < num_labels_; ++l) score[l] += p[l] / sum * (p[l] / sum);
  }
  std::vector<int> by_score(num_labels_);
  std::iota(by_score.begin(), by_score.end(), 0);
  std::stable_sort(by_score.begin(), by_score.end(),
                   [&](int a, int b) { return score[a] > score[b]; });
  for (int k = 0; k < num_labels_; ++k) places_[by_score[k]] = k < kColdSum ? k : k + 1;
}

template <class T>
void MeanField<T>::set_unary(const T* unary) {
  const std::lock_guard lock(mutex_);
  has_unary_ = prepared_ = false;
  choose_places(unary);
  if (!has_one_value()) {
    fill_rows(unary);
    has_unary_ = true;
    return;
  }
  const int64_t points = blocks_.num_points();
  const int64_t size = blocks_.size() * kBlock;
  two_unaries_.resize(2 * size);
  has_rows_ = false;
  run_team(num_threads_, [&](Team& team) {
    for (int64_t b = team.begin(blocks_.size()); b < team.end(blocks_.size()); ++b) {
      const Blocks::Span span = blocks_[b];
      for (int l = 0; l < 2; ++l) {
        T* to = two_unaries_.data() + l * size + b * kBlock;
        const T* from = unary + l * points + span.first;
        for (int i = 0; i < kBlock; ++i) to[i] = i < span.count ? from[i] : T(0);
      }
    }
  });
  has_unary_ = true;
}

// For what run_two_labels() cannot do.
template <class T>
void MeanField<T>::make_rows_of_two() {
  if (has_rows_) return;
  const int64_t points = blocks_.num_points(), size = blocks_.size() * kBlock;
  Buffer<T> unary(2 * points);
  for (int64_t b = 0; b < blocks_.size(); ++b) {
    const Blocks::Span span = blocks_[b];
    for (int l = 0; l < 2; ++l) {
      const T* from = two_unaries_.data() + l * size + b * kBlock;
      std::copy_n(from, span.count, unary.data() + l * points + span.first);
    }
  }
  fill_rows(unary.data());
}

template <class T>
void MeanField<T>::fill_rows(const T* unary) {
  has_rows_ = false;  // until all of it is there: memory may be short in between
  const int64_t size = blocks_.size() * kBlock;
  unary_hot_.resize(size * kPlane);
  unary_cold_.resize(size * cold_);
  cold_sums_.resize(cold_ ? size : 0);
  least_unary_.resize(size);
  const UnaryPass<T> pass{&blocks_,           num_labels_, cold_,
                          labels_.data(),     unary,       {unary_hot_.data(), unary_cold_.data()},
                          least_unary_.data()};
  run_team(num_threads_, [&](Team& team) {
    row_kernels<T>().unary(pass, team.begin(blocks_.size()), team.end(blocks_.size()));
  });
  has_rows_ = true;
}

template <class T>
void MeanField<T>::prepare() {
  if (prepared_) return;
  // What Potts kernels slice can be added up in one go: they come first.
  ordered_.clear();
  for (Kernel& k : kernels_) ordered_.push_back(&k);
  std::stable_partition(ordered_.begin(), ordered_.end(),
                        [](const Kernel* k) { return k->kind == CompatibilityKind::kPotts; });
  corners_ = 0;
  num_rows_ = 0;
  // Labels are left out where they change no energy, and so no logarithm of a marginal, by more
  // than about this: on photos it is lost in what rounding to float changes. Only where messages
  // are sums of products of numbers that are not negative, and as large as the marginals they come
  // from.
  constexpr T kNegligible = T(1) / (1 << 15);
  bool bounded = std::is_same_v<T, float>;
  T sum_of_weights = 0;
  for (Kernel* k : ordered_) {
    k->first_row = num_rows_;
    num_rows_ += k->lattice->num_rows();
    corners_ += k->lattice->d + 1;
    fill_compatibility(k->kind, k->values, places_, kPlane + cold_, &k->compatibility);
    bounded = bounded && k->kind == CompatibilityKind::kPotts && k->values[0] >= 0 &&
              (k->normalization == Normalization::kSymmetric ||
               k->normalization == Normalization::kAfter);
    sum_of_weights += bounded ? k->values[0] : T(0);
    k->fold_scales(blocks_.size() * kBlock);
  }
  negligible_marginal_ = bounded ? kNegligible / std::max(T(1), sum_of_weights) : T(-1);
  prepared_ = true;
}

template MeanField<float>::MeanField(int64_t, int, int, int64_t);
template void MeanField<float>::add_kernel(std::shared_ptr<const Lattice>, CompatibilityKind,
                                           const float*, Normalization);
template void MeanField<float>::set_unary(const float*);
template void MeanField<float>::make_rows_of_two();
template void MeanField<float>::prepare();
template MeanField<double>::MeanField(int64_t, int, int, int64_t);
template void MeanField<double>::add_kernel(std::shared_ptr<const Lattice>, CompatibilityKind,
                                            const double*, Normalization);
template void MeanField<double>::set_unary(const double*);
template void MeanField<double>::make_rows_of_two();
template void MeanField<double>::prepare();

}  // namespace deeplab_native
