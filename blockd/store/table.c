/* SPDX-License-Identifier: Apache-2.0 */

/* The slot table (and its sister pages) in memory.
 *
 * 'pages' hold the state at F, in the form they have on disk; overlays hold
 * the current state of slots with records beyond F_known.  Each journal record
 * is applied twice by the same function: to the overlay when it is appended,
 * to the page when F passes it.  When F_known has passed an overlay's last
 * record, both are equal and the overlay goes.
 *
 * All of it is in memory in this version (1/1024 of the disk); keeping only
 * the CRCs that are in use is P1's business. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/store/internal.h"

#define TABLE_OVERLAYS_MAX 32768u
#define TABLE_OVERLAYS_BYTES (16 * MIB)

static uint32_t
table_overlays_planned(const struct geometry *geometry, uint32_t stride)
{
    uint64_t count = TABLE_OVERLAYS_BYTES / stride;

    if (count > TABLE_OVERLAYS_MAX) {
        count = TABLE_OVERLAYS_MAX;
    }
    if (count < 4 * (uint64_t)STORE_SEGMENTS_MAX) {
        count = 4 * (uint64_t)STORE_SEGMENTS_MAX;
    }
    if (count > geometry->slots_total) {
        count = geometry->slots_total;
    }
    return (uint32_t)count;
}

int
table_init(struct store *store)
{
    struct table *table = &store->table;
    const struct geometry *geometry = &store->geometry;

    table->overlay_stride =
        (uint32_t)units_align_up(sizeof(struct overlay) + geometry->entry_bytes,
                                 _Alignof(struct overlay));
    table->overlay_count =
        table_overlays_planned(geometry, table->overlay_stride);
    table->pages = calloc(geometry->pages, sizeof(*table->pages));
    table->copy = calloc(geometry->pages, 1);
    table->dirty = calloc(geometry->pages / 64 + 1, 8);
    table->overlay_of = calloc(geometry->slots_total, 4);
    table->overlays = calloc(table->overlay_count, table->overlay_stride);
    table->overlay_free = calloc(table->overlay_count, 4);
    list_init(&table->overlay_used);
    if (table->pages == NULL || table->copy == NULL || table->dirty == NULL ||
        table->overlay_of == NULL || table->overlays == NULL ||
        table->overlay_free == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < table->overlay_count; i++) {
        table->overlay_free[i] = table->overlay_count - 1 - i;
    }
    table->overlay_free_count = table->overlay_count;
    return 0;
}

void
table_done(struct store *store)
{
    struct table *table = &store->table;

    free(table->pages);
    free(table->copy);
    free(table->dirty);
    free(table->overlay_of);
    free(table->overlays);
    free(table->overlay_free);
    *table = (struct table){ 0 };
}

void
table_page_dirty(struct store *store, uint32_t page)
{
    struct table *table = &store->table;
    uint64_t bit = UINT64_C(1) << (page % 64);

    if ((table->dirty[page / 64] & bit) == 0) {
        table->dirty[page / 64] |= bit;
        table->dirty_count++;
    }
}

uint8_t *
table_page_entry(const struct store *store, uint32_t slot)
{
    const struct geometry *geometry = &store->geometry;
    struct disk_page *page =
        &store->table.pages[geometry_slot_page(geometry, slot)];

    return &page->entries[(size_t)(slot % geometry->entries_per_page) *
                          geometry->entry_bytes];
}

static struct overlay *
overlay_at(const struct store *store, uint32_t index)
{
    const struct table *table = &store->table;

    return (struct overlay *)(void *)(table->overlays +
                                      (size_t)index * table->overlay_stride);
}

struct overlay *
table_overlay(const struct store *store, uint32_t slot)
{
    uint32_t index = store->table.overlay_of[slot];

    return index == 0 ? NULL : overlay_at(store, index - 1);
}

const uint8_t *
table_entry(const struct store *store, uint32_t slot)
{
    const struct overlay *overlay = table_overlay(store, slot);

    return overlay != NULL ? overlay->entry : table_page_entry(store, slot);
}

struct disk_replica *
table_replica(const struct store *store, uint32_t replica)
{
    struct disk_page *page =
        &store->table.pages[(replica - 1) / DISK_REPLICAS_PER_PAGE];

    return (struct disk_replica *)(void *)page->entries +
           (replica - 1) % DISK_REPLICAS_PER_PAGE;
}

/* ---- Pages: state at F ---- */

