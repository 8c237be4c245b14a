/* SPDX-License-Identifier: Apache-2.0 */

/* Replicas in memory: their entry, their regions, finding them by UUID, and
 * the removal of what they held.
 *
 * Removal: the entry becomes a tombstone (durable, then the request is
 * answered); slots are freed a bounded number a turn; then the region pages;
 * then the entry.  A crash midway leaves the tombstone, and the next open goes
 * on. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/store/internal.h"

int
replicas_init(struct store *store)
{
    struct replicas *replicas = &store->replicas;
    uint32_t buckets = 16;

    while (buckets < 2 * store->geometry.replicas_max) {
        buckets *= 2;
    }
    replicas->by_uuid_mask = buckets - 1;
    replicas->by_uuid = calloc(buckets, 4);
    replicas->slots =
        calloc(store->geometry.replicas_max, sizeof(struct replica *));
    replicas->page_owner = calloc(store->geometry.region_pages, 4);
    replicas->pages_free = store->geometry.region_pages;
    return replicas->by_uuid == NULL || replicas->slots == NULL ||
                   replicas->page_owner == NULL
               ? -ENOMEM
               : 0;
}

static void
replica_free(struct replica *replica)
{
    if (replica != NULL) {
        free(replica->touch);
        free(replica->written);
        free(replica->used);
        free(replica->suspects);
        free(replica->pages);
        free(replica);
    }
}

void
replicas_done(struct store *store)
{
    struct replicas *replicas = &store->replicas;

    if (replicas->slots != NULL) {
        for (uint32_t i = 0; i < store->geometry.replicas_max; i++) {
            replica_free(replicas->slots[i]);
        }
    }
    free(replicas->slots);
    free(replicas->by_uuid);
    free(replicas->page_owner);
    *replicas = (struct replicas){ 0 };
}

static uint32_t
uuid_bucket(const struct store *store, const struct weft_uuid *uuid)
{
    uint64_t words[2];
    uint64_t hash;

    memcpy(words, uuid->bytes, sizeof(words));
    hash = (words[0] ^ store->space.index_seed) * UINT64_C(0x9e3779b97f4a7c15);
    hash = (hash ^ (hash >> 32) ^ words[1]) * UINT64_C(0xd6e8feb86659fd93);
    return (uint32_t)(hash >> 32) & store->replicas.by_uuid_mask;
}

struct replica *
replica_at(const struct store *store, uint32_t number)
{
    if (number == 0 || number > store->geometry.replicas_max) {
        return NULL;
    }
    return store->replicas.slots[number - 1];
}

struct replica *
replica_find(const struct store *store, const struct weft_uuid *uuid)
{
    const struct replicas *replicas = &store->replicas;
    uint32_t at = uuid_bucket(store, uuid);

    while (replicas->by_uuid[at] != 0) {
        struct replica *replica = replicas->slots[replicas->by_uuid[at] - 1];

        if (uuid_equal(&replica->entry.replica, uuid)) {
            return replica;
        }
        at = (at + 1) & replicas->by_uuid_mask;
    }
    return NULL;
}

static void
uuid_put(struct store *store, const struct replica *replica)
{
    struct replicas *replicas = &store->replicas;
    uint32_t at = uuid_bucket(store, &replica->entry.replica);

    while (replicas->by_uuid[at] != 0) {
        at = (at + 1) & replicas->by_uuid_mask;
    }
    replicas->by_uuid[at] = replica->number;
}

static struct replica *
replica_new(struct store *store, uint32_t number, uint64_t size_blocks)
{
    struct replica *replica = calloc(1, sizeof(*replica));
    uint64_t regions = units_divide_up(size_blocks, STORE_REGION_BLOCKS);
    size_t parts = (size_t)units_divide_up(regions, DISK_REGIONS_PER_PAGE);

    if (replica == NULL) {
        return NULL;
    }
    replica->number = number;
    replica->regions = (uint32_t)regions;
    replica->touch = calloc(regions, sizeof(*replica->touch));
    replica->written = calloc(regions, sizeof(*replica->written));
    replica->used = calloc(regions, sizeof(*replica->used));
    replica->suspects = calloc(regions, sizeof(*replica->suspects));
    replica->pages = calloc(parts, sizeof(*replica->pages));
    list_init(&replica->gate);
    if (replica->touch == NULL || replica->written == NULL ||
        replica->used == NULL || replica->suspects == NULL ||
        replica->pages == NULL) {
        replica_free(replica);
        return NULL;
    }
    replica->in_use = true;
    store->replicas.slots[number - 1] = replica;
    store->replicas.count++;
    return replica;
}

static uint32_t
replica_parts(const struct replica *replica)
{
    return (uint32_t)units_divide_up(replica->regions, DISK_REGIONS_PER_PAGE);
}

/* Free in memory, and at F. */
static bool
number_is_free(const struct store *store, uint32_t number)
{
    return store->replicas.slots[number - 1] == NULL &&
           le32_get(table_replica(store, number)->state) == DISK_REPLICA_FREE;
}

