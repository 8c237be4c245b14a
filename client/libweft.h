/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_LIBWEFT_H
#define CLIENT_LIBWEFT_H

/* libweft: a thin client for the services of proto/weft/v1.
 *
 *     struct weft *weft;
 *     weft_open("unix:/run/weft/blockd.sock", &weft, &err);
 *
 *     Weft__V1__GetVolumeRequest request = WEFT__V1__GET_VOLUME_REQUEST__INIT;
 *     request.name = "projects/default/volumes/db";
 *     weft_call(weft, &weft__v1__volume_service__descriptor, "GetVolume",
 *               &request.base, &reply, &error);
 *     ...
 *     weft_message_free(reply);
 *
 * Calls block.  Results are 0 or -errno, with the server's reasons in 'error',
 * which may be NULL.  A connection may be used by several threads.  Do not
 * fork() while one is open; posix_spawn() is all right. */

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/check.h"
#include "lib/base/err.h"
#include "lib/base/uuid.h"
#include "lib/rpc/client.h"
#include "lib/rpc/error.h"
#include "proto/weft/v1/operation.pb-c.h"

#define WEFT_DEFAULT_ENDPOINT "unix:/run/weft/blockd.sock"
#define WEFT_DEFAULT_NET_ENDPOINT "unix:/run/weft/netd.sock"
#define WEFT_CALL_TIMEOUT_NS (30 * UINT64_C(1000000000))

struct weft;

/* 'endpoint' as for rpc_channel_new(). */
WEFT_MUST_CHECK int weft_open(const char *endpoint, struct weft **ret_weft,
                              struct err *err);

/* Accepts NULL. */
void weft_close(struct weft *weft);

/* Ends all calls that are under way, and those to come, with -ECANCELED until
 * it is called with false.  Any thread. */
void weft_interrupt(struct weft *weft, bool is_on);

/* How long a call may take; at first WEFT_CALL_TIMEOUT_NS. */
void weft_set_timeout(struct weft *weft, uint64_t timeout_ns);

/* One unary call; the caller frees '*ret_reply' with weft_message_free(). */
WEFT_MUST_CHECK int
weft_call(struct weft *weft, const ProtobufCServiceDescriptor *service,
          const char *method, const ProtobufCMessage *request,
          ProtobufCMessage **ret_reply, struct rpc_error *error);

/* Accepts NULL. */
void weft_message_free(ProtobufCMessage *message);

/* One streaming call; see lib/rpc/client.h. */
WEFT_MUST_CHECK int
weft_watch(struct weft *weft, const ProtobufCServiceDescriptor *service,
           const char *method, const ProtobufCMessage *request,
           struct rpc_reader **ret_reader, struct rpc_error *error);

/* A new random request_id. */
void weft_request_id(char ret_text[UUID_TEXT_SIZE]);

/* ---- Lists ---- */

/* All pages of a List method:
 *
 *     struct weft_list list;
 *     weft_list_init(&list, weft, service, "ListVolumes", &request.base);
 *     while ((result = weft_list_next(&list, &item, &error)) == 1) ...
 *     weft_list_done(&list);
 *
 * The request is borrowed until then; its page_token is replaced. */
struct weft_list {
    struct weft *weft;
    const ProtobufCServiceDescriptor *service;
    const char *method;
    ProtobufCMessage *request;
    ProtobufCMessage *page;
    size_t index;
    char *token; /* Owned; what the last page said. */
    char *saved; /* The request's own page_token. */
};

/* The method's request has a page_token; its response has one repeated message
 * field, and a next_page_token. */
void weft_list_init(struct weft_list *list, struct weft *weft,
                    const ProtobufCServiceDescriptor *service,
                    const char *method, ProtobufCMessage *request);

/* 1 with '*ret_item', which belongs to the list until the next call; 0 at the
 * end; or -errno. */
WEFT_MUST_CHECK int weft_list_next(struct weft_list *list,
                                   const ProtobufCMessage **ret_item,
                                   struct rpc_error *error);

void weft_list_done(struct weft_list *list);

/* ---- Operations ---- */

struct weft_progress;

/* Told about an operation while it is waited for. */
typedef void weft_progress_fn(struct weft_progress *progress,
                              const Weft__V1__Operation *operation);

struct weft_progress {
    weft_progress_fn *show;
};

/* Waits until '*operation' is done, for at most 'timeout_ns' (RPC_NO_TIMEOUT:
 * without limit), asking again and replacing it by what came.  A server that
 * cannot be reached for a while is asked again, too.  'progress' may be NULL.
 * If the operation failed, 'error' is what it failed with. */
WEFT_MUST_CHECK int weft_wait(struct weft *weft,
                              Weft__V1__Operation **operation,
                              uint64_t timeout_ns,
                              struct weft_progress *progress,
                              struct rpc_error *error);

#endif /* CLIENT_LIBWEFT_H */
