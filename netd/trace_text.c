/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/trace_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "netd/compile/pipeline.h"

#define PROTOCOL_ICMP 1
#define PROTOCOL_ICMPV6 58
#define PROTOCOL_UDP 17
#define PROTOCOL_SCTP 132
#define LINE_SIZE 2048

/* ---- The question ---- */

/* ",ct_nw_src=..." */
static void
format_tuple(const struct netd_trace_packet *packet, char *ret_text,
             size_t size)
{
    char ip_src[IP_TEXT_SIZE], ip_dst[IP_TEXT_SIZE], l4[64] = "";
    bool is_ipv6 = packet->ip_dst.is_ipv6;

    ip_format(&packet->ip_src, ip_src);
    ip_format(&packet->ip_dst, ip_dst);
    if (packet->protocol != PROTOCOL_ICMP &&
        packet->protocol != PROTOCOL_ICMPV6 && packet->l4_dst != 0) {
        (void)snprintf(l4, sizeof l4, ",ct_tp_src=%u,ct_tp_dst=%u",
                       packet->l4_src, packet->l4_dst);
    }
    (void)snprintf(ret_text, size, ",ct_%s=%s,ct_%s=%s,ct_nw_proto=%u%s",
                   is_ipv6 ? "ipv6_src" : "nw_src", ip_src,
                   is_ipv6 ? "ipv6_dst" : "nw_dst", ip_dst, packet->protocol,
                   l4);
}

void
trace_format_flow(const struct netd_trace_packet *packet, uint32_t ofport,
                  const char *tunnel_dst, char ret_flow[TRACE_FLOW_SIZE])
{
    char ip_src[IP_TEXT_SIZE], ip_dst[IP_TEXT_SIZE], tunnel_src[IP_TEXT_SIZE];
    char mac_src[MAC_TEXT_SIZE], mac_dst[MAC_TEXT_SIZE];
    char tunnel[160] = "", l4[64] = "", tuple[256];
    bool is_ipv6 = packet->ip_dst.is_ipv6;

    ip_format(&packet->ip_src, ip_src);
    ip_format(&packet->ip_dst, ip_dst);
    mac_format(&packet->mac_src, mac_src);
    mac_format(&packet->mac_dst, mac_dst);
    if (uuid_is_nil(&packet->port)) {
        ip_format(&packet->tunnel_src, tunnel_src);
        (void)snprintf(tunnel, sizeof tunnel,
                       "tun_id=0x%x,tun_src=%s,tun_dst=%.45s,"
                       "tun_metadata0=0x%x,",
                       packet->vni, tunnel_src, tunnel_dst,
                       TLV_VERSION << 24 | packet->identity);
    }
    if (packet->protocol == PROTOCOL_ICMP && !is_ipv6) {
        (void)snprintf(l4, sizeof l4, ",icmp_type=%u,icmp_code=%u",
                       packet->l4_src, packet->l4_dst);
    } else if (packet->protocol == PROTOCOL_ICMPV6 && is_ipv6) {
        (void)snprintf(l4, sizeof l4, ",icmpv6_type=%u,icmpv6_code=%u",
                       packet->l4_src, packet->l4_dst);
    } else if (packet->l4_dst != 0) {
        /* "tp_src" is TCP's, whatever nw_proto says. */
        const char *name = packet->protocol == PROTOCOL_UDP    ? "udp"
                           : packet->protocol == PROTOCOL_SCTP ? "sctp"
                                                               : "tp";
        (void)snprintf(l4, sizeof l4, ",%s_src=%u,%s_dst=%u", name,
                       packet->l4_src, name, packet->l4_dst);
    }
    format_tuple(packet, tuple, sizeof tuple);
    (void)snprintf(ret_flow, TRACE_FLOW_SIZE,
                   "in_port=%u,%sdl_src=%s,dl_dst=%s,dl_type=0x%04x,"
                   "nw_proto=%u,%s=%s,%s=%s,nw_ttl=%u%s,ct_state=trk|new%s",
                   ofport, tunnel, mac_src, mac_dst, is_ipv6 ? 0x86ddu : 0x800u,
                   packet->protocol, is_ipv6 ? "ipv6_src" : "nw_src", ip_src,
                   is_ipv6 ? "ipv6_dst" : "nw_dst", ip_dst, packet->ttl, l4,
                   tuple);
}

