/* SPDX-License-Identifier: Apache-2.0 */

/* What a request over a link costs, without a disk: the peer protocol over
 * loopback TCP, and a store of another reactor.
 *
 *     bench_peer [SECONDS]
 *
 * The store answers at once.  Prints requests a second, and for each request
 * the time it took and the CPU time of the whole process. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "blockd/peer/link_local.h"
#include "blockd/peer/peer_client.h"
#include "blockd/peer/peer_server.h"
#include "lib/base/container_of.h"
#include "lib/base/crc32c.h"
#include "lib/base/units.h"
#include "lib/io/uring.h"

#define DEPTH_MAX 64u

struct store {
    struct link link;
    struct io_task task;
    struct list ready;
};

struct one {
    struct store_req req;
    struct bench *bench;
};

struct bench {
    struct reactor *client, *server;
    struct store store;
    struct peer_directory directory;
    struct peer_server *peer_server;
    struct peer_server_close server_close;
    struct link *link, *server_link;
    struct link_user user;
    struct link_close close;
    struct weft_uuid uuid;
    char address[IO_ADDRESS_SIZE];
    struct reactor_call call;
    struct one ones[DEPTH_MAX];
    uint8_t *memory;
    uint32_t depth, blocks, pending;
    enum store_opcode opcode;
    uint64_t began_ns, limit_ns, count;
    volatile int flag;
};

static void
wait_flag(struct bench *bench)
{
    struct timespec pause = { .tv_nsec = 1000000 };

    while (!__atomic_load_n(&bench->flag, __ATOMIC_ACQUIRE)) {
        nanosleep(&pause, NULL);
    }
    bench->flag = 0;
}

static void
raise_flag(struct bench *bench)
{
    __atomic_store_n(&bench->flag, 1, __ATOMIC_RELEASE);
}

/* ---- The store ---- */

void
store_submit(struct store *store, struct store_req *req)
{
    list_init(&req->node);
    list_push_back(&store->ready, &req->node);
    io_task_defer(store->link.io, &store->task);
}

static void
store_run(struct io_task *task)
{
    struct store *store = container_of(task, struct store, task);
    struct list *node;

    while ((node = list_pop_front(&store->ready)) != NULL) {
        struct store_req *req = container_of(node, struct store_req, node);
        req->result = 0;
        if (req->opcode == STORE_READ) {
            memset(req->states, STORE_BLOCK_DATA, req->block_count);
            for (uint32_t i = 0; i < req->block_count; i++) {
                req->crcs[i] = 0x98f94189; /* Of 4 KiB of zeros. */
            }
        }
        req->done(req);
    }
}

static struct link *
find_disk(struct peer_directory *directory, const struct weft_uuid *disk)
{
    (void)disk;
    return container_of(directory, struct bench, directory)->server_link;
}

/* ---- The user ---- */

static void
submit(struct one *one)
{
    struct bench *bench = one->bench;

    bench->pending++;
    link_submit(bench->link, &one->req);
}

static void
one_done(struct store_req *req)
{
    struct one *one = container_of(req, struct one, req);
    struct bench *bench = one->bench;

    if (req->result != 0) {
        fprintf(stderr, "bench_peer: %s\n", strerror(-req->result));
        exit(1);
    }
    bench->count++;
    bench->pending--;
    if (io_now_ns(reactor_io(bench->client)) - bench->began_ns <
        bench->limit_ns) {
        submit(one);
    } else if (bench->pending == 0) {
        raise_flag(bench);
    }
}

static void
begin(struct reactor_call *call)
{
    struct bench *bench = container_of(call, struct bench, call);

    bench->began_ns = io_now_ns(reactor_io(bench->client));
    bench->count = 0;
    for (uint32_t i = 0; i < bench->depth; i++) {
        struct one *one = &bench->ones[i];
        uint8_t *data = bench->memory + (size_t)i * MIB;
        static uint32_t crcs[DEPTH_MAX][STORE_REQ_BLOCKS_MAX];
        static uint8_t states[DEPTH_MAX][STORE_REQ_BLOCKS_MAX];
        one->bench = bench;
        one->req = (struct store_req){
            .done = one_done,
            .opcode = bench->opcode,
            .layer = 1,
            .block_count = bench->blocks,
            .data = data,
            .crcs = crcs[i],
            .states = states[i],
            .deadline_ns = IO_NEVER,
        };
        for (uint32_t b = 0; b < bench->blocks; b++) {
            crcs[i][b] = crc32c(0, data + (size_t)b * 4096, 4096);
        }
        submit(one);
    }
}

static uint64_t
cpu_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static void
measure(struct bench *bench, const char *name, enum store_opcode opcode,
        uint32_t blocks, uint32_t depth)
{
    uint64_t cpu = cpu_ns();

    bench->opcode = opcode;
    bench->blocks = blocks;
    bench->depth = depth;
    bench->call.run = begin;
    reactor_call(bench->client, &bench->call);
    wait_flag(bench);
    cpu = cpu_ns() - cpu;
    double seconds = (double)bench->limit_ns / 1e9;
    double count = (double)bench->count;
    printf("%-8s %4u KiB depth %2u: %8.0f/s, %7.1f us each, %6.2f us CPU, "
           "%7.1f MiB/s\n",
           name, blocks * 4, depth, count / seconds,
           seconds * 1e6 / count * depth, (double)cpu / 1e3 / count,
           count * blocks * 4096 / seconds / 1048576);
    fflush(stdout);
}

