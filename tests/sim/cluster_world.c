/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/crc32c.h"
#include "lib/base/units.h"
#include "tests/sim/cluster.h"

/* One seed: set up, a while of requests and faults, then peace: everything must
 * come back, by itself, with every byte legal and all copies equal.
 *
 * Which faults there are is drawn per seed ("swarm"), so that some seeds are
 * all about power cuts and others about the database.
 *
 * The part of the cluster manager and of the hypervisors is care(): it attaches
 * the volume where nobody has it, kills guests that cannot go on, and gives
 * stores that failed a new start. */

#define REPLICA_UUID(m, i) (UINT64_C(0x100) * ((m) + 1) + (i) + 1)

void
world_fail(struct world *world, const char *format, ...)
{
    va_list arguments;

    if (world->failed) {
        return;
    }
    world->failed = true;
    va_start(arguments, format);
    (void)vsnprintf(world->why, sizeof world->why, format, arguments);
    va_end(arguments);
    sim_trace(world->sim, "FAILED: %s", world->why);
}

/* ---- Set-up ---- */

static void
swarm_draw(struct world *world)
{
    struct rng *rng = &world->rng;
    struct swarm *swarm = &world->swarm;
    bool *const knobs[] = {
        &swarm->power,       &swarm->process,    &swarm->all_power,
        &swarm->partition,   &swarm->oneway,     &swarm->cut,
        &swarm->freeze,      &swarm->slow,       &swarm->read_eio,
        &swarm->write_eio,   &swarm->flush_eio,  &swarm->flips,
        &swarm->db_away,     &swarm->db_unknown, &swarm->moves,
        &swarm->clean_moves, &swarm->zombies,    &swarm->resumes,
        &swarm->hang,        &swarm->spoil,      &swarm->repairs,
    };

    for (uint32_t i = 0; i < sizeof knobs / sizeof knobs[0]; i++) {
        *knobs[i] = rng_chance(rng, 2, 5);
    }
    swarm->small_disk = rng_chance(rng, 1, 6);
    swarm->volatile_cache = rng_chance(rng, 3, 4);
    swarm->enospc_holds = rng_chance(rng, 1, 2);
}

static bool
world_wait_up(struct world *world, uint64_t limit_ns)
{
    for (uint64_t t = 0; t < limit_ns; t += 5 * NS_PER_MS) {
        bool up = true;
        for (uint32_t i = 0; i < HOSTS; i++) {
            up = up && world->hosts[i].up;
        }
        if (up) {
            return true;
        }
        sim_run_for(world->sim, 5 * NS_PER_MS);
    }
    return false;
}

static void
world_create_replicas(struct world *world)
{
    for (uint32_t m = 0; m < world->mirrors; m++) {
        struct mirror_row *row = &world->db.rows[m];
        uint32_t first = (uint32_t)rng_below(&world->rng, HOSTS);
        row->view = 1;
        row->replica_count = world->replicas;
        row->in_sync = (1u << world->replicas) - 1;
        uuid_make_random(3, m + 1, &row->mirror);
        for (uint32_t i = 0; i < world->replicas; i++) {
            world->where[m][i] = (first + i) % HOSTS;
            uuid_make_random(5, REPLICA_UUID(m, i), &row->replica[i]);
            row->disk[i] = world->hosts[world->where[m][i]].disk_uuid;
        }
        for (uint32_t i = 0; i < world->replicas; i++) {
            struct store_req req = {
                .opcode = STORE_CREATE,
                .replica = row->replica[i],
                .volume = world->volume,
                .mirror_index = m,
                .size_blocks = volume_mirror_bytes(VOLUME_BYTES, EXTENT_BYTES,
                                                   world->mirrors, m) /
                               WEFT_BLOCK_SIZE,
                .membership = { .view = 1, .in_sync_count = world->replicas },
            };
            memcpy(req.membership.in_sync, row->replica,
                   sizeof req.membership.in_sync);
            int result =
                host_store_run(&world->hosts[world->where[m][i]], &req);
            CHECK(result == 0);
        }
    }
}

/* Another volume's replica takes most of the small disk. */
static const struct weft_uuid filler = { { 0xf1, 0x11 } };

