/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/fake_volume.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "lib/base/crc32c.h"
#include "lib/base/units.h"

static void
fake_volume_run(struct io_task *task)
{
    struct volume *volume = container_of(task, struct volume, task);

    for (uint32_t left = volume->pending_count; left > 0 && !volume->holds;
         left--) {
        fake_volume_complete(volume, 0);
    }
    if (volume->pending_count > 0 && !volume->holds) {
        io_task_defer(volume->io, &volume->task);
    }
}

struct volume *
fake_volume_new(struct io *io, uint64_t size_bytes,
                const struct payload_pool_options *pool)
{
    struct volume *volume = calloc(1, sizeof *volume);

    CHECK(volume != NULL);
    volume->io = io;
    volume->size_bytes = size_bytes;
    volume->bytes = calloc(1, size_bytes);
    CHECK(volume->bytes != NULL);
    CHECK(payload_pool_new(io, pool, &volume->payloads) == 0);
    list_init(&volume->pending);
    io_task_init(&volume->task, fake_volume_run);
    return volume;
}

void
fake_volume_free(struct volume *volume)
{
    CHECK(volume->pending_count == 0);
    io_task_cancel(volume->io, &volume->task);
    payload_pool_free(volume->payloads);
    free(volume->bytes);
    free(volume);
}

void
fake_volume_release(struct volume *volume)
{
    volume->holds = false;
    io_task_defer(volume->io, &volume->task);
}

void
volume_info_get(const struct volume *volume, struct volume_info *ret)
{
    *ret = (struct volume_info){
        .name = "test/fake",
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

static void
fake_volume_check_payload(const struct volume_req *req)
{
    const struct payload *payload = req->payload;

    CHECK(payload != NULL);
    CHECK(payload->offset_bytes == req->offset_bytes);
    CHECK(payload->size_bytes == req->size_bytes);
    if (req->kind != VOLUME_WRITE) {
        return;
    }
    CHECK(payload->filled_bytes == payload->size_bytes);
    for (uint32_t i = 0; i < payload->block_count; i++) {
        uint64_t at = units_align_down(req->offset_bytes, WEFT_BLOCK_SIZE) +
                      i * (uint64_t)WEFT_BLOCK_SIZE;
        if (at >= req->offset_bytes &&
            at + WEFT_BLOCK_SIZE <= req->offset_bytes + req->size_bytes) {
            CHECK(payload->crcs[i] ==
                  crc32c(0, payload->data + (size_t)i * WEFT_BLOCK_SIZE,
                         WEFT_BLOCK_SIZE));
        }
    }
}

void
volume_submit(struct volume *volume, struct volume_req *req)
{
    CHECK(req->done != NULL);
    CHECK(req->offset_bytes <= volume->size_bytes);
    CHECK(req->size_bytes <= volume->size_bytes - req->offset_bytes);
    switch (req->kind) {
    case VOLUME_READ:
    case VOLUME_WRITE:
        CHECK(req->size_bytes >= 1);
        CHECK(req->size_bytes <= PAYLOAD_BYTES_MAX);
        fake_volume_check_payload(req);
        break;
    case VOLUME_DISCARD:
    case VOLUME_WRITE_ZEROES:
        CHECK(req->size_bytes > 0);
        CHECK(req->offset_bytes % VOLUME_SECTOR_SIZE == 0);
        CHECK(req->size_bytes % VOLUME_SECTOR_SIZE == 0);
        break;
    case VOLUME_FLUSH:
    case VOLUME_STATUS:
        break;
    }
    volume->log[volume->log_count++ % FAKE_VOLUME_LOG_MAX] =
        (struct fake_volume_entry){
            .kind = req->kind,
            .offset_bytes = req->offset_bytes,
            .size_bytes = req->size_bytes,
            .fua = req->fua,
        };
    list_push_back(&volume->pending, &req->node);
    volume->pending_count++;
    if (volume->pending_count > volume->pending_max) {
        volume->pending_max = volume->pending_count;
    }
    if (!volume->holds) {
        io_task_defer(volume->io, &volume->task);
    }
}

static void
fake_volume_apply(struct volume *volume, struct volume_req *req)
{
    uint8_t *at = volume->bytes + req->offset_bytes;

    switch (req->kind) {
    case VOLUME_READ:
        memcpy(payload_bytes(req->payload), at, req->size_bytes);
        break;
    case VOLUME_WRITE:
        memcpy(at, payload_bytes(req->payload), req->size_bytes);
        break;
    case VOLUME_DISCARD:
    case VOLUME_WRITE_ZEROES:
        memset(at, 0, req->size_bytes);
        break;
    case VOLUME_FLUSH:
    case VOLUME_STATUS:
        break;
    }
}

void
fake_volume_complete(struct volume *volume, uint32_t index)
{
    struct list *node = list_front(&volume->pending);

    CHECK(index < volume->pending_count);
    while (index-- > 0) {
        node = node->next;
    }
    struct volume_req *req = container_of(node, struct volume_req, node);
    list_remove(node);
    volume->pending_count--;
    req->result = 0;
    if (volume->fail_count > 0) {
        volume->fail_count--;
        req->result = volume->fail_result;
    } else {
        fake_volume_apply(volume, req);
    }
    req->done(req);
}
