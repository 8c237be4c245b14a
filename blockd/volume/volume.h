/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_VOLUME_VOLUME_H
#define BLOCKD_VOLUME_VOLUME_H

/* A volume: a stripe of mirrors with 512-byte logical blocks.
 *
 * Bytes are spread over the mirrors in extents (extent_bytes, a power of two,
 * at least 1 MiB): extent e of the volume is extent e / width of mirror
 * e % width.  Inside, the unit is the 4 KiB block: a write that covers a block
 * only in part is a read-modify-write under that block's range lock.
 *
 *   (1) Requests are split at extents; a request completes when all parts have.
 *   (2) On error of one part the request fails as a whole; by S7 no error
 *       completes before the range is equal on all in-sync replicas.
 *   (3) A flush is over all mirrors with writes since their last flush (e).
 *   (4) FUA is the write followed by a flush of its mirrors.
 *   (5) One reactor owns the volume; exports of it run there, too. */

#include <stdbool.h>
#include <stdint.h>

#include "blockd/mirror/mirror.h"
#include "blockd/volume/payload.h"
#include "lib/base/uuid.h"
#include "lib/io/io.h"

#define VOLUME_SECTOR_SIZE 512u
#define VOLUME_MIRRORS_MAX 64u
#define VOLUME_EXTENT_BYTES_MIN (1024u * 1024u)
#define VOLUME_SIZE_MAX (UINT64_C(1) << 50) /* 1 PiB */

struct volume;

enum volume_req_kind {
    VOLUME_READ,
    VOLUME_WRITE,
    VOLUME_FLUSH,
    VOLUME_DISCARD, /* May leave anything legal: zeros in Weft. */
    VOLUME_WRITE_ZEROES,
    VOLUME_STATUS, /* Allocation: fills 'extents'. */
};

/* Part of a block-status answer: bytes that are all holes/zeros, or data. */
struct volume_extent {
    uint64_t size_bytes;
    bool hole; /* Not allocated. */
    bool zero; /* Reads as zeros. */
};

struct volume_req;
typedef void volume_req_done_fn(struct volume_req *req);

struct volume_req {
    volume_req_done_fn *done;
    enum volume_req_kind kind;
    /* Multiples of VOLUME_SECTOR_SIZE for DISCARD and WRITE_ZEROES; READ and
     * WRITE take any byte range inside the volume (NBD allows it). */
    uint64_t offset_bytes;
    uint64_t size_bytes; /* READ, WRITE: 1..PAYLOAD_BYTES_MAX. */
    bool fua;
    struct payload *payload;       /* READ, WRITE; borrowed until done(). */
    struct volume_extent *extents; /* STATUS: out; borrowed. */
    uint32_t extents_max, extents_count;
    int result; /* 0, -EIO, -ENOSPC, -ESHUTDOWN, -ESTALE (fenced), -EINVAL */

    /* Private. */
    struct volume *volume;
    struct list node;
    uint64_t position; /* What has been submitted; by kind, see volume.c. */
    uint32_t mirror_index;
    uint32_t parts_pending;
    uint32_t state;
    bool flushing; /* FUA: the write is done, its flush is under way. */
};

/* Any number in flight; beyond the volume's part pool they wait, FIFO. */
void volume_submit(struct volume *volume, struct volume_req *req);

struct volume_info {
    struct weft_uuid uuid;
    const char *name; /* "project/name"; lives as long as the volume. */
    uint64_t size_bytes;
    uint32_t epoch;
};

void volume_info_get(const struct volume *volume, struct volume_info *ret);
struct payload_pool *volume_payload_pool(struct volume *volume);
struct io *volume_io(struct volume *volume);

/* ---- Life ---- */

struct volume_mirror_options {
    struct mirror_row row;
    struct link *links[STORE_REPLICAS_MAX];
};

struct volume_options {
    struct io *io;
    struct payload_pool *payloads;
    struct mirror_meta *meta;
    struct weft_uuid uuid;
    const char *name;    /* Copied. */
    uint64_t size_bytes; /* Multiple of VOLUME_SECTOR_SIZE. */
    uint64_t extent_bytes;
    uint32_t mirror_count;
    const struct volume_mirror_options *mirrors; /* Read during volume_new. */
    struct weft_uuid owner_instance;
    uint32_t epoch;
    uint32_t min_in_sync;
    bool clean, live_guest, resume, enospc_holds;
    uint64_t slow_ns, flush_every_ns, resync_bytes_per_s;
    uint32_t planted_bug;
};

typedef void volume_ready_fn(struct volume *volume, int result);

/* Set-up (allocates).  ready() once: 0 when every mirror is READY, else the
 * first final error.  Requests before that wait. */
WEFT_MUST_CHECK int volume_new(const struct volume_options *options,
                               volume_ready_fn *ready, void *owner,
                               struct volume **ret_volume);
void *volume_owner(const struct volume *volume);

typedef void volume_stopped_fn(struct volume *volume, bool clean);
/* No new requests; see mirror_stop(). */
void volume_stop(struct volume *volume, bool flush, volume_stopped_fn *stopped);
void volume_free(struct volume *volume); /* After stopped(). */

uint32_t volume_mirror_count(const struct volume *volume);
struct mirror *volume_mirror(struct volume *volume, uint32_t index);
/* Bytes of mirror 'index''s logical space for a volume of this shape. */
uint64_t volume_mirror_bytes(uint64_t size_bytes, uint64_t extent_bytes,
                             uint32_t mirror_count, uint32_t index);

#endif /* BLOCKD_VOLUME_VOLUME_H */
