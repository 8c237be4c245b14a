/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/cluster/cluster.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "blockd/cluster/cluster_internal.h"
#include "lib/base/container_of.h"
#include "lib/base/log.h"

#define TICK_NS NS_PER_S
/* How long to wait for the database at start before local records count. */
#define RESUME_AFTER_NS (2 * NS_PER_S)

static state_change_fn cluster_changed;
static state_listener_fn cluster_batch_end;
static state_listener_fn cluster_status_changed;
static loop_timer_fn cluster_tick;
static void cluster_maybe_stopped(struct cluster *cluster);
static void cluster_hurry(struct cluster *cluster);

uint64_t
cluster_wall_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / NS_PER_MS;
}

struct state *
cluster_state(struct cluster *cluster)
{
    return cluster->state;
}

const char *
cluster_host(const struct cluster *cluster)
{
    return cluster->host;
}

/* ---- Birth ---- */

static int
cluster_read_boot_id(struct weft_uuid *ret_uuid)
{
    char text[UUID_TEXT_SIZE] = "";
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    ssize_t got = read(fd, text, sizeof text - 1);
    (void)close(fd);
    return got == UUID_TEXT_SIZE - 1 ? uuid_parse(text, ret_uuid) : -EINVAL;
}

static void
cluster_free_parts(struct cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->plane_count; i++) {
        plane_free(cluster->planes[i]);
    }
    host_keeper_free(cluster);
    manager_free(cluster);
    free(cluster->host);
    free(cluster->rack);
    free(cluster->peer_address);
    free(cluster->api_endpoint);
    free(cluster->run_dir);
    free(cluster->state_dir);
    free(cluster->version);
    free(cluster);
}

static int
cluster_copy_texts(struct cluster *cluster,
                   const struct cluster_options *options)
{
    cluster->host = strdup(options->host);
    cluster->rack = strdup(options->rack);
    cluster->api_endpoint = strdup(options->api_endpoint);
    cluster->run_dir = strdup(options->run_dir);
    cluster->state_dir = strdup(options->state_dir);
    cluster->version = strdup(options->version);
    return cluster->host != NULL && cluster->rack != NULL &&
                   cluster->api_endpoint != NULL && cluster->run_dir != NULL &&
                   cluster->state_dir != NULL && cluster->version != NULL
               ? 0
               : -ENOMEM;
}

static int
cluster_make_planes(struct cluster *cluster,
                    const struct cluster_options *options, struct err *err)
{
    char nbd_unix[IO_ADDRESS_SIZE];
    int need = snprintf(nbd_unix, sizeof nbd_unix, "unix:%s/nbd.sock",
                        options->run_dir);
    if (need < 0 || (size_t)need >= sizeof nbd_unix) {
        err_set(err, "run_dir \"%s\" is too long for a socket's path",
                options->run_dir);
        return -ENAMETOOLONG;
    }
    for (uint32_t i = 0; i < options->reactor_count; i++) {
        struct plane_options plane = {
            .loop = options->loop,
            .io = options->reactors[i],
            .peer_listen = i == 0 ? options->peer_listen : NULL,
            .nbd_listen = i == 0 ? options->nbd_listen : NULL,
            .nbd_unix = i == 0 ? nbd_unix : NULL,
            .host = options->host,
            .instance = cluster->instance,
            .spin_us = options->spin_us,
        };
        int result = plane_new(&plane, err, &cluster->planes[i]);
        if (result != 0) {
            return result;
        }
        cluster->plane_count++;
    }
    cluster->peer_address =
        strdup(options->peer_address[0] != '\0'
                   ? options->peer_address
                   : plane_peer_address(cluster->planes[0]));
    return cluster->peer_address != NULL ? 0 : -ENOMEM;
}

int
cluster_new(const struct cluster_options *options, struct err *err,
            struct cluster **ret_cluster)
{
    CHECK(options->reactor_count >= 1);
    CHECK(options->reactor_count <= CLUSTER_REACTORS_MAX);

    struct cluster *cluster = calloc(1, sizeof *cluster);
    if (cluster == NULL) {
        return -ENOMEM;
    }
    cluster->loop = options->loop;
    cluster->registry = options->registry;
    cluster->state = options->state;
    cluster->manager_state = options->manager;
    cluster->assume_nonvolatile = options->assume_nonvolatile;
    cluster->resync_bytes_per_s = options->resync_bytes_per_s;
    cluster->started_ns = loop_now_ns();
    list_init(&cluster->disks);
    list_init(&cluster->volumes);
    list_init(&cluster->replicas);
    list_init(&cluster->events);
    state_uuid_random(&cluster->instance);
    loop_timer_init(&cluster->tick, cluster_tick);

