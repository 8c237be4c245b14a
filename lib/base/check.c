/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void
check_failed(const char *condition, const char *file, int line)
{
    char text[512];
    int size = snprintf(text, sizeof text, "%s:%d: check failed: %s\n", file,
                        line, condition);

    /* Not through stdio or the log: their state may be what is broken. */
    if (size > 0) {
        size_t length = (size_t)size;
        if (length >= sizeof text) {
            length = sizeof text - 1;
        }
        ssize_t written = write(STDERR_FILENO, text, length);
        (void)written; /* Nobody is left to tell. */
    }
    abort();
}
