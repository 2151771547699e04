// The part of a matrix product that one warp computes, in registers: by tensor cores where the
// device and the type have them, else by a plain twin. Both read the same tiles in shared memory
// (tile_shape.cuh) and write the same patches, so that whoever runs the twin, the emulator for one,
// runs all the rest of the product as it is.
#pragma once
#include "cuda/tile_shape.cuh"

#if !defined(CUDA_EMU)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <mma.h>
#endif

namespace deeplab_native {

// ---- which types have tensor cores on the architecture that is being compiled for ----
template <class T>
constexpr bool kHasTensorCores = false;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 700
template <>
constexpr bool kHasTensorCores<Float16> = true;
#endif
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
template <>
constexpr bool kHasTensorCores<Bfloat16> = true;
template <>
constexpr bool kHasTensorCores<float> = true;  // as tfloat32
#endif

// float32 rounded to the 10 bits of mantissa of tfloat32, nearest, ties away from zero, as the
// device's conversion does; unchanged on devices without tfloat32.
__device__ inline float round_to_tfloat32(float value) {
#if defined(CUDA_EMU)
  const uint32_t bits = half_bits::as_bits(value);
  if ((bits & 0x7f800000u) == 0x7f800000u) return value;  // infinity, NaN
  return half_bits::as_float((bits + 0x1000u) & 0xffffe000u);
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  return nvcuda::wmma::__float_to_tf32(value);
#else
  return value;
#endif
}

// `count` adjacent elements of shared memory, read in as few instructions as their alignment
// allows.
template <class T, int count>
struct alignas(count * sizeof(T) < 16 ? count * sizeof(T) : 16) Pack {
  T items[count];
};
template <int count, class T>
__device__ Pack<T, count> read_pack(const T* from) {
  return *reinterpret_cast<const Pack<T, count>*>(from);
}

// ---- the plain twin: a thread sums every 4th row and 8th column, or groups of 4 adjacent ones
// ----
template <class T, class Tile, bool kAlongChannels>
class PlainWarpTile {
 public:
  using Sum = typename Number<T>::Sum;

  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < kI; ++i) {
#pragma unroll
      for (int j = 0; j < kJ; ++j) sum_[i][j] = Sum(0);
    }
  }

  // One step: a and b are the tiles of the factors from the first row, and column, of the warp.
  __device__ void add(const T* a, const T* b) {
    if constexpr (kAlongChannels) {
      a += row(0) * kPitchA, b += col(0) * kPitchB;
#pragma unroll
      for (int k = 0; k < kStepDepth<T>; k += kVectorItems<T>) add_vectors(a + k, b + k);
    } else {
      a += row(0), b += col(0);
#pragma unroll 4
      for (int k = 0; k < kStepDepth<T>; ++k) add_outer(a + k * kPitchA, b + k * kPitchB);
    }
  }

  // Rows [16 i, 16 (i + 1)) and columns [32 j, 32 (j + 1)) of the warp's part.
  template <int i, int j>
  __device__ void store(Sum* patch) const {
#pragma unroll
    for (int u = 0; u < 4; ++u) {
#pragma unroll
      for (int v = 0; v < 4; ++v) {
        patch[(row(4 * i + u) - kPatchRows * i) * kPatchPitch + col(4 * j + v) - kPatchCols * j] =
            sum_[4 * i + u][4 * j + v];
      }
    }
  }

 private:
  static constexpr int kI = Tile::kWarpRows / 4, kJ = Tile::kWarpCols / 8;
  static constexpr int kPitchA = FactorTile<T, kAlongChannels, Tile::kRows>::kPitch;
  static constexpr int kPitchB = FactorTile<T, kAlongChannels, Tile::kCols>::kPitch;

  // Along the channels, the 8 lanes of a 128-bit access read 8 adjacent items: different banks. In
  // the other order a lane reads 4 adjacent elements at once.
  __device__ static int row(int i) {
    const int lane = threadIdx.x % kWarpLanes / 8;
    return kAlongChannels ? lane + 4 * i : i / 4 * 16 + lane * 4 + i % 4;
  }
  __device__ static int col(int j) {
    const int lane = threadIdx.x % 8;
    return kAlongChannels ? lane + 8 * j : j / 4 * 32 + lane * 4 + j % 4;
  }

  __device__ void add_vectors(const T* a, const T* b) {
    Pack<T, kVectorItems<T>> left[kI];
#pragma unroll
    for (int i = 0; i < kI; ++i) left[i] = read_pack<kVectorItems<T>>(a + 4 * i * kPitchA);
#pragma unroll
    for (int j = 0; j < kJ; ++j) {
      const auto right = read_pack<kVectorItems<T>>(b + 8 * j * kPitchB);
#pragma unroll
      for (int e = 0; e < kVectorItems<T>; ++e) {
#pragma unroll
        for (int i = 0; i < kI; ++i) sum_[i][j] += Sum(left[i].items[e]) * Sum(right.items[e]);
      }
    }
  }

  __device__ void add_outer(const T* a, const T* b) {
    Pack<T, 4> left[kI / 4];
#pragma unroll
    for (int i = 0; i < kI / 4; ++i) left[i] = read_pack<4>(a + 16 * i);
#pragma unroll
    for (int j = 0; j < kJ; ++j) {
      const auto right = read_pack<4>(b + j / 4 * 32);
#pragma unroll
      for (int i = 0; i < kI; ++i) {
        sum_[i][j] += Sum(left[i / 4].items[i % 4]) * Sum(right.items[j % 4]);
      }
    }
  }

  Sum sum_[kI][kJ];
};

