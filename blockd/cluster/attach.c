/* SPDX-License-Identifier: Apache-2.0 */

/* One volume attached to this host, from its Attachment row to a socket that a
 * guest can use, and back.  See the states in cluster_internal.h; claim and
 * release are in attach_claim.c. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/cluster/cluster_internal.h"
#include "lib/base/array.h"
#include "lib/base/container_of.h"
#include "lib/base/log.h"

#define RETRY_NS NS_PER_S
/* How long blockd, when it is to end, waits for volumes that are held. */
#define STOP_FORCE_NS (3 * NS_PER_S)

#define ITEM(field, type, text)                  \
    {                                            \
        { "weft_volume_" #field, text, type },   \
            offsetof(struct plane_report, field) \
    }

static const struct metric_item cvolume_metrics[] = {
    ITEM(reads, METRICS_COUNTER, "Reads of the guest."),
    ITEM(writes, METRICS_COUNTER, "Writes of the guest."),
    ITEM(discards, METRICS_COUNTER, "Discards of the guest."),
    ITEM(flushes, METRICS_COUNTER, "Flushes of the guest."),
    ITEM(repairs, METRICS_COUNTER, "Blocks repaired from another replica."),
    ITEM(crc_errors, METRICS_COUNTER, "Blocks that a replica had wrong."),
    ITEM(replicas_missing, METRICS_GAUGE, "Replicas that are not in sync."),
    ITEM(held, METRICS_GAUGE, "1 while the volume's I/O waits."),
    ITEM(longest_stall_ns, METRICS_GAUGE, "Longest time I/O has waited."),
};

#undef ITEM

static struct cvolume *
cvolume_find(struct cluster *cluster, const struct weft_uuid *volume)
{
    LIST_FOREACH (node, &cluster->volumes) {
        struct cvolume *cv = container_of(node, struct cvolume, node);
        if (uuid_equal(&cv->volume, volume)) {
            return cv;
        }
    }
    return NULL;
}

bool
cvolume_all_gone(const struct cluster *cluster)
{
    return list_is_empty(&cluster->volumes);
}

static void
cvolume_free(struct cvolume *cv)
{
    struct cluster *cluster = cv->cluster;

    meta_free(cv->meta);
    if (!cv->is_wanted && !cluster->is_stopping) {
        record_remove(cluster, &cv->volume); /* No guest is left here. */
    }
    list_remove(&cv->node);
    metric_set_done(&cv->metrics);
    free(cv);
    cluster_touch(cluster);
}

/* ---- Run ---- */

static void
cvolume_fill_replica(struct cvolume *cv, struct plane_replica *replica,
                     const struct weft_uuid *uuid)
{
    struct state *state = cv->cluster->state;
    struct cdisk *local = cdisk_find_serving(cv->cluster, uuid);
    const struct state_disk *disk = state_disk_find_by_disk_uuid(state, uuid);
    const struct state_host *host =
        disk != NULL ? state_host_find_by_name(state, disk->host) : NULL;

    *replica = (struct plane_replica){ .disk = *uuid };
    if (local != NULL) {
        replica->store = local->pd.store;
        replica->store_io = plane_io(local->plane);
    } else if (host != NULL) {
        (void)snprintf(replica->address, sizeof replica->address, "%s",
                       host->address);
    }
}

/* Rows into the shape that the reactor takes. */
static bool
cvolume_fill_mirrors(struct cvolume *cv, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct state_mirror *mirror =
            state_mirror_find_by_volume_index(cv->cluster->state, &cv->volume,
                                              i);
        struct mirror_row *row = &cv->pv.mirrors[i].row;
        if (mirror == NULL || !meta_row_from_state(mirror, row)) {
            return false;
        }
        for (uint32_t j = 0; j < row->replica_count; j++) {
            cvolume_fill_replica(cv, &cv->pv.replicas[i][j], &row->disk[j]);
        }
    }
    return true;
}

struct ready_post {
    struct loop_post post;
    struct cvolume *cv;
    int result;
};

