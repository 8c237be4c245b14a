/* SPDX-License-Identifier: Apache-2.0 */

/* One store on a reactor, without network or replication: random 4 KiB
 * overwrites and reads at some depth.  Prints IOPS, latency, CPU, and bytes
 * written to the medium per byte (P1).
 *
 *     bench_store FILE [SIZE_MIB [SECONDS [volatile|nonvolatile]]]
 *
 * FILE is made anew. */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "blockd/store/store.h"
#include "lib/base/container_of.h"
#include "lib/base/crc32c.h"
#include "lib/base/rng.h"
#include "lib/base/units.h"
#include "lib/io/uring.h"

#define DEPTH_MAX 64u
#define LATENCIES_MAX 4000000u

struct slot {
    struct store_req req;
    struct bench *bench;
    uint8_t *data;
    uint32_t crc;
    uint8_t state;
    uint64_t started_ns;
};

struct bench {
    struct reactor *reactor;
    struct io *io;
    struct io_file *file;
    const char *path;
    enum io_cache_mode mode;
    struct store *store;
    struct store_format format;
    struct store_open open;
    struct store_close close;
    struct store_req req;
    struct slot slots[DEPTH_MAX];
    struct rng rng;
    uint64_t session;
    uint64_t sequence;
    uint64_t blocks;
    uint64_t fill;
    enum store_opcode opcode;
    uint32_t depth, running;
    uint64_t end_ns, count;
    uint32_t *latencies;
    sem_t done;
};

