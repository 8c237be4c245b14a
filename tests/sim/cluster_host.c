/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "blockd/store/geometry.h"
#include "lib/base/container_of.h"
#include "lib/base/units.h"
#include "tests/sim/cluster.h"

/* A host: file -> store -> links, peer server -> (perhaps) owner of the volume.
 *
 * boot() starts the chain; each step is a completion.  A store that cannot be
 * opened is tried again (its disk may have had a bad moment). */

static store_open_done_fn host_opened;
static store_format_done_fn host_formatted;

static struct link *
host_find(struct peer_directory *directory, const struct weft_uuid *disk)
{
    struct host *host = container_of(directory, struct host, directory);

    return uuid_equal(disk, &host->disk_uuid) ? host->published : NULL;
}

static void
host_open_store(struct host *host)
{
    host->open = (struct store_open){
        .io = host->io,
        .file = host->file,
        .options = { .requests_max = 128,
                     .lost_writes = host->lost_writes,
                     .planted_bug = host->planted_store_bug },
        .done = host_opened,
    };
    sim_node_boot_id(host->node, &host->open.options.boot_id);
    store_open_start(&host->open);
}

static void
host_retry(struct io_timer *timer)
{
    host_open_store(container_of(timer, struct host, retry));
}

static void
host_formatted(struct store_format *op, int result)
{
    struct host *host = container_of(op, struct host, format);

    CHECK(result == 0);
    host->formatted = true;
    host_open_store(host);
}

static void
host_serve(struct host *host)
{
    struct world *world = host->world;
    struct peer_server_options options;
    char address[IO_ADDRESS_SIZE];

    CHECK(link_local_new(host->io, host->store, host->io, &host->disk_uuid,
                         &host->links[host->index]) == 0);
    CHECK(link_local_new(host->io, host->store, host->io, &host->disk_uuid,
                         &host->published) == 0);
    peer_server_options_init(&options);
    options.directory = &host->directory;
    options.host = sim_node_name(host->node);
    options.cluster = world->cluster;
    options.conns_max = 8;
    options.requests_max = 256;
    options.bytes_max = 4 * MIB;
    snprintf(address, sizeof address, "tcp:%s:7701", sim_node_name(host->node));
    CHECK(peer_server_open(host->io, address, &options, &host->server) == 0);
    host->up = true;
}

static void
host_opened(struct store_open *op, int result)
{
    struct host *host = container_of(op, struct host, open);

    if (result != 0) {
        sim_trace(host->world->sim, "host %u: store: %d %s", host->index,
                  result, op->err.text);
        /* A flush may have failed, and what the last life wrote be gone (S6).
         */
        host->lost_writes = true;
        if (result != -EIO) {
            world_fail(host->world, "host %u cannot open its store: %d %s",
                       host->index, result, op->err.text);
        }
        io_timer_set(host->io, &host->retry,
                     io_now_ns(host->io) + 50 * NS_PER_MS);
        return;
    }
    host->store = op->store;
    host->file = NULL;
    host->lost_writes = false;
    store_serve(host->store);
    host_serve(host);
}

static void
host_boot(struct sim_program *program, struct sim_node *node, struct io *io)
{
    struct host *host = container_of(program, struct host, program);
    struct world *world = host->world;
    struct payload_pool_options pool = { .small_count = 24,
                                         .medium_count = 12,
                                         .large_count = 3 };
    struct link_remote_options remote;

    (void)node;
    host->io = io;
    host->life++;
    io_timer_init(&host->retry, host_retry);
    CHECK(io_file_open(io, "/d0", IO_CACHE_AUTO, &host->file) == 0);
    CHECK(payload_pool_new(io, &pool, &host->payloads) == 0);
    link_remote_options_init(&remote);
    remote.host = sim_node_name(host->node);
    for (uint32_t i = 0; i < HOSTS; i++) {
        char address[IO_ADDRESS_SIZE];
        if (i == host->index) {
            continue;
        }
        snprintf(address, sizeof address, "tcp:%s:7701",
                 sim_node_name(world->hosts[i].node));
        CHECK(link_remote_new(io, address, &world->cluster,
                              &world->hosts[i].disk_uuid, &remote,
                              &host->links[i]) == 0);
    }
    if (host->formatted) {
        host_open_store(host);
        return;
    }
    host->format = (struct store_format){ .io = io,
                                          .file = host->file,
                                          .options = host->format_options,
                                          .done = host_formatted };
    store_format_start(&host->format);
}

static void
host_crashed(struct sim_program *program, struct sim_node *node)
{
    struct host *host = container_of(program, struct host, program);

    (void)node;
    host->io = NULL;
    host->file = NULL;
    host->store = NULL;
    host->server = NULL;
    host->payloads = NULL;
    host->up = false;
    memset(host->links, 0, sizeof host->links);
    host->published = NULL;
    host->retry = (struct io_timer){ 0 };
    host->owner.volume = NULL;
    host->owner.ready = false;
    db_forget(host);
    guest_forget(host);
}

static void
host_come_back(struct sim_alarm *alarm)
{
    struct host *host = container_of(alarm, struct host, restart);

    host_start(host);
}

