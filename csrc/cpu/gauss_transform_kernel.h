// The vector kernels of gauss_transform, one table of them per instruction set. Plain pointers;
// memory and threads are their caller's (gauss_transform.cpp).
#pragma once
#include <cstdint>

namespace deeplab_native {

// Successive points that are taken or skipped together, and so many boxes of them.
constexpr int kGaussBlock = 16;
// Points that a tile has met before their kernels are multiplied with values: their 32 x 64 kernels
// stay in the first-level cache.
constexpr int kGaussBatch = 64;
// Batches that are added up before they are added to the sum of all, so that a sum over a million
// points in float still rounds like one over some thousand.
constexpr int kGaussSpan = 32;

// One image, in blocks of 16 points. The last block is filled up with its last point, as is the
// last group of 16 boxes with its last box.
template <class T>
struct GaussPass {
  const T* features;    // [n][d]
  const T* columns;     // [blocks][d][16], the same
  const T *low, *high;  // boxes: [groups][d][16]
  int64_t n;
  int d;
  T far;
  int64_t channels;
  const T *values, *grad;  // [n][channels]; grad: of the gradient alone
  T* out;                  // [n][channels], or [n][d] of the gradient
};

template <class T>
struct GaussKernels {
  int64_t width;                                // points of a tile
  int64_t (*scratch)(int64_t channels, int d);  // elements, of each thread
  // out of points [tile * width, (tile + 1) * width)
  void (*transform)(const GaussPass<T>& pass, int64_t tile, T* scratch);
  void (*features)(const GaussPass<T>& pass, int64_t tile, T* scratch);
};
struct GaussKernelTable {
  GaussKernels<float> f32;
  GaussKernels<double> f64;
};

namespace baseline {
void fill(GaussKernelTable*);
}
namespace avx2 {
void fill(GaussKernelTable*);
}
namespace avx512 {
void fill(GaussKernelTable*);
}

}  // namespace deeplab_native
