// The splat of a filter: values at the points to sums on the vertices. What a thread works on, and
// what blockIdx is, permutohedral.cu says.
#pragma once
#include "cuda/hot_labels.cuh"
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

// The marginals exp(-U - log Z) of a chunk at a point, whose number counts all images of a lattice.
template <int W>
__device__ Chunk<float, W> cold_marginals(const HotStep& hot, int64_t b, int64_t image,
                                          uint32_t point, uint32_t offset) {
  const int64_t at = point + (b - image) * hot.num_points;
  const float log_sum = hot.log_sum_before[at];
  Chunk<float, W> c =
      Chunk<float, W>::load(hot.negative_unary + at * hot.chunks * kHotChunk + offset);
  for (int k = 0; k < W; ++k) c.v[k] = exp(c.v[k] - log_sum);
  return c;
}

// The sums of one image.
template <class T, int W, class Row>
struct SplatImage {
  const FilterView<T, Row>& filter;
  int64_t begin;     // its entries ...
  uint32_t entries;  // ... and how many
  Row* rows;
  T* partials;
  uint32_t channels;  // of a row
};

// Adds up one segment of chunks at `offset`; value(point) is what a point has, kMost of them are on
// their way at once.
template <int kMost, class T, int W, class Row, class Value>
__device__ void splat_segment(const SplatImage<T, W, Row>& image, uint32_t segment, uint32_t offset,
                              const Value& value_of) {
  using C = Chunk<T, W>;
  const LatticeView& l = image.filter.lattice;
  const uint32_t from = segment * static_cast<uint32_t>(kSegment);
  const int64_t begin = image.begin + from;
  const uint32_t count = min(static_cast<uint32_t>(kSegment), image.entries - from);
  const SplatEntry<T>* const own = image.filter.splat_entries + begin;
  T* const partial = image.partials + int64_t{segment} * 2 * image.channels + offset;
  uint32_t row_from = kNoRow;  // the entry with which the present row begins
  C sum = C::filled(T(0));
  const auto store = [&] {
    if constexpr (std::is_same_v<T, Row>) {  // one store for both
      sum.store(row_from == kNoRow ? partial
                                   : row_at(image.rows + offset, l.row_vertices[begin + row_from],
                                            image.channels));
    } else if (row_from == kNoRow) {
      sum.store(partial);
    } else {
      const uint32_t row = l.row_vertices[begin + row_from];
      image.filter.store_row(sum, row_at(image.rows + offset, row, image.channels));
    }
  };
  const auto add = [&](uint32_t i, const SplatEntry<T>& entry, const C& value) {
    if (entry.begins_row()) {
      store();
      sum = C::filled(T(0));
      row_from = i;
    }
    sum.add_scaled(entry.weight, value);
  };
  uint32_t i = 0;
  if constexpr (kMost > 1) {
    for (; i + kMost <= count; i += kMost) {
      SplatEntry<T> entry[kMost];
      C value[kMost];
      uint32_t points = 0;
#pragma unroll
      for (int k = 0; k < kMost; ++k) entry[k] = own[i + k];
#pragma unroll
      for (int k = 0; k < kMost; ++k) {
        value[k] = value_of(entry[k].point & ~kBeginsRow);
        points |= entry[k].point;
      }
      if ((points & kBeginsRow) == 0) {  // mostly
#pragma unroll
        for (int k = 0; k < kMost; ++k) sum.add_scaled(entry[k].weight, value[k]);
      } else {
#pragma unroll
        for (int k = 0; k < kMost; ++k) add(i + k, entry[k], value[k]);
      }
    }
  }
#pragma unroll 1
  for (; i < count; ++i) add(i, own[i], value_of(own[i].point & ~kBeginsRow));
  const bool last = begin + count == l.images * image.entries;
  const bool ends = last || own[count].begins_row();
  if (row_from == kNoRow || ends) {
    store();
  } else {
    sum.store(partial + image.channels);
  }
}

// Adds up segments of the entries, which are sorted by vertex: rows that lie in one segment are
// done; of the others the part at the segment's begin goes to partials[segment][0] and the part at
// its end to [1] (and 0 to [0], which nothing reads, where a row begins the segment). The skewed
// lengths of the rows (1 to some 10,000 entries) cost nothing.
// kOnes: instead of the values, which there are none of.
// kHot: the values are marginals of hot labels; those of chunks that were cold before are made of
// their energies.
template <class T, int W, bool kOnes, bool kHot, class Row = T>
__global__ void __launch_bounds__(kRowThreads, (kHot ? 3 : kFilterBlocks<T>))
    splat_kernel(FilterSet<T, Row> set, HotStep hot, const T* __restrict__ values, int64_t width) {
  const FilterView<T, Row>& f = set.filters[blockIdx.y];
  const LatticeView& l = f.lattice;
  const Segments segments(l);
  each_image(f, [&](int64_t replica, int64_t image, int64_t b) {
    const uint32_t channels = kHot ? hot.hot_chunks(b) * kHotChunk : static_cast<uint32_t>(width);
    const uint32_t given = kHot ? static_cast<uint32_t>(hot.count_before[b]) * kHotChunk : channels;
    if (kHot && blockIdx.x == 0 && blockIdx.y == 0 && threadIdx.x == 0) {
      hot.count[b] = static_cast<int32_t>(channels / kHotChunk);
    }
    // entries say image * num_points + point
    const T* const from_image = values + l.num_points * (b * width - image * given);
    const SplatImage<T, W, Row> own{f,
                                    image * segments.entries,
                                    static_cast<uint32_t>(segments.entries),
                                    image_rows(f, f.rows, replica, image, width, channels),
                                    f.partials + b * segments.count * 2 * width,
                                    channels};
    const uint32_t stored = min(given, channels);
    each_chunk<W>(0, segments.count, stored, [&](uint32_t segment, uint32_t offset) {
      const T* const from = from_image + offset;
      splat_segment<kAtOnce>(own, segment, offset, [=](uint32_t point) {
        return kOnes ? Chunk<T, W>::filled(T(1)) : Chunk<T, W>::load(row_at(from, point, given));
      });
    });
    if constexpr (kHot) {
      if (stored == channels) return;
      // seldom: labels that have grown, one entry at a time, which takes few registers
      each_chunk<W>(0, segments.count, channels - stored, [&](uint32_t segment, uint32_t offset) {
        splat_segment<1>(own, segment, stored + offset, [&](uint32_t point) {
          return cold_marginals<W>(hot, b, image, point, stored + offset);
        });
      });
    }
  });
}

