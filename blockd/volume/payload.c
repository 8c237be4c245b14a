/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/volume/payload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "lib/base/crc32c.h"

/* Three free lists of payloads, each with its memory for good.
 *
 * A request takes the smallest class that fits, or a larger one if that is
 * empty.  Waiters are served in order: the head waits for its class (or a
 * larger one) and those behind wait for the head, so that large requests do
 * not starve behind small ones. */

#define PAYLOAD_CLASSES 3u

static const uint32_t class_blocks[PAYLOAD_CLASSES] = { 2, 17,
                                                        PAYLOAD_BLOCKS_MAX };
static const uint32_t class_default_count[PAYLOAD_CLASSES] = { 1024, 256, 32 };

struct payload_pool {
    struct io *io;
    struct io_task task;
    struct list free[PAYLOAD_CLASSES];
    struct list waiting;
    uint32_t count; /* All payloads. */
    uint32_t free_count;
    struct payload *payloads;
    uint32_t *crcs;
    uint8_t *states;
};

static void
payload_pool_wake(struct io_task *task)
{
    struct payload_pool *pool = container_of(task, struct payload_pool, task);

    for (;;) {
        struct list *node = list_front(&pool->waiting);
        if (node == NULL) {
            return;
        }
        struct payload_waiter *waiter =
            container_of(node, struct payload_waiter, node);
        bool found = false;
        for (uint32_t i = waiter->size_class; i < PAYLOAD_CLASSES; i++) {
            found = found || !list_is_empty(&pool->free[i]);
        }
        if (!found) {
            return;
        }
        list_remove(&waiter->node);
        waiter->waiting = false;
        waiter->available(waiter);
        if (waiter->waiting) {
            return; /* It needs more; the next put wakes it. */
        }
    }
}

int
payload_pool_new(struct io *io, const struct payload_pool_options *options,
                 struct payload_pool **ret_pool)
{
    static const struct payload_pool_options none = { 0 };
    if (options == NULL) {
        options = &none;
    }
    const uint32_t asked[PAYLOAD_CLASSES] = { options->small_count,
                                              options->medium_count,
                                              options->large_count };
    uint32_t counts[PAYLOAD_CLASSES];
    uint32_t count = 0;
    size_t blocks = 0;
    for (uint32_t i = 0; i < PAYLOAD_CLASSES; i++) {
        counts[i] = asked[i] != 0 ? asked[i] : class_default_count[i];
        count += counts[i];
        blocks += (size_t)counts[i] * class_blocks[i];
    }

    struct payload_pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL) {
        return -ENOMEM;
    }
    pool->io = io;
    io_task_init(&pool->task, payload_pool_wake);
    list_init(&pool->waiting);
    pool->payloads = calloc(count, sizeof *pool->payloads);
    pool->crcs = calloc(blocks, sizeof *pool->crcs);
    pool->states = calloc(blocks, 1);
    uint8_t *data = io_arena_alloc(io, blocks * WEFT_BLOCK_SIZE);
    if (pool->payloads == NULL || pool->crcs == NULL || pool->states == NULL ||
        data == NULL) {
        payload_pool_free(pool);
        return -ENOMEM;
    }

    size_t at = 0;
    for (uint32_t i = 0; i < PAYLOAD_CLASSES; i++) {
        list_init(&pool->free[i]);
        for (uint32_t k = 0; k < counts[i]; k++) {
            struct payload *payload = &pool->payloads[pool->count++];
            *payload = (struct payload){
                .data = data + at * WEFT_BLOCK_SIZE,
                .crcs = pool->crcs + at,
                .states = pool->states + at,
                .size_class = i,
                .pool = pool,
            };
            list_push_back(&pool->free[i], &payload->node);
            at += class_blocks[i];
        }
    }
    pool->free_count = pool->count;
    *ret_pool = pool;
    return 0;
}

void
payload_pool_free(struct payload_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    CHECK(pool->free_count == pool->count);
    CHECK(list_is_empty(&pool->waiting));
    io_task_cancel(pool->io, &pool->task);
    free(pool->payloads);
    free(pool->crcs);
    free(pool->states);
    free(pool);
}

