/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "lib/base/units.h"
#include "tests/sim/cluster.h"

/* Disks that are there and of no use: one that answers nothing for a while, one
 * that cannot be written in some place.
 *
 * During the storm they are faults like others, and safety is what is looked
 * at.  In the act before it (world_grey) nothing else is wrong, and so it can
 * be demanded that the volume goes on:
 *
 *   (1) A disk hangs, its replicas can be spared, and another host's replica is
 *       there to bear witness (S20): all requests end within GREY_LIMIT_NS,
 *       which is less than any deadline of theirs (rule 3).
 *   (2) A disk returns an error for each write: the number of attempts to
 *       resync its replicas is bounded. */

#define GREY_LIMIT_NS (20 * NS_PER_S)
#define ERRORS_NS (40 * NS_PER_S)
#define ERRORS_RESYNCS_MAX 14u

/* ---- A disk hangs ---- */

/* NOLINTBEGIN(readability-non-const-parameter): the type is sim.h's. */
static enum sim_verdict
host_disk_started(struct sim_disk_hook *hook, struct sim_disk *disk,
                  const struct io_file_op *op, int *ret_result)
{
    struct host *host = container_of(hook, struct host, hook);

    (void)disk;
    (void)op;
    (void)ret_result;
    return sim_now_ns(host->world->sim) < host->hung_until_ns ? SIM_HOLD
                                                              : SIM_PASS;
}
/* NOLINTEND(readability-non-const-parameter) */

static void
host_disk_freed(struct sim_alarm *alarm)
{
    struct host *host = container_of(alarm, struct host, unhang);

    host_unhang(host);
}

void
host_hang(struct host *host, uint64_t duration_ns)
{
    struct sim *sim = host->world->sim;

    if (host->hung_until_ns != 0) {
        return;
    }
    sim_trace(sim, "host %u's disk hangs for %llu ms", host->index,
              (unsigned long long)(duration_ns / NS_PER_MS));
    host->hook.started = host_disk_started;
    sim_disk_set_hook(host->disk, &host->hook);
    host->hung_until_ns = sim_now_ns(sim) + duration_ns;
    host->unhang.fire = host_disk_freed;
    sim_alarm_set(sim, &host->unhang, host->hung_until_ns);
}

void
host_unhang(struct host *host)
{
    if (host->hung_until_ns == 0) {
        return;
    }
    sim_trace(host->world->sim, "host %u's disk goes on", host->index);
    sim_alarm_cancel(&host->unhang);
    host->hung_until_ns = 0;
    sim_disk_release(host->disk, NULL);
}

/* ---- A place that cannot be written ---- */

void
host_spoil(struct host *host, uint64_t size_bytes)
{
    struct rng *rng = &host->world->rng;
    uint64_t at = host->data_first_bytes;

    if (size_bytes < host->data_bytes) {
        at += rng_below(rng, (host->data_bytes - size_bytes) / KIB) * KIB;
    }
    sim_trace(host->world->sim, "host %u cannot write %llu+%llu", host->index,
              (unsigned long long)at, (unsigned long long)size_bytes);
    sim_disk_fault(host->disk, SIM_FAULT_WRITE_EIO, at, size_bytes, 0);
}

/* ---- The act ---- */

static bool
host_has_replica(const struct world *world, uint32_t mirror, uint32_t index)
{
    for (uint32_t i = 0; i < world->replicas; i++) {
        if (world->where[mirror][i] == index) {
            return true;
        }
    }
    return false;
}

/* Whether each mirror can go on without the victim, and knows it. */
static bool
world_can_spare(const struct world *world, uint32_t victim)
{
    uint32_t owner = world->attached->index;
    bool concerned = false;

    for (uint32_t m = 0; m < world->mirrors; m++) {
        if (!host_has_replica(world, m, victim)) {
            continue;
        }
        bool witness = false;
        for (uint32_t h = 0; h < HOSTS; h++) {
            witness = witness || (h != victim && h != owner &&
                                  host_has_replica(world, m, h));
        }
        if (!witness || world->replicas - 1 < world->min_in_sync) {
            return false;
        }
        concerned = true;
    }
    return concerned;
}

static void
world_grey_hang(struct world *world, struct host *victim)
{
    struct sim *sim = world->sim;

    host_hang(victim, 60 * NS_PER_S);
    for (uint32_t i = 0; i < 4; i++) {
        guest_step(world, world->attached);
    }
    uint64_t limit_ns = sim_now_ns(sim) + GREY_LIMIT_NS;
    while (!guest_is_idle(world) && sim_now_ns(sim) < limit_ns) {
        sim_run_for(sim, 50 * NS_PER_MS);
    }
    if (!guest_is_idle(world)) {
        world_fail(world, "requests wait for host %u's disk, which hangs",
                   victim->index);
    }
    /* New ones go by it. */
    for (uint32_t i = 0; i < 4; i++) {
        guest_step(world, world->attached);
        sim_run_for(sim, 200 * NS_PER_MS);
    }
    host_unhang(victim);
}

static void
world_grey_errors(struct world *world, struct host *victim)
{
    struct sim *sim = world->sim;

    memset(world->resyncs, 0, sizeof world->resyncs);
    host_spoil(victim, victim->data_bytes);
    uint64_t end_ns = sim_now_ns(sim) + ERRORS_NS;
    while (sim_now_ns(sim) < end_ns && !world->failed) {
        if (world->attached->owner.volume != NULL) {
            guest_step(world, world->attached);
        }
        sim_run_for(sim, 500 * NS_PER_MS);
    }
    for (uint32_t m = 0; m < world->mirrors; m++) {
        if (world->resyncs[m] > ERRORS_RESYNCS_MAX) {
            world_fail(world,
                       "host %u's disk cannot be written, and mirror %u tried "
                       "to resync %u times",
                       victim->index, m, world->resyncs[m]);
        }
    }
    sim_disk_faults_clear(victim->disk);
}

void
world_grey(struct world *world)
{
    uint64_t dice = rng_below(&world->rng, 12);

    if (dice > 2 || world->swarm.small_disk) {
        return;
    }
    if (!world_wait_whole(world, 60 * NS_PER_S)) {
        world_fail(world, "does not become whole at the beginning");
        return;
    }
    uint32_t victim = (uint32_t)rng_below(&world->rng, HOSTS);
    if (rng_chance(&world->rng, 1, 2)) {
        victim = world->attached->index; /* Local disks above all. */
    }
    for (uint32_t i = 0; i < 4; i++) {
        guest_step(world, world->attached);
        sim_run_for(world->sim, 20 * NS_PER_MS);
    }
    if (world_can_spare(world, victim)) {
        sim_trace(world->sim, "---- grey ----");
        if (dice == 0) {
            world_grey_errors(world, &world->hosts[victim]);
        } else {
            world_grey_hang(world, &world->hosts[victim]);
        }
    }
}
