// A stable counting sort of the items of each image by one digit: chunks of items are counted, the
// counts of each digit summed up over the chunks, and every item put where it belongs. The order
// of the threads has no part in it, so the result is always the same. blockIdx.y has an image, x
// a chunk; no block waits for another.
#pragma once
#include "cuda/compat.cuh"

namespace deeplab_native {
namespace {

constexpr unsigned kChunkThreads = 256;
constexpr uint32_t kLanes = 32, kChunkWarps = kChunkThreads / kLanes;
constexpr int kRounds = 8;  // items of a thread: a warp takes kRounds times 32 that follow
constexpr uint32_t kChunk = kChunkThreads * kRounds;
#if defined(CUDA_EMU)
constexpr int kMostBits = 6;  // so that few items take as many passes as many on a device
#else
constexpr int kMostBits = 11;  // of a digit when entries are sorted by vertex
#endif
constexpr int kCodeBits = 10;  // and when vertices are numbered
constexpr uint32_t kDigits = 1u << (kMostBits > kCodeBits ? kMostBits : kCodeBits);
constexpr unsigned kMostSumBlocks = 512;  // that sum up an image's digits: mostly there are fewer
constexpr uint32_t kNoDigit = ~0u;        // of an item that is left out

// Of the digits in the chunks of one image.
struct DigitCounts {
  uint32_t* of_chunk;  // [kDigits][chunks]: in a chunk; summed up: in the chunks before
  uint32_t* totals;    // [kDigits]
  uint32_t chunks;     // a multiple of 4, so that four are read at once
};

// The memory of the counts of all images.
struct CountTables {
  uint32_t *of_chunk, *totals;
  uint32_t chunks;

  static uint32_t chunks_of(int64_t items) {
    return static_cast<uint32_t>((items + kChunk - 1) / kChunk + 3) / 4 * 4;
  }
  __device__ DigitCounts of_image(int64_t image) const {
    return {of_chunk + image * kDigits * chunks, totals + image * kDigits, chunks};
  }
};

__device__ inline uint32_t in_warp() { return threadIdx.x % kLanes; }
__device__ inline uint32_t own_warp() { return threadIdx.x / kLanes; }

// Item of round k of this thread, of those that begin with the chunk's first.
__device__ inline uint32_t chunk_item(uint32_t chunk, int k) {
  return chunk * kChunk + (own_warp() * kRounds + static_cast<uint32_t>(k)) * kLanes + in_warp();
}

// The sum over the threads before, and of all. All threads of the block come together.
__device__ inline uint32_t exclusive_sum(uint32_t own, uint32_t (&warp_sums)[kChunkWarps],
                                         uint32_t& all) {
  uint32_t sum = own;
  for (uint32_t d = 1; d < kLanes; d *= 2) {
    const uint32_t below = __shfl_up_sync(~0u, sum, d);
    if (in_warp() >= d) sum += below;
  }
  __syncthreads();  // who read the sums of the last time is done
  if (in_warp() == kLanes - 1) warp_sums[own_warp()] = sum;
  __syncthreads();
  uint32_t before = 0;
  all = 0;
  for (uint32_t w = 0; w < kChunkWarps; ++w) {
    before += w < own_warp() ? warp_sums[w] : 0;
    all += warp_sums[w];
  }
  return before + sum - own;
}

// How often each digit is in a chunk. A block counts one after the other.
class ChunkHistogram {
 public:
  __device__ void clear(uint32_t digits) {
    for (uint32_t i = threadIdx.x; i < digits; i += kChunkThreads) count_[i] = 0;
    __syncthreads();
  }
  __device__ void add(uint32_t digit) { atomicAdd(&count_[digit], 1u); }
  __device__ void store(const DigitCounts& to, uint32_t chunk, uint32_t digits) {
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < digits; i += kChunkThreads) {
      to.of_chunk[i * to.chunks + chunk] = count_[i];
    }
    __syncthreads();
  }

 private:
  uint32_t count_[kDigits];
};

// The counts of one digit, of `chunks` chunks, summed up by one block.
__device__ inline void sum_digit(const DigitCounts& counts, uint32_t digit, uint32_t chunks,
                                 uint32_t (&warp_sums)[kChunkWarps]) {
  uint4* own = reinterpret_cast<uint4*>(counts.of_chunk + digit * counts.chunks);
  uint32_t before = 0;
  for (uint32_t first = 0; first < chunks; first += 4 * kChunkThreads) {
    const uint32_t c = first + 4 * threadIdx.x;
    uint4 n = c < chunks ? own[c / 4] : make_uint4(0, 0, 0, 0);
    if (c + 1 >= chunks) n.y = 0;  // nobody counted those
    if (c + 2 >= chunks) n.z = 0;
    if (c + 3 >= chunks) n.w = 0;
    uint32_t all;
    const uint32_t sum = before + exclusive_sum(n.x + n.y + n.z + n.w, warp_sums, all);
    if (c < chunks) own[c / 4] = make_uint4(sum, sum + n.x, sum + n.x + n.y, sum + n.x + n.y + n.z);
    before += all;
  }
  if (threadIdx.x == 0) counts.totals[digit] = before;
}

// Where the items of a chunk belong.
class ChunkPlaces {
 public:
  // places[k], among all items of the image, of an item with digits[k] < 2^bits, and its place
  // among those of the chunk; with kNoDigit nothing. Returns how many items the chunk has.
  __device__ uint32_t find(const DigitCounts& counts, uint32_t chunk, int bits,
                           const uint32_t (&digits)[kRounds], uint32_t (&places)[kRounds],
                           uint32_t (&in_chunk)[kRounds]) {
    rank_in_warps(bits, digits, in_chunk);
    __syncthreads();
    const uint32_t items = sum_over_digits(counts, chunk, 1u << bits);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kRounds; ++k) {
      if (digits[k] == kNoDigit) continue;
      in_chunk[k] += of_warp_[own_warp()][digits[k]];
      places[k] = begin_[digits[k]] + in_chunk[k];
    }
    __syncthreads();
    return items;
  }

