/* SPDX-License-Identifier: Apache-2.0 */

/* Links on real reactors: the peer protocol over loopback TCP, stores of
 * another reactor, and both in a row. */

#include "tests/unit/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "lib/base/units.h"
#include "tests/unit/peer_fixture.h"
#include "tests/unit/uring_fixture.h"

/* What link_local.c calls: here a store is a fake one. */
struct store {
    struct fake_store fake;
};

void
store_submit(struct store *store, struct store_req *req)
{
    link_submit(&store->fake.link, req);
}

struct rig {
    struct cases cases;
    struct reactor *client, *server, *disk; /* May be the same. */
    struct weft_uuid cluster, uuid;
    struct store store;
    struct link *store_link; /* On the server's reactor. */
    struct peer_directory directory;
    struct peer_server *peer_server;
    struct peer_server_close server_close;
    struct peer_server_stats stats;
    char address[IO_ADDRESS_SIZE];
    struct link *link;
    struct link_user user;
    struct link_close link_close;
    struct latch up, all_done, closed;
    struct reactor_call call;
    uint32_t next;
    uint32_t depth;
    uint64_t deadline_ns;  /* Of each request. */
    struct io_timer watch; /* Looks whether all is done. */
    int reason;
};

static void
more_memory(struct reactor_options *options)
{
    options->arena_bytes = 16u << 20;
    options->recv_buffer_count = 64;
    options->recv_buffer_bytes = 65536;
}

static void
run(struct rig *rig, struct reactor *reactor, reactor_call_fn *fn)
{
    fixture_run(reactor, &rig->call, fn);
}

static void
store_open_call(struct reactor_call *call)
{
    struct rig *rig = container_of(call, struct rig, call);

    fake_store_init(&rig->store.fake, reactor_io(rig->disk), &rig->uuid,
                    &rig->cases, 1);
    rig->store.fake.delay_max_ns = 50 * NS_PER_US;
}

static struct link *
find_disk(struct peer_directory *directory, const struct weft_uuid *disk)
{
    struct rig *rig = container_of(directory, struct rig, directory);

    return uuid_equal(disk, &rig->uuid) ? rig->store_link : NULL;
}

static void
server_open_call(struct reactor_call *call)
{
    struct rig *rig = container_of(call, struct rig, call);
    struct peer_server_options options;

    assert_int_equal(link_local_new(reactor_io(rig->server), &rig->store,
                                    reactor_io(rig->disk), &rig->uuid,
                                    &rig->store_link),
                     0);
    peer_server_options_init(&options);
    rig->directory.find = find_disk;
    options.directory = &rig->directory;
    options.cluster = rig->cluster;
    assert_int_equal(peer_server_open(reactor_io(rig->server),
                                      "tcp:127.0.0.1:0", &options,
                                      &rig->peer_server),
                     0);
    peer_server_address(rig->peer_server, rig->address);
}

static void
user_changed(struct link_user *user, enum link_state state)
{
    struct rig *rig = container_of(user, struct rig, user);

    if (state == LINK_UP) {
        latch_add(&rig->up, 1);
    }
}

static void
remote_open_call(struct reactor_call *call)
{
    struct rig *rig = container_of(call, struct rig, call);
    struct link_remote_options options;

    link_remote_options_init(&options);
    options.host = "client";
    assert_int_equal(link_remote_new(reactor_io(rig->client), rig->address,
                                     &rig->cluster, &rig->uuid, &options,
                                     &rig->link),
                     0);
    link_user_add(rig->link, &rig->user, user_changed);
}

static void
local_open_call(struct reactor_call *call)
{
    struct rig *rig = container_of(call, struct rig, call);

    assert_int_equal(link_local_new(reactor_io(rig->client), &rig->store,
                                    reactor_io(rig->disk), &rig->uuid,
                                    &rig->link),
                     0);
    assert_int_equal(rig->link->state, LINK_UP);
    assert_true(link_is_local(rig->link));
    link_user_add(rig->link, &rig->user, user_changed);
}

