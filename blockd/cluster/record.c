/* SPDX-License-Identifier: Apache-2.0 */

/* Durable local records (S22): what this host needs to go on serving a volume
 * after a restart of blockd while the database is away.  One file a volume,
 * <state_dir>/volumes/<uuid>, replaced by rename after fsync.
 *
 * The content is the structure itself behind {magic, version, size, CRC32C}: it
 * is read by the same program on the same machine only, and what does not match
 * exactly is as good as no record: the volume then waits for the database.  A
 * record may be older than the last membership change; the replicas persist
 * their view and refuse, or tell a newer one (S12), so that this is safe. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blockd/cluster/cluster_internal.h"
#include "lib/base/cleanup.h"
#include "lib/base/crc32c.h"

#define RECORD_MAGIC UINT64_C(0x5745465452454331) /* "WEFTREC1" */
#define RECORD_VERSION 1u

struct record_file {
    uint64_t magic;
    uint32_t version, size;
    uint32_t crc, unused;
    struct record record;
};

static int
record_path(const struct cluster *cluster, const struct weft_uuid *volume,
            const char *suffix, char *ret_path, size_t size)
{
    char text[UUID_TEXT_SIZE];
    uuid_format(volume, text);
    int need = snprintf(ret_path, size, "%s/volumes/%s%s", cluster->state_dir,
                        text, suffix);
    return need < 0 || (size_t)need >= size ? -ENAMETOOLONG : 0;
}

static int
record_sync_directory(const struct cluster *cluster)
{
    char path[512];
    int need = snprintf(path, sizeof path, "%s/volumes", cluster->state_dir);
    if (need < 0 || (size_t)need >= sizeof path) {
        return -ENAMETOOLONG;
    }
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int result = fsync(fd) == 0 ? 0 : -errno;
    (void)close(fd);
    return result;
}

static int
record_write_file(const char *path, const struct record_file *file)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return -errno;
    }
    ssize_t written = write(fd, file, sizeof *file);
    int result = 0;
    if (written < 0) {
        result = -errno;
    } else if ((size_t)written != sizeof *file) {
        result = -ENOSPC;
    } else if (fsync(fd) != 0) {
        result = -errno;
    }
    if (close(fd) != 0 && result == 0) {
        result = -errno;
    }
    return result;
}

int
record_write(const struct cluster *cluster, const struct record *record)
{
    char path[512], new_path[512], directory[512];
    struct record_file *file = calloc(1, sizeof *file);
    if (file == NULL) {
        return -ENOMEM;
    }
    file->magic = RECORD_MAGIC;
    file->version = RECORD_VERSION;
    file->size = sizeof *file;
    file->record = *record;
    file->crc = crc32c(0, &file->record, sizeof file->record);

    int result = record_path(cluster, &record->volume, "", path, sizeof path);
    if (result == 0) {
        result = record_path(cluster, &record->volume, ".new", new_path,
                             sizeof new_path);
    }
    if (result == 0) {
        int need = snprintf(directory, sizeof directory, "%s/volumes",
                            cluster->state_dir);
        if (need < 0 || (size_t)need >= sizeof directory) {
            result = -ENAMETOOLONG;
        } else if (mkdir(directory, 0700) != 0 && errno != EEXIST) {
            result = -errno;
        }
    }
    if (result == 0) {
        result = record_write_file(new_path, file);
    }
    if (result == 0 && rename(new_path, path) != 0) {
        result = -errno;
    }
    if (result == 0) {
        result = record_sync_directory(cluster);
    }
    free(file);
    return result;
}

static int
record_read_file(const char *path, struct record *ret_record)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    struct record_file *file = malloc(sizeof *file);
    if (file == NULL) {
        (void)close(fd);
        return -ENOMEM;
    }
    ssize_t got = read(fd, file, sizeof *file);
    int result = got < 0 ? -errno : 0;
    (void)close(fd);
    if (result == 0 &&
        ((size_t)got != sizeof *file || file->magic != RECORD_MAGIC ||
         file->version != RECORD_VERSION || file->size != sizeof *file ||
         file->crc != crc32c(0, &file->record, sizeof file->record) ||
         file->record.mirror_count > VOLUME_MIRRORS_MAX)) {
        result = -EUCLEAN;
    }
    if (result == 0) {
        *ret_record = file->record;
    }
    free(file);
    return result;
}

int
record_read(const struct cluster *cluster, const struct weft_uuid *volume,
            struct record *ret_record)
{
    char path[512];
    int result = record_path(cluster, volume, "", path, sizeof path);

    return result != 0 ? result : record_read_file(path, ret_record);
}

void
record_remove(const struct cluster *cluster, const struct weft_uuid *volume)
{
    char path[512];

    if (record_path(cluster, volume, "", path, sizeof path) == 0) {
        (void)unlink(path); /* None is as well; one too many is harmless. */
    }
}

void
record_for_each(struct cluster *cluster, record_fn *fn)
{
    char directory[400], path[700];
    int need =
        snprintf(directory, sizeof directory, "%s/volumes", cluster->state_dir);
    if (need < 0 || (size_t)need >= sizeof directory) {
        return;
    }
    DIR *dir = opendir(directory);
    struct record *record = malloc(sizeof *record);
    while (dir != NULL && record != NULL) {
        struct dirent *entry = readdir(dir);
        struct weft_uuid volume;
        if (entry == NULL) {
            break;
        }
        if (uuid_parse(entry->d_name, &volume) != 0) {
            continue;
        }
        (void)snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        if (record_read_file(path, record) == 0) {
            fn(cluster, record);
        }
    }
    free(record);
    if (dir != NULL) {
        (void)closedir(dir);
    }
}

void
record_fill(const struct cvolume *cv, struct record *ret_record)
{
    const struct volume_options *options = &cv->pv.options;

    memset(ret_record, 0, sizeof *ret_record);
    ret_record->volume = cv->volume;
    ret_record->instance = cv->instance;
    ret_record->boot_id = cv->cluster->boot_id;
    ret_record->epoch = cv->epoch;
    ret_record->size_bytes = options->size_bytes;
    ret_record->extent_bytes = options->extent_bytes;
    ret_record->slow_ms = options->slow_ns / NS_PER_MS;
    ret_record->min_in_sync = options->min_in_sync;
    ret_record->mirror_count = options->mirror_count;
    ret_record->kind = cv->kind;
    memcpy(ret_record->name, cv->name, sizeof ret_record->name);
    for (uint32_t i = 0; i < options->mirror_count; i++) {
        struct record_mirror *mirror = &ret_record->mirrors[i];
        mirror->row = cv->pv.mirrors[i].row;
        for (uint32_t j = 0; j < mirror->row.replica_count; j++) {
            memcpy(mirror->address[j], cv->pv.replicas[i][j].address,
                   sizeof mirror->address[j]);
        }
    }
}
