// Points of a tile as rows of float16 whose products are exponents, for gauss_tensor.cuh, and what
// of an image is packed before.
//
// With u = sqrt(log2 e) (f - m), m the centre of the block's tile of points i,
//   k_ij = 2^(u_i . u_j - |u_i|^2 / 2 - |u_j|^2 / 2).
// A float is a float16 and a float16 of the rest, 22 bits. A row has 32 float16 that meet those of
// the other side: of dimension k at 2 k, 2 k + 1 (high, high) and (high, rest), at 20 + k rest and
// high; at 30, 31 ones and the two of -|u_j|^2 / 2. What is left out, rest times rest, is 2^-22 of
// |u_i| |u_j|. A point j counts where it is within 6 of some i, so that |u_j| is small where the
// tile's radius is: tiles of a larger radius than kGaussRadius are left to the plain kernel, and
// with it the exponent is off by 2e-4 at the most, where k is above 2^-14.
#pragma once
#include "cuda/gauss_tiles.cuh"
#include "cuda/half_words.cuh"

namespace deeplab_native {
namespace {

constexpr int kGaussTensorDims = 10;  // at the most: what a row has room for
constexpr float kGaussRadius = 20, kGaussReach = 15;
constexpr int kRowWords = 16, kRowPitch = kRowWords + 4;  // 8 rows lie on different banks
constexpr int kRestWord = kGaussTensorDims, kNormWord = kRowWords - 1;
constexpr float kGaussScale = 1.20112241f, kLog2E = 1.44269504f;  // sqrt(log2 e), its square
// Values times 2^5 and k times 2^15, in [0, 65504]: float16 has 11 bits of all above 2^-29.
constexpr float kValueScale = 32, kExponentOfK = 15, kSumScale = 0x1p-20f;

// What lies in device memory for it, a part of the op's scratch.
struct GaussPacked {
  float* features;   // [images][tiles][64][packed_dims(d)], beyond the last point that one again
  uint32_t* values;  // [images][chunks][tiles][channels of a chunk][64] float16
  // [images][tiles] nonzero: of a larger radius than kGaussRadius, with the other of its two
  int* wide;
};

// Dimensions are packed in pairs; the one too many is 0.
__host__ __device__ constexpr int packed_dims(int d) { return (d + 1) / 2 * 2; }

// Half of the diagonal of a box, squared.
template <class Width>
__device__ float squared_radius(int d, const Width& width) {
  float sum = 0;
  for (int k = 0; k < d; ++k) sum += width(k) * width(k) * 0.25f;
  return sum;
}

// A block packs one tile at a time.
__global__ void __launch_bounds__(kGaussThreads)
    gauss_pack_kernel(const __grid_constant__ GaussTiles<float> tiles, const float* values,
                      GaussPacked to, int64_t images, int channels, int chunks, int in_chunk) {
  const int64_t d = tiles.d;
  const int packed = packed_dims(tiles.d);
  for (int64_t i = blockIdx.x; i < images * tiles.tiles; i += gridDim.x) {
    const int64_t image = i / tiles.tiles, tile = i - image * tiles.tiles;
    const int64_t first = tile * kGaussTile;
    const float* const features = tiles.features_of(image);
    for (int at = threadIdx.x; at < kGaussTile * packed; at += kGaussThreads) {
      const int item = at / packed, k = at - item * packed;
      const int64_t point = min(first + item, tiles.points - 1);
      to.features[i * kGaussTile * packed + at] = k < d ? features[point * d + k] : 0.0f;
    }
    if (threadIdx.x == 0) {
      const float* const box = tiles.box(image) + tile / 2 * 2;
      const bool two = (tile | 1) < tiles.tiles;
      const float radius = squared_radius(tiles.d, [&](int k) {
        const float* const lower = box + int64_t{k} * tiles.tiles;
        const float* const upper = lower + d * tiles.tiles;
        return max(upper[0], upper[two]) - min(lower[0], lower[two]);
      });
      to.wide[i] = !(radius <= kGaussRadius * kGaussRadius);
    }
    const float* const own = values + image * tiles.points * channels;
    constexpr int kPairs = kGaussTile / 2;
    for (int at = threadIdx.x; at < chunks * in_chunk * kPairs; at += kGaussThreads) {
      const int pair = at % kPairs, channel = at / kPairs, chunk = channel / in_chunk;
      const int64_t point = first + 2 * pair;
      const auto value = [&](int64_t p) {
        return p < tiles.points && channel < channels ? own[p * channels + channel] * kValueScale
                                                      : 0.0f;
      };
      uint32_t* const row =
          to.values + (((image * chunks + chunk) * tiles.tiles + tile) * in_chunk +
                       (channel - chunk * in_chunk)) *
                          kPairs;
      row[pair] = narrow(value(point), value(point + 1));
    }
  }
}

// What rows are made with, in shared memory.
struct GaussCentre {
  alignas(8) float at[kGaussTensorDims];
  float reach;  // |u_j|^2 beyond which k is 0 for all points i

