/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "blockd/mirror/mirror_internal.h"
#include "lib/base/container_of.h"
#include "lib/base/units.h"

/* Reconcile: the in-sync replicas are made equal (STORAGE (c)), with the gate
 * closed and nothing in flight, at attach and after a hold.
 *
 *   for each region:  LIST newer than the lowest G, at all of the set
 *     for each unit that is not the same everywhere:  copy from the source
 *   flush all; then they are trusted, and the gate goes on: SET_VIEW (S12,
 *   S17), and only then guest I/O.  G follows with the next flush (flush.c).
 *
 *   (1) One source for all of the mirror: a mix of replicas might hold two
 *       halves of the history that never were together.
 *   (2) Any failure ends it; the judge begins again with who is left.  Nothing
 *       is lost by that: what was copied was legal, and is compared again.
 *   (3) No range locks: gate.c (1).
 *   (4) What the source cannot read may come from the others only if they are
 *       as good: with a living guest, those that have lost nothing either.  A
 *       stuck write is not in what came from them: it is made anew. */

static mirror_listing_done_fn mirror_reconcile_listed;
static mirror_copy_done_fn mirror_reconcile_copied;

static void
mirror_reconcile_end(struct mirror *mirror)
{
    mirror->reconcile.active = false;
    mirror->reconcile.flushing = false;
    if (mirror->phase == PHASE_RECONCILE) {
        mirror->phase = PHASE_JUDGE;
    }
    mirror_kick(mirror);
}

static bool
mirror_reconcile_is_over(const struct mirror *mirror)
{
    return mirror->phase != PHASE_RECONCILE || mirror->reconcile.broken;
}

static void
mirror_reconcile_region(struct mirror *mirror)
{
    struct mirror_reconcile *reconcile = &mirror->reconcile;
    uint64_t block = reconcile->region * STORE_REGION_BLOCKS;

    if (mirror_reconcile_is_over(mirror)) {
        mirror_reconcile_end(mirror);
        return;
    }
    if (block >= mirror->options.size_blocks) {
        reconcile->flushing = true;
        mirror_round_begin(mirror, STORE_FLUSH, reconcile->set);
        return;
    }
    mirror_listing_start(mirror, reconcile->set, block, reconcile->sequence,
                         mirror_reconcile_listed);
}

static void
mirror_reconcile_unit(struct mirror *mirror)
{
    struct mirror_reconcile *reconcile = &mirror->reconcile;
    struct mirror_copy *copy = &mirror->copy;

    if (mirror_reconcile_is_over(mirror)) {
        mirror_reconcile_end(mirror);
        return;
    }
    reconcile->unit = mirror_unit_after(reconcile->units, reconcile->touch,
                                        reconcile->absent, reconcile->unit);
    if (reconcile->unit >= 2 * (uint64_t)DECIDE_UNITS_MAX) {
        reconcile->region++;
        mirror_reconcile_region(mirror);
        return;
    }
    copy->done = mirror_reconcile_copied;
    copy->live = false;
    copy->source = reconcile->source;
    copy->targets = reconcile->set & ~(1u << copy->source);
    copy->helpers = reconcile->helpers & copy->targets;
    copy->block = reconcile->region * STORE_REGION_BLOCKS +
                  reconcile->unit % DECIDE_UNITS_MAX * reconcile->unit_blocks;
    copy->block_count = reconcile->unit_blocks;
    mirror_copy_start(copy);
}

static void
mirror_reconcile_listed(struct mirror_listing *listing, int result)
{
    struct mirror *mirror = listing->mirror;
    struct mirror_reconcile *reconcile = &mirror->reconcile;

    if (result != 0) {
        mirror_reconcile_end(mirror);
        return;
    }
    (void)mirror_listing_units(mirror, reconcile->unit_blocks,
                               reconcile->units);
    reconcile->touch =
        decide_count(reconcile->set) > 1 &&
        mirror_listing_absent(mirror, reconcile->source, reconcile->unit_blocks,
                              reconcile->absent);
    reconcile->unit = 0;
    mirror_reconcile_unit(mirror);
}

static void
mirror_reconcile_copied(struct mirror_copy *copy, int result)
{
    struct mirror *mirror = copy->mirror;

    if (result != 0) {
        if (result == -EIO) {
            /* (4): without this source the judge holds, or takes another. */
            struct mirror_replica *source =
                mirror_replica_of(mirror, mirror->reconcile.source);
            mirror_replica_fail(source, source->session, -EIO,
                                "cannot read a block that no other has");
        }
        mirror_reconcile_end(mirror);
        return;
    }
    if (copy->fixed || copy->around) {
        mirror_write_spoiled(mirror, copy->block, copy->block_count);
    }
    mirror->reconcile.copied += mirror->reconcile.unit < DECIDE_UNITS_MAX;
    mirror->reconcile.touch = mirror->reconcile.touch && !copy->empty;
    mirror->reconcile.unit++;
    mirror_reconcile_unit(mirror);
}

void
mirror_reconcile_flushed(struct mirror *mirror)
{
    struct mirror_reconcile *reconcile = &mirror->reconcile;

    if (!mirror_reconcile_is_over(mirror)) {
        mirror->trusted |= reconcile->set;
        mirror_durable(mirror, mirror->round_point);
        mirror_write_reconciled(mirror, reconcile->set, reconcile->source);
        if (reconcile->copied != 0) {
            mirror_notify(mirror, "mirror-reconciled",
                          "%llu slots were made equal",
                          (unsigned long long)reconcile->copied);
        }
    }
    mirror_reconcile_end(mirror);
}

void
mirror_reconcile_begin(struct mirror *mirror, uint32_t set, uint32_t source)
{
    struct mirror_reconcile *reconcile = &mirror->reconcile;

    CHECK(!reconcile->active);
    CHECK(mirror->in_flight == 0);
    CHECK((set & 1u << source) != 0);

    *reconcile = (struct mirror_reconcile){
        .active = true,
        .set = set,
        .source = source,
        .sequence = UINT64_MAX,
        .unit_blocks = mirror_unit_blocks(mirror, set),
    };
    bool must_keep = mirror->options.live_guest || !mirror->initial;
    reconcile->helpers =
        must_keep ? mirror->trusted | mirror_unbroken(mirror) : set;
    mirror_write_reconciling(mirror, source);
    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        if ((set & 1u << i) != 0 &&
            mirror->replica[i].known_good < reconcile->sequence) {
            reconcile->sequence = mirror->replica[i].known_good;
        }
    }
    mirror_reconcile_region(mirror);
}
