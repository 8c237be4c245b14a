/* SPDX-License-Identifier: Apache-2.0 */

/* Replicas on local disks.
 *
 * A replica that a Mirror row places on a disk of ours is created once: a row
 * Replica_Status then says that it exists.  If that row is there and the store
 * has no such replica, it was lost (the disk was replaced, or rolled back): it
 * is never created again behind the owner's back (S12, S13); the owner, whose
 * requests are refused, counts it as stale.  A replica is removed only by a
 * Tombstone whose time has come. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/cluster/cluster_internal.h"
#include "lib/base/container_of.h"
#include "lib/base/log.h"

enum creplica_job {
    CREPLICA_CREATE,
    CREPLICA_REMOVE,
};

/* One creation or removal in work. */
struct creplica {
    struct cluster *cluster;
    struct list node;
    enum creplica_job job;
    struct weft_uuid replica, disk, volume, tombstone;
    struct plane_request request;
    struct state_txn txn;
    char error[256]; /* Not empty: it can never be created. */
};

static bool
creplica_in_work(struct cluster *cluster, const struct weft_uuid *replica)
{
    LIST_FOREACH (node, &cluster->replicas) {
        struct creplica *job = container_of(node, struct creplica, node);
        if (uuid_equal(&job->replica, replica)) {
            return true;
        }
    }
    return false;
}

static void
creplica_free(struct creplica *job)
{
    list_remove(&job->node);
    free(job);
}

static int
creplica_build(struct state_txn *txn, struct state *state)
{
    struct creplica *job = container_of(txn, struct creplica, txn);
    const struct state_replica_status *old =
        state_replica_status_find_by_replica(state, &job->replica);

    if (job->job == CREPLICA_REMOVE) {
        if (old != NULL) {
            state_txn_delete(txn, STATE_TABLE_REPLICA_STATUS, &old->row.uuid);
        }
        state_txn_delete(txn, STATE_TABLE_TOMBSTONE, &job->tombstone);
        return 0;
    }
    if (old != NULL) {
        return STATE_TXN_NOTHING;
    }
    char text[UUID_TEXT_SIZE];
    struct state_replica_status row = {
        .row.table = STATE_TABLE_REPLICA_STATUS,
        .replica = job->replica,
        .host = job->cluster->host,
        .volume = job->volume,
        .disk_uuid = job->disk,
        .state = job->error[0] != '\0' ? STATE_REPLICA_STATUS_STATE_FAILED
                                       : STATE_REPLICA_STATUS_STATE_CREATED,
        .error = job->error,
    };
    uuid_format(&job->replica, text);
    state_uuid_derive(text, "replica_status", &row.row.uuid);
    state_txn_insert(txn, &row.row, STATE_REPLICA_STATUS_COL_ALL);
    return 0;
}

static void
creplica_recorded(struct state_txn *txn, int result)
{
    struct creplica *job = container_of(txn, struct creplica, txn);
    struct cluster *cluster = job->cluster;

    if (result != 0) {
        log_warning("cluster", "replica job not recorded result=%d text=%s",
                    result, txn->error); /* Tried again by the tick. */
    }
    creplica_free(job);
    if (result == 0 || cluster->is_stopping) {
        cluster_touch(cluster);
    }
}

static void
creplica_done(struct hop *hop)
{
    struct plane_request *request =
        container_of(hop, struct plane_request, hop);
    struct creplica *job = container_of(request, struct creplica, request);
    struct cluster *cluster = job->cluster;
    int result = request->req.result;

    if (job->job == CREPLICA_REMOVE && result == -ENXIO) {
        result = 0; /* Removed before. */
    }
    if (result != 0) {
        char disk[UUID_TEXT_SIZE], replica[UUID_TEXT_SIZE];
        char name[CLUSTER_NAME_SIZE];
        uuid_format(&job->disk, disk);
        uuid_format(&job->replica, replica);
        (void)snprintf(name, sizeof name, "hosts/%s/disks/%s", cluster->host,
                       disk);
        cluster_event(cluster, STATE_EVENT_SEVERITY_ERROR, name,
                      "REPLICA_FAILED", "replica %s could not be %s: %s",
                      replica,
                      job->job == CREPLICA_CREATE ? "created" : "removed",
                      strerror(-result));
        if (job->job == CREPLICA_REMOVE || result != -ENOSPC) {
            creplica_free(job); /* Tried again by the tick. */
            if (cluster->is_stopping) {
                cluster_touch(cluster);
            }
            return;
        }
        (void)snprintf(job->error, sizeof job->error,
                       "disk %s has no room for the tables of a replica of "
                       "this size; use larger disks, or a smaller volume",
                       disk);
    }
    job->txn = (struct state_txn){
        .build = creplica_build,
        .done = creplica_recorded,
        .comment = "replica",
        .deadline_ns = loop_now_ns() + CLUSTER_TXN_NS,
        .flags = STATE_TXN_RETRY,
    };
    state_txn_start(cluster->state, &job->txn);
}

