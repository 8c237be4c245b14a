/* SPDX-License-Identifier: Apache-2.0 */

/* Claim and release: the transactions that make this host a volume's owner, and
 * no longer.
 *
 * Claiming is statement (d) of STORAGE.md: a durable compare-and-set of (owner
 * instance, epoch + 1) that verifies the view of every mirror; the fencing of
 * the replicas is the mirrors' part.  Releasing is the same in reverse: drained
 * and flushed first, then the row loses its owner and says "clean".
 *
 * An outcome that stays unknown leaves us in doubt whether the row names us.
 * That does no harm: a claim is made again with a higher epoch, and before a
 * volume is forgotten the row is looked at (cvolume_has_leftover()). */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "blockd/cluster/cluster_internal.h"
#include "lib/base/container_of.h"

#define RETRY_NS NS_PER_S
/* While blockd stops, with and without a database. */
#define STOP_TXN_NS (3 * NS_PER_S)
#define STOP_TXN_AWAY_NS (300 * NS_PER_MS)

uint64_t
cvolume_txn_deadline(const struct cvolume *cv)
{
    const struct cluster *cluster = cv->cluster;
    uint64_t wait_ns = !cluster->is_stopping ? CLUSTER_TXN_NS
                       : state_status(cluster->state)->is_connected
                           ? STOP_TXN_NS
                           : STOP_TXN_AWAY_NS;

    return loop_now_ns() + wait_ns;
}

/* ---- Claim ---- */

/* NULL: all that a claim needs is there; else why not, for people. */
const char *
cvolume_obstacle(const struct cvolume *cv)
{
    struct state *state = cv->cluster->state;
    const struct state_volume *row = state_volume_get(state, &cv->volume);

    if (row == NULL) {
        return "the volume's row is gone";
    }
    if (row->stripe_width > VOLUME_MIRRORS_MAX) {
        return "the volume has more mirrors than this version serves";
    }
    if (!uuid_is_nil(&row->owner_instance) &&
        strcmp(row->owner_host, cv->cluster->host) != 0) {
        return "another host still owns the volume; it lets go when it has "
               "flushed, or use 'weft volume detach --force' if it is dead";
    }
    for (uint32_t i = 0; i < row->stripe_width; i++) {
        const struct state_mirror *mirror =
            state_mirror_find_by_volume_index(state, &cv->volume, i);
        if (mirror == NULL) {
            return "a mirror's row is missing";
        }
        for (size_t j = 0; j < mirror->replicas_count; j++) {
            const struct state_replica_status *status =
                state_replica_status_find_by_replica(state,
                                                     &mirror->replicas[j].key);
            if (status == NULL) {
                return "waiting for a replica to be created on its disk";
            }
            if (status->state == STATE_REPLICA_STATUS_STATE_FAILED) {
                return "a replica could not be created on its disk";
            }
        }
    }
    return NULL;
}

static int
cvolume_claim_build(struct state_txn *txn, struct state *state)
{
    struct cvolume *cv = container_of(txn, struct cvolume, txn);
    const struct state_volume *old = state_volume_get(state, &cv->volume);

    if (old == NULL) {
        return -ENOENT;
    }
    if (uuid_equal(&old->owner_instance, &cv->instance) && cv->epoch != 0 &&
        old->epoch == cv->epoch) {
        return STATE_TXN_NOTHING; /* It was us. */
    }
    if (!uuid_is_nil(&old->owner_instance) &&
        strcmp(old->owner_host, cv->cluster->host) != 0) {
        return -EBUSY;
    }
    if (old->epoch >= STORE_EPOCH_MAX) {
        return -EOVERFLOW;
    }
    cv->clean = old->clean && uuid_is_nil(&old->owner_instance);
    cv->epoch = old->epoch + 1;
    struct state_volume row = {
        .row = old->row,
        .owner_host = cv->cluster->host,
        .owner_instance = cv->instance,
        .epoch = cv->epoch,
        .clean = false,
    };
    state_txn_verify(txn, &old->row,
                     STATE_VOLUME_COL_EPOCH | STATE_VOLUME_COL_OWNER_INSTANCE |
                         STATE_VOLUME_COL_CLEAN);
    for (uint32_t i = 0; i < old->stripe_width; i++) {
        const struct state_mirror *mirror =
            state_mirror_find_by_volume_index(state, &cv->volume, i);
        if (mirror == NULL) {
            return -ENOENT;
        }
        state_txn_verify(txn, &mirror->row,
                         STATE_MIRROR_COL_VIEW | STATE_MIRROR_COL_IN_SYNC |
                             STATE_MIRROR_COL_REPLICAS);
    }
    state_txn_update(txn, &row.row,
                     STATE_VOLUME_COL_EPOCH | STATE_VOLUME_COL_OWNER_HOST |
                         STATE_VOLUME_COL_OWNER_INSTANCE |
                         STATE_VOLUME_COL_CLEAN);
    return 0;
}

