// The n-th call that changes a folder fails, and with `sticky` all after it, as on a disk that is
// full: creating, writing, syncing, renaming. Preloaded (LD_PRELOAD), so that what any library
// calls is what is here. Removing works: it does on a full disk, too.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>

namespace {

char g_folder[PATH_MAX];
std::atomic<long> g_calls{0}, g_number{0};  // so many so far; the one that fails, 0 for none
std::atomic<int> g_error{0}, g_sticky{0};
std::atomic<bool> g_counts{false};

bool inside(const char* path) {
  const size_t length = strlen(g_folder);
  return strncmp(path, g_folder, length) == 0 && (path[length] == '/' || path[length] == 0);
}

// Whether the call, which is one of those, fails; errno says so then.
bool fails() {
  const long call = g_calls.fetch_add(1) + 1, number = g_number;
  if (number == 0 || (g_sticky ? call < number : call != number)) return false;
  errno = g_error;
  return true;
}

bool fails_at(int fd) {
  if (!g_counts || fd < 3) return false;
  char name[64], path[PATH_MAX];
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  const ssize_t length = readlink(name, path, sizeof path - 1);
  if (length < 0) return false;
  path[length] = 0;
  return inside(path) && fails();
}

bool fails_at(int folder, const char* path) {
  if (!g_counts || !path) return false;
  char full[2 * PATH_MAX];
  if (path[0] == '/') {
    snprintf(full, sizeof full, "%s", path);
  } else if (folder == AT_FDCWD) {
    char here[PATH_MAX];
    if (!getcwd(here, sizeof here)) return false;
    snprintf(full, sizeof full, "%s/%s", here, path);
  } else {
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", folder);
    const ssize_t length = readlink(name, full, PATH_MAX - 1);
    if (length < 0) return false;
    snprintf(full + length, sizeof full - length, "/%s", path);
  }
  return inside(full) && fails();
}

template <class Function>
Function real(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

int mode_of(int flags, va_list arguments) {
  return flags & (O_CREAT | __O_TMPFILE) ? va_arg(arguments, int) : 0;
}

}  // namespace

#define REAL(name)                                        \
  (*[] {                                                  \
    static const auto f = real<decltype(&::name)>(#name); \
    return f;                                             \
  }())
#define OPEN(name)                                                \
  int name(const char* path, int flags, ...) {                    \
    va_list arguments;                                            \
    va_start(arguments, flags);                                   \
    const int mode = mode_of(flags, arguments);                   \
    va_end(arguments);                                            \
    if ((flags & O_CREAT) && fails_at(AT_FDCWD, path)) return -1; \
    return REAL(name)(path, flags, mode);                         \
  }
#define OPEN_AT(name)                                           \
  int name(int folder, const char* path, int flags, ...) {      \
    va_list arguments;                                          \
    va_start(arguments, flags);                                 \
    const int mode = mode_of(flags, arguments);                 \
    va_end(arguments);                                          \
    if ((flags & O_CREAT) && fails_at(folder, path)) return -1; \
    return REAL(name)(folder, path, flags, mode);               \
  }

extern "C" {
void fail_file(const char* folder, long number, int error, int sticky) {
  g_counts = false;
  snprintf(g_folder, sizeof g_folder, "%s", folder);
  g_calls = 0;
  g_number = number;
  g_error = error;
  g_sticky = sticky;
  g_counts = folder[0] != 0;
}
long file_calls() { return g_calls; }

OPEN(open)
OPEN(open64)
OPEN_AT(openat)
OPEN_AT(openat64)
ssize_t write(int fd, const void* data, size_t size) {
  return fails_at(fd) ? -1 : REAL(write)(fd, data, size);
}
ssize_t writev(int fd, const iovec* data, int count) {
  return fails_at(fd) ? -1 : REAL(writev)(fd, data, count);
}
ssize_t pwrite(int fd, const void* data, size_t size, off_t at) {
  return fails_at(fd) ? -1 : REAL(pwrite)(fd, data, size, at);
}
ssize_t pwrite64(int fd, const void* data, size_t size, off64_t at) {
  return fails_at(fd) ? -1 : REAL(pwrite64)(fd, data, size, at);
}
int ftruncate(int fd, off_t size) { return fails_at(fd) ? -1 : REAL(ftruncate)(fd, size); }
int ftruncate64(int fd, off64_t size) { return fails_at(fd) ? -1 : REAL(ftruncate64)(fd, size); }
int fsync(int fd) { return fails_at(fd) ? -1 : REAL(fsync)(fd); }
int fdatasync(int fd) { return fails_at(fd) ? -1 : REAL(fdatasync)(fd); }
int mkdir(const char* path, mode_t mode) {
  return fails_at(AT_FDCWD, path) ? -1 : REAL(mkdir)(path, mode);
}
int rename(const char* from, const char* to) {
  return fails_at(AT_FDCWD, to) ? -1 : REAL(rename)(from, to);
}
int symlink(const char* target, const char* path) {
  return fails_at(AT_FDCWD, path) ? -1 : REAL(symlink)(target, path);
}
}