static struct creplica *
creplica_new(struct cluster *cluster, enum creplica_job kind,
             struct cdisk *disk, const struct weft_uuid *replica)
{
    struct creplica *job = calloc(1, sizeof *job);
    if (job == NULL) {
        return NULL;
    }
    job->cluster = cluster;
    job->job = kind;
    job->replica = *replica;
    job->disk = disk->disk;
    hop_init(&job->request.hop, cluster->loop, plane_io(disk->plane));
    job->request.store = disk->pd.store;
    job->request.req.replica = *replica;
    job->request.req.deadline_ns = IO_NEVER;
    list_push_back(&cluster->replicas, &job->node);
    return job;
}

static void
replica_create(struct cluster *cluster, struct cdisk *disk,
               const struct state_mirror *mirror,
               const struct weft_uuid *replica)
{
    const struct state_volume *volume =
        state_volume_get(cluster->state, &mirror->volume);
    if (volume == NULL || mirror->in_sync_count > STORE_REPLICAS_MAX) {
        return;
    }
    struct creplica *job =
        creplica_new(cluster, CREPLICA_CREATE, disk, replica);
    if (job == NULL) {
        return;
    }
    struct store_req *req = &job->request.req;
    job->volume = mirror->volume;
    req->opcode = STORE_CREATE;
    req->volume = mirror->volume;
    req->mirror_index = mirror->index;
    req->epoch = (uint32_t)volume->epoch;
    req->size_blocks =
        volume_mirror_bytes(volume->size_bytes, volume->extent_bytes,
                            volume->stripe_width, mirror->index) /
        WEFT_BLOCK_SIZE;
    if (req->size_blocks == 0) {
        req->size_blocks = 1; /* A volume smaller than its stripe. */
    }
    req->membership.epoch = (uint32_t)volume->epoch;
    req->membership.view = mirror->view;
    req->membership.in_sync_count = (uint32_t)mirror->in_sync_count;
    for (size_t i = 0; i < mirror->in_sync_count; i++) {
        req->membership.in_sync[i] = mirror->in_sync[i];
    }
    hop_go(&job->request.hop, plane_request_run, creplica_done);
}

void
replica_consider(struct cluster *cluster, const struct state_mirror *mirror)
{
    for (size_t i = 0; i < mirror->replicas_count; i++) {
        const struct weft_uuid *replica = &mirror->replicas[i].key;
        struct cdisk *disk =
            cdisk_find_serving(cluster, &mirror->replicas[i].value);
        if (disk != NULL && !cluster->is_stopping &&
            !creplica_in_work(cluster, replica) &&
            state_replica_status_find_by_replica(cluster->state, replica) ==
                NULL) {
            replica_create(cluster, disk, mirror, replica);
        }
    }
}

static void
tombstone_consider(struct cluster *cluster,
                   const struct state_tombstone *tombstone, uint64_t now_ms)
{
    struct cdisk *disk = cdisk_find_serving(cluster, &tombstone->disk_uuid);
    if (disk == NULL || now_ms < tombstone->delete_after_ms ||
        creplica_in_work(cluster, &tombstone->replica)) {
        return;
    }
    struct creplica *job =
        creplica_new(cluster, CREPLICA_REMOVE, disk, &tombstone->replica);
    if (job == NULL) {
        return;
    }
    job->tombstone = tombstone->row.uuid;
    job->request.req.opcode = STORE_REMOVE;
    /* The tombstone stands above every owner there was. */
    job->request.req.epoch = UINT32_MAX;
    hop_go(&job->request.hop, plane_request_run, creplica_done);
}

void
replica_consider_all(struct cluster *cluster)
{
    for (const struct state_mirror *mirror =
             state_mirror_next(cluster->state, NULL);
         mirror != NULL; mirror = state_mirror_next(cluster->state, mirror)) {
        replica_consider(cluster, mirror);
    }
}

void
replica_hurry(struct cluster *cluster)
{
    LIST_FOREACH (node, &cluster->replicas) {
        struct creplica *job = container_of(node, struct creplica, node);
        if (!hop_is_away(&job->request.hop)) {
            state_txn_cancel(&job->txn);
        }
    }
}

void
replica_tick(struct cluster *cluster)
{
    uint64_t now_ms = cluster_wall_ms();

    if (cluster->is_stopping) {
        return;
    }
    for (const struct state_tombstone *row =
             state_tombstone_next(cluster->state, NULL);
         row != NULL; row = state_tombstone_next(cluster->state, row)) {
        tombstone_consider(cluster, row, now_ms);
    }
}