static bool
region_page_is(const struct store *store, uint32_t index, uint32_t owner,
               uint32_t part)
{
    const struct disk_page *page =
        &store->table.pages[store->geometry.replica_pages + index];

    return le32_get(page->owner) == owner && le32_get(page->part) == part;
}

static uint32_t
region_page_find(const struct store *store, uint32_t owner, uint32_t part)
{
    const struct replica *replica = replica_at(store, owner);

    if (replica != NULL && part * DISK_REGIONS_PER_PAGE < replica->regions &&
        region_page_is(store, replica->pages[part], owner, part)) {
        return replica->pages[part];
    }
    for (uint32_t i = 0; i < store->geometry.region_pages; i++) {
        if (region_page_is(store, i, owner, part)) {
            return i;
        }
    }
    return UINT32_MAX;
}

/* A page that is ahead may belong to somebody else by now: then there is
 * nothing to do, and what gave it away follows in the journal. */
static void
apply_region(struct store *store, const struct disk_region *record)
{
    uint32_t region = le32_get(record->region);
    uint32_t index = region_page_find(store, le32_get(record->replica),
                                      region / DISK_REGIONS_PER_PAGE);

    if (index != UINT32_MAX) {
        uint32_t number = store->geometry.replica_pages + index;

        memcpy(&store->table.pages[number]
                    .entries[(size_t)(region % DISK_REGIONS_PER_PAGE) * 8],
               &record->sequence, sizeof(record->sequence));
        table_page_dirty(store, number);
    }
}

void
table_touch(struct store *store, uint32_t owner, uint32_t region,
            uint64_t sequence)
{
    uint32_t index =
        region_page_find(store, owner, region / DISK_REGIONS_PER_PAGE);
    struct disk_region record;
    struct le64 present;

    if (index == UINT32_MAX) {
        return;
    }
    memcpy(&present,
           &store->table.pages[store->geometry.replica_pages + index]
                .entries[(size_t)(region % DISK_REGIONS_PER_PAGE) * 8],
           sizeof(present));
    if (sequence > le64_get(present)) {
        record_region_make(&record, owner, region, sequence);
        apply_region(store, &record);
    }
}

static void
apply_region_page(struct store *store, const struct disk_region_page *record)
{
    uint32_t number = store->geometry.replica_pages + le32_get(record->page);
    struct disk_page *page = &store->table.pages[number];

    memset(page->entries, 0, sizeof(page->entries));
    page->owner = record->replica;
    page->part = record->part;
    table_page_dirty(store, number);
}

void
table_apply_page(struct store *store, const struct disk_record *record)
{
    const void *raw = record;
    const struct disk_replica_set *replica = raw;
    const struct disk_known_good *good = raw;
    uint32_t slot;

    if (record_slot(record, &slot)) {
        record_apply_slot(&store->geometry, record,
                          table_page_entry(store, slot));
        table_page_dirty(store, geometry_slot_page(&store->geometry, slot));
        return;
    }
    switch ((enum disk_record_type)record->type) {
    case DISK_RECORD_REGION:
        apply_region(store, raw);
        break;
    case DISK_RECORD_REGION_PAGE:
        apply_region_page(store, raw);
        break;
    case DISK_RECORD_REPLICA:
        *table_replica(store, le32_get(replica->replica)) = replica->entry;
        table_page_dirty(store, (le32_get(replica->replica) - 1) /
                                    DISK_REPLICAS_PER_PAGE);
        break;
    case DISK_RECORD_KNOWN_GOOD:
        table_replica(store, le32_get(good->replica))->known_good =
            good->sequence;
        table_page_dirty(store, (le32_get(good->replica) - 1) /
                                    DISK_REPLICAS_PER_PAGE);
        break;
    case DISK_RECORD_NOP:
    case DISK_RECORD_HOT:
    case DISK_RECORD_INTENT:
    case DISK_RECORD_STATE:
    case DISK_RECORD_ALLOC:
    case DISK_RECORD_FREE:
        break;
    }
}

