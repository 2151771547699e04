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

constexpr int kTogether = 128;  // keys to look up at once: their slots are in L1

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
    std::vector<ByHash> by_hash(lattice_.num_threads);
    vertices_.link([&](int axis, const Team& team, Links* links) {
      ByHash& share = by_hash[team.id()];
      if (axis == 0) sort_by_hash(table, team, &share);
      find_links(table, share, axis, team, links);
    });
  }

 private:
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
    const int corners = f_.d + 1, per_block = corners * kBlock;
    const int64_t blocks = lattice_.blocks.size();
    HashTable<K>& table = vertices_.table(team.id());
    std::vector<Key<K>> keys(per_block);  // [d + 1][16]
    int32_t numbers[HashTable<K>::kMostTogether];
    for (int64_t b = team.begin(blocks); b < team.end(blocks); ++b) {
      embed_block(b, keys.data());
      lattice_.fresh[b] = table.size();
      table.find_all(keys.data(), {}, per_block, numbers);
      for (int k = 0; k < per_block; ++k) {
        if (numbers[k] < 0) numbers[k] = table.insert(keys[k]);
      }
      vertices_.set_entries(b, numbers);
    }
    if (f_.has_zero_point && team.id() == team.size() - 1) {
      Embedding e;
      alignas(64) const float zeros[kPackedDim * kBlock] = {};
      simd_kernels().embed(zeros, layout_.scale.data(), f_.d, &e);
      block_keys(e, keys.data());
      for (int r = 0; r < corners; ++r) table.insert(keys[r * kBlock]);
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

  // A thread's share of the vertices, in the order of their slots. K = 1: as a step adds the same
  // to all hashes, neighbours are looked up in that order, too, and memory is read from front to
  // back.
  struct ByHash {
    std::vector<Key<K>> keys;
    std::vector<int32_t> vertices;
  };
  static void sort_by_hash(const HashTable<K>& table, const Team& team, ByHash* share) {
    const auto slots = static_cast<int64_t>(table.num_slots());
    share->keys.reserve(table.size() / team.size() * 9 / 8);
    share->vertices.reserve(table.size() / team.size() * 9 / 8);
    table.each_in_slots(team.begin(slots), team.end(slots), [&](const Key<K>& key, int32_t vertex) {
      share->keys.push_back(key);
      share->vertices.push_back(vertex);
    });
  }

  void add_bridges(HashTable<K>* table) {
    Key<K> steps[kPackedDim + 1];
    for (int j = 0; j <= f_.d; ++j) steps[j] = wrap_[j] - ones_;
    const auto keys = find_bridges(*table, steps, f_.d + 1, lattice_.num_threads);
    for (const Key<K>& key : keys) table->insert(key);
    vertices_.add_bridges(static_cast<int64_t>(keys.size()));
  }

  // +d in the coordinate of the axis, -1 in all others.
  void find_links(const HashTable<K>& table, const ByHash& share, int axis, const Team& team,
                  Links* links) const {
    const Key<K> delta = wrap_[axis] - ones_;
    const int size = static_cast<int>(share.keys.size());
    int32_t next[kTogether];
    for (int i = 0; i < size; i += kTogether) {
      const int count = std::min(kTogether, size - i);
      table.find_all(&share.keys[i], delta, count, next);
      for (int k = 0; k < count; ++k) links->set(team, share.vertices[i + k], next[k]);
    }
  }

  const FeatureSource& f_;
  const KeyLayout& layout_;
  Lattice& lattice_;
  VertexNumbers<HashTable<K>> vertices_;
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
  lattice->alpha = alpha_of(features.d);
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