    int result = cluster_read_boot_id(&cluster->boot_id);
    if (result != 0) {
        err_set(err, "the boot id cannot be read from /proc: %s",
                strerror(-result));
    }
    if (result == 0) {
        result = cluster_copy_texts(cluster, options);
    }
    if (result == 0) {
        result = host_keeper_new(cluster);
    }
    if (result == 0) {
        result = manager_new(cluster);
    }
    if (result == 0) {
        result = cluster_make_planes(cluster, options, err);
    }
    if (result != 0) {
        cluster_free_parts(cluster);
        return result;
    }
    cluster->listener = (struct state_listener){
        .change = cluster_changed,
        .end = cluster_batch_end,
        .status = cluster_status_changed,
    };
    state_subscribe(cluster->state, &cluster->listener,
                    STATE_TABLE_BIT(STATE_TABLE_GLOBAL) |
                        STATE_TABLE_BIT(STATE_TABLE_HOST) |
                        STATE_TABLE_BIT(STATE_TABLE_DISK) |
                        STATE_TABLE_BIT(STATE_TABLE_VOLUME) |
                        STATE_TABLE_BIT(STATE_TABLE_MIRROR) |
                        STATE_TABLE_BIT(STATE_TABLE_REPLICA_STATUS) |
                        STATE_TABLE_BIT(STATE_TABLE_ATTACHMENT) |
                        STATE_TABLE_BIT(STATE_TABLE_TOMBSTONE));
    loop_timer_set(cluster->loop, &cluster->tick, loop_now_ns() + TICK_NS / 5);
    *ret_cluster = cluster;
    return 0;
}

/* ---- The listener ---- */

struct cluster_cloud {
    struct cluster *cluster;
    struct plane_cloud set;
};

static void
cluster_cloud_set(struct hop *hop)
{
    struct plane_cloud *set = container_of(hop, struct plane_cloud, hop);
    struct cluster_cloud *job = container_of(set, struct cluster_cloud, set);

    job->cluster->jobs_pending--;
    free(job);
}

void
cluster_set_cloud(struct cluster *cluster, const struct weft_uuid *cloud)
{
    if (!uuid_is_nil(&cluster->cloud)) {
        return;
    }
    cluster->cloud = *cloud;
    cluster->jobs_pending += cluster->plane_count;
    for (uint32_t i = 0; i < cluster->plane_count; i++) {
        struct cluster_cloud *job = calloc(1, sizeof *job);
        CHECK(job != NULL);
        struct plane_cloud *set = &job->set;
        job->cluster = cluster;
        hop_init(&set->hop, cluster->loop, plane_io(cluster->planes[i]));
        set->plane = cluster->planes[i];
        set->cloud = *cloud;
        hop_go(&set->hop, plane_set_cloud, cluster_cloud_set);
    }
}

/* The database's cloud; once known it must stay the same: with another one's
 * rows nothing here may be changed or closed. */
static void
cluster_learn_cloud(struct cluster *cluster)
{
    const struct state_global *global = state_global_next(cluster->state, NULL);

    if (global == NULL) {
        return;
    }
    cluster_set_cloud(cluster, &global->cloud_uuid);
    bool is_foreign = !uuid_equal(&global->cloud_uuid, &cluster->cloud);
    if (is_foreign && !cluster->is_foreign) {
        log_error("cluster", "this is the database of another cloud; what "
                             "runs here goes on, nothing else is done");
    }
    cluster->is_foreign = is_foreign;
}

static void
cluster_changed(struct state_listener *listener,
                const struct state_change *change)
{
    struct cluster *cluster = container_of(listener, struct cluster, listener);

    if (change->table == STATE_TABLE_MIRROR) {
        if (change->new_row != NULL) {
            const struct state_mirror *row = state_mirror_from(change->new_row);
            replica_consider(cluster, row);
            cvolume_row_changed(cluster, &row->volume);
        }
        return;
    }
    if (change->table == STATE_TABLE_VOLUME) {
        cvolume_row_changed(cluster, change->new_row != NULL
                                         ? &change->new_row->uuid
                                         : &change->old_row->uuid);
    }
    cluster->dirty = true;
}

