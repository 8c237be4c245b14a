/* SPDX-License-Identifier: Apache-2.0 */

/* What one host does for all: the one that holds the lock "storage_manager" on
 * a leader-only connection.  Nothing here keeps data safe: a lock is a matter
 * of one database server (see lib/state/state.h), so each transaction verifies
 * what it builds on.
 *
 *   - a new volume becomes "ready" when all its replicas exist
 *   - how an operation ended, and when, is written down; an hour later it goes
 *     (a request that is repeated after that is taken for a new one)
 *   - the oldest events go when there are more than EVENTS_MAX, and the oldest
 *     operations when there are more than OPERATIONS_MAX
 *   - tombstones on disks that do not exist any more go (DeleteDisk takes them
 *     along; this is for a volume that was deleted at the same moment) */

#include <errno.h>
#include <stdlib.h>

#include "blockd/cluster/cluster_internal.h"
#include "blockd/cluster/operation.h"
#include "lib/base/container_of.h"
#include "lib/base/log.h"

#define EVENTS_MAX 1000u
#define EVENTS_SLACK 100u
#define OPERATIONS_MAX 10000u
#define OPERATIONS_SLACK 1000u
#define OPERATIONS_KEPT_MS (3600u * 1000u)
#define OPERATIONS_BATCH 500u /* Written or removed in one transaction. */

struct manager {
    struct cluster *cluster;
    struct state_listener listener;
    struct state_txn txn;
    bool txn_busy;
    bool has_work; /* Worth a look before the next tick. */
};

/* Whether a change is worth a look before the tick: somebody waits for a new
 * volume, or something has failed that may be taken away the next moment. */
static bool
manager_is_urgent(const struct state_change *change)
{
    const struct state_row *row = change->new_row;

    if (row == NULL) {
        return false;
    }
    if (change->table == STATE_TABLE_REPLICA_STATUS) {
        return change->old_row == NULL;
    }
    if (change->table == STATE_TABLE_ATTACHMENT_STATUS) {
        return (change->old_row == NULL ||
                (change->columns & STATE_ATTACHMENT_STATUS_COL_STATE) != 0) &&
               state_attachment_status_from(row)->state ==
                   STATE_ATTACHMENT_STATUS_STATE_FAILED;
    }
    return change->table == STATE_TABLE_DISK && change->old_row != NULL &&
           (change->columns & STATE_DISK_COL_STATE) != 0;
}

static void
manager_changed(struct state_listener *listener,
                const struct state_change *change)
{
    struct manager *manager = container_of(listener, struct manager, listener);

    manager->has_work |= manager_is_urgent(change);
}

static void
manager_batch_end(struct state_listener *listener)
{
    struct manager *manager = container_of(listener, struct manager, listener);

    if (manager->has_work) {
        manager_tick(manager->cluster);
    }
}

int
manager_new(struct cluster *cluster)
{
    struct manager *manager = calloc(1, sizeof *manager);
    if (manager == NULL) {
        return -ENOMEM;
    }
    manager->cluster = cluster;
    manager->listener = (struct state_listener){
        .change = manager_changed,
        .end = manager_batch_end,
    };
    cluster->manager = manager;
    if (cluster->manager_state != NULL) {
        state_subscribe(cluster->manager_state, &manager->listener,
                        STATE_TABLE_BIT(STATE_TABLE_REPLICA_STATUS) |
                            STATE_TABLE_BIT(STATE_TABLE_ATTACHMENT_STATUS) |
                            STATE_TABLE_BIT(STATE_TABLE_DISK));
    }
    return 0;
}

static bool
manager_volume_has_replicas(struct state *state,
                            const struct state_volume *volume)
{
    for (uint32_t i = 0; i < volume->stripe_width; i++) {
        const struct state_mirror *mirror =
            state_mirror_find_by_volume_index(state, &volume->row.uuid, i);
        if (mirror == NULL) {
            return false;
        }
        for (size_t j = 0; j < mirror->replicas_count; j++) {
            const struct state_replica_status *status =
                state_replica_status_find_by_replica(state,
                                                     &mirror->replicas[j].key);
            if (status == NULL ||
                status->state == STATE_REPLICA_STATUS_STATE_FAILED) {
                return false;
            }
        }
    }
    return true;
}

