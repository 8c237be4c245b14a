/* SPDX-License-Identifier: Apache-2.0 */

/* The reactor's loop: timers, tasks, posts, mailboxes, watches, pollers, and
 * the rules (1) to (6) at the top of lib/io/io.h as far as they are its. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/base/container_of.h"
#include "lib/io/mailbox.h"
#include "lib/io/uring.h"
#include "tests/unit/uring_fixture.h"

/* ---- Timers ---- */

#define TIMERS 4000

struct timer_item {
    struct io_timer timer;
    struct timers_test *test;
    bool wanted;
    uint32_t fired;
};

struct timers_test {
    struct reactor_call call;
    struct io *io;
    struct latch latch;
    struct timer_item items[TIMERS];
    uint32_t wanted;
};

static void
timers_fire(struct io_timer *timer)
{
    struct timer_item *item = container_of(timer, struct timer_item, timer);

    CHECK(!io_timer_is_armed(timer));
    CHECK(timer->deadline_ns <= io_now_ns(item->test->io));
    CHECK(item->wanted);
    item->fired++;
    latch_add(&item->test->latch, 1);
}

static void
timers_run(struct reactor_call *call)
{
    struct timers_test *test = container_of(call, struct timers_test, call);
    uint64_t now_ns = io_now_ns(test->io);
    uint64_t seed = 7;

    for (uint32_t step = 0; step < 4 * TIMERS; step++) {
        uint32_t i = (uint32_t)(fixture_random(&seed) % TIMERS);

        if (fixture_random(&seed) % 4 == 0) {
            io_timer_cancel(test->io, &test->items[i].timer);
            test->items[i].wanted = false;
        } else {
            io_timer_set(test->io, &test->items[i].timer,
                         now_ns + fixture_random(&seed) % 100000000);
            test->items[i].wanted = true;
        }
    }
    /* In the past: fires, but not inside the call. */
    io_timer_set(test->io, &test->items[0].timer, 0);
    test->items[0].wanted = true;
    CHECK(test->items[0].fired == 0);
    for (uint32_t i = 0; i < TIMERS; i++) {
        test->wanted += test->items[i].wanted;
    }
}

static void
test_timers(void **state)
{
    struct reactor *reactor = fixture_reactor(NULL);
    struct timers_test *test = calloc(1, sizeof(*test));

    (void)state;
    assert_non_null(test);
    latch_init(&test->latch);
    test->io = reactor_io(reactor);
    for (uint32_t i = 0; i < TIMERS; i++) {
        io_timer_init(&test->items[i].timer, timers_fire);
        test->items[i].test = test;
    }
    fixture_run(reactor, &test->call, timers_run);
    latch_wait(&test->latch, test->wanted);
    reactor_stop(reactor); /* CHECKs that none is armed. */
    for (uint32_t i = 0; i < TIMERS; i++) {
        assert_int_equal(test->items[i].fired, test->items[i].wanted);
    }
    reactor_free(reactor);
    latch_done(&test->latch);
    free(test);
}

/* ---- Tasks ---- */

struct tasks_test {
    struct reactor_call call;
    struct io *io;
    struct latch latch;
    struct io_task tasks[4];
    char order[64];
    uint32_t spins;
};

static void
task_note(struct tasks_test *test, char letter)
{
    size_t length = strlen(test->order);

    CHECK(length + 1 < sizeof(test->order));
    test->order[length] = letter;
}

static void
task_a(struct io_task *task)
{
    struct tasks_test *test = container_of(task, struct tasks_test, tasks[0]);

    task_note(test, 'a');
    /* Its place is behind those that are queued. */
    io_task_defer(test->io, &test->tasks[3]);
    io_task_cancel(test->io, &test->tasks[2]);
}

static void
task_b(struct io_task *task)
{
    task_note(container_of(task, struct tasks_test, tasks[1]), 'b');
}

static void
task_c(struct io_task *task)
{
    task_note(container_of(task, struct tasks_test, tasks[2]), 'c');
}

static void
task_d(struct io_task *task)
{
    struct tasks_test *test = container_of(task, struct tasks_test, tasks[3]);

    /* For ever would not starve the loop; a thousand turns must do. */
    if (test->spins++ < 1000) {
        io_task_defer(test->io, task);
        return;
    }
    task_note(test, 'd');
    latch_add(&test->latch, 1);
}

