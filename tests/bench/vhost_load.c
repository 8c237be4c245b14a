/* SPDX-License-Identifier: Apache-2.0 */

/* A load generator for vhost-user-blk back ends: blockd's, and others' to
 * compare with (qemu-storage-daemon --export vhost-user-blk).
 *
 *   vhost_load --socket S --rw randwrite --bs 4k --iodepth 32 --runtime 5
 *
 * It is driver and guest in one: queues, requests and completions are those of
 * a Linux guest with one job a queue.  By default it spins on the used rings,
 * which measures the back end; with --calls it sleeps on the call eventfd, as a
 * guest would.  With --verify each block carries its number and version, and
 * reads check them (only what this run has written).
 *
 * Prints one line of JSON: iops, bytes, latency in microseconds (mean, p50,
 * p99, p999, max), errors, own CPU seconds. */

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/array.h"
#include "lib/base/rng.h"
#include "lib/base/units.h"
#include "tests/support/vhost_driver.h"

#define LOAD_DEPTH_MAX 1024u
/* Latency histogram: 64 steps for each power of two of nanoseconds. */
#define LOAD_STEPS 64u
#define LOAD_BUCKETS (64u * LOAD_STEPS)

struct load_options {
    const char *socket, *rw;
    uint64_t block_bytes, runtime_ns, size_bytes, count_max;
    uint32_t depth, queues, fsync_every;
    uint64_t seed;
    bool verify, calls, direct;
};

struct load_slot {
    uint64_t started_ns, block, version;
    uint64_t addr;
    uint32_t queue;
    uint32_t type;
};

struct load {
    struct load_options options;
    struct vhost_driver driver;
    struct rng rng;
    struct load_slot slots[LOAD_DEPTH_MAX];
    uint32_t *versions; /* By block; 0: not written by this run. */
    bool *busy;         /* Block is under way (verify). */
    uint64_t blocks, next_block, version;
    uint64_t started, completed, errors, mismatches, bytes;
    uint64_t sum_ns, max_ns;
    uint32_t histogram[LOAD_BUCKETS];
    uint64_t begin_ns, end_ns;
};

static uint64_t
now_ns(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * NS_PER_S + (uint64_t)time.tv_nsec;
}

static _Noreturn void
fail(const char *what, int result)
{
    fprintf(stderr, "vhost_load: %s: %s\n", what, strerror(-result));
    exit(1);
}

/* ---- Histogram ---- */

static uint32_t
bucket_of(uint64_t ns)
{
    if (ns < LOAD_STEPS) {
        return (uint32_t)ns;
    }
    uint32_t shift = 63 - (uint32_t)__builtin_clzll(ns) - 6;
    return (shift + 1) * LOAD_STEPS + (uint32_t)(ns >> shift) - LOAD_STEPS;
}

static uint64_t
bucket_ns(uint32_t bucket)
{
    if (bucket < LOAD_STEPS) {
        return bucket;
    }
    uint32_t shift = bucket / LOAD_STEPS - 1;
    return ((uint64_t)(bucket % LOAD_STEPS) + LOAD_STEPS) << shift;
}

static double
percentile_us(const struct load *load, double part)
{
    uint64_t wanted = (uint64_t)((double)load->completed * part);
    uint64_t seen = 0;

    for (uint32_t i = 0; i < LOAD_BUCKETS; i++) {
        seen += load->histogram[i];
        if (seen > wanted) {
            return (double)bucket_ns(i) / 1000.0;
        }
    }
    return (double)load->max_ns / 1000.0;
}

/* ---- Data ---- */

static void
stamp(struct load *load, struct load_slot *slot)
{
    uint64_t *words = (void *)vhost_driver_at(&load->driver, slot->addr);
    uint64_t count = load->options.block_bytes / sizeof *words;

    if (!load->options.verify) {
        words[0] = slot->block; /* Incompressible enough: filled at start. */
        words[1] = load->started;
        return;
    }
    for (uint64_t i = 0; i < count; i++) {
        words[i] = (slot->block * UINT64_C(0x9e3779b97f4a7c15)) ^
                   (slot->version << 32) ^ i;
    }
}

static bool
matches(struct load *load, const struct load_slot *slot)
{
    const uint64_t *words = (void *)vhost_driver_at(&load->driver, slot->addr);
    uint64_t count = load->options.block_bytes / sizeof *words;

    for (uint64_t i = 0; i < count; i++) {
        if (words[i] != ((slot->block * UINT64_C(0x9e3779b97f4a7c15)) ^
                         (slot->version << 32) ^ i)) {
            return false;
        }
    }
    return true;
}