bool
trace_format_rest(const char *text, const struct netd_trace_packet *packet,
                  char ret_flow[TRACE_FLOW_SIZE], char ret_actions[32])
{
    static const char head[] = "\nFlow: recirc_id=";
    const char *last = NULL;
    char tuple[256];

    for (const char *at = strstr(text, head); at != NULL;
         at = strstr(at + 1, head)) {
        last = at;
    }
    if (last == NULL) {
        return false;
    }
    const char *flow = last + sizeof head - 1;
    flow += strcspn(flow, ",\n");
    size_t size = strcspn(flow, "\n");
    const char *eth = strstr(flow, ",eth,"); /* It does not read what it
                                              * writes. */
    const char *resumed = strstr(flow, "Resuming from table ");
    if (size < 2 || eth == NULL || eth > flow + size || resumed == NULL ||
        strtoul(resumed + 20, NULL, 10) != TABLE_IN_SG) {
        return false;
    }
    const char *tracked = strstr(flow, "ct_nw_proto=");
    if (tracked != NULL && tracked < flow + size) {
        return false; /* It was told, and means it. */
    }
    format_tuple(packet, tuple, sizeof tuple);
    (void)snprintf(ret_flow, TRACE_FLOW_SIZE, "%.*s,%.*s%s",
                   (int)(eth - flow - 1), flow + 1,
                   (int)(flow + size - (eth + 5)), eth + 5, tuple);
    (void)snprintf(ret_actions, 32, "resubmit(,%d)", TABLE_IN_SG);
    return true;
}

/* ---- The answer ---- */

struct parse {
    const struct netd_trace_packet *packet;
    uint32_t tunnel_ofport;
    struct trace_result *result;
    bool is_ours; /* In the section of the integration bridge. */
    bool has_verdict;
    uint32_t table; /* The last one that it was in. */
};

static void
parse_verdict(struct parse *parse, enum netd_trace_verdict verdict,
              const char *reason)
{
    if (!parse->has_verdict) { /* The first one: it may be copied later. */
        parse->has_verdict = true;
        parse->result->verdict = verdict;
        (void)snprintf(parse->result->reason, sizeof parse->result->reason,
                       "%s", reason);
    }
}

static void
parse_output(struct parse *parse, uint32_t ofport)
{
    if (ofport == parse->tunnel_ofport) {
        parse_verdict(parse, NETD_TRACE_TUNNELLED, "");
    } else {
        parse->result->ofport = ofport;
        parse_verdict(parse, NETD_TRACE_DELIVERED, "");
    }
}

/* The kind of a packet-in stands behind the magic in its userdata. */
static void
parse_controller(struct parse *parse, const char *line)
{
    static const char magic[] = "userdata=57.45.46.54.00.00.00.";
    const char *at = strstr(line, magic);
    unsigned long kind =
        at != NULL ? strtoul(at + sizeof magic - 1, NULL, 16) : 0;

    switch (kind) {
    case PACKET_IN_UNREACHABLE:
        parse_verdict(parse, NETD_TRACE_DROPPED,
                      parse->table == TABLE_ROUTE
                          ? "the router has no route (the sender is told)"
                          : "nobody has that address (the sender is told)");
        break;
    case PACKET_IN_TTL:
        parse_verdict(parse, NETD_TRACE_DROPPED,
                      "its TTL has run out (the sender is told)");
        break;
    case PACKET_IN_TOO_BIG:
        parse_verdict(parse, NETD_TRACE_DROPPED,
                      "it is too big for the network it goes to (the sender is "
                      "told)");
        break;
    case PACKET_IN_ROUTER:
        parse_verdict(parse, NETD_TRACE_ANSWERED,
                      "it is for the router itself, which says that nothing "
                      "listens there");
        break;
    default:
        parse_verdict(parse, NETD_TRACE_ANSWERED, "netd on this host answers");
        break;
    }
}

/* The value of "name=" in a flow; NULL: it is not there. */
static const char *
flow_field(const char *flow, const char *name)
{
    size_t size = strlen(name);

    for (const char *at = strstr(flow, name); at != NULL;
         at = strstr(at + 1, name)) {
        if (at[size] == '=' && (at == flow || at[-1] == ',' || at[-1] == ' ')) {
            return at + size + 1;
        }
    }
    return NULL;
}