static void
cvolume_is_ready(struct loop_post *post)
{
    struct ready_post *ready = container_of(post, struct ready_post, post);
    struct cvolume *cv = ready->cv;
    int result = ready->result;

    free(ready);
    cv->cluster->jobs_pending--;
    if (result == 0) {
        cv->is_ready = true;
        (void)snprintf(cv->uri, sizeof cv->uri, "%s", cv->pv.uri);
        record_save(cv, false);
        cvolume_set_status(cv, STATE_ATTACHMENT_STATUS_STATE_READY, "");
        cluster_event(cv->cluster, STATE_EVENT_SEVERITY_INFO, cv->resource,
                      "ATTACHED", "epoch %llu, %s",
                      (unsigned long long)cv->epoch, cv->uri);
    } else if (result == -ESTALE) {
        cv->is_lost = true; /* If it still is to be here: claims it anew. */
    } else if (result != -ESHUTDOWN) { /* That is our own stop. */
        char text[200];
        (void)snprintf(text, sizeof text, "cannot be served: %s",
                       strerror(-result));
        cvolume_set_status(cv, STATE_ATTACHMENT_STATUS_STATE_FAILED, text);
    }
    cvolume_report(cv);
    cvolume_advance(cv);
}

/* Reactor: the volume is ready, or will never be. */
static void
cvolume_ready_there(struct plane_volume *pv, int result)
{
    struct cvolume *cv = container_of(pv, struct cvolume, pv);
    struct ready_post *ready = malloc(sizeof *ready); /* Once a volume. */

    CHECK(ready != NULL);
    ready->post.run = cvolume_is_ready;
    ready->cv = cv;
    ready->result = result;
    loop_post_send(cv->cluster->loop, &ready->post);
}

/* Nothing runs; it stays so, for people to see, until it is detached. */
static void
cvolume_fail(struct cvolume *cv, const char *why)
{
    cv->state = CVOLUME_RUNNING;
    cvolume_set_status(cv, STATE_ATTACHMENT_STATUS_STATE_FAILED, why);
}

static void
cvolume_started(struct hop *hop)
{
    struct plane_volume *pv = container_of(hop, struct plane_volume, hop);
    struct cvolume *cv = container_of(pv, struct cvolume, pv);

    cv->state = CVOLUME_RUNNING;
    if (pv->result != 0) {
        cv->cluster->jobs_pending--; /* ready() will not come. */
        cvolume_fail(cv, strerror(-pv->result));
    } else {
        record_save(cv, false); /* A guest that lives on, at the new epoch. */
    }
    cvolume_check_owner(cv);
    cvolume_advance(cv);
}

static void
cvolume_run(struct cvolume *cv)
{
    if (cv->meta == NULL && meta_new(cv, &cv->meta) != 0) {
        cvolume_fail(cv, "no memory");
        return;
    }
    cv->pv.options.meta = meta_table(cv->meta);
    cv->pv.options.uuid = cv->volume;
    cv->pv.options.name = cv->name;
    cv->pv.options.owner_instance = cv->instance;
    cv->pv.options.epoch = (uint32_t)cv->epoch;
    cv->pv.options.clean = cv->clean;
    cv->pv.options.live_guest = cv->live_guest;
    cv->pv.options.resume = cv->resume;
    cv->pv.options.enospc_holds = true;
    cv->pv.options.resync_bytes_per_s = cv->cluster->resync_bytes_per_s;
    cv->pv.cloud = cv->cluster->cloud;
    cv->pv.is_vhost = cv->kind == STATE_ATTACHMENT_KIND_VHOST_USER;
    cv->pv.ready = cvolume_ready_there;
    (void)snprintf(cv->pv.name, sizeof cv->pv.name, "%s", cv->name);
    char text[UUID_TEXT_SIZE];
    uuid_format(&cv->volume, text);
    int size = snprintf(cv->pv.socket, sizeof cv->pv.socket, "%s/vhost-%s.sock",
                        cv->cluster->run_dir, text);
    if (size < 0 || (size_t)size >= sizeof cv->pv.socket) {
        cvolume_fail(cv, "run_dir is too long for a socket's path");
        return;
    }
    cv->state = CVOLUME_STARTING;
    cv->cluster->jobs_pending++; /* For ready(). */
    hop_go(&cv->pv.hop, plane_volume_start, cvolume_started);
}

