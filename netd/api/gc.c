/* SPDX-License-Identifier: Apache-2.0 */

/* The clean-up: identities that no port has, numbers out of quarantine (N2),
 * and old operations.
 *
 *   1. Identities that were unused at two rounds in a row are deleted; their
 *      numbers are freed with them.
 *   2. Freed numbers without a sequence get the next one of the scope "wire",
 *      which is raised in the same transaction.
 *   3. Freed numbers whose sequence all enabled hosts have acknowledged go.
 *
 * Every API does this, each at its own times; each step compares and sets, so
 * that it does not matter who is first.  One transaction at a time. */

#include <errno.h>
#include <stdlib.h>

#include "lib/base/container_of.h"
#include "lib/base/units.h"
#include "netd/api/internal.h"

#define ROUND_MIN_NS (10 * NS_PER_S)
#define ROUND_MAX_NS (20 * NS_PER_S)
#define BATCH_MAX 500u
#define UNUSED_MAX 64u
/* A little more than blockd's manager keeps, if there is one. */
#define OPERATIONS_MAX 6000u

struct net_gc {
    struct netd_api *api;
    struct state_txn txn;
    bool is_busy;
    bool is_stopped;
    uint64_t next_ns;
    struct weft_uuid unused[UNUSED_MAX]; /* Identities, at the last round. */
    size_t unused_count;
    struct weft_uuid wire;    /* The scope. */
    struct weft_uuid seq_row; /* Its row, should it have to be made. */
};

/* ---- Identities ---- */

static void
gc_identities(struct net_gc *gc, struct state_txn *txn,
              const struct state *state)
{
    struct weft_uuid unused[UNUSED_MAX];
    size_t count = 0;

    for (const struct state_identity *row = state_identity_next(state, NULL);
         row != NULL && count < UNUSED_MAX;
         row = state_identity_next(state, row)) {
        if (state_port_count_by_identity(state, &row->row.uuid) == 0) {
            unused[count++] = row->row.uuid;
        }
    }
    for (size_t i = 0; i < count; i++) {
        const struct state_identity *row =
            state_identity_get(state, &unused[i]);
        if (state_uuids_contain(gc->unused, gc->unused_count, &unused[i])) {
            net_identity_delete(txn, state, row);
        }
    }
    for (size_t i = 0; i < count; i++) {
        gc->unused[i] = unused[i];
    }
    gc->unused_count = count;
}

/* ---- Numbers ---- */

/* What all enabled hosts have acknowledged of the scope; UINT64_MAX if there
 * is no host. */
static uint64_t
gc_acked(const struct net_gc *gc, const struct state *state)
{
    uint64_t acked = UINT64_MAX;

    for (const struct state_net_host *host = state_net_host_next(state, NULL);
         host != NULL; host = state_net_host_next(state, host)) {
        const struct state_follow *follow =
            state_follow_find_by_host_scope(state, host->host, &gc->wire);
        uint64_t own = follow != NULL ? follow->acked : 0;
        if (host->enabled && own < acked) {
            acked = own;
        }
    }
    return acked;
}

static void
gc_raise(struct net_gc *gc, struct state_txn *txn, const struct state *state,
         uint64_t *ret_seq)
{
    const struct state_scope_seq *old =
        state_scope_seq_find_by_scope(state, &gc->wire);
    struct state_scope_seq row = { .row.table = STATE_TABLE_SCOPE_SEQ,
                                   .row.uuid = gc->seq_row,
                                   .scope = gc->wire,
                                   .seq = 1 };

    if (old == NULL) {
        state_txn_insert(txn, &row.row, STATE_SCOPE_SEQ_COL_ALL);
    } else {
        row.row.uuid = old->row.uuid;
        row.seq = old->seq + 1;
        state_txn_verify(txn, &old->row, STATE_SCOPE_SEQ_COL_SEQ);
        state_txn_update(txn, &row.row, STATE_SCOPE_SEQ_COL_SEQ);
    }
    *ret_seq = row.seq;
}