static void
world_fill_disk(struct world *world)
{
    struct host *host = &world->hosts[1];
    struct store_req req = { .opcode = STORE_CREATE,
                             .replica = filler,
                             .volume = filler,
                             .size_blocks = 65536 };
    void *data = aligned_alloc(WEFT_BLOCK_SIZE, WEFT_BLOCK_SIZE);
    uint32_t crc;
    struct store_info info;

    CHECK(data != NULL);
    memset(data, 0x5a, WEFT_BLOCK_SIZE);
    crc = crc32c(0, data, WEFT_BLOCK_SIZE);
    CHECK(host_store_run(host, &req) == 0);
    req = (struct store_req){ .opcode = STORE_FENCE,
                              .replica = filler,
                              .epoch = 1 };
    CHECK(host_store_run(host, &req) == 0);
    uint64_t session = req.session;
    uint64_t left = rng_between(&world->rng, 4, 24);
    for (uint64_t block = 0;; block += 16) {
        store_info_get(host->store, &info);
        if (info.slots_free <= left) {
            break;
        }
        req = (struct store_req){ .opcode = STORE_WRITE,
                                  .replica = filler,
                                  .epoch = 1,
                                  .session = session,
                                  .block = block,
                                  .block_count = 1,
                                  .sequence = store_seq_make(1, block + 1),
                                  .data = data,
                                  .crcs = &crc };
        CHECK(host_store_run(host, &req) == 0);
    }
    free(data);
}

static bool
world_set_up(struct world *world, const struct world_options *options)
{
    struct rng *rng = &world->rng;
    struct sim_options sim_options;

    sim_options_swarm(&sim_options, world->seed);
    sim_options.arena_bytes = 24 * MIB;
    /* A request of 1 MiB has to pass in less than the silence that a peer
     * endures, even over the slowest of these networks. */
    if (sim_options.net.window_bytes < 64 * KIB) {
        sim_options.net.window_bytes = 64 * KIB;
    }
    sim_options.trace = options->trace;
    sim_options.trace_lines = 400;
    world->sim = sim_new(world->seed, &sim_options);
    sim_rng_init(world->sim, "cluster", 0, rng);
    swarm_draw(world);
    world->cluster = (struct weft_uuid){ { 0xc1 } };
    world->volume = (struct weft_uuid){ { 0x70 } };
    world->mirrors = (uint32_t)rng_between(rng, 1, MIRRORS_MAX);
    world->replicas =
        rng_chance(rng, 1, 8) ? 1 : (uint32_t)rng_between(rng, 2, 3);
    world->min_in_sync = (uint32_t)rng_between(rng, 1, world->replicas);
    if (world->min_in_sync == 3) {
        world->min_in_sync = 2;
    }
    world->depth = (uint32_t)rng_between(rng, 1, OPS - 2);
    world->flip_host = (uint32_t)rng_below(rng, HOSTS);
    world->planted = options->planted;
    world->planted_store = options->planted_store;
    db_init(world);
    world->db.unknown_pct = world->swarm.db_unknown ? 30 : 0;
    legal_init(&world->legal, CELLS);
    for (uint32_t i = 0; i < HOSTS; i++) {
        world->hosts[i].planted_store_bug = options->planted_store;
        host_init(world, i);
    }
    for (uint32_t i = 0; i < HOSTS; i++) {
        host_start(&world->hosts[i]);
    }
    if (!world_wait_up(world, 60 * NS_PER_S)) {
        world_fail(world, "the hosts do not come up");
        return false;
    }
    world_create_replicas(world);
    if (world->swarm.small_disk) {
        world_fill_disk(world);
    }
    return true;
}

/* ---- Attach, move, care ---- */

static struct host *
world_some_host(struct world *world)
{
    uint32_t first = (uint32_t)rng_below(&world->rng, HOSTS);

    for (uint32_t i = 0; i < HOSTS; i++) {
        struct host *host = &world->hosts[(first + i) % HOSTS];
        if (host->up && host->owner.volume == NULL) {
            return host;
        }
    }
    return NULL;
}

/* The compare-and-set of an attach, and the owner it makes. */
static void
world_attach(struct world *world, struct host *host, bool live)
{
    struct db *db = &world->db;

    db->epoch++;
    uuid_make_random(11, db->epoch, &db->instance);
    bool clean = db->clean;
    db->clean = false;
    host->record_epoch = db->epoch;
    host->record_instance = db->instance;
    for (uint32_t m = 0; m < world->mirrors; m++) {
        host->record[m] = db->rows[m];
        host->record_pending[m] = false;
    }
    world->attached = host;
    host_attach(host, live, false, clean);
    host->owner.attached_ns = sim_now_ns(world->sim);
}

