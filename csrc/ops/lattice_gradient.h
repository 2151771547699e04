// Gradients of filters with the permutohedral lattice (permutohedral.h) with respect to features.
//
//   y = alpha So S B S' Si x,   S' splats and S slices with the barycentric weights b of the points
//
// For a gradient g of y, with so and si the scales of a point, and v_ir its r-th vertex,
//
//   dL/db_ir = alpha ( so_i <g_i, (B S' Si x)[v_ir]> + si_i <x_i, (B^T S' So g)[v_ir]> )
//   dL/dso_i = alpha sum over r of b_ir <g_i, (B S' Si x)[v_ir]>,   and dL/dsi_i alike
//
// which are the products that slicing sums, before they are summed. Within a simplex b is linear in
// the features: b_r = s_{d-r} - s_{d-r+1} (b_0 = s_d + 1 - s_0), s the elevated coordinates less
// those of the remainder-0 vertex, over d + 1, in the order of their ranks. Across its faces b is
// continuous; which vertices there are, and so the blur, does not move.
#pragma once
#include <cstdint>

#include "ops/permutohedral.h"

namespace deeplab_native {

// Adds dL/db to `weights`, [blocks][d + 1][16] as those of the lattice, and to `scales`,
// [blocks * 16], dL/dsi where there is scale_in, and dL/dso where there is scale_out; no pointer:
// not wanted. back (or no data) = the transposed filter of g. The scales are those of
// permutohedral_filter_cpu; transposed: of K^T, whose blurs are reversed.
template <class T>
struct LatticeGradient {
  Values<const T> x, g;
  Values<T> back;
  int num_channels;
  const float *scale_in, *scale_out;
  bool transposed;
  T *weights, *scales;
};
template <class T>
void lattice_gradient_cpu(const Lattice& lattice, const LatticeGradient<T>& gradient);

// dL/df [n][d] of the features that the lattice was built of, from dL/db.
template <class T>
void features_gradient_cpu(const Lattice& lattice, const Features& features, const T* weights,
                           T* out);

#ifdef DEEPLAB_NATIVE_WITH_CUDA
// The first part for filters whose rows are there: of x with the blurs of `filter`, and of g with
// reversed ones. x, g: [replicas][images][num_points][num_channels], in the order of the lattice's
// points. Adds to weights, [entries] in the order of the lattice's, sums over the replicas, and to
// scales, [images * num_points].
template <class T>
struct CudaLatticeGradient {
  CudaFilter of_x, of_g;  // differ in their memory
  const T *x, *g;
  T* back;  // or null
  const float *scale_in, *scale_out;
  T *weights, *scales;
};
template <class T>
int lattice_gradient_cuda(const CudaLatticeGradient<T>& gradient, int64_t num_channels,
                          bool transposed, void* stream);

// out [images][num_points][d], row by row of the image; NaN of an image without a lattice.
template <class T>
int features_gradient_cuda(const CudaLatticeShape& shape, const CudaFeatures& features,
                           const void* lattice, const T* weights, T* out, void* stream);
#endif

}  // namespace deeplab_native