  // box: lower, upper bounds of the tile i. A barrier comes after it.
  __device__ void set(const float* box, int d) {
    const int k = threadIdx.x;
    if (k < packed_dims(d)) at[k] = k < d ? (box[k] + box[d + k]) * 0.5f : 0.0f;
    if (k == 0) {
      const float radius =
          sqrtf(squared_radius(d, [&](int dim) { return box[d + dim] - box[dim]; })) + kGaussReach;
      reach = radius * radius * kLog2E;
    }
  }
};

// The rows of 64 points, two threads to a point: even ones have dimensions 0, 1, 4, 5, 8, 9. kOwn:
// of points i, whose -|u|^2 / 2 goes to `norms`. Words of dimensions that there are not stay 0.
template <bool kOwn>
__device__ void embed_points(const GaussCentre& centre, const float* features, int d,
                             uint32_t* rows, float* norms) {
  constexpr int kPairs = 3;  // of dimensions
  const int point = threadIdx.x / 2, half = threadIdx.x % 2, packed = packed_dims(d);
  const float* const from = features + point * packed + 2 * half;
  const float* const middle = centre.at + 2 * half;
  float2 u[kPairs];
  float norm = 0;
#pragma unroll
  for (int p = 0; p < kPairs; ++p) {
    u[p] = make_float2(0, 0);
    if (4 * p + 2 * half < packed) {
      const auto feature = *reinterpret_cast<const float2*>(from + 4 * p);
      const auto offset = *reinterpret_cast<const float2*>(middle + 4 * p);
      u[p].x = (feature.x - offset.x) * kGaussScale, u[p].y = (feature.y - offset.y) * kGaussScale;
    }
    norm += u[p].x * u[p].x + u[p].y * u[p].y;
  }
  norm += __shfl_xor_sync(~0u, norm, 1);
  const bool out_of_reach = !kOwn && !(norm <= centre.reach);
  const float kept = out_of_reach ? 0.0f : 1.0f;
  uint32_t* const row = rows + point * kRowPitch;
#pragma unroll
  for (int p = 0; p < kPairs; ++p) {
    if (4 * p + 2 * half >= packed) continue;
    const float x = u[p].x * kept, y = u[p].y * kept;
    const uint32_t high = narrow(x, y);
    float high_x, high_y;
    widen(high, high_x, high_y);
    const float rest_x = x - high_x, rest_y = y - high_y;
    *reinterpret_cast<HalfWords*>(row + 2 * half + 4 * p) = {
        narrow(high_x, kOwn ? high_x : rest_x), narrow(high_y, kOwn ? high_y : rest_y)};
    row[kRestWord + half + 2 * p] = kOwn ? narrow(rest_x, rest_y) : high;
  }
  if (half == 0) {
    const float exponent = out_of_reach ? -30000.0f : norm * -0.5f;
    if constexpr (kOwn) {
      norms[point] = exponent + kExponentOfK;
      row[kNormWord] = 0x3c003c00u;  // 1, 1
    } else {
      float high, unused;
      widen(narrow(exponent, 0), high, unused);
      row[kNormWord] = narrow(high, exponent - high);
    }
  }
}

}  // namespace
}  // namespace deeplab_native
