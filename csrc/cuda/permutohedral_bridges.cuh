// The vertices that a bridged lattice has beside those that points touch (see
// ops/bridged_lattice.h):
//   find    a vertex looks at what is missing next to it: a bridge is found by the first of its
//           neighbours, in the order of the steps, and by no other
//   sum     how many there are; they become vertices of their image, after those of its points
//   place   numbers, and slots of the hash table: none of them is there twice
// The first two come before vertices are numbered, while slots hold entries. Nothing depends on the
// order of the threads: the order of the bridges is that of the entries, in groups of a warp, and
// within a group that of the steps.
#pragma once
#include "cuda/lattice_build.cuh"

namespace deeplab_native {
namespace {

// Whether a key is in the table of an image whose slots hold entries.
template <int kDim>
__device__ bool is_vertex(const LatticeView& l, const Table& table, int64_t image,
                          const Key<kDim>& key) {
  const int32_t* const slots = table.slots + image * table.capacity;
  for (int64_t s = table.start(key.hash());; s = s + 1 == table.capacity ? 0 : s + 1) {
    if (slots[s] < 0) return false;
    if (table.has_key<kDim>(l, slots[s], key)) return true;
  }
}

// Whether the key `step` from a vertex is a bridge that this vertex finds.
template <int kDim>
__device__ bool finds_bridge(const LatticeView& l, const Table& table, int64_t image,
                             const Key<kDim>& vertex, int step) {
  const Key<kDim> key = vertex.stepped(step, l.d);
  if (is_vertex<kDim>(l, table, image, key)) return false;
  const int back = step ^ 1;  // to the vertex
  int neighbours = 1;
#pragma unroll 1
  for (int s = 0; s < 2 * l.corners; ++s) {
    if (s == back || !is_vertex<kDim>(l, table, image, key.stepped(s, l.d))) continue;
    if (s < back) return false;
    if (++neighbours >= kBridgeNeighbours) return true;
  }
  return false;
}

// blockIdx.z: the step. Entries that are the first of their vertex have a code.
template <int kDim>
__global__ void __launch_bounds__(kChunkThreads)
    find_bridges_kernel(LatticeView l, Table table, Scratch s, BridgeScratch b) {
  const int step = static_cast<int>(blockIdx.z);
  each_item(l.images, l.entries_per_image, [&](int64_t image, uint32_t i) {
    const int64_t e = image * l.entries_per_image + i;
    const bool found =
        s.code[e] != kNoDigit && finds_bridge<kDim>(l, table, image, table.key<kDim>(l, e), step);
    const uint32_t bits = __ballot_sync(~0u, found);
    if (i % kWarp == 0) b.found[step * b.groups + e / kWarp] = bits;
  });
}

__device__ inline uint32_t bridges_of_group(const LatticeView& l, const BridgeScratch& b,
                                            int64_t group) {
  uint32_t count = 0;
  for (int step = 0; step < 2 * l.corners; ++step) {
    count += static_cast<uint32_t>(__popc(b.found[step * b.groups + group]));
  }
  return count;
}

// A block to a chunk of groups.
__global__ void __launch_bounds__(kChunkThreads)
    count_bridges_kernel(LatticeView l, BridgeScratch b) {
  __shared__ uint32_t warp_sums[kChunkWarps];
  const auto of_image = static_cast<uint32_t>(l.entries_per_image / kWarp);
  for (int64_t image = blockIdx.y; image < l.images; image += gridDim.y) {
    const uint32_t i = blockIdx.x * kChunkThreads + threadIdx.x;
    const int64_t group = image * of_image + i;
    uint32_t all;
    const uint32_t own = i < of_image ? bridges_of_group(l, b, group) : 0;
    const uint32_t before = exclusive_sum(own, warp_sums, all);
    if (i < of_image) b.group_begin[group] = before;
    if (threadIdx.x == 0) b.chunk_begin[image * b.chunks + blockIdx.x] = all;
  }
}

// A block to an image. One that has more vertices than there is memory for has no bridges.
__global__ void __launch_bounds__(kChunkThreads)
    sum_bridges_kernel(LatticeView l, Scratch s, BridgeScratch b) {
  __shared__ uint32_t warp_sums[kChunkWarps];
  const auto chunks = static_cast<uint32_t>(b.chunks);
  for (int64_t image = blockIdx.x; image < l.images; image += gridDim.x) {
    uint32_t* const begin = b.chunk_begin + image * chunks;
    uint32_t before = 0, all;
    for (uint32_t first = 0; first < chunks; first += kChunkThreads) {
      const uint32_t c = first + threadIdx.x, own = c < chunks ? begin[c] : 0;
      const uint32_t sum = exclusive_sum(own, warp_sums, all);
      if (c < chunks) begin[c] = before + sum;
      before += all;
    }
    if (threadIdx.x != 0) continue;
    const bool fits = int64_t{s.image_vertices[image]} + before <= l.image_room();
    if (!fits) l.bad[image] = 1;
    b.image_bridges[image] = fits ? before : 0;
    if (fits) s.image_vertices[image] += before;
  }
}

// After the vertices of points have their numbers, which slots now hold.
template <int kDim>
__global__ void __launch_bounds__(kChunkThreads)
    place_bridges_kernel(LatticeView l, Table table, Scratch s, BridgeScratch b) {
  each_item(l.images, l.entries_per_image, [&](int64_t image, uint32_t i) {
    const int64_t e = image * l.entries_per_image + i;
    // a slot with a vertex keeps it, also where another thread looks by atomicCAS for an empty one
    if (s.code[e] != kNoDigit) b.step[read_relaxed(s.slots + s.slot[e])] = 0;
    if (b.image_bridges[image] == 0) return;  // all of a warp
    const uint32_t lane = i % kWarp, chunk = i / (kWarp * kChunkThreads);
    const int64_t group = e / kWarp;
    int64_t next = l.vertex_begin[image + 1] - b.image_bridges[image] +
                   b.chunk_begin[image * b.chunks + chunk] + b.group_begin[group];
    for (int step = 0; step < 2 * l.corners; ++step) {
      const uint32_t bits = b.found[step * b.groups + group];
      const int64_t bridge = next + __popc(bits & ((1u << lane) - 1));
      next += __popc(bits);
      if ((bits >> lane & 1) == 0) continue;
      s.vertex_entry[bridge] = static_cast<int32_t>(e);
      b.step[bridge] = static_cast<uint8_t>(step + 1);
      for (int c = 0; c < l.corners; ++c) l.neighbours[c * l.room() + bridge].y = -1;
      const auto key = table.key<kDim>(l, e).stepped(step, l.d);
      int32_t* const slots = table.slots + image * table.capacity;
      int64_t at = table.start(key.hash());
      while (atomicCAS(slots + at, -1, static_cast<int32_t>(bridge)) >= 0) {
        at = at + 1 == table.capacity ? 0 : at + 1;
      }
    }
  });
}

// The key of a vertex, once all have their numbers.
template <int kDim>
__device__ Key<kDim> key_of_vertex(const LatticeView& l, const Table& table, const Scratch& s,
                                   const BridgeScratch& b, int64_t vertex) {
  const auto key = table.key<kDim>(l, s.vertex_entry[vertex]);
  const int step = b.step[vertex];
  return step > 0 ? key.stepped(step - 1, l.d) : key;
}

// As find_neighbours of permutohedral_build.cu.
template <int kDim>
__global__ void __launch_bounds__(kChunkThreads, (kDim == 0 ? 2 : 0))  // else it would spill
    bridged_neighbours_kernel(LatticeView l, Table table, Scratch s, BridgeScratch b) {
  const int axis = static_cast<int>(blockIdx.z);
  int2* const neighbours = l.neighbours + axis * l.room();
  for (int64_t image = blockIdx.y; image < l.images; image += gridDim.y) {
    const int32_t* const slots = table.slots + image * table.capacity;
    const int64_t end = l.vertex_begin[image + 1];
    for (int64_t v = l.vertex_begin[image] + strided_begin(); v < end; v += strided_step()) {
      const auto key = key_of_vertex<kDim>(l, table, s, b, v).stepped(2 * axis + 1, l.d);
      int64_t at = table.start(key.hash());
      int32_t next = slots[at];
      while (next >= 0 && !(key_of_vertex<kDim>(l, table, s, b, next) == key)) {
        at = at + 1 == table.capacity ? 0 : at + 1;
        next = slots[at];
      }
      neighbours[v].x = next;
      if (next >= 0) neighbours[next].y = static_cast<int32_t>(v);
    }
  }
}

// As rows_kernel, where the last vertices of each image are bridges, whose rows are empty: too many
// to be done by the thread of one entry.
__global__ void __launch_bounds__(kChunkThreads) bridged_rows_kernel(LatticeView l) {
  const int64_t of_image = l.num_points * l.corners, end = l.images * of_image;
  for (int64_t i = strided_begin(); i < end; i += strided_step()) {
    const int64_t here = l.row_vertices[i], image = i / of_image;
    const int64_t before =
        i > image * of_image ? int64_t{l.row_vertices[i - 1]} : l.vertex_begin[image] - 1;
    if (here == before) continue;
    for (int64_t v = before + 1; v <= here; ++v) l.row_begin[v] = static_cast<int32_t>(i);
    l.row_entries[i].point |= kBeginsRow;
  }
  for (int64_t image = 0; image < l.images; ++image) {
    // what points touch there ends with the last vertex that has an entry, or soon after
    const int64_t image_end = (image + 1) * of_image;
    const int64_t from = int64_t{l.row_vertices[image_end - 1]} + 1;
    const int64_t to = l.vertex_begin[image + 1] + (image + 1 == l.images ? 1 : 0);
    for (int64_t v = from + strided_begin(); v < to; v += strided_step()) {
      l.row_begin[v] = static_cast<int32_t>(image_end);
    }
  }
}

}  // namespace
}  // namespace deeplab_native
