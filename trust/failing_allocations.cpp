// The n-th allocation of one module fails. Preloaded (LD_PRELOAD), so that what the module calls is
// what is here; other modules get what they ask for. Counted are allocations without Python's lock,
// which all kernels release: those with it are pybind11's own, of a few bytes for the objects that
// it hands over, where it expects no failure.
#include <dlfcn.h>
#include <stdlib.h>

#include <atomic>
#include <cstdint>
#include <new>

namespace {

int (*g_has_lock)() = nullptr;
std::atomic<uintptr_t> g_first{0}, g_last{0};  // addresses of the module's code
std::atomic<long> g_calls{0}, g_fails{0};      // so many so far; the one that fails, 0 for none

bool fails(const void* caller) {
  const auto address = reinterpret_cast<uintptr_t>(caller);
  if (address < g_first.load(std::memory_order_relaxed) || address >= g_last) return false;
  if (g_has_lock()) return false;
  return g_calls.fetch_add(1) + 1 == g_fails.load();
}

void* allocate(size_t bytes, const void* caller) {
  void* const data = fails(caller) ? nullptr : malloc(bytes ? bytes : 1);
  if (!data) throw std::bad_alloc();
  return data;
}

}  // namespace

extern "C" {
void fail_allocation(long number, uintptr_t first, uintptr_t last) {
  g_has_lock = reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "PyGILState_Check"));
  g_first = UINTPTR_MAX;  // nobody counts meanwhile
  g_last = last;
  g_calls = 0;
  g_fails = number;
  g_first = last ? first : UINTPTR_MAX;
}
long allocations() { return g_calls; }

void* aligned_alloc(size_t alignment, size_t bytes) {
  using Function = void* (*)(size_t, size_t);
  static const Function real = reinterpret_cast<Function>(dlsym(RTLD_NEXT, "aligned_alloc"));
  return fails(__builtin_return_address(0)) ? nullptr : real(alignment, bytes);
}
}

void* operator new(size_t bytes) { return allocate(bytes, __builtin_return_address(0)); }
void* operator new[](size_t bytes) { return allocate(bytes, __builtin_return_address(0)); }
void operator delete(void* data) noexcept { free(data); }
void operator delete[](void* data) noexcept { free(data); }
void operator delete(void* data, size_t) noexcept { free(data); }
void operator delete[](void* data, size_t) noexcept { free(data); }
