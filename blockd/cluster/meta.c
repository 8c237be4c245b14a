/* SPDX-License-Identifier: Apache-2.0 */

/* Membership commits: from the mirrors of one volume to the database.
 *
 * Mirrors ask on the reactor; the control thread takes all that wait and makes
 * one transaction of them (P3: a host's death must not cost a commit per
 * mirror).  It verifies that the Volume row still names our instance and epoch
 * and that each Mirror row still has the view that the mirror knows, and sets
 * view + 1 (S11); lib/state makes it durable (S10).
 *
 * "Read again" (after an unknown outcome) is a commit, too: it sets view + 1
 * and leaves the in-sync set as it is.  Only so is it certain that the earlier
 * transaction, which may be on its way yet, can never take effect. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/cluster/cluster_internal.h"
#include "lib/base/array.h"
#include "lib/base/container_of.h"
#include "lib/base/log.h"

#define META_BATCH_MAX 64u
/* A Raft server that has forwarded a transaction to a leader that is gone keeps
 * it for twice the election timer; asked again it finds the new leader.  So the
 * first few times are short. */
#define META_TXN_FIRST_NS (300 * NS_PER_MS)
#define META_TXN_LAST_NS (5 * NS_PER_S)
#define META_TXN_SHORT 3u

struct meta {
    struct mirror_meta table; /* First: the mirrors know this. */
    struct cvolume *cv;
    struct cluster *cluster;
    struct io *io;
    struct loop_post post;
    pthread_mutex_t lock; /* Of the four below. */
    struct list asked;    /* struct mirror_commit */
    bool is_posted;
    bool is_expecting;
    uint32_t notes; /* On their way. */
    bool is_sent;   /* A transaction is on its way: control thread. */
    struct list waiting;
    struct list sent;
    uint32_t sent_count;
    uint32_t unsettled; /* Transactions since one was. */
    struct state_txn txn;
};

/* A mirror's note to people, on its way to the control thread. */
struct meta_note {
    struct loop_post post;
    struct meta *meta;
    char kind[48];
    char text[300];
};

static void meta_send(struct meta *meta);
static loop_post_fn meta_asked;

bool
meta_row_from_state(const struct state_mirror *row, struct mirror_row *ret_row)
{
    if (row->replicas_count == 0 || row->replicas_count > STORE_REPLICAS_MAX) {
        return false;
    }
    struct mirror_row made = {
        .mirror = row->row.uuid,
        .view = row->view,
        .replica_count = (uint32_t)row->replicas_count,
    };
    for (uint32_t i = 0; i < made.replica_count; i++) {
        made.replica[i] = row->replicas[i].key;
        made.disk[i] = row->replicas[i].value;
        if (state_uuids_contain(row->in_sync, row->in_sync_count,
                                &row->replicas[i].key)) {
            made.in_sync |= 1u << i;
        }
    }
    if (made.in_sync == 0) {
        return false;
    }
    *ret_row = made;
    return true;
}

/* ---- Reactor ---- */

/* With a commit, or NULL: one is to be expected. */
static void
meta_post(struct meta *meta, struct mirror_commit *op)
{
    bool post;

    pthread_mutex_lock(&meta->lock);
    if (op != NULL) {
        list_push_back(&meta->asked, &op->node);
    } else {
        meta->is_expecting = true;
    }
    post = !meta->is_posted;
    meta->is_posted = true;
    pthread_mutex_unlock(&meta->lock);
    if (post) {
        loop_post_send(meta->cluster->loop, &meta->post);
    }
}

static void
meta_commit(struct mirror_meta *table, struct mirror_commit *op)
{
    list_init(&op->node);
    meta_post(container_of(table, struct meta, table), op);
}

static void
meta_expect(struct mirror_meta *table)
{
    meta_post(container_of(table, struct meta, table), NULL);
}

static void
meta_commit_arrive(struct io_post *post)
{
    struct mirror_commit *op = container_of(post, struct mirror_commit, post);

    op->done(op, op->result);
}

/* What is good news; everything else that a mirror tells deserves a look. */
static enum state_event_severity
meta_note_severity(const char *kind)
{
    static const char *const good[] = { "mirror-reconciled", "mirror-resumed",
                                        "replica-in-sync", "resync-started" };

    for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
        if (strcmp(kind, good[i]) == 0) {
            return STATE_EVENT_SEVERITY_INFO;
        }
    }
    return STATE_EVENT_SEVERITY_WARNING;
}

static void
meta_note_run(struct loop_post *post)
{
    struct meta_note *note = container_of(post, struct meta_note, post);
    struct cluster *cluster = note->meta->cluster;

    pthread_mutex_lock(&note->meta->lock);
    note->meta->notes--;
    pthread_mutex_unlock(&note->meta->lock);
    cluster_event(cluster, meta_note_severity(note->kind),
                  note->meta->cv->resource, note->kind, "%s", note->text);
    free(note);
}