/* ---- Requests ---- */

static uint64_t
pick_block(struct load *load)
{
    uint64_t block;

    do {
        if (strncmp(load->options.rw, "rand", 4) == 0) {
            block = rng_u64(&load->rng) % load->blocks;
        } else {
            block = load->next_block++ % load->blocks;
        }
    } while (load->options.verify && load->busy[block]);
    return block;
}

static void
submit(struct load *load, uint32_t index)
{
    struct load_slot *slot = &load->slots[index];
    struct vhost_driver_queue *queue = &load->driver.queues[slot->queue];
    bool is_write = strstr(load->options.rw, "write") != NULL;
    uint32_t data_bytes = (uint32_t)load->options.block_bytes;

    slot->type = is_write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
    if (load->options.fsync_every != 0 &&
        load->started % (load->options.fsync_every + 1) ==
            load->options.fsync_every) {
        slot->type = VIRTIO_BLK_T_FLUSH;
        data_bytes = 0;
        slot->block = 0;
    } else {
        slot->block = pick_block(load);
        if (load->options.verify) {
            load->busy[slot->block] = true;
            /* Half of the requests check what has been written. */
            if (is_write && load->versions[slot->block] != 0 &&
                (rng_u64(&load->rng) & 1) != 0) {
                slot->type = VIRTIO_BLK_T_IN;
            }
            slot->version = slot->type == VIRTIO_BLK_T_OUT
                                ? ++load->version & UINT32_MAX
                                : load->versions[slot->block];
        }
        if (slot->type == VIRTIO_BLK_T_OUT) {
            stamp(load, slot);
        }
    }
    slot->started_ns = now_ns();
    int result = vhost_driver_blk(queue, slot->type,
                                  slot->block * (load->options.block_bytes /
                                                 VIRTIO_BLK_SECTOR_SIZE),
                                  slot->addr, data_bytes, !load->options.direct,
                                  index, NULL);
    if (result != 0) {
        fail("no room in the queue", result);
    }
    load->started++;
}

static void
complete(struct load *load, uint32_t index, uint8_t status, uint64_t now)
{
    struct load_slot *slot = &load->slots[index];
    uint64_t took_ns = now - slot->started_ns;

    load->completed++;
    load->sum_ns += took_ns;
    if (took_ns > load->max_ns) {
        load->max_ns = took_ns;
    }
    load->histogram[bucket_of(took_ns)]++;
    if (status != VIRTIO_BLK_S_OK) {
        load->errors++;
    } else if (slot->type != VIRTIO_BLK_T_FLUSH) {
        load->bytes += load->options.block_bytes;
    }
    if (load->options.verify && slot->type != VIRTIO_BLK_T_FLUSH) {
        load->busy[slot->block] = false;
        if (slot->type == VIRTIO_BLK_T_OUT) {
            load->versions[slot->block] = (uint32_t)slot->version;
        } else if (slot->version != 0 && !matches(load, slot)) {
            load->mismatches++;
        }
    }
}

static bool
wants_more(const struct load *load, uint64_t now)
{
    return now < load->end_ns && (load->options.count_max == 0 ||
                                  load->started < load->options.count_max);
}

/* Takes what is there, and starts as much anew. */
static bool
turn(struct load *load, struct vhost_driver_queue *queue)
{
    uint64_t cookie;
    uint16_t head;
    bool worked = false;
    bool added = false;
    int result;

    while ((result = vhost_driver_take(queue, &cookie, &head, NULL)) > 0) {
        uint64_t now = now_ns();
        worked = true;
        complete(load, (uint32_t)cookie, vhost_driver_status(queue, head), now);
        if (wants_more(load, now)) {
            submit(load, (uint32_t)cookie);
            added = true;
        }
    }
    if (result < 0) {
        fail("used ring", result);
    }
    if (added) {
        (void)vhost_driver_kick(queue);
    }
    return worked;
}

static void
sleep_for_calls(struct load *load)
{
    struct pollfd fds[VHOST_DRIVER_QUEUES_MAX + 1];
    uint32_t queues = load->options.queues;

    for (uint32_t i = 0; i < queues; i++) {
        if (vhost_driver_want_call(&load->driver.queues[i])) {
            return;
        }
        fds[i] = (struct pollfd){ .fd = load->driver.queues[i].call_fd,
                                  .events = POLLIN };
    }
    fds[queues] = (struct pollfd){ .fd = load->driver.fd, .events = POLLRDHUP };
    if (poll(fds, queues + 1, 10000) <= 0) {
        fail("no call for 10 s", -ETIMEDOUT);
    }
    if (fds[queues].revents != 0) {
        fail("the back end is gone", -ECONNRESET);
    }
    for (uint32_t i = 0; i < queues; i++) {
        (void)vhost_driver_was_called(&load->driver.queues[i]);
    }
}

