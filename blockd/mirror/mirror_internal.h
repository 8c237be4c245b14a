/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_MIRROR_MIRROR_INTERNAL_H
#define BLOCKD_MIRROR_MIRROR_INTERNAL_H

/* What the files of blockd/mirror share; nobody else includes it.
 *
 *   mirror.c     life: new, stop, free, status, row changed
 *   gate.c       the phases: the only place where the phase changes
 *   session.c    links, FENCE, failing replicas
 *   commit.c     membership commits and unknown outcomes
 *   round.c      one control request to each of several replicas
 *   request.c    guest requests: gate, lock, finish
 *   write.c      write and discard       flush.c   flush, G, the tick
 *   read.c       read and map            repair.c  unreadable blocks
 *   listing.c    LIST at several replicas
 *   copy.c       one unit from one replica to others
 *   reconcile.c  statement (c)           resync.c  S4, S5, S16
 *   slow.c       replicas that are slow, or hang (S20)
 *   decide.c     pure decisions
 *
 * README.md has the diagrams, the order of locks and the life of a write. */

#include <stdbool.h>
#include <stdint.h>

#include "blockd/mirror/decide.h"
#include "blockd/mirror/mirror.h"
#include "blockd/mirror/planted.h"
#include "lib/base/list.h"
#include "lib/io/io.h"

/* ---- One replica ---- */

enum replica_phase {
    REPLICA_IDLE,    /* No session. */
    REPLICA_FENCING, /* FENCE is on its way. */
    REPLICA_OPEN,    /* 'session' is ours. */
};

struct mirror_replica {
    struct mirror *mirror;
    uint32_t index;
    enum replica_phase phase;
    struct link *link; /* NULL: nobody knows the way. */
    struct link_user user;
    struct store_req fence; /* FENCE; pending while FENCING. */
    struct store_req round; /* See round.c. */
    bool round_pending;
    uint64_t round_mark;
    struct io_timer retry; /* Until the next FENCE. */
    uint64_t retry_ns;     /* The wait after the next failure. */

    /* Of the open session (of the last one, if there is none). */
    uint64_t session;
    uint64_t incarnation, session_incarnation;
    uint64_t known_good, max_sequence;
    uint32_t slot_blocks;
    struct store_membership membership; /* Persisted there (S12). */

    /* Writes, discards and copies: sent, settled, covered by a flush (e). */
    uint64_t mutations_sent, mutations_done, mutations_flushed;

    /* S20, errors, failed resyncs: not before then, and how long the next time.
     */
    uint64_t rejoin_at_ns, rejoin_wait_ns;

    /* See slow.c: requests that are there, flushes among them, and when it last
     * answered (or got the first of them). */
    uint32_t busy, busy_flushes;
    uint64_t progress_ns;

    int trouble; /* Last failure, and what it was about. */
    const char *trouble_what;
};

/* ---- A unit on its way from one replica to others ---- */

struct mirror_copy;
typedef void mirror_copy_done_fn(struct mirror_copy *copy, int result);

struct mirror_copy_leg {
    struct store_req req;
    struct mirror_copy *copy;
    uint32_t index;
    uint32_t at; /* PUT: next block of the unit. */
};

enum mirror_copy_state { COPY_IDLE, COPY_READ, COPY_HELP, COPY_PUT };

