/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_STATE_CACHE_H
#define LIB_STATE_CACHE_H

/* The rows of a database, found by UUID, by the schema's indexes, and (if
 * asked for) by lookups: columns in which many rows may be alike.  Private to
 * lib/state.
 *
 *   (1) A row is in at most one entry; the cache owns it.
 *   (2) Two rows may be alike in an index while an update is being applied
 *       (they exchange names); never afterwards.
 *   (3) A group has at least one member. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/list.h"
#include "lib/state/row_class.h"

/* The rows that are alike in a lookup's columns. */
struct cache_group {
    struct cache_group *next; /* In its bucket. */
    uint64_t hash;
    struct list members; /* struct cache_link */
    size_t count;
};

struct cache_link {
    struct list node;
    struct cache_group *group;
};

struct cache_entry {
    struct state_row *row;
    struct list node; /* In cache_table.entries. */
    uint64_t generation;
    /* By UUID, then by each index. */
    struct cache_entry *next[1 + STATE_INDEX_MAX];
    uint64_t hash[1 + STATE_INDEX_MAX];
    struct cache_link links[]; /* One for each lookup. */
};

struct cache_table {
    enum state_table table;
    struct list entries;
    size_t count;
    size_t bucket_count; /* A power of two, or 0. */
    struct cache_entry **buckets[1 + STATE_INDEX_MAX];
    struct cache_group **groups[STATE_LOOKUP_MAX];
};

struct cache {
    bool has_lookups; /* Set before the first row. */
    uint64_t generation;
    struct cache_table tables[STATE_TABLE_COUNT];
};

void cache_init(struct cache *cache);
void cache_done(struct cache *cache);

/* All return NULL when there is none. */
struct cache_entry *cache_find(const struct cache *cache,
                               enum state_table table,
                               const struct weft_uuid *uuid);
struct cache_entry *cache_find_by_index(const struct cache *cache,
                                        const struct state_row *key,
                                        size_t index);
/* Rows that are alike with 'key' in the columns of a lookup, in no particular
 * order; and how many there are. */
struct cache_entry *cache_next_alike(const struct cache *cache,
                                     const struct state_row *key, size_t lookup,
                                     const struct cache_entry *previous);
size_t cache_count_alike(const struct cache *cache, const struct state_row *key,
                         size_t lookup);
/* 'previous' NULL begins. */
struct cache_entry *cache_next(const struct cache *cache,
                               enum state_table table,
                               const struct cache_entry *previous);

/* Takes the row; returns the one that it replaces, which becomes the
 * caller's, or NULL.  The entry gets the present generation. */
struct state_row *cache_put(struct cache *cache, struct state_row *row);

/* Returns the row, which becomes the caller's, or NULL. */
struct state_row *cache_take(struct cache *cache, enum state_table table,
                             const struct weft_uuid *uuid);

#endif /* LIB_STATE_CACHE_H */
