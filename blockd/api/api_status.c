/* SPDX-License-Identifier: Apache-2.0 */

/* GetStatus: on one screen what is wrong and what is done about it. */

#include <stdlib.h>
#include <string.h>

#include "blockd/api/api_internal.h"
#include "lib/base/units.h"

#define STATUS_NET_SILENT_MS 30000u
#define STATUS_LIST_MAX 50u

struct status_builder {
    struct reply_arena arena;
    const struct api *api;
    struct state *state;
    Weft__V1__ClusterStatus reply;
};

/* The configured remotes, which commas separate. */
static void
status_remotes(struct status_builder *b, Weft__V1__DatabaseStatus *database,
               const char *text)
{
    size_t room = 1;

    for (const char *c = text; *c != '\0'; c++) {
        room += *c == ',';
    }
    database->remotes =
        reply_alloc(&b->arena, room * sizeof *database->remotes);
    while (*text != '\0') {
        size_t size = strcspn(text, ",");
        database->remotes[database->n_remotes++] =
            reply_text(&b->arena, "%.*s", (int)size, text);
        text += size + (text[size] == ',');
    }
}

static void
status_database(struct status_builder *b, struct api *api)
{
    const struct state_status *status = state_status(api->state);
    Weft__V1__DatabaseStatus *database =
        reply_alloc(&b->arena, sizeof *database);
    uint64_t ago_ms = (loop_now_ns() - status->since_ns) / NS_PER_MS;

    weft__v1__database_status__init(database);
    database->state = status->is_connected
                          ? WEFT__V1__DATABASE_STATUS__STATE__CONNECTED
                          : WEFT__V1__DATABASE_STATUS__STATE__UNAVAILABLE;
    if (!status->is_connected) {
        database->state_reason =
            reply_text(&b->arena, "%s",
                       status->last_error != 0 ? strerror(-status->last_error)
                                               : "not connected yet");
    }
    status_remotes(b, database, api->options.database);
    database->state_time = api_time(&b->arena, cluster_wall_ms() - ago_ms);
    if (api->options.manager != NULL &&
        state_lock_is_held(api->options.manager)) {
        database->manager_host = reply_text(&b->arena, "hosts/%s",
                                            cluster_host(api->options.cluster));
    }
    b->reply.database = database;
}

static void
status_hosts_and_disks(struct status_builder *b)
{
    struct state *state = b->state;
    size_t hosts = state_row_count(state, STATE_TABLE_HOST);
    size_t disks = state_row_count(state, STATE_TABLE_DISK);

    b->reply.hosts =
        reply_alloc(&b->arena, (hosts + 1) * sizeof *b->reply.hosts);
    for (const struct state_host *row = state_host_next(state, NULL);
         row != NULL && b->reply.n_hosts < hosts;
         row = state_host_next(state, row)) {
        b->reply.hosts[b->reply.n_hosts++] =
            api_host_message(&b->arena, b->api, row);
    }
    b->reply.disks =
        reply_alloc(&b->arena, (disks + 1) * sizeof *b->reply.disks);
    for (const struct state_disk *row = state_disk_next(state, NULL);
         row != NULL && b->reply.n_disks < disks;
         row = state_disk_next(state, row)) {
        b->reply.disks[b->reply.n_disks++] =
            api_disk_message(&b->arena, state, row);
    }
}

/* netd's own API knows more (NetHostService): this is for one screen. */
static Weft__V1__NetHost *
status_net_host(struct status_builder *b, const struct state_net_host *row)
{
    const struct state_net_host_status *status =
        state_net_host_status_find_by_host(b->state, row->host);
    Weft__V1__NetHost *host = reply_alloc(&b->arena, sizeof *host);
    uint64_t now_ms = cluster_wall_ms();

    weft__v1__net_host__init(host);
    host->name = reply_text(&b->arena, "netHosts/%s", row->host);
    host->encap_ip = reply_text(&b->arena, "%s", row->encap_ip);
    host->state = WEFT__V1__NET_HOST__STATE__DOWN;
    if (status != NULL) {
        host->underlay_mtu = (int32_t)status->underlay_mtu;
        host->version = reply_text(&b->arena, "%s", status->version);
        host->state_reason = reply_text(&b->arena, "%s", status->error);
    }
    if (!row->enabled) {
        host->state = WEFT__V1__NET_HOST__STATE__DISABLED;
    } else if (status == NULL ||
               (now_ms > status->last_seen_ms &&
                now_ms - status->last_seen_ms > STATUS_NET_SILENT_MS)) {
        host->state_reason =
            reply_text(&b->arena, "no sign of life of its netd");
    } else {
        host->state = status->error[0] != '\0'
                          ? WEFT__V1__NET_HOST__STATE__IMPAIRED
                          : WEFT__V1__NET_HOST__STATE__UP;
    }
    return host;
}

static void
status_net_hosts(struct status_builder *b)
{
    size_t room = state_row_count(b->state, STATE_TABLE_NET_HOST);

    b->reply.net_hosts =
        reply_alloc(&b->arena, (room + 1) * sizeof *b->reply.net_hosts);
    for (const struct state_net_host *row = state_net_host_next(b->state, NULL);
         row != NULL && b->reply.n_net_hosts < room;
         row = state_net_host_next(b->state, row)) {
        b->reply.net_hosts[b->reply.n_net_hosts++] = status_net_host(b, row);
    }
}

