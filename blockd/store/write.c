/* SPDX-License-Identifier: Apache-2.0 */

/* WRITE and PUT_SLOT.
 *
 * First everything that may refuse or delay it is looked at, without changing
 * anything: slots (ENOSPC before any change), journal, overlays, hot marks
 * (S1), young blocks.  Then, in one go: slots are allocated, records appended,
 * the overlay brought up to date, and the data writes started, in parallel with
 * the journal block.  The gate keeps readers of these blocks away until both
 * are done.
 *
 * Young blocks.  Recovery knows F only by the headers of the journal, as
 * F_known.  If a block became data after F_known, then {invalid} is still a
 * candidate of it for recovery, and an overwrite that lands without its intent
 * would be judged invalid, though the data before may have been flushed, or
 * acknowledged to a living guest.  So such an overwrite waits until F_known has
 * passed the first write.
 *
 * A data write that finds no space (thin file): blocks without bytes before are
 * as before, the others suspect; a new slot that ends up empty is freed. */

#include <errno.h>
#include <string.h>

#include "blockd/store/internal.h"
#include "lib/base/crc32c.h"

static bool
write_has_data(const struct store_req *req, uint32_t offset)
{
    return req->opcode == STORE_WRITE ||
           req->states[offset] == STORE_BLOCK_DATA;
}

int
write_check(const struct store *store, const struct store_req *req)
{
    uint32_t slot_blocks = store->geometry.slot_blocks;

    if (req->opcode == STORE_PUT_SLOT) {
        uint64_t left = slot_blocks;

        if (req->block % slot_blocks != 0 || req->block_count != left) {
            return -EINVAL;
        }
    }
    for (uint32_t i = 0; i < req->block_count; i++) {
        if (req->opcode == STORE_PUT_SLOT &&
            req->states[i] > STORE_BLOCK_ZERO) {
            return -EINVAL;
        }
        if (!req->crcs_hold && write_has_data(req, i) &&
            crc32c(0, req->data + (size_t)i * WEFT_BLOCK_SIZE,
                   WEFT_BLOCK_SIZE) != req->crcs[i]) {
            return -EBADMSG;
        }
    }
    return 0;
}

/* ---- Looking ---- */

struct write_needs {
    uint32_t slots, overlays, bytes;
    uint64_t young_position;
    uint32_t extents[STORE_SEGMENTS_MAX];
    uint32_t extents_count;
};

static void
needs_extent(struct write_needs *needs, uint32_t extent)
{
    for (uint32_t i = 0; i < needs->extents_count; i++) {
        if (needs->extents[i] == extent) {
            return;
        }
    }
    needs->extents[needs->extents_count++] = extent;
}

/* Overwriting bytes that count, or counted at F_known? */
static void
needs_overwrite(const struct store *store, const struct work *work,
                const struct segment *segment, uint32_t slot,
                struct write_needs *needs)
{
    const struct overlay *overlay = table_overlay(store, slot);
    const uint8_t *entry = table_entry(store, slot);

    for (uint32_t i = 0; i < segment->count; i++) {
        uint32_t block = segment->first + i;
        enum disk_block_state state = entry_state(entry, block);
        bool has_bytes =
            state == DISK_BLOCK_DATA || state == DISK_BLOCK_SUSPECT;

        if (!write_has_data(work->req, segment->offset + i)) {
            continue;
        }
        if (has_bytes || (overlay != NULL &&
                          (overlay->was_data[block / 8] >> (block % 8) & 1))) {
            needs_extent(needs, geometry_slot_extent(&store->geometry, slot));
        }
        if (has_bytes && overlay != NULL &&
            (overlay->young[block / 8] >> (block % 8) & 1) != 0 &&
            overlay->young_position > needs->young_position) {
            needs->young_position = overlay->young_position;
        }
    }
}

static void
needs_of(const struct store *store, const struct work *work,
         struct write_needs *needs)
{
    const struct store_req *req = work->req;
    uint32_t offset = 0;

