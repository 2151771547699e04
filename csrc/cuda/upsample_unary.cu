// Forward: a thread has an output pixel with all its labels. The scores are a sixty-fourth of the
// output and stay in the caches, so each is interpolated twice, for the sum of the softmax and for
// the energy, rather than stored in between: the energies are written once and that is all the
// traffic there is. The maximum is taken along with the sum, which is rescaled where it grows.
#include <cmath>

#include "cuda/compat.cuh"
#include "ops/upsample_unary.h"

namespace deeplab_native {
namespace {

constexpr unsigned kThreads = 256;

template <class T>
__global__ void __launch_bounds__(kThreads)
    upsample_unary_kernel(const T* __restrict__ scores,
                          typename Number<T>::Sum* __restrict__ energies, UpsampleShape s) {
  using Sum = typename Number<T>::Sum;
  const int64_t plane = s.y.out * s.x.out, pixels = s.batch * plane;
  for (int64_t i = strided_begin(); i < pixels; i += strided_step()) {
    const int64_t b = i / plane, pixel = i - b * plane;
    const int64_t y = pixel / s.x.out, x = pixel - y * s.x.out;
    const int64_t y_low = s.y.low(y), x_low = s.x.low(x);
    const Sum fy = s.y.fraction<Sum>(y, y_low), fx = s.x.fraction<Sum>(x, x_low);
    const T* corner = scores + b * s.stride[0] + y_low * s.stride[2] + x_low * s.stride[3];
    const int64_t right = (s.x.high(x_low) - x_low) * s.stride[3];
    const int64_t below = (s.y.high(y_low) - y_low) * s.stride[2];
    const auto score = [&](int64_t label) {
      const T* at = corner + label * s.stride[1];
      const Sum upper = (1 - fx) * Sum(at[0]) + fx * Sum(at[right]);
      const Sum lower = (1 - fx) * Sum(at[below]) + fx * Sum(at[below + right]);
      return (1 - fy) * upper + fy * lower;
    };

    Sum largest = score(0), sum = 1;
    for (int64_t label = 1; label < s.labels; ++label) {
      const Sum value = score(label);
      // the smaller of both over the larger: one exp either way
      const Sum below_largest = value > largest ? largest - value : value - largest;
      // equal: also where both are -infinity
      const Sum ratio = value == largest ? Sum(1) : std::exp(below_largest);
      sum = value > largest ? sum * ratio + 1 : sum + ratio;
      largest = value > largest ? value : largest;
    }
    const Sum log_sum = std::log(sum);
    Sum* out = energies + b * s.labels * plane + pixel;
    for (int64_t label = 0; label < s.labels; ++label) {
      out[label * plane] = (largest - score(label)) + log_sum;
    }
  }
}

// rows[b, l, Y, j]: the scores' gradient, p_l sum_k g_k - g_l at every pixel, gathered along x.
template <class T>
__global__ void __launch_bounds__(kThreads)
    upsample_unary_columns_kernel(const T* __restrict__ energies, const T* __restrict__ grad,
                                  const T* __restrict__ grad_sum, T* __restrict__ rows,
                                  UpsampleShape s) {
  const int64_t items = s.batch * s.labels * s.y.out * s.x.in;
  for (int64_t i = strided_begin(); i < items; i += strided_step()) {
    const int64_t row = i / s.x.in, j = i - row * s.x.in;  // row: (b, l, Y)
    const int64_t b = row / s.y.out / s.labels, y = row % s.y.out;
    const T* energy_row = energies + row * s.x.out;
    const T* grad_row = grad + row * s.x.out;
    const T* sum_row = grad_sum + (b * s.y.out + y) * s.x.out;
    T sum = 0;
    for (int64_t x = s.x.begin(j), end = s.x.end(j); x < end; ++x) {
      sum += s.x.weight<T>(x, j) * (std::exp(-energy_row[x]) * sum_row[x] - grad_row[x]);
    }
    rows[i] = sum;
  }
}

// grad_scores[b, l, i, j]: those rows gathered along y.
template <class T>
__global__ void __launch_bounds__(kThreads)
    upsample_unary_rows_kernel(const T* __restrict__ rows, T* __restrict__ grad_scores,
                               UpsampleShape s) {
  const int64_t plane = s.y.in * s.x.in, items = s.batch * s.labels * plane;
  for (int64_t i = strided_begin(); i < items; i += strided_step()) {
    const int64_t bl = i / plane, pixel = i - bl * plane;
    const int64_t source = pixel / s.x.in, j = pixel - source * s.x.in;
    T sum = 0;
    for (int64_t y = s.y.begin(source), end = s.y.end(source); y < end; ++y) {
      sum += s.y.weight<T>(y, source) * rows[(bl * s.y.out + y) * s.x.in + j];
    }
    grad_scores[i] = sum;
  }
}

template <class... Parameters, class... Arguments>
cudaError_t launch_items(void (*kernel)(Parameters...), int64_t items, void* stream,
                         Arguments... args) {
  if (items == 0) return cudaSuccess;
  return launch(kernel, dim3(strided_blocks(items, kThreads)), dim3(kThreads), 0,
                static_cast<cudaStream_t>(stream), args...);
}

template <class T>
cudaError_t backward(const T* energies, const T* grad, const T* grad_sum, T* rows, T* grad_scores,
                     const UpsampleShape& s, void* stream) {
  const int64_t planes = s.batch * s.labels;
  const cudaError_t error =
      launch_items(upsample_unary_columns_kernel<T>, planes * s.y.out * s.x.in, stream, energies,
                   grad, grad_sum, rows, s);
  if (error != cudaSuccess) return error;
  return launch_items(upsample_unary_rows_kernel<T>, planes * s.y.in * s.x.in, stream, rows,
                      grad_scores, s);
}

}  // namespace

int upsample_unary_cuda(const void* scores, void* energies, const UpsampleShape& shape,
                        FloatType type, void* stream) {
  return with_float_type(type, [&](auto zero) {
    using T = decltype(zero);
    return launch_items(upsample_unary_kernel<T>, shape.batch * shape.y.out * shape.x.out, stream,
                        static_cast<const T*>(scores),
                        static_cast<typename Number<T>::Sum*>(energies), shape);
  });
}

int upsample_unary_backward_cuda(const void* energies, const void* grad, const void* grad_sum,
                                 void* rows, void* grad_scores, const UpsampleShape& shape,
                                 FloatType type, void* stream) {
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    return backward(static_cast<const T*>(energies), static_cast<const T*>(grad),
                    static_cast<const T*>(grad_sum), static_cast<T*>(rows),
                    static_cast<T*>(grad_scores), shape, stream);
  };
  if (type == FloatType::kFloat64) return run(double{});
  return type == FloatType::kFloat32 ? run(float{}) : cudaErrorInvalidValue;
}

}  // namespace deeplab_native