static void
status_mirror(struct status_builder *b, const char *volume,
              const Weft__V1__Mirror *mirror)
{
    if ((size_t)mirror->in_sync_count >= mirror->n_replicas) {
        return;
    }
    b->reply.degraded_mirror_count++;
    if (b->reply.n_degraded_mirrors == STATUS_LIST_MAX) {
        return;
    }
    Weft__V1__DegradedMirror *degraded =
        reply_alloc(&b->arena, sizeof *degraded);
    weft__v1__degraded_mirror__init(degraded);
    degraded->volume = reply_text(&b->arena, "%s", volume);
    degraded->mirror_index = mirror->index;
    degraded->replica_count = (int32_t)mirror->n_replicas;
    degraded->in_sync_count = mirror->in_sync_count;
    degraded->disks =
        reply_alloc(&b->arena, mirror->n_replicas * sizeof *degraded->disks);
    for (size_t i = 0; i < mirror->n_replicas; i++) {
        const Weft__V1__Replica *replica = mirror->replicas[i];
        if (replica->state == WEFT__V1__REPLICA__STATE__IN_SYNC) {
            continue;
        }
        degraded->disks[degraded->n_disks++] = replica->disk;
        degraded->resync_progress = replica->resync_progress;
        degraded->reason = replica->state_reason;
    }
    b->reply.degraded_mirrors[b->reply.n_degraded_mirrors++] = degraded;
}

static void
status_held(struct status_builder *b, const Weft__V1__Volume *volume)
{
    if (volume->health != WEFT__V1__VOLUME__HEALTH__HELD) {
        return;
    }
    b->reply.held_volume_count++;
    if (b->reply.n_held_volumes == STATUS_LIST_MAX) {
        return;
    }
    Weft__V1__HeldVolume *held = reply_alloc(&b->arena, sizeof *held);
    weft__v1__held_volume__init(held);
    held->volume = volume->name;
    held->owner_host = volume->owner_host;
    held->reason = volume->held_reason;
    held->time = volume->held_time;
    b->reply.held_volumes[b->reply.n_held_volumes++] = held;
}

static void
status_volumes(struct status_builder *b)
{
    b->reply.degraded_mirrors =
        reply_alloc(&b->arena,
                    STATUS_LIST_MAX * sizeof *b->reply.degraded_mirrors);
    b->reply.held_volumes =
        reply_alloc(&b->arena, STATUS_LIST_MAX * sizeof *b->reply.held_volumes);
    for (const struct state_volume *row = state_volume_next(b->state, NULL);
         row != NULL; row = state_volume_next(b->state, row)) {
        const Weft__V1__Volume *volume =
            api_volume_message(&b->arena, b->state, row, true);
        b->reply.volume_count++;
        b->reply.attached_volume_count +=
            volume->state == WEFT__V1__VOLUME__STATE__ATTACHED;
        status_held(b, volume);
        for (size_t i = 0; i < volume->n_mirrors; i++) {
            status_mirror(b, volume->name, volume->mirrors[i]);
        }
    }
}

static void
status_summary(struct status_builder *b)
{
    uint32_t down = 0, failed = 0;

    for (size_t i = 0; i < b->reply.n_hosts; i++) {
        down += b->reply.hosts[i]->state == WEFT__V1__HOST__STATE__DOWN;
    }
    for (size_t i = 0; i < b->reply.n_disks; i++) {
        failed += b->reply.disks[i]->state == WEFT__V1__DISK__STATE__FAILED;
    }
    bool no_database =
        b->reply.database->state != WEFT__V1__DATABASE_STATUS__STATE__CONNECTED;
    if (b->reply.held_volume_count > 0) {
        b->reply.health = WEFT__V1__CLUSTER_STATUS__HEALTH__CRITICAL;
        b->reply.summary = reply_text(&b->arena, "the I/O of %d volumes waits",
                                      b->reply.held_volume_count);
    } else if (no_database) {
        b->reply.health = WEFT__V1__CLUSTER_STATUS__HEALTH__CRITICAL;
        b->reply.summary =
            reply_text(&b->arena,
                       "no database: running volumes go on, changes wait");
    } else if (b->reply.degraded_mirror_count > 0 || down > 0 || failed > 0) {
        b->reply.health = WEFT__V1__CLUSTER_STATUS__HEALTH__DEGRADED;
        b->reply.summary =
            reply_text(&b->arena,
                       "%d mirrors degraded, %u hosts down, %u disks failed",
                       b->reply.degraded_mirror_count, down, failed);
    } else {
        b->reply.health = WEFT__V1__CLUSTER_STATUS__HEALTH__OK;
        b->reply.summary = reply_text(&b->arena, "all is well");
    }
}

static void
status_get(struct rpc_call *call, const ProtobufCMessage *message)
{
    struct api *api = api_of(call);
    struct status_builder b = { .api = api, .state = api->state };
    const struct state_global *global = state_global_next(api->state, NULL);
    (void)message;

    weft__v1__cluster_status__init(&b.reply);
    b.reply.host =
        reply_text(&b.arena, "hosts/%s", cluster_host(api->options.cluster));
    b.reply.version = reply_text(&b.arena, "%s", api->options.version);
    b.reply.time = api_time(&b.arena, cluster_wall_ms());
    if (global != NULL) {
        b.reply.cluster_uid = reply_uuid(&b.arena, &global->cloud_uuid);
    }
    status_database(&b, api);
    status_hosts_and_disks(&b);
    status_net_hosts(&b);
    status_volumes(&b);
    status_summary(&b);
    rpc_call_reply(call, &b.reply.base);
    reply_free(&b.arena);
}

const struct rpc_method api_status_methods[] = {
    { "GetStatus", RPC_UNARY, status_get },
};
const size_t api_status_method_count =
    sizeof api_status_methods / sizeof api_status_methods[0];
