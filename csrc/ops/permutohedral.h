// The permutohedral lattice: Gaussian filtering in d dimensions in time linear in the number of
// points (Adams, Baek and Davis 2010), as the fully connected CRF uses it (Kraehenbuehl and Koltun
// 2011).
//
//   out = alpha S_slice B_d ... B_1 B_0 S_splat in,   alpha = 1 / (1 + 2^-d)
//
// with one blur B_j = [1/2, 1, 1/2] along each of the d + 1 axes of the lattice; neighbours that no
// point touched count as zero. Blurs of different axes do not commute where neighbours are missing,
// so the transposed filter runs them in reversed order.
#pragma once
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "common/buffer.h"

namespace deeplab_native {

constexpr int kMaxFeatureDim = 64;
inline float alpha_of(int d) { return 1.0f / (1.0f + std::pow(2.0f, -static_cast<float>(d))); }
// Up to so many dimensions kernels keep all coordinates of a point in registers or packed words,
// and are compiled for it; with more, build_wide_lattice and cuda/wide_keys.cuh.
constexpr int kPackedDim = 16;
constexpr int kBlock = 16;  // points are processed and stored in blocks of 16

// n points in blocks of 16. Where they are the pixels of an image, row by row, a block is 16
// neighbours in a row and blocks go through tiles of 16 x 16 pixels: what lies together in the
// image touches the same vertices, which are then still in cache.
class Blocks {
 public:
  struct Span {
    int64_t first;  // point; the others follow it
    int count;      // 1 to 16
  };
  // width: of the image, 0 for points in any order.
  explicit Blocks(int64_t num_points = 0, int64_t width = 0);

  int64_t size() const { return size_; }
  int64_t num_points() const { return num_points_; }
  bool operator==(const Blocks& other) const {
    return num_points_ == other.num_points_ && width_ == other.width_;
  }
  // From a block's first point to that of the next one, mostly.
  int64_t step() const { return width_ == 0 ? kBlock : width_; }
  Span operator[](int64_t block) const {
    if (width_ == 0) {
      const int64_t left = num_points_ - block * kBlock;
      return {block * kBlock, static_cast<int>(left < kBlock ? left : kBlock)};
    }
    const int64_t strip = block / (across_ * kBlock);  // 16 rows of pixels; the last has fewer
    const int64_t within = block - strip * across_ * kBlock, below = height_ - strip * kBlock;
    const int64_t rows = below < kBlock ? below : kBlock;
    const int64_t column = within / rows, row = within - column * rows;
    const int64_t left = width_ - column * kBlock;
    return {(strip * kBlock + row) * width_ + column * kBlock,
            static_cast<int>(left < kBlock ? left : kBlock)};
  }

 private:
  int64_t num_points_, width_ = 0, height_ = 0, across_ = 0, size_;
};

// Features of n points, of dimension d: feature k of point i at data[i * point_stride + k *
// dim_stride]. Divided by their standard deviations already: the filter is exp(-|f_i - f_j|^2 / 2).
struct Features {
  const float* data;
  int64_t point_stride, dim_stride;
  int64_t n;
  int d;
  // Where n is no multiple of 4, give the lattice the vertices of a point with features 0, too,
  // which no value reaches but which connect others: pydensecrf does, by filling up its last
  // vector.
  bool like_pydensecrf = false;
  int64_t width = 0;     // of the image whose pixels the points are, see Blocks
  bool bridged = false;  // the lattice, see bridged_lattice.h
};

constexpr int kPlane = 8;  // see Lattice::entries

// The lattice of n points; immutable once built, shared by every filter over these points.
struct Lattice {
  int d;
  int32_t num_bridges;  // the last of the vertices, which no point touches
  Blocks blocks;
  int32_t num_vertices;  // M
  int num_threads;       // it was built for: thread t owns blocks [num_blocks t / T, ...)
  float alpha;           // 1 / (1 + 2^-d)

  // Point i touches d + 1 vertices, [num_blocks][d + 1][16], given as 8 times their number: where
  // their rows begin in a plane of 8 values a vertex. In a block that is not full the missing
  // points have weight 0 and vertices that exist.
  Buffer<uint32_t> entries;
  Buffer<float> weights;  // barycentric

  // For each axis the vertices in the order of the lattice's lines, isolated ones left out; the
  // last of a line has its sign bit set. Thread t blurs [cuts[axis][t], cuts[axis][t + 1]).
  struct Axis {
    std::vector<int32_t> order;
    std::vector<int64_t> cuts;
  };
  std::vector<Axis> axes;

  // Splatting with T threads without atomics: vertices [0, num_shared) are touched by several
  // threads. Thread 0 splats into their own rows, thread t > 0 into copies, which begin at row
  // copies_of_shared(t) and are added in the order of t: the same bits come out each time.
  int32_t num_shared;
  int64_t copies_of_shared(int thread) const {
    return thread == 0 ? 0 : num_vertices + int64_t{thread - 1} * num_shared;
  }
  int64_t num_rows() const { return num_vertices + int64_t{num_threads - 1} * num_shared; }

