/* SPDX-License-Identifier: Apache-2.0 */
/* A server of weft.v1 that has nothing behind it: for tests of clients.
 *
 *     fake_weft unix:/PATH tcp:127.0.0.1:0 [--nbd URI]
 *
 * It says "ready PORT" on stdout and then each request in JSON, one a line,
 * with its method in front.  What it answers depends on the name in the
 * request:
 *
 *     missing    NOT_FOUND             taken   ALREADY_EXISTS
 *     invalid    INVALID_ARGUMENT with two violations
 *     slow       the operation is done when it is waited for the third time
 *     broken     the operation fails
 *     hang       no answer until the call is cancelled
 *
 * One volume can be attached at a time; it ends when its stdin does. */

#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/json.h"
#include "lib/base/array.h"
#include "lib/base/container_of.h"
#include "lib/base/units.h"
#include "lib/rpc/server.h"
#include "proto/descriptors.h"
#include "proto/weft/v1/disk.pb-c.h"
#include "proto/weft/v1/event.pb-c.h"
#include "proto/weft/v1/host.pb-c.h"
#include "proto/weft/v1/operation.pb-c.h"
#include "proto/weft/v1/pool.pb-c.h"
#include "proto/weft/v1/status.pb-c.h"
#include "proto/weft/v1/volume.pb-c.h"

static const char *fake_nbd_uri = "nbd://192.0.2.1:10809/volume";
static char fake_attached[256]; /* Name of the volume; "": none. */
static char fake_host[256];
static Weft__V1__ExportKind fake_kind;
static int fake_waits;

/* A call that ends only by being cancelled, or a watch. */
struct fake_held {
    struct rpc_call_events events;
    struct rpc_call *call;
};

static void
fake_cancelled(struct rpc_call_events *events)
{
    struct fake_held *held = container_of(events, struct fake_held, events);
    printf("cancelled %s\n", rpc_call_method(held->call));
    fflush(stdout);
    rpc_call_fail_text(held->call, RPC_CANCELLED, NULL, "cancelled");
    free(held);
}

static void
fake_hold(struct rpc_call *call)
{
    struct fake_held *held = calloc(1, sizeof *held);
    CHECK(held != NULL);
    held->call = call;
    held->events.cancelled = fake_cancelled;
    rpc_call_set_events(call, &held->events);
}

static void
fake_log(struct rpc_call *call, const ProtobufCMessage *request)
{
    printf("%s ", rpc_call_method(call));
    json_print_line(stdout, request);
    fputc('\n', stdout);
    fflush(stdout);
}

static const char *
fake_last_part(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash != NULL ? slash + 1 : name;
}

/* Whether the name asks for a failure, which is then answered. */
static bool
fake_refuse(struct rpc_call *call, const char *name)
{
    const char *last = fake_last_part(name);
    struct rpc_error error;

    if (strcmp(last, "missing") == 0) {
        rpc_error_set(&error, RPC_NOT_FOUND, "NOT_FOUND",
                      "\"%s\" does not exist; see what does with \"list\"",
                      name);
        rpc_error_set_resource(&error, name);
    } else if (strcmp(last, "taken") == 0) {
        rpc_error_set(&error, RPC_ALREADY_EXISTS, "ALREADY_EXISTS",
                      "\"%s\" exists already; choose another name", name);
    } else if (strcmp(last, "invalid") == 0) {
        rpc_error_set_invalid(&error);
        rpc_error_add_violation(&error, "volume.size_bytes", "is too big");
        rpc_error_add_violation(&error, "volume.pool", "does not exist");
    } else if (strcmp(last, "hang") == 0) {
        fake_hold(call);
        return true;
    } else {
        return false;
    }
    rpc_call_fail(call, &error);
    return true;
}

static void
fake_reply_operation(struct rpc_call *call, const char *method, char *target)
{
    Weft__V1__Operation operation = WEFT__V1__OPERATION__INIT;
    Weft__V1__Progress progress = WEFT__V1__PROGRESS__INIT;
    Google__Rpc__Status status = GOOGLE__RPC__STATUS__INIT;
    const char *last = fake_last_part(target);
    char name[128];

    snprintf(name, sizeof name, "operations/%.64s", last);
    operation.name = name;
    operation.method = (char *)method;
    operation.target = target;
    operation.done = true;
    if (strcmp(last, "slow") == 0) {
        progress.done = ++fake_waits;
        progress.total = 3;
        operation.progress = &progress;
        operation.done = fake_waits >= 3;
        operation.message = (char *)"still at it";
    } else if (strcmp(last, "broken") == 0) {
        status.code = RPC_FAILED_PRECONDITION;
        status.message = (char *)"two disks on different hosts are needed";
        operation.error = &status;
    }
    rpc_call_reply(call, &operation.base);
}

