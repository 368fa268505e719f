/*
 * A file system with less than POSIX: no hard links, and directories that cannot be synced,
 * as FAT, SMB shares and many file systems of FUSE are. Loaded with LD_PRELOAD.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* What it says of a hard link: file systems do not agree. */
static int refusal(void)
{
    const char *number = getenv("LESSER_FILE_SYSTEM_LINK");

    return number == NULL ? EPERM : atoi(number);
}

int link(const char *from, const char *to)
{
    (void)from;
    (void)to;
    errno = refusal();
    return -1;
}

int linkat(int from_directory, const char *from, int to_directory, const char *to, int flags)
{
    (void)from_directory;
    (void)to_directory;
    (void)flags;
    return link(from, to);
}

int fsync(int fd)
{
    static int (*real)(int);
    struct stat facts;

    if (fstat(fd, &facts) == 0 && S_ISDIR(facts.st_mode)) {
        errno = EINVAL;
        return -1;
    }
    if (real == NULL)
        real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return real(fd);
}
