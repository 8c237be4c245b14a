/* SPDX-License-Identifier: Apache-2.0 */

/* The simulator replays: invariant (1) of lib/io/sim.h.  Three toys that write
 * to disks and to each other, under random crashes and cuts; the same seed
 * must give the same history, to the last byte.
 *
 *     test_sim_replay --hash SEED    prints the hash of one history
 *     test_sim_replay --bench        prints events a second */

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "lib/base/container_of.h"
#include "lib/base/units.h"
#include "lib/io/sim.h"

#define TOYS 3u

struct toy {
    struct sim_program program;
    struct sim_node *node;
    unsigned index;
};

struct toys {
    struct sim *sim;
    struct toy toy[TOYS];
    struct sim_alarm chaos;
    struct rng rng;
};

struct life {
    struct toy *toy;
    struct io *io;
    struct io_timer timer;
    struct io_file *file;
    struct io_file_op op;
    struct io_listener listener;
    struct io_conn out, in;
    bool in_used, out_used, is_busy, is_sending;
    struct io_send send;
    uint8_t *data;
    uint64_t received;
};

static void
toy_file_done(struct io_op *op, int result)
{
    struct life *life = container_of(op, struct life, op.op);

    life->is_busy = false;
    sim_trace_io(life->io, "toy file %d", result);
}

static void
toy_send_done(struct io_op *op, int result)
{
    struct life *life = container_of(op, struct life, send.op);

    life->is_sending = false;
    sim_trace_io(life->io, "toy sent %d", result);
}

static void
toy_connected(struct io_conn *conn, int result)
{
    struct life *life = container_of(conn, struct life, out);
    sim_trace_io(life->io, "toy connected %d", result);
}

static void
toy_out_data(struct io_conn *conn, const uint8_t *data, uint32_t size)
{
    (void)conn;
    (void)data;
    (void)size;
}

static void
toy_out_closed(struct io_conn *conn, int reason)
{
    struct life *life = container_of(conn, struct life, out);
    sim_trace_io(life->io, "toy out closed %d", reason);
    life->out_used = false;
}

static void
toy_in_data(struct io_conn *conn, const uint8_t *data, uint32_t size)
{
    struct life *life = container_of(conn, struct life, in);

    life->received = life->received * 31 + size + data[0] + data[size - 1];
    sim_trace_io(life->io, "toy received %" PRIx64, life->received);
}

static void
toy_in_closed(struct io_conn *conn, int reason)
{
    struct life *life = container_of(conn, struct life, in);
    sim_trace_io(life->io, "toy in closed %d", reason);
    life->in_used = false;
}

static void
toy_accept(struct io_listener *listener, struct io_accepted *accepted)
{
    struct life *life = container_of(listener, struct life, listener);

    if (life->in_used) {
        return;
    }
    life->in =
        (struct io_conn){ .on_data = toy_in_data, .on_closed = toy_in_closed };
    life->in_used = true;
    assert_int_equal(io_conn_adopt(life->io, &life->in, accepted), 0);
}

static void
toy_send(struct life *life)
{
    uint64_t draw = io_random_u64(life->io);
    uint32_t size = 1 + (uint32_t)(draw >> 8) % (draw % 8 == 0 ? 65536 : 5000);

    life->is_sending = true;
    io_random_bytes(life->io, life->data + 65536, 64);
    life->send = (struct io_send){ .op = { .done = toy_send_done },
                                   .iov = { { life->data + 65536, size } },
                                   .iov_count = 1 };
    io_conn_send(life->io, &life->out, &life->send);
}

static void
toy_tick(struct io_timer *timer)
{
    struct life *life = container_of(timer, struct life, timer);
    struct io *io = life->io;
    uint64_t draw = io_random_u64(io);

    if (!life->is_busy) {
        life->is_busy = true;
        io_random_bytes(io, life->data, 512);
        life->op = (struct io_file_op){
            .op = { .done = toy_file_done },
            .file = life->file,
            .kind = (enum io_file_kind)(draw % 3),
            .size_bytes = draw % 3 == 2 ? 0 : 8192,
            .offset_bytes = (draw >> 8) % 64 * 4096,
            .data = life->data,
        };
        io_file_start(io, &life->op);
    }
    if (!life->out_used) {
        char address[IO_ADDRESS_SIZE];
        snprintf(address, sizeof address, "tcp:n%u:1",
                 (life->toy->index + 1) % TOYS);
        life->out = (struct io_conn){ .on_connected = toy_connected,
                                      .on_data = toy_out_data,
                                      .on_closed = toy_out_closed };
        life->out_used = true;
        io_conn_connect(io, &life->out, address,
                        io_now_ns(io) + 50 * NS_PER_MS);
    } else if (!life->is_sending) {
        toy_send(life);
    }
    io_timer_set(io, timer, io_now_ns(io) + draw % (2 * NS_PER_MS));
}

