/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_SYNC_CLOUD_PRIVATE_H
#define NETD_SYNC_CLOUD_PRIVATE_H

/* What cloud.c and cloud_snapshot.c share. */

#include "netd/sync/cloud.h"
#include "netd/sync/row_set.h"

struct cloud {
    struct loop *loop;
    struct loop_runner runner;
    struct loop_timer snapshot_timer;
    struct cloud_listener *listener;
    char *host, *state_dir;

    struct state *state;
    struct state_listener rows;
    struct weft_uuid pinned; /* Nil: not yet. */
    bool is_open;            /* Pinned, and it is that cloud. */
    bool is_refused;         /* Another: it was said. */
    bool needs_reconcile;    /* Changes were missed while not open. */
    bool is_complete;
    bool is_changed; /* The listener is to be told. */
    bool was_connected;

    struct row_set delivered;
    struct row_set mine; /* Ports that are here. */
    uint64_t ports_seqno;
    struct uuid_set ports;
    struct uuid_set interfaces;

    bool is_scope_dirty;
    struct scope scope;
    struct scope_clauses clauses;

    /* The snapshot's rows, sorted by table and UUID, while they stand in. */
    struct state_row **snapshot;
    size_t snapshot_count;
    bool is_snapshot_over; /* The database has answered. */
    uint64_t snapshot_ns;  /* Not written again before this. */
    /* What has changed since it was written. */
    struct row_set snapshot_news;
    bool is_snapshot_stale; /* More than these: it is written anew. */
    size_t snapshot_size;   /* Of the file as it was written last, ... */
    size_t snapshot_added;  /* ... and of what was appended since. */
};

/* Gives a row out, and notes what it means for the scope. */
void cloud_deliver(struct cloud *cloud, const struct state_row *row);
void cloud_withdraw(struct cloud *cloud, enum state_table table,
                    const struct weft_uuid *uuid);

/* ---- cloud_snapshot.c ---- */

void cloud_snapshot_start(struct cloud *cloud);
void cloud_snapshot_stop(struct cloud *cloud);
/* A row has changed. */
void cloud_snapshot_touch(struct cloud *cloud, enum state_table table,
                          const struct weft_uuid *uuid);
/* Nobody knows which ones have. */
void cloud_snapshot_touch_all(struct cloud *cloud);
/* The database has taken over. */
void cloud_snapshot_forget(struct cloud *cloud);
const struct state_row *cloud_snapshot_row(const struct cloud *cloud,
                                           enum state_table table,
                                           const struct weft_uuid *uuid);
const struct state_row *cloud_snapshot_next(const struct cloud *cloud,
                                            enum state_table table,
                                            const struct state_row *previous);

#endif /* NETD_SYNC_CLOUD_PRIVATE_H */
