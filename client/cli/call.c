/* SPDX-License-Identifier: Apache-2.0 */
/* Calls, with what is said when they fail, and while they last. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/cli/command.h"
#include "client/cli/progress.h"
#include "lib/base/container_of.h"
#include "lib/base/units.h"

enum cli_exit
cli_connect(struct cli *cli)
{
    struct err err = { "" };

    if (cli->weft != NULL) {
        return CLI_DONE;
    }
    if (weft_open(cli->endpoint, &cli->weft, &err) < 0) {
        return cli_usage_error(cli, "%s", err.text);
    }
    if (cli->timeout_ns != RPC_NO_TIMEOUT) {
        weft_set_timeout(cli->weft, cli->timeout_ns);
    }
    cli_interrupt_watch(cli->weft);
    return CLI_DONE;
}

enum cli_exit
cli_call(struct cli *cli, const ProtobufCServiceDescriptor *service,
         const char *method, const ProtobufCMessage *request, const char *what,
         ProtobufCMessage **ret_reply)
{
    struct rpc_error error;
    enum cli_exit code = cli_connect(cli);

    if (code != CLI_DONE) {
        return code;
    }
    if (weft_call(cli->weft, service, method, request, ret_reply, &error) < 0) {
        return cli_call_error(cli, what, &error);
    }
    return CLI_DONE;
}

/* Shows an operation that takes its time. */
struct call_wait {
    struct weft_progress progress;
    struct cli_progress bar;
    char message[256]; /* Said last. */
};

static void
call_show(struct weft_progress *progress, const Weft__V1__Operation *operation)
{
    struct call_wait *wait = container_of(progress, struct call_wait, progress);
    if (operation->progress != NULL && operation->progress->total > 0) {
        cli_progress_show(&wait->bar, (uint64_t)operation->progress->done,
                          (uint64_t)operation->progress->total);
    }
    if (!operation->done && operation->message[0] != '\0' &&
        strncmp(operation->message, wait->message, sizeof wait->message - 1) !=
            0) {
        snprintf(wait->message, sizeof wait->message, "%s", operation->message);
        cli_progress_clear(&wait->bar);
        cli_error("waiting: %s", wait->message);
    }
}

enum cli_exit
cli_operate(struct cli *cli, const ProtobufCServiceDescriptor *service,
            const char *method, const ProtobufCMessage *request,
            const char *what, char **ret_target)
{
    struct call_wait wait = { .progress.show = call_show };
    struct rpc_error error;
    ProtobufCMessage *reply;
    enum cli_exit code = cli_call(cli, service, method, request, what, &reply);

    if (code != CLI_DONE) {
        return code;
    }
    Weft__V1__Operation *operation = (Weft__V1__Operation *)(void *)reply;
    cli_progress_init(&wait.bar, what);
    int result = weft_wait(cli->weft, &operation, cli->timeout_ns,
                           &wait.progress, &error);
    cli_progress_clear(&wait.bar);
    if (result < 0) {
        code = cli_call_error(cli, what, &error);
    } else if (ret_target != NULL) {
        *ret_target = strdup(operation->target);
        CHECK(*ret_target != NULL);
    }
    weft_message_free(&operation->base);
    return code;
}
