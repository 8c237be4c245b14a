/* SPDX-License-Identifier: Apache-2.0 */

/* The peer protocol, both sides of it: what arrives from the other host.
 *
 * fuzz-sources: blockd/peer/client_request.c blockd/peer/codec.c
 * fuzz-sources: blockd/peer/link.c blockd/peer/pages.c blockd/peer/parser.c
 * fuzz-sources: blockd/peer/peer_client.c blockd/peer/peer_server.c
 * fuzz-sources: blockd/peer/server_conn.c blockd/peer/server_request.c
 * fuzz-sources: lib/base/backoff.c lib/base/check.c lib/base/crc32c.c
 * fuzz-sources: lib/base/err.c lib/base/rng.c lib/base/slab.c
 * fuzz-sources: lib/base/uuid.c lib/io/io.c lib/io/timer_heap.c
 * fuzz-sources: tests/fuzz/stub_io.c
 * fuzz-max-bytes: 4096
 *
 * The first byte chooses the side; then come commands, see run_command().  CRCs
 * of headers and metadata are made right here, unless the input wants them
 * wrong: a search would never find them.  At the end everything is closed:
 * every request must have settled exactly once, and all memory be back. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/peer/codec.h"
#include "blockd/peer/peer_client.h"
#include "blockd/peer/peer_server.h"
#include "lib/base/container_of.h"
#include "lib/base/crc32c.h"
#include "lib/base/units.h"
#include "tests/fuzz/stub_io.h"

#define REQUESTS_MAX 24u
#define ZERO_BLOCK_CRC 0x98f94189u

/* ---- Both sides ---- */

struct request {
    struct store_req req;
    struct fuzz *fuzz;
    uint8_t *data;
    uint32_t crcs[16];
    uint8_t states[16];
    struct store_list_entry entries[64];
    bool is_busy;
};

struct fuzz {
    struct stub_world *world;
    struct stub_conn *conn;
    uint8_t *input; /* Bytes that have arrived, not delivered yet. */
    uint32_t input_bytes;
    uint32_t chunk_bytes; /* Delivered so many at a time. */
    bool is_stalled;
    bool is_client;
    struct weft_uuid uuid;
    const uint8_t *script;
    size_t script_bytes;

    struct link store; /* Server side. */
    struct list pending;
    struct peer_directory directory;
    struct peer_server *server;
    struct peer_server_close server_close;

    struct link *link; /* Client side. */
    struct link_user user;
    struct request requests[REQUESTS_MAX];
    uint32_t request_count;

    struct link_close close;
    bool is_closed;
};

static uint8_t
take(struct fuzz *fuzz)
{
    if (fuzz->script_bytes == 0) {
        return 0;
    }
    fuzz->script_bytes--;
    return *fuzz->script++;
}

static void
store_take(struct link *link, struct store_req *req)
{
    struct fuzz *fuzz = container_of(link, struct fuzz, store);

    if (req->data != NULL) { /* Ours to use: all of it? */
        memset(req->data, 0, (size_t)req->block_count * WEFT_BLOCK_SIZE);
    }
    list_init(&req->node);
    list_push_back(&fuzz->pending, &req->node);
}

static void
store_answer(struct fuzz *fuzz, uint8_t how)
{
    struct list *node = list_pop_front(&fuzz->pending);

    if (node == NULL) {
        return;
    }
    struct store_req *req = container_of(node, struct store_req, node);
    req->result = how % 4 == 3 ? -EIO : 0;
    if (req->opcode == STORE_READ) {
        for (uint32_t i = 0; i < req->block_count; i++) {
            req->states[i] = (uint8_t)((how + i) % 5);
            req->crcs[i] = ZERO_BLOCK_CRC;
        }
    } else if (req->opcode == STORE_LIST) {
        req->entries_count = how % (req->entries_max + 1);
        memset(req->entries, 0, req->entries_count * sizeof *req->entries);
    }
    req->done(req);
}

static void
store_close(struct link *link)
{
    link_set_state(link, LINK_DOWN, -ESHUTDOWN);
    link_quiet(link);
}

static void
store_free(struct link *link)
{
    (void)link;
}

static const struct link_vtable store_vtable = {
    .submit = store_take,
    .close = store_close,
    .free = store_free,
};

