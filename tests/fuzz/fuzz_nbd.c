/* SPDX-License-Identifier: Apache-2.0 */

/* The whole NBD server, fed by hostile clients.
 *
 * An input is a byte of how to begin, then records: an opcode, and what it
 * needs.  Clients send arbitrary bytes in arbitrary pieces (with help over the
 * magic numbers), the volume holds, fails and delays, time passes, clients
 * stand still and go, the export is removed.  At the end everything must have
 * come back: no request, no payload, no memory is left.  Where the handshake
 * was made for the client, the replies must be well-framed chunks.
 *
 * fuzz-sources: blockd/export/nbd_*.c blockd/volume/payload.c
 * fuzz-sources: tests/support/ram_volume.c tests/fuzz/stub_io.c
 * fuzz-sources: lib/io/io.c lib/io/timer_heap.c lib/base/check.c
 * fuzz-sources: lib/base/crc32c.c lib/base/log.c lib/base/rng.c
 * fuzz-sources: lib/base/slab.c */

#include <stdlib.h>
#include <string.h>

#include "blockd/export/nbd.h"
#include "blockd/export/nbd_wire.h"
#include "lib/base/log.h"
#include "lib/base/units.h"
#include "tests/fuzz/stub_io.h"
#include "tests/support/ram_volume.h"

#define CLIENTS 4u
#define VOLUME_BYTES (UINT64_C(1088) * 1024 + 512)
#define EXPORT_NAME "p/v"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    const uint8_t *data;
    size_t size;
};

struct fuzz {
    struct stub_world *world;
    struct volume *volume;
    struct nbd_server *server;
    struct nbd_export *nbd_export; /* NULL: removed. */
    struct stub_conn *clients[CLIENTS];
    bool greeted[CLIENTS]; /* The handshake was made by greet(). */
    uint32_t client;       /* Whose turn it is. */
    bool removed, stopped;
};

static uint8_t
take(struct input *input)
{
    if (input->size == 0) {
        return 0;
    }
    input->size--;
    return *input->data++;
}

static void
feed(struct fuzz *fuzz, const void *data, uint32_t size)
{
    struct stub_conn *conn = fuzz->clients[fuzz->client];

    if (conn != NULL && size > 0) {
        stub_feed(conn, data, size);
    }
}

static void
feed_input(struct fuzz *fuzz, struct input *input, uint32_t size)
{
    size = size < input->size ? size : (uint32_t)input->size;
    feed(fuzz, input->data, size);
    input->data += size;
    input->size -= size;
}

/* 'head', then up to 'size' bytes of the input, in one piece. */
static void
feed_headed(struct fuzz *fuzz, struct input *input, const void *head,
            uint32_t head_size, uint32_t size)
{
    uint8_t bytes[512];

    size = size < input->size ? size : (uint32_t)input->size;
    memcpy(bytes, head, head_size);
    memcpy(bytes + head_size, input->data, size);
    input->data += size;
    input->size -= size;
    feed(fuzz, bytes, head_size + size);
}

static void
connect_client(struct fuzz *fuzz)
{
    if (fuzz->clients[fuzz->client] == NULL) {
        fuzz->clients[fuzz->client] = stub_connect(fuzz->world, 0);
    }
}

static void
feed_option(struct fuzz *fuzz, uint32_t option, const void *data, uint32_t size)
{
    struct nbd_option_header header = {
        .magic = be64_make(NBD_OPTION_MAGIC),
        .option = be32_make(option),
        .size = be32_make(size),
    };
    feed(fuzz, &header, sizeof header);
    feed(fuzz, data, size);
    stub_run(fuzz->world);
}