  // Puts the items of a chunk where find says, by put(place, item): in the order of the places, so
  // that neighbouring threads write neighbours.
  template <class Item, class Put>
  __device__ void put(uint32_t items, const Item (&item)[kRounds],
                      const uint32_t (&digits)[kRounds], const uint32_t (&places)[kRounds],
                      const uint32_t (&in_chunk)[kRounds], const Put& put) {
    static_assert(sizeof(Item) * kChunk <= sizeof(room_));
    Item* const sorted = reinterpret_cast<Item*>(room_);
#pragma unroll
    for (int k = 0; k < kRounds; ++k) {
      if (digits[k] == kNoDigit) continue;
      sorted[in_chunk[k]] = item[k];
      place_[in_chunk[k]] = places[k];
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < items; i += kChunkThreads) put(place_[i], sorted[i]);
    __syncthreads();
  }

 private:
  // Items of a warp with the same digit find one another bit by bit.
  __device__ void rank_in_warps(int bits, const uint32_t (&digits)[kRounds],
                                uint32_t (&places)[kRounds]) {
    uint16_t* const own = of_warp_[own_warp()];
    for (uint32_t i = in_warp(); i < 1u << bits; i += kLanes) own[i] = 0;
    __syncwarp();
    const uint32_t below = (1u << in_warp()) - 1;
#pragma unroll
    for (int k = 0; k < kRounds; ++k) {
      const uint32_t digit = digits[k];
      const bool there = digit != kNoDigit;
      uint32_t peers = __ballot_sync(~0u, there);
      if (peers == 0) continue;
      for (int b = 0; b < bits; ++b) {
        const bool set = (digit >> b & 1) != 0;
        const uint32_t with = __ballot_sync(~0u, set);
        peers &= set ? with : ~with;
      }
      const uint32_t before = there ? own[digit] : 0;
      places[k] = before + static_cast<uint32_t>(__popc(peers & below));
      __syncwarp();
      if (there && (peers & below) == 0) {
        own[digit] = static_cast<uint16_t>(before + static_cast<uint32_t>(__popc(peers)));
      }
      __syncwarp();
    }
  }

  // What is before the items of a digit in this chunk: smaller digits, chunks, and warps before.
  // begin_ is less what is before them in the chunk; that is in of_warp_, too.
  __device__ uint32_t sum_over_digits(const DigitCounts& counts, uint32_t chunk, uint32_t digits) {
    const uint32_t of_thread = (digits + kChunkThreads - 1) / kChunkThreads;
    const uint32_t first = threadIdx.x * of_thread, end = min(digits, first + of_thread);
    uint32_t own = 0, own_in_chunk = 0, all, items;
    for (uint32_t i = first; i < end; ++i) {
      own += counts.totals[i];
      for (uint32_t w = 0; w < kChunkWarps; ++w) own_in_chunk += of_warp_[w][i];
    }
    uint32_t before = exclusive_sum(own, warp_sums_, all);
    uint32_t in_chunk = exclusive_sum(own_in_chunk, warp_sums_, items);
    for (uint32_t i = first; i < end; ++i) {
      begin_[i] = before + counts.of_chunk[i * counts.chunks + chunk] - in_chunk;
      before += counts.totals[i];
      for (uint32_t w = 0; w < kChunkWarps; ++w) {
        const uint32_t of_warp = of_warp_[w][i];
        of_warp_[w][i] = static_cast<uint16_t>(in_chunk);
        in_chunk += of_warp;
      }
    }
    return items;
  }

  static constexpr uint32_t kItemBytes = 16;
  union {
    uint16_t of_warp_[kChunkWarps][kDigits];  // items of a warp with a digit
    uint4 room_[kChunk * kItemBytes / sizeof(uint4)];
  };
  union {
    uint32_t begin_[kDigits];
    uint32_t place_[kChunk];
  };
  uint32_t warp_sums_[kChunkWarps];
};

}  // namespace
}  // namespace deeplab_native
