/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/store/record.h"

#include <errno.h>

bool
entry_is_empty(const struct geometry *geometry, const uint8_t *entry)
{
    for (uint32_t i = 0; i < geometry->states_bytes; i++) {
        if (entry[sizeof(struct disk_slot) + i] != 0) {
            return false;
        }
    }
    return true;
}

/* ---- Building ---- */

static struct disk_record
record_head(enum disk_record_type type, uint32_t flags, uint32_t size)
{
    return (struct disk_record){ .type = (uint8_t)type,
                                 .flags = (uint8_t)flags,
                                 .size = le16_make((uint16_t)size) };
}

void
record_intent_make(void *target, uint32_t slot, uint32_t first, uint32_t count,
                   uint64_t sequence, bool exact, const uint32_t *crcs)
{
    struct disk_intent *record = target;
    struct le32 crc;

    *record = (struct disk_intent){
        .head = record_head(DISK_RECORD_INTENT, exact ? DISK_RECORD_EXACT : 0,
                            record_intent_bytes(count)),
        .slot = le32_make(slot),
        .first = le16_make((uint16_t)first),
        .count = le16_make((uint16_t)count),
        .sequence = le64_make(sequence),
    };
    for (uint32_t i = 0; i < count; i++) {
        crc = le32_make(crcs[i]);
        memcpy((uint8_t *)target + sizeof(*record) + (size_t)i * 4, &crc,
               sizeof(crc));
    }
}

void
record_state_make(void *target, uint32_t slot, uint32_t first, uint32_t count,
                  uint64_t sequence, bool exact, enum disk_block_state state)
{
    struct disk_state *record = target;

    *record = (struct disk_state){
        .head = record_head(DISK_RECORD_STATE, exact ? DISK_RECORD_EXACT : 0,
                            sizeof(*record)),
        .slot = le32_make(slot),
        .first = le16_make((uint16_t)first),
        .count = le16_make((uint16_t)count),
        .sequence = le64_make(sequence),
        .state = le32_make((uint32_t)state),
    };
}

void
record_alloc_make(void *target, uint32_t slot, uint32_t replica, uint32_t layer,
                  uint64_t logical)
{
    struct disk_alloc *record = target;

    *record = (struct disk_alloc){
        .head = record_head(DISK_RECORD_ALLOC, 0, sizeof(*record)),
        .slot = le32_make(slot),
        .replica = le32_make(replica),
        .layer = le32_make(layer),
        .logical = le64_make(logical),
    };
}

void
record_free_make(void *target, uint32_t slot)
{
    struct disk_free *record = target;

    *record = (struct disk_free){
        .head = record_head(DISK_RECORD_FREE, 0, sizeof(*record)),
        .slot = le32_make(slot),
    };
}

void
record_region_make(void *target, uint32_t replica, uint32_t region,
                   uint64_t sequence)
{
    struct disk_region *record = target;

    *record = (struct disk_region){
        .head = record_head(DISK_RECORD_REGION, 0, sizeof(*record)),
        .replica = le32_make(replica),
        .region = le32_make(region),
        .sequence = le64_make(sequence),
    };
}

void
record_replica_make(void *target, uint32_t replica,
                    const struct disk_replica *entry)
{
    struct disk_replica_set *record = target;

    *record = (struct disk_replica_set){
        .head = record_head(DISK_RECORD_REPLICA, 0, sizeof(*record)),
        .replica = le32_make(replica),
        .entry = *entry,
    };
}

void
record_region_page_make(void *target, uint32_t page, uint32_t replica,
                        uint32_t part)
{
    struct disk_region_page *record = target;

    *record = (struct disk_region_page){
        .head = record_head(DISK_RECORD_REGION_PAGE, 0, sizeof(*record)),
        .page = le32_make(page),
        .replica = le32_make(replica),
        .part = le32_make(part),
    };
}

void
record_known_good_make(void *target, uint32_t replica, uint64_t sequence)
{
    struct disk_known_good *record = target;

    *record = (struct disk_known_good){
        .head = record_head(DISK_RECORD_KNOWN_GOOD, 0, sizeof(*record)),
        .replica = le32_make(replica),
        .sequence = le64_make(sequence),
    };
}

void
record_hot_make(void *target, uint32_t count, bool crashed)
{
    struct disk_hot *record = target;

    *record = (struct disk_hot){
        .head = record_head(DISK_RECORD_HOT, crashed ? DISK_RECORD_CRASHED : 0,
                            (uint32_t)sizeof(*record) + count * 4),
    };
}