static bool
manager_build_volumes(struct state_txn *txn, struct state *state)
{
    bool any = false;

    for (const struct state_volume *row = state_volume_next(state, NULL);
         row != NULL; row = state_volume_next(state, row)) {
        if (row->state == STATE_VOLUME_STATE_CREATING &&
            manager_volume_has_replicas(state, row)) {
            struct state_volume ready = { .row = row->row,
                                          .state = STATE_VOLUME_STATE_READY };
            state_txn_verify(txn, &row->row, STATE_VOLUME_COL_STATE);
            state_txn_update(txn, &ready.row, STATE_VOLUME_COL_STATE);
            any = true;
        }
    }
    return any;
}

static int
manager_compare_events(const void *a, const void *b)
{
    const struct state_event *const *left = a;
    const struct state_event *const *right = b;

    return ((*left)->time_ms > (*right)->time_ms) -
           ((*left)->time_ms < (*right)->time_ms);
}

static bool
manager_build_events(struct state_txn *txn, struct state *state)
{
    size_t count = state_row_count(state, STATE_TABLE_EVENT);
    if (count <= EVENTS_MAX + EVENTS_SLACK) {
        return false;
    }
    const struct state_event **events = calloc(count, sizeof *events);
    if (events == NULL) {
        return false;
    }
    size_t got = 0;
    for (const struct state_event *row = state_event_next(state, NULL);
         row != NULL && got < count; row = state_event_next(state, row)) {
        events[got++] = row;
    }
    qsort(events, got, sizeof *events, manager_compare_events);
    for (size_t i = 0; i + EVENTS_MAX < got; i++) {
        state_txn_delete(txn, STATE_TABLE_EVENT, &events[i]->row.uuid);
    }
    free(events);
    return true;
}

/* ---- Operations ---- */

/* A change to one operation; false: there is none. */
static bool
manager_build_operation(struct state_txn *txn, struct state *state,
                        const struct state_operation *row, uint64_t now_ms)
{
    if (row->state != STATE_OPERATION_STATE_RUNNING) {
        if (now_ms < row->update_time_ms + OPERATIONS_KEPT_MS) {
            return false;
        }
        state_txn_delete(txn, STATE_TABLE_OPERATION, &row->row.uuid);
        return true;
    }
    struct operation_verdict verdict = operation_judge(state, row);
    if (!verdict.is_done) {
        return false;
    }
    struct state_operation ended = {
        .row = row->row,
        .state = verdict.has_failed ? STATE_OPERATION_STATE_FAILED
                                    : STATE_OPERATION_STATE_DONE,
        .error = verdict.has_failed ? verdict.text : "",
        .update_time_ms = now_ms,
    };
    state_txn_verify(txn, &row->row, STATE_OPERATION_COL_STATE);
    state_txn_update(txn, &ended.row,
                     STATE_OPERATION_COL_STATE | STATE_OPERATION_COL_ERROR |
                         STATE_OPERATION_COL_UPDATE_TIME_MS);
    return true;
}

/* What has ended first, the oldest first. */
static int
manager_compare_operations(const void *a, const void *b)
{
    const struct state_operation *left =
        *(const struct state_operation *const *)a;
    const struct state_operation *right =
        *(const struct state_operation *const *)b;
    bool left_runs = left->state == STATE_OPERATION_STATE_RUNNING;
    bool right_runs = right->state == STATE_OPERATION_STATE_RUNNING;

    if (left_runs != right_runs) {
        return left_runs ? 1 : -1;
    }
    return (left->create_time_ms > right->create_time_ms) -
           (left->create_time_ms < right->create_time_ms);
}

