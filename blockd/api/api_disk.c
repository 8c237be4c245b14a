/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "blockd/api/api_internal.h"
#include "lib/base/container_of.h"

static const char *const device_class_texts[] = { "", "hdd", "ssd", "nvme",
                                                  "file" };

Weft__V1__DeviceClass
api_device_class_from_text(const char *text)
{
    for (int i = 0; i < 5; i++) {
        if (strcmp(text, device_class_texts[i]) == 0) {
            return (Weft__V1__DeviceClass)i;
        }
    }
    return WEFT__V1__DEVICE_CLASS__DEVICE_CLASS_UNSPECIFIED;
}

const char *
api_device_class_text(Weft__V1__DeviceClass device_class)
{
    return (int)device_class >= 0 && (int)device_class < 5
               ? device_class_texts[(int)device_class]
               : "";
}

char *
api_disk_name(struct reply_arena *arena, struct state *state,
              const struct weft_uuid *disk)
{
    const struct state_disk *row = state_disk_find_by_disk_uuid(state, disk);
    char text[UUID_TEXT_SIZE];

    uuid_format(disk, text);
    return row == NULL
               ? reply_text(arena, "%s", text)
               : reply_text(arena, "hosts/%s/disks/%s", row->host, text);
}

static void
disk_fill_state(struct reply_arena *arena, Weft__V1__Disk *disk,
                const struct state_disk *row,
                const struct state_disk_status *status)
{
    if (row->state == STATE_DISK_STATE_REFUSED ||
        row->state == STATE_DISK_STATE_FAILED) {
        disk->state = WEFT__V1__DISK__STATE__FAILED;
        disk->state_reason = reply_text(arena, "%s", row->error);
    } else if (row->state == STATE_DISK_STATE_ADDING || status == NULL) {
        disk->state = WEFT__V1__DISK__STATE__OPENING;
    } else if (status->state == STATE_DISK_STATUS_STATE_SERVING) {
        disk->state = WEFT__V1__DISK__STATE__ONLINE;
    } else if (status->state == STATE_DISK_STATUS_STATE_FAILED) {
        disk->state = WEFT__V1__DISK__STATE__FAILED;
        disk->state_reason = reply_text(arena, "%s", status->error);
    } else {
        disk->state = WEFT__V1__DISK__STATE__OFFLINE;
    }
}

Weft__V1__Disk *
api_disk_message(struct reply_arena *arena, struct state *state,
                 const struct state_disk *row)
{
    const struct state_disk_status *status =
        state_disk_status_find_by_disk_uuid(state, &row->disk_uuid);
    const struct state_pool *pool = state_pool_get(state, &row->pool);
    Weft__V1__Disk *disk = reply_alloc(arena, sizeof *disk);

    weft__v1__disk__init(disk);
    disk->name = api_disk_name(arena, state, &row->disk_uuid);
    disk->uid = reply_uuid(arena, &row->disk_uuid);
    disk->path = reply_text(arena, "%s", row->path);
    if (pool != NULL) {
        disk->pool = reply_text(arena, "pools/%s", pool->name);
    }
    disk->device_class = api_device_class_from_text(row->device_class);
    disk_fill_state(arena, disk, row, status);
    disk->size_bytes = (int64_t)row->size_bytes;
    if (status != NULL) {
        disk->used_bytes = (int64_t)status->used_bytes;
    }
    for (const struct state_replica_status *replica =
             state_replica_status_next(state, NULL);
         replica != NULL; replica = state_replica_status_next(state, replica)) {
        disk->replica_count +=
            uuid_equal(&replica->disk_uuid, &row->disk_uuid) &&
            replica->state != STATE_REPLICA_STATUS_STATE_FAILED;
    }
    return disk;
}

/* ---- Create ---- */

