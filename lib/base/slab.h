/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_BASE_SLAB_H
#define LIB_BASE_SLAB_H

/* A fixed pool of objects of one size, out of one allocation.
 *
 * The data path takes its operations and buffers from here, so that memory is
 * decided at start and a full pool is an answer (NULL), not a surprise.  An
 * object that is put back twice, or into the wrong pool, is a CHECK.
 *
 * Contents are undefined after slab_get().  Ownership: the slab owns the
 * memory; slab_done() frees it with everything in it.  One thread. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/check.h"

struct slab {
    unsigned char *memory; /* All objects, one after the other. */
    uint32_t *free;        /* A stack of indices. */
    bool *used;
    size_t object_size; /* Rounded up to the alignment. */
    uint32_t capacity;
    uint32_t free_count;
};

/* 'alignment' is a power of two, and at least that of a pointer.  -ENOMEM. */
WEFT_MUST_CHECK int slab_init(struct slab *slab, size_t object_size,
                              size_t alignment, uint32_t capacity);

/* Accepts a slab of zeros, and one that is done. */
void slab_done(struct slab *slab);

/* NULL: all are in use. */
void *slab_get(struct slab *slab);
void slab_put(struct slab *slab, void *object);

/* The index of 'object', 0-based and constant; and back. */
uint32_t slab_index(const struct slab *slab, const void *object);
void *slab_at(const struct slab *slab, uint32_t index);

static inline uint32_t
slab_used_count(const struct slab *slab)
{
    return slab->capacity - slab->free_count;
}

#endif /* LIB_BASE_SLAB_H */
