/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_NBD_FIXTURE_H
#define TESTS_UNIT_NBD_FIXTURE_H

/* An NBD server over a volume in memory on one simulated host, and clients on
 * another that send and expect raw bytes.
 *
 * All functions are called from the test itself, outside the world; those
 * that expect something let the world run until it is there. */

#include <stdbool.h>
#include <stdint.h>

#include "blockd/export/nbd.h"
#include "blockd/export/nbd_internal.h"
#include "blockd/export/nbd_wire.h"
#include "lib/base/units.h"
#include "lib/io/sim.h"
#include "tests/support/ram_volume.h"
#include "tests/unit/unit.h"

#define EXPORT "p/v"
#define OTHER "p/other"
#define VOLUME_BYTES (UINT64_C(40) * 1024 * 1024 + 1536)
#define OTHER_BYTES (UINT64_C(64) * 1024)
#define ADDRESS "tcp:server:10809"
#define PATIENCE (20 * NS_PER_S)

struct world_options {
    uint64_t seed;
    bool swarm;
    struct sim_net_options *net; /* NULL: of the world. */
    struct ram_volume_options volume;
    uint32_t connections_max, requests_max;
};

struct world {
    struct sim_program program; /* Of the server's host. */
    struct sim_program client_program;
    struct sim *sim;
    struct sim_node *server_node, *client_node;
    struct io *io, *client_io;
    struct world_options options;
    struct volume *volume, *other_volume;
    struct nbd_server *server;
    struct nbd_export *nbd_export, *other; /* NULL: being removed. */
    uint32_t removed;
    bool stopped;
};

struct client {
    struct sim_condition condition;
    struct world *world;
    struct io_conn conn;
    bool connected, closed;
    int connect_result, reason;
    uint8_t *in;
    size_t in_size, in_read, in_capacity, in_wanted;
    uint32_t sends;
    bool structured;
};

/* NULL: the defaults.  The world is freed by world_done(), which removes the
 * exports, stops the server and asserts that nothing of it is left. */
void world_init(struct world *world, const struct world_options *options);
void world_done(struct world *world);
/* Starts the removal of the exports that are there. */
void world_remove(struct world *world);
void world_wait_removed(struct world *world);

/* ---- Bytes ---- */

void client_connect(struct client *client, struct world *world);
/* After it is closed; frees what it has received. */
void client_done(struct client *client);
/* Closes first. */
void client_drop(struct client *client);
void client_send(struct client *client, const void *data, size_t size);
/* False: the connection was closed before so many had arrived. */
bool client_wait(struct client *client, size_t size);
/* The next 'size' bytes; NULL if they will never come. */
const uint8_t *client_take(struct client *client, size_t size);
/* They must come; 'to' may be NULL. */
void client_copy(struct client *client, void *to, size_t size);
#define expect_bytes(client, data, size) \
    expect_bytes_at(client, data, size, __FILE__, __LINE__)
void expect_bytes_at(struct client *client, const void *data, size_t size,
                     const char *file, int line);
/* The server closes, and sends nothing before. */
#define expect_closed(client) expect_closed_at(client, __FILE__, __LINE__)
void expect_closed_at(struct client *client, const char *file, int line);
/* For this long nothing comes, and the connection stays. */
void expect_silence(struct client *client, uint64_t duration_ns);

/* ---- Handshake ---- */

/* Greeting and client flags. */
void client_greet(struct client *client, uint32_t flags);
void client_option(struct client *client, uint32_t option, const void *data,
                   uint32_t size);
void expect_reply_at(struct client *client, uint32_t option, uint32_t type,
                     const void *data, size_t size, const char *file, int line);
#define expect_reply(client, option, type, data, size) \
    expect_reply_at(client, option, type, data, size, __FILE__, __LINE__)
/* An error reply, whatever its text. */
void expect_refusal(struct client *client, uint32_t option, uint32_t type);
/* u32 size, name, and two bytes of count 0 for INFO and GO. */
uint32_t make_name(uint8_t *to, const char *name);
uint32_t make_go(uint8_t *to, const char *name);
/* The whole handshake to EXPORT. */
void client_open(struct client *client, struct world *world, bool structured,
                 bool context);

/* ---- Transmission ---- */

void client_request(struct client *client, uint16_t flags, uint16_t command,
                    uint64_t cookie, uint64_t offset, uint32_t size);
void expect_simple_at(struct client *client, uint64_t cookie, uint32_t error,
                      const char *file, int line);
#define expect_simple(client, cookie, error) \
    expect_simple_at(client, cookie, error, __FILE__, __LINE__)
/* A chunk's header; its payload is left to be taken. */
void expect_chunk_at(struct client *client, uint64_t cookie, uint16_t flags,
                     uint16_t type, uint32_t size, const char *file, int line);
#define expect_chunk(client, cookie, flags, type, size) \
    expect_chunk_at(client, cookie, flags, type, size, __FILE__, __LINE__)
#define expect_error_chunk(client, cookie, error) \
    expect_error_chunk_at(client, cookie, error, __FILE__, __LINE__)
void expect_error_chunk_at(struct client *client, uint64_t cookie,
                           uint32_t error, const char *file, int line);
/* A repeatable pattern for bytes at 'offset'. */
void fill_pattern(uint8_t *data, uint64_t offset, size_t size, uint64_t salt);

#endif /* TESTS_UNIT_NBD_FIXTURE_H */
