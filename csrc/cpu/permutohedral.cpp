// Building the lattice on the CPU, and filtering with it.
#include "ops/permutohedral.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>
#include <string>

#include "common/isa.h"
#include "common/parallel.h"
#include "cpu/lattice_keys.h"
#include "cpu/lattice_rows.h"
#include "cpu/simd_kernels.h"

namespace deeplab_native {
namespace {

constexpr int kChunk = 8;       // blocks that are embedded before their keys are looked up
constexpr int kLookAhead = 16;  // keys to prefetch

template <int K>
class Builder {
 public:
  Builder(const Features& features, const KeyLayout& layout, Lattice* lattice)
      : f_(features), layout_(layout), lattice_(*lattice), tables_(lattice->num_threads) {
    for (int i = 0; i <= f_.d; ++i) unit_[i] = unit<K>(layout_, i);
    for (int i = 0; i < f_.d; ++i) ones_ = ones_ + unit_[i];
    for (int i = 0; i <= f_.d; ++i) {
      wrap_[i] = Key<K>{};
      for (int k = 0; k <= f_.d; ++k) wrap_[i] = wrap_[i] + unit_[i];
    }
  }

  void build() {
    run_team(lattice_.num_threads, [&](Team& team) { insert_points(team); });
    merge_tables();
    lattice_.axes.resize(f_.d + 1);
    parallel_for(lattice_.num_threads, f_.d + 1, 1, [&](int64_t begin, int64_t end) {
      for (int64_t j = begin; j < end; ++j) link_axis(static_cast<int>(j));
    });
  }

 private:
  void gather_features(int64_t block, float* out) const {
    const int64_t first = block * kBlock;
    const int count = static_cast<int>(std::min<int64_t>(kBlock, f_.n - first));
    for (int k = 0; k < f_.d; ++k) {
      const float* from = f_.data + first * f_.point_stride + k * f_.dim_stride;
      for (int i = 0; i < count; ++i) out[k * kBlock + i] = from[i * f_.point_stride];
      // the missing points of the last block repeat one that is there: no vertices of their own
      const float missing = f_.has_zero_point() ? 0.0f : out[k * kBlock];
      for (int i = count; i < kBlock; ++i) out[k * kBlock + i] = missing;
    }
  }

  // Keys of the d + 1 vertices of one point. Vertex r + 1 follows from vertex r by adding one to
  // every coordinate, and taking d + 1 off the coordinate of rank d - r (the canonical simplex).
  void point_keys(const Embedding& e, int i, Key<K>* keys) const {
    const int d = f_.d;
    int axis_of_rank[kMaxFeatureDim + 1];
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
    const int64_t begin = team.begin(lattice_.num_blocks), end = team.end(lattice_.num_blocks);
    const auto embed = simd_kernels().embed;
    HashTable<K>& table = tables_[team.id()];
    std::vector<Key<K>> keys(size_t(kChunk) * corners * kBlock);
    alignas(64) float features[kMaxFeatureDim * kBlock];
    alignas(64) Embedding e;
    for (int64_t chunk = begin; chunk < end; chunk += kChunk) {
      const int64_t chunk_end = std::min<int64_t>(end, chunk + kChunk);
      for (int64_t block = chunk; block < chunk_end; ++block) {
        gather_features(block, features);
        embed(features, layout_.scale.data(), f_.d, &e);
        Key<K>* block_keys = keys.data() + (block - chunk) * corners * kBlock;
        for (int i = 0; i < kBlock; ++i) point_keys(e, i, block_keys + i);
        const int64_t count = std::min<int64_t>(kBlock, f_.n - block * kBlock);
        float* weights = lattice_.weights.data() + block * corners * kBlock;
        for (int r = 0; r < corners; ++r) {
          for (int i = 0; i < kBlock; ++i) {
            weights[r * kBlock + i] = i < count ? e.weights[r][i] : 0.0f;
          }
        }
      }
      const int64_t num_keys = (chunk_end - chunk) * corners * kBlock;
      int32_t* vertices = lattice_.vertices.data() + chunk * corners * kBlock;
      for (int64_t k = 0; k < num_keys; ++k) {
        if (k + kLookAhead < num_keys) table.prefetch(keys[k + kLookAhead]);
        vertices[k] = table.insert(keys[k]);
      }
    }
  }

