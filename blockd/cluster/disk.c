/* SPDX-License-Identifier: Apache-2.0 */

/* One local disk, from its row to service.  See the states in
 * cluster_internal.h.
 *
 * Rule S13: the superblock remembers {previous, next} durably, then the Disk
 * row is compare-and-set from previous to next, then it is served; so of two
 * hosts that hold the same disk (a moved one, or a copy) one loses and says
 * so. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/cluster/cluster_internal.h"
#include "blockd/cluster/disk_class.h"
#include "lib/base/array.h"
#include "lib/base/container_of.h"
#include "lib/base/log.h"

#define RETRY_NS (5 * NS_PER_S)

#define COUNTER(field, text)                            \
    {                                                   \
        { "weft_disk_" #field, text, METRICS_COUNTER }, \
            offsetof(struct plane_disk, stats.field)    \
    }
#define GAUGE(name, field, text)                    \
    {                                               \
        { "weft_disk_" name, text, METRICS_GAUGE }, \
            offsetof(struct plane_disk, info.field) \
    }

static const struct metric_item cdisk_metrics[] = {
    COUNTER(reads, "Read requests of replicas."),
    COUNTER(writes, "Write requests of replicas."),
    COUNTER(discards, "Discard requests of replicas."),
    COUNTER(flushes, "Flush requests of replicas."),
    COUNTER(read_bytes, "Bytes read by replicas."),
    COUNTER(write_bytes, "Bytes written by replicas."),
    COUNTER(device_write_bytes, "Bytes written to the medium, all told."),
    COUNTER(journal_blocks, "Journal blocks written."),
    COUNTER(journal_records, "Journal records written."),
    COUNTER(device_flushes, "Flushes of the device."),
    COUNTER(checkpoints, "Checkpoints of the slot table."),
    COUNTER(crc_errors, "Blocks read whose checksum was wrong."),
    COUNTER(io_errors, "Operations that the device failed."),
    GAUGE("slots", slots_total, "Slots of the disk."),
    GAUGE("slots_free", slots_free, "Slots that are free."),
    GAUGE("blocks_suspect", blocks_suspect,
          "Blocks to be repaired after a crash."),
    GAUGE("blocks_bad", blocks_bad, "Blocks that are damaged."),
    GAUGE("replicas", replica_count, "Replicas on the disk."),
};

#undef COUNTER
#undef GAUGE

static void cdisk_advance(struct cdisk *disk);
static void cdisk_open(struct cdisk *disk);

static struct cdisk *
cdisk_find(struct cluster *cluster, const struct weft_uuid *uuid)
{
    LIST_FOREACH (node, &cluster->disks) {
        struct cdisk *disk = container_of(node, struct cdisk, node);
        if (uuid_equal(&disk->disk, uuid)) {
            return disk;
        }
    }
    return NULL;
}

struct cdisk *
cdisk_find_serving(struct cluster *cluster, const struct weft_uuid *uuid)
{
    struct cdisk *disk = cdisk_find(cluster, uuid);
    return disk != NULL && disk->state == CDISK_SERVING ? disk : NULL;
}

bool
cdisk_all_gone(const struct cluster *cluster)
{
    return list_is_empty(&cluster->disks);
}

/* ---- What the database is told ---- */

