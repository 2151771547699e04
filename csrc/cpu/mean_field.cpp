// The mean field loop: which rows are read and written, and when the threads meet. The arithmetic
// is in mean_field_simd.cpp and permutohedral_simd.cpp.
#include "ops/mean_field.h"

#include <algorithm>
#include <cmath>

#include "common/parallel.h"
#include "cpu/lattice_rows.h"
#include "cpu/mean_field_kernel.h"
#include "cpu/simd_kernels.h"

namespace deeplab_native {

template <class T>
MeanField<T>::~MeanField() {}

template <class T>
int MeanField<T>::num_kernels() const {
  return static_cast<int>(kernels_.size());
}

template <class T>
const Lattice& MeanField<T>::lattice(int kernel) const {
  return *kernels_.at(kernel).lattice;
}

// `updates` mean field updates of Q, kept in cache between them; Q is q_in or softmax(-U).
template <class T>
void MeanField<T>::run(const T* q_in, T* out, int updates, Output output) {
  const std::lock_guard lock(mutex_);  // the rows are the object's
  prepare();
  if (updates > 0) rows_a_.resize(num_rows_ * stride_);
  if (updates > 1) rows_b_.resize(num_rows_ * stride_);
  const int64_t blocks = blocks_of(num_points_);
  Buffer<T> scratch(size_t(num_threads_) * (2 * stride_ + corners_) * kBlock);
  int axes = 0, first_corner = 0;
  std::vector<LabelKernel<T>> label_kernels;
  for (const Kernel* k : ordered_) {
    const int corners = k->lattice->d + 1;
    axes = std::max(axes, corners);
    if (k->kind != CompatibilityKind::kPotts) {
      label_kernels.push_back({first_corner, corners, k->kind, k->compatibility.data()});
    }
    first_corner += corners;
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
    pass.entries_out = entries_out_.data();
    pass.entries_in = num_threads_ > 1 ? entries_in_.data() : entries_out_.data();
    pass.weights_out = weights_out_.data();
    pass.weights_in = same_weights_ ? weights_out_.data() : weights_in_.data();
    pass.label_kernels = label_kernels.data();
    pass.num_label_kernels = static_cast<int>(label_kernels.size());
    pass.num_kernels = static_cast<int>(kernels_.size());
    pass.write_rows = write;
    pass.scratch = scratch.data() + size_t(team.id()) * (2 * stride_ + corners_) * kBlock;
    pass.own_weights = pass.scratch + 2 * stride_ * kBlock;
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

template MeanField<float>::~MeanField();
template int MeanField<float>::num_kernels() const;
template const Lattice& MeanField<float>::lattice(int) const;
template void MeanField<float>::inference(float*, int);
template void MeanField<float>::start(float*);
template void MeanField<float>::step(const float*, float*);
template void MeanField<float>::energy(const float*, float*);
template double MeanField<float>::kl_divergence(const float*);
template void MeanField<float>::filter(int, const float*, float*, bool);
template MeanField<double>::~MeanField();
template int MeanField<double>::num_kernels() const;
template const Lattice& MeanField<double>::lattice(int) const;
template void MeanField<double>::inference(double*, int);
template void MeanField<double>::start(double*);
template void MeanField<double>::step(const double*, double*);
template void MeanField<double>::energy(const double*, double*);
template double MeanField<double>::kl_divergence(const double*);
template void MeanField<double>::filter(int, const double*, double*, bool);

}  // namespace deeplab_native
