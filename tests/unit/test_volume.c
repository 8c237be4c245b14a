/* SPDX-License-Identifier: Apache-2.0 */

/* blockd/volume: the arithmetic of stripes, payloads, and the requests of a
 * volume over model replicas against a flat array of bytes. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "blockd/volume/volume.h"
#include "blockd/volume/volume_internal.h"
#include "lib/base/container_of.h"
#include "lib/base/crc32c.h"
#include "lib/base/units.h"
#include "lib/io/sim.h"
#include "tests/unit/model_replica.h"

#define EXTENT (1024u * 1024u)

static void
test_shape(void **state)
{
    (void)state;
    for (uint32_t width = 1; width <= 5; width++) {
        struct volume_shape shape = { .size_bytes = 23 * EXTENT + 512,
                                      .extent_bytes = EXTENT,
                                      .width = width };
        uint64_t next[5] = { 0 };
        for (uint64_t at = 0; at < shape.size_bytes; at += EXTENT / 2) {
            struct volume_place place = volume_shape_place(&shape, at);
            /* Every mirror's space is used from its beginning, without gaps. */
            assert_int_equal(place.offset_bytes, next[place.mirror]);
            assert_int_equal(volume_shape_share(&shape, at, place.mirror),
                             place.offset_bytes);
            next[place.mirror] += EXTENT / 2;
        }
        uint64_t sum = 0;
        for (uint32_t i = 0; i < width; i++) {
            sum += volume_shape_share(&shape, shape.size_bytes, i);
            assert_int_equal(volume_mirror_bytes(shape.size_bytes, EXTENT,
                                                 width, i) %
                                 WEFT_BLOCK_SIZE,
                             0);
        }
        assert_int_equal(sum, shape.size_bytes);
    }
}

/* ---- A volume of one mirror with 64 blocks ---- */

#define BYTES (MODEL_BLOCKS * WEFT_BLOCK_SIZE - 512u)

struct bed {
    struct sim *sim;
    struct sim_node *node;
    struct sim_program program;
    struct io *io;
    struct mirror_meta meta;
    struct model_replica *replica;
    struct payload_pool *pool;
    struct volume *volume;
    bool ready, stopped, done;
    struct volume_req req;
    struct volume_extent extents[32];
    uint8_t *bytes;
    uint32_t woken;
};

static void
bed_boot(struct sim_program *program, struct sim_node *node, struct io *io)
{
    struct bed *bed = container_of(program, struct bed, program);
    struct payload_pool_options options = { .small_count = 4,
                                            .medium_count = 2,
                                            .large_count = 1 };
    (void)node;
    bed->io = io;
    assert_int_equal(payload_pool_new(io, &options, &bed->pool), 0);
}

static void
no_commit(struct mirror_meta *meta, struct mirror_commit *op)
{
    (void)meta;
    (void)op;
    fail_msg("no commit is needed here");
}

static void
no_notify(struct mirror_meta *meta, struct mirror *mirror, const char *kind,
          const char *text)
{
    (void)meta;
    (void)mirror;
    (void)kind;
    (void)text;
}

static void
on_ready(struct volume *volume, int result)
{
    struct bed *bed = volume_owner(volume);
    assert_int_equal(result, 0);
    bed->ready = true;
}

static void
on_stopped(struct volume *volume, bool clean)
{
    struct bed *bed = volume_owner(volume);
    assert_true(clean);
    bed->stopped = true;
    volume_free(volume);
}

static void
bed_init(struct bed *bed)
{
    struct volume_mirror_options mirror = {
        .row = { .view = 1, .replica_count = 1, .in_sync = 1 }
    };
    memset(bed, 0, sizeof *bed);
    bed->program.boot = bed_boot;
    bed->meta =
        (struct mirror_meta){ .commit = no_commit, .notify = no_notify };
    bed->sim = sim_new(5, NULL);
    bed->node = sim_node_add(bed->sim, "a");
    sim_node_start(bed->node, &bed->program);
    bed->replica = calloc(1, sizeof *bed->replica);
    bed->bytes = calloc(1, BYTES);
    uuid_make_random(1, 2, &mirror.row.replica[0]);
    model_replica_init(bed->replica, bed->io, 3, &mirror.row.replica[0], true);
    mirror.links[0] = &bed->replica->link;
    struct volume_options options = {
        .io = bed->io,
        .payloads = bed->pool,
        .meta = &bed->meta,
        .name = "p/v",
        .size_bytes = BYTES,
        .extent_bytes = EXTENT,
        .mirror_count = 1,
        .mirrors = &mirror,
        .epoch = 1,
        .min_in_sync = 1,
    };
    sim_node_enter(bed->node);
    assert_int_equal(volume_new(&options, on_ready, bed, &bed->volume), 0);
    sim_node_leave(bed->node);
    assert_true(sim_run_until_set(bed->sim, &bed->ready, NS_PER_S));
}

