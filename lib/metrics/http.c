/* SPDX-License-Identifier: Apache-2.0 */
/* One thread around poll(): the listener, an eventfd that means stop, and the
 * connections.
 *
 *   READING --> WRITING   the head is complete, too long or malformed
 *   WRITING --> CLOSING   the answer is out; our side is shut down
 *   any     --> closed    error, end of file, timeout, stop
 *
 * CLOSING reads what still comes, for a moment, and throws it away: closing a
 * socket with unread bytes would reset the connection, and the client could
 * lose the answer. */

#include "lib/metrics/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/units.h"
#include "lib/metrics/http_listen.h"
#include "lib/metrics/http_request.h"

#define HTTP_TIMEOUT_NS (5 * NS_PER_S)
#define HTTP_LINGER_NS (1 * NS_PER_S)

enum http_state {
    HTTP_FREE,
    HTTP_READING,
    HTTP_WRITING,
    HTTP_CLOSING,
};

struct http_connection {
    enum http_state state;
    int fd;
    uint64_t deadline_ns;
    char head[METRICS_HTTP_HEAD_SIZE];
    size_t head_size;
    char *answer; /* Owned. */
    size_t answer_size;
    size_t answer_sent;
};

struct metrics_http {
    struct metrics_http_options options;
    struct http_listener listener;
    int stop_fd;
    pthread_t thread;
    struct http_connection connections[METRICS_HTTP_CONNECTION_MAX];
};

static uint64_t
http_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static void
http_connection_close(struct http_connection *connection)
{
    close(connection->fd);
    free(connection->answer);
    connection->answer = NULL;
    connection->state = HTTP_FREE;
}

static const char *
http_reason(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 431:
        return "Request Header Fields Too Large";
    case 500:
        return "Internal Server Error";
    case 503:
        return "Service Unavailable";
    case 505:
        return "HTTP Version Not Supported";
    default:
        return "Bad Request";
    }
}

/* Puts head and body together; without memory the connection just closes. */
static void
http_answer(struct http_connection *connection, int status, const char *type,
            const char *body, size_t body_size, bool is_head)
{
    char *answer = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&answer, &size);
    if (file == NULL) {
        http_connection_close(connection);
        return;
    }
    fprintf(file,
            "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
            "Cache-Control: no-store\r\nConnection: close\r\n%s\r\n",
            status, http_reason(status), type, body_size,
            status == 405 ? "Allow: GET, HEAD\r\n" : "");
    if (!is_head) {
        fwrite(body, 1, body_size, file);
    }
    bool failed = ferror(file) != 0;
    if (fclose(file) != 0 || failed) {
        free(answer);
        http_connection_close(connection);
        return;
    }
    connection->answer = answer;
    connection->answer_size = size;
    connection->answer_sent = 0;
    connection->state = HTTP_WRITING;
}

static void
http_answer_text(struct http_connection *connection, int status,
                 const char *text, bool is_head)
{
    char body[METRICS_HTTP_TEXT_SIZE + 2];
    int size = snprintf(body, sizeof body, "%s\n", text);
    http_answer(connection, status, "text/plain; charset=utf-8", body,
                (size_t)size, is_head);
}

static void
http_answer_request(struct metrics_http *server,
                    struct http_connection *connection,
                    const struct http_request *request)
{
    bool is_head = request->is_head != 0;

    if (request->path == HTTP_PATH_HEALTHZ) {
        char text[METRICS_HTTP_TEXT_SIZE] = "ok";
        struct metrics_health *health = server->options.health;
        bool is_well = health == NULL || health->check(health, text);
        text[sizeof text - 1] = '\0';
        http_answer_text(connection, is_well ? 200 : 503, text, is_head);
        return;
    }
    CLEANUP_FREE char *text = NULL;
    size_t size = 0;
    if (metrics_render(server->options.registry, &text, &size) < 0) {
        http_answer_text(connection, 500, "out of memory", is_head);
        return;
    }
    http_answer(connection, 200, METRICS_CONTENT_TYPE, text, size, is_head);
}

static void
http_connection_read(struct metrics_http *server,
                     struct http_connection *connection)
{
    ssize_t size =
        read(connection->fd, connection->head + connection->head_size,
             sizeof connection->head - connection->head_size);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (size <= 0) {
        http_connection_close(connection);
        return;
    }
    connection->head_size += (size_t)size;

    struct http_request request;
    int status =
        http_request_parse(connection->head, connection->head_size, &request);
    if (status == 200) {
        http_answer_request(server, connection, &request);
    } else if (status != 0) {
        http_answer_text(connection, status, http_reason(status), false);
    } else if (connection->head_size == sizeof connection->head) {
        http_answer_text(connection, 431, http_reason(431), false);
    }
}

static void
http_connection_write(struct http_connection *connection)
{
    ssize_t size =
        send(connection->fd, connection->answer + connection->answer_sent,
             connection->answer_size - connection->answer_sent, MSG_NOSIGNAL);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (size < 0) {
        http_connection_close(connection);
        return;
    }
    connection->answer_sent += (size_t)size;
    if (connection->answer_sent == connection->answer_size) {
        shutdown(connection->fd, SHUT_WR);
        connection->state = HTTP_CLOSING;
        connection->deadline_ns = http_now_ns() + HTTP_LINGER_NS;
    }
}

static void
http_connection_drain(struct http_connection *connection)
{
    char rest[METRICS_HTTP_HEAD_SIZE];
    ssize_t size = read(connection->fd, rest, sizeof rest);
    if (size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR)) {
        http_connection_close(connection);
    }
}

