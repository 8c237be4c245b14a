/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_BASE_UUID_H
#define LIB_BASE_UUID_H

/* 128-bit identifiers, in the byte order of their text (RFC 9562).
 *
 * libopenvswitch, which lib/state links, has a 'struct uuid' of another layout
 * and a uuid_is_zero(); hence 'struct weft_uuid' and uuid_is_nil() here, so
 * that one file can use both. */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "lib/base/check.h"

/* 36 characters and the NUL. */
#define UUID_TEXT_SIZE 37

/* Alignment 1 and no padding: may be part of disk and wire structures. */
struct weft_uuid {
    uint8_t bytes[16];
};

static inline bool
uuid_equal(const struct weft_uuid *a, const struct weft_uuid *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

/* Negative, 0 or positive, in the order of the texts. */
static inline int
uuid_compare(const struct weft_uuid *a, const struct weft_uuid *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes);
}

/* Whether all bits are zero, which names nothing. */
static inline bool
uuid_is_nil(const struct weft_uuid *uuid)
{
    static const struct weft_uuid nil = { { 0 } };
    return uuid_equal(uuid, &nil);
}

/* A random (version 4) UUID out of 128 random bits from the caller. */
void uuid_make_random(uint64_t high, uint64_t low, struct weft_uuid *ret_uuid);

/* "01234567-89ab-cdef-0123-456789abcdef" */
void uuid_format(const struct weft_uuid *uuid, char ret_text[UUID_TEXT_SIZE]);

/* Takes exactly that form (digits a-f of either case), else -EINVAL. */
WEFT_MUST_CHECK int uuid_parse(const char *text, struct weft_uuid *ret_uuid);

#endif /* LIB_BASE_UUID_H */
