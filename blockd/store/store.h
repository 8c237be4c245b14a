/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_STORE_STORE_H
#define BLOCKD_STORE_STORE_H

/* One disk: slots, checksums, sequence numbers, layers (DESIGN 3.3).
 *
 * The store knows one disk and nothing of other disks, hosts or the database.
 * On disk: two superblocks, a journal ring, a slot table, data slots
 * (docs/disk-format.md).  An overwrite lands once, in place, in parallel with a
 * small intent in the journal; it completes when both have, in journal order
 * (S9).  A completed write is durable after the next flush (or at once on a
 * disk without volatile cache).
 *
 * Life:  store_format   once
 *        store_open     superblocks, recovery (STORAGE (a)); nothing is served
 *        store_claim    superblock {previous, next} durable (S13)
 *                       ... the cluster compare-and-sets the Disk row ...
 *        store_serve    requests are accepted
 *        store_close    drains, checkpoints, flushes, marks clean
 *
 * Thread: every call on the store's reactor.  Memory: all pools are sized at
 * open.  Ownership: the caller owns 'struct store *' from open until close. */

#include <stdbool.h>
#include <stdint.h>

#include "blockd/store/store_req.h"
#include "lib/base/check.h"
#include "lib/base/err.h"
#include "lib/base/uuid.h"
#include "lib/io/io.h"

struct store;

/* ---- Format ---- */

struct store_format_options {
    struct weft_uuid disk; /* The disk's UUID; all journal blocks carry it. */
    struct weft_uuid cluster; /* Global.cloud_uuid: S12, S13. */
    uint32_t slot_bytes;      /* Power of two, 16 KiB..1 MiB; 0: 64 KiB. */
    uint64_t journal_bytes;   /* 0: chosen from the size. */
    bool force;               /* Overwrite what is not empty. */
};

struct store_format;
typedef void store_format_done_fn(struct store_format *op, int result);

/* Set by the caller: io, file, options, done.  Errors: -EEXIST (the disk is not
 * empty, or holds a Weft disk; see err), -ENOSPC (too small; err says the
 * least), -EIO. */
struct store_format {
    struct io *io;
    struct io_file *file;
    struct store_format_options options;
    store_format_done_fn *done;
    struct err err; /* Human text on failure. */
    /* Private. */
    void *impl;
};

void store_format_start(struct store_format *op);

/* ---- Open ---- */

struct store_open_options {
    struct weft_uuid boot_id; /* Of this boot of the host (S6). */
    /* What the disk must be: another one is refused before anything is written
     * to it, for it may be in service elsewhere.  Nil: whatever it is. */
    struct weft_uuid disk, cluster;
    uint64_t flush_ahead_ns; /* 0: default pace of background checkpoints. */
    uint32_t requests_max;   /* In flight; 0: default (1024). */
    /* Start a new incarnation in any case: the caller has seen this disk fail
     * (store_info.failed, a device reset) since it was last open (S6). */
    bool lost_writes;
    /* Planted bugs for tests (docs/testing.md); 0 in production. */
    uint32_t planted_bug;
};

struct store_open;
typedef void store_open_done_fn(struct store_open *op, int result);

/* 'file' passes to the store when the result is 0.  Errors: -EMEDIUMTYPE (not
 * a Weft disk), -EPERM (not the disk that was expected), -EPROTO (a version or
 * size that we do not serve), -EUCLEAN (damaged beyond recovery; err says
 * what), -EIO, -ENOMEM. */
struct store_open {
    struct io *io;
    struct io_file *file;
    struct store_open_options options;
    store_open_done_fn *done;
    struct store *store; /* out */
    struct err err;      /* out */
    /* Private. */
    void *impl;
};

void store_open_start(struct store_open *op);

/* ---- Claim and serve (S13) ---- */

struct store_claim;
typedef void store_claim_done_fn(struct store_claim *op, int result);

/* Writes {previous = current claim, next} durably; after the cluster has
 * committed 'next' (or found the row to say 'next' already) store_serve().  A
 * later store_claim with committed=true settles current = next. */
struct store_claim {
    struct store *store;
    struct weft_uuid next;
    bool committed;
    store_claim_done_fn *done;
    /* Private. */
    struct io_task task;
    struct list node;
};

void store_claim_start(struct store_claim *op);
void store_serve(struct store *store);

/* ---- Requests ---- */

/* Any opcode of store_req.h.  Before store_serve(): -ESHUTDOWN. */
void store_submit(struct store *store, struct store_req *req);

/* ---- Close ---- */

struct store_close;
typedef void store_close_done_fn(struct store_close *op);

/* Refuses new requests, waits for those in flight, checkpoints, marks the
 * superblock clean, closes the file, frees the store. */
struct store_close {
    struct store *store;
    store_close_done_fn *done;
    /* Private. */
    struct io_task task;
};

void store_close_start(struct store_close *op);

/* ---- Facts ---- */

struct store_info {
    struct weft_uuid disk, cluster;
    struct weft_uuid claim_current, claim_previous, claim_next;
    uint64_t incarnation;
    uint64_t size_bytes;
    uint32_t slot_bytes;
    uint64_t slots_total, slots_free; /* Free now, quarantined not counted. */
    uint64_t slots_quarantined;       /* Freed, not yet flushed (S2). */
    uint64_t blocks_suspect, blocks_bad;
    uint64_t replica_count; /* With those whose place is not free yet. */
    uint64_t replica_max;
    bool failed; /* The disk has failed: every request gets -EIO. */
};

void store_info_get(const struct store *store, struct store_info *ret_info);

struct store_replica_info {
    struct weft_uuid replica, volume;
    uint32_t mirror_index;
    uint64_t size_blocks;
    uint64_t slots_used;
    uint64_t known_good, max_sequence;
    uint64_t session;
    struct store_membership membership;
};

/* Replica number 'index' from 0; false beyond the end.  The order may change
 * when one is created or removed. */
bool store_replica_info_get(const struct store *store, uint64_t index,
                            struct store_replica_info *ret_info);

/* Counters for metrics; monotonic; read on the reactor. */
struct store_stats {
    uint64_t reads, writes, discards, flushes, lists;
    uint64_t read_bytes, write_bytes;
    uint64_t device_write_bytes; /* Everything written to the medium. */
    uint64_t journal_blocks, journal_records, device_flushes, checkpoints;
    uint64_t crc_errors, io_errors;
};

void store_stats_get(const struct store *store, struct store_stats *ret_stats);

#endif /* BLOCKD_STORE_STORE_H */
