/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/state/private.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/base/container_of.h"

/* Foreign: libopenvswitch. */
#include <jsonrpc.h>
#include <openvswitch/json.h>
#include <openvswitch/poll-loop.h>
#include <ovsdb-cs.h>

/* The life of a transaction.
 *
 *     start --> QUEUED --build(), send--> SENT --committed, refused--> FINISHED
 *                 ^  |                     |                              ^
 *                 |  +--build() decides----|------------------------------+
 *                 |                        |                              |
 *                 +------ WAITING <--------+--conflict or unknown---------+
 *                 rows changed    (with STATE_TXN_RETRY)      (without it)
 *
 *   (1) 'result' of an unsettled transaction is what it ends with if its
 *       deadline comes first.  Once an outcome is unknown that is -EREMOTEIO,
 *       until an attempt settles it.
 *   (2) A conflict is retried only after the rows have changed: a build() that
 *       verifies what it reads cannot spin.
 *   (3) done() is called from txn_finish() only. */

enum {
    TXN_IDLE, /* Never started, or after done(). */
    TXN_QUEUED,
    TXN_WAITING,
    TXN_SENT,
    TXN_FINISHED,
};

static void
settle(struct state_txn *txn, int result)
{
    struct state *state = txn->owner;

    CHECK(txn->state != TXN_IDLE);
    CHECK(txn->state != TXN_FINISHED);
    txn->state = TXN_FINISHED;
    txn->result = result;
    list_remove(&txn->node);
    list_push_back(&state->finished, &txn->node);
}

void
state_txn_start(struct state *state, struct state_txn *txn)
{
    CHECK(txn->build != NULL);
    CHECK(txn->done != NULL);
    CHECK(txn->state == TXN_IDLE);

    txn->owner = state;
    txn->state = TXN_QUEUED;
    txn->result = -ETIMEDOUT;
    txn->error[0] = '\0';
    txn->conflict_columns = 0;
    txn->attempts = 0;
    txn->private = txn_build_new();
    list_push_back(&state->txns, &txn->node);
    state->needs_turn = true;
}

void
state_txn_cancel(struct state_txn *txn)
{
    if (txn->state == TXN_IDLE || txn->state == TXN_FINISHED) {
        return;
    }
    txn->deadline_ns = 1;
    txn->owner->needs_turn = true;
}

static void
forget_request(struct state_txn *txn)
{
    struct state_txn_private *private = txn->private;

    if (private->request_id != NULL) {
        ovsdb_cs_forget_transaction(txn->owner->cs, private->request_id);
        json_destroy(private->request_id);
        private->request_id = NULL;
    }
}

static void
outcome_unknown(struct state_txn *txn)
{
    CHECK(txn->state == TXN_SENT);
    forget_request(txn);
    if (txn->error[0] == '\0') {
        snprintf(txn->error, sizeof txn->error,
                 "the connection to the database was lost");
    }
    if ((txn->flags & STATE_TXN_RETRY) != 0) {
        txn->result = -EREMOTEIO;
        txn->state = TXN_QUEUED;
    } else {
        settle(txn, -EREMOTEIO);
    }
}

static void
conflict(struct state_txn *txn, int result)
{
    CHECK(txn->state == TXN_SENT);
    if (result == -ECANCELED && (txn->flags & STATE_TXN_RETRY) != 0) {
        if (txn->result != -EREMOTEIO) {
            txn->result = result;
        }
        txn->state = TXN_WAITING;
    } else {
        settle(txn, result);
    }
}

void
txn_lose_all(struct state *state)
{
    LIST_FOREACH (node, &state->txns) {
        struct state_txn *txn = container_of(node, struct state_txn, node);
        if (txn->state == TXN_SENT) {
            outcome_unknown(txn);
        }
    }
}

bool
txn_is_on_its_way(const struct state *state)
{
    LIST_FOREACH (node, &state->txns) {
        if (container_of(node, struct state_txn, node)->state == TXN_SENT) {
            return true;
        }
    }
    return false;
}

static struct state_txn *
find_by_request(struct state *state, const struct json *id)
{
    LIST_FOREACH (node, &state->txns) {
        struct state_txn *txn = container_of(node, struct state_txn, node);
        if (txn->state == TXN_SENT && id != NULL &&
            json_equal(txn->private->request_id, id)) {
            return txn;
        }
    }
    return NULL;
}

