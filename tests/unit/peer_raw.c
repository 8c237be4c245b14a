/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/peer_raw.h"

#include "tests/unit/unit.h"

#include <string.h>

#include "lib/base/array.h"
#include "lib/base/container_of.h"
#include "lib/base/crc32c.h"
#include "lib/base/units.h"

static const uint32_t fair_sizes[] = {
    0, 8, 16, 64, 80, 128, 144, 160, 68, 69, 256, 1344, 1345,
};

struct raw raw;

static void
raw_sent(struct io_op *op, int result)
{
    (void)op;
    (void)result;
    raw.is_sending = false;
}

static void
raw_connected(struct io_conn *conn, int result)
{
    (void)conn;
    raw.is_open = result == 0;
}

static void
raw_data(struct io_conn *conn, const uint8_t *data, uint32_t size)
{
    (void)conn;
    if (size > RAW_BUFFER_BYTES - raw.in_bytes) {
        size = RAW_BUFFER_BYTES - raw.in_bytes;
    }
    memcpy(raw.in + raw.in_bytes, data, size);
    raw.in_bytes += size;
}

static void
raw_closed(struct io_conn *conn, int reason)
{
    (void)conn;
    (void)reason;
    raw.is_open = false;
    raw.is_closed = true;
}

static void
raw_accept(struct io_listener *listener, struct io_accepted *accepted)
{
    (void)listener;
    if (raw.is_open) {
        return;
    }
    assert_int_equal(io_conn_adopt(raw.host->io, &raw.conn, accepted), 0);
    raw.is_open = true;
    raw.is_closed = false;
    raw.connections++;
    raw.in_bytes = 0;
    raw.in_read = 0;
}

static void
raw_boot(struct sim_program *program, struct sim_node *node, struct io *io)
{
    struct peer_host *host = container_of(program, struct peer_host, program);

    (void)node;
    host->io = io;
    if (host == &host->world->server_host) {
        assert_int_equal(io_listener_open(io, &raw.listener, "tcp:server:7701"),
                         0);
    }
}

/* Takes the place of 'host' in a world that has not started. */
void
raw_init(struct peer_world *world, struct peer_host *host)
{
    raw.world = world;
    raw.host = host;
    raw.conn = (struct io_conn){ .on_connected = raw_connected,
                                 .on_data = raw_data,
                                 .on_closed = raw_closed };
    raw.listener = (struct io_listener){ .on_accept = raw_accept };
    raw.is_sending = raw.is_open = raw.is_closed = false;
    raw.connections = 0;
    raw.out_bytes = raw.in_bytes = raw.in_read = 0;
    host->program.boot = raw_boot;
    world->is_direct = true;
}

void
raw_connect(void)
{
    raw.is_closed = false;
    raw.in_bytes = raw.in_read = 0;
    sim_node_enter(raw.host->node);
    io_conn_connect(raw.host->io, &raw.conn, "tcp:server:7701", IO_NEVER);
    sim_node_leave(raw.host->node);
    assert_true(sim_run_until_set(raw.world->sim, &raw.is_open, NS_PER_S));
}

void
raw_close(void)
{
    if (raw.is_open) {
        sim_node_enter(raw.host->node);
        io_conn_close(raw.host->io, &raw.conn);
        sim_node_leave(raw.host->node);
    }
    assert_true(sim_run_until_set(raw.world->sim, &raw.is_closed, NS_PER_S));
}

/* Sends what is in 'out', and waits a little. */
void
raw_flush(void)
{
    if (raw.out_bytes != 0 && raw.is_open) {
        assert_false(raw.is_sending);
        raw.send = (struct io_send){
            .op.done = raw_sent,
            .iov = { { raw.out, raw.out_bytes } },
            .iov_count = 1,
        };
        raw.is_sending = true;
        sim_node_enter(raw.host->node);
        io_conn_send(raw.host->io, &raw.conn, &raw.send);
        sim_node_leave(raw.host->node);
    }
    sim_run_for(raw.world->sim, 20 * NS_PER_MS);
    if (!raw.is_sending) {
        raw.out_bytes = 0;
    }
}

void
raw_add(const void *bytes, uint32_t size)
{
    assert_true(size <= RAW_BUFFER_BYTES - raw.out_bytes);
    memcpy(raw.out + raw.out_bytes, bytes, size);
    raw.out_bytes += size;
}

/* A message with right CRCs; 'head' says the rest. */
void
raw_message(struct peer_head head, const void *meta, const void *data)
{
    uint8_t bytes[PEER_HEADER_BYTES];

    head.meta_crc = head.meta_bytes == 0 ? 0 : crc32c(0, meta, head.meta_bytes);
    peer_head_encode(&head, bytes);
    raw_add(bytes, sizeof bytes);
    if (head.meta_bytes != 0) {
        raw_add(meta, head.meta_bytes);
    }
    if (data != NULL) {
        raw_add(data, head.data_bytes);
    }
}

/* The next message that has arrived; false if there is none. */
bool
raw_take(void)
{
    const char *why;

    if (raw.in_bytes - raw.in_read < PEER_HEADER_BYTES) {
        return false;
    }
    assert_int_equal(peer_head_decode(raw.in + raw.in_read, &raw.head, &why),
                     0);
    raw.in_read += PEER_HEADER_BYTES;
    assert_true(raw.in_bytes - raw.in_read >=
                raw.head.meta_bytes + raw.head.data_bytes);
    memcpy(raw.meta, raw.in + raw.in_read, raw.head.meta_bytes);
    raw.in_read += raw.head.meta_bytes + raw.head.data_bytes;
    return true;
}

uint32_t
raw_fair_size(struct rng *rng)
{
    return fair_sizes[rng_below(rng, ARRAY_COUNT(fair_sizes))];
}