static void
gc_numbers(struct net_gc *gc, struct state_txn *txn, const struct state *state)
{
    uint64_t acked = gc_acked(gc, state), seq = 0;
    uint32_t count = 0;

    for (const struct state_wire_number *row =
             state_wire_number_next(state, NULL);
         row != NULL && count < BATCH_MAX;
         row = state_wire_number_next(state, row)) {
        if (!row->is_freed) {
            continue;
        }
        if (row->freed_at_seq > 0 && row->freed_at_seq <= acked) {
            state_txn_delete(txn, STATE_TABLE_WIRE_NUMBER, &row->row.uuid);
            count++;
        } else if (row->freed_at_seq == 0) {
            if (seq == 0) {
                gc_raise(gc, txn, state, &seq);
            }
            struct state_wire_number next = *row;
            next.freed_at_seq = seq;
            state_txn_verify(txn, &row->row,
                             STATE_WIRE_NUMBER_COL_IS_FREED |
                                 STATE_WIRE_NUMBER_COL_FREED_AT_SEQ);
            state_txn_update(txn, &next.row,
                             STATE_WIRE_NUMBER_COL_FREED_AT_SEQ);
            count++;
        }
    }
}

/* ---- Operations ---- */

static int
compare_operations(const void *a, const void *b)
{
    const struct state_operation *const *left = a;
    const struct state_operation *const *right = b;

    return ((*left)->create_time_ms > (*right)->create_time_ms) -
           ((*left)->create_time_ms < (*right)->create_time_ms);
}

static void
gc_operations(struct state_txn *txn, const struct state *state)
{
    size_t room = state_row_count(state, STATE_TABLE_OPERATION), count = 0;

    if (room <= OPERATIONS_MAX) {
        return;
    }
    const struct state_operation **rows = calloc(room, sizeof *rows);
    CHECK(rows != NULL);
    for (const struct state_operation *row = state_operation_next(state, NULL);
         row != NULL && count < room; row = state_operation_next(state, row)) {
        rows[count++] = row;
    }
    qsort(rows, count, sizeof *rows, compare_operations);
    size_t excess = count > OPERATIONS_MAX ? count - OPERATIONS_MAX : 0;
    for (size_t i = 0; i < excess && i < BATCH_MAX; i++) {
        state_txn_delete(txn, STATE_TABLE_OPERATION, &rows[i]->row.uuid);
    }
    free(rows);
}

/* ---- Rounds ---- */

static int
gc_build(struct state_txn *txn, struct state *state)
{
    struct net_gc *gc = container_of(txn, struct net_gc, txn);

    gc_identities(gc, txn, state);
    gc_numbers(gc, txn, state);
    gc_operations(txn, state);
    return 0; /* With nothing to do, nothing is sent. */
}

static void
gc_done(struct state_txn *txn, int result)
{
    struct net_gc *gc = container_of(txn, struct net_gc, txn);
    (void)result; /* Whatever it was, the next round looks again. */

    gc->is_busy = false;
}

struct net_gc *
net_gc_new(struct netd_api *api)
{
    struct net_gc *gc = calloc(1, sizeof *gc);

    CHECK(gc != NULL);
    gc->api = api;
    state_uuid_derive("weft", "scope/wire", &gc->wire);
    gc->next_ns =
        loop_now_ns() + rng_between(&api->rng, ROUND_MIN_NS, ROUND_MAX_NS);
    return gc;
}

void
net_gc_tick(struct net_gc *gc)
{
    uint64_t now_ns = loop_now_ns();

    if (gc->is_busy || gc->is_stopped || now_ns < gc->next_ns) {
        return;
    }
    gc->next_ns =
        now_ns + rng_between(&gc->api->rng, ROUND_MIN_NS, ROUND_MAX_NS);
    gc->is_busy = true;
    state_uuid_random(&gc->seq_row);
    gc->txn = (struct state_txn){
        .build = gc_build,
        .done = gc_done,
        .comment = "netd api: clean-up",
        .deadline_ns = now_ns + ROUND_MIN_NS,
    };
    state_txn_start(gc->api->state, &gc->txn);
}

void
net_gc_stop(struct net_gc *gc)
{
    gc->is_stopped = true;
    if (gc->is_busy) {
        state_txn_cancel(&gc->txn);
    }
}

bool
net_gc_is_idle(const struct net_gc *gc)
{
    return !gc->is_busy;
}

void
net_gc_free(struct net_gc *gc)
{
    free(gc);
}
