/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_MIRROR_MIRROR_H
#define BLOCKD_MIRROR_MIRROR_H

/* One replica set: write all, read one, know who is in sync (DESIGN 3.4).
 *
 * The mirror belongs to the reactor of its volume.  It talks to replicas
 * through links only, and to the database through a mirror_meta only, so that
 * the whole of it runs inside the simulator.
 *
 *   start:  FENCING      a session on every reachable in-sync replica (d)
 *           RECONCILING  the in-sync replicas are made equal (c)
 *           READY        guest I/O
 *   any:    HELD         I/O waits, 'reason' says why; goes on by itself
 *   end:    STOPPING     drained, flushed
 *   fence:  FENCED       a higher epoch exists: all I/O ends with -ESTALE
 *
 * Invariants (each has a planted bug and a simulator test):
 *
 *   (1) A write is acknowledged when every replica of the committed in-sync set
 *       has completed it (DESIGN rule 3, S7).
 *   (2) A replica that failed is committed stale before anything is
 *       acknowledged without it; the in-sync set never shrinks below
 *       min_in_sync (S19) and never becomes empty (S11): the mirror holds.
 *   (3) Memory follows the committed row only.  On an unknown outcome of a
 *       commit: hold, read again (S11).
 *   (4) Overlapping requests are never in flight together: range locks,
 *       rounded to 4 KiB, for guest I/O, repair and resync alike (S15).
 *   (5) Membership changes are a barrier: no request straddles two views
 *       (rule 8).  The new view is persisted on the in-sync replicas before any
 *       acknowledgement under it (S12).
 *   (6) Reads are held while an in-sync session is down and the change is not
 *       committed (S21).
 *   (7) The known-good point is set only here, by flushes to in-sync replicas
 *       (S5, (b)); never during resync.
 *   (8) A flush covers every replica written since its last successful flush;
 *       one that fails it is committed stale, never retried (e).
 *   (9) Time is for liveness only. */

#include <stdbool.h>
#include <stdint.h>

#include "blockd/mirror/range_lock.h"
#include "blockd/peer/link.h"
#include "blockd/store/store_req.h"
#include "lib/base/uuid.h"
#include "lib/io/io.h"

struct mirror;

/* ---- What is committed in the database: the Mirror row as a value ---- */

struct mirror_row {
    struct weft_uuid mirror; /* Mirror row. */
    uint64_t view;
    uint32_t replica_count; /* 1..STORE_REPLICAS_MAX */
    struct weft_uuid replica[STORE_REPLICAS_MAX];
    struct weft_uuid disk[STORE_REPLICAS_MAX];
    uint32_t in_sync; /* Bit i: replica[i]. */
};

/* ---- Membership commits, provided by cluster or by the simulator ---- */

struct mirror_commit;
typedef void mirror_commit_done_fn(struct mirror_commit *op, int result);

/* Asks the database, durably and atomically (S10, S11): if Volume row 'volume'
 * still has (owner_instance, epoch), and the Mirror row still has 'view', set
 * its in-sync set to 'in_sync' and its view to view + 1.
 * Results: 0 (ret_row is the new row); -ECANCELED (verification failed:
 * ret_row is the row as it is; owner_lost says whether the Volume row is no
 * longer ours); -EAGAIN (outcome unknown or no database: nothing may be
 * assumed; the mirror asks again with 'reread' set, which only reads). */
struct mirror_commit {
    mirror_commit_done_fn *done;
    struct weft_uuid volume, owner_instance, mirror;
    uint32_t epoch;
    uint64_t view;
    uint32_t in_sync;
    bool reread;
    const char *why; /* Static text for the event. */
    /* Out. */
    struct mirror_row ret_row;
    bool owner_lost;
    /* Private to the provider. */
    struct list node;
    struct io_post post;
    uint64_t id;
    int result;
};

struct mirror_meta {
    /* Starts the commit; done() later, on the mirror's reactor. */
    void (*commit)(struct mirror_meta *meta, struct mirror_commit *op);
    /* Something worth an event and an update of the status.  Any text is
     * copied before it returns. */
    void (*notify)(struct mirror_meta *meta, struct mirror *mirror,
                   const char *kind, const char *text);
    /* Optional.  A replica does not answer, and a commit may be needed soon:
     * time to see whether the database does. */
    void (*expect)(struct mirror_meta *meta);
};

/* ---- Requests ---- */

enum mirror_io_kind {
    MIRROR_READ,
    MIRROR_WRITE,
    MIRROR_DISCARD, /* The blocks read as zeros afterwards. */
    MIRROR_FLUSH,
    MIRROR_MAP, /* What is allocated in one region. */
};

/* A MAP answers for granules of the smallest slot there is: 16 KiB. */
#define MIRROR_MAP_BLOCKS 4u
#define MIRROR_MAP_GRANULES (STORE_REGION_BLOCKS / MIRROR_MAP_BLOCKS)

struct mirror_io;
typedef void mirror_io_done_fn(struct mirror_io *io);

/* One replica's share of a request.  Private to the mirror. */
struct mirror_leg {
    struct store_req req;
    struct mirror_io *io;
    uint64_t mark; /* FLUSH: mutations of the replica that it covers. */
    uint32_t index;
};

