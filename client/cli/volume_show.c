/* SPDX-License-Identifier: Apache-2.0 */
#include "client/cli/volume_show.h"

#include <inttypes.h>
#include <stdio.h>

#include "client/cli/list.h"
#include "proto/weft/v1/volume.pb-c.h"

static void
show_attachment(const Weft__V1__Attachment *attachment)
{
    char kind[TABLE_TEXT_SIZE], state[TABLE_TEXT_SIZE];

    table_format_enum(&weft__v1__export_kind__descriptor,
                      (int)attachment->export_kind, "", kind);
    table_format_enum(&weft__v1__attachment__state__descriptor,
                      (int)attachment->state, "", state);
    printf("%-16s ", "attached:");
    table_print_text(stdout, cli_short_name(attachment->host));
    printf(" %s %s ", kind, state);
    table_print_text(stdout, attachment->uri[0] != '\0'
                                 ? attachment->uri
                                 : attachment->socket_path);
    if (attachment->state_reason[0] != '\0') {
        fputs(": ", stdout);
        table_print_text(stdout, attachment->state_reason);
    }
    fputc('\n', stdout);
}

static void
show_replica(struct table *table, const Weft__V1__Mirror *mirror,
             const Weft__V1__Replica *replica)
{
    const Weft__V1__Progress *progress = replica->resync_progress;

    table_add_format(table, "%d", (int)mirror->index);
    table_add_format(table, "%" PRId64, mirror->view);
    table_add(table, cli_short_name(replica->host));
    table_add(table, cli_short_name(replica->disk));
    table_add_enum(table, &weft__v1__replica__state__descriptor,
                   (int)replica->state);
    if (progress != NULL && progress->total > 0) {
        table_add_format(table, "%.1f%%",
                         100.0 * (double)progress->done /
                             (double)progress->total);
    } else {
        table_add(table, "");
    }
    table_add(table, replica->state_reason);
}

static void
show_mirrors(const Weft__V1__Volume *volume)
{
    static const char *const header[] = { "MIRROR", "VIEW",   "HOST",   "DISK",
                                          "STATE",  "RESYNC", "REASON", NULL };
    struct table table;

    if (volume->n_mirrors == 0) {
        return;
    }
    table_init(&table, header);
    for (size_t i = 0; i < volume->n_mirrors; i++) {
        const Weft__V1__Mirror *mirror = volume->mirrors[i];
        for (size_t j = 0; j < mirror->n_replicas; j++) {
            show_replica(&table, mirror, mirror->replicas[j]);
        }
    }
    fputc('\n', stdout);
    table_print(&table, stdout);
    table_done(&table);
}

void
volume_print(const ProtobufCMessage *message)
{
    const Weft__V1__Volume *volume =
        (const Weft__V1__Volume *)(const void *)message;
    char text[TABLE_TEXT_SIZE];

    cli_print_field("name:", volume->name);
    cli_print_field("uid:", volume->uid);
    table_format_time(volume->create_time, text);
    cli_print_field("created:", text);
    table_format_size((uint64_t)volume->size_bytes, text);
    printf("%-16s %s (%" PRId64 " bytes)\n", "size:", text, volume->size_bytes);
    cli_print_field("pool:", cli_short_name(volume->pool));
    table_format_enum(&weft__v1__volume__state__descriptor, (int)volume->state,
                      "", text);
    cli_print_field("state:", text);
    cli_print_field("reason:", volume->state_reason);
    table_format_enum(&weft__v1__volume__health__descriptor,
                      (int)volume->health, "", text);
    cli_print_field("health:", text);
    cli_print_field("held:", volume->held_reason);
    table_format_time(volume->held_time, text);
    cli_print_field("held since:", text);
    cli_print_field("owner:", cli_short_name(volume->owner_host));
    printf("%-16s %" PRId64 "\n", "epoch:", volume->epoch);
    for (size_t i = 0; i < volume->n_attachments; i++) {
        show_attachment(volume->attachments[i]);
    }
    show_mirrors(volume);
}
