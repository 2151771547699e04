// What the kernels that build a lattice share: memory that only building needs.
#pragma once
#include "cuda/counting_sort.cuh"
#include "cuda/lattice_keys.cuh"
#include "ops/bridged_lattice.h"

namespace deeplab_native {
namespace {

struct alignas(16) SortItem {
  uint32_t vertex, point;  // of the image, of all images
  float weight;
  uint32_t unused;
};

// Of a bridged lattice, see permutohedral_bridges.cuh. Groups are of a warp of entries.
struct BridgeScratch {
  uint32_t* found;          // [2 corners][groups] a bit for each entry
  uint32_t* group_begin;    // [groups] bridges of the groups before, of the same chunk of them
  uint32_t* chunk_begin;    // [images][chunks] and of the chunks before
  uint32_t* image_bridges;  // [images]
  uint8_t* step;            // [M] how a bridge follows from the vertex of its entry; 0: no bridge
  int64_t groups, chunks;   // of all images; of an image
};

struct Scratch {
  uint32_t* records;         // [images][padded points][record_words]
  uint64_t* hashes;          // of more than kPackedDim dimensions: [entries] of the vertex
  int32_t* bad_blocks;       // [images][blocks] nonzero: of a point whose features are no good
  int32_t* slots;            // of all images: first an entry of the vertex, then the vertex
  int32_t* slot;             // [entries] -> slots
  uint32_t* code;            // [entries] of the vertex of entries that are the first of a slot
  int32_t* vertex_entry;     // [M] its first entry
  uint32_t* image_vertices;  // [images]
  CountTables counts;
  SortItem* items[2];  // [entries], where passes of the sort leave them for the next
  int64_t capacity;
  int passes;  // of the sort, at the most
};

// What the kernels after the embedding add to, or look into.
__device__ inline void clear_scratch(const LatticeView& l, const Scratch& s) {
  each_item(l.images, s.capacity, [&](int64_t image, uint32_t i) {
    s.slots[image * s.capacity + i] = -1;
    if (i > 0) return;
    l.bad[image] = 0;
    s.image_vertices[image] = 0;
  });
}

// Of sorting numbers below a limit.
__host__ __device__ inline int number_bits(uint32_t limit) {
  int bits = 1;
  while (bits < 32 && (limit - 1) >> bits != 0) ++bits;
  return bits;
}

// bridges: where l.bridged.
inline Scratch scratch_view(const LatticeView& l, void* memory, BridgeScratch* bridges,
                            size_t* bytes = nullptr) {
  Scratch s{};
  Arena arena(memory);
  s.capacity = l.image_room() + l.image_room() / 2 + 1;
  const int bits = number_bits(static_cast<uint32_t>(std::max<int64_t>(2, l.image_room())));
  s.passes = (bits + kMostBits - 1) / kMostBits;
  s.records = arena.take<uint32_t>(l.images * l.blocks * kWarp * record_words(l.d));
  s.hashes = arena.take<uint64_t>(l.d > kPackedDim ? l.entries : 0);
  s.bad_blocks = arena.take<int32_t>(l.images * l.blocks);
  s.slots = arena.take<int32_t>(l.images * s.capacity);
  s.slot = arena.take<int32_t>(l.entries);
  s.code = arena.take<uint32_t>(l.entries);
  s.vertex_entry = arena.take<int32_t>(l.room());
  s.image_vertices = arena.take<uint32_t>(l.images);
  s.counts.chunks = CountTables::chunks_of(l.entries_per_image);
  s.counts.of_chunk = arena.take<uint32_t>(l.images * kDigits * s.counts.chunks);
  s.counts.totals = arena.take<uint32_t>(l.images * kDigits);
  for (int b = 0; b < std::min(2, s.passes - 1); ++b) s.items[b] = arena.take<SortItem>(l.entries);
  if (l.bridged) {
    BridgeScratch& b = *bridges;
    const int64_t of_image = l.entries_per_image / kWarp;
    b.groups = l.images * of_image;
    b.chunks = (of_image + kChunkThreads - 1) / kChunkThreads;
    b.found = arena.take<uint32_t>(b.groups * 2 * l.corners);
    b.group_begin = arena.take<uint32_t>(b.groups);
    b.chunk_begin = arena.take<uint32_t>(l.images * b.chunks);
    b.image_bridges = arena.take<uint32_t>(l.images);
    b.step = arena.take<uint8_t>(l.room());
  }
  if (bytes) *bytes = arena.used();
  return s;
}

// The digit of one pass of the sort of an image's entries by vertex: only as many passes as the
// number of vertices needs are made, which the device alone knows; those before do nothing.
struct SortDigit {
  bool skipped, first;  // of those that are made: takes the entries, and not what the last one left
  int bits, shift;

  __device__ SortDigit(uint32_t vertices, int passes, int pass) {
    const int all = number_bits(max(2u, vertices)), made = (all + kMostBits - 1) / kMostBits;
    bits = (all + made - 1) / made;
    skipped = pass < passes - made;
    first = pass == passes - made;
    shift = (pass - (passes - made)) * bits;
  }
  // The first of those that are made.
  __device__ explicit SortDigit(uint32_t vertices) : SortDigit(vertices, 0, 0) { shift = 0; }
  __device__ uint32_t of(uint32_t vertex) const { return vertex >> shift & ((1u << bits) - 1); }
};

__device__ inline uint32_t vertices_of(const LatticeView& l, int64_t image) {
  return static_cast<uint32_t>(l.vertex_begin[image + 1] - l.vertex_begin[image]);
}

}  // namespace
}  // namespace deeplab_native
