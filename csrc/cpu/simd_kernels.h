// The vector kernels of the lattice and the mean field, one table of them per instruction set.
// They take plain pointers; memory and threads are their callers' (permutohedral.cpp,
// mean_field.cpp).
#pragma once
#include <cstdint>

#include "ops/mean_field.h"
#include "ops/permutohedral.h"

namespace deeplab_native {

// Lattice coordinates of 16 points: for each of the d + 1 coordinates the nearest remainder-0
// point of the lattice, the rank of the coordinate's difference to it, and the barycentric weights
// of the d + 1 enclosing vertices. Follows pydensecrf's float32 arithmetic to the bit.
struct Embedding {
  int32_t remainder0[kMaxFeatureDim + 1][kBlock];
  int32_t rank[kMaxFeatureDim + 1][kBlock];
  float weights[kMaxFeatureDim + 1][kBlock];
};

// One kernel in a pass over the pixels. Rows have `stride` values, one for each label.
template <class T>
struct PassKernel {
  int d;
  const int32_t* vertices;  // [blocks][d + 1][16]
  const float* weights;     // [blocks][d + 1][16]
  const float* scale_in;    // [blocks * 16], on what is splatted; may be null
  const float* scale_out;   // on what is sliced; may be null
  T factor;                 // on what is sliced
  const T* read;            // rows to slice, or null
  T* write;                 // rows to splat into, or null
  int32_t first_shared;     // splat: vertices below this ...
  int32_t private_shift;    // ... are found this many rows further on
  CompatibilityKind kind;
  const T* compatibility;  // kVector: [stride]; kMatrix: [L][stride], symmetric
};

// What one pass does to each pixel's row of L values x:
//   x = values in  |  -U  |  ones;   x += sum over kernels (slice), if they have rows to read
//   x = softmax(x) if asked;          x -> values out and / or splatted into the kernels' rows
template <class T>
struct PixelPass {
  int64_t num_points;
  int num_labels, stride;
  const T* base;       // [blocks * 16][stride], or null
  Values<const T> in;  // where data is not null, instead of base; where both are null: ones
  bool softmax;
  Values<T> out;  // may be null
  PassKernel<T>* kernels;
  int num_kernels;
  T* scratch;  // [2][16][stride], this thread's
};

template <class T>
struct RowKernels {
  void (*pixel_pass)(const PixelPass<T>& pass, int64_t block_begin, int64_t block_end);
  // In place along the lines order[begin, end) of one axis.
  void (*blur_lines)(T* rows, int stride, const int32_t* order, int64_t begin, int64_t end);
};

struct SimdKernels {
  // features: [d][16], already gathered; scale: [d]
  void (*embed)(const float* features, const float* scale, int d, Embedding* out);
  RowKernels<float> rows_f32;
  RowKernels<double> rows_f64;
};

// Number of values in a row for so many labels: whole vectors, in as few sizes as the kernels are
// compiled for; wider rows are handled in chunks of 32.
constexpr int row_stride(int num_labels) {
  if (num_labels == 1) return 1;
  if (num_labels <= 4) return 4;
  return (num_labels + 7) / 8 * 8;
}

namespace baseline {
void fill(SimdKernels*);
}
namespace avx2 {
void fill(SimdKernels*);
}
namespace avx512 {
void fill(SimdKernels*);
}

const SimdKernels& simd_kernels();  // of current_isa()

template <class T>
const RowKernels<T>& row_kernels();

}  // namespace deeplab_native