static void
toy_boot(struct sim_program *program, struct sim_node *node, struct io *io)
{
    struct toy *toy = container_of(program, struct toy, program);
    struct life *life = malloc(sizeof *life);
    char address[IO_ADDRESS_SIZE];

    (void)node;
    assert_non_null(life);
    *life = (struct life){
        .toy = toy,
        .io = io,
        .listener = { .on_accept = toy_accept },
        .data = io_arena_alloc(io, 2 * 65536 + 4096),
    };
    snprintf(address, sizeof address, "tcp:n%u:1", toy->index);
    assert_int_equal(io_file_open(io, "/d", IO_CACHE_AUTO, &life->file), 0);
    assert_int_equal(io_listener_open(io, &life->listener, address), 0);
    io_timer_init(&life->timer, toy_tick);
    io_timer_set(io, &life->timer, 0);
}

static void
toys_chaos(struct sim_alarm *alarm)
{
    struct toys *toys = container_of(alarm, struct toys, chaos);
    struct toy *toy = &toys->toy[rng_below(&toys->rng, TOYS)];
    struct sim_node *node = toy->node;
    struct toy *other = &toys->toy[(toy->index + 1) % TOYS];

    switch (rng_below(&toys->rng, 8)) {
    case 0:
        sim_node_crash(node, SIM_CRASH_POWER);
        break;
    case 1:
        sim_node_crash(node, SIM_CRASH_PROCESS);
        break;
    case 2:
        sim_node_freeze(node, rng_below(&toys->rng, NS_PER_S));
        break;
    case 3:
        sim_net_block(node, other->node);
        break;
    case 4:
        sim_net_partition(toys->sim, rng_below(&toys->rng, 1 << TOYS));
        break;
    case 5:
        sim_net_cut(node, NULL);
        break;
    default:
        sim_net_heal(toys->sim);
        break;
    }
    for (unsigned i = 0; i < TOYS; i++) {
        if (!sim_node_is_alive(toys->toy[i].node) &&
            rng_chance(&toys->rng, 1, 2)) {
            sim_node_start(toys->toy[i].node, &toys->toy[i].program);
        }
    }
    sim_alarm_set(toys->sim, alarm,
                  sim_now_ns(toys->sim) +
                      rng_below(&toys->rng, 100 * NS_PER_MS));
}

static uint64_t
toys_run(uint64_t seed, uint64_t duration_ns, uint64_t *ret_events)
{
    struct toys toys = { .chaos = { .fire = toys_chaos } };
    struct sim_options options;

    sim_options_swarm(&options, seed);
    options.disk.read_eio_ppm = options.disk.write_eio_ppm = 5000;
    options.disk.flip_ppm = options.disk.flush_eio_ppm = 5000;
    options.net.reset_ppm = 1000;
    toys.sim = sim_new(seed, &options);
    sim_rng_init(toys.sim, "chaos", 0, &toys.rng);
    for (unsigned i = 0; i < TOYS; i++) {
        struct toy *toy = &toys.toy[i];
        char name[8];
        snprintf(name, sizeof name, "n%u", i);
        toy->index = i;
        toy->program.boot = toy_boot;
        toy->node = sim_node_add(toys.sim, name);
        sim_disk_add(toy->node, "/d", MIB, true);
        sim_node_start(toy->node, &toy->program);
    }
    sim_alarm_set(toys.sim, &toys.chaos, sim_now_ns(toys.sim) + NS_PER_MS);
    sim_run_for(toys.sim, duration_ns);
    uint64_t hash = sim_hash(toys.sim);
    if (ret_events != NULL) {
        *ret_events = sim_event_count(toys.sim);
    }
    sim_free(toys.sim);
    return hash;
}

static void
test_same_seed_same_history(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        uint64_t hash = toys_run(seed, 2 * NS_PER_S, NULL);
        assert_int_equal(hash, toys_run(seed, 2 * NS_PER_S, NULL));
        assert_int_not_equal(hash, toys_run(seed + 1000, 2 * NS_PER_S, NULL));
    }
}

static const char *program_path;

/* Another process has other addresses. */
static void
test_same_seed_in_another_process(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 5; seed++) {
        char command[4200];
        char line[64] = "";
        snprintf(command, sizeof command, "%s --hash %" PRIu64, program_path,
                 seed);
        FILE *pipe = popen(command, "r");
        assert_non_null(pipe);
        assert_non_null(fgets(line, sizeof line, pipe));
        assert_int_equal(pclose(pipe), 0);
        assert_int_equal(strtoull(line, NULL, 16),
                         toys_run(seed, 2 * NS_PER_S, NULL));
    }
}

/* ---- Speed, by hand: test_sim --bench ---- */

static int
bench(void)
{
    struct timespec begin, end;
    uint64_t total = 0;
    unsigned worlds = 200;

    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (unsigned seed = 0; seed < worlds; seed++) {
        uint64_t events;
        toys_run(seed, 5 * NS_PER_S, &events);
        total += events;
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    double seconds = (double)(end.tv_sec - begin.tv_sec) +
                     (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
    printf("%u worlds, %" PRIu64 " events, %.2f s, %.0f events/s, "
           "%.0f simulated s/s\n",
           worlds, total, seconds, (double)total / seconds,
           worlds * 5.0 / seconds);
    return 0;
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_seed_same_history),
        cmocka_unit_test(test_same_seed_in_another_process),
    };

    program_path = argv[0];
    if (argc == 3 && strcmp(argv[1], "--hash") == 0) {
        printf("%" PRIx64 "\n",
               toys_run(strtoull(argv[2], NULL, 10), 2 * NS_PER_S, NULL));
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "--bench") == 0) {
        return bench();
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