static void
measure_all(struct bench *bench, const char *kind)
{
    printf("%s\n", kind);
    measure(bench, "  write", STORE_WRITE, 1, 1);
    measure(bench, "  write", STORE_WRITE, 1, 32);
    measure(bench, "  read", STORE_READ, 1, 1);
    measure(bench, "  read", STORE_READ, 1, 32);
    measure(bench, "  flush", STORE_FLUSH, 1, 1);
    measure(bench, "  write", STORE_WRITE, 16, 8);
    measure(bench, "  write", STORE_WRITE, 256, 4);
    measure(bench, "  read", STORE_READ, 256, 4);
}

/* ---- Set-up ---- */

static void
changed(struct link_user *user, enum link_state state)
{
    if (state == LINK_UP) {
        raise_flag(container_of(user, struct bench, user));
    }
}

static void
server_up(struct reactor_call *call)
{
    struct bench *bench = container_of(call, struct bench, call);
    struct io *io = reactor_io(bench->server);
    struct peer_server_options options;

    list_init(&bench->store.ready);
    bench->store.link.io = io;
    io_task_init(&bench->store.task, store_run);
    peer_server_options_init(&options);
    bench->directory.find = find_disk;
    options.directory = &bench->directory;
    options.cluster = bench->uuid;
    CHECK(link_local_new(io, &bench->store, io, &bench->uuid,
                         &bench->server_link) == 0);
    CHECK(peer_server_open(io, "tcp:127.0.0.1:0", &options,
                           &bench->peer_server) == 0);
    peer_server_address(bench->peer_server, bench->address);
}

static void
remote_up(struct reactor_call *call)
{
    struct bench *bench = container_of(call, struct bench, call);
    struct link_remote_options options;

    link_remote_options_init(&options);
    CHECK(link_remote_new(reactor_io(bench->client), bench->address,
                          &bench->uuid, &bench->uuid, &options,
                          &bench->link) == 0);
    link_user_add(bench->link, &bench->user, changed);
}

static void
local_up(struct reactor_call *call)
{
    struct bench *bench = container_of(call, struct bench, call);

    CHECK(link_local_new(reactor_io(bench->client), &bench->store,
                         reactor_io(bench->server), &bench->uuid,
                         &bench->link) == 0);
    link_user_add(bench->link, &bench->user, changed);
}

static void
closed(struct link_close *op)
{
    raise_flag(container_of(op, struct bench, close));
}

static void
link_down(struct reactor_call *call)
{
    struct bench *bench = container_of(call, struct bench, call);

    bench->close = (struct link_close){ .done = closed };
    link_user_remove(bench->link, &bench->user);
    link_close_start(bench->link, &bench->close);
}

static void
server_closed(struct peer_server_close *op)
{
    raise_flag(container_of(op, struct bench, server_close));
}

static void
server_down(struct reactor_call *call)
{
    struct bench *bench = container_of(call, struct bench, call);

    bench->server_close.done = server_closed;
    peer_server_close_start(bench->peer_server, &bench->server_close);
}

static void
server_link_down(struct reactor_call *call)
{
    struct bench *bench = container_of(call, struct bench, call);

    bench->close = (struct link_close){ .done = closed };
    link_close_start(bench->server_link, &bench->close);
}

static void
run(struct bench *bench, struct reactor *reactor, reactor_call_fn *fn,
    bool waits)
{
    bench->call.run = fn;
    reactor_call(reactor, &bench->call);
    if (waits) {
        wait_flag(bench);
    }
}

static struct reactor *
start(const char *name)
{
    struct reactor_options options;
    struct reactor *reactor;

    reactor_options_init(&options);
    snprintf(options.name, sizeof options.name, "%s", name);
    options.arena_bytes = 16 * MIB;
    CHECK(reactor_new(&options, &reactor) == 0);
    CHECK(reactor_start(reactor) == 0);
    return reactor;
}

int
main(int argc, char **argv)
{
    static struct bench bench;
    void *memory = NULL;

    bench.limit_ns = (argc > 1 ? strtoull(argv[1], NULL, 10) : 2) * NS_PER_S;
    if (posix_memalign(&memory, 4096, DEPTH_MAX * MIB) != 0) {
        return 1;
    }
    memset(memory, 0, DEPTH_MAX * MIB);
    bench.memory = memory;
    uuid_make_random(1, 2, &bench.uuid);
    bench.client = start("client");
    bench.server = start("server");
    run(&bench, bench.server, server_up, false);
    run(&bench, bench.client, remote_up, true);
    measure_all(&bench, "peer protocol, loopback TCP, two reactors");
    run(&bench, bench.client, link_down, true);
    run(&bench, bench.client, local_up, false);
    measure_all(&bench, "store of another reactor");
    run(&bench, bench.client, link_down, true);
    run(&bench, bench.server, server_down, true);
    run(&bench, bench.server, server_link_down, true);
    reactor_stop(bench.client);
    reactor_stop(bench.server);
    reactor_free(bench.client);
    reactor_free(bench.server);
    free(memory);
    return 0;
}
