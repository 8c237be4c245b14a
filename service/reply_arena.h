/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SERVICE_REPLY_ARENA_H
#define SERVICE_REPLY_ARENA_H

/* Memory of one reply: everything a message points to is taken from here and
 * freed at once when it has been sent.  Aborts when memory is out, as lib/state
 * does. */

#include <stddef.h>

#include "lib/base/check.h"
#include "lib/base/uuid.h"

struct reply_chunk;

struct reply_arena {
    struct reply_chunk *chunks; /* All zero to begin with. */
};

/* Zeroed, aligned for anything. */
void *reply_alloc(struct reply_arena *arena, size_t size);
char *reply_text(struct reply_arena *arena, const char *format, ...)
    WEFT_PRINTF(2, 3);
char *reply_uuid(struct reply_arena *arena, const struct weft_uuid *uuid);
void reply_free(struct reply_arena *arena);

#endif /* SERVICE_REPLY_ARENA_H */
