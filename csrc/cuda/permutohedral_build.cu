// Building the lattices of a batch. Every step is one launch over all images; what they are:
//   embed      points -> what names their d + 1 vertices (a record), and barycentric weights
//   insert     keys -> slots of a hash table; a slot keeps the first of its entries
//   codes      entries that are the first of their slot are sorted by the code of their key (see
//              vertex_code), and by which comes first where codes are equal: vertices
//   bridges    of a bridged lattice, see permutohedral_bridges.cuh
//   number     every entry gets its vertex; beside it a lookup for every vertex and axis:
//   neighbours rows       entries sorted by vertex, see permutohedral_rows.cuh
// blockIdx.y has an image: nothing is divided to find out which. Nothing depends on the order of
// the threads: which entry comes first, and how many there are of a digit, does not.
#include <cmath>

#include "cuda/permutohedral_bridges.cuh"
#include "cuda/permutohedral_rows.cuh"
#include "cuda/permutohedral_vertices.cuh"
#include "cuda/wide_embedding.cuh"

namespace deeplab_native {
namespace {

constexpr int64_t kLeastNear = 4096;  // entries of an image

// A thread to a point, a warp to a block of them. kDim: d, or 0 for any. Beside that, what the next
// kernels add to is cleared.
template <int kDim>
__global__ void __launch_bounds__(kChunkThreads)
    embed_kernel(LatticeView l, CudaFeatures features, PixelOrder order,
                 const __grid_constant__ Scale scale, Scratch s) {
  constexpr int kMost = kDim > 0 ? kDim : kPackedDim;
  const int d = kDim > 0 ? kDim : l.d, words = record_words(d);
  clear_scratch(l, s);
  each_item(l.images, l.blocks * kWarp, [&](int64_t image, uint32_t point) {
    // a lane without a point repeats the last one, or lies at 0: with weight 0
    const bool real = point < l.num_points;
    const int64_t from = order.pixel(real ? point : static_cast<uint32_t>(l.num_points) - 1);
    const float* feature =
        features.data + image * features.image_stride + from * features.point_stride;
    Embedding<kMost> e;
    const bool good =
        elevate<kMost>(feature, features.dim_stride, !real && l.zero_point, scale, d, e);
    const uint32_t bad = __ballot_sync(~0u, !good);
    if (point % kWarp == 0) {
      s.bad_blocks[image * l.blocks + point / kWarp] = static_cast<int32_t>(bad);
    }
    find_simplex<kMost>(d, e);
#pragma unroll
    for (int r = 0; r <= kMost; ++r) {
      if (r <= d) l.weights[l.entry(image, point, r)] = real ? e.weights[r] : 0.0f;
    }
    uint32_t* record = s.records + (image * l.blocks * kWarp + point) * words;
    store_record<kDim>(record, d, e);
  });
}

// The slot of an entry's key, which then holds this entry or an earlier one of the same key.
template <int kDim>
__device__ int64_t claim(const LatticeView& l, const Table& table, const Key<kDim>& key,
                         int64_t image, int64_t entry) {
  const int64_t first = image * table.capacity;
  const int32_t own = static_cast<int32_t>(entry);
  for (int64_t s = table.start(key.hash());; s = s + 1 == table.capacity ? 0 : s + 1) {
    int32_t* slot = table.slots + first + s;
    // the key of a slot never changes, and its entry only to earlier ones: an old one is as good
    int32_t seen = read_cached(slot);
    if (seen < 0) seen = read_relaxed(slot);
    if (seen < 0) seen = atomicCAS(slot, -1, own);
    if (seen < 0) return first + s;
    if (!table.has_key<kDim>(l, seen, key)) continue;
    // who holds the slot now has the same key, whoever that is
    if (own < seen) atomicMin(slot, own);
    return first + s;
  }
}

// Neighbouring points mostly share their vertices: the first lane of a run of equal keys looks up.
template <int kDim>
__global__ void __launch_bounds__(kChunkThreads)
    insert_kernel(LatticeView l, Table table, Scratch s) {
  each_item(l.images, l.entries_per_image, [&](int64_t image, uint32_t i) {
    const int64_t e = image * l.entries_per_image + i;
    const int lane = static_cast<int>(i % kWarp);
    const auto key = table.key<kDim>(l, e);
    const bool leads = key.leads(lane);
    const uint32_t leaders = __ballot_sync(~0u, leads);
    int32_t slot = 0;
    if (leads) slot = static_cast<int32_t>(claim<kDim>(l, table, key, image, e));
    const uint32_t up_to_here = leaders & (~0u >> (kWarp - 1 - lane));
    s.slot[e] = __shfl_sync(~0u, slot, kWarp - 1 - __clz(static_cast<int>(up_to_here)));
    // the first corner of a block of points says so of its image
    const uint32_t block = i / static_cast<uint32_t>(l.corners * kWarp);
    if (i != block * static_cast<uint32_t>(l.corners * kWarp)) return;
    if (s.bad_blocks[image * l.blocks + block] != 0) atomicExch(l.bad + image, 1);
  });
}

// The vertex of a key moved along an axis, -1 where there is none.
template <int kDim>
__device__ int32_t find_moved(const LatticeView& l, const Table& table, const int32_t* vertex_entry,
                              int64_t image, Key<kDim> key, int axis) {
  key.move_along(axis, l.d, table.last_factor);
  const int64_t first = image * table.capacity;
  for (int64_t s = table.start(key.hash());; s = s + 1 == table.capacity ? 0 : s + 1) {
    const int32_t seen = table.slots[first + s];
    if (seen < 0) return -1;
    if (table.has_key<kDim>(l, vertex_entry[seen], key)) return seen;
  }
}

// A vertex looks up the one after it, and is the one before that; where none says so, the -1 of
// place_codes_kernel stays.
template <int kDim>
__device__ void find_neighbours(const LatticeView& l, const Table& table, const Scratch& s,
                                int64_t image, int axis) {
  int2* neighbours = l.neighbours + axis * l.room();
  const int64_t end = l.vertex_begin[image + 1];
  for (int64_t v = l.vertex_begin[image] + strided_begin(); v < end; v += strided_step()) {
    const auto key = table.key<kDim>(l, s.vertex_entry[v]);
    const int32_t moved = find_moved<kDim>(l, table, s.vertex_entry, image, key, axis);
    neighbours[v].x = moved;
    if (moved >= 0) neighbours[moved].y = static_cast<int32_t>(v);
  }
}

// Blocks of a multiprocessor at a time, at the least; 0: as the compiler likes, which would spill
// with kWide.
template <int kDim>
constexpr int kNumberBlocks = kDim == kWide ? at_least_blocks(6, kChunkThreads) : 0;

// blockIdx.z: 0 the entries, of whose vertices the first digits are counted, then the axes.
template <int kDim>
__global__ void __launch_bounds__(kChunkThreads, (kNumberBlocks<kDim>))
    number_kernel(LatticeView l, Table table, Scratch s) {
  __shared__ ChunkHistogram histogram;
  for (int64_t image = blockIdx.y; image < l.images; image += gridDim.y) {
    if (blockIdx.z > 0) {
      find_neighbours<kDim>(l, table, s, image, static_cast<int>(blockIdx.z) - 1);
      continue;
    }
    const SortDigit digit(vertices_of(l, image));
    const uint32_t begin = static_cast<uint32_t>(l.vertex_begin[image]);
    histogram.clear(1u << digit.bits);
    for (int k = 0; k < kRounds; ++k) {
      const uint32_t i = chunk_item(blockIdx.x, k);
      if (i >= l.entries_per_image) continue;
      const int64_t e = image * l.entries_per_image + i;
      const int32_t vertex = s.slots[s.slot[e]];
      l.vertices[e] = vertex;
      const bool real = l.lane_point(i) < l.num_points;
      if (real) histogram.add(digit.of(static_cast<uint32_t>(vertex) - begin));
    }
    histogram.store(s.counts.of_image(image), blockIdx.x, 1u << digit.bits);
  }
}

// Other dimensions are bridged as any: by the kernels of 0.
template <int kDim>
constexpr bool kCanBridge = kDim == 0 || kDim == 2 || kDim == 5;

template <int kDim>
cudaError_t build(const LatticeView& l, const Scratch& s, const BridgeScratch& b,
                  const CudaFeatures& features, const PixelOrder& order, int code_bits,
                  cudaStream_t stream) {
  const Table table{s.slots, s.records, s.capacity, s.hashes,
                    kDim == kWide ? last_wide_factor(l.d) : 0};
  const dim3 points = item_grid(l.images, l.blocks * kWarp, kChunkThreads);
  const dim3 entries = item_grid(l.images, l.entries_per_image, kChunkThreads);
  const dim3 chunks(s.counts.chunks, entries.y);
  const dim3 codes(std::min(1u << code_bits, kMostSumBlocks), entries.y);
  const dim3 chunks_and_axes(chunks.x, chunks.y, static_cast<unsigned>(1 + l.corners));
  cudaError_t error = cudaSuccess;
  const auto run = [&](auto kernel, dim3 grid, auto... arguments) {
    if (!error) error = launch(kernel, grid, kChunkThreads, 0, stream, l, arguments...);
  };
  if constexpr (kDim == kWide) {
    run(embed_wide_kernel, points, features, order, scale_of<WideScale>(l.d, false), table, s);
  } else {
    run(embed_kernel<kDim>, points, features, order, scale_of<Scale>(l.d, l.bridged), s);
  }
  run(insert_kernel<kDim>, entries, table, s);
  run(count_codes_kernel<kDim>, chunks, table, s, code_bits);
  run(sum_codes_kernel, codes, s.counts, code_bits);
  const auto rows = [&](auto kernel) {
    if (!error) error = sort_rows(l, s, stream);
    run(kernel, dim3(strided_blocks(l.images * l.num_points * l.corners + 1, kChunkThreads)));
    return error;
  };
  if constexpr (kCanBridge<kDim>) {
    if (l.bridged) {
      const dim3 groups(static_cast<unsigned>(b.chunks), entries.y);
      const dim3 steps(entries.x, entries.y, static_cast<unsigned>(2 * l.corners));
      const dim3 axes(item_grid(l.images, l.image_room(), kChunkThreads).x, entries.y,
                      static_cast<unsigned>(l.corners));
      run(find_bridges_kernel<kDim>, steps, table, s, b);
      run(count_bridges_kernel, groups, b);
      run(sum_bridges_kernel, dim3(entries.y), s, b);
      run(place_codes_kernel, chunks, s, code_bits);
      run(place_bridges_kernel<kDim>, entries, table, s, b);
      run(number_kernel<kDim>, chunks, table, s);  // of the entries
      run(bridged_neighbours_kernel<kDim>, axes, table, s, b);
      return rows(bridged_rows_kernel);
    }
  }
  run(place_codes_kernel, chunks, s, code_bits);
  run(number_kernel<kDim>, chunks_and_axes, table, s);
  return rows(rows_kernel);
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
  l.bridged = shape.bridged_room > 0;
  l.spread = std::max(1, shape.bridged_room);
  Arena arena(memory);
  l.vertex_begin = arena.take<int32_t>(l.images + 1);
  l.num_vertices = l.vertex_begin ? l.vertex_begin + l.images : nullptr;
  l.bad = arena.take<int32_t>(l.images);
  l.weights = arena.take<float>(l.entries);
  l.vertices = arena.take<int32_t>(l.entries);
  l.neighbours = arena.take<int2>(l.room() * l.corners);
  l.row_begin = arena.take<int32_t>(l.room() + 1);
  l.row_vertices = arena.take<uint32_t>(l.entries);
  l.row_entries = arena.take<SplatEntry<float>>(l.entries);
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
  BridgeScratch bridges{};
  scratch_view(lattice_view(shape, nullptr), nullptr, &bridges, &bytes);
  return bytes;
}

int64_t lattice_entries_cuda(const CudaLatticeShape& shape) {
  return lattice_view(shape, nullptr).entries;
}

const int32_t* vertex_begin_cuda(const CudaLatticeShape& shape, const void* lattice) {
  return lattice_view(shape, const_cast<void*>(lattice)).vertex_begin;
}

int build_lattice_cuda(const CudaLatticeShape& shape, const CudaFeatures& features, bool near,
                       void* lattice, void* scratch, void* stream) {
  const LatticeView l = lattice_view(shape, lattice);
  if (l.entries == 0) return cudaSuccess;
  BridgeScratch bridges{};
  const Scratch s = scratch_view(l, scratch, &bridges);
  const PixelOrder order(shape.order, shape.num_points);
  // the rows of a small lattice are near one another in any order
  const int code_bits = near && l.entries_per_image >= kLeastNear ? kCodeBits : 0;
  const auto run = [&](auto dim) {
    return build<decltype(dim)::value>(l, s, bridges, features, order, code_bits,
                                       static_cast<cudaStream_t>(stream));
  };
  if (shape.d > kPackedDim) {
    return l.bridged ? cudaErrorInvalidValue : run(std::integral_constant<int, kWide>{});
  }
  switch (l.bridged && shape.d != 2 && shape.d != 5 ? 0 : shape.d) {
    case 1:
      return run(std::integral_constant<int, 1>{});
    case 2:
      return run(std::integral_constant<int, 2>{});
    case 3:
      return run(std::integral_constant<int, 3>{});
    case 4:
      return run(std::integral_constant<int, 4>{});
    case 5:
      return run(std::integral_constant<int, 5>{});
    case 6:
      return run(std::integral_constant<int, 6>{});
    default:
      return run(std::integral_constant<int, 0>{});
  }
}

}  // namespace deeplab_native
