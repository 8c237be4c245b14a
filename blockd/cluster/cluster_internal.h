/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_CLUSTER_CLUSTER_INTERNAL_H
#define BLOCKD_CLUSTER_CLUSTER_INTERNAL_H

/* What the files of cluster share.
 *
 *   cluster.c   birth, the listener, the level-triggered sync, stop
 *   host.c      rows Global, Host, Host_Status: registration and heartbeat
 *   disk.c      one local disk: open, format, claim, serve
 *   replica.c   replicas on local disks: create, remove by tombstone
 *   attach.c    one volume attached here: from its row to a socket, and back
 *   attach_claim.c   its ownership: claim, release
 *   attach_status.c  what the database is told of it
 *   meta.c      membership commits of the mirrors, batched
 *   record.c    durable local records of running volumes (S22)
 *   plane.c     the reactor's side: links, volumes, exports
 *   event.c     events
 *   manager.c   what one host does for all: volumes ready, operations ended,
 *               old events
 *   operation.c whether an operation has ended
 *   hop.c       from the control thread to a reactor and back */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "blockd/cluster/cluster.h"
#include "blockd/cluster/hop.h"
#include "blockd/cluster/metric_set.h"
#include "blockd/cluster/plane.h"
#include "lib/base/list.h"

#define CLUSTER_NAME_SIZE 160 /* "project/name" */
#define CLUSTER_TXN_NS (10 * NS_PER_S)

#define CLUSTER_RECENT_EVENTS 32u

struct cluster_recent {
    uint64_t hash, time_ns;
};

struct cluster {
    struct loop *loop;
    struct state *state;
    struct state *manager_state;
    struct state_listener listener;
    struct metrics_registry *registry; /* May be NULL. */
    struct loop_timer tick;            /* Once a second. */
    char *host, *rack, *peer_address, *api_endpoint, *run_dir, *state_dir;
    char *version;
    struct weft_uuid instance, boot_id;
    struct weft_uuid cloud; /* Nil until the Global row is known. */
    bool is_foreign;        /* The database is another cloud's: hands off. */
    struct plane *planes[CLUSTER_REACTORS_MAX];
    uint32_t plane_count;
    uint32_t next_plane;
    uint64_t resync_bytes_per_s;
    bool assume_nonvolatile;
    bool dirty; /* cluster_sync() is wanted. */
    bool is_stopping;
    uint64_t stopping_ns;        /* Since when. */
    bool disks_resumed, resumed; /* Local records have been looked at. */
    bool records_tidied;
    uint64_t started_ns;

    struct list disks;    /* struct cdisk */
    struct list volumes;  /* struct cvolume */
    struct list replicas; /* struct creplica: in work */
    struct host_keeper *host_keeper;
    struct manager *manager;
    struct list events; /* struct event_txn: on their way */
    uint32_t events_pending;
    struct cluster_recent recent[CLUSTER_RECENT_EVENTS];
    uint32_t recent_next;
    uint32_t jobs_pending; /* Transactions and hops that outlive no one. */

    cluster_stopped_fn *stopped;
    void *owner;
    bool is_stopped;
};

/* Ends transactions that blockd's end cannot wait for. */
void cluster_cancel_events(struct cluster *cluster);

/* Wants a cluster_sync() at the end of this turn. */
void cluster_touch(struct cluster *cluster);
/* Tells the planes. */
void cluster_set_cloud(struct cluster *cluster, const struct weft_uuid *cloud);

/* ---- host.c ---- */

WEFT_MUST_CHECK int host_keeper_new(struct cluster *cluster);
void host_keeper_sync(struct cluster *cluster);
bool host_keeper_is_idle(const struct cluster *cluster);
void host_keeper_hurry(struct cluster *cluster);
void host_keeper_free(struct cluster *cluster);

/* ---- disk.c ----
 *
 *   OPENING --> CLAIMING --> SETTLING --> SERVING --> CLOSING --> CLOSED
 *      |           |            |                        |        (told, gone)
 *      +-----------+------------+--> FAILED (tried again), REFUSED (until the
 *                                    row changes) */

enum cdisk_state {
    CDISK_OPENING,
    CDISK_CLAIMING,
    CDISK_SETTLING,
    CDISK_SERVING,
    CDISK_CLOSING,
    CDISK_CLOSED,
    CDISK_FAILED,
    CDISK_REFUSED,
};

