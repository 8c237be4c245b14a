/* SPDX-License-Identifier: Apache-2.0 */
/* Where to reach a daemon.
 *
 * blockd: --endpoint, $WEFT_ENDPOINT, the default.  netd: --endpoint,
 * $WEFT_NET_ENDPOINT, or, as it usually runs beside blockd, what follows from
 * $WEFT_ENDPOINT: the socket netd.sock in the directory of blockd's, or port
 * 7710 of the same host. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/command.h"
#include "lib/base/array.h"

#define NETD_SOCKET "netd.sock"
#define NETD_PORT "7710"

enum cli_daemon
cli_daemon_of(const struct cli_command *command)
{
    static const struct cli_command *const tables[] = {
        cli_network_commands,
        cli_subnet_commands,
        cli_port_commands,
        cli_router_commands,
        cli_security_group_commands,
        cli_security_rule_commands,
        cli_net_commands,
    };

    for (size_t i = 0; command != NULL && i < ARRAY_COUNT(tables); i++) {
        if (strcmp(command->noun, tables[i]->noun) == 0) {
            return CLI_NETD;
        }
    }
    return CLI_BLOCKD;
}

static const char *
endpoint_environment(const char *name)
{
    const char *value = getenv(name);

    return value != NULL && value[0] != '\0' ? value : NULL;
}

/* What stands in for the last part of blockd's endpoint; false: it is of
 * neither form. */
static bool
endpoint_derive(const char *blockd, char *ret_text, size_t size)
{
    bool is_unix = strncmp(blockd, "unix:", 5) == 0;
    const char *end = strrchr(blockd, is_unix ? '/' : ':');

    if (end == NULL || (!is_unix && strncmp(blockd, "tcp:", 4) != 0)) {
        return false;
    }
    int used = snprintf(ret_text, size, "%.*s%s", (int)(end + 1 - blockd),
                        blockd, is_unix ? NETD_SOCKET : NETD_PORT);
    return used >= 0 && (size_t)used < size;
}

void
cli_find_endpoint(struct cli *cli, const char *given)
{
    const char *blockd = endpoint_environment("WEFT_ENDPOINT");
    const char *netd = endpoint_environment("WEFT_NET_ENDPOINT");

    if (given != NULL) {
        cli->endpoint = given;
    } else if (cli_daemon_of(cli->command) == CLI_BLOCKD) {
        cli->endpoint = blockd != NULL ? blockd : WEFT_DEFAULT_ENDPOINT;
    } else if (netd != NULL) {
        cli->endpoint = netd;
    } else if (blockd != NULL &&
               endpoint_derive(blockd, cli->derived_endpoint,
                               sizeof cli->derived_endpoint)) {
        cli->endpoint = cli->derived_endpoint;
    } else {
        cli->endpoint = WEFT_DEFAULT_NET_ENDPOINT;
    }
}