void
table_advance(struct store *store, uint64_t from, uint64_t to)
{
    for (uint64_t position = from + 1; position <= to; position++) {
        struct journal_block *block = journal_at(store, position);
        const struct disk_record *record;
        uint32_t cursor = 0;
        int more;

        CHECK(block->position == position);
        while ((more = record_next(&store->geometry, block->image, &cursor,
                                   &record)) == 1) {
            table_apply_page(store, record);
        }
        CHECK(more == 0); /* We wrote it. */
    }
}

/* ---- Overlays: current state ---- */

static struct overlay *
overlay_make(struct store *store, uint32_t slot)
{
    struct table *table = &store->table;
    const struct geometry *geometry = &store->geometry;
    struct overlay *overlay;
    uint32_t index;

    CHECK(table->overlay_free_count != 0);
    index = table->overlay_free[--table->overlay_free_count];
    overlay = overlay_at(store, index);
    memset(overlay, 0, sizeof(*overlay));
    list_init(&overlay->node);
    overlay->slot = slot;
    memcpy(overlay->entry, table_page_entry(store, slot),
           geometry->entry_bytes);
    for (uint32_t i = 0; i < geometry->slot_blocks; i++) {
        enum disk_block_state state = entry_state(overlay->entry, i);

        if (state == DISK_BLOCK_DATA || state == DISK_BLOCK_SUSPECT) {
            overlay->was_data[i / 8] |= (uint8_t)(1u << (i % 8));
        }
    }
    table->overlay_of[slot] = index + 1;
    return overlay;
}

static bool
block_has_data(const uint8_t *entry, uint32_t block)
{
    enum disk_block_state state = entry_state(entry, block);

    return state == DISK_BLOCK_DATA || state == DISK_BLOCK_SUSPECT;
}

/* Blocks that become data: young, until F_known has passed this. */
static void
overlay_note_intent(struct store *store, struct overlay *overlay,
                    const struct disk_intent *intent)
{
    uint32_t first = le16_get(intent->first);
    uint32_t end = first + le16_get(intent->count);

    if (overlay->young_position <= store->journal.flushed_known) {
        memset(overlay->young, 0, sizeof(overlay->young));
    }
    for (uint32_t i = first; i < end; i++) {
        if (!block_has_data(overlay->entry, i)) {
            overlay->young[i / 8] |= (uint8_t)(1u << (i % 8));
            overlay->young_position = store->journal.head;
        }
        overlay->was_data[i / 8] |= (uint8_t)(1u << (i % 8));
    }
}

void
table_apply(struct store *store, const struct disk_record *record)
{
    struct table *table = &store->table;
    struct overlay *overlay;
    uint32_t slot = 0;
    bool has_slot = record_slot(record, &slot);

    CHECK(has_slot);
    overlay = table_overlay(store, slot);
    if (overlay == NULL) {
        overlay = overlay_make(store, slot);
    }
    if (record->type == DISK_RECORD_INTENT) {
        overlay_note_intent(store, overlay, (const void *)record);
    } else if (record->type == DISK_RECORD_ALLOC) {
        /* What was here before is nobody's (S2). */
        memset(overlay->was_data, 0, sizeof(overlay->was_data));
        memset(overlay->young, 0, sizeof(overlay->young));
    }
    record_apply_slot(&store->geometry, record, overlay->entry);
    overlay->last_position = store->journal.head;
    list_remove(&overlay->node);
    list_push_back(&table->overlay_used, &overlay->node);
}

void
table_forget(struct store *store)
{
    struct table *table = &store->table;

    while (!list_is_empty(&table->overlay_used)) {
        struct overlay *overlay = container_of(list_front(&table->overlay_used),
                                               struct overlay, node);

        if (overlay->last_position > store->journal.flushed_known) {
            break;
        }
        CHECK(memcmp(overlay->entry, table_page_entry(store, overlay->slot),
                     store->geometry.entry_bytes) == 0);
        list_remove(&overlay->node);
        table->overlay_free[table->overlay_free_count++] =
            table->overlay_of[overlay->slot] - 1;
        table->overlay_of[overlay->slot] = 0;
    }
}