void
cvolume_start(struct cvolume *cv)
{
    struct state *state = cv->cluster->state;
    const struct state_volume *row = state_volume_get(state, &cv->volume);
    const struct state_pool *pool =
        row != NULL ? state_pool_get(state, &row->pool) : NULL;

    if (row == NULL || pool == NULL ||
        !cvolume_fill_mirrors(cv, row->stripe_width)) {
        cv->state = CVOLUME_WAITING;
        cv->retry_ns = loop_now_ns() + RETRY_NS;
        cvolume_set_status(cv, STATE_ATTACHMENT_STATUS_STATE_ATTACHING,
                           "the volume's rows are incomplete");
        return;
    }
    struct volume_options *options = &cv->pv.options;
    options->size_bytes = row->size_bytes;
    options->extent_bytes = row->extent_bytes;
    options->mirror_count = row->stripe_width;
    options->min_in_sync = pool->min_in_sync;
    options->slow_ns = pool->slow_ms * NS_PER_MS;
    cv->resume = false;
    cvolume_run(cv);
}

/* ---- Stop ---- */

static void
cvolume_stopped(struct hop *hop)
{
    struct plane_volume *pv = container_of(hop, struct plane_volume, hop);
    struct cvolume *cv = container_of(pv, struct cvolume, pv);

    cv->state = CVOLUME_RELEASING;
    cvolume_advance(cv);
}

static void
cvolume_stop(struct cvolume *cv)
{
    cv->state = CVOLUME_STOPPING;
    /* One that has never been ready has nothing to flush, and may be waiting
     * for replicas that do not come. */
    cv->pv.flush = !cv->is_lost && cv->is_ready;
    cv->is_forced = !cv->pv.flush;
    cv->uri[0] = '\0';
    cvolume_set_status(cv, STATE_ATTACHMENT_STATUS_STATE_DETACHING, "");
    hop_go(&cv->pv.hop, plane_volume_stop, cvolume_stopped);
}

static void
cvolume_forced(struct hop *hop)
{
    struct plane_force *force = container_of(hop, struct plane_force, hop);

    cvolume_advance(container_of(force, struct cvolume, force));
}

/* A held volume lets nobody wait for ever: neither a forced detach nor the end
 * of blockd. */
static void
cvolume_consider_force(struct cvolume *cv)
{
    const struct cluster *cluster = cv->cluster;

    if (cv->is_forced ||
        (!cv->is_lost &&
         (!cluster->is_stopping ||
          loop_now_ns() < cluster->stopping_ns + STOP_FORCE_NS))) {
        return;
    }
    log_warning("cluster", "ended without a flush volume=%s", cv->name);
    cv->is_forced = true;
    meta_hurry(cv->meta);
    cv->force.pv = &cv->pv;
    hop_go(&cv->force.hop, plane_volume_force, cvolume_forced);
}

/* ---- All transitions ---- */

/* Neither runs nor is to run. */
static void
cvolume_advance_unwanted(struct cvolume *cv)
{
    bool is_stopping = cv->cluster->is_stopping;
    bool is_connected = state_status(cv->cluster->state)->is_connected;

    if (cv->status_busy) {
        if (is_stopping && !is_connected) {
            state_txn_cancel(&cv->status_txn);
        }
        return;
    }
    if (!is_stopping && (loop_now_ns() < cv->retry_ns || !is_connected)) {
        return;
    }
    if (!is_stopping && cvolume_has_leftover(cv)) {
        cv->state = CVOLUME_RELEASING;
        cvolume_release(cv);
    } else if (cv->is_reported) {
        cvolume_forget(cv);
    } else {
        cvolume_free(cv);
    }
}

