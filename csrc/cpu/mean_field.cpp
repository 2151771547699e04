// The mean field loop: which rows are read and written, and when the threads meet. The arithmetic
// is in mean_field_block.h and blur_simd.cpp.
#include "ops/mean_field.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "common/parallel.h"
#include "cpu/lattice_rows.h"
#include "cpu/mean_field_kernel.h"
#include "cpu/simd_kernels.h"

namespace deeplab_native {
namespace {

// The rows of one kernel while threads splat, blur and slice them. Where the cold plane is sparse
// its rows are there, or not, by their cold sums.
template <class T>
class KernelRows {
 public:
  KernelRows(const Lattice& lattice, Planes<T> rows, int cold)
      : lattice_(lattice), rows_(rows), cold_(cold) {}

  void clear_others(const Team& team, bool sparse) const {
    LatticeRows<T>(lattice_, rows_.hot, kPlane).clear_others(team);
    if (!sparse) LatticeRows<T>(lattice_, rows_.cold, cold_).clear_others(team);
  }
  void add_copies(const Team& team, bool sparse) const {
    if (!sparse) {
      LatticeRows<T>(lattice_, rows_.cold, cold_).add_copies(team);
    } else {
      add_sparse_copies(team);
    }
    LatticeRows<T>(lattice_, rows_.hot, kPlane).add_copies(team);
  }
  // notes: see RowKernels::blur_planes
  void blur(const Team& team, int axis, std::vector<uint32_t>* notes) const {
    if (axis > lattice_.d) return;
    const Lines lines = lines_of(lattice_, axis, team.id());
    const size_t length = lines.end - lines.begin;
    if (notes && notes->size() <= length) notes->resize(length + 1);
    row_kernels<T>().blur_planes(rows_, cold_, notes ? notes->data() : nullptr, lines);
  }

 private:
  bool is_here(int64_t row) const { return rows_.hot[row * kPlane + kColdSum] > 0; }

  void add_sparse_copies(const Team& team) const {
    for (int64_t v = team.begin(lattice_.num_shared); v < team.end(lattice_.num_shared); ++v) {
      bool here = is_here(v);
      T* to = rows_.cold + v * cold_;
      for (int t = 1; t < lattice_.num_threads; ++t) {
        const int64_t copy = lattice_.copies_of_shared(t) + v;
        if (!is_here(copy)) continue;
        const T* from = rows_.cold + copy * cold_;
        for (int c = 0; c < cold_; ++c) to[c] = here ? to[c] + from[c] : from[c];
        here = true;
      }
    }
  }

