/* SPDX-License-Identifier: Apache-2.0 */

/* "weft net trace": what becomes of a packet, once from the rows (intent.c),
 * and once from the switches, host by host.
 *
 *     TracePacket   intent --> at the sender's host --tunnel--> at the next one
 *                   ... --> verdict
 *
 * At this host the switch is asked by the hook of netd_api_options; at another
 * one its netd, by TraceLocally, on a thread, because lib/rpc's client blocks.
 * A trace has one such question under way at a time; when the client goes away
 * it ends with that. */

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "lib/base/units.h"
#include "lib/rpc/client.h"
#include "netd/api/intent.h"
#include "netd/api/internal.h"
#include "netd/api/rule_text.h"
#include "netd/api/trace_wire.h"

#define TRACES_MAX 32u
#define STEPS_MAX 4u
#define FORWARD_NS (10 * NS_PER_S)
#define SOURCE_PORT 40000
#define TTL 64
#define PROTOCOL_ICMP 1u
#define PROTOCOL_ICMPV6 58u

/* A question to another host. */
struct forward {
    struct loop_post post;
    struct loop *loop;
    pthread_t thread;
    struct rpc_channel *channel;
    struct netd_trace_packet packet;
    ProtobufCMessage *reply; /* NULL: failed. */
    struct rpc_error error;
};

struct net_trace {
    struct netd_api *api;
    struct list node;
    struct rpc_call *call; /* NULL: the client is gone. */
    struct rpc_call_events events;
    struct reply_arena arena;
    Weft__V1__TracePacketResponse reply;
    Weft__V1__TraceStep *steps[STEPS_MAX];
    struct intent_verdict intent;
    struct netd_trace local;
    struct forward forward;
    bool is_forwarding;
    char host[64]; /* Whom the question went to. */
};

/* ---- The end ---- */

static void
trace_free(struct net_trace *trace)
{
    list_remove(&trace->node);
    reply_free(&trace->arena);
    free(trace);
}

static void
trace_answer(struct net_trace *trace)
{
    if (trace->call != NULL) {
        rpc_call_reply(trace->call, &trace->reply.base);
    }
    trace_free(trace);
}

static Weft__V1__TraceVerdict *
trace_verdict(struct net_trace *trace, Weft__V1__TraceVerdict__Outcome outcome,
              const char *reason, const char *text)
{
    Weft__V1__TraceVerdict *verdict =
        reply_alloc(&trace->arena, sizeof *verdict);

    weft__v1__trace_verdict__init(verdict);
    verdict->outcome = outcome;
    verdict->reason = reply_text(&trace->arena, "%s", reason);
    verdict->text = reply_text(&trace->arena, "%s", text);
    return verdict;
}

/* The switches could not be asked to the end. */
static void
trace_give_up(struct net_trace *trace, const char *reason, const char *text)
{
    trace->reply.live =
        trace_verdict(trace,
                      WEFT__V1__TRACE_VERDICT__OUTCOME__OUTCOME_UNSPECIFIED,
                      reason, text);
    trace_answer(trace);
}

static Weft__V1__TraceVerdict__Outcome
outcome_of(enum intent_outcome outcome)
{
    switch (outcome) {
    case INTENT_DELIVERED:
        return WEFT__V1__TRACE_VERDICT__OUTCOME__DELIVERED;
    case INTENT_DROPPED:
        return WEFT__V1__TRACE_VERDICT__OUTCOME__DROPPED;
    case INTENT_ANSWERED:
        return WEFT__V1__TRACE_VERDICT__OUTCOME__ANSWERED;
    }
    return WEFT__V1__TRACE_VERDICT__OUTCOME__OUTCOME_UNSPECIFIED;
}