void
world_owner_ready(struct host *host, int result)
{
    struct world *world = host->world;

    sim_trace(world->sim, "host %u: ready %d", host->index, result);
    if (host != world->attached || host->owner.epoch != world->db.epoch) {
        return; /* Overtaken. */
    }
    if (result == -ENXIO && !world->rolled_back) {
        world_fail(world, "a rolled-back database where there was none");
    }
    if (result != 0) {
        return;
    }
    world->generation++;
    host->owner.generation = world->generation;
    world->guest_alive = true;
    sim_world_begin(world->sim);
    legal_take_over(&world->legal, host->owner.live, ++world->clock);
    sim_world_end(world->sim);
}

static void
care_for_stores(struct world *world)
{
    for (uint32_t i = 0; i < HOSTS; i++) {
        struct host *host = &world->hosts[i];
        struct store_info info;
        if (!host->up) {
            continue;
        }
        store_info_get(host->store, &info);
        if (info.failed) {
            sim_trace(world->sim, "host %u: its store failed", i);
            host_crash(host, SIM_CRASH_PROCESS, 20 * NS_PER_MS);
        }
    }
}

/* Owners that the database does not know any more. */
static void
care_for_old_owners(struct world *world, bool all)
{
    for (uint32_t i = 0; i < HOSTS; i++) {
        struct host *host = &world->hosts[i];
        if (host->owner.volume == NULL || host == world->attached) {
            continue;
        }
        struct mirror_status status;
        mirror_status_get(volume_mirror(host->owner.volume, 0), &status);
        if (all || status.state == MIRROR_FENCED ||
            rng_chance(&world->rng, 1, 50)) {
            host_detach(host, false);
        }
    }
}

/* The owner that there should be. */
static void
care_for_owner(struct world *world)
{
    struct host *host = world->attached;
    uint64_t now_ns = sim_now_ns(world->sim);

    if (host != NULL && host->owner.volume == NULL && host->owner.stopped) {
        /* Detached on purpose. */
        if (host->owner.epoch == world->db.epoch) {
            world->db.clean = host->owner.clean;
        }
        host->owner.stopped = false;
        world->attached = NULL;
        world->guest_alive = false;
        host = NULL;
    }
    if (host != NULL && host->owner.volume != NULL) {
        uint64_t age_ns = now_ns - host->owner.attached_ns;
        bool hopeless = host->owner.ready ? host->owner.ready_result != 0
                                          : age_ns > 8 * NS_PER_S;
        struct mirror_status status;
        for (uint32_t m = 0; m < world->mirrors && !hopeless; m++) {
            mirror_status_get(volume_mirror(host->owner.volume, m), &status);
            /* S17: nobody has all that this guest has seen. */
            hopeless = status.held && age_ns > 8 * NS_PER_S &&
                       strstr(status.reason, "sure to have") != NULL;
        }
        if (hopeless && !(host->owner.stopping && !host->owner.ready)) {
            sim_trace(world->sim, "the guest is killed");
            world->guest_alive = false;
            host_detach(host, false);
        }
        return;
    }
    if (world->db.mood == DB_AWAY) {
        /* S22: the same blockd again, out of its own record. */
        bool settled = true;
        for (uint32_t m = 0; m < world->mirrors; m++) {
            settled = settled && host != NULL && !host->record_pending[m];
        }
        if (world->swarm.resumes && host != NULL && host->up && settled &&
            world->guest_alive && host->record_epoch == world->db.epoch) {
            host_attach(host, true, true, false);
            host->owner.attached_ns = now_ns;
        }
        return;
    }
    bool live = host != NULL && world->guest_alive;
    if (live && !host->up) {
        /* The guest waits for its blockd, or its host is given up. */
        if (rng_chance(&world->rng, 1, 40)) {
            world->guest_alive = false;
        }
        return;
    }
    struct host *next = live ? host : world_some_host(world);
    if (next != NULL) {
        world_attach(world, next, live);
    }
}

static void
care(struct world *world)
{
    care_for_stores(world);
    care_for_old_owners(world, false);
    care_for_owner(world);
    world_repair(world, true);
}

