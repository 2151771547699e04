// Names of vertices of many dimensions: the d + 1 coordinates of a vertex are r + (d + 1) cell[j],
// all with the same remainder r, so a point whose simplex is known names all of its vertices, which
// are therefore given as (point, r). To store the coordinates of each vertex would be d + 1 times
// the memory, and to make them d + 1 times the work.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/buffer.h"
#include "cpu/simd_kernels.h"

namespace deeplab_native {

struct Vertex {
  uint64_t hash;
  uint32_t point;      // whose simplex it is of
  uint32_t remainder;  // 0 to d
};

class VertexNames {
 public:
  // Memory for the records of the points, which set() fills.
  VertexNames(int d, int64_t num_points)
      : d_(d),
        words_((d + kBlock - 1) / kBlock * kBlock),
        records_(size_t(num_points) * words_),
        factors_(d + 1) {
    // A hash that is linear in the coordinates: that of a vertex next to one whose hash is known
    // follows by an addition. So the factor of the remainder is 1 / (d + 1) of the sum of those of
    // the cells; the last cell follows from the others, and has none.
    remainder_factor_ = mixed(d);
    uint64_t sum = 0;
    for (int j = 0; j + 1 < d; ++j) sum += factors_[j] = mixed(j);
    factors_[d - 1] = (d + 1) * remainder_factor_ - sum;
    factors_[d] = 0;
  }

  // Point `lane` of a block: its record, and the hash of its d + 1 vertices, 16 apart.
  void set(int64_t point, const WideEmbedding& e, int lane, uint64_t* hashes) {
    int32_t* record = records_.data() + point * words_;
    uint64_t factor_of_rank[kMaxFeatureDim + 1], hash = 0;
    for (int j = 0; j <= d_; ++j) {
      const int32_t cell = e.remainder0[j][lane] / (d_ + 1), rank = e.rank[j][lane];
      factor_of_rank[rank] = factors_[j];
      if (j == d_) break;
      record[j] = cell * (1 << kRankBits) + rank;
      hash += static_cast<uint64_t>(int64_t{cell}) * factors_[j];
    }
    std::fill(record + d_, record + words_, kRankMask);  // the same in every vertex
    // r + 1 follows from r by adding 1 to all coordinates, and taking d + 1 off that of rank d - r
    for (int r = 0; r <= d_; ++r) {
      hashes[r * kBlock] = hash;
      hash += remainder_factor_ - factor_of_rank[d_ - r];
    }
  }

  bool same(uint32_t point_a, uint32_t point_b, uint32_t remainder) const {
    return unlike(point_a, remainder, point_b, remainder) == 0;
  }
  bool same(const Vertex& a, const Vertex& b) const {
    return a.hash == b.hash && a.remainder == b.remainder && same(a.point, b.point, a.remainder);
  }

  void prefetch(const Vertex& vertex) const {
    const int32_t* from = record(vertex.point);
    for (int j = 0; j < words_; j += kBlock) __builtin_prefetch(from + j);
  }

  // The hash of the vertex that follows along an axis, +d in its coordinate and -1 in all others,
  // is larger by this.
  uint64_t step(int axis) const { return factors_[axis] - remainder_factor_; }
  // Whether b follows a, for vertices whose hashes say so.
  bool follows(const Vertex& b, const Vertex& a, int axis) const {
    // remainder 0 is d + 1 with cells of one less
    const uint32_t remainder = a.remainder == 0 ? d_ + 1 : a.remainder;
    if (b.remainder + 1 != remainder) return false;
    const int found = unlike(a.point, remainder, b.point, b.remainder);
    if (axis == d_) return found == 0;
    return found == 1 && cell(b.point, b.remainder, axis) == cell(a.point, remainder, axis) + 1;
  }

 private:
  static uint64_t mixed(int j) {  // splitmix64 (Steele, Lea and Flood 2014)
    uint64_t x = (j + 1) * 0x9E3779B97F4A7C15ull;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return (x ^ (x >> 31)) | 1;
  }
  // Ranks above d - r are of coordinates that wrapped.
  int last(uint32_t remainder) const { return d_ - static_cast<int>(remainder); }
  int unlike(uint32_t point_a, uint32_t remainder_a, uint32_t point_b, uint32_t remainder_b) const {
    return simd_kernels().unlike_cells(record(point_a), last(remainder_a), record(point_b),
                                       last(remainder_b), words_);
  }
  int32_t cell(uint32_t point, uint32_t remainder, int j) const {
    const int32_t word = record(point)[j];
    return (word >> kRankBits) - ((word & kRankMask) > last(remainder));
  }
  const int32_t* record(uint32_t point) const { return records_.data() + int64_t{point} * words_; }

  const int d_, words_;
  Buffer<int32_t> records_;        // [points][words]
  std::vector<uint64_t> factors_;  // of the cells
  uint64_t remainder_factor_;
};

}  // namespace deeplab_native