/* A whole handshake. */
static void
greet(struct fuzz *fuzz, bool structured)
{
    static const uint8_t flags[] = { 0, 0, 0, 3 };
    static const uint8_t go[] = "\0\0\0\3" EXPORT_NAME "\0\0";
    static const uint8_t context[] =
        "\0\0\0\3" EXPORT_NAME "\0\0\0\1\0\0\0\17" NBD_CONTEXT_ALLOCATION;

    if (fuzz->clients[fuzz->client] != NULL) {
        return;
    }
    connect_client(fuzz);
    stub_run(fuzz->world);
    feed(fuzz, flags, sizeof flags);
    if (structured) {
        feed_option(fuzz, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
        feed_option(fuzz, NBD_OPT_SET_META_CONTEXT, context,
                    sizeof context - 1);
    }
    feed_option(fuzz, NBD_OPT_GO, go, sizeof go - 1);
    stub_run(fuzz->world);
    if (fuzz->clients[fuzz->client] != NULL) {
        stub_sent_drop(fuzz->clients[fuzz->client]);
        fuzz->greeted[fuzz->client] = structured && fuzz->nbd_export != NULL;
    }
}

/* Replies after the handshake: chunks, and simple replies without data. */
static void
check_frames(const struct stub_conn *conn)
{
    size_t size;
    const uint8_t *at = stub_sent(conn, &size);
    bool whole = stub_sent_bytes(conn) < STUB_SENT_MAX;

    while (size >= 4) {
        struct be32 magic;
        size_t frame = sizeof(struct nbd_simple_reply);
        memcpy(&magic, at, sizeof magic);
        if (be32_get(magic) == NBD_STRUCTURED_REPLY_MAGIC) {
            struct nbd_chunk_header header;
            CHECK(!whole || size >= sizeof header);
            if (size < sizeof header) {
                return;
            }
            memcpy(&header, at, sizeof header);
            frame = sizeof header + be32_get(header.size);
        } else {
            CHECK(be32_get(magic) == NBD_SIMPLE_REPLY_MAGIC);
        }
        if (frame > size) {
            CHECK(!whole);
            return;
        }
        at += frame;
        size -= frame;
    }
    CHECK(size == 0 || !whole);
}

static void
removed(void *owner)
{
    struct fuzz *fuzz = owner;
    CHECK(!fuzz->removed);
    fuzz->removed = true;
}

static void
stopped(void *owner)
{
    struct fuzz *fuzz = owner;
    CHECK(!fuzz->stopped);
    fuzz->stopped = true;
}

static void
export_remove(struct fuzz *fuzz)
{
    if (fuzz->nbd_export != NULL) {
        nbd_export_remove(fuzz->nbd_export, removed, fuzz);
        fuzz->nbd_export = NULL;
    }
}

static void
feed_request(struct fuzz *fuzz, struct input *input)
{
    uint8_t flags = take(input);
    uint8_t command = take(input);
    uint8_t where = take(input);
    uint8_t size = take(input);
    struct nbd_request_header header = {
        .magic = be32_make(NBD_REQUEST_MAGIC),
        .flags = be16_make(flags & 0x1f),
        .command = be16_make(command & 0x7),
        .cookie = be64_make(where * 256u + size),
        /* Odd ones, too; the last a little past the end. */
        .offset = be64_make((uint64_t)where * (VOLUME_BYTES / 254) +
                            (where % 5) * 100u),
        .size =
            be32_make((size & 0x40) != 0 ? (size & 0x3fu) * 20481u
                                         : (size & 0x3fu) * 512u + (size >> 7)),
    };
    feed(fuzz, &header, sizeof header);
}

static void
step(struct fuzz *fuzz, struct input *input)
{
    static const uint8_t zeros[65536];
    static const struct be32 request = { { 0x25, 0x60, 0x95, 0x13 } };
    struct be64 option = be64_make(NBD_OPTION_MAGIC);
    uint8_t opcode = take(input);
    struct stub_conn *conn = fuzz->clients[fuzz->client];

    switch (opcode & 0xf) {
    case 0:
    case 1:
        feed_input(fuzz, input, take(input) + 1u);
        break;
    case 2:
        feed_headed(fuzz, input, &request, sizeof request, 24);
        break;
    case 3:
        feed_headed(fuzz, input, &option, sizeof option, take(input) + 8u);
        break;
    case 4:
        feed_request(fuzz, input);
        break;
    case 5: /* The bytes of a write. */
        feed(fuzz, zeros, (take(input) + 1u) * 256u);
        break;
    case 6:
        fuzz->client = (opcode >> 4) % CLIENTS;
        connect_client(fuzz);
        break;
    case 7:
        fuzz->client = (opcode >> 4) % CLIENTS;
        greet(fuzz, (opcode & 0x40) != 0);
        break;
    case 8:
        if (conn != NULL) {
            stub_end(conn, (opcode & 0x10) != 0 ? -104 : 0);
        }
        break;
    case 9:
        if (conn != NULL) {
            stub_stall(conn, (opcode & 0x10) != 0);
        }
        break;
    case 10:
        ram_volume_hold(fuzz->volume, (opcode & 0x10) != 0);
        break;
    case 11:
        ram_volume_fail(fuzz->volume, (opcode >> 4) % RAM_KINDS, -5, 1);
        break;
    case 12:
        stub_advance(fuzz->world, (opcode >> 4) * NS_PER_S);
        break;
    case 13:
        if ((opcode & 0xf0) == 0xf0) {
            export_remove(fuzz);
        }
        break;
    case 14:
    case 15:
        stub_run(fuzz->world);
        break;
    }
}

static void
finish(struct fuzz *fuzz)
{
    export_remove(fuzz);
    ram_volume_hold(fuzz->volume, false);
    stub_run(fuzz->world);
    stub_advance(fuzz->world, NS_PER_S);
    CHECK(fuzz->removed);
    nbd_server_stop(fuzz->server, stopped, fuzz);
    stub_run(fuzz->world);
    CHECK(fuzz->stopped);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        if (fuzz->greeted[i]) {
            check_frames(fuzz->clients[i]);
        }
    }
    ram_volume_free(fuzz->volume);
    stub_run(fuzz->world);
    stub_world_free(fuzz->world);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = { data, size };
    struct fuzz fuzz = { .world = stub_world_new() };
    uint8_t how = take(&input);
    struct ram_volume_options volume = {
        .io = stub_world_io(fuzz.world),
        .size_bytes = VOLUME_BYTES,
        .seed = how,
        .delay_max_ns = (how & 1) != 0 ? NS_PER_MS : 0,
        .payloads = { 2, 1, 1 + (how >> 1) % 2 },
    };
    struct nbd_server_options options = {
        .io = stub_world_io(fuzz.world),
        .connections_max = CLIENTS - 1,
        .requests_max = 2 + (how >> 2) % 16,
    };

    log_set_level(LOG_LEVEL_ERROR);
    int result = ram_volume_new(&volume, &fuzz.volume);
    CHECK(result == 0);
    result = nbd_server_new(&options, &fuzz.server);
    CHECK(result == 0);
    result = nbd_server_listen(fuzz.server, "tcp:stub:1", NULL);
    CHECK(result == 0);
    result =
        nbd_export_add(fuzz.server, EXPORT_NAME, fuzz.volume, &fuzz.nbd_export);
    CHECK(result == 0);

    connect_client(&fuzz);
    while (input.size > 0) {
        step(&fuzz, &input);
    }
    finish(&fuzz);
    return 0;
}
