// The exact Gaussian sum without tensor cores, in float32 or float64, and the gradient of its
// features. A block of 128 threads takes a pair of tiles of 64 x 64 points: a thread has 4 x 8 of
// their kernel values in registers, so that what it reads of shared memory serves several.
#pragma once
#include "cuda/gauss_tiles.cuh"

namespace deeplab_native {
namespace {

constexpr int kGaussRows = 4;   // successive points i of a thread: those of threadIdx.x / 8
constexpr int kGaussCols = 8;   // points j: threadIdx.x % 8 + 8 q
constexpr int kGaussDims = 16;  // of the points, or channels, that are in shared memory at once
// 4 more than points: neighbours along the dimensions lie on different banks, too
constexpr int kGaussPitch = kGaussTile + 4;
template <class T>
constexpr int kGaussGradDims = sizeof(T) == 4 ? 8 : 4;  // of the gradient, that a block sums up

template <class T>
struct GaussSum {
  GaussTiles<T> tiles;
  const T *values, *grad;  // [images][points][channels]; grad for the features' gradient alone
  T* out;                  // [parts][images][points][channels, or d]
  int64_t images;
  int channels, chunks;  // of what a block sums up
  const int* only;       // null, or [images][tiles] nonzero: tiles i that are worked on
};

template <class T>
__device__ T gauss_kernel_of(T square) {
  if constexpr (std::is_same_v<T, float>) {
    return fast_exp2(square * -0.72134752f);  // log2(e) / 2
  } else {
    return exp(square * T(-0.5));
  }
}

template <class T>
struct alignas(16) GaussWord {
  static constexpr int kItems = 16 / sizeof(T);
  T v[kItems];
};

// What both tiles of a pair have in shared memory along some dimensions: features or channels.
template <class T>
struct GaussPair {
  alignas(16) T own[kGaussDims][kGaussPitch];
  T other[kGaussDims][kGaussPitch];

  // of(k, point, there) for `dims` of each point of a tile; in place of those beyond the last, of
  // which it is not there, the last. kRows: neighbouring threads go along the dimensions, which is
  // how many channels lie; otherwise along the points.
  template <bool kRows, class Of>
  __device__ static void load(T (&to)[kGaussDims][kGaussPitch], int dims, int tile, int64_t points,
                              const Of& of) {
    const int items = (kRows ? kGaussDims : dims) * kGaussTile;
    for (int i = threadIdx.x; i < items; i += kGaussThreads) {
      const int k = kRows ? i % kGaussDims : i / kGaussTile;
      const int item = kRows ? i / kGaussDims : i % kGaussTile;
      const int64_t point = int64_t{tile} * kGaussTile + item;
      if (k < dims) to[k][item] = of(k, min(point, points - 1), point < points);
    }
  }

