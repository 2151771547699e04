// From lattice points to vertex numbers: open addressing, keys packed into K 64-bit words.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace deeplab_native {

template <int K>
struct Key {
  uint64_t words[K];
  bool operator==(const Key& other) const {
    for (int k = 0; k < K; ++k) {
      if (words[k] != other.words[k]) return false;
    }
    return true;
  }
  Key operator+(const Key& other) const {
    Key sum;
    for (int k = 0; k < K; ++k) sum.words[k] = words[k] + other.words[k];
    return sum;
  }
  Key operator-(const Key& other) const {
    Key difference;
    for (int k = 0; k < K; ++k) difference.words[k] = words[k] - other.words[k];
    return difference;
  }
};

template <int K>
class HashTable {
 public:
  static constexpr int32_t kNone = -1;

  HashTable() { resize_slots(14); }

  int32_t size() const { return static_cast<int32_t>(keys_.size()); }
  const Key<K>& key(int32_t vertex) const { return keys_[vertex]; }

  void prefetch(const Key<K>& key) const { __builtin_prefetch(&slots_[slot_of(key)]); }

  // The vertex of the key, a new one where there was none.
  int32_t insert(const Key<K>& key) {
    for (size_t s = slot_of(key);; s = (s + 1) & mask_) {
      Slot& slot = slots_[s];
      if (slot.vertex == kNone) {
        const int32_t vertex = size();
        slot = {key, vertex};
        keys_.push_back(key);
        if (keys_.size() * 2 > mask_) grow();
        return vertex;
      }
      if (slot.key == key) return slot.vertex;
    }
  }

  int32_t find(const Key<K>& key) const {
    for (size_t s = slot_of(key);; s = (s + 1) & mask_) {
      const Slot& slot = slots_[s];
      if (slot.vertex == kNone) return kNone;
      if (slot.key == key) return slot.vertex;
    }
  }

 private:
  struct Slot {
    Key<K> key;
    int32_t vertex;
  };

  size_t slot_of(const Key<K>& key) const {
    uint64_t h = key.words[0] * kMultiplier;
    for (int k = 1; k < K; ++k) h = ((h >> 32) ^ h ^ key.words[k]) * kMultiplier;
    return h >> shift_;
  }

  void resize_slots(int bits) {
    shift_ = 64 - bits;
    mask_ = (size_t{1} << bits) - 1;
    slots_.assign(size_t{1} << bits, Slot{{}, kNone});
  }

  void grow() {
    resize_slots(64 - shift_ + 1);
    for (int32_t v = 0; v < size(); ++v) {
      size_t s = slot_of(keys_[v]);
      while (slots_[s].vertex != kNone) s = (s + 1) & mask_;
      slots_[s] = {keys_[v], v};
    }
  }

  static constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15ull;  // 2^64 / golden ratio
  std::vector<Slot> slots_;
  std::vector<Key<K>> keys_;  // by vertex
  size_t mask_ = 0;
  int shift_ = 0;
};

}  // namespace deeplab_native