static struct link *
find_disk(struct peer_directory *directory, const struct weft_uuid *disk)
{
    struct fuzz *fuzz = container_of(directory, struct fuzz, directory);

    return uuid_equal(disk, &fuzz->uuid) ? &fuzz->store : NULL;
}

static void
request_done(struct store_req *req)
{
    struct request *request = container_of(req, struct request, req);

    CHECK(request->is_busy);
    request->is_busy = false;
    if (req->opcode == STORE_READ && req->result == 0) {
        for (uint32_t i = 0; i < req->block_count; i++) {
            CHECK(req->states[i] <= STORE_BLOCK_BAD);
            CHECK(!peer_state_has_data(req->states[i]) ||
                  req->crcs[i] ==
                      crc32c(0, req->data + (size_t)i * WEFT_BLOCK_SIZE,
                             WEFT_BLOCK_SIZE));
        }
    }
    CHECK(req->opcode != STORE_LIST || req->result != 0 ||
          req->entries_count <= req->entries_max);
}

static void
submit(struct fuzz *fuzz)
{
    if (fuzz->request_count == REQUESTS_MAX) {
        return;
    }
    struct request *request = &fuzz->requests[fuzz->request_count++];
    uint8_t opcode = take(fuzz) % 11;
    uint8_t count = take(fuzz) % 17;
    request->fuzz = fuzz;
    request->data = malloc((size_t)(count + 1) * WEFT_BLOCK_SIZE);
    CHECK(request->data != NULL);
    memset(request->data, 0, (size_t)(count + 1) * WEFT_BLOCK_SIZE);
    request->req = (struct store_req){
        .done = request_done,
        .opcode = (enum store_opcode)opcode,
        .block_count = count,
        .layer = 1,
        .data = request->data,
        .crcs = request->crcs,
        .states = request->states,
        .entries = request->entries,
        .entries_max = 64,
        .deadline_ns = count % 2 == 0 ? IO_NEVER
                                      : io_now_ns(stub_world_io(fuzz->world)) +
                                            50 * NS_PER_MS,
    };
    memset(request->states, STORE_BLOCK_DATA, sizeof request->states);
    request->is_busy = true;
    link_submit(fuzz->link, &request->req);
    CHECK(request->is_busy);
}

static void
user_changed(struct link_user *user, enum link_state state)
{
    (void)user;
    (void)state;
}

/* ---- Commands ---- */

static void
arrive(struct fuzz *fuzz, const void *bytes, uint32_t size)
{
    if (size == 0 || fuzz->input_bytes + size > 64 * KIB) {
        return;
    }
    fuzz->input = realloc(fuzz->input, fuzz->input_bytes + size);
    CHECK(fuzz->input != NULL);
    memcpy(fuzz->input + fuzz->input_bytes, bytes, size);
    fuzz->input_bytes += size;
}

static void
run_world(struct fuzz *fuzz)
{
    uint32_t at = 0;

    stub_run(fuzz->world);
    if (fuzz->is_client && fuzz->conn != stub_connected(fuzz->world)) {
        fuzz->conn = stub_connected(fuzz->world);
        fuzz->input_bytes = 0;
        stub_stall(fuzz->conn, fuzz->is_stalled);
    }
    while (at < fuzz->input_bytes) {
        uint32_t size = fuzz->input_bytes - at;
        size = size < fuzz->chunk_bytes ? size : fuzz->chunk_bytes;
        if (fuzz->conn == NULL ||
            !stub_feed(fuzz->conn, fuzz->input + at, size)) {
            break;
        }
        at += size;
        stub_run(fuzz->world);
    }
    if (at != 0) {
        memmove(fuzz->input, fuzz->input + at, fuzz->input_bytes - at);
        fuzz->input_bytes -= at;
    }
}

static void
come_and_go(struct fuzz *fuzz)
{
    if (fuzz->conn != NULL && stub_is_open(fuzz->conn)) {
        stub_end(fuzz->conn, 0);
    } else if (!fuzz->is_client) {
        fuzz->conn = stub_connect(fuzz->world, 0);
    }
    fuzz->input_bytes = 0;
}

