/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "lib/base/units.h"
#include "tests/sim/cluster.h"

/* The manager's repair (rule 13): a stale replica is replaced by a new, empty
 * one, on the same host or on one that has none.  It is created first, then the
 * row is changed, behind the owner's back (S11: view + 1, in-sync set as it
 * is), and some time later the owner hears of it. */

static void
repair_created(struct store_req *req)
{
    container_of(req, struct repair, req)->answered = true;
}

static struct host *
repair_find_host(struct world *world, uint32_t m, uint32_t index)
{
    bool used[HOSTS] = { false };

    for (uint32_t i = 0; i < world->replicas; i++) {
        used[world->where[m][i]] = i != index;
    }
    uint32_t first = (uint32_t)rng_below(&world->rng, HOSTS);
    for (uint32_t i = 0; i < HOSTS; i++) {
        struct host *host = &world->hosts[(first + i) % HOSTS];
        if (!used[host->index] && host->up) {
            return host;
        }
    }
    return NULL;
}

static void
repair_begin(struct world *world)
{
    struct repair *repair = &world->repair;
    uint32_t m = (uint32_t)rng_below(&world->rng, world->mirrors);
    uint32_t first = (uint32_t)rng_below(&world->rng, world->replicas);
    const struct mirror_row *row = &world->db.rows[m];
    uint32_t index = world->replicas;

    for (uint32_t i = 0; i < world->replicas; i++) {
        uint32_t candidate = (first + i) % world->replicas;
        if ((row->in_sync & 1u << candidate) == 0) {
            index = candidate;
        }
    }
    if (index == world->replicas) {
        return;
    }
    struct host *host = repair_find_host(world, m, index);
    if (host == NULL) {
        return;
    }
    *repair = (struct repair){ .busy = true,
                               .mirror = m,
                               .index = index,
                               .host = host,
                               .life = host->life,
                               .view = row->view,
                               .number = repair->number + 1 };
    uuid_make_random(13, repair->number, &repair->uuid);
    repair->req = (struct store_req){
        .done = repair_created,
        .opcode = STORE_CREATE,
        .replica = repair->uuid,
        .deadline_ns = IO_NEVER,
        .layer = STORE_LAYER_FIRST,
        .volume = world->volume,
        .mirror_index = m,
        .size_blocks =
            volume_mirror_bytes(VOLUME_BYTES, EXTENT_BYTES, world->mirrors, m) /
            WEFT_BLOCK_SIZE,
        .membership = { .view = row->view },
    };
    struct store_membership *membership = &repair->req.membership;
    for (uint32_t i = 0; i < world->replicas; i++) {
        if ((row->in_sync & 1u << i) != 0) {
            membership->in_sync[membership->in_sync_count++] = row->replica[i];
        }
    }
    sim_trace(world->sim, "repair: mirror %u replica %u anew at host %u", m,
              index, host->index);
    sim_node_enter(host->node);
    store_submit(host->store, &repair->req);
    sim_node_leave(host->node);
}

/* The row, if nobody has changed it meanwhile. */
static void
repair_end(struct world *world)
{
    struct repair *repair = &world->repair;
    struct mirror_row *row = &world->db.rows[repair->mirror];

    repair->busy = false;
    if (repair->req.result != 0 || row->view != repair->view) {
        return;
    }
    CHECK((row->in_sync & 1u << repair->index) == 0);
    row->replica[repair->index] = repair->uuid;
    row->disk[repair->index] = repair->host->disk_uuid;
    row->view++;
    world->where[repair->mirror][repair->index] = repair->host->index;
    /* No copy of the database is older than the replicas it names. */
    world->db.before[repair->mirror].view = 0;
    sim_trace(world->sim, "db: mirror %u view %llu: a new replica %u",
              repair->mirror, (unsigned long long)row->view, repair->index);
}

/* The owner reads all rows again, whether anything has changed or not. */
static void
repair_tell(struct world *world)
{
    struct host *host = world->attached;

    if (host == NULL || host->owner.volume == NULL || host->owner.stopping ||
        host->owner.epoch != world->db.epoch) {
        return;
    }
    for (uint32_t m = 0; m < world->mirrors; m++) {
        struct link *links[STORE_REPLICAS_MAX] = { NULL };
        bool known = true;
        for (uint32_t i = 0; i < world->replicas; i++) {
            links[i] = host->links[world->where[m][i]];
            known = known && links[i] != NULL;
        }
        if (!known) {
            continue;
        }
        host->record[m] = world->db.rows[m];
        sim_node_enter(host->node);
        mirror_row_changed(volume_mirror(host->owner.volume, m),
                           &world->db.rows[m], links);
        sim_node_leave(host->node);
    }
}

void
world_repair(struct world *world, bool anew)
{
    struct repair *repair = &world->repair;

    if (!world->swarm.repairs || world->swarm.small_disk ||
        world->db.mood != DB_FINE) {
        return;
    }
    if (repair->busy && repair->life != repair->host->life) {
        repair->busy = false; /* Nobody will answer. */
    }
    if (repair->busy && repair->answered) {
        repair_end(world);
    } else if (!repair->busy && anew && rng_chance(&world->rng, 1, 3)) {
        repair_begin(world);
    }
    if (rng_chance(&world->rng, 1, 4)) {
        repair_tell(world);
    }
}
