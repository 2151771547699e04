// The passes over the pixels, for the widths that they are compiled for.
#include "cpu/mean_field_block.h"

namespace deeplab_native::DEEPLAB_ISA {
namespace {

template <class T, int kCold, bool kUsual>
void run_blocks(const MeanFieldPass<T>& pass, int64_t begin, int64_t end) {
  BlockPass<T, kCold, kUsual> block_pass(pass);
  for (int64_t b = begin; b < end; ++b) block_pass.run(b);
}

template <class T>
void mean_field(const MeanFieldPass<T>& pass, int64_t begin, int64_t end) {
  FlushDenormals flush;
  const bool usual = pass.num_kernels == 2 && pass.num_potts == 2 &&
                     pass.kernels[0].corners == kGaussianCorners &&
                     pass.kernels[1].corners == kBilateralCorners;
  const auto with_cold = [&]<int kCold>() {
    if (usual) {
      run_blocks<T, kCold, true>(pass, begin, end);
    } else {
      run_blocks<T, kCold, false>(pass, begin, end);
    }
  };
  switch (pass.cold) {
    case 0:
      return with_cold.template operator()<0>();
    case 8:
      return with_cold.template operator()<8>();
    case 16:
      return with_cold.template operator()<16>();
    default:
      return with_cold.template operator()<-1>();
  }
}

// The energies of 8 places at a time, 16 pixels of each, transposed. Places without a label, and
// missing points, which have weight 0, would make NaN of infinities: these are 0.
template <class T>
void unary_block(const UnaryPass<T>& p, int64_t block) {
  using Sixteen = Row<T, kBlock>;
  const Blocks::Span span = (*p.blocks)[block];
  alignas(64) T energies[kPlane][kBlock], partial[kBlock];
  const auto energies_of = [&](int label) {
    const T* from = p.unary + label * p.blocks->num_points() + span.first;
    if (span.count == kBlock) return Sixteen::load(from);
    for (int i = 0; i < kBlock; ++i) partial[i] = i < span.count ? from[i] : T(0);
    return Sixteen::load(partial);
  };
  Sixteen least = energies_of(0);
  for (int l = 0; l < p.num_labels; ++l) {
    const T* ahead = p.unary + l * p.blocks->num_points() + span.first + p.blocks->step();
    __builtin_prefetch(ahead);
    __builtin_prefetch(ahead + kBlock - 1);
    least = least.min(energies_of(l));
  }
  least.store(p.least + block * kBlock);
  for (int c = 0; c < kPlane + p.cold; c += kPlane) {
    for (int k = 0; k < kPlane; ++k) {
      const int label = p.labels[c + k];
      if (label >= 0) {
        least.minus(energies_of(label)).store(energies[k]);
      } else {
        const T value = p.cold > 0 && c + k == kColdSum ? T(0) : -__builtin_inf();
        for (int i = 0; i < kBlock; ++i) energies[k][i] = i < span.count ? value : T(0);
      }
    }
    const int width = c == 0 ? kPlane : p.cold;
    T* to = c == 0 ? p.rows.hot : p.rows.cold + c - kPlane;
    to += block * kBlock * width;
    transpose_8x8(energies[0], kBlock, to, width);
    transpose_8x8(energies[0] + 8, kBlock, to + 8 * width, width);
  }
  for (int i = span.count * p.cold; i < kBlock * p.cold; ++i) {
    p.rows.cold[block * kBlock * p.cold + i] = -__builtin_inf();  // nor are they active
  }
}

template <class T>
void unary(const UnaryPass<T>& pass, int64_t begin, int64_t end) {
  for (int64_t b = begin; b < end; ++b) unary_block(pass, b);
}

}  // namespace

void fill_mean_field(SimdKernels* kernels) {
  kernels->rows_f32.unary = unary<float>;
  kernels->rows_f64.unary = unary<double>;
  kernels->rows_f32.mean_field = mean_field<float>;
  kernels->rows_f64.mean_field = mean_field<double>;
}

}  // namespace deeplab_native::DEEPLAB_ISA
