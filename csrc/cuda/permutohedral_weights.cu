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
      const SplatEntry<float> entry = l.row_entries[e];
      const T in = scale_in ? T(scale_in[entry.point & ~kBeginsRow]) : T(1);
      splat_entries[e] = {entry.point, T(entry.weight) * in};
    }
  });
}

// The mass of every point is sliced, with the barycentric weights, and inverted.
__global__ void __launch_bounds__(kThreads)
    scale_kernel(FilterView<float> f, float alpha, float* __restrict__ scale, bool root) {
  const LatticeView& l = f.lattice;
  each_item(l.images, l.num_points, [&](int64_t image, uint32_t point) {
    Chunk<float, 1> mass[1];
    FilteredImage<float>(f, 0, image, 1, 1, 0).slice(point, 0, [](int) { return true; }, mass);
    const double k = static_cast<double>(alpha * mass[0].v[0]) + 1e-20;  // where there is no mass
    scale[image * l.num_points + point] = static_cast<float>(1.0 / (root ? sqrt(k) : k));
  });
}

// The filter of ones, by the lattice's own weights.
CudaFilter mass_filter(const CudaLatticeShape& shape, void* lattice, void* rows) {
  const LatticeView l = lattice_view(shape, lattice);
  return {shape, 1, lattice, l.row_entries, l.weights, rows, 0};
}

}  // namespace

template <class T>
int fold_weights_cuda(const CudaLatticeShape& shape, const void* lattice, const float* scale_in,
                      const float* scale_out, void* splat_entries, T* slice_weights, void* stream) {
  const LatticeView l = lattice_view(shape, const_cast<void*>(lattice));
  if (l.entries == 0) return cudaSuccess;
  return launch(fold_weights_kernel<T>, item_grid(l.images, l.entries_per_image, kThreads),
                kThreads, 0, static_cast<cudaStream_t>(stream), l, scale_in, scale_out,
                alpha_of(l.d), static_cast<SplatEntry<T>*>(splat_entries), slice_weights);
}
template int fold_weights_cuda(const CudaLatticeShape&, const void*, const float*, const float*,
                               void*, float*, void*);
template int fold_weights_cuda(const CudaLatticeShape&, const void*, const float*, const float*,
                               void*, double*, void*);

size_t lattice_scale_bytes_cuda(const CudaLatticeShape& shape) {
  return filter_bytes_cuda<float>(mass_filter(shape, nullptr, nullptr), 1);
}

int lattice_scale_cuda(const CudaLatticeShape& shape, void* lattice, void* rows, float* scale,
                       bool root, void* stream_address) {
  const auto stream = static_cast<cudaStream_t>(stream_address);
  const FilterSet<float> set{1, {filter_view<float>(mass_filter(shape, lattice, rows), 1)}};
  const LatticeView& l = set.filters[0].lattice;
  if (l.entries == 0) return cudaSuccess;
  if (const auto error = splat_and_blur<float>(set, nullptr, 1, false, nullptr, stream))
    return error;
  return launch(scale_kernel, item_grid(l.images, l.num_points, kThreads), kThreads, 0, stream,
                set.filters[0], alpha_of(l.d), scale, root);
}

}  // namespace deeplab_native
