/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into a server of tests/support/ovsdb.c: writes down how much of
 * which file has been synced, so that the test can take the rest away.
 *
 * The size is read before the sync and noted after it: never more than is
 * safe.  One write() a line, so that threads do not mix theirs. */

#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef int sync_fn(int fd);

static int
sync_and_note(const char *name, int fd)
{
    void *symbol = dlsym(RTLD_NEXT, name);
    const char *path = getenv("WEFT_SYNC_LOG");
    struct stat status;
    sync_fn *real;
    char line[64];

    memcpy(&real, &symbol, sizeof real);
    int has_size = fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
    int result = real(fd);
    if (result != 0 || !has_size || path == NULL) {
        return result;
    }

    int log = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    int length = snprintf(line, sizeof line, "%llu %llu\n",
                          (unsigned long long)status.st_ino,
                          (unsigned long long)status.st_size);
    if (log < 0 || write(log, line, (size_t)length) != length) {
        abort();
    }
    close(log);
    return 0;
}

int
fsync(int fd)
{
    return sync_and_note("fsync", fd);
}

int
fdatasync(int fildes) /* As unistd.h calls it. */
{
    return sync_and_note("fdatasync", fildes);
}
