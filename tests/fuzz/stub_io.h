/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_FUZZ_STUB_IO_H
#define TESTS_FUZZ_STUB_IO_H

/* The smallest world behind lib/io/io.h, for fuzz targets of servers and
 * clients: no chance, no delays, no files.  The target is the other side of
 * every connection and says what happens next:
 *
 *     struct stub_world *world = stub_world_new();
 *     ... server_new(stub_world_io(world)), listen ...
 *     struct stub_conn *conn = stub_connect(world, 0);
 *     stub_feed(conn, data, size);        one call of on_data()
 *     stub_run(world);                    tasks, done(), on_closed()
 *     stub_advance(world, NS_PER_S);      time, and with it timers
 *     stub_end(conn, -ECONNRESET);        the other side goes
 *     stub_world_free(world);             CHECKs that nothing is left
 *
 * Bytes are handed over in memory of exactly their size, so that ASan sees a
 * read past them; it is freed when on_data() returns. */

#include <stdbool.h>
#include <stdint.h>

#include "lib/io/io.h"

struct stub_world;
struct stub_conn;

struct stub_world *stub_world_new(void);
void stub_world_free(struct stub_world *world);
struct io *stub_world_io(struct stub_world *world);

/* To the listener of this index, in the order of opening.  NULL: there is
 * none, or it did not take the connection. */
struct stub_conn *stub_connect(struct stub_world *world, uint32_t listener);
/* The last connection that the code under test began by io_conn_connect(). */
struct stub_conn *stub_connected(struct stub_world *world);

/* Returns false, and hands nothing over, if the connection is paused or over.
 * At most IO_DATA_BYTES_MAX. */
bool stub_feed(struct stub_conn *conn, const uint8_t *data, uint32_t size);
/* The other side ends the connection, for 'reason' (0: orderly). */
void stub_end(struct stub_conn *conn, int reason);
/* True: sends stay pending, as with a reader that stands still. */
void stub_stall(struct stub_conn *conn, bool stall);
bool stub_is_open(const struct stub_conn *conn);

/* What was sent so far, in order, at most STUB_SENT_MAX of it. */
#define STUB_SENT_MAX ((size_t)1 << 20)
const uint8_t *stub_sent(const struct stub_conn *conn, size_t *ret_size);
/* Forgets it. */
void stub_sent_drop(struct stub_conn *conn);
/* Of all bytes ever sent, also those that were not kept. */
uint64_t stub_sent_bytes(const struct stub_conn *conn);

/* Until nothing is left to do without time passing. */
void stub_run(struct stub_world *world);
void stub_advance(struct stub_world *world, uint64_t duration_ns);

#endif /* TESTS_FUZZ_STUB_IO_H */
