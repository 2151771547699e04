// The machine of the CUDA emulator: every CUDA thread is a fiber; the fibers of a block run on one
// OS thread and switch only in barriers and warp exchanges, blocks run one after the other. So a
// run is deterministic for a given CUDA_EMU_SEED (0: ascending order of the threads, 1: descending,
// other: shuffled anew for each block), and a missing barrier shows as a result that depends on it.
#pragma once
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <random>
#include <type_traits>
#include <vector>

#include "cuda_emu_launches.h"
#include "cuda_emu_sanitizers.h"

#if !defined(__x86_64__)
#error "cuda_emu: write emu_switch for this processor"
#endif

// Saves the callee-saved registers only: a few ns, where swapcontext makes two system calls.
extern "C" void emu_switch(void** save_sp, void* load_sp);
asm(R"(
.pushsection .text
.weak emu_switch
.type emu_switch,@function
emu_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
.size emu_switch,.-emu_switch
.popsection
)");

namespace emu {

constexpr size_t kStack = 128 << 10;
constexpr int kMaxThreads = 1024;
constexpr unsigned kVote = 32;  // Fiber::source of a ballot

struct Fiber {
  void* sp = nullptr;
  char* stack = nullptr;
  size_t stack_size = kStack;
  void* san = nullptr;  // ASan's fake stack, or TSan's fiber handle
  dim3 tid;
  unsigned lane = 0, warp = 0;
  unsigned source = 0;         // the lane that an exchange takes its value from
  uint64_t post = 0, got = 0;  // value given to, and taken from, an exchange
  uint32_t wait_mask = 0;      // warp barrier that this lane waits at; 0: none
  bool done = true;
  Fiber *next = nullptr, *prev = nullptr;  // the ring of those that still run
  Edge arrived, leaves;                    // of a warp barrier
  const char* where = "";
};
struct Warp {
  Fiber* lane[32];
  uint32_t alive;
};
struct Block {
  dim3 grid, dim, idx;
  Fiber host, fiber[kMaxThreads];
  Warp warp[kMaxThreads / 32];
  unsigned alive = 0, arrived = 0, generation = 0, idle = 0;
  void (*body)(void*) = nullptr;
  void* args = nullptr;
  bool watched = true;     // by TSan
  std::vector<char> smem;  // dynamic shared memory
  // one object a moment: a late thread must not acquire what a fast one released later on
  Edge started, ended, barrier[2];
};
inline Block* blk = new Block;
inline Fiber* cur = &blk->host;
inline std::mutex device_mutex;  // one device: a grid at a time

inline unsigned seed() {
  static const char* text = std::getenv("CUDA_EMU_SEED");
  return text ? static_cast<unsigned>(std::atoi(text)) : 0;
}
inline std::mt19937 shuffler(seed());

EMU_INTERNAL inline void jump(Fiber* to) {
  Fiber* from = cur;
  if (from == to) return;
  cur = to;
  san_leave(*from, *to);
  emu_switch(&from->sp, to->sp);
  san_enter(cur->san);
}

[[noreturn]] EMU_INTERNAL inline void deadlock() {
  std::fprintf(stderr, "cuda_emu: barrier deadlock in block (%u,%u,%u):\n", blk->idx.x, blk->idx.y,
               blk->idx.z);
  int shown = 0;
  for (auto& f : blk->fiber) {
    if (!f.done && shown++ < 8) {
      std::fprintf(stderr, "  thread (%u,%u,%u) waits in %s\n", f.tid.x, f.tid.y, f.tid.z, f.where);
    }
  }
  std::abort();
}

EMU_INTERNAL inline void yield() {
  if (++blk->idle > 2 * blk->alive + 2) deadlock();
  jump(cur->next);
}

EMU_INTERNAL inline void fiber_main() {
  san_enter(nullptr);
  for (;;) {
    hb_acquire(&blk->started);
    if (!blk->watched) san_ignore();
    blk->body(blk->args);
    if (!blk->watched) san_watch();
    hb_release(&blk->ended);
    Fiber* f = cur;
    f->done = true;
    f->prev->next = f->next;
    f->next->prev = f->prev;
    blk->warp[f->warp].alive &= ~(1u << f->lane);
    blk->idle = 0;
    jump(--blk->alive ? f->next : &blk->host);
  }
}

EMU_INTERNAL inline void make(Fiber& f, unsigned i) {
  void* pages = mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  f.stack = static_cast<char*>(pages);
  mprotect(f.stack, 4096, PROT_NONE);  // guard page
  san_create(f);
  // staggered, or the tops of all stacks would share a set of the cache
  auto** sp = reinterpret_cast<void**>(f.stack + kStack - i % 61 * 256);
  *--sp = nullptr;
  *--sp = reinterpret_cast<void*>(&fiber_main);
  f.sp = sp - 6;
}

EMU_INTERNAL inline void start_block(const std::vector<unsigned>& order) {
  Block& b = *blk;
  const unsigned n = static_cast<unsigned>(order.size());
  for (unsigned i = 0; i < n; ++i) {
    Fiber& f = b.fiber[i];
    if (!f.stack) make(f, i);
    f.tid = dim3(i % b.dim.x, i / b.dim.x % b.dim.y, i / b.dim.x / b.dim.y);
    f.lane = i % 32, f.warp = i / 32, f.done = false, f.wait_mask = 0, f.source = 0;
    b.warp[f.warp].lane[f.lane] = &f;
    b.warp[f.warp].alive = f.lane ? b.warp[f.warp].alive | 1u << f.lane : 1u;
  }
  for (unsigned i = 0; i < n; ++i) {
    Fiber &p = b.fiber[order[i]], &q = b.fiber[order[(i + 1) % n]];
    p.next = &q, q.prev = &p;
  }
  b.alive = n, b.arrived = 0, b.idle = 0;
  hb_release(&b.started);
  jump(&b.fiber[order[0]]);
  hb_acquire(&b.ended);
}

template <class F>
EMU_INTERNAL void run_grid(const void* kernel, dim3 grid, dim3 dim, size_t smem, F&& body) {
  std::lock_guard<std::mutex> lock(device_mutex);
  const Watch watch = count_launch(kernel, grid, dim, smem);
  Block& b = *blk;
  san_host(b.host);
  b.grid = grid, b.dim = dim, b.args = &body;
  std::vector<char>().swap(b.smem);  // a capacity of an earlier launch would hide an overrun
  b.body = [](void* p) { (*static_cast<std::remove_reference_t<F>*>(p))(); };
  const unsigned n = dim.x * dim.y * dim.z;
  std::vector<unsigned> order(n);
  for (unsigned i = 0; i < n; ++i) order[i] = seed() == 1 ? n - 1 - i : i;
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x) {
        b.idx = dim3(x, y, z);
        b.smem.assign(smem, char(0xCB));  // garbage, as on the device
        b.watched = !kWatchesSome || watch.block(x + grid.x * (y + uint64_t{grid.y} * z));
        if (seed() > 1) std::shuffle(order.begin(), order.end(), shuffler);
        start_block(order);
      }
    }
  }
}