static void
bed_done(struct bed *bed)
{
    volume_stop(bed->volume, true, on_stopped);
    assert_true(sim_run_until_set(bed->sim, &bed->stopped, NS_PER_S));
    sim_node_enter(bed->node);
    payload_pool_free(bed->pool);
    sim_node_leave(bed->node);
    free(bed->replica);
    free(bed->bytes);
    sim_free(bed->sim);
}

static void
on_done(struct volume_req *req)
{
    container_of(req, struct bed, req)->done = true;
}

static int
bed_run(struct bed *bed, enum volume_req_kind kind, uint64_t offset,
        uint64_t size, struct payload *payload, bool fua)
{
    bed->done = false;
    bed->req = (struct volume_req){ .done = on_done,
                                    .kind = kind,
                                    .offset_bytes = offset,
                                    .size_bytes = size,
                                    .payload = payload,
                                    .fua = fua,
                                    .extents = bed->extents,
                                    .extents_max = 32 };
    volume_submit(bed->volume, &bed->req);
    assert_false(bed->done);
    assert_true(sim_run_until_set(bed->sim, &bed->done, 10 * NS_PER_S));
    assert_int_equal(bed->req.kind, kind);
    return bed->req.result;
}

static void
bed_write(struct bed *bed, uint64_t offset, uint32_t size, uint8_t byte,
          bool fua)
{
    struct payload *payload = payload_get(bed->pool, offset, size);
    assert_non_null(payload);
    uint8_t chunk[100];
    memset(chunk, byte, sizeof chunk);
    for (uint32_t at = 0; at < size; at += sizeof chunk) {
        uint32_t left = size - at;
        payload_append(payload, chunk,
                       left < sizeof chunk ? left : (uint32_t)sizeof chunk);
    }
    assert_int_equal(bed_run(bed, VOLUME_WRITE, offset, size, payload, fua), 0);
    payload_put(payload);
    memset(bed->bytes + offset, byte, size);
}

static void
bed_check(struct bed *bed, uint64_t offset, uint32_t size)
{
    struct payload *payload = payload_get(bed->pool, offset, size);
    assert_non_null(payload);
    assert_int_equal(bed_run(bed, VOLUME_READ, offset, size, payload, false),
                     0);
    assert_memory_equal(payload_bytes(payload), bed->bytes + offset, size);
    payload_put(payload);
}

static void
test_bytes(void **state)
{
    struct bed bed;
    struct rng rng;
    (void)state;
    bed_init(&bed);
    rng_init(&rng, 77);
    for (uint32_t i = 0; i < 600; i++) {
        uint64_t offset = rng_below(&rng, BYTES);
        uint64_t most = BYTES - offset < 40000 ? BYTES - offset : 40000;
        uint32_t size = (uint32_t)rng_between(&rng, 1, most);
        switch (rng_below(&rng, 5)) {
        case 0:
        case 1:
            bed_write(&bed, offset, size, (uint8_t)(i | 1),
                      rng_chance(&rng, 1, 4));
            break;
        case 2:
            bed_check(&bed, offset, size);
            break;
        default: {
            bool discard = rng_chance(&rng, 1, 2);
            offset = units_align_down(offset, 512);
            uint64_t bytes =
                units_align_down(BYTES - offset < 40000 ? BYTES - offset : size,
                                 512);
            if (bytes == 0) {
                break;
            }
            assert_int_equal(bed_run(&bed,
                                     discard ? VOLUME_DISCARD
                                             : VOLUME_WRITE_ZEROES,
                                     offset, bytes, NULL, false),
                             0);
            memset(bed.bytes + offset, 0, bytes);
            break;
        }
        }
    }
    for (uint64_t at = 0; at < BYTES; at += 65536) {
        uint64_t left = BYTES - at;
        bed_check(&bed, at, left < 65536 ? (uint32_t)left : 65536);
    }
    bed_done(&bed);
}

