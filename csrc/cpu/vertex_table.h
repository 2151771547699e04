// From vertices of many dimensions to their numbers, and to their neighbours.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu/vertex_names.h"

namespace deeplab_native {

// Open addressing; hashes say where to look, and names whether it is the same vertex.
class VertexTable {
 public:
  explicit VertexTable(const VertexNames& names) : names_(names) { resize_slots(14); }

  int32_t size() const { return static_cast<int32_t>(vertices_.size()); }
  const Vertex& vertex(int32_t number) const { return vertices_[number]; }
  void prefetch(uint64_t hash) const { __builtin_prefetch(&slots_[hash >> shift_]); }

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

  // Room for slots is given back: from then on vertices are only read.
  void finish() { slots_ = {}; }

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
  VerticesByHash(const VertexNames& names, const VertexTable& table)
      : names_(names), table_(table) {
    const int32_t size = table.size();
    int bits = 1;
    while (bits < 31 && (int32_t{1} << bits) < size) ++bits;
    shift_ = 64 - bits;
    begin_.assign((size_t{1} << bits) + 1, 0);
    for (int32_t v = 0; v < size; ++v) ++begin_[(table.vertex(v).hash >> shift_) + 1];
    for (size_t b = 1; b < begin_.size(); ++b) begin_[b] += begin_[b - 1];
    hashes_.resize(size);
    numbers_.resize(size);
    std::vector<int32_t> next(begin_.begin(), begin_.end() - 1);
    for (int32_t v = 0; v < size; ++v) {
      const uint64_t hash = table.vertex(v).hash;
      const int32_t place = next[hash >> shift_]++;
      hashes_[place] = hash;
      numbers_[place] = v;
    }
  }

  // f(vertex, the one that follows it along the axis), where there is one.
  template <class F>
  void each_following(int axis, const F& f) const {
    const uint64_t step = names_.step(axis);
    const size_t size = hashes_.size();
    for (size_t i = 0; i < size; ++i) {
      const uint64_t wanted = hashes_[i] + step;
      const size_t bucket = wanted >> shift_;
      for (int32_t k = begin_[bucket]; k < begin_[bucket + 1]; ++k) {
        if (hashes_[k] != wanted) continue;
        const int32_t from = numbers_[i], to = numbers_[k];
        if (names_.follows(table_.vertex(to), table_.vertex(from), axis)) f(from, to);
      }
    }
  }

 private:
  const VertexNames& names_;
  const VertexTable& table_;
  int shift_;
  std::vector<int32_t> begin_;  // of each bucket
  std::vector<uint64_t> hashes_;
  std::vector<int32_t> numbers_;  // in the table
};

}  // namespace deeplab_native
