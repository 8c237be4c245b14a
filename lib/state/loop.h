/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_STATE_LOOP_H
#define LIB_STATE_LOOP_H

/* The loop of a control thread: database connections (lib/state/state.h),
 * foreign descriptors, timers, and messages from other threads.
 *
 * It wraps libopenvswitch's poll loop, so that no user needs its headers.
 * Nothing here is for the data path.
 *
 *     loop_new(&loop);
 *     state_open(loop, &options, &state);
 *     loop_run(loop);                (returns after loop_stop())
 *
 * One turn: it sleeps until there is something; then posts, due timers (by
 * deadline), ready descriptors, and each runner (a database connection is one).
 *
 * Thread: everything on the thread that runs the loop, but loop_post_send()
 * and loop_stop(), which any thread may call.  Everything is embedded in and
 * owned by the user; callbacks may add and remove whatever they like, also
 * themselves, and may free the structure once it is removed.
 *
 * libopenvswitch takes SIGTERM, SIGINT, SIGHUP and SIGALRM for itself where
 * they are at their defaults: install handlers, or block them for a signalfd,
 * before loop_new(). */

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/check.h"
#include "lib/base/list.h"

#define LOOP_NEVER UINT64_MAX

struct loop;

/* Also sends libopenvswitch's own log to stderr, warnings and worse, as
 * key=value.  -errno. */
WEFT_MUST_CHECK int loop_new(struct loop **ret_loop);

/* Nothing may be registered any more, and no post on its way; accepts NULL. */
void loop_free(struct loop *loop);

/* Turns until loop_stop(). */
void loop_run(struct loop *loop);

/* One turn, which waits until 'deadline_ns' at most (CLOCK_MONOTONIC; 0 does
 * not wait, LOOP_NEVER has no limit). */
void loop_run_once(struct loop *loop, uint64_t deadline_ns);

/* Makes loop_run() return when its turn is over.  Any thread. */
void loop_stop(struct loop *loop);

/* CLOCK_MONOTONIC. */
uint64_t loop_now_ns(void);

/* ---- Descriptors: level-triggered ---- */

struct loop_fd;
typedef void loop_fd_fn(struct loop_fd *fd, short revents);

struct loop_fd {
    /* Set by the user; 'events' may change while it is registered. */
    int fd;
    short events; /* POLLIN, POLLOUT */
    loop_fd_fn *ready;
    /* Private. */
    struct list node;
};

void loop_add_fd(struct loop *loop, struct loop_fd *fd);
void loop_remove_fd(struct loop *loop, struct loop_fd *fd);

/* ---- Timers: tens of them, not thousands ---- */

struct loop_timer;
typedef void loop_timer_fn(struct loop_timer *timer);

struct loop_timer {
    loop_timer_fn *fire;
    /* Private. */
    uint64_t deadline_ns;
    struct list node;
};

void loop_timer_init(struct loop_timer *timer, loop_timer_fn *fire);
/* Arms or re-arms; fires once, never inside this call. */
void loop_timer_set(struct loop *loop, struct loop_timer *timer,
                    uint64_t deadline_ns);
/* Harmless if it is not armed. */
void loop_timer_cancel(struct loop *loop, struct loop_timer *timer);

/* ---- Messages from other threads ---- */

struct loop_post;
typedef void loop_post_fn(struct loop_post *post);

/* Embedded in what it carries, borrowed until run(). */
struct loop_post {
    loop_post_fn *run; /* Called on the loop's thread. */
    /* Private. */
    struct list node;
};

/* Any thread, the loop's included; in order for one sender. */
void loop_post_send(struct loop *loop, struct loop_post *post);

/* ---- Runners: what uses libopenvswitch's poll loop itself ---- */

struct loop_runner;
typedef void loop_runner_fn(struct loop_runner *runner);

struct loop_runner {
    loop_runner_fn *run;  /* Does what can be done now. */
    loop_runner_fn *wait; /* Arranges to be woken for more. */
    /* Private. */
    struct list node;
};

void loop_add_runner(struct loop *loop, struct loop_runner *runner);
void loop_remove_runner(struct loop *loop, struct loop_runner *runner);

#endif /* LIB_STATE_LOOP_H */
