// Building the lattice: which vertices the points touch, and the lines along which it is blurred.
#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "common/parallel.h"
#include "cpu/kept_lattices.h"
#include "cpu/lattice_bridges.h"
#include "cpu/simd_kernels.h"
#include "cpu/vertex_numbers.h"
#include "cpu/wide_lattice.h"
#include "ops/permutohedral.h"

namespace deeplab_native {
namespace {

constexpr int kChunk = 8;  // blocks that are embedded before their keys are looked up

template <int K>
class Builder {
 public:
  Builder(const FeatureSource& features, const KeyLayout& layout, Lattice* lattice)
      : f_(features), layout_(layout), lattice_(*lattice), vertices_(lattice, HashTable<K>()) {
    for (int i = 0; i <= f_.d; ++i) unit_[i] = unit<K>(layout_, i);
    for (int i = 0; i < f_.d; ++i) ones_ = ones_ + unit_[i];
    for (int i = 0; i <= f_.d; ++i) {
      wrap_[i] = Key<K>{};
      for (int k = 0; k <= f_.d; ++k) wrap_[i] = wrap_[i] + unit_[i];
    }
  }

  void build() {
    run_team(lattice_.num_threads, [&](Team& team) { insert_points(team); });
    HashTable<K>& table = vertices_.merge();
    if (f_.bridged) add_bridges(&table);
    vertices_.number_vertices();
    if (lattice_.num_threads > 1) {
      run_team(lattice_.num_threads, [&](Team& team) { vertices_.renumber_points(team); });
    }
    lattice_.axes.resize(f_.d + 1);
    parallel_for(lattice_.num_threads, f_.d + 1, 1, [&](int64_t begin, int64_t end) {
      Links links;
      for (int64_t j = begin; j < end; ++j) {
        find_links(table, static_cast<int>(j), &links);
        vertices_.link(static_cast<int>(j), links);
      }
    });
  }

 private:
  // What the points of a few blocks touch, while it is worked out. Neighbours often have the same
  // vertex as the same corner: only the first of such a run is looked up.
  struct Chunk {
    explicit Chunk(int corners)
        : keys(size_t(kChunk) * corners * kBlock), runs(keys.size()), starts(keys.size()) {}
    std::vector<Key<K>> keys;      // [blocks][d + 1][16]
    std::vector<int32_t> runs;     // of each key
    std::vector<Key<K>> starts;    // of each run
    std::vector<int32_t> numbers;  // of each run, in the thread's table
  };

  // Keys of the d + 1 vertices of each point. Vertex r + 1 follows from vertex r by adding one to
  // every coordinate, and taking d + 1 off the coordinate of rank d - r (the canonical simplex).
  void block_keys(const Embedding& e, Key<K>* keys) const {
    if constexpr (K == 1) {
      simd_kernels().pack_keys(e, layout_.shift.data(), layout_.least.data(), f_.d,
                               &keys[0].words[0]);
    } else {
      for (int i = 0; i < kBlock; ++i) point_keys(e, i, keys + i);
    }
  }
  void point_keys(const Embedding& e, int i, Key<K>* keys) const {
    const int d = f_.d;
    int axis_of_rank[kPackedDim + 1];
    Key<K> key{};
    for (int j = 0; j <= d; ++j) {
      axis_of_rank[e.rank[j][i]] = j;
      if (j < d) {
        key.words[layout_.word[j]] += static_cast<uint64_t>(e.remainder0[j][i] - layout_.least[j])
                                      << layout_.shift[j];
      }
    }
    keys[0] = key;
    for (int r = 1; r <= d; ++r) {
      key = key + ones_ - wrap_[axis_of_rank[d + 1 - r]];
      keys[r * kBlock] = key;
    }
  }

  void insert_points(Team& team) {
    const int corners = f_.d + 1;
    const int64_t blocks = lattice_.blocks.size();
    const int64_t begin = team.begin(blocks), end = team.end(blocks);
    HashTable<K>& table = vertices_.table(team.id());
    Chunk chunk(corners);
    int32_t fresh = 0;  // with one thread: the first vertex that no block has touched
    for (int64_t first = begin; first < end; first += kChunk) {
      const int64_t count = std::min<int64_t>(end - first, kChunk);
      for (int64_t b = 0; b < count; ++b) {
        embed_block(first + b, chunk.keys.data() + b * corners * kBlock);
      }
      insert_runs(count * corners * kBlock, &table, &chunk);
      uint32_t* entries = lattice_.entries.data() + first * corners * kBlock;
      if (team.size() > 1) {  // renumber_points() looks at them again
        for (int64_t k = 0; k < count * corners * kBlock; ++k) {
          entries[k] = static_cast<uint32_t>(chunk.numbers[chunk.runs[k]]);
        }
        continue;
      }
      const int32_t* run = chunk.runs.data();
      for (int64_t b = first; b < first + count; ++b) {
        lattice_.fresh[b] = fresh;
        for (int k = 0; k < corners * kBlock; ++k) {
          const int32_t vertex = chunk.numbers[*run++];
          *entries++ = static_cast<uint32_t>(vertex) * kPlane;
          fresh = std::max(fresh, vertex + 1);
        }
      }
    }
    if (f_.has_zero_point && team.id() == team.size() - 1) {
      Embedding e;
      alignas(64) const float zeros[kPackedDim * kBlock] = {};
      simd_kernels().embed(zeros, layout_.scale.data(), f_.d, &e);
      block_keys(e, chunk.keys.data());
      for (int r = 0; r < corners; ++r) table.insert(chunk.keys[r * kBlock]);
    }
  }

