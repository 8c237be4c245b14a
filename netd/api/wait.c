/* SPDX-License-Identifier: Apache-2.0 */

/* Waiting until a change is effective (N11).
 *
 *   1. All hosts concerned have acknowledged the scopes that the change raised.
 *   2. A port that was plugged is up on its host; one that was unplugged is
 *      gone from all.
 *   3. What that host wrote on the way (its Binding, which the others send by)
 *      has to reach the others, too: each time it comes, or is gone, the
 *      network's scope is raised once more, and (1) is about that.
 *
 * All three have to hold at one moment.  So what an earlier plug has left
 * behind misleads nobody: by the time that the port's host has acknowledged
 * what was raised, its status is about this plug.
 *
 * A host is concerned if it has a Follow row of the scope, or the change names
 * it; it is waited for while it is enabled and alive.  All is read off the
 * rows, at each batch of changes and once a second. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "lib/base/units.h"
#include "netd/api/internal.h"

#define WAITS_MAX 1024u
#define WAIT_MAX_NS (60 * NS_PER_S)
/* The answer has to reach the client before its own deadline. */
#define WAIT_MARGIN_NS (300 * NS_PER_MS)

struct net_wait {
    struct netd_api *api;
    struct list node;
    struct rpc_call *call; /* NULL: answered; only the transaction is left. */
    struct rpc_call_events events;
    net_answer_fn *answer;
    enum net_wait_kind kind;
    struct weft_uuid uuid;
    struct weft_uuid scopes[NET_SCOPES_MAX];
    uint64_t seqs[NET_SCOPES_MAX];
    uint32_t scope_count;
    uint64_t own_seq; /* Of the first scope, as raised by the change. */
    char host[64];
    uint64_t deadline_ns;
    bool was_there;   /* UP: its Binding, GONE: nothing, at the last look. */
    bool needs_raise; /* (3) */
    bool is_raising;
    bool is_placed;
    struct state_txn txn;
    struct weft_uuid seq_row;
    char silent[256]; /* Who is waited for, for people. */
};

static void
wait_free(struct net_wait *wait)
{
    list_remove(&wait->node);
    free(wait);
}

/* The call is answered; the transaction may still be under way. */
static void
wait_end(struct net_wait *wait)
{
    wait->call = NULL;
    if (wait->is_raising) {
        state_txn_cancel(&wait->txn);
    } else {
        wait_free(wait);
    }
}

static void
wait_cancelled(struct rpc_call_events *events)
{
    struct net_wait *wait = container_of(events, struct net_wait, events);

    rpc_call_fail_text(wait->call, RPC_CANCELLED, NULL, "cancelled");
    wait_end(wait);
}

static void
wait_note(struct net_wait *wait, const char *host)
{
    size_t used = strlen(wait->silent);

    (void)snprintf(wait->silent + used, sizeof wait->silent - used, "%s%.63s",
                   used > 0 ? ", " : "", host);
}

/* ---- Looking ---- */

static bool
wait_is_acked(struct net_wait *wait)
{
    const struct state *state = wait->api->state;
    bool is_acked = true;

    for (const struct state_net_host *host = state_net_host_next(state, NULL);
         host != NULL; host = state_net_host_next(state, host)) {
        bool is_silent = false;
        if (!host->enabled || !net_host_is_alive(wait->api, host->host)) {
            continue;
        }
        for (uint32_t i = 0; i < wait->scope_count && !is_silent; i++) {
            const struct state_follow *follow =
                state_follow_find_by_host_scope(state, host->host,
                                                &wait->scopes[i]);
            /* The host that the change names follows the first scope, the
             * network, sooner or later. */
            is_silent = follow != NULL
                            ? follow->acked < wait->seqs[i]
                            : i == 0 && strcmp(host->host, wait->host) == 0;
        }
        if (is_silent) {
            wait_note(wait, host->host);
            is_acked = false;
        }
    }
    return is_acked;
}

static void
wait_take_seqs(struct net_wait *wait)
{
    for (uint32_t i = 0; i < wait->scope_count; i++) {
        const struct state_scope_seq *row =
            state_scope_seq_find_by_scope(wait->api->state, &wait->scopes[i]);
        wait->seqs[i] = row != NULL ? row->seq : 0;
    }
}