static int
cdisk_status_build(struct state_txn *txn, struct state *state)
{
    struct cdisk *disk = container_of(txn, struct cdisk, status_txn);
    const struct state_disk *known =
        state_disk_find_by_disk_uuid(state, &disk->disk);
    const struct state_disk_status *old =
        state_disk_status_find_by_disk_uuid(state, &disk->disk);
    const struct store_info *info = &disk->info;
    bool serving = disk->state == CDISK_SERVING;
    bool failed = disk->state == CDISK_FAILED || disk->state == CDISK_REFUSED ||
                  (serving && info->failed);
    struct state_disk_status row = {
        .row.table = STATE_TABLE_DISK_STATUS,
        .disk_uuid = disk->disk,
        .host = disk->cluster->host,
        .state = failed    ? STATE_DISK_STATUS_STATE_FAILED
                 : serving ? STATE_DISK_STATUS_STATE_SERVING
                 : disk->state == CDISK_CLOSING || disk->state == CDISK_CLOSED
                     ? STATE_DISK_STATUS_STATE_CLOSED
                     : STATE_DISK_STATUS_STATE_OPENING,
        .error = failed ? (disk->err.text[0] != '\0' ? disk->err.text
                                                     : "the disk has failed")
                        : "",
    };

    if (known == NULL || strcmp(known->host, disk->cluster->host) != 0) {
        return STATE_TXN_NOTHING; /* Deleted, and its status with it. */
    }
    if (serving) {
        uint64_t slot = info->slot_bytes;
        row.free_bytes = info->slots_free * slot;
        row.used_bytes = (info->slots_total - info->slots_free) * slot;
        row.replica_count = (uint32_t)info->replica_count;
        row.replica_max = (uint32_t)info->replica_max;
    }
    if (old == NULL) {
        char text[UUID_TEXT_SIZE];
        uuid_format(&disk->disk, text);
        state_uuid_derive(text, "disk_status", &row.row.uuid);
        state_txn_insert(txn, &row.row, STATE_DISK_STATUS_COL_ALL);
    } else {
        row.row.uuid = old->row.uuid;
        state_txn_update(txn, &row.row,
                         STATE_DISK_STATUS_COL_STATE |
                             STATE_DISK_STATUS_COL_ERROR |
                             STATE_DISK_STATUS_COL_HOST |
                             STATE_DISK_STATUS_COL_FREE_BYTES |
                             STATE_DISK_STATUS_COL_USED_BYTES |
                             STATE_DISK_STATUS_COL_REPLICA_COUNT |
                             STATE_DISK_STATUS_COL_REPLICA_MAX);
    }
    return 0;
}

static void cdisk_report(struct cdisk *disk);
static void cdisk_free(struct cdisk *disk);

static void
cdisk_status_done(struct state_txn *txn, int result)
{
    struct cdisk *disk = container_of(txn, struct cdisk, status_txn);
    (void)result; /* Told again by the tick. */

    disk->status_busy = false;
    if (disk->state == CDISK_CLOSED) {
        cdisk_free(disk);
        return;
    }
    if (disk->status_dirty) {
        cdisk_report(disk);
    }
    cdisk_advance(disk);
}

static void
cdisk_report(struct cdisk *disk)
{
    disk->status_dirty = true;
    if (disk->status_busy) {
        return;
    }
    disk->status_dirty = false;
    disk->status_busy = true;
    disk->status_txn = (struct state_txn){
        .build = cdisk_status_build,
        .done = cdisk_status_done,
        .comment = "disk status",
        .deadline_ns = loop_now_ns() +
                       (disk->cluster->is_stopping ? NS_PER_S : CLUSTER_TXN_NS),
        .flags = STATE_TXN_RETRY,
    };
    state_txn_start(disk->cluster->state, &disk->status_txn);
}

/* The row says "refused", with the reason. */
static int
cdisk_refuse_build(struct state_txn *txn, struct state *state)
{
    struct cdisk *disk = container_of(txn, struct cdisk, txn);
    const struct state_disk *old =
        state_disk_find_by_disk_uuid(state, &disk->disk);

    if (old == NULL || old->state == STATE_DISK_STATE_READY) {
        return STATE_TXN_NOTHING; /* One that was in service stays so. */
    }
    struct state_disk row = { .row = old->row,
                              .state = STATE_DISK_STATE_REFUSED,
                              .error = disk->err.text };
    state_txn_update(txn, &row.row,
                     STATE_DISK_COL_STATE | STATE_DISK_COL_ERROR);
    return 0;
}

static void
cdisk_refuse_done(struct state_txn *txn, int result)
{
    struct cdisk *disk = container_of(txn, struct cdisk, txn);
    (void)result;

    disk->txn_busy = false;
    cdisk_advance(disk);
}

static bool
cdisk_is_leaving(const struct cdisk *disk)
{
    return !disk->is_wanted || disk->is_usurped || disk->cluster->is_stopping;
}

static void
cdisk_fail(struct cdisk *disk, bool refused)
{
    disk->state = refused ? CDISK_REFUSED : CDISK_FAILED;
    disk->retry_ns = loop_now_ns() + RETRY_NS;
    if (cdisk_is_leaving(disk)) {
        return; /* It was closed over our head. */
    }
    char name[CLUSTER_NAME_SIZE], text[UUID_TEXT_SIZE];
    uuid_format(&disk->disk, text);
    (void)snprintf(name, sizeof name, "hosts/%s/disks/%s", disk->cluster->host,
                   text);
    cluster_event(disk->cluster, STATE_EVENT_SEVERITY_ERROR, name,
                  refused ? "DISK_REFUSED" : "DISK_FAILED", "%s",
                  disk->err.text);
    cdisk_report(disk);
    if (refused) {
        const struct state_disk *row =
            state_disk_find_by_disk_uuid(disk->cluster->state, &disk->disk);
        disk->refused_claim =
            row != NULL ? row->claim : (struct weft_uuid){ { 0 } };
        disk->txn_busy = true;
        disk->txn = (struct state_txn){
            .build = cdisk_refuse_build,
            .done = cdisk_refuse_done,
            .comment = "disk refused",
            .deadline_ns = loop_now_ns() + CLUSTER_TXN_NS,
            .flags = STATE_TXN_RETRY,
        };
        state_txn_start(disk->cluster->state, &disk->txn);
    }
}

