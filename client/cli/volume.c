/* SPDX-License-Identifier: Apache-2.0 */
/* weft volume ..., but for import and export (transfer.c) and the long form of
 * show (volume_show.c). */

#include "client/cli/volume.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/list.h"
#include "client/cli/volume_show.h"
#include "lib/base/units.h"

#define VOLUME_SERVICE (&weft__v1__volume_service__descriptor)
#define VOLUME_WHAT_SIZE (2 * CLI_NAME_SIZE)

/* ---- Calls ---- */

enum cli_exit
volume_do_create(struct cli *cli, const char *name, const char *pool,
                 uint64_t bytes)
{
    Weft__V1__CreateVolumeRequest request =
        WEFT__V1__CREATE_VOLUME_REQUEST__INIT;
    Weft__V1__Volume volume = WEFT__V1__VOLUME__INIT;
    char parent[CLI_NAME_SIZE], id[UUID_TEXT_SIZE], what[VOLUME_WHAT_SIZE];
    enum cli_exit code = cli_check_project(cli, parent);

    if (code != CLI_DONE) {
        return code;
    }
    weft_request_id(id);
    volume.size_bytes = (int64_t)bytes;
    volume.pool = (char *)pool;
    request.parent = parent;
    request.volume_id = (char *)cli_short_name(name);
    request.volume = &volume;
    request.request_id = id;
    snprintf(what, sizeof what, "create volume \"%s\"", cli_short_name(name));
    return cli_operate(cli, VOLUME_SERVICE, "CreateVolume", &request.base, what,
                       NULL);
}

enum cli_exit
volume_do_delete(struct cli *cli, const char *name)
{
    Weft__V1__DeleteVolumeRequest request =
        WEFT__V1__DELETE_VOLUME_REQUEST__INIT;
    char id[UUID_TEXT_SIZE], what[VOLUME_WHAT_SIZE];

    weft_request_id(id);
    request.name = (char *)name;
    request.request_id = id;
    snprintf(what, sizeof what, "delete volume \"%s\"", cli_short_name(name));
    return cli_operate(cli, VOLUME_SERVICE, "DeleteVolume", &request.base, what,
                       NULL);
}

enum cli_exit
volume_do_get(struct cli *cli, const char *name, const char *what,
              Weft__V1__Volume **ret_volume)
{
    Weft__V1__GetVolumeRequest request = WEFT__V1__GET_VOLUME_REQUEST__INIT;
    ProtobufCMessage *reply;

    request.name = (char *)name;
    enum cli_exit code =
        cli_call(cli, VOLUME_SERVICE, "GetVolume", &request.base, what, &reply);
    if (code == CLI_DONE) {
        *ret_volume = (Weft__V1__Volume *)(void *)reply;
    }
    return code;
}

/* Where to connect; NULL if there is no such attachment, or it is not
 * ready. */
static const char *
volume_address(const Weft__V1__Volume *volume, const char *host,
               Weft__V1__ExportKind kind)
{
    for (size_t i = 0; i < volume->n_attachments; i++) {
        const Weft__V1__Attachment *attachment = volume->attachments[i];
        const char *address = kind == WEFT__V1__EXPORT_KIND__NBD
                                  ? attachment->uri
                                  : attachment->socket_path;
        if (strcmp(attachment->host, host) == 0 &&
            attachment->export_kind == kind && address[0] != '\0') {
            return address;
        }
    }
    return NULL;
}

enum cli_exit
volume_do_attach(struct cli *cli, const char *name, const char *host,
                 Weft__V1__ExportKind kind, char **ret_address)
{
    Weft__V1__AttachVolumeRequest request =
        WEFT__V1__ATTACH_VOLUME_REQUEST__INIT;
    Weft__V1__Volume *volume;
    char id[UUID_TEXT_SIZE], what[VOLUME_WHAT_SIZE];

    weft_request_id(id);
    request.name = (char *)name;
    request.host = (char *)host;
    request.export_kind = kind;
    request.request_id = id;
    snprintf(what, sizeof what, "attach volume \"%s\" to host \"%s\"",
             cli_short_name(name), cli_short_name(host));
    enum cli_exit code = cli_operate(cli, VOLUME_SERVICE, "AttachVolume",
                                     &request.base, what, NULL);
    if (code == CLI_DONE) {
        code = volume_do_get(cli, name, what, &volume);
    }
    if (code != CLI_DONE) {
        return code;
    }
    const char *address = volume_address(volume, host, kind);
    if (address != NULL) {
        *ret_address = strdup(address);
        CHECK(*ret_address != NULL);
    } else {
        /* Somebody detached it at once, or the owner just lost it. */
        cli_error("cannot %s: it is not there any more%s%s; look at \"weft "
                  "volume show %s\"",
                  what, volume->state_reason[0] != '\0' ? ": " : "",
                  volume->state_reason, cli_short_name(name));
        code = CLI_FAILED;
    }
    weft_message_free(&volume->base);
    return code;
}

