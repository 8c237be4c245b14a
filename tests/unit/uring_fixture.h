/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_URING_FIXTURE_H
#define TESTS_UNIT_URING_FIXTURE_H

/* What the tests of the reactor share: a reactor, functions run on its thread,
 * and latches by which the test thread waits for it.  A latch that is not
 * opened in a minute fails the test: nothing here sleeps. */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/io/io.h"
#include "lib/io/uring.h"

#if defined(__SANITIZE_THREAD__)
#define FIXTURE_TSAN 1
#else
#define FIXTURE_TSAN 0
#endif

struct latch {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t count;
};

void latch_init(struct latch *latch);
void latch_done(struct latch *latch);
/* Any thread. */
void latch_add(struct latch *latch, uint64_t count);
/* Waits for 'count', and takes them away. */
void latch_wait(struct latch *latch, uint64_t count);

/* A started reactor with small limits; 'change' (may be NULL) alters them. */
struct reactor *fixture_reactor(void (*change)(struct reactor_options *));

/* Runs 'call' on the reactor's thread and waits for its return. */
void fixture_run(struct reactor *reactor, struct reactor_call *call,
                 reactor_call_fn *run);

struct reactor_info fixture_info(struct reactor *reactor);

/* xorshift64*: the same numbers in every run. */
uint64_t fixture_random(uint64_t *state);
/* The byte at 'position' of the stream that tests send. */
uint8_t fixture_byte(uint64_t position);

/* Forks; true if 'body' is ended by SIGABRT, as by CHECK(). */
bool fixture_aborts(void (*body)(void));

#endif /* TESTS_UNIT_URING_FIXTURE_H */