static uint32_t
payload_blocks_of(uint64_t offset_bytes, uint32_t size_bytes)
{
    uint64_t first = offset_bytes >> WEFT_BLOCK_SHIFT;
    uint64_t last = (offset_bytes + size_bytes - 1) >> WEFT_BLOCK_SHIFT;
    return (uint32_t)(last - first + 1);
}

static uint32_t
payload_class_of(uint32_t block_count)
{
    uint32_t size_class = 0;
    while (class_blocks[size_class] < block_count) {
        size_class++;
        CHECK(size_class < PAYLOAD_CLASSES);
    }
    return size_class;
}

struct payload *
payload_get(struct payload_pool *pool, uint64_t offset_bytes,
            uint32_t size_bytes)
{
    CHECK(size_bytes >= 1);
    CHECK(size_bytes <= PAYLOAD_BYTES_MAX);

    uint32_t blocks = payload_blocks_of(offset_bytes, size_bytes);
    for (uint32_t i = payload_class_of(blocks); i < PAYLOAD_CLASSES; i++) {
        struct list *node = list_pop_front(&pool->free[i]);
        if (node == NULL) {
            continue;
        }
        struct payload *payload = container_of(node, struct payload, node);
        payload->offset_bytes = offset_bytes;
        payload->size_bytes = size_bytes;
        payload->block_count = blocks;
        payload->filled_bytes = 0;
        memset(payload->crcs, 0, blocks * sizeof *payload->crcs);
        memset(payload->states, STORE_BLOCK_ABSENT, blocks);
        pool->free_count--;
        return payload;
    }
    return NULL;
}

void
payload_put(struct payload *payload)
{
    struct payload_pool *pool = payload->pool;

    CHECK(!list_is_linked(&payload->node));
    /* In front: the memory that is warm is used again. */
    list_push_front(&pool->free[payload->size_class], &payload->node);
    pool->free_count++;
    if (!list_is_empty(&pool->waiting)) {
        io_task_defer(pool->io, &pool->task);
    }
}

void
payload_wait(struct payload_pool *pool, struct payload_waiter *waiter,
             uint32_t size_bytes)
{
    if (waiter->waiting) {
        return;
    }
    CHECK(waiter->available != NULL);
    /* One more byte than the size: the worst alignment. */
    uint32_t blocks = size_bytes <= 1
                          ? 1
                          : (uint32_t)((size_bytes - 2) / WEFT_BLOCK_SIZE + 2);
    waiter->size_class = payload_class_of(
        blocks < PAYLOAD_BLOCKS_MAX ? blocks : PAYLOAD_BLOCKS_MAX);
    waiter->waiting = true;
    list_push_back(&pool->waiting, &waiter->node);
    io_task_defer(pool->io, &pool->task);
}

void
payload_wait_cancel(struct payload_waiter *waiter)
{
    if (waiter->waiting) {
        list_remove(&waiter->node);
        waiter->waiting = false;
    }
}

bool
payload_pool_is_wanted(const struct payload_pool *pool)
{
    return !list_is_empty(&pool->waiting);
}

/* Copies from 'bytes' (zeros if NULL) and extends the CRC of each block. */
static void
payload_fill(struct payload *payload, const uint8_t *bytes, uint32_t size)
{
    CHECK(size <= payload->size_bytes - payload->filled_bytes);

    uint64_t head = payload->offset_bytes % WEFT_BLOCK_SIZE;
    while (size > 0) {
        uint64_t at = head + payload->filled_bytes;
        uint32_t room = WEFT_BLOCK_SIZE - (uint32_t)(at % WEFT_BLOCK_SIZE);
        uint32_t step = size < room ? size : room;
        uint32_t *crc = &payload->crcs[at / WEFT_BLOCK_SIZE];
        uint8_t *to = payload->data + at;
        if (bytes != NULL) {
            *crc = crc32c_copy(*crc, to, bytes, step);
            bytes += step;
        } else {
            memset(to, 0, step);
            *crc = crc32c(*crc, to, step);
        }
        payload->filled_bytes += step;
        size -= step;
    }
}

void
payload_append(struct payload *payload, const void *bytes, uint32_t size)
{
    payload_fill(payload, bytes, size);
}

void
payload_append_zeros(struct payload *payload, uint32_t size)
{
    payload_fill(payload, NULL, size);
}

uint8_t *
payload_bytes(struct payload *payload)
{
    return payload->data + payload->offset_bytes % WEFT_BLOCK_SIZE;
}