enum cli_exit
volume_do_detach(struct cli *cli, const char *name, bool force)
{
    Weft__V1__DetachVolumeRequest request =
        WEFT__V1__DETACH_VOLUME_REQUEST__INIT;
    char id[UUID_TEXT_SIZE], what[VOLUME_WHAT_SIZE];

    weft_request_id(id);
    request.name = (char *)name;
    request.force = force;
    request.request_id = id;
    snprintf(what, sizeof what, "detach volume \"%s\"", cli_short_name(name));
    return cli_operate(cli, VOLUME_SERVICE, "DetachVolume", &request.base, what,
                       NULL);
}

/* ---- Commands ---- */

static const struct cli_option volume_create_options[] = {
    { "size", 0, "SIZE", "such as 20G; a multiple of 4K (required)" },
    { "pool", 0, "POOL", "the pool that keeps it (required)" },
    { NULL, 0, NULL, NULL },
};

static enum cli_exit
volume_create(struct cli *cli)
{
    char name[CLI_NAME_SIZE], pool[CLI_NAME_SIZE];
    uint64_t bytes;
    enum cli_exit code = cli_check_volume(cli, cli->arguments[0], name);

    if (code != CLI_DONE) {
        return code;
    }
    if (cli_value(cli, "size") == NULL) {
        return cli_usage_error(cli,
                               "--size is missing: say how big volume "
                               "\"%s\" is to be, such as 20G",
                               cli->arguments[0]);
    }
    if (cli_value(cli, "pool") == NULL) {
        return cli_usage_error(cli,
                               "--pool is missing: say which pool is to "
                               "keep volume \"%s\"",
                               cli->arguments[0]);
    }
    code = cli_check_size(cli, "--size", cli_value(cli, "size"),
                          WEFT_BLOCK_SIZE, VOLUME_SIZE_MAX, &bytes);
    if (code == CLI_DONE) {
        code = cli_check_name(cli, "--pool", "pools", cli_value(cli, "pool"),
                              pool);
    }
    return code == CLI_DONE ? volume_do_create(cli, name, pool, bytes) : code;
}

static void
volume_row(struct table *table, const ProtobufCMessage *message)
{
    const Weft__V1__Volume *volume =
        (const Weft__V1__Volume *)(const void *)message;
    const char *reason = volume->held_reason[0] != '\0' ? volume->held_reason
                                                        : volume->state_reason;
    const char *address = "";

    if (volume->n_attachments > 0) {
        const Weft__V1__Attachment *attachment = volume->attachments[0];
        address = attachment->uri[0] != '\0' ? attachment->uri
                                             : attachment->socket_path;
    }
    table_add(table, cli_short_name(volume->name));
    table_add_size(table, volume->size_bytes);
    table_add(table, cli_short_name(volume->pool));
    table_add_enum(table, &weft__v1__volume__state__descriptor,
                   (int)volume->state);
    table_add_enum(table, &weft__v1__volume__health__descriptor,
                   (int)volume->health);
    table_add(table, cli_short_name(volume->owner_host));
    table_add(table, address);
    table_add(table, reason);
}

static enum cli_exit
volume_list(struct cli *cli)
{
    static const char *const header[] = { "NAME",   "SIZE",   "POOL",
                                          "STATE",  "HEALTH", "OWNER",
                                          "EXPORT", "REASON", NULL };
    Weft__V1__ListVolumesRequest request = WEFT__V1__LIST_VOLUMES_REQUEST__INIT;
    char parent[CLI_NAME_SIZE];
    enum cli_exit code = cli_check_project(cli, parent);

    if (code != CLI_DONE) {
        return code;
    }
    request.parent = parent;
    return cli_list(cli,
                    &(const struct cli_list){
                        .service = VOLUME_SERVICE,
                        .method = "ListVolumes",
                        .what = "list volumes",
                        .json = "volumes",
                        .header = header,
                        .row = volume_row,
                    },
                    &request.base);
}

