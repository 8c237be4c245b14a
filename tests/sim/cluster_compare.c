/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "lib/base/units.h"
#include "tests/sim/cluster.h"

/* The copies themselves, compared block by block past the mirror: a session of
 * a higher epoch on each replica's store, and reads of all of it. */

struct copy_view {
    uint8_t data[16 * WEFT_BLOCK_SIZE] __attribute__((aligned(4096)));
    uint32_t crcs[16];
    uint8_t states[16];
};

static void
world_compare_blocks(struct world *world, uint32_t m, uint64_t block,
                     const uint64_t *sessions)
{
    static struct copy_view views[STORE_REPLICAS_MAX];
    const struct mirror_row *row = &world->db.rows[m];

    for (uint32_t i = 0; i < world->replicas; i++) {
        struct store_req req = { .opcode = STORE_READ,
                                 .replica = row->replica[i],
                                 .epoch = world->db.epoch,
                                 .session = sessions[i],
                                 .block = block,
                                 .block_count = 16,
                                 .data = views[i].data,
                                 .crcs = views[i].crcs,
                                 .states = views[i].states };
        int result = host_store_run(&world->hosts[world->where[m][i]], &req);
        if (result != 0) {
            world_fail(world, "replica %u: read: %d", i, result);
            return;
        }
    }
    for (uint32_t k = 0; k < 16; k++) {
        uint32_t reference = STORE_REPLICAS_MAX;
        for (uint32_t i = 0; i < world->replicas; i++) {
            uint8_t state = views[i].states[k];
            size_t at = (size_t)k * WEFT_BLOCK_SIZE;
            bool may_rot =
                world->flips != 0 && world->where[m][i] == world->flip_host;
            if (state > STORE_BLOCK_ZERO) {
                /* A suspect is judged when it is read, and only then. */
                if (state != STORE_BLOCK_SUSPECT && !may_rot) {
                    world_fail(world, "mirror %u replica %u block %llu: %u", m,
                               i, (unsigned long long)(block + k), state);
                }
            } else if (reference == STORE_REPLICAS_MAX) {
                reference = i;
            } else if (views[reference].states[k] != state ||
                       (state == STORE_BLOCK_DATA &&
                        memcmp(views[reference].data + at, views[i].data + at,
                               WEFT_BLOCK_SIZE) != 0)) {
                world_fail(world,
                           "mirror %u block %llu: replicas %u and %u differ "
                           "(%u, %u)",
                           m, (unsigned long long)(block + k), reference, i,
                           views[reference].states[k], state);
            }
        }
    }
}

void
world_compare(struct world *world)
{
    world->db.epoch++;
    for (uint32_t m = 0; m < world->mirrors && !world->failed; m++) {
        uint64_t sessions[STORE_REPLICAS_MAX];
        uint64_t blocks =
            volume_mirror_bytes(VOLUME_BYTES, EXTENT_BYTES, world->mirrors, m) /
            WEFT_BLOCK_SIZE;
        for (uint32_t i = 0; i < world->replicas; i++) {
            struct store_req req = {
                .opcode = STORE_FENCE,
                .replica = world->db.rows[m].replica[i],
                .epoch = world->db.epoch,
            };
            int result =
                host_store_run(&world->hosts[world->where[m][i]], &req);
            if (result != 0) {
                world_fail(world, "replica %u: fence: %d", i, result);
                return;
            }
            sessions[i] = req.session;
        }
        for (uint64_t block = 0; block + 16 <= blocks && !world->failed;
             block += 16) {
            world_compare_blocks(world, m, block, sessions);
        }
    }
}
