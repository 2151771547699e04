// Where a point lies in the lattice, and how the lattice's points are named, on the device.
#pragma once
#include "cuda/wide_keys.cuh"
#include "ops/bridged_lattice.h"

namespace deeplab_native {
namespace {

// Rounding to multiples of d + 1 is exact below this, and coordinates fit their fields.
constexpr float kMostElevated = 1 << 22;

// Diagonal of E (Adams et al. 2010, section 3.1), computed on the host as pydensecrf does.
struct Scale {
  float of[kPackedDim];
};

// Of a Scale, or of what has room for more dimensions.
template <class S>
S scale_of(int d, bool bridged) {
  S scale{};
  for (int k = 0; k < d; ++k) scale.of[k] = elevation_scale(k, d, bridged);
  return scale;
}

// The d + 1 vertices around a point: vertex r has remainder0[j] + r in every coordinate j, less
// d + 1 where rank[j] > d - r (the canonical simplex).
template <int kMost>
struct Embedding {
  float elevated[kMost + 1];
  int remainder0[kMost + 1], rank[kMost + 1];
  float weights[kMost + 1];

  __device__ int coordinate(int j, int r, int d) const {
    return remainder0[j] + r - (rank[j] > d - r ? d + 1 : 0);
  }
};

// y = E p: onto the hyperplane where the coordinates sum to 0. The order of operations is
// pydensecrf's, and none of them may be fused: which vertices exist depends on the last bit.
// False where a coordinate is not finite, or too large; the point then lies at 0.
template <int kMost>
__device__ bool elevate(const float* feature, int64_t dim_stride, bool at_zero, const Scale& scale,
                        int d, Embedding<kMost>& e) {
  float sum_above = 0.0f, most = 0.0f;
#pragma unroll
  for (int j = kMost; j > 0; --j) {
    if (j > d) continue;
    const float f = at_zero ? 0.0f : feature[(j - 1) * dim_stride];
    const float scaled = __fmul_rn(f, scale.of[j - 1]);
    e.elevated[j] = __fsub_rn(sum_above, __fmul_rn(scaled, static_cast<float>(j)));
    sum_above = __fadd_rn(sum_above, scaled);
    most = fmaxf(most, fabsf(e.elevated[j]));
    if (!(fabsf(e.elevated[j]) <= kMostElevated)) most = 2 * kMostElevated;  // NaN, too
  }
  e.elevated[0] = sum_above;
  const bool good = most <= kMostElevated && fabsf(sum_above) <= kMostElevated;
#pragma unroll
  for (int j = 0; j <= kMost; ++j) {
    if (!good && j <= d) e.elevated[j] = 0.0f;
  }
  return good;
}

// The nearest remainder-0 point, the ranks of the differences to it, the barycentric weights
// (Adams et al. 2010, sections 3.1.1 and 3.1.2).
template <int kMost>
__device__ void find_simplex(int d, Embedding<kMost>& e) {
  const float d1 = static_cast<float>(d + 1), inverse_d1 = __fdiv_rn(1.0f, d1);
  float nearest[kMost + 1], difference[kMost + 1];
  int sum = 0;
#pragma unroll
  for (int i = 0; i <= kMost; ++i) {
    if (i > d) continue;
    const float rounded = rintf(__fmul_rn(e.elevated[i], inverse_d1));
    nearest[i] = __fmul_rn(rounded, d1);
    sum += static_cast<int>(rounded);
    difference[i] = __fsub_rn(e.elevated[i], nearest[i]);
    e.rank[i] = 0;
  }
#pragma unroll
  for (int i = 0; i < kMost; ++i) {
#pragma unroll
    for (int j = i + 1; j <= kMost; ++j) {
      if (j > d) continue;
      const bool less = difference[i] < difference[j];
      e.rank[i] += less;
      e.rank[j] += !less;
    }
  }
  // back onto the hyperplane where the rounded coordinates do not sum to 0
  float offset[kMost + 1];
#pragma unroll
  for (int i = 0; i <= kMost; ++i) {
    if (i > d) continue;
    e.rank[i] += sum;
    const int wrap = e.rank[i] < 0 ? d + 1 : e.rank[i] > d ? -(d + 1) : 0;
    e.rank[i] += wrap;
    nearest[i] = __fadd_rn(nearest[i], static_cast<float>(wrap));
    e.remainder0[i] = static_cast<int>(nearest[i]);
    offset[i] = __fmul_rn(__fsub_rn(e.elevated[i], nearest[i]), inverse_d1);
  }
  // differences of the offsets in the order of their ranks: sorted without a run-time index
  float sorted[kMost + 1];
#pragma unroll
  for (int r = 0; r <= kMost; ++r) {
    sorted[r] = 0.0f;
#pragma unroll
    for (int i = 0; i <= kMost; ++i) {
      if (i <= d && e.rank[i] == r) sorted[r] = offset[i];
    }
  }
#pragma unroll
  for (int r = 0; r <= kMost; ++r) {
    if (r > d) continue;
    float here = 0.0f, before = 0.0f;  // sorted[d - r], sorted[d - r + 1]
#pragma unroll
    for (int k = 0; k <= kMost; ++k) {
      if (k == d - r) here = sorted[k];
      if (k == d - r + 1) before = sorted[k];
    }
    e.weights[r] = r == 0 ? __fadd_rn(here, __fsub_rn(1.0f, sorted[0])) : __fsub_rn(here, before);
  }
}

// What names the d + 1 vertices around a point: of each coordinate but the last, which the others
// give, that of the remainder-0 vertex and its rank, in one word; aligned to 8 or 16 bytes.
__host__ __device__ constexpr int record_words(int d) { return d <= 2 ? 2 : (d + 3) / 4 * 4; }
__device__ inline uint32_t record_word(int remainder0, int rank) {
  return static_cast<uint32_t>(remainder0) << 5 | static_cast<uint32_t>(rank);
}

template <int kDim, int kMost>
__device__ void store_record(uint32_t* record, int d, const Embedding<kMost>& e) {
  constexpr int kWords = record_words(kMost);
  uint32_t words[kWords];
#pragma unroll
  for (int j = 0; j < kWords; ++j) {
    words[j] = j < kMost && j < d ? record_word(e.remainder0[j], e.rank[j]) : 0;
  }
  if constexpr (kDim > 0 && kWords % 4 == 0) {
#pragma unroll
    for (int w = 0; w < kWords; w += 4) {
      reinterpret_cast<uint4*>(record)[w / 4] =
          make_uint4(words[w], words[w + 1], words[w + 2], words[w + 3]);
    }
  } else {
#pragma unroll
    for (int j = 0; j < kWords; ++j) {
      if (j < record_words(d)) record[j] = words[j];
    }
  }
}

// The coordinates of a vertex, all but the last. kDim: d, 0 for any up to kPackedDim, or kWide.
template <int kDim>
struct Key {
  static constexpr int kMost = kDim > 0 ? kDim : kPackedDim;
  int coordinate[kMost];

