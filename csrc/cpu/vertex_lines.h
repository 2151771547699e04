// The lines of a lattice along its axes, from which vertex follows which.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "common/buffer.h"
#include "common/parallel.h"
#include "ops/permutohedral.h"

namespace deeplab_native {

// Of one axis, by the numbers of vertices.
class Links {
 public:
  Links(int32_t vertices, int threads)
      : vertices_(vertices),
        next_(vertices),
        has_previous_(int64_t{vertices} + int64_t{threads} * kApart) {}

  const int32_t* next() const { return next_.data(); }  // the vertex that follows, -1: none
  // Without a branch: a thread has a place of its own for what nothing follows.
  void set(const Team& team, int32_t vertex, int32_t next) {
    next_[vertex] = next;
    has_previous_[next < 0 ? vertices_ + int64_t{team.id()} * kApart : int64_t{next}] = 1;
  }
  // Writes the vertices of [begin, end) that begin a line; returns how many.
  int32_t starts(int32_t begin, int32_t end, int32_t* to) const {
    int32_t count = 0;
    for (int32_t v = begin; v < end; ++v) {
      to[count] = v;
      count += (next_[v] >= 0) & (has_previous_[v] == 0);
    }
    return count;
  }
  void forget_previous(int32_t begin, int32_t end) {
    std::memset(has_previous_.data() + begin, 0, end - begin);
  }

 private:
  static constexpr int kApart = 64;  // bytes, so that threads write to cache lines of their own

  const int32_t vertices_;
  Buffer<int32_t> next_;
  Buffer<uint8_t> has_previous_;
};

// All axes' lines, in the order of their first vertices, and the threads' shares of them.
// find(axis, team, links): sets what follows each vertex of a thread's share of them, which may be
// any.
template <class Find>
void find_lines(const Find& find, int32_t vertices, Lattice* lattice) {
  const int threads = lattice->num_threads, axes = lattice->d + 1;
  lattice->axes.resize(axes);
  Links links[2] = {Links(vertices, threads),
                    Links(vertices, threads)};  // one is read, the other written
  std::vector<std::vector<int32_t>> pieces(size_t(threads) * axes);
  std::vector<Buffer<int32_t>> scratch;
  for (int t = 0; t < 2 * threads; ++t) scratch.emplace_back(vertices);

  run_team(threads, [&](Team& team) {
    const auto begin = static_cast<int32_t>(team.begin(vertices));
    const auto end = static_cast<int32_t>(team.end(vertices));
    for (Links& l : links) l.forget_previous(begin, end);
    team.barrier();
    int32_t* const starts = scratch[2 * team.id()].data();
    int32_t* const line = scratch[2 * team.id() + 1].data();
    for (int j = 0; j < axes; ++j) {
      Links& own = links[j % 2];
      find(j, team, &own);
      team.barrier();  // nobody reads the other ones any more, either
      const int32_t* next = own.next();
      const int32_t count = own.starts(begin, end, starts);
      own.forget_previous(begin, end);
      int64_t length = 0;
      for (int32_t i = 0; i < count; ++i) {
        int32_t v = starts[i];
        for (; next[v] >= 0; v = next[v]) line[length++] = v;
        line[length++] = v | INT32_MIN;
      }
      pieces[size_t(j) * threads + team.id()].assign(line, line + length);
    }
  });
  parallel_for(threads, axes, 1, [&](int64_t first, int64_t last) {
    for (int64_t j = first; j < last; ++j) {
      Lattice::Axis& lines = lattice->axes[j];
      std::vector<int32_t>* const of = &pieces[size_t(j) * threads];
      int64_t length = 0;
      for (int t = 0; t < threads; ++t) length += static_cast<int64_t>(of[t].size());
      lines.order = std::move(of[0]);
      lines.order.reserve(length);
      for (int t = 1; t < threads; ++t) {
        lines.order.insert(lines.order.end(), of[t].begin(), of[t].end());
      }
      lines.cuts.assign(threads + 1, 0);
      for (int t = 1; t < threads; ++t) {
        int64_t cut = std::max(lines.cuts[t - 1], length * t / threads);
        while (cut > 0 && cut < length && lines.order[cut - 1] >= 0) ++cut;
        lines.cuts[t] = cut;
      }
      lines.cuts[threads] = length;
    }
  });
}

}  // namespace deeplab_native
