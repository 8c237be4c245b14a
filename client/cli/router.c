/* SPDX-License-Identifier: Apache-2.0 */
/* weft router ... */

#include <stdio.h>

#include "client/cli/net_noun.h"
#include "proto/weft/v1/router.pb-c.h"

static void
router_row(struct table *table, const ProtobufCMessage *message)
{
    const Weft__V1__Router *router =
        (const Weft__V1__Router *)(const void *)message;
    char text[TABLE_TEXT_SIZE];

    table_add(table, cli_short_name(router->name));
    table_add_format(table, "%zu", router->n_interfaces);
    table_format_time(router->create_time, text);
    table_add(table, text);
}

static void
router_print(const ProtobufCMessage *message)
{
    static const char *const header[] = { "SUBNET",  "NETWORK", "CIDR",
                                          "ADDRESS", "MAC",     NULL };
    const Weft__V1__Router *router =
        (const Weft__V1__Router *)(const void *)message;
    char text[TABLE_TEXT_SIZE];
    struct table table;

    cli_print_field("name:", router->name);
    cli_print_field("uid:", router->uid);
    table_format_time(router->create_time, text);
    cli_print_field("created:", text);
    table_init(&table, header);
    for (size_t i = 0; i < router->n_interfaces; i++) {
        const Weft__V1__RouterInterface *interface = router->interfaces[i];
        table_add(&table, cli_short_name(interface->subnet));
        table_add(&table, cli_short_name(interface->network));
        table_add(&table, interface->cidr);
        table_add(&table, interface->address);
        table_add(&table, interface->mac);
    }
    if (router->n_interfaces > 0) {
        fputc('\n', stdout);
        table_print(&table, stdout);
    }
    table_done(&table);
}

static const char *const router_header[] = { "NAME", "SUBNETS", "CREATED",
                                             NULL };
static const struct net_noun router_noun = {
    .service = &weft__v1__router_service__descriptor,
    .single = "Router",
    .plural = "Routers",
    .json = "routers",
    .collection = "routers",
    .word = "router",
    .words = "routers",
    .header = router_header,
    .row = router_row,
    .print = router_print,
};

static const struct cli_option router_wait_options[] = {
    NET_WAIT_OPTION,
    { NULL, 0, NULL, NULL },
};

static const struct cli_option router_subnet_options[] = {
    { "subnet", 0, "SUBNET", "which subnet" },
    NET_WAIT_OPTION,
    { NULL, 0, NULL, NULL },
};

static enum cli_exit
router_create(struct cli *cli)
{
    Weft__V1__CreateRouterRequest request =
        WEFT__V1__CREATE_ROUTER_REQUEST__INIT;
    Weft__V1__Router router = WEFT__V1__ROUTER__INIT;
    char project[CLI_NAME_SIZE], id[UUID_TEXT_SIZE];
    enum cli_exit code = net_check_new(cli, cli->arguments[0]);

    if (code == CLI_DONE) {
        code = cli_check_project(cli, project);
    }
    if (code != CLI_DONE) {
        return code;
    }
    weft_request_id(id);
    request.parent = project;
    request.router_id = (char *)cli->arguments[0];
    request.router = &router;
    request.request_id = id;
    request.wait = net_wait(cli);
    return net_change(cli, &router_noun, "CreateRouter", &request.base,
                      "create", cli->arguments[0], NULL);
}

/* The names of router and subnet. */
static enum cli_exit
router_both(struct cli *cli, char ret_router[CLI_NAME_SIZE],
            char ret_subnet[CLI_NAME_SIZE])
{
    const char *text;
    enum cli_exit code =
        net_check(cli, "NAME", "routers", cli->arguments[0], ret_router);

    if (code == CLI_DONE) {
        code = net_need(cli, "subnet", &text);
    }
    if (code == CLI_DONE) {
        code = net_check(cli, "--subnet", "subnets", text, ret_subnet);
    }
    return code;
}

static enum cli_exit
router_attach(struct cli *cli)
{
    Weft__V1__AttachRouterRequest request =
        WEFT__V1__ATTACH_ROUTER_REQUEST__INIT;
    char name[CLI_NAME_SIZE], subnet[CLI_NAME_SIZE], id[UUID_TEXT_SIZE];
    enum cli_exit code = router_both(cli, name, subnet);

    if (code != CLI_DONE) {
        return code;
    }
    weft_request_id(id);
    request.name = name;
    request.subnet = subnet;
    request.request_id = id;
    request.wait = net_wait(cli);
    return net_change(cli, &router_noun, "AttachRouter", &request.base,
                      "attach", name, NULL);
}

static enum cli_exit
router_detach(struct cli *cli)
{
    Weft__V1__DetachRouterRequest request =
        WEFT__V1__DETACH_ROUTER_REQUEST__INIT;
    char name[CLI_NAME_SIZE], subnet[CLI_NAME_SIZE], id[UUID_TEXT_SIZE];
    enum cli_exit code = router_both(cli, name, subnet);

    if (code != CLI_DONE) {
        return code;
    }
    weft_request_id(id);
    request.name = name;
    request.subnet = subnet;
    request.request_id = id;
    request.wait = net_wait(cli);
    return net_change(cli, &router_noun, "DetachRouter", &request.base,
                      "detach", name, NULL);
}

static enum cli_exit
router_list(struct cli *cli)
{
    return net_list(cli, &router_noun);
}

static enum cli_exit
router_show(struct cli *cli)
{
    return net_show(cli, &router_noun);
}

static enum cli_exit
router_delete(struct cli *cli)
{
    return net_delete(cli, &router_noun);
}

const struct cli_command cli_router_commands[] = {
    { "router", "create", "NAME", "Create a router", router_wait_options,
      router_create },
    { "router", "list", "", "List the routers", NULL, router_list },
    { "router", "show", "NAME", "Show one router", NULL, router_show },
    { "router", "delete", "NAME", "Delete a router that is on no subnet",
      router_wait_options, router_delete },
    { "router", "attach", "NAME", "Put a router on a subnet",
      router_subnet_options, router_attach },
    { "router", "detach", "NAME", "Take a router off a subnet",
      router_subnet_options, router_detach },
    { .noun = NULL },
};