static void
cluster_sync(struct cluster *cluster)
{
    cluster->dirty = false;
    if (cluster->is_stopped) {
        return;
    }
    cluster_learn_cloud(cluster);
    if (!cluster->is_foreign) {
        host_keeper_sync(cluster);
    }
    if (cluster->is_stopping ||
        (state_status(cluster->state)->has_contents && !cluster->is_foreign)) {
        cdisk_sync_all(cluster);
        cvolume_sync_all(cluster);
        if (!cluster->records_tidied && !cluster->is_stopping) {
            cluster->records_tidied = true;
            cvolume_tidy_records(cluster);
        }
    }
    cluster_maybe_stopped(cluster);
}

static void
cluster_batch_end(struct state_listener *listener)
{
    struct cluster *cluster = container_of(listener, struct cluster, listener);

    if (cluster->dirty) {
        cluster_sync(cluster);
    }
}

static void
cluster_status_changed(struct state_listener *listener)
{
    struct cluster *cluster = container_of(listener, struct cluster, listener);
    const struct state_status *status = state_status(cluster->state);

    if (!status->is_connected && status->has_contents) {
        log_warning("cluster",
                    "database lost; running volumes go on, changes wait");
    }
    cluster_touch(cluster);
}

void
cluster_touch(struct cluster *cluster)
{
    cluster->dirty = true;
    if (!cluster->is_stopped) {
        loop_timer_set(cluster->loop, &cluster->tick, loop_now_ns());
    }
}

/* No database since the start: first the disks, then the volumes. */
static void
cluster_resume(struct cluster *cluster)
{
    if (!cluster->disks_resumed) {
        cluster->disks_resumed = true;
        cdisk_resume_all(cluster);
    } else if (!cluster->resumed && cdisk_all_settled(cluster)) {
        cluster->resumed = true;
        cvolume_resume_all(cluster);
    }
}

static void
cluster_tick(struct loop_timer *timer)
{
    struct cluster *cluster = container_of(timer, struct cluster, tick);
    const struct state_status *status = state_status(cluster->state);

    loop_timer_set(cluster->loop, &cluster->tick, loop_now_ns() + TICK_NS);
    cluster_sync(cluster);
    if (cluster->is_stopped) {
        return;
    }
    cdisk_tick(cluster);
    cvolume_tick(cluster);
    if (cluster->is_stopping) {
        cluster_hurry(cluster);
    } else if (status->has_contents && !cluster->is_foreign) {
        replica_tick(cluster);
        replica_consider_all(cluster);
        manager_tick(cluster);
    } else if (loop_now_ns() > cluster->started_ns + RESUME_AFTER_NS) {
        cluster_resume(cluster);
    }
    cluster_maybe_stopped(cluster);
}

/* ---- The end ---- */

/* What waits for a database that is away is not waited for.  The manager's
 * work can always be left to another. */
static void
cluster_hurry(struct cluster *cluster)
{
    manager_hurry(cluster);
    if (!state_status(cluster->state)->is_connected) {
        cluster_cancel_events(cluster);
        host_keeper_hurry(cluster);
        replica_hurry(cluster);
    }
}

static void
cluster_maybe_stopped(struct cluster *cluster)
{
    if (!cluster->is_stopping || cluster->is_stopped ||
        !cvolume_all_gone(cluster) || !cdisk_all_gone(cluster) ||
        !list_is_empty(&cluster->replicas) || !host_keeper_is_idle(cluster) ||
        !manager_is_idle(cluster) || cluster->events_pending > 0 ||
        cluster->jobs_pending > 0) {
        return;
    }
    cluster->is_stopped = true;
    loop_timer_cancel(cluster->loop, &cluster->tick);
    cluster->stopped(cluster->owner);
}

void
cluster_stop(struct cluster *cluster, cluster_stopped_fn *stopped, void *owner)
{
    CHECK(!cluster->is_stopping);

    cluster->is_stopping = true;
    cluster->stopping_ns = loop_now_ns();
    cluster->stopped = stopped;
    cluster->owner = owner;
    cluster_touch(cluster);
}

void
cluster_free(struct cluster *cluster)
{
    if (cluster == NULL) {
        return;
    }
    CHECK(cluster->is_stopped);
    state_unsubscribe(cluster->state, &cluster->listener);
    cluster_free_parts(cluster);
}
