/* SPDX-License-Identifier: Apache-2.0 */
#include "client/cli/list.h"

#include <stdio.h>

#include "client/json.h"

static void
list_begin_json(const struct cli_list *list)
{
    fputs("{\n  ", stdout);
    json_print_text(stdout, list->json);
    fputs(": [", stdout);
}

static void
list_add_json(const ProtobufCMessage *item, uint64_t index)
{
    fputs(index == 0 ? "\n    " : ",\n    ", stdout);
    json_print_message(stdout, item, 2);
}

enum cli_exit
cli_list(struct cli *cli, const struct cli_list *list,
         ProtobufCMessage *request)
{
    struct weft_list pages;
    struct table table;
    struct rpc_error error;
    const ProtobufCMessage *item;
    uint64_t count = 0;
    enum cli_exit code = cli_connect(cli);
    bool is_json = cli->output == CLI_JSON;
    int result;

    if (code != CLI_DONE) {
        return code;
    }
    table_init(&table, list->header);
    weft_list_init(&pages, cli->weft, list->service, list->method, request);
    while ((result = weft_list_next(&pages, &item, &error)) == 1) {
        if (is_json && count == 0) {
            list_begin_json(list);
        }
        if (is_json) {
            list_add_json(item, count);
        } else {
            list->row(&table, item);
        }
        if (++count == list->count_max) {
            result = 0;
            break;
        }
    }
    weft_list_done(&pages);
    if (result < 0) {
        code = cli_call_error(cli, list->what, &error);
    } else if (is_json) {
        if (count == 0) {
            list_begin_json(list);
        }
        fputs(count == 0 ? "]\n}\n" : "\n  ]\n}\n", stdout);
    } else {
        table_print(&table, stdout);
    }
    table_done(&table);
    return code;
}

void
cli_show(const struct cli *cli, const ProtobufCMessage *message,
         cli_print_fn *print)
{
    if (cli->output == CLI_JSON) {
        json_print_message(stdout, message, 0);
        fputc('\n', stdout);
    } else {
        print(message);
    }
}

void
cli_print_field(const char *name, const char *value)
{
    if (value != NULL && value[0] != '\0') {
        printf("%-16s ", name);
        table_print_text(stdout, value);
        fputc('\n', stdout);
    }
}