/* A host's switch has the last word. */
static void
trace_conclude(struct net_trace *trace, enum netd_trace_verdict verdict,
               const struct weft_uuid *port, const char *reason)
{
    Weft__V1__TraceVerdict *live;
    char text[INTENT_TEXT_SIZE];

    if (verdict == NETD_TRACE_DELIVERED) {
        const struct state_port *row = state_port_get(trace->api->state, port);
        (void)snprintf(text, sizeof text, "it reaches port \"%s\" on host %s",
                       row != NULL ? row->name : "?", trace->host);
        live = trace_verdict(trace, WEFT__V1__TRACE_VERDICT__OUTCOME__DELIVERED,
                             "DELIVERED", text);
        live->port = net_name(&trace->arena, trace->api->state, NET_PORT, port);
        live->host = reply_text(&trace->arena, "netHosts/%s", trace->host);
    } else {
        bool is_dropped = verdict == NETD_TRACE_DROPPED;
        (void)snprintf(text, sizeof text, "host %s %s%s%.160s", trace->host,
                       is_dropped ? "drops it" : "answers it itself",
                       reason[0] != '\0' ? ": " : "", reason);
        live = trace_verdict(trace,
                             is_dropped
                                 ? WEFT__V1__TRACE_VERDICT__OUTCOME__DROPPED
                                 : WEFT__V1__TRACE_VERDICT__OUTCOME__ANSWERED,
                             is_dropped ? "DROPPED" : "ANSWERED", text);
    }
    bool agrees = live->outcome == outcome_of(trace->intent.outcome) &&
                  (verdict != NETD_TRACE_DELIVERED ||
                   uuid_equal(port, &trace->intent.port));
    trace->reply.live = live;
    trace->reply.agreement =
        agrees ? WEFT__V1__TRACE_PACKET_RESPONSE__AGREEMENT__AGREES
               : WEFT__V1__TRACE_PACKET_RESPONSE__AGREEMENT__DISAGREES;
    trace_answer(trace);
}

/* ---- Host by host ---- */

static void trace_ask(struct net_trace *trace, const char *host,
                      const struct netd_trace_packet *packet);

static void
trace_add_step(struct net_trace *trace, const char *text)
{
    Weft__V1__TraceStep *step = reply_alloc(&trace->arena, sizeof *step);

    weft__v1__trace_step__init(step);
    step->host = reply_text(&trace->arena, "netHosts/%s", trace->host);
    step->text = reply_text(&trace->arena, "%s", text != NULL ? text : "");
    trace->steps[trace->reply.n_steps++] = step;
}

/* It goes through a tunnel: on at the other end. */
static void
trace_follow_tunnel(struct net_trace *trace, const struct ip_address *to,
                    const struct netd_trace_packet *packet)
{
    char ip[IP_TEXT_SIZE], text[192];

    ip_format(to, ip);
    const struct state_net_host *next =
        state_net_host_find_by_encap_ip(trace->api->state, ip);
    if (next == NULL) {
        (void)snprintf(text, sizeof text,
                       "host %s sends it to %s, which is no host", trace->host,
                       ip);
        trace_give_up(trace, "UNKNOWN_TUNNEL", text);
        return;
    }
    if (trace->reply.n_steps >= STEPS_MAX) {
        trace_give_up(trace, "LOOP", "it goes from host to host");
        return;
    }
    struct netd_trace_packet copy = *packet;
    trace_ask(trace, next->host, &copy);
}

static void
trace_on_result(struct net_trace *trace, enum netd_trace_verdict verdict,
                const struct weft_uuid *port, const struct ip_address *tunnel,
                const struct netd_trace_packet *out, const char *reason)
{
    if (trace->call == NULL || trace->api->service.is_stopping) {
        if (trace->call != NULL) {
            rpc_call_fail_text(trace->call, RPC_UNAVAILABLE, "STOPPING",
                               "this netd stops; ask another host");
        }
        trace_free(trace);
    } else if (verdict == NETD_TRACE_TUNNELLED) {
        trace_follow_tunnel(trace, tunnel, out);
    } else {
        trace_conclude(trace, verdict, port, reason);
    }
}

/* ---- At this host ---- */

static void
trace_local_done(struct netd_trace *local, int result)
{
    struct net_trace *trace = container_of(local, struct net_trace, local);

    trace_add_step(trace, local->text);
    free(local->text);
    local->text = NULL;
    if (result != 0) {
        trace_give_up(trace, "SWITCH_SILENT",
                      local->reason[0] != '\0'
                          ? local->reason
                          : "the switch of this host does not answer");
        return;
    }
    struct netd_trace copy = *local; /* trace_ask() uses it again. */
    trace_on_result(trace, copy.verdict, &copy.to_port, &copy.tunnel_dst,
                    &copy.out, copy.reason);
}

