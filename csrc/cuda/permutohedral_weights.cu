// The weights of a filter: the barycentric ones, with the normalisation folded into them.
#include <cmath>

#include "cuda/lattice.cuh"

namespace deeplab_native {
namespace {

constexpr unsigned kThreads = 256;

// Both weights of every entry, each in the order in which it is read; blockIdx.y has an image.
template <class T>
__global__ void __launch_bounds__(kThreads)
    fold_weights_kernel(LatticeView l, const float* __restrict__ scale_in,
                        const float* __restrict__ scale_out, T alpha,
                        SplatEntry<T>* __restrict__ splat_entries, T* __restrict__ slice_weights) {
  const int64_t real = l.row_begin[*l.num_vertices];
  each_item(l.images, l.entries_per_image, [&](int64_t image, uint32_t i) {
    const int64_t e = image * l.entries_per_image + i;
    const T out = scale_out ? T(scale_out[image * l.num_points + l.point_of(i)]) : T(1);
    slice_weights[e] = alpha * T(l.weights[e]) * out;
    if (e < real) {
      const uint32_t point = l.row_points[e];
      const T in = scale_in ? T(scale_in[point & ~kBeginsRow]) : T(1);
      splat_entries[e] = {point, T(l.row_weights[e]) * in};
    }
  });
}

__global__ void __launch_bounds__(kThreads)
    invert_mass_kernel(float* mass, int64_t points, bool root) {
  for (int64_t i = strided_begin(); i < points; i += strided_step()) {
    const double k = static_cast<double>(mass[i]) + 1e-20;  // where a point has no mass at all
    mass[i] = static_cast<float>(1.0 / (root ? sqrt(k) : k));
  }
}

}  // namespace

template <class T>
int fold_weights_cuda(const CudaLatticeShape& shape, const void* lattice, const float* scale_in,
                      const float* scale_out, void* splat_entries, T* slice_weights, void* stream) {
  const LatticeView l = lattice_view(shape, const_cast<void*>(lattice));
  if (l.entries == 0) return cudaSuccess;
  const float alpha = 1.0f / (1.0f + std::pow(2.0f, -static_cast<float>(l.d)));
  return launch(fold_weights_kernel<T>, item_grid(l.images, l.entries_per_image, kThreads),
                kThreads, 0, static_cast<cudaStream_t>(stream), l, scale_in, scale_out, alpha,
                static_cast<SplatEntry<T>*>(splat_entries), slice_weights);
}
template int fold_weights_cuda(const CudaLatticeShape&, const void*, const float*, const float*,
                               void*, float*, void*);
template int fold_weights_cuda(const CudaLatticeShape&, const void*, const float*, const float*,
                               void*, double*, void*);

int invert_mass_cuda(float* mass, int64_t points, bool root, void* stream) {
  if (points == 0) return cudaSuccess;
  return launch(invert_mass_kernel, strided_blocks(points, kThreads), kThreads, 0,
                static_cast<cudaStream_t>(stream), mass, points, root);
}

}  // namespace deeplab_native
