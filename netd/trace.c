/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/trace.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/base/container_of.h"
#include "netd/trace_text.h"

#define ANSWER_MAX (1024u * 1024u)
#define ANSWER_S 5

struct switch_trace {
    struct switch_trace_options options;
    struct netd_trace_ops ops;
};

/* One question. */
struct question {
    struct switch_trace *owner;
    struct netd_trace *trace;
    struct loop_post post;
    pthread_t thread;
    bool has_thread;
    uint32_t ofport;
    char socket[sizeof((struct sockaddr_un *)NULL)->sun_path];
    char flow[TRACE_FLOW_SIZE];
    /* The answer. */
    int result;
    char *text;       /* Owned; NULL: none. */
    char reason[200]; /* Why there is none. */
};

/* ---- The control socket ---- */

/* Debian's is named after the process; ours in the test bed is not. */
static void
socket_find(const char *run_dir, char *ret_path, size_t size)
{
    char path[256];
    unsigned pid = 0;

    (void)snprintf(ret_path, size, "%.90s/vswitchd.ctl", run_dir);
    if (access(ret_path, F_OK) == 0) {
        return;
    }
    (void)snprintf(path, sizeof path, "%.200s/ovs-vswitchd.pid", run_dir);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return;
    }
    char line[32] = "";
    if (fgets(line, sizeof line, file) != NULL) {
        pid = (unsigned)strtoul(line, NULL, 10);
    }
    (void)fclose(file);
    (void)snprintf(ret_path, size, "%.70s/ovs-vswitchd.%u.ctl", run_dir, pid);
}

static int
socket_open(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const struct timeval limit = { .tv_sec = ANSWER_S };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        return -errno;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (connect(fd, (const struct sockaddr *)(const void *)&address,
                sizeof address) != 0) {
        int result = -errno;
        (void)close(fd);
        return result;
    }
    return fd;
}

/* ---- JSON ---- */

static size_t
json_put_utf8(char *out, unsigned long code)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    out[0] = '?'; /* The switch speaks ASCII. */
    return 1;
}

/* The string that begins at 'text' (a quote) without its escapes, to be freed;
 * '*ret_end' is behind it.  NULL: it does not end. */
static char *
json_take_string(const char *text, const char **ret_end)
{
    char *string = malloc(strlen(text) + 1);
    size_t size = 0;

    CHECK(string != NULL);
    for (text++; *text != '\0' && *text != '"'; text++) {
        if (*text != '\\') {
            string[size++] = *text;
            continue;
        }
        text++;
        if (*text == 'n') {
            string[size++] = '\n';
        } else if (*text == 't') {
            string[size++] = ' ';
        } else if (*text == 'u' && strlen(text) > 4) {
            const char digits[5] = { text[1], text[2], text[3], text[4], 0 };
            size += json_put_utf8(string + size, strtoul(digits, NULL, 16));
            text += 4;
        } else if (*text != '\0') {
            string[size++] = *text;
        } else {
            break;
        }
    }
    string[size] = '\0';
    if (*text != '"') {
        free(string);
        return NULL;
    }
    *ret_end = text + 1;
    return string;
}

/* Whether 'text' is a whole object. */
static bool
json_is_whole(const char *text)
{
    int depth = 0;

    for (; *text != '\0'; text++) {
        if (*text == '"') {
            const char *end = text + 1;
            while (*end != '\0' && *end != '"') {
                end += *end == '\\' && end[1] != '\0' ? 2 : 1;
            }
            if (*end == '\0') {
                return false;
            }
            text = end;
        } else if (*text == '{') {
            depth++;
        } else if (*text == '}' && --depth == 0) {
            return true;
        }
    }
    return false;
}

/* The string member 'name' of the answer; NULL: it is null or not there. */
static char *
json_member(const char *text, const char *name)
{
    char key[32];

    (void)snprintf(key, sizeof key, "\"%s\":", name);
    for (const char *at = text; *at != '\0'; at++) {
        if (strncmp(at, key, strlen(key)) == 0) {
            at += strlen(key);
            const char *end;
            return *at == '"' ? json_take_string(at, &end) : NULL;
        }
        if (*at == '"') { /* Not inside of strings. */
            const char *end = NULL;
            free(json_take_string(at, &end));
            if (end == NULL) {
                return NULL;
            }
            at = end - 1;
        }
    }
    return NULL;
}

/* ---- On the thread ---- */

static char *
answer_read(int fd)
{
    size_t size = 0, room = 16384;
    char *text = malloc(room);

    CHECK(text != NULL);
    for (;;) {
        ssize_t got = recv(fd, text + size, room - size - 1, 0);
        if (got <= 0) {
            free(text);
            return NULL;
        }
        size += (size_t)got;
        text[size] = '\0';
        if (json_is_whole(text)) {
            return text;
        }
        if (room - size < 4096) {
            if (room >= ANSWER_MAX) {
                free(text);
                return NULL;
            }
            room *= 2;
            text = realloc(text, room);
            CHECK(text != NULL);
        }
    }
}

/* The switch's words, to be freed; NULL, with result and reason set.
 * 'actions': "" to trace from the first table. */