static void
cvolume_advance_waiting(struct cvolume *cv)
{
    if (!cv->is_wanted || cv->cluster->is_stopping) {
        cvolume_advance_unwanted(cv);
        return;
    }
    if (loop_now_ns() < cv->retry_ns ||
        !state_status(cv->cluster->state)->is_connected) {
        return;
    }
    const char *obstacle = cvolume_obstacle(cv);
    if (obstacle != NULL) {
        cvolume_set_status(cv, STATE_ATTACHMENT_STATUS_STATE_ATTACHING,
                           obstacle);
        return;
    }
    cvolume_claim(cv);
}

static void
cvolume_advance_releasing(struct cvolume *cv)
{
    if (!cv->is_lost && !cv->is_released) {
        if (loop_now_ns() >= cv->retry_ns || cv->cluster->is_stopping) {
            cvolume_release(cv);
        }
        return;
    }
    if (cv->meta != NULL && !meta_is_idle(cv->meta)) {
        return; /* Its last commits are on their way. */
    }
    meta_free(cv->meta);
    cv->meta = NULL;
    /* Claimed anew after a loss: not in a tight circle. */
    cv->retry_ns = cv->is_lost && cv->is_wanted ? loop_now_ns() + RETRY_NS : 0;
    cv->is_lost = false;
    cv->is_released = false;
    cv->is_ready = false;
    cv->state = CVOLUME_WAITING;
    cvolume_advance_waiting(cv);
}

void
cvolume_advance(struct cvolume *cv)
{
    if (cv->state == CVOLUME_STOPPING && !hop_is_away(&cv->force.hop)) {
        cvolume_consider_force(cv);
    }
    if (cv->txn_busy && cv->cluster->is_stopping &&
        (cv->state == CVOLUME_CLAIMING ||
         !state_status(cv->cluster->state)->is_connected)) {
        state_txn_cancel(&cv->txn);
    }
    if (cv->txn_busy || hop_is_away(&cv->pv.hop) ||
        hop_is_away(&cv->report_hop) || hop_is_away(&cv->force.hop)) {
        return;
    }
    switch (cv->state) {
    case CVOLUME_WAITING:
        cvolume_advance_waiting(cv);
        return;
    case CVOLUME_CLAIMING:
    case CVOLUME_STARTING:
    case CVOLUME_STOPPING:
        return; /* Their callbacks go on. */
    case CVOLUME_RUNNING:
        if (!cv->is_wanted || cv->is_lost || cv->cluster->is_stopping) {
            cvolume_stop(cv);
        }
        return;
    case CVOLUME_RELEASING:
        cvolume_advance_releasing(cv);
        return;
    }
}

/* ---- Wanted against actual ---- */

static struct cvolume *
cvolume_new(struct cluster *cluster, const struct weft_uuid *volume,
            const char *name, enum state_attachment_kind kind)
{
    struct cvolume *cv = calloc(1, sizeof *cv);
    if (cv == NULL) {
        return NULL;
    }
    cv->cluster = cluster;
    cv->volume = *volume;
    cv->kind = kind;
    cv->is_wanted = true;
    (void)snprintf(cv->name, sizeof cv->name, "%s", name);
    const char *slash = strchr(name, '/');
    if (slash != NULL) {
        (void)snprintf(cv->resource, sizeof cv->resource,
                       "projects/%.*s/volumes/%s", (int)(slash - name), name,
                       slash + 1);
    }
    /* The NBD server is on the first reactor; others are spread. */
    uint32_t plane = 0;
    if (kind == STATE_ATTACHMENT_KIND_VHOST_USER) {
        plane = cluster->next_plane;
        cluster->next_plane = (cluster->next_plane + 1) % cluster->plane_count;
    }
    cv->plane = cluster->planes[plane];
    cv->pv.plane = cv->plane;
    hop_init(&cv->pv.hop, cluster->loop, plane_io(cv->plane));
    hop_init(&cv->report_hop, cluster->loop, plane_io(cv->plane));
    hop_init(&cv->force.hop, cluster->loop, plane_io(cv->plane));
    list_push_back(&cluster->volumes, &cv->node);
    metric_set_init(&cv->metrics, cluster->registry, cvolume_metrics,
                    ARRAY_COUNT(cvolume_metrics),
                    (const struct metrics_label[]){ { "volume", cv->name },
                                                    { NULL, NULL } });
    return cv;
}

