// A tile of a matrix product on tensor cores, pixels by filters: how the factors lie in shared
// memory, and what a warp makes of them.
//
// A step multiplies 128 bytes of channels under one tap: a line of each of the tile's pixels and
// filters. Lines come by cp.async in kStages stages; vector v of line r (16 bytes) lies at v ^ r %
// 8, so that the 8 rows of an ldmatrix, and the 8 vectors that neighbouring threads copy, lie on
// different banks. A warp multiplies 64 x 64: 128 bytes of shared memory for an mma of 16 x 8 x 16.
#pragma once
#include "cuda/tensor_core.cuh"

namespace deeplab_native {
namespace {

constexpr int kLineVectors = 8;  // 16 bytes each: four mma deep
constexpr int kLineBytes = 16 * kLineVectors;
constexpr int kStages = 3;

// Rows and columns of the result, of a block and of its warps; blocks of a multiprocessor at a time
// that registers must allow.
template <int rows, int cols, int warp_rows, int warp_cols, int blocks>
struct PipelinedTile {
  static constexpr int kRows = rows, kCols = cols;
  static constexpr int kWarpRows = warp_rows, kWarpCols = warp_cols;
  static constexpr int kWarpsAcross = cols / warp_cols;
  static constexpr int kThreads = rows / warp_rows * kWarpsAcross * 32;
  static constexpr int kBlocks = blocks;
  static constexpr int kStageBytes = (rows + cols) * kLineBytes;
  static constexpr int kSharedBytes = kStages * kStageBytes;
  static_assert(kThreads / 32 * warp_rows * (warp_cols + 4) * 4 <= kSharedBytes,
                "the stages have room for the sums");
};

// Floats from row to row of a warp's sums in shared memory: 16 bytes more than they are, so that
// neither the 8 rows of a fragment nor 8 rows of a column all meet on one bank.
template <class Tile>
constexpr int kSumPitch = Tile::kWarpCols + 4;

// The sums of one warp.
template <class T, class Tile>
class WarpSums {
 public:
  __device__ WarpSums() {
    const int lane = threadIdx.x % 32;
    // of an ldmatrix: lanes 0-15 the first vector of 16 pixels, the others the second; lanes 0-7
    // and 8-15 both vectors of 8 filters, the others those of the next 8
    pixels_ = (warp_row() + lane % 16) * kLineBytes;
    filters_ = (Tile::kRows + warp_col() + lane / 16 * 8 + lane % 8) * kLineBytes;
    pixel_vector_ = (lane / 16 ^ lane % 8) * 16, filter_vector_ = (lane / 8 % 2 ^ lane % 8) * 16;
#pragma unroll
    for (int i = 0; i < kI; ++i) {
#pragma unroll
      for (int j = 0; j < 2 * kJ; ++j) {
        for (float& sum : sum_[i][j]) sum = 0;
      }
    }
  }

  __device__ static int warp_row() {
    return threadIdx.x / 32 / Tile::kWarpsAcross * Tile::kWarpRows;
  }
  __device__ static int warp_col() {
    return threadIdx.x / 32 % Tile::kWarpsAcross * Tile::kWarpCols;
  }

  // One step; `meanwhile` starts the copies of a later one.
  template <class Meanwhile>
  __device__ void add(const unsigned char* stage, const Meanwhile& meanwhile) {
    Factors factors[2];  // the next are loaded while those before are multiplied
    load(factors[0], stage, 0);
    meanwhile();
#pragma unroll
    for (int k = 0; k < kLineVectors / 2; ++k) {
      if (k + 1 < kLineVectors / 2) load(factors[(k + 1) % 2], stage, k + 1);
      multiply(factors[k % 2]);
    }
  }

  // To shared memory, kSumPitch floats from row to row of the warp's part.
  __device__ void store(float* to) const {
    const int lane = threadIdx.x % 32;
    to += lane / 4 * kSumPitch<Tile> + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < kI; ++i) {
#pragma unroll
      for (int j = 0; j < 2 * kJ; ++j) {
#pragma unroll
        for (int upper = 0; upper < 2; ++upper) {
          *reinterpret_cast<float2*>(to + (16 * i + 8 * upper) * kSumPitch<Tile> + 8 * j) =
              make_float2(sum_[i][j][2 * upper], sum_[i][j][2 * upper + 1]);
        }
      }
    }
  }

 private:
  static constexpr int kI = Tile::kWarpRows / 16, kJ = Tile::kWarpCols / 16;
  struct Factors {
    uint32_t pixels[kI][4], filters[kJ][4];
  };

  __device__ void load(Factors& to, const unsigned char* stage, int k) const {
#pragma unroll
    for (int i = 0; i < kI; ++i) {
      load_matrices(to.pixels[i], stage + pixels_ + 16 * i * kLineBytes + (pixel_vector_ ^ 32 * k));
    }
#pragma unroll
    for (int j = 0; j < kJ; ++j) {
      load_matrices(to.filters[j],
                    stage + filters_ + 16 * j * kLineBytes + (filter_vector_ ^ 32 * k));
    }
    if constexpr (sizeof(T) == 4) {
#pragma unroll
      for (auto& fragment : to.pixels) {
#pragma unroll
        for (uint32_t& bits : fragment) bits = tfloat32_bits(bits);
      }
#pragma unroll
      for (auto& fragment : to.filters) {
#pragma unroll
        for (uint32_t& bits : fragment) bits = tfloat32_bits(bits);
      }
    }
  }

  __device__ void multiply(const Factors& f) {
#pragma unroll
    for (int i = 0; i < kI; ++i) {
#pragma unroll
      for (int j = 0; j < kJ; ++j) {
        add_product<T>(sum_[i][2 * j], f.pixels[i], f.filters[j][0], f.filters[j][1]);
        add_product<T>(sum_[i][2 * j + 1], f.pixels[i], f.filters[j][2], f.filters[j][3]);
      }
    }
  }

  int pixels_, filters_, pixel_vector_, filter_vector_;
  float sum_[kI][2 * kJ][4];
};

}  // namespace
}  // namespace deeplab_native
