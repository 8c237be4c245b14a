/* SPDX-License-Identifier: Apache-2.0 */
/* weft network ... */

#include <stdio.h>

#include "client/cli/net_noun.h"
#include "proto/weft/v1/network.pb-c.h"

static void
network_row(struct table *table, const ProtobufCMessage *message)
{
    const Weft__V1__Network *network =
        (const Weft__V1__Network *)(const void *)message;

    table_add(table, cli_short_name(network->name));
    table_add_format(table, "%d", (int)network->vni);
    table_add_format(table, "%d", (int)network->mtu);
    table_add_format(table, "%d", (int)network->subnet_count);
    table_add_format(table, "%d", (int)network->port_count);
}

static void
network_print(const ProtobufCMessage *message)
{
    const Weft__V1__Network *network =
        (const Weft__V1__Network *)(const void *)message;
    char text[TABLE_TEXT_SIZE];

    cli_print_field("name:", network->name);
    cli_print_field("uid:", network->uid);
    table_format_time(network->create_time, text);
    cli_print_field("created:", text);
    printf("%-16s %d\n%-16s %d\n", "vni:", (int)network->vni,
           "mtu:", (int)network->mtu);
    cli_print_field("flood:", network->flood ? "yes" : "no");
    printf("%-16s %d\n%-16s %d\n", "subnets:", (int)network->subnet_count,
           "ports:", (int)network->port_count);
}

static const char *const network_header[] = { "NAME",    "VNI",   "MTU",
                                              "SUBNETS", "PORTS", NULL };
static const struct net_noun network_noun = {
    .service = &weft__v1__network_service__descriptor,
    .single = "Network",
    .plural = "Networks",
    .json = "networks",
    .collection = "networks",
    .word = "network",
    .words = "networks",
    .header = network_header,
    .row = network_row,
    .print = network_print,
};

static const struct cli_option network_create_options[] = {
    { "mtu", 0, "BYTES",
      "largest IP packet (what the underlay of all hosts lets through)" },
    { "flood", 0, NULL, "replicate broadcast and multicast" },
    NET_WAIT_OPTION,
    { NULL, 0, NULL, NULL },
};

static const struct cli_option network_delete_options[] = {
    NET_WAIT_OPTION,
    { NULL, 0, NULL, NULL },
};

static enum cli_exit
network_create(struct cli *cli)
{
    Weft__V1__CreateNetworkRequest request =
        WEFT__V1__CREATE_NETWORK_REQUEST__INIT;
    Weft__V1__Network network = WEFT__V1__NETWORK__INIT;
    char project[CLI_NAME_SIZE], id[UUID_TEXT_SIZE];
    const char *mtu = cli_value(cli, "mtu");
    uint64_t number = 0;
    enum cli_exit code = net_check_new(cli, cli->arguments[0]);

    if (code == CLI_DONE) {
        code = cli_check_project(cli, project);
    }
    if (code == CLI_DONE && mtu != NULL) {
        code = cli_check_number(cli, "--mtu", mtu, 576, 9000, &number);
    }
    if (code != CLI_DONE) {
        return code;
    }
    weft_request_id(id);
    network.mtu = (int32_t)number;
    network.flood = cli_flag(cli, "flood");
    request.parent = project;
    request.network_id = (char *)cli->arguments[0];
    request.network = &network;
    request.request_id = id;
    request.wait = net_wait(cli);
    return net_change(cli, &network_noun, "CreateNetwork", &request.base,
                      "create", cli->arguments[0], NULL);
}

static enum cli_exit
network_list(struct cli *cli)
{
    return net_list(cli, &network_noun);
}

static enum cli_exit
network_show(struct cli *cli)
{
    return net_show(cli, &network_noun);
}

static enum cli_exit
network_delete(struct cli *cli)
{
    return net_delete(cli, &network_noun);
}

const struct cli_command cli_network_commands[] = {
    { "network", "create", "NAME", "Create a network", network_create_options,
      network_create },
    { "network", "list", "", "List the networks", NULL, network_list },
    { "network", "show", "NAME", "Show one network", NULL, network_show },
    { "network", "delete", "NAME", "Delete an empty network",
      network_delete_options, network_delete },
    { .noun = NULL },
};
