/* SPDX-License-Identifier: Apache-2.0 */

/* Durable local records (S22): what this host needs to go on serving disks and
 * volumes after a restart of blockd while the database is away.  One file each,
 * <state_dir>/volumes/<uuid> and <state_dir>/disks/<uuid>, replaced by rename
 * after fsync.
 *
 * The content is the structure itself behind {magic, version, size, CRC32C}: it
 * is read by the same program on the same machine only, and what does not match
 * exactly is as good as no record: the volume then waits for the database.
 *
 * A record may be older than the row.  If the in-sync set has shrunk since, a
 * replica of the newer view tells (it persisted that before anything was
 * acknowledged under it, S12).  If it has grown, nobody may know: hence a
 * record is marked "pending" before a membership commit is sent, and a volume
 * whose record says so is not resumed. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "blockd/cluster/cluster_internal.h"
#include "lib/base/crc32c.h"
#include "lib/base/log.h"

#define RECORD_MAGIC UINT64_C(0x5745465452454331) /* "WEFTREC1" */
#define RECORD_VERSION 2u
#define RECORD_PATH_SIZE 600

struct record_header {
    uint64_t magic;
    uint32_t version, size;
    uint32_t crc, unused;
};

/* ---- Files of any kind ---- */

static int
record_path(const struct cluster *cluster, const char *kind,
            const struct weft_uuid *uuid, const char *suffix,
            char ret_path[RECORD_PATH_SIZE])
{
    char text[UUID_TEXT_SIZE] = "";
    int need;

    if (uuid != NULL) {
        uuid_format(uuid, text);
    }
    need = snprintf(ret_path, RECORD_PATH_SIZE, "%s/%s/%s%s",
                    cluster->state_dir, kind, text, suffix);
    return need < 0 || need >= RECORD_PATH_SIZE ? -ENAMETOOLONG : 0;
}

static int
record_sync_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int result = fsync(fd) == 0 ? 0 : -errno;
    (void)close(fd);
    return result;
}

static int
record_write_file(const char *path, const void *content, size_t size)
{
    struct record_header header = {
        .magic = RECORD_MAGIC,
        .version = RECORD_VERSION,
        .size = (uint32_t)size,
        .crc = crc32c(0, content, size),
    };
    struct iovec iov[2] = {
        { .iov_base = &header, .iov_len = sizeof header },
        { .iov_base = (void *)(uintptr_t)content, .iov_len = size },
    };
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return -errno;
    }
    ssize_t written = writev(fd, iov, 2);
    int result = 0;
    if (written < 0) {
        result = -errno;
    } else if ((size_t)written != sizeof header + size) {
        result = -ENOSPC;
    } else if (fsync(fd) != 0) {
        result = -errno;
    }
    if (close(fd) != 0 && result == 0) {
        result = -errno;
    }
    return result;
}

static int
record_put(const struct cluster *cluster, const char *kind,
           const struct weft_uuid *uuid, const void *content, size_t size)
{
    char path[RECORD_PATH_SIZE], made[RECORD_PATH_SIZE];
    char directory[RECORD_PATH_SIZE];
    int result = record_path(cluster, kind, uuid, "", path);

    if (result == 0) {
        result = record_path(cluster, kind, uuid, ".new", made);
    }
    if (result == 0) {
        result = record_path(cluster, kind, NULL, "", directory);
    }
    if (result == 0 && mkdir(directory, 0700) != 0 && errno != EEXIST) {
        result = -errno;
    }
    if (result == 0) {
        result = record_write_file(made, content, size);
    }
    if (result == 0 && rename(made, path) != 0) {
        result = -errno;
    }
    return result != 0 ? result : record_sync_directory(directory);
}

/* Reads exactly what record_put() wrote, or fails. */
static int
record_get(const char *path, void *ret_content, size_t size)
{
    struct record_header header;
    struct iovec iov[2] = {
        { .iov_base = &header, .iov_len = sizeof header },
        { .iov_base = ret_content, .iov_len = size },
    };
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    ssize_t got = readv(fd, iov, 2);
    int result = got < 0 ? -errno : 0;
    (void)close(fd);
    if (result == 0 &&
        ((size_t)got != sizeof header + size || header.magic != RECORD_MAGIC ||
         header.version != RECORD_VERSION || header.size != size ||
         header.crc != crc32c(0, ret_content, size))) {
        result = -EUCLEAN;
    }
    return result;
}

static void
record_drop(const struct cluster *cluster, const char *kind,
            const struct weft_uuid *uuid)
{
    char path[RECORD_PATH_SIZE];

    char directory[RECORD_PATH_SIZE];

    if (record_path(cluster, kind, uuid, "", path) == 0 &&
        record_path(cluster, kind, NULL, "", directory) == 0 &&
        unlink(path) == 0) {
        (void)!record_sync_directory(directory);
    }
}

/* What a blockd left that was killed while it wrote a record; nobody writes one
 * while they are gone through. */
