/* SPDX-License-Identifier: Apache-2.0 */

/* One change, from the request to the answer.
 *
 * Idempotency: whatever a request creates has UUIDs derived from its
 * request_id, and its Operation row (or the created row itself) says that it
 * was done; a request that comes again finds that and is answered as before. */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "lib/base/crc32c.h"
#include "lib/base/units.h"
#include "service/service.h"

/* The longest that a change waits for the database. */
#define API_TXN_MAX_NS (600 * NS_PER_S)

static void
api_op_end(struct api_op *op)
{
    if (op->ended != NULL) {
        op->ended(op);
    }
    list_remove(&op->node);
    free(op);
}

int
api_op_refuse(struct api_op *op, enum rpc_code code, const char *reason,
              const char *format, ...)
{
    char text[sizeof op->error.text];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    rpc_error_set(&op->error, code, reason, "%s", text);
    return -EPROTO;
}

static int
api_op_build(struct state_txn *txn, struct state *state)
{
    struct api_op *op = container_of(txn, struct api_op, txn);

    op->error.code = RPC_OK;
    return op->build(op, txn, state);
}

static void
api_op_fail(struct api_op *op, int result)
{
    switch (-result) {
    case EPROTO:
        rpc_call_fail(op->call, &op->error);
        return;
    case EEXIST:
        rpc_call_fail_text(op->call, RPC_ALREADY_EXISTS, "ALREADY_EXISTS",
                           "something of that name exists already (%s)",
                           op->txn.error);
        return;
    case ETIMEDOUT:
    case ESHUTDOWN:
        rpc_call_fail_text(op->call, RPC_UNAVAILABLE, "DATABASE_UNAVAILABLE",
                           "the database does not answer; nothing was "
                           "changed, try again");
        return;
    case EREMOTEIO:
        rpc_call_fail_text(op->call, RPC_UNAVAILABLE, "OUTCOME_UNKNOWN",
                           "the connection to the database was lost; the "
                           "change may have been made: repeat it with the "
                           "same request_id");
        return;
    case ECANCELED:
        rpc_call_fail_text(op->call, RPC_ABORTED, "CONFLICT",
                           "somebody else changed the same objects; try "
                           "again");
        return;
    case EBUSY:
        rpc_call_fail_text(op->call, RPC_FAILED_PRECONDITION, "IN_USE",
                           "something else refers to it by now; try again");
        return;
    case EACCES:
        rpc_call_fail_text(op->call, RPC_PERMISSION_DENIED, "DATABASE_REFUSED",
                           "the database does not let this host write that: "
                           "%s",
                           op->txn.error);
        return;
    case EINVAL:
        rpc_call_fail_text(op->call, RPC_INVALID_ARGUMENT, "INVALID",
                           "the database refused the values: %s",
                           op->txn.error);
        return;
    default:
        rpc_call_fail_text(op->call, RPC_INTERNAL, "INTERNAL", "%s (%s)",
                           strerror(-result), op->txn.error);
        return;
    }
}

static void api_op_done(struct state_txn *txn, int result);

static void
api_op_send(struct api_op *op)
{
    op->txn = (struct state_txn){
        .build = api_op_build,
        .done = api_op_done,
        .comment = op->comment,
        .deadline_ns = op->deadline_ns,
        .flags = STATE_TXN_RETRY,
    };
    state_txn_start(op->service->state, &op->txn);
}

static void
api_op_done(struct state_txn *txn, int result)
{
    struct api_op *op = container_of(txn, struct api_op, txn);

    if (result == -EEXIST && op->conflicts < op->conflicts_max &&
        !op->service->is_stopping) {
        op->conflicts++;
        api_op_send(op);
        return;
    }
    if (result == 0) {
        op->reply(op);
    } else {
        api_op_fail(op, result);
    }
    api_op_end(op);
}

static void
api_op_digest(struct api_op *op)
{
    size_t size = protobuf_c_message_get_packed_size(op->request);
    uint8_t *bytes = malloc(size > 0 ? size : 1);
    CHECK(bytes != NULL);
    (void)protobuf_c_message_pack(op->request, bytes);
    (void)snprintf(op->digest, sizeof op->digest, "%08x-%zx",
                   crc32c(0, bytes, size), size);
    free(bytes);
}

