/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/api/api_internal.h"
#include "blockd/cluster/operation.h"
#include "blockd/cluster/placement.h"
#include "lib/base/container_of.h"
#include "lib/base/units.h"

#define VOLUME_SIZE_MAX (UINT64_C(1) << 50)
#define VOLUME_STRIPE_MAX 64u

/* ---- Which volume ---- */

static const struct state_volume *
volume_find(struct state *state, const char *name)
{
    char project[API_NAME_PART_SIZE], id[API_NAME_PART_SIZE];

    if (!api_name_parse_two(name, "projects", "volumes", project, id)) {
        return NULL;
    }
    return state_volume_find_by_project_name(state, project, id);
}

const struct state_volume *
api_take_volume(struct rpc_call *call, const char *name)
{
    char project[API_NAME_PART_SIZE], id[API_NAME_PART_SIZE];

    if (!api_take_name_two(call, "name", name, "projects", "volumes", project,
                           id)) {
        return NULL;
    }
    const struct state_volume *row =
        state_volume_find_by_project_name(api_of(call)->state, project, id);
    if (row == NULL) {
        rpc_call_fail_text(call, RPC_NOT_FOUND, "VOLUME_NOT_FOUND",
                           "there is no volume \"%s\" in project \"%s\"; "
                           "'weft volume list' shows all",
                           id, project);
    }
    return row;
}

static int
volume_refuse_missing(struct api_op *op, const char *name)
{
    return api_op_refuse(op, RPC_NOT_FOUND, "VOLUME_NOT_FOUND",
                         "there is no volume \"%s\"; 'weft volume list' shows "
                         "all",
                         name);
}

/* ---- Create ---- */

static void
volume_count_replica(struct placement_disk *disks, size_t count,
                     const struct weft_uuid *disk)
{
    for (size_t i = 0; i < count; i++) {
        if (uuid_equal(&disks[i].disk, disk)) {
            disks[i].given_count++;
            return;
        }
    }
}

/* Takes from 'replicas_left', so far the maximum, what is there by the rows or
 * by what the disk says, whichever is more: a replica that is being made is
 * only in the rows, one that nobody knows any more only on the disk. */
static void
volume_count_replicas(struct state *state, struct placement_disk *disks,
                      size_t count)
{
    for (const struct state_mirror *row = state_mirror_next(state, NULL);
         row != NULL; row = state_mirror_next(state, row)) {
        for (size_t i = 0; i < row->replicas_count; i++) {
            volume_count_replica(disks, count, &row->replicas[i].value);
        }
    }
    for (const struct state_tombstone *row = state_tombstone_next(state, NULL);
         row != NULL; row = state_tombstone_next(state, row)) {
        volume_count_replica(disks, count, &row->disk_uuid);
    }
    for (size_t i = 0; i < count; i++) {
        const struct state_disk_status *status =
            state_disk_status_find_by_disk_uuid(state, &disks[i].disk);
        uint32_t used = disks[i].given_count;

        if (status->replica_max == 0) {
            disks[i].replicas_left = UINT32_MAX; /* An older blockd's. */
            continue;
        }
        if (status->replica_count > used) {
            used = status->replica_count;
        }
        disks[i].replicas_left =
            status->replica_max > used ? status->replica_max - used : 0;
    }
}

/* The pool's disks that may take replicas; the caller frees them. */
static struct placement_disk *
volume_candidates(const struct api *api, const struct state_pool *pool,
                  size_t *ret_count)
{
    struct state *state = api->state;
    struct placement_disk *disks =
        calloc(state_row_count(state, STATE_TABLE_DISK) + 1, sizeof *disks);
    size_t count = 0;

    CHECK(disks != NULL);
    for (const struct state_disk *row = state_disk_next(state, NULL);
         row != NULL; row = state_disk_next(state, row)) {
        const struct state_disk_status *status =
            state_disk_status_find_by_disk_uuid(state, &row->disk_uuid);
        const struct state_host *host =
            state_host_find_by_name(state, row->host);
        /* A disk without a pool serves all of them. */
        if ((!uuid_is_nil(&row->pool) &&
             !uuid_equal(&row->pool, &pool->row.uuid)) ||
            row->state != STATE_DISK_STATE_READY || status == NULL ||
            status->state != STATE_DISK_STATUS_STATE_SERVING || host == NULL ||
            !host->enabled ||
            api_host_is_silent(api,
                               state_host_status_find_by_host(state,
                                                              row->host)) ||
            (pool->device_class[0] != '\0' &&
             strcmp(pool->device_class, row->device_class) != 0)) {
            continue;
        }
        bool by_rack = pool->failure_domain == STATE_POOL_FAILURE_DOMAIN_RACK;
        disks[count++] = (struct placement_disk){
            .disk = row->disk_uuid,
            .domain = by_rack ? host->rack : row->host,
            .free_bytes = status->free_bytes,
        };
    }
    volume_count_replicas(state, disks, count);
    *ret_count = count;
    return disks;
}

