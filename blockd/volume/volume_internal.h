/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_VOLUME_VOLUME_INTERNAL_H
#define BLOCKD_VOLUME_VOLUME_INTERNAL_H

/* What the files of blockd/volume share; nobody else includes it.
 *
 *   volume.c   life, splitting of requests into parts
 *   part.c     one part: at most STORE_REQ_BLOCKS_MAX blocks of one mirror,
 *              with read-modify-write at its ends
 *   status.c   VOLUME_STATUS
 *   shape.c    the arithmetic of stripes */

#include <stdbool.h>
#include <stdint.h>

#include "blockd/volume/volume.h"
#include "lib/base/list.h"

#define VOLUME_PARTS 256u

/* ---- shape.c ---- */

struct volume_shape {
    uint64_t size_bytes;
    uint64_t extent_bytes;
    uint32_t width;
};

struct volume_place {
    uint32_t mirror;
    uint64_t offset_bytes; /* In the mirror's space. */
    uint64_t rest_bytes;   /* To the end of the extent. */
};

struct volume_place volume_shape_place(const struct volume_shape *shape,
                                       uint64_t offset_bytes);
/* How many of the bytes [0, end_bytes) lie in a mirror: where what follows
 * begins in that mirror's space. */
uint64_t volume_shape_share(const struct volume_shape *shape,
                            uint64_t end_bytes, uint32_t mirror);

/* ---- part.c ---- */

enum volume_part_state {
    PART_FREE,
    PART_LOCK,  /* Waits for its range lock: read-modify-write follows. */
    PART_HEAD,  /* Reads its first block. */
    PART_TAIL,  /* Reads its last block. */
    PART_FINAL, /* The request proper. */
};

struct volume_part {
    struct list node; /* Free. */
    struct volume *volume;
    struct volume_req *req;
    struct mirror *mirror;
    enum volume_part_state state;
    enum mirror_io_kind kind;
    bool zeroes; /* A piece of a block becomes zeros. */
    bool locked;
    uint64_t block;
    uint32_t block_count;
    uint32_t head_bytes; /* Old bytes at the beginning of the first block. */
    uint32_t tail_at; /* Old bytes of the last block begin here; 4096: none. */
    uint8_t *data;    /* Of the final request. */
    uint32_t *crcs;
    uint8_t *states;
    struct range_lock lock;
    struct mirror_io io;
    uint8_t *scratch; /* Two blocks. */
    uint32_t scratch_crcs[2];
    uint8_t scratch_states[2];
};

void volume_part_start(struct volume_part *part);
/* In volume.c: the part is free again. */
void volume_part_done(struct volume_part *part, int result);

/* ---- status.c ---- */

struct volume_status {
    struct volume *volume;
    struct list waiting;
    struct volume_req *req;
    struct mirror_io io;
    bool busy;
    uint32_t mirror;                     /* Whose region is being asked for. */
    uint64_t region[VOLUME_MIRRORS_MAX]; /* UINT64_MAX: none. */
    uint8_t *granules[VOLUME_MIRRORS_MAX];
};

void volume_status_submit(struct volume *volume, struct volume_req *req);

/* ---- volume.c ---- */

struct volume {
    struct io *io;
    struct payload_pool *payloads;
    struct weft_uuid uuid;
    char *name;
    struct volume_shape shape;
    uint32_t epoch;
    void *owner;
    volume_ready_fn *ready;
    volume_stopped_fn *stopped;

    struct io_task task;
    struct list waiting;  /* For READY, or for parts; FIFO. */
    struct list finished; /* For done(). */
    uint32_t reqs;        /* Not yet done. */

    uint32_t ready_count;
    bool is_ready, ready_told;
    bool stopping, stop_flush, stop_clean, stopped_told;
    bool mirrors_stopping;
    bool mirror_stopping_now;
    uint32_t stopped_count;

    struct volume_status status;
    struct volume_part *parts;
    struct list parts_free;
    uint8_t *memory; /* Scratch blocks, map granules, the mirrors' arenas. */
    struct mirror *mirrors[VOLUME_MIRRORS_MAX];
};

/* Ends a request, now; not from inside volume_submit(). */
void volume_req_finish(struct volume_req *req, int result);
void volume_req_finish_later(struct volume_req *req, int result);

#endif /* BLOCKD_VOLUME_VOLUME_INTERNAL_H */
