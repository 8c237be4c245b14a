/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/peer_fixture.h"

/* The simulated world: a client with links, a server with one disk, and a
 * meddler that relays every byte between them unless told otherwise. */

#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>

#include "blockd/peer/wire.h"
#include "lib/base/container_of.h"
#include "lib/base/units.h"

/* ---- Meddler ---- */

struct relay;

struct relay_end {
    struct io_conn conn;
    struct relay *relay;
    bool is_open;  /* on_closed() has not come. */
    bool is_ready; /* May be sent to. */
    bool is_hole;
};

struct relay {
    struct peer_world *world;
    struct relay_end ends[2]; /* 0: towards the client. */
};

struct relay_send {
    struct io_send send;
    uint8_t bytes[];
};

static void
relay_sent(struct io_op *op, int result)
{
    struct io_send *send = container_of(op, struct io_send, op);

    (void)result;
    free(container_of(send, struct relay_send, send));
}

static void
relay_cut(struct relay *relay)
{
    for (uint32_t i = 0; i < 2; i++) {
        if (relay->ends[i].is_open) {
            io_conn_close_after_sends(relay->world->meddler.io,
                                      &relay->ends[i].conn);
        }
    }
}

static void
relay_pass(struct relay *relay, uint32_t to, const uint8_t *data, uint32_t size)
{
    struct io *io = relay->world->meddler.io;

    if (size == 0 || !relay->ends[to].is_ready) {
        return;
    }
    struct relay_send *send = malloc(sizeof *send + size);
    assert_non_null(send);
    send->send = (struct io_send){
        .op.done = relay_sent,
        .iov = { { send->bytes, size } },
        .iov_count = 1,
    };
    memcpy(send->bytes, data, size);
    io_conn_send(io, &relay->ends[to].conn, &send->send);
}

static void
relay_data(struct io_conn *conn, const uint8_t *data, uint32_t size)
{
    struct relay_end *end = container_of(conn, struct relay_end, conn);
    struct relay *relay = end->relay;
    uint32_t from = end == &relay->ends[0] ? 0 : 1;
    struct meddling *meddling = &relay->world->meddling[from];
    uint64_t first = meddling->passed;
    uint64_t last = first + size;

    if (meddling->cut_at >= first && meddling->cut_at < last) {
        meddling->passed = meddling->cut_at;
        relay_pass(relay, 1 - from, data, (uint32_t)(meddling->cut_at - first));
        meddling->cut_at = MEDDLE_NEVER;
        relay_cut(relay);
        return;
    }
    meddling->passed = last;
    if (meddling->hole_at >= first && meddling->hole_at < last) {
        relay_pass(relay, 1 - from, data,
                   (uint32_t)(meddling->hole_at - first));
        meddling->hole_at = MEDDLE_NEVER;
        end->is_hole = true;
    }
    if (end->is_hole) {
        return;
    }
    uint8_t *copy = malloc(size);
    assert_non_null(copy);
    memcpy(copy, data, size);
    if (meddling->flip_at >= first && meddling->flip_at < last) {
        copy[meddling->flip_at - first] ^= meddling->flip_mask;
        meddling->flip_at = MEDDLE_NEVER;
    }
    relay_pass(relay, 1 - from, copy, size);
    free(copy);
}

static void
relay_connected(struct io_conn *conn, int result)
{
    struct relay_end *end = container_of(conn, struct relay_end, conn);

    if (result == 0 && end->is_open) {
        end->is_ready = true;
        if (end->relay->ends[0].is_open) {
            io_conn_resume(end->relay->world->meddler.io,
                           &end->relay->ends[0].conn);
        }
    }
}

static void
relay_closed(struct io_conn *conn, int reason)
{
    struct relay_end *end = container_of(conn, struct relay_end, conn);
    struct relay *relay = end->relay;

    (void)reason;
    end->is_open = false;
    end->is_ready = false;
    relay_cut(relay);
    if (!relay->ends[0].is_open && !relay->ends[1].is_open) {
        relay->world->relays--;
        free(relay);
    }
}

static void
relay_accept(struct io_listener *listener, struct io_accepted *accepted)
{
    struct peer_world *world =
        container_of(listener, struct peer_world, listener);
    struct io *io = world->meddler.io;
    struct relay *relay = calloc(1, sizeof *relay);

    assert_non_null(relay);
    relay->world = world;
    world->relays++;
    for (uint32_t i = 0; i < 2; i++) {
        relay->ends[i].relay = relay;
        relay->ends[i].is_open = true;
        relay->ends[i].conn.on_connected = relay_connected;
        relay->ends[i].conn.on_data = relay_data;
        relay->ends[i].conn.on_closed = relay_closed;
    }
    relay->ends[0].is_ready = true;
    assert_int_equal(io_conn_adopt(io, &relay->ends[0].conn, accepted), 0);
    io_conn_pause(io, &relay->ends[0].conn);
    io_conn_connect(io, &relay->ends[1].conn, "tcp:server:7701", IO_NEVER);
}

