// The steps of lattice_build.cpp, with vertices named by points (vertex_names.h): with many
// dimensions most vertices are touched by one point alone and have no neighbours, and there are up
// to d + 1 for each point.
#include "cpu/wide_lattice.h"

#include <algorithm>
#include <vector>

#include "common/parallel.h"
#include "cpu/vertex_numbers.h"
#include "cpu/vertex_table.h"

namespace deeplab_native {
namespace {

constexpr int kChunk = 8;       // blocks that are embedded before their vertices are looked up
constexpr int kLookAhead = 16;  // hashes to prefetch

class WideBuilder {
 public:
  WideBuilder(const FeatureSource& features, const KeyLayout& layout, Lattice* lattice)
      : f_(features),
        layout_(layout),
        lattice_(*lattice),
        names_(features.d, lattice->blocks.size() * kBlock + 1),
        vertices_(lattice, VertexTable(names_)) {}

  void build() {
    run_team(lattice_.num_threads, [&](Team& team) { insert_points(team); });
    const VerticesByHash by_hash(names_, vertices_.merge());
    vertices_.clear_tables();
    vertices_.link([&](int axis, const Team& team, Links* links) {
      const auto begin = static_cast<int32_t>(team.begin(lattice_.num_vertices));
      const auto end = static_cast<int32_t>(team.end(lattice_.num_vertices));
      for (int32_t i = begin; i < end; ++i) links->set(team, by_hash.number(i), -1);
      by_hash.each_following(axis, begin, end,
                             [&](int32_t from, int32_t to) { links->set(team, from, to); });
    });
  }

 private:
  // Neighbours often have the same vertex as the same corner: only the first of such a run is
  // looked up.
  void insert_points(Team& team) {
    const int corners = f_.d + 1;
    const int64_t per_block = int64_t{corners} * kBlock, blocks = lattice_.blocks.size();
    const int64_t begin = team.begin(blocks), end = team.end(blocks);
    VertexTable& table = vertices_.table(team.id());
    std::vector<uint64_t> hashes(kChunk * per_block);
    std::vector<Vertex> runs(hashes.size());
    std::vector<int32_t> run_of(hashes.size()), numbers(hashes.size()), of_entry(per_block);
    int32_t fresh = 0;  // the first vertex that no block has touched
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
        if (k + kLookAhead <= run) table.prefetch(runs[k + kLookAhead]);
        numbers[k] = table.insert(runs[k]);
      }
      const int32_t* of_run = run_of.data();
      for (int64_t b = first; b < first + count; ++b) {
        lattice_.fresh[b] = fresh;
        for (int64_t k = 0; k < per_block; ++k) {
          of_entry[k] = numbers[*of_run++];
          fresh = std::max(fresh, of_entry[k] + 1);
        }
        vertices_.set_entries(b, of_entry.data());
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

  const FeatureSource& f_;
  const KeyLayout& layout_;
  Lattice& lattice_;
  VertexNames names_;
  VertexNumbers<VertexTable> vertices_;
};

}  // namespace

void build_wide_lattice(const FeatureSource& features, const KeyLayout& layout, Lattice* lattice) {
  WideBuilder(features, layout, lattice).build();
}

}  // namespace deeplab_native
