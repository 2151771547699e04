// The splat of a filter: values at the points to sums on the vertices. What a thread works on, and
// what blockIdx is, permutohedral.cu says.
#pragma once
#include "cuda/lattice.cuh"
#include "cuda/rows.cuh"

namespace deeplab_native {
namespace {

constexpr int64_t kSegment = 32;  // entries that one thread of the splat adds up
constexpr int kAtOnce = 4;        // of these on their way
constexpr uint32_t kNoRow = ~0u;

// The entries of each image are cut up for themselves, so that an image's sums are the same in any
// batch. Those of real points are as many for all, and come first in the order of the rows.
struct Segments {
  int64_t entries;  // of an image
  int64_t count;    // of an image
  __host__ __device__ explicit Segments(const LatticeView& l)
      : entries(l.num_points * l.corners), count((entries + kSegment - 1) / kSegment) {}
};

// Adds up segments of the entries, which are sorted by vertex: rows that lie in one segment are
// done; of the others the part at the segment's begin goes to partials[segment][0] and the part at
// its end to [1] (and 0 to [0], which nothing reads, where a row begins the segment). The skewed
// lengths of the rows (1 to some 10,000 entries) cost nothing.
// kOnes: instead of the values, which there are none of.
template <class T, int W, bool kOnes>
__global__ void __launch_bounds__(kRowThreads, (kFilterBlocks<T>))
    splat_kernel(FilterSet<T> set, const T* __restrict__ values, int64_t width) {
  const FilterView<T>& f = set.filters[blockIdx.y];
  const LatticeView& l = f.lattice;
  using C = Chunk<T, W>;
  const Segments segments(l);
  const int64_t vertices = *l.num_vertices;
  const int64_t all_segments = l.images * segments.count;
  const int64_t all_entries = l.images * segments.entries;
  each_image(f, [&](int64_t replica, int64_t image) {
    const int64_t image_begin = image * segments.entries;
    each_chunk<W>(0, segments.count, width, [&](int64_t segment, uint32_t offset) {
      const int64_t begin = image_begin + segment * kSegment;
      const auto count =
          static_cast<uint32_t>(min(kSegment, segments.entries - segment * kSegment));
      const SplatEntry<T>* const own = f.splat_entries + begin;
      const T* from = values + replica * l.images * l.num_points * width + offset;
      T* partial = f.partials + offset +
                   (replica * all_segments + image * segments.count + segment) * 2 * width;
      uint32_t row_from = kNoRow;  // the entry with which the present row begins
      C sum = C::filled(T(0));
      const auto target = [&] {
        if (row_from == kNoRow) return partial;
        const uint32_t vertex = l.row_vertices[begin + row_from];
        return row_at(f.rows + replica * vertices * width + offset, vertex, width);
      };
      const auto load = [&](const SplatEntry<T>& entry) {
        return kOnes ? C::filled(T(1)) : C::load(row_at(from, entry.point & ~kBeginsRow, width));
      };
      const auto add = [&](uint32_t i, const SplatEntry<T>& entry, const C& value) {
        if (entry.begins_row()) {
          sum.store(target());
          sum = C::filled(T(0));
          row_from = i;
        }
        sum.add_scaled(entry.weight, value);
      };
      uint32_t i = 0;
      for (; i + kAtOnce <= count; i += kAtOnce) {
        SplatEntry<T> entry[kAtOnce];
        C value[kAtOnce];
        uint32_t points = 0;
#pragma unroll
        for (int k = 0; k < kAtOnce; ++k) entry[k] = own[i + k];
#pragma unroll
        for (int k = 0; k < kAtOnce; ++k) {
          value[k] = load(entry[k]);
          points |= entry[k].point;
        }
        if ((points & kBeginsRow) == 0) {  // mostly
#pragma unroll
          for (int k = 0; k < kAtOnce; ++k) sum.add_scaled(entry[k].weight, value[k]);
        } else {
#pragma unroll
          for (int k = 0; k < kAtOnce; ++k) add(i + k, entry[k], value[k]);
        }
      }
#pragma unroll 1
      for (; i < count; ++i) add(i, own[i], load(own[i]));
      const bool last = begin + count == all_entries;
      const bool ends = last || own[count].begins_row();
      sum.store(row_from == kNoRow || ends ? target() : partial + width);
    });
  });
}

// Rows of more than one segment: the sum of their parts, in order. Rows of none: 0.
template <class T, int W>
__global__ void __launch_bounds__(kRowThreads, at_least_blocks(5, kRowThreads))
    join_kernel(FilterSet<T> set, int64_t width) {
  const FilterView<T>& f = set.filters[blockIdx.y];
  const LatticeView& l = f.lattice;
  using C = Chunk<T, W>;
  const Segments segments(l);
  const int64_t vertices = *l.num_vertices;
  each_image(f, [&](int64_t replica, int64_t image) {
    const T* partials = f.partials + (replica * l.images + image) * segments.count * 2 * width;
    const int64_t image_begin = image * segments.entries;
    const int64_t from = l.vertex_begin[image], to = l.vertex_begin[image + 1];
    each_chunk<W>(from, to, width, [&](uint32_t row, uint32_t offset) {
      const int64_t begin = l.row_begin[row], end = l.row_begin[row + 1];
      const int64_t first = (begin - image_begin) / kSegment;
      const int64_t last = begin < end ? (end - 1 - image_begin) / kSegment : first;
      if (begin < end && first == last) return;
      C sum = C::filled(T(0));
      if (begin < end) {
        const T* partial = partials + first * 2 * width + offset;
        sum = C::load(partial + width);
#pragma unroll 8
        for (int64_t s = first + 1; s <= last; ++s) {
          sum.add(C::load(partial + (s - first) * 2 * width));
        }
      }
      sum.store(row_at(f.rows + replica * vertices * width + offset, row, width));
    });
  });
}

}  // namespace
}  // namespace deeplab_native
