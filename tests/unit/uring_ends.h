/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_URING_ENDS_H
#define TESTS_UNIT_URING_ENDS_H

/* Two ends of one connection on one reactor, for the tests of connections.
 * Each end sends the bytes 0, 1, ... 255, 0, ... up to its goal in pieces of
 * odd sizes, and checks what it receives.  The latch counts an end that has
 * received the other's goal, and an end that was closed. */

#include "lib/io/uring.h"
#include "tests/unit/uring_fixture.h"

#define SENDS 8
#define SEND_BYTES_MAX 300000U

struct conn_test;
struct end;

struct end_send {
    struct io_send send;
    struct end *end;
    bool busy;
};

/* One end of a connection. */
struct end {
    struct io_conn conn;
    struct conn_test *test;
    struct io_timer timer;
    struct end_send sends[SENDS];
    uint64_t sent_bytes; /* Queued. */
    uint64_t goal_bytes; /* To be sent in all. */
    uint64_t received_bytes;
    uint32_t sends_busy;
    uint32_t sends_failed;
    uint32_t pieces;
    int connected; /* 1: not yet called. */
    int closed;    /* 1: not yet called. */
    int send_error;
    bool adopted;
    bool slow;      /* Pauses now and then. */
    bool greedy;    /* Pauses for good at the first byte. */
    bool echo_once; /* Answers the first piece and closes behind it. */
    bool quit;      /* Closes at the first byte. */
};

struct conn_test {
    struct reactor_call call;
    struct reactor *reactor;
    struct io *io;
    struct latch latch;
    struct io_listener listener;
    char address[IO_ADDRESS_SIZE];
    struct end ends[2]; /* 0 connects, 1 accepts. */
    uint8_t *stream;    /* SEND_BYTES_MAX + 256 bytes, period 256. */
    uint64_t seed;
    uint64_t deadline_ns;
    uint32_t accepts;
    int result;
    bool refuse;
    bool want_opened; /* The latch counts opened ends. */
};

/* Adds one to the latch for each end that is opened, too, if 'want_opened' is
 * set.  The listener listens at 'address' already. */
struct conn_test *conn_test_new(const char *address,
                                void (*change)(struct reactor_options *));
/* Both ends are closed. */
void conn_test_free(struct conn_test *test);

/* Prepares an end anew. */
void end_init(struct end *end, struct conn_test *test);
void end_send_one(struct end *end, struct end_send *item, uint32_t size);

/* For fixture_run(). */
void listen_run(struct reactor_call *call);
void unlisten_run(struct reactor_call *call);
void connect_run(struct reactor_call *call);
void close_run(struct reactor_call *call);
void close_both_run(struct reactor_call *call);

/* The folder of the test's sockets; remove_directory() returns 0 or 99. */
bool make_directory(void);
int remove_directory(void);
const char *test_directory(void);
/* "unix:" and a name in that folder. */
void unix_address(char *text, const char *name);

#endif /* TESTS_UNIT_URING_ENDS_H */
