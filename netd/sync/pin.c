/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/sync/pin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/cleanup.h"

#define PIN_NAME "cloud"
#define PIN_PATH_SIZE 600

static int
write_whole(int fd, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t written = write(fd, bytes, size);
        if (written < 0) {
            if (errno == EINTR) {
                continue;
            }
            return -errno;
        }
        bytes += written;
        size -= (size_t)written;
    }
    return fsync(fd) == 0 ? 0 : -errno;
}

int
pin_replace_file(const char *state_dir, const char *name, const void *bytes,
                 size_t size, struct err *err)
{
    char path[PIN_PATH_SIZE], fresh[PIN_PATH_SIZE + 8];
    int result;

    (void)snprintf(path, sizeof path, "%s/%s", state_dir, name);
    (void)snprintf(fresh, sizeof fresh, "%s.new", path);
    CLEANUP_FD int directory =
        open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP_FD int fd =
        open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    result = directory < 0 || fd < 0 ? -errno : write_whole(fd, bytes, size);
    if (result == 0 && rename(fresh, path) != 0) {
        result = -errno;
    }
    if (result == 0 && fsync(directory) != 0) {
        result = -errno;
    }
    if (result != 0) {
        err_set(err, "%s cannot be written: %s", path, strerror(-result));
    }
    return result;
}

int
pin_read(const char *state_dir, struct weft_uuid *ret_cloud, struct err *err)
{
    char path[PIN_PATH_SIZE], text[UUID_TEXT_SIZE] = "";

    (void)snprintf(path, sizeof path, "%s/" PIN_NAME, state_dir);
    CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        int result = -errno;
        if (result != -ENOENT) {
            err_set(err, "%s cannot be read: %s", path, strerror(errno));
        }
        return result;
    }
    if (read(fd, text, UUID_TEXT_SIZE - 1) != UUID_TEXT_SIZE - 1 ||
        uuid_parse(text, ret_cloud) != 0) {
        err_set(err,
                "%s does not hold a cloud's UUID; restore it, or remove "
                "it to join the cloud of the database anew",
                path);
        return -EINVAL;
    }
    return 0;
}

int
pin_write(const char *state_dir, const struct weft_uuid *cloud, struct err *err)
{
    char text[UUID_TEXT_SIZE];

    uuid_format(cloud, text);
    text[UUID_TEXT_SIZE - 1] = '\n'; /* In place of the NUL. */
    return pin_replace_file(state_dir, PIN_NAME, text, sizeof text, err);
}