/* What an earlier blockd of this host has left behind, and nobody wants: the
 * ownership of a volume, a row of status. */
static void
cvolume_adopt(struct cluster *cluster, const struct weft_uuid *uuid)
{
    const struct state_volume *row = state_volume_get(cluster->state, uuid);
    char name[CLUSTER_NAME_SIZE];

    const struct state_attachment *attachment =
        state_attachment_find_by_volume(cluster->state, uuid);

    if (cvolume_find(cluster, uuid) != NULL ||
        (attachment != NULL && strcmp(attachment->host, cluster->host) == 0)) {
        return;
    }
    if (row != NULL) {
        (void)snprintf(name, sizeof name, "%s/%s", row->project, row->name);
    } else {
        uuid_format(uuid, name);
    }
    struct cvolume *cv =
        cvolume_new(cluster, uuid, name, STATE_ATTACHMENT_KIND_NBD);
    if (cv != NULL) {
        cv->is_wanted = false;
        cv->is_reported = true;
        cvolume_advance(cv);
    }
}

static void
cvolume_adopt_all(struct cluster *cluster)
{
    struct state *state = cluster->state;

    for (const struct state_volume *row = state_volume_next(state, NULL);
         row != NULL; row = state_volume_next(state, row)) {
        if (!uuid_is_nil(&row->owner_instance) &&
            strcmp(row->owner_host, cluster->host) == 0) {
            cvolume_adopt(cluster, &row->row.uuid);
        }
    }
    for (const struct state_attachment_status *row =
             state_attachment_status_next(state, NULL);
         row != NULL; row = state_attachment_status_next(state, row)) {
        if (strcmp(row->host, cluster->host) == 0) {
            cvolume_adopt(cluster, &row->volume);
        }
    }
}

void
cvolume_sync_all(struct cluster *cluster)
{
    struct state *state = cluster->state;

    LIST_FOREACH (node, &cluster->volumes) {
        struct cvolume *cv = container_of(node, struct cvolume, node);
        const struct state_attachment *row =
            state_attachment_find_by_volume(state, &cv->volume);
        if (state_status(state)->has_contents) {
            cv->is_wanted = row != NULL && row->kind == cv->kind &&
                            strcmp(row->host, cluster->host) == 0;
        }
        cvolume_check_owner(cv);
        cvolume_advance(cv); /* May end it. */
    }
    if (cluster->is_stopping || uuid_is_nil(&cluster->cloud)) {
        return;
    }
    for (const struct state_attachment *row =
             state_attachment_next(state, NULL);
         row != NULL; row = state_attachment_next(state, row)) {
        const struct state_volume *volume =
            state_volume_get(state, &row->volume);
        if (volume == NULL || strcmp(row->host, cluster->host) != 0 ||
            cvolume_find(cluster, &row->volume) != NULL) {
            continue;
        }
        char name[CLUSTER_NAME_SIZE];
        (void)snprintf(name, sizeof name, "%s/%s", volume->project,
                       volume->name);
        struct cvolume *cv =
            cvolume_new(cluster, &row->volume, name, row->kind);
        if (cv != NULL) {
            cvolume_set_status(cv, STATE_ATTACHMENT_STATUS_STATE_ATTACHING,
                               "claiming the volume");
            cvolume_advance(cv);
        }
    }
    cvolume_adopt_all(cluster);
}

static void
cvolume_updated(struct hop *hop)
{
    struct plane_volume *pv = container_of(hop, struct plane_volume, hop);

    cvolume_advance(container_of(pv, struct cvolume, pv));
}