  // f(r, q, value of the thread's point i, of its point j) along dimension k.
  template <class F>
  __device__ void at(int k, const F& f) const {
    constexpr int kItems = GaussWord<T>::kItems;
    const int first = threadIdx.x / 8 * kGaussRows, col = threadIdx.x % 8;
    T rows[kGaussRows];
#pragma unroll
    for (int r = 0; r < kGaussRows; r += kItems) {
      const auto word = *reinterpret_cast<const GaussWord<T>*>(&own[k][first + r]);
#pragma unroll
      for (int e = 0; e < kItems; ++e) rows[r + e] = word.v[e];
    }
#pragma unroll
    for (int q = 0; q < kGaussCols; ++q) {
      const T value = other[k][col + 8 * q];
#pragma unroll
      for (int r = 0; r < kGaussRows; ++r) f(r, q, rows[r], value);
    }
  }
};

template <class T>
using GaussBlock = T[kGaussRows][kGaussCols];

template <class T>
__device__ void clear(GaussBlock<T>& block) {
#pragma unroll
  for (auto& row : block) {
#pragma unroll
    for (T& value : row) value = 0;
  }
}

// k_ij of the thread's points: the squares are those of differences.
template <class T>
__device__ void pair_kernels(const GaussSum<T>& s, const GaussTask& task, int other,
                             GaussPair<T>& pair, GaussBlock<T>& k) {
  clear<T>(k);
  const T* const features = s.tiles.features_of(task.image);
  for (int from = 0; from < s.tiles.d; from += kGaussDims) {
    const int dims = min(kGaussDims, s.tiles.d - from);
    const auto of = [&](int dim, int64_t point, bool) {
      return features[point * s.tiles.d + from + dim];
    };
    __syncthreads();  // what is there is no longer read
    pair.template load<false>(pair.own, dims, task.tile, s.tiles.points, of);
    pair.template load<false>(pair.other, dims, other, s.tiles.points, of);
    __syncthreads();
    for (int dim = 0; dim < dims; ++dim) {
      pair.at(dim, [&](int r, int q, T own, T value) {
        const T difference = own - value;
        k[r][q] += difference * difference;
      });
    }
  }
#pragma unroll
  for (auto& row : k) {
#pragma unroll
    for (T& value : row) value = gauss_kernel_of(value);
  }
}

// Adds up what the 8 threads of the same points i have, and stores it: `width` numbers of each
// point, of which the block has those from `from` on.
template <class T, int kCount>
__device__ void store_sums(const GaussSum<T>& s, const GaussTask& task,
                           T (&sums)[kGaussRows][kCount], int from, int width) {
  T* const out = s.out + (task.part * s.images + task.image) * s.tiles.points * width;
#pragma unroll
  for (int r = 0; r < kGaussRows; ++r) {
    const int64_t point = int64_t{task.tile} * kGaussTile + threadIdx.x / 8 * kGaussRows + r;
#pragma unroll
    for (int c = 0; c < kCount; ++c) {
      T sum = sums[r][c];
#pragma unroll
      for (int step = 1; step < 8; step *= 2) sum += __shfl_xor_sync(~0u, sum, step);
      if (c % 8 == static_cast<int>(threadIdx.x % 8) && from + c < width &&
          point < s.tiles.points) {
        out[point * width + from + c] = sum;
      }
    }
  }
}

// sums[r][c] += k[r][q] times the thread's point j, for channels from kFrom on: 8 at a time, since
// compilers unroll no more.
template <int kFrom, class T, int kChannels, int kPitch>
__device__ void add_values(T (&sums)[kGaussRows][kChannels], const GaussBlock<T>& k,
                           const T (&rows)[kGaussTile][kPitch]) {
  if constexpr (kFrom < kChannels) {
    constexpr int kItems = GaussWord<T>::kItems;
#pragma unroll
    for (int q = 0; q < kGaussCols; ++q) {
      const T* const row = rows[threadIdx.x % 8 + 8 * q];
#pragma unroll
      for (int c = kFrom; c < kFrom + 8; c += kItems) {
        const auto word = *reinterpret_cast<const GaussWord<T>*>(row + c);
#pragma unroll
        for (int e = 0; e < kItems; ++e) {
#pragma unroll
          for (int r = 0; r < kGaussRows; ++r) sums[r][c + e] += k[r][q] * word.v[e];
        }
      }
    }
    add_values<kFrom + 8>(sums, k, rows);
  }
}

// out[i][c] = sum over j of k_ij v[j][c], for kChannels of them.
template <class T, int kChannels>
__global__ void __launch_bounds__(kGaussThreads, (sizeof(T) * kChannels == 32 ? 3 : 2))
    gauss_plain_kernel(const __grid_constant__ GaussSum<T> s) {
  constexpr int kItems = GaussWord<T>::kItems;
  constexpr int kPitch = kChannels + kItems;  // 8 successive rows lie on different banks
  __shared__ typename NearTiles<T>::Shared near;
  __shared__ GaussPair<T> pair;
  alignas(16) __shared__ T rows[kGaussTile][kPitch];
  const GaussTask task(s.tiles.parts, s.tiles.tiles, s.chunks);
  if (s.only != nullptr && s.only[task.image * s.tiles.tiles + task.tile] == 0) return;
  const T* const values = s.values + task.image * s.tiles.points * s.channels;
  T sums[kGaussRows][kChannels] = {};
  NearTiles<T> tiles(s.tiles, task, task.tile, near);
  for (int other; (other = tiles.next()) >= 0;) {
    GaussBlock<T> k;
    pair_kernels(s, task, other, pair, k);
    for (int i = threadIdx.x; i < kGaussTile * kChannels; i += kGaussThreads) {
      const int item = i / kChannels, c = i % kChannels, channel = task.chunk * kChannels + c;
      const int64_t point = int64_t{other} * kGaussTile + item;
      const bool there = point < s.tiles.points && channel < s.channels;
      rows[item][c] = there ? values[point * s.channels + channel] : T(0);
    }
    __syncthreads();
    add_values<0>(sums, k, rows);
  }
  store_sums(s, task, sums, task.chunk * kChannels, s.channels);
}

// grad_features[i] = sum over j of k_ij (f_j - f_i) (g_i . v_j + v_i . g_j), for kGaussGradDims of
// the dimensions.
template <class T>
__global__ void __launch_bounds__(kGaussThreads, (sizeof(T) == 4 ? 2 : 1))
    gauss_features_kernel(const __grid_constant__ GaussSum<T> s) {
  __shared__ typename NearTiles<T>::Shared near;
  __shared__ GaussPair<T> pair;
  const GaussTask task(s.tiles.parts, s.tiles.tiles, s.chunks);
  const int64_t points = s.tiles.points, from_image = task.image * points;
  const T* const features = s.tiles.features_of(task.image);
  const int first = task.chunk * kGaussGradDims<T>, d = s.tiles.d;
  const int dims = min(kGaussGradDims<T>, d - first);
  T sums[kGaussRows][kGaussGradDims<T>] = {};
  NearTiles<T> tiles(s.tiles, task, task.tile, near);
  for (int other; (other = tiles.next()) >= 0;) {
    GaussBlock<T> k, weights;
    pair_kernels(s, task, other, pair, k);
    clear<T>(weights);
    for (int from = 0; from < s.channels; from += kGaussDims / 2) {
      const int count = min(kGaussDims / 2, s.channels - from);
      // g_i beside v_j, then v_i beside g_j
      const auto of = [&](bool swapped) {
        return [&, swapped](int at, int64_t point, bool there) {
          const bool upper = at >= count;
          const T* const source = upper == swapped ? s.grad : s.values;
          const int channel = from + (upper ? at - count : at);
          return there ? source[(from_image + point) * s.channels + channel] : T(0);
        };
      };
      __syncthreads();
      pair.template load<true>(pair.own, 2 * count, task.tile, points, of(false));
      pair.template load<true>(pair.other, 2 * count, other, points, of(true));
      __syncthreads();
      for (int at = 0; at < 2 * count; ++at) {
        pair.at(at, [&](int r, int q, T own, T value) { weights[r][q] += own * value; });
      }
    }
    const auto of = [&](int dim, int64_t point, bool) {
      return features[point * d + first + min(dim, dims - 1)];
    };
    __syncthreads();
    pair.template load<false>(pair.own, kGaussGradDims<T>, task.tile, points, of);
    pair.template load<false>(pair.other, kGaussGradDims<T>, other, points, of);
    __syncthreads();
#pragma unroll
    for (int r = 0; r < kGaussRows; ++r) {
#pragma unroll
      for (int q = 0; q < kGaussCols; ++q) weights[r][q] *= k[r][q];
    }
#pragma unroll
    for (int dim = 0; dim < kGaussGradDims<T>; ++dim) {
      pair.at(dim,
              [&](int r, int q, T own, T value) { sums[r][dim] += weights[r][q] * (value - own); });
    }
  }
  store_sums(s, task, sums, first, d);
}

}  // namespace
}  // namespace deeplab_native