static void
meta_notify(struct mirror_meta *table, struct mirror *mirror, const char *kind,
            const char *text)
{
    struct meta *meta = container_of(table, struct meta, table);
    struct meta_note *note = calloc(1, sizeof *note); /* Rare: not data path. */
    (void)mirror;

    if (note == NULL) {
        return;
    }
    pthread_mutex_lock(&meta->lock);
    meta->notes++;
    pthread_mutex_unlock(&meta->lock);
    note->meta = meta;
    note->post.run = meta_note_run;
    (void)snprintf(note->kind, sizeof note->kind, "%s", kind);
    (void)snprintf(note->text, sizeof note->text, "%s", text);
    loop_post_send(meta->cluster->loop, &note->post);
}

/* ---- Control thread ---- */

int
meta_new(struct cvolume *cv, struct meta **ret_meta)
{
    struct meta *meta = calloc(1, sizeof *meta);
    if (meta == NULL) {
        return -ENOMEM;
    }
    if (pthread_mutex_init(&meta->lock, NULL) != 0) {
        free(meta);
        return -ENOMEM;
    }
    meta->table.commit = meta_commit;
    meta->table.notify = meta_notify;
    meta->table.expect = meta_expect;
    meta->cv = cv;
    meta->cluster = cv->cluster;
    meta->io = plane_io(cv->plane);
    meta->post.run = meta_asked;
    list_init(&meta->asked);
    list_init(&meta->waiting);
    list_init(&meta->sent);
    *ret_meta = meta;
    return 0;
}

struct mirror_meta *
meta_table(struct meta *meta)
{
    return &meta->table;
}

bool
meta_is_idle(struct meta *meta)
{
    bool idle;

    pthread_mutex_lock(&meta->lock);
    idle = list_is_empty(&meta->asked) && !meta->is_posted && meta->notes == 0;
    pthread_mutex_unlock(&meta->lock);
    return idle && !meta->is_sent && list_is_empty(&meta->waiting);
}

void
meta_free(struct meta *meta)
{
    if (meta == NULL) {
        return;
    }
    CHECK(meta_is_idle(meta));
    pthread_mutex_destroy(&meta->lock);
    free(meta);
}

static void
meta_settle(struct meta *meta, struct mirror_commit *op, int result)
{
    op->result = result;
    op->post.run = meta_commit_arrive;
    io_post_send(NULL, meta->io, &op->post);
}

/* Whether the Volume row still names the owner of the commit. */
static bool
meta_is_owner(const struct state_volume *volume, const struct mirror_commit *op)
{
    return volume != NULL && volume->epoch == op->epoch &&
           uuid_equal(&volume->owner_instance, &op->owner_instance);
}

/* Adds one commit to the transaction, or finds that it cannot be. */
static void
meta_build_one(struct state_txn *txn, struct state *state,
               const struct mirror_commit *op)
{
    const struct state_mirror *old = state_mirror_get(state, &op->mirror);
    struct mirror_row known;

    if (old == NULL || !meta_row_from_state(old, &known) ||
        (!op->reread && old->view != op->view)) {
        return; /* meta_judge() tells. */
    }
    struct weft_uuid in_sync[STORE_REPLICAS_MAX];
    size_t count = 0;
    uint32_t wanted = op->reread ? known.in_sync : op->in_sync;
    for (uint32_t i = 0; i < known.replica_count; i++) {
        if ((wanted & 1u << i) != 0) {
            in_sync[count++] = known.replica[i];
        }
    }
    CHECK(count > 0); /* S11: never empty. */
    struct state_mirror row = {
        .row = old->row,
        .view = old->view + 1,
        .in_sync = in_sync,
        .in_sync_count = count,
    };
    state_txn_verify(txn, &old->row,
                     STATE_MIRROR_COL_VIEW | STATE_MIRROR_COL_REPLICAS);
    state_txn_update(txn, &row.row,
                     STATE_MIRROR_COL_VIEW | STATE_MIRROR_COL_IN_SYNC);
}

static int
meta_build(struct state_txn *txn, struct state *state)
{
    struct meta *meta = container_of(txn, struct meta, txn);
    struct list *first = list_front(&meta->sent);
    CHECK(first != NULL);
    const struct mirror_commit *op =
        container_of(first, struct mirror_commit, node);
    const struct state_volume *volume = state_volume_get(state, &op->volume);

    if (!meta_is_owner(volume, op)) {
        return -ECANCELED;
    }
    state_txn_verify(txn, &volume->row,
                     STATE_VOLUME_COL_OWNER_INSTANCE | STATE_VOLUME_COL_EPOCH);
    LIST_FOREACH (node, &meta->sent) {
        meta_build_one(txn, state,
                       container_of(node, struct mirror_commit, node));
    }
    return 0;
}

