/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SUPPORT_MANUAL_IO_H
#define TESTS_SUPPORT_MANUAL_IO_H

/* A world behind lib/io/io.h that runs on the test's own thread, and only when
 * it is told to: tasks, timers on a clock that the test moves, watches on real
 * descriptors (edge-triggered, as io.h says), pollers.  No files and no
 * connections.
 *
 * For servers of foreign descriptors (vhost-user): front end and back end in
 * one thread, in an order that the test decides. */

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/list.h"
#include "lib/io/io.h"

#define MANUAL_IO_TIMERS_MAX 16u
#define MANUAL_IO_ARENAS_MAX 16u

struct manual_io {
    struct io io;
    uint64_t now_ns;
    int epoll_fd;
    struct list tasks;
    struct list watches; /* Started. */
    struct list stopped; /* stopped() is due. */
    struct list pollers;
    struct io_timer *timers[MANUAL_IO_TIMERS_MAX]; /* [heap_index - 1] */
    void *arenas[MANUAL_IO_ARENAS_MAX];
    uint32_t arena_count;
};

void manual_io_init(struct manual_io *manual);
/* Everything must have been stopped. */
void manual_io_done(struct manual_io *manual);

/* One turn: watches, pollers, tasks.  Returns whether anything was done. */
bool manual_io_turn(struct manual_io *manual);
/* Turns until nothing is left to do; pollers do not count. */
void manual_io_settle(struct manual_io *manual);
/* Moves the clock; what is due fires. */
void manual_io_advance(struct manual_io *manual, uint64_t ns);

#endif /* TESTS_SUPPORT_MANUAL_IO_H */
