/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_VOLUME_PAYLOAD_H
#define BLOCKD_VOLUME_PAYLOAD_H

/* The bytes of one guest request, copied once and checksummed in the same pass
 * (DESIGN 3.4 rule 4).
 *
 * A payload covers the 4 KiB blocks that a byte range touches: the byte at
 * volume offset 'o' lies at data[o - offset rounded down to 4096].  While a
 * write's bytes are appended in order, the CRC32C of each block is built; the
 * CRC of a block that the range covers only in part is not final: the volume
 * completes such blocks by read-modify-write.
 *
 * Payloads come from a pool per reactor, in three sizes (4 KiB, 64 KiB, 1 MiB
 * plus one block each for misalignment), of arena memory.  When the pool is
 * empty payload_get() returns NULL and the caller waits with a payload_waiter:
 * that is the back-pressure on exports. */

#include <stdbool.h>
#include <stdint.h>

#include "blockd/store/store_req.h"
#include "lib/base/list.h"
#include "lib/io/io.h"

#define PAYLOAD_BYTES_MAX (1024u * 1024u) /* Of one guest request. */
#define PAYLOAD_BLOCKS_MAX (STORE_REQ_BLOCKS_MAX + 1)

struct payload_pool;

struct payload {
    uint8_t *data;         /* 4096-aligned. */
    uint32_t *crcs;        /* One a block. */
    uint8_t *states;       /* One a block, enum store_block_state; reads. */
    uint64_t offset_bytes; /* Of the range, in the volume. */
    uint32_t size_bytes;
    uint32_t block_count;
    /* Private. */
    uint32_t filled_bytes;
    uint32_t size_class;
    struct payload_pool *pool;
    struct list node;
};

struct payload_waiter;
typedef void payload_waiter_fn(struct payload_waiter *waiter);
struct payload_waiter {
    payload_waiter_fn *available; /* Try again; called once per wait. */
    struct list node;
    uint32_t size_class;
    bool waiting;
};

struct payload_pool_options {
    uint32_t small_count, medium_count, large_count; /* 0: defaults. */
};

/* Set-up only.  -ENOMEM when the arena is too small. */
WEFT_MUST_CHECK int payload_pool_new(struct io *io,
                                     const struct payload_pool_options *options,
                                     struct payload_pool **ret_pool);
void payload_pool_free(struct payload_pool *pool);

/* For the range [offset, offset + size), 1..PAYLOAD_BYTES_MAX bytes. */
struct payload *payload_get(struct payload_pool *pool, uint64_t offset_bytes,
                            uint32_t size_bytes);
void payload_put(struct payload *payload);
/* Registers for available(); harmless if registered. */
void payload_wait(struct payload_pool *pool, struct payload_waiter *waiter,
                  uint32_t size_bytes);
void payload_wait_cancel(struct payload_waiter *waiter);
/* Whether somebody waits. */
bool payload_pool_is_wanted(const struct payload_pool *pool);

/* Copies and checksums the next 'size' bytes of the range. */
void payload_append(struct payload *payload, const void *bytes, uint32_t size);
/* The next 'size' bytes are zeros. */
void payload_append_zeros(struct payload *payload, uint32_t size);
/* Where the range's own bytes begin (after the unaligned head). */
uint8_t *payload_bytes(struct payload *payload);

#endif /* BLOCKD_VOLUME_PAYLOAD_H */
