/* SPDX-License-Identifier: Apache-2.0 */

/* Which slot holds what, and which are free.
 *
 * The index maps (replica, layer, logical slot) to a slot: open addressing,
 * linear probing, removal without tombstones; its memory is sized at open.
 * Free slots are a bitmap, taken in ascending order so that what is written in
 * sequence lies in sequence.  A freed slot goes through quarantine until the
 * record that freed it is durable (S2). */

#include <errno.h>
#include <stdlib.h>

#include "blockd/store/internal.h"

#define QUARANTINE_PER_BLOCK (DISK_RECORDS_BYTES / 8)

static uint64_t
index_hash(const struct store *store, uint32_t replica, uint32_t layer,
           uint64_t logical)
{
    uint64_t hash = store->space.index_seed;

    hash = (hash ^ logical) * UINT64_C(0x9e3779b97f4a7c15);
    hash = (hash ^ (hash >> 32) ^ ((uint64_t)replica << 32 | layer)) *
           UINT64_C(0xd6e8feb86659fd93);
    return (hash ^ (hash >> 32)) & store->space.index_mask;
}

static uint64_t
index_home(const struct store *store, uint32_t slot)
{
    const struct disk_slot *entry = entry_slot_const(table_entry(store, slot));

    return index_hash(store, le32_get(entry->replica), le32_get(entry->layer),
                      le64_get(entry->logical));
}

int
space_init(struct store *store)
{
    struct space *space = &store->space;
    uint32_t slots = store->geometry.slots_total;
    uint64_t buckets = 16;
    uint64_t most =
        (uint64_t)(store->geometry.window + 2) * QUARANTINE_PER_BLOCK;

    while (buckets < slots + (uint64_t)slots / 2) {
        buckets *= 2;
    }
    space->index_mask = buckets - 1;
    space->index_seed = io_random_u64(store->io);
    space->index = calloc(buckets, 4);
    space->free_map = calloc(slots / 64 + 1, 8);
    space->quarantine_size = most > slots ? slots : (uint32_t)most;
    space->quarantine =
        calloc(space->quarantine_size, sizeof(*space->quarantine));
    return space->index == NULL || space->free_map == NULL ||
                   space->quarantine == NULL
               ? -ENOMEM
               : 0;
}

void
space_done(struct store *store)
{
    free(store->space.index);
    free(store->space.free_map);
    free(store->space.quarantine);
    store->space = (struct space){ 0 };
}

uint32_t
index_find(const struct store *store, uint32_t replica, uint32_t layer,
           uint64_t logical)
{
    const struct space *space = &store->space;
    uint64_t at = index_hash(store, replica, layer, logical);

    while (space->index[at] != 0) {
        uint32_t slot = space->index[at] - 1;
        const struct disk_slot *entry =
            entry_slot_const(table_entry(store, slot));

        if (le64_get(entry->logical) == logical &&
            le32_get(entry->replica) == replica &&
            le32_get(entry->layer) == layer) {
            return slot;
        }
        at = (at + 1) & space->index_mask;
    }
    return SLOT_NONE;
}

void
index_put(struct store *store, uint32_t slot)
{
    struct space *space = &store->space;
    uint64_t at = index_home(store, slot);

    while (space->index[at] != 0) {
        CHECK(space->index[at] != slot + 1);
        at = (at + 1) & space->index_mask;
    }
    space->index[at] = slot + 1;
}

void
index_remove(struct store *store, uint32_t slot)
{
    struct space *space = &store->space;
    uint64_t hole = index_home(store, slot);
    uint64_t at;

    while (space->index[hole] != slot + 1) {
        CHECK(space->index[hole] != 0);
        hole = (hole + 1) & space->index_mask;
    }
    space->index[hole] = 0;
    at = hole;
    for (;;) {
        uint64_t home;

        at = (at + 1) & space->index_mask;
        if (space->index[at] == 0) {
            return;
        }
        home = index_home(store, space->index[at] - 1);
        /* It may move to the hole if its home is not between the two. */
        if (((at - home) & space->index_mask) >=
            ((at - hole) & space->index_mask)) {
            space->index[hole] = space->index[at];
            space->index[at] = 0;
            hole = at;
        }
    }
}

uint32_t
space_take(struct store *store)
{
    struct space *space = &store->space;
    uint32_t words = store->geometry.slots_total / 64 + 1;

    CHECK(space->free_count != 0);
    for (uint32_t i = 0; i <= words; i++) {
        uint32_t word = (space->cursor / 64 + i) % words;
        uint64_t bits = space->free_map[word];

        if (i == 0) {
            bits &= ~UINT64_C(0) << (space->cursor % 64);
        }
        if (bits != 0) {
            uint32_t slot = word * 64 + (uint32_t)__builtin_ctzll(bits);

            space->free_map[word] &= ~(UINT64_C(1) << (slot % 64));
            space->free_count--;
            space->cursor = slot;
            return slot;
        }
    }
    CHECK(false);
    return SLOT_NONE;
}

void
space_release(struct store *store, uint32_t slot)
{
    struct space *space = &store->space;
    uint64_t bit = UINT64_C(1) << (slot % 64);

    CHECK((space->free_map[slot / 64] & bit) == 0);
    CHECK(entry_owner(table_entry(store, slot)) == 0);
    space->free_map[slot / 64] |= bit;
    space->free_count++;
}

void
space_quarantine(struct store *store, uint32_t slot, uint64_t position)
{
    struct space *space = &store->space;
    uint32_t last;

    if (planted(store, PLANTED_REUSE_AT_ONCE)) {
        space_release(store, slot);
        return;
    }
    CHECK(space->quarantine_count < space->quarantine_size);
    last = (space->quarantine_first + space->quarantine_count) %
           space->quarantine_size;
    space->quarantine[last] =
        (struct quarantined){ .slot = slot, .position = position };
    space->quarantine_count++;
}

bool
space_settle(struct store *store)
{
    struct space *space = &store->space;
    bool moved = false;

    while (space->quarantine_count != 0) {
        const struct quarantined *first =
            &space->quarantine[space->quarantine_first];

        if (first->position > store->journal.durable) {
            break;
        }
        space_release(store, first->slot);
        space->quarantine_first =
            (space->quarantine_first + 1) % space->quarantine_size;
        space->quarantine_count--;
        moved = true;
    }
    return moved;
}
