/* SPDX-License-Identifier: Apache-2.0 */

/* STORAGE (a): for each block with records beyond F, what does the disk hold?
 *
 * The candidates are its state at F and each later state, those of blocks
 * beyond a hole in the journal included.  From the newest to the oldest:
 *
 *   beyond the hole     DATA counts if its CRC matches
 *   in the prefix, F    DATA counts if its CRC matches; ABSENT, ZERO and
 *                       SUSPECT need no bytes, so the newest of them counts
 *   beyond the hole     ABSENT or ZERO, if nothing else did
 *   else                SUSPECT if the extent was hot, or else rot: DATA with a
 *                       CRC that the disk does not have
 *
 * What counts from beyond the hole makes the slot as new as its record, and a
 * discard touches the region, as if it had been replayed: other replicas may
 * have nothing of it, and must see that something is news (S4).
 *
 * "Newest first" matters: the bytes under a durable discard still match the
 * data before it.  A slot that changed hands has no candidates from before
 * that (S2). */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/store/recover.h"
#include "lib/base/crc32c.h"

static int
judge_push(struct judge *judge, const struct judge_item *item)
{
    if (judge->count == judge->capacity) {
        size_t capacity = judge->capacity == 0 ? 4096 : 2 * judge->capacity;
        struct judge_item *items =
            realloc(judge->items, capacity * sizeof(*items));

        if (items == NULL) {
            return -ENOMEM;
        }
        judge->items = items;
        judge->capacity = capacity;
    }
    judge->items[judge->count++] = *item;
    return 0;
}

static int
note_block(struct store *store, struct judge *judge,
           const struct disk_record *record, bool window, uint32_t slot,
           uint32_t block, uint32_t crc)
{
    const uint8_t *entry = table_page_entry(store, slot);
    const struct disk_state *state = (const void *)record;
    struct judge_item item = {
        .slot = slot,
        .order = judge->order++,
        .block = (uint16_t)block,
        .window = window,
    };

    if (window) {
        item.kind = JUDGE_WINDOW;
        item.sequence = le64_get(state->sequence);
        item.crc = crc;
        item.state = record->type == DISK_RECORD_INTENT
                         ? (uint8_t)DISK_BLOCK_DATA
                         : (uint8_t)le32_get(state->state);
    } else {
        item.kind = JUDGE_BEFORE;
        item.state = (uint8_t)entry_state(entry, block);
        item.crc = entry_crc(&store->geometry, entry, block);
    }
    return judge_push(judge, &item);
}

int
judge_note(struct store *store, struct judge *judge,
           const struct disk_record *record, bool window)
{
    const struct disk_intent *intent = (const void *)record;
    const uint8_t *crcs = (const uint8_t *)record + sizeof(*intent);
    uint32_t slot;
    uint32_t first;
    uint32_t count;

    if (!record_slot(record, &slot)) {
        return 0;
    }
    if (record->type == DISK_RECORD_ALLOC || record->type == DISK_RECORD_FREE) {
        struct judge_item item = {
            .slot = slot,
            .order = judge->order++,
            .kind = JUDGE_RESET,
            .window = window,
        };
        return judge_push(judge, &item);
    }
    /* INTENT and STATE begin alike. */
    first = le16_get(intent->first);
    count = le16_get(intent->count);
    for (uint32_t i = 0; i < count; i++) {
        struct le32 crc = le32_make(0);
        int result;

        if (record->type == DISK_RECORD_INTENT) {
            memcpy(&crc, crcs + (size_t)i * 4, sizeof(crc));
        }
        result = note_block(store, judge, record, window, slot, first + i,
                            le32_get(crc));
        if (result != 0) {
            return result;
        }
    }
    return 0;
}

static int
item_compare(const void *a, const void *b)
{
    const struct judge_item *x = a;
    const struct judge_item *y = b;

    if (x->slot != y->slot) {
        return x->slot < y->slot ? -1 : 1;
    }
    return x->order < y->order ? -1 : x->order > y->order;
}

/* ---- One slot ---- */

/* Cuts [*first, *end) down to the items of the slot's present owner. */
static void
group_trim(const struct judge *judge, size_t *first, size_t *end)
{
    size_t start = *first;

    for (size_t i = *first; i < *end; i++) {
        const struct judge_item *item = &judge->items[i];

        if (item->kind != JUDGE_RESET) {
            continue;
        }
        if (item->window) {
            *end = i;
            break;
        }
        start = i + 1;
    }
    *first = start;
}

