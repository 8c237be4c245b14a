/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_CLUSTER_PLANE_H
#define BLOCKD_CLUSTER_PLANE_H

/* The reactor's side of the cluster: disks, links, volumes and exports of one
 * reactor.  It does what the control thread asks (see hop.h) and knows nothing
 * of the database.
 *
 * NBD exports live on the first reactor, which has the NBD server; disks and
 * vhost-user volumes are spread over all.
 *
 * Thread: functions whose first argument is a 'struct hop' run on the reactor
 * (they are given to hop_go()); plane_new() and plane_free() are called on the
 * control thread while the reactor is running. */

#include <stdbool.h>
#include <stdint.h>

#include "blockd/cluster/hop.h"
#include "blockd/export/nbd.h"
#include "blockd/export/vhost.h"
#include "blockd/peer/link.h"
#include "blockd/store/store.h"
#include "blockd/volume/volume.h"
#include "lib/base/err.h"
#include "lib/base/list.h"

struct plane;

struct plane_options {
    struct loop *loop;
    struct io *io;
    const char *peer_listen; /* NULL: this reactor has no peer server. */
    const char *nbd_listen;  /* NULL: this reactor has no NBD server. */
    const char *nbd_unix;    /* Likewise, "unix:..." */
    const char *host;
    struct weft_uuid instance;
    uint32_t spin_us;
};

/* Blocks until the reactor has set it up.  -errno with text. */
WEFT_MUST_CHECK int plane_new(const struct plane_options *options,
                              struct err *err, struct plane **ret_plane);
/* All disks and volumes are gone.  Blocks until the reactor has let go. */
void plane_free(struct plane *plane);
struct io *plane_io(struct plane *plane);
/* As bound: "tcp:10.0.0.1:7701"; "" without that server. */
const char *plane_peer_address(const struct plane *plane);
const char *plane_nbd_address(const struct plane *plane);

/* The cluster's UUID becomes known: peers of others are refused from now on. */
struct plane_cloud {
    struct hop hop;
    struct plane *plane;
    struct weft_uuid cloud;
};
void plane_set_cloud(struct hop *hop);

/* ---- Disks ---- */

struct plane_disk {
    struct hop hop;
    struct plane *plane;
    /* In. */
    const char *path;
    struct weft_uuid disk, cloud, boot_id, row_claim;
    struct weft_uuid next_claim; /* Out, too: one that was not settled stays. */
    bool may_format;
    bool force;     /* Format over what is not empty. */
    bool is_resume; /* 'row_claim' is in force: serve without a new one. */
    bool assume_nonvolatile;
    /* Out. */
    int result;
    struct err err;
    struct store_info info;
    struct store_stats stats;
    struct store *store;
    /* Private. */
    struct io_file *file;
    struct store_format format;
    struct store_open open;
    struct store_claim claim;
    struct store_close close;
    bool is_formatted;
    bool
        lost_writes; /* An open failed with -EIO: its cache may be gone (S6). */
    bool is_refused; /* Closing because it is not ours. */
};

/* Opens the file or device (formats it if it is blank and that is allowed),
 * recovers the store, checks whose it is, writes the claim.  result: -errno
 * with text; -EPERM: refused, trying again will not help.  Again after a claim
 * that could not be committed: the store is open still. */
void plane_disk_open(struct hop *hop);
/* The claim is committed: settles it and serves. */
void plane_disk_serve(struct hop *hop);
/* Closes it; it was unpublished.  Harmless after a failed open. */
void plane_disk_close(struct hop *hop);
/* Refreshes 'info' and 'stats'. */
void plane_disk_inspect(struct hop *hop);

/* A disk in service is published on the reactor that has the peer server:
 * peers of this cluster can reach it from then on. */
struct plane_publication {
    struct hop hop;
    struct plane *plane; /* With the peer server. */
    struct weft_uuid disk;
    struct store *store;
    struct io *store_io;
    int result; /* Out. */
    /* Private. */
    struct list node;
    struct link *link;
    struct link_close close;
};
void plane_publish(struct hop *hop);
/* Afterwards no peer's request is at the store any more. */
void plane_unpublish(struct hop *hop);

/* Cuts the links of this reactor's volumes to a store that is about to be
 * closed: afterwards nothing here refers to it, and requests get -ENOTCONN. */
struct plane_drop {
    struct hop hop;
    struct plane *plane;
    struct store *store;
    /* Private. */
    struct list node;
};
void plane_drop_store(struct hop *hop);

/* A request to a local store (CREATE, REMOVE), for replica.c. */
struct plane_request {
    struct hop hop;
    struct store *store;
    struct store_req req;
};
void plane_request_run(struct hop *hop);

/* ---- Volumes ---- */

struct plane_replica {
    struct weft_uuid disk;
    struct store *store; /* Served by this process, or NULL. */
    struct io *store_io;
    char address[IO_ADDRESS_SIZE]; /* Else: the peer's. */
};

struct plane_volume {
    struct hop hop;
    struct plane *plane;
    /* In. */
    struct volume_options options; /* All but io, payloads, links. */
    struct volume_mirror_options mirrors[VOLUME_MIRRORS_MAX];
    struct plane_replica replicas[VOLUME_MIRRORS_MAX][STORE_REPLICAS_MAX];
    struct weft_uuid cloud;
    bool is_vhost;
    char name[160];   /* Of the export. */
    char socket[108]; /* vhost-user: the path. */
    /* Called on the reactor when the volume is ready or will never be. */
    void (*ready)(struct plane_volume *pv, int result);
    bool flush; /* For plane_volume_stop(): false is as forced at once. */
    /* Out. */
    int result;
    bool clean;
    char uri[512];
    /* Private. */
    struct volume *volume;
    struct nbd_export *nbd_export;
    struct vhost_export *vhost_export;
    struct plane_link *links[VOLUME_MIRRORS_MAX][STORE_REPLICAS_MAX];
    bool is_told; /* ready() was called. */
    bool is_stopping, is_forced, is_volume_stopped;
};

/* Makes the links and the volume; ready() follows by itself, then the export
 * is opened. */
void plane_volume_start(struct hop *hop);
/* Closes the export, stops the volume (see 'flush'), frees both.  A volume that
 * is held keeps it waiting, until it goes on or is forced. */
void plane_volume_stop(struct hop *hop);
/* For a stop that is under way: ends it without waiting for requests that are
 * held.  A vhost-user guest does not see them fail: its connection is cut
 * first.  Its own hop, as the volume's is away.  Harmless when it is over. */
struct plane_force {
    struct hop hop;
    struct plane_volume *pv;
};
void plane_volume_force(struct hop *hop);
/* Links and rows anew, from 'mirrors' and 'replicas'. */
void plane_volume_update(struct hop *hop);

/* How a volume is doing. */
struct plane_report_mirror {
    uint32_t in_sync, up, resyncing; /* Bits: replicas. */
    uint32_t percent;                /* Of the resync that is behind. */
};

struct plane_report {
    struct plane_volume *pv;
    bool is_running, is_held;
    bool is_fenced; /* A higher epoch exists: its I/O here has ended. */
    char reason[200];
    uint32_t clients;
    /* For metrics, over all mirrors. */
    uint64_t reads, writes, discards, flushes, repairs, crc_errors;
    uint64_t replicas_missing; /* Not in sync. */
    uint64_t held;
    uint64_t longest_stall_ns;
    struct plane_report_mirror mirrors[VOLUME_MIRRORS_MAX];
};

/* Fills a report; 'report' is set by the caller. */
void plane_report_fill(struct plane_report *report);

#endif /* BLOCKD_CLUSTER_PLANE_H */
