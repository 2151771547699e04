// What a sanitizer must know of the emulator's fibers: which stack runs, and for TSan the order
// that a barrier makes between threads.
#pragma once
#include <cstddef>

#define EMU_INTERNAL
#if defined(__SANITIZE_ADDRESS__)
#include <pthread.h>
#include <sanitizer/common_interface_defs.h>
#elif defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#undef EMU_INTERNAL
// the emulator's own state is not under test
#define EMU_INTERNAL __attribute__((no_sanitize("thread"), noinline))
// of the run time; its header has no word of them
extern "C" void __tsan_ignore_thread_begin();
extern "C" void __tsan_ignore_thread_end();
#endif
namespace emu {

struct Edge {  // between fibers, for TSan: what came before a release comes before an acquire
  char address;
};

#if defined(__SANITIZE_ADDRESS__)
template <class Fiber>
void san_leave(Fiber& from, Fiber& to) {
  __sanitizer_start_switch_fiber(&from.san, to.stack, to.stack_size);
}
inline void san_enter(void* fake_stack) {
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
}
template <class Fiber>
void san_host(Fiber& host) {
  pthread_attr_t attributes;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, reinterpret_cast<void**>(&host.stack), &host.stack_size);
  pthread_attr_destroy(&attributes);
}
#else
inline void san_enter(void*) {}
#endif
#if defined(__SANITIZE_THREAD__)
template <class Fiber>
void san_create(Fiber& f) {
  f.san = __tsan_create_fiber(0);
}
template <class Fiber>
EMU_INTERNAL void san_leave(Fiber&, Fiber& to) {
  __tsan_switch_to_fiber(to.san, __tsan_switch_to_fiber_no_sync);
}
template <class Fiber>
void san_host(Fiber& host) {
  host.san = __tsan_get_current_fiber();
}
inline void hb_release(Edge* edge) { __tsan_release(edge); }
inline void hb_acquire(Edge* edge) { __tsan_acquire(edge); }
// Between them TSan does not look at what the fiber that runs reads and writes.
inline void san_ignore() { __tsan_ignore_thread_begin(); }
inline void san_watch() { __tsan_ignore_thread_end(); }
constexpr bool kWatchesSome = true;  // it is slow: a part of the blocks is enough
#else
inline void san_ignore() {}
inline void san_watch() {}
constexpr bool kWatchesSome = false;
template <class Fiber>
void san_create(Fiber&) {}
inline void hb_release(Edge*) {}
inline void hb_acquire(Edge*) {}
#if !defined(__SANITIZE_ADDRESS__)
template <class Fiber>
void san_leave(Fiber&, Fiber&) {}
template <class Fiber>
void san_host(Fiber&) {}
#endif
#endif

}  // namespace emu