uint32_t
replica_numbers_taken(const struct store *store)
{
    uint32_t taken = store->replicas.count;

    if (store->replicas.freed == 0 || store->replicas.slots == NULL) {
        return taken;
    }
    taken = 0;
    for (uint32_t i = 1; i <= store->geometry.replicas_max; i++) {
        taken += !number_is_free(store, i);
    }
    return taken;
}

int
replica_add(struct store *store, uint64_t size_blocks,
            const struct weft_uuid *uuid, struct replica **ret_replica)
{
    struct replicas *replicas = &store->replicas;
    uint64_t regions = units_divide_up(size_blocks, STORE_REGION_BLOCKS);
    uint64_t parts = units_divide_up(regions, DISK_REGIONS_PER_PAGE);
    struct replica *replica;
    uint32_t number = 1;
    uint32_t page = 0;

    while (number <= store->geometry.replicas_max &&
           !number_is_free(store, number)) {
        number++;
    }
    if (number > store->geometry.replicas_max || parts > replicas->pages_free) {
        return -ENOSPC;
    }
    replica = replica_new(store, number, size_blocks);
    if (replica == NULL) {
        return -ENOMEM;
    }
    replica->entry.replica = *uuid;
    for (uint32_t part = 0; part < parts; part++) {
        while (replicas->page_owner[page] != 0) {
            page++;
        }
        replicas->page_owner[page] = number;
        replica->pages[part] = page;
    }
    replicas->pages_free -= (uint32_t)parts;
    uuid_put(store, replica);
    *ret_replica = replica;
    return 0;
}

static int
replica_load_pages(struct store *store, struct replica *replica)
{
    const struct geometry *geometry = &store->geometry;
    uint32_t parts = replica_parts(replica);
    uint32_t found = 0;

    for (uint32_t i = 0; i < geometry->region_pages; i++) {
        const struct disk_page *page =
            &store->table.pages[geometry->replica_pages + i];
        uint32_t part = le32_get(page->part);

        if (le32_get(page->owner) != replica->number) {
            continue;
        }
        if (part >= parts || store->replicas.page_owner[i] != 0) {
            return -EUCLEAN;
        }
        store->replicas.page_owner[i] = replica->number;
        store->replicas.pages_free--;
        replica->pages[part] = i;
        found++;
        for (uint32_t j = 0; j < DISK_REGIONS_PER_PAGE; j++) {
            uint32_t region = part * DISK_REGIONS_PER_PAGE + j;
            struct le64 touch;

            if (region < replica->regions) {
                memcpy(&touch, &page->entries[(size_t)j * 8], sizeof(touch));
                replica->touch[region] = le64_get(touch);
                if (replica->touch[region] > replica->max_sequence) {
                    replica->max_sequence = replica->touch[region];
                }
            }
        }
    }
    /* A tombstone may have given some back already. */
    return found == parts ||
                   le32_get(replica->entry.state) == DISK_REPLICA_REMOVING
               ? 0
               : -EUCLEAN;
}

int
replica_load(struct store *store, uint32_t number)
{
    const struct disk_replica *entry = table_replica(store, number);
    uint64_t size_blocks = le64_get(entry->size_blocks);
    uint32_t state = le32_get(entry->state);
    struct replica *replica;

    if (state == DISK_REPLICA_FREE) {
        return 0;
    }
    if ((state != DISK_REPLICA_LIVE && state != DISK_REPLICA_REMOVING) ||
        size_blocks == 0 ||
        units_divide_up(size_blocks, STORE_REGION_BLOCKS) >
            (uint64_t)store->geometry.region_pages * DISK_REGIONS_PER_PAGE ||
        le32_get(entry->in_sync_count) > STORE_REPLICAS_MAX ||
        replica_find(store, &entry->replica) != NULL) {
        return -EUCLEAN;
    }
    replica = replica_new(store, number, size_blocks);
    if (replica == NULL) {
        return -ENOMEM;
    }
    replica->entry = *entry;
    replica->announced = true;
    uuid_put(store, replica);
    if (state == DISK_REPLICA_REMOVING) {
        replica->is_removing = true;
        store->replicas.removing++;
    }
    return replica_load_pages(store, replica);
}

void
replica_drop(struct store *store, struct replica *replica)
{
    struct replicas *replicas = &store->replicas;

    CHECK(list_is_empty(&replica->gate));
    for (uint32_t i = 0; i < store->geometry.region_pages; i++) {
        if (replicas->page_owner[i] == replica->number) {
            replicas->page_owner[i] = 0;
            replicas->pages_free++;
        }
    }
    replicas->slots[replica->number - 1] = NULL;
    replicas->count--;
    replica_free(replica);
    memset(replicas->by_uuid, 0, ((size_t)replicas->by_uuid_mask + 1) * 4);
    for (uint32_t i = 0; i < store->geometry.replicas_max; i++) {
        if (replicas->slots[i] != NULL) {
            uuid_put(store, replicas->slots[i]);
        }
    }
}

