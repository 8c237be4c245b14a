/* SPDX-License-Identifier: Apache-2.0 */

/* LIST: which slots are newer than a sequence (S4).
 *
 * A region whose touch sequence is newer lists all its slots, and so does one
 * that holds suspect blocks list those slots, whatever their sequence, so that
 * a reconciliation finds them.  Regions without slots, or without anything
 * newer, are passed over by their maxima. */

#include <errno.h>

#include "blockd/store/internal.h"

static uint64_t
digest_mix(uint64_t digest, uint64_t value)
{
    digest = (digest ^ value) * UINT64_C(0x9e3779b97f4a7c15);
    return digest ^ (digest >> 29);
}

/* Over (block, state, CRC) of all that is not ABSENT; 0 means unknown. */
static uint64_t
list_digest(const struct store *store, const uint8_t *entry, bool *ret_suspect)
{
    uint64_t digest = UINT64_C(0x57454654);

    *ret_suspect = false;
    for (uint32_t i = 0; i < store->geometry.slot_blocks; i++) {
        enum disk_block_state state = entry_state(entry, i);
        uint32_t crc = 0;

        if (state == DISK_BLOCK_ABSENT) {
            continue;
        }
        if (state == DISK_BLOCK_SUSPECT) {
            *ret_suspect = true;
        } else if (state == DISK_BLOCK_DATA) {
            crc = entry_crc(&store->geometry, entry, i);
        }
        digest =
            digest_mix(digest, (uint64_t)i << 34 | (uint64_t)state << 32 | crc);
    }
    if (*ret_suspect) {
        return 0;
    }
    return digest != 0 ? digest : 1;
}

static void
list_region(struct store *store, const struct replica *replica,
            struct store_req *req, uint64_t first, uint64_t end, bool all)
{
    uint32_t layer = req->layer != 0 ? req->layer : STORE_LAYER_FIRST;

    for (uint64_t logical = first; logical < end; logical++) {
        uint32_t slot = index_find(store, replica->number, layer, logical);
        struct store_list_entry *listed;
        const uint8_t *entry;
        uint64_t digest;
        bool suspect;

        if (slot == SLOT_NONE) {
            continue;
        }
        entry = table_entry(store, slot);
        digest = list_digest(store, entry, &suspect);
        if (!all && !suspect && entry_sequence(entry) <= req->sequence) {
            continue;
        }
        listed = &req->entries[req->entries_count++];
        listed->slot_index = logical;
        listed->sequence = entry_sequence(entry);
        listed->digest = digest;
    }
}

int
list_run(struct store *store, struct replica *replica, struct store_req *req)
{
    uint64_t size = le64_get(replica->entry.size_blocks);
    uint32_t region_slots = store->geometry.region_slots;
    uint64_t end;
    uint64_t slots_end;

    req->entries_count = 0;
    req->region_touched = 0;
    if (req->block_count == 0 || req->block % STORE_REGION_BLOCKS != 0 ||
        req->block >= size) {
        return -EINVAL;
    }
    end = req->block_count > size - req->block ? size
                                               : req->block + req->block_count;
    if (end != size && end % STORE_REGION_BLOCKS != 0) {
        return -EINVAL;
    }
    slots_end = units_divide_up(end, store->geometry.slot_blocks);
    if (slots_end - req->block / store->geometry.slot_blocks >
        req->entries_max) {
        return -EINVAL;
    }
    for (uint64_t region = req->block / STORE_REGION_BLOCKS;
         region < units_divide_up(end, STORE_REGION_BLOCKS); region++) {
        bool touched = replica->touch[region] > req->sequence;
        uint64_t first = region * region_slots;
        uint64_t last = first + region_slots;

        req->region_touched |= touched;
        if (replica->used[region] != 0 &&
            (req->list_all || touched || replica->suspects[region] != 0 ||
             replica->written[region] > req->sequence)) {
            list_region(store, replica, req, first,
                        last < slots_end ? last : slots_end,
                        req->list_all || touched);
        }
    }
    return 0;
}
