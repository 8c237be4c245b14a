/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_RPC_SERVER_H
#define LIB_RPC_SERVER_H

/* gRPC server: unary and server-streaming calls, on TCP and unix sockets.
 *
 * A service is a table of methods; a call is handed to its handler, which
 * finishes it at once or later, from any thread:
 *
 *     static void
 *     volume_get(struct rpc_call *call, const ProtobufCMessage *message)
 *     {
 *         struct api *api = container_of(rpc_call_service(call), struct api,
 *                                        service);
 *         ... start an operation that remembers 'call' ...
 *     }
 *     ... and when it is done:
 *     rpc_call_reply(call, &volume.base);
 *
 * The life of a call:
 *
 *     handler --> finished   rpc_call_reply(), rpc_call_fail(),
 *                            rpc_stream_finish()
 *
 *   (1) Each call that was handed to a handler is finished exactly once, even
 *       if it was cancelled; what is then sent is thrown away.  After that the
 *       call and its request are gone.
 *   (2) The request belongs to the call and lives until the call is finished.
 *       It was checked: well-formed protobuf, UTF-8 without NUL in strings.
 *   (3) Handlers and the events of a call come on the service's executor, one
 *       at a time and never after the call was finished.  Without an executor
 *       they come on a thread of the server, and must not block.
 *   (4) rpc_call_*() and rpc_stream_*() may be called by any thread, but for
 *       one call by one at a time.  They copy what they are given, never wait
 *       for the client, and never call back.  If another thread is just
 *       running the call's handler or event, the functions that finish a call
 *       wait until it has returned.
 *
 * A service whose executor is the control thread's rpc_queue thus needs no
 * locks: requests, cancellations and its own completions all come there.
 *
 * Besides the services that it is given, a server has grpc.health.v1.Health
 * and grpc.reflection.v1alpha.ServerReflection.
 *
 * Never fork() after rpc_server_start(): posix_spawn() is all right. */

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/base/check.h"
#include "lib/base/err.h"
#include "lib/rpc/descriptors.h"
#include "lib/rpc/error.h"
#include "lib/rpc/executor.h"

struct rpc_server;
struct rpc_call;
struct rpc_service;

/* ---- Services ---- */

enum rpc_kind {
    RPC_UNARY,         /* One request, one reply. */
    RPC_SERVER_STREAM, /* One request, any number of messages. */
    RPC_BIDI,          /* For reflection only; see call.h. */
};

typedef void rpc_handler_fn(struct rpc_call *call,
                            const ProtobufCMessage *request);

/* Constant.  protobuf-c does not tell which methods are streams. */
struct rpc_method {
    const char *name; /* As in the .proto: "GetVolume". */
    enum rpc_kind kind;
    rpc_handler_fn *handle; /* NULL: UNIMPLEMENTED. */
};

/* Before each handler, where that would be called.  false: it has failed the
 * call, which is not handled. */
typedef bool rpc_gate_fn(struct rpc_call *call);

/* Filled by the user, borrowed until rpc_server_free(), and usually embedded in
 * what the handlers need.  Methods of the descriptor that are missing from the
 * table answer UNIMPLEMENTED. */
struct rpc_service {
    const ProtobufCServiceDescriptor *descriptor;
    const struct rpc_method *methods;
    size_t method_count;
    struct rpc_executor *executor; /* NULL: a thread of the server. */
    rpc_gate_fn *gate;             /* NULL: all calls are handled. */
};

/* ---- Who calls ---- */

enum rpc_transport {
    RPC_TRANSPORT_UNIX, /* uid, gid and pid are those of the peer. */
    RPC_TRANSPORT_TCP,
};

/* Transport and credentials of the client.  Certificates will add to it. */
struct rpc_peer {
    enum rpc_transport transport;
    uid_t uid;
    gid_t gid;
    pid_t pid;         /* Told for the log; it may be somebody else's by now. */
    char address[128]; /* "unix:uid=0,pid=12", "ipv4:192.0.2.1:4711" */
};

struct rpc_authorizer;

/* RPC_OK lets the call through; other codes, usually RPC_PERMISSION_DENIED or
 * RPC_UNAUTHENTICATED, refuse it.  'method' is the whole path,
 * "/weft.v1.VolumeService/GetVolume".  Called on the server's thread for every
 * call, health and reflection included; must not block. */
typedef enum rpc_code rpc_authorize_fn(struct rpc_authorizer *authorizer,
                                       const struct rpc_peer *peer,
                                       const char *method);

struct rpc_authorizer {
    rpc_authorize_fn *authorize;
};

/* ---- The server ---- */

