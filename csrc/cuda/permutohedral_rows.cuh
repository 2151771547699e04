// The entries of a lattice sorted by vertex: the splat gathers, in an order that never changes.
#pragma once
#include "cuda/lattice_build.cuh"

namespace deeplab_native {
namespace {

// Items before the pass: the entries themselves, or what the pass before left of the real ones.
__device__ inline uint32_t sort_items(const LatticeView& l, const SortDigit& digit) {
  return static_cast<uint32_t>(digit.first ? l.entries_per_image : l.num_points * l.corners);
}

// The digits of the first pass that is made were counted by number_kernel.
__global__ void __launch_bounds__(kChunkThreads)
    count_items_kernel(LatticeView l, Scratch s, const SortItem* all_items, int pass) {
  __shared__ ChunkHistogram histogram;
  for (int64_t image = blockIdx.y; image < l.images; image += gridDim.y) {
    const SortDigit digit(vertices_of(l, image), s.passes, pass);
    if (digit.skipped || digit.first) continue;
    const uint32_t items = sort_items(l, digit);
    if (blockIdx.x * kChunk >= items) continue;
    const SortItem* from = all_items + image * l.num_points * l.corners;
    histogram.clear(1u << digit.bits);
    for (int k = 0; k < kRounds; ++k) {
      const uint32_t i = chunk_item(blockIdx.x, k);
      if (i < items) histogram.add(digit.of(from[i].vertex));
    }
    histogram.store(s.counts.of_image(image), blockIdx.x, 1u << digit.bits);
  }
}

__global__ void __launch_bounds__(kChunkThreads)
    sum_digits_kernel(LatticeView l, Scratch s, int pass) {
  __shared__ uint32_t warp_sums[kChunkWarps];
  for (int64_t image = blockIdx.y; image < l.images; image += gridDim.y) {
    const SortDigit digit(vertices_of(l, image), s.passes, pass);
    if (digit.skipped) continue;
    const uint32_t chunks = (sort_items(l, digit) + kChunk - 1) / kChunk;
    for (uint32_t d = blockIdx.x; d < 1u << digit.bits; d += gridDim.x) {
      sum_digit(s.counts.of_image(image), d, chunks, warp_sums);
    }
  }
}

// To the next pass or, of the last, to the rows.
__global__ void __launch_bounds__(kChunkThreads)
    place_items_kernel(LatticeView l, Scratch s, const SortItem* all_items, SortItem* sorted,
                       int pass) {
  __shared__ ChunkPlaces chunk_places;
  const bool last = pass + 1 == s.passes;
  for (int64_t image = blockIdx.y; image < l.images; image += gridDim.y) {
    const uint32_t vertex_begin = static_cast<uint32_t>(l.vertex_begin[image]);
    const SortDigit digit(vertices_of(l, image), s.passes, pass);
    if (digit.skipped) continue;
    const uint32_t items = sort_items(l, digit);
    if (blockIdx.x * kChunk >= items) continue;
    const int64_t image_begin = image * l.num_points * l.corners;
    const SortItem* from = all_items + image_begin;
    SortItem item[kRounds];
    uint32_t digits[kRounds], places[kRounds], in_chunk[kRounds];
#pragma unroll
    for (int k = 0; k < kRounds; ++k) {
      const uint32_t i = chunk_item(blockIdx.x, k);
      digits[k] = kNoDigit;
      if (i >= items) continue;
      if (digit.first) {
        const uint32_t point = l.lane_point(i);
        if (point >= l.num_points) continue;
        const int64_t e = image * l.entries_per_image + i;
        item[k] = {static_cast<uint32_t>(l.vertices[e]) - vertex_begin,
                   static_cast<uint32_t>(image * l.num_points) + point, l.weights[e], 0};
      } else {
        item[k] = from[i];
      }
      digits[k] = digit.of(item[k].vertex);
    }
    const DigitCounts counts = s.counts.of_image(image);
    const uint32_t count =
        chunk_places.find(counts, blockIdx.x, digit.bits, digits, places, in_chunk);
    SortItem* to = sorted + image_begin;
    const auto put = [&](uint32_t place, const SortItem& one) {
      if (last) {
        l.row_vertices[image_begin + place] = vertex_begin + one.vertex;
        l.row_entries[image_begin + place] = {one.point, one.weight};
      } else {
        to[place] = one;
      }
    };
    chunk_places.put(count, item, digits, places, in_chunk, put);
  }
}

// Where the rows begin; a vertex that no real point touches has an empty row.
__global__ void __launch_bounds__(kChunkThreads) rows_kernel(LatticeView l) {
  const int64_t vertices = *l.num_vertices, end = l.images * l.num_points * l.corners;
  for (int64_t i = strided_begin(); i <= end; i += strided_step()) {
    const int64_t here = i < end ? int64_t{l.row_vertices[i]} : vertices;
    const int64_t before = i > 0 ? int64_t{l.row_vertices[i - 1]} : -1;
    if (here == before) continue;
    for (int64_t v = before + 1; v <= here; ++v) l.row_begin[v] = static_cast<int32_t>(i);
    if (i < end) l.row_entries[i].point |= kBeginsRow;
  }
}

// Sorts the entries of real points, after number_kernel counted the digits of the first pass; where
// the rows begin is found after that.
cudaError_t sort_rows(const LatticeView& l, const Scratch& s, cudaStream_t stream) {
  const unsigned images = static_cast<unsigned>(std::min(l.images, kMaxGrid));
  const dim3 chunks(s.counts.chunks, images);
  cudaError_t error = cudaSuccess;
  const auto step = [&](cudaError_t result) { error = error ? error : result; };
  for (int pass = 0; pass < s.passes; ++pass) {
    const SortItem* from = s.items[(pass + 1) % 2];
    SortItem* to = s.items[pass % 2];
    if (pass > 0) {
      step(launch(count_items_kernel, chunks, kChunkThreads, 0, stream, l, s, from, pass));
    }
    const dim3 digits(std::min(1u << kMostBits, kMostSumBlocks), images);
    step(launch(sum_digits_kernel, digits, kChunkThreads, 0, stream, l, s, pass));
    step(launch(place_items_kernel, chunks, kChunkThreads, 0, stream, l, s, from, to, pass));
  }
  return error;
}

}  // namespace
}  // namespace deeplab_native
