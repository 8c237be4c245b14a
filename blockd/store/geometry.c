/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/store/geometry.h"

#include <errno.h>

#define GEOMETRY_DEFAULT_SLOT_BYTES (64 * KIB)
#define GEOMETRY_JOURNAL_MIN 128u                        /* Blocks. */
#define GEOMETRY_JOURNAL_DEFAULT (GIB / WEFT_BLOCK_SIZE) /* At most. */
#define GEOMETRY_JOURNAL_MAX (64 * GIB / WEFT_BLOCK_SIZE)
#define GEOMETRY_WINDOW_MIN 8u
#define GEOMETRY_WINDOW_MAX 512u
#define GEOMETRY_SLOTS_MIN 8u
#define GEOMETRY_BLOCKS_MAX (UINT64_C(1) << 44) /* 64 PiB */

static uint64_t
clamp(uint64_t value, uint64_t low, uint64_t high)
{
    return value < low ? low : value > high ? high : value;
}

static void
derive_entry(struct geometry *geometry)
{
    uint32_t states = geometry->slot_blocks / 4;

    geometry->states_bytes = states < 4 ? 4 : states;
    geometry->entry_bytes = (uint32_t)sizeof(struct disk_slot) +
                            geometry->states_bytes + geometry->slot_blocks * 4;
    geometry->entries_per_page = DISK_ENTRIES_BYTES / geometry->entry_bytes;
}

bool
geometry_derive(struct geometry *geometry)
{
    struct geometry *g = geometry;
    uint64_t data_end;
    uint64_t overhead;

    if (!units_is_power_of_two(g->slot_blocks) ||
        g->slot_blocks < DISK_SLOT_BLOCKS_MIN ||
        g->slot_blocks > DISK_SLOT_BLOCKS_MAX ||
        g->size_blocks > GEOMETRY_BLOCKS_MAX || g->slots_total == 0 ||
        g->slots_total > DISK_SLOTS_MAX || g->replica_pages == 0 ||
        g->replica_pages > 4096 || g->region_pages == 0 ||
        g->region_pages > (1u << 24) ||
        g->journal_blocks < GEOMETRY_JOURNAL_MIN ||
        g->journal_blocks > GEOMETRY_JOURNAL_MAX ||
        g->window < GEOMETRY_WINDOW_MIN || g->window > GEOMETRY_WINDOW_MAX) {
        return false;
    }
    derive_entry(g);
    g->slot_pages =
        (uint32_t)units_divide_up(g->slots_total, g->entries_per_page);
    g->pages = g->replica_pages + g->region_pages + g->slot_pages;
    g->replicas_max = g->replica_pages * DISK_REPLICAS_PER_PAGE;
    g->journal_first = 2;
    g->table_first = g->journal_first + g->journal_blocks;
    g->data_first =
        units_align_up(g->table_first + 2 * (uint64_t)g->pages, g->slot_blocks);
    data_end = g->data_first + (uint64_t)g->slots_total * g->slot_blocks;
    if (data_end > g->size_blocks) {
        return false;
    }
    g->extents =
        (uint32_t)units_divide_up((uint64_t)g->slots_total * g->slot_blocks,
                                  DISK_EXTENT_BLOCKS);
    g->relog_blocks =
        (uint32_t)units_divide_up((uint64_t)g->extents * 8, 4000) + 2;
    /* Hot marks again; and, after a crash, a window and those marks. */
    overhead = (uint64_t)g->window + 4 * (uint64_t)g->relog_blocks + 16;
    if (overhead > g->journal_blocks / 2) {
        return false;
    }
    g->journal_limit = g->journal_blocks - overhead;
    g->region_slots = 16384u / g->slot_blocks;
    return true;
}

/* The journal grows with the disk: half of it holds some twenty intents a
 * table page when 32 of them share a block (P1). */
