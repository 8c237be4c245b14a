/* SPDX-License-Identifier: Apache-2.0 */
/* What goes to stderr. */

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "client/cli/command.h"

void
cli_error(const char *format, ...)
{
    va_list arguments;

    fputs("weft: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

enum cli_exit
cli_usage_error(const struct cli *cli, const char *format, ...)
{
    const struct cli_command *command = cli->command;
    va_list arguments;

    fputs("weft: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\nTry \"weft%s%s%s%s --help\".\n",
            command != NULL ? " " : "", command != NULL ? command->noun : "",
            command != NULL && command->verb != NULL ? " " : "",
            command != NULL && command->verb != NULL ? command->verb : "");
    return CLI_USAGE;
}

enum cli_exit
cli_call_error(const struct cli *cli, const char *what,
               const struct rpc_error *error)
{
    if (cli_is_interrupted() && error->code == RPC_CANCELLED) {
        cli_error("cannot %s: interrupted", what);
        return CLI_FAILED;
    }
    if (error->code == RPC_UNAVAILABLE && error->reason[0] == '\0') {
        /* gRPC itself says so, and not in words for people. */
        cli_error("cannot %s: no %s answers at \"%s\"; see whether it "
                  "runs, or give another --endpoint (%s)",
                  what,
                  cli_daemon_of(cli->command) == CLI_NETD ? "netd" : "blockd",
                  cli->endpoint, error->text);
        return CLI_FAILED;
    }
    if (error->code == RPC_DEADLINE_EXCEEDED && error->reason[0] == '\0') {
        cli_error("cannot %s: \"%s\" did not answer in time", what,
                  cli->endpoint);
        return CLI_FAILED;
    }
    cli_error("cannot %s: %s", what,
              error->text[0] != '\0' ? error->text
                                     : rpc_code_name(error->code));
    /* The first violation is the text. */
    for (uint32_t i = 1; i < error->violation_count; i++) {
        cli_error("  %s: %s", error->violations[i].field,
                  error->violations[i].text);
    }
    return CLI_FAILED;
}