static void
run(struct load *load)
{
    uint64_t outstanding;
    uint64_t last_work_ns;

    load->begin_ns = last_work_ns = now_ns();
    load->end_ns = load->begin_ns + load->options.runtime_ns;
    for (uint32_t i = 0; i < load->options.queues; i++) {
        vhost_driver_refuse_calls(&load->driver.queues[i]);
    }
    for (uint32_t i = 0; i < load->options.depth; i++) {
        if (wants_more(load, load->begin_ns)) {
            submit(load, i);
        }
    }
    for (uint32_t i = 0; i < load->options.queues; i++) {
        (void)vhost_driver_kick(&load->driver.queues[i]);
    }
    do {
        bool worked = false;
        for (uint32_t i = 0; i < load->options.queues; i++) {
            worked = turn(load, &load->driver.queues[i]) || worked;
        }
        outstanding = load->started - load->completed;
        if (worked) {
            last_work_ns = now_ns();
        } else if (outstanding > 0 && load->options.calls) {
            sleep_for_calls(load);
        } else if (now_ns() - last_work_ns > 10 * NS_PER_S) {
            fail("nothing completed for 10 s", -ETIMEDOUT);
        }
    } while (outstanding > 0);
    load->end_ns = now_ns();
}

/* ---- Start and end ---- */

static void
open_device(struct load *load)
{
    struct load_options *options = &load->options;
    uint32_t queue_size = 2;

    while (queue_size < 3 * options->depth && queue_size < 1024) {
        queue_size *= 2;
    }
    struct vhost_driver_options driver = {
        .path = options->socket,
        .queue_count = options->queues,
        .queue_size = queue_size > 128 ? queue_size : 128,
        .mem_bytes = 64 * MIB + options->depth * options->block_bytes,
    };
    int result = vhost_driver_init(&load->driver, &driver);
    if (result == 0) {
        result = vhost_driver_connect(&load->driver);
    }
    if (result == 0) {
        result = vhost_driver_start(&load->driver);
    }
    if (result != 0) {
        fail(options->socket, result);
    }
    uint64_t capacity =
        le64_get(load->driver.config.capacity_sectors) * VIRTIO_BLK_SECTOR_SIZE;
    if (options->size_bytes == 0 || options->size_bytes > capacity) {
        options->size_bytes = capacity;
    }
    load->blocks = options->size_bytes / options->block_bytes;
    if (load->blocks < options->depth) {
        fail("the device is too small", -ENOSPC);
    }
    load->versions = calloc(load->blocks, sizeof *load->versions);
    load->busy = calloc(load->blocks, sizeof *load->busy);
    for (uint32_t i = 0; i < options->depth; i++) {
        struct load_slot *slot = &load->slots[i];
        slot->addr = vhost_driver_alloc(&load->driver, options->block_bytes,
                                        WEFT_BLOCK_SIZE);
        slot->queue = i % options->queues;
        if (slot->addr == 0 || load->versions == NULL || load->busy == NULL) {
            fail("memory", -ENOMEM);
        }
        uint64_t *words = (void *)vhost_driver_at(&load->driver, slot->addr);
        for (uint64_t k = 0; k < options->block_bytes / 8; k++) {
            words[k] = rng_u64(&load->rng);
        }
    }
}

