// The products that slicing sums, before they are summed: ops/lattice_gradient.h.
#include "cpu/rows.h"
#include "cpu/simd_kernels.h"

namespace deeplab_native::DEEPLAB_ISA {

void fill_gradient(SimdKernels* kernels);

namespace {

// Values of a block's points as rows of `stride`, filled up with zeros, as are missing points.
template <class T>
void load_points(const Blocks::Span& span, Values<const T> values, int channels, int stride,
                 T* rows) {
  for (int i = 0; i < kBlock * stride; ++i) rows[i] = T(0);
  for (int i = 0; i < span.count; ++i) {
    const T* from = values.data + (span.first + i) * values.point_stride;
    for (int c = 0; c < channels; ++c) rows[i * stride + c] = from[c * values.channel_stride];
  }
}

template <class T, int kStride>
void gradient_block(const GradientPass<T>& p, int64_t block) {
  const Lattice& lattice = *p.lattice;
  const int corners = lattice.d + 1;
  const int stride = kStride > 0 ? kStride : p.stride;
  const Blocks::Span span = lattice.blocks[block];
  T *x = p.scratch, *g = p.scratch + kBlock * stride;
  load_points(span, p.x, p.num_channels, stride, x);
  load_points(span, p.g, p.num_channels, stride, g);

  alignas(64) T of_x[(kMaxFeatureDim + 1) * kBlock], of_g[(kMaxFeatureDim + 1) * kBlock];
  const int64_t first = block * corners * kBlock;
  const uint32_t* entries = lattice.entries.data() + first;
  for (int k = 0; k < corners * kBlock; ++k) of_x[k] = of_g[k] = T(0);
  for_chunks<kStride>(stride, [&]<int N>(int c) {
    for (int i = 0; i < kBlock; ++i) {
      const auto x_row = Row<T, N>::load(x + i * stride + c);
      const auto g_row = Row<T, N>::load(g + i * stride + c);
      for (int r = 0; r < corners; ++r) {
        const int64_t start = int64_t{entries[r * kBlock + i] / kPlane} * stride + c;
        of_x[r * kBlock + i] += g_row.times(Row<T, N>::load(p.rows_x + start)).sum();
        of_g[r * kBlock + i] += x_row.times(Row<T, N>::load(p.rows_g + start)).sum();
      }
    }
  });

  const T alpha = lattice.alpha;
  T in[kBlock], out[kBlock], scale[kBlock] = {};
  for (int i = 0; i < kBlock; ++i) {
    in[i] = p.scale_in ? T(p.scale_in[block * kBlock + i]) : T(1);
    out[i] = p.scale_out ? T(p.scale_out[block * kBlock + i]) : T(1);
  }
  const T for_in = p.scale_in ? alpha : T(0), for_out = p.scale_out ? alpha : T(0);
  const float* b = lattice.weights.data() + first;
  T* weights = p.weights + first;
  for (int r = 0; r < corners; ++r) {
    for (int i = 0; i < kBlock; ++i) {
      const int k = r * kBlock + i;
      weights[k] += alpha * (out[i] * of_x[k] + in[i] * of_g[k]);
      scale[i] += T(b[k]) * (for_out * of_x[k] + for_in * of_g[k]);
    }
  }
  if (!p.scales) return;
  for (int i = 0; i < kBlock; ++i) p.scales[block * kBlock + i] += scale[i];
}

template <class T>
void gradient(const GradientPass<T>& p, int64_t begin, int64_t end) {
  FlushDenormals flush;
  with_stride(p.stride, [&]<int kStride>() {
    for (int64_t b = begin; b < end; ++b) gradient_block<T, kStride>(p, b);
  });
}

}  // namespace

void fill_gradient(SimdKernels* kernels) {
  kernels->rows_f32.gradient = gradient<float>;
  kernels->rows_f64.gradient = gradient<double>;
}

}  // namespace deeplab_native::DEEPLAB_ISA
