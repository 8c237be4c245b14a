/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_API_API_INTERNAL_H
#define BLOCKD_API_API_INTERNAL_H

/* What the files of the API share.
 *
 *   api.c            birth and stop; the rest of that is in service/
 *   api_host.c, api_disk.c, api_pool.c, api_event.c, api_status.c
 *   api_volume.c     volumes: create, delete, attach, detach
 *   volume_view.c    volumes: from rows to messages
 *   api_operation.c  operations and waiting for them
 *   api_watch.c      watch streams */

#include <stdbool.h>
#include <stdint.h>

#include "blockd/api/api.h"
#include "lib/base/list.h"
#include "lib/base/name.h"
#include "lib/rpc/server.h"
#include "lib/state/state.h"
#include "proto/weft/v1/common.pb-c.h"
#include "proto/weft/v1/disk.pb-c.h"
#include "proto/weft/v1/event.pb-c.h"
#include "proto/weft/v1/host.pb-c.h"
#include "proto/weft/v1/operation.pb-c.h"
#include "proto/weft/v1/pool.pb-c.h"
#include "proto/weft/v1/status.pb-c.h"
#include "proto/weft/v1/volume.pb-c.h"
#include "service/service.h"

struct api {
    struct api_options options;
    struct loop *loop;
    struct state *state;
    struct service service;
    struct state_listener listener;
    struct loop_timer tick;
    struct list waits;   /* struct api_wait */
    struct list watches; /* struct api_watch */
    struct list alive;   /* struct api_alive */
};

struct api *api_of(const struct rpc_call *call);

/* The services' tables. */
extern const struct rpc_method api_host_methods[], api_disk_methods[],
    api_pool_methods[], api_volume_methods[], api_event_methods[],
    api_operation_methods[], api_status_methods[];
extern const size_t api_host_method_count, api_disk_method_count,
    api_pool_method_count, api_volume_method_count, api_event_method_count,
    api_operation_method_count, api_status_method_count;

/* reply() of methods that return an Operation. */
void api_op_reply_operation(struct api_op *op);

/* ---- From rows to messages ---- */

Weft__V1__Host *api_host_message(struct reply_arena *arena,
                                 const struct api *api,
                                 const struct state_host *row);
Weft__V1__Disk *api_disk_message(struct reply_arena *arena, struct state *state,
                                 const struct state_disk *row);
Weft__V1__Volume *api_volume_message(struct reply_arena *arena,
                                     struct state *state,
                                     const struct state_volume *row, bool full);
Weft__V1__Event *api_event_message(struct reply_arena *arena,
                                   const struct state_event *row);
Weft__V1__Operation *api_operation_message(struct reply_arena *arena,
                                           struct state *state,
                                           const struct state_operation *row);
/* "hosts/h1/disks/<uuid>", or the bare UUID if its row is gone. */
char *api_disk_name(struct reply_arena *arena, struct state *state,
                    const struct weft_uuid *disk);
Weft__V1__DeviceClass api_device_class_from_text(const char *text);
/* "" for none. */
const char *api_device_class_text(Weft__V1__DeviceClass device_class);

/* The volume that a name means, or the call is failed with NOT_FOUND. */
const struct state_volume *api_take_volume(struct rpc_call *call,
                                           const char *name);

/* ---- api_watch.c ---- */

enum api_watch_kind {
    API_WATCH_HOSTS,
    API_WATCH_VOLUMES,
    API_WATCH_EVENTS,
};

struct api_watch_options {
    enum api_watch_kind kind;
    const char *project;       /* Volumes: "-" for all. */
    const char *volume;        /* Volumes: "" for all. */
    bool full;                 /* Volumes. */
    uint32_t history_count;    /* Events. */
    struct api_filter *filter; /* Passes to the watch. */
};

void api_watch_start(struct rpc_call *call,
                     const struct api_watch_options *options);
void api_watch_changed(struct api *api, const struct state_change *change);
void api_watch_batch_end(struct api *api);
void api_watch_stop_all(struct api *api);

/* ---- api_alive.c ---- */

/* How long there has been no sign of life; of too long a time, or of a host
 * without a row (NULL), it is silent. */
uint64_t api_host_silent_ns(const struct api *api,
                            const struct state_host_status *row);
bool api_host_is_silent(const struct api *api,
                        const struct state_host_status *row);
/* Whether watches have to know: a mere heartbeat is no news. */
bool api_alive_changed(struct api *api, const struct state_change *change);
/* Tells watches of hosts that have fallen silent. */
void api_alive_tick(struct api *api);
void api_alive_free(struct api *api);

/* ---- api_operation.c ---- */

void api_wait_check_all(struct api *api);
void api_wait_stop_all(struct api *api);

#endif /* BLOCKD_API_API_INTERNAL_H */
