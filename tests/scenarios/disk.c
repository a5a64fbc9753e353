/*
 * A disk that fails when it is told to, and remembers in which order it was written and synced:
 * loaded before the C library (LD_PRELOAD) of a process whose files lie on it.
 *
 * FAULTY_DISK     the directory that is the disk; files elsewhere are left alone
 * FAULTY_CONTROL  a directory; while it has a file named after an operation (read, write, sync,
 *                 open), that operation fails with the errno that the file holds; where that is 0,
 *                 it hangs until the file is gone, and then goes through
 * FAULTY_JOURNAL  a file that each change, and each sync's beginning and end, is appended to;
 *                 disk.py beside this file reads it
 *
 * An "open" that fails is one for writing: what a read-only disk refuses.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(type, name) ((type)dlsym(RTLD_NEXT, name))

/* Before each entry of the journal; the name and the data follow. */
struct entry {
    uint32_t kind, thread, name, length;
    int64_t offset;
};

static const char *disk, *control;
static int journal = -1;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FAULTY_JOURNAL");
    disk = getenv("FAULTY_DISK");
    control = getenv("FAULTY_CONTROL");
    if (disk && path)
        journal = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

static const char *inside(const char *path)
{
    size_t length = disk ? strlen(disk) : 0;
    return length && !strncmp(path, disk, length) && path[length] == '/' ? path + length + 1 : NULL;
}

/* The name of an open file on the disk; NULL for any other. */
static const char *named(int fd, char *path, size_t size)
{
    char link[64];
    ssize_t length;
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, size - 1);
    errno = before;
    if (length < 0)
        return NULL;
    path[length] = 0;
    return inside(path);
}

/* Whether the operation is to fail now; errno says how. */
static int fails(const char *operation)
{
    char path[4096], text[16] = "";
    int fd, before = errno, saved = errno;
    if (!control)
        return 0;
    snprintf(path, sizeof path, "%s/%s", control, operation);
    fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    errno = before;
    if (fd < 0)
        return 0;
    if (syscall(SYS_read, fd, text, sizeof text - 1) > 0)
        before = atoi(text);
    syscall(SYS_close, fd);
    if (!before) {
        while (!access(path, F_OK))
            usleep(2000);
        errno = saved;
        return 0;
    }
    errno = before;
    return 1;
}

static void note(char kind, const char *name, const void *data, size_t length, off64_t offset)
{
    struct entry entry = {kind, syscall(SYS_gettid), strlen(name), length, offset};
    struct iovec parts[] = {{&entry, sizeof entry}, {(void *)name, entry.name}, {(void *)data, length}};
    int before = errno;
    if (journal >= 0 && writev(journal, parts, 3) != (ssize_t)(sizeof entry + entry.name + length))
        abort();
    errno = before;
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset)
{
    char path[4096];
    const char *name = named(fd, path, sizeof path);
    ssize_t done;
    if (name && fails("write"))
        return -1;
    done = REAL(ssize_t (*)(int, const void *, size_t, off64_t), "pwrite64")(fd, data, length, offset);
    if (name && done > 0)
        note('W', name, data, done, offset);
    return done;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset)
{
    return pwrite64(fd, data, length, offset);
}

ssize_t write(int fd, const void *data, size_t length)
{
    char path[4096];
    if (named(fd, path, sizeof path) && fails("write"))
        return -1;
    return REAL(ssize_t (*)(int, const void *, size_t), "write")(fd, data, length);
}

int ftruncate64(int fd, off64_t length)
{
    char path[4096];
    const char *name = named(fd, path, sizeof path);
    int done;
    if (name && fails("write"))
        return -1;
    done = REAL(int (*)(int, off64_t), "ftruncate64")(fd, length);
    if (name && !done)
        note('T', name, "", 0, length);
    return done;
}

int ftruncate(int fd, off_t length)
{
    return ftruncate64(fd, length);
}

static int synced(const char *function, int fd)
{
    char path[4096];
    const char *name = named(fd, path, sizeof path);
    int done;
    if (name && fails("sync")) {
        note('F', name, "", 0, 0);
        return -1;
    }
    if (name)
        note('B', name, "", 0, 0);
    done = REAL(int (*)(int), function)(fd);
    if (name && !done)
        note('E', name, "", 0, 0);
    return done;
}

int fdatasync(int fd)
{
    return synced("fdatasync", fd);
}

int fsync(int fd)
{
    return synced("fsync", fd);
}

ssize_t pread64(int fd, void *data, size_t length, off64_t offset)
{
    char path[4096];
    if (control && named(fd, path, sizeof path) && fails("read"))
        return -1;
    return REAL(ssize_t (*)(int, void *, size_t, off64_t), "pread64")(fd, data, length, offset);
}

ssize_t pread(int fd, void *data, size_t length, off_t offset)
{
    return pread64(fd, data, length, offset);
}

int open64(const char *path, int flags, ...)
{
    mode_t mode = 0;
    if (flags & (O_CREAT | O_TMPFILE)) {
        va_list rest;
        va_start(rest, flags);
        mode = va_arg(rest, mode_t);
        va_end(rest);
    }
    if ((flags & O_ACCMODE) != O_RDONLY && inside(path) && fails("open"))
        return -1;
    return REAL(int (*)(const char *, int, ...), "open64")(path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    if (flags & (O_CREAT | O_TMPFILE)) {
        va_list rest;
        va_start(rest, flags);
        mode = va_arg(rest, mode_t);
        va_end(rest);
    }
    return open64(path, flags, mode);
}

int unlink(const char *path)
{
    int done = REAL(int (*)(const char *), "unlink")(path);
    if (!done && inside(path))
        note('U', inside(path), "", 0, 0);
    return done;
}
