/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIM_LEGAL_H
#define TESTS_SIM_LEGAL_H

/* What a volume may contain: statement (c) of STORAGE.md as a model.
 *
 * The volume is an array of cells (sectors, or blocks), each a register: it is
 * written and read as a whole.  Every write has a number, and every cell that
 * it covers is filled with a value that tells who wrote it.  A cell knows
 *
 *   live   the writes whose value a read may return now
 *   hist   the writes that may come back if the owner dies with its guest: all
 *          since the one that the last acknowledged flush made safe
 *
 * A write w is *superseded* by x if x was acknowledged and began after w had
 * ended.  A read that began at s may return a write that is not superseded by
 * any x that ended before s; and what it returned stays, so for reads that
 * begin after its end every other write that had ended before s is dead.
 *
 *   same owner            live
 *   new owner, live guest (S17) live; what was pending is over
 *   new owner, new guest        live = hist, pruned by the last flush; one of
 *                               them has survived, and no one supersedes
 * another any more; the first read tells which it was
 *
 * Test-side memory: create and destroy it outside of simulated nodes, and wrap
 * calls from callbacks in sim_world_begin() and sim_world_end(). */

#include <stdbool.h>
#include <stdint.h>

struct legal_write {
    uint64_t number;           /* Unique; 0 is the zeros of the beginning. */
    uint64_t value;            /* What a read sees; 0 for zeros. */
    uint64_t begin_ns, end_ns; /* UINT64_MAX: pending. */
    uint64_t dead_ns; /* Reads that begin later cannot see it any more. */
    bool acked;
};

struct legal_set {
    struct legal_write *writes;
    uint32_t count, room;
};

struct legal_cell {
    struct legal_set live, hist;
};

struct legal {
    struct legal_cell *cells;
    uint64_t count;
    uint64_t flushed_ns; /* Begin of the last acknowledged flush. */
    uint64_t taken_ns;   /* Of the last new owner with a new guest. */
    uint64_t horizon_ns; /* No read is in flight that began earlier. */
};

void legal_init(struct legal *legal, uint64_t count);
void legal_done(struct legal *legal);

void legal_begin(struct legal *legal, uint64_t first, uint64_t count,
                 uint64_t number, uint64_t value, uint64_t now_ns);
void legal_ack(struct legal *legal, uint64_t first, uint64_t count,
               uint64_t number, uint64_t now_ns);
/* It failed: parts of it may be there, or not. */
void legal_fail(struct legal *legal, uint64_t first, uint64_t count,
                uint64_t number, uint64_t now_ns);
/* It failed, and nothing was changed (-ENOSPC). */
void legal_refuse(struct legal *legal, uint64_t first, uint64_t count,
                  uint64_t number);
/* A flush that began then was acknowledged. */
void legal_flush(struct legal *legal, uint64_t begin_ns);
/* Times only grow; whatever no read can see any more is forgotten. */
void legal_set_horizon(struct legal *legal, uint64_t time_ns);
/* A new owner is ready. */
void legal_take_over(struct legal *legal, bool live_guest, uint64_t now_ns);
/* False: the value is not legal. */
bool legal_read(struct legal *legal, uint64_t cell, uint64_t value,
                uint64_t begin_ns, uint64_t end_ns);
/* Whether a read now would have to see data (all that is legal is not zero). */
bool legal_is_data(const struct legal *legal, uint64_t cell);
/* Values that would have been legal, as text for the report. */
void legal_describe(const struct legal *legal, uint64_t cell, char *ret_text,
                    uint32_t size);

#endif /* TESTS_SIM_LEGAL_H */