static int
disk_create_build(struct api_op *op, struct state_txn *txn, struct state *state)
{
    const Weft__V1__CreateDiskRequest *request = (const void *)op->request;
    const struct state_pool *pool = NULL;
    char host[API_NAME_PART_SIZE] = "", pool_name[API_NAME_PART_SIZE] = "";
    char text[UUID_TEXT_SIZE];
    int result;

    if (api_op_is_repeated(op, state, &result)) {
        return result;
    }
    if (!api_name_parse(request->parent, "hosts", host) ||
        state_host_find_by_name(state, host) == NULL) {
        return api_op_refuse(op, RPC_NOT_FOUND, "HOST_NOT_FOUND",
                             "there is no host \"%s\"; 'weft host list' shows "
                             "all",
                             host);
    }
    if (request->disk->pool[0] != '\0') {
        if (!api_name_parse(request->disk->pool, "pools", pool_name)) {
            return api_op_refuse(op, RPC_INVALID_ARGUMENT, "INVALID_NAME",
                                 "\"%s\" is not of the form pools/NAME",
                                 request->disk->pool);
        }
        pool = state_pool_find_by_name(state, pool_name);
        if (pool == NULL) {
            return api_op_refuse(op, RPC_NOT_FOUND, "POOL_NOT_FOUND",
                                 "there is no pool \"%s\"; create it with "
                                 "'weft pool create'",
                                 pool_name);
        }
        state_txn_verify(txn, &pool->row, 0);
    }
    const struct state_disk *old =
        state_disk_find_by_host_path(state, host, request->disk->path);
    if (old != NULL && old->state != STATE_DISK_STATE_REFUSED) {
        return api_op_refuse(op, RPC_ALREADY_EXISTS, "DISK_EXISTS",
                             "%s on host %s is a disk of Weft already",
                             request->disk->path, host);
    }
    if (old != NULL) {
        /* One that was refused makes room for another try. */
        state_txn_delete(txn, STATE_TABLE_DISK, &old->row.uuid);
    }
    struct state_disk row = {
        .row.table = STATE_TABLE_DISK,
        .host = host,
        .path = request->disk->path,
        .device_class = api_device_class_text(request->disk->device_class),
        .force = request->force,
        .state = STATE_DISK_STATE_ADDING,
    };
    api_op_uuid(op, "disk", &row.row.uuid);
    api_op_uuid(op, "disk_uuid", &row.disk_uuid);
    row.pool = pool != NULL ? pool->row.uuid : (struct weft_uuid){ { 0 } };
    state_txn_insert(txn, &row.row,
                     STATE_DISK_COL_DISK_UUID | STATE_DISK_COL_HOST |
                         STATE_DISK_COL_PATH | STATE_DISK_COL_POOL |
                         STATE_DISK_COL_DEVICE_CLASS | STATE_DISK_COL_FORCE |
                         STATE_DISK_COL_STATE);
    uuid_format(&row.disk_uuid, text);
    (void)snprintf(op->target, sizeof op->target, "hosts/%s/disks/%s", host,
                   text);
    api_op_insert_operation(op, txn);
    return 0;
}

static void
disk_create(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__CreateDiskRequest *request = (const void *)message;
    char host[API_NAME_PART_SIZE];
    struct rpc_error error;

    if (!api_take_name(call, "parent", request->parent, "hosts", host)) {
        return;
    }
    rpc_error_set_invalid(&error);
    if (request->disk == NULL || request->disk->path[0] == '\0') {
        rpc_error_add_violation(&error, "disk.path",
                                "is empty; give the absolute path of a block "
                                "device or file");
    } else if (request->disk->path[0] != '/' ||
               strlen(request->disk->path) > 4000) {
        rpc_error_add_violation(&error, "disk.path",
                                "\"%.200s\" is not an absolute path of at "
                                "most 4000 bytes",
                                request->disk->path);
    }
    if (error.violation_count > 0) {
        rpc_call_fail(call, &error);
        return;
    }
    api_op_start(call, message, request->request_id, disk_create_build,
                 api_op_reply_operation);
}

/* ---- Delete ---- */

/* What is in the trash on a disk goes with it: nobody could remove it later. */
static void
disk_delete_replicas(struct state_txn *txn, struct state *state,
                     const struct weft_uuid *disk)
{
    for (const struct state_tombstone *row = state_tombstone_next(state, NULL);
         row != NULL; row = state_tombstone_next(state, row)) {
        if (uuid_equal(&row->disk_uuid, disk)) {
            state_txn_delete(txn, STATE_TABLE_TOMBSTONE, &row->row.uuid);
        }
    }
    for (const struct state_replica_status *row =
             state_replica_status_next(state, NULL);
         row != NULL; row = state_replica_status_next(state, row)) {
        if (uuid_equal(&row->disk_uuid, disk)) {
            state_txn_delete(txn, STATE_TABLE_REPLICA_STATUS, &row->row.uuid);
        }
    }
}

