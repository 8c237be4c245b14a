/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_RPC_CALL_H
#define LIB_RPC_CALL_H

/* The inside of the server: private to lib/rpc.
 *
 *   WAITING --> RECEIVING   a client called; admitted
 *           --> FINISHED    refused; or the server is shut down (freed)
 *   RECEIVING --> HANDLED   the request is there and well-formed
 *             --> FINISHED  malformed, or cancelled meanwhile
 *   HANDLED --> FINISHED    the handler finished it
 *   FINISHED --> freed      no reference is left
 *
 * References keep the memory: one for each tag that gRPC holds, one for each
 * work item that an executor holds, one from HANDLED (or the refusal) until
 * FINISHED.
 *
 * Locks, in the order of acquisition: server->lock, call->lock.  Nothing
 * outside lib/rpc is called under either, but for rpc_executor.post(). */

#include <grpc/grpc.h>
#include <pthread.h>

#include "lib/base/list.h"
#include "lib/rpc/health.h"
#include "lib/rpc/reflection.h"
#include "lib/rpc/server.h"
#include "lib/rpc/unix_listener.h"

/* What gRPC's completion queue carries. */
struct rpc_tag;
typedef void rpc_tag_fn(struct rpc_tag *tag, bool is_ok);

struct rpc_tag {
    rpc_tag_fn *run;
};

/* A path and who serves it. */
struct rpc_route {
    char *path; /* "/weft.v1.VolumeService/GetVolume"; owned. */
    struct rpc_service *service;
    const struct rpc_method *method;
    const ProtobufCMessageDescriptor *input;
};

/* Number of server-side calls that wait for a client at any time. */
#define RPC_SERVER_WAITING_COUNT 32u

struct rpc_server {
    struct rpc_server_options options;
    struct rpc_route *routes;
    size_t route_count;
    uint16_t *ports; /* Of the TCP entries of options.listen. */
    size_t port_count;

    grpc_server *server;
    grpc_completion_queue *queue;
    struct rpc_tag shutdown_tag;
    pthread_t queue_thread; /* Runs the tags. */
    pthread_t watch_thread; /* Accepts on unix sockets, stops, runs 'own'. */
    int watch_fd;           /* eventfd: wakes the watch thread. */
    struct unix_listener *unix_listeners;
    size_t unix_listener_count;
    struct unix_numbers numbers;
    struct rpc_health health;
    struct rpc_reflection reflection;
    struct rpc_queue own; /* For services without executor: watch_thread. */

    pthread_mutex_t lock;
    /* Under the lock: */
    struct list calls; /* All, the waiting ones included. */
    uint32_t call_count;
    uint32_t waiting_count;
    uint32_t open_count; /* Those that a client has opened. */
    uint64_t cut_ns;     /* When calls are cut, after stop. */
    bool is_stopping;    /* rpc_server_stop() was called. */
    bool is_shut_down;   /* gRPC has told so. */
    bool is_stopped;     /* The queue is shut down: no calls are left. */
};

enum rpc_call_state {
    RPC_CALL_WAITING,
    RPC_CALL_RECEIVING,
    RPC_CALL_HANDLED,
    RPC_CALL_FINISHED,
};

struct rpc_call {
    struct rpc_server *server;
    struct list node; /* In server->calls. */

    /* Of the queue's thread, constant once HANDLED. */
    grpc_call *call;
    grpc_call_details details;
    grpc_metadata_array metadata;
    const struct rpc_route *route;
    struct rpc_peer peer;
    uint64_t deadline_ns;
    grpc_byte_buffer *received;
    int was_cancelled; /* Written by gRPC before close_tag. */
    ProtobufCMessage *request;
    struct rpc_tag request_tag; /* A client called. */
    struct rpc_tag close_tag;   /* The call is over, one way or other. */
    struct rpc_tag receive_tag;
    struct rpc_tag send_tag;
    struct rpc_work handle_work;
    struct rpc_work cancel_work;
    struct rpc_work writable_work;

    pthread_mutex_t lock;
    /* Under the lock: */
    pthread_cond_t idle; /* is_in_callback became false. */
    pthread_t callback_thread;
    struct rpc_call_events *events;
    enum rpc_call_state state;
    uint32_t references;
    bool is_waiting;     /* In waiting_count.  Under server->lock. */
    bool is_open;        /* In open_count.  Under server->lock. */
    bool is_cancelled;   /* As the handler sees it. */
    bool is_told;        /* cancel_work was posted. */
    bool is_closed;      /* gRPC sends nothing any more. */
    bool is_sending;     /* send_tag is under way. */
    bool is_started;     /* Initial metadata was sent. */
    bool is_status_sent; /* The last batch was begun. */
    bool is_in_callback;
    bool wants_writable; /* rpc_stream_send() gave -EAGAIN. */
    grpc_byte_buffer *messages[RPC_STREAM_QUEUE_COUNT]; /* A ring. */
    uint32_t message_first;
    uint32_t message_count;
    size_t message_bytes;
    enum rpc_code code; /* From FINISHED on. */
    grpc_slice text;
    grpc_metadata details_entry; /* grpc-status-details-bin. */
    bool has_details;
};

/* Makes a call that waits for a client.  -ENOMEM. */
WEFT_MUST_CHECK int rpc_call_new(struct rpc_server *server);

/* Tells the handler of a stream that the server stops; the server's lock is
 * held. */
void rpc_call_stop(struct rpc_call *call);

/* Asks for the next request of an RPC_BIDI call; the present one is gone.  The
 * handler is called again with it, or with NULL at the end. */
void rpc_call_receive(struct rpc_call *call);

void rpc_call_unref(struct rpc_call *call);

/* Waits for a callback that another thread runs, takes the lock and makes the
 * call FINISHED. */
void rpc_call_begin_finish(struct rpc_call *call);

/* Posts the news that there is room; the lock is held. */
void rpc_call_post_writable(struct rpc_call *call);

/* call_send.c: send_tag is back. */
void rpc_call_on_sent(struct rpc_tag *tag, bool is_ok);

/* call_send.c: takes the first message off the queue, which is not empty. */
grpc_byte_buffer *rpc_call_pop_message(struct rpc_call *call);

/* server.c: the last reference to a call is gone: first it is taken off the
 * list, then it is freed, then the server may go. */
void rpc_server_forget_call(struct rpc_server *server, struct rpc_call *call);
void rpc_server_call_freed(struct rpc_server *server);

/* server.c: 'call' begins to wait for a client. */
void rpc_server_add_call(struct rpc_server *server, struct rpc_call *call);

/* server.c: a client opened 'call'; makes the next one wait.  False if there
 * are too many or the server stops. */
bool rpc_server_call_opened(struct rpc_server *server, struct rpc_call *call);

/* server.c: gRPC is shut down. */
void rpc_server_on_shutdown(struct rpc_tag *tag, bool is_ok);

/* NULL: no such method. */
const struct rpc_route *rpc_server_find_route(const struct rpc_server *server,
                                              const char *path, size_t size);

#endif /* LIB_RPC_CALL_H */
