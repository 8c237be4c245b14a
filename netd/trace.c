/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/trace.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "netd/trace_text.h"
#include "netd/unixctl.h"

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
    char flow[TRACE_FLOW_SIZE];
    /* The answer. */
    int result;
    char *text;                       /* Owned; NULL: none. */
    char reason[UNIXCTL_REASON_SIZE]; /* Why there is none. */
};

/* ---- On the thread ---- */

/* The switch's words, to be freed; NULL, with result and reason set.
 * 'actions': "" to trace from the first table. */
static char *
question_ask_one(struct question *question, const char *flow,
                 const char *actions)
{
    const char *params[] = { question->owner->options.bridge, flow, actions };
    bool is_rest = actions[0] != '\0';
    struct unixctl_answer answer;

    question->result =
        unixctl_ask(question->owner->options.run_dir,
                    is_rest ? "ofproto/trace-packet-out" : "ofproto/trace",
                    params, is_rest ? 3 : 2, &answer);
    if (question->result != 0) {
        memcpy(question->reason, answer.reason, sizeof question->reason);
        return NULL;
    }
    return answer.text;
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
