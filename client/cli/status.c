/* SPDX-License-Identifier: Apache-2.0 */
/* weft status: one screen that tells what is wrong and what is being done about
 * it.  Healthy things are counted, others are listed. */

#include <stdio.h>

#include "client/cli/list.h"
#include "proto/weft/v1/status.pb-c.h"

static void
status_database(const Weft__V1__DatabaseStatus *database)
{
    char state[TABLE_TEXT_SIZE];

    if (database == NULL) {
        return;
    }
    table_format_enum(&weft__v1__database_status__state__descriptor,
                      (int)database->state, "", state);
    printf("%-16s %s (%zu server%s configured)", "database:", state,
           database->n_remotes, database->n_remotes == 1 ? "" : "s");
    if (database->state_reason[0] != '\0') {
        fputs(": ", stdout);
        table_print_text(stdout, database->state_reason);
    }
    fputc('\n', stdout);
}

static void
status_hosts(const Weft__V1__ClusterStatus *status)
{
    static const char *const header[] = { "HOST", "STATE", "REASON", NULL };
    struct table table;
    size_t up_count = 0;

    table_init(&table, header);
    for (size_t i = 0; i < status->n_hosts; i++) {
        const Weft__V1__Host *host = status->hosts[i];
        if (host->state == WEFT__V1__HOST__STATE__UP) {
            up_count++;
            continue;
        }
        table_add(&table, cli_short_name(host->name));
        table_add_enum(&table, &weft__v1__host__state__descriptor,
                       (int)host->state);
        table_add(&table, host->state_reason);
    }
    printf("%-16s %zu of %zu up\n", "hosts:", up_count, status->n_hosts);
    if (up_count < status->n_hosts) {
        table_print(&table, stdout);
    }
    table_done(&table);
}

static void
status_net_hosts(const Weft__V1__ClusterStatus *status)
{
    static const char *const header[] = { "NET HOST", "STATE", "REASON", NULL };
    struct table table;
    size_t up_count = 0;

    if (status->n_net_hosts == 0) {
        return;
    }
    table_init(&table, header);
    for (size_t i = 0; i < status->n_net_hosts; i++) {
        const Weft__V1__NetHost *host = status->net_hosts[i];
        if (host->state == WEFT__V1__NET_HOST__STATE__UP) {
            up_count++;
            continue;
        }
        table_add(&table, cli_short_name(host->name));
        table_add_enum(&table, &weft__v1__net_host__state__descriptor,
                       (int)host->state);
        table_add(&table, host->state_reason);
    }
    printf("%-16s %zu of %zu up\n", "net hosts:", up_count,
           status->n_net_hosts);
    if (up_count < status->n_net_hosts) {
        table_print(&table, stdout);
    }
    table_done(&table);
}

static void
status_disks(const Weft__V1__ClusterStatus *status)
{
    static const char *const header[] = { "DISK", "PATH", "STATE", "REASON",
                                          NULL };
    struct table table;
    size_t online_count = 0;
    int64_t size_bytes = 0, used_bytes = 0;
    char size[TABLE_TEXT_SIZE], used[TABLE_TEXT_SIZE];

    table_init(&table, header);
    for (size_t i = 0; i < status->n_disks; i++) {
        const Weft__V1__Disk *disk = status->disks[i];
        if (disk->state == WEFT__V1__DISK__STATE__ONLINE) {
            online_count++;
            size_bytes += disk->size_bytes;
            used_bytes += disk->used_bytes;
            continue;
        }
        table_add(&table, disk->name);
        table_add(&table, disk->path);
        table_add_enum(&table, &weft__v1__disk__state__descriptor,
                       (int)disk->state);
        table_add(&table, disk->state_reason);
    }
    table_format_size((uint64_t)size_bytes, size);
    table_format_size((uint64_t)used_bytes, used);
    printf("%-16s %zu of %zu online, %s of %s used\n", "disks:", online_count,
           status->n_disks, used, size);
    if (online_count < status->n_disks) {
        table_print(&table, stdout);
    }
    table_done(&table);
}

