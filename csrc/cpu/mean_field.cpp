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
  LatticeRows<T> a, b;  // one is read while the other is written
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
  Kernel k{std::move(lattice), kind, T(0), {}, {}, nullptr, nullptr, {}, {}};
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
  k.a = LatticeRows<T>(*k.lattice, stride_);
  k.b = LatticeRows<T>(*k.lattice, stride_);
  kernels_.push_back(std::move(k));
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

// `updates` mean field updates of Q, kept in registers between them; Q is q_in or softmax(-U).
template <class T>
void MeanField<T>::run(const T* q_in, T* out, int updates, Output output) {
  Buffer<T> scratch(size_t(num_threads_) * 2 * kBlock * stride_);
  int axes = 0;
  for (const Kernel& k : kernels_) axes = std::max(axes, k.lattice->d + 1);

  run_team(num_threads_, [&](Team& team) {
    std::vector<PassKernel<T>> pass_kernels;
    for (Kernel& k : kernels_) {
      PassKernel<T> p = k.a.pass_kernel(team);
      p.kind = k.kind;
      p.factor = k.factor;
      p.compatibility = k.compatibility.data();
      p.scale_in = k.scale_in;
      p.scale_out = k.scale_out;
      if (updates > 0) {
        p.write = k.a.data();
        k.a.clear(team);
      }
      pass_kernels.push_back(p);
    }
    PixelPass<T> pass{};
    pass.num_points = num_points_;
    pass.num_labels = num_labels_;
    pass.stride = stride_;
    pass.base = negative_unary_.data();
    pass.kernels = pass_kernels.data();
    pass.num_kernels = static_cast<int>(pass_kernels.size());
    pass.scratch = scratch.data() + size_t(team.id()) * 2 * kBlock * stride_;
    if (q_in) pass.in = {q_in, 1, num_points_};
    pass.softmax = !q_in;

    for (int update = 0; update < updates; ++update) {
      team.barrier();  // rows are clear, or blurred
      run_pass(team, pass);
      team.barrier();
      const bool last = update + 1 == updates;
      for (size_t m = 0; m < kernels_.size(); ++m) {
        LatticeRows<T>& written = update % 2 == 0 ? kernels_[m].a : kernels_[m].b;
        LatticeRows<T>& other = update % 2 == 0 ? kernels_[m].b : kernels_[m].a;
        written.add_private(team);
        pass_kernels[m].read = written.data();
        pass_kernels[m].write = last ? nullptr : other.data();
        if (!last) other.clear(team);
      }
      for (int j = 0; j < axes; ++j) {  // one barrier an axis for all kernels together
        team.barrier();
        for (Kernel& k : kernels_) (update % 2 == 0 ? k.a : k.b).blur(team, j);
      }
      pass.in = {};
      pass.softmax = true;
    }
    team.barrier();
    if (output == Output::kEnergy) pass.softmax = false;
    pass.out = {out, 1, num_points_};
    run_pass(team, pass);
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