  // Vertices are numbered in the order of the points, whatever the number of threads.
  void merge_tables() {
    const int threads = lattice_.num_threads;
    // of each thread: its own numbers -> vertices, and -> rows to splat into
    std::vector<std::vector<int32_t>> vertex_of(threads), row_of(threads);
    std::vector<int32_t> first(threads, 0);  // vertex that the thread is the first to touch
    lattice_.private_base.assign(threads + 1, 0);
    lattice_.shared.resize(threads);
    HashTable<K>& all = tables_[0];
    for (int t = 1; t < threads; ++t) {
      const HashTable<K>& table = tables_[t];
      first[t] = all.size();
      vertex_of[t].resize(table.size());
      for (int32_t v = 0; v < table.size(); ++v) {
        if (v + kLookAhead < table.size()) all.prefetch(table.key(v + kLookAhead));
        const int32_t vertex = vertex_of[t][v] = all.insert(table.key(v));
        if (vertex < first[t]) lattice_.shared[t].push_back(vertex);
      }
      lattice_.private_base[t + 1] =
          lattice_.private_base[t] + static_cast<int64_t>(lattice_.shared[t].size());
    }
    lattice_.num_vertices = all.size();
    if (lattice_.num_rows() > INT32_MAX) {
      throw std::invalid_argument("features: more than 2^31 lattice rows; use fewer threads");
    }
    for (int t = 1; t < threads; ++t) {
      auto row = static_cast<int32_t>(lattice_.num_vertices + lattice_.private_base[t]);
      for (const int32_t vertex : vertex_of[t]) {
        row_of[t].push_back(vertex < first[t] ? row++ : vertex);
      }
    }
    run_team(threads, [&](Team& team) {
      renumber_points(team, vertex_of[team.id()], row_of[team.id()], first[team.id()]);
    });
    lattice_.fresh[lattice_.num_blocks] = lattice_.num_vertices;
  }

  void renumber_points(const Team& team, const std::vector<int32_t>& vertex_of,
                       const std::vector<int32_t>& row_of, int32_t fresh) {
    const int64_t per_block = int64_t{f_.d + 1} * kBlock;
    for (int64_t b = team.begin(lattice_.num_blocks); b < team.end(lattice_.num_blocks); ++b) {
      lattice_.fresh[b] = fresh;
      int32_t* v = lattice_.vertices.data() + b * per_block;
      for (int64_t i = 0; i < per_block; ++i) {
        if (team.size() > 1) {
          int32_t& row = lattice_.private_rows[b * per_block + i];
          row = team.id() > 0 ? row_of[v[i]] : v[i];
        }
        if (team.id() > 0) v[i] = vertex_of[v[i]];
        fresh = std::max(fresh, v[i] + 1);
      }
    }
  }

