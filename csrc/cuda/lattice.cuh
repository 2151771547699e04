// How the lattices of a batch lie in device memory, and access to their rows.
#pragma once
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "cuda/arena.cuh"
#include "cuda/half_words.cuh"
#include "ops/permutohedral.h"

namespace deeplab_native {

constexpr int kWarp = 32;
constexpr uint32_t kBeginsRow = 1u << 31;  // with a point: it is the first of its vertex

// What the splat reads of an entry, at once.
template <class T>
struct alignas(2 * sizeof(T)) SplatEntry {
  uint32_t point;  // image * num_points + point; kBeginsRow: of the first of a vertex
  T weight;

  __device__ bool begins_row() const { return (point & kBeginsRow) != 0; }
};

// Points come in blocks of a warp. Entry (image, block, corner, lane), in this order of memory, is
// one vertex of the simplex around one point; lanes beyond the last point are entries of weight 0.
// Vertices of all images are numbered together, image after image, so that neighbours mostly lie
// near each other (see vertex_code).
struct LatticeView {
  int64_t images, num_points, blocks;  // points and blocks of each image
  int d, corners;
  bool zero_point;  // Features::like_pydensecrf: lanes beyond the last are points at 0
  bool bridged;     // see ops/bridged_lattice.h
  int32_t spread;   // vertices that there is memory for: as many times the entries
  int64_t entries_per_image, entries;
  int32_t* vertex_begin;  // [images + 1] first vertex of an image
  int32_t* num_vertices;  // M, the last of these: known on the device alone
  int32_t* bad;           // [images] nonzero: features not finite or too large, no result
  float* weights;         // [entries] barycentric
  int32_t* vertices;      // [entries]
  int2* neighbours;       // [corners][room] of vertex v along an axis, -1 for none; v < M
  // The transposed matrix, for splatting: the entries of real points, sorted by vertex.
  int32_t* row_begin;              // [room + 1] of vertex v; row_begin[M]: entries of real points
  uint32_t* row_vertices;          // [entries]
  SplatEntry<float>* row_entries;  // [entries] with the barycentric weights

  // Vertices that there is memory for, of all images and of each.
  __host__ __device__ int64_t room() const { return entries * spread; }
  __host__ __device__ int64_t image_room() const { return entries_per_image * spread; }

  // Points, entries and vertices fit 31 bits: their divisions and products are done in 32.
  __host__ __device__ int64_t entry(int64_t image, uint32_t point, int corner) const {
    const int64_t block = image * blocks + point / kWarp;
    return (block * corners + corner) * kWarp + point % kWarp;
  }
  // The point of entry i of an image; where the lane has none, the last one.
  __device__ uint32_t point_of(uint32_t i) const {
    return min(static_cast<uint32_t>(num_points - 1), lane_point(i));
  }
  __device__ uint32_t lane_point(uint32_t i) const {
    return i / static_cast<uint32_t>(corners * kWarp) * kWarp + i % kWarp;
  }
};

// f(image, i) for `items` of each image, which blockIdx.y has: nothing is divided by the size of an
// image to find out which. A warp stays whole where items come in warps.
template <class F>
__device__ void each_item(int64_t images, int64_t items, const F& f) {
  const uint32_t end = static_cast<uint32_t>(items), step = gridDim.x * blockDim.x;
  for (int64_t image = blockIdx.y; image < images; image += gridDim.y) {
    for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < end; i += step) f(image, i);
  }
}
inline dim3 item_grid(int64_t images, int64_t items, unsigned threads) {
  return dim3(strided_blocks(items, threads), static_cast<unsigned>(std::min(images, kMaxGrid)));
}

LatticeView lattice_view(const CudaLatticeShape& shape, void* memory, size_t* bytes = nullptr);

// W consecutive channels of a row, loaded and stored as one.
template <class T, int W>
struct alignas(sizeof(T) * W) Chunk {
  T v[W];

