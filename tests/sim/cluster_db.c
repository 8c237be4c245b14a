/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "lib/base/units.h"
#include "tests/sim/cluster.h"

/* The database: a few rows behind delays and bad moods.
 *
 * A commit is applied at one moment and answered at another, each by an alarm
 * of the world, so that neither depends on the life of who asked.  An unknown
 * outcome may mean applied, never applied, or applied later, after the answer.
 * A host that is cut off from the others is cut off from the database. */

static void
db_apply(struct db_op *op)
{
    struct world *world = op->world;
    struct mirror_commit *wanted = &op->wanted;
    bool ours = world->db.epoch == wanted->epoch &&
                uuid_equal(&world->db.instance, &wanted->owner_instance);

    for (uint32_t i = 0; i < world->mirrors; i++) {
        struct mirror_row *row = &world->db.rows[i];
        if (!uuid_equal(&row->mirror, &wanted->mirror)) {
            continue;
        }
        wanted->result = -ECANCELED;
        if (wanted->reread) {
            wanted->result = 0;
        } else if (ours && row->view == wanted->view) {
            world->db.before[i] = *row;
            row->view++;
            row->in_sync = wanted->in_sync;
            wanted->result = 0;
            sim_trace(world->sim, "db: mirror %u view %llu in sync %x: %s", i,
                      (unsigned long long)row->view, row->in_sync, wanted->why);
        }
        wanted->ret_row = *row;
        wanted->owner_lost = !ours;
    }
}

static uint32_t
db_mirror_index(const struct world *world, const struct weft_uuid *mirror)
{
    for (uint32_t i = 0; i < world->mirrors; i++) {
        if (uuid_equal(&world->db.rows[i].mirror, mirror)) {
            return i;
        }
    }
    return 0;
}

static void
db_answer(struct db_op *op)
{
    struct mirror_commit *commit = op->commit;
    struct host *host = op->host;

    if (commit == NULL || host->life != op->life || host->io == NULL) {
        return;
    }
    op->commit = NULL;
    if (op->unknown) {
        sim_trace(op->world->sim, "db: host %u gets no answer", host->index);
        commit->done(commit, -EAGAIN);
        return;
    }
    commit->ret_row = op->wanted.ret_row;
    commit->owner_lost = op->wanted.owner_lost;
    uint32_t index = db_mirror_index(op->world, &commit->mirror);
    if (!commit->owner_lost && host->record_epoch == commit->epoch) {
        host->record[index] = commit->ret_row;
        host->record_pending[index] =
            commit->reread && host->record_pending[index];
    }
    commit->done(commit, op->wanted.result);
}

static void
db_fire(struct sim_alarm *alarm)
{
    struct db_op *op = container_of(alarm, struct db_op, alarm);
    uint64_t now_ns = sim_now_ns(op->world->sim);

    if (op->apply_ns <= now_ns) {
        op->apply_ns = UINT64_MAX;
        db_apply(op);
    }
    if (op->answer_ns <= now_ns) {
        op->answer_ns = UINT64_MAX;
        db_answer(op);
    }
    uint64_t next_ns =
        op->apply_ns < op->answer_ns ? op->apply_ns : op->answer_ns;
    op->used = next_ns != UINT64_MAX;
    if (op->used) {
        sim_alarm_set(op->world->sim, &op->alarm, next_ns);
    }
}

void
db_init(struct world *world)
{
    for (uint32_t i = 0; i < DB_OPS; i++) {
        world->db.ops[i].alarm.fire = db_fire;
        world->db.ops[i].world = world;
    }
}

void
db_commit(struct mirror_meta *meta, struct mirror_commit *commit)
{
    struct owner *owner = container_of(meta, struct owner, meta);
    struct host *host = owner->host;
    struct world *world = host->world;
    struct db *db = &world->db;
    struct db_op *op = NULL;

    for (uint32_t i = 0; i < DB_OPS && op == NULL; i++) {
        op = db->ops[i].used ? NULL : &db->ops[i];
    }
    CHECK(op != NULL);
    op->used = true;
    op->commit = commit;
    op->wanted = *commit;
    op->host = host;
    op->life = host->life;
    op->unknown = false;
    uint64_t now_ns = sim_now_ns(world->sim);
    op->apply_ns =
        now_ns + rng_between(&world->rng, 200 * NS_PER_US, 4 * NS_PER_MS);
    op->answer_ns = op->apply_ns + rng_between(&world->rng, 0, 4 * NS_PER_MS);
    if (db->mood == DB_AWAY) {
        op->unknown = true;
        op->apply_ns = UINT64_MAX;
        op->answer_ns = now_ns + 40 * NS_PER_MS;
    } else if (rng_below(&world->rng, 100) < db->unknown_pct) {
        op->unknown = true;
        uint64_t dice = rng_below(&world->rng, 3);
        if (dice == 0) {
            op->apply_ns = UINT64_MAX;
        } else if (dice == 1) {
            /* It comes true after the answer that nobody knows. */
            op->apply_ns =
                op->answer_ns + rng_between(&world->rng, 0, 300 * NS_PER_MS);
        }
    }
    if (!commit->reread) {
        host->record_pending[db_mirror_index(world, &commit->mirror)] = true;
    }
    sim_alarm_set(world->sim, &op->alarm,
                  op->apply_ns < op->answer_ns ? op->apply_ns : op->answer_ns);
}

void
db_notify(struct mirror_meta *meta, struct mirror *mirror, const char *kind,
          const char *text)
{
    const struct owner *owner = container_of(meta, struct owner, meta);

    if (strcmp(kind, "resync-started") == 0) {
        struct mirror_status status;
        mirror_status_get(mirror, &status);
        owner->host->world->resyncs[db_mirror_index(owner->host->world,
                                                    &status.row.mirror)]++;
    }
    if (strcmp(kind, "block-repaired") == 0 &&
        strstr(text, "adopted") != NULL) {
        owner->host->world->adoptions++;
    }
    sim_trace(owner->host->world->sim, "%u: %s: %s", owner->host->index, kind,
              text);
}

void
db_forget(struct host *host)
{
    for (uint32_t i = 0; i < DB_OPS; i++) {
        if (host->world->db.ops[i].host == host) {
            host->world->db.ops[i].commit = NULL;
        }
    }
}
