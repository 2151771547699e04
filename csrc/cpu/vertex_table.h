// From vertices of many dimensions to their numbers, and to their neighbours.
#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "cpu/vertex_names.h"

namespace deeplab_native {

// Open addressing; hashes say where to look, and names whether it is the same vertex.
class VertexTable {
 public:
  explicit VertexTable(const VertexNames& names) : names_(names) { resize_slots(14); }

  int32_t size() const { return static_cast<int32_t>(vertices_.size()); }
  const Vertex& key(int32_t number) const { return vertices_[number]; }
  void prefetch(const Vertex& vertex) const { __builtin_prefetch(&slots_[vertex.hash >> shift_]); }

  // The number of the vertex, a new one where there was none.
  int32_t insert(const Vertex& vertex) {
    const uint32_t tag = static_cast<uint32_t>(vertex.hash);
    for (size_t s = vertex.hash >> shift_;; s = (s + 1) & mask_) {
      Slot& slot = slots_[s];
      if (slot.number < 0) {
        slot = {tag, size()};
        vertices_.push_back(vertex);
        if (vertices_.size() * 2 > mask_) grow();
        return size() - 1;
      }
      if (slot.tag == tag && names_.same(vertices_[slot.number], vertex)) return slot.number;
    }
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

  void resize_slots(int bits) {
    shift_ = 64 - bits;
    mask_ = (size_t{1} << bits) - 1;
    slots_.assign(size_t{1} << bits, Slot{0, -1});
  }
  void grow() {
    resize_slots(64 - shift_ + 1);
    for (int32_t v = 0; v < size(); ++v) {
      const uint64_t hash = vertices_[v].hash;
      size_t s = hash >> shift_;
      while (slots_[s].number >= 0) s = (s + 1) & mask_;
      slots_[s] = {static_cast<uint32_t>(hash), v};
    }
  }

  const VertexNames& names_;
  std::vector<Slot> slots_;
  std::vector<Vertex> vertices_;
  size_t mask_ = 0;
  int shift_ = 0;
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

  // f(vertex, the one that follows it along the axis), where there is one.
  template <class F>
  void each_following(int axis, const F& f) const {
    const uint64_t step = names_.step(axis);
    const int32_t size = static_cast<int32_t>(vertices_.size());
    Pair pairs[kPairs];
    int count = 0;
    for (int32_t i = 0; i < size; ++i) {
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