    memset(needs, 0, offsetof(struct write_needs, extents));
    needs->extents_count = 0;
    while (offset < req->block_count) {
        struct segment segment = work_segment(store, work, offset);
        uint32_t slot = index_find(store, work->replica->number, req->layer,
                                   segment.logical);

        needs->bytes +=
            (uint32_t)sizeof(struct disk_alloc) + 12 + segment.count * 4;
        /* PUT: as many records as there are runs. */
        needs->bytes +=
            req->opcode == STORE_WRITE
                ? (uint32_t)sizeof(struct disk_intent)
                : (segment.count + 1) * (uint32_t)sizeof(struct disk_state);
        if (slot == SLOT_NONE) {
            needs->slots++;
            needs->overlays++;
        } else {
            needs->overlays += table_overlay(store, slot) == NULL;
            needs_overwrite(store, work, &segment, slot, needs);
        }
        offset += segment.count;
    }
    needs->bytes += needs->extents_count * 8;
}

int
write_slots_available(struct store *store, uint32_t needed)
{
    struct space *space = &store->space;

    if (needed <= space->free_count - space->reserved) {
        return 1;
    }
    if (needed <=
            space->free_count - space->reserved + space->quarantine_count ||
        store->replicas.removing != 0) {
        journal_urge(store);
        if (store->is_volatile &&
            store->journal.written > store->journal.durable) {
            flush_want_position(store, store->journal.written);
        }
        return 0;
    }
    return -ENOSPC;
}

static bool
write_space(struct store *store, const struct write_needs *needs)
{
    bool ok = true;

    if (!journal_has_room(store, needs->bytes, JOURNAL_NORMAL)) {
        journal_drive_space(store);
        ok = false;
    }
    if (needs->overlays > store->table.overlay_free_count) {
        journal_drive_known(store, store->journal.head - 1);
        journal_urge(store);
        ok = false;
    }
    return ok;
}

/* ---- Doing ---- */

static void
write_append_run(struct store *store, struct work *work, uint32_t slot,
                 const struct segment *segment, uint32_t from, uint32_t to)
{
    struct store_req *req = work->req;
    bool exact = req->opcode == STORE_PUT_SLOT;
    uint32_t first = segment->first + from;
    uint32_t count = to - from;
    uint32_t bytes;
    void *record;

    if (write_has_data(req, segment->offset + from)) {
        bytes = record_intent_bytes(count);
        record = journal_append(store, bytes);
        record_intent_make(record, slot, first, count, req->sequence, exact,
                           &req->crcs[segment->offset + from]);
    } else {
        record = journal_append(store, sizeof(struct disk_state));
        record_state_make(record, slot, first, count, req->sequence, exact,
                          (enum disk_block_state)
                              req->states[segment->offset + from]);
    }
    if (work->position_first == 0) {
        work->position_first = store->journal.head;
    }
    table_apply(store, record);
}

static uint8_t
run_kind(const struct store_req *req, uint32_t offset)
{
    return req->opcode == STORE_WRITE ? (uint8_t)STORE_BLOCK_DATA
                                      : req->states[offset];
}

static void
write_note_suspects(struct store *store, struct work *work, uint32_t slot,
                    const struct segment *segment)
{
    const uint8_t *entry = table_entry(store, slot);
    uint64_t region = segment->logical / store->geometry.region_slots;

    for (uint32_t i = 0; i < segment->count; i++) {
        enum disk_block_state state = entry_state(entry, segment->first + i);

        work->undo_states[segment->offset + i] = (uint8_t)state;
        if (state == DISK_BLOCK_SUSPECT) {
            store->suspects--;
            work->replica->suspects[region]--;
        }
    }
}

uint32_t
write_slot_make(struct store *store, struct work *work, uint64_t logical)
{
    uint32_t slot = space_take(store);
    void *record = journal_append(store, sizeof(struct disk_alloc));

    record_alloc_make(record, slot, work->replica->number, work->req->layer,
                      logical);
    if (work->position_first == 0) {
        work->position_first = store->journal.head;
    }
    table_apply(store, record);
    index_put(store, slot);
    work->replica->used[logical / store->geometry.region_slots]++;
    work->replica->slots_used++;
    return slot;
}

static void
write_segment(struct store *store, struct work *work,
              const struct segment *segment)
{
    struct store_req *req = work->req;
    uint32_t slot =
        index_find(store, work->replica->number, req->layer, segment->logical);
    uint32_t from = 0;

    if (slot == SLOT_NONE) {
        slot = write_slot_make(store, work, segment->logical);
    }
    write_note_suspects(store, work, slot, segment);
    while (from < segment->count) {
        uint32_t to = from + 1;

        while (to < segment->count &&
               run_kind(req, segment->offset + to) ==
                   run_kind(req, segment->offset + from)) {
            to++;
        }
        write_append_run(store, work, slot, segment, from, to);
        from = to;
    }
    store->hot.last[geometry_slot_extent(&store->geometry, slot)] =
        store->journal.head;
    replica_written(work->replica, &store->geometry, segment->logical,
                    req->sequence);
}

