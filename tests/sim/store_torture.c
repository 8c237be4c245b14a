/* SPDX-License-Identifier: Apache-2.0 */

/* Torture of one store: random requests against a model of legal contents,
 * through power cuts, kills, torn and lost writes, full files and I/O errors.
 *
 *     store_torture --seeds 1..2000            a campaign
 *     store_torture --seed 17 --trace          one seed, told step by step
 *     store_torture --bug 3 --seeds 1..500     with a planted bug: prints the
 *                                              first seed that finds it
 *     store_torture --all-bugs --seeds 1..500  each of them must be found
 *
 * The model.  Each block has a history: the values that were written to it, in
 * order (requests in flight never overlap, S15), each with its sequence.  One
 * index says which value was last acknowledged, another which is covered by
 * the last acknowledged flush.  What may be found:
 *
 *   while alive        exactly the last acknowledged value
 *   after a kill       that one or any later (nothing completed is lost: S6)
 *   after a power cut  the one at the last acknowledged flush, or any later
 *                      (on a disk without volatile cache: as after a kill)
 *
 * What is found after a crash is what has to be found from then on.  A block
 * may be SUSPECT only if an overwrite of it was under way, or not flushed, at
 * some crash since its last flushed value, and then its bytes must be legal
 * (on disks that do not tear 4 KiB).  Nothing is ever BAD: no rot is injected.
 *
 * A store that fails is killed at times, the moment that somebody has had -EIO.
 *
 * Also checked at each open: incarnation (S6), session and epoch (S16), G
 * against what is there (S5, (b)), touch sequences and slot sequences by LIST
 * (S4): what is not as it was flushed must be listed as newer; space
 * accounting. */

#include "tests/sim/store_torture.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/store/planted.h"

jmp_buf torture_failure;
bool torture_quiet;

void
torture_fail(struct torture *torture, const char *format, ...)
{
    va_list args;

    if (!torture_quiet) {
        fprintf(stderr, "seed %llu: ", (unsigned long long)torture->seed);
        va_start(args, format);
        vfprintf(stderr, format, args);
        va_end(args);
        fprintf(stderr, "\n");
    }
    longjmp(torture_failure, 1);
}

/* ---- Lives ---- */

static void
open_store(struct torture *torture, bool *lossy, bool *may_keep)
{
    struct rng *rng = &torture->rng;
    int result;

    /* Sometimes the host dies while it recovers. */
    while (rng_chance(rng, 1, 3)) {
        enum sim_crash crash =
            rng_chance(rng, 1, 2) ? SIM_CRASH_POWER : SIM_CRASH_PROCESS;
        uint64_t steps = rng_below(rng, 400);

        world_open_begin(&torture->world);
        for (uint64_t i = 0; i < steps && !torture->world.is_done; i++) {
            (void)sim_step(torture->world.sim);
        }
        TRACE(torture, "crash while opening: %d", crash);
        world_crash(&torture->world, crash);
        if (crash == SIM_CRASH_POWER && torture->is_volatile) {
            *lossy = true;
            *may_keep |= torture->closed;
        }
    }
    result = world_open(&torture->world);
    if (result != 0) {
        torture_fail(torture, "life %u: open: %d: %s", torture->life, result,
                     torture->world.open.err.text);
    }
}

static void
set_faults(struct torture *torture, bool on)
{
    struct sim_disk_options *options = sim_disk_options(torture->world.disk);

    if (!torture->faults) {
        return;
    }
    options->write_eio_ppm = on ? 300 : 0;
    options->flush_eio_ppm = on ? 3000 : 0;
    options->write_enospc_ppm = 0;
}

static void
one_life(struct torture *torture)
{
    struct rng *rng = &torture->rng;
    uint64_t todo = 20 + rng_below(rng, 400);

    set_faults(torture, true);
    for (uint64_t i = 0; i < todo; i++) {
        while (torture->in_flight >= torture->depth && !torture->broken) {
            if (!sim_step(torture->world.sim)) {
                torture_fail(torture, "requests hang");
            }
        }
        if (torture->broken && rng_chance(rng, 1, 2)) {
            torture->killed = true;
            break;
        }
        if (torture->broken) {
            set_faults(torture, false);
            for (uint64_t step = 0; torture->in_flight != 0; step++) {
                if (step > 1000000 || !sim_step(torture->world.sim)) {
                    torture_fail(torture, "requests hang after an error");
                }
            }
            TRACE(torture, "error: new session");
            torture_forget_ops(torture);
            /* The device may have lost its cache, whatever its kind. */
            torture_new_session(torture, true, true);
            set_faults(torture, true);
        }
        torture_trim(torture);
        torture_begin_something(torture);
        for (uint64_t steps = rng_below(rng, 12); steps != 0; steps--) {
            (void)sim_step(torture->world.sim);
        }
    }
    set_faults(torture, false);
}