static void
meddler_boot(struct sim_program *program, struct sim_node *node, struct io *io)
{
    struct peer_host *host = container_of(program, struct peer_host, program);

    (void)node;
    host->io = io;
    host->world->relays = 0;
    host->world->listener = (struct io_listener){ .on_accept = relay_accept };
    assert_int_equal(io_listener_open(io, &host->world->listener,
                                      "tcp:meddler:7701"),
                     0);
}

/* ---- Client ---- */

static void
user_changed(struct link_user *link_user, enum link_state state)
{
    struct peer_user *user = container_of(link_user, struct peer_user, user);

    assert_true(user->is_up != (state == LINK_UP));
    user->is_up = state == LINK_UP;
    if (user->is_up) {
        user->ups++;
        user->up_ns = sim_now_ns(user->world->sim);
    } else {
        user->downs++;
        user->down_ns = sim_now_ns(user->world->sim);
        /* link.h: pending requests are failed first. */
        assert_int_equal(
            user->world->links[user - user->world->users]->in_flight, 0);
    }
}

static void
client_boot(struct sim_program *program, struct sim_node *node, struct io *io)
{
    struct peer_host *host = container_of(program, struct peer_host, program);
    struct peer_world *world = host->world;

    (void)node;
    host->io = io;
    for (uint32_t i = 0; i < world->link_count; i++) {
        world->users[i] = (struct peer_user){ .world = world };
        assert_int_equal(link_remote_new(io,
                                         world->is_direct ? "tcp:server:7701"
                                                          : "tcp:meddler:7701",
                                         &world->cluster, &world->disk,
                                         &world->client_options,
                                         &world->links[i]),
                         0);
        assert_int_equal(world->links[i]->state, LINK_DOWN);
        link_user_add(world->links[i], &world->users[i].user, user_changed);
    }
}

/* ---- Server ---- */

static struct link *
find_disk(struct peer_directory *directory, const struct weft_uuid *disk)
{
    struct peer_world *world =
        container_of(directory, struct peer_world, directory);

    return uuid_equal(disk, &world->disk) ? &world->store.link : NULL;
}

static void
server_boot(struct sim_program *program, struct sim_node *node, struct io *io)
{
    struct peer_host *host = container_of(program, struct peer_host, program);
    struct peer_world *world = host->world;

    (void)node;
    host->io = io;
    fake_store_init(&world->store, io, &world->disk, world->cases,
                    sim_seed(world->sim));
    world->store.delay_max_ns = world->store_delay_max_ns;
    world->store.holds = world->store_holds;
    assert_int_equal(peer_server_open(io, "tcp:server:7701",
                                      &world->server_options, &world->server),
                     0);
}

static void
host_crashed(struct sim_program *program, struct sim_node *node)
{
    struct peer_host *host = container_of(program, struct peer_host, program);

    (void)node;
    host->io = NULL;
}

/* ---- World ---- */

static void
host_init(struct peer_world *world, struct peer_host *host, const char *name,
          sim_program_boot_fn *boot)
{
    *host = (struct peer_host){
        .program = { .boot = boot, .crashed = host_crashed },
        .world = world,
        .node = sim_node_add(world->sim, name),
    };
}

void
world_init(struct peer_world *world, uint64_t seed,
           const struct sim_options *options, struct cases *cases)
{
    struct sim_options defaults;

    if (options == NULL) {
        sim_options_default(&defaults);
        defaults.arena_bytes = 64 * MIB;
        options = &defaults;
    }
    *world = (struct peer_world){
        .sim = sim_new(seed, options),
        .cases = cases,
        .directory.find = find_disk,
        .link_count = 1,
        .store_delay_max_ns = NS_PER_MS,
        .meddling = {
            { .cut_at = MEDDLE_NEVER,
              .hole_at = MEDDLE_NEVER,
              .flip_at = MEDDLE_NEVER },
            { .cut_at = MEDDLE_NEVER,
              .hole_at = MEDDLE_NEVER,
              .flip_at = MEDDLE_NEVER },
        },
    };
    uuid_make_random(1, 2, &world->cluster);
    uuid_make_random(3, 4, &world->disk);
    host_init(world, &world->client, "client", client_boot);
    host_init(world, &world->meddler, "meddler", meddler_boot);
    host_init(world, &world->server_host, "server", server_boot);
    link_remote_options_init(&world->client_options);
    world->client_options.host = "the-client";
    uuid_make_random(5, 6, &world->client_options.instance);
    peer_server_options_init(&world->server_options);
    world->server_options.directory = &world->directory;
    world->server_options.host = "the-server";
    world->server_options.cluster = world->cluster;
    uuid_make_random(7, 8, &world->server_options.instance);
}

void
world_start(struct peer_world *world)
{
    sim_node_start(world->server_host.node, &world->server_host.program);
    sim_node_start(world->meddler.node, &world->meddler.program);
    sim_node_start(world->client.node, &world->client.program);
}

struct wait_link {
    struct sim_condition condition;
    const struct peer_user *user;
    bool is_up;
};

static bool
wait_link_holds(struct sim_condition *condition)
{
    struct wait_link *wait =
        container_of(condition, struct wait_link, condition);

    return wait->user->is_up == wait->is_up;
}

