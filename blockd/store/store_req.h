/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_STORE_STORE_REQ_H
#define BLOCKD_STORE_STORE_REQ_H

/* One request to one replica, the same for a local store and for the peer
 * protocol that carries it to another host's store.
 *
 * A *replica* is one copy of one mirror, on one disk, with a UUID of its own.
 * Its logical space is counted in 4 KiB blocks from 0.  A *slot* is the
 * store's unit of allocation; a *region* is 64 MiB of logical space.
 *
 * Invariants of a request:
 *
 *   (1) Set by the caller and constant until done(): all but "out" fields.
 *   (2) 'data', 'crcs', 'states' and 'entries' are borrowed until done().
 *   (3) done() runs exactly once, never inside the submit, on the thread of
 *       the caller, with 'result' set.
 *   (4) READ, WRITE, DISCARD, PUT_SLOT, FLUSH, LIST and SET_VIEW are refused
 *       with -ESTALE unless (epoch, session) is the replica's open session
 *       (DESIGN 3.4 rules 1 and 9; STORAGE (d), S16).  FENCE opens one.
 *   (5) Overlapping requests are never in flight together: the owner's range
 *       locks see to it (S15); the store gates them as well.
 *
 * Block states are three-valued (S3), and reads add two verdicts:
 *
 *   ABSENT   nothing in this layer (a hole: not "zeros")
 *   DATA     bytes with a CRC32C
 *   ZERO     reads as zeros, hides older layers
 *   SUSPECT  (read only) bytes on disk match no candidate, extent was hot at a
 *            crash (S1): repair from a peer, or adopt under STORAGE (a).
 *            'data' and 'crcs' hold what the disk has.
 *   BAD      (read only) rot or a medium error: no usable bytes. */

#include <stdint.h>

#include "lib/base/list.h"
#include "lib/base/units.h"
#include "lib/base/uuid.h"

#define STORE_REQ_BLOCKS_MAX 256u  /* 1 MiB a request. */
#define STORE_REGION_BLOCKS 16384u /* 64 MiB. */
#define STORE_REPLICAS_MAX 3u      /* Copies of a mirror. */
#define STORE_LAYER_FIRST 1u       /* Layer numbers begin at 1. */

/* Sequence numbers of writes: (epoch, counter), per mirror, in 64 bits.  24
 * bits of epoch: 16 million attaches.  40 bits of counter: the owner attaches
 * itself anew (epoch + 1) before the counter could overflow. */
#define STORE_SEQ_COUNTER_BITS 40u
#define STORE_SEQ_COUNTER_MAX ((UINT64_C(1) << STORE_SEQ_COUNTER_BITS) - 1)
#define STORE_EPOCH_MAX ((UINT32_C(1) << 24) - 1)

static inline uint64_t
store_seq_make(uint32_t epoch, uint64_t counter)
{
    return (uint64_t)epoch << STORE_SEQ_COUNTER_BITS | counter;
}

enum store_block_state {
    STORE_BLOCK_ABSENT = 0,
    STORE_BLOCK_DATA = 1,
    STORE_BLOCK_ZERO = 2,
    STORE_BLOCK_SUSPECT = 3,
    STORE_BLOCK_BAD = 4,
};

/* Numbers are those of the wire (docs/peer-protocol.md). */
enum store_opcode {
    STORE_READ = 1,
    STORE_WRITE = 2,   /* All blocks become DATA with 'crcs', 'sequence'. */
    STORE_DISCARD = 3, /* All blocks become ZERO (discard_zero) or ABSENT. */
    STORE_FLUSH = 4,
    STORE_FENCE = 5,
    STORE_LIST = 6,
    STORE_PUT_SLOT = 7, /* Resync, reconcile, repair: replace a whole slot. */
    STORE_SET_VIEW = 8,
    STORE_CREATE = 9,
    STORE_REMOVE = 10,
};

/* What a replica remembers durably of its membership (S12, S17). */
struct store_membership {
    uint32_t epoch;
    uint64_t view;
    uint32_t in_sync_count;
    struct weft_uuid in_sync[STORE_REPLICAS_MAX]; /* Replica UUIDs. */
};

/* One slot in a LIST reply. */
struct store_list_entry {
    uint64_t slot_index; /* Logical: block / blocks-per-slot. */
    uint64_t sequence;   /* Of its last write. */
    uint64_t digest;     /* Of the block states and CRCs; equal content gives
                          * equal digests; 0 if any block is SUSPECT or BAD. */
};

struct store_req;
typedef void store_req_done_fn(struct store_req *req);

struct store_req {
    store_req_done_fn *done;
    enum store_opcode opcode;