struct mirror_copy {
    struct mirror *mirror;
    mirror_copy_done_fn *done;
    enum mirror_copy_state state;
    bool live; /* Under an open gate (resync): gives up when it closes. */
    uint32_t source, helper;
    uint32_t helpers, targets; /* Sets. */
    uint64_t block;
    uint32_t block_count; /* Of the unit. */
    uint32_t at;          /* READ, HELP: next block of the unit. */
    uint64_t sequence;    /* The highest of the slots read, or a new one. */
    uint64_t floor;       /* PUT: all new ones are above it. */
    uint32_t bad_count;   /* Blocks without a verdict so far. */
    bool fixed;           /* Blocks came from a helper, or were adopted. */
    bool around;          /* Some block is lost: copy all but that. */
    bool empty;           /* Out: there was nothing at the source. */
    int result;
    uint32_t pending;
    struct mirror_copy_leg leg[STORE_REPLICAS_MAX];
    uint8_t *data, *help_data; /* 1 MiB each, of the arena. */
    uint32_t crcs[STORE_REQ_BLOCKS_MAX], help_crcs[STORE_REQ_BLOCKS_MAX];
    uint8_t states[STORE_REQ_BLOCKS_MAX], help_states[STORE_REQ_BLOCKS_MAX];
};

/* ---- LIST of one region at several replicas ---- */

struct mirror_listing;
typedef void mirror_listing_done_fn(struct mirror_listing *listing, int result);

struct mirror_listing_leg {
    struct store_req req;
    struct mirror_listing *listing;
    uint32_t index;
};

struct mirror_listing {
    struct mirror *mirror;
    mirror_listing_done_fn *done;
    uint32_t set, pending, touched;
    uint64_t block, sequence;
    bool complete; /* The second turn: full lists where they were not. */
    int result;
    struct mirror_listing_leg leg[STORE_REPLICAS_MAX];
    struct store_list_entry *entries[STORE_REPLICAS_MAX]; /* Of the arena. */
};

/* ---- Reconcile, resync, repair ---- */

struct mirror_reconcile {
    bool active;
    bool broken; /* A session of 'set' has ended (perhaps a new one is open). */
    uint32_t set, source;
    uint32_t helpers;  /* Who may give what the source cannot read. */
    uint64_t sequence; /* The lowest G. */
    uint64_t region, unit;
    uint32_t unit_blocks;
    bool flushing;
    uint64_t copied;
    bool touch; /* See listing.c. */
    uint64_t units[DECIDE_UNITS_MAX / 64];
    uint64_t absent[DECIDE_UNITS_MAX / 64];
};

enum mirror_resync_state {
    RESYNC_IDLE,
    RESYNC_JOIN, /* Live writes go there; older ones are still under way. */
    RESYNC_LIST,
    RESYNC_LOCK,
    RESYNC_COPY,
    RESYNC_PACE, /* Waits for its rate. */
    RESYNC_DONE, /* Asks the gate for the commit. */
};

struct mirror_resync {
    enum mirror_resync_state state;
    uint32_t target, source;
    uint64_t join_sequence;
    uint64_t since; /* G of the target when its session began. */
    uint64_t region, unit;
    uint32_t unit_blocks;
    bool busy;    /* A listing or a copy is under way. */
    bool aborted; /* Ends when nothing is under way. */
    bool locked;  /* Holds its range lock. */
    struct range_lock lock;
    struct io_timer pace;
    uint64_t pace_ns; /* When the next unit may go. */
    uint64_t copied;
    bool touch; /* See listing.c. */
    uint64_t units[DECIDE_UNITS_MAX / 64];
    uint64_t absent[DECIDE_UNITS_MAX / 64];
};

struct mirror_repair {
    struct list queue;        /* Reads that hold their exclusive lock. */
    struct mirror_io *victim; /* The one being served. */
    struct store_req req;
    struct mirror_io write; /* The block, back to all replicas. */
    bool busy;              /* req or write is under way. */
    uint32_t index, tried;
    uint64_t block;
    bool suspect; /* 'kept' has bytes to adopt. */
    uint8_t *data, *kept;
    uint32_t crc;
    uint8_t state;
};

/* Asks another host's replica whether it is we who are slow (S20). */
struct mirror_probe {
    struct store_req req;
    bool busy;
    uint32_t index;
    uint64_t sent_ns;
    uint8_t *data;
    uint32_t crc;
    uint8_t state;
};

/* ---- The mirror ---- */