/* ---- At another one ---- */

static void *
forward_thread(void *argument)
{
    struct forward *forward = argument;
    Weft__V1__TraceLocallyRequest request =
        WEFT__V1__TRACE_LOCALLY_REQUEST__INIT;
    Weft__V1__TracePacketHeaders headers = WEFT__V1__TRACE_PACKET_HEADERS__INIT;
    struct trace_texts texts;

    trace_encode(&forward->packet, &texts, &headers);
    request.packet = &headers;
    if (rpc_channel_call(forward->channel,
                         &weft__v1__diagnosis_service__descriptor,
                         "TraceLocally", &request.base, FORWARD_NS,
                         &forward->reply, &forward->error) != 0) {
        forward->reply = NULL;
    }
    loop_post_send(forward->loop, &forward->post);
    return NULL;
}

static void
forward_end(struct loop_post *post)
{
    struct forward *forward = container_of(post, struct forward, post);
    struct net_trace *trace = container_of(forward, struct net_trace, forward);
    ProtobufCMessage *message = forward->reply;
    const Weft__V1__TraceLocallyResponse *reply = (const void *)message;
    struct netd_trace_packet out;
    struct ip_address tunnel = { .is_ipv6 = false };
    struct weft_uuid port = { { 0 } };
    char text[256], reason[200];

    (void)pthread_join(forward->thread, NULL);
    rpc_channel_free(forward->channel);
    forward->channel = NULL;
    trace->is_forwarding = false;
    if (reply == NULL) {
        trace_add_step(trace, forward->error.text);
        (void)snprintf(text, sizeof text, "host %s cannot be asked: %.160s",
                       trace->host, forward->error.text);
        trace_give_up(trace, "HOST_SILENT", text);
        return;
    }
    trace_add_step(trace, reply->text);
    (void)snprintf(reason, sizeof reason, "%s", reply->reason);
    bool is_tunnelled =
        reply->outcome == WEFT__V1__TRACE_LOCALLY_RESPONSE__OUTCOME__TUNNELLED;
    bool is_good = !is_tunnelled ||
                   (reply->out != NULL && trace_decode(reply->out, &out) &&
                    ip_address_parse(reply->tunnel_destination, &tunnel) == 0);
    (void)!uuid_parse(reply->port_uid, &port);
    enum netd_trace_verdict verdict =
        is_tunnelled ? NETD_TRACE_TUNNELLED
        : reply->outcome == WEFT__V1__TRACE_LOCALLY_RESPONSE__OUTCOME__DELIVERED
            ? NETD_TRACE_DELIVERED
        : reply->outcome == WEFT__V1__TRACE_LOCALLY_RESPONSE__OUTCOME__ANSWERED
            ? NETD_TRACE_ANSWERED
            : NETD_TRACE_DROPPED;
    protobuf_c_message_free_unpacked(message, NULL);
    if (!is_good) {
        trace_give_up(trace, "HOST_SILENT", "a host's answer is garbled");
        return;
    }
    trace_on_result(trace, verdict, &port, &tunnel, &out, reason);
}

/* Where another host's netd listens; false: nowhere that is known. */
static bool
forward_endpoint(const struct netd_api *api, const char *host,
                 char *ret_endpoint, size_t size)
{
    const struct state_net_host_status *status =
        state_net_host_status_find_by_host(api->state, host);

    if (status == NULL || status->api_endpoint[0] == '\0') {
        return false;
    }
    bool is_whole = strncmp(status->api_endpoint, "unix:", 5) == 0 ||
                    strncmp(status->api_endpoint, "tcp:", 4) == 0;
    (void)snprintf(ret_endpoint, size, "%s%s",
                   is_whole ? "" : "tcp:", status->api_endpoint);
    return true;
}