/* What one commit of a settled transaction comes to. */
static int
meta_judge(struct meta *meta, struct mirror_commit *op, int result)
{
    struct state *state = meta->cluster->state;
    const struct state_volume *volume = state_volume_get(state, &op->volume);
    const struct state_mirror *mirror = state_mirror_get(state, &op->mirror);
    struct mirror_row row;

    if (result != 0 && result != -ECANCELED) {
        return -EAGAIN;
    }
    if (mirror == NULL || volume == NULL) {
        op->owner_lost = true;
        return -ECANCELED;
    }
    if (!meta_row_from_state(mirror, &row)) {
        return -EAGAIN;
    }
    op->ret_row = row;
    op->owner_lost = !meta_is_owner(volume, op);
    if (op->owner_lost) {
        return -ECANCELED;
    }
    if (result == 0 && row.view == op->id &&
        (op->reread || row.in_sync == op->in_sync)) {
        return 0;
    }
    /* A failed verify with a row that looks as expected: our copy lags behind
     * the database.  Nothing may be concluded from it. */
    return row.view != op->view ? -ECANCELED : -EAGAIN;
}

static bool
meta_has_record(const struct meta *meta)
{
    return meta->cv->state == CVOLUME_RUNNING ||
           meta->cv->state == CVOLUME_STOPPING;
}

static void
meta_done(struct state_txn *txn, int result)
{
    struct meta *meta = container_of(txn, struct meta, txn);

    bool is_settled = true;

    meta->is_sent = false;
    if (result != 0) {
        log_warning("cluster", "membership not committed volume=%s result=%d",
                    meta->cv->name, result);
    }
    for (struct list *node = list_pop_front(&meta->sent); node != NULL;
         node = list_pop_front(&meta->sent)) {
        struct mirror_commit *op =
            container_of(node, struct mirror_commit, node);
        int verdict = meta_judge(meta, op, result);
        is_settled = is_settled && verdict != -EAGAIN;
        if (verdict == 0) {
            cluster_event(meta->cluster, STATE_EVENT_SEVERITY_INFO,
                          meta->cv->resource, "MEMBERSHIP",
                          "view %llu, %d of %u replicas in sync (%s)",
                          (unsigned long long)op->ret_row.view,
                          __builtin_popcount(op->ret_row.in_sync),
                          op->ret_row.replica_count, op->why);
        }
        meta_settle(meta, op, verdict);
    }
    /* Whatever is not settled will be asked for again, at the same view. */
    meta->unsettled = is_settled ? 0 : meta->unsettled + 1;
    if (is_settled && meta_has_record(meta)) {
        record_save(meta->cv, false);
    }
    cvolume_row_changed(meta->cluster, &meta->cv->volume);
    meta_send(meta);
}

static uint64_t
meta_patience_ns(const struct meta *meta)
{
    uint64_t patience_ns = META_TXN_FIRST_NS;

    for (uint32_t i = META_TXN_SHORT;
         i <= meta->unsettled && patience_ns < META_TXN_LAST_NS; i++) {
        patience_ns *= 2;
    }
    return patience_ns;
}

static void
meta_send(struct meta *meta)
{
    if (meta->is_sent || list_is_empty(&meta->waiting)) {
        return;
    }
    meta->sent_count = 0;
    while (meta->sent_count < META_BATCH_MAX) {
        struct list *node = list_pop_front(&meta->waiting);
        if (node == NULL) {
            break;
        }
        struct mirror_commit *op =
            container_of(node, struct mirror_commit, node);
        const struct state_mirror *row =
            state_mirror_get(meta->cluster->state, &op->mirror);
        /* The view that this commit makes, to know it by afterwards. */
        op->id = (op->reread && row != NULL ? row->view : op->view) + 1;
        list_push_back(&meta->sent, &op->node);
        meta->sent_count++;
    }
    if (meta_has_record(meta)) {
        record_save(meta->cv, true); /* Durable before it can be committed. */
    }
    meta->is_sent = true;
    meta->txn = (struct state_txn){
        .build = meta_build,
        .done = meta_done,
        .comment = "mirror membership",
        .deadline_ns = loop_now_ns() + meta_patience_ns(meta),
    };
    state_txn_start(meta->cluster->state, &meta->txn);
}

void
meta_hurry(struct meta *meta)
{
    if (meta != NULL && meta->is_sent) {
        state_txn_cancel(&meta->txn);
    }
}

static void
meta_asked(struct loop_post *post)
{
    struct meta *meta = container_of(post, struct meta, post);

    pthread_mutex_lock(&meta->lock);
    bool is_expecting = meta->is_expecting;
    meta->is_expecting = false;
    meta->is_posted = false;
    list_splice_back(&meta->waiting, &meta->asked);
    pthread_mutex_unlock(&meta->lock);
    if (is_expecting) {
        state_suspect(meta->cluster->state);
    }
    meta_send(meta);
}