static void
status_degraded(const Weft__V1__ClusterStatus *status)
{
    static const char *const header[] = { "VOLUME",  "MIRROR", "IN-SYNC",
                                          "MISSING", "RESYNC", "REASON",
                                          NULL };
    struct table table;

    if (status->n_degraded_mirrors == 0) {
        return;
    }
    table_init(&table, header);
    for (size_t i = 0; i < status->n_degraded_mirrors; i++) {
        const Weft__V1__DegradedMirror *mirror = status->degraded_mirrors[i];
        const Weft__V1__Progress *progress = mirror->resync_progress;
        table_add(&table, mirror->volume);
        table_add_format(&table, "%d", (int)mirror->mirror_index);
        table_add_format(&table, "%d of %d", (int)mirror->in_sync_count,
                         (int)mirror->replica_count);
        table_add(&table, mirror->n_disks > 0 ? mirror->disks[0] : "");
        if (progress != NULL && progress->total > 0) {
            table_add_format(&table, "%.1f%%",
                             100.0 * (double)progress->done /
                                 (double)progress->total);
        } else {
            table_add(&table, "");
        }
        table_add(&table, mirror->reason);
    }
    printf("\ndegraded mirrors: %d\n", (int)status->degraded_mirror_count);
    table_print(&table, stdout);
    table_done(&table);
}

static void
status_held(const Weft__V1__ClusterStatus *status)
{
    static const char *const header[] = { "VOLUME", "OWNER", "SINCE",
                                          "WAITS FOR", NULL };
    struct table table;

    if (status->n_held_volumes == 0) {
        return;
    }
    table_init(&table, header);
    for (size_t i = 0; i < status->n_held_volumes; i++) {
        const Weft__V1__HeldVolume *volume = status->held_volumes[i];
        table_add(&table, volume->volume);
        table_add(&table, cli_short_name(volume->owner_host));
        table_add_time(&table, volume->time);
        table_add(&table, volume->reason);
    }
    printf("\nheld volumes: %d\n", (int)status->held_volume_count);
    table_print(&table, stdout);
    table_done(&table);
}

static void
status_operations(const Weft__V1__ClusterStatus *status)
{
    static const char *const header[] = { "OPERATION", "TARGET", "MESSAGE",
                                          NULL };
    struct table table;

    if (status->n_operations == 0) {
        return;
    }
    table_init(&table, header);
    for (size_t i = 0; i < status->n_operations; i++) {
        const Weft__V1__Operation *operation = status->operations[i];
        table_add(&table, operation->method);
        table_add(&table, operation->target);
        table_add(&table, operation->message);
    }
    printf("\nunder way: %zu\n", status->n_operations);
    table_print(&table, stdout);
    table_done(&table);
}

static void
status_print(const ProtobufCMessage *message)
{
    const Weft__V1__ClusterStatus *status =
        (const Weft__V1__ClusterStatus *)(const void *)message;
    char text[TABLE_TEXT_SIZE];

    table_format_enum(&weft__v1__cluster_status__health__descriptor,
                      (int)status->health, "", text);
    cli_print_field("health:", text);
    cli_print_field("summary:", status->summary);
    cli_print_field("as seen by:", cli_short_name(status->host));
    status_database(status->database);
    status_hosts(status);
    status_disks(status);
    status_net_hosts(status);
    printf("%-16s %d, %d attached\n", "volumes:", (int)status->volume_count,
           (int)status->attached_volume_count);
    status_degraded(status);
    status_held(status);
    status_operations(status);
}

static enum cli_exit
status_show(struct cli *cli)
{
    Weft__V1__GetStatusRequest request = WEFT__V1__GET_STATUS_REQUEST__INIT;
    ProtobufCMessage *reply;
    enum cli_exit code =
        cli_call(cli, &weft__v1__status_service__descriptor, "GetStatus",
                 &request.base, "get the status", &reply);
    if (code == CLI_DONE) {
        cli_show(cli, reply, status_print);
        weft_message_free(reply);
    }
    return code;
}

const struct cli_command cli_status_commands[] = {
    { "status", NULL, "", "Show how the cluster is", NULL, status_show },
    { .noun = NULL },
};
