// Gradients with respect to the features of a lattice, on the CPU.
#include "ops/lattice_gradient.h"

#include "common/parallel.h"
#include "cpu/lattice_keys.h"
#include "cpu/lattice_rows.h"
#include "cpu/simd_kernels.h"

namespace deeplab_native {

// Both filters side by side: the threads meet as often as for one.
template <class T>
void lattice_gradient_cpu(const Lattice& lattice, const LatticeGradient<T>& gradient) {
  const int stride = row_stride(gradient.num_channels);
  const int64_t blocks = lattice.blocks.size();
  const size_t size = size_t(lattice.num_rows()) * stride;
  Buffer<T> of_x(size), of_g(size);
  Buffer<T> scratch(size_t(lattice.num_threads) * 2 * kBlock * stride);
  const LatticeRows<T> rows_x(lattice, of_x.data(), stride), rows_g(lattice, of_g.data(), stride);
  run_team(lattice.num_threads, [&](Team& team) {
    const int64_t begin = team.begin(blocks), end = team.end(blocks);
    T* own = scratch.data() + size_t(team.id()) * 2 * kBlock * stride;
    FilterPass<T> pass{};
    pass.lattice = &lattice;
    pass.num_channels = gradient.num_channels;
    pass.stride = stride;
    pass.copies = lattice.copies_of_shared(team.id());
    pass.scratch = own;
    pass.factor = 1;
    rows_x.clear_others(team);
    rows_g.clear_others(team);
    pass.rows = of_x.data();
    pass.scale = gradient.scale_in;
    row_kernels<T>().splat(pass, gradient.x, begin, end);
    pass.rows = of_g.data();
    pass.scale = gradient.scale_out;
    row_kernels<T>().splat(pass, gradient.g, begin, end);
    team.barrier();
    rows_x.add_copies(team);
    rows_g.add_copies(team);
    for (int j = 0; j <= lattice.d; ++j) {
      team.barrier();
      rows_x.blur(team, gradient.transposed ? lattice.d - j : j);
      rows_g.blur(team, gradient.transposed ? j : lattice.d - j);
    }
    team.barrier();
    if (gradient.back.data) {  // pass.rows are those of g
      pass.factor = lattice.alpha;
      pass.scale = gradient.scale_in;
      row_kernels<T>().slice(pass, gradient.back, begin, end);
    }
    const GradientPass<T> products{&lattice,         gradient.num_channels, stride,
                                   of_x.data(),      of_g.data(),           gradient.x,
                                   gradient.g,       gradient.scale_in,     gradient.scale_out,
                                   gradient.weights, gradient.scales,       own};
    row_kernels<T>().gradient(products, begin, end);
  });
}
template void lattice_gradient_cpu(const Lattice&, const LatticeGradient<float>&);
template void lattice_gradient_cpu(const Lattice&, const LatticeGradient<double>&);

namespace {

void embed(const float* features, const float* scale, int d, Embedding* e) {
  simd_kernels().embed(features, scale, d, e);
}
void embed(const float* features, const float* scale, int d, WideEmbedding* e) {
  simd_kernels().embed_wide(features, scale, d, e);
}

// Of a block, where its points lie in a simplex that is found again: the ranks are not stored.
template <class E, class T>
void block_gradient(const float* features, const float* scale, int d, int count, const T* weights,
                    T* out) {
  alignas(64) E e;
  embed(features, scale, d, &e);
  for (int i = 0; i < count; ++i) {
    // of s_q, the coordinate of rank q: b_{d-q} has it, and the one after that less it
    const auto of_coordinate = [&](int j) {
      const int r = d - e.rank[j][i], after = r == d ? 0 : r + 1;
      return (weights[r * kBlock + i] - weights[after * kBlock + i]) / T(d + 1);
    };
    T sum = of_coordinate(0);  // of the coordinates up to k, which all have feature k
    for (int k = 0; k < d; ++k) {
      const T own = of_coordinate(k + 1);  // has -(k + 1) times it
      out[i * d + k] = T(scale[k]) * (sum - T(k + 1) * own);
      sum += own;
    }
  }
}

}  // namespace

template <class T>
void features_gradient_cpu(const Lattice& lattice, const Features& features, const T* weights,
                           T* out) {
  Features used = features;
  used.bridged = lattice.bridged;
  const ArrayFeatures source(used);
  const int d = lattice.d;
  const KeyLayout layout = key_layout(source, lattice.num_threads);
  const float* scale = layout.scale.data();
  parallel_for(lattice.num_threads, lattice.blocks.size(), 64, [&](int64_t begin, int64_t end) {
    alignas(64) float gathered[kMaxFeatureDim * kBlock];
    T of_block[kMaxFeatureDim * kBlock];
    for (int64_t b = begin; b < end; ++b) {
      const Blocks::Span span = lattice.blocks[b];
      const T* own = weights + b * (d + 1) * kBlock;
      source.gather(span, gathered);
      if (d <= kPackedDim) {
        block_gradient<Embedding>(gathered, scale, d, span.count, own, of_block);
      } else {
        block_gradient<WideEmbedding>(gathered, scale, d, span.count, own, of_block);
      }
      std::copy_n(of_block, span.count * d, out + span.first * d);
    }
  });
}
template void features_gradient_cpu(const Lattice&, const Features&, const float*, float*);
template void features_gradient_cpu(const Lattice&, const Features&, const double*, double*);

}  // namespace deeplab_native
