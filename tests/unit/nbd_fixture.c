/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/nbd_fixture.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/container_of.h"

#define FAIL_UNLESS(condition)                    \
    do {                                          \
        if (!(condition)) {                       \
            print_error("not: %s\n", #condition); \
            _fail(file, line);                    \
        }                                         \
    } while (0)

/* ---- The world ---- */

static void
server_boot(struct sim_program *program, struct sim_node *node, struct io *io)
{
    struct world *world = container_of(program, struct world, program);
    struct ram_volume_options volume = world->options.volume;
    struct ram_volume_options other = { .io = io, .size_bytes = OTHER_BYTES };
    struct nbd_server_options server = {
        .io = io,
        .connections_max = world->options.connections_max,
        .requests_max = world->options.requests_max,
    };
    (void)node;

    world->io = io;
    volume.io = io;
    if (volume.size_bytes == 0) {
        volume.size_bytes = VOLUME_BYTES;
    }
    if (volume.payloads.small_count == 0) {
        volume.payloads = (struct payload_pool_options){ 64, 16, 8 };
    }
    CHECK(ram_volume_new(&volume, &world->volume) == 0);
    other.payloads = (struct payload_pool_options){ 4, 4, 1 };
    CHECK(ram_volume_new(&other, &world->other_volume) == 0);
    CHECK(nbd_server_new(&server, &world->server) == 0);
    CHECK(nbd_server_listen(world->server, ADDRESS, NULL) == 0);
    CHECK(nbd_export_add(world->server, EXPORT, world->volume,
                         &world->nbd_export) == 0);
    CHECK(nbd_export_add(world->server, OTHER, world->other_volume,
                         &world->other) == 0);
}

static void
client_boot(struct sim_program *program, struct sim_node *node, struct io *io)
{
    struct world *world = container_of(program, struct world, client_program);
    (void)node;

    world->client_io = io;
}

void
world_init(struct world *world, const struct world_options *options)
{
    struct sim_options sim;

    *world = (struct world){
        .program.boot = server_boot,
        .client_program.boot = client_boot,
    };
    if (options != NULL) {
        world->options = *options;
    }
    if (world->options.swarm) {
        sim_options_swarm(&sim, world->options.seed);
    } else {
        sim_options_default(&sim);
    }
    if (world->options.net != NULL) {
        sim.net = *world->options.net;
    }
    sim.arena_bytes = 256 * MIB;
    world->sim = sim_new(world->options.seed, &sim);
    world->server_node = sim_node_add(world->sim, "server");
    world->client_node = sim_node_add(world->sim, "client");
    sim_node_start(world->server_node, &world->program);
    sim_node_start(world->client_node, &world->client_program);
}

static void
export_removed(void *owner)
{
    struct world *world = owner;
    world->removed++;
}

static void
server_stopped(void *owner)
{
    struct world *world = owner;
    world->stopped = true;
}

void
world_remove(struct world *world)
{
    sim_node_enter(world->server_node);
    if (world->nbd_export != NULL) {
        nbd_export_remove(world->nbd_export, export_removed, world);
        world->nbd_export = NULL;
    }
    if (world->other != NULL) {
        nbd_export_remove(world->other, export_removed, world);
        world->other = NULL;
    }
    sim_node_leave(world->server_node);
}

void
world_wait_removed(struct world *world)
{
    uint64_t end = sim_now_ns(world->sim) + PATIENCE;

    while (world->removed < 2 && sim_now_ns(world->sim) < end) {
        sim_run_for(world->sim, NS_PER_MS);
    }
    assert_int_equal(world->removed, 2);
}

void
world_done(struct world *world)
{
    struct sim_holdings holdings;

    world_remove(world);
    world_wait_removed(world);
    sim_node_enter(world->server_node);
    nbd_server_stop(world->server, server_stopped, world);
    sim_node_leave(world->server_node);
    assert_true(sim_run_until_set(world->sim, &world->stopped, PATIENCE));
    sim_node_enter(world->server_node);
    ram_volume_free(world->volume);
    ram_volume_free(world->other_volume);
    sim_node_leave(world->server_node);
    sim_run_for(world->sim, NS_PER_S);

    sim_node_holdings(world->server_node, &holdings);
    assert_int_equal(holdings.operations, 0);
    assert_int_equal(holdings.timers, 0);
    assert_int_equal(holdings.tasks, 0);
    assert_int_equal(holdings.connections, 0);
    assert_int_equal(holdings.listeners, 0);
    assert_int_equal(holdings.heap_count, 0);
    sim_free(world->sim);
}

/* ---- Bytes ---- */

static void
client_connected(struct io_conn *conn, int result)
{
    struct client *client = container_of(conn, struct client, conn);
    client->connected = true;
    client->connect_result = result;
}

static void
client_data(struct io_conn *conn, const uint8_t *data, uint32_t size)
{
    struct client *client = container_of(conn, struct client, conn);

    if (client->in_capacity - client->in_size < size) {
        sim_world_begin(client->world->sim);
        client->in_capacity = 2 * client->in_capacity + size;
        client->in = realloc(client->in, client->in_capacity);
        sim_world_end(client->world->sim);
        CHECK(client->in != NULL);
    }
    memcpy(client->in + client->in_size, data, size);
    client->in_size += size;
}

static void
client_closed(struct io_conn *conn, int reason)
{
    struct client *client = container_of(conn, struct client, conn);
    client->closed = true;
    client->reason = reason;
}

static bool
client_holds(struct sim_condition *condition)
{
    struct client *client = container_of(condition, struct client, condition);
    return client->in_size - client->in_read >= client->in_wanted ||
           client->closed;
}

void
client_connect(struct client *client, struct world *world)
{
    *client = (struct client){
        .condition.holds = client_holds,
        .world = world,
        .conn = { .on_connected = client_connected,
                  .on_data = client_data,
                  .on_closed = client_closed },
    };
    io_conn_connect(world->client_io, &client->conn, ADDRESS, IO_NEVER);
    assert_true(sim_run_until_set(world->sim, &client->connected, PATIENCE));
    assert_int_equal(client->connect_result, 0);
}

void
client_done(struct client *client)
{
    assert_true(client->closed);
    assert_int_equal(client->sends, 0);
    free(client->in);
    client->in = NULL;
}

void
client_drop(struct client *client)
{
    if (!client->closed) {
        io_conn_close(client->world->client_io, &client->conn);
        assert_true(
            sim_run_until_set(client->world->sim, &client->closed, PATIENCE));
    }
    client_done(client);
}

struct message {
    struct client *client;
    struct io_send send;
    uint8_t bytes[];
};

static void
message_sent(struct io_op *op, int result)
{
    struct io_send *send = container_of(op, struct io_send, op);
    struct message *message = container_of(send, struct message, send);
    struct sim *sim = message->client->world->sim;
    (void)result;

    message->client->sends--;
    sim_world_begin(sim);
    free(message);
    sim_world_end(sim);
}

void
client_send(struct client *client, const void *data, size_t size)
{
    if (client->closed || size == 0) {
        return;
    }
    struct message *message = malloc(sizeof *message + size);
    assert_non_null(message);
    message->client = client;
    memcpy(message->bytes, data, size);
    message->send = (struct io_send){ .op.done = message_sent };
    message->send.iov[0].iov_base = message->bytes;
    message->send.iov[0].iov_len = size;
    message->send.iov_count = 1;
    client->sends++;
    io_conn_send(client->world->client_io, &client->conn, &message->send);
}

bool
client_wait(struct client *client, size_t size)
{
    client->in_wanted = size;
    sim_run_until_holds(client->world->sim, &client->condition, PATIENCE);
    return client->in_size - client->in_read >= size;
}

const uint8_t *
client_take(struct client *client, size_t size)
{
    if (!client_wait(client, size)) {
        return NULL;
    }
    const uint8_t *bytes = client->in + client->in_read;
    client->in_read += size;
    return bytes;
}

void
client_copy(struct client *client, void *to, size_t size)
{
    const uint8_t *bytes = client_take(client, size);

    if (bytes == NULL) {
        fail_msg("%zu of %zu bytes came, closed: %d",
                 client->in_size - client->in_read, size, client->closed);
    } else if (to != NULL) {
        memcpy(to, bytes, size);
    }
}

void
expect_bytes_at(struct client *client, const void *data, size_t size,
                const char *file, int line)
{
    const uint8_t *bytes = client_take(client, size);

    if (bytes == NULL) {
        print_error("%zu of %zu bytes came, closed: %d\n",
                    client->in_size - client->in_read, size, client->closed);
        _fail(file, line);
    } else {
        _assert_memory_equal(bytes, data, size, file, line);
    }
}

void
expect_closed_at(struct client *client, const char *file, int line)
{
    sim_run_until_set(client->world->sim, &client->closed, PATIENCE);
    FAIL_UNLESS(client->closed);
    FAIL_UNLESS(client->in_size == client->in_read);
}

void
expect_silence(struct client *client, uint64_t duration_ns)
{
    sim_run_for(client->world->sim, duration_ns);
    assert_int_equal(client->in_size, client->in_read);
    assert_false(client->closed);
}

/* ---- Handshake ---- */

void
client_greet(struct client *client, uint32_t flags)
{
    struct nbd_greeting greeting = {
        .magic = be64_make(NBD_MAGIC),
        .option_magic = be64_make(NBD_OPTION_MAGIC),
        .flags = be16_make(3),
    };
    struct be32 wire = be32_make(flags);

    expect_bytes(client, &greeting, sizeof greeting);
    client_send(client, &wire, sizeof wire);
}

void
client_option(struct client *client, uint32_t option, const void *data,
              uint32_t size)
{
    struct nbd_option_header header = {
        .magic = be64_make(NBD_OPTION_MAGIC),
        .option = be32_make(option),
        .size = be32_make(size),
    };
    client_send(client, &header, sizeof header);
    client_send(client, data, size);
}

void
expect_reply_at(struct client *client, uint32_t option, uint32_t type,
                const void *data, size_t size, const char *file, int line)
{
    struct nbd_option_reply reply = {
        .magic = be64_make(NBD_OPTION_REPLY_MAGIC),
        .option = be32_make(option),
        .type = be32_make(type),
        .size = be32_make((uint32_t)size),
    };
    expect_bytes_at(client, &reply, sizeof reply, file, line);
    expect_bytes_at(client, data, size, file, line);
}

void
expect_refusal(struct client *client, uint32_t option, uint32_t type)
{
    struct nbd_option_reply reply = { 0 };

    client_copy(client, &reply, sizeof reply);
    assert_true(be64_get(reply.magic) == NBD_OPTION_REPLY_MAGIC);
    assert_int_equal(be32_get(reply.option), option);
    assert_int_equal(be32_get(reply.type), type);
    assert_in_range(be32_get(reply.size), 1, 100);
    client_copy(client, NULL, be32_get(reply.size));
}

uint32_t
make_name(uint8_t *to, const char *name)
{
    uint32_t size = (uint32_t)strlen(name);
    struct be32 wire = be32_make(size);

    memcpy(to, &wire, sizeof wire);
    for (uint32_t i = 0; i < size; i++) {
        to[sizeof wire + i] = (uint8_t)name[i];
    }
    return (uint32_t)sizeof wire + size;
}

uint32_t
make_go(uint8_t *to, const char *name)
{
    uint32_t size = make_name(to, name);

    to[size] = 0;
    to[size + 1] = 0;
    return size + 2;
}

void
client_open(struct client *client, struct world *world, bool structured,
            bool context)
{
    uint8_t data[100];
    uint32_t size;

    client_connect(client, world);
    client_greet(client, 3);
    if (structured) {
        client_option(client, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
        expect_reply(client, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK, NULL, 0);
        client->structured = true;
    }
    if (context) {
        size = make_name(data, EXPORT);
        struct be32 one = be32_make(1);
        memcpy(data + size, &one, sizeof one);
        size += (uint32_t)sizeof one;
        size += make_name(data + size, NBD_CONTEXT_ALLOCATION);
        client_option(client, NBD_OPT_SET_META_CONTEXT, data, size);
        expect_reply(client, NBD_OPT_SET_META_CONTEXT, NBD_REP_META_CONTEXT,
                     "\0\0\0\1" NBD_CONTEXT_ALLOCATION, 19);
        expect_reply(client, NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK, NULL, 0);
    }
    size = make_go(data, EXPORT);
    client_option(client, NBD_OPT_GO, data, size);
    client_copy(client, NULL, 20 + 12);
    client_copy(client, NULL, 20 + 14);
    expect_reply(client, NBD_OPT_GO, NBD_REP_ACK, NULL, 0);
}

/* ---- Transmission ---- */

void
client_request(struct client *client, uint16_t flags, uint16_t command,
               uint64_t cookie, uint64_t offset, uint32_t size)
{
    struct nbd_request_header header = {
        .magic = be32_make(NBD_REQUEST_MAGIC),
        .flags = be16_make(flags),
        .command = be16_make(command),
        .cookie = be64_make(cookie),
        .offset = be64_make(offset),
        .size = be32_make(size),
    };
    client_send(client, &header, sizeof header);
}

void
expect_simple_at(struct client *client, uint64_t cookie, uint32_t error,
                 const char *file, int line)
{
    struct nbd_simple_reply reply = {
        .magic = be32_make(NBD_SIMPLE_REPLY_MAGIC),
        .error = be32_make(error),
        .cookie = be64_make(cookie),
    };
    expect_bytes_at(client, &reply, sizeof reply, file, line);
}

void
expect_chunk_at(struct client *client, uint64_t cookie, uint16_t flags,
                uint16_t type, uint32_t size, const char *file, int line)
{
    struct nbd_chunk_header header = {
        .magic = be32_make(NBD_STRUCTURED_REPLY_MAGIC),
        .flags = be16_make(flags),
        .type = be16_make(type),
        .cookie = be64_make(cookie),
        .size = be32_make(size),
    };
    expect_bytes_at(client, &header, sizeof header, file, line);
}

void
expect_error_chunk_at(struct client *client, uint64_t cookie, uint32_t error,
                      const char *file, int line)
{
    struct be32 wire = be32_make(error);

    expect_chunk_at(client, cookie, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_ERROR,
                    6, file, line);
    expect_bytes_at(client, &wire, sizeof wire, file, line);
    expect_bytes_at(client, "\0\0", 2, file, line);
}

void
fill_pattern(uint8_t *data, uint64_t offset, size_t size, uint64_t salt)
{
    for (size_t i = 0; i < size; i++) {
        uint64_t at = offset + i;
        data[i] =
            (uint8_t)((at * 167 + (at >> 8) * 31 + (at >> 16) * 7 + salt) | 1);
    }
}
