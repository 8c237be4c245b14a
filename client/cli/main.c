/* SPDX-License-Identifier: Apache-2.0 */
/* weft: the command line client. */

#include <signal.h>
#include <stdio.h>

#include "client/cli/command.h"

const struct cli_command *const cli_commands[] = {
    cli_host_commands,
    cli_disk_commands,
    cli_pool_commands,
    cli_volume_commands,
    cli_event_commands,
    cli_operation_commands,
    cli_network_commands,
    cli_subnet_commands,
    cli_port_commands,
    cli_router_commands,
    cli_security_group_commands,
    cli_security_rule_commands,
    cli_net_commands,
    cli_status_commands,
    cli_completion_commands,
    NULL,
};

int
main(int argc, char **argv)
{
    struct cli cli;
    enum cli_exit code;

    signal(SIGPIPE, SIG_IGN); /* Told by the failing write below. */
    if (!cli_parse(argc, argv, &cli, &code)) {
        return (int)code;
    }
    cli_interrupt_init();
    code = cli.command->run(&cli);
    cli_interrupt_watch(NULL);
    weft_close(cli.weft);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        cli_error("cannot write to stdout");
        return CLI_FAILED;
    }
    return (int)code;
}