static uint32_t
flow_number(const char *flow, const char *name, uint32_t missing)
{
    const char *value = flow_field(flow, name);

    return value != NULL ? (uint32_t)strtoul(value, NULL, 0) : missing;
}

static void
flow_text(const char *flow, const char *name, char *ret_text, size_t size)
{
    const char *value = flow_field(flow, name);

    (void)snprintf(ret_text, size, "%.*s",
                   value != NULL ? (int)strcspn(value, ",") : 0,
                   value != NULL ? value : "");
}

static void
parse_final(struct parse *parse, const char *flow)
{
    struct netd_trace_packet *out = &parse->result->out;
    char text[64];

    *out = *parse->packet;
    memset(&out->port, 0, sizeof out->port);
    out->vni = flow_number(flow, "metadata", 0);
    out->identity = flow_number(flow, "tun_metadata0", 0) & 0xffffff;
    out->ttl = (uint8_t)flow_number(flow, "nw_ttl", out->ttl);
    flow_text(flow, "dl_src", text, sizeof text);
    (void)!mac_parse(text, &out->mac_src);
    flow_text(flow, "dl_dst", text, sizeof text);
    (void)!mac_parse(text, &out->mac_dst);
    flow_text(flow, "tun_dst", text, sizeof text);
    (void)!ip_address_parse(text, &parse->result->tunnel_dst);
}

static const char *
drop_reason(uint32_t table)
{
    switch (table) {
    case TABLE_CLASSIFY:
        return "its port is not in use there, or disabled";
    case TABLE_TUN_IN:
        return "it comes from a tunnel that is not trusted";
    case TABLE_PORT_SEC:
    case TABLE_PORT_SEC_ND:
        return "the port may not send from these addresses";
    case TABLE_ROUTE_IN:
    case TABLE_ROUTE:
        return "the router does not forward it";
    case TABLE_NEIGHBOUR:
    case TABLE_RESOLVE:
        return "nobody is there to take it";
    case TABLE_EG_SG:
        return "the sender's security groups do not let it out";
    case TABLE_IN_SG:
        return "the receiver's security groups do not let it in";
    default:
        return "";
    }
}

static void
parse_line(struct parse *parse, const char *line)
{
    char *end;
    const char *text = line + strspn(line, " ");

    if (strncmp(text, "bridge(", 7) == 0) {
        parse->is_ours = strstr(text, "br-phy") == NULL;
        return;
    }
    if (strncmp(text, "Final flow: ", 12) == 0) {
        parse_final(parse, text + 12);
        return;
    }
    if (!parse->is_ours) {
        return;
    }
    unsigned long number = strtoul(text, &end, 10);
    if (end != text && end[0] == '.' && end[1] == ' ') {
        parse->table = (uint32_t)number;
    } else if (strncmp(text, "-> output port is ", 18) == 0) {
        parse_output(parse, (uint32_t)strtoul(text + 18, NULL, 10));
    } else if (strncmp(text, "output:", 7) == 0 && text[7] >= '0' &&
               text[7] <= '9') {
        parse_output(parse, (uint32_t)strtoul(text + 7, NULL, 10));
    } else if (strcmp(text, "IN_PORT") == 0) {
        parse_verdict(parse, NETD_TRACE_ANSWERED,
                      "the switch sends the answer back");
    } else if (strncmp(text, "controller(", 11) == 0) {
        parse_controller(parse, text);
    }
}

void
trace_parse_text(const char *text, const struct netd_trace_packet *packet,
                 uint32_t tunnel_ofport, struct trace_result *ret_result)
{
    struct parse parse = { .packet = packet,
                           .tunnel_ofport = tunnel_ofport,
                           .result = ret_result,
                           .is_ours = true };

    memset(ret_result, 0, sizeof *ret_result);
    ret_result->verdict = NETD_TRACE_DROPPED;
    for (const char *at = text; *at != '\0';) {
        char line[LINE_SIZE];
        size_t size = strcspn(at, "\n");
        (void)snprintf(line, sizeof line, "%.*s",
                       size < sizeof line ? (int)size : (int)sizeof line - 1,
                       at);
        parse_line(&parse, line);
        at += size;
        at += *at == '\n';
    }
    if (!parse.has_verdict) {
        (void)snprintf(ret_result->reason, sizeof ret_result->reason,
                       "%s%s(table %u)", drop_reason(parse.table),
                       drop_reason(parse.table)[0] != '\0' ? " " : "",
                       parse.table);
    }
}