struct cdisk {
    struct cluster *cluster;
    struct list node;
    struct weft_uuid disk;
    char *path;
    enum cdisk_state state;
    bool is_wanted;
    bool is_usurped; /* The row has another's claim: closes, then REFUSED. */
    struct plane *plane;
    struct plane_disk pd;   /* Travels with the hop. */
    struct store_info info; /* As of the last hop that came back. */
    struct plane_publication publication;
    struct plane_drop drop;
    uint32_t drop_next; /* The plane that is asked next. */
    struct weft_uuid row_claim, next_claim;
    struct state_txn txn;
    bool txn_busy;
    struct state_txn status_txn;
    bool status_busy, status_dirty;
    bool resume; /* Opened by its local record: the claim stands (S22). */
    struct err err;
    uint64_t retry_ns;
    struct weft_uuid refused_claim; /* REFUSED: what the row had then. */
    uint64_t reported_free, reported_replicas;
    bool reported_failed;
    struct metric_set metrics;
};

void cdisk_sync_all(struct cluster *cluster);
void cdisk_tick(struct cluster *cluster);
/* The database stays away at start: opens what the local records say. */
void cdisk_resume_all(struct cluster *cluster);
/* None is on its way into service. */
bool cdisk_all_settled(const struct cluster *cluster);
/* NULL unless it is served here. */
struct cdisk *cdisk_find_serving(struct cluster *cluster,
                                 const struct weft_uuid *disk);
bool cdisk_all_gone(const struct cluster *cluster);

/* ---- replica.c ---- */

/* Looks at one Mirror row: creates replicas that should be on local disks. */
void replica_consider(struct cluster *cluster,
                      const struct state_mirror *mirror);
/* A disk has come: all mirrors and tombstones. */
void replica_consider_all(struct cluster *cluster);
void replica_tick(struct cluster *cluster);
/* The database is away and blockd ends: gives up what is in work. */
void replica_hurry(struct cluster *cluster);

/* ---- attach.c ----
 *
 *   WAITING --> CLAIMING --> STARTING --> RUNNING --> STOPPING --> RELEASING
 *      ^            |                                     |            |
 *      +------------+                                     +-> (gone) <-+ */

enum cvolume_state {
    CVOLUME_WAITING,
    CVOLUME_CLAIMING,
    CVOLUME_STARTING,
    CVOLUME_RUNNING,
    CVOLUME_STOPPING,
    CVOLUME_RELEASING,
};

struct cvolume {
    struct cluster *cluster;
    struct list node;
    struct weft_uuid volume;
    char name[CLUSTER_NAME_SIZE];     /* "project/name": the export's. */
    char resource[CLUSTER_NAME_SIZE]; /* "projects/.../volumes/..." */
    enum cvolume_state state;
    enum state_attachment_kind kind;
    bool is_wanted;   /* An Attachment names this host. */
    bool is_lost;     /* The row names another owner: do not release. */
    bool is_released; /* RELEASING: the row says so. */
    bool is_forced;   /* STOPPING: without a flush. */
    bool is_ready;    /* Has been so under this claim. */
    bool is_reported; /* An Attachment_Status row may exist. */
    struct weft_uuid instance; /* The owner we are, in the row. */
    uint64_t epoch;
    bool clean;      /* As the row said when we claimed it. */
    bool live_guest; /* S17 */
    bool resume;     /* S22 */
    struct plane *plane;
    struct plane_volume pv; /* Travels with the hop. */
    struct plane_force force;
    struct hop report_hop;
    struct plane_report report; /* Travels with its hop. */
    struct plane_report seen;   /* The last one that came back. */
    char uri[512];              /* Of the export; "": none now. */
    struct metric_set metrics;
    struct state_txn txn;
    bool txn_busy;
    uint64_t retry_ns;
    char reason[256];

    enum state_attachment_status_state status;
    uint64_t status_since_ms;
    struct state_txn status_txn;
    bool status_busy, status_dirty;

    struct meta *meta;
};

void cvolume_sync_all(struct cluster *cluster);
void cvolume_tick(struct cluster *cluster);
/* The Volume or a Mirror row changed. */
void cvolume_row_changed(struct cluster *cluster,
                         const struct weft_uuid *volume);
