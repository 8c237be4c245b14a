/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/state/cache.h"

#include <stdlib.h>

#include "lib/base/container_of.h"

/* Chained hash tables, one by UUID and one for each index, that share their
 * entries and grow together.
 *
 * A lookup has a hash table of groups, each with the list of its members: ten
 * thousand rows that are alike are neither in each other's way when one of
 * them goes, nor in that of others in their bucket. */

static size_t
chain_count(const struct cache_table *table)
{
    return 1 + state_class_of(table->table)->index_count;
}

/* ---- Lookups ---- */

static size_t
lookup_count(const struct cache *cache, const struct cache_table *table)
{
    return cache->has_lookups ? state_class_of(table->table)->lookup_count : 0;
}

static struct cache_entry *
entry_of_link(struct list *node, size_t lookup)
{
    struct cache_link *link = container_of(node, struct cache_link, node);

    return container_of(link - lookup, struct cache_entry, links[0]);
}

static uint64_t
lookup_hash(const struct state_row *row, size_t lookup)
{
    return state_row_hash(row, state_class_of(row->table)->lookups[lookup]);
}

static struct cache_group **
group_bucket(const struct cache_table *table, size_t lookup, uint64_t hash)
{
    return &table->groups[lookup][hash & (table->bucket_count - 1)];
}

static struct cache_group *
find_group(const struct cache_table *table, const struct state_row *key,
           size_t lookup, uint64_t hash)
{
    uint64_t columns = state_class_of(key->table)->lookups[lookup];
    struct cache_group *group = *group_bucket(table, lookup, hash);

    while (group != NULL) {
        const struct cache_entry *member =
            entry_of_link(list_front(&group->members), lookup);
        if (group->hash == hash && state_row_equal(member->row, key, columns)) {
            break;
        }
        group = group->next;
    }
    return group;
}

static void
link_groups(const struct cache *cache, struct cache_table *table,
            struct cache_entry *entry)
{
    for (size_t i = 0; i < lookup_count(cache, table); i++) {
        uint64_t hash = lookup_hash(entry->row, i);
        struct cache_group *group = find_group(table, entry->row, i, hash);
        if (group == NULL) {
            struct cache_group **bucket = group_bucket(table, i, hash);
            group = state_alloc(sizeof *group);
            group->hash = hash;
            group->next = *bucket;
            list_init(&group->members);
            *bucket = group;
        }
        list_push_back(&group->members, &entry->links[i].node);
        entry->links[i].group = group;
        group->count++;
    }
}

static void
unlink_groups(const struct cache *cache, struct cache_table *table,
              struct cache_entry *entry)
{
    for (size_t i = 0; i < lookup_count(cache, table); i++) {
        struct cache_group *group = entry->links[i].group;
        list_remove(&entry->links[i].node);
        if (--group->count > 0) {
            continue;
        }
        struct cache_group **at = group_bucket(table, i, group->hash);
        while (*at != group) {
            CHECK(*at != NULL);
            at = &(*at)->next;
        }
        *at = group->next;
        free(group);
    }
}

/* The table has 'bucket_count' buckets by now, and had 'old_count'. */
static void
grow_groups(const struct cache *cache, struct cache_table *table,
            size_t old_count)
{
    for (size_t i = 0; i < lookup_count(cache, table); i++) {
        struct cache_group **old = table->groups[i];
        table->groups[i] = state_alloc(table->bucket_count * sizeof(void *));
        for (size_t k = 0; k < old_count; k++) {
            while (old[k] != NULL) {
                struct cache_group *group = old[k];
                struct cache_group **bucket =
                    group_bucket(table, i, group->hash);
                old[k] = group->next;
                group->next = *bucket;
                *bucket = group;
            }
        }
        free(old);
    }
}

struct cache_entry *
cache_next_alike(const struct cache *cache, const struct state_row *key,
                 size_t lookup, const struct cache_entry *previous)
{
    const struct cache_table *table = &cache->tables[key->table];

    CHECK(lookup < lookup_count(cache, table));
    if (table->bucket_count == 0) {
        return NULL;
    }
    const struct cache_group *group =
        previous != NULL
            ? previous->links[lookup].group
            : find_group(table, key, lookup, lookup_hash(key, lookup));
    if (group == NULL) {
        return NULL;
    }
    struct list *next = previous != NULL ? previous->links[lookup].node.next
                                         : group->members.next;
    return next == &group->members ? NULL : entry_of_link(next, lookup);
}

size_t
cache_count_alike(const struct cache *cache, const struct state_row *key,
                  size_t lookup)
{
    const struct cache_table *table = &cache->tables[key->table];

    CHECK(lookup < lookup_count(cache, table));
    if (table->bucket_count == 0) {
        return 0;
    }
    const struct cache_group *group =
        find_group(table, key, lookup, lookup_hash(key, lookup));
    return group != NULL ? group->count : 0;
}

/* ---- All of it ---- */

void
cache_init(struct cache *cache)
{
    *cache = (struct cache){ .generation = 1 };
    for (size_t i = 0; i < STATE_TABLE_COUNT; i++) {
        cache->tables[i].table = (enum state_table)i;
        list_init(&cache->tables[i].entries);
    }
}