static void
tasks_run(struct reactor_call *call)
{
    struct tasks_test *test = container_of(call, struct tasks_test, call);

    io_task_cancel(test->io, &test->tasks[1]); /* Harmless. */
    io_task_defer(test->io, &test->tasks[0]);
    io_task_defer(test->io, &test->tasks[1]);
    io_task_defer(test->io, &test->tasks[0]); /* Harmless. */
    io_task_defer(test->io, &test->tasks[2]);
    CHECK(test->order[0] == '\0');
}

static void
test_tasks(void **state)
{
    struct reactor *reactor = fixture_reactor(NULL);
    struct tasks_test test = { .io = reactor_io(reactor) };

    (void)state;
    latch_init(&test.latch);
    io_task_init(&test.tasks[0], task_a);
    io_task_init(&test.tasks[1], task_b);
    io_task_init(&test.tasks[2], task_c);
    io_task_init(&test.tasks[3], task_d);
    fixture_run(reactor, &test.call, tasks_run);
    latch_wait(&test.latch, 1);
    reactor_free(reactor);
    assert_string_equal(test.order, "abd");
    latch_done(&test.latch);
}

/* ---- Posts ---- */

#define POSTS_TOTAL (FIXTURE_TSAN ? 200000U : 1000000U)
#define POSTS_FLYING 256
#define POSTS_FOREIGN 50000

struct side {
    struct io *io;
    struct side *other;
    struct latch *latch;
    uint64_t sent;
    uint64_t expected;
    uint64_t foreign_expected;
};

struct ball {
    struct io_post post;
    struct side *to;
    uint64_t number;
};

struct foreign {
    struct io_post post;
    struct side *to;
    uint64_t number;
};

static void ball_arrived(struct io_post *post);

static void
ball_throw(struct ball *ball, struct side *from)
{
    ball->to = from->other;
    ball->number = from->sent++;
    ball->post.run = ball_arrived;
    io_post_send(from->io, from->other->io, &ball->post);
}

static void
ball_arrived(struct io_post *post)
{
    struct ball *ball = container_of(post, struct ball, post);
    struct side *side = ball->to;

    CHECK(ball->number == side->expected); /* Order is kept. */
    side->expected++;
    if (side->sent < POSTS_TOTAL / 2) {
        ball_throw(ball, side);
    } else {
        latch_add(side->latch, 1);
    }
}

static void
foreign_arrived(struct io_post *post)
{
    struct foreign *foreign = container_of(post, struct foreign, post);

    CHECK(foreign->number == foreign->to->foreign_expected);
    foreign->to->foreign_expected++;
    latch_add(foreign->to->latch, 1);
}

struct kick {
    struct reactor_call call;
    struct side *side;
    struct ball balls[POSTS_FLYING];
};

static void
kick_run(struct reactor_call *call)
{
    struct kick *kick = container_of(call, struct kick, call);

    for (uint32_t i = 0; i < POSTS_FLYING; i++) {
        ball_throw(&kick->balls[i], kick->side);
    }
}

static void
test_posts(void **state)
{
    struct reactor *reactors[2] = { fixture_reactor(NULL),
                                    fixture_reactor(NULL) };
    static struct side sides[2];
    static struct kick kicks[2];
    struct foreign *foreign = calloc(POSTS_FOREIGN, sizeof(*foreign));
    struct latch latch;

    (void)state;
    assert_non_null(foreign);
    latch_init(&latch);
    for (uint32_t i = 0; i < 2; i++) {
        sides[i] = (struct side){ .io = reactor_io(reactors[i]),
                                  .other = &sides[1 - i],
                                  .latch = &latch };
        kicks[i].side = &sides[i];
    }
    fixture_run(reactors[0], &kicks[0].call, kick_run);
    fixture_run(reactors[1], &kicks[1].call, kick_run);
    for (uint32_t i = 0; i < POSTS_FOREIGN; i++) {
        foreign[i].to = &sides[0];
        foreign[i].number = i;
        foreign[i].post.run = foreign_arrived;
        io_post_send(NULL, sides[0].io, &foreign[i].post);
    }
    latch_wait(&latch, 2 * POSTS_FLYING + POSTS_FOREIGN);
    reactor_stop(reactors[0]);
    reactor_stop(reactors[1]);
    assert_int_equal(sides[0].expected + sides[1].expected,
                     sides[0].sent + sides[1].sent);
    assert_int_equal(sides[0].foreign_expected, POSTS_FOREIGN);
    reactor_free(reactors[0]);
    reactor_free(reactors[1]);
    free(foreign);
    latch_done(&latch);
}