  // The others are numbered as the blocks first touch them: block b is the first to touch vertices
  // [fresh[b], fresh[b + 1]), and clears their rows when it splats.
  Buffer<int32_t> fresh;  // [num_blocks + 1]

  Buffer<float> mass;  // of a lattice that is kept: see lattice_mass_cpu
  bool bridged;        // see bridged_lattice.h
};

// Throws std::invalid_argument where a feature is not finite or too large for the lattice's
// integer coordinates.
std::shared_ptr<const Lattice> build_lattice_cpu(const Features& features, int num_threads);
// Those of pixels' positions, which are kept for the next image (cpu/kept_lattices.h), in all.
void release_kept_lattices();
// Throws the same, and builds nothing: for a batch, whose last image is looked at before the first
// is worked on.
void check_features_cpu(const Features& features, int num_threads);

// mass = K 1, what the filter makes of ones: [num_blocks * 16], in the order of the blocks.
void lattice_mass_cpu(const Lattice& lattice, float* mass);

// Values of n points with C channels: channel c of point i at data[i * point_stride + c *
// channel_stride].
template <class T>
struct Values {
  T* data;
  int64_t point_stride, channel_stride;
};

// out = scale_out * filter(scale_in * in); a null scale is 1, others are [num_blocks * 16] in the
// order of the blocks. The transposed filter applies the blurs in reversed order. T is float or
// double.
template <class T>
void permutohedral_filter_cpu(const Lattice& lattice, Values<const T> in, Values<T> out,
                              int num_channels, const float* scale_in, const float* scale_out,
                              bool transposed);

#ifdef DEEPLAB_NATIVE_WITH_CUDA
// On the device all images of a batch are worked on together, and nothing waits for the device: the
// number of vertices stays there, and memory is made for the most there could be. All of it is the
// caller's. Functions return a cudaError_t, 0 for success; stream is a cudaStream_t.
// The order of points that are the pixels of an image: in tiles of tile x tile of them, within a
// tile row by row. width: of the image; 0, or a tile of 0: points stay in the order in which they
// are given.
struct CudaPixelOrder {
  int64_t width;
  int tile;
};
struct CudaLatticeShape {
  int64_t images, num_points;  // of each image; images * padded points * (d + 1) < 2^31
  int d;
  bool like_pydensecrf;  // see Features
  CudaPixelOrder order;  // of the points, and so of the values that are filtered
  // 0, or the lattice is bridged, up to kPackedDim dimensions, with memory for so many times the
  // vertices of one that is not. An image that has more gets NaN from every filter.
  int bridged_room;
};

// Feature k of point i of image b at data[b * image_stride + i * point_stride + k * dim_stride].
struct CudaFeatures {
  const float* data;
  int64_t image_stride, point_stride, dim_stride;
};

size_t lattice_bytes_cuda(const CudaLatticeShape& shape);
size_t lattice_scratch_bytes_cuda(const CudaLatticeShape& shape);  // while it is built
// An image with features that are not finite, or too large, gets NaN from every filter. Features
// come in the order of the pixels. near: number vertices so that neighbours lie near each other,
// and not just in the order of the points that touch them first.
int build_lattice_cuda(const CudaLatticeShape& shape, const CudaFeatures& features, bool near,
                       void* lattice, void* scratch, void* stream);
// Where the vertices of each image begin, [images + 1], in the lattice's memory.
const int32_t* vertex_begin_cuda(const CudaLatticeShape& shape, const void* lattice);

// Entries of the lattice's matrix: the size of the two arrays of weights of a filter.
int64_t lattice_entries_cuda(const CudaLatticeShape& shape);
// To splat with scale_in w, and with the point that it is for in the room of a second T; to slice
// with alpha scale_out w: w are the barycentric weights, the scales [images * num_points] floats,
// or null for 1.
template <class T>
int fold_weights_cuda(const CudaLatticeShape& shape, const void* lattice, const float* scale_in,
                      const float* scale_out, void* splat_entries, T* slice_weights, void* stream);

// Scales of the points from their mass K 1: 1 / K 1, or the root of that; [images * num_points].
// rows: of lattice_scale_bytes_cuda, while it works.
size_t lattice_scale_bytes_cuda(const CudaLatticeShape& shape);
int lattice_scale_cuda(const CudaLatticeShape& shape, void* lattice, void* rows, float* scale,
                       bool root, void* stream);

// out = filter(in) for `replicas` batches of values over the same points.
struct CudaFilter {
  CudaLatticeShape shape;
  int64_t replicas;
  void* lattice;
  const void *splat_entries, *slice_weights;
  void* memory;  // of filter_bytes_cuda
  // 0, or the mean field of floats stores rows on vertices as float16, times this power of 2 so
  // that no sum is beyond 65504: where rows have a multiple of 4 channels.
  float half_scale;
};
template <class T>
size_t filter_bytes_cuda(const CudaFilter& filter, int64_t num_channels);
// in (null: ones), out: [replicas][images][num_points][num_channels], contiguous.
template <class T>
int permutohedral_filter_cuda(const CudaFilter& filter, const T* in, T* out, int64_t num_channels,
                              bool transposed, void* stream);
#endif

}  // namespace deeplab_native
