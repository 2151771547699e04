/* Ends a run at the n-th thing that it does to files in one folder.
 *
 * Preloaded (LD_PRELOAD) before a program, it counts the system calls by which files below a folder
 * come to be, change and go, in all processes of the run together, and sends a signal before, within
 * or after the n-th. Within: half of what was to be written is. `trust/kill/_events.py` has the same
 * struct.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { BEFORE, WITHIN, AFTER };
enum { SELF = -2 };

struct control {
    long count;        /* events so far */
    long at;           /* the event that is not survived, from 1; 0: all are */
    int when;          /* BEFORE, WITHIN (of a write; else as AFTER) or AFTER */
    int signal;
    int victim;        /* process; 0: the whole group of whoever does it; SELF: that one alone */
    char folder[1024]; /* absolute; "" for none */
    char what[1024];   /* the event that it was */
    char kinds[8192];  /* the first letter of every event's name, from 1 */
};

static struct control *control;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("DEEPLAB_KILL_CONTROL");
    if (path == NULL) return;
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) return;
    void *memory = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (memory != MAP_FAILED) control = memory;
}

static int is_in_folder(const char *path) {
    if (control == NULL || path == NULL || control->folder[0] == 0) return 0;
    return strncmp(path, control->folder, strlen(control->folder)) == 0;
}

/* Path of an open file in the folder, or NULL. */
static const char *path_of(int file, char *path) {
    if (control == NULL || control->folder[0] == 0) return NULL;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length <= 0) return NULL;
    path[length] = 0;
    return is_in_folder(path) ? path : NULL;
}

static void end_it(const char *name, const char *path) {
    snprintf(control->what, sizeof control->what, "%s %s", name, path);
    int victim = control->victim == SELF ? getpid() : control->victim;
    kill(victim, control->signal);
    if (control->signal == SIGKILL && (victim == 0 || victim == getpid()))
        for (;;) pause(); /* until it arrives */
}

/* Whether this is the event; the signal is sent where it is to come before it. */
static int counted(const char *name, const char *path) {
    long number = __atomic_add_fetch(&control->count, 1, __ATOMIC_SEQ_CST);
    if (number < (long)sizeof control->kinds) control->kinds[number] = name[0];
    if (number != control->at) return 0;
    if (control->when == BEFORE) end_it(name, path);
    return 1;
}

static void afterwards(int is_it, const char *name, const char *path) {
    if (is_it && control->when != BEFORE) end_it(name, path);
}

#define REAL(type, name, ...)                                           \
    static type (*real)(__VA_ARGS__);                                   \
    if (real == NULL) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

#define ON_PATH(name, parameters, types, arguments, path)               \
    int name parameters {                                               \
        REAL(int, name, types);                                         \
        if (!is_in_folder(path)) return real arguments;                 \
        int is_it = counted(#name, path);                               \
        int result = real arguments;                                    \
        afterwards(is_it, #name, path);                                 \
        return result;                                                  \
    }
#define TYPES(...) __VA_ARGS__

ON_PATH(rename, (const char *from, const char *to), TYPES(const char *, const char *), (from, to), to)
ON_PATH(renameat, (int a, const char *from, int b, const char *to),
        TYPES(int, const char *, int, const char *), (a, from, b, to), to)
ON_PATH(unlink, (const char *path), TYPES(const char *), (path), path)
ON_PATH(unlinkat, (int at, const char *path, int flags), TYPES(int, const char *, int),
        (at, path, flags), path)
ON_PATH(mkdir, (const char *path, mode_t mode), TYPES(const char *, mode_t), (path, mode), path)
ON_PATH(rmdir, (const char *path), TYPES(const char *), (path), path)
ON_PATH(symlink, (const char *to, const char *path), TYPES(const char *, const char *), (to, path),
        path)
ON_PATH(truncate, (const char *path, off_t size), TYPES(const char *, off_t), (path, size), path)

#define ON_FILE(name, parameters, types, arguments)                     \
    int name parameters {                                               \
        REAL(int, name, types);                                         \
        char buffer[PATH_MAX];                                          \
        const char *path = path_of(file, buffer);                       \
        if (path == NULL) return real arguments;                        \
        int is_it = counted(#name, path);                               \
        int result = real arguments;                                    \
        afterwards(is_it, #name, path);                                 \
        return result;                                                  \
    }

ON_FILE(fsync, (int file), TYPES(int), (file))
ON_FILE(fdatasync, (int file), TYPES(int), (file))
ON_FILE(ftruncate, (int file, off_t size), TYPES(int, off_t), (file, size))
ON_FILE(ftruncate64, (int file, off64_t size), TYPES(int, off64_t), (file, size))

#define WRITES(name, parameters, types, arguments)                \
    ssize_t name parameters {                                           \
        REAL(ssize_t, name, types);                                     \
        char buffer[PATH_MAX];                                          \
        const char *path = path_of(file, buffer);                       \
        if (path == NULL) return real arguments;                        \
        int is_it = counted(#name, path);                               \
        if (is_it && control->when == WITHIN) size /= 2;                \
        ssize_t result = real arguments;                                \
        afterwards(is_it, #name, path);                                 \
        return result;                                                  \
    }

WRITES(write, (int file, const void *from, size_t size), TYPES(int, const void *, size_t),
       (file, from, size))
WRITES(pwrite, (int file, const void *from, size_t size, off_t at),
       TYPES(int, const void *, size_t, off_t), (file, from, size, at))
WRITES(pwrite64, (int file, const void *from, size_t size, off64_t at),
       TYPES(int, const void *, size_t, off64_t), (file, from, size, at))

/* Only what makes a file, or empties it. */
#define OPENS(name, parameters, types, arguments, last)                 \
    int name parameters {                                               \
        REAL(int, name, types);                                         \
        mode_t mode = 0;                                                \
        if (flags & (O_CREAT | O_TMPFILE)) {                            \
            va_list rest;                                               \
            va_start(rest, last);                                       \
            mode = va_arg(rest, mode_t);                                \
            va_end(rest);                                               \
        }                                                               \
        if (!(flags & (O_CREAT | O_TRUNC)) || !is_in_folder(path)) return real arguments; \
        int is_it = counted(#name, path);                               \
        int result = real arguments;                                    \
        afterwards(is_it, #name, path);                                 \
        return result;                                                  \
    }

OPENS(open, (const char *path, int flags, ...), TYPES(const char *, int, ...), (path, flags, mode),
      flags)
OPENS(open64, (const char *path, int flags, ...), TYPES(const char *, int, ...),
      (path, flags, mode), flags)
OPENS(openat, (int at, const char *path, int flags, ...), TYPES(int, const char *, int, ...),
      (at, path, flags, mode), flags)
OPENS(openat64, (int at, const char *path, int flags, ...), TYPES(int, const char *, int, ...),
      (at, path, flags, mode), flags)