/* A move while the owner may live on, unaware. */
static void
world_move(struct world *world)
{
    struct host *host = world->attached;

    if (host == NULL || world->db.mood != DB_FINE) {
        return;
    }
    if (world->swarm.clean_moves && host->owner.volume != NULL &&
        host->owner.ready && rng_chance(&world->rng, 1, 2)) {
        host_detach(host, true);
        return;
    }
    if (!world->swarm.moves) {
        return;
    }
    struct host *next = world_some_host(world);
    if (next == NULL) {
        return;
    }
    if (!world->swarm.zombies && host->owner.volume != NULL) {
        host_detach(host, false);
        return;
    }
    sim_trace(world->sim, "forced move from host %u", host->index);
    world->guest_alive = false;
    world_attach(world, next, false);
}

/* ---- The three acts ---- */

static void
world_storm(struct world *world)
{
    uint32_t steps = (uint32_t)rng_between(&world->rng, 30, 110);

    for (uint32_t step = 0; step < steps && !world->failed; step++) {
        care(world);
        for (uint32_t i = 0; i < HOSTS; i++) {
            struct host *host = &world->hosts[i];
            bool asked = host->owner.volume != NULL && host->owner.ready &&
                         host->owner.generation != 0 && !host->owner.stopping;
            uint64_t count =
                asked ? rng_below(&world->rng, world->depth + 1) : 0;
            for (uint64_t k = 0; k < count; k++) {
                guest_step(world, host);
            }
        }
        if (rng_chance(&world->rng, 1, 4)) {
            world_fault(world);
        }
        if (rng_chance(&world->rng, 1, 25)) {
            world_move(world);
        }
        uint64_t pause_ns = rng_below(&world->rng, 20 * NS_PER_MS);
        if (rng_chance(&world->rng, 1, 10)) {
            pause_ns = rng_below(&world->rng, 1500 * NS_PER_MS);
        }
        sim_run_for(world->sim, pause_ns);
    }
}

static bool
world_is_whole(struct world *world)
{
    struct host *host = world->attached;

    if (host == NULL || host->owner.volume == NULL || !host->owner.ready ||
        host->owner.ready_result != 0 || host->owner.stopping ||
        !guest_is_idle(world)) {
        return false;
    }
    for (uint32_t m = 0; m < world->mirrors; m++) {
        struct mirror_status status;
        mirror_status_get(volume_mirror(host->owner.volume, m), &status);
        if (status.state != MIRROR_READY || status.held ||
            status.row.in_sync != (1u << world->replicas) - 1) {
            return false;
        }
    }
    return true;
}

bool
world_wait_whole(struct world *world, uint64_t limit_ns)
{
    for (uint64_t t = 0; t < limit_ns && !world->failed; t += 50 * NS_PER_MS) {
        if (world_is_whole(world)) {
            return true;
        }
        care_for_stores(world);
        care_for_old_owners(world, true);
        care_for_owner(world);
        world_repair(world, false);
        sim_run_for(world->sim, 50 * NS_PER_MS);
    }
    return false;
}

static void
world_empty_disk(struct world *world)
{
    int result = -EIO;

    /* The store may have a failed flush to recover from. */
    for (uint32_t i = 0; i < 100 && result != 0 && result != -ENXIO; i++) {
        struct store_req req = { .opcode = STORE_REMOVE,
                                 .replica = filler,
                                 .epoch = 2 };
        if (world->hosts[1].up) {
            result = host_store_run(&world->hosts[1], &req);
        }
        care_for_stores(world);
        sim_run_for(world->sim, 100 * NS_PER_MS);
    }
    if (result != 0 && result != -ENXIO) {
        world_fail(world, "the filler is not removed: %d", result);
    }
}

static void
world_peace(struct world *world)
{
    sim_trace(world->sim, "---- peace ----");
    world->db.mood = DB_FINE;
    world->db.unknown_pct = 0;
    sim_net_heal(world->sim);
    for (uint32_t i = 0; i < HOSTS; i++) {
        struct host *host = &world->hosts[i];
        sim_disk_faults_clear(host->disk);
        sim_disk_slow(host->disk, 0);
        host_unhang(host);
        sim_node_thaw(host->node);
        if (host->down) {
            sim_alarm_cancel(&host->restart);
            host_start(host);
        }
    }
    if (!world_wait_up(world, 120 * NS_PER_S)) {
        world_fail(world, "the hosts do not come back");
        return;
    }
    if (world->swarm.small_disk) {
        world_empty_disk(world);
    }
}