/* Whether the port's host knows of the change. */
static bool
wait_is_known(const struct net_wait *wait)
{
    const struct state_follow *follow =
        state_follow_find_by_host_scope(wait->api->state, wait->host,
                                        &wait->scopes[0]);

    return follow != NULL && follow->acked >= wait->own_seq;
}

/* (2) for UP.  'ret_error': it never will be. */
static bool
wait_is_up(const struct net_wait *wait, const char **ret_error)
{
    const struct state_port_status *row =
        state_port_status_find_by_port_host(wait->api->state, &wait->uuid,
                                            wait->host);

    if (row == NULL) {
        return false;
    }
    if (row->state == STATE_PORT_STATUS_STATE_DOWN && row->error[0] != '\0' &&
        wait_is_known(wait)) {
        *ret_error = row->error;
    }
    return row->state == STATE_PORT_STATUS_STATE_UP;
}

/* (2) for GONE. */
static bool
wait_is_gone(struct net_wait *wait)
{
    bool is_gone = true;

    for (const struct state_port_status *row = NULL;
         (row = state_port_status_next_by_port(wait->api->state, &wait->uuid,
                                               row)) != NULL;) {
        if (net_host_is_alive(wait->api, row->host)) {
            is_gone = false;
            wait_note(wait, row->host);
        }
    }
    return is_gone;
}

/* (2), and whether that calls for (3). */
static void
wait_look(struct net_wait *wait, const char **ret_error)
{
    bool is_there = false;

    wait->silent[0] = '\0';
    if (wait->kind == NET_WAIT_UP) {
        is_there =
            state_binding_find_by_port_host(wait->api->state, &wait->uuid,
                                            wait->host) != NULL;
        wait->is_placed = wait_is_up(wait, ret_error);
    } else if (wait->kind == NET_WAIT_GONE) {
        is_there = wait_is_gone(wait);
        wait->is_placed = is_there;
    } else {
        wait->is_placed = true;
    }
    wait->needs_raise = wait->needs_raise || (is_there && !wait->was_there);
    wait->was_there = is_there;
}

/* ---- Raising ---- */

static int
wait_raise_build(struct state_txn *txn, struct state *state)
{
    struct net_wait *wait = container_of(txn, struct net_wait, txn);
    const struct state_scope_seq *old =
        state_scope_seq_find_by_scope(state, &wait->scopes[0]);
    struct state_scope_seq row = { .row.table = STATE_TABLE_SCOPE_SEQ,
                                   .row.uuid = wait->seq_row,
                                   .scope = wait->scopes[0],
                                   .seq = 1 };

    if (old == NULL) {
        state_txn_insert(txn, &row.row, STATE_SCOPE_SEQ_COL_ALL);
        return 0;
    }
    row.row.uuid = old->row.uuid;
    row.seq = old->seq + 1;
    state_txn_verify(txn, &old->row, STATE_SCOPE_SEQ_COL_SEQ);
    state_txn_update(txn, &row.row, STATE_SCOPE_SEQ_COL_SEQ);
    return 0;
}

static void wait_check(struct net_wait *wait);

static void
wait_raise_done(struct state_txn *txn, int result)
{
    struct net_wait *wait = container_of(txn, struct net_wait, txn);
    (void)result; /* If it failed others raised it, or the deadline comes. */

    wait->is_raising = false;
    if (wait->call == NULL) {
        wait_free(wait);
        return;
    }
    wait_take_seqs(wait);
    wait_check(wait);
}

static void
wait_raise(struct net_wait *wait)
{
    wait->needs_raise = false;
    wait->is_raising = true;
    state_uuid_random(&wait->seq_row);
    wait->txn = (struct state_txn){
        .build = wait_raise_build,
        .done = wait_raise_done,
        .comment = "netd api: wait",
        .deadline_ns = wait->deadline_ns,
        .flags = STATE_TXN_RETRY,
    };
    state_txn_start(wait->api->state, &wait->txn);
}

static void
wait_fail_late(struct net_wait *wait)
{
    struct rpc_error error;

    if (wait->kind == NET_WAIT_UP && !wait->is_placed) {
        rpc_error_set(&error, RPC_DEADLINE_EXCEEDED, "HOSTS_SILENT",
                      "the change was made, but the port is not up on host %s "
                      "yet; 'weft port show' tells how far it is",
                      wait->host);
    } else {
        rpc_error_set(&error, RPC_DEADLINE_EXCEEDED, "HOSTS_SILENT",
                      "the change was made, but these hosts have not confirmed "
                      "it in time: %s",
                      wait->silent[0] != '\0' ? wait->silent : "(unknown)");
    }
    rpc_call_fail(wait->call, &error);
    wait_end(wait);
}

