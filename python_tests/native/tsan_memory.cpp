// memcpy and its like as the module calls them under TSan (by the linker's --wrap). Those of TSan
// see no access at all with ignore_noninstrumented_modules=1: they cannot tell calls of the module
// from torch's.
#include <cstddef>

extern "C" {
void __tsan_read_range(void* address, long size);
void __tsan_write_range(void* address, long size);
void* __real_memcpy(void* to, const void* from, size_t size);
void* __real_memmove(void* to, const void* from, size_t size);
void* __real_memset(void* to, int value, size_t size);

void* __wrap_memcpy(void* to, const void* from, size_t size) {
  __tsan_read_range(const_cast<void*>(from), static_cast<long>(size));
  __tsan_write_range(to, static_cast<long>(size));
  return __real_memcpy(to, from, size);
}

void* __wrap_memmove(void* to, const void* from, size_t size) {
  __tsan_read_range(const_cast<void*>(from), static_cast<long>(size));
  __tsan_write_range(to, static_cast<long>(size));
  return __real_memmove(to, from, size);
}

void* __wrap_memset(void* to, int value, size_t size) {
  __tsan_write_range(to, static_cast<long>(size));
  return __real_memset(to, value, size);
}
}
