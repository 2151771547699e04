// The exact Gaussian sum in float16 on tensor cores, in the manner of flash attention (Dao 2023):
// exponents are a product of embedded points (gauss_embed.cuh), exp happens in the registers in
// which they come, and these are, packed, the left side of the product with the values.
//
// A block has 128 points i, 32 to a warp, and walks over the tiles j that are near. While a tile is
// multiplied the next is embedded, and the one after it is on its way to shared memory; one barrier
// a tile. That are 64 exp a thread: at 16 a cycle of a multiprocessor these are the bound, not the
// products.
#pragma once
#include "cuda/gauss_embed.cuh"
#include "cuda/tensor_core.cuh"

namespace deeplab_native {
namespace {

struct GaussTensorSum {
  GaussTiles<float> tiles;
  GaussPacked packed;
  float* out;  // [parts][images][points][channels]
  int64_t images;
  int channels, chunks;
};

// Where a block has what in shared memory. kN times 8 channels.
template <int kN>
struct GaussStages {
  static constexpr int kStages = 3, kChannels = 8 * kN;
  static constexpr int kValuePitch = kGaussTile * 2 + 16;  // bytes; 8 rows lie on different banks
  static constexpr int kValueBytes = kChannels * kValuePitch;
  static constexpr int kRowBytes = kGaussTile * kRowPitch * 4;

  // What follows the rows are the stages, of values and features.
  static constexpr int kRowsOfBoth = 2 * kRowBytes;

  static int stage_bytes(int d) { return kValueBytes + kGaussTile * 4 * packed_dims(d); }
  static size_t bytes(int d) { return kRowsOfBoth + kStages * stage_bytes(d); }
};

// Starts the copies of a tile to a stage, if there is one: of the image's and chunk's packed values
// and features, of which a tile has `vectors` times 16 bytes.
template <int kN>
__device__ void start_stage(unsigned char* stage, const uint4* values, const uint4* features,
                            int vectors, int tile) {
  using Stages = GaussStages<kN>;
  if (tile >= 0) {
    constexpr int kVectors = kGaussTile * 2 / 16;  // of the float16 of a channel
    constexpr int kOfTile = Stages::kChannels * kVectors, kMost = kGaussTensorDims * kGaussTile / 4;
    values += int64_t{tile} * kOfTile;
    features += int64_t{tile} * vectors;
    const int thread = threadIdx.x;
#pragma unroll
    for (int from = 0; from < kOfTile; from += kGaussThreads) {
      const int i = from + thread;
      if (i < kOfTile) {
        copy_async(stage + i / kVectors * Stages::kValuePitch + i % kVectors * 16, values + i,
                   true);
      }
    }
#pragma unroll
    for (int from = 0; from < kMost; from += kGaussThreads) {
      const int i = from + thread;
      if (i < vectors) copy_async(stage + Stages::kValueBytes + i * 16, features + i, true);
    }
  }
  commit_copies();
}

// The points i of a warp, and what they sum up.
template <int kN>
class GaussWarp {
 public:
  // rows, norms: of the block's 128 points i.
  __device__ GaussWarp(const uint32_t* rows, const float* norms) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      const int row = first_row() + 16 * m;
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        load_matrices(points_[m][k],
                      rows + (row + lane % 16) * kRowPitch + (2 * k + lane / 16) * 4);
      }
#pragma unroll
      for (int upper = 0; upper < 2; ++upper) norms_[m][upper] = norms[row + 8 * upper + lane / 4];
    }
  }

  // The rows and values of a tile j.
  __device__ void add(const uint32_t* rows, const unsigned char* values) {
    const int lane = threadIdx.x % 32;
    rows += lane % 8 * kRowPitch + lane / 8 * 4;
    values += lane % 8 * GaussStages<kN>::kValuePitch + lane / 8 * 16;
#pragma unroll 1  // a loop of 32 exp is long enough, and takes fewer registers
    for (int half = 0; half < 2; ++half) {
      uint32_t right[kN][4];  // 8 channels, of 4 times 8 points j
#pragma unroll
      for (int n = 0; n < kN; ++n) {
        load_matrices(right[n], values + 8 * n * GaussStages<kN>::kValuePitch + 64 * half);
      }
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        uint32_t points[2][4];  // 8 points j each
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          load_matrices(points[i], rows + (32 * half + 16 * j + 8 * i) * kRowPitch);
        }
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          uint32_t left[4];
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            float x[4] = {norms_[m][0], norms_[m][0], norms_[m][1], norms_[m][1]};
            add_product<Float16>(x, points_[m][0], points[i][0], points[i][1]);
            add_product<Float16>(x, points_[m][1], points[i][2], points[i][3]);
            // columns 2 t, 2 t + 1 of rows g and g + 8: as the left side of a product has them
            left[2 * i] = narrow(fast_exp2(x[0]), fast_exp2(x[1]));
            left[2 * i + 1] = narrow(fast_exp2(x[2]), fast_exp2(x[3]));
          }