/* Whether the rows differ from what the reactor was given: other disks, another
 * way to them, or a newer view.  A view is mostly the mirror's own commit,
 * which it knows; but not always (a resumed volume's record may be behind). */
static bool
cvolume_rows_changed(struct cvolume *cv)
{
    for (uint32_t i = 0; i < cv->pv.options.mirror_count; i++) {
        const struct state_mirror *mirror =
            state_mirror_find_by_volume_index(cv->cluster->state, &cv->volume,
                                              i);
        struct mirror_row row;
        if (mirror == NULL || !meta_row_from_state(mirror, &row)) {
            return false;
        }
        const struct mirror_row *old = &cv->pv.mirrors[i].row;
        if (row.view > old->view || row.replica_count != old->replica_count ||
            memcmp(row.replica, old->replica, sizeof row.replica) != 0) {
            return true;
        }
        for (uint32_t j = 0; j < row.replica_count; j++) {
            struct plane_replica now;
            cvolume_fill_replica(cv, &now, &row.disk[j]);
            const struct plane_replica *was = &cv->pv.replicas[i][j];
            if (now.store != was->store ||
                strcmp(now.address, was->address) != 0) {
                return true;
            }
        }
    }
    return false;
}

void
cvolume_check_owner(struct cvolume *cv)
{
    const struct cluster *cluster = cv->cluster;
    const struct state_volume *row =
        state_volume_get(cluster->state, &cv->volume);

    if (cv->is_lost || !state_status(cluster->state)->is_connected ||
        (cv->state != CVOLUME_STARTING && cv->state != CVOLUME_RUNNING &&
         cv->state != CVOLUME_STOPPING)) {
        return;
    }
    if (row != NULL && row->epoch == cv->epoch &&
        uuid_equal(&row->owner_instance, &cv->instance)) {
        return;
    }
    cv->is_lost = true;
    cluster_event(cv->cluster, STATE_EVENT_SEVERITY_WARNING, cv->resource,
                  "OWNER_LOST",
                  "the volume was taken from this host; its I/O here ends");
}

void
cvolume_row_changed(struct cluster *cluster, const struct weft_uuid *volume)
{
    struct cvolume *cv = cvolume_find(cluster, volume);
    if (cv == NULL || cv->state != CVOLUME_RUNNING) {
        return;
    }
    cvolume_check_owner(cv);
    if (cv->is_lost) {
        cvolume_advance(cv);
    } else {
        cvolume_report(cv);
    }
}

/* ---- Every second ---- */

static void
cvolume_report_there(struct hop *hop)
{
    struct cvolume *cv = container_of(hop, struct cvolume, report_hop);

    plane_report_fill(&cv->report);
    hop_return(hop);
}

static void
cvolume_report_back(struct hop *hop)
{
    struct cvolume *cv = container_of(hop, struct cvolume, report_hop);

    cv->seen = cv->report; /* The next report may be under way while we look. */
    metric_set_update(&cv->metrics, &cv->seen);
    if (cv->state == CVOLUME_RUNNING && cv->seen.is_fenced) {
        cv->is_lost = true; /* If it still is to be here: claims it anew. */
    }
    if (cv->state == CVOLUME_RUNNING && cv->seen.is_running) {
        if (cv->seen.is_held) {
            cvolume_set_status(cv, STATE_ATTACHMENT_STATUS_STATE_HELD,
                               cv->seen.reason);
        } else if (cv->status == STATE_ATTACHMENT_STATUS_STATE_HELD) {
            cvolume_set_status(cv,
                               cv->is_ready
                                   ? STATE_ATTACHMENT_STATUS_STATE_READY
                                   : STATE_ATTACHMENT_STATUS_STATE_ATTACHING,
                               "");
        }
        for (uint32_t i = 0; i < cv->pv.options.mirror_count; i++) {
            cv->status_dirty |= cv->seen.mirrors[i].resyncing != 0;
        }
    }
    cvolume_advance(cv);
}