static void
volume_insert_mirror(struct api_op *op, struct state_txn *txn,
                     struct state *state, const struct state_volume *volume,
                     uint32_t index, const struct placement_mirror *place,
                     uint32_t replicas)
{
    struct state_pair_uuid_uuid pairs[PLACEMENT_REPLICAS_MAX];
    struct weft_uuid in_sync[PLACEMENT_REPLICAS_MAX];
    char purpose[64];

    for (uint32_t i = 0; i < replicas; i++) {
        (void)snprintf(purpose, sizeof purpose, "replica/%u/%u", index, i);
        api_op_uuid(op, purpose, &in_sync[i]);
        pairs[i].key = in_sync[i];
        pairs[i].value = place->disk[i];
        const struct state_disk *disk =
            state_disk_find_by_disk_uuid(state, &place->disk[i]);
        CHECK(disk != NULL); /* It was a candidate just now. */
        state_txn_verify(txn, &disk->row, STATE_DISK_COL_STATE);
    }
    struct state_mirror row = {
        .row.table = STATE_TABLE_MIRROR,
        .volume = volume->row.uuid,
        .index = index,
        .view = 1,
        .replicas = pairs,
        .replicas_count = replicas,
        .in_sync = in_sync,
        .in_sync_count = replicas,
    };
    (void)snprintf(purpose, sizeof purpose, "mirror/%u", index);
    api_op_uuid(op, purpose, &row.row.uuid);
    state_txn_insert(txn, &row.row, STATE_MIRROR_COL_ALL);
}

static int
volume_create_insert(struct api_op *op, struct state_txn *txn,
                     struct state *state, const struct state_pool *pool,
                     const char *project, const struct placement_mirror *places)
{
    const Weft__V1__CreateVolumeRequest *request = (const void *)op->request;
    struct state_volume row = {
        .row.table = STATE_TABLE_VOLUME,
        .project = project,
        .name = request->volume_id,
        .pool = pool->row.uuid,
        .size_bytes = (uint64_t)request->volume->size_bytes,
        .stripe_width = pool->stripe_width,
        .extent_bytes = pool->extent_bytes,
        .state = STATE_VOLUME_STATE_CREATING,
        .owner_host = "",
        .clean = true,
        .create_time_ms = cluster_wall_ms(),
        .request_id = op->request_id,
    };

    api_op_uuid(op, "volume", &row.row.uuid);
    state_txn_verify(txn, &pool->row, 0);
    state_txn_insert(txn, &row.row, STATE_VOLUME_COL_ALL);
    for (uint32_t i = 0; i < pool->stripe_width; i++) {
        volume_insert_mirror(op, txn, state, &row, i, &places[i],
                             pool->replicas);
    }
    (void)snprintf(op->target, sizeof op->target, "projects/%s/volumes/%s",
                   project, request->volume_id);
    api_op_insert_operation(op, txn);
    return 0;
}

static int
volume_create_build(struct api_op *op, struct state_txn *txn,
                    struct state *state)
{
    const Weft__V1__CreateVolumeRequest *request = (const void *)op->request;
    char project[API_NAME_PART_SIZE] = "", pool_name[API_NAME_PART_SIZE] = "";
    const struct state_pool *pool = NULL;
    struct placement_mirror places[VOLUME_STRIPE_MAX];
    struct err err = { "" };
    size_t disk_count;
    int result;

