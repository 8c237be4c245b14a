/* SPDX-License-Identifier: Apache-2.0 */
/* The server: two threads, and how they stop.
 *
 *   queue thread   runs what gRPC's completion queue delivers (call.c)
 *   watch thread   accepts on unix sockets, runs the services that have no
 *                  executor (health, reflection), and stops the server
 *
 *   serving --> stopping   rpc_server_stop(): no new calls, streams cancelled
 *           --> cutting    the grace is over: all calls cancelled
 *           --> stopped    gRPC is shut down and the last call is freed
 *
 * Then the completion queue is shut down, both threads end, and the server can
 * be freed without waiting.  Setting up is in server_setup.c. */

#include "lib/rpc/call.h"

#include <errno.h>
#include <grpc/grpc_posix.h>
#include <grpc/grpc_security.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/container_of.h"
#include "lib/base/units.h"
#include "lib/rpc/server_setup.h"

#define SERVER_POLL_WAKE 0
#define SERVER_POLL_OWN 1
#define SERVER_POLL_FIRST 2

static uint64_t
server_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static void
server_wake(struct rpc_server *server)
{
    uint64_t one = 1;
    ssize_t size = write(server->watch_fd, &one, sizeof one);
    (void)size; /* Fails only if it is readable anyway. */
}

/* ---- Calls come and go ---- */

const struct rpc_route *
rpc_server_find_route(const struct rpc_server *server, const char *path,
                      size_t size)
{
    for (size_t i = 0; i < server->route_count; i++) {
        const char *known = server->routes[i].path;
        if (strlen(known) == size && memcmp(known, path, size) == 0) {
            return &server->routes[i];
        }
    }
    return NULL;
}

/* Sees to it that enough calls wait for clients. */
static void
server_fill_waiting(struct rpc_server *server)
{
    for (;;) {
        pthread_mutex_lock(&server->lock);
        bool is_enough = server->is_stopping ||
                         server->waiting_count >= RPC_SERVER_WAITING_COUNT;
        pthread_mutex_unlock(&server->lock);
        if (is_enough || rpc_call_new(server) < 0) {
            return; /* Without memory: the next call tries again. */
        }
    }
}

void
rpc_server_add_call(struct rpc_server *server, struct rpc_call *call)
{
    pthread_mutex_lock(&server->lock);
    list_push_back(&server->calls, &call->node);
    server->call_count++;
    server->waiting_count++;
    call->is_waiting = true;
    pthread_mutex_unlock(&server->lock);
}

bool
rpc_server_call_opened(struct rpc_server *server, struct rpc_call *call)
{
    pthread_mutex_lock(&server->lock);
    call->is_waiting = false;
    server->waiting_count--;
    bool is_admitted = !server->is_stopping &&
                       server->open_count < server->options.call_count_max;
    if (is_admitted) {
        call->is_open = true;
        server->open_count++;
    }
    pthread_mutex_unlock(&server->lock);
    server_fill_waiting(server);
    return is_admitted;
}

void
rpc_server_forget_call(struct rpc_server *server, struct rpc_call *call)
{
    pthread_mutex_lock(&server->lock);
    list_remove(&call->node);
    if (call->is_open) {
        server->open_count--;
    }
    if (call->is_waiting) {
        server->waiting_count--;
    }
    pthread_mutex_unlock(&server->lock);
}

/* Whether the server has just come to its end; the lock is held. */
static bool
server_is_over(struct rpc_server *server)
{
    return server->is_shut_down && server->call_count == 0;
}

void
rpc_server_call_freed(struct rpc_server *server)
{
    pthread_mutex_lock(&server->lock);
    CHECK(server->call_count > 0);
    server->call_count--;
    bool is_over = server_is_over(server);
    grpc_completion_queue *queue = server->queue;
    pthread_mutex_unlock(&server->lock);
    if (is_over) {
        grpc_completion_queue_shutdown(queue);
    }
}

void
rpc_server_on_shutdown(struct rpc_tag *tag, bool is_ok)
{
    struct rpc_server *server =
        container_of(tag, struct rpc_server, shutdown_tag);

    (void)is_ok;
    pthread_mutex_lock(&server->lock);
    server->is_shut_down = true;
    bool is_over = server_is_over(server);
    pthread_mutex_unlock(&server->lock);
    if (is_over) {
        grpc_completion_queue_shutdown(server->queue);
    }
}

/* ---- The queue's thread ---- */

static void
server_tell_stopped(struct rpc_work *work)
{
    struct rpc_server_events *events =
        container_of(work, struct rpc_server_events, work);
    events->stopped(events);
}

static void *
server_queue_thread(void *argument)
{
    struct rpc_server *server = argument;

    for (;;) {
        grpc_event event =
            grpc_completion_queue_next(server->queue,
                                       gpr_inf_future(GPR_CLOCK_MONOTONIC),
                                       NULL);
        if (event.type == GRPC_QUEUE_SHUTDOWN) {
            break;
        }
        struct rpc_tag *tag = event.tag;
        tag->run(tag, event.success != 0);
    }
    struct rpc_executor *executor = server->options.executor != NULL
                                        ? server->options.executor
                                        : &server->own.executor;
    if (server->options.events != NULL) {
        server->options.events->work.run = server_tell_stopped;
        executor->post(executor, &server->options.events->work);
    }
    pthread_mutex_lock(&server->lock);
    server->is_stopped = true;
    pthread_mutex_unlock(&server->lock);
    server_wake(server);
    return NULL;
}

/* ---- The watch thread ---- */

