// The exact Gaussian sum over n points in d dimensions, in time proportional to n^2: what the
// permutohedral lattice approximates (permutohedral.h), and the reference for it.
//
//   out[i][c] = sum over j of k_ij v[j][c],   k_ij = exp(-|f_i - f_j|^2 / 2),   i = j included
//
// (Kraehenbuehl and Koltun 2011, equation 3, without the lattice of its section 3). K = (k_ij) is
// symmetric: the gradient of the values is the same sum, of out's gradient.
#pragma once
#include <cstddef>
#include <cstdint>

namespace deeplab_native {

// Points of `images` images, each with its own: features [images][num_points][d], contiguous and
// finite, over their standard deviations; 1 <= d <= kMaxFeatureDim (permutohedral.h). What is not
// finite gives any numbers, and no fault: Python makes NaN of them.
//
// far: squared distance beyond which points need not be looked at; infinity: all are. Points are
// taken in tiles of successive ones (how many is the kernels' own choice), and a pair of tiles
// whose bounding boxes are farther apart is skipped. So
//   |error of out[i][c]| <= exp(-far / 2) sum over j of |v[j][c]|;
// of the gradient, where far >= 1, exp(-far / 2) sqrt(far) sum over j of |g_i . v_j + v_i . g_j|.
// The order of the points is the caller's: the closer successive points are in all dimensions, the
// more is skipped. It changes nothing else but the order in which the sums are made.
template <class T>
struct GaussPoints {
  const T* features;
  int64_t images, num_points;
  int d;
  T far;
};

// T is float or double. Each k within 1e-5 of itself in float where it is above 2^-24 (below 1e-38
// it may be 0), 1e-12 in double: squares are those of differences, or of coordinates from a centre
// near both tiles; |f_i|^2 + |f_j|^2 - 2 f_i . f_j with features of an image's size cancels.
// Sums are in T, in an order that depends on num_points, d, num_channels and the features, not on
// threads, the number of images or what ran before: same bits each time.
//
// values, out: [images][num_points][num_channels], contiguous. values are finite.
template <class T>
void gauss_transform_cpu(const GaussPoints<T>& points, const T* values, T* out,
                         int64_t num_channels, int num_threads);

// The gradient of sum over i of g_i . out_i with respect to the features, [images][num_points][d]:
//   grad_features[i] = sum over j of k_ij (f_j - f_i) (g_i . v_j + v_i . g_j)
// values, grad (g): as above.
template <class T>
void gauss_transform_features_cpu(const GaussPoints<T>& points, const T* values, const T* grad,
                                  T* grad_features, int64_t num_channels, int num_threads);

#ifdef DEEPLAB_NATIVE_WITH_CUDA
// The same on the device; nothing waits for it. Functions return a cudaError_t, 0 for success;
// stream is a cudaStream_t; scratch is the caller's, of as many bytes as the first one says.
//
// half: of float, k and the values (and g) may be rounded to float16, so that tensor cores multiply
// them; sums stay float. Each k is then within 1e-3 of itself where it is above 2^-14, and within
// 2^-24 below; values are between -1024 and 1024. Ignored for double.
//
// Names in Python, with dtype "float32" or "float64" (bindings_gauss_cuda.cpp):
//   gauss_transform_scratch_bytes_cuda(images, num_points, d, num_channels, dtype) -> int
//   gauss_transform_cuda(features, values, out, images, num_points, d, num_channels, far, dtype,
//                        half, scratch, stream)
//   gauss_transform_features_cuda(features, values, grad, grad_features, images, num_points, d,
//                                 num_channels, far, dtype, half, scratch, stream)
template <class T>
size_t gauss_transform_scratch_bytes_cuda(int64_t images, int64_t num_points, int d,
                                          int64_t num_channels);
template <class T>
int gauss_transform_cuda(const GaussPoints<T>& points, const T* values, T* out,
                         int64_t num_channels, bool half, void* scratch, void* stream);
template <class T>
int gauss_transform_features_cuda(const GaussPoints<T>& points, const T* values, const T* grad,
                                  T* grad_features, int64_t num_channels, bool half, void* scratch,
                                  void* stream);
#endif

}  // namespace deeplab_native