/* See gate.c for the diagram. */
enum mirror_phase {
    PHASE_OPEN,
    PHASE_DRAIN,
    PHASE_JUDGE,
    PHASE_WAIT,
    PHASE_RECONCILE,
    PHASE_GROW_FLUSH,
    PHASE_COMMIT,
    PHASE_COMMIT_WAIT,
    PHASE_SET_VIEW,
    PHASE_STOP_FLUSH,
    PHASE_CLOSING, /* Stopped or fenced: everything settles. */
    PHASE_ENDED,
};

struct mirror {
    struct mirror_options options;
    struct io *io;
    void *owner;
    mirror_ready_fn *ready;
    mirror_stopped_fn *stopped;

    enum mirror_phase phase;
    struct io_task task;
    struct mirror_row row;
    uint32_t open, trusted; /* Sets; see decide.h. */
    uint32_t persisted;     /* SET_VIEW of row.view confirmed. */
    uint32_t growing;       /* Flushed, about to be committed in sync. */
    bool initial;
    bool grace_over;
    bool ready_told;
    bool hold_told;
    bool stopping, stop_flush, stop_marked, stop_clean;
    int fatal; /* -ESTALE, -ENXIO. */
    struct io_timer grace;

    /* Membership commit. */
    struct mirror_commit commit;
    bool commit_pending;
    bool commit_unknown; /* The outcome at row.view is not settled. */
    bool row_read;       /* The row came from the database in this life. */
    struct io_timer commit_timer;
    uint64_t commit_wait_ns;

    /* What another hand wants. */
    bool row_pending;
    struct mirror_row next_row;
    struct link *next_links[STORE_REPLICAS_MAX];

    /* Requests. */
    struct range_lock_table locks;
    struct list waiting;  /* For the gate. */
    struct list stuck;    /* Sent, settled, not done: for the gate or space. */
    struct list finished; /* For done(). */
    struct list writes;   /* By sequence. */
    struct list reads;    /* Sent, in that order; by 'order', too. */
    uint32_t ios;         /* Not yet done. */
    uint32_t in_flight;   /* Data requests at links. */
    uint32_t round_pending;
    uint64_t counter;
    uint64_t durable; /* See flush.c. */
    uint64_t round_point;
    bool counter_told;
    struct io_timer tick;
    uint64_t next_flush_ns;
    struct mirror_io pacer; /* The owner's own flush (b). */
    bool pacer_busy;
    struct io_timer space_timer;
    uint64_t space_wait_ns;
    uint64_t next_lame_read_ns; /* See session.c. */
    struct mirror_io *map_io;   /* Has 'map_entries'. */
    struct store_list_entry *map_entries;

    struct mirror_copy copy;
    struct mirror_listing listing;
    struct mirror_reconcile reconcile;
    struct mirror_resync resync;
    struct mirror_repair repair;
    struct mirror_probe probe;

    char reason[160];
    uint64_t closed_ns; /* Since when the gate is closed; 0: open. */
    struct mirror_status counts;
    struct mirror_replica replica[STORE_REPLICAS_MAX];
};

static inline struct mirror_replica *
mirror_replica_of(struct mirror *mirror, uint32_t index)
{
    CHECK(index < STORE_REPLICAS_MAX);
    return &mirror->replica[index];
}

/* Something happened: mirror_advance() will run in this turn. */
void mirror_kick(struct mirror *mirror);
void mirror_notify(struct mirror *mirror, const char *kind, const char *format,
                   ...) WEFT_PRINTF(3, 4);

/* ---- gate.c ---- */
void mirror_advance(struct io_task *task);
/* Open, and without a lost write since the last SET_VIEW (S17). */
uint32_t mirror_unbroken(const struct mirror *mirror);
/* The end: everything gets 'result' from now on. */
void mirror_die(struct mirror *mirror, int result, const char *why);
void mirror_hold(struct mirror *mirror, const char *format, ...)
    WEFT_PRINTF(2, 3);