  // The lattice's lines along one axis: +d in its coordinate, -1 in all others.
  void link_axis(int axis) {
    const HashTable<K>& table = tables_[0];
    const int32_t m = table.size();
    const Key<K> delta = wrap_[axis] - ones_;
    std::vector<int32_t> next(m);
    std::vector<uint8_t> has_previous(m, 0);
    for (int32_t v = 0; v < m; ++v) {
      if (v + kLookAhead < m) table.prefetch(table.key(v + kLookAhead) + delta);
      next[v] = table.find(table.key(v) + delta);
      if (next[v] >= 0) has_previous[next[v]] = 1;
    }
    Lattice::Axis& lines = lattice_.axes[axis];
    lines.order.reserve(m);
    for (int32_t v = 0; v < m; ++v) {
      if (has_previous[v] || next[v] < 0) continue;
      int32_t u = v;
      for (; next[u] >= 0; u = next[u]) lines.order.push_back(u);
      lines.order.push_back(u | INT32_MIN);
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

  const Features& f_;
  const KeyLayout& layout_;
  Lattice& lattice_;
  std::vector<HashTable<K>> tables_;  // of each thread; [0] becomes that of all
  Key<K> unit_[kMaxFeatureDim + 1], wrap_[kMaxFeatureDim + 1], ones_{};
};

}  // namespace

const SimdKernels& simd_kernels() {
  static const auto tables = [] {
    std::array<SimdKernels, 3> t{};
    baseline::fill(&t[0]);
#if defined(DEEPLAB_X86_64)
    avx2::fill(&t[1]);
    avx512::fill(&t[2]);
#endif
    return t;
  }();
  return tables[static_cast<int>(current_isa())];
}

template <>
const RowKernels<float>& row_kernels<float>() {
  return simd_kernels().rows_f32;
}
template <>
const RowKernels<double>& row_kernels<double>() {
  return simd_kernels().rows_f64;
}

std::shared_ptr<const Lattice> build_lattice_cpu(const Features& features, int num_threads) {
  if (features.d < 1 || features.d > kMaxFeatureDim) {
    throw std::invalid_argument("features: expected 1 to " + std::to_string(kMaxFeatureDim) +
                                " dimensions, got " + std::to_string(features.d));
  }
  if (features.n > INT32_MAX / (features.d + 1)) {
    throw std::invalid_argument("features: more than 2^31 vertices for " +
                                std::to_string(features.n) + " points; filter them in parts");
  }
  auto lattice = std::make_shared<Lattice>();
  lattice->d = features.d;
  lattice->num_points = features.n;
  lattice->num_blocks = (features.n + kBlock - 1) / kBlock;
  lattice->num_threads =
      static_cast<int>(std::clamp<int64_t>(lattice->num_blocks, 1, std::max(1, num_threads)));
  lattice->alpha = 1.0f / (1.0f + std::pow(2.0f, -static_cast<float>(features.d)));
  const KeyLayout layout = key_layout(features, num_threads);
  const size_t entries = size_t(lattice->num_blocks) * (features.d + 1) * kBlock;
  lattice->vertices.resize(entries);
  lattice->weights.resize(entries);
  if (lattice->num_threads > 1) lattice->private_rows.resize(entries);
  lattice->fresh.resize(lattice->num_blocks + 1);
  if (layout.num_words == 1) {
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

template <class T>
void permutohedral_filter_cpu(const Lattice& lattice, Values<const T> in, Values<T> out,
                              int num_channels, const float* scale_in, const float* scale_out,
                              bool transposed) {
  const int stride = row_stride(num_channels);
  Buffer<T> data(size_t(lattice.num_rows()) * stride);
  Buffer<T> scratch(size_t(lattice.num_threads) * kBlock * stride);
  LatticeRows<T> rows(lattice, data.data(), stride);
  run_team(lattice.num_threads, [&](Team& team) {
    const int64_t begin = team.begin(lattice.num_blocks), end = team.end(lattice.num_blocks);
    FilterPass<T> pass{};
    pass.lattice = &lattice;
    pass.num_channels = num_channels;
    pass.stride = stride;
    pass.rows = data.data();
    pass.scratch = scratch.data() + size_t(team.id()) * kBlock * stride;
    pass.factor = 1;
    pass.scale = transposed ? scale_out : scale_in;
    rows.clear_private(team);
    row_kernels<T>().splat(pass, in, begin, end);
    team.barrier();
    rows.add_private(team);
    for (int j = 0; j <= lattice.d; ++j) {
      team.barrier();
      rows.blur(team, transposed ? lattice.d - j : j);
    }
    team.barrier();
    pass.factor = lattice.alpha;
    pass.scale = transposed ? scale_in : scale_out;
    row_kernels<T>().slice(pass, out, begin, end);
  });
}

template void permutohedral_filter_cpu<float>(const Lattice&, Values<const float>, Values<float>,
                                              int, const float*, const float*, bool);
template void permutohedral_filter_cpu<double>(const Lattice&, Values<const double>, Values<double>,
                                               int, const float*, const float*, bool);

}  // namespace deeplab_native
