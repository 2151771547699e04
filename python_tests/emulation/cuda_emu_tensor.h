// Plain twins of the PTX instructions that csrc/cuda/tensor_core.cuh uses; what lane has which
// element is that of the PTX documentation ("Matrix Fragments for mma.m16n8k16", ".m16n8k8",
// "ldmatrix"), which native/test_emulation.py compares with its formulas.
//
// A copy may land at any moment between its start and the wait for its group. The twin lands it as
// late as it can, so that a missing wait reads what was there before; with CUDA_EMU_SEED 1 at once,
// so that a buffer that is filled too early is overwritten under its readers; else some do.
#pragma once
#include <deque>

#include "cuda_emu_fibers.h"

namespace emu {

struct Copy {
  void* to;
  const void* from;
  int bytes;
  unsigned group;
  void land() const {
    char zeros[16] = {};
    if (bytes != 0) std::memcpy(zeros, from, 16);
    std::memcpy(to, zeros, 16);
  }
};
struct Copies {
  std::deque<Copy> pending;  // oldest first
  unsigned group = 0;        // number of the one that is being filled
};
inline Copies copies[kMaxThreads];

inline Copies& own_copies() { return copies[cur - blk->fiber]; }

inline void copy_async(void* to, const void* from, int bytes) {
  if (reinterpret_cast<uintptr_t>(to) % 16 != 0 ||
      (bytes != 0 && reinterpret_cast<uintptr_t>(from) % 16 != 0)) {
    std::fprintf(stderr, "cuda_emu: copy_async: misaligned address\n");
    std::abort();
  }
  const Copy copy{to, from, bytes, own_copies().group};
  const unsigned dice = (static_cast<unsigned>(reinterpret_cast<uintptr_t>(to) / 16) + copy.group) *
                        2654435761u * seed();
  if (seed() == 1 || (seed() > 1 && dice >> 31)) {
    copy.land();
  } else {
    own_copies().pending.push_back(copy);
  }
}
inline void commit_copies() { ++own_copies().group; }
inline void wait_for_copies(unsigned allowed) {
  Copies& own = own_copies();
  while (!own.pending.empty() && own.pending.front().group + allowed < own.group) {
    own.pending.front().land();
    own.pending.pop_front();
  }
}

// What the lanes of a warp show each other in one instruction. Two boards take turns, so that a
// fast lane's next one does not replace what a slow lane still reads.
template <class T>
class Board {
 public:
  EMU_INTERNAL const T* show(const T& mine, const char* where) {
    const size_t thread = static_cast<size_t>(cur - blk->fiber);
    T* board = shown_[turn_[thread]][thread / 32];
    turn_[thread] ^= 1;
    board[lane()] = mine;
    warp_sync(~0u, where);
    return board;
  }

 private:
  T shown_[2][kMaxThreads / 32][32];
  unsigned char turn_[kMaxThreads] = {};
};

inline void load_matrices(uint32_t (&to)[4], const void* row) {
  static Board<const void*> board;
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) {
    std::fprintf(stderr, "cuda_emu: load_matrices: misaligned address\n");
    std::abort();
  }
  const void* const* rows = board.show(row, "ldmatrix");
  for (unsigned matrix = 0; matrix < 4; ++matrix) {
    const void* from = rows[8 * matrix + lane() / 4];
    std::memcpy(&to[matrix], static_cast<const char*>(from) + 4 * (lane() % 4), 4);
  }
}

struct Fragments {
  uint32_t a[4], b[2];
};

template <class T>
EMU_INTERNAL void add_product(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  static Board<Fragments> board;
  constexpr unsigned kItems = 4 / sizeof(T);  // of a register
  const Fragments* warp = board.show({{a[0], a[1], a[2], a[3]}, {b0, b1}}, "mma");
  const unsigned g = lane() / 4, t = lane() % 4;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned upper = i / 2, column = 2 * t + i % 2;  // rows g and g + 8
    for (unsigned half = 0; half < 2; ++half) {
      for (unsigned quad = 0; quad < 4; ++quad) {
        T left[kItems], right[kItems];
        std::memcpy(left, &warp[4 * g + quad].a[2 * half + upper], 4);
        std::memcpy(right, &warp[4 * column + quad].b[half], 4);
        for (unsigned e = 0; e < kItems; ++e) sum[i] += float(left[e]) * float(right[e]);
      }
    }
  }
}

}  // namespace emu