void
write_free(struct store *store, struct replica *replica, uint32_t slot,
           uint64_t logical)
{
    void *record;

    index_remove(store, slot);
    record = journal_append(store, sizeof(struct disk_free));
    record_free_make(record, slot);
    table_apply(store, record);
    space_quarantine(store, slot, store->journal.head);
    replica->used[logical / store->geometry.region_slots]--;
    replica->slots_used--;
}

static void
write_go(struct store *store, struct work *work)
{
    struct store_req *req = work->req;
    uint32_t offset = 0;

    work->position_first = 0;
    while (offset < req->block_count) {
        struct segment segment = work_segment(store, work, offset);

        write_segment(store, work, &segment);
        offset += segment.count;
    }
    journal_at(store, work->position_first)->pending++;
    work_to(store, work, WORK_RUNNING);
    work_await_journal(store, work);
    work->cursor = 0;
    work_issue(store, work);
    if (work->ops_pending == 0 && !work->starved) {
        write_settled(store, work);
    }
}

/* A slot that is put as nothing: freed, and the region says so (S4). */
static bool
put_is_nothing(const struct store_req *req)
{
    if (req->opcode != STORE_PUT_SLOT) {
        return false;
    }
    for (uint32_t i = 0; i < req->block_count; i++) {
        if (req->states[i] != STORE_BLOCK_ABSENT) {
            return false;
        }
    }
    return true;
}

static void
put_nothing(struct store *store, struct work *work)
{
    struct store_req *req = work->req;
    struct segment segment = work_segment(store, work, 0);
    uint32_t slot =
        index_find(store, work->replica->number, req->layer, segment.logical);

    uint32_t region =
        (uint32_t)(segment.logical / store->geometry.region_slots);

    /* Where there is no slot, the region is still to be touched: what is absent
     * at the source was perhaps discarded there, and this replica may become a
     * source in its turn (S4). */
    if (slot == SLOT_NONE && req->sequence <= work->replica->touch[region]) {
        work_finish(store, work, 0);
        return;
    }
    work->position_first = store->journal.head;
    if (slot != SLOT_NONE) {
        write_note_suspects(store, work, slot, &segment);
    }
    replica_touch(store, work->replica, region, req->sequence);
    if (slot != SLOT_NONE) {
        write_free(store, work->replica, slot, segment.logical);
    }
    work->data_done = true;
    work_to(store, work, WORK_RUNNING);
    work_await_journal(store, work);
}

static void write_undo(struct store *store, struct work *work);

void
write_try(struct store *store, struct work *work)
{
    struct write_needs needs;
    bool wait = false;
    int slots;

    if (work->error == -ENOSPC) {
        write_undo(store, work);
        return;
    }
    needs_of(store, work, &needs);
    needs.bytes += 64;
    if (store->space_blocked) {
        work_to(store, work, WORK_WAITING);
        return;
    }
    slots = put_is_nothing(work->req)
                ? 1
                : write_slots_available(store, needs.slots);
    if (slots < 0) {
        work_finish(store, work, slots);
        return;
    }
    if (slots == 0 || !write_space(store, &needs)) {
        store->space_blocked = true;
        work_to(store, work, WORK_WAITING);
        return;
    }
    if (put_is_nothing(work->req)) {
        put_nothing(store, work);
        return;
    }
    for (uint32_t i = 0; i < needs.extents_count; i++) {
        wait |= !hot_ready(store, needs.extents[i]);
    }
    if (needs.young_position > store->journal.flushed_known &&
        !planted(store, PLANTED_NO_YOUNG_BARRIER)) {
        journal_drive_known(store, needs.young_position);
        wait = true;
    }
    if (wait) {
        work_to(store, work, WORK_WAITING);
        return;
    }
    write_go(store, work);
}