  // Vertex `corner` around the point of a record.
  __device__ static Key load(const uint32_t* record, int corner, int d) {
    constexpr int kWords = record_words(kMost);
    alignas(16) uint32_t words[kWords];
    if constexpr (kDim > 0 && kWords % 4 == 0) {
#pragma unroll
      for (int w = 0; w < kWords / 4; ++w) {
        const uint4 four = reinterpret_cast<const uint4*>(record)[w];
        words[4 * w] = four.x;
        words[4 * w + 1] = four.y;
        words[4 * w + 2] = four.z;
        words[4 * w + 3] = four.w;
      }
    } else {
#pragma unroll
      for (int w = 0; w < kWords; ++w) words[w] = w < d ? record[w] : 0;
    }
    Key key;
#pragma unroll
    for (int j = 0; j < kMost; ++j) {
      const int rank = static_cast<int>(words[j] & 31);
      key.coordinate[j] =
          j < d ? (static_cast<int>(words[j]) >> 5) + corner - (rank > d - corner ? d + 1 : 0) : 0;
    }
    return key;
  }
  __device__ bool operator==(const Key& other) const {
    bool same = true;
#pragma unroll
    for (int j = 0; j < kMost; ++j) same &= coordinate[j] == other.coordinate[j];
    return same;
  }
  // Whether the lane before has another.
  __device__ bool leads(int lane) const {
    bool leads = lane == 0;
#pragma unroll
    for (int j = 0; j < kMost; ++j) {
      leads |= __shfl_up_sync(~0u, coordinate[j], 1) != coordinate[j];
    }
    return leads;
  }
  // Along an axis: by d in its coordinate, -1 in all others.
  __device__ void move_along(int axis, int d, uint64_t) {
#pragma unroll
    for (int j = 0; j < kMost; ++j) {
      if (j < d) coordinate[j] += j == axis ? d : -1;
    }
  }
  // Step 2 axis: back along it; 2 axis + 1: forth.
  __device__ Key stepped(int step, int d) const {
    Key key = *this;
    const int axis = step / 2, sign = step % 2 == 0 ? -1 : 1;
#pragma unroll
    for (int j = 0; j < kMost; ++j) {
      if (j < d) key.coordinate[j] += j == axis ? sign * d : -sign;
    }
    return key;
  }
  __device__ uint64_t hash() const {
    uint64_t hash = 0;
#pragma unroll
    for (int j = 0; j < kMost; j += 2) {
      const uint32_t odd = j + 1 < kMost ? static_cast<uint32_t>(coordinate[j + 1]) : 0;
      const uint64_t word = static_cast<uint32_t>(coordinate[j]) | uint64_t{odd} << 32;
      hash = (hash ^ word ^ (word >> 29)) * 0x9E3779B97F4A7C15ull;  // 2^64 / golden ratio
      hash ^= hash >> 32;
    }
    return hash;
  }
};

// What vertices are numbered by, so that neighbours lie near each other: bits of their coordinates
// in units of d + 1, interleaved (Morton 1966), as many as kCodeBits have room for. Of five
// dimensions those are two of each coordinate, the second and the third: the last bit tells
// neighbours apart, and higher ones only what the order in which points touch them keeps apart.
template <int kDim>
__device__ uint32_t vertex_code(const Key<kDim>& key, int d, int bits) {
  const int of_each = max(1, bits / d), lowest = of_each > 2 ? 0 : 1;
  uint32_t code = 0;
  int used = 0;
  for (int b = lowest + of_each - 1; b >= lowest; --b) {
#pragma unroll
    for (int j = 0; j < Key<kDim>::kMost; ++j) {
      if (j >= d || used == bits) continue;
      const int c = key.coordinate[j], cell = c >= 0 ? c / (d + 1) : -1 - (-1 - c) / (d + 1);
      code = code << 1 | (static_cast<uint32_t>(cell >> b) & 1);
      ++used;
    }
  }
  return code;
}

// Those of many dimensions have one bit of each of the first coordinates.
template <>
__device__ inline uint32_t vertex_code<kWide>(const Key<kWide>& key, int d, int bits) {
  uint32_t code = 0;
  for (int j = 0; j < min(bits, d); ++j) {
    code = code << 1 | (static_cast<uint32_t>(key.cell(key.record[j]) >> 1) & 1);
  }
  return code;
}

// The hash tables of a batch: `capacity` slots for each image, open addressing. A slot holds the
// first entry that has its key (compared where the records lie), later its vertex's number, or -1.
struct Table {
  int32_t* slots;
  const uint32_t* records;  // [images][points of its blocks][record_words]
  int64_t capacity;         // at least 1.5 vertices of an image: there is always an empty slot
  const uint64_t* hashes;   // of kWide: [entries]
  uint64_t last_factor;     // of kWide: last_wide_factor

