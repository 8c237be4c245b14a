/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/io/uring_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* The ring and what is registered with it; on the reactor's thread, because
 * a SINGLE_ISSUER ring obeys only the thread that made it. */

#define URING_CQ_FACTOR 8

static int
uring_setup_ring(struct reactor *reactor)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                 IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL |
                 IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
        .cq_entries = reactor->options.ring_entries * URING_CQ_FACTOR,
    };
    uint32_t needed = IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG |
                      IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_FAST_POLL;
    int rc;

    rc = io_uring_queue_init_params(reactor->options.ring_entries,
                                    &reactor->ring, &params);
    if (rc != 0) {
        return rc;
    }
    reactor->ring_ready = true;
    if ((params.features & needed) != needed) {
        return -ENOSYS;
    }
    /* Saves a look-up for each system call; nothing is lost without. */
    (void)io_uring_register_ring_fd(&reactor->ring);
    return 0;
}

/* The arena, in pieces that the kernel accepts.  Fails where memory may not
 * be locked (RLIMIT_MEMLOCK): then file operations pin their pages each. */
static void
uring_setup_arena(struct reactor *reactor)
{
    uint64_t size = reactor->arena_size_bytes;
    uint64_t count =
        (size + URING_ARENA_CHUNK_BYTES - 1) / URING_ARENA_CHUNK_BYTES;
    struct iovec *chunks;

    if (size == 0) {
        return;
    }
    chunks = calloc(count, sizeof(*chunks));
    if (chunks == NULL) {
        return;
    }
    for (uint64_t i = 0; i < count; i++) {
        uint64_t start = i * URING_ARENA_CHUNK_BYTES;
        uint64_t left = size - start;

        chunks[i].iov_base = reactor->arena + start;
        chunks[i].iov_len =
            left < URING_ARENA_CHUNK_BYTES ? left : URING_ARENA_CHUNK_BYTES;
    }
    reactor->fixed_buffers =
        io_uring_register_buffers(&reactor->ring, chunks, (unsigned)count) == 0;
    free(chunks);
}

int
uring_setup(struct reactor *reactor)
{
    int rc = uring_setup_ring(reactor);

    if (rc != 0) {
        return rc;
    }
    rc = uring_recv_setup(reactor);
    if (rc != 0) {
        return rc;
    }
    uring_setup_arena(reactor);
    /* Limited by RLIMIT_NOFILE; plain descriptors work as well. */
    reactor->fixed_files =
        io_uring_register_files_sparse(&reactor->ring,
                                       reactor->options.conns_max +
                                           reactor->options.files_max) == 0;
    uring_now_refresh(reactor);
    uring_event_arm(reactor);
    return 0;
}

void
uring_teardown(struct reactor *reactor)
{
    if (reactor->ring_ready) {
        io_uring_queue_exit(&reactor->ring);
        reactor->ring_ready = false;
    }
    uring_recv_teardown(reactor);
    reactor->fixed_buffers = false;
    reactor->fixed_files = false;
}

void *
uring_arena_alloc(struct io *io, size_t size)
{
    struct reactor *reactor = uring_reactor(io);
    size_t rounded = (size + 4095) & ~(size_t)4095;
    uint8_t *memory = reactor->arena + reactor->arena_used_bytes;

    if (size == 0 || rounded < size ||
        rounded > reactor->arena_size_bytes - reactor->arena_used_bytes) {
        return NULL;
    }
    reactor->arena_used_bytes += rounded;
    return memory;
}

int
uring_fixed_buffer(const struct reactor *reactor, const void *data, size_t size)
{
    uint64_t start = (uintptr_t)data - (uintptr_t)reactor->arena;
    uint64_t chunk = start / URING_ARENA_CHUNK_BYTES;

    /* What lies before the arena has become a huge number. */
    if (!reactor->fixed_buffers || start >= reactor->arena_size_bytes ||
        size > reactor->arena_size_bytes - start ||
        (start + size - 1) / URING_ARENA_CHUNK_BYTES != chunk) {
        return -1;
    }
    return (int)chunk;
}

void
uring_fixed_file_set(struct reactor *reactor, uint32_t index, int fd)
{
    int rc;

    if (!reactor->fixed_files) {
        return;
    }
    rc = io_uring_register_files_update(&reactor->ring, index, &fd, 1);
    CHECK(rc == 1);
}