static void
record_clean(DIR *dir, const char *name)
{
    char text[UUID_TEXT_SIZE];
    struct weft_uuid uuid;

    if (strlen(name) != UUID_TEXT_SIZE - 1 + strlen(".new") ||
        strcmp(name + UUID_TEXT_SIZE - 1, ".new") != 0) {
        return;
    }
    memcpy(text, name, UUID_TEXT_SIZE - 1);
    text[UUID_TEXT_SIZE - 1] = '\0';
    if (uuid_parse(text, &uuid) == 0) {
        (void)unlinkat(dirfd(dir), name, 0);
    }
}

/* The path of the next record of a kind; false at the end. */
static bool
record_next(const struct cluster *cluster, const char *kind, DIR *dir,
            char ret_path[RECORD_PATH_SIZE])
{
    for (;;) {
        struct dirent *entry = readdir(dir);
        struct weft_uuid uuid;
        if (entry == NULL) {
            return false;
        }
        if (uuid_parse(entry->d_name, &uuid) == 0 &&
            record_path(cluster, kind, &uuid, "", ret_path) == 0) {
            return true;
        }
        record_clean(dir, entry->d_name);
    }
}

static DIR *
record_open_directory(const struct cluster *cluster, const char *kind)
{
    char directory[RECORD_PATH_SIZE];

    return record_path(cluster, kind, NULL, "", directory) == 0
               ? opendir(directory)
               : NULL;
}

/* ---- Volumes ---- */

int
record_write(const struct cluster *cluster, const struct record *record)
{
    return record_put(cluster, "volumes", &record->volume, record,
                      sizeof *record);
}

/* The checksum was right; this is against a mistake of our own. */
static bool
record_is_sane(const struct record *record)
{
    if (record->mirror_count == 0 ||
        record->mirror_count > VOLUME_MIRRORS_MAX ||
        memchr(record->name, '\0', sizeof record->name) == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < record->mirror_count; i++) {
        const struct mirror_row *row = &record->mirrors[i].row;
        if (row->replica_count == 0 ||
            row->replica_count > STORE_REPLICAS_MAX || row->in_sync == 0 ||
            (row->in_sync >> row->replica_count) != 0) {
            return false;
        }
        for (uint32_t j = 0; j < row->replica_count; j++) {
            if (memchr(record->mirrors[i].address[j], '\0', IO_ADDRESS_SIZE) ==
                NULL) {
                return false;
            }
        }
    }
    return true;
}

int
record_read(const struct cluster *cluster, const struct weft_uuid *volume,
            struct record *ret_record)
{
    char path[RECORD_PATH_SIZE];
    int result = record_path(cluster, "volumes", volume, "", path);

    if (result == 0) {
        result = record_get(path, ret_record, sizeof *ret_record);
    }
    return result == 0 && !record_is_sane(ret_record) ? -EUCLEAN : result;
}

void
record_remove(const struct cluster *cluster, const struct weft_uuid *volume)
{
    record_drop(cluster, "volumes", volume);
}

void
record_for_each(struct cluster *cluster, record_fn *fn)
{
    char path[RECORD_PATH_SIZE];
    DIR *dir = record_open_directory(cluster, "volumes");
    struct record *record = malloc(sizeof *record);

    while (dir != NULL && record != NULL &&
           record_next(cluster, "volumes", dir, path)) {
        if (record_get(path, record, sizeof *record) == 0 &&
            record_is_sane(record)) {
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
        const struct state_mirror *row =
            state_mirror_find_by_volume_index(cv->cluster->state, &cv->volume,
                                              i);
        if (row == NULL || !meta_row_from_state(row, &mirror->row)) {
            mirror->row = cv->pv.mirrors[i].row;
        }
        for (uint32_t j = 0; j < mirror->row.replica_count; j++) {
            memcpy(mirror->address[j], cv->pv.replicas[i][j].address,
                   sizeof mirror->address[j]);
        }
    }
}

void
record_save(const struct cvolume *cv, bool is_pending)
{
    if (!cv->is_ready && !cv->live_guest) {
        return;
    }
    struct record *record = malloc(sizeof *record);
    int result = -ENOMEM;

    if (record != NULL) {
        record_fill(cv, record);
        record->is_pending = is_pending;
        result = record_write(cv->cluster, record);
        free(record);
    }
    if (result != 0) {
        log_warning("cluster",
                    "no local record, a restart of blockd will need the "
                    "database volume=%s result=%d",
                    cv->name, result);
        record_remove(cv->cluster, &cv->volume);
    }
}

/* ---- Disks ---- */

int
disk_record_write(const struct cluster *cluster,
                  const struct disk_record *record)
{
    return record_put(cluster, "disks", &record->disk, record, sizeof *record);
}

void
disk_record_remove(const struct cluster *cluster, const struct weft_uuid *disk)
{
    record_drop(cluster, "disks", disk);
}

void
disk_record_for_each(struct cluster *cluster, disk_record_fn *fn)
{
    char path[RECORD_PATH_SIZE];
    DIR *dir = record_open_directory(cluster, "disks");
    struct disk_record record;

    while (dir != NULL && record_next(cluster, "disks", dir, path)) {
        if (record_get(path, &record, sizeof record) == 0 &&
            memchr(record.path, '\0', sizeof record.path) != NULL) {
            fn(cluster, &record);
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
}
