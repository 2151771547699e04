// The vertices that the cells of an image touch, with the hash table in which its pixels find them.
#pragma once
#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "common/buffer.h"
#include "common/parallel.h"
#include "cpu/lattice_keys.h"
#include "cpu/simd_kernels.h"

namespace deeplab_native {

template <int K>
class JointLattice {
 public:
  static constexpr int kMostCorners = kMaxFeatureDim + 1;

  explicit JointLattice(const KeyLayout& layout)
      : layout_(layout), d_(layout.d), corners_(layout.d + 1) {
    for (int j = 0; j < d_; ++j) {
      unit_[j] = unit<K>(layout_, j);
      ones_ = ones_ + unit_[j];
    }
    for (int j = 0; j < d_; ++j) {
      for (int k = 0; k <= d_; ++k) wrap_[j] = wrap_[j] + unit_[j];
    }
  }

  int32_t size() const { return table_.size(); }
  int32_t find(const Key<K>& key) const { return table_.find(key); }

  // Keys of the vertices of 16 points, [d + 1][16]; see Builder::point_keys of lattice_build.cpp.
  void keys_of(const float* features, Embedding* e, Key<K>* keys) const {
    simd_kernels().embed(features, layout_.scale.data(), d_, e);
    if constexpr (K == 1) {
      simd_kernels().pack_keys(*e, layout_.shift.data(), layout_.least.data(), d_,
                               &keys[0].words[0]);
      return;
    }
    for (int i = 0; i < kBlock; ++i) {
      int axis_of_rank[kMostCorners];
      Key<K> key{};
      for (int j = 0; j <= d_; ++j) {
        axis_of_rank[e->rank[j][i]] = j;
        if (j < d_) {
          key.words[layout_.word[j]] +=
              static_cast<uint64_t>(e->remainder0[j][i] - layout_.least[j]) << layout_.shift[j];
        }
      }
      keys[i] = key;
      for (int r = 1; r <= d_; ++r) {
        key = key + ones_ - wrap_[axis_of_rank[d_ + 1 - r]];
        keys[r * kBlock + i] = key;
      }
    }
  }

  // In the order of the cells, by one thread: vertices have the same numbers for any count of them.
  void insert(const Features& cells, Buffer<int32_t>* vertices, Buffer<float>* weights) {
    const ArrayFeatures source(cells);
    alignas(64) float features[kMaxFeatureDim * kBlock];
    alignas(64) Embedding e;
    Key<K> keys[kMostCorners * kBlock];
    for (int64_t first = 0; first < cells.n; first += kBlock) {
      const int count = static_cast<int>(std::min<int64_t>(kBlock, cells.n - first));
      source.gather({first, count}, features);
      keys_of(features, &e, keys);
      for (int k = 0; k < corners_ * kBlock; ++k) table_.prefetch(keys[k]);
      for (int i = 0; i < count; ++i) {
        for (int r = 0; r < corners_; ++r) {
          (*vertices)[(first + i) * corners_ + r] = table_.insert(keys[r * kBlock + i]);
          (*weights)[(first + i) * corners_ + r] = e.weights[r][i];
        }
      }
    }
  }

  // Of each axis and vertex, the one before and the one after, or -1.
  void find_neighbours(int num_threads) {
    const int32_t count = table_.size();
    neighbours_.resize(size_t(corners_) * count * 2);
    for (int j = 0; j <= d_; ++j) {
      const Key<K> delta = wrap_[j] - ones_;
      int32_t* of = neighbours_.data() + size_t(j) * count * 2;
      parallel_for(num_threads, count, 1 << 12, [&](int64_t begin, int64_t end) {
        constexpr int kLookAhead = 8;
        for (int64_t v = begin; v < end; ++v) {
          if (v + kLookAhead < end) {
            const Key<K>& later = table_.key(static_cast<int32_t>(v) + kLookAhead);
            table_.prefetch(later - delta);
            table_.prefetch(later + delta);
          }
          const Key<K>& key = table_.key(static_cast<int32_t>(v));
          of[2 * v] = table_.find(key - delta);
          of[2 * v + 1] = table_.find(key + delta);
        }
      });
    }
  }

  // When the last values are blurred.
  void forget_neighbours() { neighbours_ = {}; }

  // [1/2, 1, 1/2] along each axis.
  void blur(int stride, std::vector<float>* values, int num_threads) const {
    const int32_t count = table_.size();
    std::vector<float> next(values->size());
    for (int j = 0; j <= d_; ++j) {
      const int32_t* of = neighbours_.data() + size_t(j) * count * 2;
      const float* from = values->data();
      parallel_for(num_threads, count, 1 << 12, [&](int64_t begin, int64_t end) {
        for (int64_t v = begin; v < end; ++v) {
          const float* row = from + v * stride;
          float* to = next.data() + v * stride;
          const int32_t a = of[2 * v], b = of[2 * v + 1];
          const float wa = a >= 0 ? 0.5f : 0.0f, wb = b >= 0 ? 0.5f : 0.0f;
          const float* before = from + int64_t{std::max(a, 0)} * stride;
          const float* after = from + int64_t{std::max(b, 0)} * stride;
          for (int c = 0; c < stride; ++c) to[c] = row[c] + (wa * before[c] + wb * after[c]);
        }
      });
      values->swap(next);
    }
  }

 private:
  const KeyLayout layout_;
  const int d_, corners_;
  Key<K> unit_[kMostCorners]{}, wrap_[kMostCorners]{}, ones_{};
  HashTable<K> table_;
  std::vector<int32_t> neighbours_;  // [d + 1][vertices][2]
};

}  // namespace deeplab_native
