/*
 * A disk without space, for the files of pg_wal and while a flag file exists.
 *
 * Loaded with LD_PRELOAD. As on a full disk, what has its blocks can be
 * overwritten, renamed and removed, and an empty file (a mark in
 * archive_status) can be made; a file of its own and a file made longer fail
 * with ENOSPC. Environment: WALE_DISK_FULL_FLAG, the path of the flag file.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static char *flag;

/* Read early: PostgreSQL moves the environment to show titles of processes. */
__attribute__((constructor)) static void remember_flag(void)
{
    const char *value = getenv("WALE_DISK_FULL_FLAG");
    flag = value ? strdup(value) : NULL;
}

static int is_full(void)
{
    int saved = errno;
    int full = flag != NULL && access(flag, F_OK) == 0;
    errno = saved;
    return full;
}

static int is_below_pg_wal(const char *path)
{
    return strncmp(path, "pg_wal/", 7) == 0 || strstr(path, "/pg_wal/") != NULL;
}

static int refuses_creation(const char *path, int flags)
{
    int saved = errno;
    int refuses = (flags & O_CREAT) && is_full() && is_below_pg_wal(path) &&
                  strstr(path, "archive_status/") == NULL && access(path, F_OK) != 0;
    errno = saved;
    return refuses;
}

/* offset < 0: where the descriptor stands. */
static int refuses_extension(int fd, off_t offset, size_t bytes)
{
    char link[64], path[4096];
    struct stat facts;
    ssize_t length;
    int saved = errno, refuses = 0;

    if (!is_full())
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length > 0) {
        path[length] = '\0';
        if (is_below_pg_wal(path) && fstat(fd, &facts) == 0 && S_ISREG(facts.st_mode)) {
            if (offset < 0)
                offset = (fcntl(fd, F_GETFL) & O_APPEND) ? facts.st_size : lseek(fd, 0, SEEK_CUR);
            refuses = offset + (off_t) bytes > facts.st_size;
        }
    }
    errno = saved;
    return refuses;
}

static size_t bytes_of(const struct iovec *parts, int count)
{
    size_t bytes = 0;
    for (int i = 0; i < count; i++)
        bytes += parts[i].iov_len;
    return bytes;
}

static int no_space(void)
{
    errno = ENOSPC;
    return -1;
}

#define REAL(name) ((__typeof__(&name)) dlsym(RTLD_NEXT, #name))

#define MODE_OF(flags, mode)                    \
    if ((flags) & (O_CREAT | O_TMPFILE)) {      \
        va_list rest;                           \
        va_start(rest, flags);                  \
        mode = va_arg(rest, mode_t);            \
        va_end(rest);                           \
    }

#define OPEN(name)                                          \
    int name(const char *path, int flags, ...)              \
    {                                                       \
        mode_t mode = 0;                                    \
        MODE_OF(flags, mode)                                \
        if (refuses_creation(path, flags))                  \
            return no_space();                              \
        return REAL(name)(path, flags, mode);               \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                        \
    int name(int directory, const char *path, int flags, ...) \
    {                                                       \
        mode_t mode = 0;                                    \
        MODE_OF(flags, mode)                                \
        if (refuses_creation(path, flags))                  \
            return no_space();                              \
        return REAL(name)(directory, path, flags, mode);    \
    }
OPENAT(openat)
OPENAT(openat64)

#define PWRITE(name)                                                    \
    ssize_t name(int fd, const void *from, size_t bytes, off_t offset)  \
    {                                                                   \
        if (refuses_extension(fd, offset, bytes))                       \
            return no_space();                                          \
        return REAL(name)(fd, from, bytes, offset);                     \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

#define PWRITEV(name)                                                        \
    ssize_t name(int fd, const struct iovec *parts, int count, off_t offset) \
    {                                                                        \
        if (refuses_extension(fd, offset, bytes_of(parts, count)))           \
            return no_space();                                               \
        return REAL(name)(fd, parts, count, offset);                         \
    }
PWRITEV(pwritev)
PWRITEV(pwritev64)

ssize_t write(int fd, const void *from, size_t bytes)
{
    if (refuses_extension(fd, -1, bytes))
        return no_space();
    return REAL(write)(fd, from, bytes);
}

/* It returns its error instead of setting errno. */
#define POSIX_FALLOCATE(name)                       \
    int name(int fd, off_t offset, off_t bytes)     \
    {                                               \
        if (refuses_extension(fd, offset, bytes))   \
            return ENOSPC;                          \
        return REAL(name)(fd, offset, bytes);       \
    }
POSIX_FALLOCATE(posix_fallocate)
POSIX_FALLOCATE(posix_fallocate64)