    /* Whom: all opcodes. */
    struct weft_uuid replica;
    uint32_t epoch;
    uint64_t session;
    uint64_t deadline_ns; /* Honoured by remote links; IO_NEVER for none. */

    /* READ, WRITE, DISCARD, PUT_SLOT. */
    uint32_t layer;       /* Never implied (S18). */
    uint64_t block;       /* First logical block.  PUT_SLOT: slot-aligned. */
    uint32_t block_count; /* READ, WRITE: 1..STORE_REQ_BLOCKS_MAX.  PUT_SLOT:
                           * blocks per slot.  DISCARD: 1..UINT32_MAX. */
    uint64_t sequence;    /* WRITE, DISCARD: the write's.  PUT_SLOT: the
                           * source's, kept (S16). */
    uint8_t *data;        /* block_count * 4096, aligned to 4096. */
    uint32_t *crcs;       /* CRC32C of each block as stored.  READ: out. */
    uint8_t *states;      /* enum store_block_state.  READ: out.  PUT_SLOT: in,
                           * ABSENT, DATA or ZERO; all ABSENT frees the slot. */
    uint8_t crcs_hold;    /* WRITE, PUT_SLOT: the submitter has just made or
                           * checked 'crcs' over 'data', while it copied it;
                           * the store need not do so again. */
    uint8_t discard_zero; /* DISCARD: leave ZERO (something lies beneath). */
    uint64_t slot_sequence; /* READ, out: of the slot of the first block, 0 if
                             * it has none. */

    /* FLUSH: covers every WRITE, DISCARD and PUT_SLOT that completed before
     * it was submitted.  If known_good is not 0, the replica's known-good
     * point G becomes that sequence after the device flush (STORAGE (b): all
     * writes up to it are here); G never goes back by this. */
    uint64_t known_good;

    /* FENCE, in: epoch (above), owner instance; create nothing.  Durable
     * before done(): older sessions are closed, their queued I/O drained.
     * -ESTALE if a higher epoch is known (out: membership.epoch says it).
     * Out: session (above) = the new one, and all of these. */
    struct weft_uuid owner_instance;
    struct store_membership membership; /* SET_VIEW: in.  FENCE: out. */
    uint64_t incarnation;    /* FENCE, FLUSH: out (S6).  SET_VIEW: in. */
    uint64_t known_good_out; /* FENCE: out: G. */
    uint64_t max_sequence;   /* FENCE: out: highest sequence present. */
    /* FENCE: out: the 'incarnation' of the last SET_VIEW (of CREATE, before the
     * first), persisted with the membership (S17).  FENCE itself leaves it as
     * it is: only the owner knows when a replica is whole again, and says so by
     * SET_VIEW.  (note of the mirror's author, 17:50: was "at which the
     * previous session began"; that would forget a loss if the owner fenced a
     * replica again and died before it had repaired it.) */
    uint64_t session_incarnation;
    uint32_t slot_blocks; /* FENCE: out: blocks per slot on that disk. */

    /* LIST: slots of [block, block + block_count) (whole regions) whose
     * sequence is above 'sequence', or, with list_all, all slots.  If the
     * region was touched by a discard, free or merge above 'sequence' (S4),
     * region_touched is set and all its slots are listed. */
    uint8_t list_all;
    uint8_t region_touched;           /* out */
    struct store_list_entry *entries; /* out, ascending */
    uint32_t entries_max;             /* in: at least slots in a region */
    uint32_t entries_count;           /* out */

    /* CREATE: a new empty replica; -EEXIST if it exists with other values, 0
     * if it exists with the same (idempotent).  membership: in. */
    struct weft_uuid volume;
    uint32_t mirror_index;
    uint64_t size_blocks; /* Of its logical space. */

    int result; /* out: 0 or -errno.  READ: 0 even if some blocks are BAD. */

    /* Private to whoever holds the request: the store, or a link. */
    struct list node;
    uint64_t id;
    uint64_t started_ns;
    uint32_t pending;
    uint32_t progress;
    uint32_t flags;
};

/* Errors a request may end with, beside those of the opcode:
 *   -ENXIO      no such replica here (never created implicitly, S13)
 *   -ESTALE     fenced: not the open session
 *   -ENOSPC     nothing was changed
 *   -EIO        the disk failed; a failed flush also starts a new incarnation
 *   -EBADMSG    CRC of the data on the wire was wrong; nothing was changed
 *   -EINVAL     malformed (programmer error locally; hostile peer remotely)
 *   -ENOTCONN, -ETIMEDOUT   link: outcome unknown
 *   -ESHUTDOWN  the store is closing */

#endif /* BLOCKD_STORE_STORE_REQ_H */
