/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_BASE_CLEANUP_H
#define LIB_BASE_CLEANUP_H

/* Scope cleanup for synchronous code:
 *
 *     CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
 *     CLEANUP_FREE char *text = strdup(line);
 *     ...
 *     *ret_fd = cleanup_take_fd(&fd);     (the caller owns it from here on)
 *
 * Never on anything that outlives the function: an asynchronous operation
 * still uses its resources after its start function has returned.  errno is
 * preserved, so that 'return -errno' can be followed by a cleanup. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CLEANUP_FD __attribute__((cleanup(cleanup_fd)))
#define CLEANUP_FILE __attribute__((cleanup(cleanup_file)))
#define CLEANUP_FREE __attribute__((cleanup(cleanup_free)))

static inline void
cleanup_fd(const int *fd)
{
    if (*fd >= 0) {
        int saved = errno;
        close(*fd);
        errno = saved;
    }
}

static inline void
cleanup_file(FILE *const *file)
{
    if (*file != NULL) {
        int saved = errno;
        fclose(*file);
        errno = saved;
    }
}

/* 'pointer' is the address of a pointer variable of any object type; it is
 * copied bytewise because a 'char *' must not be read as a 'void *'. */
static inline void
cleanup_free(void *pointer)
{
    void *memory;
    memcpy(&memory, pointer, sizeof memory);
    int saved = errno;
    free(memory);
    errno = saved;
}

/* Transfers the descriptor to the caller and leaves -1 behind. */
static inline int
cleanup_take_fd(int *fd)
{
    int taken = *fd;
    *fd = -1;
    return taken;
}

/* The same for the string in '*text'. */
static inline char *
cleanup_take_text(char **text)
{
    char *taken = *text;
    *text = NULL;
    return taken;
}

#endif /* LIB_BASE_CLEANUP_H */
