/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_CLI_LIST_H
#define CLIENT_CLI_LIST_H

/* Showing what a List or Get method returned, as a table or as JSON. */

#include "client/cli/command.h"
#include "client/cli/table.h"

/* Adds one row. */
typedef void cli_row_fn(struct table *table, const ProtobufCMessage *message);

struct cli_list {
    const ProtobufCServiceDescriptor *service;
    const char *method;
    const char *what; /* "list volumes" */
    const char *json; /* Name of the array: "volumes". */
    const char *const *header;
    cli_row_fn *row;
    uint64_t count_max; /* 0: all. */
};

/* Gets all pages of 'request' and shows them. */
WEFT_MUST_CHECK enum cli_exit cli_list(struct cli *cli,
                                       const struct cli_list *list,
                                       ProtobufCMessage *request);

/* Shows one message, as JSON or by 'print'. */
typedef void cli_print_fn(const ProtobufCMessage *message);
void cli_show(const struct cli *cli, const ProtobufCMessage *message,
              cli_print_fn *print);

/* "name:          value" on stdout; nothing for an empty value. */
void cli_print_field(const char *name, const char *value);

#endif /* CLIENT_CLI_LIST_H */
