/* SPDX-License-Identifier: Apache-2.0 */
/* weft volume import, weft volume export: attach, copy, detach.
 *
 * Whatever was begun is undone when a step fails or the user interrupts: a
 * volume that import created is deleted, an attachment is detached, a file that
 * is not complete is removed. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/transfer.h"
#include "client/cli/volume.h"
#include "lib/base/cleanup.h"
#include "lib/base/units.h"
#include "proto/weft/v1/status.pb-c.h"

#define TRANSFER_LABEL_SIZE 128

const struct cli_option volume_import_options[] = {
    { "pool", 0, "POOL", "the pool that keeps it (required)" },
    { "size", 0, "SIZE", "make the volume bigger than the image" },
    { "host", 0, "HOST", "the host that writes it (the one that is asked)" },
    { NULL, 0, NULL, NULL },
};

const struct cli_option volume_export_options[] = {
    { "format", 0, "raw|qcow2", "form of the image (by its name, or raw)" },
    { "host", 0, "HOST", "the host that reads it (the one that is asked)" },
    { "force", 0, NULL, "replace FILE" },
    { NULL, 0, NULL, NULL },
};

/* --host, or the host that answers at the endpoint. */
static enum cli_exit
transfer_host(struct cli *cli, char ret_host[CLI_NAME_SIZE])
{
    Weft__V1__GetStatusRequest request = WEFT__V1__GET_STATUS_REQUEST__INIT;
    ProtobufCMessage *reply;
    const char *host = cli_value(cli, "host");

    if (host != NULL) {
        return cli_check_name(cli, "--host", "hosts", host, ret_host);
    }
    enum cli_exit code =
        cli_call(cli, &weft__v1__status_service__descriptor, "GetStatus",
                 &request.base, "find a host to attach to", &reply);
    if (code != CLI_DONE) {
        return code;
    }
    const Weft__V1__ClusterStatus *status =
        (const Weft__V1__ClusterStatus *)(const void *)reply;
    snprintf(ret_host, CLI_NAME_SIZE, "%s", status->host);
    weft_message_free(reply);
    if (ret_host[0] == '\0') {
        return cli_usage_error(cli,
                               "--host is missing: \"%s\" does not say "
                               "which host it is",
                               cli->endpoint);
    }
    return CLI_DONE;
}

/* Copies between 'path' and the volume while that is attached. */
static enum cli_exit
transfer_copy(struct cli *cli, const char *name, const char *host,
              const char *path, const char *format, bool is_import)
{
    char label[TRANSFER_LABEL_SIZE];
    char *uri;
    int result;
    enum cli_exit code =
        volume_do_attach(cli, name, host, WEFT__V1__EXPORT_KIND__NBD, &uri);

    if (code == CLI_DONE) {
        /* Not the default cache mode of a target, "unsafe", which would leave
         * out the flush.  A new volume is known to read as zeros. */
        const char *const import[] = { "qemu-img",
                                       "convert",
                                       "-p",
                                       "-n",
                                       "-f",
                                       format,
                                       "-O",
                                       "raw",
                                       "-t",
                                       "writeback",
                                       "--target-is-zero",
                                       "--",
                                       path,
                                       uri,
                                       NULL };
        const char *const export[] = { "qemu-img",  "convert", "-p",   "-f",
                                       "raw",       "-O",      format, "-t",
                                       "writeback", "--",      uri,    path,
                                       NULL };
        snprintf(label, sizeof label, "%s %s",
                 is_import ? "importing" : "exporting", cli_short_name(name));
        result = transfer_run(is_import ? import : export, label);
        free(uri);
        code = result == 0 ? CLI_DONE : CLI_FAILED;
    }
    /* Also after a failed attach: it may have been done all the same. */
    bool was_interrupted = cli_is_interrupted();
    cli_interrupt_clear();
    enum cli_exit detached = volume_do_detach(cli, name, false);
    return code == CLI_DONE && !was_interrupted ? detached : CLI_FAILED;
}

/* ---- Import ---- */

/* The size of the volume for an image. */
static enum cli_exit
import_size(const struct cli *cli, const char *path, uint64_t image_bytes,
            uint64_t *ret_bytes)
{
    const char *size = cli_value(cli, "size");

    if (image_bytes == 0) {
        cli_error("cannot import \"%s\": it is empty", path);
        return CLI_FAILED;
    }
    if (image_bytes > VOLUME_SIZE_MAX) {
        cli_error("cannot import \"%s\": its disk has %llu bytes, more than "
                  "the largest volume of 1P",
                  path, (unsigned long long)image_bytes);
        return CLI_FAILED;
    }
    uint64_t least = units_align_up(image_bytes, WEFT_BLOCK_SIZE);
    *ret_bytes = least;
    return size == NULL ? CLI_DONE
                        : cli_check_size(cli, "--size", size, least,
                                         VOLUME_SIZE_MAX, ret_bytes);
}