/* One ball: each throw must wake a sleeping reactor. */
static void
test_posts_wake(void **state)
{
    struct reactor *reactors[2] = { fixture_reactor(NULL),
                                    fixture_reactor(NULL) };
    static struct side sides[2];
    static struct kick kick;
    struct reactor_info info;
    struct latch latch;

    (void)state;
    latch_init(&latch);
    for (uint32_t i = 0; i < 2; i++) {
        sides[i] = (struct side){ .io = reactor_io(reactors[i]),
                                  .other = &sides[1 - i],
                                  .latch = &latch,
                                  .sent = POSTS_TOTAL / 2 - 5000,
                                  .expected = POSTS_TOTAL / 2 - 5000 };
    }
    kick.side = &sides[0];
    fixture_run(reactors[0], &kick.call, kick_run);
    latch_wait(&latch, POSTS_FLYING);
    info = fixture_info(reactors[0]);
    assert_true(info.wakes > 0);
    reactor_stop(reactors[0]);
    reactor_stop(reactors[1]);
    reactor_free(reactors[0]);
    reactor_free(reactors[1]);
    latch_done(&latch);
}

/* ---- Mailbox ---- */

struct letter {
    struct io_post post;
    struct letters *letters;
    uint32_t number;
};

#define LETTERS 20000

struct letters {
    struct reactor_call call;
    struct mailbox box;
    uint32_t expected;
    struct letter items[LETTERS];
};

static void
letter_read(struct io_post *post)
{
    struct letter *letter = container_of(post, struct letter, post);

    CHECK(letter->number == letter->letters->expected);
    letter->letters->expected++;
}

static void
letters_write(struct io_post *post)
{
    struct letter *first = container_of(post, struct letter, post);
    struct letters *letters = first->letters;

    for (uint32_t i = 0; i < LETTERS; i++) {
        letters->items[i].letters = letters;
        letters->items[i].number = i;
        letters->items[i].post.run = letter_read;
        mailbox_send(&letters->box, &letters->items[i].post);
    }
}

static void
test_mailbox(void **state)
{
    struct reactor *reactor = fixture_reactor(NULL);
    struct letters *letters = calloc(1, sizeof(*letters));
    struct letter start = { .letters = letters,
                            .post = { .run = letters_write } };
    size_t run = 0;

    (void)state;
    assert_non_null(letters);
    assert_int_equal(mailbox_init(&letters->box), 0);
    assert_int_equal(mailbox_drain(&letters->box), 0);
    io_post_send(NULL, reactor_io(reactor), &start.post);
    while (run < LETTERS) {
        struct pollfd fd = { .fd = mailbox_fd(&letters->box),
                             .events = POLLIN };

        assert_int_equal(poll(&fd, 1, 60000), 1);
        run += mailbox_drain(&letters->box);
    }
    assert_int_equal(letters->expected, LETTERS);
    reactor_free(reactor);
    mailbox_done(&letters->box);
    free(letters);
}

/* ---- Watches ---- */

struct watch_test {
    struct reactor_call call;
    struct io *io;
    struct io_watch watch;
    struct latch ready;
    struct latch stopped;
    int fd;
    bool over;
};

static void
watch_ready(struct io_watch *watch)
{
    struct watch_test *test = container_of(watch, struct watch_test, watch);
    uint64_t value = 0;

    CHECK(!test->over);
    if (read(test->fd, &value, sizeof(value)) < 0) {
        CHECK(errno == EAGAIN || errno == EBADF);
        value = errno == EBADF;
    }
    if (value > 0) {
        latch_add(&test->ready, value);
    }
}