static void
end_life(struct torture *torture, bool *lossy)
{
    struct rng *rng = &torture->rng;
    enum sim_crash crash = rng_chance(rng, 2, 3) && !torture->killed
                               ? SIM_CRASH_POWER
                               : SIM_CRASH_PROCESS;

    if (rng_chance(rng, 1, 8) && !torture->broken) {
        while (torture->in_flight != 0 && sim_step(torture->world.sim)) {
        }
        if (!torture->broken) {
            TRACE(torture, "close");
            world_close(&torture->world);
            torture->closed = true;
            *lossy = false;
            /* A flush of the store's own may have failed just before, which
             * nobody has been told: all that is acknowledged then is as after
             * a power cut, and the incarnation says so. */
            if (!torture->faults) {
                torture_all_flushed(torture);
            }
        } else {
            *lossy = true;
        }
    } else {
        *lossy = torture->broken ||
                 (crash == SIM_CRASH_POWER && torture->is_volatile);
    }
    if (!torture->closed && !torture->broken && rng_chance(rng, 1, 3)) {
        struct store_req fence;

        /* What it says is durable. */
        torture->fencing = true;
        if (world_fence(&torture->world, &fence) == 0) {
            torture->session_acked = fence.session;
        }
        torture->fencing = false;
    }
    TRACE(torture, "crash: %s", crash == SIM_CRASH_POWER ? "power" : "kill");
    world_crash(&torture->world, crash);
    torture->crashes++;
    torture_forget_ops(torture);
}

static void
torture_setup(struct torture *torture)
{
    struct rng *rng = &torture->rng;
    struct sim_options options;
    static const uint32_t depths[] = { 1, 2, 4, 8, 16 };

    sim_options_swarm(&options, torture->seed);
    torture->tears = rng_chance(rng, 1, 6);
    options.disk.tear_bytes = torture->tears ? 512 : 4096;
    if (rng_chance(rng, 1, 4)) {
        options.disk.stall_ppm = 30000;
        options.disk.stall_ns = (struct sim_range){ NS_PER_MS, 20 * NS_PER_MS };
    }
    torture->is_volatile = rng_chance(rng, 3, 4);
    torture->faults = rng_chance(rng, 1, 5);
    torture->large = rng_chance(rng, 1, 4);
    torture->slot_blocks = 4u << rng_below(rng, 3);
    torture->depth = depths[rng_below(rng, 5)];
    torture->hot_blocks = 8u << rng_below(rng, 6);
    world_init(&torture->world, torture->seed, &options,
               (uint64_t)(8 + rng_below(rng, 8)) * MIB, torture->is_volatile);
}

/* Another replica takes most of the slots: those that remain are used again
 * and again, and ENOSPC happens. */
static void
torture_fill(struct torture *torture)
{
    struct store_world *world = &torture->world;
    struct weft_uuid replica = world->replica;
    uint64_t session = world->session;
    uint64_t keep = 4 + rng_below(&torture->rng, BLOCKS / torture->slot_blocks);
    struct store_info info;

    world->replica.bytes[0] ^= 0xff;
    if (world_create(world, 100000) != 0 || world_fence(world, NULL) != 0) {
        torture_fail(torture, "no second replica");
    }
    store_info_get(world->store, &info);
    for (uint64_t slot = 0; info.slots_free > keep + slot; slot++) {
        if (world_write(world, slot * torture->slot_blocks, 1, slot + 1, 9) !=
            0) {
            torture_fail(torture, "no filler");
        }
        torture->filler_slots++;
    }
    if (world_flush(world, 0) != 0) {
        torture_fail(torture, "no filler");
    }
    world->replica = replica;
    world->session = session;
}

static void
torture_format(struct torture *torture)
{
    struct store_world *world = &torture->world;
    struct store_req fence;

    if (world_format(world, torture->slot_blocks * WEFT_BLOCK_SIZE, 0, false) !=
            0 ||
        world_open(world) != 0 ||
        world_create(world, REGION_FIRST + BLOCKS) != 0 ||
        world_fence(world, &fence) != 0) {
        torture_fail(torture, "set-up failed: %s", world->format.err.text);
    }
    torture_check_session(torture, &fence, false, false);
    if (rng_chance(&torture->rng, 1, 2)) {
        torture_fill(torture);
    }
    for (uint32_t i = 0; i < BLOCKS; i++) {
        torture->blocks[i].count = 1;
    }
    torture->next_tag = VALUE_FIRST;
}

