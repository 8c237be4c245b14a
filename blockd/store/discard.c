/* SPDX-License-Identifier: Apache-2.0 */

/* DISCARD: blocks become ABSENT, or ZERO if something lies beneath (S3).
 *
 * A slot that ends up all ABSENT is freed.  ZERO needs a slot to be written
 * down in: those that are missing are counted and reserved before anything
 * changes, so that ENOSPC comes first.  Each region in which something changes
 * gets the discard's sequence as its touch sequence, before the changes (S4).
 *
 * Long discards do a bounded number of slots a turn; the gate holds everything
 * that overlaps meanwhile. */

#include <errno.h>

#include "blockd/store/internal.h"

/* Logical slots of the range without a slot. */
static uint64_t
discard_missing(const struct store *store, const struct work *work)
{
    const struct geometry *geometry = &store->geometry;
    uint64_t slot = work->first / geometry->slot_blocks;
    uint64_t end = units_divide_up(work->end, geometry->slot_blocks);
    uint64_t missing = 0;

    while (slot < end) {
        uint64_t region = slot / geometry->region_slots;
        uint64_t next = (region + 1) * geometry->region_slots;

        if (slot % geometry->region_slots == 0 && next <= end &&
            work->replica->used[region] == 0) {
            missing += geometry->region_slots;
            slot = next;
            continue;
        }
        missing += index_find(store, work->replica->number, work->req->layer,
                              slot) == SLOT_NONE;
        slot++;
    }
    return missing;
}

static int
discard_reserve(struct store *store, struct work *work)
{
    uint64_t missing;
    int result;

    if (work->req->discard_zero == 0) {
        return 1;
    }
    missing = discard_missing(store, work);
    if (missing > store->geometry.slots_total) {
        return -ENOSPC;
    }
    result = write_slots_available(store, (uint32_t)missing);
    if (result == 1) {
        work->reserved = (uint32_t)missing;
        store->space.reserved += work->reserved;
    }
    return result;
}

/* Whether all blocks outside of the range are ABSENT. */
static bool
discard_leaves_nothing(const struct store *store, const uint8_t *entry,
                       uint32_t first, uint32_t count)
{
    for (uint32_t i = 0; i < store->geometry.slot_blocks; i++) {
        if ((i < first || i >= first + count) &&
            entry_state(entry, i) != DISK_BLOCK_ABSENT) {
            return false;
        }
    }
    return true;
}

static bool
discard_changes(const uint8_t *entry, uint32_t first, uint32_t count,
                enum disk_block_state state)
{
    for (uint32_t i = first; i < first + count; i++) {
        if (entry_state(entry, i) != state) {
            return true;
        }
    }
    return false;
}

static void
discard_slot(struct store *store, struct work *work, uint32_t slot,
             uint64_t logical, uint32_t first, uint32_t count)
{
    struct store_req *req = work->req;
    struct replica *replica = work->replica;
    uint32_t region = (uint32_t)(logical / store->geometry.region_slots);
    enum disk_block_state state =
        req->discard_zero != 0 ? DISK_BLOCK_ZERO : DISK_BLOCK_ABSENT;
    const uint8_t *entry = table_entry(store, slot);
    void *record;

    if (!discard_changes(entry, first, count, state)) {
        return;
    }
    replica_touch(store, replica, region, req->sequence);
    for (uint32_t i = first; i < first + count; i++) {
        if (entry_state(entry, i) == DISK_BLOCK_SUSPECT) {
            store->suspects--;
            replica->suspects[region]--;
        }
    }
    if (state == DISK_BLOCK_ABSENT &&
        discard_leaves_nothing(store, entry, first, count)) {
        write_free(store, replica, slot, logical);
        return;
    }
    record = journal_append(store, sizeof(struct disk_state));
    record_state_make(record, slot, first, count, req->sequence, false, state);
    table_apply(store, record);
    replica_written(replica, &store->geometry, logical, req->sequence);
}

/* One logical slot; false: no room, later. */
static bool
discard_step(struct store *store, struct work *work)
{
    const struct geometry *geometry = &store->geometry;
    uint64_t start = work->logical * geometry->slot_blocks;
    uint32_t first = work->first > start ? (uint32_t)(work->first - start) : 0;
    uint64_t end = work->end - start;
    uint32_t slot;

    if (end > geometry->slot_blocks) {
        end = geometry->slot_blocks;
    }
    if (!journal_has_room(store, 128, JOURNAL_NORMAL)) {
        journal_drive_space(store);
        return false;
    }
    if (store->table.overlay_free_count == 0) {
        journal_urge(store);
        journal_drive_known(store, store->journal.head - 1);
        return false;
    }
    slot = index_find(store, work->replica->number, work->req->layer,
                      work->logical);
    if (slot == SLOT_NONE && work->req->discard_zero != 0) {
        CHECK(work->reserved != 0);
        work->reserved--;
        store->space.reserved--;
        slot = write_slot_make(store, work, work->logical);
    }
    if (slot != SLOT_NONE) {
        discard_slot(store, work, slot, work->logical, first,
                     (uint32_t)end - first);
    }
    work->logical++;
    return true;
}

/* Regions without slots need no look at each slot. */
static void
discard_skip(const struct store *store, struct work *work, uint64_t end)
{
    uint32_t region_slots = store->geometry.region_slots;

    while (work->req->discard_zero == 0 && work->logical < end &&
           work->replica->used[work->logical / region_slots] == 0) {
        work->logical = (work->logical / region_slots + 1) * region_slots;
    }
}

void
discard_try(struct store *store, struct work *work)
{
    uint64_t end = units_divide_up(work->end, store->geometry.slot_blocks);

    if (store->space_blocked) {
        work_to(store, work, WORK_WAITING);
        return;
    }
    if (!work->begun) {
        int result = discard_reserve(store, work);

        if (result < 0) {
            work_finish(store, work, result);
            return;
        }
        if (result == 0) {
            store->space_blocked = true;
            work_to(store, work, WORK_WAITING);
            return;
        }
        work->begun = true;
        work->logical = work->first / store->geometry.slot_blocks;
    }
    for (uint32_t i = 0; i < STORE_DISCARD_BATCH; i++) {
        discard_skip(store, work, end);
        if (work->logical >= end) {
            work->data_done = true;
            work_to(store, work, WORK_RUNNING);
            work_await_journal(store, work);
            return;
        }
        if (!discard_step(store, work)) {
            store->space_blocked = true;
            work_to(store, work, WORK_WAITING);
            return;
        }
    }
    /* More of it in the next turn. */
    work_to(store, work, WORK_WAITING);
    store->progress = true;
    journal_urge(store);
}