void
replica_log(struct store *store, struct replica *replica)
{
    record_replica_make(journal_append(store, sizeof(struct disk_replica_set)),
                        replica->number, &replica->entry);
    journal_urge(store);
}

void
replica_written(struct replica *replica, const struct geometry *geometry,
                uint64_t logical, uint64_t sequence)
{
    uint64_t region = logical / geometry->region_slots;

    if (sequence > replica->written[region]) {
        replica->written[region] = sequence;
    }
    if (sequence > replica->max_sequence) {
        replica->max_sequence = sequence;
    }
}

void
replica_touch(struct store *store, struct replica *replica, uint32_t region,
              uint64_t sequence)
{
    if (sequence > replica->max_sequence) {
        replica->max_sequence = sequence;
    }
    if (sequence <= replica->touch[region] ||
        planted(store, PLANTED_DISCARD_UNTOUCHED)) {
        return;
    }
    replica->touch[region] = sequence;
    record_region_make(journal_append(store, sizeof(struct disk_region)),
                       replica->number, region, sequence);
}

void
replica_count(struct store *store, const uint8_t *entry)
{
    struct replica *replica = replica_at(store, entry_owner(entry));
    uint64_t logical = le64_get(entry_slot_const(entry)->logical);
    uint64_t region = logical / store->geometry.region_slots;

    replica->used[region]++;
    replica->slots_used++;
    replica_written(replica, &store->geometry, logical, entry_sequence(entry));
    for (uint32_t i = 0; i < store->geometry.slot_blocks; i++) {
        if (entry_state(entry, i) == DISK_BLOCK_SUSPECT) {
            replica->suspects[region]++;
            store->suspects++;
        }
    }
}

/* ---- Removal ---- */

static void
remove_slot(struct store *store, struct replica *replica, uint32_t slot)
{
    struct disk_free *record;

    for (uint32_t i = 0; i < store->geometry.slot_blocks; i++) {
        if (entry_state(table_entry(store, slot), i) == DISK_BLOCK_SUSPECT) {
            store->suspects--;
        }
    }
    index_remove(store, slot);
    record = journal_append(store, sizeof(*record));
    record_free_make(record, slot);
    table_apply(store, &record->head);
    space_quarantine(store, slot, store->journal.head);
    replica->slots_used--;
}

/* True: all slots are gone. */
static bool
remove_slots(struct store *store, struct replica *replica)
{
    for (uint32_t i = 0; i < STORE_REMOVE_BATCH; i++) {
        uint32_t slot = replica->remove_cursor;

        if (slot == store->geometry.slots_total) {
            return true;
        }
        if (entry_owner(table_entry(store, slot)) == replica->number) {
            if (!journal_has_room(store, 8, JOURNAL_NORMAL) ||
                store->table.overlay_free_count <
                    store->table.overlay_count / 4) {
                journal_drive_space(store);
                journal_drive_known(store, store->journal.done);
                return false;
            }
            remove_slot(store, replica, slot);
        }
        replica->remove_cursor++;
    }
    journal_urge(store);
    store_kick(store);
    return false;
}

static bool
remove_pages(struct store *store, struct replica *replica)
{
    while (replica->remove_page < store->geometry.region_pages) {
        uint32_t page = replica->remove_page;

        if (store->replicas.page_owner[page] == replica->number) {
            if (!journal_has_room(store, sizeof(struct disk_region_page),
                                  JOURNAL_NORMAL)) {
                journal_drive_space(store);
                return false;
            }
            record_region_page_make(
                journal_append(store, sizeof(struct disk_region_page)), page, 0,
                0);
        }
        replica->remove_page++;
    }
    return true;
}

void
replica_remove_step(struct store *store)
{
    for (uint32_t i = 0;
         i < store->geometry.replicas_max && store->replicas.removing != 0;
         i++) {
        struct replica *replica = store->replicas.slots[i];

        if (replica == NULL || !replica->is_removing ||
            !list_is_empty(&replica->gate)) {
            continue;
        }
        if (!remove_slots(store, replica) || !remove_pages(store, replica)) {
            return;
        }
        if (!journal_has_room(store, sizeof(struct disk_replica_set),
                              JOURNAL_NORMAL)) {
            journal_drive_space(store);
            return;
        }
        replica->entry = (struct disk_replica){ 0 };
        replica_log(store, replica);
        store->replicas.freed = store->journal.head;
        store->replicas.removing--;
        store->progress = true;
        replica_drop(store, replica);
    }
}

void
replica_settle(struct store *store)
{
    const struct journal *journal = &store->journal;
    uint64_t freed = store->replicas.freed;

    if (freed == 0) {
        return;
    }
    if (journal->flushed >= freed) {
        store->replicas.freed = 0;
    } else if (journal->done < freed) {
        journal_urge(store);
    } else {
        flush_want_position(store, freed);
    }
}