static void
watch_stopped(struct io_watch *watch)
{
    struct watch_test *test = container_of(watch, struct watch_test, watch);

    CHECK(test->over);
    latch_add(&test->stopped, 1);
}

static void
watch_begin(struct reactor_call *call)
{
    struct watch_test *test = container_of(call, struct watch_test, call);

    test->watch.ready = watch_ready;
    io_watch_start(test->io, &test->watch, test->fd);
}

static void
watch_end(struct reactor_call *call)
{
    struct watch_test *test = container_of(call, struct watch_test, call);

    test->over = true;
    io_watch_stop(test->io, &test->watch, watch_stopped);
    close(test->fd);
}

/* Starts and stops before the kernel has heard of it. */
static void
watch_begin_end(struct reactor_call *call)
{
    watch_begin(call);
    watch_end(call);
}

static void
test_watch(void **state)
{
    struct reactor *reactor = fixture_reactor(NULL);
    struct watch_test test = { .io = reactor_io(reactor) };

    (void)state;
    latch_init(&test.ready);
    latch_init(&test.stopped);
    test.fd = eventfd(3, EFD_NONBLOCK | EFD_CLOEXEC);
    fixture_run(reactor, &test.call, watch_begin);
    latch_wait(&test.ready, 3); /* Was readable before. */
    for (uint32_t i = 0; i < 200; i++) {
        uint64_t one = 1;

        assert_int_equal(write(test.fd, &one, sizeof(one)), sizeof(one));
        latch_wait(&test.ready, 1);
    }
    fixture_run(reactor, &test.call, watch_end);
    latch_wait(&test.stopped, 1);

    test.over = false;
    test.fd = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);
    fixture_run(reactor, &test.call, watch_begin_end);
    latch_wait(&test.stopped, 1);

    /* A descriptor that is none: ready() once, and stop works. */
    test.over = false;
    test.fd = 1 << 20;
    fixture_run(reactor, &test.call, watch_begin);
    latch_wait(&test.ready, 1);
    fixture_run(reactor, &test.call, watch_end);
    latch_wait(&test.stopped, 1);

    reactor_free(reactor);
    latch_done(&test.ready);
    latch_done(&test.stopped);
}

/* ---- Pollers ---- */

struct poller_test {
    struct reactor_call call;
    struct io *io;
    struct io_poller poller;
    struct latch latch;
    uint32_t polls;
    uint32_t polls_at_work;
};

static bool
poller_poll(struct io_poller *poller)
{
    struct poller_test *test = container_of(poller, struct poller_test, poller);

    test->polls++;
    if (test->polls == 100) {
        latch_add(&test->latch, 1);
    }
    if (test->polls == 50) {
        return true;
    }
    return false;
}

static void
poller_begin(struct reactor_call *call)
{
    struct poller_test *test = container_of(call, struct poller_test, call);

    test->poller.poll = poller_poll;
    test->poller.spin_ns = 2000000000ULL;
    io_poller_add(test->io, &test->poller);
}

static void
poller_end(struct reactor_call *call)
{
    struct poller_test *test = container_of(call, struct poller_test, call);

    io_poller_remove(test->io, &test->poller);
}

static void
test_poller(void **state)
{
    struct reactor *reactor = fixture_reactor(NULL);
    struct poller_test test = { .io = reactor_io(reactor) };
    struct reactor_info before;
    struct reactor_info after;

    (void)state;
    latch_init(&test.latch);
    before = fixture_info(reactor);
    fixture_run(reactor, &test.call, poller_begin);
    latch_wait(&test.latch, 1);
    after = fixture_info(reactor);
    fixture_run(reactor, &test.call, poller_end);
    /* It spun, and without a system call each turn. */
    assert_true(after.turns - before.turns >= 100);
    assert_true(after.enters - before.enters < after.turns - before.turns);
    reactor_free(reactor);
    latch_done(&test.latch);
}

/* ---- Small things ---- */

struct small_test {
    struct reactor_call call;
    struct io *io;
    uint8_t *memory[3];
    uint64_t numbers[1000];
    uint8_t bytes[1000];
};