struct mirror_io {
    mirror_io_done_fn *done;
    enum mirror_io_kind kind;
    uint64_t block;       /* In the mirror's logical space.  MAP: of a region's
                           * first block. */
    uint32_t block_count; /* READ, WRITE: 1..STORE_REQ_BLOCKS_MAX.  DISCARD:
                           * 1..UINT32_MAX.  FLUSH, MAP: ignored. */
    uint8_t *data;        /* 4096-aligned; borrowed until done().  READ: holes
                           * and ZERO blocks are filled with zeros. */
    uint32_t *crcs;       /* Of each block.  WRITE: in.  READ: out. */
    uint8_t *states;      /* READ, out: ABSENT, DATA or ZERO.  MAP, out: one of
                           * MIRROR_MAP_GRANULES each: 0 for a hole, 1 for what
                           * may have data. */
    bool locked;          /* The caller holds the exclusive range lock (read-
                           * modify-write: mirror_lock below). */
    int result; /* 0; -EIO: no replica has good bytes; -ESTALE: fenced;
                 * -ENOSPC (by policy); -ESHUTDOWN. */

    /* Private to the mirror. */
    struct list node;  /* Waiting, stuck, in the repair queue or finished. */
    struct list order; /* WRITE, DISCARD: by sequence.  READ: as sent. */
    struct range_lock lock;
    struct mirror_leg leg[STORE_REPLICAS_MAX];
    uint64_t sequence; /* FLUSH: the complete point when it was sent. */
    uint64_t submitted_ns;
    uint64_t sent_ns;
    uint32_t state;
    uint32_t targets, pending, good, nospace, prompt; /* Sets of replicas. */
    uint32_t bad; /* READ: the first unreadable block, relative. */
    uint32_t repairs;
    bool exclusive; /* READ: its lock has become exclusive for a repair. */
    bool internal;
    struct mirror *mirror;
};

void mirror_submit(struct mirror *mirror, struct mirror_io *io);

/* The range lock of a mirror, for read-modify-write above it: granted() runs
 * when held (later, never inside the call). */
void mirror_lock(struct mirror *mirror, struct range_lock *lock, uint64_t block,
                 uint32_t block_count, bool exclusive);
void mirror_unlock(struct mirror *mirror, struct range_lock *lock);

/* ---- Life ---- */

struct mirror_options {
    struct io *io;
    struct mirror_meta *meta;
    struct weft_uuid volume;
    struct weft_uuid owner_instance;
    uint32_t epoch;
    struct mirror_row row;
    struct link *links[STORE_REPLICAS_MAX]; /* For row.replica[i]. */
    uint32_t min_in_sync;
    uint32_t layer; /* Newest: writes go there. */
    uint64_t size_blocks;
    uint64_t slow_ns;            /* Grey failure limit (S20); 0: 500 ms. */
    uint64_t flush_every_ns;     /* Known-good pace; 0: 1 s. */
    uint64_t resync_bytes_per_s; /* 0: unlimited. */
    bool clean;        /* The last owner detached cleanly: no reconcile (if the
                        * replicas agree that there is nothing to do). */
    bool live_guest;   /* Re-attach under a living guest (S17).  Only if an
                        * attach under that guest has been READY. */
    bool resume;       /* S22: the database is down; every replica of the view
                        * must accept; no membership change meanwhile. */
    bool enospc_holds; /* -ENOSPC: hold (default policy) or report. */
    uint32_t planted_bug; /* For tests. */
    uint8_t *arena; /* Working memory of mirror_arena_bytes(), 4096-aligned. */
};

size_t mirror_arena_bytes(void);

typedef void mirror_ready_fn(struct mirror *mirror, int result);

/* Set-up (allocates).  ready() runs once when READY is first reached (0) or
 * never will be (-ESTALE: fenced or row not ours; -ENXIO: the row names
 * replicas that hold a newer view: rolled-back database, S12). */
WEFT_MUST_CHECK int mirror_new(const struct mirror_options *options,
                               mirror_ready_fn *ready, void *owner,
                               struct mirror **ret_mirror);
/* The 'owner' given to mirror_new(): for the callbacks of the layer above. */
void *mirror_owner(const struct mirror *mirror);

typedef void mirror_stopped_fn(struct mirror *mirror, bool clean);

/* With 'flush': waits for the requests that are here, flushes all in-sync
 * replicas, sets G; stopped() tells whether all are equal and flushed.  While
 * the mirror is held this waits, too; a second call with flush=false ends that.
 * With flush=false: pending requests get -ESHUTDOWN after what is in flight has
 * settled.  New requests get -ESHUTDOWN in both cases. */
void mirror_stop(struct mirror *mirror, bool flush, mirror_stopped_fn *stopped);
/* Only after stopped(). */
void mirror_free(struct mirror *mirror);

/* The database's row changed by another hand (a repair picked a new disk, ...),
 * or a link has to be replaced.  Takes effect as a barrier; a row that is not
 * newer than ours is ignored but for the links.  The links that are no longer
 * used must live until then: until mirror_status_get() shows the new view, or
 * stopped(). */
void mirror_row_changed(struct mirror *mirror, const struct mirror_row *row,
                        struct link *const links[STORE_REPLICAS_MAX]);

enum mirror_state {
    MIRROR_FENCING,
    MIRROR_RECONCILING,
    MIRROR_READY,
    MIRROR_STOPPING,
    MIRROR_STOPPED,
    MIRROR_FENCED,
};

struct mirror_status {
    enum mirror_state state;
    bool held;
    char reason[160]; /* Why it is held; empty if not. */
    struct mirror_row row;
    struct {
        bool up;      /* Link. */
        bool session; /* Our session is open there. */
        bool resyncing;
        uint64_t resync_done, resync_total; /* Slots. */
        uint64_t known_good;
    } replica[STORE_REPLICAS_MAX];
    uint64_t reads, writes, discards, flushes, repairs, adoptions, crc_errors;
    uint64_t read_blocks, write_blocks;
    uint64_t longest_stall_ns; /* The gate closed, so far. */
};

void mirror_status_get(const struct mirror *mirror,
                       struct mirror_status *ret_status);

#endif /* BLOCKD_MIRROR_MIRROR_H */