static void
trace_forward(struct net_trace *trace, const struct netd_trace_packet *packet)
{
    struct forward *forward = &trace->forward;
    struct err err = { "" };
    char endpoint[300], text[256];

    *forward = (struct forward){ .post.run = forward_end,
                                 .loop = trace->api->loop,
                                 .packet = *packet };
    if (!forward_endpoint(trace->api, trace->host, endpoint, sizeof endpoint)) {
        (void)snprintf(text, sizeof text,
                       "host %s cannot be asked: its netd has not told where "
                       "it listens",
                       trace->host);
        trace_give_up(trace, "HOST_SILENT", text);
        return;
    }
    if (rpc_channel_new(endpoint, &forward->channel, &err) != 0) {
        (void)snprintf(text, sizeof text, "host %s cannot be asked: %.160s",
                       trace->host, err.text);
        trace_give_up(trace, "HOST_SILENT", text);
        return;
    }
    trace->is_forwarding = true;
    int result =
        pthread_create(&forward->thread, NULL, forward_thread, forward);
    CHECK(result == 0);
}

static void
trace_ask(struct net_trace *trace, const char *host,
          const struct netd_trace_packet *packet)
{
    const struct netd_api_options *options = &trace->api->options;

    (void)snprintf(trace->host, sizeof trace->host, "%s", host);
    if (strcmp(host, options->host) != 0) {
        trace_forward(trace, packet);
        return;
    }
    if (options->trace == NULL) {
        trace_give_up(trace, "SWITCH_SILENT",
                      "this netd cannot ask its switch");
        return;
    }
    trace->local =
        (struct netd_trace){ .packet = *packet, .done = trace_local_done };
    options->trace->start(options->trace, &trace->local);
}

/* ---- TracePacket ---- */

static void
trace_cancelled(struct rpc_call_events *events)
{
    struct net_trace *trace = container_of(events, struct net_trace, events);

    rpc_call_fail_text(trace->call, RPC_CANCELLED, NULL, "cancelled");
    trace->call = NULL; /* What is under way frees it. */
    if (trace->is_forwarding) {
        rpc_channel_interrupt(trace->forward.channel, true);
    }
}

/* Of the request; false: the call has failed. */
static bool
trace_parse(struct rpc_call *call, const Weft__V1__TracePacketRequest *request,
            struct intent_query *ret_query)
{
    struct rpc_error error;
    uint32_t protocol = PROTOCOL_ICMP;
    struct intent_query query = { .protocol = 0 };

    rpc_error_set_invalid(&error);
    if (ip_address_parse(request->to, &query.to) != 0) {
        rpc_error_add_violation(&error, "to", "\"%.60s\" is not an IP address",
                                request->to);
    }
    if (request->protocol[0] != '\0' &&
        (!rule_parse_protocol(request->protocol, &protocol) ||
         protocol == RULE_ANY)) {
        rpc_error_add_violation(&error, "protocol",
                                "\"%.40s\" is not a protocol; write tcp, udp, "
                                "sctp, icmp, or a number from 0 to 255",
                                request->protocol);
    }
    bool has_ports = rule_has_ports(protocol);
    if (has_ports &&
        (request->destination_port < 1 || request->destination_port > 65535)) {
        rpc_error_add_violation(&error, "destination_port",
                                "is %d; with tcp, udp and sctp it is needed, "
                                "1 to 65535",
                                request->destination_port);
    }
    if (!has_ports && request->destination_port != 0) {
        rpc_error_add_violation(&error, "destination_port",
                                "is for tcp, udp and sctp only");
    }
    if (request->source_port < 0 || request->source_port > 65535) {
        rpc_error_add_violation(&error, "source_port",
                                "is %d; 1 to 65535 is right",
                                request->source_port);
    }
    if (error.violation_count > 0) {
        rpc_call_fail(call, &error);
        return false;
    }
    if (protocol == PROTOCOL_ICMP || protocol == PROTOCOL_ICMPV6) {
        protocol = query.to.is_ipv6 ? PROTOCOL_ICMPV6 : PROTOCOL_ICMP;
        query.l4_src = query.to.is_ipv6 ? 128 : 8; /* Echo request. */
    } else if (has_ports) {
        query.l4_src = request->source_port != 0
                           ? (uint16_t)request->source_port
                           : SOURCE_PORT;
        query.l4_dst = (uint16_t)request->destination_port;
    }
    query.protocol = (uint8_t)protocol;
    *ret_query = query;
    return true;
}

