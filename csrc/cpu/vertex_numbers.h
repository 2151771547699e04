// From the vertices that the threads found, each in a table of its own, to the lattice's numbers
// and lines: the same for vertices of few dimensions and of many, whose tables differ. All of it by
// all threads; numbers and lines do not depend on which of them is faster.
#pragma once
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "common/buffer.h"
#include "common/parallel.h"
#include "cpu/vertex_lines.h"
#include "ops/permutohedral.h"

namespace deeplab_native {

// Table: HashTable or VertexTable.
template <class Table>
class VertexNumbers {
 public:
  VertexNumbers(Lattice* lattice, const Table& empty)
      : lattice_(*lattice),
        threads_(lattice->num_threads),
        corners_(lattice->d + 1),
        all_(empty),
        tables_(threads_, empty) {}

  // Of one thread, for what its blocks touch. lattice.fresh[b] is its size before block b.
  Table& table(int thread) { return tables_[thread]; }

  // numbers: in the thread's table.
  void set_entries(int64_t block, const int32_t* numbers) {
    const int per_block = corners_ * kBlock;
    uint32_t* entries = lattice_.entries.data() + block * per_block;
    const uint32_t unit = threads_ == 1 ? kPlane : 1;  // else number_points() looks at them again
    for (int k = 0; k < per_block; ++k) entries[k] = static_cast<uint32_t>(numbers[k]) * unit;
  }

  // The table of all vertices, by the lattice's numbers: first those that several threads touch,
  // then each thread's own, both in the order in which blocks touch them. What is inserted into it
  // before link() comes last, and is on the lattice's lines with the others; see add_bridges().
  Table& merge() {
    begin_.assign(threads_ + 1, 0);
    for (int t = 0; t < threads_; ++t) begin_[t + 1] = begin_[t] + tables_[t].size();
    if (threads_ == 1) {
      set_sizes(tables_[0].size(), 0);
      return tables_[0];
    }
    const int64_t total = begin_[threads_];
    choose_regions(total);
    run_team(threads_, [&](Team& team) { sort_by_region(team); });
    make_room(total);
    slot_.resize(total);
    state_.resize(total);
    counts_.assign(threads_, {});
    run_team(threads_, [&](Team& team) {
      merge_regions(team);
      team.barrier();
      count_vertices(team);
    });
    int64_t shared = 0, own = 0;
    for (const Count& c : counts_) {
      shared += c.shared;
      own += c.own;
    }
    set_sizes(shared + own, shared);
    all_.resize(lattice_.num_vertices);
    run_team(threads_, [&](Team& team) {
      number_vertices(team);
      team.barrier();
      number_points(team);
    });
    return all_;
  }

  // So many were inserted into the table of merge(): the lattice's bridges.
  void add_bridges(int64_t count) {
    lattice_.num_bridges = static_cast<int32_t>(count);
    set_sizes(lattice_.num_vertices + count, lattice_.num_shared);
  }

  // Where the lattice's lines are known without them.
  void clear_tables() {
    all_.clear();
    for (Table& table : tables_) table.clear();
  }

  // find(axis, team, links): see find_lines.
  template <class Find>
  void link(const Find& find) {
    find_lines(find, lattice_.num_vertices, &lattice_);
  }

 private:
  // What several threads count is on different cache lines.
  struct alignas(64) Count {
    int64_t shared = 0, own = 0;
  };
  enum State : uint8_t { kOwn, kShared, kKnown };  // kKnown: to a thread before

  static constexpr int kLookAhead = 16;                    // keys to prefetch
  static constexpr int32_t kMostVertices = (1 << 29) - 1;  // 8 times their number is an entry

  void set_sizes(int64_t vertices, int64_t shared) {
    if (vertices > kMostVertices) {
      throw std::invalid_argument("features: more than 2^29 lattice vertices; filter in parts");
    }
    lattice_.num_vertices = static_cast<int32_t>(vertices);
    lattice_.num_shared = static_cast<int32_t>(shared);
    if (lattice_.num_rows() > kMostVertices) {
      throw std::invalid_argument("features: more than 2^29 lattice rows; use fewer threads");
    }
    lattice_.fresh[lattice_.blocks.size()] = lattice_.num_vertices - lattice_.num_bridges;
  }

  // A region has 1024 vertices or more in the mean, and a thread 4 regions where there are enough.
  void choose_regions(int64_t total) {
    while (regions() < 4 * threads_ && total >> (region_bits_ + 1) >= 1024) ++region_bits_;
    order_.resize(total);
    region_begin_.assign(size_t(threads_) * (regions() + 1), 0);
  }
  int regions() const { return 1 << region_bits_; }
  int region_of(uint64_t hash) const {
    return region_bits_ == 0 ? 0 : static_cast<int>(hash >> (64 - region_bits_));
  }
  // Where a thread's vertices of a region begin in order_.
  int64_t& region_begin(int thread, int region) {
    return region_begin_[size_t(thread) * (regions() + 1) + region];
  }

