// Mean field inference for two labels and Potts kernels. With z = Q_0 - Q_1 an update is
//   z <- tanh(x / 2),   x = U_1 - U_0 + sum_m w_m K_m z,
// so a point, and a vertex, has one value instead of two.
#include <algorithm>
#include <type_traits>

#include "common/parallel.h"
#include "cpu/lattice_rows.h"
#include "cpu/mean_field_kernel.h"
#include "cpu/simd_kernels.h"

namespace deeplab_native {

template <class T>
bool MeanField<T>::has_one_value() const {
  return std::is_same_v<T, float> && num_labels_ == 2;
}

template <>
void MeanField<double>::run_two_labels(double*, int) {}  // never: see has_one_value()

template <>
void MeanField<float>::run_two_labels(float* out, int updates) {
  for (int side = 0; side < std::min(updates, 2); ++side) rows_[side].resize(num_rows_);
  const int64_t blocks = blocks_.size();
  int axes = 0;
  for (const Kernel* k : ordered_) axes = std::max(axes, k->lattice->d + 1);

  run_team(num_threads_, [&](Team& team) {
    std::vector<TwoLabelsKernel> kernels;
    for (const auto& k : kernel_passes(team.id())) {
      kernels.push_back({k.corners, k.entries, k.weights, k.scale_out, k.scale_in, nullptr, nullptr,
                         k.shared, k.copies, k.fresh});
    }
    TwoLabelsPass pass{};
    pass.blocks = &blocks_;
    pass.unary_0 = two_unaries_.data();
    pass.unary_1 = pass.unary_0 + blocks * kBlock;
    pass.kernels = kernels.data();
    pass.num_kernels = static_cast<int>(kernels.size());
    pass.writes = true;
    for (int update = 0; update < updates; ++update) {
      std::vector<LatticeRows<float>> rows;
      for (size_t k = 0; k < kernels.size(); ++k) {
        kernels[k].write = rows_[update % 2].data() + ordered_[k]->first_row;
        rows.emplace_back(*ordered_[k]->lattice, kernels[k].write, 1);
      }
      for (const auto& r : rows) r.clear_others(team);
      simd_kernels().two_labels(pass, team.begin(blocks), team.end(blocks));
      team.barrier();
      for (const auto& r : rows) r.add_copies(team);
      for (int j = 0; j < axes; ++j) {  // one barrier an axis for all kernels together
        team.barrier();
        for (const auto& r : rows) r.blur(team, j);
      }
      team.barrier();
      for (auto& k : kernels) k.read = k.write;
      pass.reads = true;
    }
    pass.writes = false;
    pass.q_out = out;
    simd_kernels().two_labels(pass, team.begin(blocks), team.end(blocks));
  });
}

template bool MeanField<float>::has_one_value() const;
template bool MeanField<double>::has_one_value() const;

}  // namespace deeplab_native