void
record_hot_extent_set(void *target, uint32_t index, uint32_t extent)
{
    struct le32 value = le32_make(extent);

    memcpy((uint8_t *)target + sizeof(struct disk_hot) + (size_t)index * 4,
           &value, sizeof(value));
}

uint32_t
record_hot_count(const struct disk_record *record)
{
    return (record_size(record) - (uint32_t)sizeof(struct disk_hot)) / 4;
}

uint32_t
record_hot_extent(const struct disk_record *record, uint32_t index)
{
    struct le32 value;

    memcpy(&value,
           (const uint8_t *)record + sizeof(struct disk_hot) +
               (size_t)index * 4,
           sizeof(value));
    return le32_get(value);
}

void
record_nop_make(void *target)
{
    struct disk_record *record = target;

    *record = record_head(DISK_RECORD_NOP, 0, sizeof(*record));
}

/* ---- Checking ---- */

static bool
range_is_sound(const struct geometry *geometry, struct le32 slot,
               struct le16 first, struct le16 count)
{
    return le32_get(slot) < geometry->slots_total && le16_get(count) != 0 &&
           (uint32_t)le16_get(first) + le16_get(count) <= geometry->slot_blocks;
}

static bool
replica_is_sound(const struct geometry *geometry, struct le32 replica)
{
    return le32_get(replica) >= 1 &&
           le32_get(replica) <= geometry->replicas_max;
}

static bool
hot_is_sound(const struct geometry *geometry, const struct disk_record *record)
{
    for (uint32_t i = 0; i < record_hot_count(record); i++) {
        if (record_hot_extent(record, i) >= geometry->extents) {
            return false;
        }
    }
    return true;
}

static bool
intent_is_sound(const struct geometry *geometry, const void *record,
                uint32_t size)
{
    const struct disk_intent *intent = record;

    return size >= sizeof(*intent) &&
           range_is_sound(geometry, intent->slot, intent->first,
                          intent->count) &&
           size == record_intent_bytes(le16_get(intent->count));
}

static bool
state_is_sound(const struct geometry *geometry, const void *record,
               uint32_t size)
{
    const struct disk_state *state = record;

    return size == sizeof(*state) &&
           range_is_sound(geometry, state->slot, state->first, state->count) &&
           (le32_get(state->state) == DISK_BLOCK_ABSENT ||
            le32_get(state->state) == DISK_BLOCK_ZERO ||
            le32_get(state->state) == DISK_BLOCK_SUSPECT);
}

static bool
alloc_is_sound(const struct geometry *geometry, const void *record,
               uint32_t size)
{
    const struct disk_alloc *alloc = record;

    return size == sizeof(*alloc) &&
           le32_get(alloc->slot) < geometry->slots_total &&
           replica_is_sound(geometry, alloc->replica) &&
           le32_get(alloc->layer) != 0;
}

static bool
region_page_is_sound(const struct geometry *geometry, const void *record,
                     uint32_t size)
{
    const struct disk_region_page *page = record;

    return size == sizeof(*page) &&
           le32_get(page->page) < geometry->region_pages &&
           le32_get(page->replica) <= geometry->replicas_max;
}

static bool
record_is_sound(const struct geometry *geometry,
                const struct disk_record *record)
{
    uint32_t size = record_size(record);
    const void *raw = record;
    const struct disk_free *freed = raw;
    const struct disk_region *region = raw;
    const struct disk_replica_set *replica = raw;
    const struct disk_known_good *good = raw;

    switch ((enum disk_record_type)record->type) {
    case DISK_RECORD_NOP:
        return true;
    case DISK_RECORD_INTENT:
        return intent_is_sound(geometry, raw, size);
    case DISK_RECORD_STATE:
        return state_is_sound(geometry, raw, size);
    case DISK_RECORD_ALLOC:
        return alloc_is_sound(geometry, raw, size);
    case DISK_RECORD_FREE:
        return size == sizeof(*freed) &&
               le32_get(freed->slot) < geometry->slots_total;
    case DISK_RECORD_REGION:
        return size == sizeof(*region) &&
               replica_is_sound(geometry, region->replica);
    case DISK_RECORD_HOT:
        return hot_is_sound(geometry, record);
    case DISK_RECORD_REPLICA:
        return size == sizeof(*replica) &&
               replica_is_sound(geometry, replica->replica);
    case DISK_RECORD_REGION_PAGE:
        return region_page_is_sound(geometry, raw, size);
    case DISK_RECORD_KNOWN_GOOD:
        return size == sizeof(*good) &&
               replica_is_sound(geometry, good->replica);
    }
    return false;
}