#if !defined(CUDA_EMU)
// ---- tensor cores: fragments of 16 x 16 ----
namespace tensor {
using namespace nvcuda;  // NOLINT(build/namespaces)
template <class T>
struct Native;
template <>
struct Native<Float16> {
  using Storage = __half;
  using Fragment = __half;
  static constexpr int kDepth = 16;
};
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800  // mma.h declares no more for older ones
template <>
struct Native<Bfloat16> {
  using Storage = __nv_bfloat16;
  using Fragment = __nv_bfloat16;
  static constexpr int kDepth = 16;
};
template <>
struct Native<float> {  // rounded to tfloat32 on the way to shared memory
  using Storage = float;
  using Fragment = wmma::precision::tf32;
  static constexpr int kDepth = 8;
};
#endif
}  // namespace tensor

template <class T, class Tile, bool kAlongChannels>
class TensorWarpTile {
 public:
  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < kI; ++i) {
#pragma unroll
      for (int j = 0; j < kJ; ++j) tensor::wmma::fill_fragment(sum_[i][j], 0.0f);
    }
  }

  __device__ void add(const T* a, const T* b) {
    const auto* left = reinterpret_cast<const Storage*>(a);
    const auto* right = reinterpret_cast<const Storage*>(b);
#pragma unroll
    for (int k = 0; k < kStepDepth<T>; k += kDepth) {
      A rows[kI];
#pragma unroll
      for (int i = 0; i < kI; ++i) {
        const int at = kAlongChannels ? 16 * i * kPitchA + k : k * kPitchA + 16 * i;
        tensor::wmma::load_matrix_sync(rows[i], left + at, kPitchA);
      }
#pragma unroll
      for (int j = 0; j < kJ; ++j) {
        const int at = kAlongChannels ? 16 * j * kPitchB + k : k * kPitchB + 16 * j;
        B cols;
        tensor::wmma::load_matrix_sync(cols, right + at, kPitchB);
#pragma unroll
        for (int i = 0; i < kI; ++i) {
          tensor::wmma::mma_sync(sum_[i][j], rows[i], cols, sum_[i][j]);
        }
      }
    }
  }

  template <int i, int j>
  __device__ void store(float* patch) const {
    using tensor::wmma::mem_row_major;
    tensor::wmma::store_matrix_sync(patch, sum_[i][2 * j], kPatchPitch, mem_row_major);
    tensor::wmma::store_matrix_sync(patch + 16, sum_[i][2 * j + 1], kPatchPitch, mem_row_major);
  }

 private:
  using Native = tensor::Native<T>;
  using Storage = typename Native::Storage;
  using Fragment = typename Native::Fragment;
  using Row = tensor::wmma::row_major;
  using Col = tensor::wmma::col_major;
  static constexpr int kDepth = Native::kDepth;
  static constexpr int kI = Tile::kWarpRows / 16, kJ = Tile::kWarpCols / 16;
  static constexpr int kPitchA = FactorTile<T, kAlongChannels, Tile::kRows>::kPitch;
  static constexpr int kPitchB = FactorTile<T, kAlongChannels, Tile::kCols>::kPitch;
  using A = tensor::wmma::fragment<tensor::wmma::matrix_a, 16, 16, kDepth, Fragment,
                                   std::conditional_t<kAlongChannels, Row, Col>>;
  using B = tensor::wmma::fragment<tensor::wmma::matrix_b, 16, 16, kDepth, Fragment,
                                   std::conditional_t<kAlongChannels, Col, Row>>;
  tensor::wmma::fragment<tensor::wmma::accumulator, 16, 16, kDepth, float> sum_[kI][kJ];
};
#endif

// The class that multiplies on the device that is being compiled for.
template <class T, bool kTensor, class Tile, bool kAlongChannels>
struct WarpTileOf {
#if defined(CUDA_EMU)
  using Type = PlainWarpTile<T, Tile, kAlongChannels>;
#else
  template <bool tensor_cores, class = void>
  struct Choice {
    using Type = PlainWarpTile<T, Tile, kAlongChannels>;
  };
  template <class Unused>
  struct Choice<true, Unused> {
    using Type = TensorWarpTile<T, Tile, kAlongChannels>;
  };
  using Type = typename Choice<kTensor && kHasTensorCores<T>>::Type;
#endif
};

}  // namespace deeplab_native
