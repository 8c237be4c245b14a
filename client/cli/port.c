/* SPDX-License-Identifier: Apache-2.0 */
/* weft port ... */

#include <stdio.h>
#include <string.h>

#include "client/cli/net_noun.h"
#include "client/json.h"
#include "proto/weft/v1/port.pb-c.h"

#define PORT_SERVICE (&weft__v1__port_service__descriptor)
#define LIST_SIZE 400

static const Weft__V1__Port *
port_from(const ProtobufCMessage *message)
{
    return (const Weft__V1__Port *)(const void *)message;
}

/* "10.0.0.2 fd00::2" */
static void
port_join(char **texts, size_t count, char ret_text[LIST_SIZE])
{
    size_t used = 0;

    ret_text[0] = '\0';
    for (size_t i = 0; i < count && used + 80 < LIST_SIZE; i++) {
        int size = snprintf(ret_text + used, LIST_SIZE - used, "%s%.64s",
                            i > 0 ? " " : "", cli_short_name(texts[i]));
        used += (size_t)size;
    }
}

static void
port_row(struct table *table, const ProtobufCMessage *message)
{
    const Weft__V1__Port *port = port_from(message);
    char text[LIST_SIZE];

    table_add(table, cli_short_name(port->name));
    table_add(table, cli_short_name(port->network));
    table_add(table, port->mac);
    port_join(port->addresses, port->n_addresses, text);
    table_add(table, text);
    port_join(port->security_groups, port->n_security_groups, text);
    table_add(table, text);
    table_add(table, cli_short_name(port->host));
    table_add_enum(table, &weft__v1__port__state__descriptor, (int)port->state);
    table_add(table, port->state_reason);
}

static void
port_print_plug(const Weft__V1__PortPlug *plug)
{
    if (plug == NULL) {
        return;
    }
    if (plug->kind == WEFT__V1__PORT_PLUG__KIND__TAP) {
        cli_print_field("plug:", "tap");
    } else {
        cli_print_field("plug:", "netns");
        cli_print_field("netns:", plug->netns);
        cli_print_field("ifname:",
                        plug->ifname[0] != '\0' ? plug->ifname : "eth0");
    }
}

static void
port_print(const ProtobufCMessage *message)
{
    const Weft__V1__Port *port = port_from(message);
    char text[TABLE_TEXT_SIZE];

    cli_print_field("name:", port->name);
    cli_print_field("uid:", port->uid);
    table_format_time(port->create_time, text);
    cli_print_field("created:", text);
    cli_print_field("network:", port->network);
    cli_print_field("mac:", port->mac);
    for (size_t i = 0; i < port->n_addresses; i++) {
        cli_print_field(i == 0 ? "addresses:" : "", port->addresses[i]);
    }
    for (size_t i = 0; i < port->n_security_groups; i++) {
        cli_print_field(i == 0 ? "groups:" : "", port->security_groups[i]);
    }
    printf("%-16s %d\n", "identity:", (int)port->identity);
    cli_print_field("enabled:", port->disabled ? "no" : "yes");
    cli_print_field("hostname:", port->hostname);
    cli_print_field("host:", cli_short_name(port->host));
    port_print_plug(port->plug);
    table_format_enum(&weft__v1__port__state__descriptor, (int)port->state, "",
                      text);
    cli_print_field("state:", text);
    cli_print_field("reason:", port->state_reason);
    cli_print_field("bound on:", cli_short_name(port->bound_host));
    cli_print_field("device:", port->device);
    table_format_time(port->bound_time, text);
    cli_print_field("bound:", text);
    table_format_time(port->up_time, text);
    cli_print_field("up:", text);
    if (port->bind_duration_us > 0 || port->flows_duration_us > 0) {
        printf("%-16s %.1f ms to bind, %.1f ms more to up\n",
               "took:", (double)port->bind_duration_us / 1000,
               (double)port->flows_duration_us / 1000);
    }
}

static const char *const port_header[] = { "NAME",      "NETWORK", "MAC",
                                           "ADDRESSES", "GROUPS",  "HOST",
                                           "STATE",     "REASON",  NULL };