static char *
question_ask_one(struct question *question, const char *flow,
                 const char *actions)
{
    char request[TRACE_FLOW_SIZE + 256];
    bool is_rest = actions[0] != '\0';
    int fd = socket_open(question->socket);

    if (fd < 0) {
        (void)snprintf(question->reason, sizeof question->reason,
                       "the switch cannot be reached at %.90s: %s",
                       question->socket, strerror(-fd));
        question->result = fd;
        return NULL;
    }
    int size =
        snprintf(request, sizeof request,
                 "{\"id\":0,\"method\":\"ofproto/trace%s\",\"params\":"
                 "[\"%.63s\",\"%s\"%s%s%s]}",
                 is_rest ? "-packet-out" : "", question->owner->options.bridge,
                 flow, is_rest ? ",\"" : "", actions, is_rest ? "\"" : "");
    char *answer = send(fd, request, (size_t)size, MSG_NOSIGNAL) == size
                       ? answer_read(fd)
                       : NULL;
    (void)close(fd);
    if (answer == NULL) {
        (void)snprintf(question->reason, sizeof question->reason,
                       "the switch does not answer");
        question->result = -ETIMEDOUT;
        return NULL;
    }
    char *text = json_member(answer, "result");
    if (text == NULL) {
        char *error = json_member(answer, "error");
        (void)snprintf(question->reason, sizeof question->reason,
                       "the switch refuses to trace: %.150s",
                       error != NULL ? error : "no reason");
        question->result = -EPROTO;
        free(error);
    }
    free(answer);
    return text;
}

static void
question_ask(struct question *question)
{
    char flow[TRACE_FLOW_SIZE], actions[32];
    char *first = question_ask_one(question, question->flow, "");

    question->text = first;
    if (first == NULL ||
        !trace_format_rest(first, &question->trace->packet, flow, actions)) {
        return;
    }
    char *second = question_ask_one(question, flow, actions);
    if (second != NULL) {
        size_t size = strlen(first) + strlen(second) + 2;
        question->text = malloc(size);
        CHECK(question->text != NULL);
        (void)snprintf(question->text, size, "%s\n%s", first, second);
        free(first);
        free(second);
    } else {
        question->result = 0; /* The first answer stands. */
    }
}

static void *
question_thread(void *argument)
{
    struct question *question = argument;

    question_ask(question);
    loop_post_send(question->owner->options.loop, &question->post);
    return NULL;
}

/* ---- On the loop's ---- */

static const struct vswitch_interface *
find_ofport(const struct switch_trace *owner, uint32_t ofport)
{
    size_t count;
    const struct vswitch_interface *interfaces =
        vswitch_interfaces(owner->options.vswitch, &count);

    for (size_t i = 0; i < count; i++) {
        if (interfaces[i].ofport == ofport && interfaces[i].is_open) {
            return &interfaces[i];
        }
    }
    return NULL;
}

/* 0: the port is not here. */
static uint32_t
find_port(const struct switch_trace *owner, const struct weft_uuid *port)
{
    size_t count;
    const struct vswitch_interface *interfaces =
        vswitch_interfaces(owner->options.vswitch, &count);

    for (size_t i = 0; i < count; i++) {
        if (uuid_equal(&interfaces[i].port, port) && interfaces[i].is_open) {
            return interfaces[i].ofport;
        }
    }
    return 0;
}

static void
question_read(struct question *question)
{
    struct switch_trace *owner = question->owner;
    struct netd_trace *trace = question->trace;
    struct trace_result result;

    trace_parse_text(question->text, &trace->packet,
                     vswitch_tunnel_ofport(owner->options.vswitch), &result);
    trace->verdict = result.verdict;
    trace->tunnel_dst = result.tunnel_dst;
    trace->out = result.out;
    (void)!ip_address_parse(owner->options.tunnel_address,
                            &trace->out.tunnel_src);
    memcpy(trace->reason, result.reason, sizeof trace->reason);
    if (result.verdict == NETD_TRACE_DELIVERED) {
        const struct vswitch_interface *interface =
            find_ofport(owner, result.ofport);
        if (interface != NULL) {
            trace->to_port = interface->port;
        }
    }
    trace->text = question->text;
}

static void
question_end(struct loop_post *post)
{
    struct question *question = container_of(post, struct question, post);
    struct netd_trace *trace = question->trace;
    int result = question->result;

    if (question->has_thread) {
        (void)pthread_join(question->thread, NULL);
    }
    if (result == 0) {
        question_read(question);
    } else {
        (void)snprintf(trace->reason, sizeof trace->reason, "%s",
                       question->reason);
    }
    free(question);
    trace->done(trace, result);
}

static void
switch_trace_start(struct netd_trace_ops *ops, struct netd_trace *trace)
{
    struct switch_trace *owner = container_of(ops, struct switch_trace, ops);
    struct question *question = calloc(1, sizeof *question);

    CHECK(question != NULL);
    question->owner = owner;
    question->trace = trace;
    question->post.run = question_end;
    question->ofport = uuid_is_nil(&trace->packet.port)
                           ? vswitch_tunnel_ofport(owner->options.vswitch)
                           : find_port(owner, &trace->packet.port);
    if (question->ofport == 0) {
        question->result = -ENOENT;
        (void)snprintf(question->reason, sizeof question->reason,
                       "the port has no interface on this host's switch");
        loop_post_send(owner->options.loop, &question->post);
        return;
    }
    socket_find(owner->options.run_dir, question->socket,
                sizeof question->socket);
    trace_format_flow(&trace->packet, question->ofport,
                      owner->options.tunnel_address, question->flow);
    question->has_thread = true;
    int result =
        pthread_create(&question->thread, NULL, question_thread, question);
    CHECK(result == 0);
}

struct switch_trace *
switch_trace_new(const struct switch_trace_options *options)
{
    struct switch_trace *trace = calloc(1, sizeof *trace);

    CHECK(trace != NULL);
    trace->options = *options;
    trace->ops.start = switch_trace_start;
    return trace;
}

struct netd_trace_ops *
switch_trace_ops(struct switch_trace *trace)
{
    return &trace->ops;
}

void
switch_trace_free(struct switch_trace *trace)
{
    free(trace);
}