static void
trace_describe(struct net_trace *trace, const struct intent_query *query)
{
    const struct intent_verdict *intent = &trace->intent;
    char from[IP_TEXT_SIZE], to[IP_TEXT_SIZE], protocol[16];
    char source[MAC_TEXT_SIZE], target[MAC_TEXT_SIZE];

    ip_format(&query->to, to);
    rule_format_protocol(query->protocol, protocol);
    if (!intent->has_packet) {
        trace->reply.packet = reply_text(&trace->arena, "none");
        return;
    }
    ip_format(&intent->ip_src, from);
    mac_format(&intent->mac_src, source);
    mac_format(&intent->mac_dst, target);
    if (rule_has_ports(query->protocol)) {
        trace->reply.packet =
            reply_text(&trace->arena, "%s %s port %u -> %s port %u (%s -> %s)",
                       protocol, from, query->l4_src, to, query->l4_dst, source,
                       target);
    } else {
        trace->reply.packet =
            reply_text(&trace->arena, "%s %s -> %s (%s -> %s)", protocol, from,
                       to, source, target);
    }
}

/* The part that needs no switch. */
static void
trace_decide(struct net_trace *trace, const struct intent_query *query)
{
    struct intent_rows rows;

    intent_rows_gather(trace->api->state, &rows);
    trace->intent = intent_decide(&rows, query);
    intent_rows_done(&rows);
    trace->reply.intent =
        trace_verdict(trace, outcome_of(trace->intent.outcome),
                      trace->intent.reason, trace->intent.text);
    if (trace->intent.outcome == INTENT_DELIVERED) {
        trace->reply.intent->port = net_name(&trace->arena, trace->api->state,
                                             NET_PORT, &trace->intent.port);
        trace->reply.intent->host =
            reply_text(&trace->arena, "netHosts/%s", trace->intent.host);
    }
    trace_describe(trace, query);
}

static void
trace_packet(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__TracePacketRequest *request = (const void *)message;
    struct netd_api *api = netd_api_of(call);
    enum state_port_status_state state;
    struct intent_query query;

    if (api_refuse_if_stopping(call)) {
        return;
    }
    const struct state_row *row = net_take(call, NET_PORT, request->port);
    if (row == NULL || !trace_parse(call, request, &query)) {
        return;
    }
    if (list_count(&api->traces) >= TRACES_MAX) {
        rpc_call_fail_text(call, RPC_RESOURCE_EXHAUSTED, "TOO_MANY_TRACES",
                           "%u traces are under way; try again", TRACES_MAX);
        return;
    }
    query.port = row->uuid;
    struct net_trace *trace = calloc(1, sizeof *trace);
    CHECK(trace != NULL);
    trace->api = api;
    trace->call = call;
    weft__v1__trace_packet_response__init(&trace->reply);
    trace->reply.steps = trace->steps;
    list_push_back(&api->traces, &trace->node);
    trace_decide(trace, &query);
    const char *host = net_port_place(api->state, state_port_from(row), &state);
    if (request->intent_only) {
        trace_answer(trace);
        return;
    }
    if (!trace->intent.has_packet || host[0] == '\0') {
        trace_give_up(trace, "NOTHING_TO_SEND",
                      "there is no packet to try at a switch");
        return;
    }
    struct netd_trace_packet packet = {
        .port = query.port,
        .mac_src = trace->intent.mac_src,
        .mac_dst = trace->intent.mac_dst,
        .ip_src = trace->intent.ip_src,
        .ip_dst = query.to,
        .protocol = query.protocol,
        .ttl = TTL,
        .l4_src = query.l4_src,
        .l4_dst = query.l4_dst,
    };
    trace->events.cancelled = trace_cancelled;
    rpc_call_set_events(call, &trace->events);
    trace_ask(trace, host, &packet);
}

/* ---- TraceLocally ---- */

