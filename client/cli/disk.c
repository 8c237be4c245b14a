/* SPDX-License-Identifier: Apache-2.0 */
/* weft disk ... */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/list.h"
#include "client/cli/words.h"
#include "lib/base/name.h"
#include "lib/base/uuid.h"
#include "proto/weft/v1/disk.pb-c.h"

#define DISK_SERVICE (&weft__v1__disk_service__descriptor)
#define DISK_PATH_MAX 4095u

static const struct cli_option disk_add_options[] = {
    { "host", 0, "HOST", "the host that has it (required)" },
    { "pool", 0, "POOL", "the pool that it is for (any)" },
    { "device-class", 0, "CLASS",
      "hdd, ssd, nvme or file (found out by the host)" },
    { "force", 0, NULL, "overwrite a file system or partition table" },
    { NULL, 0, NULL, NULL },
};

static enum cli_exit
disk_add(struct cli *cli)
{
    Weft__V1__CreateDiskRequest request = WEFT__V1__CREATE_DISK_REQUEST__INIT;
    Weft__V1__Disk disk = WEFT__V1__DISK__INIT;
    char host[CLI_NAME_SIZE], pool[CLI_NAME_SIZE], id[UUID_TEXT_SIZE];
    char what[CLI_NAME_SIZE];
    char *target;
    const char *path = cli->arguments[0];
    enum cli_exit code;

    if (path[0] != '/' || strlen(path) > DISK_PATH_MAX) {
        return cli_usage_error(cli,
                               "PATH \"%.64s\" must be the absolute path of a "
                               "device or file on the host",
                               path);
    }
    if (cli_value(cli, "host") == NULL) {
        return cli_usage_error(cli,
                               "--host is missing: say which host has "
                               "\"%.128s\"",
                               path);
    }
    code = cli_check_name(cli, "--host", "hosts", cli_value(cli, "host"), host);
    if (code == CLI_DONE && cli_value(cli, "pool") != NULL) {
        code = cli_check_name(cli, "--pool", "pools", cli_value(cli, "pool"),
                              pool);
        disk.pool = pool;
    }
    if (code == CLI_DONE && cli_value(cli, "device-class") != NULL) {
        code = cli_check_device_class(cli, cli_value(cli, "device-class"),
                                      &disk.device_class);
    }
    if (code != CLI_DONE) {
        return code;
    }
    weft_request_id(id);
    request.parent = host;
    request.disk = &disk;
    request.request_id = id;
    request.force = cli_flag(cli, "force");
    disk.path = (char *)path;
    snprintf(what, sizeof what, "add disk \"%.128s\" of host \"%s\"", path,
             cli_short_name(host));
    code = cli_operate(cli, DISK_SERVICE, "CreateDisk", &request.base, what,
                       &target);
    if (code == CLI_DONE) {
        printf("%s\n", target);
        free(target);
    }
    return code;
}

static void
disk_row(struct table *table, const ProtobufCMessage *message)
{
    const Weft__V1__Disk *disk = (const Weft__V1__Disk *)(const void *)message;
    char host[NAME_SIZE_MAX + 1] = "";

    sscanf(disk->name, "hosts/%63[^/]", host);
    table_add(table, cli_short_name(disk->name));
    table_add(table, host);
    table_add(table, disk->path);
    table_add(table, cli_short_name(disk->pool));
    table_add_enum(table, &weft__v1__device_class__descriptor,
                   (int)disk->device_class);
    table_add_enum(table, &weft__v1__disk__state__descriptor, (int)disk->state);
    table_add_size(table, disk->size_bytes);
    table_add_size(table, disk->used_bytes);
    table_add_format(table, "%d", (int)disk->replica_count);
    table_add(table, disk->state_reason);
}

static const struct cli_option disk_list_options[] = {
    { "host", 0, "HOST", "only those of one host" },
    { NULL, 0, NULL, NULL },
};

static enum cli_exit
disk_list(struct cli *cli)
{
    static const char *const header[] = { "NAME",     "HOST",   "PATH", "POOL",
                                          "CLASS",    "STATE",  "SIZE", "USED",
                                          "REPLICAS", "REASON", NULL };
    Weft__V1__ListDisksRequest request = WEFT__V1__LIST_DISKS_REQUEST__INIT;
    char parent[CLI_NAME_SIZE] = "hosts/-";

    if (cli_value(cli, "host") != NULL) {
        enum cli_exit code = cli_check_name(cli, "--host", "hosts",
                                            cli_value(cli, "host"), parent);
        if (code != CLI_DONE) {
            return code;
        }
    }
    request.parent = parent;
    return cli_list(cli,
                    &(const struct cli_list){
                        .service = DISK_SERVICE,
                        .method = "ListDisks",
                        .what = "list disks",
                        .json = "disks",
                        .header = header,
                        .row = disk_row,
                    },
                    &request.base);
}

static const struct cli_option disk_remove_options[] = {
    { "host", 0, "HOST", "the host that has it (required)" },
    { NULL, 0, NULL, NULL },
};

static enum cli_exit
disk_remove(struct cli *cli)
{
    Weft__V1__DeleteDiskRequest request = WEFT__V1__DELETE_DISK_REQUEST__INIT;
    char host[CLI_NAME_SIZE], disk[CLI_NAME_SIZE], id[UUID_TEXT_SIZE];
    char name[2 * CLI_NAME_SIZE], what[2 * CLI_NAME_SIZE + 32];
    enum cli_exit code;

    if (cli_value(cli, "host") == NULL) {
        return cli_usage_error(cli, "--host is missing: say which host has "
                                    "the disk");
    }
    code = cli_check_name(cli, "--host", "hosts", cli_value(cli, "host"), host);
    if (code == CLI_DONE) {
        code = cli_check_name(cli, "NAME", "disks", cli->arguments[0], disk);
    }
    if (code != CLI_DONE) {
        return code;
    }
    weft_request_id(id);
    snprintf(name, sizeof name, "%s/%s", host, disk);
    request.name = name;
    request.request_id = id;
    snprintf(what, sizeof what, "remove disk \"%s\"", name);
    return cli_operate(cli, DISK_SERVICE, "DeleteDisk", &request.base, what,
                       NULL);
}

const struct cli_command cli_disk_commands[] = {
    { "disk", "add", "PATH", "Format a device or file and take it into use",
      disk_add_options, disk_add },
    { "disk", "list", "", "List the disks", disk_list_options, disk_list },
    { "disk", "remove", "NAME", "Take a disk out that holds no replicas",
      disk_remove_options, disk_remove },
    { .noun = NULL },
};
