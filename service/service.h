/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SERVICE_SERVICE_H
#define SERVICE_SERVICE_H

/* What the gRPC APIs of blockd and netd have in common: handlers that run on
 * the control thread, read the database's rows, and change them by one
 * transaction a call.
 *
 *   service.c      the bridge from gRPC's threads to the control thread; stop
 *   api_op.c       one change: build, commit, answer; idempotency
 *   api_list.c     pages and filters, the same for all resources
 *   api_name.c     resource names
 *   reply_arena.c  memory of one reply
 *
 * A daemon embeds a 'struct service' in its API and finds that again by
 * container_of(service_of(call), ...).
 *
 * The life of one change: the handler checks the request's form, api_op_start()
 * queues a transaction whose build() looks at the rows and either refuses (sets
 * op->error) or says what to write; when that is committed, reply() answers
 * from the rows.
 *
 * Thread: the control thread. */

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "google/protobuf/timestamp.pb-c.h"
#include "lib/base/err.h"
#include "lib/base/list.h"
#include "lib/base/name.h"
#include "lib/rpc/server.h"
#include "lib/state/state.h"
#include "service/reply_arena.h"

#define SERVICE_ENTRIES_MAX 16u
#define API_REQUEST_ID_MAX 128u
#define API_TARGET_SIZE 256u
#define API_TXN_NS (10 * NS_PER_S)

/* ---- service.c ---- */

/* One gRPC service; the table ends with a descriptor of NULL. */
struct service_table {
    const ProtobufCServiceDescriptor *descriptor;
    const struct rpc_method *methods;
    size_t count;
};

struct service_entry {
    struct rpc_service rpc;
    struct service *service;
};

struct service {
    struct loop *loop;
    struct state *state;
    const char *daemon;   /* "blockd": for messages. */
    const char *database; /* See the options. */
    struct rpc_server *server;
    struct list ops; /* struct api_op */
    bool is_stopping;
    /* Private. */
    struct rpc_queue queue;
    struct loop_fd queue_fd;
    struct service_entry entries[SERVICE_ENTRIES_MAX];
    struct rpc_service *entry_list[SERVICE_ENTRIES_MAX + 1];
    struct rpc_server_events server_events;
    bool is_server_stopped; /* No call is open any more. */
};

struct service_options {
    struct loop *loop;
    struct state *state;
    const char *daemon;
    const char *const *listen; /* Borrowed until service_done(). */
    /* As long as the rows have never been read, all calls fail, UNAVAILABLE:
     * nobody may take what is not known yet for what is not there.  Text for
     * messages: where the database is; NULL: handlers see to it themselves. */
    const char *database;
    const struct service_table *tables;
};

/* Listens and serves.  -errno with text; then there is nothing to undo. */
WEFT_MUST_CHECK int service_init(struct service *service,
                                 const struct service_options *options,
                                 struct err *err);
/* Refuses new calls, cancels changes and those that wait in gRPC.  What else
 * the user holds open it has to finish itself. */
void service_refuse(struct service *service);
/* After service_refuse(): turns the loop until all calls have been answered. */
void service_done(struct service *service);

struct service *service_of(const struct rpc_call *call);
/* Wall clock, milliseconds: for the *_ms columns only. */
uint64_t service_wall_ms(void);
/* Fails the call if the API stops. */
bool api_refuse_if_stopping(struct rpc_call *call);
/* NULL for 0. */
Google__Protobuf__Timestamp *api_time(struct reply_arena *arena,
                                      uint64_t time_ms);

/* ---- api_op.c ---- */

struct api_op;
/* Says what to verify and write, or sets op->error and returns -EPROTO; or
 * STATE_TXN_NOTHING. */
typedef int api_build_fn(struct api_op *op, struct state_txn *txn,
                         struct state *state);
/* Answers op->call; the rows show what was committed. */
typedef void api_reply_fn(struct api_op *op);

struct api_op {
    struct service *service;
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
    char target[API_TARGET_SIZE];      /* Of the operation; set by build(). */
    struct weft_uuid operation;        /* Row UUID; also its name. */
    struct weft_uuid seed;             /* For UUIDs of what it creates. */
    uint32_t conflicts_max, conflicts; /* As allowed, and as met. */
    uint64_t deadline_ns;
    api_reply_fn *ended;
};

/* 'request_id' may be empty: then one is made.  Refuses one of a wrong form. */
void api_op_start(struct rpc_call *call, const ProtobufCMessage *request,
                  const char *request_id, api_build_fn *build,
                  api_reply_fn *reply);
struct api_op_options {
    api_build_fn *build;
    api_reply_fn *reply;
    /* Told once when the change is over, answered or not, before the op goes;
     * may be NULL. */
    api_reply_fn *ended;
    /* Of a structure that begins with a 'struct api_op'; what follows is
     * zero at first. */
    size_t size;
    /* How often it may be built anew because an index had what it chose: for
     * what chooses numbers or addresses. */
    uint32_t conflicts_max;
};
/* NULL: the call has failed.  api_op_begin() then sends it. */
struct api_op *api_op_new(struct rpc_call *call,
                          const ProtobufCMessage *request,
                          const char *request_id,
                          const struct api_op_options *options);
void api_op_begin(struct api_op *op);
/* In build(): whether this request was committed before (then build() returns
 * what 'ret_result' says: nothing to do, or refused for other content). */
bool api_op_is_repeated(struct api_op *op, struct state *state,
                        int *ret_result);
/* In build(): the Operation row of this change. */
void api_op_insert_operation(struct api_op *op, struct state_txn *txn);
/* The UUID of the part 'purpose' of what this request makes. */
void api_op_uuid(const struct api_op *op, const char *purpose,
                 struct weft_uuid *ret_uuid);
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
    const char *last;     /* Nothing behind this key is on the page; or NULL. */
    struct api_filter *filter;
    bool descending;
};

/* Checks the page's and filter's form; false: the call has been failed. */
bool api_list_begin(struct api_list *list, struct rpc_call *call,
                    const ProtobufCMessageDescriptor *descriptor,
                    const char *parent, int32_t page_size,
                    const char *page_token, const char *filter);
/* Whether what has this key may be on the page: to be asked before a message is
 * made that costs something. */
bool api_list_wants(const struct api_list *list, const char *key);
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

#endif /* SERVICE_SERVICE_H */