  // The thread's vertices by region, within one in their order.
  void sort_by_region(const Team& team) {
    const int t = team.id();
    const Table& table = tables_[t];
    for (int32_t v = 0; v < table.size(); ++v) {
      ++region_begin(t, region_of(Table::hash(table.key(v))) + 1);
    }
    region_begin(t, 0) = begin_[t];
    for (int r = 0; r < regions(); ++r) region_begin(t, r + 1) += region_begin(t, r);
    std::vector<int64_t> next(regions());
    for (int r = 0; r < regions(); ++r) next[r] = region_begin(t, r);
    for (int32_t v = 0; v < table.size(); ++v) {
      order_[next[region_of(Table::hash(table.key(v)))]++] = v;
    }
  }

  // At most 3 of 4 slots of a region are taken, 1 of 2 in the mean.
  void make_room(int64_t total) {
    int64_t most = 1;
    for (int r = 0; r < regions(); ++r) {
      int64_t count = 0;
      for (int t = 0; t < threads_; ++t) count += region_begin(t, r + 1) - region_begin(t, r);
      most = std::max(most, count);
    }
    int bits = region_bits_ + 1;
    const auto fits = [&] {
      return (int64_t{1} << bits) >= 2 * total && (int64_t{3} << (bits - region_bits_)) >= 4 * most;
    };
    while (!fits()) ++bits;
    all_.make_room(bits, region_bits_);
  }

  const auto& key_of(int64_t i) const {
    int t = 0;
    while (i >= begin_[t + 1]) ++t;
    return tables_[t].key(static_cast<int32_t>(i - begin_[t]));
  }

  // The thread's regions: for each, what all threads touch of it, in their order.
  void merge_regions(const Team& team) {
    const auto claim = [&](int t, int32_t v) {
      const int64_t i = begin_[t] + v;
      const size_t slot = all_.claim(tables_[t].key(v), static_cast<int32_t>(i),
                                     [&](int32_t k) { return key_of(k); });
      const int32_t first = all_.number(slot);
      slot_[i] = static_cast<uint32_t>(slot);
      state_[i] = first == i ? kOwn : kKnown;
      if (first != i) state_[first] = kShared;
    };
    const size_t slots = all_.num_slots() >> region_bits_;  // of each region
    for (int64_t r = team.begin(regions()); r < team.end(regions()); ++r) {
      const int region = static_cast<int>(r);
      all_.clear_slots(region * slots, (region + 1) * slots);
      for (int t = 0; t < threads_; ++t) {
        const int64_t end = region_begin(t, region + 1);
        for (int64_t k = region_begin(t, region); k < end; ++k) {
          if (k + kLookAhead < end) all_.prefetch(tables_[t].key(order_[k + kLookAhead]));
          claim(t, order_[k]);
        }
      }
    }
  }

  void count_vertices(const Team& team) {
    Count count;
    for (int64_t i = begin_[team.id()]; i < begin_[team.id() + 1]; ++i) {
      count.own += state_[i] == kOwn;
      count.shared += state_[i] == kShared;
    }
    counts_[team.id()] = count;
  }

  // Of the vertices that the thread is the first to touch.
  void number_vertices(const Team& team) {
    int64_t shared = 0, own = lattice_.num_shared;
    for (int t = 0; t < team.id(); ++t) {
      shared += counts_[t].shared;
      own += counts_[t].own;
    }
    const Table& table = tables_[team.id()];
    const int64_t begin = begin_[team.id()];
    for (int32_t v = 0; v < table.size(); ++v) {
      const uint8_t state = state_[begin + v];
      if (state == kKnown) continue;
      const int64_t number = state == kShared ? shared++ : own++;
      all_.set(slot_[begin + v], static_cast<int32_t>(number), table.key(v));
    }
  }

  // Entries and `fresh` of the thread's blocks, from numbers in its table to the lattice's.
  void number_points(const Team& team) {
    const int64_t per_block = int64_t{corners_} * kBlock, blocks = lattice_.blocks.size();
    const int64_t begin = begin_[team.id()], size = begin_[team.id() + 1] - begin;
    std::vector<uint32_t> entry(size);
    // of the vertices before each, how many are the thread's own: `fresh` counts these
    std::vector<int32_t> fresh(size + 1);
    fresh[0] = lattice_.num_shared;
    for (int t = 0; t < team.id(); ++t) fresh[0] += static_cast<int32_t>(counts_[t].own);
    for (int64_t v = 0; v < size; ++v) {
      entry[v] = static_cast<uint32_t>(all_.number(slot_[begin + v])) * kPlane;
      fresh[v + 1] = fresh[v] + (state_[begin + v] == kOwn);
    }
    for (int64_t b = team.begin(blocks); b < team.end(blocks); ++b) {
      lattice_.fresh[b] = fresh[lattice_.fresh[b]];
      uint32_t* entries = lattice_.entries.data() + b * per_block;
      for (int64_t k = 0; k < per_block; ++k) entries[k] = entry[entries[k]];
    }
  }

  Lattice& lattice_;
  const int threads_, corners_;
  Table all_;
  std::vector<Table> tables_;   // of each thread
  std::vector<int64_t> begin_;  // [t]: where its vertices begin in what follows, [total]
  int region_bits_ = 0;
  std::vector<int64_t> region_begin_;  // [t][regions + 1]
  Buffer<int32_t> order_;              // numbers in the thread's table, region by region
  Buffer<uint32_t> slot_;              // in the table of all
  Buffer<uint8_t> state_;
  std::vector<Count> counts_;
};

}  // namespace deeplab_native