  __device__ static Chunk load(const T* from) { return *reinterpret_cast<const Chunk*>(from); }
  // Of 4 floats that are stored as float16, in 8 bytes.
  __device__ static Chunk load(const Float16* from) {
    const HalfWords words = *reinterpret_cast<const HalfWords*>(from);
    Chunk c;
    widen(words.first, c.v[0], c.v[1]);
    widen(words.second, c.v[2], c.v[3]);
    return c;
  }
  __device__ void store(T* to) const {
    if constexpr (sizeof(T) * W == 16 && W == 4) {  // else the compiler may store word by word
      store_whole(reinterpret_cast<float4*>(to), make_float4(v[0], v[1], v[2], v[3]));
    } else {
      *reinterpret_cast<Chunk*>(to) = *this;
    }
  }
  __device__ void store(Float16* to) const {
    *reinterpret_cast<HalfWords*>(to) = {narrow(v[0], v[1]), narrow(v[2], v[3])};
  }
  __device__ static Chunk filled(T value) {
    Chunk c;
    for (int k = 0; k < W; ++k) c.v[k] = value;
    return c;
  }
  __device__ void add(const Chunk& other) {
    for (int k = 0; k < W; ++k) v[k] += other.v[k];
  }
  __device__ void scale(T factor) {
    for (int k = 0; k < W; ++k) v[k] *= factor;
  }
  __device__ void add_scaled(T factor, const Chunk& other) {
    for (int k = 0; k < W; ++k) v[k] += factor * other.v[k];
  }
};

// A filter in work: the lattices with their weights, and the rows of values on their vertices.
// Several batches of values over the same points are `replicas`: rows r M ... (r + 1) M - 1.
// Row: what rows are stored as, of chunks of 4 floats also Float16. Every sum is a T.
template <class T, class Row = T>
struct FilterView {
  LatticeView lattice;
  int64_t replicas;
  const SplatEntry<T>* splat_entries;  // [entries] in the order of row_entries
  const T* slice_weights;              // [entries]
  Row *rows, *other_rows;              // [replicas M][width], of Float16 times row_scale
  T* partials;                         // [replicas][segments][2][width], see splat_kernel
  T row_scale, sum_scale;              // a power of 2, and 1 / row_scale

  // A sum of the splat to its row.
  template <int W>
  __device__ void store_row(Chunk<T, W> sum, Row* to) const {
    if constexpr (!std::is_same_v<T, Row>) sum.scale(row_scale);
    sum.store(to);
  }
};

constexpr int kMaxFilters = 8;  // that one launch works on
template <class T, class Row = T>
struct FilterSet {
  int count;
  FilterView<T, Row> filters[kMaxFilters];
};

// Blocks of a multiprocessor that filter at a time, at the least: with a bound of its own the
// compiler spills.
template <class T>
constexpr int kFilterBlocks = sizeof(T) == 4 ? 4 : 2;

// f(replica, image, b) for the images of a filter that blockIdx.z has; values b of the batch.
template <class T, class Row, class F>
__device__ void each_image(const FilterView<T, Row>& filter, const F& f) {
  const int64_t images = filter.lattice.images;
  const uint32_t end = static_cast<uint32_t>(filter.replicas * images);
  for (uint32_t z = blockIdx.z; z < end; z += gridDim.z) {
    const uint32_t replica = filter.replicas == 1 ? 0 : z / static_cast<uint32_t>(images);
    f(int64_t{replica}, int64_t{z} - int64_t{replica} * images, z);
  }
}

// Where the rows of one image begin in `rows`, [replicas M][width], so that row v of the lattice
// lies `stride` <= width channels times v from there: where fewer channels are worked on, their
// rows lie side by side.
template <class T, class Row, class U>
__device__ U* image_rows(const FilterView<T, Row>& f, U* rows, int64_t replica, int64_t image,
                         int64_t width, uint32_t stride) {
  if (replica > 0) rows += replica * *f.lattice.num_vertices * width;
  return rows + f.lattice.vertex_begin[image] * (width - stride);
}

// Where the rows of a filter are after its d + 1 blurs, of which every two go from one buffer to
// the other.
template <class T, class Row>
__host__ __device__ const Row* blurred_rows(const FilterView<T, Row>& f) {
  return (f.lattice.corners + 1) / 2 % 2 == 0 ? f.rows : f.other_rows;
}

// What a filter has made of one image, from a channel on: to be sliced at the image's points. Rows
// are `width` channels apart in the memory of the filter, `stride` of them are worked on.
template <class T, class Row = T>
class FilteredImage {
 public:
  __device__ FilteredImage(const FilterView<T, Row>& f, int64_t replica, int64_t image,
                           int64_t width, uint32_t stride, int64_t channel)
      : lattice_(f.lattice),
        image_(image),
        width_(stride),
        rows_(image_rows(f, blurred_rows(f), replica, image, width, stride) + channel),
        weights_(f.slice_weights),
        sum_scale_(f.sum_scale) {}