/* What could not be told, or was removed by another hand, is told again. */
static void
cvolume_report_again(struct cvolume *cv)
{
    struct state *state = cv->cluster->state;

    if (!cv->is_wanted || cv->status_busy || cv->cluster->is_stopping ||
        !state_status(state)->is_connected) {
        return;
    }
    if (cv->status_dirty ||
        (cv->is_reported &&
         state_attachment_status_find_by_volume_host(state, &cv->volume,
                                                     cv->cluster->host) ==
             NULL)) {
        cvolume_report(cv);
    }
}

void
cvolume_tick(struct cluster *cluster)
{
    LIST_FOREACH (node, &cluster->volumes) {
        struct cvolume *cv = container_of(node, struct cvolume, node);
        cvolume_report_again(cv);
        if (cv->state != CVOLUME_RUNNING || cluster->is_stopping ||
            !cv->is_wanted || cv->is_lost) {
            cvolume_advance(cv); /* May end it. */
            continue;
        }
        if (hop_is_away(&cv->pv.hop) || hop_is_away(&cv->report_hop)) {
            continue;
        }
        if (state_status(cluster->state)->is_connected &&
            cvolume_rows_changed(cv) &&
            cvolume_fill_mirrors(cv, cv->pv.options.mirror_count)) {
            hop_go(&cv->pv.hop, plane_volume_update, cvolume_updated);
            continue;
        }
        cv->report.pv = &cv->pv;
        hop_go(&cv->report_hop, cvolume_report_there, cvolume_report_back);
    }
}

/* ---- Start without the database (S22) ---- */

static void
cvolume_resume(struct cluster *cluster, const struct record *record)
{
    if (!uuid_equal(&record->boot_id, &cluster->boot_id) ||
        record->is_pending || /* The row may promise more than we know. */
        cvolume_find(cluster, &record->volume) != NULL) {
        return; /* No guest survived the boot: nothing is urgent. */
    }
    struct cvolume *cv =
        cvolume_new(cluster, &record->volume, record->name, record->kind);
    if (cv == NULL) {
        return;
    }
    cv->instance = record->instance;
    cv->epoch = record->epoch;
    cv->live_guest = true;
    cv->resume = true;
    cv->pv.options.size_bytes = record->size_bytes;
    cv->pv.options.extent_bytes = record->extent_bytes;
    cv->pv.options.mirror_count = record->mirror_count;
    cv->pv.options.min_in_sync = record->min_in_sync;
    cv->pv.options.slow_ns = record->slow_ms * NS_PER_MS;
    for (uint32_t i = 0; i < record->mirror_count; i++) {
        const struct record_mirror *mirror = &record->mirrors[i];
        cv->pv.mirrors[i].row = mirror->row;
        for (uint32_t j = 0; j < mirror->row.replica_count; j++) {
            struct plane_replica *replica = &cv->pv.replicas[i][j];
            struct cdisk *local =
                cdisk_find_serving(cluster, &mirror->row.disk[j]);
            replica->disk = mirror->row.disk[j];
            if (local != NULL) {
                replica->store = local->pd.store;
                replica->store_io = plane_io(local->plane);
            }
            (void)snprintf(replica->address, sizeof replica->address, "%s",
                           mirror->address[j]);
        }
    }
    log_warning("cluster", "the database is away; resuming volume=%s",
                cv->name);
    cvolume_run(cv);
}

void
cvolume_resume_all(struct cluster *cluster)
{
    record_for_each(cluster, cvolume_resume);
}

/* Of a volume that is not to be here: detached while no blockd was. */
static void
cvolume_drop_record(struct cluster *cluster, const struct record *record)
{
    const struct state_attachment *row =
        state_attachment_find_by_volume(cluster->state, &record->volume);

    if ((row == NULL || strcmp(row->host, cluster->host) != 0) &&
        cvolume_find(cluster, &record->volume) == NULL) {
        record_remove(cluster, &record->volume);
    }
}

void
cvolume_tidy_records(struct cluster *cluster)
{
    record_for_each(cluster, cvolume_drop_record);
}
