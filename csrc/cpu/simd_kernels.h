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

// Splatting values onto a lattice's rows, or slicing them off. A row has `stride` values.
template <class T>
struct FilterPass {
  const Lattice* lattice;
  int num_channels, stride;
  const float* scale;  // of each point, or null
  T factor;
  T* rows;
  T* scratch;  // [16][stride], this thread's
};

// A kernel whose compatibility is a vector or a matrix: its corners among those of the pass.
template <class T>
struct LabelKernel {
  int first_corner, corners;
  CompatibilityKind kind;
  const T* compatibility;  // kVector: [stride]; kMatrix: [L][stride], symmetric
};

// Where the rows of one kernel begin, and which of them a block clears (Lattice::fresh).
template <class T>
struct KernelRows {
  T* rows;
  const int32_t* fresh;
};

// One pass over the pixels: each pixel's row of L values is
//   x = q_in, or -U, plus what all kernels slice from `read`;   x = softmax(x) if asked;
// and is written to q_out and splatted onto `write`, where these are not null.
// The vertices of all kernels together are the `corners` of a pixel; those of Potts kernels come
// first, since what they slice is just added up.
template <class T>
struct MeanFieldPass {
  int64_t num_points;
  int num_labels, stride;
  const T* negative_unary;  // [blocks * 16][stride]
  int corners, potts_corners;
  // Rows, in halves of their stride, and weights to slice with and to splat with; all of them
  // [blocks][corners][16].
  const uint32_t *entries_out, *entries_in;
  const T *weights_out, *weights_in;
  const LabelKernel<T>* label_kernels;
  int num_label_kernels;
  const T* read;
  T* write;  // the kernels' rows, one after the other:
  const KernelRows<T>* write_rows;
  int num_kernels;
  const T* q_in;  // [L][N]
  T* q_out;       // [L][N]
  bool softmax;
  T* scratch;      // this thread's: [2][16][stride] ...
  T* own_weights;  // ... and [corners][16]
};

template <class T>
struct RowKernels {
  void (*splat)(const FilterPass<T>& pass, Values<const T> in, int64_t block_begin,
                int64_t block_end);
  void (*slice)(const FilterPass<T>& pass, Values<T> out, int64_t block_begin, int64_t block_end);
  void (*mean_field)(const MeanFieldPass<T>& pass, int64_t block_begin, int64_t block_end);
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