void mirror_unhold(struct mirror *mirror);
static inline bool
mirror_is_open(const struct mirror *mirror)
{
    return mirror->phase == PHASE_OPEN;
}

/* ---- session.c ---- */
void mirror_replica_init(struct mirror *mirror, uint32_t index,
                         struct link *link);
/* No request of it may be pending. */
void mirror_replica_done(struct mirror_replica *replica);
/* A request of 'session' failed: the session is over. */
void mirror_replica_fail(struct mirror_replica *replica, uint64_t session,
                         int result, const char *what);
/* The next failure is a first one. */
void mirror_replica_praise(struct mirror_replica *replica);
void mirror_replica_try_fence(struct mirror_replica *replica);
/* Fills in what all requests to a replica have in common. */
void mirror_req_prepare(struct mirror_replica *replica, struct store_req *req,
                        enum store_opcode opcode, store_req_done_fn *done);
/* Data requests: counted in in_flight. */
void mirror_req_send(struct mirror_replica *replica, struct store_req *req);
void mirror_req_settled(struct mirror_replica *replica,
                        const struct store_req *req);
/* Sets the deadline, if it is to have one. */
void mirror_req_limit(struct mirror_replica *replica, struct store_req *req,
                      uint64_t after_ns);
static inline bool
mirror_replica_is_local(const struct mirror_replica *replica)
{
    return replica->link != NULL && replica->link->local;
}
/* Of 'candidates': local, unless it is much slower, else the lowest latency. */
uint32_t mirror_replica_nearest(struct mirror *mirror, uint32_t candidates);

/* ---- slow.c ---- */
/* A request goes to the replica; it has settled. */
void mirror_replica_busy(struct mirror_replica *replica,
                         const struct store_req *req);
void mirror_replica_answered(struct mirror_replica *replica,
                             const struct store_req *req);
/* Whether there is anything to watch. */
bool mirror_slow_is_wanted(const struct mirror *mirror);
/* At each tick. */
void mirror_slow_tick(struct mirror *mirror, uint64_t now_ns);

/* ---- commit.c ---- */
#define MIRROR_WHY_UNKNOWN "settles an unknown outcome"
void mirror_commit_begin(struct mirror *mirror, uint32_t set, const char *why);
/* A commit that changes nothing but the view. */
void mirror_commit_reread(struct mirror *mirror, const char *why);
void mirror_commit_advance(struct mirror *mirror);
/* The row as it is now; the gate is closed. */
void mirror_row_adopt(struct mirror *mirror, const struct mirror_row *row);

/* ---- round.c ---- */
void mirror_round_begin(struct mirror *mirror, enum store_opcode opcode,
                        uint32_t set);

/* ---- request.c ---- */
void mirror_io_route(struct mirror_io *io);
void mirror_io_finish(struct mirror_io *io, int result);
/* The same where done() must not run now. */
void mirror_io_finish_later(struct mirror_io *io, int result);
void mirror_io_stick(struct mirror_io *io);
/* The gate is open: everyone tries again. */
void mirror_stuck_retry(struct mirror *mirror);
void mirror_internal_submit(struct mirror *mirror, struct mirror_io *io,
                            enum mirror_io_kind kind, mirror_io_done_fn *done);

/* ---- write.c ---- */
void mirror_write_send(struct mirror_io *io);
void mirror_write_retry(struct mirror_io *io);
/* What a reconcile means for stuck writes.  At its beginning: what the source
 * does not have, the others may lose at any moment, even if it is interrupted.
 * At its end: what the source has, all of 'set' have. */
void mirror_write_reconciling(struct mirror *mirror, uint32_t source);
/* In these blocks it is not the source's content that all have now. */
void mirror_write_spoiled(struct mirror *mirror, uint64_t block,
                          uint32_t block_count);
void mirror_write_reconciled(struct mirror *mirror, uint32_t set,
                             uint32_t source);