/* More in an hour than anybody foresaw. */
static bool
manager_bound_operations(struct state_txn *txn, struct state *state)
{
    size_t count = state_row_count(state, STATE_TABLE_OPERATION);
    if (count <= OPERATIONS_MAX + OPERATIONS_SLACK) {
        return false;
    }
    const struct state_operation **rows = calloc(count, sizeof *rows);
    if (rows == NULL) {
        return false;
    }
    size_t got = 0;
    for (const struct state_operation *row = state_operation_next(state, NULL);
         row != NULL && got < count; row = state_operation_next(state, row)) {
        rows[got++] = row;
    }
    qsort(rows, got, sizeof *rows, manager_compare_operations);
    for (size_t i = 0; i + OPERATIONS_MAX < got; i++) {
        state_txn_delete(txn, STATE_TABLE_OPERATION, &rows[i]->row.uuid);
    }
    free(rows);
    return true;
}

static bool
manager_build_operations(struct state_txn *txn, struct state *state)
{
    uint64_t now_ms = cluster_wall_ms();
    uint32_t changed = 0;

    if (manager_bound_operations(txn, state)) {
        return true;
    }
    for (const struct state_operation *row = state_operation_next(state, NULL);
         row != NULL && changed < OPERATIONS_BATCH;
         row = state_operation_next(state, row)) {
        changed += manager_build_operation(txn, state, row, now_ms);
    }
    return changed > 0;
}

/* ---- All of it ---- */

static bool
manager_build_tombstones(struct state_txn *txn, struct state *state)
{
    bool any = false;

    for (const struct state_tombstone *row = state_tombstone_next(state, NULL);
         row != NULL; row = state_tombstone_next(state, row)) {
        if (state_disk_find_by_disk_uuid(state, &row->disk_uuid) == NULL) {
            struct state_disk absent = { .row.table = STATE_TABLE_DISK,
                                         .disk_uuid = row->disk_uuid };
            state_txn_verify_absent(txn, &absent.row, STATE_DISK_COL_DISK_UUID);
            state_txn_delete(txn, STATE_TABLE_TOMBSTONE, &row->row.uuid);
            any = true;
        }
    }
    return any;
}

static int
manager_build(struct state_txn *txn, struct state *state)
{
    bool any = manager_build_volumes(txn, state);

    any |= manager_build_events(txn, state);
    any |= manager_build_operations(txn, state);
    any |= manager_build_tombstones(txn, state);
    return any ? 0 : STATE_TXN_NOTHING;
}

static void
manager_done(struct state_txn *txn, int result)
{
    struct manager *manager = container_of(txn, struct manager, txn);

    manager->txn_busy = false;
    if (manager->cluster->is_stopping) {
        cluster_touch(manager->cluster);
    }
    if (result != 0 && result != -ECANCELED) {
        log_debug("cluster", "manager's work not committed result=%d", result);
    }
    if (manager->has_work) {
        manager_tick(manager->cluster);
    }
}

void
manager_tick(struct cluster *cluster)
{
    struct manager *manager = cluster->manager;

    if (manager->txn_busy || cluster->is_stopping ||
        cluster->manager_state == NULL ||
        !state_lock_is_held(cluster->manager_state)) {
        return;
    }
    manager->txn = (struct state_txn){
        .build = manager_build,
        .done = manager_done,
        .comment = "storage manager",
        .deadline_ns = loop_now_ns() + CLUSTER_TXN_NS,
    };
    manager->txn_busy = true;
    manager->has_work = false;
    state_txn_start(cluster->manager_state, &manager->txn);
}

bool
manager_is_idle(const struct cluster *cluster)
{
    return !cluster->manager->txn_busy;
}

void
manager_hurry(struct cluster *cluster)
{
    if (cluster->manager->txn_busy) {
        state_txn_cancel(&cluster->manager->txn);
    }
}

void
manager_free(struct cluster *cluster)
{
    CHECK(cluster->manager == NULL || !cluster->manager->txn_busy);
    if (cluster->manager != NULL && cluster->manager_state != NULL) {
        state_unsubscribe(cluster->manager_state, &cluster->manager->listener);
    }
    free(cluster->manager);
    cluster->manager = NULL;
}
