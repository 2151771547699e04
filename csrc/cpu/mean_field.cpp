// The mean field loop: which rows are read and written, and when the threads meet. The arithmetic
// is in mean_field_simd.cpp and permutohedral_simd.cpp.
#include "ops/mean_field.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <utility>

#include "common/parallel.h"
#include "cpu/lattice_rows.h"
#include "cpu/simd_kernels.h"

namespace deeplab_native {

template <class T>
struct MeanField<T>::Kernel {
  std::shared_ptr<const Lattice> lattice;
  CompatibilityKind kind;
  T factor;                 // on what is sliced: alpha, times w of a Potts kernel
  Buffer<T> compatibility;  // rows for kVector and kMatrix, padded
  Buffer<float> norm;       // [blocks * 16]
  const float *scale_in = nullptr, *scale_out = nullptr;
  int64_t first_row = 0;  // of its rows among those of all kernels

  // Whether one weight can serve for splatting and slicing.
  bool symmetric() const {
    return kind == CompatibilityKind::kPotts && factor > 0 && scale_in == scale_out;
  }
};

namespace {

// Unary energy of the labels that only fill up a row: their marginal is exactly 0.
template <class T>
constexpr T kPadding = T(-1e30);

// n with n k n, k / n ... for k = K 1 (dense_crf in the documentation); in double, kept as float.
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

int64_t blocks_of(int64_t points) { return (points + kBlock - 1) / kBlock; }

}  // namespace

template <class T>
MeanField<T>::MeanField(int64_t num_points, int num_labels, int num_threads)
    : num_points_(num_points),
      num_labels_(num_labels),
      num_threads_(static_cast<int>(
          std::clamp<int64_t>(blocks_of(num_points), 1, std::max(1, num_threads)))),
      // one label has no use for a row of one value: softmax works on vectors
      stride_(std::max(4, row_stride(num_labels))) {}

template <class T>
MeanField<T>::~MeanField() = default;

template <class T>
int MeanField<T>::num_kernels() const {
  return static_cast<int>(kernels_.size());
}

template <class T>
const Lattice& MeanField<T>::lattice(int kernel) const {
  return *kernels_.at(kernel).lattice;
}

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
  entries_.resize(size);
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
            entries_[to] = static_cast<uint32_t>(first + k.lattice->vertices[from] * halves);
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
  std::vector<T> not_finite(num_threads_, T(0));  // x - x is 0 for finite x, else NaN
  run_team(num_threads_, [&](Team& team) {
    T bad = 0;
    for (int64_t b = team.begin(blocks); b < team.end(blocks); ++b) {
      T* rows = negative_unary_.data() + b * kBlock * stride_;
      std::fill_n(rows, kBlock * stride_, kPadding<T>);
      const int64_t first = b * kBlock;
      const int count = static_cast<int>(std::min<int64_t>(kBlock, num_points_ - first));
      for (int l = 0; l < num_labels_; ++l) {
        const T* from = unary + l * num_points_ + first;
        for (int i = 0; i < count; ++i) {
          bad += from[i] - from[i];
          rows[i * stride_ + l] = -from[i];
        }
      }
    }
    not_finite[team.id()] = bad;
  });
  for (const T bad : not_finite) {
    if (bad != 0) {
      throw std::invalid_argument(
          "unary: expected finite energies, got NaN or infinite values "
          "(clip probabilities before taking the logarithm)");
    }
  }
}