void
host_init(struct world *world, uint32_t index)
{
    static const char *const names[HOSTS] = { "a", "b", "c" };
    struct host *host = &world->hosts[index];
    struct geometry geometry;
    struct err err;

    host->world = world;
    host->index = index;
    host->program =
        (struct sim_program){ .boot = host_boot, .crashed = host_crashed };
    host->directory.find = host_find;
    host->restart.fire = host_come_back;
    host->node = sim_node_add(world->sim, names[index]);
    uuid_make_random(7, index + 1, &host->disk_uuid);
    bool small = world->swarm.small_disk && index == 1;
    uint64_t size =
        small ? 3 * MIB + rng_below(&world->rng, 4) * 128 * KIB : 12 * MIB;
    bool cached = world->swarm.volatile_cache || rng_chance(&world->rng, 1, 3);
    host->disk = sim_disk_add(host->node, "/d0", size, cached);
    sim_disk_options(host->disk)->tear_bytes = 4096;
    host->format_options = (struct store_format_options){
        .disk = host->disk_uuid,
        .cluster = world->cluster,
        .slot_bytes = rng_chance(&world->rng, 1, 4) ? 65536 : 16384,
    };
    CHECK(geometry_plan(size, host->format_options.slot_bytes, 0, &geometry,
                        &err) == 0);
    host->data_first_bytes = geometry.data_first * WEFT_BLOCK_SIZE;
    host->data_bytes =
        (uint64_t)geometry.slots_total * geometry.slot_blocks * WEFT_BLOCK_SIZE;
}

void
host_start(struct host *host)
{
    host->down = false;
    sim_trace(host->world->sim, "host %u starts", host->index);
    sim_node_start(host->node, &host->program);
}

void
host_crash(struct host *host, enum sim_crash crash, uint64_t back_ns)
{
    struct sim *sim = host->world->sim;

    if (host->down) {
        return;
    }
    sim_trace(sim, "host %u: %s", host->index,
              crash == SIM_CRASH_POWER ? "power cut" : "killed");
    host->down = true;
    if (host->store != NULL) {
        /* S6: the kernel's log remembers that a disk failed under its blockd,
         * even if that dies before it has written its new incarnation. */
        struct store_stats stats;
        store_stats_get(host->store, &stats);
        host->lost_writes = host->lost_writes || stats.io_errors != 0;
    }
    sim_node_crash(host->node, crash);
    sim_alarm_set(sim, &host->restart, sim_now_ns(sim) + back_ns);
}

/* ---- A request to the own store, from outside ---- */

struct host_wait {
    struct store_req req;
    bool done;
};

static void
host_store_done(struct store_req *req)
{
    container_of(req, struct host_wait, req)->done = true;
}

int
host_store_run(struct host *host, struct store_req *req)
{
    struct host_wait wait = { .req = *req };

    wait.req.done = host_store_done;
    wait.req.deadline_ns = IO_NEVER;
    wait.req.layer = STORE_LAYER_FIRST;
    sim_node_enter(host->node);
    store_submit(host->store, &wait.req);
    sim_node_leave(host->node);
    CHECK(sim_run_until_set(host->world->sim, &wait.done, 600 * NS_PER_S));
    *req = wait.req;
    return wait.req.result;
}

/* ---- Owner ---- */

static void
owner_ready(struct volume *volume, int result)
{
    struct owner *owner = volume_owner(volume);

    owner->ready = true;
    owner->ready_result = result;
    world_owner_ready(owner->host, result);
}

static void
owner_stopped(struct volume *volume, bool clean)
{
    struct owner *owner = volume_owner(volume);

    owner->stopped = true;
    owner->clean = clean;
    owner->volume = NULL;
    owner->ready = false;
    volume_free(volume);
}

void
host_attach(struct host *host, bool live, bool resume, bool clean)
{
    struct world *world = host->world;
    struct owner *owner = &host->owner;
    struct volume_mirror_options mirrors[MIRRORS_MAX];

    CHECK(host->up);
    CHECK(owner->volume == NULL);
    *owner = (struct owner){
        .host = host,
        .meta = { .commit = db_commit, .notify = db_notify },
        .epoch = host->record_epoch,
        .instance = host->record_instance,
        .live = live,
    };
    for (uint32_t m = 0; m < world->mirrors; m++) {
        mirrors[m].row = host->record[m];
        for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
            mirrors[m].links[i] =
                i < world->replicas ? host->links[world->where[m][i]] : NULL;
        }
    }
    struct volume_options options = {
        .io = host->io,
        .payloads = host->payloads,
        .meta = &owner->meta,
        .uuid = world->volume,
        .name = "sim/v",
        .size_bytes = VOLUME_BYTES,
        .extent_bytes = EXTENT_BYTES,
        .mirror_count = world->mirrors,
        .mirrors = mirrors,
        .owner_instance = owner->instance,
        .epoch = owner->epoch,
        .min_in_sync = world->min_in_sync,
        .clean = clean,
        .live_guest = live,
        .resume = resume,
        .enospc_holds = world->swarm.enospc_holds,
        .planted_bug = world->planted,
    };
    sim_trace(world->sim, "host %u attaches: epoch %u live %d resume %d",
              host->index, owner->epoch, live, resume);
    sim_node_enter(host->node);
    int result = volume_new(&options, owner_ready, owner, &owner->volume);
    sim_node_leave(host->node);
    CHECK(result == 0);
}

void
host_detach(struct host *host, bool flush)
{
    struct owner *owner = &host->owner;

    if (owner->volume == NULL || (owner->stopping && flush)) {
        return;
    }
    sim_trace(host->world->sim, "host %u detaches: flush %d", host->index,
              flush);
    owner->stopping = true;
    sim_node_enter(host->node);
    volume_stop(owner->volume, flush, owner_stopped);
    sim_node_leave(host->node);
}