EMU_INTERNAL inline void barrier(const char* where) {  // threads that have ended count as arrived
  Block& b = *blk;
  cur->where = where;
  const unsigned generation = b.generation;
  ++b.arrived;
  Edge* edge = &b.barrier[generation & 1];  // nobody can be two barriers ahead of another
  if (b.watched) hb_release(edge);
  while (b.generation == generation) {
    if (b.arrived == b.alive) {
      b.arrived = 0, b.idle = 0, ++b.generation;
    } else {
      yield();
    }
  }
  if (b.watched) hb_acquire(edge);
}

EMU_INTERNAL inline void warp_sync(uint32_t mask, const char* where) {
  Fiber& f = *cur;
  Warp& w = blk->warp[f.warp];
  if (!(mask >> f.lane & 1)) {
    std::fprintf(stderr, "cuda_emu: %s: lane %u is not in mask %08x\n", where, f.lane, mask);
    std::abort();
  }
  f.where = where;
  f.wait_mask = mask;
  const bool watched = blk->watched;
  if (watched) hb_release(&f.arrived);
  while (f.wait_mask) {
    const uint32_t need = mask & w.alive;
    bool all = true;
    for (uint32_t m = need; m && all; m &= m - 1) {
      all = w.lane[__builtin_ctz(m)]->wait_mask == mask;
    }
    if (!all) {
      yield();
      continue;
    }
    uint64_t votes = 0;  // the last lane serves them all, so disjoint masks may interleave
    for (uint32_t m = need; m; m &= m - 1) {
      if (watched) hb_acquire(&w.lane[__builtin_ctz(m)]->arrived);
      votes |= (w.lane[__builtin_ctz(m)]->post & 1) << __builtin_ctz(m);
    }
    for (uint32_t m = need; m; m &= m - 1) {
      Fiber& g = *w.lane[__builtin_ctz(m)];
      g.got = 0xCBCBCBCBCBCBCBCB;  // that of a lane that does not take part is undefined
      if (g.source == kVote)
        g.got = votes;
      else if (need >> g.source & 1)
        g.got = w.lane[g.source]->post;
      g.wait_mask = 0;
      if (watched) hb_release(&g.leaves);
    }
    blk->idle = 0;
  }
  if (watched) hb_acquire(&f.leaves);
}

template <class T>
EMU_INTERNAL T exchange(uint32_t mask, T v, unsigned source, const char* where) {
  static_assert(sizeof(T) <= 8);
  Fiber& f = *cur;
  f.source = source;
  std::memcpy(&f.post, &v, sizeof v);
  warp_sync(mask, where);
  std::memcpy(&v, &f.got, sizeof v);
  return v;
}
EMU_INTERNAL inline const dim3& tid() { return cur->tid; }
EMU_INTERNAL inline unsigned lane() { return cur->lane; }

}  // namespace emu
