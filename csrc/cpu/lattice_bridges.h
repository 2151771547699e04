// The vertices that a bridged lattice has beside those that points touch: see
// ops/bridged_lattice.h.
#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "common/parallel.h"
#include "cpu/hash_table.h"
#include "ops/bridged_lattice.h"

namespace deeplab_native {

// Keys next to one of a table's that are not in it, each with how many neighbours it has there:
// those of one part of all keys.
template <int K>
class BridgeCandidates {
 public:
  // The next of a vertex's absent neighbours. They are looked up some later, when what was
  // prefetched has come.
  void add(const Key<K>& key) {
    seen_.prefetch(key);
    pending_[count_++] = key;
    if (count_ == kPending) count_pending();
  }

  void append_bridges(std::vector<Key<K>>* keys) {
    count_pending();
    for (int32_t c = 0; c < seen_.size(); ++c) {
      if (neighbours_[c] >= kBridgeNeighbours) keys->push_back(seen_.key(c));
    }
  }

 private:
  static constexpr int kPending = 16;

  void count_pending() {
    for (int i = 0; i < count_; ++i) {
      const int32_t candidate = seen_.insert(pending_[i]);
      if (candidate == static_cast<int32_t>(neighbours_.size())) neighbours_.push_back(0);
      ++neighbours_[candidate];  // 2 (d + 1) at most
    }
    count_ = 0;
  }

  HashTable<K> seen_;
  std::vector<uint8_t> neighbours_;  // of each
  Key<K> pending_[kPending];
  int count_ = 0;
};

// Which part of `parts` a key belongs to; unlike the slots of a hash table, so that each part's own
// fills evenly.
template <int K>
int part_of(const Key<K>& key, int parts) {
  uint64_t h = 0;
  for (int k = 0; k < K; ++k) h = (h ^ key.words[k]) * 0xBF58476D1CE4E5B9ull;  // of splitmix64
  return static_cast<int>((h >> 32) % static_cast<uint64_t>(parts));
}

// steps: along each of the axes. In an order that the table and the number of threads decide.
template <int K>
std::vector<Key<K>> find_bridges(const HashTable<K>& table, const Key<K>* steps, int axes,
                                 int num_threads) {
  constexpr int kLookAhead = 8;
  const int32_t size = table.size();
  std::vector<uint64_t> absent(size);  // bits 2 axis and 2 axis + 1: before and after it
  parallel_for(num_threads, size, 1 << 10, [&](int64_t begin, int64_t end) {
    for (int64_t v = begin; v < end; ++v) {
      const Key<K>& key = table.key(static_cast<int32_t>(v));
      const Key<K>& later =
          table.key(static_cast<int32_t>(v + kLookAhead < end ? v + kLookAhead : v));
      uint64_t bits = 0;
      for (int j = 0; j < axes; ++j) {
        table.prefetch(later - steps[j]);
        table.prefetch(later + steps[j]);
        bits |= uint64_t{table.find(key - steps[j]) < 0} << (2 * j);
        bits |= uint64_t{table.find(key + steps[j]) < 0} << (2 * j + 1);
      }
      absent[v] = bits;
    }
  });
  std::vector<std::vector<Key<K>>> bridges(num_threads);
  run_team(num_threads, [&](Team& team) {
    BridgeCandidates<K> candidates;
    for (int32_t v = 0; v < size; ++v) {
      for (uint64_t bits = absent[v]; bits != 0; bits &= bits - 1) {
        const int bit = __builtin_ctzll(bits);
        const Key<K>& step = steps[bit / 2];
        const Key<K> key = bit % 2 ? table.key(v) + step : table.key(v) - step;
        if (part_of(key, team.size()) == team.id()) candidates.add(key);
      }
    }
    candidates.append_bridges(&bridges[team.id()]);
  });
  for (int t = 1; t < num_threads; ++t) {
    bridges[0].insert(bridges[0].end(), bridges[t].begin(), bridges[t].end());
  }
  return std::move(bridges[0]);
}

}  // namespace deeplab_native
