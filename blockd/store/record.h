/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_STORE_RECORD_H
#define BLOCKD_STORE_RECORD_H

/* Journal records: building, checking, walking, and the one function that
 * applies a record to a slot's entry.  The same function serves the running
 * store (in-memory state, pages at F) and recovery, so that they cannot differ.
 *
 * Pure: no I/O, no store. */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "blockd/store/disk.h"
#include "blockd/store/geometry.h"
#include "lib/base/check.h"

/* ---- Entries of slots ---- */

/* The fields are reached by offset: an entry has no alignment. */
static inline struct disk_slot *
entry_slot(uint8_t *entry)
{
    return (struct disk_slot *)(void *)entry;
}

static inline const struct disk_slot *
entry_slot_const(const uint8_t *entry)
{
    return (const struct disk_slot *)(const void *)entry;
}

static inline uint32_t
entry_owner(const uint8_t *entry)
{
    return le32_get(entry_slot_const(entry)->replica);
}

static inline uint64_t
entry_sequence(const uint8_t *entry)
{
    return le64_get(entry_slot_const(entry)->sequence);
}

static inline enum disk_block_state
entry_state(const uint8_t *entry, uint32_t block)
{
    uint32_t byte = entry[sizeof(struct disk_slot) + block / 4];
    return (enum disk_block_state)(byte >> (block % 4 * 2) & 3u);
}

static inline void
entry_state_set(uint8_t *entry, uint32_t block, enum disk_block_state state)
{
    uint8_t *byte = &entry[sizeof(struct disk_slot) + block / 4];
    uint32_t shift = block % 4 * 2;
    *byte = (uint8_t)((*byte & ~(3u << shift)) | (uint32_t)state << shift);
}

static inline uint32_t
entry_crc(const struct geometry *geometry, const uint8_t *entry, uint32_t block)
{
    struct le32 crc;
    memcpy(&crc,
           entry + sizeof(struct disk_slot) + geometry->states_bytes +
               (size_t)block * 4,
           sizeof(crc));
    return le32_get(crc);
}

static inline void
entry_crc_set(const struct geometry *geometry, uint8_t *entry, uint32_t block,
              uint32_t value)
{
    struct le32 crc = le32_make(value);
    memcpy(entry + sizeof(struct disk_slot) + geometry->states_bytes +
               (size_t)block * 4,
           &crc, sizeof(crc));
}

/* Whether every block is ABSENT. */
bool entry_is_empty(const struct geometry *geometry, const uint8_t *entry);

/* ---- Records ---- */

static inline uint32_t
record_size(const struct disk_record *record)
{
    return le16_get(record->size);
}

static inline uint32_t
record_intent_bytes(uint32_t count)
{
    return (uint32_t)sizeof(struct disk_intent) + count * 4;
}

void record_intent_make(void *target, uint32_t slot, uint32_t first,
                        uint32_t count, uint64_t sequence, bool exact,
                        const uint32_t *crcs);
void record_state_make(void *target, uint32_t slot, uint32_t first,
                       uint32_t count, uint64_t sequence, bool exact,
                       enum disk_block_state state);
void record_alloc_make(void *target, uint32_t slot, uint32_t replica,
                       uint32_t layer, uint64_t logical);
void record_free_make(void *target, uint32_t slot);
void record_region_make(void *target, uint32_t replica, uint32_t region,
                        uint64_t sequence);
void record_replica_make(void *target, uint32_t replica,
                         const struct disk_replica *entry);
void record_region_page_make(void *target, uint32_t page, uint32_t replica,
                             uint32_t part);
void record_known_good_make(void *target, uint32_t replica, uint64_t sequence);
/* The extents follow: record_hot_extent(). */
void record_hot_make(void *target, uint32_t count, bool crashed);
void record_hot_extent_set(void *target, uint32_t index, uint32_t extent);
uint32_t record_hot_extent(const struct disk_record *record, uint32_t index);
uint32_t record_hot_count(const struct disk_record *record);
void record_nop_make(void *target);

/* Walks the records of a journal block whose CRC is right.  '*cursor' is 0 at
 * first.  1: '*ret_record' is one that makes sense on such a disk; 0: the end;
 * -EUCLEAN: nonsense. */
WEFT_MUST_CHECK int record_next(const struct geometry *geometry,
                                const struct disk_journal *block,
                                uint32_t *cursor,
                                const struct disk_record **ret_record);

/* The slot that INTENT, STATE, ALLOC or FREE is about; false for others. */
bool record_slot(const struct disk_record *record, uint32_t *ret_slot);

/* Applies such a record to the entry of that slot. */
void record_apply_slot(const struct geometry *geometry,
                       const struct disk_record *record, uint8_t *entry);

#endif /* BLOCKD_STORE_RECORD_H */
