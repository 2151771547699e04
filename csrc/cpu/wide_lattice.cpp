// The steps of lattice_build.cpp, with vertices named by points (vertex_names.h): with many
// dimensions most vertices are touched by one point alone and have no neighbours, and there are up
// to d + 1 for each point.
#include "cpu/wide_lattice.h"

#include <algorithm>
#include <stdexcept>

#include "common/parallel.h"
#include "cpu/vertex_table.h"

namespace deeplab_native {
namespace {

constexpr int kChunk = 8;       // blocks that are embedded before their vertices are looked up
constexpr int kLookAhead = 16;  // hashes to prefetch
constexpr int32_t kMostVertices = (1 << 29) - 1;  // 8 times their number is an entry

class WideBuilder {
 public:
  WideBuilder(const FeatureSource& features, const KeyLayout& layout, Lattice* lattice)
      : f_(features),
        layout_(layout),
        lattice_(*lattice),
        names_(features.d, lattice->blocks.size() * kBlock + 1),
        tables_(lattice->num_threads, VertexTable(names_)),
        vertex_of_(lattice->num_threads) {}

  void build() {
    run_team(lattice_.num_threads, [&](Team& team) { insert_points(team); });
    merge_tables();
    run_team(lattice_.num_threads, [&](Team& team) { renumber_points(team); });
    lattice_.fresh[lattice_.blocks.size()] = lattice_.num_vertices;
    const VerticesByHash by_hash(names_, tables_[0]);
    for (VertexTable& table : tables_) table.clear();
    lattice_.axes.resize(f_.d + 1);
    parallel_for(lattice_.num_threads, f_.d + 1, 1, [&](int64_t begin, int64_t end) {
      Links links(lattice_.num_vertices);
      for (int64_t j = begin; j < end; ++j) link_axis(by_hash, static_cast<int>(j), &links);
    });
  }

 private:
  struct Links {
    explicit Links(int32_t vertices) : next(vertices), has_previous(vertices) {}
    std::vector<int32_t> next;
    std::vector<uint8_t> has_previous;
  };

  // Neighbours often have the same vertex as the same corner: only the first of such a run is
  // looked up.
  void insert_points(Team& team) {
    const int corners = f_.d + 1;
    const int64_t per_block = int64_t{corners} * kBlock, blocks = lattice_.blocks.size();
    const int64_t begin = team.begin(blocks), end = team.end(blocks);
    VertexTable& table = tables_[team.id()];
    std::vector<uint64_t> hashes(kChunk * per_block);
    std::vector<Vertex> runs(hashes.size());
    std::vector<int32_t> run_of(hashes.size()), numbers(hashes.size());
    for (int64_t first = begin; first < end; first += kChunk) {
      const int64_t count = std::min<int64_t>(end - first, kChunk);
      for (int64_t b = 0; b < count; ++b) embed_block(first + b, hashes.data() + b * per_block);
      int32_t run = -1;
      for (int64_t k = 0; k < count * per_block; ++k) {
        const int64_t row = k / kBlock, lane = k % kBlock;
        const auto corner = static_cast<uint32_t>(row % corners);
        const auto point = static_cast<uint32_t>((first + row / corners) * kBlock + lane);
        const bool goes_on =
            lane > 0 && hashes[k] == hashes[k - 1] && names_.same(point - 1, point, corner);
        if (!goes_on) runs[++run] = {hashes[k], point, corner};
        run_of[k] = run;
      }
      for (int32_t k = 0; k <= run; ++k) {
        if (k + kLookAhead <= run) table.prefetch(runs[k + kLookAhead].hash);
        numbers[k] = table.insert(runs[k]);
      }
      uint32_t* entries = lattice_.entries.data() + first * per_block;
      for (int64_t k = 0; k < count * per_block; ++k) {
        entries[k] = static_cast<uint32_t>(numbers[run_of[k]]);
      }
    }
    if (f_.has_zero_point && team.id() == team.size() - 1) insert_zero_point(&table);
  }

  void insert_zero_point(VertexTable* table) {
    alignas(64) const float zeros[kMaxFeatureDim * kBlock] = {};
    alignas(64) WideEmbedding e;
    uint64_t hashes[(kMaxFeatureDim + 1) * kBlock];
    const int64_t point = lattice_.blocks.size() * kBlock;
    simd_kernels().embed_wide(zeros, layout_.scale.data(), f_.d, &e);
    names_.set(point, e, 0, hashes);
    for (int r = 0; r <= f_.d; ++r) {
      table->insert({hashes[r * kBlock], static_cast<uint32_t>(point), static_cast<uint32_t>(r)});
    }
  }