static const struct net_noun port_noun = {
    .service = PORT_SERVICE,
    .single = "Port",
    .plural = "Ports",
    .json = "ports",
    .collection = "ports",
    .word = "port",
    .words = "ports",
    .header = port_header,
    .row = port_row,
    .print = port_print,
};

static const struct cli_option port_create_options[] = {
    { "network", 'n', "NETWORK", "on which network" },
    { "ip", 0, "ADDRESS...",
      "an IP address (a free one of each family that the network has)" },
    { "group", 'g', "GROUP...", "a security group to be in (none)" },
    { "mac", 0, "MAC", "a MAC address (a free one)" },
    { "hostname", 0, "NAME", "host name for DHCP" },
    { "host", 0, "HOST", "where it will live (wherever it shows up)" },
    { "disabled", 0, NULL, "let no packets pass yet" },
    NET_WAIT_OPTION,
    { NULL, 0, NULL, NULL },
};

static const struct cli_option port_groups_options[] = {
    { "group", 'g', "GROUP...", "a group to be in from now on (none)" },
    NET_WAIT_OPTION,
    { NULL, 0, NULL, NULL },
};

static const struct cli_option port_plug_options[] = {
    { "host", 0, "HOST", "on which host" },
    { "tap", 0, "DEVICE", "make this tap device (\"auto\": choose a name)" },
    { "netns", 0, "NAME", "make a veth pair with one end in this namespace" },
    { "ifname", 0, "DEVICE", "name of that end (\"eth0\")" },
    NET_WAIT_OPTION,
    { NULL, 0, NULL, NULL },
};

static const struct cli_option port_wait_options[] = {
    NET_WAIT_OPTION,
    { NULL, 0, NULL, NULL },
};

/* ---- Create ---- */

static char *
port_text(const struct cli *cli, const char *option)
{
    const char *text = cli_value(cli, option);

    return (char *)(text != NULL ? text : "");
}

static enum cli_exit
port_create_send(struct cli *cli, Weft__V1__Port *port)
{
    Weft__V1__CreatePortRequest request = WEFT__V1__CREATE_PORT_REQUEST__INIT;
    struct net_names addresses = { NULL, 0 }, groups = { NULL, 0 };
    char project[CLI_NAME_SIZE], id[UUID_TEXT_SIZE];
    enum cli_exit code = cli_check_project(cli, project);

    if (code == CLI_DONE) {
        code = net_names(cli, "ip", NULL, &addresses);
    }
    if (code == CLI_DONE) {
        code = net_names(cli, "group", "securityGroups", &groups);
    }
    if (code == CLI_DONE) {
        weft_request_id(id);
        port->addresses = addresses.names;
        port->n_addresses = addresses.count;
        port->security_groups = groups.names;
        port->n_security_groups = groups.count;
        request.parent = project;
        request.port_id = (char *)cli->arguments[0];
        request.port = port;
        request.request_id = id;
        request.wait = net_wait(cli);
        code = net_change(cli, &port_noun, "CreatePort", &request.base,
                          "create", cli->arguments[0], NULL);
    }
    net_names_free(&addresses);
    net_names_free(&groups);
    return code;
}

static enum cli_exit
port_create(struct cli *cli)
{
    Weft__V1__Port port = WEFT__V1__PORT__INIT;
    char network[CLI_NAME_SIZE], host[CLI_NAME_SIZE] = "";
    const char *network_text, *host_text = cli_value(cli, "host");
    enum cli_exit code = net_check_new(cli, cli->arguments[0]);

    if (code == CLI_DONE) {
        code = net_need(cli, "network", &network_text);
    }
    if (code == CLI_DONE) {
        code = net_check(cli, "--network", "networks", network_text, network);
    }
    if (code == CLI_DONE && host_text != NULL) {
        code = cli_check_name(cli, "--host", "netHosts", host_text, host);
    }
    if (code != CLI_DONE) {
        return code;
    }
    port.network = network;
    port.host = host;
    port.mac = port_text(cli, "mac");
    port.hostname = port_text(cli, "hostname");
    port.disabled = cli_flag(cli, "disabled");
    return port_create_send(cli, &port);
}