bool cvolume_all_gone(const struct cluster *cluster);
/* The database stays away at start: runs what the local records say. */
void cvolume_resume_all(struct cluster *cluster);
/* The database is here: records of volumes that are not are removed. */
void cvolume_tidy_records(struct cluster *cluster);
void cvolume_advance(struct cvolume *cv);
/* The row is ours: from the row to the reactor. */
void cvolume_start(struct cvolume *cv);
/* Sets is_lost if the row, as we know it, does not name us. */
void cvolume_check_owner(struct cvolume *cv);

/* ---- attach_claim.c ---- */

/* NULL: all that a claim needs is there; else why not, for people. */
const char *cvolume_obstacle(const struct cvolume *cv);
void cvolume_claim(struct cvolume *cv);
void cvolume_release(struct cvolume *cv);
/* Whether the row names this host though nothing of it runs; takes over
 * instance and epoch from it, for cvolume_release(). */
bool cvolume_has_leftover(struct cvolume *cv);
/* For a transaction that is started now. */
uint64_t cvolume_txn_deadline(const struct cvolume *cv);

/* ---- attach_status.c: what the database is told of an attachment ---- */

void cvolume_set_status(struct cvolume *cv,
                        enum state_attachment_status_state status,
                        const char *reason);
void cvolume_report(struct cvolume *cv);
/* Removes the row; clears is_reported when it is gone. */
void cvolume_forget(struct cvolume *cv);

/* ---- meta.c ---- */

/* The membership commits of one volume.  Freed by meta_free() when the volume
 * is off the reactor. */
WEFT_MUST_CHECK int meta_new(struct cvolume *cv, struct meta **ret_meta);
struct mirror_meta *meta_table(struct meta *meta);
void meta_free(struct meta *meta);
/* The volume is forced to end: gives up waiting for the database.  Accepts
 * NULL. */
void meta_hurry(struct meta *meta);
bool meta_is_idle(struct meta *meta);
/* The Mirror row as the mirror wants it.  False: the row is not usable. */
bool meta_row_from_state(const struct state_mirror *row,
                         struct mirror_row *ret_row);

/* ---- record.c ---- */

struct record_mirror {
    struct mirror_row row;
    char address[STORE_REPLICAS_MAX][IO_ADDRESS_SIZE]; /* "": local. */
};

struct record {
    struct weft_uuid volume, instance, boot_id;
    char name[CLUSTER_NAME_SIZE];
    uint64_t epoch, size_bytes, extent_bytes, slow_ms;
    uint32_t min_in_sync;
    uint32_t mirror_count;
    /* A membership commit is under way: the row may say more than this. */
    uint32_t is_pending;
    enum state_attachment_kind kind;
    struct record_mirror mirrors[VOLUME_MIRRORS_MAX];
};

/* A disk that is served here. */
struct disk_record {
    struct weft_uuid disk, cloud, claim, boot_id;
    char path[512];
};

typedef void disk_record_fn(struct cluster *cluster,
                            const struct disk_record *record);

/* -ENAMETOOLONG: the path does not fit; the disk then waits for the database.
 */
WEFT_MUST_CHECK int disk_record_write(const struct cluster *cluster,
                                      const struct disk_record *record);
void disk_record_remove(const struct cluster *cluster,
                        const struct weft_uuid *disk);
void disk_record_for_each(struct cluster *cluster, disk_record_fn *fn);

WEFT_MUST_CHECK int record_write(const struct cluster *cluster,
                                 const struct record *record);
/* -ENOENT: none. */
WEFT_MUST_CHECK int record_read(const struct cluster *cluster,
                                const struct weft_uuid *volume,
                                struct record *ret_record);
void record_remove(const struct cluster *cluster,
                   const struct weft_uuid *volume);
typedef void record_fn(struct cluster *cluster, const struct record *record);
void record_for_each(struct cluster *cluster, record_fn *fn);
/* What to write of a running volume. */
void record_fill(const struct cvolume *cv, struct record *ret_record);
/* Fills and writes it, if a guest may live on it: one that has been ready, now
 * or before a restart of blockd (S17).  If it cannot be written there is none
 * afterwards, rather than an old one. */
void record_save(const struct cvolume *cv, bool is_pending);

/* ---- manager.c ---- */

WEFT_MUST_CHECK int manager_new(struct cluster *cluster);
void manager_tick(struct cluster *cluster);
bool manager_is_idle(const struct cluster *cluster);
void manager_hurry(struct cluster *cluster);
void manager_free(struct cluster *cluster);

#endif /* BLOCKD_CLUSTER_CLUSTER_INTERNAL_H */