static void
arrive_message(struct fuzz *fuzz, struct peer_head *head, const uint8_t *meta)
{
    static const uint8_t zeros[WEFT_BLOCK_SIZE];
    uint8_t bytes[PEER_HEADER_BYTES];

    if (head->meta_bytes != 0) {
        head->meta_crc ^= crc32c(0, meta, head->meta_bytes);
    }
    peer_head_encode(head, bytes);
    arrive(fuzz, bytes, sizeof bytes);
    arrive(fuzz, meta, head->meta_bytes);
    for (uint32_t left = head->data_bytes; left != 0;) {
        uint32_t size = left < sizeof zeros ? left : (uint32_t)sizeof zeros;
        arrive(fuzz, zeros, size);
        left -= size;
    }
}

/* A greeting that is right. */
static void
greet(struct fuzz *fuzz)
{
    struct peer_hello hello = {
        .version_min = le16_make(1),
        .version_max = le16_make(1),
        .cluster = fuzz->uuid,
        .disk = fuzz->uuid,
    };
    struct peer_welcome welcome = {
        .version = le16_make(1),
        .window_requests = le32_make(8),
        .window_bytes = le32_make(PEER_DATA_BYTES_MAX),
        .disk = fuzz->uuid,
    };
    struct peer_head head = {
        .kind = fuzz->is_client ? PEER_WELCOME : PEER_HELLO,
        .meta_bytes = fuzz->is_client ? sizeof welcome : sizeof hello,
    };
    uint8_t meta[sizeof hello + sizeof welcome];

    memcpy(meta, &hello, sizeof hello);
    if (fuzz->is_client) {
        memcpy(meta, &welcome, sizeof welcome);
    }
    arrive_message(fuzz, &head, meta);
}

/* A request with arrays: CRCs of blocks of zeros. */
static void
send_blocks(struct fuzz *fuzz)
{
    uint8_t meta[PEER_META_BYTES_MAX] = { 0 };
    uint16_t opcode = take(fuzz) % 2 != 0 ? STORE_WRITE : STORE_PUT_SLOT;
    uint32_t count = take(fuzz) % 12;
    struct peer_request request = {
        .block_count = le32_make(count),
        .layer = le32_make(take(fuzz) % 3),
    };
    struct peer_head head = {
        .kind = PEER_REQUEST,
        .version = 1,
        .opcode = opcode,
        .id = take(fuzz),
        .meta_bytes = sizeof request + (opcode == STORE_WRITE ? 4 : 5) * count,
        .data_bytes = count * WEFT_BLOCK_SIZE,
    };
    uint8_t *at = meta + sizeof request;

    memcpy(meta, &request, sizeof request);
    for (uint32_t i = 0; i < count; i++, at += 4) {
        struct le32 crc = le32_make(ZERO_BLOCK_CRC ^ (take(fuzz) == 1));
        memcpy(at, &crc, 4);
    }
    if (opcode == STORE_PUT_SLOT) {
        for (uint32_t i = 0; i < count; i++) {
            at[i] = take(fuzz) % 3;
            head.data_bytes -= at[i] == STORE_BLOCK_DATA ? 0 : WEFT_BLOCK_SIZE;
        }
    }
    arrive_message(fuzz, &head, meta);
}

/* A message of which all but magic and CRCs is the input's. */
static void
send_message(struct fuzz *fuzz)
{
    uint8_t meta[PEER_META_BYTES_MAX];
    struct peer_head head = {
        .kind = (enum peer_kind)take(fuzz),
        .version = take(fuzz),
        .opcode = take(fuzz),
        .id = take(fuzz) + ((uint64_t)take(fuzz) << 16),
    };

    head.meta_bytes =
        (take(fuzz) + (uint32_t)take(fuzz) * 256) % (PEER_META_BYTES_MAX + 1);
    head.data_bytes = take(fuzz) * (take(fuzz) % 2 != 0 ? 4096u : 24u);
    head.meta_crc = take(fuzz) == 255;
    memset(meta, 0, sizeof meta);
    for (uint32_t i = 0; i < head.meta_bytes; i++) {
        meta[i] = take(fuzz);
    }
    arrive_message(fuzz, &head, meta);
}

