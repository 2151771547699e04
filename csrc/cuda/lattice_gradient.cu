// Gradients with respect to the features of lattices, on the device. A thread has a point: each is
// written by one thread, in an order that never changes. Points come in warps, so that lanes mostly
// read the same rows, and write neighbours of the weights.
#include "cuda/pixel_order.cuh"
#include "cuda/wide_point.cuh"
#include "ops/bridged_lattice.h"
#include "ops/lattice_gradient.h"

namespace deeplab_native {
namespace {

constexpr unsigned kThreads = 128;

template <class T>
struct Products {
  FilterView<T> of_x, of_g;  // blurred; of the same lattice
  const T *x, *g;
  T* back;
  const float *scale_in, *scale_out;
  T *weights, *scales;
  T alpha;
};

// The products of kCorners corners of a point, from `first` on, with the rows of both filters, and
// their part of the sliced rows of g.
template <int kCorners, int W, class T>
__device__ void corner_products(const Products<T>& p, const T* rows_x, const T* rows_g,
                                int64_t entry, int first, const T* x, const T* g, T* back,
                                int64_t width, T (&of_x)[kCorners], T (&of_g)[kCorners]) {
  using C = Chunk<T, W>;
  const LatticeView& l = p.of_x.lattice;
  uint32_t vertex[kCorners];
  T weight[kCorners];
#pragma unroll
  for (int r = 0; r < kCorners; ++r) {
    of_x[r] = of_g[r] = T(0);
    const bool has = first + r < l.corners;
    const int64_t e = entry + int64_t{first + r} * kWarp;
    vertex[r] = has ? static_cast<uint32_t>(l.vertices[e]) : 0;
    weight[r] = has && back ? p.of_g.slice_weights[e] : T(0);
  }
  for (int64_t c = 0; c < width; c += W) {
    const C x_here = C::load(x + c), g_here = C::load(g + c);
    C sum = back && first > 0 ? C::load(back + c) : C::filled(T(0));
#pragma unroll
    for (int r = 0; r < kCorners; ++r) {
      if (first + r >= l.corners) continue;
      const C x_row = C::load(row_at(rows_x, vertex[r], width) + c);
      const C g_row = C::load(row_at(rows_g, vertex[r], width) + c);
#pragma unroll
      for (int k = 0; k < W; ++k) {
        of_x[r] += g_here.v[k] * x_row.v[k];
        of_g[r] += x_here.v[k] * g_row.v[k];
      }
      sum.add_scaled(weight[r], g_row);
    }
    if (back) sum.store(back + c);
  }
}

template <class T, int W, int kCorners>
__global__ void __launch_bounds__(kThreads)
    products_kernel(const __grid_constant__ Products<T> p, int64_t width) {
  const LatticeView& l = p.of_x.lattice;
  const auto channels = static_cast<uint32_t>(width);
  each_item(l.images, l.num_points, [&](int64_t image, uint32_t point) {
    const int64_t entry = l.entry(image, point, 0), of_image = image * l.num_points + point;
    const T in = p.scale_in ? T(p.scale_in[of_image]) : T(1);
    const T out = p.scale_out ? T(p.scale_out[of_image]) : T(1);
    const T none = l.bad[image] ? T(NAN) : T(0);
    T scale = none;
    for (int64_t replica = 0; replica < p.of_x.replicas; ++replica) {
      const T* rows_x = image_rows(p.of_x, blurred_rows(p.of_x), replica, image, width, channels);
      const T* rows_g = image_rows(p.of_g, blurred_rows(p.of_g), replica, image, width, channels);
      const int64_t at = ((replica * l.images + image) * l.num_points + point) * width;
      for (int first = 0; first < l.corners; first += kCorners) {
        T of_x[kCorners], of_g[kCorners];
        corner_products<kCorners, W>(p, rows_x, rows_g, entry, first, p.x + at, p.g + at,
                                     p.back ? p.back + at : nullptr, width, of_x, of_g);
#pragma unroll
        for (int r = 0; r < kCorners; ++r) {
          if (first + r >= l.corners) continue;
          const int64_t e = entry + int64_t{first + r} * kWarp;
          p.weights[e] += none + p.alpha * (out * of_x[r] + in * of_g[r]);
          const T both = (p.scale_out ? of_x[r] : T(0)) + (p.scale_in ? of_g[r] : T(0));
          scale += p.alpha * T(l.weights[e]) * both;
        }
      }
      if (p.back && none != none) {
        for (int64_t c = 0; c < width; ++c) p.back[at + c] = none;
      }
    }
    if (p.scales) p.scales[of_image] += scale;
  });
}

// dL/ds of coordinate j of the elevated point, given its rank: see features_gradient_cpu.
template <class T>
__device__ T of_coordinate(const T* weights, int rank, int d) {
  const int r = d - rank, after = r == d ? 0 : r + 1;
  return (weights[r * kWarp] - weights[after * kWarp]) / T(d + 1);
}

// Blocks of a multiprocessor at the least; of any dimension the compiler would spill for more.
template <int kDim>
constexpr int kFeatureBlocks = kDim > 0 ? 0 : 4;

template <class T, int kDim>
__global__ void __launch_bounds__(kThreads, (kFeatureBlocks<kDim>))
    features_gradient_kernel(LatticeView l, CudaFeatures features, PixelOrder order,
                             const __grid_constant__ Scale scale, const T* __restrict__ weights,
                             T* __restrict__ out) {
  constexpr int kMost = kDim > 0 ? kDim : kPackedDim;
  const int d = kDim > 0 ? kDim : l.d;
  each_item(l.images, l.num_points, [&](int64_t image, uint32_t point) {
    const int64_t pixel = order.pixel(point);
    const float* feature =
        features.data + image * features.image_stride + pixel * features.point_stride;
    Embedding<kMost> e;
    const bool good = elevate<kMost>(feature, features.dim_stride, false, scale, d, e);
    find_simplex<kMost>(d, e);
    const T* own = weights + l.entry(image, point, 0);
    T* to = out + (image * l.num_points + pixel) * d;
    T sum = good ? of_coordinate(own, e.rank[0], d) : T(NAN);
#pragma unroll
    for (int k = 0; k < kMost; ++k) {
      if (k >= d) continue;
      const T next = of_coordinate(own, e.rank[k + 1], d);
      to[k] = T(scale.of[k]) * (sum - T(k + 1) * next);
      sum += next;
    }
  });
}

// A warp to a block of 32 points, one after the other, as in embed_wide_kernel.
template <class T>
__global__ void __launch_bounds__(kThreads)
    features_gradient_wide_kernel(LatticeView l, CudaFeatures features, PixelOrder order,
                                  const __grid_constant__ WideScale scale,
                                  const T* __restrict__ weights, T* __restrict__ out) {
  const int d = l.d, lane = static_cast<int>(threadIdx.x % kWarp);
  float own_scale[kWideOwn];
#pragma unroll
  for (int k = 0; k < kWideOwn; ++k) {
    const int j = lane + k * kWarp;
    own_scale[k] = j >= 1 && j <= d ? scale.of[j - 1] : 0.0f;
  }
  each_item(l.images, l.blocks * kWarp, [&](int64_t image, uint32_t first) {
    first -= static_cast<uint32_t>(lane);
    for (uint32_t i = 0; i < kWarp; ++i) {
      const uint32_t point = first + i;
      if (point >= l.num_points) return;
      const int64_t pixel = order.pixel(point);
      const float* feature =
          features.data + image * features.image_stride + pixel * features.point_stride;
      WidePoint p;
      const bool good = elevate_wide(feature, features.dim_stride, false, own_scale, d, p);
      find_wide_simplex(d, p);
      const T* own = weights + l.entry(image, point, 0);
      T* to = out + (image * l.num_points + pixel) * d;
      T before = good ? T(0) : T(NAN);  // the sum of all coordinates of the groups before
#pragma unroll
      for (int k = 0; k < kWideOwn; ++k) {
        const int j = lane + k * kWarp;
        const T here = j <= d ? of_coordinate(own, p.rank[k], d) : T(0);
        T sum = here;
        for (int distance = 1; distance < kWarp; distance *= 2) {
          const T below = __shfl_up_sync(~0u, sum, distance);
          if (lane >= distance) sum += below;
        }
        if (j >= 1 && j <= d) to[j - 1] = T(own_scale[k]) * (before + (sum - here) - T(j) * here);
        before += __shfl_sync(~0u, sum, kWarp - 1);
      }
    }
  });
}

}  // namespace

template <class T>
int lattice_gradient_cuda(const CudaLatticeGradient<T>& gradient, int64_t num_channels,
                          bool transposed, void* stream_address) {
  const auto stream = static_cast<cudaStream_t>(stream_address);
  const FilterSet<T> of_x{1, {filter_view<T>(gradient.of_x, num_channels)}};
  const FilterSet<T> of_g{1, {filter_view<T>(gradient.of_g, num_channels)}};
  const LatticeView& l = of_x.filters[0].lattice;
  if (l.entries == 0 || of_x.filters[0].replicas == 0) return cudaSuccess;
  cudaError_t error = splat_and_blur(of_x, gradient.x, num_channels, transposed, nullptr, stream);
  if (!error) {
    error = splat_and_blur(of_g, gradient.g, num_channels, !transposed, nullptr, stream);
  }
  if (error) return error;
  const Products<T> products{
      of_x.filters[0],   of_g.filters[0],    gradient.x,       gradient.g,      gradient.back,
      gradient.scale_in, gradient.scale_out, gradient.weights, gradient.scales, T(alpha_of(l.d))};
  const auto run = [&](auto kernel) {
    return launch(kernel, item_grid(l.images, l.num_points, kThreads), kThreads, 0, stream,
                  products, num_channels);
  };
  const bool fours = chunk_width<T>(num_channels, gradient.x, gradient.g) == 4 &&
                     chunk_width<T>(num_channels, gradient.back, nullptr) == 4;
  if (l.corners <= 3) return run(fours ? products_kernel<T, 4, 3> : products_kernel<T, 1, 3>);
  return run(fours ? products_kernel<T, 4, 6> : products_kernel<T, 1, 6>);
}
template int lattice_gradient_cuda(const CudaLatticeGradient<float>&, int64_t, bool, void*);
template int lattice_gradient_cuda(const CudaLatticeGradient<double>&, int64_t, bool, void*);

template <class T>
int features_gradient_cuda(const CudaLatticeShape& shape, const CudaFeatures& features,
                           const void* lattice, const T* weights, T* out, void* stream_address) {
  const auto stream = static_cast<cudaStream_t>(stream_address);
  const LatticeView l = lattice_view(shape, const_cast<void*>(lattice));
  if (l.entries == 0) return cudaSuccess;
  const PixelOrder order(shape.order, shape.num_points);
  const auto run = [&](auto kernel, int64_t items, auto scale) {
    return launch(kernel, item_grid(l.images, items, kThreads), kThreads, 0, stream, l, features,
                  order, scale, weights, out);
  };
  if (l.d > kPackedDim) {
    return run(features_gradient_wide_kernel<T>, l.blocks * kWarp, scale_of<WideScale>(l.d, false));
  }
  const Scale scale = scale_of<Scale>(l.d, l.bridged);
  switch (l.d) {
    case 2:
      return run(features_gradient_kernel<T, 2>, l.num_points, scale);
    case 3:
      return run(features_gradient_kernel<T, 3>, l.num_points, scale);
    case 5:
      return run(features_gradient_kernel<T, 5>, l.num_points, scale);
    default:
      return run(features_gradient_kernel<T, 0>, l.num_points, scale);
  }
}
template int features_gradient_cuda(const CudaLatticeShape&, const CudaFeatures&, const void*,
                                    const float*, float*, void*);
template int features_gradient_cuda(const CudaLatticeShape&, const CudaFeatures&, const void*,
                                    const double*, double*, void*);

}  // namespace deeplab_native
