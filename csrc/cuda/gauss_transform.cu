#include "cuda/add_parts.cuh"
#include "cuda/gauss_plain.cuh"
#include "cuda/gauss_tensor.cuh"
#include "ops/gauss_transform.h"

namespace deeplab_native {
namespace {

// The op's scratch. Not all of it is for every call.
template <class T>
struct GaussMemory {
  T* boxes;
  T* partial;  // sums of the parts, for values or features
  GaussPacked packed;
};

int tensor_channels(int64_t channels) { return channels <= 8 ? 8 : 24; }

template <class T>
GaussMemory<T> gauss_memory(int64_t images, int64_t points, int d, int64_t channels, void* base,
                            size_t* bytes = nullptr) {
  const int64_t tiles = (points + kGaussTile - 1) / kGaussTile;
  const int parts = gauss_parts(tiles);
  Arena arena(base);
  GaussMemory<T> m{};
  m.boxes = arena.take<T>(images * 2 * d * tiles);
  if (parts > 1) {
    m.partial = arena.take<T>(parts * images * points * std::max<int64_t>(channels, d));
  }
  if (std::is_same_v<T, float> && d <= kGaussTensorDims) {
    const int64_t in_chunk = tensor_channels(channels);
    const int64_t width = (channels + in_chunk - 1) / in_chunk * in_chunk;
    m.packed.features = arena.take<float>(images * tiles * kGaussTile * packed_dims(d));
    m.packed.values = arena.take<uint32_t>(images * width * tiles * kGaussTile / 2);
    m.packed.wide = arena.take<int>(images * tiles);
  }
  if (bytes) *bytes = arena.used();
  return m;
}

template <class T>
GaussTiles<T> gauss_tiles(const GaussPoints<T>& points, T* boxes) {
  const int64_t tiles = (points.num_points + kGaussTile - 1) / kGaussTile;
  return {points.features, boxes,      points.num_points, static_cast<int>(tiles),
          points.d,        points.far, gauss_parts(tiles)};
}

template <class T>
cudaError_t find_boxes(const GaussTiles<T>& tiles, int64_t images, cudaStream_t stream) {
  const int64_t warps = images * tiles.tiles * tiles.d;
  return launch(gauss_boxes_kernel<T>, dim3(strided_blocks(warps * 32, kGaussThreads)),
                dim3(kGaussThreads), 0, stream, tiles, images);
}

// own: tiles of points i of a block.
template <class T>
dim3 gauss_grid(const GaussTiles<T>& tiles, int64_t images, int64_t chunks, int own = 1) {
  return dim3(
      static_cast<unsigned>(tiles.parts * ((tiles.tiles + own - 1) / own) * chunks * images));
}

template <class T, int kChannels>
cudaError_t run_plain(GaussSum<T> s, cudaStream_t stream) {
  s.chunks = (s.channels + kChannels - 1) / kChannels;
  return launch(gauss_plain_kernel<T, kChannels>, gauss_grid(s.tiles, s.images, s.chunks),
                dim3(kGaussThreads), 0, stream, s);
}

template <class T>
cudaError_t run_plain(const GaussSum<T>& s, cudaStream_t stream) {
  if constexpr (std::is_same_v<T, float>) {
    if (s.channels > 8) return run_plain<T, 24>(s, stream);
  }
  return run_plain<T, 8>(s, stream);
}

cudaError_t run_tensor(const GaussSum<float>& s, const GaussPacked& packed, cudaStream_t stream) {
  const int in_chunk = tensor_channels(s.channels);
  const int chunks = (s.channels + in_chunk - 1) / in_chunk;
  const int64_t tiles = s.images * s.tiles.tiles;
  const cudaError_t error =
      launch(gauss_pack_kernel, dim3(strided_blocks(tiles * kGaussThreads, kGaussThreads)),
             dim3(kGaussThreads), 0, stream, s.tiles, s.values, packed, s.images, s.channels,
             chunks, in_chunk);
  if (error != cudaSuccess) return error;
  const GaussTensorSum sum{s.tiles, packed, s.out, s.images, s.channels, chunks};
  const dim3 grid = gauss_grid(s.tiles, s.images, chunks, 2);
  return in_chunk == 8 ? launch_gauss_tensor<1>(sum, grid, stream)
                       : launch_gauss_tensor<3>(sum, grid, stream);
}

// sums(to) starts what writes the parts' sums there: `width` numbers of each point.
template <class T, class Sums>
cudaError_t with_parts(const GaussTiles<T>& tiles, int64_t images, int64_t width, T* partial,
                       T* out, cudaStream_t stream, const Sums& sums) {
  cudaError_t error = find_boxes(tiles, images, stream);
  if (error == cudaSuccess) error = sums(tiles.parts > 1 ? partial : out);
  if (error != cudaSuccess || tiles.parts == 1) return error;
  return add_parts(partial, out, images * tiles.points * width, tiles.parts, stream);
}

// Blocks are counted in 31 bits, tiles of a thousand at a time in 32.
bool countable(int64_t images, int64_t points, int d, int64_t channels) {
  const int64_t tiles = (points + kGaussTile - 1) / kGaussTile;
  const int64_t chunks = std::max<int64_t>(channels, d) / 4 + 1;
  constexpr int64_t kMost = int64_t{1} << 30;
  return tiles < kMost && channels < kMost && images < kMost &&
         tiles * gauss_parts(tiles) < kMost / chunks / images && d <= kMaxFeatureDim;
}

}  // namespace

template <class T>
size_t gauss_transform_scratch_bytes_cuda(int64_t images, int64_t num_points, int d,
                                          int64_t num_channels) {
  size_t bytes = 0;
  if (images * num_points != 0) {
    gauss_memory<T>(images, num_points, d, num_channels, nullptr, &bytes);
  }
  return bytes;
}

template <class T>
int gauss_transform_cuda(const GaussPoints<T>& points, const T* values, T* out,
                         int64_t num_channels, bool half, void* scratch, void* stream) {
  const int64_t images = points.images, n = points.num_points;
  if (images * n * num_channels == 0) return cudaSuccess;
  if (!countable(images, n, points.d, num_channels)) return cudaErrorInvalidValue;
  const auto on = static_cast<cudaStream_t>(stream);
  const auto memory = gauss_memory<T>(images, n, points.d, num_channels, scratch);
  const auto tiles = gauss_tiles(points, memory.boxes);
  return with_parts(tiles, images, num_channels, memory.partial, out, on, [&](T* to) {
    GaussSum<T> s{tiles, values, nullptr, to, images, static_cast<int>(num_channels), 1, nullptr};
    if constexpr (std::is_same_v<T, float>) {
      if (half && points.d <= kGaussTensorDims && has_gauss_tensor()) {
        const cudaError_t error = run_tensor(s, memory.packed, on);
        if (error != cudaSuccess) return error;
        s.only = memory.packed.wide;
      }
    }
    return run_plain(s, on);
  });
}

template <class T>
int gauss_transform_features_cuda(const GaussPoints<T>& points, const T* values, const T* grad,
                                  T* grad_features, int64_t num_channels, bool, void* scratch,
                                  void* stream) {
  const int64_t images = points.images, n = points.num_points;
  if (images * n == 0) return cudaSuccess;
  if (!countable(images, n, points.d, num_channels)) return cudaErrorInvalidValue;
  const auto on = static_cast<cudaStream_t>(stream);
  const auto memory = gauss_memory<T>(images, n, points.d, num_channels, scratch);
  const auto tiles = gauss_tiles(points, memory.boxes);
  return with_parts(tiles, images, points.d, memory.partial, grad_features, on, [&](T* to) {
    const int chunks = (points.d + kGaussGradDims<T> - 1) / kGaussGradDims<T>;
    const GaussSum<T> s{tiles,  values, grad, to, images, static_cast<int>(num_channels),
                        chunks, nullptr};
    return launch(gauss_features_kernel<T>, gauss_grid(tiles, images, chunks), dim3(kGaussThreads),
                  0, on, s);
  });
}

#define DEEPLAB_GAUSS(T)                                                                          \
  template size_t gauss_transform_scratch_bytes_cuda<T>(int64_t, int64_t, int, int64_t);          \
  template int gauss_transform_cuda<T>(const GaussPoints<T>&, const T*, T*, int64_t, bool, void*, \
                                       void*);                                                    \
  template int gauss_transform_features_cuda<T>(const GaussPoints<T>&, const T*, const T*, T*,    \
                                                int64_t, bool, void*, void*)
DEEPLAB_GAUSS(float);
DEEPLAB_GAUSS(double);
#undef DEEPLAB_GAUSS

}  // namespace deeplab_native
