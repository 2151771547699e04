// The vertices of a lattice numbered: the entries that are the first of their slot of the hash
// table, sorted by the code of their key, and by which comes first where codes are equal. Without a
// code (of 0 bits) they are numbered as they come.
#pragma once
#include "cuda/lattice_build.cuh"

namespace deeplab_native {
namespace {

// The codes of the entries that are the first of their vertex, kNoDigit for the others.
template <int kDim>
__global__ void __launch_bounds__(kChunkThreads)
    count_codes_kernel(LatticeView l, Table table, Scratch s, int bits) {
  __shared__ ChunkHistogram histogram;
  for (int64_t image = blockIdx.y; image < l.images; image += gridDim.y) {
    histogram.clear(1u << bits);
    uint32_t count = 0;
    for (int k = 0; k < kRounds; ++k) {
      const uint32_t i = chunk_item(blockIdx.x, k);
      const int64_t e = image * l.entries_per_image + i;
      const bool there = i < l.entries_per_image, first = there && s.slots[s.slot[e]] == e;
      uint32_t code = kNoDigit;
      if (first) code = bits == 0 ? 0 : vertex_code<kDim>(table.key<kDim>(l, e), l.d, bits);
      if (there) s.code[e] = code;
      count += static_cast<uint32_t>(__popc(__ballot_sync(~0u, first)));
      if (first) histogram.add(code);
    }
    if (in_warp() == 0 && count > 0) atomicAdd(s.image_vertices + image, count);
    histogram.store(s.counts.of_image(image), blockIdx.x, 1u << bits);
  }
}

__global__ void __launch_bounds__(kChunkThreads)
    sum_codes_kernel(LatticeView l, CountTables counts, int bits) {
  __shared__ uint32_t warp_sums[kChunkWarps];
  for (int64_t image = blockIdx.y; image < l.images; image += gridDim.y) {
    for (uint32_t code = blockIdx.x; code < 1u << bits; code += gridDim.x) {
      sum_digit(counts.of_image(image), code, counts.chunks, warp_sums);
    }
  }
}

// Vertices of the images before.
__device__ uint32_t vertices_before(const Scratch& s, int64_t image,
                                    uint32_t (&warp_sums)[kChunkWarps]) {
  uint32_t own = 0, all;
  for (int64_t i = threadIdx.x; i < image; i += kChunkThreads) own += s.image_vertices[i];
  exclusive_sum(own, warp_sums, all);
  return all;
}

// From here on a slot holds its vertex.
__global__ void __launch_bounds__(kChunkThreads)
    place_codes_kernel(LatticeView l, Scratch s, int bits) {
  __shared__ ChunkPlaces chunk_places;
  __shared__ uint32_t warp_sums[kChunkWarps];
  for (int64_t image = blockIdx.y; image < l.images; image += gridDim.y) {
    const uint32_t begin = vertices_before(s, image, warp_sums);
    if (blockIdx.x == 0 && threadIdx.x == 0) {
      l.vertex_begin[image] = static_cast<int32_t>(begin);
      if (image + 1 == l.images) {
        *l.num_vertices = static_cast<int32_t>(begin + s.image_vertices[image]);
      }
    }
    uint32_t digits[kRounds], places[kRounds], in_chunk[kRounds];
#pragma unroll
    for (int k = 0; k < kRounds; ++k) {
      const uint32_t i = chunk_item(blockIdx.x, k);
      const int64_t e = image * l.entries_per_image + i;
      digits[k] = i < l.entries_per_image ? s.code[e] : kNoDigit;
    }
    chunk_places.find(s.counts.of_image(image), blockIdx.x, bits, digits, places, in_chunk);
#pragma unroll
    for (int k = 0; k < kRounds; ++k) {
      if (digits[k] == kNoDigit) continue;
      const uint32_t vertex = begin + places[k];
      const int64_t e = image * l.entries_per_image + chunk_item(blockIdx.x, k);
      s.slots[s.slot[e]] = static_cast<int32_t>(vertex);
      s.vertex_entry[vertex] = static_cast<int32_t>(e);
      for (int c = 0; c < l.corners; ++c) l.neighbours[c * l.room() + vertex].y = -1;
    }
  }
}

}  // namespace
}  // namespace deeplab_native