/* ---- Open, claim, serve ---- */

/* So that it can be served again while the database is away (S22). */
static void
cdisk_record(const struct cdisk *disk)
{
    struct disk_record record = {
        .disk = disk->disk,
        .cloud = disk->cluster->cloud,
        .claim = disk->info.claim_current,
        .boot_id = disk->cluster->boot_id,
    };
    int need = snprintf(record.path, sizeof record.path, "%s", disk->path);
    int result = need < 0 || (size_t)need >= sizeof record.path
                     ? -ENAMETOOLONG
                     : disk_record_write(disk->cluster, &record);

    if (result != 0) {
        log_warning("cluster",
                    "no local record, a restart of blockd will need the "
                    "database path=%s result=%d",
                    disk->path, result);
    }
}

static void
cdisk_published(struct hop *hop)
{
    struct plane_publication *publication =
        container_of(hop, struct plane_publication, hop);
    struct cdisk *disk = container_of(publication, struct cdisk, publication);
    struct plane_disk *pd = &disk->pd;

    if (publication->result != 0) {
        err_set(&disk->err, "%s: no memory to serve it", disk->path);
        cdisk_fail(disk, false);
        cdisk_advance(disk);
        return;
    }
    disk->state = CDISK_SERVING;
    disk->info = pd->info;
    cdisk_record(disk);
    log_info("cluster", "disk in service path=%s slots=%llu free=%llu",
             disk->path, (unsigned long long)pd->info.slots_total,
             (unsigned long long)pd->info.slots_free);
    cdisk_report(disk);
    cdisk_advance(disk);
    replica_consider_all(disk->cluster);
    cluster_touch(disk->cluster); /* Volumes may prefer the local copy. */
}

static void
cdisk_serving(struct hop *hop)
{
    struct plane_disk *pd = container_of(hop, struct plane_disk, hop);
    struct cdisk *disk = container_of(pd, struct cdisk, pd);
    struct plane *plane = disk->cluster->planes[0];

    if (pd->result != 0) {
        disk->err = pd->err;
        cdisk_fail(disk, false);
        cdisk_advance(disk);
        return;
    }
    hop_init(&disk->publication.hop, disk->cluster->loop, plane_io(plane));
    disk->publication.plane = plane;
    disk->publication.disk = disk->disk;
    disk->publication.store = pd->store;
    disk->publication.store_io = plane_io(disk->plane);
    hop_go(&disk->publication.hop, plane_publish, cdisk_published);
}

static int
cdisk_claim_build(struct state_txn *txn, struct state *state)
{
    struct cdisk *disk = container_of(txn, struct cdisk, txn);
    const struct state_disk *old =
        state_disk_find_by_disk_uuid(state, &disk->disk);

    if (old == NULL) {
        return -ENOENT;
    }
    if (uuid_equal(&old->claim, &disk->next_claim)) {
        return STATE_TXN_NOTHING;
    }
    if (!uuid_equal(&old->claim, &disk->row_claim)) {
        return -ESTALE;
    }
    struct state_disk row = {
        .row = old->row,
        .claim = disk->next_claim,
        .state = STATE_DISK_STATE_READY,
        .error = "",
        .size_bytes = disk->info.size_bytes,
        .device_class = old->device_class[0] != '\0'
                            ? old->device_class
                            : disk_class_find(disk->path),
    };
    state_txn_verify(txn, &old->row,
                     STATE_DISK_COL_CLAIM | STATE_DISK_COL_HOST |
                         STATE_DISK_COL_PATH);
    state_txn_update(txn, &row.row,
                     STATE_DISK_COL_CLAIM | STATE_DISK_COL_STATE |
                         STATE_DISK_COL_ERROR | STATE_DISK_COL_SIZE_BYTES |
                         STATE_DISK_COL_DEVICE_CLASS);
    return 0;
}