    if (api_op_is_repeated(op, state, &result)) {
        return result;
    }
    (void)api_name_parse(request->parent, "projects", project);
    if (api_name_parse(request->volume->pool, "pools", pool_name)) {
        pool = state_pool_find_by_name(state, pool_name);
    }
    if (pool == NULL) {
        return api_op_refuse(op, RPC_NOT_FOUND, "POOL_NOT_FOUND",
                             "there is no pool \"%s\"; 'weft pool list' shows "
                             "all",
                             request->volume->pool);
    }
    if (state_volume_find_by_project_name(state, project, request->volume_id) !=
        NULL) {
        return api_op_refuse(op, RPC_ALREADY_EXISTS, "VOLUME_EXISTS",
                             "there is a volume \"%s\" in project \"%s\" "
                             "already",
                             request->volume_id, project);
    }
    if (pool->stripe_width > VOLUME_STRIPE_MAX) {
        return api_op_refuse(op, RPC_FAILED_PRECONDITION, "POOL_UNKNOWN",
                             "pool \"%s\" has stripes of %u mirrors; this "
                             "version serves %u",
                             pool_name, pool->stripe_width, VOLUME_STRIPE_MAX);
    }
    struct placement_disk *disks =
        volume_candidates(container_of(op->service, struct api, service), pool,
                          &disk_count);
    result = placement_choose(disks, disk_count, pool->replicas,
                              (uint64_t)request->volume->size_bytes /
                                  pool->stripe_width,
                              pool->stripe_width, &err, places);
    free(disks);
    if (result != 0) {
        return api_op_refuse(op, RPC_FAILED_PRECONDITION, "NO_PLACE",
                             "pool \"%s\": %s", pool_name, err.text);
    }
    return volume_create_insert(op, txn, state, pool, project, places);
}

static void
volume_create(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__CreateVolumeRequest *request = (const void *)message;
    char project[API_NAME_PART_SIZE], pool[API_NAME_PART_SIZE];
    struct rpc_error error;

    rpc_error_set_invalid(&error);
    if (!api_name_parse(request->parent, "projects", project) ||
        strcmp(project, "-") == 0) {
        rpc_error_add_violation(&error, "parent",
                                "\"%.80s\" is not of the form projects/NAME; "
                                "%s",
                                request->parent, NAME_RULE_TEXT);
    }
    if (!name_is_valid(request->volume_id)) {
        rpc_error_add_violation(&error, "volume_id",
                                "\"%.80s\" is not a name; %s",
                                request->volume_id, NAME_RULE_TEXT);
    }
    if (request->volume == NULL) {
        rpc_error_add_violation(&error, "volume", "is missing");
    } else {
        int64_t size = request->volume->size_bytes;
        if (size <= 0 || (uint64_t)size > VOLUME_SIZE_MAX ||
            size % WEFT_BLOCK_SIZE != 0) {
            rpc_error_add_violation(&error, "volume.size_bytes",
                                    "is %lld; a multiple of 4096 from 4096 "
                                    "to 1 PiB is right",
                                    (long long)size);
        }
        if (!api_name_parse(request->volume->pool, "pools", pool)) {
            rpc_error_add_violation(&error, "volume.pool",
                                    "\"%.80s\" is not of the form pools/NAME",
                                    request->volume->pool);
        }
    }
    if (error.violation_count > 0) {
        rpc_call_fail(call, &error);
        return;
    }
    api_op_start(call, message, request->request_id, volume_create_build,
                 api_op_reply_operation);
}

/* ---- Delete ---- */

static void
volume_delete_mirror(struct api_op *op, struct state_txn *txn,
                     struct state *state, const struct state_volume *volume,
                     const struct state_mirror *mirror, uint64_t after_ms)
{
    char name[128];

    (void)snprintf(name, sizeof name, "%s/%s", volume->project, volume->name);
    for (size_t i = 0; i < mirror->replicas_count; i++) {
        const struct state_disk *disk =
            state_disk_find_by_disk_uuid(state, &mirror->replicas[i].value);
        char purpose[64];
        struct state_tombstone row = {
            .row.table = STATE_TABLE_TOMBSTONE,
            .replica = mirror->replicas[i].key,
            .disk_uuid = mirror->replicas[i].value,
            .host = disk != NULL ? disk->host : "unknown",
            .volume_name = name,
            .delete_after_ms = after_ms,
        };
        (void)snprintf(purpose, sizeof purpose, "tombstone/%u/%zu",
                       mirror->index, i);
        api_op_uuid(op, purpose, &row.row.uuid);
        state_txn_insert(txn, &row.row, STATE_TOMBSTONE_COL_ALL);
    }
    state_txn_verify(txn, &mirror->row,
                     STATE_MIRROR_COL_VIEW | STATE_MIRROR_COL_REPLICAS);
    state_txn_delete(txn, STATE_TABLE_MIRROR, &mirror->row.uuid);
}

