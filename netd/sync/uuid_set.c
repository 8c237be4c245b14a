/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/sync/uuid_set.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/check.h"

static int
compare(const void *a, const void *b)
{
    return uuid_compare(a, b);
}

void
uuid_set_add(struct uuid_set *set, const struct weft_uuid *uuid)
{
    if (uuid_is_nil(uuid)) {
        return;
    }
    if (set->count == set->capacity) {
        set->capacity = set->capacity == 0 ? 16 : set->capacity * 2;
        set->items = realloc(set->items, set->capacity * sizeof set->items[0]);
        CHECK(set->items != NULL);
    }
    set->items[set->count++] = *uuid;
}

void
uuid_set_seal(struct uuid_set *set)
{
    size_t kept = 0;

    if (set->count == 0) {
        return;
    }
    qsort(set->items, set->count, sizeof set->items[0], compare);
    for (size_t i = 0; i < set->count; i++) {
        if (kept == 0 || !uuid_equal(&set->items[kept - 1], &set->items[i])) {
            set->items[kept++] = set->items[i];
        }
    }
    set->count = kept;
}

bool
uuid_set_has(const struct uuid_set *set, const struct weft_uuid *uuid)
{
    return set->count > 0 && bsearch(uuid, set->items, set->count,
                                     sizeof set->items[0], compare) != NULL;
}

bool
uuid_set_equal(const struct uuid_set *a, const struct uuid_set *b)
{
    return a->count == b->count &&
           (a->count == 0 ||
            memcmp(a->items, b->items, a->count * sizeof a->items[0]) == 0);
}

void
uuid_set_clear(struct uuid_set *set)
{
    set->count = 0;
}

void
uuid_set_done(struct uuid_set *set)
{
    free(set->items);
    *set = (struct uuid_set){ NULL, 0, 0 };
}