constexpr uint32_t kAlone = 8;  // parts of a row that one thread adds up alone

// The sum of what 32 lanes have, in a fixed order; all of a warp come together.
template <class T, int W>
__device__ Chunk<T, W> warp_sum(Chunk<T, W> x) {
  for (int d = kWarp / 2; d > 0; d /= 2) {
    for (int k = 0; k < W; ++k) x.v[k] += __shfl_xor_sync(~0u, x.v[k], d);
  }
  return x;
}

// Rows of more than one segment: the sum of their parts, by the thread of the segment in which they
// begin, of which there is one at most in each. So a row with thousands of parts has hundreds of
// threads with nothing else to do, and long rows are far apart: a warp of 32 segments, for one
// chunk, adds up those of more than kAlone parts together. The order of a sum depends on the number
// of its parts alone. Rows of none: 0.
template <class T, int W, class Row = T>
__global__ void __launch_bounds__(kRowThreads,
                                  (at_least_blocks(sizeof(T) == 4 ? 5 : 3, kRowThreads)))
    join_kernel(FilterSet<T, Row> set, HotStep hot, int64_t width) {
  const FilterView<T, Row>& f = set.filters[blockIdx.y];
  const LatticeView& l = f.lattice;
  using C = Chunk<T, W>;
  const Segments segments(l);
  const uint32_t lane = threadIdx.x % kWarp;
  const auto count = static_cast<uint32_t>(segments.count);
  each_image(f, [&](int64_t replica, int64_t image, int64_t b) {
    const uint32_t channels = hot.stride(b, width), chunks = channels / W;
    const uint32_t image_begin = static_cast<uint32_t>(image * segments.entries);
    const T* const partials = f.partials + b * segments.count * 2 * width;
    Row* const rows = image_rows(f, f.rows, replica, image, width, channels);
    const uint32_t tasks = (count + kWarp - 1) / kWarp * chunks;
    const uint32_t warps = gridDim.x * (blockDim.x / kWarp);
    for (uint32_t task = blockIdx.x * (blockDim.x / kWarp) + threadIdx.x / kWarp; task < tasks;
         task += warps) {
      const uint32_t group = task / chunks, offset = (task - group * chunks) * W;
      const uint32_t segment = group * kWarp + lane;
      // the part of a segment's first row, and with `channels` more of its last
      const T* const own = partials + int64_t{segment} * 2 * channels + offset;
      uint32_t row = 0, more = 0;
      if (segment < count) {
        const uint32_t last =
            min((segment + 1) * uint32_t{kSegment}, static_cast<uint32_t>(segments.entries)) - 1;
        row = l.row_vertices[image_begin + last];
        const uint32_t begin = l.row_begin[row] - image_begin;
        const uint32_t end = l.row_begin[row + 1] - image_begin;
        if (begin / kSegment == segment) more = (end - 1) / kSegment - segment;
      }
      C sum = C::filled(T(0));
      if (more > 0) sum = C::load(own + channels);
      if (more <= kAlone) {
#pragma unroll
        for (uint32_t s = 1; s <= kAlone; ++s) {
          if (s <= more) sum.add(C::load(own + s * 2 * channels));
        }
      }
      for (uint32_t todo = __ballot_sync(~0u, more > kAlone); todo != 0; todo &= todo - 1) {
        const int starter = __ffs(static_cast<int>(todo)) - 1;
        const uint32_t parts = __shfl_sync(~0u, more, starter);
        const T* const first = own + (int64_t{starter} - lane + 1) * 2 * channels;
        C part = C::filled(T(0));
#pragma unroll 8
        for (uint32_t s = lane; s < parts; s += kWarp) {
          part.add(C::load(first + int64_t{s} * 2 * channels));
        }
        part = warp_sum(part);
        if (static_cast<int>(lane) == starter) sum.add(part);
      }
      if (more > 0) f.store_row(sum, row_at(rows + offset, row, channels));
    }
    const uint32_t to = l.vertex_begin[image + 1];
    const uint32_t step = gridDim.x * blockDim.x;
    for (uint32_t v = l.vertex_begin[image] + blockIdx.x * blockDim.x + threadIdx.x; v < to;
         v += step) {
      if (l.row_begin[v] != l.row_begin[v + 1]) continue;
      for (uint32_t c = 0; c < channels; c += W) {
        C::filled(T(0)).store(row_at(rows + c, v, channels));
      }
    }
  });
}

}  // namespace
}  // namespace deeplab_native
