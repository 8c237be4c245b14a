/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "blockd/api/api_internal.h"
#include "lib/base/units.h"

#define POOL_EXTENT_DEFAULT MIB
#define POOL_SLOW_MS_DEFAULT 500
#define POOL_STRIPE_MAX 64

static Weft__V1__Pool *
pool_message(struct reply_arena *arena, struct state *state,
             const struct state_pool *row)
{
    Weft__V1__Pool *pool = reply_alloc(arena, sizeof *pool);

    weft__v1__pool__init(pool);
    pool->name = reply_text(arena, "pools/%s", row->name);
    pool->uid = reply_uuid(arena, &row->row.uuid);
    pool->replicas = (int32_t)row->replicas;
    pool->min_in_sync = (int32_t)row->min_in_sync;
    pool->failure_domain = row->failure_domain == STATE_POOL_FAILURE_DOMAIN_RACK
                               ? WEFT__V1__FAILURE_DOMAIN__FAILURE_DOMAIN_RACK
                               : WEFT__V1__FAILURE_DOMAIN__FAILURE_DOMAIN_HOST;
    pool->device_class = api_device_class_from_text(row->device_class);
    pool->stripe_width = (int32_t)row->stripe_width;
    pool->extent_size_bytes = row->extent_bytes;
    pool->trash_seconds = (int32_t)row->trash_seconds;
    pool->slow_ms = (int32_t)row->slow_ms;
    for (const struct state_disk *disk = state_disk_next(state, NULL);
         disk != NULL; disk = state_disk_next(state, disk)) {
        const struct state_disk_status *status =
            state_disk_status_find_by_disk_uuid(state, &disk->disk_uuid);
        if (!uuid_is_nil(&disk->pool) &&
            !uuid_equal(&disk->pool, &row->row.uuid)) {
            continue; /* One without a pool serves all of them. */
        }
        pool->disk_count++;
        if (status != NULL) {
            pool->used_bytes += (int64_t)status->used_bytes;
            pool->size_bytes +=
                (int64_t)(status->used_bytes + status->free_bytes);
        }
    }
    for (const struct state_volume *volume = state_volume_next(state, NULL);
         volume != NULL; volume = state_volume_next(state, volume)) {
        pool->volume_count += uuid_equal(&volume->pool, &row->row.uuid);
    }
    return pool;
}

/* ---- Create ---- */

static void
pool_check(const Weft__V1__CreatePoolRequest *request, struct rpc_error *error)
{
    const Weft__V1__Pool *pool = request->pool;

    if (!name_is_valid(request->pool_id)) {
        rpc_error_add_violation(error, "pool_id", "\"%.80s\" is not a name; %s",
                                request->pool_id, NAME_RULE_TEXT);
    }
    if (pool == NULL) {
        rpc_error_add_violation(error, "pool", "is missing");
        return;
    }
    if (pool->replicas < 1 || pool->replicas > 3) {
        rpc_error_add_violation(error, "pool.replicas",
                                "is %d; 1, 2 or 3 is right", pool->replicas);
    } else if (pool->min_in_sync < 0 || pool->min_in_sync > pool->replicas) {
        rpc_error_add_violation(error, "pool.min_in_sync",
                                "is %d; 1 to %d (the replicas) is right",
                                pool->min_in_sync, pool->replicas);
    }
    if (pool->stripe_width < 0 || pool->stripe_width > POOL_STRIPE_MAX) {
        rpc_error_add_violation(error, "pool.stripe_width",
                                "is %d; 0 (by the number of disks) to %d is "
                                "right",
                                pool->stripe_width, POOL_STRIPE_MAX);
    }
    if (pool->extent_size_bytes != 0 &&
        (pool->extent_size_bytes < (int64_t)MIB ||
         pool->extent_size_bytes > (int64_t)GIB ||
         !units_is_power_of_two((uint64_t)pool->extent_size_bytes))) {
        rpc_error_add_violation(error, "pool.extent_size_bytes",
                                "is %lld; a power of two from 1 MiB to 1 GiB "
                                "is right",
                                (long long)pool->extent_size_bytes);
    }
    if (pool->trash_seconds < 0) {
        rpc_error_add_violation(error, "pool.trash_seconds",
                                "is negative; 0 or more is right");
    }
    if (pool->slow_ms < 0 || pool->slow_ms > 600000) {
        rpc_error_add_violation(error, "pool.slow_ms",
                                "is %d; 0 (500) to 600000 is right",
                                pool->slow_ms);
    }
}