static void
run_command(struct fuzz *fuzz)
{
    uint8_t command = take(fuzz);
    uint8_t argument;

    switch (command % 10) {
    case 0: /* Bytes as they are. */
        for (argument = take(fuzz); argument != 0; argument--) {
            uint8_t byte = take(fuzz);
            arrive(fuzz, &byte, 1);
        }
        break;
    case 1:
        send_message(fuzz);
        break;
    case 2:
        send_blocks(fuzz);
        break;
    case 3:
        greet(fuzz);
        break;
    case 4:
        stub_advance(fuzz->world, take(fuzz) * 10 * NS_PER_MS);
        break;
    case 5:
        argument = take(fuzz);
        fuzz->chunk_bytes = argument == 0 ? 65536 : argument;
        break;
    case 6:
        fuzz->is_stalled = !fuzz->is_stalled;
        if (fuzz->conn != NULL && stub_is_open(fuzz->conn)) {
            stub_stall(fuzz->conn, fuzz->is_stalled);
        }
        break;
    case 7:
        come_and_go(fuzz);
        break;
    case 8:
    default:
        if (fuzz->is_client) {
            submit(fuzz);
        } else {
            store_answer(fuzz, take(fuzz));
        }
        break;
    }
    run_world(fuzz);
}

/* ---- One input ---- */

static void
link_gone(struct link_close *op)
{
    container_of(op, struct fuzz, close)->is_closed = true;
}

static void
server_gone(struct peer_server_close *op)
{
    container_of(op, struct fuzz, server_close)->is_closed = true;
}

static void
open_sides(struct fuzz *fuzz)
{
    if (fuzz->is_client) {
        struct link_remote_options options;
        link_remote_options_init(&options);
        options.requests_max = 6;
        CHECK(link_remote_new(stub_world_io(fuzz->world), "tcp:x:1",
                              &fuzz->uuid, &fuzz->uuid, &options,
                              &fuzz->link) == 0);
        link_user_add(fuzz->link, &fuzz->user, user_changed);
    } else {
        struct peer_server_options options;
        peer_server_options_init(&options);
        fuzz->directory.find = find_disk;
        options.directory = &fuzz->directory;
        options.cluster = fuzz->uuid;
        options.conns_max = 4;
        options.requests_max = 5; /* Pauses. */
        options.bytes_max = MIB;
        options.conn_bytes_max = MIB;
        options.conn_requests_max = 8;
        link_init(&fuzz->store, &store_vtable, stub_world_io(fuzz->world),
                  &fuzz->uuid, true);
        link_set_state(&fuzz->store, LINK_UP, 0);
        CHECK(peer_server_open(stub_world_io(fuzz->world), "tcp:x:1", &options,
                               &fuzz->server) == 0);
        fuzz->conn = stub_connect(fuzz->world, 0);
    }
    run_world(fuzz);
}

static void
close_sides(struct fuzz *fuzz)
{
    if (fuzz->is_client) {
        link_user_remove(fuzz->link, &fuzz->user);
        fuzz->close.done = link_gone;
        link_close_start(fuzz->link, &fuzz->close);
    } else {
        fuzz->server_close.done = server_gone;
        peer_server_close_start(fuzz->server, &fuzz->server_close);
        stub_run(fuzz->world);
        while (!list_is_empty(&fuzz->pending)) {
            CHECK(!fuzz->is_closed);
            store_answer(fuzz, 0);
        }
    }
    stub_run(fuzz->world);
    CHECK(fuzz->is_closed);
    for (uint32_t i = 0; i < fuzz->request_count; i++) {
        CHECK(!fuzz->requests[i].is_busy);
        free(fuzz->requests[i].data);
    }
    stub_world_free(fuzz->world);
    free(fuzz->input);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fuzz fuzz; /* Large; made anew each time. */

    memset(&fuzz, 0, sizeof fuzz);
    fuzz.world = stub_world_new();
    fuzz.chunk_bytes = 65536;
    list_init(&fuzz.pending);
    fuzz.uuid.bytes[0] = 1;
    fuzz.script = data;
    fuzz.script_bytes = size;
    fuzz.is_client = take(&fuzz) % 2 != 0;
    open_sides(&fuzz);
    while (fuzz.script_bytes != 0) {
        run_command(&fuzz);
    }
    close_sides(&fuzz);
    return 0;
}
