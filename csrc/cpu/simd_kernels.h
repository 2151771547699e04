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
template <int kMostDim>
struct EmbeddingOf {
  static constexpr int kMost = kMostDim;
  int32_t remainder0[kMost + 1][kBlock];
  int32_t rank[kMost + 1][kBlock];
  float weights[kMost + 1][kBlock];
};
using Embedding = EmbeddingOf<kPackedDim>;
using WideEmbedding = EmbeddingOf<kMaxFeatureDim>;

// What names the vertices around a point of many dimensions (cpu/vertex_names.h) has for each
// coordinate a word: the cell of the remainder-0 vertex, and below it the rank.
constexpr int kRankBits = 7, kRankMask = (1 << kRankBits) - 1;

// Splatting values onto a lattice's rows, or slicing them off. A row has `stride` values.
template <class T>
struct FilterPass {
  const Lattice* lattice;
  int num_channels, stride;
  const float* scale;  // of each point, in the order of the blocks, or null
  T factor;
  int64_t copies;  // row where this thread's copies of the shared rows begin
  T* rows;
  T* scratch;  // [16][stride], this thread's
};

// What slicing sums, before it is summed, of two filters; see lattice_gradient.h.
template <class T>
struct GradientPass {
  const Lattice* lattice;
  int num_channels, stride;
  const T *rows_x, *rows_g;  // blurred
  Values<const T> x, g;
  const float *scale_in, *scale_out;
  T *weights, *scales;  // added to
  T* scratch;           // [2][16][stride], this thread's
};

// One value per vertex: splatting ones, and slicing to [blocks * 16].
struct SumPass {
  const Lattice* lattice;
  int64_t copies;
  float* rows;
  float* sums;
};

// The mean field keeps the L values of a point, or of a vertex, as a row of a hot plane, 8 values,
// and a row of a cold plane, `cold` values (a multiple of 8; 0 where 8 labels suffice). The hot
// plane has the labels that matter most in this image, and, where there is a cold one, the sum of
// the cold row as its last value. In most of an image that sum is nothing, and the cold row is then
// neither computed, nor written, nor read.
template <class T>
struct Planes {
  T* hot;
  T* cold;
};
constexpr int kColdSum = kPlane - 1;  // its place in the hot row
constexpr float kNegligibleRow = 1.0f / (1 << 20);

// The usual kernels, which code is specialised for.
constexpr int kGaussianCorners = 3, kBilateralCorners = 6;

// One pairwise kernel in a pass over the pixels, as one thread sees it.
template <class T>
struct KernelPass {
  int corners;                    // d + 1
  const uint32_t* entries;        // Lattice::entries
  const float* weights;           // Lattice::weights
  const T *scale_out, *scale_in;  // of each pixel, where it is sliced and splatted
  CompatibilityKind kind;
  const T* compatibility;  // kVector: [8 + cold]; kMatrix: as many of them, symmetric
  Planes<const T> read;
  Planes<T> write;
  uint32_t shared, copies;  // splatting adds `copies` to entries below `shared`
  uint32_t missing;         // entry of a cold row of zeros
  const int32_t* fresh;     // Lattice::fresh
};

// Energies [L][N] to rows: min U - U, with -infinity where there is no label.
template <class T>
struct UnaryPass {
  const Blocks* blocks;
  int num_labels, cold;
  const int* labels;  // of each place, see MeanFieldPass
  const T* unary;
  Planes<T> rows;
  T* least;  // [blocks * 16]
};