/* Keeps up to 'depth' requests under way. */
static void
watch_fire(struct io_timer *timer)
{
    struct rig *rig = container_of(timer, struct rig, watch);
    struct io *io = reactor_io(rig->client);

    while (rig->next < rig->cases.count &&
           rig->next - rig->cases.completed < rig->depth) {
        cases_submit(&rig->cases, rig->next, rig->link, rig->deadline_ns);
        rig->next++;
    }
    if (rig->cases.completed == rig->cases.count) {
        latch_add(&rig->all_done, 1);
    } else {
        io_timer_set(io, timer, io_now_ns(io) + 20 * NS_PER_US);
    }
}

static void
begin_call(struct reactor_call *call)
{
    struct rig *rig = container_of(call, struct rig, call);

    io_timer_init(&rig->watch, watch_fire);
    io_timer_set(reactor_io(rig->client), &rig->watch, 0);
}

static void
link_gone(struct link_close *op)
{
    latch_add(&container_of(op, struct rig, link_close)->closed, 1);
}

static void
link_close_call(struct reactor_call *call)
{
    struct rig *rig = container_of(call, struct rig, call);

    rig->reason = rig->link->reason;
    rig->link_close = (struct link_close){ .done = link_gone };
    link_user_remove(rig->link, &rig->user);
    link_close_start(rig->link, &rig->link_close);
}

static void
server_gone(struct peer_server_close *op)
{
    latch_add(&container_of(op, struct rig, server_close)->closed, 1);
}

static void
server_close_call(struct reactor_call *call)
{
    struct rig *rig = container_of(call, struct rig, call);

    peer_server_stats_get(rig->peer_server, &rig->stats);
    rig->server_close.done = server_gone;
    peer_server_close_start(rig->peer_server, &rig->server_close);
}

static void
store_link_close_call(struct reactor_call *call)
{
    struct rig *rig = container_of(call, struct rig, call);

    rig->link_close = (struct link_close){ .done = link_gone };
    link_close_start(rig->store_link, &rig->link_close);
}

static void
fake_close_call(struct reactor_call *call)
{
    struct rig *rig = container_of(call, struct rig, call);

    rig->link_close = (struct link_close){ .done = link_gone };
    link_close_start(&rig->store.fake.link, &rig->link_close);
}

static void
rig_init(struct rig *rig, uint64_t seed, uint32_t reactors, uint32_t depth)
{
    struct rng rng;

    memset(rig, 0, sizeof *rig);
    rng_init(&rng, seed);
    cases_init(&rig->cases, &rng, 600, 0, STORE_REQ_BLOCKS_MAX);
    uuid_make_random(1, 2, &rig->cluster);
    uuid_make_random(3, 4, &rig->uuid);
    rig->depth = depth;
    rig->deadline_ns = IO_NEVER;
    latch_init(&rig->up);
    latch_init(&rig->all_done);
    latch_init(&rig->closed);
    rig->client = fixture_reactor(more_memory);
    rig->server = reactors >= 2 ? fixture_reactor(more_memory) : rig->client;
    rig->disk = reactors >= 3 ? fixture_reactor(more_memory) : rig->server;
    run(rig, rig->disk, store_open_call);
}

static void
rig_done(struct rig *rig)
{
    run(rig, rig->disk, fake_close_call);
    latch_wait(&rig->closed, 1);
    reactor_stop(rig->client);
    reactor_stop(rig->server);
    reactor_stop(rig->disk);
    if (rig->disk != rig->server) {
        reactor_free(rig->disk);
    }
    if (rig->server != rig->client) {
        reactor_free(rig->server);
    }
    reactor_free(rig->client);
    latch_done(&rig->up);
    latch_done(&rig->all_done);
    latch_done(&rig->closed);
    cases_done(&rig->cases);
}

