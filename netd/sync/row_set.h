/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_SYNC_ROW_SET_H
#define NETD_SYNC_ROW_SET_H

/* A set of (table, UUID): which rows somebody was told of.  Open addressing;
 * grows; aborts when memory is out.  Zeros are an empty set. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/uuid.h"
#include "lib/state/row.h"

struct row_key {
    struct weft_uuid uuid;
    uint32_t table; /* + 1; 0: free. */
};

struct row_set {
    struct row_key *slots;
    size_t count, capacity; /* A power of two, or 0. */
};

/* true: it was not in it. */
bool row_set_add(struct row_set *set, enum state_table table,
                 const struct weft_uuid *uuid);
bool row_set_has(const struct row_set *set, enum state_table table,
                 const struct weft_uuid *uuid);
/* true: it was in it. */
bool row_set_remove(struct row_set *set, enum state_table table,
                    const struct weft_uuid *uuid);
void row_set_done(struct row_set *set);

#endif /* NETD_SYNC_ROW_SET_H */