#pragma unroll
          for (int n = 0; n < kN; ++n) {
            add_product<Float16>(sums_[m][n], left, right[n][2 * j], right[n][2 * j + 1]);
          }
        }
      }
    }
  }

  // f(row of the block, channel, sum) for each of them.
  template <class F>
  __device__ void each(const F& f) const {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          f(first_row() + 16 * m + 8 * (i / 2) + lane / 4, 8 * n + lane % 4 * 2 + i % 2,
            sums_[m][n][i]);
        }
      }
    }
  }

 private:
  __device__ static int first_row() { return threadIdx.x / 32 * 32; }

  uint32_t points_[2][2][4];
  float norms_[2][2];
  float sums_[2][kN][4] = {};
};

template <int kN>
__global__ void __launch_bounds__(kGaussThreads, 4)
    gauss_tensor_kernel(const __grid_constant__ GaussTensorSum s) {
#if DEEPLAB_HAS_TENSOR_CORE_PTX
  using Near = NearTiles<float, 2>;
  __shared__ typename Near::Shared near;
  __shared__ GaussCentre centre;
  __shared__ float norms[kGaussThreads];  // a thread has a point i
  DEEPLAB_DYNAMIC_SHARED(unsigned char, memory);
  const int d = s.tiles.d;
  const GaussTask task(s.tiles.parts, (s.tiles.tiles + 1) / 2, s.chunks);
  const int64_t own = task.image * s.tiles.tiles + 2 * task.tile;
  if (s.packed.wide[own] != 0) return;

  Near tiles(s.tiles, task, 2 * task.tile, near);
  using Stages = GaussStages<kN>;
  // of the tile that is multiplied and of the one that is embedded; at first of points i
  auto *rows = reinterpret_cast<uint32_t*>(memory), *next_rows = rows + kGaussTile * kRowPitch;
  for (int i = threadIdx.x; i < 2 * kGaussTile * kRowPitch; i += kGaussThreads) rows[i] = 0;
  norms[threadIdx.x] = 0;  // of points that there are not, too
  __syncthreads();
  centre.set(near.box, d);
  __syncthreads();
  const int tile_size = kGaussTile * packed_dims(d);
  const float* const own_features = s.packed.features + own * tile_size;
  for (int i = 0; i < 2 && 2 * task.tile + i < s.tiles.tiles; ++i) {
    embed_points<true>(centre, own_features + i * tile_size, d, i ? next_rows : rows,
                       norms + i * kGaussTile);
  }
  __syncthreads();
  GaussWarp<kN> warp(rows, norms);

  constexpr int kChannels = Stages::kChannels;
  const auto* const values =
      reinterpret_cast<const uint4*>(s.packed.values) +
      (task.image * s.chunks + task.chunk) * s.tiles.tiles * kChannels * (kGaussTile * 2 / 16);
  const auto* const features = reinterpret_cast<const uint4*>(s.packed.features) +
                               task.image * s.tiles.tiles * (tile_size / 4);
  // a tile is copied in one turn, embedded in the next, and in the third multiplied
  const int stage_bytes = Stages::kValueBytes + 4 * tile_size;
  unsigned char* stage = memory + Stages::kRowsOfBoth;
  unsigned char *next_stage = stage + stage_bytes, *later_stage = next_stage + stage_bytes;
  int tile = -1, next = -1;
  do {
    const int later = tiles.next();
    wait_for_copies<0>();
    __syncthreads();  // the next tile is there, this one is embedded, the last one done with
    start_stage<kN>(later_stage, values, features, tile_size / 4, later);
    if (next >= 0) {
      embed_points<false>(centre, reinterpret_cast<const float*>(next_stage + Stages::kValueBytes),
                          d, next_rows, nullptr);
    }
    if (tile >= 0) warp.add(rows, stage);
    tile = next, next = later;
    unsigned char* const done_with = stage;
    stage = next_stage, next_stage = later_stage, later_stage = done_with;
    uint32_t* const read = rows;
    rows = next_rows, next_rows = read;
  } while (tile >= 0 || next >= 0);

  const int64_t points = s.tiles.points, first = int64_t{task.tile} * 2 * kGaussTile;
  float* const out = s.out + (task.part * s.images + task.image) * points * s.channels;
  warp.each([&](int row, int channel, float sum) {
    const int to = task.chunk * kChannels + channel;
    if (first + row < points && to < s.channels) {
      out[(first + row) * s.channels + to] = sum * kSumScale;
    }
  });
#endif
}

template <int kN>
cudaError_t launch_gauss_tensor(const GaussTensorSum& s, dim3 grid, cudaStream_t stream) {
  return launch(gauss_tensor_kernel<kN>, grid, dim3(kGaussThreads),
                GaussStages<kN>::bytes(s.tiles.d), stream, s);
}

// Whether the device at hand runs it.
inline bool has_gauss_tensor() {
#if defined(CUDA_EMU)
  return true;
#else
  cudaFuncAttributes attributes;  // of machine code, or of PTX that the driver compiled
  if (cudaFuncGetAttributes(&attributes, gauss_tensor_kernel<1>) != cudaSuccess) {
    cudaGetLastError();  // no kernel image: nothing that a later call should report
    return false;
  }
  return attributes.ptxVersion >= 80;
#endif
}

}  // namespace
}  // namespace deeplab_native
