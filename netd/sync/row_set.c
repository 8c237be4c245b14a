/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/sync/row_set.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/check.h"

/* UUIDs are random or digests: any of their bytes are a hash. */
static size_t
home_of(const struct row_set *set, uint32_t table, const struct weft_uuid *uuid)
{
    uint64_t hash;

    memcpy(&hash, uuid->bytes + 8, sizeof hash);
    hash = (hash ^ table) * UINT64_C(0x9e3779b97f4a7c15);
    return (size_t)(hash >> 20) & (set->capacity - 1);
}

/* The slot of the key, or the free one where it would be. */
static size_t
find_slot(const struct row_set *set, uint32_t table,
          const struct weft_uuid *uuid)
{
    size_t at = home_of(set, table, uuid);

    while (set->slots[at].table != 0 &&
           (set->slots[at].table != table ||
            !uuid_equal(&set->slots[at].uuid, uuid))) {
        at = (at + 1) & (set->capacity - 1);
    }
    return at;
}

static void
grow(struct row_set *set)
{
    struct row_set bigger = {
        .count = set->count,
        .capacity = set->capacity == 0 ? 64 : set->capacity * 2,
    };

    bigger.slots = calloc(bigger.capacity, sizeof bigger.slots[0]);
    CHECK(bigger.slots != NULL);
    for (size_t i = 0; i < set->capacity; i++) {
        const struct row_key *key = &set->slots[i];
        if (key->table != 0) {
            bigger.slots[find_slot(&bigger, key->table, &key->uuid)] = *key;
        }
    }
    free(set->slots);
    *set = bigger;
}

bool
row_set_add(struct row_set *set, enum state_table table,
            const struct weft_uuid *uuid)
{
    uint32_t number = (uint32_t)table + 1;

    if ((set->count + 1) * 4 > set->capacity * 3) {
        grow(set);
    }
    size_t at = find_slot(set, number, uuid);
    if (set->slots[at].table != 0) {
        return false;
    }
    set->slots[at] = (struct row_key){ .uuid = *uuid, .table = number };
    set->count++;
    return true;
}

bool
row_set_has(const struct row_set *set, enum state_table table,
            const struct weft_uuid *uuid)
{
    return set->capacity > 0 &&
           set->slots[find_slot(set, (uint32_t)table + 1, uuid)].table != 0;
}

bool
row_set_remove(struct row_set *set, enum state_table table,
               const struct weft_uuid *uuid)
{
    if (set->capacity == 0) {
        return false;
    }
    size_t mask = set->capacity - 1;
    size_t hole = find_slot(set, (uint32_t)table + 1, uuid);
    if (set->slots[hole].table == 0) {
        return false;
    }
    set->count--;
    /* Whatever follows and may not stand behind a hole moves into it. */
    for (size_t at = (hole + 1) & mask; set->slots[at].table != 0;
         at = (at + 1) & mask) {
        size_t home = home_of(set, set->slots[at].table, &set->slots[at].uuid);
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            set->slots[hole] = set->slots[at];
            hole = at;
        }
    }
    set->slots[hole].table = 0;
    return true;
}

void
row_set_done(struct row_set *set)
{
    free(set->slots);
    *set = (struct row_set){ NULL, 0, 0 };
}