static void
cdisk_claim_done(struct state_txn *txn, int result)
{
    struct cdisk *disk = container_of(txn, struct cdisk, txn);

    disk->txn_busy = false;
    if (result == -ESTALE) {
        err_set(&disk->err,
                "another host has claimed disk %s in the meantime; it is a "
                "copy or was moved: remove one of them",
                disk->path);
        cdisk_fail(disk, true);
    } else if (result != 0) {
        err_set(&disk->err, "the claim of %s could not be committed: %s",
                disk->path,
                txn->error[0] != '\0' ? txn->error : strerror(-result));
        cdisk_fail(disk, false);
    } else {
        disk->state = CDISK_SETTLING;
        hop_go(&disk->pd.hop, plane_disk_serve, cdisk_serving);
        return;
    }
    cdisk_advance(disk);
}

static void
cdisk_opened(struct hop *hop)
{
    struct plane_disk *pd = container_of(hop, struct plane_disk, hop);
    struct cdisk *disk = container_of(pd, struct cdisk, pd);

    if (pd->result != 0) {
        disk->err = pd->err;
        cdisk_fail(disk, pd->result == -EPERM);
        cdisk_advance(disk);
        return;
    }
    disk->info = pd->info;
    disk->next_claim = pd->next_claim;
    if (cdisk_is_leaving(disk)) {
        disk->state = CDISK_FAILED;
        cdisk_advance(disk);
        return;
    }
    if (pd->is_resume) {
        /* The row said this claim when we last saw it, on this boot. */
        disk->state = CDISK_SETTLING;
        hop_go(&disk->pd.hop, plane_disk_serve, cdisk_serving);
        return;
    }
    disk->state = CDISK_CLAIMING;
    disk->txn_busy = true;
    disk->txn = (struct state_txn){
        .build = cdisk_claim_build,
        .done = cdisk_claim_done,
        .comment = "disk claim",
        .deadline_ns = loop_now_ns() + CLUSTER_TXN_NS,
        .flags = STATE_TXN_RETRY,
    };
    state_txn_start(disk->cluster->state, &disk->txn);
}

static void
cdisk_open_with(struct cdisk *disk, bool may_format)
{
    disk->pd.path = disk->path;
    disk->pd.disk = disk->disk;
    disk->pd.cloud = disk->cluster->cloud;
    disk->pd.boot_id = disk->cluster->boot_id;
    disk->pd.row_claim = disk->row_claim;
    disk->pd.next_claim = disk->next_claim;
    disk->pd.may_format = may_format;
    disk->pd.is_resume = disk->resume;
    disk->pd.assume_nonvolatile = disk->cluster->assume_nonvolatile;
    hop_go(&disk->pd.hop, plane_disk_open, cdisk_opened);
}

static void
cdisk_open(struct cdisk *disk)
{
    const struct state_disk *row =
        state_disk_find_by_disk_uuid(disk->cluster->state, &disk->disk);

    err_clear(&disk->err);
    disk->retry_ns = loop_now_ns() + RETRY_NS;
    if (row == NULL && !disk->resume) {
        disk->state = CDISK_FAILED; /* cdisk_sync_all() closes it. */
        return;
    }
    disk->state = CDISK_OPENING;
    if (row == NULL) { /* By its local record, as before. */
        cdisk_open_with(disk, false);
        return;
    }
    disk->resume = false;
    disk->row_claim = row->claim;
    state_uuid_random(&disk->next_claim);
    disk->pd.force = row->force;
    cdisk_open_with(disk, row->state == STATE_DISK_STATE_ADDING);
}

/* ---- Close ----
 *
 * In order: no peer can reach it any more (unpublish); no volume of ours refers
 * to it (a drop on each plane); the store is closed; the database is told. */

static void
cdisk_free(struct cdisk *disk)
{
    struct cluster *cluster = disk->cluster;

    list_remove(&disk->node);
    metric_set_done(&disk->metrics);
    if (!disk->is_wanted) {
        disk_record_remove(cluster, &disk->disk);
    }
    free(disk->path);
    free(disk);
    cluster_touch(cluster);
}

