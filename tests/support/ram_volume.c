/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/ram_volume.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "lib/base/crc32c.h"
#include "lib/base/units.h"

struct volume {
    struct io *io;
    struct payload_pool *payloads;
    uint64_t size_bytes, block_count;
    uint8_t *bytes;
    bool *written; /* One a block: not a hole. */
    struct rng rng;
    uint64_t delay_min_ns, delay_max_ns;
    uint32_t error_ppm;
    struct list in_flight; /* req->position: when it is due. */
    struct io_timer timer;
    struct io_task task;
    bool held, running;
    int fail_result[RAM_KINDS];
    uint32_t fail_count[RAM_KINDS];
    struct ram_volume_stats stats;
};

static io_timer_fn ram_volume_timer;
static io_task_fn ram_volume_task;

int
ram_volume_new(const struct ram_volume_options *options,
               struct volume **ret_volume)
{
    struct volume *volume = calloc(1, sizeof *volume);
    if (volume == NULL) {
        return -ENOMEM;
    }
    volume->io = options->io;
    volume->size_bytes = options->size_bytes;
    volume->block_count = units_divide_up(options->size_bytes, WEFT_BLOCK_SIZE);
    volume->delay_min_ns = options->delay_min_ns;
    volume->delay_max_ns = options->delay_max_ns;
    volume->error_ppm = options->error_ppm;
    rng_init(&volume->rng, options->seed);
    list_init(&volume->in_flight);
    io_timer_init(&volume->timer, ram_volume_timer);
    io_task_init(&volume->task, ram_volume_task);
    volume->bytes = calloc(volume->block_count, WEFT_BLOCK_SIZE);
    volume->written = calloc(volume->block_count, sizeof *volume->written);
    int result = -ENOMEM;
    if (volume->bytes != NULL && volume->written != NULL) {
        result = payload_pool_new(options->io, &options->payloads,
                                  &volume->payloads);
    }
    if (result != 0) {
        free(volume->bytes);
        free(volume->written);
        free(volume);
        return result;
    }
    *ret_volume = volume;
    return 0;
}

void
ram_volume_free(struct volume *volume)
{
    CHECK(list_is_empty(&volume->in_flight));
    io_timer_cancel(volume->io, &volume->timer);
    io_task_cancel(volume->io, &volume->task);
    payload_pool_free(volume->payloads); /* CHECKs that all came back. */
    free(volume->bytes);
    free(volume->written);
    free(volume);
}

/* ---- Effects ---- */

static void
ram_read(struct volume *volume, const struct volume_req *req)
{
    struct payload *payload = req->payload;
    uint64_t first = req->offset_bytes / WEFT_BLOCK_SIZE;

    CHECK(payload->offset_bytes == req->offset_bytes);
    CHECK(payload->size_bytes == req->size_bytes);
    memcpy(payload->data, volume->bytes + first * WEFT_BLOCK_SIZE,
           (size_t)payload->block_count * WEFT_BLOCK_SIZE);
    for (uint32_t i = 0; i < payload->block_count; i++) {
        payload->states[i] = volume->written[first + i] ? STORE_BLOCK_DATA
                             : i % 2 == 0               ? STORE_BLOCK_ZERO
                                                        : STORE_BLOCK_ABSENT;
    }
}

static void
ram_write(struct volume *volume, const struct volume_req *req)
{
    struct payload *payload = req->payload;
    uint64_t end = req->offset_bytes + req->size_bytes;
    uint64_t first = req->offset_bytes / WEFT_BLOCK_SIZE;

    CHECK(payload->offset_bytes == req->offset_bytes);
    CHECK(payload->size_bytes == req->size_bytes);
    CHECK(payload->filled_bytes == req->size_bytes);
    for (uint32_t i = 0; i < payload->block_count; i++) {
        uint64_t at = (first + i) * WEFT_BLOCK_SIZE;
        uint64_t from = at > req->offset_bytes ? at : req->offset_bytes;
        uint64_t to = at + WEFT_BLOCK_SIZE < end ? at + WEFT_BLOCK_SIZE : end;
        const uint8_t *bytes =
            payload->data + (size_t)(from - first * WEFT_BLOCK_SIZE);
        CHECK(payload->crcs[i] == crc32c(0, bytes, to - from));
        memcpy(volume->bytes + from, bytes, to - from);
        volume->written[first + i] = true;
    }
}

static void
ram_zero(struct volume *volume, const struct volume_req *req)
{
    uint64_t at = req->offset_bytes;
    uint64_t end = at + req->size_bytes;

    CHECK(at % VOLUME_SECTOR_SIZE == 0);
    CHECK(end % VOLUME_SECTOR_SIZE == 0);
    while (at < end) {
        uint64_t to = units_align_down(at, WEFT_BLOCK_SIZE) + WEFT_BLOCK_SIZE;
        to = to < end ? to : end;
        memset(volume->bytes + at, 0, to - at);
        if (to - at == WEFT_BLOCK_SIZE) {
            volume->written[at / WEFT_BLOCK_SIZE] = false;
        }
        at = to;
    }
}

static void
ram_status(struct volume *volume, struct volume_req *req)
{
    uint64_t at = req->offset_bytes;
    uint64_t end = at + req->size_bytes;
    bool short_answer = rng_chance(&volume->rng, 1, 8);

    req->extents_count = 0;
    while (at < end) {
        bool hole = !volume->written[at / WEFT_BLOCK_SIZE];
        uint64_t to = units_align_down(at, WEFT_BLOCK_SIZE) + WEFT_BLOCK_SIZE;
        to = to < end ? to : end;
        struct volume_extent *last =
            req->extents_count == 0 ? NULL
                                    : &req->extents[req->extents_count - 1];
        /* Now and then two of a kind, which the export merges. */
        if (last != NULL && last->hole == hole &&
            !rng_chance(&volume->rng, 1, 64)) {
            last->size_bytes += to - at;
        } else if (req->extents_count == req->extents_max ||
                   (last != NULL && short_answer)) {
            return;
        } else {
            req->extents[req->extents_count++] = (struct volume_extent){
                .size_bytes = to - at, .hole = hole, .zero = hole
            };
        }
        at = to;
    }
}