static int
disk_delete_build(struct api_op *op, struct state_txn *txn, struct state *state)
{
    const Weft__V1__DeleteDiskRequest *request = (const void *)op->request;
    char host[API_NAME_PART_SIZE], id[API_NAME_PART_SIZE];
    struct weft_uuid uuid;
    int result;

    if (api_op_is_repeated(op, state, &result)) {
        return result;
    }
    const struct state_disk *row = NULL;
    if (api_name_parse_two(request->name, "hosts", "disks", host, id) &&
        uuid_parse(id, &uuid) == 0) {
        row = state_disk_find_by_disk_uuid(state, &uuid);
    }
    if (row == NULL) {
        return api_op_refuse(op, RPC_NOT_FOUND, "DISK_NOT_FOUND",
                             "there is no disk \"%s\"; 'weft disk list' shows "
                             "all",
                             request->name);
    }
    for (const struct state_mirror *mirror = state_mirror_next(state, NULL);
         mirror != NULL; mirror = state_mirror_next(state, mirror)) {
        for (size_t i = 0; i < mirror->replicas_count; i++) {
            if (uuid_equal(&mirror->replicas[i].value, &row->disk_uuid)) {
                return api_op_refuse(
                    op, RPC_FAILED_PRECONDITION, "DISK_IN_USE",
                    "disk %s holds replicas of volumes; delete these first",
                    request->name);
            }
        }
    }
    const struct state_disk_status *status =
        state_disk_status_find_by_disk_uuid(state, &row->disk_uuid);
    state_txn_verify(txn, &row->row, STATE_DISK_COL_CLAIM);
    state_txn_delete(txn, STATE_TABLE_DISK, &row->row.uuid);
    if (status != NULL) {
        state_txn_delete(txn, STATE_TABLE_DISK_STATUS, &status->row.uuid);
    }
    disk_delete_replicas(txn, state, &row->disk_uuid);
    (void)snprintf(op->target, sizeof op->target, "%s", request->name);
    api_op_insert_operation(op, txn);
    return 0;
}

static void
disk_delete(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__DeleteDiskRequest *request = (const void *)message;

    api_op_start(call, message, request->request_id, disk_delete_build,
                 api_op_reply_operation);
}

/* ---- Read ---- */

static void
disk_list(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__ListDisksRequest *request = (const void *)message;
    struct state *state = api_of(call)->state;
    Weft__V1__ListDisksResponse reply = WEFT__V1__LIST_DISKS_RESPONSE__INIT;
    struct api_list list;
    char host[API_NAME_PART_SIZE];

    if (!api_take_name(call, "parent", request->parent, "hosts", host) ||
        !api_list_begin(&list, call, &weft__v1__disk__descriptor,
                        request->parent, request->page_size,
                        request->page_token, request->filter)) {
        return;
    }
    for (const struct state_disk *row = state_disk_next(state, NULL);
         row != NULL; row = state_disk_next(state, row)) {
        if (strcmp(host, "-") == 0 || strcmp(host, row->host) == 0) {
            api_list_add(&list,
                         &api_disk_message(&list.arena, state, row)->base,
                         NULL);
        }
    }
    api_list_page(&list, (ProtobufCMessage ***)(void *)&reply.disks,
                  &reply.n_disks, &reply.next_page_token);
    rpc_call_reply(call, &reply.base);
    api_list_end(&list);
}

static void
disk_get(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__GetDiskRequest *request = (const void *)message;
    struct state *state = api_of(call)->state;
    struct reply_arena arena = { NULL };
    char host[API_NAME_PART_SIZE], id[API_NAME_PART_SIZE];
    const struct state_disk *row = NULL;
    struct weft_uuid uuid;

    if (!api_take_name_two(call, "name", request->name, "hosts", "disks", host,
                           id)) {
        return;
    }
    if (uuid_parse(id, &uuid) == 0) {
        row = state_disk_find_by_disk_uuid(state, &uuid);
    }
    if (row == NULL || strcmp(row->host, host) != 0) {
        rpc_call_fail_text(call, RPC_NOT_FOUND, "DISK_NOT_FOUND",
                           "there is no disk \"%s\"; 'weft disk list' shows "
                           "all",
                           request->name);
        return;
    }
    rpc_call_reply(call, &api_disk_message(&arena, state, row)->base);
    reply_free(&arena);
}

const struct rpc_method api_disk_methods[] = {
    { "CreateDisk", RPC_UNARY, disk_create },
    { "ListDisks", RPC_UNARY, disk_list },
    { "GetDisk", RPC_UNARY, disk_get },
    { "DeleteDisk", RPC_UNARY, disk_delete },
};
const size_t api_disk_method_count =
    sizeof api_disk_methods / sizeof api_disk_methods[0];
