/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_MIRROR_DECIDE_H
#define BLOCKD_MIRROR_DECIDE_H

/* The decisions of a mirror as pure functions: no I/O, no clock, no state.
 *
 * Sets of replicas are bit masks: bit i is replica i of the row.  Words used
 * here and in all of blockd/mirror:
 *
 *   in sync   in the in-sync set of the committed row
 *   open      has a session of ours
 *   trusted   in sync, open, and equal to all other trusted ones: nothing has
 *             failed on it since it was made equal
 *   unbroken  has lost no completed write since it was last declared whole
 *             (S17: FENCE's incarnation equals its session_incarnation) */

#include <stdbool.h>
#include <stdint.h>

#include "blockd/mirror/mirror.h"

/* ---- What to do when the gate is closed and nothing is in flight ---- */

struct decide_input {
    uint32_t in_sync;
    uint32_t open;
    uint32_t trusted;
    uint32_t unbroken; /* Meaningful for 'open & ~trusted'. */
    uint32_t local;
    uint32_t min_in_sync;
    uint64_t max_sequence[STORE_REPLICAS_MAX];
    uint64_t known_good[STORE_REPLICAS_MAX];
    bool initial;    /* This owner has never been READY. */
    bool clean;      /* The last owner says that it detached cleanly. */
    bool live_guest; /* Acknowledged writes must not be lost (S17). */
    bool grace_over; /* The in-sync replicas have had their time to appear. */
};

enum decide_action {
    DECIDE_GO,        /* Every in-sync replica is trusted. */
    DECIDE_TRUST,     /* Cleanly detached: all of 'set' are equal already. */
    DECIDE_COMMIT,    /* Commit 'set' as the in-sync set (a shrink). */
    DECIDE_RECONCILE, /* Make 'set' (all in sync) equal to 'source'. */
    DECIDE_WAIT,      /* Nothing can be done now; 'reason' says why. */
};

struct decide_result {
    enum decide_action action;
    uint32_t set;
    uint32_t source; /* Index. */
    const char *reason;
};

struct decide_result decide_membership(const struct decide_input *input);

/* The source of a reconcile among 'candidates': unbroken before broken, then
 * local, then the highest sequence, then the lowest index.  With 'must_keep',
 * only unbroken ones; STORE_REPLICAS_MAX if there is none. */
uint32_t decide_source(const struct decide_input *input, uint32_t candidates,
                       bool must_keep);

/* ---- What a replica's own memory says about the row (S12) ---- */

/* Whether 'persisted' (out of a FENCE) proves that the row was rolled back: a
 * newer view, or another in-sync set under the same view. */
bool decide_row_is_old(const struct mirror_row *row,
                       const struct store_membership *persisted);

/* ---- Which replicas are too slow (S20) ---- */

/* Of 'pending', those that may be set aside: some other host's replica
 * ('remote') answered the same request in time ('prompt'), and enough remain.
 * One that is not in sync may be set aside if anybody answered in time.
 */
uint32_t decide_slow(uint32_t pending, uint32_t prompt, uint32_t remote,
                     uint32_t in_sync, uint32_t min_in_sync);

/* ---- Which parts of a region differ ---- */

/* Copies are made in units of the largest slot among those concerned. */
#define DECIDE_UNITS_MAX (STORE_REGION_BLOCKS / 4u) /* Slots of 16 KiB. */

struct decide_list {
    const struct store_list_entry *entries;
    uint32_t count;
    uint32_t slot_blocks;
};

/* Sets bit u of 'ret_units' for each unit of the region that begins at
 * 'region_block' in which the lists do not all have the same slots with equal
 * sequence and equal, non-zero digest.  Returns the number of bits set.  Lists
 * of different slot sizes cannot be compared: every listed unit counts. */
uint32_t decide_units(const struct decide_list *lists, uint32_t list_count,
                      uint64_t region_block, uint32_t unit_blocks,
                      uint64_t ret_units[DECIDE_UNITS_MAX / 64]);

/* ---- Small change ---- */

static inline uint32_t
decide_count(uint32_t set)
{
    return (uint32_t)__builtin_popcount(set);
}

#endif /* BLOCKD_MIRROR_DECIDE_H */
