/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_IO_URING_H
#define LIB_IO_URING_H

/* Reactors: the real world behind io.h.  A reactor is one thread with one
 * io_uring; reactors share nothing and talk by io_post_send().
 *
 * Life, seen from the control thread:
 *
 *     reactor_options_init(&options);     change what you want
 *     reactor_new(&options, &reactor);    memory, no thread yet
 *     reactor_start(reactor);             the thread, and the ring on it
 *     reactor_call(reactor, &call);       set-up functions, on its thread
 *     io_post_send(NULL, reactor_io(reactor), &post);        work
 *     reactor_call(reactor, &call);       begin to close everything; the
 *                                         owners report when it is closed
 *     reactor_stop(reactor);              joins the thread
 *     reactor_free(reactor);              after every reactor has stopped
 *
 * A reactor that is stopped while it still has open files, connections,
 * listeners, armed timers, watches, pollers or pending operations aborts: the
 * kernel may still write to memory that the owner believes to be free.
 *
 * Thread: all functions here belong to one control thread, except
 * reactor_io(), and those that say otherwise. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/io/io.h"

#define REACTOR_NAME_SIZE 16

struct reactor;

/* Every limit is fixed when the reactor is made. */
struct reactor_options {
    char name[REACTOR_NAME_SIZE]; /* Of the thread; cut to 15 characters. */
    int cpu;                      /* To run on; -1: any. */

    /* Submissions between two system calls; when they are used up the
     * reactor submits early and goes on.  A power of two. */
    uint32_t ring_entries;
    /* File operations in the kernel; more of them wait their turn. */
    uint32_t file_ops_max;
    /* Operations on files in tmpfs run inside io_file_start(), rather than on
     * a kernel thread.  Real devices always go through the ring. */
    bool memory_inline;

    uint32_t files_max;     /* io_file_open(): -EMFILE. */
    uint32_t conns_max;     /* io_conn_adopt(), io_conn_connect(): -EMFILE. */
    uint32_t listeners_max; /* io_listener_open(): -EMFILE. */
    uint32_t timers_max;    /* One more aborts.  Address space only. */

    size_t arena_bytes; /* io_arena_alloc(): NULL. */

    /* The pool that all connections receive into.  It only runs low when
     * paused connections hold buffers; then the others receive more slowly.
     * 'count' is a power of two, at most 32768. */
    uint32_t recv_buffer_count;
    uint32_t recv_buffer_bytes;

    /* TCP sends of at least this size avoid the copy into the kernel; they
     * are done only when the other side has acknowledged.  0: never. */
    uint32_t zerocopy_min_bytes;
};

/* What works everywhere with 8 MiB of lockable memory. */
void reactor_options_init(struct reactor_options *options);

/* -EINVAL (options), -ENOMEM. */
WEFT_MUST_CHECK int reactor_new(const struct reactor_options *options,
                                struct reactor **ret_reactor);
/* Starts the thread and waits until its ring is ready.  -ENOSYS or -EINVAL:
 * the kernel is too old (6.1 is the first that will do). */
WEFT_MUST_CHECK int reactor_start(struct reactor *reactor);
/* Runs what has been posted, then ends the thread.  Harmless if stopped. */
void reactor_stop(struct reactor *reactor);
/* NULL is accepted.  Stops it, too; but while other reactors may still post
 * to this one, call reactor_stop() on all of them first. */
void reactor_free(struct reactor *reactor);

/* Any thread. */
struct io *reactor_io(struct reactor *reactor);

struct reactor_call;
typedef void reactor_call_fn(struct reactor_call *call);

/* A function to run on the reactor's thread, embedded in its arguments. */
struct reactor_call {
    reactor_call_fn *run;
    /* Private. */
    struct io_post post;
    struct reactor *reactor;
    bool finished;
};

/* Runs call->run() on the reactor's thread and waits for it: the place for
 * what io.h calls "set-up only".  Any thread but a reactor's. */
void reactor_call(struct reactor *reactor, struct reactor_call *call);

/* What a reactor got from the kernel, and what it has done so far. */
struct reactor_info {
    bool fixed_buffers; /* The arena is registered. */
    bool fixed_files;
    uint64_t turns;
    uint64_t enters;      /* System calls of the loop. */
    uint64_t sleeps;      /* Those that were allowed to wait. */
    uint64_t completions; /* CQEs. */
    uint64_t wakes;       /* Sent to other reactors. */
    uint64_t sends;       /* Submitted; each may carry several io_sends. */
    uint64_t receives;
    uint64_t starvations; /* Receives that found no buffer. */
    uint64_t ring_full;   /* Early submits. */
    uint32_t conns;       /* Open now. */
    uint32_t file_ops;    /* In the kernel now. */
};

/* On the reactor's thread, or after it was stopped. */
void reactor_info_get(const struct reactor *reactor,
                      struct reactor_info *ret_info);

#endif /* LIB_IO_URING_H */