static void
report(const struct load *load)
{
    double seconds = (double)(load->end_ns - load->begin_ns) / 1e9;
    double count = load->completed > 0 ? (double)load->completed : 1.0;
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    double cpu =
        (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
        (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    printf("{\"rw\": \"%s\", \"bs\": %llu, \"iodepth\": %u, \"queues\": %u, "
           "\"iops\": %.1f, \"ios\": %llu, \"bytes\": %llu, "
           "\"seconds\": %.3f, \"mean_us\": %.2f, \"p50_us\": %.2f, "
           "\"p99_us\": %.2f, \"p999_us\": %.2f, \"max_us\": %.2f, "
           "\"errors\": %llu, \"mismatches\": %llu, \"cpu_s\": %.3f}\n",
           load->options.rw, (unsigned long long)load->options.block_bytes,
           load->options.depth, load->options.queues,
           (double)load->completed / seconds,
           (unsigned long long)load->completed, (unsigned long long)load->bytes,
           seconds, (double)load->sum_ns / count / 1000.0,
           percentile_us(load, 0.5), percentile_us(load, 0.99),
           percentile_us(load, 0.999), (double)load->max_ns / 1000.0,
           (unsigned long long)load->errors,
           (unsigned long long)load->mismatches, cpu);
}

static void
usage(void)
{
    fprintf(stderr,
            "usage: vhost_load --socket PATH "
            "[--rw randread|randwrite|read|write] [--bs 4K] [--iodepth 1]\n"
            "    [--runtime 5s] [--size BYTES] [--count REQUESTS] [--queues 1]"
            " [--verify] [--calls]\n"
            "    [--fsync EVERY] [--direct-descriptors] [--seed N]\n"
            "sizes: 4096, 4K, 1M ...; durations: 5s, 500ms\n");
    exit(2);
}

static uint64_t
number(const char *text)
{
    uint64_t value = 0;
    char upper[32] = "";

    for (size_t i = 0; text[i] != '\0' && i < sizeof upper - 1; i++) {
        upper[i] = text[i];
        if (text[i] == 'k') {
            upper[i] = 'K';
        } else if (text[i] == 'm') {
            upper[i] = 'M';
        }
    }
    if (units_parse_size(upper, &value) != 0) {
        usage();
    }
    return value;
}

static void
parse(int argc, char **argv, struct load_options *options)
{
    static const struct option longs[] = {
        { "socket", required_argument, NULL, 's' },
        { "rw", required_argument, NULL, 'w' },
        { "bs", required_argument, NULL, 'b' },
        { "iodepth", required_argument, NULL, 'd' },
        { "runtime", required_argument, NULL, 'r' },
        { "size", required_argument, NULL, 'z' },
        { "count", required_argument, NULL, 'n' },
        { "queues", required_argument, NULL, 'q' },
        { "fsync", required_argument, NULL, 'f' },
        { "seed", required_argument, NULL, 'e' },
        { "verify", no_argument, NULL, 'v' },
        { "calls", no_argument, NULL, 'c' },
        { "direct-descriptors", no_argument, NULL, 'D' },
        { NULL, 0, NULL, 0 },
    };
    int option;

    while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (option) {
        case 's':
            options->socket = optarg;
            break;
        case 'w':
            options->rw = optarg;
            break;
        case 'b':
            options->block_bytes = number(optarg);
            break;
        case 'd':
            options->depth = (uint32_t)number(optarg);
            break;
        case 'z':
            options->size_bytes = number(optarg);
            break;
        case 'n':
            options->count_max = number(optarg);
            break;
        case 'q':
            options->queues = (uint32_t)number(optarg);
            break;
        case 'f':
            options->fsync_every = (uint32_t)number(optarg);
            break;
        case 'e':
            options->seed = number(optarg);
            break;
        case 'v':
            options->verify = true;
            break;
        case 'c':
            options->calls = true;
            break;
        case 'D':
            options->direct = true;
            break;
        case 'r':
            if (units_parse_duration(optarg, &options->runtime_ns) != 0) {
                options->runtime_ns = number(optarg) * NS_PER_S;
            }
            break;
        default:
            usage();
        }
    }
}

static bool
is_sound(const struct load_options *options)
{
    static const char *const kinds[] = { "randread", "randwrite", "read",
                                         "write" };
    bool found = false;

    for (size_t i = 0; i < ARRAY_COUNT(kinds); i++) {
        found = found || strcmp(options->rw, kinds[i]) == 0;
    }
    return found && options->socket != NULL && options->depth >= 1 &&
           options->depth <= LOAD_DEPTH_MAX && options->queues >= 1 &&
           options->queues <= VHOST_DRIVER_QUEUES_MAX &&
           options->block_bytes >= VIRTIO_BLK_SECTOR_SIZE &&
           options->block_bytes % VIRTIO_BLK_SECTOR_SIZE == 0 &&
           options->block_bytes <= 16 * MIB;
}

int
main(int argc, char **argv)
{
    static struct load load = {
        .options = {
            .rw = "randread",
            .block_bytes = 4096,
            .runtime_ns = 5 * NS_PER_S,
            .depth = 1,
            .queues = 1,
            .seed = 1,
        },
    };

    parse(argc, argv, &load.options);
    if (!is_sound(&load.options)) {
        usage();
    }
    rng_init(&load.rng, load.options.seed);
    open_device(&load);
    run(&load);
    int result = vhost_driver_stop(&load.driver);
    if (result != 0) {
        fail("stop", result);
    }
    vhost_driver_done(&load.driver);
    free(load.versions);
    free(load.busy);
    report(&load);
    return load.errors == 0 && load.mismatches == 0 ? 0 : 1;
}
