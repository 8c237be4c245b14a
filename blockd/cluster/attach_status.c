/* SPDX-License-Identifier: Apache-2.0 */

/* What the database is told of a volume that is attached here: one row
 * Attachment_Status, written when something worth telling has changed. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "blockd/cluster/cluster_internal.h"
#include "lib/base/container_of.h"

#define RETRY_NS NS_PER_S

void
cvolume_set_status(struct cvolume *cv,
                   enum state_attachment_status_state status,
                   const char *reason)
{
    if (cv->status == status && strcmp(cv->reason, reason) == 0) {
        return;
    }
    cv->status = status;
    cv->status_since_ms = cluster_wall_ms();
    (void)snprintf(cv->reason, sizeof cv->reason, "%s", reason);
    cvolume_report(cv);
}

/* ---- What the database is told ---- */

static size_t
cvolume_progress(const struct cvolume *cv, struct state_pair_int_int *ret,
                 size_t max)
{
    size_t count = 0;

    for (uint32_t i = 0; i < cv->pv.options.mirror_count && count < max; i++) {
        if (cv->seen.mirrors[i].resyncing != 0) {
            ret[count++] = (struct state_pair_int_int){
                .key = i,
                .value = cv->seen.mirrors[i].percent,
            };
        }
    }
    return count;
}

static int
cvolume_status_build(struct state_txn *txn, struct state *state)
{
    struct cvolume *cv = container_of(txn, struct cvolume, status_txn);
    const char *host = cv->cluster->host;
    const struct state_attachment_status *old =
        state_attachment_status_find_by_volume_host(state, &cv->volume, host);
    struct state_pair_int_int progress[VOLUME_MIRRORS_MAX];
    size_t count = cvolume_progress(cv, progress, VOLUME_MIRRORS_MAX);
    struct state_attachment_status row = {
        .row.table = STATE_TABLE_ATTACHMENT_STATUS,
        .volume = cv->volume,
        .host = host,
        .instance = cv->cluster->instance,
        .state = cv->status,
        .uri = cv->uri,
        .reason = cv->reason,
        .progress = progress,
        .progress_count = count,
        .since_ms = cv->status_since_ms,
    };

    if (old == NULL) {
        char text[CLUSTER_NAME_SIZE + UUID_TEXT_SIZE];
        uuid_format(&cv->volume, text);
        (void)snprintf(text + strlen(text), sizeof text - strlen(text), "/%s",
                       host);
        /* Not derived: a row of this pair may come and go many times. */
        state_uuid_random(&row.row.uuid);
        state_txn_insert(txn, &row.row, STATE_ATTACHMENT_STATUS_COL_ALL);
    } else {
        row.row.uuid = old->row.uuid;
        state_txn_update(txn, &row.row,
                         STATE_ATTACHMENT_STATUS_COL_ALL &
                             ~(STATE_ATTACHMENT_STATUS_COL_VOLUME |
                               STATE_ATTACHMENT_STATUS_COL_HOST));
    }
    return 0;
}

static void
cvolume_status_done(struct state_txn *txn, int result)
{
    struct cvolume *cv = container_of(txn, struct cvolume, status_txn);

    cv->status_busy = false;
    if (cv->status_dirty) {
        cvolume_report(cv);
    } else if (result != 0) {
        cv->status_dirty = true; /* The tick tells it again. */
    }
    cvolume_advance(cv);
}

void
cvolume_report(struct cvolume *cv)
{
    cv->status_dirty = true;
    if (cv->status_busy || !state_status(cv->cluster->state)->has_contents) {
        return;
    }
    cv->status_dirty = false;
    cv->status_busy = true;
    cv->is_reported = true;
    cv->status_txn = (struct state_txn){
        .build = cvolume_status_build,
        .done = cvolume_status_done,
        .comment = "attachment status",
        .deadline_ns = cvolume_txn_deadline(cv),
        .flags = STATE_TXN_RETRY,
    };
    state_txn_start(cv->cluster->state, &cv->status_txn);
}

/* ---- The end ---- */

static int
cvolume_forget_build(struct state_txn *txn, struct state *state)
{
    struct cvolume *cv = container_of(txn, struct cvolume, txn);
    const struct state_attachment_status *old =
        state_attachment_status_find_by_volume_host(state, &cv->volume,
                                                    cv->cluster->host);
    if (old == NULL) {
        return STATE_TXN_NOTHING;
    }
    state_txn_delete(txn, STATE_TABLE_ATTACHMENT_STATUS, &old->row.uuid);
    return 0;
}

static void
cvolume_forgotten(struct state_txn *txn, int result)
{
    struct cvolume *cv = container_of(txn, struct cvolume, txn);

    cv->txn_busy = false;
    if (result == 0 || cv->cluster->is_stopping) {
        cv->is_reported = false;
    } else {
        cv->retry_ns = loop_now_ns() + RETRY_NS;
    }
    cvolume_advance(cv);
}

void
cvolume_forget(struct cvolume *cv)
{
    cv->txn_busy = true;
    cv->txn = (struct state_txn){
        .build = cvolume_forget_build,
        .done = cvolume_forgotten,
        .comment = "attachment ended",
        .deadline_ns = cvolume_txn_deadline(cv),
        .flags = STATE_TXN_RETRY,
    };
    state_txn_start(cv->cluster->state, &cv->txn);
}