bool
write_next_run(const struct store *store, struct work *work,
               uint32_t *ret_first, uint32_t *ret_count, uint64_t *ret_block)
{
    const struct store_req *req = work->req;
    uint32_t first = work->cursor;
    uint32_t end;
    uint64_t start = 0;

    while (first < req->block_count && !write_has_data(req, first)) {
        first++;
    }
    for (end = first; end < req->block_count && write_has_data(req, end);) {
        struct segment segment = work_segment(store, work, end);
        uint32_t slot = index_find(store, work->replica->number, req->layer,
                                   segment.logical);
        uint64_t block;
        uint32_t i = 0;

        CHECK(slot != SLOT_NONE);
        block = geometry_slot_block(&store->geometry, slot) + segment.first;
        if (end == first) {
            start = block;
        } else if (block != start + (end - first)) {
            break;
        }
        while (i < segment.count && write_has_data(req, end + i)) {
            i++;
        }
        end += i;
        if (i < segment.count) {
            break;
        }
    }
    *ret_first = first;
    *ret_count = end - first;
    *ret_block = start;
    return end > first;
}

/* All device writes have ended. */
void
write_settled(struct store *store, struct work *work)
{
    if (work->error == -ENOSPC && work->state != WORK_UNDO) {
        write_undo(store, work);
        return;
    }
    if (work->error == -EIO) {
        return; /* The store is failing: it ends all. */
    }
    journal_data_done(store, work->position_first);
    work->data_done = true;
    store_kick(store);
    if (work->journaled) {
        work_finish(store, work, 0);
    }
}

void
write_sound(struct store *store, const struct work *work)
{
    const struct store_req *req = work->req;
    uint32_t offset = 0;

    while (req->opcode != STORE_DISCARD && offset < req->block_count) {
        struct segment segment = work_segment(store, work, offset);
        uint32_t slot = index_find(store, work->replica->number, req->layer,
                                   segment.logical);

        for (uint32_t i = 0; slot != SLOT_NONE && i < segment.count; i++) {
            if (write_has_data(req, offset + i)) {
                hot_sound(store, (uint64_t)slot * store->geometry.slot_blocks +
                                     segment.first + i);
            }
        }
        offset += segment.count;
    }
}

/* ---- A full thin file ---- */

/* Puts back one segment; true if the caller's blocks are all as before. */
static bool
undo_segment(struct store *store, struct work *work,
             const struct segment *segment)
{
    struct store_req *req = work->req;
    uint32_t slot =
        index_find(store, work->replica->number, req->layer, segment->logical);
    uint64_t region = segment->logical / store->geometry.region_slots;
    bool clean = true;

    CHECK(slot != SLOT_NONE);
    for (uint32_t i = 0; i < segment->count; i++) {
        uint8_t before = work->undo_states[segment->offset + i];
        enum disk_block_state state = (enum disk_block_state)before;
        void *record;

        if (before == DISK_BLOCK_DATA || before == DISK_BLOCK_SUSPECT) {
            state = DISK_BLOCK_SUSPECT;
            store->suspects++;
            work->replica->suspects[region]++;
            clean = false;
        }
        record = journal_append(store, sizeof(struct disk_state));
        record_state_make(record, slot, segment->first + i, 1, req->sequence,
                          false, state);
        table_apply(store, record);
    }
    /* Whoever it was that took it: of several writes into a new slot, the last
     * one to be undone frees it. */
    if (entry_is_empty(&store->geometry, table_entry(store, slot))) {
        write_free(store, work->replica, slot, segment->logical);
    }
    return clean;
}

/* The position of the first record stays pending until what takes it back is
 * in the journal, so that F cannot come between the two. */
static void
write_undo(struct store *store, struct work *work)
{
    struct store_req *req = work->req;
    uint32_t bytes = req->block_count * (uint32_t)sizeof(struct disk_state) +
                     STORE_SEGMENTS_MAX * 8;
    uint32_t offset = 0;
    bool clean = true;

    if (!journal_has_room(store, bytes, JOURNAL_SPARE)) {
        store_fail(store, -EIO);
        return;
    }
    while (offset < req->block_count) {
        struct segment segment = work_segment(store, work, offset);

        clean &= undo_segment(store, work, &segment);
        offset += segment.count;
    }
    list_remove(&work->ack_node);
    work_to(store, work, WORK_UNDO);
    work->error = clean ? -ENOSPC : -EIO;
    work->begun = true;
    work_await_journal(store, work);
}