static void
http_accept(struct metrics_http *server, struct http_connection *connection)
{
    int fd =
        accept4(server->listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        return; /* The client is gone, or there are no descriptors left. */
    }
    connection->fd = fd;
    connection->state = HTTP_READING;
    connection->head_size = 0;
    connection->deadline_ns = http_now_ns() + server->options.timeout_ns;
}

static void
http_connection_run(struct metrics_http *server,
                    struct http_connection *connection, short events)
{
    bool is_late = http_now_ns() >= connection->deadline_ns;

    if (is_late || (events & (POLLERR | POLLNVAL)) != 0) {
        http_connection_close(connection);
        return;
    }
    if (events == 0) {
        return;
    }
    switch (connection->state) {
    case HTTP_READING:
        http_connection_read(server, connection);
        return;
    case HTTP_WRITING:
        http_connection_write(connection);
        return;
    case HTTP_CLOSING:
        http_connection_drain(connection);
        return;
    case HTTP_FREE:
        return;
    }
}

#define HTTP_POLL_STOP 0
#define HTTP_POLL_LISTENER 1
#define HTTP_POLL_FIRST 2
#define HTTP_POLL_COUNT (HTTP_POLL_FIRST + METRICS_HTTP_CONNECTION_MAX)

/* Fills 'polls'; a negative fd is ignored by poll().  Returns its timeout. */
static int
http_prepare_poll(struct metrics_http *server,
                  struct pollfd polls[HTTP_POLL_COUNT],
                  struct http_connection **ret_free)
{
    uint64_t deadline_ns = UINT64_MAX;

    *ret_free = NULL;
    for (uint32_t i = 0; i < METRICS_HTTP_CONNECTION_MAX; i++) {
        struct http_connection *connection = &server->connections[i];
        struct pollfd *entry = &polls[HTTP_POLL_FIRST + i];
        if (connection->state == HTTP_FREE) {
            *ret_free = connection;
            entry->fd = -1;
            continue;
        }
        entry->fd = connection->fd;
        entry->events = connection->state == HTTP_WRITING ? POLLOUT : POLLIN;
        if (connection->deadline_ns < deadline_ns) {
            deadline_ns = connection->deadline_ns;
        }
    }
    polls[HTTP_POLL_STOP] =
        (struct pollfd){ .fd = server->stop_fd, .events = POLLIN };
    polls[HTTP_POLL_LISTENER] = (struct pollfd){
        .fd = *ret_free != NULL ? server->listener.fd : -1,
        .events = POLLIN,
    };
    if (deadline_ns == UINT64_MAX) {
        return -1;
    }
    uint64_t now_ns = http_now_ns();
    return deadline_ns <= now_ns
               ? 0
               : (int)units_divide_up(deadline_ns - now_ns, NS_PER_MS);
}

static void *
http_thread(void *argument)
{
    struct metrics_http *server = argument;

    for (;;) {
        struct pollfd polls[HTTP_POLL_COUNT] = { { 0 } };
        struct http_connection *unused;
        int timeout_ms = http_prepare_poll(server, polls, &unused);
        if (poll(polls, HTTP_POLL_COUNT, timeout_ms) < 0 && errno != EINTR) {
            return NULL;
        }
        if (polls[HTTP_POLL_STOP].revents != 0) {
            return NULL;
        }
        for (uint32_t i = 0; i < METRICS_HTTP_CONNECTION_MAX; i++) {
            if (server->connections[i].state != HTTP_FREE) {
                http_connection_run(server, &server->connections[i],
                                    polls[HTTP_POLL_FIRST + i].revents);
            }
        }
        if (polls[HTTP_POLL_LISTENER].revents != 0) {
            http_accept(server, unused);
        }
    }
}

int
metrics_http_start(const struct metrics_http_options *options,
                   struct metrics_http **ret_server, struct err *err)
{
    struct metrics_http *server = calloc(1, sizeof *server);
    if (server == NULL) {
        err_set(err, "out of memory");
        return -ENOMEM;
    }
    server->options = *options;
    if (server->options.timeout_ns == 0) {
        server->options.timeout_ns = HTTP_TIMEOUT_NS;
    }
    server->stop_fd = -1;
    int result = http_listener_open(options->listen, &server->listener, err);
    if (result < 0) {
        free(server);
        return result;
    }
    server->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    result = server->stop_fd < 0
                 ? -errno
                 : -pthread_create(&server->thread, NULL, http_thread, server);
    if (result < 0) {
        err_set(err, "metrics server: %s", strerror(-result));
        if (server->stop_fd >= 0) {
            close(server->stop_fd);
        }
        http_listener_close(&server->listener);
        free(server);
        return result;
    }
    *ret_server = server;
    return 0;
}

uint16_t
metrics_http_port(const struct metrics_http *server)
{
    return server->listener.port;
}

void
metrics_http_stop(struct metrics_http *server)
{
    if (server == NULL) {
        return;
    }
    uint64_t one = 1;
    ssize_t size = write(server->stop_fd, &one, sizeof one);
    CHECK(size == sizeof one);
    pthread_join(server->thread, NULL);
    for (uint32_t i = 0; i < METRICS_HTTP_CONNECTION_MAX; i++) {
        if (server->connections[i].state != HTTP_FREE) {
            http_connection_close(&server->connections[i]);
        }
    }
    close(server->stop_fd);
    http_listener_close(&server->listener);
    free(server);
}
