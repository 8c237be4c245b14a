/* SPDX-License-Identifier: Apache-2.0 */
/* weft subnet ... */

#include <stdio.h>

#include "client/cli/net_noun.h"
#include "proto/weft/v1/network.pb-c.h"

static void
subnet_row(struct table *table, const ProtobufCMessage *message)
{
    const Weft__V1__Subnet *subnet =
        (const Weft__V1__Subnet *)(const void *)message;

    table_add(table, cli_short_name(subnet->name));
    table_add(table, cli_short_name(subnet->network));
    table_add(table, subnet->cidr);
    table_add(table, subnet->gateway);
    table_add(table, cli_short_name(subnet->router));
    table_add(table, subnet->dhcp_disabled ? "off" : "on");
    table_add_format(table, "%d", (int)subnet->address_count);
}

static void
subnet_print(const ProtobufCMessage *message)
{
    const Weft__V1__Subnet *subnet =
        (const Weft__V1__Subnet *)(const void *)message;
    char text[TABLE_TEXT_SIZE];

    cli_print_field("name:", subnet->name);
    cli_print_field("uid:", subnet->uid);
    table_format_time(subnet->create_time, text);
    cli_print_field("created:", text);
    cli_print_field("network:", subnet->network);
    cli_print_field("cidr:", subnet->cidr);
    cli_print_field("gateway:", subnet->gateway);
    cli_print_field("router:", subnet->router);
    cli_print_field("dhcp:", subnet->dhcp_disabled ? "off" : "on");
    for (size_t i = 0; i < subnet->n_dns; i++) {
        cli_print_field(i == 0 ? "dns:" : "", subnet->dns[i]);
    }
    printf("%-16s %d\n", "addresses:", (int)subnet->address_count);
}

static const char *const subnet_header[] = { "NAME",      "NETWORK", "CIDR",
                                             "GATEWAY",   "ROUTER",  "DHCP",
                                             "ADDRESSES", NULL };
static const struct net_noun subnet_noun = {
    .service = &weft__v1__subnet_service__descriptor,
    .single = "Subnet",
    .plural = "Subnets",
    .json = "subnets",
    .collection = "subnets",
    .word = "subnet",
    .words = "subnets",
    .header = subnet_header,
    .row = subnet_row,
    .print = subnet_print,
};

static const struct cli_option subnet_create_options[] = {
    { "network", 'n', "NETWORK", "of which network" },
    { "cidr", 0, "RANGE", "its addresses, such as 10.0.0.0/24" },
    { "gateway", 0, "ADDRESS",
      "the router's address (the first), or \"none\"" },
    { "no-dhcp", 0, NULL, "do not answer DHCP and router solicitations" },
    { "dns", 0, "ADDRESS...", "a name server for guests" },
    NET_WAIT_OPTION,
    { NULL, 0, NULL, NULL },
};

static const struct cli_option subnet_delete_options[] = {
    NET_WAIT_OPTION,
    { NULL, 0, NULL, NULL },
};

static enum cli_exit
subnet_create(struct cli *cli)
{
    Weft__V1__CreateSubnetRequest request =
        WEFT__V1__CREATE_SUBNET_REQUEST__INIT;
    Weft__V1__Subnet subnet = WEFT__V1__SUBNET__INIT;
    char project[CLI_NAME_SIZE], network[CLI_NAME_SIZE], id[UUID_TEXT_SIZE];
    const char *network_text, *cidr, *gateway = cli_value(cli, "gateway");
    struct net_names dns = { NULL, 0 };
    enum cli_exit code = net_check_new(cli, cli->arguments[0]);

    if (code == CLI_DONE) {
        code = cli_check_project(cli, project);
    }
    if (code == CLI_DONE) {
        code = net_need(cli, "network", &network_text);
    }
    if (code == CLI_DONE) {
        code = net_need(cli, "cidr", &cidr);
    }
    if (code == CLI_DONE) {
        code = net_check(cli, "--network", "networks", network_text, network);
    }
    if (code == CLI_DONE) {
        code = net_names(cli, "dns", NULL, &dns);
    }
    if (code != CLI_DONE) {
        return code;
    }
    weft_request_id(id);
    subnet.network = network;
    subnet.cidr = (char *)cidr;
    subnet.gateway = (char *)(gateway != NULL ? gateway : "");
    subnet.dhcp_disabled = cli_flag(cli, "no-dhcp");
    subnet.dns = dns.names;
    subnet.n_dns = dns.count;
    request.parent = project;
    request.subnet_id = (char *)cli->arguments[0];
    request.subnet = &subnet;
    request.request_id = id;
    request.wait = net_wait(cli);
    code = net_change(cli, &subnet_noun, "CreateSubnet", &request.base,
                      "create", cli->arguments[0], NULL);
    net_names_free(&dns);
    return code;
}

static enum cli_exit
subnet_list(struct cli *cli)
{
    return net_list(cli, &subnet_noun);
}

static enum cli_exit
subnet_show(struct cli *cli)
{
    return net_show(cli, &subnet_noun);
}

static enum cli_exit
subnet_delete(struct cli *cli)
{
    return net_delete(cli, &subnet_noun);
}

const struct cli_command cli_subnet_commands[] = {
    { "subnet", "create", "NAME", "Create a subnet of a network",
      subnet_create_options, subnet_create },
    { "subnet", "list", "", "List the subnets", NULL, subnet_list },
    { "subnet", "show", "NAME", "Show one subnet", NULL, subnet_show },
    { "subnet", "delete", "NAME", "Delete a subnet that nobody uses",
      subnet_delete_options, subnet_delete },
    { .noun = NULL },
};
