/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/cluster/disk_class.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* The first character of /sys/dev/block/MAJOR:MINOR/FILE, or '\0'.  A
 * partition has its queue in the directory above. */
static char
disk_class_read(dev_t device, const char *file)
{
    char path[200], content = '\0';

    (void)snprintf(path, sizeof path, "/sys/dev/block/%u:%u/%s", major(device),
                   minor(device), file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return '\0';
    }
    if (read(fd, &content, 1) != 1) {
        content = '\0';
    }
    (void)close(fd);
    return content;
}

const char *
disk_class_find(const char *path)
{
    char link[64], target[512];
    struct stat stat_data;

    if (stat(path, &stat_data) != 0) {
        return "";
    }
    if (S_ISREG(stat_data.st_mode)) {
        return "file";
    }
    if (!S_ISBLK(stat_data.st_mode)) {
        return "";
    }
    (void)snprintf(link, sizeof link, "/sys/dev/block/%u:%u",
                   major(stat_data.st_rdev), minor(stat_data.st_rdev));
    ssize_t size = readlink(link, target, sizeof target - 1);
    if (size > 0) {
        target[size] = '\0';
        if (strstr(target, "/nvme") != NULL) {
            return "nvme";
        }
    }
    char rotational = disk_class_read(stat_data.st_rdev, "queue/rotational");
    if (rotational == '\0') {
        rotational = disk_class_read(stat_data.st_rdev, "../queue/rotational");
    }
    return rotational == '1' ? "hdd" : rotational == '0' ? "ssd" : "";
}