/* Goes on as far as it can; may end the wait. */
static void
wait_check(struct net_wait *wait)
{
    const char *error = NULL;

    if (wait->call == NULL) {
        return;
    }
    wait_look(wait, &error);
    if (error != NULL) {
        rpc_call_fail_text(wait->call, RPC_FAILED_PRECONDITION, "PORT_REFUSED",
                           "the port was plugged, but its host refuses it: %s",
                           error);
        wait_end(wait);
        return;
    }
    if (wait->needs_raise && !wait->is_raising) {
        wait_raise(wait);
    }
    if (wait->is_placed && !wait->needs_raise && !wait->is_raising &&
        wait_is_acked(wait)) {
        wait->answer(wait->api, wait->call, &wait->uuid);
        wait_end(wait);
        return;
    }
    if (loop_now_ns() >= wait->deadline_ns) {
        wait_fail_late(wait);
    }
}

/* ---- Interface ---- */

static void
wait_deadline(struct loop_timer *timer)
{
    net_wait_check_all(container_of(timer, struct netd_api, deadline));
}

void
net_wait_init(struct netd_api *api)
{
    list_init(&api->waits);
    loop_timer_init(&api->deadline, wait_deadline);
}

/* The timer follows the first deadline. */
static void
wait_arm(struct netd_api *api)
{
    uint64_t first_ns = LOOP_NEVER;

    LIST_FOREACH (node, &api->waits) {
        const struct net_wait *wait = container_of(node, struct net_wait, node);
        if (wait->call != NULL && wait->deadline_ns < first_ns) {
            first_ns = wait->deadline_ns;
        }
    }
    if (first_ns != LOOP_NEVER) {
        loop_timer_set(api->loop, &api->deadline, first_ns);
    } else {
        loop_timer_cancel(api->loop, &api->deadline);
    }
}

void
net_wait_start(struct net_op *op)
{
    struct netd_api *api = net_op_api(&op->op);
    struct rpc_call *call = op->op.call;
    uint64_t call_ns = rpc_call_deadline_ns(call);

    if (list_count(&api->waits) >= WAITS_MAX) {
        rpc_call_fail_text(call, RPC_RESOURCE_EXHAUSTED, "TOO_MANY_WAITS",
                           "the change was made, but %u clients wait already; "
                           "look at it later",
                           WAITS_MAX);
        return;
    }
    if (api_refuse_if_stopping(call)) {
        return;
    }
    struct net_wait *wait = calloc(1, sizeof *wait);
    CHECK(wait != NULL);
    wait->api = api;
    wait->call = call;
    wait->answer = op->answer;
    wait->kind = op->scope_count == 0 ? NET_WAIT_ACKS : op->wait_kind;
    wait->uuid = op->uuid;
    memcpy(wait->scopes, op->scopes, sizeof wait->scopes);
    wait->scope_count = op->scope_count;
    (void)snprintf(wait->host, sizeof wait->host, "%s", op->host);
    wait->deadline_ns = loop_now_ns() + WAIT_MAX_NS;
    if (call_ns != UINT64_MAX && call_ns - WAIT_MARGIN_NS < wait->deadline_ns) {
        wait->deadline_ns = call_ns - WAIT_MARGIN_NS;
    }
    wait_take_seqs(wait);
    wait->own_seq = wait->seqs[0];
    wait->events.cancelled = wait_cancelled;
    list_push_back(&api->waits, &wait->node);
    rpc_call_set_events(call, &wait->events);
    wait_check(wait);
    wait_arm(api);
}

void
net_wait_check_all(struct netd_api *api)
{
    LIST_FOREACH (node, &api->waits) {
        wait_check(container_of(node, struct net_wait, node));
    }
    wait_arm(api);
}

void
net_wait_stop_all(struct netd_api *api)
{
    LIST_FOREACH (node, &api->waits) {
        struct net_wait *wait = container_of(node, struct net_wait, node);
        if (wait->call != NULL) {
            rpc_call_fail_text(wait->call, RPC_UNAVAILABLE, "STOPPING",
                               "the change was made, but this netd stops; "
                               "look at it on another host");
            wait_end(wait);
        }
    }
}

bool
net_wait_is_idle(const struct netd_api *api)
{
    return list_is_empty(&api->waits);
}