  const Lattice& lattice_;
  const Planes<T> rows_;
  const int cold_;
};

}  // namespace

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

// What does not change from pass to pass, for one thread.
template <class T>
std::vector<KernelPass<T>> MeanField<T>::kernel_passes(int thread) const {
  std::vector<KernelPass<T>> passes;
  for (const Kernel* k : ordered_) {
    const Lattice& lattice = *k->lattice;
    KernelPass<T> pass{};
    pass.corners = lattice.d + 1;
    pass.entries = lattice.entries.data();
    pass.weights = lattice.weights.data();
    pass.scale_out = k->scale_out.data();
    pass.scale_in = k->symmetric() ? pass.scale_out : k->scale_in.data();
    pass.kind = k->kind;
    pass.compatibility = k->compatibility.data();
    pass.shared = thread == 0 ? 0 : static_cast<uint32_t>(lattice.num_shared) * kPlane;
    pass.copies = static_cast<uint32_t>(lattice.copies_of_shared(thread)) * kPlane;
    pass.missing = static_cast<uint32_t>(num_rows_ - k->first_row) * kPlane;
    pass.fresh = lattice.fresh.data();
    passes.push_back(pass);
  }
  return passes;
}

// `updates` mean field updates of Q, kept in cache between them; Q is q_in or softmax(-U).
template <class T>
void MeanField<T>::run(const T* q_in, T* out, int updates, Output output) {
  const std::lock_guard lock(mutex_);  // the rows are the object's
  if (!has_unary_) throw std::runtime_error("unary: not set, or that failed (set it again)");
  prepare();
  if (has_one_value()) {
    const bool potts = std::all_of(ordered_.begin(), ordered_.end(), [](const Kernel* k) {
      return k->kind == CompatibilityKind::kPotts;
    });
    if (potts && !q_in && output == Output::kMarginals) return run_two_labels(out, updates);
    make_rows_of_two();
  }
  for (int side = 0; side < std::min(updates, 2); ++side) {
    rows_[side].resize(num_rows_ * kPlane);
    cold_rows_[side].resize((num_rows_ + 1) * cold_);
    std::fill_n(cold_rows_[side].data() + num_rows_ * cold_, cold_, T(0));
  }
  const int64_t blocks = blocks_.size();
  const auto scratch_size = MeanFieldPass<T>::scratch_size(cold_, corners_);
  Buffer<T> scratch(size_t(num_threads_) * scratch_size);
  struct alignas(64) Count {
    int64_t blocks = 0;
  };
  std::vector<Count> active(num_threads_);
  int axes = 0;
  for (const Kernel* k : ordered_) axes = std::max(axes, k->lattice->d + 1);

  run_team(num_threads_, [&](Team& team) {
    std::vector<KernelPass<T>> kernels = kernel_passes(team.id());
    std::vector<uint32_t> notes;
    MeanFieldPass<T> pass{};
    pass.blocks = &blocks_;
    pass.num_labels = num_labels_;
    pass.cold = cold_;
    pass.places = places_.data();
    pass.labels = labels_.data();
    pass.negative_unary = {unary_hot_.data(), unary_cold_.data()};
    pass.least_unary = least_unary_.data();
    pass.cold_sums = cold_sums_.data();
    pass.kernels = kernels.data();
    pass.num_kernels = static_cast<int>(kernels.size());
    pass.num_potts =
        static_cast<int>(std::count_if(kernels.begin(), kernels.end(), [](const auto& k) {
          return k.kind == CompatibilityKind::kPotts;
        }));
    // Marginals that are given are not sorted into those that matter and others.
    pass.negligible_marginal = q_in ? T(-1) : negligible_marginal_;
    pass.q_in = q_in;
    pass.softmax = !q_in;
    pass.scratch = scratch.data() + team.id() * scratch_size;

    for (int update = 0; update < updates; ++update) {
      const int side = update % 2;
      // A sparse cold plane pays where most of it is missing, which at the start it never is.
      bool sparse = update > 0 && pass.negligible_marginal >= 0;
      if (update > 1) {
        int64_t total = 0;
        for (const Count& count : active) total += count.blocks;
        sparse = sparse && total * 2 < blocks;
        team.barrier();  // before the counts change
      }
      int64_t num_active = 0;
      pass.num_active = &num_active;
      pass.writes = true;
      pass.write_sparse = sparse;
      std::vector<KernelRows<T>> rows;
      for (size_t k = 0; k < kernels.size(); ++k) {
        const Kernel& kernel = *ordered_[k];
        kernels[k].write = {rows_[side].data() + kernel.first_row * kPlane,
                            cold_rows_[side].data() + kernel.first_row * cold_};
        rows.emplace_back(*kernel.lattice, kernels[k].write, cold_);
      }
      for (const auto& r : rows) r.clear_others(team, sparse);
      row_kernels<T>().mean_field(pass, team.begin(blocks), team.end(blocks));
      active[team.id()].blocks = num_active;
      team.barrier();  // all is splatted, and nobody reads the other rows any more
      for (const auto& r : rows) r.add_copies(team, sparse);
      for (int j = 0; j < axes; ++j) {  // one barrier an axis for all kernels together
        team.barrier();
        for (const auto& r : rows) r.blur(team, j, sparse ? &notes : nullptr);
      }
      team.barrier();
      for (auto& k : kernels) k.read = {k.write.hot, k.write.cold};
      pass.read_sparse = sparse;
      pass.reads = true;
      pass.q_in = nullptr;
      pass.softmax = true;
    }
    pass.writes = false;
    pass.softmax = output == Output::kMarginals;
    pass.q_out = out;
    row_kernels<T>().mean_field(pass, team.begin(blocks), team.end(blocks));
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
  const int64_t size = blocks_.num_points() * num_labels_;
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
  permutohedral_filter_cpu<T>(*k.lattice, {in, 1, blocks_.num_points()},
                              {out, 1, blocks_.num_points()}, num_labels_, k.norm_in(),
                              k.norm_out(), transposed);
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