struct rpc_server_events {
    /* All calls are finished after rpc_server_stop(): rpc_server_free() will
     * not wait.  On the executor given with it; without one, the server must
     * not be freed from here. */
    void (*stopped)(struct rpc_server_events *events);
    struct rpc_work work; /* Private. */
};

struct rpc_server_options {
    /* Where to listen, a list that ends with NULL: "tcp:ADDRESS:PORT" (port 0:
     * any free one) or "unix:/PATH" (a socket left over is replaced). */
    const char *const *listen;
    /* List of services that ends with NULL. */
    struct rpc_service *const *services;
    /* What reflection tells about them; may be NULL. */
    const struct rpc_descriptor_set *descriptors;
    struct rpc_authorizer *authorizer; /* NULL: all may do all. */
    uint32_t request_size_max;         /* 0: 1 MiB. */
    uint32_t call_count_max; /* Further calls: RESOURCE_EXHAUSTED.  0: 1024. */
    mode_t unix_mode;        /* Of the sockets; 0: 0600. */
    /* May be NULL.  Borrowed until it was told, which may be after the server
     * was freed. */
    struct rpc_server_events *events;
    struct rpc_executor *executor; /* For 'events'; NULL: own thread. */
};

/* Listens and serves.  'options' is copied, what it points to borrowed until
 * rpc_server_free().  Sets 'err' on failure. */
WEFT_MUST_CHECK int rpc_server_start(const struct rpc_server_options *options,
                                     struct rpc_server **ret_server,
                                     struct err *err);

/* The port of the nth TCP entry of 'listen'. */
uint16_t rpc_server_port(const struct rpc_server *server, size_t index);

/* Begins to stop and returns at once.  New calls are refused; health becomes
 * NOT_SERVING; the streams of the services are cancelled and end with
 * UNAVAILABLE; unary calls have 'grace_ns' to finish, then they are cancelled,
 * too.  Handlers must still finish them (1).  May be called again, to cut the
 * grace short. */
void rpc_server_stop(struct rpc_server *server, uint64_t grace_ns);

/* Stops without grace if that was not done, waits until all calls are finished
 * and frees.  Must not be called on an executor's thread before 'stopped' was
 * told, unless no call is open there.  Accepts NULL. */
void rpc_server_free(struct rpc_server *server);

/* What health says about a service (its full name; "" is the whole server, at
 * first serving, as is every service of the server).  Any thread. */
void rpc_server_set_health(struct rpc_server *server, const char *service,
                           bool is_serving);

/* ---- Calls ---- */

/* Told about a call; embedded in the operation that serves it. */
struct rpc_call_events {
    /* The client is gone, the deadline is over, or the server stops: nobody
     * will read an answer.  At most once.  May be NULL. */
    void (*cancelled)(struct rpc_call_events *events);
    /* After rpc_stream_send() gave -EAGAIN: half of the queue is free again.
     * May be NULL for unary calls. */
    void (*writable)(struct rpc_call_events *events);
};

/* The service that the method belongs to: for container_of(). */
struct rpc_service *rpc_call_service(const struct rpc_call *call);
const char *rpc_call_method(const struct rpc_call *call); /* "GetVolume" */
const struct rpc_peer *rpc_call_peer(const struct rpc_call *call);

/* CLOCK_MONOTONIC; UINT64_MAX: none. */
uint64_t rpc_call_deadline_ns(const struct rpc_call *call);

bool rpc_call_is_cancelled(struct rpc_call *call);

/* Asks for events; 'events' is borrowed until the call is finished.  If the
 * call is cancelled already, 'cancelled' follows. */
void rpc_call_set_events(struct rpc_call *call, struct rpc_call_events *events);

/* Finish a unary call with a message, or any call with an error (code not
 * RPC_OK).  For a stream, what was sent before arrives first. */
void rpc_call_reply(struct rpc_call *call, const ProtobufCMessage *reply);
void rpc_call_fail(struct rpc_call *call, const struct rpc_error *error);

/* The same with just a code and a text. */
void rpc_call_fail_text(struct rpc_call *call, enum rpc_code code,
                        const char *reason, const char *format, ...)
    WEFT_PRINTF(4, 5);

#define RPC_STREAM_QUEUE_COUNT 64u
#define RPC_STREAM_QUEUE_BYTES (1024u * 1024u)

/* Queues one message.  -EAGAIN: the queue is full (RPC_STREAM_QUEUE_COUNT
 * messages, or RPC_STREAM_QUEUE_BYTES exceeded); 'writable' will tell.
 * -ECANCELED: nobody reads any more. */
WEFT_MUST_CHECK int rpc_stream_send(struct rpc_call *call,
                                    const ProtobufCMessage *message);

/* Finishes a stream with success. */
void rpc_stream_finish(struct rpc_call *call);

#endif /* LIB_RPC_SERVER_H */