static void
test_fua_and_flush(void **state)
{
    struct bed bed;
    (void)state;
    bed_init(&bed);
    uint64_t flushes = bed.replica->counts[STORE_FLUSH];
    bed_write(&bed, 4096, 8192, 1, false);
    assert_int_equal(bed.replica->counts[STORE_FLUSH], flushes);
    bed_write(&bed, 4096, 8192, 2, true);
    assert_int_equal(bed.replica->counts[STORE_FLUSH], flushes + 1);
    /* Nothing new: a flush costs nothing (e). */
    assert_int_equal(bed_run(&bed, VOLUME_FLUSH, 0, 0, NULL, false), 0);
    assert_int_equal(bed.replica->counts[STORE_FLUSH], flushes + 1);
    bed_done(&bed);
}

static void
test_status(void **state)
{
    struct bed bed;
    (void)state;
    bed_init(&bed);
    bed_write(&bed, 32768, 4096, 1, false);
    assert_int_equal(bed_run(&bed, VOLUME_STATUS, 0, BYTES, NULL, false), 0);
    assert_int_equal(bed.req.extents_count, 3);
    assert_true(bed.extents[0].hole);
    assert_int_equal(bed.extents[0].size_bytes, 32768);
    assert_false(bed.extents[1].hole);
    assert_int_equal(bed.extents[1].size_bytes, 16384); /* One slot. */
    assert_true(bed.extents[2].zero);
    assert_int_equal(bed.extents[2].size_bytes, BYTES - 49152);
    assert_int_equal(bed_run(&bed, VOLUME_STATUS, 40000, 512, NULL, false), 0);
    assert_int_equal(bed.req.extents_count, 1);
    bed_done(&bed);
}

static void
test_refusals(void **state)
{
    struct bed bed;
    (void)state;
    bed_init(&bed);
    assert_int_equal(bed_run(&bed, VOLUME_DISCARD, 0, 0, NULL, false), -EINVAL);
    assert_int_equal(bed_run(&bed, VOLUME_DISCARD, 100, 512, NULL, false),
                     -EINVAL);
    assert_int_equal(bed_run(&bed, VOLUME_DISCARD, BYTES - 512, 1024, NULL,
                             false),
                     -EINVAL);
    assert_int_equal(bed_run(&bed, VOLUME_WRITE_ZEROES, UINT64_MAX - 511, 512,
                             NULL, false),
                     -EINVAL);
    struct payload *payload = payload_get(bed.pool, 0, 512);
    assert_int_equal(bed_run(&bed, VOLUME_READ, 512, 512, payload, false),
                     -EINVAL); /* Another range than the payload's. */
    payload_put(payload);
    bed_done(&bed);
}

static struct payload_waiter waiter;
static uint32_t woken;

static void
on_available(struct payload_waiter *w)
{
    assert_ptr_equal(w, &waiter);
    woken++;
}

static void
test_payload_pool(void **state)
{
    struct bed bed;
    struct payload *all[8];
    (void)state;
    bed_init(&bed);
    /* Small ones come out of larger classes when theirs is empty. */
    uint32_t count = 0;
    while ((all[count] = payload_get(bed.pool, 0, 4096)) != NULL) {
        count++;
    }
    assert_int_equal(count, 7);
    waiter = (struct payload_waiter){ .available = on_available };
    woken = 0;
    payload_wait(bed.pool, &waiter, 4096);
    payload_wait(bed.pool, &waiter, 4096); /* Harmless. */
    sim_run_for(bed.sim, NS_PER_MS);
    assert_int_equal(woken, 0);
    payload_put(all[0]);
    assert_int_equal(woken, 0);
    sim_run_for(bed.sim, NS_PER_MS);
    assert_int_equal(woken, 1);
    for (uint32_t i = 1; i < count; i++) {
        payload_put(all[i]);
    }
    /* CRCs of whole blocks are final, however the bytes came. */
    struct payload *payload = payload_get(bed.pool, 4096, 8192);
    for (uint32_t i = 0; i < 8192; i += 64) {
        uint8_t bytes[64];
        memset(bytes, (int)(i / 64), sizeof bytes);
        if (i < 1024) {
            payload_append_zeros(payload, 64);
        } else {
            payload_append(payload, bytes, 64);
        }
    }
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(payload->crcs[i],
                         crc32c(0, payload->data + i * 4096, 4096));
    }
    payload_put(payload);
    bed_done(&bed);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shape),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_fua_and_flush),
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_payload_pool),
    };
    return cmocka_run_group_tests_name("volume", tests, NULL, NULL);
}
