// Filtering with the lattices of a batch. A thread works on one chunk of 1 or 4 channels: of a
// segment of the splat, of a vertex, of a point; the threads of one row are neighbours, so that its
// memory is read as a whole. No sum depends on the order in which threads run.
#include <cmath>
#include <type_traits>

#include "cuda/lattice.cuh"

namespace deeplab_native {
namespace {

constexpr unsigned kThreads = 256;
constexpr int kSegment = 32;  // entries that one thread of the splat adds up

// The entries of each image are cut up for themselves, so that an image's sums are the same in any
// batch. Those of real points are as many for all, and come first in the order of the rows.
struct Segments {
  int64_t entries;  // of an image
  int64_t count;    // of an image
  __host__ __device__ explicit Segments(const LatticeView& l)
      : entries(l.num_points * l.corners), count((entries + kSegment - 1) / kSegment) {}
  __device__ int64_t of_entry(int64_t i) const {
    const int64_t image = i / entries;
    return image * count + (i - image * entries) / kSegment;
  }
};

// Threads of a set of filters: blockIdx.y says which. Of `items` rows of a filter's replicas, with
// `chunks` threads each.
struct Item {
  int64_t replica, row;
  int64_t offset;  // of the chunk in its row
};
template <int W>
__device__ Item item_of(int64_t t, int64_t rows, int64_t chunks) {
  const int64_t r = t / chunks;
  return {r / rows, r % rows, (t - r * chunks) * W};
}

// Adds up segments of the entries, which are sorted by vertex: rows that lie in one segment are
// done; of the others the part at the segment's begin goes to partials[segment][0] and the part at
// its end to [1]. So the skewed lengths of the rows (1 to some 10,000 entries) cost nothing.
template <class T, int W>
__global__ void __launch_bounds__(kThreads)
    splat_kernel(FilterSet<T> set, const T* __restrict__ values, int64_t width) {
  const FilterView<T>& f = set.filters[blockIdx.y];
  const LatticeView& l = f.lattice;
  using C = Chunk<T, W>;
  const Segments segments(l);
  const int64_t vertices = *l.num_vertices, chunks = width / W;
  const int64_t count = l.images * segments.count, entries = l.images * segments.entries;
  for (int64_t t = strided_begin(); t < f.replicas * count * chunks; t += strided_step()) {
    const Item item = item_of<W>(t, count, chunks);
    const int64_t image = item.row / segments.count;
    const int64_t begin = image * segments.entries + (item.row - image * segments.count) * kSegment;
    const int64_t end = min(begin + kSegment, (image + 1) * segments.entries);
    const T* from = values + item.replica * l.images * l.num_points * width + item.offset;
    T* rows = f.rows + item.replica * vertices * width + item.offset;
    T* partial = f.partials + (item.replica * count + item.row) * 2 * width + item.offset;
    uint32_t vertex = l.row_vertices[begin];
    bool whole = begin == 0 || l.row_vertices[begin - 1] != vertex;
    C sum = C::filled(T(0));
    for (int64_t i = begin; i < end; ++i) {
      const uint32_t here = l.row_vertices[i];
      if (here != vertex) {
        sum.store(whole ? rows + vertex * width : partial);
        sum = C::filled(T(0));
        vertex = here;
        whole = true;
      }
      const T w = f.splat_weights[i];
      sum.add_scaled(w, values ? C::load(from + l.row_points[i] * width) : C::filled(T(1)));
    }
    const bool goes_on = end < entries && l.row_vertices[end] == vertex;
    sum.store(!whole ? partial : goes_on ? partial + width : rows + vertex * width);
  }
}

// Rows of more than one segment: the sum of their parts, in order. Rows of none: 0.
template <class T, int W>
__global__ void __launch_bounds__(kThreads) join_kernel(FilterSet<T> set, int64_t width) {
  const FilterView<T>& f = set.filters[blockIdx.y];
  const LatticeView& l = f.lattice;
  using C = Chunk<T, W>;
  const Segments segments(l);
  const int64_t vertices = *l.num_vertices, chunks = width / W;
  for (int64_t t = strided_begin(); t < f.replicas * vertices * chunks; t += strided_step()) {
    const Item item = item_of<W>(t, vertices, chunks);
    const int64_t begin = l.row_begin[item.row], end = l.row_begin[item.row + 1];
    const int64_t first = segments.of_entry(begin);
    const int64_t last = begin < end ? segments.of_entry(end - 1) : first;
    if (begin < end && first == last) continue;
    C sum = C::filled(T(0));
    if (begin < end) {
      const int64_t from = item.replica * l.images * segments.count + first;
      const T* partial = f.partials + from * 2 * width + item.offset;
      sum = C::load(partial + width);
#pragma unroll 8
      for (int64_t s = first + 1; s <= last; ++s) {
        sum.add(C::load(partial + (s - first) * 2 * width));
      }
    }
    sum.store(f.rows + (item.replica * vertices + item.row) * width + item.offset);
  }
}

// [1/2, 1, 1/2] along the axis that comes as number `step`, from one buffer into the other.
template <class T, int W>
__global__ void __launch_bounds__(kThreads)
    blur_kernel(FilterSet<T> set, int64_t width, int step, bool reversed) {
  const FilterView<T>& f = set.filters[blockIdx.y];
  const LatticeView& l = f.lattice;
  using C = Chunk<T, W>;
  if (step >= l.corners) return;
  const int axis = reversed ? l.d - step : step;
  const int64_t vertices = *l.num_vertices, chunks = width / W;
  const T* source = step % 2 == 0 ? f.rows : f.other_rows;
  T* target = step % 2 == 0 ? f.other_rows : f.rows;
  for (int64_t t = strided_begin(); t < f.replicas * vertices * chunks; t += strided_step()) {
    const Item item = item_of<W>(t, vertices, chunks);
    const int2 neighbours = l.neighbours[axis * l.entries + item.row];
    const int64_t base = item.replica * vertices * width + item.offset;
    C sum = C::filled(T(0));
    if (neighbours.x >= 0) sum.add(C::load(source + base + neighbours.x * width));
    if (neighbours.y >= 0) sum.add(C::load(source + base + neighbours.y * width));
    C result = C::load(source + base + item.row * width);
    result.add_scaled(T(0.5), sum);
    result.store(target + base + item.row * width);
  }
}

template <class T, int W>
__global__ void __launch_bounds__(kThreads)
    slice_kernel(FilterView<T> f, T* __restrict__ out, int64_t width) {
  const LatticeView& l = f.lattice;
  using C = Chunk<T, W>;
  const int64_t vertices = *l.num_vertices, chunks = width / W;
  const int64_t points = l.images * l.num_points;
  const T* rows = blurred_rows(f);
  for (int64_t t = strided_begin(); t < f.replicas * points * chunks; t += strided_step()) {
    const Item item = item_of<W>(t, points, chunks);
    const int64_t image = item.row / l.num_points, point = item.row - image * l.num_points;
    const T* from = rows + item.replica * vertices * width + item.offset;
    C sum = C::filled(l.bad[image] ? T(NAN) : T(0));
    for (int r = 0; r < l.corners; ++r) {
      const int64_t entry = l.entry(image, point, r);
      sum.add_scaled(f.slice_weights[entry], C::load(from + l.vertices[entry] * width));
    }
    sum.store(out + (item.replica * points + item.row) * width + item.offset);
  }
}

// Both weights of every entry, each in the order in which it is read.
template <class T>
__global__ void __launch_bounds__(kThreads)
    fold_weights_kernel(LatticeView l, const float* __restrict__ scale_in,
                        const float* __restrict__ scale_out, T alpha, T* __restrict__ splat_weights,
                        T* __restrict__ slice_weights) {
  const int64_t real = l.row_begin[*l.num_vertices];
  for (int64_t e = strided_begin(); e < l.entries; e += strided_step()) {
    const int64_t block = e / (l.corners * kWarp), image = block / l.blocks;
    int64_t point = (block - image * l.blocks) * kWarp + e % kWarp;
    point = point < l.num_points ? point : l.num_points - 1;
    const T out = scale_out ? T(scale_out[image * l.num_points + point]) : T(1);
    slice_weights[e] = alpha * T(l.weights[e]) * out;
    if (e < real) {
      splat_weights[e] = T(l.row_weights[e]) * (scale_in ? T(scale_in[l.row_points[e]]) : T(1));
    }
  }
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
  f.splat_weights = static_cast<const T*>(filter.splat_weights);
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
  const int chunk = chunk_width<T>(width, values, nullptr);
  const int64_t chunks = width / chunk;
  int64_t segments = 0, vertices = 0;
  int axes = 0;
  for (int k = 0; k < set.count; ++k) {
    const FilterView<T>& f = set.filters[k];
    const int64_t count = f.lattice.images * Segments(f.lattice).count;
    segments = std::max(segments, f.replicas * count * chunks);
    vertices = std::max(vertices, f.replicas * f.lattice.entries * chunks);
    axes = std::max(axes, f.lattice.corners);
  }
  const unsigned count = static_cast<unsigned>(set.count);
  return with_chunk(chunk, [&](auto c) {
    constexpr int W = decltype(c)::value;
    const dim3 by_vertex(strided_blocks(vertices, kThreads), count);
    cudaError_t error = launch(splat_kernel<T, W>, dim3(strided_blocks(segments, kThreads), count),
                               kThreads, 0, stream, set, values, width);
    if (!error) error = launch(join_kernel<T, W>, by_vertex, kThreads, 0, stream, set, width);
    for (int step = 0; step < axes && !error; ++step) {
      error = launch(blur_kernel<T, W>, by_vertex, kThreads, 0, stream, set, width, step, reversed);
    }
    return error;
  });
}
template cudaError_t splat_and_blur(const FilterSet<float>&, const float*, int64_t, bool,
                                    cudaStream_t);
template cudaError_t splat_and_blur(const FilterSet<double>&, const double*, int64_t, bool,
                                    cudaStream_t);

template <class T>
int fold_weights_cuda(const CudaLatticeShape& shape, const void* lattice, const float* scale_in,
                      const float* scale_out, T* splat_weights, T* slice_weights, void* stream) {
  const LatticeView l = lattice_view(shape, const_cast<void*>(lattice));
  if (l.entries == 0) return cudaSuccess;
  const float alpha = 1.0f / (1.0f + std::pow(2.0f, -static_cast<float>(l.d)));
  return launch(fold_weights_kernel<T>, strided_blocks(l.entries, kThreads), kThreads, 0,
                static_cast<cudaStream_t>(stream), l, scale_in, scale_out, alpha, splat_weights,
                slice_weights);
}
template int fold_weights_cuda(const CudaLatticeShape&, const void*, const float*, const float*,
                               float*, float*, void*);
template int fold_weights_cuda(const CudaLatticeShape&, const void*, const float*, const float*,
                               double*, double*, void*);

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
    return launch(slice_kernel<T, W>, strided_blocks(points * (num_channels / W), kThreads),
                  kThreads, 0, stream, f, out, num_channels);
  });
}
template int permutohedral_filter_cuda(const CudaFilter&, const float*, float*, int64_t, bool,
                                       void*);
template int permutohedral_filter_cuda(const CudaFilter&, const double*, double*, int64_t, bool,
                                       void*);

}  // namespace deeplab_native