static void
plan_journal(struct geometry *g, uint64_t journal_bytes)
{
    uint64_t extents = g->size_blocks / DISK_EXTENT_BLOCKS + 1;
    uint64_t least = 16 * (extents * 8 / 4000 + 3) + 64;
    uint64_t blocks = journal_bytes != 0 ? journal_bytes / WEFT_BLOCK_SIZE
                                         : g->size_blocks / 256;

    if (least < GEOMETRY_JOURNAL_MIN) {
        least = GEOMETRY_JOURNAL_MIN;
    }
    if (journal_bytes == 0 && blocks > GEOMETRY_JOURNAL_DEFAULT) {
        blocks = GEOMETRY_JOURNAL_DEFAULT;
    }
    blocks = clamp(blocks, least, GEOMETRY_JOURNAL_MAX);
    g->journal_blocks = blocks;
    g->window =
        (uint32_t)clamp(blocks / 8, GEOMETRY_WINDOW_MIN, GEOMETRY_WINDOW_MAX);
}

static uint32_t
plan_slots(const struct geometry *g)
{
    uint64_t meta = 2 + g->journal_blocks +
                    2 * ((uint64_t)g->replica_pages + g->region_pages) +
                    g->slot_blocks;
    uint64_t per_page =
        2 + (uint64_t)g->entries_per_page * g->slot_blocks; /* Blocks. */
    uint64_t slots;
    uint64_t rest;

    if (g->size_blocks <= meta) {
        return 0;
    }
    slots = (g->size_blocks - meta) / per_page * g->entries_per_page;
    rest = (g->size_blocks - meta) % per_page;
    if (rest > 2) {
        slots += (rest - 2) / g->slot_blocks;
    }
    return (uint32_t)clamp(slots, 0, DISK_SLOTS_MAX);
}

static uint64_t
plan_at(struct geometry *g, uint64_t size_blocks, uint32_t slot_blocks,
        uint64_t journal_bytes)
{
    uint64_t replicas = clamp(size_blocks / (256 * MIB / WEFT_BLOCK_SIZE), 30,
                              UINT64_C(15) * 1024);

    *g = (struct geometry){ .size_blocks = size_blocks,
                            .slot_blocks = slot_blocks };
    derive_entry(g);
    plan_journal(g, journal_bytes);
    g->replica_pages =
        (uint32_t)units_divide_up(replicas, DISK_REPLICAS_PER_PAGE);
    g->region_pages = g->replica_pages * DISK_REPLICAS_PER_PAGE +
                      (uint32_t)(size_blocks / (2 * GIB / WEFT_BLOCK_SIZE));
    g->slots_total = plan_slots(g);
    return g->slots_total;
}

int
geometry_plan(uint64_t size_bytes, uint32_t slot_bytes, uint64_t journal_bytes,
              struct geometry *ret_geometry, struct err *err)
{
    uint64_t size_blocks = size_bytes / WEFT_BLOCK_SIZE;
    uint32_t slot_blocks;
    struct geometry planned;
    char text[UNITS_TEXT_SIZE];

    if (slot_bytes == 0) {
        slot_bytes = (uint32_t)GEOMETRY_DEFAULT_SLOT_BYTES;
    }
    slot_blocks = slot_bytes / WEFT_BLOCK_SIZE;
    if (!units_is_power_of_two(slot_bytes) ||
        slot_blocks < DISK_SLOT_BLOCKS_MIN ||
        slot_blocks > DISK_SLOT_BLOCKS_MAX) {
        err_set(err, "slot size %u: must be a power of two from 16K to 1M",
                slot_bytes);
        return -EINVAL;
    }
    if (size_blocks > GEOMETRY_BLOCKS_MAX) {
        err_set(err, "the disk is larger than 64P");
        return -EINVAL;
    }
    if (plan_at(&planned, size_blocks, slot_blocks, journal_bytes) >=
            GEOMETRY_SLOTS_MIN &&
        geometry_derive(&planned)) {
        *ret_geometry = planned;
        return 0;
    }
    for (uint64_t least = MIB; least < PIB; least += MIB) {
        if (plan_at(&planned, least / WEFT_BLOCK_SIZE, slot_blocks,
                    journal_bytes) >= GEOMETRY_SLOTS_MIN &&
            geometry_derive(&planned)) {
            units_format_size(least, text);
            err_set(err, "the disk is too small: at least %s is needed", text);
            return -ENOSPC;
        }
    }
    err_set(err, "the disk is too small for such a journal");
    return -ENOSPC;
}