static bool
is_data(uint8_t state)
{
    return state == DISK_BLOCK_DATA;
}

/* The state that a record beyond the hole would have made. */
static void
judge_apply_window(struct store *store, uint32_t slot,
                   const struct judge_item *item)
{
    uint8_t *entry = table_page_entry(store, slot);

    entry_state_set(entry, item->block, (enum disk_block_state)item->state);
    entry_crc_set(&store->geometry, entry, item->block, item->crc);
    if (!is_data(item->state) && planted(store, PLANTED_WINDOW_OLD)) {
        return;
    }
    if (item->sequence > entry_sequence(entry)) {
        entry_slot(entry)->sequence = le64_make(item->sequence);
    }
    if (!is_data(item->state)) {
        uint64_t logical = le64_get(entry_slot(entry)->logical);

        table_touch(store, entry_owner(entry),
                    (uint32_t)(logical / store->geometry.region_slots),
                    item->sequence);
    }
}

/* Whether content with 'crc' is the newest candidate that fits; applies it. */
static void
judge_block(struct store *store, const struct judge *judge,
            const struct judge_op *group, uint32_t block, bool readable,
            uint32_t crc)
{
    const struct geometry *geometry = &store->geometry;
    uint8_t *entry = table_page_entry(store, group->slot);
    uint8_t last_state = (uint8_t)entry_state(entry, block);
    const struct judge_item *fallback = NULL;
    uint32_t extent = geometry_slot_extent(geometry, group->slot);
    bool invalid = false;

    for (size_t i = group->end; i-- > group->first;) {
        const struct judge_item *item = &judge->items[i];

        if (item->block != block || item->kind != JUDGE_WINDOW) {
            continue;
        }
        if (is_data(item->state) && readable && item->crc == crc) {
            judge_apply_window(store, group->slot, item);
            return;
        }
        if (!is_data(item->state) && fallback == NULL) {
            fallback = item;
        }
    }
    if ((!is_data(last_state) && !planted(store, PLANTED_OLDEST_FIRST)) ||
        (readable && entry_crc(geometry, entry, block) == crc)) {
        return;
    }
    for (size_t i = group->end; i-- > group->first;) {
        const struct judge_item *item = &judge->items[i];

        if (item->block != block || item->kind != JUDGE_BEFORE) {
            continue;
        }
        if (!is_data(item->state)) {
            fallback = item;
            invalid = true;
            if (planted(store, PLANTED_OLDEST_FIRST)) {
                continue;
            }
            break;
        }
        if (readable && item->crc == crc) {
            entry_state_set(entry, block, DISK_BLOCK_DATA);
            entry_crc_set(geometry, entry, block, crc);
            return;
        }
    }
    if (invalid && planted(store, PLANTED_ADOPT_FOREIGN)) {
        fallback = NULL;
    }
    if (fallback != NULL && fallback->kind == JUDGE_WINDOW) {
        judge_apply_window(store, group->slot, fallback);
    } else if (fallback != NULL) {
        entry_state_set(entry, block, (enum disk_block_state)fallback->state);
        entry_crc_set(geometry, entry, block, 0);
    } else if (store->hot.crashed[extent] != 0 ||
               (invalid && planted(store, PLANTED_ADOPT_FOREIGN))) {
        entry_state_set(entry, block, DISK_BLOCK_SUSPECT);
        entry_crc_set(geometry, entry, block, 0);
    } else {
        store->bad++;
    }
}

static void
judge_group(struct store *store, struct judge *judge,
            const struct judge_op *group)
{
    uint8_t *entry = table_page_entry(store, group->slot);
    uint8_t seen[DISK_SLOT_BLOCKS_MAX] = { 0 };

    for (size_t i = group->first; i < group->end; i++) {
        seen[judge->items[i].block] = 1;
    }
    for (uint32_t block = group->block_first; block < group->block_end;
         block++) {
        if (seen[block] != 0) {
            const uint8_t *bytes =
                group->buffer +
                (size_t)(block - group->block_first) * WEFT_BLOCK_SIZE;

            judge_block(store, judge, group, block, !group->unreadable[block],
                        crc32c(0, bytes, WEFT_BLOCK_SIZE));
        }
    }
    if (entry_is_empty(&store->geometry, entry)) {
        memset(entry, 0, store->geometry.entry_bytes);
    }
    table_page_dirty(store, geometry_slot_page(&store->geometry, group->slot));
}

