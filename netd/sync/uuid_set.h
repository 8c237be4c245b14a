/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_SYNC_UUID_SET_H
#define NETD_SYNC_UUID_SET_H

/* A set of UUIDs as a sorted array: to be filled, sealed, then asked.  Zeros
 * are an empty, sealed set.  Memory: aborts when it is out. */

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/uuid.h"

struct uuid_set {
    struct weft_uuid *items;
    size_t count, capacity;
};

/* Nil UUIDs are left out.  Unseals. */
void uuid_set_add(struct uuid_set *set, const struct weft_uuid *uuid);
/* Sorts and drops doubles. */
void uuid_set_seal(struct uuid_set *set);
/* Of a sealed set. */
bool uuid_set_has(const struct uuid_set *set, const struct weft_uuid *uuid);
bool uuid_set_equal(const struct uuid_set *a, const struct uuid_set *b);
void uuid_set_clear(struct uuid_set *set);
/* Frees; zeros afterwards. */
void uuid_set_done(struct uuid_set *set);

#endif /* NETD_SYNC_UUID_SET_H */