static enum cli_exit
volume_show(struct cli *cli)
{
    Weft__V1__Volume *volume;
    char name[CLI_NAME_SIZE], what[VOLUME_WHAT_SIZE];
    enum cli_exit code = cli_check_volume(cli, cli->arguments[0], name);

    if (code != CLI_DONE) {
        return code;
    }
    snprintf(what, sizeof what, "show volume \"%s\"", cli_short_name(name));
    code = volume_do_get(cli, name, what, &volume);
    if (code == CLI_DONE) {
        cli_show(cli, &volume->base, volume_print);
        weft_message_free(&volume->base);
    }
    return code;
}

static enum cli_exit
volume_delete(struct cli *cli)
{
    char name[CLI_NAME_SIZE];
    enum cli_exit code = cli_check_volume(cli, cli->arguments[0], name);
    return code == CLI_DONE ? volume_do_delete(cli, name) : code;
}

static const struct cli_option volume_attach_options[] = {
    { "host", 0, "HOST", "the host that is to serve it (required)" },
    { "nbd", 0, NULL, "by NBD; prints the URI" },
    { "vhost-user", 0, NULL, "by vhost-user-blk; prints the socket's path" },
    { NULL, 0, NULL, NULL },
};

static enum cli_exit
volume_attach(struct cli *cli)
{
    char name[CLI_NAME_SIZE], host[CLI_NAME_SIZE];
    char *address;
    enum cli_exit code = cli_check_volume(cli, cli->arguments[0], name);

    if (code != CLI_DONE) {
        return code;
    }
    if (cli_value(cli, "host") == NULL) {
        return cli_usage_error(cli,
                               "--host is missing: say which host is to "
                               "serve volume \"%s\"",
                               cli->arguments[0]);
    }
    code = cli_check_name(cli, "--host", "hosts", cli_value(cli, "host"), host);
    if (code != CLI_DONE) {
        return code;
    }
    if (cli_flag(cli, "nbd") == cli_flag(cli, "vhost-user")) {
        return cli_usage_error(cli, "give either --nbd or --vhost-user");
    }
    code = volume_do_attach(cli, name, host,
                            cli_flag(cli, "nbd")
                                ? WEFT__V1__EXPORT_KIND__NBD
                                : WEFT__V1__EXPORT_KIND__VHOST_USER,
                            &address);
    if (code == CLI_DONE) {
        table_print_text(stdout, address);
        fputc('\n', stdout);
        free(address);
    }
    return code;
}

static const struct cli_option volume_detach_options[] = {
    { "force", 0, NULL, "take it from a host that does not answer" },
    { NULL, 0, NULL, NULL },
};

static enum cli_exit
volume_detach(struct cli *cli)
{
    char name[CLI_NAME_SIZE];
    enum cli_exit code = cli_check_volume(cli, cli->arguments[0], name);
    return code == CLI_DONE
               ? volume_do_detach(cli, name, cli_flag(cli, "force"))
               : code;
}

const struct cli_command cli_volume_commands[] = {
    { "volume", "create", "NAME", "Create a volume", volume_create_options,
      volume_create },
    { "volume", "list", "", "List the volumes of the project", NULL,
      volume_list },
    { "volume", "show", "NAME", "Show one volume with its mirrors", NULL,
      volume_show },
    { "volume", "delete", "NAME", "Delete a volume that is not attached", NULL,
      volume_delete },
    { "volume", "attach", "NAME", "Make a host serve a volume",
      volume_attach_options, volume_attach },
    { "volume", "detach", "NAME", "End that", volume_detach_options,
      volume_detach },
    { "volume", "import", "FILE NAME", "Make a volume of a disk image",
      volume_import_options, volume_import },
    { "volume", "export", "NAME FILE", "Make a disk image of a volume",
      volume_export_options, volume_export },
    { .noun = NULL },
};
