/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_BASE_MAP_H
#define LIB_BASE_MAP_H

/* A hash map from uint64_t to uint32_t with a fixed capacity: open addressing,
 * linear probing, deletion without tombstones, so that it does not slow down
 * with age.  All memory is allocated by map_init().
 *
 * Keys may come from outside only if the map's seed is secret to them: pass a
 * random seed there.  The order of map_next() depends on the seed. */

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/check.h"

struct map_entry {
    uint64_t key;
    uint32_t value;
    bool is_used;
};

struct map {
    struct map_entry *entries;
    uint64_t seed;
    uint32_t mask; /* Number of entries - 1, a power of two - 1. */
    uint32_t count;
    uint32_t capacity;
};

/* Room for 'capacity' keys, 1 to 2^30.  -ENOMEM. */
WEFT_MUST_CHECK int map_init(struct map *map, uint32_t capacity, uint64_t seed);

/* Accepts a map of zeros, and one that is done. */
void map_done(struct map *map);

/* Adds or replaces.  -ENOSPC: full, and 'key' is not in it. */
WEFT_MUST_CHECK int map_put(struct map *map, uint64_t key, uint32_t value);

/* Whether 'key' is in the map.  'ret_value' may be NULL. */
bool map_find(const struct map *map, uint64_t key, uint32_t *ret_value);

/* Whether 'key' was in the map. */
bool map_remove(struct map *map, uint64_t key);

void map_clear(struct map *map);

/* Iterates: '*cursor' is 0 at first; false at the end.  The map must not
 * change meanwhile. */
bool map_next(const struct map *map, uint32_t *cursor, uint64_t *ret_key,
              uint32_t *ret_value);

#endif /* LIB_BASE_MAP_H */
