/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_CLUSTER_CLUSTER_H
#define BLOCKD_CLUSTER_CLUSTER_H

/* This host's part in the cluster: it makes true what the database says.
 *
 * The database says which disks this host should serve, which replicas live on
 * them and which volumes are attached here; the cluster opens disks, creates
 * and removes replicas, claims volumes by compare-and-set and runs them on the
 * reactors, commits their membership changes, and writes back what is.  It
 * knows no gRPC and no bytes.
 *
 *   (1) Level-triggered: whatever changed, the difference between wanted and
 *       actual is looked at again; nothing depends on having seen an event.
 *   (2) The database is written by compare-and-set only, and a volume is run
 *       only while its row names this instance and epoch (S11).
 *   (3) A disk is served only after its claim is committed (S13); a replica is
 *       created only if it never existed, and removed only by a tombstone
 * (S12). (4) Losing the database changes nothing for running volumes.
 *
 * Thread: the control thread (its loop), but for what is marked "reactor". */

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/check.h"
#include "lib/base/err.h"
#include "lib/base/uuid.h"
#include "lib/io/io.h"
#include "lib/metrics/metrics.h"
#include "lib/state/state.h"

struct cluster;

#define CLUSTER_REACTORS_MAX 16u

struct cluster_options {
    struct loop *loop;
    struct metrics_registry *registry; /* May be NULL; outlives it. */
    struct state *state;               /* Followed: not leader-only. */
    struct state *manager; /* Leader-only, with the manager's lock; or NULL. */
    struct io *reactors[CLUSTER_REACTORS_MAX];
    uint32_t reactor_count;
    const char *host;         /* Name of this host. */
    const char *rack;         /* May be "". */
    const char *peer_listen;  /* "tcp:10.0.0.1:7701" */
    const char *peer_address; /* What others connect to; "": as bound. */
    const char *api_endpoint; /* What clients connect to. */
    const char *nbd_listen;   /* "tcp:..." or "" for none. */
    const char *run_dir;      /* Sockets. */
    const char *state_dir;    /* Durable local records (S22). */
    const char *version;
    uint32_t spin_us; /* Adaptive polling of vhost-user rings. */
    uint64_t resync_bytes_per_s;
    bool assume_nonvolatile; /* Disks have no volatile cache. */
};

/* Opens the peer and NBD listeners, then follows the database.  Texts are
 * copied.  -errno with text. */
WEFT_MUST_CHECK int cluster_new(const struct cluster_options *options,
                                struct err *err, struct cluster **ret_cluster);

typedef void cluster_stopped_fn(void *owner);
/* Stops exports, volumes (flushed and released) and disks, then stopped(). */
void cluster_stop(struct cluster *cluster, cluster_stopped_fn *stopped,
                  void *owner);
/* After stopped(). */
void cluster_free(struct cluster *cluster);

/* An event for people (table Event); also logged. */
void cluster_event(struct cluster *cluster, enum state_event_severity severity,
                   const char *object, const char *kind, const char *format,
                   ...) WEFT_PRINTF(5, 6);

struct state *cluster_state(struct cluster *cluster);
const char *cluster_host(const struct cluster *cluster);
/* Wall clock, milliseconds: for the *_ms columns only. */
uint64_t cluster_wall_ms(void);
/* How often a host writes its Host_Status: every 2 s; with more than 40 hosts
 * so seldom that all of them together write 20 rows a second. */
uint64_t cluster_heartbeat_ms(const struct state *state);

#endif /* BLOCKD_CLUSTER_CLUSTER_H */