/* ---- Reading ---- */

static void judge_advance(struct recover *recover);

static void
judge_read(struct judge_op *group)
{
    struct store *store = group->recover->store;
    uint32_t first = group->single ? group->single_next : group->block_first;
    uint32_t end = group->single ? first + 1 : group->block_end;

    group->op.file = store->file;
    group->op.kind = IO_FILE_READ;
    group->op.size_bytes = (end - first) * WEFT_BLOCK_SIZE;
    group->op.offset_bytes =
        (geometry_slot_block(&store->geometry, group->slot) + first) *
        WEFT_BLOCK_SIZE;
    group->op.data =
        group->buffer + (size_t)(first - group->block_first) * WEFT_BLOCK_SIZE;
    store->io_pending++;
    io_file_start(store->io, &group->op);
}

static void
judge_op_done(struct io_op *op, int result)
{
    struct io_file_op *file_op = container_of(op, struct io_file_op, op);
    struct judge_op *group = container_of(file_op, struct judge_op, op);
    struct recover *recover = group->recover;
    struct store *store = recover->store;

    store->io_pending--;
    if (!group->single && result != 0) {
        group->single = true;
        group->single_next = group->block_first;
        judge_read(group);
        return;
    }
    if (group->single) {
        group->unreadable[group->single_next] = result != 0;
        group->single_next++;
        if (group->single_next < group->block_end) {
            judge_read(group);
            return;
        }
    }
    judge_group(store, &recover->judge, group);
    group->busy = false;
    recover->judge.in_flight--;
    judge_advance(recover);
}

/* Takes the next slot's items; false if there is nothing to read for them. */
static bool
judge_take(struct recover *recover, struct judge_op *group)
{
    struct store *store = recover->store;
    struct judge *judge = &recover->judge;
    size_t first = judge->next;
    size_t end = first;

    while (end < judge->count &&
           judge->items[end].slot == judge->items[first].slot) {
        end++;
    }
    judge->next = end;
    group->slot = judge->items[first].slot;
    group_trim(judge, &first, &end);
    group->first = first;
    group->end = end;
    if (first >= end ||
        entry_owner(table_page_entry(store, group->slot)) == 0) {
        return false;
    }
    group->block_first = store->geometry.slot_blocks;
    group->block_end = 0;
    for (size_t i = first; i < end; i++) {
        uint32_t block = judge->items[i].block;

        if (judge->items[i].kind == JUDGE_RESET) {
            continue;
        }
        if (block < group->block_first) {
            group->block_first = block;
        }
        if (block + 1 > group->block_end) {
            group->block_end = block + 1;
        }
    }
    return group->block_first < group->block_end;
}

static void
judge_advance(struct recover *recover)
{
    struct judge *judge = &recover->judge;

    for (uint32_t i = 0; i < JUDGE_DEPTH && judge->next < judge->count; i++) {
        struct judge_op *group = &judge->ops[i];

        if (group->busy) {
            continue;
        }
        while (judge->next < judge->count) {
            if (judge_take(recover, group)) {
                group->busy = true;
                group->single = false;
                memset(group->unreadable, 0, sizeof(group->unreadable));
                judge->in_flight++;
                judge_read(group);
                break;
            }
        }
    }
    if (judge->in_flight == 0 && judge->next == judge->count) {
        recover_judged(recover, 0);
    }
}

void
judge_start(struct recover *recover)
{
    struct judge *judge = &recover->judge;
    size_t slot_bytes =
        (size_t)recover->store->geometry.slot_blocks * WEFT_BLOCK_SIZE;

    if (judge->count == 0) {
        recover_judged(recover, 0);
        return;
    }
    qsort(judge->items, judge->count, sizeof(*judge->items), item_compare);
    judge->buffers = aligned_alloc(WEFT_BLOCK_SIZE, JUDGE_DEPTH * slot_bytes);
    if (judge->buffers == NULL) {
        recover_judged(recover, -ENOMEM);
        return;
    }
    for (uint32_t i = 0; i < JUDGE_DEPTH; i++) {
        judge->ops[i] = (struct judge_op){
            .op = { .op = { .done = judge_op_done } },
            .recover = recover,
            .buffer = judge->buffers + i * slot_bytes,
        };
    }
    judge_advance(recover);
}