void
cache_done(struct cache *cache)
{
    for (size_t i = 0; i < STATE_TABLE_COUNT; i++) {
        struct cache_table *table = &cache->tables[i];
        struct list *node;
        while ((node = list_pop_front(&table->entries)) != NULL) {
            struct cache_entry *entry =
                container_of(node, struct cache_entry, node);
            unlink_groups(cache, table, entry);
            state_row_free(entry->row);
            free(entry);
        }
        for (size_t chain = 0; chain < 1 + STATE_INDEX_MAX; chain++) {
            free(table->buckets[chain]);
        }
        for (size_t lookup = 0; lookup < STATE_LOOKUP_MAX; lookup++) {
            free(table->groups[lookup]);
        }
    }
}

static uint64_t
chain_hash(const struct state_row *row, size_t chain)
{
    if (chain == 0) {
        return state_uuid_hash(&row->uuid);
    }
    return state_row_hash(row, state_class_of(row->table)->indexes[chain - 1]);
}

static struct cache_entry **
bucket_of(const struct cache_table *table, size_t chain, uint64_t hash)
{
    return &table->buckets[chain][hash & (table->bucket_count - 1)];
}

static void
link_entry(struct cache_table *table, struct cache_entry *entry)
{
    for (size_t chain = 0; chain < chain_count(table); chain++) {
        entry->hash[chain] = chain_hash(entry->row, chain);
        struct cache_entry **bucket =
            bucket_of(table, chain, entry->hash[chain]);
        entry->next[chain] = *bucket;
        *bucket = entry;
    }
}

static void
unlink_entry(struct cache_table *table, struct cache_entry *entry)
{
    for (size_t chain = 0; chain < chain_count(table); chain++) {
        struct cache_entry **at = bucket_of(table, chain, entry->hash[chain]);
        while (*at != entry) {
            CHECK(*at != NULL);
            at = &(*at)->next[chain];
        }
        *at = entry->next[chain];
    }
}

static void
grow(const struct cache *cache, struct cache_table *table)
{
    size_t old_count = table->bucket_count;

    if (table->count < old_count) {
        return;
    }

    table->bucket_count =
        table->bucket_count == 0 ? 16 : table->bucket_count * 2;
    for (size_t chain = 0; chain < chain_count(table); chain++) {
        free(table->buckets[chain]);
        table->buckets[chain] =
            state_alloc(table->bucket_count * sizeof(void *));
    }
    LIST_FOREACH (node, &table->entries) {
        link_entry(table, container_of(node, struct cache_entry, node));
    }
    grow_groups(cache, table, old_count);
}

struct cache_entry *
cache_find(const struct cache *cache, enum state_table table,
           const struct weft_uuid *uuid)
{
    const struct cache_table *space = &cache->tables[table];
    struct cache_entry *entry;

    if (space->bucket_count == 0) {
        return NULL;
    }
    entry = *bucket_of(space, 0, state_uuid_hash(uuid));
    while (entry != NULL && !uuid_equal(&entry->row->uuid, uuid)) {
        entry = entry->next[0];
    }
    return entry;
}

struct cache_entry *
cache_find_by_index(const struct cache *cache, const struct state_row *key,
                    size_t index)
{
    const struct cache_table *table = &cache->tables[key->table];
    const struct state_class *class = state_class_of(key->table);
    struct cache_entry *entry;

    CHECK(index < class->index_count);
    if (table->bucket_count == 0) {
        return NULL;
    }
    entry = *bucket_of(table, 1 + index, chain_hash(key, 1 + index));
    while (entry != NULL &&
           !state_row_equal(entry->row, key, class->indexes[index])) {
        entry = entry->next[1 + index];
    }
    return entry;
}

struct cache_entry *
cache_next(const struct cache *cache, enum state_table table,
           const struct cache_entry *previous)
{
    const struct list *head = &cache->tables[table].entries;
    struct list *next = previous == NULL ? head->next : previous->node.next;

    return next == head ? NULL : container_of(next, struct cache_entry, node);
}

struct state_row *
cache_put(struct cache *cache, struct state_row *row)
{
    struct cache_table *table = &cache->tables[row->table];
    struct cache_entry *entry = cache_find(cache, row->table, &row->uuid);

    if (entry != NULL) {
        struct state_row *old = entry->row;
        unlink_entry(table, entry);
        unlink_groups(cache, table, entry);
        entry->row = row;
        entry->generation = cache->generation;
        link_entry(table, entry);
        link_groups(cache, table, entry);
        return old;
    }

    grow(cache, table);
    entry = state_alloc(sizeof *entry +
                        lookup_count(cache, table) * sizeof entry->links[0]);
    entry->row = row;
    entry->generation = cache->generation;
    list_push_back(&table->entries, &entry->node);
    link_entry(table, entry);
    link_groups(cache, table, entry);
    table->count++;
    return NULL;
}

struct state_row *
cache_take(struct cache *cache, enum state_table table,
           const struct weft_uuid *uuid)
{
    struct cache_table *space = &cache->tables[table];
    struct cache_entry *entry = cache_find(cache, table, uuid);

    if (entry == NULL) {
        return NULL;
    }

    struct state_row *row = entry->row;
    unlink_entry(space, entry);
    unlink_groups(cache, space, entry);
    list_remove(&entry->node);
    space->count--;
    free(entry);
    return row;
}
