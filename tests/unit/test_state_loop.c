/* SPDX-License-Identifier: Apache-2.0 */
/* The control loop: timers, descriptors, posts from other threads, and
 * callbacks that take things away, themselves included. */

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/base/container_of.h"
#include "lib/state/loop.h"
#include "tests/unit/unit.h"

struct world {
    struct loop *loop;
    struct loop_timer timers[3];
    struct loop_fd fds[2];
    unsigned fired, ready, posted;
    unsigned order[8];
};

static struct world world;

static int
setup(void **unused)
{
    (void)unused;
    world = (struct world){ 0 };
    return loop_new(&world.loop);
}

static int
teardown(void **unused)
{
    (void)unused;
    loop_free(world.loop);
    return 0;
}

/* ---- Timers ---- */

static void
note_timer(struct loop_timer *timer)
{
    world.order[world.fired++] = (unsigned)(timer - world.timers);
}

static void
cancel_the_others(struct loop_timer *timer)
{
    note_timer(timer);
    for (unsigned i = 0; i < 3; i++) {
        loop_timer_cancel(world.loop, &world.timers[i]);
    }
}

static void
test_timers(void **unused)
{
    uint64_t now_ns = loop_now_ns();
    (void)unused;
    for (unsigned i = 0; i < 3; i++) {
        loop_timer_init(&world.timers[i], note_timer);
        loop_timer_cancel(world.loop, &world.timers[i]); /* Harmless. */
    }
    loop_timer_set(world.loop, &world.timers[0], now_ns + 20000000);
    loop_timer_set(world.loop, &world.timers[1], now_ns + 5000000);
    loop_timer_set(world.loop, &world.timers[2], LOOP_NEVER);
    while (world.fired < 2) {
        loop_run_once(world.loop, now_ns + UINT64_C(10000000000));
    }
    assert_true(loop_now_ns() >= now_ns + 20000000);
    assert_int_equal(world.order[0], 1);
    assert_int_equal(world.order[1], 0);
    loop_timer_cancel(world.loop, &world.timers[2]);

    /* Two are due; the first takes the other away. */
    for (unsigned i = 0; i < 3; i++) {
        world.timers[i].fire = cancel_the_others;
        loop_timer_set(world.loop, &world.timers[i], now_ns);
    }
    loop_run_once(world.loop, 0);
    loop_run_once(world.loop, 0);
    assert_int_equal(world.fired, 3);
}

/* A turn that comes too late for several fires them by deadline, whatever the
 * order in which they were set; equal ones in that order. */
static void
test_timers_late(void **unused)
{
    uint64_t now_ns = loop_now_ns();
    (void)unused;
    for (unsigned i = 0; i < 3; i++) {
        loop_timer_init(&world.timers[i], note_timer);
    }
    loop_timer_set(world.loop, &world.timers[0], now_ns);
    loop_timer_set(world.loop, &world.timers[2], now_ns - 2);
    loop_timer_set(world.loop, &world.timers[1], now_ns - 2);
    loop_run_once(world.loop, 0);
    assert_int_equal(world.fired, 3);
    assert_int_equal(world.order[0], 2);
    assert_int_equal(world.order[1], 1);
    assert_int_equal(world.order[2], 0);
}

/* ---- Descriptors ---- */

static void
take_both_away(struct loop_fd *fd, short revents)
{
    (void)fd;
    assert_true((revents & POLLIN) != 0);
    world.ready++;
    loop_remove_fd(world.loop, &world.fds[0]);
    loop_remove_fd(world.loop, &world.fds[1]);
}

static void
test_descriptors(void **unused)
{
    int ends[2];
    (void)unused;
    assert_int_equal(pipe(ends), 0);
    for (unsigned i = 0; i < 2; i++) {
        world.fds[i] = (struct loop_fd){
            .fd = ends[0],
            .events = POLLIN,
            .ready = take_both_away,
        };
        loop_add_fd(world.loop, &world.fds[i]);
    }
    loop_run_once(world.loop, 0);
    assert_int_equal(world.ready, 0);
    assert_int_equal(write(ends[1], "x", 1), 1);
    loop_run_once(world.loop, LOOP_NEVER);
    assert_int_equal(world.ready, 1); /* Not also the one that is gone. */
    loop_run_once(world.loop, 0);
    assert_int_equal(world.ready, 1);
    close(ends[0]);
    close(ends[1]);
}

/* ---- Other threads ---- */

enum { THREADS = 3, POSTS = 2000 };

struct parcel {
    struct loop_post post;
    unsigned thread, number;
};

static unsigned next_number[THREADS];

static void
take_parcel(struct loop_post *post)
{
    struct parcel *parcel = container_of(post, struct parcel, post);
    assert_int_equal(parcel->number, next_number[parcel->thread]++);
    if (++world.posted == THREADS * POSTS) {
        loop_stop(world.loop);
    }
    free(parcel);
}

static void *
send_parcels(void *thread)
{
    for (unsigned i = 0; i < POSTS; i++) {
        struct parcel *parcel = calloc(1, sizeof *parcel);
        if (parcel == NULL) {
            abort();
        }
        parcel->post.run = take_parcel;
        parcel->thread = *(const unsigned *)thread;
        parcel->number = i;
        loop_post_send(world.loop, &parcel->post);
    }
    return NULL;
}

static void
test_posts_from_threads(void **unused)
{
    pthread_t threads[THREADS];
    unsigned numbers[THREADS];
    (void)unused;
    for (unsigned i = 0; i < THREADS; i++) {
        numbers[i] = i;
        next_number[i] = 0;
        assert_int_equal(pthread_create(&threads[i], NULL, send_parcels,
                                        &numbers[i]),
                         0);
    }
    loop_run(world.loop); /* Sleeps without limit: no wake-up is lost. */
    assert_int_equal(world.posted, THREADS * POSTS);
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    /* A stop before the run counts, once. */
    loop_stop(world.loop);
    loop_run(world.loop);
    loop_run_once(world.loop, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_timers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timers_late, setup, teardown),
        cmocka_unit_test_setup_teardown(test_descriptors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_posts_from_threads, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
