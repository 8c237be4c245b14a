/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "blockd/mirror/mirror_internal.h"
#include "lib/base/container_of.h"
#include "lib/base/units.h"

/* The slots of one region that are newer than 'sequence', at each replica of a
 * set.  If the region was touched by a discard at any of them, a slot may be
 * missing there while others have it from before: then the full lists of all
 * are needed (S4), and those that gave the short one are asked again.
 *
 * That a region was touched has to travel as well: the copy that is made equal
 * today is the source of tomorrow, and must then say so, or a third replica
 * would keep slots that were discarded while it was away.  So, in a region that
 * was touched at the source, one unit that the source does not have is copied,
 * too: a PUT_SLOT of nothing touches the region, with a new sequence.  (If
 * there is no such unit, nothing is absent, and nobody needs to know.) */

#define LIST_DEADLINE_NS (30 * NS_PER_S)

static store_req_done_fn mirror_listing_leg_done;

static void
mirror_listing_ask(struct mirror_listing *listing, uint32_t set, bool all)
{
    struct mirror *mirror = listing->mirror;

    listing->pending = set;
    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        if ((set & 1u << i) == 0) {
            continue;
        }
        struct mirror_replica *replica = mirror_replica_of(mirror, i);
        struct mirror_listing_leg *leg = &listing->leg[i];
        leg->listing = listing;
        leg->index = i;
        mirror_req_prepare(replica, &leg->req, STORE_LIST,
                           mirror_listing_leg_done);
        leg->req.block = listing->block;
        leg->req.block_count = STORE_REGION_BLOCKS;
        leg->req.sequence = listing->sequence;
        leg->req.list_all = all;
        leg->req.entries = listing->entries[i];
        leg->req.entries_max = DECIDE_UNITS_MAX;
        mirror_req_limit(replica, &leg->req, LIST_DEADLINE_NS);
        mirror_req_send(replica, &leg->req);
    }
}

void
mirror_listing_start(struct mirror *mirror, uint32_t set, uint64_t region_block,
                     uint64_t sequence, mirror_listing_done_fn *done)
{
    struct mirror_listing *listing = &mirror->listing;

    CHECK(listing->pending == 0);
    CHECK(set != 0);
    CHECK((set & ~mirror->open) == 0);
    listing->done = done;
    listing->set = set;
    listing->touched = 0;
    listing->block = region_block;
    listing->sequence = sequence;
    listing->complete = false;
    listing->result = 0;
    mirror_listing_ask(listing, set, false);
}

static void
mirror_listing_leg_done(struct store_req *req)
{
    struct mirror_listing_leg *leg =
        container_of(req, struct mirror_listing_leg, req);
    struct mirror_listing *listing = leg->listing;
    struct mirror *mirror = listing->mirror;
    uint32_t bit = 1u << leg->index;

    CHECK((listing->pending & bit) != 0);
    listing->pending &= ~bit;
    mirror_req_settled(mirror_replica_of(mirror, leg->index), req);
    if (req->result != 0 || req->entries_count > DECIDE_UNITS_MAX) {
        listing->result = -EAGAIN;
        mirror_replica_fail(mirror_replica_of(mirror, leg->index), req->session,
                            req->result != 0 ? req->result : -EPROTO, "list");
    } else if (req->region_touched != 0) {
        listing->touched |= bit;
    }
    if (listing->pending != 0) {
        return;
    }
    uint32_t rest = listing->set & ~listing->touched;
    if (mirror_planted(mirror, MIRROR_PLANTED_IGNORE_TOUCHED)) {
        rest = 0;
    }
    if (listing->result == 0 && listing->touched != 0 && rest != 0 &&
        !listing->complete) {
        listing->complete = true;
        mirror_listing_ask(listing, rest, true);
        return;
    }
    listing->done(listing, listing->result);
}

uint32_t
mirror_listing_units(struct mirror *mirror, uint32_t unit_blocks,
                     uint64_t ret_units[DECIDE_UNITS_MAX / 64])
{
    const struct mirror_listing *listing = &mirror->listing;
    struct decide_list lists[STORE_REPLICAS_MAX];
    uint32_t count = 0;

    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        if ((listing->set & 1u << i) != 0) {
            lists[count++] = (struct decide_list){
                .entries = listing->entries[i],
                .count = listing->leg[i].req.entries_count,
                .slot_blocks = mirror->replica[i].slot_blocks,
            };
        }
    }
    return decide_units(lists, count, listing->block, unit_blocks, ret_units);
}

bool
mirror_listing_absent(struct mirror *mirror, uint32_t source,
                      uint32_t unit_blocks,
                      uint64_t ret_units[DECIDE_UNITS_MAX / 64])
{
    const struct mirror_listing *listing = &mirror->listing;
    const struct store_req *req = &listing->leg[source].req;
    uint64_t left = mirror->options.size_blocks - listing->block;
    uint64_t end = left < STORE_REGION_BLOCKS ? left : STORE_REGION_BLOCKS;

    if ((listing->touched & 1u << source) == 0 ||
        mirror_planted(mirror, MIRROR_PLANTED_TOUCH_STAYS)) {
        return false;
    }
    memset(ret_units, 0, DECIDE_UNITS_MAX / 8);
    for (uint64_t u = 0; u * unit_blocks < end; u++) {
        ret_units[u / 64] |= UINT64_C(1) << (u % 64);
    }
    for (uint32_t k = 0; k < req->entries_count; k++) {
        uint64_t block =
            req->entries[k].slot_index * mirror->replica[source].slot_blocks -
            listing->block;
        if (block < STORE_REGION_BLOCKS) {
            uint64_t u = block / unit_blocks;
            ret_units[u / 64] &= ~(UINT64_C(1) << (u % 64));
        }
    }
    return true;
}

uint64_t
mirror_unit_after(const uint64_t *units, bool touch, const uint64_t *absent,
                  uint64_t unit)
{
    if (unit < DECIDE_UNITS_MAX) {
        unit = mirror_unit_next(units, unit);
    }
    if (unit < DECIDE_UNITS_MAX) {
        return unit;
    }
    if (!touch) {
        return 2 * (uint64_t)DECIDE_UNITS_MAX;
    }
    return DECIDE_UNITS_MAX + mirror_unit_next(absent, unit - DECIDE_UNITS_MAX);
}

uint32_t
mirror_unit_blocks(struct mirror *mirror, uint32_t set)
{
    uint32_t blocks = 0;

    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        if ((set & 1u << i) != 0 && mirror->replica[i].slot_blocks > blocks) {
            blocks = mirror->replica[i].slot_blocks;
        }
    }
    CHECK(blocks != 0);
    return blocks;
}

uint64_t
mirror_unit_next(const uint64_t *units, uint64_t unit)
{
    for (; unit < DECIDE_UNITS_MAX; unit++) {
        if ((units[unit / 64] & UINT64_C(1) << (unit % 64)) != 0) {
            return unit;
        }
        if (units[unit / 64] >> (unit % 64) == 0) {
            unit |= 63; /* Nothing more in this word. */
        }
    }
    return DECIDE_UNITS_MAX;
}
