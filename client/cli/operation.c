/* SPDX-License-Identifier: Apache-2.0 */
/* weft operation ... */

#include "client/cli/list.h"
#include "proto/weft/v1/operation.pb-c.h"

static void
operation_row(struct table *table, const ProtobufCMessage *message)
{
    const Weft__V1__Operation *operation =
        (const Weft__V1__Operation *)(const void *)message;
    const Weft__V1__Progress *progress = operation->progress;

    table_add(table, cli_short_name(operation->name));
    table_add(table, operation->method);
    table_add(table, operation->target);
    table_add_time(table, operation->create_time);
    table_add(table, !operation->done           ? "running"
                     : operation->error == NULL ? "done"
                                                : "failed");
    if (progress != NULL && progress->total > 0) {
        table_add_format(table, "%.1f%%",
                         100.0 * (double)progress->done /
                             (double)progress->total);
    } else {
        table_add(table, "");
    }
    table_add(table, operation->error != NULL ? operation->error->message
                                              : operation->message);
}

static enum cli_exit
operation_list(struct cli *cli)
{
    static const char *const header[] = { "NAME",    "METHOD", "TARGET",
                                          "BEGUN",   "STATE",  "PROGRESS",
                                          "MESSAGE", NULL };
    Weft__V1__ListOperationsRequest request =
        WEFT__V1__LIST_OPERATIONS_REQUEST__INIT;
    return cli_list(cli,
                    &(const struct cli_list){
                        .service = &weft__v1__operation_service__descriptor,
                        .method = "ListOperations",
                        .what = "list operations",
                        .json = "operations",
                        .header = header,
                        .row = operation_row,
                    },
                    &request.base);
}

const struct cli_command cli_operation_commands[] = {
    { "operation", "list", "", "List long work, the newest first", NULL,
      operation_list },
    { .noun = NULL },
};