static int
volume_delete_build(struct api_op *op, struct state_txn *txn,
                    struct state *state)
{
    const Weft__V1__DeleteVolumeRequest *request = (const void *)op->request;
    int result;

    if (api_op_is_repeated(op, state, &result)) {
        return result;
    }
    const struct state_volume *row = volume_find(state, request->name);
    if (row == NULL) {
        return volume_refuse_missing(op, request->name);
    }
    const struct state_attachment *attachment =
        state_attachment_find_by_volume(state, &row->row.uuid);
    if (attachment != NULL || !uuid_is_nil(&row->owner_instance)) {
        return api_op_refuse(op, RPC_FAILED_PRECONDITION, "VOLUME_IN_USE",
                             "volume \"%s\" is attached to host \"%s\"; "
                             "detach it first with 'weft volume detach %s'",
                             row->name,
                             attachment != NULL ? attachment->host
                                                : row->owner_host,
                             row->name);
    }
    const struct state_pool *pool = state_pool_get(state, &row->pool);
    uint64_t after_ms =
        cluster_wall_ms() +
        (pool != NULL ? UINT64_C(1000) * pool->trash_seconds : 0);
    state_txn_verify(txn, &row->row,
                     STATE_VOLUME_COL_OWNER_INSTANCE | STATE_VOLUME_COL_EPOCH);
    struct state_attachment absent = { .row.table = STATE_TABLE_ATTACHMENT,
                                       .volume = row->row.uuid };
    state_txn_verify_absent(txn, &absent.row, STATE_ATTACHMENT_COL_VOLUME);
    for (uint32_t i = 0; i < row->stripe_width; i++) {
        const struct state_mirror *mirror =
            state_mirror_find_by_volume_index(state, &row->row.uuid, i);
        if (mirror != NULL) {
            volume_delete_mirror(op, txn, state, row, mirror, after_ms);
        }
    }
    state_txn_delete(txn, STATE_TABLE_VOLUME, &row->row.uuid);
    (void)snprintf(op->target, sizeof op->target, "%s", request->name);
    api_op_insert_operation(op, txn);
    return 0;
}

static void
volume_delete(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__DeleteVolumeRequest *request = (const void *)message;

    api_op_start(call, message, request->request_id, volume_delete_build,
                 api_op_reply_operation);
}

/* ---- Attach ---- */

static int
volume_attach_build(struct api_op *op, struct state_txn *txn,
                    struct state *state)
{
    const Weft__V1__AttachVolumeRequest *request = (const void *)op->request;
    enum state_attachment_kind kind =
        request->export_kind == WEFT__V1__EXPORT_KIND__VHOST_USER
            ? STATE_ATTACHMENT_KIND_VHOST_USER
            : STATE_ATTACHMENT_KIND_NBD;
    char host[API_NAME_PART_SIZE] = "";
    int result;

