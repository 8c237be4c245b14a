/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_API_API_INTERNAL_H
#define BLOCKD_API_API_INTERNAL_H

/* What the files of the API share.
 *
 *   api.c            birth, the bridge from gRPC to the control thread, stop
 *   api_op.c         one change: build, commit, answer; idempotency
 *   api_list.c       pages and filters, the same for all resources
 *   api_name.c       resource names
 *   api_host.c, api_disk.c, api_pool.c, api_event.c, api_status.c
 *   api_volume.c     volumes: create, delete, attach, detach
 *   volume_view.c    volumes: from rows to messages
 *   api_operation.c  operations and waiting for them
 *   api_watch.c      watch streams
 *
 * The life of one change: the handler checks the request's form, api_op_start()
 * queues a transaction whose build() looks at the rows and either refuses (sets
 * op->error) or says what to write; when that is committed, reply() answers
 * from the rows. */

#include <stdbool.h>
#include <stdint.h>

#include "blockd/api/api.h"
#include "blockd/api/reply_arena.h"
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

#define API_SERVICES 7u
#define API_REQUEST_ID_MAX 128u
#define API_TARGET_SIZE 256u
#define API_TXN_NS (10 * NS_PER_S)
#define API_HOST_DOWN_MS 12000u /* No heartbeat for so long: shown as DOWN. */

struct api_service {
    struct rpc_service rpc;
    struct api *api;
};

struct api {
    struct api_options options;
    struct loop *loop;
    struct state *state;
    struct rpc_server *server;
    struct rpc_queue queue;
    struct loop_fd queue_fd;
    struct api_service services[API_SERVICES];
    struct rpc_service *service_list[API_SERVICES + 1];
    struct state_listener listener;
    struct loop_timer tick;
    struct list ops;     /* struct api_op */
    struct list waits;   /* struct api_wait */
    struct list watches; /* struct api_watch */
    struct rpc_server_events server_events;
    bool is_stopping;
    bool is_server_stopped; /* No call is open any more. */
};

/* Fails the call if the API stops. */
bool api_refuse_if_stopping(struct rpc_call *call);

struct api *api_of(const struct rpc_call *call);

/* The services' tables. */
extern const struct rpc_method api_host_methods[], api_disk_methods[],
    api_pool_methods[], api_volume_methods[], api_event_methods[],
    api_operation_methods[], api_status_methods[];
extern const size_t api_host_method_count, api_disk_method_count,
    api_pool_method_count, api_volume_method_count, api_event_method_count,
    api_operation_method_count, api_status_method_count;

/* ---- api_op.c ---- */

struct api_op;
/* Says what to verify and write, or sets op->error and returns -EPROTO; or
 * STATE_TXN_NOTHING. */
typedef int api_build_fn(struct api_op *op, struct state_txn *txn,
                         struct state *state);
/* Answers op->call; the rows show what was committed. */
typedef void api_reply_fn(struct api_op *op);

struct api_op {
    struct api *api;
    struct list node;
    struct rpc_call *call;
    const ProtobufCMessage *request; /* Lives as long as the call. */
    struct state_txn txn;
    struct rpc_error error;
    api_build_fn *build;
    api_reply_fn *reply;
    char comment[96];
    char request_id[API_REQUEST_ID_MAX + 1];
    char digest[24];
    char target[API_TARGET_SIZE]; /* Of the operation; set by build(). */
    struct weft_uuid operation;   /* Row UUID; also its name. */
    struct weft_uuid seed;        /* For UUIDs of what it creates. */
};

/* 'request_id' may be empty: then one is made.  Refuses one of a wrong form. */
void api_op_start(struct rpc_call *call, const ProtobufCMessage *request,
                  const char *request_id, api_build_fn *build,
                  api_reply_fn *reply);
/* In build(): whether this request was committed before (then build() returns
 * what 'ret_result' says: nothing to do, or refused for other content). */
bool api_op_is_repeated(struct api_op *op, struct state *state,
                        int *ret_result);