/* ---- Changes ---- */

static enum cli_exit
port_set_groups(struct cli *cli)
{
    Weft__V1__SetPortGroupsRequest request =
        WEFT__V1__SET_PORT_GROUPS_REQUEST__INIT;
    struct net_names groups = { NULL, 0 };
    char name[CLI_NAME_SIZE], id[UUID_TEXT_SIZE];
    enum cli_exit code =
        net_check(cli, "NAME", "ports", cli->arguments[0], name);

    if (code == CLI_DONE) {
        code = net_names(cli, "group", "securityGroups", &groups);
    }
    if (code != CLI_DONE) {
        return code;
    }
    weft_request_id(id);
    request.name = name;
    request.security_groups = groups.names;
    request.n_security_groups = groups.count;
    request.request_id = id;
    request.wait = net_wait(cli);
    code = net_change(cli, &port_noun, "SetPortGroups", &request.base,
                      "set the groups of", name, NULL);
    net_names_free(&groups);
    return code;
}

static enum cli_exit
port_set_enabled(struct cli *cli, bool enabled)
{
    Weft__V1__SetPortEnabledRequest request =
        WEFT__V1__SET_PORT_ENABLED_REQUEST__INIT;
    char name[CLI_NAME_SIZE], id[UUID_TEXT_SIZE];
    enum cli_exit code =
        net_check(cli, "NAME", "ports", cli->arguments[0], name);

    if (code != CLI_DONE) {
        return code;
    }
    weft_request_id(id);
    request.name = name;
    request.enabled = enabled;
    request.request_id = id;
    request.wait = net_wait(cli);
    return net_change(cli, &port_noun, "SetPortEnabled", &request.base,
                      enabled ? "enable" : "disable", name, NULL);
}

static enum cli_exit
port_enable(struct cli *cli)
{
    return port_set_enabled(cli, true);
}

static enum cli_exit
port_disable(struct cli *cli)
{
    return port_set_enabled(cli, false);
}

/* ---- Plug ---- */

static enum cli_exit
port_read_plug(struct cli *cli, Weft__V1__PortPlug *plug)
{
    const char *tap = cli_value(cli, "tap");
    const char *netns = cli_value(cli, "netns");

    if ((tap == NULL) == (netns == NULL)) {
        return cli_usage_error(cli, "give either --tap DEVICE or --netns NAME");
    }
    if (tap != NULL && cli_value(cli, "ifname") != NULL) {
        return cli_usage_error(cli, "--ifname is for --netns only");
    }
    if (tap != NULL) {
        plug->kind = WEFT__V1__PORT_PLUG__KIND__TAP;
        plug->device = (char *)(strcmp(tap, "auto") == 0 ? "" : tap);
    } else {
        plug->kind = WEFT__V1__PORT_PLUG__KIND__NETNS;
        plug->netns = (char *)netns;
        plug->ifname = port_text(cli, "ifname");
    }
    return CLI_DONE;
}

static enum cli_exit
port_plug(struct cli *cli)
{
    Weft__V1__PlugPortRequest request = WEFT__V1__PLUG_PORT_REQUEST__INIT;
    Weft__V1__PortPlug plug = WEFT__V1__PORT_PLUG__INIT;
    char name[CLI_NAME_SIZE], host[CLI_NAME_SIZE], id[UUID_TEXT_SIZE];
    const char *host_text;
    enum cli_exit code =
        net_check(cli, "NAME", "ports", cli->arguments[0], name);

    if (code == CLI_DONE) {
        code = net_need(cli, "host", &host_text);
    }
    if (code == CLI_DONE) {
        code = cli_check_name(cli, "--host", "netHosts", host_text, host);
    }
    if (code == CLI_DONE) {
        code = port_read_plug(cli, &plug);
    }
    if (code != CLI_DONE) {
        return code;
    }
    weft_request_id(id);
    request.name = name;
    request.host = host;
    request.plug = &plug;
    request.request_id = id;
    request.wait = net_wait(cli);
    return net_change(cli, &port_noun, "PlugPort", &request.base, "plug", name,
                      NULL);
}