static void
cdisk_closed(struct hop *hop)
{
    struct plane_disk *pd = container_of(hop, struct plane_disk, hop);
    struct cdisk *disk = container_of(pd, struct cdisk, pd);
    bool is_usurped = disk->is_usurped;

    disk->is_usurped = false;
    disk->state = CDISK_CLOSED;
    if (is_usurped && !cdisk_is_leaving(disk)) {
        disk_record_remove(disk->cluster, &disk->disk);
        cdisk_fail(disk, true);
    } else if (disk->is_wanted &&
               state_status(disk->cluster->state)->is_connected) {
        cdisk_report(disk); /* Then it goes. */
    } else {
        cdisk_free(disk);
    }
}

static void
cdisk_dropped(struct hop *hop)
{
    struct plane_drop *drop = container_of(hop, struct plane_drop, hop);
    struct cdisk *disk = container_of(drop, struct cdisk, drop);
    struct cluster *cluster = disk->cluster;

    if (disk->pd.store == NULL || disk->drop_next == cluster->plane_count) {
        hop_go(&disk->pd.hop, plane_disk_close, cdisk_closed);
        return;
    }
    struct plane *plane = cluster->planes[disk->drop_next++];
    hop_init(&disk->drop.hop, cluster->loop, plane_io(plane));
    disk->drop.plane = plane;
    disk->drop.store = disk->pd.store;
    hop_go(&disk->drop.hop, plane_drop_store, cdisk_dropped);
}

static void
cdisk_unpublished(struct hop *hop)
{
    struct plane_publication *publication =
        container_of(hop, struct plane_publication, hop);
    struct cdisk *disk = container_of(publication, struct cdisk, publication);

    cdisk_dropped(&disk->drop.hop);
}

static void
cdisk_close(struct cdisk *disk)
{
    disk->state = CDISK_CLOSING;
    disk->drop_next = 0;
    if (disk->publication.link != NULL) {
        hop_go(&disk->publication.hop, plane_unpublish, cdisk_unpublished);
    } else {
        cdisk_dropped(&disk->drop.hop);
    }
}

/* Looks whether an unwanted disk can go, and a failed one be tried again. */
static void
cdisk_advance(struct cdisk *disk)
{
    const struct cluster *cluster = disk->cluster;

    if (cluster->is_stopping && !state_status(cluster->state)->is_connected) {
        if (disk->txn_busy) {
            state_txn_cancel(&disk->txn);
        }
        if (disk->status_busy) {
            state_txn_cancel(&disk->status_txn);
        }
    }
    if (hop_is_away(&disk->pd.hop) || hop_is_away(&disk->publication.hop) ||
        disk->txn_busy || disk->status_busy || disk->state == CDISK_CLOSING ||
        disk->state == CDISK_CLOSED) {
        return;
    }
    if (cdisk_is_leaving(disk)) {
        if (!cvolume_all_gone(cluster) && cluster->is_stopping) {
            return; /* Volumes first: they flush. */
        }
        cdisk_close(disk);
        return;
    }
    if (disk->state == CDISK_FAILED && loop_now_ns() >= disk->retry_ns) {
        cdisk_open(disk);
    }
}

/* S13: of two that hold a disk, the one whose claim the row has serves it. Ours
 * was committed before we served; this is for a disk that was resumed without
 * the database, and for an administrator who gave it to another. */
static void
cdisk_check_claim(struct cdisk *disk, const struct state_disk *row)
{
    const struct store_info *info = &disk->info;

    if (disk->state == CDISK_REFUSED &&
        !uuid_equal(&row->claim, &disk->refused_claim)) {
        disk->state = CDISK_FAILED; /* Looked at again. */
        disk->retry_ns = 0;
    }
    if (disk->state != CDISK_SERVING || disk->is_usurped ||
        uuid_equal(&row->claim, &info->claim_current) ||
        (!uuid_is_nil(&info->claim_next) &&
         uuid_equal(&row->claim, &info->claim_next))) {
        return;
    }
    err_set(&disk->err,
            "another host has claimed disk %s; it is a copy or was moved: "
            "remove one of them",
            disk->path);
    disk->is_usurped = true;
}

/* ---- Wanted against actual ---- */

static struct cdisk *
cdisk_new(struct cluster *cluster, const struct weft_uuid *uuid,
          const char *path)
{
    struct cdisk *disk = calloc(1, sizeof *disk);
    if (disk == NULL) {
        return NULL;
    }
    disk->path = strdup(path);
    if (disk->path == NULL) {
        free(disk);
        return NULL;
    }
    disk->cluster = cluster;
    disk->disk = *uuid;
    disk->is_wanted = true;
    disk->plane = cluster->planes[cluster->next_plane];
    disk->pd.plane = disk->plane;
    cluster->next_plane = (cluster->next_plane + 1) % cluster->plane_count;
    hop_init(&disk->pd.hop, cluster->loop, plane_io(disk->plane));
    list_push_back(&cluster->disks, &disk->node);
    metric_set_init(&disk->metrics, cluster->registry, cdisk_metrics,
                    ARRAY_COUNT(cdisk_metrics),
                    (const struct metrics_label[]){ { "path", disk->path },
                                                    { NULL, NULL } });
    return disk;
}

