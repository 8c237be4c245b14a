/* SPDX-License-Identifier: Apache-2.0 */
/* weft net ...: the network as a whole. */

#include <stdio.h>
#include <string.h>

#include "client/cli/net_noun.h"
#include "proto/weft/v1/diagnosis.pb-c.h"
#include "proto/weft/v1/net_host.pb-c.h"

#define NET_HOST_SERVICE (&weft__v1__net_host_service__descriptor)

/* ---- Hosts ---- */

static void
host_row(struct table *table, const ProtobufCMessage *message)
{
    const Weft__V1__NetHost *host =
        (const Weft__V1__NetHost *)(const void *)message;

    table_add(table, cli_short_name(host->name));
    table_add_enum(table, &weft__v1__net_host__state__descriptor,
                   (int)host->state);
    table_add(table, host->encap_ip);
    table_add_format(table, "%d", (int)host->underlay_mtu);
    table_add_format(table, "%d", (int)host->port_count);
    table_add(table, host->version);
    table_add(table, host->state_reason);
}

static enum cli_exit
net_hosts(struct cli *cli)
{
    static const char *const header[] = {
        "NAME", "STATE", "ENCAP-IP", "MTU", "PORTS", "VERSION", "REASON", NULL
    };
    Weft__V1__ListNetHostsRequest request =
        WEFT__V1__LIST_NET_HOSTS_REQUEST__INIT;

    return cli_list(cli,
                    &(const struct cli_list){
                        .service = NET_HOST_SERVICE,
                        .method = "ListNetHosts",
                        .what = "list the hosts of the overlay",
                        .json = "netHosts",
                        .header = header,
                        .row = host_row,
                    },
                    &request.base);
}

static enum cli_exit
net_set_host_enabled(struct cli *cli, bool enabled)
{
    Weft__V1__SetNetHostEnabledRequest request =
        WEFT__V1__SET_NET_HOST_ENABLED_REQUEST__INIT;
    char name[CLI_NAME_SIZE], what[CLI_NAME_SIZE + 32], id[UUID_TEXT_SIZE];
    ProtobufCMessage *reply;
    enum cli_exit code =
        cli_check_name(cli, "HOST", "netHosts", cli->arguments[0], name);

    if (code != CLI_DONE) {
        return code;
    }
    weft_request_id(id);
    request.name = name;
    request.enabled = enabled;
    request.request_id = id;
    snprintf(what, sizeof what, "%s host \"%s\"",
             enabled ? "enable" : "disable", cli_short_name(name));
    code = cli_call(cli, NET_HOST_SERVICE, "SetNetHostEnabled", &request.base,
                    what, &reply);
    if (code == CLI_DONE) {
        weft_message_free(reply);
    }
    return code;
}

static enum cli_exit
net_forget(struct cli *cli)
{
    Weft__V1__DeleteNetHostRequest request =
        WEFT__V1__DELETE_NET_HOST_REQUEST__INIT;
    char name[CLI_NAME_SIZE], what[CLI_NAME_SIZE + 32], id[UUID_TEXT_SIZE];
    ProtobufCMessage *reply;
    enum cli_exit code =
        cli_check_name(cli, "HOST", "netHosts", cli->arguments[0], name);

    if (code != CLI_DONE) {
        return code;
    }
    weft_request_id(id);
    request.name = name;
    request.request_id = id;
    snprintf(what, sizeof what, "forget host \"%s\"", cli_short_name(name));
    code = cli_call(cli, NET_HOST_SERVICE, "DeleteNetHost", &request.base, what,
                    &reply);
    if (code == CLI_DONE) {
        weft_message_free(reply);
    }
    return code;
}

static enum cli_exit
net_enable(struct cli *cli)
{
    return net_set_host_enabled(cli, true);
}

static enum cli_exit
net_disable(struct cli *cli)
{
    return net_set_host_enabled(cli, false);
}

/* ---- Trace ---- */

static const struct cli_option net_trace_options[] = {
    { "from", 0, "PORT", "the port that sends the packet" },
    { "to", 0, "ADDRESS", "where to" },
    { "proto", 0, "PROTO", "tcp, udp, sctp, icmp or a number (icmp)" },
    { "port", 0, "NUMBER", "destination port" },
    { "source-port", 0, "NUMBER", "source port (40000)" },
    { "intent-only", 0, NULL, "do not ask the switches" },
    { "verbose", 'v', NULL, "show what the switches say, word by word" },
    { NULL, 0, NULL, NULL },
};