static void
small_run(struct reactor_call *call)
{
    struct small_test *test = container_of(call, struct small_test, call);

    test->memory[0] = io_arena_alloc(test->io, 1);
    test->memory[1] = io_arena_alloc(test->io, (2U << 20) - 4096);
    test->memory[2] = io_arena_alloc(test->io, 1);
    CHECK(io_arena_alloc(test->io, SIZE_MAX) == NULL);
    CHECK(io_arena_alloc(test->io, 0) == NULL);
    for (uint32_t i = 0; i < 1000; i++) {
        test->numbers[i] = io_random_u64(test->io);
    }
    io_random_bytes(test->io, test->bytes, sizeof(test->bytes));
}

static void
test_arena_and_chance(void **state)
{
    struct reactor *reactor = fixture_reactor(NULL);
    struct small_test *test = calloc(1, sizeof(*test));
    uint32_t zeroes = 0;

    (void)state;
    assert_non_null(test);
    test->io = reactor_io(reactor);
    fixture_run(reactor, &test->call, small_run);
    assert_non_null(test->memory[0]);
    assert_int_equal((uintptr_t)test->memory[0] % 4096, 0);
    assert_int_equal(test->memory[0][0], 0);
    assert_ptr_equal(test->memory[1], test->memory[0] + 4096);
    assert_null(test->memory[2]);
    for (uint32_t i = 1; i < 1000; i++) {
        assert_int_not_equal(test->numbers[i], test->numbers[i - 1]);
        zeroes += test->bytes[i] == 0;
    }
    assert_true(zeroes < 50);
    reactor_free(reactor);
    free(test);
}

static void
test_options(void **state)
{
    struct reactor_options options;
    struct reactor *reactor = NULL;

    (void)state;
    reactor_options_init(&options);
    options.ring_entries = 33;
    assert_int_equal(reactor_new(&options, &reactor), -EINVAL);
    reactor_options_init(&options);
    options.recv_buffer_count = 65536;
    assert_int_equal(reactor_new(&options, &reactor), -EINVAL);
    reactor_options_init(&options);
    options.conns_max = 0;
    assert_int_equal(reactor_new(&options, &reactor), -EINVAL);
    assert_null(reactor);

    /* A processor that is not there: seen at the start, and it can be tried
     * again and freed. */
    reactor_options_init(&options);
    options.cpu = 1000;
    assert_int_equal(reactor_new(&options, &reactor), 0);
    assert_int_equal(reactor_start(reactor), -EINVAL);
    assert_int_equal(reactor_start(reactor), -EINVAL);
    reactor_free(reactor);

    reactor_options_init(&options);
    options.cpu = 0;
    options.arena_bytes = 0;
    assert_int_equal(reactor_new(&options, &reactor), 0);
    assert_int_equal(reactor_start(reactor), 0);
    reactor_stop(reactor);
    reactor_stop(reactor); /* Harmless. */
    assert_int_equal(reactor_start(reactor), -EALREADY);
    reactor_free(reactor);
    reactor_free(NULL);
}

/* ---- What must abort ---- */

static void
die_armed(struct reactor_call *call)
{
    struct timers_test *test = container_of(call, struct timers_test, call);

    io_timer_init(&test->items[0].timer, timers_fire);
    io_timer_set(test->io, &test->items[0].timer, IO_NEVER - 1);
}

static void
die_stop_with_timer(void)
{
    struct reactor *reactor = fixture_reactor(NULL);
    static struct timers_test test;

    test.io = reactor_io(reactor);
    fixture_run(reactor, &test.call, die_armed);
    reactor_free(reactor);
}

static void
die_wrong_thread(void)
{
    struct reactor *reactor = fixture_reactor(NULL);

    (void)io_now_ns(reactor_io(reactor));
}

static void
test_programmer_errors(void **state)
{
    (void)state;
    if (FIXTURE_TSAN) {
        return; /* It does not like threads after a fork. */
    }
    assert_true(fixture_aborts(die_stop_with_timer));
    assert_true(fixture_aborts(die_wrong_thread));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timers),
        cmocka_unit_test(test_tasks),
        cmocka_unit_test(test_posts),
        cmocka_unit_test(test_posts_wake),
        cmocka_unit_test(test_mailbox),
        cmocka_unit_test(test_watch),
        cmocka_unit_test(test_poller),
        cmocka_unit_test(test_arena_and_chance),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_programmer_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