enum cli_exit
volume_import(struct cli *cli)
{
    char name[CLI_NAME_SIZE], pool[CLI_NAME_SIZE], host[CLI_NAME_SIZE];
    const char *path = cli->arguments[0];
    const char *format;
    uint64_t image_bytes, bytes;
    enum cli_exit code = cli_check_volume(cli, cli->arguments[1], name);

    if (code != CLI_DONE) {
        return code;
    }
    if (cli_value(cli, "pool") == NULL) {
        return cli_usage_error(cli,
                               "--pool is missing: say which pool is to "
                               "keep volume \"%s\"",
                               cli->arguments[1]);
    }
    code = cli_check_name(cli, "--pool", "pools", cli_value(cli, "pool"), pool);
    if (code != CLI_DONE) {
        return code;
    }
    if (transfer_probe(path, &format, &image_bytes) < 0) {
        return CLI_FAILED;
    }
    code = import_size(cli, path, image_bytes, &bytes);
    if (code == CLI_DONE) {
        code = transfer_host(cli, host);
    }
    if (code == CLI_DONE) {
        code = volume_do_create(cli, name, pool, bytes);
    }
    if (code != CLI_DONE) {
        return code;
    }
    code = transfer_copy(cli, name, host, path, format, true);
    if (code != CLI_DONE) {
        cli_error("volume \"%s\" is deleted again", cli_short_name(name));
        enum cli_exit deleted = volume_do_delete(cli, name);
        (void)deleted; /* Said by itself; the outcome is a failure anyway. */
    }
    return code;
}

/* ---- Export ---- */

static enum cli_exit
export_format(const struct cli *cli, const char *path, const char **ret_format)
{
    static const char *const words[] = { "raw", "qcow2", NULL };
    const char *given = cli_value(cli, "format");
    size_t size = strlen(path);
    uint32_t index = 0;
    enum cli_exit code = CLI_DONE;

    if (given != NULL) {
        code = cli_check_word(cli, "--format", given, words, &index);
    } else if (size > 6 && strcmp(path + size - 6, ".qcow2") == 0) {
        index = 1;
    }
    *ret_format = words[index];
    return code;
}

/* Refuses what is attached: detaching it at the end would cut its user off. */
static enum cli_exit
export_check_free(struct cli *cli, const char *name)
{
    char what[CLI_NAME_SIZE + 32];
    Weft__V1__Volume *volume;

    snprintf(what, sizeof what, "export volume \"%s\"", cli_short_name(name));
    enum cli_exit code = volume_do_get(cli, name, what, &volume);
    if (code != CLI_DONE) {
        return code;
    }
    if (volume->n_attachments > 0) {
        cli_error("cannot %s: it is in use on host \"%s\"; detach it first",
                  what, cli_short_name(volume->attachments[0]->host));
        code = CLI_FAILED;
    }
    weft_message_free(&volume->base);
    return code;
}

/* Makes the complete image durable and gives it its name. */
static enum cli_exit
export_publish(const char *part, const char *path)
{
    CLEANUP_FD int fd = open(part, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0 || rename(part, path) < 0) {
        cli_error("cannot write \"%s\": %s", path, strerror(errno));
        return CLI_FAILED;
    }
    return CLI_DONE;
}

enum cli_exit
volume_export(struct cli *cli)
{
    char name[CLI_NAME_SIZE], host[CLI_NAME_SIZE];
    const char *path = cli->arguments[1];
    const char *format;
    CLEANUP_FREE char *part = NULL;
    enum cli_exit code = cli_check_volume(cli, cli->arguments[0], name);

    if (code == CLI_DONE) {
        code = export_format(cli, path, &format);
    }
    if (code != CLI_DONE) {
        return code;
    }
    if (access(path, F_OK) == 0 && !cli_flag(cli, "force")) {
        cli_error("\"%s\" exists; choose another name, or give --force", path);
        return CLI_FAILED;
    }
    if (asprintf(&part, "%s.weft-part", path) < 0) {
        part = NULL;
        cli_error("out of memory");
        return CLI_FAILED;
    }
    code = export_check_free(cli, name);
    if (code == CLI_DONE) {
        code = transfer_host(cli, host);
    }
    if (code != CLI_DONE) {
        return code;
    }
    code = transfer_copy(cli, name, host, part, format, false);
    if (code == CLI_DONE) {
        code = export_publish(part, path);
    }
    if (code != CLI_DONE) {
        unlink(part);
    }
    return code;
}
