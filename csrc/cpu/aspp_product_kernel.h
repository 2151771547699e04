// The vector kernels of aspp_product, one table of them per instruction set. Plain pointers; memory
// and threads are its caller's (aspp_product.cpp).
#pragma once
#include <cstdint>

namespace deeplab_native {

// Channels of a slice. Half as many keep a tile in the first-level cache, but the sums are then
// fetched twice as often from the second: 3 % slower.
constexpr int64_t kAsppSlice = 256;
// Filters of a block, at most: 21 classes in three blocks.
constexpr int kAsppBlock = 7;

template <class T>
struct ProductKernel {
  int width;  // pixels of a tile
  // y[r][p] = sum over c of a[c][r] b[c][p], or += it; r < rows <= kAsppBlock, p < width
  void (*multiply)(const T* a, int rows, const T* b, int64_t channels, T* y, bool add);
};
struct ProductKernels {
  ProductKernel<float> f32;
  ProductKernel<double> f64;
};

namespace baseline {
void fill(ProductKernels*);
}
namespace avx2 {
void fill(ProductKernels*);
}
namespace avx512 {
void fill(ProductKernels*);
}

}  // namespace deeplab_native