static enum cli_exit
port_unplug(struct cli *cli)
{
    Weft__V1__UnplugPortRequest request = WEFT__V1__UNPLUG_PORT_REQUEST__INIT;
    char name[CLI_NAME_SIZE], id[UUID_TEXT_SIZE];
    enum cli_exit code =
        net_check(cli, "NAME", "ports", cli->arguments[0], name);

    if (code != CLI_DONE) {
        return code;
    }
    weft_request_id(id);
    request.name = name;
    request.request_id = id;
    request.wait = net_wait(cli);
    return net_change(cli, &port_noun, "UnplugPort", &request.base, "unplug",
                      name, NULL);
}

/* ---- Read ---- */

static enum cli_exit
port_list(struct cli *cli)
{
    return net_list(cli, &port_noun);
}

static enum cli_exit
port_show(struct cli *cli)
{
    return net_show(cli, &port_noun);
}

static enum cli_exit
port_delete(struct cli *cli)
{
    return net_delete(cli, &port_noun);
}

static void
port_print_change(const struct cli *cli, const ProtobufCMessage *message)
{
    const Weft__V1__WatchPortsResponse *change =
        (const Weft__V1__WatchPortsResponse *)(const void *)message;
    char type[TABLE_TEXT_SIZE], state[TABLE_TEXT_SIZE];

    if (cli->output == CLI_JSON) {
        json_print_line(stdout, message);
        fputc('\n', stdout);
    } else if (change->port != NULL) {
        table_format_enum(&weft__v1__change_type__descriptor, (int)change->type,
                          "", type);
        table_format_enum(&weft__v1__port__state__descriptor,
                          (int)change->port->state, "", state);
        printf("%-9s %-9s %s %s\n", type, state,
               cli_short_name(change->port->name),
               cli_short_name(change->port->bound_host));
    }
    fflush(stdout);
}

static enum cli_exit
port_watch(struct cli *cli)
{
    Weft__V1__WatchPortsRequest request = WEFT__V1__WATCH_PORTS_REQUEST__INIT;
    char project[CLI_NAME_SIZE];
    struct rpc_reader *reader;
    struct rpc_error error;
    ProtobufCMessage *message;
    enum cli_exit code = cli_check_project(cli, project);

    if (code == CLI_DONE) {
        code = cli_connect(cli);
    }
    if (code != CLI_DONE) {
        return code;
    }
    request.parent = project;
    int result = weft_watch(cli->weft, PORT_SERVICE, "WatchPorts",
                            &request.base, &reader, &error);
    if (result == 0) {
        while ((result = rpc_reader_next(reader, &message, &error)) == 1) {
            port_print_change(cli, message);
            weft_message_free(message);
        }
        rpc_reader_close(reader);
    }
    if (result < 0 && !cli_is_interrupted()) {
        return cli_call_error(cli, "watch ports", &error);
    }
    return CLI_DONE;
}

const struct cli_command cli_port_commands[] = {
    { "port", "create", "NAME", "Create a port of a network",
      port_create_options, port_create },
    { "port", "list", "", "List the ports", NULL, port_list },
    { "port", "show", "NAME", "Show one port", NULL, port_show },
    { "port", "delete", "NAME", "Delete a port", port_wait_options,
      port_delete },
    { "port", "set-groups", "NAME", "Say which security groups a port is in",
      port_groups_options, port_set_groups },
    { "port", "enable", "NAME", "Let a port pass packets", port_wait_options,
      port_enable },
    { "port", "disable", "NAME", "Let a port pass no packets",
      port_wait_options, port_disable },
    { "port", "plug", "NAME", "Make a port's interface on a host",
      port_plug_options, port_plug },
    { "port", "unplug", "NAME", "Take a port off its host", port_wait_options,
      port_unplug },
    { "port", "watch", "", "Show ports as they change", NULL, port_watch },
    { .noun = NULL },
};