void
api_op_start(struct rpc_call *call, const ProtobufCMessage *request,
             const char *request_id, api_build_fn *build, api_reply_fn *reply)
{
    struct api_op *op =
        api_op_new(call, request, request_id,
                   &(const struct api_op_options){
                       .build = build, .reply = reply, .size = sizeof *op });

    if (op != NULL) {
        api_op_begin(op);
    }
}

/* While the database is away a change waits as long as its client does, so that
 * it happens when the database is back; but for the last eighth, in which the
 * client hears that it did not. */
static uint64_t
api_op_deadline(const struct rpc_call *call)
{
    uint64_t now_ns = loop_now_ns(), client_ns = rpc_call_deadline_ns(call);

    if (client_ns == UINT64_MAX) {
        return now_ns + API_TXN_NS;
    }
    uint64_t left_ns = client_ns > now_ns ? client_ns - now_ns : 0;
    left_ns -= left_ns / 8;
    return now_ns + (left_ns < API_TXN_MAX_NS ? left_ns : API_TXN_MAX_NS);
}

struct api_op *
api_op_new(struct rpc_call *call, const ProtobufCMessage *request,
           const char *request_id, const struct api_op_options *options)
{
    struct service *service = service_of(call);
    uint64_t deadline_ns = api_op_deadline(call);

    if (api_refuse_if_stopping(call)) {
        return NULL;
    }
    struct weft_uuid id;
    if (request_id[0] != '\0' && uuid_parse(request_id, &id) != 0) {
        struct rpc_error error;
        rpc_error_set_invalid(&error);
        rpc_error_add_violation(&error, "request_id",
                                "\"%.80s\" is not a UUID; take a new random "
                                "one for each request",
                                request_id);
        rpc_call_fail(call, &error);
        return NULL;
    }
    struct api_op *op = calloc(1, options->size);
    CHECK(op != NULL);
    op->service = service;
    op->call = call;
    op->request = request;
    op->build = options->build;
    op->reply = options->reply;
    op->ended = options->ended;
    op->conflicts_max = options->conflicts_max;
    (void)snprintf(op->comment, sizeof op->comment, "api %s",
                   rpc_call_method(call));
    if (request_id[0] != '\0') {
        (void)snprintf(op->request_id, sizeof op->request_id, "%s", request_id);
    } else {
        struct weft_uuid random;
        char text[UUID_TEXT_SIZE];
        state_uuid_random(&random);
        uuid_format(&random, text);
        (void)snprintf(op->request_id, sizeof op->request_id, "%s", text);
    }
    api_op_digest(op);
    state_uuid_derive(op->request_id, "operation", &op->operation);
    if (rpc_call_deadline_ns(call) < deadline_ns) {
        deadline_ns = rpc_call_deadline_ns(call);
    }
    op->deadline_ns = deadline_ns;
    list_init(&op->node);
    return op;
}

void
api_op_begin(struct api_op *op)
{
    list_push_back(&op->service->ops, &op->node);
    api_op_send(op);
}

void
api_op_uuid(const struct api_op *op, const char *purpose,
            struct weft_uuid *ret_uuid)
{
    state_uuid_derive(op->request_id, purpose, ret_uuid);
}

bool
api_op_is_repeated(struct api_op *op, struct state *state, int *ret_result)
{
    const struct state_operation *old =
        state_operation_find_by_request_id(state, op->request_id);

    if (old == NULL) {
        return false;
    }
    if (strcmp(old->kind, rpc_call_method(op->call)) != 0 ||
        strcmp(old->request_digest, op->digest) != 0) {
        *ret_result = api_op_refuse(
            op, RPC_INVALID_ARGUMENT, "REQUEST_ID_REUSED",
            "request_id \"%s\" was used for another request; take a new "
            "random UUID for each",
            op->request_id);
        rpc_error_add_violation(&op->error, "request_id",
                                "was used for another request");
    } else {
        op->operation = old->row.uuid;
        *ret_result = STATE_TXN_NOTHING;
    }
    return true;
}

void
api_op_insert_operation(struct api_op *op, struct state_txn *txn)
{
    struct state_operation row = {
        .row = { .table = STATE_TABLE_OPERATION, .uuid = op->operation },
        .request_id = op->request_id,
        .kind = rpc_call_method(op->call),
        .target = op->target,
        .request_digest = op->digest,
        .state = STATE_OPERATION_STATE_RUNNING,
        .create_time_ms = service_wall_ms(),
    };

    row.update_time_ms = row.create_time_ms;
    row.error = "";
    state_txn_insert(txn, &row.row, STATE_OPERATION_COL_ALL);
}
