// Names of vertices of more than kPackedDim dimensions, whose coordinates are neither stored nor
// kept in registers. All d + 1 coordinates of a vertex are remainder + (d + 1) cell[j]: the record
// of a point names its d + 1 vertices. Hashes, one for each entry, are linear in the coordinates,
// so that those of neighbours differ by a constant.
#pragma once
#include "cuda/lattice.cuh"

namespace deeplab_native {
namespace {

constexpr int kWide = -1;  // as the dimension that kernels are compiled for

// A word of a record: the cell of the remainder-0 vertex, and the rank. Records are filled up with
// words that are the same in every vertex.
constexpr int kWideBits = 7, kWideMask = (1 << kWideBits) - 1;
__device__ inline uint32_t wide_word(int cell, int rank) {
  return static_cast<uint32_t>(cell) << kWideBits | static_cast<uint32_t>(rank);
}

// Factors of the hash: a number for each coordinate, and of the remainder the (d + 1)th part of
// their sum, which the last one that is stored makes it. The very last coordinate follows from the
// others.
__host__ __device__ inline uint64_t wide_factor(int j) {  // splitmix64 (Steele et al. 2014)
  uint64_t x = static_cast<uint64_t>(j + 1) * 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return (x ^ (x >> 31)) | 1;
}
inline uint64_t last_wide_factor(int d) {
  uint64_t sum = 0;
  for (int j = 0; j + 1 < d; ++j) sum += wide_factor(j);
  return static_cast<uint64_t>(d + 1) * wide_factor(d) - sum;
}
__device__ inline uint64_t cell_factor(int j, int d, uint64_t last_factor) {
  return j >= d ? 0 : j == d - 1 ? last_factor : wide_factor(j);
}

template <int kDim>
struct Key;

template <>
struct Key<kWide> {
  const uint32_t* record;
  uint64_t hash_value;
  int remainder, d;
  int axis;  // -1, or it is what follows along this axis of a vertex of remainder 1 to d + 1

  __device__ uint64_t hash() const { return hash_value; }

  __device__ int cell(uint32_t word) const {
    return (static_cast<int>(word) >> kWideBits) -
           (static_cast<int>(word & kWideMask) > d - remainder);
  }
  // Of a vertex that is stored, and another with the same hash.
  __device__ bool operator==(const Key& other) const {
    const int expected = other.axis < 0 ? other.remainder : other.remainder - 1;
    if (remainder != expected) return false;
    const auto *own = reinterpret_cast<const uint4*>(record),
               *others = reinterpret_cast<const uint4*>(other.record);
    bool same = true;
    for (int j = 0; j < d && same; j += 4) {
      const uint4 a = own[j / 4], b = others[j / 4];
      same = cell(a.x) == other.cell(b.x) + (j == other.axis) &&
             cell(a.y) == other.cell(b.y) + (j + 1 == other.axis) &&
             cell(a.z) == other.cell(b.z) + (j + 2 == other.axis) &&
             cell(a.w) == other.cell(b.w) + (j + 3 == other.axis);
    }
    return same;
  }
  // Whether the lane before has another vertex: lanes have the same corner of points that follow
  // one another.
  __device__ bool leads(int lane) const {
    Key before = *this;
    before.record -= (d + 3) / 4 * 4;
    before.hash_value = __shfl_up_sync(~0u, hash_value, 1);
    return lane == 0 || before.hash_value != hash_value || !(before == *this);
  }
  // +d in the coordinate of the axis, -1 in all others: remainder 0 is d + 1 with cells of one
  // less.
  __device__ void move_along(int along, int, uint64_t last_factor) {
    axis = along < d ? along : kMaxFeatureDim;  // of the last there is no word
    hash_value += cell_factor(along, d, last_factor) - wide_factor(d);
    if (remainder == 0) remainder = d + 1;
  }
};

}  // namespace
}  // namespace deeplab_native
