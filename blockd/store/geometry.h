/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_STORE_GEOMETRY_H
#define BLOCKD_STORE_GEOMETRY_H

/* Where everything is on a disk: pure arithmetic over the few numbers that a
 * superblock states.
 *
 *   block 0, 1                    superblocks A, B
 *   2                             journal ring
 *   2 + journal                   table, copy 0
 *   2 + journal + pages           table, copy 1
 *   data_first                    slots (aligned to the slot size) */

#include <stdbool.h>
#include <stdint.h>

#include "blockd/store/disk.h"
#include "lib/base/check.h"
#include "lib/base/err.h"

struct geometry {
    /* Stated. */
    uint64_t size_blocks;
    uint32_t slot_blocks;
    uint64_t journal_blocks;
    uint32_t window; /* Journal blocks beyond F at most. */
    uint32_t replica_pages, region_pages;
    uint32_t slots_total;
    /* Derived. */
    uint32_t entry_bytes, entries_per_page, states_bytes;
    uint32_t slot_pages, pages;
    uint32_t replicas_max;
    uint64_t journal_first, table_first, data_first;
    uint32_t extents;
    uint32_t relog_blocks;  /* Journal blocks that all hot marks may need. */
    uint64_t journal_limit; /* Blocks in use at which requests wait. */
    uint32_t region_slots;  /* Slots in a region. */
};

/* Chooses the numbers for a disk: -ENOSPC if it is too small (err says what
 * the least is), -EINVAL for a slot size that we do not have. */
WEFT_MUST_CHECK int geometry_plan(uint64_t size_bytes, uint32_t slot_bytes,
                                  uint64_t journal_bytes,
                                  struct geometry *ret_geometry,
                                  struct err *err);

/* Fills in the derived numbers; false if the stated ones make no sense. */
bool geometry_derive(struct geometry *geometry);

static inline uint64_t
geometry_page_block(const struct geometry *geometry, uint32_t page,
                    uint32_t copy)
{
    return geometry->table_first + (uint64_t)copy * geometry->pages + page;
}

static inline uint64_t
geometry_slot_block(const struct geometry *geometry, uint32_t slot)
{
    return geometry->data_first + (uint64_t)slot * geometry->slot_blocks;
}

static inline uint32_t
geometry_slot_extent(const struct geometry *geometry, uint32_t slot)
{
    return (uint32_t)((uint64_t)slot * geometry->slot_blocks /
                      DISK_EXTENT_BLOCKS);
}

static inline enum disk_page_kind
geometry_page_kind(const struct geometry *geometry, uint32_t page)
{
    if (page < geometry->replica_pages) {
        return DISK_PAGE_REPLICA;
    }
    if (page < geometry->replica_pages + geometry->region_pages) {
        return DISK_PAGE_REGION;
    }
    return DISK_PAGE_SLOT;
}

static inline uint32_t
geometry_slot_page(const struct geometry *geometry, uint32_t slot)
{
    return geometry->replica_pages + geometry->region_pages +
           slot / geometry->entries_per_page;
}

#endif /* BLOCKD_STORE_GEOMETRY_H */
