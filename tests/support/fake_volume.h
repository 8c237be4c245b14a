/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SUPPORT_FAKE_VOLUME_H
#define TESTS_SUPPORT_FAKE_VOLUME_H

/* A volume that is a piece of memory, in the place of blockd/volume/volume.c
 * at link time: for tests of exports.
 *
 * Requests take effect when they complete.  They complete in the next turn, in
 * order; or, while the volume holds, when the test says so, in any order.  On
 * the way each is checked: range, alignment, payload, checksums of whole
 * blocks. */

#include <stdint.h>

#include "blockd/volume/volume.h"

#define FAKE_VOLUME_LOG_MAX 4096u

struct fake_volume_entry {
    enum volume_req_kind kind;
    uint64_t offset_bytes, size_bytes;
    bool fua;
};

struct volume {
    struct io *io;
    struct payload_pool *payloads;
    uint8_t *bytes;
    uint64_t size_bytes;
    struct list pending;
    uint32_t pending_count, pending_max;
    struct io_task task;
    bool holds;
    int fail_result; /* Of the next fail_count requests. */
    uint32_t fail_count;
    struct fake_volume_entry log[FAKE_VOLUME_LOG_MAX]; /* As submitted. */
    uint32_t log_count;                                /* Of all. */
};

/* 'pool' may be NULL: the pool's defaults. */
struct volume *fake_volume_new(struct io *io, uint64_t size_bytes,
                               const struct payload_pool_options *pool);
void fake_volume_free(struct volume *volume);
/* Completes the pending request 'index' (0: the oldest). */
void fake_volume_complete(struct volume *volume, uint32_t index);
/* Holds no longer; what is pending completes in the next turn. */
void fake_volume_release(struct volume *volume);

#endif /* TESTS_SUPPORT_FAKE_VOLUME_H */