static int
pool_create_build(struct api_op *op, struct state_txn *txn, struct state *state)
{
    const Weft__V1__CreatePoolRequest *request = (const void *)op->request;
    const Weft__V1__Pool *pool = request->pool;
    struct state_pool row = {
        .row.table = STATE_TABLE_POOL,
        .name = request->pool_id,
        .replicas = (uint32_t)pool->replicas,
        .min_in_sync = (uint32_t)pool->min_in_sync,
        .failure_domain = pool->failure_domain ==
                                  WEFT__V1__FAILURE_DOMAIN__FAILURE_DOMAIN_RACK
                              ? STATE_POOL_FAILURE_DOMAIN_RACK
                              : STATE_POOL_FAILURE_DOMAIN_HOST,
        .device_class = api_device_class_text(pool->device_class),
        .extent_bytes = pool->extent_size_bytes != 0
                            ? (uint32_t)pool->extent_size_bytes
                            : (uint32_t)POOL_EXTENT_DEFAULT,
        .stripe_width =
            pool->stripe_width != 0 ? (uint32_t)pool->stripe_width : 1,
        .trash_seconds = (uint32_t)pool->trash_seconds,
        .slow_ms =
            pool->slow_ms != 0 ? (uint32_t)pool->slow_ms : POOL_SLOW_MS_DEFAULT,
    };

    int result;

    if (api_op_is_repeated(op, state, &result)) {
        return result;
    }
    if (row.min_in_sync == 0) { /* By default one may fail. */
        row.min_in_sync = row.replicas > 1 ? row.replicas - 1 : 1;
    }
    api_op_uuid(op, "pool", &row.row.uuid);
    if (state_pool_find_by_name(state, request->pool_id) != NULL) {
        return api_op_refuse(op, RPC_ALREADY_EXISTS, "POOL_EXISTS",
                             "there is a pool \"%s\" already",
                             request->pool_id);
    }
    state_txn_insert(txn, &row.row, STATE_POOL_COL_ALL);
    (void)snprintf(op->target, sizeof op->target, "pools/%s", request->pool_id);
    api_op_insert_operation(op, txn);
    return 0;
}

static void
pool_create_reply(struct api_op *op)
{
    const Weft__V1__CreatePoolRequest *request = (const void *)op->request;
    struct state *state = op->service->state;
    const struct state_pool *row =
        state_pool_find_by_name(state, request->pool_id);
    struct reply_arena arena = { NULL };

    if (row == NULL) {
        rpc_call_fail_text(op->call, RPC_UNAVAILABLE, "DATABASE_UNAVAILABLE",
                           "the pool was created, but it cannot be shown just "
                           "now, or has been deleted since; look again");
        return;
    }
    rpc_call_reply(op->call, &pool_message(&arena, state, row)->base);
    reply_free(&arena);
}

static void
pool_create(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__CreatePoolRequest *request = (const void *)message;
    struct rpc_error error;

    rpc_error_set_invalid(&error);
    pool_check(request, &error);
    if (error.violation_count > 0) {
        rpc_call_fail(call, &error);
        return;
    }
    api_op_start(call, message, request->request_id, pool_create_build,
                 pool_create_reply);
}

/* ---- Delete ---- */