/* ---- Hosts, disks, pools ---- */

static void
fake_list_hosts(struct rpc_call *call, const ProtobufCMessage *message)
{
    Weft__V1__ListHostsResponse response = WEFT__V1__LIST_HOSTS_RESPONSE__INIT;
    Weft__V1__Host host = WEFT__V1__HOST__INIT;
    Weft__V1__Host *hosts[] = { &host };

    fake_log(call, message);
    host.name = (char *)"hosts/h1";
    host.state = WEFT__V1__HOST__STATE__UP;
    host.peer_address = (char *)"192.0.2.1:7000";
    response.n_hosts = 1;
    response.hosts = hosts;
    rpc_call_reply(call, &response.base);
}

static void
fake_get_host(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__GetHostRequest *request = (const void *)message;
    Weft__V1__Host host = WEFT__V1__HOST__INIT;

    fake_log(call, message);
    if (!fake_refuse(call, request->name)) {
        host.name = request->name;
        rpc_call_reply(call, &host.base);
    }
}

static void
fake_create_disk(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__CreateDiskRequest *request = (const void *)message;
    char name[512];

    fake_log(call, message);
    snprintf(name, sizeof name, "%.255s/disks/d1", request->parent);
    if (!fake_refuse(call, request->disk->path)) {
        fake_reply_operation(call, "CreateDisk", name);
    }
}

static void
fake_list_disks(struct rpc_call *call, const ProtobufCMessage *message)
{
    Weft__V1__ListDisksResponse response = WEFT__V1__LIST_DISKS_RESPONSE__INIT;
    Weft__V1__Disk disk = WEFT__V1__DISK__INIT;
    Weft__V1__Disk *disks[] = { &disk };

    fake_log(call, message);
    disk.name = (char *)"hosts/h1/disks/d1";
    disk.path = (char *)"/dev/x\n";
    disk.size_bytes = (int64_t)(3 * GIB / 2);
    response.n_disks = 1;
    response.disks = disks;
    rpc_call_reply(call, &response.base);
}

static void
fake_create_pool(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__CreatePoolRequest *request = (const void *)message;

    fake_log(call, message);
    if (!fake_refuse(call, request->pool_id)) {
        rpc_call_reply(call, &request->pool->base);
    }
}

static void
fake_get_pool(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__GetPoolRequest *request = (const void *)message;
    Weft__V1__Pool pool = WEFT__V1__POOL__INIT;

    fake_log(call, message);
    if (!fake_refuse(call, request->name)) {
        pool.name = request->name;
        rpc_call_reply(call, &pool.base);
    }
}

static void
fake_list_pools(struct rpc_call *call, const ProtobufCMessage *message)
{
    Weft__V1__ListPoolsResponse response = WEFT__V1__LIST_POOLS_RESPONSE__INIT;
    fake_log(call, message);
    rpc_call_reply(call, &response.base);
}

static void
fake_delete_pool(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__DeletePoolRequest *request = (const void *)message;
    Google__Protobuf__Empty empty = GOOGLE__PROTOBUF__EMPTY__INIT;

    fake_log(call, message);
    if (!fake_refuse(call, request->name)) {
        rpc_call_reply(call, &empty.base);
    }
}

/* ---- Volumes ---- */

static void
fake_create_volume(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__CreateVolumeRequest *request = (const void *)message;
    char name[512];

    fake_log(call, message);
    snprintf(name, sizeof name, "%.255s/volumes/%.128s", request->parent,
             request->volume_id);
    if (!fake_refuse(call, name)) {
        fake_reply_operation(call, "CreateVolume", name);
    }
}

static void
fake_get_volume(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__GetVolumeRequest *request = (const void *)message;
    Weft__V1__Volume volume = WEFT__V1__VOLUME__INIT;
    Weft__V1__Attachment attachment = WEFT__V1__ATTACHMENT__INIT;
    Weft__V1__Attachment *attachments[] = { &attachment };
    Google__Protobuf__Timestamp time = GOOGLE__PROTOBUF__TIMESTAMP__INIT;

    fake_log(call, message);
    if (fake_refuse(call, request->name)) {
        return;
    }
    time.seconds = 1700000000;
    time.nanos = 5000000;
    volume.name = request->name;
    volume.create_time = &time;
    volume.size_bytes = (int64_t)(20 * GIB);
    volume.pool = (char *)"pools/p";
    volume.state = WEFT__V1__VOLUME__STATE__AVAILABLE;
    if (strcmp(fake_attached, request->name) == 0) {
        attachment.host = fake_host;
        attachment.export_kind = fake_kind;
        attachment.state = WEFT__V1__ATTACHMENT__STATE__READY;
        if (fake_kind == WEFT__V1__EXPORT_KIND__NBD) {
            attachment.uri = (char *)fake_nbd_uri;
        } else {
            attachment.socket_path = (char *)"/run/weft/v.sock";
        }
        volume.n_attachments = 1;
        volume.attachments = attachments;
    }
    rpc_call_reply(call, &volume.base);
}