static bool
wait_for(struct peer_world *world, bool is_up, uint64_t limit_ns)
{
    struct wait_link wait = {
        .condition.holds = wait_link_holds,
        .user = &world->users[0],
        .is_up = is_up,
    };

    return sim_run_until_holds(world->sim, &wait.condition, limit_ns);
}

bool
world_wait_up(struct peer_world *world, uint64_t limit_ns)
{
    return wait_for(world, true, limit_ns);
}

bool
world_wait_down(struct peer_world *world, uint64_t limit_ns)
{
    return wait_for(world, false, limit_ns);
}

void
world_up(struct peer_world *world)
{
    world_start(world);
    assert_true(world_wait_up(world, 10 * NS_PER_S));
}

void
world_submit(struct peer_world *world, uint32_t link, uint32_t index,
             uint64_t timeout_ns)
{
    sim_node_enter(world->client.node);
    uint64_t deadline_ns = timeout_ns == IO_NEVER
                               ? IO_NEVER
                               : io_now_ns(world->client.io) + timeout_ns;
    cases_submit(world->cases, index, world->links[link], deadline_ns);
    sim_node_leave(world->client.node);
    world->cases->is_complete = false;
}

void
world_run_cases(struct peer_world *world, uint64_t limit_ns)
{
    struct rng rng;

    sim_rng_init(world->sim, "cases", 0, &rng);
    for (uint32_t i = 0; i < world->cases->count;) {
        uint64_t group = rng_between(&rng, 1, 40);
        for (; group != 0 && i < world->cases->count; group--, i++) {
            world_submit(world, (uint32_t)rng_below(&rng, world->link_count), i,
                         IO_NEVER);
        }
        sim_run_for(world->sim, rng_below(&rng, 2 * NS_PER_MS));
    }
    assert_true(
        sim_run_until_set(world->sim, &world->cases->is_complete, limit_ns));
    assert_int_equal(world->cases->completed, world->cases->count);
}

/* ---- Closing ---- */

struct closing {
    struct link_close link_close;
    struct peer_server_close server_close;
    bool is_quiet, is_done;
};

static void
link_quiet_told(struct link_close *op)
{
    container_of(op, struct closing, link_close)->is_quiet = true;
}

static void
link_is_closed(struct link_close *op)
{
    struct closing *closing = container_of(op, struct closing, link_close);

    assert_true(closing->is_quiet);
    closing->is_done = true;
}

static void
server_is_closed(struct peer_server_close *op)
{
    container_of(op, struct closing, server_close)->is_done = true;
}

static void
close_link(struct peer_world *world, struct peer_host *host, struct link *link,
           struct peer_user *user)
{
    struct closing closing = {
        .link_close = { .quiet = link_quiet_told, .done = link_is_closed },
    };

    sim_node_enter(host->node);
    link_close_start(link, &closing.link_close);
    sim_node_leave(host->node);
    assert_true(
        sim_run_until_set(world->sim, &closing.is_quiet, 10 * NS_PER_S));
    if (user != NULL) {
        assert_false(user->is_up);
        assert_false(closing.is_done);
        sim_node_enter(host->node);
        link_user_remove(link, &user->user);
        sim_node_leave(host->node);
    }
    assert_true(sim_run_until_set(world->sim, &closing.is_done, 10 * NS_PER_S));
}

void
world_close(struct peer_world *world)
{
    struct closing closing = { .server_close.done = server_is_closed };
    struct sim_holdings holdings;

    for (uint32_t i = 0; i < world->link_count; i++) {
        close_link(world, &world->client, world->links[i], &world->users[i]);
    }
    sim_node_holdings(world->client.node, &holdings);
    assert_int_equal(holdings.operations, 0);
    assert_int_equal(holdings.timers, 0);
    assert_int_equal(holdings.tasks, 0);
    assert_int_equal(holdings.connections, 0);
    assert_int_equal(holdings.heap_count, 0);

    sim_node_enter(world->server_host.node);
    peer_server_close_start(world->server, &closing.server_close);
    sim_node_leave(world->server_host.node);
    assert_true(sim_run_until_set(world->sim, &closing.is_done, 10 * NS_PER_S));
    close_link(world, &world->server_host, &world->store.link, NULL);
    sim_node_holdings(world->server_host.node, &holdings);
    assert_int_equal(holdings.operations, 0);
    assert_int_equal(holdings.timers, 0);
    assert_int_equal(holdings.tasks, 0);
    assert_int_equal(holdings.connections, 0);
    assert_int_equal(holdings.listeners, 0);
    assert_int_equal(holdings.heap_count, 0);
}

void
world_free(struct peer_world *world)
{
    sim_free(world->sim);
    world->sim = NULL;
}

struct link_remote_info
world_info(struct peer_world *world, uint32_t link)
{
    struct link_remote_info info;

    link_remote_info_get(world->links[link], &info);
    return info;
}

struct peer_server_stats
world_stats(struct peer_world *world)
{
    struct peer_server_stats stats;

    peer_server_stats_get(world->server, &stats);
    return stats;
}