static int
pool_delete_build(struct api_op *op, struct state_txn *txn, struct state *state)
{
    const Weft__V1__DeletePoolRequest *request = (const void *)op->request;
    char name[API_NAME_PART_SIZE] = "";
    const struct state_pool *row = NULL;
    int result;

    if (api_op_is_repeated(op, state, &result)) {
        return result;
    }
    if (api_name_parse(request->name, "pools", name)) {
        row = state_pool_find_by_name(state, name);
    }
    if (row == NULL) {
        return api_op_refuse(op, RPC_NOT_FOUND, "POOL_NOT_FOUND",
                             "there is no pool \"%s\"; 'weft pool list' shows "
                             "all",
                             request->name);
    }
    for (const struct state_volume *volume = state_volume_next(state, NULL);
         volume != NULL; volume = state_volume_next(state, volume)) {
        if (uuid_equal(&volume->pool, &row->row.uuid)) {
            return api_op_refuse(op, RPC_FAILED_PRECONDITION, "POOL_IN_USE",
                                 "pool \"%s\" has volumes (%s/%s is one); "
                                 "delete them first",
                                 name, volume->project, volume->name);
        }
    }
    for (const struct state_disk *disk = state_disk_next(state, NULL);
         disk != NULL; disk = state_disk_next(state, disk)) {
        if (uuid_equal(&disk->pool, &row->row.uuid)) {
            return api_op_refuse(op, RPC_FAILED_PRECONDITION, "POOL_IN_USE",
                                 "pool \"%s\" has disks (%s on %s is one); "
                                 "delete them first",
                                 name, disk->path, disk->host);
        }
    }
    state_txn_delete(txn, STATE_TABLE_POOL, &row->row.uuid);
    (void)snprintf(op->target, sizeof op->target, "%s", request->name);
    api_op_insert_operation(op, txn);
    return 0;
}

static void
pool_delete_reply(struct api_op *op)
{
    Google__Protobuf__Empty empty = GOOGLE__PROTOBUF__EMPTY__INIT;

    rpc_call_reply(op->call, &empty.base);
}

static void
pool_delete(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__DeletePoolRequest *request = (const void *)message;

    api_op_start(call, message, request->request_id, pool_delete_build,
                 pool_delete_reply);
}

/* ---- Read ---- */

static void
pool_get(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__GetPoolRequest *request = (const void *)message;
    struct state *state = api_of(call)->state;
    struct reply_arena arena = { NULL };
    char name[API_NAME_PART_SIZE];

    if (!api_take_name(call, "name", request->name, "pools", name)) {
        return;
    }
    const struct state_pool *row = state_pool_find_by_name(state, name);
    if (row == NULL) {
        rpc_call_fail_text(call, RPC_NOT_FOUND, "POOL_NOT_FOUND",
                           "there is no pool \"%s\"; 'weft pool list' shows "
                           "all",
                           name);
        return;
    }
    rpc_call_reply(call, &pool_message(&arena, state, row)->base);
    reply_free(&arena);
}

static void
pool_list(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__ListPoolsRequest *request = (const void *)message;
    struct state *state = api_of(call)->state;
    Weft__V1__ListPoolsResponse reply = WEFT__V1__LIST_POOLS_RESPONSE__INIT;
    struct api_list list;

    if (!api_list_begin(&list, call, &weft__v1__pool__descriptor, "",
                        request->page_size, request->page_token,
                        request->filter)) {
        return;
    }
    for (const struct state_pool *row = state_pool_next(state, NULL);
         row != NULL; row = state_pool_next(state, row)) {
        api_list_add(&list, &pool_message(&list.arena, state, row)->base, NULL);
    }
    api_list_page(&list, (ProtobufCMessage ***)(void *)&reply.pools,
                  &reply.n_pools, &reply.next_page_token);
    rpc_call_reply(call, &reply.base);
    api_list_end(&list);
}

const struct rpc_method api_pool_methods[] = {
    { "CreatePool", RPC_UNARY, pool_create },
    { "GetPool", RPC_UNARY, pool_get },
    { "ListPools", RPC_UNARY, pool_list },
    { "DeletePool", RPC_UNARY, pool_delete },
};
const size_t api_pool_method_count =
    sizeof api_pool_methods / sizeof api_pool_methods[0];
