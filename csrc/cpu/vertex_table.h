// From vertices of many dimensions to their numbers, and to their neighbours.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "common/buffer.h"
#include "cpu/hash_table.h"
#include "cpu/vertex_names.h"

namespace deeplab_native {

// Open addressing; hashes say where to look, and names whether it is the same vertex. Members are
// those of HashTable.
class VertexTable {
 public:
  explicit VertexTable(const VertexNames& names) : names_(names) { make_room(14, 0); }
  VertexTable(const VertexTable& other) : VertexTable(other.names_) {}  // of no vertices

  int32_t size() const { return static_cast<int32_t>(vertices_.size()); }
  const Vertex& key(int32_t number) const { return vertices_[number]; }
  static uint64_t hash(const Vertex& vertex) { return vertex.hash; }
  void prefetch(const Vertex& vertex) const {
    __builtin_prefetch(&slots_[probing_.first(vertex.hash)]);
  }

  int32_t insert(const Vertex& vertex) {
    const int32_t added = size();
    const int32_t found = number(claim(vertex, added, [&](int32_t n) { return vertices_[n]; }));
    if (found == added) {
      vertices_.push_back(vertex);
      if (vertices_.size() * 2 >= probing_.num_slots()) grow();
    }
    return found;
  }

  void make_room(int slot_bits, int region_bits) {
    probing_ = Probing(slot_bits, region_bits);
    slots_.resize(probing_.num_slots());
    if (region_bits == 0) clear_slots(0, probing_.num_slots());
  }
  void clear_slots(size_t begin, size_t end) {
    std::fill(slots_.data() + begin, slots_.data() + end, Slot{0, -1});
  }
  size_t num_slots() const { return probing_.num_slots(); }
  template <class KeyOf>
  size_t claim(const Vertex& vertex, int32_t number, const KeyOf& key_of) {
    const uint32_t tag = static_cast<uint32_t>(vertex.hash);
    for (size_t s = probing_.first(vertex.hash);; s = probing_.after(s)) {
      Slot& slot = slots_[s];
      if (slot.number < 0) {
        slot = {tag, number};
        return s;
      }
      if (slot.tag == tag && names_.same(key_of(slot.number), vertex)) return s;
    }
  }
  int32_t number(size_t slot) const { return slots_[slot].number; }
  void resize(int32_t vertices) { vertices_.resize(vertices); }
  void set(size_t slot, int32_t number, const Vertex& vertex) {
    slots_[slot].number = number;
    vertices_[number] = vertex;
  }

  void clear() {
    slots_ = {};
    vertices_ = {};
  }

 private:
  struct Slot {
    uint32_t tag;    // low bits of the hash; where to look begins with the high ones
    int32_t number;  // -1: none
  };

  void grow() {
    make_room(probing_.slot_bits() + 1, 0);
    for (int32_t v = 0; v < size(); ++v) {
      size_t s = probing_.first(vertices_[v].hash);
      while (slots_[s].number >= 0) s = probing_.after(s);
      slots_[s] = {static_cast<uint32_t>(vertices_[v].hash), v};
    }
  }

  const VertexNames& names_;
  Buffer<Slot> slots_;
  std::vector<Vertex> vertices_;
  Probing probing_;
};

// The vertices in the order of the first bits of their hashes. As a step along an axis adds the
// same to all of them, neighbours are looked up in that order, too: memory is read from front to
// back, d + 1 times, and not at random.
class VerticesByHash {
 public:
  VerticesByHash(const VertexNames& names, const VertexTable& table) : names_(names) {
    const int32_t size = table.size();
    int bits = 1;
    while (bits < 31 && (int32_t{1} << bits) < size) ++bits;
    shift_ = 64 - bits;
    begin_.assign((size_t{1} << bits) + 1, 0);
    for (int32_t v = 0; v < size; ++v) ++begin_[(table.key(v).hash >> shift_) + 1];
    for (size_t b = 1; b < begin_.size(); ++b) begin_[b] += begin_[b - 1];
    vertices_.resize(size);
    numbers_.resize(size);
    std::vector<int32_t> next(begin_.begin(), begin_.end() - 1);
    for (int32_t v = 0; v < size; ++v) {
      const int32_t place = next[table.key(v).hash >> shift_]++;
      vertices_[place] = table.key(v);
      numbers_[place] = v;
    }
  }

  // The vertex at a place of the order.
  int32_t number(int32_t place) const { return numbers_[place]; }

  // f(vertex, the one that follows it along the axis), where there is one, for vertices at places
  // [begin, end).
  template <class F>
  void each_following(int axis, int32_t begin, int32_t end, const F& f) const {
    const uint64_t step = names_.step(axis);
    Pair pairs[kPairs];
    int count = 0;
    for (int32_t i = begin; i < end; ++i) {
      const uint64_t wanted = vertices_[i].hash + step;
      const size_t bucket = wanted >> shift_;
      for (int32_t k = begin_[bucket]; k < begin_[bucket + 1]; ++k) {
        if (vertices_[k].hash != wanted) continue;
        pairs[count++] = {i, k};
        if (count == kPairs) check(pairs, std::exchange(count, 0), axis, f);
      }
    }
    check(pairs, count, axis, f);
  }

 private:
  struct Pair {
    int32_t from, to;
  };
  static constexpr int kPairs = 32;  // whose records, which lie anywhere, are fetched together

  template <class F>
  void check(const Pair* pairs, int count, int axis, const F& f) const {
    for (int i = 0; i < count; ++i) {
      names_.prefetch(vertices_[pairs[i].from]);
      names_.prefetch(vertices_[pairs[i].to]);
    }
    for (int i = 0; i < count; ++i) {
      const auto [from, to] = pairs[i];
      if (names_.follows(vertices_[to], vertices_[from], axis)) f(numbers_[from], numbers_[to]);
    }
  }

  const VertexNames& names_;
  int shift_;
  std::vector<int32_t> begin_;  // of each bucket
  std::vector<Vertex> vertices_;
  std::vector<int32_t> numbers_;  // in the table
};

}  // namespace deeplab_native