static void
trace_print_verdict(const char *name, const Weft__V1__TraceVerdict *verdict)
{
    char outcome[TABLE_TEXT_SIZE];

    if (verdict == NULL) {
        return;
    }
    table_format_enum(&weft__v1__trace_verdict__outcome__descriptor,
                      (int)verdict->outcome, "OUTCOME_", outcome);
    printf("%-16s %s: ", name, outcome);
    table_print_text(stdout, verdict->text);
    fputc('\n', stdout);
}

static void
trace_print(const ProtobufCMessage *message)
{
    const Weft__V1__TracePacketResponse *reply =
        (const Weft__V1__TracePacketResponse *)(const void *)message;

    cli_print_field("packet:", reply->packet);
    trace_print_verdict("intent:", reply->intent);
    trace_print_verdict("live:", reply->live);
    cli_print_field(
        "agreement:",
        reply->agreement == WEFT__V1__TRACE_PACKET_RESPONSE__AGREEMENT__AGREES
            ? "yes"
        : reply->agreement ==
                WEFT__V1__TRACE_PACKET_RESPONSE__AGREEMENT__DISAGREES
            ? "NO"
            : "unknown");
}

/* The switches' words have lines of their own. */
static void
trace_print_steps(const Weft__V1__TracePacketResponse *reply)
{
    for (size_t i = 0; i < reply->n_steps; i++) {
        printf("\n---- %s ----\n", cli_short_name(reply->steps[i]->host));
        for (const char *c = reply->steps[i]->text; *c != '\0'; c++) {
            fputc(*c == '\n' || ((unsigned char)*c >= ' ' && *c != 0x7f) ? *c
                                                                         : '?',
                  stdout);
        }
    }
}

static enum cli_exit
trace_read(struct cli *cli, Weft__V1__TracePacketRequest *request,
           char ret_port[CLI_NAME_SIZE])
{
    const char *from, *to, *proto = cli_value(cli, "proto");
    const char *port = cli_value(cli, "port");
    const char *source = cli_value(cli, "source-port");
    uint64_t number = 0;
    enum cli_exit code = net_need(cli, "from", &from);

    if (code == CLI_DONE) {
        code = net_need(cli, "to", &to);
    }
    if (code == CLI_DONE) {
        code = net_check(cli, "--from", "ports", from, ret_port);
    }
    if (code == CLI_DONE && port != NULL) {
        code = cli_check_number(cli, "--port", port, 1, 65535, &number);
        request->destination_port = (int32_t)number;
    }
    if (code == CLI_DONE && source != NULL) {
        code =
            cli_check_number(cli, "--source-port", source, 1, 65535, &number);
        request->source_port = (int32_t)number;
    }
    if (code != CLI_DONE) {
        return code;
    }
    request->port = ret_port;
    request->to = (char *)to;
    request->protocol = (char *)(proto != NULL ? proto : "");
    request->intent_only = cli_flag(cli, "intent-only");
    return CLI_DONE;
}

static enum cli_exit
net_trace(struct cli *cli)
{
    Weft__V1__TracePacketRequest request = WEFT__V1__TRACE_PACKET_REQUEST__INIT;
    char port[CLI_NAME_SIZE], what[CLI_NAME_SIZE + 64];
    ProtobufCMessage *reply;
    enum cli_exit code = trace_read(cli, &request, port);

    if (code != CLI_DONE) {
        return code;
    }
    snprintf(what, sizeof what, "trace from port \"%s\"", cli_short_name(port));
    code = cli_call(cli, &weft__v1__diagnosis_service__descriptor,
                    "TracePacket", &request.base, what, &reply);
    if (code != CLI_DONE) {
        return code;
    }
    cli_show(cli, reply, trace_print);
    if (cli->output == CLI_TABLE && cli_flag(cli, "verbose")) {
        trace_print_steps(
            (const Weft__V1__TracePacketResponse *)(const void *)reply);
    }
    weft_message_free(reply);
    return CLI_DONE;
}

const struct cli_command cli_net_commands[] = {
    { "net", "trace", "", "Tell what becomes of a packet", net_trace_options,
      net_trace },
    { "net", "hosts", "", "List the hosts of the overlay", NULL, net_hosts },
    { "net", "enable", "HOST", "Let a host take part in the overlay", NULL,
      net_enable },
    { "net", "disable", "HOST", "Keep a host out of the overlay", NULL,
      net_disable },
    { "net", "forget", "HOST", "Forget a host that will not come back", NULL,
      net_forget },
    { .noun = NULL },
};
