// Filtering with the lattices of a batch. A thread works on one chunk of 1 or 4 channels: of a
// segment of the splat, of a vertex, of a point; the threads of one row are neighbours, so that its
// memory is read as a whole. blockIdx.y says which filter, z which image. No sum depends on the
// order in which threads run.
#include <cmath>
#include <type_traits>

#include "cuda/lattice.cuh"
#include "cuda/rows.cuh"

namespace deeplab_native {
namespace {

constexpr int64_t kSegment = 32;  // entries that one thread of the splat adds up
constexpr int kAtOnce = 4;        // of these on their way
constexpr uint32_t kNoRow = ~0u;

// Blocks of a multiprocessor at a time, at the least: with a bound of its own the compiler spills.
template <class T>
constexpr int kMinBlocks = sizeof(T) == 4 ? 4 : 2;

// The entries of each image are cut up for themselves, so that an image's sums are the same in any
// batch. Those of real points are as many for all, and come first in the order of the rows.
struct Segments {
  int64_t entries;  // of an image
  int64_t count;    // of an image
  __host__ __device__ explicit Segments(const LatticeView& l)
      : entries(l.num_points * l.corners), count((entries + kSegment - 1) / kSegment) {}
};

// f(replica, image) for the images of a filter that blockIdx.z has.
template <class T, class F>
__device__ void each_image(const FilterView<T>& filter, const F& f) {
  const int64_t images = filter.lattice.images;
  const uint32_t end = static_cast<uint32_t>(filter.replicas * images);
  for (uint32_t z = blockIdx.z; z < end; z += gridDim.z) {
    const uint32_t replica = filter.replicas == 1 ? 0 : z / static_cast<uint32_t>(images);
    f(int64_t{replica}, int64_t{z} - int64_t{replica} * images);
  }
}

// Adds up segments of the entries, which are sorted by vertex: rows that lie in one segment are
// done; of the others the part at the segment's begin goes to partials[segment][0] and the part at
// its end to [1] (and 0 to [0], which nothing reads, where a row begins the segment). The skewed
// lengths of the rows (1 to some 10,000 entries) cost nothing.
// kOnes: instead of the values, which there are none of.
template <class T, int W, bool kOnes>
__global__ void __launch_bounds__(kRowThreads, (kMinBlocks<T>))
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
__global__ void __launch_bounds__(kRowThreads, 5)
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

// [1/2, 1, 1/2] along the axis that comes as number `step`, from one buffer into the other. The
// vertices of all images are one row after another: blockIdx.z has a replica.
template <class T, int W>
__global__ void __launch_bounds__(kRowThreads)
    blur_kernel(FilterSet<T> set, int64_t width, int step, bool reversed) {
  const FilterView<T>& f = set.filters[blockIdx.y];
  const LatticeView& l = f.lattice;
  using C = Chunk<T, W>;
  if (step >= l.corners) return;
  const int axis = reversed ? l.d - step : step;
  const int64_t vertices = *l.num_vertices;
  const int2* all_neighbours = l.neighbours + axis * l.entries;
  for (int64_t replica = blockIdx.z; replica < f.replicas; replica += gridDim.z) {
    const int64_t base = replica * vertices * width;
    const T* source = (step % 2 == 0 ? f.rows : f.other_rows) + base;
    T* target = (step % 2 == 0 ? f.other_rows : f.rows) + base;
    each_chunk<W>(0, vertices, width, [&](uint32_t row, uint32_t offset) {
      const int2 neighbours = all_neighbours[row];
      const T* from = source + offset;
      C sum = C::filled(T(0));
      if (neighbours.x >= 0) sum.add(C::load(row_at(from, neighbours.x, width)));
      if (neighbours.y >= 0) sum.add(C::load(row_at(from, neighbours.y, width)));
      C result = C::load(row_at(from, row, width));
      result.add_scaled(T(0.5), sum);
      result.store(row_at(target + offset, row, width));
    });
  }
}

template <class T, int W>
__global__ void __launch_bounds__(kRowThreads, (kMinBlocks<T>))
    slice_kernel(FilterView<T> f, T* __restrict__ out, int64_t width) {
  const LatticeView& l = f.lattice;
  each_image(f, [&](int64_t replica, int64_t image) {
    T* image_out = out + (replica * l.images + image) * l.num_points * width;
    each_chunk<W>(0, l.num_points, width, [&](uint32_t point, uint32_t offset) {
      const FilteredImage<T> filtered(f, replica, image, width, offset);
      Chunk<T, W> sum[1];
      filtered.slice(point, 0, [](int) { return true; }, sum);
      sum[0].store(row_at(image_out + offset, point, width));
    });
  });
}

// Calls run(c) with c the width of a chunk as a constant.
template <class Run>
cudaError_t with_chunk(int chunk, const Run& run) {
  return chunk == 4 ? run(std::integral_constant<int, 4>{}) : run(std::integral_constant<int, 1>{});
}

}  // namespace

template <class T>
FilterView<T> filter_view(const CudaFilter& filter, int64_t width, size_t* bytes) {
  FilterView<T> f{};
  f.lattice = lattice_view(filter.shape, filter.lattice);
  f.replicas = filter.replicas;
  f.splat_entries = static_cast<const SplatEntry<T>*>(filter.splat_entries);
  f.slice_weights = static_cast<const T*>(filter.slice_weights);
  Arena arena(filter.memory);
  f.rows = arena.take<T>(f.replicas * f.lattice.entries * width);
  f.other_rows = arena.take<T>(f.replicas * f.lattice.entries * width);
  f.partials = arena.take<T>(f.replicas * f.lattice.images * Segments(f.lattice).count * 2 * width);
  if (bytes) *bytes = arena.used();
  return f;
}
template FilterView<float> filter_view(const CudaFilter&, int64_t, size_t*);
template FilterView<double> filter_view(const CudaFilter&, int64_t, size_t*);

template <class T>
cudaError_t splat_and_blur(const FilterSet<T>& set, const T* values, int64_t width, bool reversed,
                           cudaStream_t stream) {
  const int chunk = values ? chunk_width<T>(width, values, nullptr) : 1;
  const int64_t chunks = width / chunk;
  int64_t segments = 0, image_vertices = 0, vertices = 0, images = 0, replicas = 0;
  int axes = 0;
  for (int k = 0; k < set.count; ++k) {
    const FilterView<T>& f = set.filters[k];
    segments = std::max(segments, Segments(f.lattice).count);
    image_vertices = std::max(image_vertices, f.lattice.entries_per_image);
    vertices = std::max(vertices, f.lattice.entries);
    images = std::max(images, f.replicas * f.lattice.images);
    replicas = std::max(replicas, f.replicas);
    axes = std::max(axes, f.lattice.corners);
  }
  const unsigned count = static_cast<unsigned>(set.count);
  return with_chunk(chunk, [&](auto c) {
    constexpr int W = decltype(c)::value;
    const auto run = [&](const ChunkGrid& g, auto kernel, auto... arguments) {
      return launch(kernel, g.grid, g.block, 0, stream, set, arguments...);
    };
    auto splat = splat_kernel<T, W, false>;
    if constexpr (W == 1) splat = values ? splat : splat_kernel<T, 1, true>;
    cudaError_t error = run(chunk_grid(segments, chunks, count, images), splat, values, width);
    if (!error) {
      error = run(chunk_grid(image_vertices, chunks, count, images), join_kernel<T, W>, width);
    }
    const ChunkGrid blur = chunk_grid(vertices, chunks, count, replicas);
    for (int step = 0; step < axes && !error; ++step) {
      error = run(blur, blur_kernel<T, W>, width, step, reversed);
    }
    return error;
  });
}
template cudaError_t splat_and_blur(const FilterSet<float>&, const float*, int64_t, bool,
                                    cudaStream_t);
template cudaError_t splat_and_blur(const FilterSet<double>&, const double*, int64_t, bool,
                                    cudaStream_t);

template <class T>
size_t filter_bytes_cuda(const CudaFilter& filter, int64_t num_channels) {
  size_t bytes = 0;
  CudaFilter sized = filter;
  sized.memory = nullptr;
  filter_view<T>(sized, num_channels, &bytes);
  return bytes;
}
template size_t filter_bytes_cuda<float>(const CudaFilter&, int64_t);
template size_t filter_bytes_cuda<double>(const CudaFilter&, int64_t);

template <class T>
int permutohedral_filter_cuda(const CudaFilter& filter, const T* in, T* out, int64_t num_channels,
                              bool transposed, void* stream_address) {
  const auto stream = static_cast<cudaStream_t>(stream_address);
  FilterSet<T> set{1, {filter_view<T>(filter, num_channels)}};
  const FilterView<T>& f = set.filters[0];
  const int64_t points = f.replicas * f.lattice.images * f.lattice.num_points;
  if (points == 0) return cudaSuccess;
  if (const auto error = splat_and_blur(set, in, num_channels, transposed, stream)) return error;
  return with_chunk(chunk_width<T>(num_channels, out, nullptr), [&](auto c) {
    constexpr int W = decltype(c)::value;
    const int64_t images = f.replicas * f.lattice.images;
    const ChunkGrid g = chunk_grid(f.lattice.num_points, num_channels / W, 1, images);
    return launch(slice_kernel<T, W>, g.grid, g.block, 0, stream, f, out, num_channels);
  });
}
template int permutohedral_filter_cuda(const CudaFilter&, const float*, float*, int64_t, bool,
                                       void*);
template int permutohedral_filter_cuda(const CudaFilter&, const double*, double*, int64_t, bool,
                                       void*);

}  // namespace deeplab_native