static int
ram_result(struct volume *volume, const struct volume_req *req)
{
    if (volume->fail_count[req->kind] > 0) {
        volume->fail_count[req->kind]--;
        return volume->fail_result[req->kind];
    }
    return volume->error_ppm != 0 &&
                   rng_chance(&volume->rng, volume->error_ppm, 1000000)
               ? -EIO
               : 0;
}

static void
ram_settle(struct volume *volume, struct volume_req *req)
{
    req->result = ram_result(volume, req);
    if (req->result != 0) {
        volume->stats.failed[req->kind]++;
    } else {
        switch (req->kind) {
        case VOLUME_READ:
            ram_read(volume, req);
            break;
        case VOLUME_WRITE:
            ram_write(volume, req);
            break;
        case VOLUME_DISCARD:
        case VOLUME_WRITE_ZEROES:
            ram_zero(volume, req);
            break;
        case VOLUME_STATUS:
            ram_status(volume, req);
            break;
        case VOLUME_FLUSH:
            break;
        }
    }
    volume->stats.in_flight--;
    req->done(req);
}

/* ---- Time ---- */

static void
ram_arm(struct volume *volume)
{
    uint64_t next = IO_NEVER;

    if (volume->held || volume->running || list_is_empty(&volume->in_flight)) {
        return;
    }
    if (volume->delay_max_ns == 0) {
        io_task_defer(volume->io, &volume->task);
        return;
    }
    LIST_FOREACH (node, &volume->in_flight) {
        struct volume_req *req = container_of(node, struct volume_req, node);
        next = req->position < next ? req->position : next;
    }
    io_timer_set(volume->io, &volume->timer, next);
}

static void
ram_run(struct volume *volume)
{
    uint64_t now = io_now_ns(volume->io);
    struct list due;

    /* Those that a done() adds wait for the next round. */
    list_init(&due);
    list_splice_back(&due, &volume->in_flight);
    volume->running = true;
    for (struct list *node = list_pop_front(&due); node != NULL;
         node = list_pop_front(&due)) {
        struct volume_req *req = container_of(node, struct volume_req, node);
        if (volume->held || req->position > now) {
            list_push_back(&volume->in_flight, node);
        } else if (volume->delay_max_ns == 0 && !list_is_empty(&due) &&
                   rng_chance(&volume->rng, 1, 4)) {
            list_push_back(&due, node); /* Later than its neighbours. */
        } else {
            ram_settle(volume, req);
        }
    }
    volume->running = false;
    ram_arm(volume);
}

static void
ram_volume_timer(struct io_timer *timer)
{
    ram_run(container_of(timer, struct volume, timer));
}

static void
ram_volume_task(struct io_task *task)
{
    ram_run(container_of(task, struct volume, task));
}

/* ---- volume.h ---- */

void
volume_submit(struct volume *volume, struct volume_req *req)
{
    CHECK(req->kind < RAM_KINDS);
    CHECK(req->offset_bytes <= volume->size_bytes);
    CHECK(req->size_bytes <= volume->size_bytes - req->offset_bytes);
    CHECK(req->kind == VOLUME_FLUSH || req->size_bytes > 0);
    CHECK((req->kind != VOLUME_READ && req->kind != VOLUME_WRITE) ||
          (req->payload != NULL &&
           req->size_bytes <= (uint64_t)PAYLOAD_BYTES_MAX));

    struct ram_volume_stats *stats = &volume->stats;
    stats->count[req->kind]++;
    stats->fua[req->kind] += req->fua;
    stats->in_flight++;
    if (stats->in_flight > stats->in_flight_max) {
        stats->in_flight_max = stats->in_flight;
    }
    if (req->size_bytes > stats->bytes_max) {
        stats->bytes_max = req->size_bytes;
    }
    req->volume = volume;
    req->position = 0;
    if (volume->delay_max_ns != 0) {
        req->position = io_now_ns(volume->io) +
                        rng_between(&volume->rng, volume->delay_min_ns,
                                    volume->delay_max_ns);
    }
    list_init(&req->node);
    list_push_back(&volume->in_flight, &req->node);
    ram_arm(volume);
}

void
volume_info_get(const struct volume *volume, struct volume_info *ret)
{
    *ret = (struct volume_info){
        .name = "test/ram",
        .size_bytes = volume->size_bytes,
        .epoch = 1,
    };
}

struct payload_pool *
volume_payload_pool(struct volume *volume)
{
    return volume->payloads;
}

struct io *
volume_io(struct volume *volume)
{
    return volume->io;
}

/* ---- For tests ---- */

void
ram_volume_hold(struct volume *volume, bool hold)
{
    volume->held = hold;
    ram_arm(volume);
}

void
ram_volume_fail(struct volume *volume, enum volume_req_kind kind, int result,
                uint32_t count)
{
    volume->fail_result[kind] = result;
    volume->fail_count[kind] = count;
}

void
ram_volume_stats(const struct volume *volume,
                 struct ram_volume_stats *ret_stats)
{
    *ret_stats = volume->stats;
}

uint8_t *
ram_volume_bytes(struct volume *volume)
{
    return volume->bytes;
}

bool
ram_volume_is_hole(const struct volume *volume, uint64_t block)
{
    return !volume->written[block];
}
