/* SPDX-License-Identifier: Apache-2.0 */

/* Numbers on the wire and in flows (N2, N8): chosen at random among those that
 * have no row in Wire_Number; the index decides if two choose the same at
 * once.  When the owner goes the row stays, freed, and is given up by the
 * clean-up (gc.c). */

#include <stdio.h>
#include <string.h>

#include "netd/api/internal.h"

uint32_t
net_number_take(struct api_op *op, struct state_txn *txn, const char *kind,
                const struct weft_uuid *owner)
{
    struct netd_api *api = net_op_api(op);
    uint32_t first = strcmp(kind, "identity") == 0 ? NET_IDENTITY_FIRST : 1;
    struct state_wire_number row = { .row.table = STATE_TABLE_WIRE_NUMBER,
                                     .kind = kind,
                                     .owner = *owner };
    char purpose[32];

    do { /* With millions of them it takes a few tries. */
        row.number = (uint32_t)rng_between(&api->rng, first, NET_NUMBER_MAX);
    } while (state_wire_number_find_by_kind_number(api->state, kind,
                                                   row.number) != NULL);
    (void)snprintf(purpose, sizeof purpose, "number/%s", kind);
    api_op_uuid(op, purpose, &row.row.uuid);
    state_txn_insert(txn, &row.row, STATE_WIRE_NUMBER_COL_ALL);
    return row.number;
}

void
net_number_free(struct state_txn *txn, const struct state *state,
                const char *kind, uint32_t number)
{
    const struct state_wire_number *old =
        state_wire_number_find_by_kind_number(state, kind, number);

    if (old == NULL) {
        return; /* Somebody has tidied up by hand. */
    }
    struct state_wire_number row = { .row = old->row,
                                     .is_freed = true,
                                     .freed_at_seq = 0 };
    state_txn_update(txn, &row.row,
                     STATE_WIRE_NUMBER_COL_IS_FREED |
                         STATE_WIRE_NUMBER_COL_FREED_AT_SEQ);
}
