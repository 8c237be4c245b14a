/* SPDX-License-Identifier: Apache-2.0 */
/* weft event ... */

#include <stdio.h>

#include "client/cli/list.h"
#include "client/json.h"
#include "proto/weft/v1/event.pb-c.h"

#define EVENT_SERVICE (&weft__v1__event_service__descriptor)
#define EVENT_COUNT_MAX 100000u
#define EVENT_HISTORY 10

static const struct cli_option event_list_options[] = {
    { "count", 'n', "N", "at most so many, the newest (all)" },
    { "watch", 'w', NULL, "go on with what happens from now on" },
    { NULL, 0, NULL, NULL },
};

static void
event_row(struct table *table, const ProtobufCMessage *message)
{
    const Weft__V1__Event *event =
        (const Weft__V1__Event *)(const void *)message;
    table_add_time(table, event->time);
    table_add_enum(table, &weft__v1__event__severity__descriptor,
                   (int)event->severity);
    table_add(table, event->reason);
    table_add(table, event->subject);
    table_add(table, cli_short_name(event->host));
    table_add(table, event->message);
}

/* One line for each, as they come. */
static void
event_print(const struct cli *cli, const ProtobufCMessage *message)
{
    const Weft__V1__Event *event =
        (const Weft__V1__Event *)(const void *)message;
    char time[TABLE_TEXT_SIZE], severity[TABLE_TEXT_SIZE];

    if (cli->output == CLI_JSON) {
        json_print_line(stdout, message);
        fputc('\n', stdout);
        fflush(stdout);
        return;
    }
    table_format_time(event->time, time);
    table_format_enum(&weft__v1__event__severity__descriptor,
                      (int)event->severity, "", severity);
    printf("%s  %-7s  ", time, severity);
    table_print_text(stdout, event->reason);
    fputs("  ", stdout);
    table_print_text(stdout, event->subject);
    fputs("  ", stdout);
    table_print_text(stdout, event->message);
    fputc('\n', stdout);
    fflush(stdout);
}

static enum cli_exit
event_watch(struct cli *cli, int32_t history_count)
{
    Weft__V1__WatchEventsRequest request = WEFT__V1__WATCH_EVENTS_REQUEST__INIT;
    struct rpc_reader *reader;
    struct rpc_error error;
    ProtobufCMessage *event;
    int result;
    enum cli_exit code = cli_connect(cli);

    if (code != CLI_DONE) {
        return code;
    }
    request.history_count = history_count;
    result = weft_watch(cli->weft, EVENT_SERVICE, "WatchEvents", &request.base,
                        &reader, &error);
    if (result < 0) {
        return cli_call_error(cli, "watch events", &error);
    }
    while ((result = rpc_reader_next(reader, &event, &error)) == 1) {
        event_print(cli, event);
        weft_message_free(event);
        if (ferror(stdout)) {
            break; /* Nobody reads any more. */
        }
    }
    rpc_reader_close(reader);
    if (result < 0 && !cli_is_interrupted()) {
        return cli_call_error(cli, "watch events", &error);
    }
    return CLI_DONE;
}

static enum cli_exit
event_list(struct cli *cli)
{
    static const char *const header[] = { "TIME",    "SEVERITY", "EVENT",
                                          "SUBJECT", "HOST",     "MESSAGE",
                                          NULL };
    Weft__V1__ListEventsRequest request = WEFT__V1__LIST_EVENTS_REQUEST__INIT;
    bool is_watch = cli_flag(cli, "watch");
    uint64_t count = is_watch ? EVENT_HISTORY : 0;

    if (cli_value(cli, "count") != NULL) {
        enum cli_exit code =
            cli_check_number(cli, "--count", cli_value(cli, "count"), 1,
                             is_watch ? 1000 : EVENT_COUNT_MAX, &count);
        if (code != CLI_DONE) {
            return code;
        }
    }
    if (is_watch) {
        return event_watch(cli, (int32_t)count);
    }
    request.page_size = count < 1000 ? (int32_t)count : 1000;
    return cli_list(cli,
                    &(const struct cli_list){
                        .service = EVENT_SERVICE,
                        .method = "ListEvents",
                        .what = "list events",
                        .json = "events",
                        .header = header,
                        .row = event_row,
                        .count_max = count,
                    },
                    &request.base);
}

const struct cli_command cli_event_commands[] = {
    { "event", "list", "", "List what happened, the newest first",
      event_list_options, event_list },
    { .noun = NULL },
};
