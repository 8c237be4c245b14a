/* SPDX-License-Identifier: Apache-2.0 */
/* weft host ... */

#include <stdio.h>

#include "client/cli/list.h"
#include "proto/weft/v1/host.pb-c.h"

#define HOST_SERVICE (&weft__v1__host_service__descriptor)

static void
host_row(struct table *table, const ProtobufCMessage *message)
{
    const Weft__V1__Host *host = (const Weft__V1__Host *)(const void *)message;
    table_add(table, cli_short_name(host->name));
    table_add_enum(table, &weft__v1__host__state__descriptor, (int)host->state);
    table_add(table, host->rack);
    table_add(table, host->peer_address);
    table_add_format(table, "%d", (int)host->disk_count);
    table_add_format(table, "%d", (int)host->volume_count);
    table_add(table, host->version);
    table_add(table, host->state_reason);
}

static enum cli_exit
host_list(struct cli *cli)
{
    static const char *const header[] = { "NAME",    "STATE",  "RACK",
                                          "ADDRESS", "DISKS",  "VOLUMES",
                                          "VERSION", "REASON", NULL };
    Weft__V1__ListHostsRequest request = WEFT__V1__LIST_HOSTS_REQUEST__INIT;
    return cli_list(cli,
                    &(const struct cli_list){
                        .service = HOST_SERVICE,
                        .method = "ListHosts",
                        .what = "list hosts",
                        .json = "hosts",
                        .header = header,
                        .row = host_row,
                    },
                    &request.base);
}

static void
host_print(const ProtobufCMessage *message)
{
    const Weft__V1__Host *host = (const Weft__V1__Host *)(const void *)message;
    char text[TABLE_TEXT_SIZE];

    cli_print_field("name:", host->name);
    cli_print_field("uid:", host->uid);
    table_format_enum(&weft__v1__host__state__descriptor, (int)host->state, "",
                      text);
    cli_print_field("state:", text);
    cli_print_field("reason:", host->state_reason);
    cli_print_field("rack:", host->rack);
    cli_print_field("address:", host->peer_address);
    cli_print_field("version:", host->version);
    table_format_time(host->start_time, text);
    cli_print_field("started:", text);
    printf("%-16s %d\n%-16s %d\n", "disks:", (int)host->disk_count,
           "volumes:", (int)host->volume_count);
}

static enum cli_exit
host_show(struct cli *cli)
{
    Weft__V1__GetHostRequest request = WEFT__V1__GET_HOST_REQUEST__INIT;
    char name[CLI_NAME_SIZE], what[CLI_NAME_SIZE + 32];
    ProtobufCMessage *host;
    enum cli_exit code =
        cli_check_name(cli, "NAME", "hosts", cli->arguments[0], name);

    if (code != CLI_DONE) {
        return code;
    }
    request.name = name;
    snprintf(what, sizeof what, "show host \"%s\"", cli_short_name(name));
    code = cli_call(cli, HOST_SERVICE, "GetHost", &request.base, what, &host);
    if (code == CLI_DONE) {
        cli_show(cli, host, host_print);
        weft_message_free(host);
    }
    return code;
}

const struct cli_command cli_host_commands[] = {
    { "host", "list", "", "List the hosts", NULL, host_list },
    { "host", "show", "NAME", "Show one host", NULL, host_show },
    { .noun = NULL },
};