/* Three volumes, two a page. */
static void
fake_list_volumes(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__ListVolumesRequest *request = (const void *)message;
    Weft__V1__ListVolumesResponse response =
        WEFT__V1__LIST_VOLUMES_RESPONSE__INIT;
    Weft__V1__Volume volumes[3] = { WEFT__V1__VOLUME__INIT,
                                    WEFT__V1__VOLUME__INIT,
                                    WEFT__V1__VOLUME__INIT };
    Weft__V1__Volume *pointers[] = { &volumes[0], &volumes[1], &volumes[2] };
    bool is_second = strcmp(request->page_token, "second") == 0;

    fake_log(call, message);
    volumes[0].name = (char *)"projects/default/volumes/a";
    volumes[1].name = (char *)"projects/default/volumes/b";
    volumes[2].name = (char *)"projects/default/volumes/c";
    response.volumes = is_second ? &pointers[2] : pointers;
    response.n_volumes = is_second ? 1 : 2;
    response.next_page_token = (char *)(is_second ? "" : "second");
    rpc_call_reply(call, &response.base);
}

static void
fake_delete_volume(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__DeleteVolumeRequest *request = (const void *)message;

    fake_log(call, message);
    if (!fake_refuse(call, request->name)) {
        fake_reply_operation(call, "DeleteVolume", request->name);
    }
}

static void
fake_attach_volume(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__AttachVolumeRequest *request = (const void *)message;

    fake_log(call, message);
    if (fake_refuse(call, request->name)) {
        return;
    }
    snprintf(fake_attached, sizeof fake_attached, "%s", request->name);
    snprintf(fake_host, sizeof fake_host, "%s", request->host);
    fake_kind = request->export_kind;
    fake_reply_operation(call, "AttachVolume", request->name);
}

static void
fake_detach_volume(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__DetachVolumeRequest *request = (const void *)message;

    fake_log(call, message);
    if (!fake_refuse(call, request->name)) {
        fake_attached[0] = '\0';
        fake_reply_operation(call, "DetachVolume", request->name);
    }
}

static void
fake_watch_volumes(struct rpc_call *call, const ProtobufCMessage *message)
{
    Weft__V1__WatchVolumesResponse response =
        WEFT__V1__WATCH_VOLUMES_RESPONSE__INIT;
    Weft__V1__Volume volume = WEFT__V1__VOLUME__INIT;

    fake_log(call, message);
    response.type = WEFT__V1__CHANGE_TYPE__ADDED;
    response.volume = &volume;
    volume.name = (char *)"projects/default/volumes/a";
    int result = rpc_stream_send(call, &response.base);
    CHECK(result == 0);
    response.type = WEFT__V1__CHANGE_TYPE__SYNCED;
    response.volume = NULL;
    result = rpc_stream_send(call, &response.base);
    (void)result;
    fake_hold(call);
}

/* ---- Events, operations, status ---- */

static void
fake_fill_event(Weft__V1__Event *event)
{
    weft__v1__event__init(event);
    event->name = (char *)"events/1";
    event->severity = WEFT__V1__EVENT__SEVERITY__WARNING;
    event->reason = (char *)"REPLICA_STALE";
    event->message = (char *)"it is slow";
    event->subject = (char *)"projects/default/volumes/a";
}

static void
fake_list_events(struct rpc_call *call, const ProtobufCMessage *message)
{
    Weft__V1__ListEventsResponse response =
        WEFT__V1__LIST_EVENTS_RESPONSE__INIT;
    Weft__V1__Event event;
    Weft__V1__Event *events[] = { &event };

    fake_log(call, message);
    fake_fill_event(&event);
    response.n_events = 1;
    response.events = events;
    rpc_call_reply(call, &response.base);
}

static void
fake_watch_events(struct rpc_call *call, const ProtobufCMessage *message)
{
    Weft__V1__Event event;

    fake_log(call, message);
    fake_fill_event(&event);
    int result = rpc_stream_send(call, &event.base);
    (void)result;
    fake_hold(call);
}

static void
fake_wait_operation(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__WaitOperationRequest *request = (const void *)message;
    char target[128];

    fake_log(call, message);
    snprintf(target, sizeof target, "projects/default/volumes/%.64s",
             fake_last_part(request->name));
    fake_reply_operation(call, "CreateVolume", target);
}

