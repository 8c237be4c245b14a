/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Invariant: between the home of a key (its hash) and its place no entry is
 * free, in the direction of rising indices, modulo the size. */

static uint32_t
home_of(const struct map *map, uint64_t key)
{
    uint64_t hash = (key ^ map->seed) * UINT64_C(0x9e3779b97f4a7c15);
    hash = (hash ^ hash >> 32) * UINT64_C(0xd6e8feb86659fd93);
    return (uint32_t)(hash >> 32) & map->mask;
}

int
map_init(struct map *map, uint32_t capacity, uint64_t seed)
{
    CHECK(capacity >= 1);
    CHECK(capacity <= UINT32_C(1) << 30);

    /* At most half full, and so never without a free entry. */
    uint64_t size = 4;
    while (size < UINT64_C(2) * capacity) {
        size *= 2;
    }
    struct map_entry *entries = calloc(size, sizeof *entries);
    if (entries == NULL) {
        return -ENOMEM;
    }
    *map = (struct map){
        .entries = entries,
        .seed = seed,
        .mask = (uint32_t)(size - 1),
        .capacity = capacity,
    };
    return 0;
}

void
map_done(struct map *map)
{
    free(map->entries);
    *map = (struct map){ .entries = NULL };
}

/* The place of 'key', or the free entry where it would go. */
static uint32_t
place_of(const struct map *map, uint64_t key)
{
    uint32_t i = home_of(map, key);
    while (map->entries[i].is_used && map->entries[i].key != key) {
        i = (i + 1) & map->mask;
    }
    return i;
}

int
map_put(struct map *map, uint64_t key, uint32_t value)
{
    struct map_entry *entry = &map->entries[place_of(map, key)];

    if (!entry->is_used) {
        if (map->count == map->capacity) {
            return -ENOSPC;
        }
        map->count++;
    }
    *entry = (struct map_entry){ .key = key, .value = value, .is_used = true };
    return 0;
}

bool
map_find(const struct map *map, uint64_t key, uint32_t *ret_value)
{
    const struct map_entry *entry = &map->entries[place_of(map, key)];

    if (!entry->is_used) {
        return false;
    }
    if (ret_value != NULL) {
        *ret_value = entry->value;
    }
    return true;
}

bool
map_remove(struct map *map, uint64_t key)
{
    uint32_t hole = place_of(map, key);

    if (!map->entries[hole].is_used) {
        return false;
    }
    map->count--;

    /* Fill the hole with the next entry whose home is not behind it, until
     * there is none: see the invariant. */
    for (uint32_t i = (hole + 1) & map->mask; map->entries[i].is_used;
         i = (i + 1) & map->mask) {
        uint32_t home = home_of(map, map->entries[i].key);
        uint32_t from_home = (i - home) & map->mask;
        uint32_t from_hole = (i - hole) & map->mask;
        if (from_home >= from_hole) {
            map->entries[hole] = map->entries[i];
            hole = i;
        }
    }
    map->entries[hole] = (struct map_entry){ .is_used = false };
    return true;
}

void
map_clear(struct map *map)
{
    memset(map->entries, 0, ((size_t)map->mask + 1) * sizeof *map->entries);
    map->count = 0;
}

bool
map_next(const struct map *map, uint32_t *cursor, uint64_t *ret_key,
         uint32_t *ret_value)
{
    for (; *cursor <= map->mask; (*cursor)++) {
        const struct map_entry *entry = &map->entries[*cursor];
        if (entry->is_used) {
            *ret_key = entry->key;
            *ret_value = entry->value;
            (*cursor)++;
            return true;
        }
    }
    return false;
}