static void
world_describe(struct world *world)
{
    struct host *host = world->attached;
    struct mirror_status status = { .reason = "nobody has it" };
    uint32_t worst = 0;

    for (uint32_t m = 0;
         host != NULL && host->owner.volume != NULL && m < world->mirrors;
         m++) {
        mirror_status_get(volume_mirror(host->owner.volume, m), &status);
        if (status.held || status.row.in_sync != (1u << world->replicas) - 1) {
            worst = m;
            break;
        }
    }
    world_fail(world,
               "not whole: idle %d, mirror %u state %d in sync %x held %d: %s",
               guest_is_idle(world), worst, (int)status.state,
               status.row.in_sync, status.held, status.reason);
}

/* S12: the database comes back from yesterday's copy.  With all disks there, an
 * attach must notice. */
static void
world_check_rollback(struct world *world)
{
    bool rolled = false;

    for (uint32_t m = 0; m < world->mirrors; m++) {
        struct mirror_row *row = &world->db.rows[m];
        if (world->db.before[m].view != 0) {
            *row = world->db.before[m];
            rolled = true;
        }
    }
    struct host *host = world_some_host(world);
    if (!rolled || world->failed || host == NULL) {
        return;
    }
    world->rolled_back = true;
    world_attach(world, host, false);
    for (uint32_t i = 0; i < 4000 && !host->owner.ready; i++) {
        sim_run_for(world->sim, 5 * NS_PER_MS);
    }
    if (host->owner.ready_result != -ENXIO) {
        world_fail(world, "a rolled-back database is not noticed: %d",
                   host->owner.ready_result);
    }
}

static void
world_verdict(struct world *world)
{
    if (!world_wait_whole(world, 120 * NS_PER_S) && !world->failed &&
        (world->flips != 0 || world->swarm.read_eio) &&
        world->attached != NULL && world->attached->owner.volume != NULL &&
        guest_is_idle(world)) {
        /* A block that is lost everywhere keeps a replica from coming back;
         * overwriting it ends that. */
        guest_write_all(world, world->attached);
    }
    /* Links may have yet to notice that their other ends are new. */
    sim_run_for(world->sim, 2 * NS_PER_S);
    if (!world->failed && !world_wait_whole(world, 400 * NS_PER_S)) {
        world_describe(world);
    }
    /* A store that failed while nobody asked it is noticed now, and the guest
     * may have to be killed for it. */
    if (!world->failed) {
        guest_poke(world, world->attached);
        sim_run_for(world->sim, 50 * NS_PER_MS);
    }
    if (!world->failed && !world_wait_whole(world, 400 * NS_PER_S)) {
        world_describe(world);
    }
    if (world->failed) {
        return;
    }
    guest_read_all(world, world->attached);
    /* A link that has yet to notice that its other end is new may spoil the
     * first attempts. */
    for (uint32_t attempt = 0; attempt < 5 && !world->failed; attempt++) {
        struct host *host = world->attached;
        host_detach(host, true);
        for (uint32_t i = 0; i < 20000 && !host->owner.stopped; i++) {
            sim_run_for(world->sim, NS_PER_MS);
        }
        if (!host->owner.stopped) {
            world_fail(world, "the last detach does not end");
        } else if (host->owner.clean) {
            world_compare(world);
            world_check_rollback(world);
            return;
        }
        if (!world_wait_whole(world, 400 * NS_PER_S)) {
            world_describe(world);
        }
    }
    world_fail(world, "no detach is clean");
}

int
world_run_seed(uint64_t seed, const struct world_options *options, char *why,
               uint32_t why_size)
{
    struct world *world = calloc(1, sizeof *world);

    CHECK(world != NULL);
    world->seed = seed;
    if (world_set_up(world, options)) {
        world_grey(world);
        if (!world->failed) {
            world_storm(world);
        }
        if (!world->failed) {
            world_peace(world);
        }
        if (!world->failed) {
            world_verdict(world);
        }
    }
    bool failed = world->failed;
    if (options->hashes) {
        printf("seed %llu: %016llx after %llu events\n",
               (unsigned long long)seed,
               (unsigned long long)sim_hash(world->sim),
               (unsigned long long)sim_event_count(world->sim));
        fflush(stdout);
    }
    (void)snprintf(why, why_size, "%s", world->why);
    legal_done(&world->legal);
    sim_free(world->sim);
    free(world);
    return failed ? -1 : 0;
}
