// Filtering with the lattice on the CPU.
#include "ops/permutohedral.h"

#include <array>

#include "common/isa.h"
#include "common/parallel.h"
#include "cpu/lattice_rows.h"
#include "cpu/simd_kernels.h"

namespace deeplab_native {

const SimdKernels& simd_kernels() {
  static const auto tables = [] {
    std::array<SimdKernels, 3> t{};
    baseline::fill(&t[0]);
#if defined(DEEPLAB_X86_64)
    avx2::fill(&t[1]);
    avx512::fill(&t[2]);
#endif
    return t;
  }();
  return tables[static_cast<int>(current_isa())];
}

template <>
const RowKernels<float>& row_kernels<float>() {
  return simd_kernels().rows_f32;
}
template <>
const RowKernels<double>& row_kernels<double>() {
  return simd_kernels().rows_f64;
}

// A block per 16 pixels of a row pays where rows fill their blocks.
Blocks::Blocks(int64_t num_points, int64_t width) : num_points_(num_points) {
  const int64_t across = (width + kBlock - 1) / kBlock;
  if (width > 0 && num_points % width == 0 && across * kBlock * 8 <= width * 9) {
    width_ = width;
    height_ = num_points / width;
    across_ = across;
    size_ = height_ * across;
  } else {
    size_ = (num_points + kBlock - 1) / kBlock;
  }
}

template <class T>
void permutohedral_filter_cpu(const Lattice& lattice, Values<const T> in, Values<T> out,
                              int num_channels, const float* scale_in, const float* scale_out,
                              bool transposed) {
  const int stride = row_stride(num_channels);
  const int64_t blocks = lattice.blocks.size();
  Buffer<T> data(size_t(lattice.num_rows()) * stride);
  Buffer<T> scratch(size_t(lattice.num_threads) * kBlock * stride);
  LatticeRows<T> rows(lattice, data.data(), stride);
  run_team(lattice.num_threads, [&](Team& team) {
    const int64_t begin = team.begin(blocks), end = team.end(blocks);
    FilterPass<T> pass{};
    pass.lattice = &lattice;
    pass.num_channels = num_channels;
    pass.stride = stride;
    pass.rows = data.data();
    pass.copies = lattice.copies_of_shared(team.id());
    pass.scratch = scratch.data() + size_t(team.id()) * kBlock * stride;
    pass.factor = 1;
    pass.scale = transposed ? scale_out : scale_in;
    rows.clear_others(team);
    row_kernels<T>().splat(pass, in, begin, end);
    team.barrier();
    rows.add_copies(team);
    for (int j = 0; j <= lattice.d; ++j) {
      team.barrier();
      row_kernels<T>().blur_rows(data.data(), stride,
                                 lines_of(lattice, transposed ? lattice.d - j : j, team.id()));
    }
    team.barrier();
    pass.factor = lattice.alpha;
    pass.scale = transposed ? scale_in : scale_out;
    row_kernels<T>().slice(pass, out, begin, end);
  });
}

void lattice_mass_cpu(const Lattice& lattice, float* mass) {
  const int64_t blocks = lattice.blocks.size();
  Buffer<float> rows(lattice.num_rows());
  const LatticeRows<float> shared(lattice, rows.data(), 1);
  run_team(lattice.num_threads, [&](Team& team) {
    const SumPass pass{&lattice, lattice.copies_of_shared(team.id()), rows.data(), mass};
    const int64_t begin = team.begin(blocks), end = team.end(blocks);
    shared.clear_others(team);
    simd_kernels().splat_ones(pass, begin, end);
    team.barrier();
    shared.add_copies(team);
    for (int j = 0; j <= lattice.d; ++j) {
      team.barrier();
      row_kernels<float>().blur_rows(rows.data(), 1, lines_of(lattice, j, team.id()));
    }
    team.barrier();
    simd_kernels().slice_sums(pass, begin, end);
  });
}

template void permutohedral_filter_cpu<float>(const Lattice&, Values<const float>, Values<float>,
                                              int, const float*, const float*, bool);
template void permutohedral_filter_cpu<double>(const Lattice&, Values<const double>, Values<double>,
                                               int, const float*, const float*, bool);

}  // namespace deeplab_native
