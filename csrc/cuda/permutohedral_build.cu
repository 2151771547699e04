// Building the lattices of a batch. Every step is one launch over all images; what they are:
//   embed      points -> keys of their d + 1 vertices and barycentric weights
//   insert     keys -> slots of a hash table; a slot keeps the first of its entries
//   first,     entries that are the first of their slot, numbered by a prefix sum: vertices
//   number
//   neighbours a lookup for every vertex and axis
//   rows       entries sorted by vertex (stable): the splat gathers, in an order that never changes
// blockIdx.y has an image: nothing is divided to find out which.
// Which entry comes first does not depend on the order of the threads, so neither does the result.
#include <cmath>

#include "cuda/device_algorithms.h"
#include "cuda/lattice_keys.cuh"

namespace deeplab_native {
namespace {

constexpr unsigned kThreads = 256;

// What only building needs.
struct Scratch {
  uint64_t* keys;
  int32_t* slots;         // of all images
  int32_t* slot;          // [entries] -> slots
  int32_t* first;         // [entries] 1 for the first entry of a slot
  int32_t* rank;          // [entries] vertices before it
  int32_t* vertex_entry;  // [M] its first entry
  uint32_t* sort_keys;    // [entries] vertex; for lanes without a point a number above all
  int32_t* sort_values;   // [entries] 0, 1, ...
  int32_t* row_entries;   // [entries] sorted
  char* cub;
  size_t cub_bytes;
  int64_t capacity;
  int bits;
};

Scratch scratch_view(const LatticeView& l, void* memory, size_t* bytes = nullptr) {
  Scratch s{};
  Arena arena(memory);
  s.capacity = l.entries_per_image + l.entries_per_image / 2 + 1;
  s.bits = 1;
  while ((l.entries >> s.bits) != 0) ++s.bits;
  s.keys = arena.take<uint64_t>(l.entries * key_words(l.d));
  s.slots = arena.take<int32_t>(l.images * s.capacity);
  s.slot = arena.take<int32_t>(l.entries);
  s.first = arena.take<int32_t>(l.entries);
  s.rank = arena.take<int32_t>(l.entries);
  s.vertex_entry = arena.take<int32_t>(l.entries);
  s.sort_keys = arena.take<uint32_t>(l.entries);
  s.sort_values = arena.take<int32_t>(l.entries);
  s.row_entries = arena.take<int32_t>(l.entries);
  s.cub_bytes = std::max(exclusive_sum_bytes(l.entries), sort_pairs_bytes(l.entries, s.bits));
  s.cub = arena.take<char>(static_cast<int64_t>(s.cub_bytes));
  if (bytes) *bytes = arena.used();
  return s;
}

// A thread to a point, a warp to a block of them. kDim: d, or 0 for any.
template <int kDim>
__global__ void __launch_bounds__(kThreads)
    embed_kernel(LatticeView l, CudaFeatures features, const __grid_constant__ Scale scale,
                 uint64_t* __restrict__ keys) {
  constexpr int kMost = kDim > 0 ? kDim : kMaxFeatureDim;
  const int d = kDim > 0 ? kDim : l.d, words = key_words(d);
  each_item(l.images, l.blocks * kWarp, [&](int64_t image, uint32_t point) {
    // a lane without a point repeats the last one, or lies at 0: with weight 0
    const bool real = point < l.num_points;
    const int64_t from = real ? point : l.num_points - 1;
    const float* feature =
        features.data + image * features.image_stride + from * features.point_stride;
    Embedding<kMost> e;
    if (!elevate<kMost>(feature, features.dim_stride, !real && l.zero_point, scale, d, e)) {
      atomicExch(l.bad + image, 1);
    }
    find_simplex<kMost>(d, e);
#pragma unroll
    for (int r = 0; r <= kMost; ++r) {
      if (r > d) continue;
      const int64_t entry = l.entry(image, point, r);
      l.weights[entry] = real ? e.weights[r] : 0.0f;
#pragma unroll
      for (int w = 0; w < (kMost + 1) / 2; ++w) {
        if (w >= words) continue;
        const int odd = 2 * w + 1 < d ? e.coordinate(2 * w + 1, r, d) : 0;
        keys[entry * words + w] = key_word(e.coordinate(2 * w, r, d), odd);
      }
    }
  });
}

// The slot of an entry's key, which then holds this entry or an earlier one of the same key.
__device__ int64_t claim(const Table& table, int64_t image, int64_t entry) {
  uint64_t hash = 0;
  for (int w = 0; w < table.words; ++w) hash = mix(hash, table.keys[entry * table.words + w]);
  const int64_t first = image * table.capacity;
  const int32_t own = static_cast<int32_t>(entry);
  for (int64_t s = table.start(hash);; s = s + 1 == table.capacity ? 0 : s + 1) {
    int32_t* slot = table.slots + first + s;
    int32_t seen = read_relaxed(slot);
    if (seen < 0) seen = atomicCAS(slot, -1, own);
    if (seen < 0) return first + s;
    if (!table.same(seen, entry)) continue;
    // who holds the slot now has the same key, whoever that is
    if (own < seen) atomicMin(slot, own);
    return first + s;
  }
}

// Neighbouring points mostly share their vertices: the first lane of a run of equal keys looks up.
__global__ void __launch_bounds__(kThreads) insert_kernel(LatticeView l, Table table, Scratch s) {
  each_item(l.images, l.entries_per_image, [&](int64_t image, uint32_t i) {
    const int64_t e = image * l.entries_per_image + i;
    const int lane = static_cast<int>(i % kWarp);
    const bool leads = lane == 0 || !table.same(e, e - 1);
    const uint32_t leaders = __ballot_sync(~0u, leads);
    int32_t slot = 0;
    if (leads) slot = static_cast<int32_t>(claim(table, image, e));
    const uint32_t up_to_here = leaders & (~0u >> (kWarp - 1 - lane));
    s.slot[e] = __shfl_sync(~0u, slot, kWarp - 1 - __clz(static_cast<int>(up_to_here)));
  });
}

__global__ void __launch_bounds__(kThreads) first_kernel(LatticeView l, Scratch s) {
  for (int64_t e = strided_begin(); e < l.entries; e += strided_step()) {
    s.first[e] = s.slots[s.slot[e]] == e;
  }
}

__global__ void __launch_bounds__(kThreads) number_kernel(LatticeView l, Scratch s) {
  each_item(l.images, l.entries_per_image, [&](int64_t image, uint32_t i) {
    const int64_t e = image * l.entries_per_image + i;
    const int32_t vertex = s.rank[s.slots[s.slot[e]]];
    l.vertices[e] = vertex;
    if (s.first[e]) {
      s.vertex_entry[vertex] = static_cast<int32_t>(e);
      for (int k = 0; k < l.corners; ++k) l.neighbours[k * l.entries + vertex].y = -1;
    }
    if (i == 0) l.vertex_begin[image] = s.rank[e];
    if (e == l.entries - 1) *l.num_vertices = s.rank[e] + s.first[e];
    const bool real = l.lane_point(i) < l.num_points;
    s.sort_keys[e] = static_cast<uint32_t>(real ? vertex : l.entries);
    s.sort_values[e] = static_cast<int32_t>(e);
  });
}

// The vertex of the key of `entry`, moved along an axis: by d in its coordinate, -1 in all others.
// -1 where there is none.
__device__ int32_t find_moved(const LatticeView& l, const Table& table, const int32_t* rank,
                              int64_t image, int64_t entry, int axis) {
  const auto moved_word = [&](int w) {
    const uint64_t word = table.keys[entry * table.words + w];
    const int even = static_cast<int32_t>(static_cast<uint32_t>(word));
    const int odd = static_cast<int32_t>(static_cast<uint32_t>(word >> 32));
    const auto moved = [&](int j, int c) { return c + (j == axis ? l.d : -1); };
    return key_word(moved(2 * w, even), 2 * w + 1 < l.d ? moved(2 * w + 1, odd) : 0);
  };
  uint64_t hash = 0;
  for (int w = 0; w < table.words; ++w) hash = mix(hash, moved_word(w));
  const int64_t first = image * table.capacity;
  for (int64_t s = table.start(hash);; s = s + 1 == table.capacity ? 0 : s + 1) {
    const int32_t seen = table.slots[first + s];
    if (seen < 0) return -1;
    bool same = true;
    for (int w = 0; w < table.words && same; ++w) {
      same = table.keys[int64_t{seen} * table.words + w] == moved_word(w);
    }
    if (same) return rank[seen];
  }
}

// A vertex looks up the one after it, and is the one before that; where none says so, the -1 of
// number_kernel stays.
__global__ void __launch_bounds__(kThreads)
    neighbours_kernel(LatticeView l, Table table, Scratch s) {
  const int axis = static_cast<int>(blockIdx.z);
  int2* neighbours = l.neighbours + axis * l.entries;
  for (int64_t image = blockIdx.y; image < l.images; image += gridDim.y) {
    const int64_t end = l.vertex_begin[image + 1];
    for (int64_t v = l.vertex_begin[image] + strided_begin(); v < end; v += strided_step()) {
      const int32_t moved = find_moved(l, table, s.rank, image, s.vertex_entry[v], axis);
      neighbours[v].x = moved;
      if (moved >= 0) neighbours[moved].y = static_cast<int32_t>(v);
    }
  }
}

// Where the rows begin, and what is in them; a vertex that no real point touches has an empty row.
__global__ void __launch_bounds__(kThreads) rows_kernel(LatticeView l, Scratch s) {
  const int64_t vertices = *l.num_vertices;
  for (int64_t i = strided_begin(); i <= l.entries; i += strided_step()) {
    const auto row = [&](int64_t k) {
      const int64_t v = k < l.entries ? int64_t{l.row_vertices[k]} : vertices;
      return v < vertices ? v : vertices;
    };
    const int64_t here = row(i), before = i > 0 ? row(i - 1) : -1;
    for (int64_t v = before + 1; v <= here; ++v) l.row_begin[v] = static_cast<int32_t>(i);
    if (i == l.entries) continue;
    const int64_t e = s.row_entries[i];
    const int64_t image = static_cast<uint32_t>(e) / static_cast<uint32_t>(l.entries_per_image);
    const int64_t point = l.lane_point(static_cast<uint32_t>(e - image * l.entries_per_image));
    const uint32_t global = static_cast<uint32_t>(image * l.num_points + point);
    l.row_points[i] = here == before ? global : global | kBeginsRow;
    l.row_weights[i] = l.weights[e];
  }
}

Scale scale_of(int d) {
  Scale scale{};
  const float inverse_deviation = std::sqrt(2.0 / 3.0) * (d + 1);  // of the blur, in lattice units
  for (int k = 0; k < d; ++k) {
    scale.of[k] = static_cast<float>(1.0 / std::sqrt((k + 2.0) * (k + 1.0)) *
                                     static_cast<double>(inverse_deviation));
  }
  return scale;
}

auto embed_kernel_of(int d) {
  constexpr decltype(&embed_kernel<0>) kKernels[] = {
      nullptr,         embed_kernel<1>, embed_kernel<2>, embed_kernel<3>,
      embed_kernel<4>, embed_kernel<5>, embed_kernel<6>};
  return d <= 6 ? kKernels[d] : embed_kernel<0>;
}

}  // namespace

LatticeView lattice_view(const CudaLatticeShape& shape, void* memory, size_t* bytes) {
  LatticeView l{};
  l.images = shape.images;
  l.num_points = shape.num_points;
  l.blocks = (shape.num_points + kWarp - 1) / kWarp;
  l.d = shape.d;
  l.corners = shape.d + 1;
  l.zero_point = shape.like_pydensecrf && shape.num_points % 4 != 0;
  l.entries_per_image = l.blocks * l.corners * kWarp;
  l.entries = l.images * l.entries_per_image;
  Arena arena(memory);
  l.vertex_begin = arena.take<int32_t>(l.images + 1);
  l.num_vertices = l.vertex_begin ? l.vertex_begin + l.images : nullptr;
  l.bad = arena.take<int32_t>(l.images);
  l.weights = arena.take<float>(l.entries);
  l.vertices = arena.take<int32_t>(l.entries);
  l.neighbours = arena.take<int2>(l.entries * l.corners);
  l.row_begin = arena.take<int32_t>(l.entries + 1);
  l.row_vertices = arena.take<uint32_t>(l.entries);
  l.row_points = arena.take<uint32_t>(l.entries);
  l.row_weights = arena.take<float>(l.entries);
  if (bytes) *bytes = arena.used();
  return l;
}

size_t lattice_bytes_cuda(const CudaLatticeShape& shape) {
  size_t bytes = 0;
  lattice_view(shape, nullptr, &bytes);
  return bytes;
}

size_t lattice_scratch_bytes_cuda(const CudaLatticeShape& shape) {
  size_t bytes = 0;
  scratch_view(lattice_view(shape, nullptr), nullptr, &bytes);
  return bytes;
}

int64_t lattice_entries_cuda(const CudaLatticeShape& shape) {
  return lattice_view(shape, nullptr).entries;
}

const int32_t* vertex_begin_cuda(const CudaLatticeShape& shape, const void* lattice) {
  return lattice_view(shape, const_cast<void*>(lattice)).vertex_begin;
}

int build_lattice_cuda(const CudaLatticeShape& shape, const CudaFeatures& features, void* lattice,
                       void* scratch, void* stream_address) {
  const auto stream = static_cast<cudaStream_t>(stream_address);
  const LatticeView l = lattice_view(shape, lattice);
  if (l.entries == 0) return cudaSuccess;
  const Scratch s = scratch_view(l, scratch);
  const Table table{s.slots, s.keys, s.capacity, key_words(l.d)};
  const dim3 points = item_grid(l.images, l.blocks * kWarp, kThreads);
  const dim3 own_entries = item_grid(l.images, l.entries_per_image, kThreads);
  const dim3 by_axis(own_entries.x, own_entries.y, static_cast<unsigned>(l.corners));
  const unsigned entries = strided_blocks(l.entries, kThreads);
  cudaError_t error = cudaSuccess;
  const auto step = [&](cudaError_t result) { return error = error ? error : result; };
  step(cudaMemsetAsync(l.bad, 0, l.images * sizeof(int32_t), stream));
  step(cudaMemsetAsync(s.slots, 0xff, l.images * s.capacity * sizeof(int32_t), stream));  // -1
  step(launch(embed_kernel_of(l.d), points, kThreads, 0, stream, l, features, scale_of(l.d),
              s.keys));
  step(launch(insert_kernel, own_entries, kThreads, 0, stream, l, table, s));
  step(launch(first_kernel, entries, kThreads, 0, stream, l, s));
  step(exclusive_sum(s.cub, s.cub_bytes, s.first, s.rank, l.entries, stream));
  step(launch(number_kernel, own_entries, kThreads, 0, stream, l, s));
  step(launch(neighbours_kernel, by_axis, kThreads, 0, stream, l, table, s));
  step(sort_pairs(s.cub, s.cub_bytes, s.sort_keys, l.row_vertices, s.sort_values, s.row_entries,
                  l.entries, s.bits, stream));
  step(launch(rows_kernel, entries, kThreads, 0, stream, l, s));
  return error;
}

}  // namespace deeplab_native
