// The vector kernels of upsample_unary, one table of them per instruction set. Plain pointers;
// memory and threads are their caller's (upsample_unary.cpp).
#pragma once
#include <cstdint>

namespace deeplab_native {

// A row of output pixels between two rows of scores, which are interpolated along x already:
// upper, lower [labels][stride], the stride a multiple of kUnaryStride values.
constexpr int64_t kUnaryStride = 16;
template <class T>
struct UnaryRow {
  const T *upper, *lower;
  int64_t stride;
  T fraction;   // the weight of `lower`
  T* energies;  // of label l at energies + l * plane
  int64_t plane;
  int64_t labels, width;
};

template <class T>
struct UnaryKernels {
  void (*energies)(const UnaryRow<T>& row);
  // out[x] = exp(-energies[x]) grad_sum[x] - grad[x], the gradient of the interpolated scores
  void (*gradient)(const T* energies, const T* grad, const T* grad_sum, T* out, int64_t width);
};

struct UpsampleKernels {
  UnaryKernels<float> f32;
  UnaryKernels<double> f64;
};

namespace baseline {
void fill(UpsampleKernels*);
}
namespace avx2 {
void fill(UpsampleKernels*);
}
namespace avx512 {
void fill(UpsampleKernels*);
}

}  // namespace deeplab_native