struct net_local_trace {
    struct netd_trace trace;
    struct netd_api *api;
    struct rpc_call *call;
};

static void
locally_done(struct netd_trace *done, int result)
{
    struct net_local_trace *local =
        container_of(done, struct net_local_trace, trace);
    Weft__V1__TraceLocallyResponse reply =
        WEFT__V1__TRACE_LOCALLY_RESPONSE__INIT;
    Weft__V1__TracePacketHeaders out = WEFT__V1__TRACE_PACKET_HEADERS__INIT;
    struct trace_texts texts;
    char port[UUID_TEXT_SIZE], tunnel[IP_TEXT_SIZE];

    if (result != 0) {
        rpc_call_fail_text(local->call, RPC_UNAVAILABLE, "SWITCH_SILENT", "%s",
                           done->reason[0] != '\0'
                               ? done->reason
                               : "the switch does not answer");
    } else {
        uuid_format(&done->to_port, port);
        ip_format(&done->tunnel_dst, tunnel);
        reply.reason = done->reason;
        reply.text = done->text != NULL ? done->text : reply.text;
        switch (done->verdict) {
        case NETD_TRACE_DELIVERED:
            reply.outcome =
                WEFT__V1__TRACE_LOCALLY_RESPONSE__OUTCOME__DELIVERED;
            reply.port_uid = port;
            break;
        case NETD_TRACE_TUNNELLED:
            reply.outcome =
                WEFT__V1__TRACE_LOCALLY_RESPONSE__OUTCOME__TUNNELLED;
            reply.tunnel_destination = tunnel;
            trace_encode(&done->out, &texts, &out);
            reply.out = &out;
            break;
        case NETD_TRACE_ANSWERED:
            reply.outcome = WEFT__V1__TRACE_LOCALLY_RESPONSE__OUTCOME__ANSWERED;
            break;
        case NETD_TRACE_DROPPED:
            reply.outcome = WEFT__V1__TRACE_LOCALLY_RESPONSE__OUTCOME__DROPPED;
            break;
        }
        rpc_call_reply(local->call, &reply.base);
    }
    local->api->local_traces--;
    free(done->text);
    free(local);
}

static void
trace_locally(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__TraceLocallyRequest *request = (const void *)message;
    struct netd_api *api = netd_api_of(call);
    struct netd_trace_packet packet;

    if (api_refuse_if_stopping(call)) {
        return;
    }
    if (request->packet == NULL || !trace_decode(request->packet, &packet)) {
        struct rpc_error error;
        rpc_error_set_invalid(&error);
        rpc_error_add_violation(&error, "packet", "is malformed");
        rpc_call_fail(call, &error);
        return;
    }
    if (api->options.trace == NULL || api->local_traces >= TRACES_MAX) {
        rpc_call_fail_text(call, RPC_UNAVAILABLE, "SWITCH_SILENT",
                           api->options.trace == NULL
                               ? "this netd cannot ask its switch"
                               : "too many traces are under way; try again");
        return;
    }
    struct net_local_trace *local = calloc(1, sizeof *local);
    CHECK(local != NULL);
    local->api = api;
    local->call = call;
    local->trace =
        (struct netd_trace){ .packet = packet, .done = locally_done };
    api->local_traces++;
    api->options.trace->start(api->options.trace, &local->trace);
}

/* ---- Stop ---- */

void
net_trace_stop_all(struct netd_api *api)
{
    LIST_FOREACH (node, &api->traces) {
        struct net_trace *trace = container_of(node, struct net_trace, node);
        if (trace->is_forwarding) {
            rpc_channel_interrupt(trace->forward.channel, true);
        }
    }
}

bool
net_trace_is_idle(const struct netd_api *api)
{
    return list_is_empty(&api->traces) && api->local_traces == 0;
}

const struct rpc_method net_diagnosis_methods[] = {
    { "TracePacket", RPC_UNARY, trace_packet },
    { "TraceLocally", RPC_UNARY, trace_locally },
};
const size_t net_diagnosis_method_count =
    sizeof net_diagnosis_methods / sizeof net_diagnosis_methods[0];