static uint64_t
clock_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static double
cpu_seconds(void)
{
    struct rusage usage;

    (void)getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* ---- Set-up, step by step ---- */

static struct store_req
bench_req(struct bench *bench, enum store_opcode opcode)
{
    struct store_req req = { .opcode = opcode,
                             .epoch = 1,
                             .session = bench->session,
                             .layer = STORE_LAYER_FIRST };

    req.replica.bytes[0] = 1;
    return req;
}

static void
fenced(struct store_req *req)
{
    struct bench *bench = container_of(req, struct bench, req);

    CHECK(req->result == 0);
    bench->session = req->session;
    (void)sem_post(&bench->done);
}

static void
created(struct store_req *req)
{
    struct bench *bench = container_of(req, struct bench, req);

    CHECK(req->result == 0);
    *req = bench_req(bench, STORE_FENCE);
    req->done = fenced;
    store_submit(bench->store, req);
}

static void
opened(struct store_open *op, int result)
{
    struct bench *bench = container_of(op, struct bench, open);

    CHECK(result == 0);
    bench->store = op->store;
    store_serve(bench->store);
    bench->req = bench_req(bench, STORE_CREATE);
    bench->req.size_blocks = bench->blocks;
    bench->req.done = created;
    store_submit(bench->store, &bench->req);
}

static void
formatted(struct store_format *op, int result)
{
    struct bench *bench = container_of(op, struct bench, format);

    CHECK(result == 0);
    bench->open = (struct store_open){
        .io = bench->io,
        .file = bench->file,
        .options = { .boot_id = { { 1 } } },
        .done = opened,
    };
    store_open_start(&bench->open);
}

struct bench_call {
    struct reactor_call call;
    struct bench *bench;
};

static void
bench_setup(struct reactor_call *call)
{
    struct bench *bench = container_of(call, struct bench_call, call)->bench;
    int result =
        io_file_open(bench->io, bench->path, bench->mode, &bench->file);

    CHECK(result == 0);
    bench->format = (struct store_format){
        .io = bench->io,
        .file = bench->file,
        .options = { .disk = { { 1 } }, .force = true },
        .done = formatted,
    };
    store_format_start(&bench->format);
}

/* ---- Load ---- */

static void slot_start(struct slot *slot);

static void
slot_done(struct store_req *req)
{
    struct slot *slot = container_of(req, struct slot, req);
    struct bench *bench = slot->bench;
    uint64_t now = clock_ns();

    CHECK(req->result == 0);
    if (bench->count < LATENCIES_MAX) {
        bench->latencies[bench->count] = (uint32_t)(now - slot->started_ns);
    }
    bench->count++;
    if (now < bench->end_ns) {
        slot_start(slot);
    } else if (--bench->running == 0) {
        (void)sem_post(&bench->done);
    }
}

static void
slot_start(struct slot *slot)
{
    struct bench *bench = slot->bench;

    slot->req = bench_req(bench, bench->opcode);
    slot->req.done = slot_done;
    slot->req.block = rng_below(&bench->rng, bench->blocks);
    slot->req.block_count = 1;
    slot->req.sequence = ++bench->sequence;
    slot->req.data = slot->data;
    slot->req.crcs = &slot->crc;
    slot->req.states = &slot->state;
    if (bench->opcode == STORE_WRITE) {
        memcpy(slot->data, &bench->sequence, sizeof(bench->sequence));
        slot->crc = crc32c(0, slot->data, WEFT_BLOCK_SIZE);
    }
    slot->started_ns = clock_ns();
    store_submit(bench->store, &slot->req);
}

static void
bench_load(struct reactor_call *call)
{
    struct bench *bench = container_of(call, struct bench_call, call)->bench;

    bench->running = bench->depth;
    bench->count = 0;
    for (uint32_t i = 0; i < bench->depth; i++) {
        slot_start(&bench->slots[i]);
    }
}

static void
filled(struct store_req *req)
{
    struct bench *bench = container_of(req, struct bench, req);

    CHECK(req->result == 0);
    if (bench->fill == bench->blocks) {
        (void)sem_post(&bench->done);
        return;
    }
    static uint32_t crcs[256];
    static uint8_t *data;
    uint64_t left = bench->blocks - bench->fill;

    if (data == NULL) {
        data = aligned_alloc(4096, 256 * WEFT_BLOCK_SIZE);
        memset(data, 7, 256 * WEFT_BLOCK_SIZE);
        for (uint32_t i = 0; i < 256; i++) {
            crcs[i] = crc32c(0, data, WEFT_BLOCK_SIZE);
        }
    }
    *req = bench_req(bench, STORE_WRITE);
    req->done = filled;
    req->block = bench->fill;
    req->block_count = left < 256 ? (uint32_t)left : 256;
    req->data = data;
    req->crcs = crcs;
    req->sequence = ++bench->sequence;
    bench->fill += req->block_count;
    store_submit(bench->store, req);
}

static void
bench_fill(struct reactor_call *call)
{
    struct bench *bench = container_of(call, struct bench_call, call)->bench;

    bench->req.result = 0;
    filled(&bench->req);
}

static int
compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

static void
run(struct bench *bench, enum store_opcode opcode, uint32_t depth,
    uint64_t seconds)
{
    struct bench_call call = { .call = { .run = bench_load }, .bench = bench };
    struct store_stats before;
    struct store_stats after;
    uint64_t count;
    double cpu;
    double written;

    bench->opcode = opcode;
    bench->depth = depth;
    bench->end_ns = clock_ns() + seconds * NS_PER_S;
    store_stats_get(bench->store, &before);
    cpu = cpu_seconds();
    reactor_call(bench->reactor, &call.call);
    (void)sem_wait(&bench->done);
    cpu = cpu_seconds() - cpu;
    store_stats_get(bench->store, &after);
    count = bench->count < LATENCIES_MAX ? bench->count : LATENCIES_MAX;
    qsort(bench->latencies, count, sizeof(uint32_t), compare_u32);
    written = (double)(after.write_bytes - before.write_bytes);
    printf("%-5s depth %2u: %8.0f IOPS, p50 %6.1f us, p99 %7.1f us, cpu "
           "%.2f s/100k, amplification %.3f, %.1f records/block, "
           "%" PRIu64 " checkpoints, %" PRIu64 " flushes\n",
           opcode == STORE_READ ? "read" : "write", depth,
           (double)bench->count / (double)seconds,
           (double)bench->latencies[count / 2] / 1e3,
           (double)bench->latencies[count * 99 / 100] / 1e3,
           cpu * 1e5 / (double)bench->count,
           written > 0 ? (double)(after.device_write_bytes -
                                  before.device_write_bytes) /
                             written
                       : 0,
           (double)(after.journal_records - before.journal_records) /
               (double)(after.journal_blocks - before.journal_blocks + 1),
           after.checkpoints - before.checkpoints,
           after.device_flushes - before.device_flushes);
}

static void
closed(struct store_close *op)
{
    struct bench *bench = container_of(op, struct bench, close);

    (void)sem_post(&bench->done);
}

static void
bench_close(struct reactor_call *call)
{
    struct bench *bench = container_of(call, struct bench_call, call)->bench;

    bench->close =
        (struct store_close){ .store = bench->store, .done = closed };
    store_close_start(&bench->close);
}

int
main(int argc, char **argv)
{
    static struct bench bench;
    struct bench_call call = { .bench = &bench };
    struct reactor_options options;
    uint64_t mib = argc > 2 ? strtoull(argv[2], NULL, 10) : 2048;
    uint64_t seconds = argc > 3 ? strtoull(argv[3], NULL, 10) : 3;
    int fd;

    if (argc < 2) {
        fprintf(stderr, "usage: bench_store FILE [SIZE_MIB [SECONDS "
                        "[volatile|nonvolatile]]]\n");
        return 2;
    }
    bench.path = argv[1];
    bench.mode = argc > 4 && strcmp(argv[4], "nonvolatile") == 0
                     ? IO_CACHE_NONVOLATILE
                     : IO_CACHE_VOLATILE;
    fd = open(bench.path, O_CREAT | O_RDWR | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK(ftruncate(fd, (off_t)(mib * MIB)) == 0);
    (void)close(fd);
    (void)sem_init(&bench.done, 0, 0);
    rng_init(&bench.rng, 1);
    bench.blocks = mib * 256 * 8 / 10;
    bench.latencies = calloc(LATENCIES_MAX, sizeof(uint32_t));
    for (uint32_t i = 0; i < DEPTH_MAX; i++) {
        bench.slots[i].bench = &bench;
        bench.slots[i].data = aligned_alloc(4096, WEFT_BLOCK_SIZE);
        memset(bench.slots[i].data, 0, WEFT_BLOCK_SIZE);
    }
    reactor_options_init(&options);
    if (reactor_new(&options, &bench.reactor) != 0 ||
        reactor_start(bench.reactor) != 0) {
        fprintf(stderr, "no reactor\n");
        return 1;
    }
    bench.io = reactor_io(bench.reactor);
    call.call.run = bench_setup;
    reactor_call(bench.reactor, &call.call);
    (void)sem_wait(&bench.done);
    call.call.run = bench_fill;
    reactor_call(bench.reactor, &call.call);
    (void)sem_wait(&bench.done);
    run(&bench, STORE_WRITE, 1, seconds);
    run(&bench, STORE_WRITE, 1, seconds);
    run(&bench, STORE_WRITE, 32, seconds);
    run(&bench, STORE_WRITE, 32, 3 * seconds);
    run(&bench, STORE_READ, 1, seconds);
    run(&bench, STORE_READ, 32, seconds);
    call.call.run = bench_close;
    reactor_call(bench.reactor, &call.call);
    (void)sem_wait(&bench.done);
    reactor_stop(bench.reactor);
    reactor_free(bench.reactor);
    return 0;
}
