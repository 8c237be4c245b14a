/* SPDX-License-Identifier: Apache-2.0 */

/* Changes: service/api_op.c with what all of the network's have in common.
 *
 * Waiting (N11): with 'wait' the change's own transaction raises Scope_Seq of
 * what it concerns; the answer comes when the hosts have acknowledged that
 * (wait.c).  Two changes of one scope at once collide and one is built anew. */

#include <stdio.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "lib/base/units.h"
#include "netd/api/internal.h"

struct net_op *
net_op_of(struct api_op *op)
{
    return container_of(op, struct net_op, op);
}

struct netd_api *
net_op_api(const struct api_op *op)
{
    return container_of(op->service, struct netd_api, service);
}

void
net_op_serialize(struct api_op *op, const struct weft_uuid *scope)
{
    struct net_op *net = net_op_of(op);

    for (uint32_t i = 0; i < net->scope_count; i++) {
        if (uuid_equal(&net->scopes[i], scope)) {
            return;
        }
    }
    CHECK(net->scope_count < NET_SCOPES_MAX);
    net->scopes[net->scope_count++] = *scope;
}

void
net_op_scope(struct api_op *op, const struct weft_uuid *scope)
{
    if (net_op_of(op)->wait && net_op_of(op)->scope_count < NET_SCOPES_MAX) {
        net_op_serialize(op, scope);
    }
}

/* Raises the scopes' numbers. */
static void
op_bump(struct net_op *net, struct state_txn *txn, const struct state *state)
{
    for (uint32_t i = 0; i < net->scope_count; i++) {
        const struct state_scope_seq *old =
            state_scope_seq_find_by_scope(state, &net->scopes[i]);
        struct state_scope_seq row = { .row.table = STATE_TABLE_SCOPE_SEQ,
                                       .scope = net->scopes[i],
                                       .seq = 1 };
        char purpose[UUID_TEXT_SIZE + 8] = "scope/";

        if (old == NULL) {
            /* Not derived from the scope: then of two that insert it at once
             * both would be taken for committed. */
            uuid_format(&net->scopes[i], purpose + strlen(purpose));
            api_op_uuid(&net->op, purpose, &row.row.uuid);
            state_txn_insert(txn, &row.row, STATE_SCOPE_SEQ_COL_ALL);
            continue;
        }
        row.row.uuid = old->row.uuid;
        row.seq = old->seq + 1;
        state_txn_verify(txn, &old->row, STATE_SCOPE_SEQ_COL_SEQ);
        state_txn_update(txn, &row.row, STATE_SCOPE_SEQ_COL_SEQ);
    }
}

/* It was committed before.  What it was about stands in its Operation; whom it
 * concerned is not known any more: all that anybody waits for. */
static void
op_repeat(struct net_op *net, const struct state *state)
{
    const struct state_operation *old =
        state_operation_get(state, &net->op.operation);
    struct rpc_error ignored;

    for (int kind = 0; old != NULL && kind < NET_KINDS; kind++) {
        const struct state_row *row =
            net_find(state, (enum net_kind)kind, "name", old->target, &ignored);
        if (row != NULL) {
            net->uuid = row->uuid;
        }
    }
    for (const struct state_scope_seq *row = state_scope_seq_next(state, NULL);
         row != NULL; row = state_scope_seq_next(state, row)) {
        net_op_scope(&net->op, &row->scope);
    }
}

static int
op_build(struct api_op *op, struct state_txn *txn, struct state *state)
{
    struct net_op *net = net_op_of(op);
    int result;

    net->scope_count = 0;
    net->host[0] = '\0';
    net->wait_kind = NET_WAIT_ACKS;
    net_addresses_release(op);
    if (api_op_is_repeated(op, state, &result)) {
        op_repeat(net, state);
        return result;
    }
    result = net->build(op, txn, state);
    if (result == 0) {
        op_bump(net, txn, state);
    }
    return result;
}

static void
op_reply(struct api_op *op)
{
    struct net_op *net = net_op_of(op);

    if (net->wait) {
        net_wait_start(net);
    } else {
        net->answer(net_op_api(op), op->call, &net->uuid);
    }
}

static void
op_ended(struct api_op *op)
{
    net_addresses_release(op);
}

void
net_op_start(struct rpc_call *call, const ProtobufCMessage *request,
             const char *request_id, bool wait, api_build_fn *build,
             net_answer_fn *answer)
{
    struct api_op *op = api_op_new(call, request, request_id,
                                   &(const struct api_op_options){
                                       .build = op_build,
                                       .reply = op_reply,
                                       .ended = op_ended,
                                       .size = sizeof(struct net_op),
                                       .conflicts_max = NET_CONFLICTS_MAX,
                                   });

    if (op != NULL) {
        net_op_of(op)->wait = wait;
        net_op_of(op)->build = build;
        net_op_of(op)->answer = answer;
        api_op_begin(op);
    }
}

void
net_op_record(struct api_op *op, struct state_txn *txn, const char *project,
              const char *collection, const char *name)
{
    (void)snprintf(op->target, sizeof op->target, "projects/%s/%s/%s", project,
                   collection, name);
    api_op_insert_operation(op, txn);
}

void
net_answer_empty(struct netd_api *api, struct rpc_call *call,
                 const struct weft_uuid *uuid)
{
    Google__Protobuf__Empty empty = GOOGLE__PROTOBUF__EMPTY__INIT;
    (void)api;
    (void)uuid;

    rpc_call_reply(call, &empty.base);
}

void
net_answer_gone(struct rpc_call *call)
{
    rpc_call_fail_text(call, RPC_UNAVAILABLE, "DATABASE_UNAVAILABLE",
                       "the change was made, but its object cannot be shown "
                       "just now, or has been deleted since; look again");
}
