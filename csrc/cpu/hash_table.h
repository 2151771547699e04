// From lattice points to vertex numbers: open addressing, keys packed into K 64-bit words.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/buffer.h"

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

// Which slots a hash looks at: the first by its high bits, then those after it, around the end of
// the region that the first is in. Keys of different regions never meet, so that threads can insert
// into regions of their own (VertexNumbers).
class Probing {
 public:
  Probing() = default;
  Probing(int slot_bits, int region_bits)
      : shift_(64 - slot_bits), region_((size_t{1} << (slot_bits - region_bits)) - 1) {}
  int slot_bits() const { return 64 - shift_; }
  size_t num_slots() const { return size_t{1} << slot_bits(); }
  size_t first(uint64_t hash) const { return hash >> shift_; }
  size_t after(size_t slot) const { return (slot & ~region_) | ((slot + 1) & region_); }

 private:
  int shift_ = 64;
  size_t region_ = 0;  // slots of a region, less one
};

template <int K>
class HashTable {
 public:
  static constexpr int32_t kNone = -1;
  static constexpr int kMostTogether = 272;  // keys of find_all: the 17 vertices of 16 points

  HashTable() { make_room(14, 0); }
  HashTable(const HashTable&) : HashTable() {}  // of no keys

  int32_t size() const { return static_cast<int32_t>(keys_.size()); }
  const Key<K>& key(int32_t vertex) const { return keys_[vertex]; }

  static uint64_t hash(const Key<K>& key) {
    uint64_t h = key.words[0] * kMultiplier;
    for (int k = 1; k < K; ++k) h = ((h >> 32) ^ h ^ key.words[k]) * kMultiplier;
    return h;
  }
  void prefetch(const Key<K>& key) const { __builtin_prefetch(&slots_[probing_.first(hash(key))]); }

  // The vertex of the key, a new one where there was none.
  int32_t insert(const Key<K>& key) {
    const int32_t vertex = size();
    const int32_t found = number(claim(key, vertex, nullptr));
    if (found == vertex) {
      keys_.push_back(key);
      if (keys_.size() * 2 >= probing_.num_slots()) grow();
    }
    return found;
  }

  int32_t find(const Key<K>& key) const {
    for (size_t s = probing_.first(hash(key));; s = probing_.after(s)) {
      const Slot& slot = slots_[s];
      if (slot.vertex == kNone) return kNone;
      if (slot.key == key) return slot.vertex;
    }
  }

  // find(keys[i] + delta), of `count` at most kMostTogether keys; without a branch on what is
  // found, which nobody could foretell: in rounds, of all keys that are not decided yet.
  void find_all(const Key<K>* keys, const Key<K>& delta, int count, int32_t* vertices) const {
    uint32_t at[kMostTogether];
    for (int i = 0; i < count; ++i) {
      at[i] = static_cast<uint32_t>(probing_.first(hash(keys[i] + delta)));
    }
    for (int i = 0; i < count; ++i) __builtin_prefetch(&slots_[at[i]]);
    uint16_t open[kMostTogether];
    const auto look = [&](int i) {
      const Slot& slot = slots_[at[i]];
      vertices[i] = slot.vertex;
      return (slot.vertex != kNone) & !(slot.key == keys[i] + delta);
    };
    int left = 0;
    for (int i = 0; i < count; ++i) {
      open[left] = static_cast<uint16_t>(i);
      left += look(i);
    }
    while (left > 0) {
      const int looked_for = left;
      left = 0;
      for (int k = 0; k < looked_for; ++k) {
        const int i = open[k];
        at[i] = static_cast<uint32_t>(probing_.after(at[i]));
        open[left] = static_cast<uint16_t>(i);
        left += look(i);
      }
    }
  }

  // f(key, vertex) of all in slots [begin, end), in the order of their hashes.
  template <class F>
  void each_in_slots(size_t begin, size_t end, const F& f) const {
    for (size_t s = begin; s < end; ++s) {
      if (slots_[s].vertex != kNone) f(slots_[s].key, slots_[s].vertex);
    }
  }

  // What VertexNumbers fills it with, by several threads: room for slots, and for keys; the slot of
  // a key, claimed for a number where there was none (key_of(number) is not needed here).
  void make_room(int slot_bits, int region_bits) {
    probing_ = Probing(slot_bits, region_bits);
    slots_.resize(probing_.num_slots());
    if (region_bits == 0) clear_slots(0, probing_.num_slots());
  }
  void clear_slots(size_t begin, size_t end) {
    std::fill(slots_.data() + begin, slots_.data() + end, Slot{{}, kNone});
  }
  size_t num_slots() const { return probing_.num_slots(); }
  template <class KeyOf>
  size_t claim(const Key<K>& key, int32_t number, const KeyOf&) {
    for (size_t s = probing_.first(hash(key));; s = probing_.after(s)) {
      Slot& slot = slots_[s];
      if (slot.vertex == kNone) {
        slot = {key, number};
        return s;
      }
      if (slot.key == key) return s;
    }
  }
  int32_t number(size_t slot) const { return slots_[slot].vertex; }
  void resize(int32_t vertices) { keys_.resize(vertices); }
  void set(size_t slot, int32_t vertex, const Key<K>& key) {
    slots_[slot].vertex = vertex;
    keys_[vertex] = key;
  }

 private:
  struct Slot {
    Key<K> key;
    int32_t vertex;
  };

  void grow() {
    make_room(probing_.slot_bits() + 1, 0);
    for (int32_t v = 0; v < size(); ++v) {
      size_t s = probing_.first(hash(keys_[v]));
      while (slots_[s].vertex != kNone) s = probing_.after(s);
      slots_[s] = {keys_[v], v};
    }
  }

  static constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15ull;  // 2^64 / golden ratio
  Buffer<Slot> slots_;
  std::vector<Key<K>> keys_;  // by vertex
  Probing probing_;
};

}  // namespace deeplab_native