void
cdisk_sync_all(struct cluster *cluster)
{
    LIST_FOREACH (node, &cluster->disks) {
        struct cdisk *disk = container_of(node, struct cdisk, node);
        const struct state_disk *row =
            state_disk_find_by_disk_uuid(cluster->state, &disk->disk);
        if (state_status(cluster->state)->has_contents) {
            disk->is_wanted = row != NULL &&
                              strcmp(row->host, cluster->host) == 0 &&
                              strcmp(row->path, disk->path) == 0;
        }
        if (row != NULL && state_status(cluster->state)->is_connected) {
            cdisk_check_claim(disk, row);
        }
        cdisk_advance(disk); /* May end it. */
    }
    if (cluster->is_stopping || uuid_is_nil(&cluster->cloud)) {
        return;
    }
    for (const struct state_disk *row = state_disk_next(cluster->state, NULL);
         row != NULL; row = state_disk_next(cluster->state, row)) {
        if (strcmp(row->host, cluster->host) == 0 &&
            row->state != STATE_DISK_STATE_REFUSED &&
            cdisk_find(cluster, &row->disk_uuid) == NULL) {
            struct cdisk *disk = cdisk_new(cluster, &row->disk_uuid, row->path);
            if (disk != NULL) {
                cdisk_open(disk);
            }
        }
    }
}

static void
cdisk_inspected(struct hop *hop)
{
    struct plane_disk *pd = container_of(hop, struct plane_disk, hop);
    struct cdisk *disk = container_of(pd, struct cdisk, pd);
    uint64_t free_slots = pd->info.slots_free;
    uint64_t change = free_slots > disk->reported_free
                          ? free_slots - disk->reported_free
                          : disk->reported_free - free_slots;

    disk->info = pd->info;
    metric_set_update(&disk->metrics, pd);
    /* A per cent is enough for placement; people see it within a second. */
    if (change * 100 > pd->info.slots_total ||
        pd->info.replica_count != disk->reported_replicas ||
        pd->info.failed != disk->reported_failed) {
        disk->reported_free = free_slots;
        disk->reported_replicas = pd->info.replica_count;
        disk->reported_failed = pd->info.failed;
        cdisk_report(disk);
    }
    cdisk_advance(disk);
}

void
cdisk_tick(struct cluster *cluster)
{
    LIST_FOREACH (node, &cluster->disks) {
        struct cdisk *disk = container_of(node, struct cdisk, node);
        if (disk->state == CDISK_SERVING && !hop_is_away(&disk->pd.hop) &&
            !cluster->is_stopping) {
            hop_go(&disk->pd.hop, plane_disk_inspect, cdisk_inspected);
        } else {
            cdisk_advance(disk);
        }
    }
}

/* ---- Start without the database (S22) ---- */

static void
cdisk_resume(struct cluster *cluster, const struct disk_record *record)
{
    if (!uuid_equal(&record->boot_id, &cluster->boot_id) ||
        cdisk_find(cluster, &record->disk) != NULL) {
        return; /* After a boot disks may have been moved: ask first (S13). */
    }
    cluster_set_cloud(cluster, &record->cloud);
    struct cdisk *disk = cdisk_new(cluster, &record->disk, record->path);
    if (disk != NULL) {
        disk->resume = true;
        disk->row_claim = record->claim;
        disk->next_claim = record->claim;
        disk->state = CDISK_OPENING;
        cdisk_open_with(disk, false);
    }
}

void
cdisk_resume_all(struct cluster *cluster)
{
    disk_record_for_each(cluster, cdisk_resume);
}

bool
cdisk_all_settled(const struct cluster *cluster)
{
    LIST_FOREACH (node, &cluster->disks) {
        const struct cdisk *disk = container_of(node, struct cdisk, node);
        if (disk->state == CDISK_OPENING || disk->state == CDISK_CLAIMING ||
            disk->state == CDISK_SETTLING) {
            return false;
        }
    }
    return true;
}