// `updates` mean field updates of Q, kept in cache between them; Q is q_in or softmax(-U).
template <class T>
void MeanField<T>::run(const T* q_in, T* out, int updates, Output output) {
  prepare();
  if (updates > 0) rows_a_.resize(num_rows_ * stride_);
  if (updates > 1) rows_b_.resize(num_rows_ * stride_);
  const int64_t blocks = blocks_of(num_points_);
  Buffer<T> scratch(size_t(num_threads_) * (2 * stride_ + corners_) * kBlock);
  Buffer<uint32_t> own_entries(size_t(num_threads_) * corners_ * kBlock);
  const int64_t halves = stride_ / 2;
  int axes = 0, first_corner = 0;
  std::vector<LabelKernel<T>> label_kernels;
  std::vector<uint32_t> first_own, private_shift;  // [threads][corners]
  for (const Kernel* k : ordered_) {
    const int corners = k->lattice->d + 1;
    axes = std::max(axes, corners);
    if (k->kind != CompatibilityKind::kPotts) {
      label_kernels.push_back({first_corner, corners, k->kind, k->compatibility.data()});
    }
    first_corner += corners;
  }
  for (int t = 0; t < num_threads_; ++t) {
    for (const Kernel* k : ordered_) {
      const Lattice& lattice = *k->lattice;
      const int64_t own = (k->first_row + lattice.first[t]) * halves;
      const int64_t shift = lattice.private_shift(t) * halves;
      first_own.insert(first_own.end(), lattice.d + 1, static_cast<uint32_t>(own));
      private_shift.insert(private_shift.end(), lattice.d + 1, static_cast<uint32_t>(shift));
    }
  }
  std::vector<KernelRows<T>> write_rows(num_threads_ * kernels_.size());

  run_team(num_threads_, [&](Team& team) {
    KernelRows<T>* const write = write_rows.data() + team.id() * kernels_.size();
    MeanFieldPass<T> pass{};
    pass.num_points = num_points_;
    pass.num_labels = num_labels_;
    pass.stride = stride_;
    pass.negative_unary = negative_unary_.data();
    pass.corners = corners_;
    pass.potts_corners = potts_corners_;
    pass.entries = entries_.data();
    pass.weights_out = weights_out_.data();
    pass.weights_in = same_weights_ ? weights_out_.data() : weights_in_.data();
    pass.label_kernels = label_kernels.data();
    pass.num_label_kernels = static_cast<int>(label_kernels.size());
    pass.num_kernels = static_cast<int>(kernels_.size());
    pass.write_rows = write;
    pass.first_own = first_own.data() + team.id() * corners_;
    pass.private_shift = team.id() > 0 ? private_shift.data() + team.id() * corners_ : nullptr;
    pass.scratch = scratch.data() + size_t(team.id()) * (2 * stride_ + corners_) * kBlock;
    pass.own_weights = pass.scratch + 2 * stride_ * kBlock;
    pass.own_entries = own_entries.data() + size_t(team.id()) * corners_ * kBlock;
    const auto run_pass = [&] {
      row_kernels<T>().mean_field(pass, team.begin(blocks), team.end(blocks));
    };
    const auto each_kernel = [&](T* rows, const auto& f) {
      for (const Kernel* k : ordered_) {
        f(LatticeRows<T>(*k->lattice, rows + k->first_row * stride_, stride_));
      }
    };

    pass.q_in = q_in;
    pass.softmax = !q_in;
    for (int update = 0; update < updates; ++update) {
      T* rows = update % 2 == 0 ? rows_a_.data() : rows_b_.data();
      for (size_t k = 0; k < kernels_.size(); ++k) {
        const Kernel& kernel = *ordered_[k];
        write[k] = {rows + kernel.first_row * stride_, kernel.lattice->fresh.data()};
      }
      pass.write = rows;
      each_kernel(rows, [&](LatticeRows<T> r) { r.clear_private(team); });
      run_pass();
      team.barrier();  // all is splatted, and nobody reads the other rows any more
      each_kernel(rows, [&](LatticeRows<T> r) { r.add_private(team); });
      for (int j = 0; j < axes; ++j) {  // one barrier an axis for all kernels together
        team.barrier();
        each_kernel(rows, [&](LatticeRows<T> r) { r.blur(team, j); });
      }
      team.barrier();
      pass.read = rows;
      pass.q_in = nullptr;
      pass.softmax = true;
    }
    pass.write = nullptr;
    pass.softmax = output == Output::kMarginals;
    pass.q_out = out;
    run_pass();
  });
}

template <class T>
void MeanField<T>::inference(T* q, int iterations) {
  run(nullptr, q, iterations, Output::kMarginals);
}

template <class T>
void MeanField<T>::start(T* q) {
  run(nullptr, q, 0, Output::kMarginals);
}

template <class T>
void MeanField<T>::step(const T* q, T* next) {
  run(q, next, 1, Output::kMarginals);
}

template <class T>
void MeanField<T>::energy(const T* q, T* out) {
  run(q, out, 1, Output::kEnergy);
}

template <class T>
double MeanField<T>::kl_divergence(const T* q) {
  const int64_t size = num_points_ * num_labels_;
  Buffer<T> x(size);  // -(U + sum of the pairwise energies)
  energy(q, x.data());
  double kl = 0;
  for (int64_t i = 0; i < size; ++i) {
    const double p = q[i];
    kl += p * (std::log(std::max(p, 1e-20)) - double{x[i]});
  }
  return kl;
}

template <class T>
void MeanField<T>::filter(int kernel, const T* in, T* out, bool transposed) {
  const Kernel& k = kernels_.at(kernel);
  permutohedral_filter_cpu<T>(*k.lattice, {in, 1, num_points_}, {out, 1, num_points_}, num_labels_,
                              k.scale_in, k.scale_out, transposed);
}

template class MeanField<float>;
template class MeanField<double>;

}  // namespace deeplab_native
