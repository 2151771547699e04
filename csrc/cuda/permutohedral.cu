// Filtering with the lattices of a batch. A thread works on one chunk of 1 or 4 channels: of a
// segment of the splat, of a vertex, of a point; the threads of one row are neighbours, so that its
// memory is read as a whole. blockIdx.y says which filter, z which image. No sum depends on the
// order in which threads run.
#include <cmath>
#include <type_traits>

#include "cuda/permutohedral_splat.cuh"

namespace deeplab_native {
namespace {

// [1/2, 1, 1/2] along one axis, of the rows of one buffer.
template <class T, int W, class Row>
struct Blur {
  using C = Chunk<T, W>;
  const Row* from;
  int64_t width;

  __device__ C load(int32_t row) const {
    return C::load(row_at(from, static_cast<uint32_t>(row), width));
  }
  // The row blurred along the axis whose neighbours these are.
  __device__ C row(int32_t row, int2 neighbours) const {
    C sum = C::filled(T(0));
    if (neighbours.x >= 0) sum.add(load(neighbours.x));
    if (neighbours.y >= 0) sum.add(load(neighbours.y));
    C result = load(row);
    result.add_scaled(T(0.5), sum);
    return result;
  }
};

// The axes that come as numbers 2 step and 2 step + 1, from one buffer into the other: a row that
// is needed blurred along the first axis is blurred again wherever it is needed, with the same
// bits. So all rows come and go once for two axes, in half the launches.
template <class T, int W, class Row = T>
__global__ void __launch_bounds__(kRowThreads, (kFilterBlocks<T>))
    blur_kernel(FilterSet<T, Row> set, HotStep hot, int64_t width, int step, bool reversed) {
  const FilterView<T, Row>& f = set.filters[blockIdx.y];
  const LatticeView& l = f.lattice;
  const int first = 2 * step, second = first + 1;
  if (first >= l.corners) return;
  const bool two = second < l.corners;
  const int2* along_first = l.neighbours + (reversed ? l.d - first : first) * l.room();
  const int2* along_second = l.neighbours + (reversed ? l.d - second : second) * l.room();
  each_image(f, [&](int64_t replica, int64_t image, int64_t b) {
    const uint32_t channels = hot.stride(b, width);
    Row* const rows = image_rows(f, f.rows, replica, image, width, channels);
    Row* const other_rows = image_rows(f, f.other_rows, replica, image, width, channels);
    const Row* const source = step % 2 == 0 ? rows : other_rows;
    Row* const target = step % 2 == 0 ? other_rows : rows;
    const int64_t from = l.vertex_begin[image], to = l.vertex_begin[image + 1];
    each_chunk<W>(from, to, channels, [&](uint32_t row, uint32_t offset) {
      const Blur<T, W, Row> blur{source + offset, channels};
      const int32_t own = static_cast<int32_t>(row);
      const int2 near = two ? along_second[row] : int2{-1, -1};
      const int2 none{-1, -1};
      const int2 before = near.x >= 0 ? along_first[near.x] : none;
      const int2 after = near.y >= 0 ? along_first[near.y] : none;
      Chunk<T, W> sum = Chunk<T, W>::filled(T(0));
      Chunk<T, W> result = blur.row(own, along_first[row]);
      if (near.x >= 0) sum.add(blur.row(near.x, before));
      if (near.y >= 0) sum.add(blur.row(near.y, after));
      result.add_scaled(T(0.5), sum);
      result.store(row_at(target + offset, row, channels));
    });
  });
}

template <class T, int W>
__global__ void __launch_bounds__(kRowThreads, (kFilterBlocks<T>))
    slice_kernel(FilterView<T> f, T* __restrict__ out, int64_t width) {
  const LatticeView& l = f.lattice;
  const auto channels = static_cast<uint32_t>(width);
  each_image(f, [&](int64_t replica, int64_t image, int64_t b) {
    T* image_out = out + b * l.num_points * width;
    each_chunk<W>(0, l.num_points, channels, [&](uint32_t point, uint32_t offset) {
      const FilteredImage<T> filtered(f, replica, image, width, channels, offset);
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

template <class T, class Row>
FilterView<T, Row> filter_view(const CudaFilter& filter, int64_t width, size_t* bytes) {
  FilterView<T, Row> f{};
  f.lattice = lattice_view(filter.shape, filter.lattice);
  f.replicas = filter.replicas;
  f.splat_entries = static_cast<const SplatEntry<T>*>(filter.splat_entries);
  f.slice_weights = static_cast<const T*>(filter.slice_weights);
  if (filter.half_scale > 0) {
    f.row_scale = T(filter.half_scale);
    f.sum_scale = 1 / f.row_scale;
  }
  Arena arena(filter.memory);
  f.rows = arena.take<Row>(f.replicas * f.lattice.room() * width);
  f.other_rows = arena.take<Row>(f.replicas * f.lattice.room() * width);
  f.partials = arena.take<T>(f.replicas * f.lattice.images * Segments(f.lattice).count * 2 * width);
  if (bytes) *bytes = arena.used();
  return f;
}
template FilterView<float> filter_view(const CudaFilter&, int64_t, size_t*);
template FilterView<double> filter_view(const CudaFilter&, int64_t, size_t*);
template FilterView<float, Float16> filter_view(const CudaFilter&, int64_t, size_t*);

template <class T, class Row>
cudaError_t splat_and_blur(const FilterSet<T, Row>& set, const T* values, int64_t width,
                           bool reversed, const HotStep* hot, cudaStream_t stream) {
  const int chunk = values ? chunk_width<T>(width, values, nullptr) : 1;
  const int64_t chunks = width / chunk;
  int64_t segments = 0, image_vertices = 0, images = 0;
  int axes = 0;
  for (int k = 0; k < set.count; ++k) {
    const FilterView<T, Row>& f = set.filters[k];
    segments = std::max(segments, Segments(f.lattice).count);
    image_vertices = std::max(image_vertices, f.lattice.image_room());
    images = std::max(images, f.replicas * f.lattice.images);
    axes = std::max(axes, f.lattice.corners);
  }
  const HotStep step_of = hot ? *hot : HotStep{};
  const unsigned count = static_cast<unsigned>(set.count);
  const auto with_width = [&](auto c) {
    constexpr int W = decltype(c)::value;
    const auto run = [&](dim3 grid, auto kernel, auto... arguments) {
      return launch(kernel, grid, dim3(kRowThreads), 0, stream, set, step_of, arguments...);
    };
    auto splat = splat_kernel<T, W, false, false, Row>;
    if constexpr (W == 1) splat = values ? splat : splat_kernel<T, 1, true, false>;
    if constexpr (W == kHotChunk && std::is_same_v<T, float>) {
      splat = hot ? splat_kernel<T, W, false, true, Row> : splat;
    }
    cudaError_t error = run(chunk_grid(segments, chunks, count, images), splat, values, width);
    if (!error) {
      // its threads count vertices, too, but one for all chunks
      const int64_t joined = std::max((segments + kWarp) * chunks, image_vertices);
      error = run(chunk_grid(joined, 1, count, images), join_kernel<T, W, Row>, width);
    }
    const dim3 blur = chunk_grid(image_vertices, chunks, count, images);
    for (int step = 0; 2 * step < axes && !error; ++step) {
      error = run(blur, blur_kernel<T, W, Row>, width, step, reversed);
    }
    return error;
  };
  if constexpr (std::is_same_v<T, Row>) {
    return with_chunk(chunk, with_width);
  } else {
    return chunk == 4 ? with_width(std::integral_constant<int, 4>{}) : cudaErrorInvalidValue;
  }
}
template cudaError_t splat_and_blur(const FilterSet<float>&, const float*, int64_t, bool,
                                    const HotStep*, cudaStream_t);
template cudaError_t splat_and_blur(const FilterSet<double>&, const double*, int64_t, bool,
                                    const HotStep*, cudaStream_t);
template cudaError_t splat_and_blur(const FilterSet<float, Float16>&, const float*, int64_t, bool,
                                    const HotStep*, cudaStream_t);

template <class T>
size_t filter_bytes_cuda(const CudaFilter& filter, int64_t num_channels) {
  size_t bytes = 0;
  CudaFilter sized = filter;
  sized.memory = nullptr;
  if (has_half_rows<T>(filter, num_channels)) {
    filter_view<float, Float16>(sized, num_channels, &bytes);
  } else {
    filter_view<T>(sized, num_channels, &bytes);
  }
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
  if (const auto error = splat_and_blur(set, in, num_channels, transposed, nullptr, stream)) {
    return error;
  }
  return with_chunk(chunk_width<T>(num_channels, out, nullptr), [&](auto c) {
    constexpr int W = decltype(c)::value;
    const int64_t images = f.replicas * f.lattice.images;
    const dim3 grid = chunk_grid(f.lattice.num_points, num_channels / W, 1, images);
    return launch(slice_kernel<T, W>, grid, dim3(kRowThreads), 0, stream, f, out, num_channels);
  });
}
template int permutohedral_filter_cuda(const CudaFilter&, const float*, float*, int64_t, bool,
                                       void*);
template int permutohedral_filter_cuda(const CudaFilter&, const double*, double*, int64_t, bool,
                                       void*);

}  // namespace deeplab_native