/* True: all is well. */
static bool
torture_seed(struct torture *torture, uint64_t seed, uint32_t bug, bool trace)
{
    uint64_t lives;

    for (uint32_t i = 0; i < OPS_MAX; i++) {
        uint8_t *data = torture->ops[i].data;
        uint32_t *cut = torture->ops[i].cut;

        memset(&torture->ops[i], 0, sizeof(torture->ops[i]));
        torture->ops[i].data = data;
        torture->ops[i].cut = cut;
        torture->ops[i].torture = torture;
    }
    memset(torture->blocks, 0, sizeof(torture->blocks));
    memset(torture->touch, 0, sizeof(torture->touch));
    memset(torture->flushed_touch, 0, sizeof(torture->flushed_touch));
    torture->seed = seed;
    torture->trace = trace;
    torture->in_flight = 0;
    torture->life = 0;
    torture->sequence = store_seq_make(1, 0);
    torture->session_acked = 0;
    torture->incarnation = 0;
    torture->good_claimed = 0;
    torture->good_sent = 0;
    torture->broken = false;
    torture->fencing = false;
    torture->filler_slots = 0;
    rng_init(&torture->rng, seed);
    torture->world.sim = NULL;
    if (setjmp(torture_failure) != 0) {
        return false; /* The world is left behind as it is. */
    }
    torture_setup(torture);
    torture->world.options.planted_bug = bug;
    torture->world.options.requests_max = 4u << rng_below(&torture->rng, 4);
    torture_format(torture);
    lives = 2 + rng_below(&torture->rng, 8);
    for (uint64_t i = 0; i < lives; i++) {
        bool lossy = false;
        bool may_keep = torture->faults;

        torture->closed = false;
        torture->killed = false;
        one_life(torture);
        end_life(torture, &lossy);
        torture->life++;
        lossy |= torture->faults;
        /* Somebody has had -EIO: the new incarnation was durable (S6). */
        may_keep &= !torture->killed;
        open_store(torture, &lossy, &may_keep);
        torture_new_session(torture, lossy, may_keep);
    }
    world_done(&torture->world);
    return true;
}

/* ---- Command line ---- */

struct range {
    uint64_t first, last;
};

/* Chance needs long to find these, or they only make more blocks suspect than
 * need be: tests/unit/test_store_crash.c finds them. */
static bool
is_crafted(uint32_t bug)
{
    return bug == PLANTED_ACK_DISORDER || bug == PLANTED_WINDOW_IGNORED ||
           bug == PLANTED_PAGES_AHEAD || bug == PLANTED_OLDER_PAGE;
}

static bool
run_bug(struct torture *torture, uint32_t bug, struct range seeds)
{
    torture_quiet = true;
    for (uint64_t seed = seeds.first; seed <= seeds.last; seed++) {
        if (!torture_seed(torture, seed, bug, false)) {
            printf("bug %u found by seed %llu\n", bug,
                   (unsigned long long)seed);
            return true;
        }
    }
    printf("bug %u NOT found\n", bug);
    return false;
}

static bool
run_seeds(struct torture *torture, struct range seeds, bool trace)
{
    uint64_t failed = 0;

    for (uint64_t seed = seeds.first; seed <= seeds.last; seed++) {
        failed += !torture_seed(torture, seed, 0, trace);
    }
    printf("%llu seeds, %llu failed; %llu requests, %llu crashes, %llu "
           "suspect blocks\n",
           (unsigned long long)(seeds.last - seeds.first + 1),
           (unsigned long long)failed, (unsigned long long)torture->requests,
           (unsigned long long)torture->crashes,
           (unsigned long long)torture->suspects);
    return failed == 0;
}

int
main(int argc, char **argv)
{
    static struct torture torture;
    struct range seeds = { 1, 300 };
    bool trace = false;
    bool all_bugs = false;
    uint32_t bug = 0;

    for (uint32_t i = 0; i < OPS_MAX; i++) {
        torture.ops[i].data =
            aligned_alloc(4096, STORE_REQ_BLOCKS_MAX * WEFT_BLOCK_SIZE);
        torture.ops[i].cut = calloc(BLOCKS, sizeof(uint32_t));
    }
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--trace") == 0) {
            trace = true;
        } else if (strcmp(argv[i], "--all-bugs") == 0) {
            all_bugs = true;
        } else if (i + 1 < argc && strcmp(argv[i], "--bug") == 0) {
            bug = (uint32_t)strtoul(argv[++i], NULL, 10);
        } else if (i + 1 < argc && strcmp(argv[i], "--seed") == 0) {
            seeds.first = strtoull(argv[++i], NULL, 10);
            seeds.last = seeds.first;
        } else if (i + 1 < argc && strcmp(argv[i], "--seeds") == 0) {
            char *end;

            seeds.first = strtoull(argv[++i], &end, 10);
            seeds.last = strtoull(end + strspn(end, "."), NULL, 10);
        } else {
            fprintf(stderr, "usage: store_torture [--seeds A..B | --seed S] "
                            "[--trace] [--bug N | --all-bugs]\n");
            return 2;
        }
    }
    if (all_bugs) {
        bool all = true;

        for (uint32_t i = 1; i < PLANTED_COUNT; i++) {
            all &= is_crafted(i) || run_bug(&torture, i, seeds);
        }
        return all ? 0 : 1;
    }
    if (bug != 0) {
        return run_bug(&torture, bug, seeds) ? 0 : 1;
    }
    return run_seeds(&torture, seeds, trace) ? 0 : 1;
}