  // The kChunks chunks at a point, `step` channels apart, of which `has(k)` says which there are;
  // NaN where the image has no lattice.
  template <int W, int kChunks, class Has>
  __device__ void slice(uint32_t point, int64_t step, const Has& has,
                        Chunk<T, W> (&sums)[kChunks]) const {
    const T zero = lattice_.bad[image_] ? T(NAN) : T(0);
    for (int k = 0; k < kChunks; ++k) sums[k] = Chunk<T, W>::filled(zero);
    const int64_t first = lattice_.entry(image_, point, 0);
    const T* weights = weights_ + first;
    const int32_t* vertices = lattice_.vertices + first;
    // of positions there are 3 corners, of positions and colours 6: so many loads are on their way
    constexpr int kAtOnce = 3;
    int r = 0;
    if constexpr (kChunks == 1 && sizeof(T) * W == 16) {  // there are registers for twice as many
#pragma unroll 1
      for (; r + 2 * kAtOnce <= lattice_.corners; r += 2 * kAtOnce) {
        add_corners<2 * kAtOnce>(weights + r * kWarp, vertices + r * kWarp, step, has, sums);
      }
    }
#pragma unroll 1
    for (; r + kAtOnce <= lattice_.corners; r += kAtOnce) {
      add_corners<kAtOnce>(weights + r * kWarp, vertices + r * kWarp, step, has, sums);
    }
#pragma unroll 1
    for (; r < lattice_.corners; ++r) {
      add_corners<1>(weights + r * kWarp, vertices + r * kWarp, step, has, sums);
    }
    if constexpr (!std::is_same_v<T, Row>) {
      for (int k = 0; k < kChunks; ++k) sums[k].scale(sum_scale_);
    }
  }

 private:
  template <int kCorners, int W, int kChunks, class Has>
  __device__ void add_corners(const T* weights, const int32_t* vertices, int64_t step,
                              const Has& has, Chunk<T, W> (&sums)[kChunks]) const {
    T weight[kCorners];
    int32_t vertex[kCorners];
#pragma unroll
    for (int r = 0; r < kCorners; ++r) {
      weight[r] = weights[r * kWarp];
      vertex[r] = vertices[r * kWarp];
    }
#pragma unroll
    for (int r = 0; r < kCorners; ++r) {
      const Row* row = row_at(rows_, vertex[r], width_);
#pragma unroll
      for (int k = 0; k < kChunks; ++k) {
        if (has(k)) sums[k].add_scaled(weight[r], Chunk<T, W>::load(row + k * step));
      }
    }
  }

  const LatticeView& lattice_;
  int64_t image_, width_;
  const Row* rows_;
  const T* weights_;
  const T sum_scale_;
};

struct HotStep;  // cuda/hot_labels.cuh

// values [replicas * images * num_points][width] (null: all ones) -> blurred_rows of every filter.
// hot: of a mean field that works on some labels alone, with chunks of 4 of float; else null.
// Rows that are narrower than T have chunks of 4 channels.
template <class T, class Row>
cudaError_t splat_and_blur(const FilterSet<T, Row>& set, const T* values, int64_t width,
                           bool reversed, const HotStep* hot, cudaStream_t stream);

// The rows of a filter in memory of filter_bytes_cuda.
template <class T, class Row = T>
FilterView<T, Row> filter_view(const CudaFilter& filter, int64_t width, size_t* bytes = nullptr);

// Whether the rows of a filter are stored as Float16: where that is asked for, and chunks are of 4.
template <class T>
bool has_half_rows(const CudaFilter& filter, int64_t width) {
  return std::is_same_v<T, float> && filter.half_scale > 0 && width % 4 == 0;
}

// Widest chunk of a row: 4 where rows of this width at these addresses can be read so, else 1.
template <class T>
int chunk_width(int64_t width, const void* a, const void* b) {
  const auto all = reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b);
  return width % 4 == 0 && all % (4 * sizeof(T)) == 0 ? 4 : 1;
}

}  // namespace deeplab_native