    if (api_op_is_repeated(op, state, &result)) {
        return result;
    }
    const struct state_volume *row = volume_find(state, request->name);
    if (row == NULL) {
        return volume_refuse_missing(op, request->name);
    }
    if (!api_name_parse(request->host, "hosts", host) ||
        state_host_find_by_name(state, host) == NULL) {
        return api_op_refuse(op, RPC_NOT_FOUND, "HOST_NOT_FOUND",
                             "there is no host \"%s\"; 'weft host list' shows "
                             "all",
                             request->host);
    }
    const char *error = operation_creation_error(state, row);
    if (error != NULL) {
        return api_op_refuse(op, RPC_FAILED_PRECONDITION, "VOLUME_ERROR",
                             "volume \"%s\" could not be created: %s; it can "
                             "only be deleted",
                             row->name, error);
    }
    (void)snprintf(op->target, sizeof op->target, "%s", request->name);
    const struct state_attachment *old =
        state_attachment_find_by_volume(state, &row->row.uuid);
    if (old != NULL) {
        if (strcmp(old->host, host) != 0 || old->kind != kind) {
            return api_op_refuse(
                op, RPC_FAILED_PRECONDITION, "VOLUME_ATTACHED",
                "volume \"%s\" is attached to host \"%s\" by %s already; "
                "detach it first with 'weft volume detach %s'",
                row->name, old->host,
                old->kind == STATE_ATTACHMENT_KIND_NBD ? "NBD" : "vhost-user",
                row->name);
        }
        api_op_insert_operation(op, txn); /* As it should be: a success. */
        return 0;
    }
    struct state_attachment attachment = {
        .row.table = STATE_TABLE_ATTACHMENT,
        .volume = row->row.uuid,
        .host = host,
        .kind = kind,
        .request_id = op->request_id,
    };
    api_op_uuid(op, "attachment", &attachment.row.uuid);
    state_txn_verify(txn, &row->row, 0);
    /* What an earlier attachment left there must not be taken for an answer to
     * this one; the host tells anew. */
    const struct state_attachment_status *stale =
        state_attachment_status_find_by_volume_host(state, &row->row.uuid,
                                                    host);
    if (stale != NULL) {
        state_txn_delete(txn, STATE_TABLE_ATTACHMENT_STATUS, &stale->row.uuid);
    }
    state_txn_insert(txn, &attachment.row,
                     STATE_ATTACHMENT_COL_VOLUME | STATE_ATTACHMENT_COL_HOST |
                         STATE_ATTACHMENT_COL_KIND |
                         STATE_ATTACHMENT_COL_REQUEST_ID);
    api_op_insert_operation(op, txn);
    return 0;
}

static void
volume_attach(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__AttachVolumeRequest *request = (const void *)message;
    struct rpc_error error;

    if (request->export_kind != WEFT__V1__EXPORT_KIND__NBD &&
        request->export_kind != WEFT__V1__EXPORT_KIND__VHOST_USER) {
        rpc_error_set_invalid(&error);
        rpc_error_add_violation(&error, "export_kind",
                                "is neither NBD nor VHOST_USER");
        rpc_call_fail(call, &error);
        return;
    }
    api_op_start(call, message, request->request_id, volume_attach_build,
                 api_op_reply_operation);
}

/* ---- Detach ---- */

/* What a host that may be dead has told. */
static void
volume_forget_status(struct state_txn *txn, struct state *state,
                     const struct state_volume *row, const char *host)
{
    const struct state_attachment_status *status =
        state_attachment_status_find_by_volume_host(state, &row->row.uuid,
                                                    host);
    if (status != NULL) {
        state_txn_delete(txn, STATE_TABLE_ATTACHMENT_STATUS, &status->row.uuid);
    }
}

static int
volume_detach_build(struct api_op *op, struct state_txn *txn,
                    struct state *state)
{
    const Weft__V1__DetachVolumeRequest *request = (const void *)op->request;
    char host[API_NAME_PART_SIZE];
    int result;