  void embed_block(int64_t block, Key<K>* keys) {
    alignas(64) float features[kPackedDim * kBlock];
    alignas(64) Embedding e;
    const Blocks::Span span = lattice_.blocks[block];
    f_.gather(span, features);
    simd_kernels().embed(features, layout_.scale.data(), f_.d, &e);
    block_keys(e, keys);
    float* weights = lattice_.weights.data() + block * (f_.d + 1) * kBlock;
    for (int r = 0; r <= f_.d; ++r) {
      std::copy_n(e.weights[r], kBlock, weights + r * kBlock);
      std::fill(weights + r * kBlock + span.count, weights + (r + 1) * kBlock, 0.0f);
    }
  }

  static void insert_runs(int64_t num_keys, HashTable<K>* table, Chunk* chunk) {
    int32_t run = -1;
    for (int64_t k = 0; k < num_keys; ++k) {
      const Key<K>& key = chunk->keys[k];
      run += k == 0 || !(key == chunk->keys[k - 1]);
      chunk->starts[run] = key;
      chunk->runs[k] = run;
    }
    chunk->numbers.resize(run + 1);
    for (int32_t k = 0; k <= run; ++k) {
      if (k + kAhead <= run) table->prefetch(chunk->starts[k + kAhead]);
      chunk->numbers[k] = table->insert(chunk->starts[k]);
    }
  }

  void add_bridges(HashTable<K>* table) {
    Key<K> steps[kPackedDim + 1];
    for (int j = 0; j <= f_.d; ++j) steps[j] = wrap_[j] - ones_;
    const auto keys = find_bridges(*table, steps, f_.d + 1, lattice_.num_threads);
    for (const Key<K>& key : keys) table->insert(key);
    lattice_.num_bridges = static_cast<int32_t>(keys.size());
  }

  // +d in the coordinate of the axis, -1 in all others.
  void find_links(const HashTable<K>& table, int axis, Links* links) const {
    const int32_t m = table.size();
    const Key<K> delta = wrap_[axis] - ones_;
    links->clear(m);
    for (int32_t v = 0; v < m; ++v) {
      if (v + kAhead < m) table.prefetch(table.key(v + kAhead) + delta);
      const int32_t next = table.find(table.key(v) + delta);
      if (next >= 0) links->add(v, next);
    }
  }

  const FeatureSource& f_;
  const KeyLayout& layout_;
  Lattice& lattice_;
  VertexNumbers<HashTable<K>> vertices_;
  static constexpr int kAhead = VertexNumbers<HashTable<K>>::kLookAhead;
  Key<K> unit_[kPackedDim + 1], wrap_[kPackedDim + 1], ones_{};
};

std::shared_ptr<Lattice> build(const FeatureSource& features, int num_threads) {
  if (features.d < 1 || features.d > kMaxFeatureDim) {
    throw std::invalid_argument("features: expected 1 to " + std::to_string(kMaxFeatureDim) +
                                " dimensions, got " + std::to_string(features.d));
  }
  if (features.bridged && features.d > kPackedDim) {
    throw std::invalid_argument("features: expected at most " + std::to_string(kPackedDim) +
                                " dimensions of a bridged lattice, got " +
                                std::to_string(features.d));
  }
  if (features.n > INT32_MAX / (features.d + 1)) {
    throw std::invalid_argument("features: more than 2^31 vertices for " +
                                std::to_string(features.n) + " points; filter them in parts");
  }
  auto lattice = std::make_shared<Lattice>();
  lattice->d = features.d;
  lattice->blocks = Blocks(features.n, features.width);
  const int64_t blocks = lattice->blocks.size();
  lattice->num_threads = static_cast<int>(std::clamp<int64_t>(blocks, 1, std::max(1, num_threads)));
  lattice->bridged = features.bridged;
  lattice->num_bridges = 0;
  lattice->alpha = 1.0f / (1.0f + std::pow(2.0f, -static_cast<float>(features.d)));
  const KeyLayout layout = key_layout(features, num_threads);  // throws where they are no good
  const size_t entries = size_t(blocks) * (features.d + 1) * kBlock;
  lattice->entries.resize(entries);
  lattice->weights.resize(entries);
  lattice->fresh.resize(blocks + 1);
  if (features.d > kPackedDim) {
    build_wide_lattice(features, layout, lattice.get());
  } else if (layout.num_words == 1) {
    Builder<1>(features, layout, lattice.get()).build();
  } else if (layout.num_words == 2) {
    Builder<2>(features, layout, lattice.get()).build();
  } else if (layout.num_words <= 4) {
    Builder<4>(features, layout, lattice.get()).build();
  } else {
    Builder<8>(features, layout, lattice.get()).build();
  }
  return lattice;
}

}  // namespace

std::shared_ptr<const Lattice> build_lattice_cpu(const Features& features, int num_threads) {
  return build(ArrayFeatures(features), num_threads);
}

std::shared_ptr<const Lattice> build_image_lattice_cpu(const Image& image, int num_threads) {
  const auto built = [&] { return build(PixelFeatures(image), num_threads); };
  return image.channel_sigmas.empty() ? kept_lattice(image, num_threads, built) : built();
}

}  // namespace deeplab_native