static void
run_remote(uint32_t reactors, uint32_t depth)
{
    struct rig rig;

    if (FIXTURE_TSAN && reactors > 1) {
        return; /* It does not know that a socket orders both sides. */
    }
    rig_init(&rig, reactors * 100 + depth, reactors, depth);
    run(&rig, rig.server, server_open_call);
    run(&rig, rig.client, remote_open_call);
    latch_wait(&rig.up, 1);
    run(&rig, rig.client, begin_call);
    latch_wait(&rig.all_done, 1);
    assert_int_equal(rig.cases.succeeded, rig.cases.count);
    run(&rig, rig.client, link_close_call);
    latch_wait(&rig.closed, 1);
    run(&rig, rig.server, server_close_call);
    latch_wait(&rig.closed, 1);
    assert_int_equal(rig.stats.requests, rig.cases.count);
    assert_int_equal(rig.stats.crc_errors, 0);
    run(&rig, rig.server, store_link_close_call);
    latch_wait(&rig.closed, 1);
    rig_done(&rig);
}

static void
run_local(uint32_t reactors, uint32_t depth, uint64_t deadline_ns)
{
    struct rig rig;

    rig_init(&rig, reactors * 100 + depth, reactors, depth);
    rig.cases.is_local = true;
    rig.deadline_ns = deadline_ns;
    run(&rig, rig.client, local_open_call);
    run(&rig, rig.client, begin_call);
    latch_wait(&rig.all_done, 1);
    assert_int_equal(rig.cases.succeeded, rig.cases.count);
    run(&rig, rig.client, link_close_call);
    latch_wait(&rig.closed, 1);
    rig_done(&rig);
}

static void
test_remote(void **state)
{
    (void)state;
    run_remote(1, 1);
    run_remote(1, 32);
    run_remote(2, 1);
    run_remote(2, 200);
}

/* The server's reactor is not that of the store. */
static void
test_remote_cross(void **state)
{
    (void)state;
    run_remote(3, 1);
    run_remote(3, 32);
}

static void
test_local(void **state)
{
    (void)state;
    run_local(1, 1, IO_NEVER);
    run_local(1, 32, IO_NEVER);
}

/* More at once than there are slots: order is kept all the same. */
static void
test_local_cross(void **state)
{
    (void)state;
    run_local(2, 1, IO_NEVER);
    run_local(2, 32, IO_NEVER);
    run_local(2, 2 * LINK_LOCAL_SLOTS, IO_NEVER);
}

/* Through memory of the link, and more at once than that has room for. */
static void
test_local_timed(void **state)
{
    (void)state;
    for (uint32_t reactors = 1; reactors <= 2; reactors++) {
        run_local(reactors, 1, IO_NEVER - 1);
        run_local(reactors, 32, IO_NEVER - 1);
        run_local(reactors, 2 * LINK_LOCAL_SLOTS, IO_NEVER - 1);
    }
}

static void
failures_fire(struct io_timer *timer)
{
    struct rig *rig = container_of(timer, struct rig, watch);
    struct io *io = reactor_io(rig->client);
    struct link_remote_info info;

    link_remote_info_get(rig->link, &info);
    if (info.failures >= 3) {
        latch_add(&rig->up, 1);
    } else {
        io_timer_set(io, timer, io_now_ns(io) + NS_PER_MS);
    }
}

static void
count_failures_call(struct reactor_call *call)
{
    struct rig *rig = container_of(call, struct rig, call);

    io_timer_init(&rig->watch, failures_fire);
    io_timer_set(reactor_io(rig->client), &rig->watch, 0);
}

/* Nobody listens: noticed at once, and the link goes on trying. */
static void
test_refused(void **state)
{
    struct rig rig;

    (void)state;
    rig_init(&rig, 1, 1, 1);
    run(&rig, rig.server, server_open_call);
    run(&rig, rig.server, server_close_call);
    latch_wait(&rig.closed, 1);
    run(&rig, rig.client, remote_open_call);
    run(&rig, rig.client, count_failures_call);
    latch_wait(&rig.up, 1);
    run(&rig, rig.client, link_close_call);
    latch_wait(&rig.closed, 1);
    assert_int_equal(rig.reason, -ECONNREFUSED);
    run(&rig, rig.server, store_link_close_call);
    latch_wait(&rig.closed, 1);
    rig_done(&rig);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_remote),  cmocka_unit_test(test_remote_cross),
        cmocka_unit_test(test_local),   cmocka_unit_test(test_local_cross),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_local_timed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