static void
fake_list_operations(struct rpc_call *call, const ProtobufCMessage *message)
{
    Weft__V1__ListOperationsResponse response =
        WEFT__V1__LIST_OPERATIONS_RESPONSE__INIT;
    fake_log(call, message);
    rpc_call_reply(call, &response.base);
}

static void
fake_get_status(struct rpc_call *call, const ProtobufCMessage *message)
{
    Weft__V1__ClusterStatus status = WEFT__V1__CLUSTER_STATUS__INIT;
    Weft__V1__HeldVolume held = WEFT__V1__HELD_VOLUME__INIT;
    Weft__V1__HeldVolume *helds[] = { &held };
    Weft__V1__DatabaseStatus database = WEFT__V1__DATABASE_STATUS__INIT;

    fake_log(call, message);
    status.health = WEFT__V1__CLUSTER_STATUS__HEALTH__CRITICAL;
    status.host = (char *)"hosts/h1";
    status.database = &database;
    database.state = WEFT__V1__DATABASE_STATUS__STATE__CONNECTED;
    held.volume = (char *)"projects/default/volumes/a";
    held.reason = (char *)"min_in_sync 2 is not reached";
    status.held_volume_count = 1;
    status.n_held_volumes = 1;
    status.held_volumes = helds;
    rpc_call_reply(call, &status.base);
}

/* ---- The server ---- */

static const struct rpc_method host_methods[] = {
    { "ListHosts", RPC_UNARY, fake_list_hosts },
    { "GetHost", RPC_UNARY, fake_get_host },
};
static const struct rpc_method disk_methods[] = {
    { "CreateDisk", RPC_UNARY, fake_create_disk },
    { "ListDisks", RPC_UNARY, fake_list_disks },
};
static const struct rpc_method pool_methods[] = {
    { "CreatePool", RPC_UNARY, fake_create_pool },
    { "GetPool", RPC_UNARY, fake_get_pool },
    { "ListPools", RPC_UNARY, fake_list_pools },
    { "DeletePool", RPC_UNARY, fake_delete_pool },
};
static const struct rpc_method volume_methods[] = {
    { "CreateVolume", RPC_UNARY, fake_create_volume },
    { "GetVolume", RPC_UNARY, fake_get_volume },
    { "ListVolumes", RPC_UNARY, fake_list_volumes },
    { "DeleteVolume", RPC_UNARY, fake_delete_volume },
    { "AttachVolume", RPC_UNARY, fake_attach_volume },
    { "DetachVolume", RPC_UNARY, fake_detach_volume },
    { "WatchVolumes", RPC_SERVER_STREAM, fake_watch_volumes },
};
static const struct rpc_method event_methods[] = {
    { "ListEvents", RPC_UNARY, fake_list_events },
    { "WatchEvents", RPC_SERVER_STREAM, fake_watch_events },
};
static const struct rpc_method operation_methods[] = {
    { "WaitOperation", RPC_UNARY, fake_wait_operation },
    { "ListOperations", RPC_UNARY, fake_list_operations },
};
static const struct rpc_method status_methods[] = {
    { "GetStatus", RPC_UNARY, fake_get_status },
};

#define FAKE_SERVICE(noun)                                            \
    {                                                                 \
        .descriptor = &weft__v1__##noun##_service__descriptor,        \
        .methods = noun##_methods,                                    \
        .method_count = ARRAY_COUNT(noun##_methods), .executor = NULL \
    }

static struct rpc_service fake_services[] = {
    FAKE_SERVICE(host),   FAKE_SERVICE(disk),  FAKE_SERVICE(pool),
    FAKE_SERVICE(volume), FAKE_SERVICE(event), FAKE_SERVICE(operation),
    FAKE_SERVICE(status),
};

int
main(int argc, char **argv)
{
    struct rpc_service *services[ARRAY_COUNT(fake_services) + 1] = { NULL };
    const char *listen[3] = { NULL };
    struct rpc_server *server;
    struct err err = { "" };
    size_t count = 0;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--nbd") == 0 && i + 1 < argc) {
            fake_nbd_uri = argv[++i];
        } else if (count < 2) {
            listen[count++] = argv[i];
        }
    }
    for (size_t i = 0; i < ARRAY_COUNT(fake_services); i++) {
        services[i] = &fake_services[i];
    }
    const struct rpc_server_options options = {
        .listen = listen,
        .services = services,
        .descriptors = &weft_v1_descriptors,
    };
    if (rpc_server_start(&options, &server, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    printf("ready %u\n", count == 2 ? rpc_server_port(server, 0) : 0u);
    fflush(stdout);
    while (getchar() != EOF) {
    }
    rpc_server_free(server);
    return 0;
}