static void
cvolume_claimed(struct state_txn *txn, int result)
{
    struct cvolume *cv = container_of(txn, struct cvolume, txn);

    cv->txn_busy = false;
    if (result == 0) {
        cv->is_lost = false;
        if (cv->is_wanted && !cv->cluster->is_stopping) {
            cvolume_start(cv);
        } else {
            cv->state = CVOLUME_RELEASING; /* Not wanted any more. */
            cv->pv.clean = cv->clean;      /* Nothing ran. */
            cvolume_advance(cv);
        }
        return;
    }
    char text[300];
    (void)snprintf(text, sizeof text, "could not be claimed: %s",
                   txn->error[0] != '\0' ? txn->error : strerror(-result));
    cv->state = CVOLUME_WAITING;
    cv->epoch = 0;
    cv->retry_ns = loop_now_ns() + RETRY_NS;
    cvolume_set_status(cv, STATE_ATTACHMENT_STATUS_STATE_ATTACHING, text);
    cvolume_advance(cv);
}

void
cvolume_claim(struct cvolume *cv)
{
    struct record record;

    /* A guest that lived through our restart, on this boot (S17). */
    cv->live_guest = record_read(cv->cluster, &cv->volume, &record) == 0 &&
                     uuid_equal(&record.boot_id, &cv->cluster->boot_id);
    cv->state = CVOLUME_CLAIMING;
    cv->instance = cv->cluster->instance;
    cv->epoch = 0;
    cv->is_ready = false;
    cv->pv.clean = false;
    cv->txn_busy = true;
    cv->txn = (struct state_txn){
        .build = cvolume_claim_build,
        .done = cvolume_claimed,
        .comment = "volume claim",
        .deadline_ns = cvolume_txn_deadline(cv),
        .flags = STATE_TXN_RETRY,
    };
    state_txn_start(cv->cluster->state, &cv->txn);
}

/* ---- Release ---- */

static int
cvolume_release_build(struct state_txn *txn, struct state *state)
{
    struct cvolume *cv = container_of(txn, struct cvolume, txn);
    const struct state_volume *old = state_volume_get(state, &cv->volume);

    if (old == NULL || old->epoch != cv->epoch ||
        !uuid_equal(&old->owner_instance, &cv->instance)) {
        return STATE_TXN_NOTHING; /* Not ours any more. */
    }
    struct state_volume row = { .row = old->row,
                                .owner_host = "",
                                .clean = cv->pv.clean };
    state_txn_verify(txn, &old->row,
                     STATE_VOLUME_COL_EPOCH | STATE_VOLUME_COL_OWNER_INSTANCE);
    state_txn_update(txn, &row.row,
                     STATE_VOLUME_COL_OWNER_HOST |
                         STATE_VOLUME_COL_OWNER_INSTANCE |
                         STATE_VOLUME_COL_CLEAN);
    return 0;
}

static void
cvolume_released(struct state_txn *txn, int result)
{
    struct cvolume *cv = container_of(txn, struct cvolume, txn);

    cv->txn_busy = false;
    if (result != 0 && !cv->cluster->is_stopping) {
        cv->retry_ns = loop_now_ns() + RETRY_NS;
        cvolume_advance(cv); /* Tries again. */
        return;
    }
    if (result == 0) {
        record_remove(cv->cluster, &cv->volume);
        cluster_event(cv->cluster, STATE_EVENT_SEVERITY_INFO, cv->resource,
                      "DETACHED", "%s", cv->pv.clean ? "clean" : "not clean");
    }
    cv->is_released = true; /* It is nobody's, or somebody else's. */
    cvolume_advance(cv);
}

void
cvolume_release(struct cvolume *cv)
{
    cv->txn_busy = true;
    cv->txn = (struct state_txn){
        .build = cvolume_release_build,
        .done = cvolume_released,
        .comment = "volume release",
        .deadline_ns = cvolume_txn_deadline(cv),
        .flags = STATE_TXN_RETRY,
    };
    state_txn_start(cv->cluster->state, &cv->txn);
}

/* ---- Leftovers ---- */

bool
cvolume_has_leftover(struct cvolume *cv)
{
    const struct state_volume *row =
        state_volume_get(cv->cluster->state, &cv->volume);

    if (row == NULL || uuid_is_nil(&row->owner_instance) ||
        strcmp(row->owner_host, cv->cluster->host) != 0) {
        return false;
    }
    /* An earlier blockd of this host, or a claim of ours whose outcome was not
     * known.  Nothing runs under it; what it wrote may not be equal. */
    cv->instance = row->owner_instance;
    cv->epoch = row->epoch;
    cv->pv.clean = false;
    return true;
}