  __device__ int64_t start(uint64_t hash) const {
    return static_cast<int64_t>(((hash >> 32) * static_cast<uint64_t>(capacity)) >> 32);
  }
  // Of an entry, of all images: those of a block of points are (corner, lane).
  template <int kDim>
  __device__ Key<kDim> key(const LatticeView& l, int64_t entry) const {
    const uint32_t e = static_cast<uint32_t>(entry);
    const uint32_t corners = static_cast<uint32_t>(kDim > 0 ? kDim + 1 : l.corners);
    const uint32_t row = e / kWarp, block = row / corners;
    const int d = kDim > 0 ? kDim : l.d;
    const int64_t point = int64_t{block} * kWarp + e % kWarp;
    const uint32_t* const record = records + point * record_words(d);
    const int corner = static_cast<int>(row - block * corners);
    if constexpr (kDim == kWide) {
      return {record, hashes[entry], corner, d, -1};
    } else {
      return Key<kDim>::load(record, corner, d);
    }
  }
  template <int kDim>
  __device__ bool has_key(const LatticeView& l, int64_t entry, const Key<kDim>& key) const {
    if constexpr (kDim == kWide) {
      if (hashes[entry] != key.hash()) return false;
    }
    return this->key<kDim>(l, entry) == key;
  }
};

}  // namespace
}  // namespace deeplab_native
