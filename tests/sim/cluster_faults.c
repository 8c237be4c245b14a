/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/units.h"
#include "tests/sim/cluster.h"

/* What goes wrong in the storm, of those kinds that the seed has drawn. */

static void
fault_crash(struct world *world, struct host *host)
{
    struct swarm *swarm = &world->swarm;
    uint64_t back_ns = rng_between(&world->rng, NS_PER_MS, 1500 * NS_PER_MS);

    if (swarm->all_power && rng_chance(&world->rng, 1, 8)) {
        for (uint32_t i = 0; i < HOSTS; i++) {
            host_crash(&world->hosts[i], SIM_CRASH_POWER,
                       back_ns + rng_below(&world->rng, 300 * NS_PER_MS));
        }
        world->guest_alive = false;
    } else if (swarm->power && rng_chance(&world->rng, 1, 2)) {
        if (host == world->attached) {
            world->guest_alive = false;
        }
        host_crash(host, SIM_CRASH_POWER, back_ns);
    } else if (swarm->process) {
        host_crash(host, SIM_CRASH_PROCESS, back_ns);
    }
}

static void
fault_net(struct world *world, struct host *host)
{
    struct swarm *swarm = &world->swarm;
    struct host *other = &world->hosts[rng_below(&world->rng, HOSTS)];

    switch (rng_below(&world->rng, 4)) {
    case 0:
        if (swarm->partition) {
            sim_trace(world->sim, "host %u is cut off", host->index);
            sim_net_partition(world->sim, UINT64_C(1) << host->index);
        }
        break;
    case 1:
        if (swarm->oneway && other != host) {
            sim_trace(world->sim, "one-way block %u to %u", host->index,
                      other->index);
            sim_net_block(host->node, other->node);
        }
        break;
    case 2:
        if (swarm->cut && other != host) {
            sim_trace(world->sim, "cut %u, %u", host->index, other->index);
            sim_net_cut(host->node, other->node);
        }
        break;
    default:
        sim_net_heal(world->sim);
        break;
    }
}

static void
fault_disk(struct world *world, struct host *host)
{
    struct swarm *swarm = &world->swarm;
    struct sim_disk *disk = host->disk;

    /* One error at a time: several that wait for the same superblock would be
     * no bad moment any more, but a dead disk. */
    sim_disk_faults_clear(disk);
    switch (rng_below(&world->rng, 8)) {
    case 0:
        if (swarm->read_eio) {
            sim_disk_fault(disk, SIM_FAULT_READ_EIO, 0, UINT64_MAX / 2, 1);
        }
        break;
    case 1:
        if (swarm->write_eio) {
            sim_trace(world->sim, "write error at host %u", host->index);
            sim_disk_fault(disk, SIM_FAULT_WRITE_EIO, 0, UINT64_MAX / 2, 1);
        }
        break;
    case 2:
        if (swarm->flush_eio) {
            sim_trace(world->sim, "flush error at host %u", host->index);
            sim_disk_fault(disk, SIM_FAULT_FLUSH_EIO, 0, UINT64_MAX / 2, 1);
        }
        break;
    case 3:
        if (swarm->flips) {
            struct host *victim = &world->hosts[world->flip_host];
            uint64_t at = victim->data_first_bytes +
                          rng_below(&world->rng, victim->data_bytes);
            sim_trace(world->sim, "bit flip at host %u", victim->index);
            sim_disk_flip_bit(victim->disk, at,
                              (uint32_t)rng_below(&world->rng, 8));
            world->flips++;
        }
        break;
    case 4:
        if (swarm->slow) {
            uint64_t ns = rng_chance(&world->rng, 1, 2)
                              ? 0
                              : rng_below(&world->rng, 900 * NS_PER_MS);
            sim_trace(world->sim, "host %u's disk: +%llu us", host->index,
                      (unsigned long long)(ns / 1000));
            sim_disk_slow(disk, ns);
        }
        break;
    case 5:
        if (swarm->hang) {
            host_hang(host, rng_below(&world->rng, 4) == 0
                                ? rng_below(&world->rng, 60 * NS_PER_S)
                                : rng_below(&world->rng, 5 * NS_PER_S));
        }
        break;
    case 6:
        if (swarm->spoil) {
            host_spoil(host, rng_between(&world->rng, 1, 64) * 16 * KIB);
        }
        break;
    default:
        if (swarm->freeze) {
            uint64_t ns = rng_between(&world->rng, NS_PER_MS, 3 * NS_PER_S);
            sim_trace(world->sim, "host %u freezes for %llu ms", host->index,
                      (unsigned long long)(ns / NS_PER_MS));
            sim_node_freeze(host->node, ns);
        }
        break;
    }
}

void
world_fault(struct world *world)
{
    struct host *host = &world->hosts[rng_below(&world->rng, HOSTS)];

    switch (rng_below(&world->rng, 5)) {
    case 0:
        fault_crash(world, host);
        break;
    case 1:
        fault_net(world, host);
        break;
    case 2:
    case 3:
        fault_disk(world, host);
        break;
    default:
        if (world->swarm.db_away) {
            world->db.mood =
                world->db.mood == DB_FINE && rng_chance(&world->rng, 1, 2)
                    ? DB_AWAY
                    : DB_FINE;
            sim_trace(world->sim, "database %s",
                      world->db.mood == DB_AWAY ? "away" : "back");
        }
        break;
    }
}
