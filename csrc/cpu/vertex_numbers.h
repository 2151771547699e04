// From the vertices that the threads found, each in a table of its own, to the lattice's numbers
// and lines: the same for vertices of few dimensions and of many, whose tables differ.
#pragma once
#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "common/parallel.h"
#include "ops/permutohedral.h"

namespace deeplab_native {

// Which vertex follows which along one axis, by their numbers in the table of all; -1: none.
struct Links {
  void clear(int32_t vertices) {
    next.assign(vertices, -1);
    has_previous.assign(vertices, 0);
  }
  void add(int32_t from, int32_t to) {
    next[from] = to;
    has_previous[to] = 1;
  }
  std::vector<int32_t> next;
  std::vector<uint8_t> has_previous;
};

// Table: size(), key(number), prefetch(key) and insert(key), which gives new keys the next number.
template <class Table>
class VertexNumbers {
 public:
  // Entries of the lattice are numbers in the tables of the threads, whose blocks they are of.
  VertexNumbers(Lattice* lattice, const Table& empty)
      : lattice_(*lattice),
        tables_(lattice->num_threads, empty),
        vertex_of_(lattice->num_threads) {}

  Table& table(int thread) { return tables_[thread]; }

  // Into the first thread's table, where vertices have the numbers of the order of the blocks.
  // Vertices that no point touches may be inserted afterwards, until number_vertices(): what comes
  // last is cleared with the last block, but for the lattice's bridges.
  Table& merge() {
    Table& all = tables_[0];
    begin_.push_back(0);
    for (int t = 1; t < lattice_.num_threads; ++t) {
      const Table& table = tables_[t];
      const int32_t known = all.size();
      shared_.resize(known);
      begin_.push_back(known);
      vertex_of_[t].resize(table.size());
      for (int32_t v = 0; v < table.size(); ++v) {
        if (v + kLookAhead < table.size()) all.prefetch(table.key(v + kLookAhead));
        const int32_t vertex = vertex_of_[t][v] = all.insert(table.key(v));
        if (vertex < known) shared_[vertex] = 1;
      }
    }
    return all;
  }

  // Those that several threads touch are put first.
  void number_vertices() {
    const int32_t vertices = tables_[0].size();
    if (vertices > kMostVertices) {
      throw std::invalid_argument("features: more than 2^29 lattice vertices; filter in parts");
    }
    lattice_.num_vertices = vertices;
    shared_.resize(vertices);
    lattice_.num_shared = static_cast<int32_t>(std::count(shared_.begin(), shared_.end(), 1));
    if (lattice_.num_rows() > kMostVertices) {
      throw std::invalid_argument("features: more than 2^29 lattice rows; use fewer threads");
    }
    number_.resize(vertices);
    int32_t next_shared = 0, next = lattice_.num_shared;
    for (int32_t v = 0; v < vertices; ++v) number_[v] = shared_[v] ? next_shared++ : next++;
    lattice_.fresh[lattice_.blocks.size()] = vertices - lattice_.num_bridges;
  }

  // Entries and `fresh` of the thread's blocks.
  void renumber_points(const Team& team) {
    const int64_t per_block = int64_t{lattice_.d + 1} * kBlock, blocks = lattice_.blocks.size();
    const auto own = static_cast<uint32_t>(lattice_.num_shared);  // numbers from here on
    int32_t fresh = lattice_.num_shared;  // the first of the thread's own vertices
    for (int32_t v = 0; v < begin_[team.id()]; ++v) fresh += number_[v] >= lattice_.num_shared;
    for (int64_t b = team.begin(blocks); b < team.end(blocks); ++b) {
      lattice_.fresh[b] = fresh;
      uint32_t* entries = lattice_.entries.data() + b * per_block;
      for (int64_t i = 0; i < per_block; ++i) {
        const int32_t known = team.id() > 0 ? vertex_of_[team.id()][entries[i]] : entries[i];
        const auto v = static_cast<uint32_t>(number_[known]);
        entries[i] = v * kPlane;
        if (v >= own) fresh = std::max(fresh, static_cast<int32_t>(v) + 1);
      }
    }
  }

  // The lattice's lines along one axis, and the threads' shares of them.
  void link(int axis, const Links& links) {
    const std::vector<int32_t>& next = links.next;
    Lattice::Axis& lines = lattice_.axes[axis];
    lines.order.reserve(next.size() - std::count(next.begin(), next.end(), -1));
    for (int32_t v = 0; v < lattice_.num_vertices; ++v) {
      if (links.has_previous[v] || next[v] < 0) continue;
      int32_t u = v;
      for (; next[u] >= 0; u = next[u]) lines.order.push_back(number_[u]);
      lines.order.push_back(number_[u] | INT32_MIN);
    }
    const int threads = lattice_.num_threads;
    const int64_t length = static_cast<int64_t>(lines.order.size());
    lines.cuts.assign(threads + 1, 0);
    for (int t = 1; t < threads; ++t) {
      int64_t cut = std::max(lines.cuts[t - 1], length * t / threads);
      while (cut > 0 && cut < length && lines.order[cut - 1] >= 0) ++cut;
      lines.cuts[t] = cut;
    }
    lines.cuts[threads] = length;
  }

  static constexpr int kLookAhead = 16;  // keys to prefetch

 private:
  static constexpr int32_t kMostVertices = (1 << 29) - 1;  // 8 times their number is an entry

  Lattice& lattice_;
  std::vector<Table> tables_;                    // of each thread; [0] becomes that of all
  std::vector<std::vector<int32_t>> vertex_of_;  // [t][number in its table]: in that of all
  std::vector<int32_t> begin_;                   // [t]: the first that thread t added to it
  std::vector<uint8_t> shared_;                  // [number in that table]: several threads touch it
  std::vector<int32_t> number_;                  // the same: the lattice's
};

}  // namespace deeplab_native