// One pass over the pixels: each pixel's L values are
//   x = q_in, or -U, plus what all kernels slice from `read`;   x = softmax(x) if asked;
// and are written to q_out and splatted onto `write`, where these are asked for.
template <class T>
struct MeanFieldPass {
  const Blocks* blocks;
  int num_labels, cold;
  const int* places;  // of each label in the planes; from 8 on: in the cold one
  const int* labels;  // of each place, -1 where there is none
  // min U - U, [blocks * 16] rows, with -infinity where there is no label; and the minima.
  Planes<const T> negative_unary;
  const T* least_unary;
  T* cold_sums;  // of exp(negative_unary.cold); written by the pass that reads nothing
  const KernelPass<T>* kernels;
  int num_kernels, num_potts;  // Potts kernels come first: what they slice is just added up
  bool reads, writes;
  // Where a cold plane is sparse, rows are not there whose cold sum is at most kNegligibleRow
  // (while splatting: 0). Otherwise all of them are.
  bool read_sparse, write_sparse;
  T negligible_marginal;  // of all cold labels; -1: none is
  const T* q_in;          // [L][N]
  T* q_out;               // [L][N]
  bool softmax;
  T* scratch;           // this thread's, of scratch_size()
  int64_t* num_active;  // counts the blocks whose cold labels were not left out

  static int64_t scratch_size(int cold, int corners) {
    return int64_t{kBlock} * (2 * (kPlane + cold) + 3 * corners);
  }
};

// The same for two labels (two_labels.cpp), with one value a vertex: Q_0 - Q_1.
struct TwoLabelsKernel {
  int corners;
  const uint32_t* entries;
  const float *weights, *scale_out, *scale_in;
  const float* read;
  float* write;
  uint32_t shared, copies;
  const int32_t* fresh;
};
struct TwoLabelsPass {
  const Blocks* blocks;
  const float *unary_0, *unary_1;  // [blocks * 16]
  const TwoLabelsKernel* kernels;
  int num_kernels;
  bool reads, writes;
  float* q_out;  // [2][N]
};

// Lines of one axis, order[begin, end), to be blurred in place.
struct Lines {
  const int32_t* order;
  int64_t begin, end;
};

template <class T>
struct RowKernels {
  void (*splat)(const FilterPass<T>& pass, Values<const T> in, int64_t block_begin,
                int64_t block_end);
  void (*slice)(const FilterPass<T>& pass, Values<T> out, int64_t block_begin, int64_t block_end);
  void (*gradient)(const GradientPass<T>& pass, int64_t block_begin, int64_t block_end);
  void (*blur_rows)(T* rows, int stride, Lines lines);
  void (*unary)(const UnaryPass<T>& pass, int64_t block_begin, int64_t block_end);
  void (*mean_field)(const MeanFieldPass<T>& pass, int64_t block_begin, int64_t block_end);
  // notes: room for one more than the vertices of the lines, null where the cold plane is not
  // sparse.
  void (*blur_planes)(Planes<T> rows, int cold, uint32_t* notes, Lines lines);
};

struct SimdKernels {
  // features: [d][16], already gathered; scale: [d]
  void (*embed)(const float* features, const float* scale, int d, Embedding* out);
  // Keys of one 64-bit word (lattice_keys.h): [d + 1][16]
  void (*pack_keys)(const Embedding& e, const int* shift, const int32_t* least, int d,
                    uint64_t* keys);
  void (*embed_wide)(const float* features, const float* scale, int d, WideEmbedding* out);
  // How many of the cells of two vertices differ, see VertexNames; words: a multiple of 16.
  int (*unlike_cells)(const int32_t* a, int last_a, const int32_t* b, int last_b, int words);
  void (*splat_ones)(const SumPass& pass, int64_t block_begin, int64_t block_end);
  void (*slice_sums)(const SumPass& pass, int64_t block_begin, int64_t block_end);
  void (*two_labels)(const TwoLabelsPass& pass, int64_t block_begin, int64_t block_end);
  RowKernels<float> rows_f32;
  RowKernels<double> rows_f64;
};

// Width of the cold plane for so many labels.
constexpr int cold_width(int num_labels) {
  return num_labels <= kPlane ? 0 : (num_labels - kColdSum + 7) / 8 * 8;
}

// Number of values in a filter's row for so many channels: whole vectors, in as few sizes as the
// kernels are compiled for; wider rows are handled in chunks of 16.
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