/* Takes the clients that wait at a unix socket. */
static void
server_accept(struct rpc_server *server, struct unix_listener *listener)
{
    int fd;
    /* An error, of which the likely one is that there are too many
     * connections, leaves the client to be refused or to wait. */
    while (unix_listener_accept(listener, &server->numbers, &fd) == 0) {
        grpc_server_credentials *credentials =
            grpc_insecure_server_credentials_create();
        grpc_server_add_channel_from_fd(server->server, fd, credentials);
        grpc_server_credentials_release(credentials);
    }
}

static void
server_begin_stop(struct rpc_server *server)
{
    for (size_t i = 0; i < server->unix_listener_count; i++) {
        unix_listener_close(&server->unix_listeners[i]);
    }
    rpc_health_set_all(&server->health, false);
    grpc_server_shutdown_and_notify(server->server, server->queue,
                                    &server->shutdown_tag);
    pthread_mutex_lock(&server->lock);
    LIST_FOREACH (node, &server->calls) {
        rpc_call_stop(container_of(node, struct rpc_call, node));
    }
    pthread_mutex_unlock(&server->lock);
}

/* What the watch thread knows of the state. */
struct server_watch {
    bool is_stopping;
    bool is_cut;
    bool is_stopped;
    int timeout_ms;
};

/* Follows the server's state, and acts on it. */
static void
server_advance(struct rpc_server *server, struct server_watch *watch)
{
    pthread_mutex_lock(&server->lock);
    bool is_stopping = server->is_stopping;
    uint64_t cut_ns = server->cut_ns;
    watch->is_stopped = server->is_stopped;
    pthread_mutex_unlock(&server->lock);

    watch->timeout_ms = -1;
    if (is_stopping && !watch->is_stopping) {
        watch->is_stopping = true;
        server_begin_stop(server);
    }
    if (!watch->is_stopping || watch->is_cut || watch->is_stopped) {
        return;
    }
    uint64_t now_ns = server_now_ns();
    if (now_ns >= cut_ns) {
        watch->is_cut = true;
        grpc_server_cancel_all_calls(server->server);
        return;
    }
    uint64_t left_ms = units_divide_up(cut_ns - now_ns, NS_PER_MS);
    watch->timeout_ms = left_ms < INT32_MAX ? (int)left_ms : INT32_MAX;
}

static void *
server_watch_thread(void *argument)
{
    struct rpc_server *server = argument;
    struct server_watch watch = { .timeout_ms = -1 };
    size_t count = SERVER_POLL_FIRST + server->unix_listener_count;
    struct pollfd *polls = calloc(count, sizeof *polls);
    CHECK(polls != NULL);

    while (!watch.is_stopped) {
        polls[SERVER_POLL_WAKE].fd = server->watch_fd;
        polls[SERVER_POLL_OWN].fd = rpc_queue_fd(&server->own);
        for (size_t i = 0; i < server->unix_listener_count; i++) {
            polls[SERVER_POLL_FIRST + i].fd = server->unix_listeners[i].fd;
        }
        for (size_t i = 0; i < count; i++) {
            polls[i].events = POLLIN;
            polls[i].revents = 0;
        }
        int ready = poll(polls, (nfds_t)count, watch.timeout_ms);
        CHECK(ready >= 0 || errno == EINTR);
        if (polls[SERVER_POLL_WAKE].revents != 0) {
            uint64_t wakes;
            ssize_t size = read(server->watch_fd, &wakes, sizeof wakes);
            (void)size;
        }
        for (size_t i = 0; i < server->unix_listener_count; i++) {
            if (polls[SERVER_POLL_FIRST + i].revents != 0) {
                server_accept(server, &server->unix_listeners[i]);
            }
        }
        rpc_queue_run(&server->own);
        server_advance(server, &watch);
    }
    rpc_queue_run(&server->own); /* 'stopped', if it comes here. */
    free(polls);
    return NULL;
}

/* ---- Start and stop ---- */

int
rpc_server_start(const struct rpc_server_options *options,
                 struct rpc_server **ret_server, struct err *err)
{
    struct rpc_server *server;
    int result = server_setup_new(options, &server, err);
    if (result < 0) {
        return result;
    }
    grpc_server_start(server->server);
    server_fill_waiting(server);
    result = -pthread_create(&server->queue_thread, NULL, server_queue_thread,
                             server);
    /* Calls may come already, so that there is no way back from here. */
    CHECK(result == 0);
    result = -pthread_create(&server->watch_thread, NULL, server_watch_thread,
                             server);
    CHECK(result == 0);
    *ret_server = server;
    return 0;
}

uint16_t
rpc_server_port(const struct rpc_server *server, size_t index)
{
    CHECK(index < server->port_count);
    return server->ports[index];
}

void
rpc_server_stop(struct rpc_server *server, uint64_t grace_ns)
{
    uint64_t now_ns = server_now_ns();
    uint64_t cut_ns =
        grace_ns < UINT64_MAX - now_ns ? now_ns + grace_ns : UINT64_MAX;

    pthread_mutex_lock(&server->lock);
    if (!server->is_stopping || cut_ns < server->cut_ns) {
        server->cut_ns = cut_ns;
    }
    server->is_stopping = true;
    pthread_mutex_unlock(&server->lock);
    server_wake(server);
}

void
rpc_server_free(struct rpc_server *server)
{
    if (server == NULL) {
        return;
    }
    pthread_mutex_lock(&server->lock);
    bool is_stopping = server->is_stopping;
    pthread_mutex_unlock(&server->lock);
    if (!is_stopping) {
        rpc_server_stop(server, 0);
    }
    pthread_join(server->queue_thread, NULL);
    pthread_join(server->watch_thread, NULL);
    server_setup_free(server);
}

void
rpc_server_set_health(struct rpc_server *server, const char *service,
                      bool is_serving)
{
    /* Without memory it stays unknown, which watchers see. */
    int result = rpc_health_set(&server->health, service, is_serving);
    (void)result;
}