  // hashes: [d + 1][16]
  void embed_block(int64_t block, uint64_t* hashes) {
    alignas(64) float features[kMaxFeatureDim * kBlock];
    alignas(64) WideEmbedding e;
    const Blocks::Span span = lattice_.blocks[block];
    f_.gather(span, features);
    simd_kernels().embed_wide(features, layout_.scale.data(), f_.d, &e);
    for (int i = 0; i < kBlock; ++i) names_.set(block * kBlock + i, e, i, hashes + i);
    float* weights = lattice_.weights.data() + block * (f_.d + 1) * kBlock;
    for (int r = 0; r <= f_.d; ++r) {
      std::copy_n(e.weights[r], kBlock, weights + r * kBlock);
      std::fill(weights + r * kBlock + span.count, weights + (r + 1) * kBlock, 0.0f);
    }
  }

  // As in lattice_build.cpp: into the first thread's table, in the order of the blocks; then those
  // that several threads touch are put first.
  void merge_tables() {
    VertexTable& all = tables_[0];
    std::vector<uint8_t> shared;
    begin_.push_back(0);
    for (int t = 1; t < lattice_.num_threads; ++t) {
      const VertexTable& table = tables_[t];
      const int32_t known = all.size();
      shared.resize(known);
      begin_.push_back(known);
      vertex_of_[t].resize(table.size());
      for (int32_t v = 0; v < table.size(); ++v) {
        if (v + kLookAhead < table.size()) all.prefetch(table.vertex(v + kLookAhead).hash);
        const int32_t vertex = vertex_of_[t][v] = all.insert(table.vertex(v));
        if (vertex < known) shared[vertex] = 1;
      }
    }
    if (all.size() > kMostVertices) {
      throw std::invalid_argument("features: more than 2^29 lattice vertices; filter in parts");
    }
    const int32_t vertices = lattice_.num_vertices = all.size();
    shared.resize(vertices);
    lattice_.num_shared = static_cast<int32_t>(std::count(shared.begin(), shared.end(), 1));
    if (lattice_.num_rows() > kMostVertices) {
      throw std::invalid_argument("features: more than 2^29 lattice rows; use fewer threads");
    }
    number_.resize(vertices);
    int32_t next_shared = 0, next = lattice_.num_shared;
    for (int32_t v = 0; v < vertices; ++v) number_[v] = shared[v] ? next_shared++ : next++;
  }

  void renumber_points(const Team& team) {
    const int64_t per_block = int64_t{f_.d + 1} * kBlock, blocks = lattice_.blocks.size();
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

  // The lattice's lines along one axis.
  void link_axis(const VerticesByHash& by_hash, int axis, Links* links) {
    const int32_t m = lattice_.num_vertices;
    std::vector<int32_t>& next = links->next;
    std::vector<uint8_t>& has_previous = links->has_previous;
    std::fill(next.begin(), next.end(), -1);
    std::fill(has_previous.begin(), has_previous.end(), 0);
    by_hash.each_following(axis, [&](int32_t from, int32_t to) {
      next[from] = to;
      has_previous[to] = 1;
    });
    Lattice::Axis& lines = lattice_.axes[axis];
    for (int32_t v = 0; v < m; ++v) {
      if (has_previous[v] || next[v] < 0) continue;
      int32_t u = v;
      for (; next[u] >= 0; u = next[u]) lines.order.push_back(number_[u]);
      lines.order.push_back(number_[u] | INT32_MIN);
    }
    lines.order.shrink_to_fit();
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

  const FeatureSource& f_;
  const KeyLayout& layout_;
  Lattice& lattice_;
  VertexNames names_;
  std::vector<VertexTable> tables_;              // of each thread; [0] becomes that of all
  std::vector<std::vector<int32_t>> vertex_of_;  // [t][number in its table]: in that of all
  std::vector<int32_t> begin_;                   // [t]: the first that thread t added to it
  std::vector<int32_t> number_;                  // [number in that table]: the lattice's
};

}  // namespace

void build_wide_lattice(const FeatureSource& features, const KeyLayout& layout, Lattice* lattice) {
  WideBuilder(features, layout, lattice).build();
}

}  // namespace deeplab_native