/* With the gate open: is that still the reason why somebody waits? */
void mirror_space_check(struct mirror *mirror);
void mirror_space_retry(struct io_timer *timer);
bool mirror_counter_is_exhausted(const struct mirror *mirror);

/* ---- flush.c ---- */
void mirror_flush_send(struct mirror_io *io);
void mirror_flush_retry(struct mirror_io *io);
/* All writes up to it have completed at all in-sync replicas. */
uint64_t mirror_complete_point(const struct mirror *mirror);
/* They have all confirmed a flush that was sent at that complete point. */
void mirror_durable(struct mirror *mirror, uint64_t point);
/* What a replica may be told as G (b). */
uint64_t mirror_known_good(const struct mirror *mirror);
/* The answer to any FLUSH: 0, or the replica's session is over. */
int mirror_flush_answer(struct mirror_replica *replica,
                        const struct store_req *req, uint64_t mark);
void mirror_tick_arm(struct mirror *mirror);
void mirror_tick(struct io_timer *timer);

/* ---- read.c ---- */
void mirror_read_send(struct mirror_io *io);
void mirror_map_send(struct mirror_io *io);
/* Turns DATA whose bytes do not match their CRC into BAD; counts. */
void mirror_verify(struct mirror *mirror, const uint8_t *data,
                   const uint32_t *crcs, uint8_t *states, uint32_t count);

/* ---- repair.c ---- */
void mirror_repair_init(struct mirror *mirror);
/* The read holds an exclusive lock on its range. */
void mirror_repair_queue(struct mirror_io *io);
void mirror_repair_pump(struct mirror *mirror);

/* ---- listing.c, copy.c ---- */
void mirror_listing_start(struct mirror *mirror, uint32_t set,
                          uint64_t region_block, uint64_t sequence,
                          mirror_listing_done_fn *done);
/* The lists of the replicas in 'set' as units to copy; returns their number. */
uint32_t mirror_listing_units(struct mirror *mirror, uint32_t unit_blocks,
                              uint64_t ret_units[DECIDE_UNITS_MAX / 64]);
/* Whether the region was touched at 'source'; if so, the units in which it has
 * no slot. */
bool mirror_listing_absent(struct mirror *mirror, uint32_t source,
                           uint32_t unit_blocks,
                           uint64_t ret_units[DECIDE_UNITS_MAX / 64]);
/* Largest slot among 'set'. */
uint32_t mirror_unit_blocks(struct mirror *mirror, uint32_t set);
/* The next unit to copy in a region: of 'units', then, while 'touch', of
 * 'absent'; 'unit' counts on from DECIDE_UNITS_MAX there. */
uint64_t mirror_unit_after(const uint64_t *units, bool touch,
                           const uint64_t *absent, uint64_t unit);
/* The next set bit of a unit map at or after 'unit'; DECIDE_UNITS_MAX: none. */
uint64_t mirror_unit_next(const uint64_t *units, uint64_t unit);

/* Fill in source, helpers, targets, block, block_count, live, done; then: */
void mirror_copy_start(struct mirror_copy *copy);

/* ---- reconcile.c ---- */
void mirror_reconcile_begin(struct mirror *mirror, uint32_t set,
                            uint32_t source);
/* The flush round at its end has settled. */
void mirror_reconcile_flushed(struct mirror *mirror);

/* ---- resync.c ---- */
void mirror_resync_init(struct mirror *mirror);
/* The gate is open, or something changed: goes on if it can. */
void mirror_resync_pump(struct mirror *mirror);
void mirror_resync_abort(struct mirror *mirror);
/* Bit of the replica that gets the live writes; 0: none. */
uint32_t mirror_resync_bit(const struct mirror *mirror);
bool mirror_resync_is_settled(const struct mirror *mirror);

#endif /* BLOCKD_MIRROR_MIRROR_INTERNAL_H */