/* In build(): the Operation row of this change. */
void api_op_insert_operation(struct api_op *op, struct state_txn *txn);
/* The UUID of the part 'purpose' of what this request makes. */
void api_op_uuid(const struct api_op *op, const char *purpose,
                 struct weft_uuid *ret_uuid);
/* reply() of methods that return an Operation. */
void api_op_reply_operation(struct api_op *op);
/* Sets op->error and returns -EPROTO. */
int api_op_refuse(struct api_op *op, enum rpc_code code, const char *reason,
                  const char *format, ...) WEFT_PRINTF(4, 5);

/* ---- api_name.c ---- */

#define API_NAME_PART_SIZE (NAME_SIZE_MAX + 1)

/* "hosts/{host}" with collection "hosts".  False: not of that form. */
bool api_name_parse(const char *name, const char *collection,
                    char ret_id[API_NAME_PART_SIZE]);
/* "projects/{project}/volumes/{volume}", "hosts/{host}/disks/{disk}" */
bool api_name_parse_two(const char *name, const char *first, const char *second,
                        char ret_first[API_NAME_PART_SIZE],
                        char ret_second[API_NAME_PART_SIZE]);
/* Likewise, and fails the call with INVALID_ARGUMENT if it is not. */
bool api_take_name(struct rpc_call *call, const char *field, const char *name,
                   const char *collection, char ret_id[API_NAME_PART_SIZE]);
bool api_take_name_two(struct rpc_call *call, const char *field,
                       const char *name, const char *first, const char *second,
                       char ret_first[API_NAME_PART_SIZE],
                       char ret_second[API_NAME_PART_SIZE]);

/* ---- api_list.c ---- */

#define API_PAGE_SIZE_MAX 1000u
#define API_PAGE_SIZE_DEFAULT 100u

/* Collects messages of one kind, then gives one page of them in the order of
 * their string field 'key' (usually "name"). */
struct api_list {
    struct rpc_call *call;
    struct reply_arena arena;
    struct api_list_item *items;
    size_t count, capacity;
    uint32_t page_size;
    uint32_t token_check; /* Of method, parent and filter. */
    const char *after;    /* Key of the last item of the page before, or "". */
    struct api_filter *filter;
    bool descending;
};

/* Checks the page's and filter's form; false: the call has been failed. */
bool api_list_begin(struct api_list *list, struct rpc_call *call,
                    const ProtobufCMessageDescriptor *descriptor,
                    const char *parent, int32_t page_size,
                    const char *page_token, const char *filter);
/* Adds it if the filter lets it through.  It lives in list->arena, and so does
 * the unique key that it is sorted by: NULL for its name. */
void api_list_add(struct api_list *list, ProtobufCMessage *item,
                  const char *key);
/* The page: first item, how many, and the next token ("" at the end). */
void api_list_page(struct api_list *list, ProtobufCMessage ***ret_items,
                   size_t *ret_count, char **ret_next_token);
void api_list_end(struct api_list *list);

/* A filter, for watches: NULL lets all through.  False: not understood, and
 * the call has been failed. */
bool api_filter_parse(struct rpc_call *call,
                      const ProtobufCMessageDescriptor *descriptor,
                      const char *text, struct api_filter **ret_filter);
bool api_filter_matches(const struct api_filter *filter,
                        const ProtobufCMessage *message);
void api_filter_free(struct api_filter *filter);

/* ---- From rows to messages ---- */

Google__Protobuf__Timestamp *api_time(struct reply_arena *arena,
                                      uint64_t time_ms);
Weft__V1__Host *api_host_message(struct reply_arena *arena, struct state *state,
                                 const struct state_host *row);
Weft__V1__Disk *api_disk_message(struct reply_arena *arena, struct state *state,
                                 const struct state_disk *row);
/* Why a volume that is being created never will be, or NULL. */
const char *api_volume_creation_error(struct state *state,
                                      const struct state_volume *row);
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

/* ---- api_operation.c ---- */

void api_wait_check_all(struct api *api);
void api_wait_stop_all(struct api *api);

#endif /* BLOCKD_API_API_INTERNAL_H */