void
txn_reply(struct state *state, const struct jsonrpc_msg *reply)
{
    struct state_txn *txn = find_by_request(state, reply->id);
    int result = -EINVAL;

    if (txn == NULL) {
        return; /* Its deadline came. */
    }

    enum txn_verdict verdict = txn_result_judge(txn, reply, &result);
    json_destroy(txn->private->request_id);
    txn->private->request_id = NULL;
    switch (verdict) {
    case TXN_VERDICT_COMMITTED:
        settle(txn, 0);
        return;
    case TXN_VERDICT_CONFLICT:
        conflict(txn, result);
        return;
    case TXN_VERDICT_REFUSED:
        settle(txn, result);
        return;
    case TXN_VERDICT_UNKNOWN:
        outcome_unknown(txn);
        return;
    case TXN_VERDICT_WRONG_SERVER:
        txn->state = TXN_QUEUED;
        state->is_flagged = true;
        ovsdb_cs_flag_inconsistency(state->cs);
        return;
    }
}

/* Builds and sends; afterwards it is SENT, WAITING, FINISHED, or still QUEUED
 * because the connection has just gone. */
static void
try_send(struct state *state, struct state_txn *txn)
{
    txn->seqno = state->seqno;
    int result = txn_build_call(txn);
    if (result == STATE_TXN_NOTHING) {
        settle(txn, 0);
        return;
    }
    if (result == -EAGAIN) {
        txn->state = TXN_WAITING;
        return;
    }
    if (result < 0) {
        settle(txn, result);
        return;
    }

    txn->error[0] = '\0';
    txn->private->request_id =
        ovsdb_cs_send_transaction(state->cs, txn_build_take(txn));
    if (txn->private->request_id != NULL) {
        txn->attempts++;
        txn->state = TXN_SENT;
    }
}

static void
advance(struct state *state, struct state_txn *txn, uint64_t now_ns)
{
    bool is_late = txn->deadline_ns != 0 && txn->deadline_ns <= now_ns;

    switch (txn->state) {
    case TXN_WAITING:
        if (state->seqno != txn->seqno && !is_late) {
            txn->state = TXN_QUEUED;
            advance(state, txn, now_ns);
            return;
        }
        if (is_late) {
            settle(txn, txn->result);
        }
        return;

    case TXN_QUEUED:
        if (is_late) {
            settle(txn, txn->result);
        } else if (state->status.is_connected && state->has_lock_name &&
                   !state->status.is_locked) {
            settle(txn, txn->result == -EREMOTEIO ? -EREMOTEIO : -ENOLCK);
        } else if (state->status.is_connected) {
            try_send(state, txn);
        }
        return;

    case TXN_SENT:
        if (is_late) {
            forget_request(txn);
            snprintf(txn->error, sizeof txn->error,
                     "no answer from the database in time");
            settle(txn, -EREMOTEIO);
        }
        return;

    default:
        CHECK(false); /* IDLE and FINISHED are not on the list. */
    }
}

void
txn_run(struct state *state)
{
    uint64_t now_ns = loop_now_ns();

    state->needs_turn = false;
    LIST_FOREACH (node, &state->txns) {
        advance(state, container_of(node, struct state_txn, node), now_ns);
    }
}

void
txn_finish(struct state *state)
{
    struct list due;
    struct list *node;

    list_init(&due);
    list_splice_back(&due, &state->finished);
    while ((node = list_pop_front(&due)) != NULL) {
        struct state_txn *txn = container_of(node, struct state_txn, node);
        txn_build_free(txn->private);
        txn->private = NULL;
        txn->state = TXN_IDLE;
        txn->done(txn, txn->result); /* May free or restart it. */
    }
}

void
txn_wait(struct state *state)
{
    uint64_t now_ns = loop_now_ns();

    if (state->needs_turn || !list_is_empty(&state->finished)) {
        poll_immediate_wake();
    }
    LIST_FOREACH (node, &state->txns) {
        struct state_txn *txn = container_of(node, struct state_txn, node);
        if (txn->deadline_ns == 0) {
            continue;
        }
        if (txn->deadline_ns <= now_ns) {
            poll_immediate_wake();
            continue;
        }
        uint64_t wait_ms = (txn->deadline_ns - now_ns + 999999) / 1000000;
        poll_timer_wait(wait_ms > INT_MAX ? INT_MAX : (int)wait_ms);
    }
}

void
txn_close_all(struct state *state)
{
    struct list *node;

    while ((node = list_front(&state->txns)) != NULL) {
        struct state_txn *txn = container_of(node, struct state_txn, node);
        bool may_be_committed =
            txn->state == TXN_SENT || txn->result == -EREMOTEIO;
        forget_request(txn);
        settle(txn, may_be_committed ? -EREMOTEIO : -ESHUTDOWN);
    }
    txn_finish(state);
}