int
record_next(const struct geometry *geometry, const struct disk_journal *block,
            uint32_t *cursor, const struct disk_record **ret_record)
{
    uint32_t bytes = le32_get(block->record_bytes);
    const struct disk_record *record;
    uint32_t size;

    if (bytes > DISK_RECORDS_BYTES) {
        return -EUCLEAN;
    }
    if (*cursor == bytes) {
        return 0;
    }
    if (bytes - *cursor < sizeof(*record)) {
        return -EUCLEAN;
    }
    record = (const struct disk_record *)(const void *)&block->records[*cursor];
    size = record_size(record);
    if (size < sizeof(*record) || size % 4 != 0 || size > bytes - *cursor ||
        !record_is_sound(geometry, record)) {
        return -EUCLEAN;
    }
    *cursor += size;
    *ret_record = record;
    return 1;
}

/* ---- Applying ---- */

bool
record_slot(const struct disk_record *record, uint32_t *ret_slot)
{
    switch ((enum disk_record_type)record->type) {
    case DISK_RECORD_INTENT:
    case DISK_RECORD_STATE:
    case DISK_RECORD_ALLOC:
    case DISK_RECORD_FREE:
        /* All four have it in the same place. */
        *ret_slot =
            le32_get(((const struct disk_free *)(const void *)record)->slot);
        return true;
    case DISK_RECORD_NOP:
    case DISK_RECORD_REGION:
    case DISK_RECORD_HOT:
    case DISK_RECORD_REPLICA:
    case DISK_RECORD_REGION_PAGE:
    case DISK_RECORD_KNOWN_GOOD:
        break;
    }
    return false;
}

static void
apply_sequence(uint8_t *entry, struct le64 sequence, uint8_t flags)
{
    if ((flags & DISK_RECORD_EXACT) != 0 ||
        le64_get(sequence) > entry_sequence(entry)) {
        entry_slot(entry)->sequence = sequence;
    }
}

static void
apply_intent(const struct geometry *geometry, const void *record,
             uint8_t *entry)
{
    const struct disk_intent *intent = record;
    uint32_t first = le16_get(intent->first);
    uint32_t count = le16_get(intent->count);

    for (uint32_t i = 0; i < count; i++) {
        entry_state_set(entry, first + i, DISK_BLOCK_DATA);
    }
    memcpy(entry + sizeof(struct disk_slot) + geometry->states_bytes +
               (size_t)first * 4,
           (const uint8_t *)record + sizeof(*intent), (size_t)count * 4);
    apply_sequence(entry, intent->sequence, intent->head.flags);
}

static void
apply_state(const struct geometry *geometry, const void *record, uint8_t *entry)
{
    const struct disk_state *state = record;
    uint32_t first = le16_get(state->first);
    uint32_t count = le16_get(state->count);

    for (uint32_t i = 0; i < count; i++) {
        entry_state_set(entry, first + i,
                        (enum disk_block_state)le32_get(state->state));
        entry_crc_set(geometry, entry, first + i, 0);
    }
    apply_sequence(entry, state->sequence, state->head.flags);
}

void
record_apply_slot(const struct geometry *geometry,
                  const struct disk_record *record, uint8_t *entry)
{
    const struct disk_alloc *alloc = (const void *)record;

    switch ((enum disk_record_type)record->type) {
    case DISK_RECORD_INTENT:
        apply_intent(geometry, record, entry);
        break;
    case DISK_RECORD_STATE:
        apply_state(geometry, record, entry);
        break;
    case DISK_RECORD_ALLOC:
        memset(entry, 0, geometry->entry_bytes);
        entry_slot(entry)->replica = alloc->replica;
        entry_slot(entry)->layer = alloc->layer;
        entry_slot(entry)->logical = alloc->logical;
        break;
    case DISK_RECORD_FREE:
        memset(entry, 0, geometry->entry_bytes);
        break;
    case DISK_RECORD_NOP:
    case DISK_RECORD_REGION:
    case DISK_RECORD_HOT:
    case DISK_RECORD_REPLICA:
    case DISK_RECORD_REGION_PAGE:
    case DISK_RECORD_KNOWN_GOOD:
        break;
    }
}