    if (api_op_is_repeated(op, state, &result)) {
        return result;
    }
    const struct state_volume *row = volume_find(state, request->name);
    if (row == NULL) {
        return volume_refuse_missing(op, request->name);
    }
    const struct state_attachment *attachment =
        state_attachment_find_by_volume(state, &row->row.uuid);
    if (request->host[0] != '\0' && attachment != NULL &&
        (!api_name_parse(request->host, "hosts", host) ||
         strcmp(host, attachment->host) != 0)) {
        return api_op_refuse(op, RPC_FAILED_PRECONDITION,
                             "VOLUME_ATTACHED_ELSEWHERE",
                             "volume \"%s\" is attached to host \"%s\", not "
                             "to \"%s\"",
                             row->name, attachment->host, request->host);
    }
    (void)snprintf(op->target, sizeof op->target, "%s", request->name);
    api_op_insert_operation(op, txn);
    if (attachment != NULL) {
        state_txn_delete(txn, STATE_TABLE_ATTACHMENT, &attachment->row.uuid);
    }
    if (request->force && !uuid_is_nil(&row->owner_instance)) {
        /* Statement (d): the next owner's epoch fences whatever this one still
         * sends; nothing here waits for it. */
        struct state_volume taken = { .row = row->row,
                                      .owner_host = "",
                                      .clean = false };
        state_txn_verify(txn, &row->row,
                         STATE_VOLUME_COL_OWNER_INSTANCE |
                             STATE_VOLUME_COL_EPOCH);
        state_txn_update(txn, &taken.row,
                         STATE_VOLUME_COL_OWNER_HOST |
                             STATE_VOLUME_COL_OWNER_INSTANCE |
                             STATE_VOLUME_COL_CLEAN);
    }
    if (request->force) {
        volume_forget_status(txn, state, row, row->owner_host);
        if (attachment != NULL &&
            strcmp(attachment->host, row->owner_host) != 0) {
            volume_forget_status(txn, state, row, attachment->host);
        }
    }
    return 0;
}

static void
volume_detach(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__DetachVolumeRequest *request = (const void *)message;

    api_op_start(call, message, request->request_id, volume_detach_build,
                 api_op_reply_operation);
}

/* ---- Read ---- */

static void
volume_get(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__GetVolumeRequest *request = (const void *)message;
    struct reply_arena arena = { NULL };
    const struct state_volume *row = api_take_volume(call, request->name);

    if (row != NULL) {
        rpc_call_reply(call, &api_volume_message(
                                  &arena, api_of(call)->state, row,
                                  request->view !=
                                      WEFT__V1__VOLUME_VIEW__VOLUME_VIEW_BASIC)
                                  ->base);
        reply_free(&arena);
    }
}

static void
volume_list(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__ListVolumesRequest *request = (const void *)message;
    struct state *state = api_of(call)->state;
    Weft__V1__ListVolumesResponse reply = WEFT__V1__LIST_VOLUMES_RESPONSE__INIT;
    struct api_list list;
    char project[API_NAME_PART_SIZE];
    bool full = request->view == WEFT__V1__VOLUME_VIEW__VOLUME_VIEW_FULL;

    if (!api_take_name(call, "parent", request->parent, "projects", project) ||
        !api_list_begin(&list, call, &weft__v1__volume__descriptor,
                        request->parent, request->page_size,
                        request->page_token, request->filter)) {
        return;
    }
    for (const struct state_volume *row = state_volume_next(state, NULL);
         row != NULL; row = state_volume_next(state, row)) {
        if (strcmp(project, "-") == 0 || strcmp(project, row->project) == 0) {
            api_list_add(
                &list, &api_volume_message(&list.arena, state, row, full)->base,
                NULL);
        }
    }
    api_list_page(&list, (ProtobufCMessage ***)(void *)&reply.volumes,
                  &reply.n_volumes, &reply.next_page_token);
    rpc_call_reply(call, &reply.base);
    api_list_end(&list);
}

static void
volume_watch(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__WatchVolumesRequest *request = (const void *)message;
    struct api_watch_options options = { .kind = API_WATCH_VOLUMES };
    char project[API_NAME_PART_SIZE];

    if (!api_take_name(call, "parent", request->parent, "projects", project)) {
        return;
    }
    options.project = project;
    options.volume = request->name;
    options.full = request->view == WEFT__V1__VOLUME_VIEW__VOLUME_VIEW_FULL;
    if (api_filter_parse(call, &weft__v1__volume__descriptor, request->filter,
                         &options.filter)) {
        api_watch_start(call, &options);
    }
}

const struct rpc_method api_volume_methods[] = {
    { "CreateVolume", RPC_UNARY, volume_create },
    { "GetVolume", RPC_UNARY, volume_get },
    { "ListVolumes", RPC_UNARY, volume_list },
    { "DeleteVolume", RPC_UNARY, volume_delete },
    { "AttachVolume", RPC_UNARY, volume_attach },
    { "DetachVolume", RPC_UNARY, volume_detach },
    { "WatchVolumes", RPC_SERVER_STREAM, volume_watch },
};
const size_t api_volume_method_count =
    sizeof api_volume_methods / sizeof api_volume_methods[0];
