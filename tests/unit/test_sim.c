/* SPDX-License-Identifier: Apache-2.0 */

/* The world of the simulator (lib/io/sim.h): time, chance, lives, memory. */

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/base/array.h"
#include "lib/base/container_of.h"
#include "lib/base/units.h"
#include "lib/io/sim.h"

/* ---- A host whose boot is the test's own ---- */

struct host;
typedef void host_boot_fn(struct host *host);

struct host {
    struct sim_program program;
    struct sim *sim;
    struct sim_node *node;
    struct io *io;
    host_boot_fn *setup;
    unsigned boots, crashes;
};

static void
host_boot(struct sim_program *program, struct sim_node *node, struct io *io)
{
    struct host *host = container_of(program, struct host, program);

    host->node = node;
    host->io = io;
    host->boots++;
    if (host->setup != NULL) {
        host->setup(host);
    }
}

static void
host_crashed(struct sim_program *program, struct sim_node *node)
{
    struct host *host = container_of(program, struct host, program);

    (void)node;
    host->io = NULL;
    host->crashes++;
}

static void
host_init(struct host *host, struct sim *sim, const char *name)
{
    host->program =
        (struct sim_program){ .boot = host_boot, .crashed = host_crashed };
    host->sim = sim;
    host->node = sim_node_add(sim, name);
    sim_node_start(host->node, &host->program);
}

/* ---- Timers, tasks, posts ---- */

struct clockwork {
    struct host host;
    struct io_timer timers[100];
    struct io_task tasks[3];
    struct io_post posts[10];
    uint64_t fired_at_ns[100];
    unsigned fired, ran, posted;
    unsigned order[100];
    bool is_early;
};

/* The one of the running test: its arrays tell the index of a member. */
static struct clockwork *clockwork;

static void
timer_fired(struct io_timer *timer)
{
    struct clockwork *c = clockwork;
    unsigned index = (unsigned)(timer - c->timers);
    uint64_t now_ns = io_now_ns(c->host.io);

    c->is_early |= now_ns < timer->deadline_ns;
    assert_false(io_timer_is_armed(timer));
    c->fired_at_ns[index] = now_ns;
    c->order[c->fired++] = index;
}

static void
clockwork_setup(struct clockwork *c, uint64_t seed)
{
    memset(c, 0, sizeof *c);
    clockwork = c;
    host_init(&c->host, sim_new(seed, NULL), "a");
    for (unsigned i = 0; i < ARRAY_COUNT(c->timers); i++) {
        io_timer_init(&c->timers[i], timer_fired);
    }
}

static void
test_timers_fire_in_order_and_not_early(void **state)
{
    struct clockwork c;

    (void)state;
    for (uint64_t seed = 0; seed < 30; seed++) {
        clockwork_setup(&c, seed);
        struct rng rng;
        uint64_t now_ns = io_now_ns(c.host.io);
        sim_rng_init(c.host.sim, "test", 0, &rng);
        for (unsigned i = 0; i < 100; i++) {
            io_timer_set(c.host.io, &c.timers[i],
                         now_ns + rng_below(&rng, NS_PER_S));
        }
        for (unsigned i = 0; i < 100; i += 3) {
            io_timer_set(c.host.io, &c.timers[i],
                         now_ns + rng_below(&rng, NS_PER_S));
        }
        for (unsigned i = 0; i < 100; i += 10) {
            io_timer_cancel(c.host.io, &c.timers[i]);
            io_timer_cancel(c.host.io, &c.timers[i]);
        }
        assert_int_equal(c.fired, 0);
        sim_run_for(c.host.sim, 2 * NS_PER_S);
        assert_int_equal(c.fired, 90);
        assert_false(c.is_early);
        for (unsigned i = 1; i < c.fired; i++) {
            assert_true(c.timers[c.order[i - 1]].deadline_ns <=
                        c.timers[c.order[i]].deadline_ns);
        }
        for (unsigned i = 0; i < c.fired; i++) {
            uint64_t late =
                c.fired_at_ns[c.order[i]] - c.timers[c.order[i]].deadline_ns;
            assert_true(late < 30 * NS_PER_MS);
        }
        sim_free(c.host.sim);
    }
}

static void
test_a_past_deadline_fires_later_not_inside(void **state)
{
    struct clockwork c;

    (void)state;
    clockwork_setup(&c, 1);
    io_timer_set(c.host.io, &c.timers[0], 0);
    assert_int_equal(c.fired, 0);
    assert_true(io_timer_is_armed(&c.timers[0]));
    sim_run_for(c.host.sim, 10 * NS_PER_MS);
    assert_int_equal(c.fired, 1);
    sim_free(c.host.sim);
}

static void
task_second(struct io_task *task)
{
    (void)task;
    clockwork->order[clockwork->ran++] = 2;
}

static void
task_first(struct io_task *task)
{
    (void)task;
    clockwork->order[clockwork->ran++] = 1;
    io_task_defer(clockwork->host.io, &clockwork->tasks[1]);
}

static void
task_never(struct io_task *task)
{
    (void)task;
    clockwork->order[clockwork->ran++] = 3;
}

static void
test_tasks_run_once_in_order_in_one_turn(void **state)
{
    struct clockwork c;

    (void)state;
    clockwork_setup(&c, 1);
    io_task_init(&c.tasks[0], task_first);
    io_task_init(&c.tasks[1], task_second);
    io_task_init(&c.tasks[2], task_never);
    io_task_defer(c.host.io, &c.tasks[0]);
    io_task_defer(c.host.io, &c.tasks[0]);
    io_task_defer(c.host.io, &c.tasks[2]);
    io_task_cancel(c.host.io, &c.tasks[2]);
    assert_int_equal(c.ran, 0);
    assert_true(sim_step(c.host.sim));
    assert_int_equal(c.ran, 2);
    assert_int_equal(c.order[0], 1);
    assert_int_equal(c.order[1], 2);
    assert_false(sim_step(c.host.sim));
    sim_free(c.host.sim);
}

static void
post_ran(struct io_post *post)
{
    unsigned index = (unsigned)(post - clockwork->posts);
    clockwork->order[clockwork->posted++] = index;
}

static void
test_posts_keep_their_order(void **state)
{
    struct clockwork c;
    struct host other = { .setup = NULL };

    (void)state;
    clockwork_setup(&c, 1);
    host_init(&other, c.host.sim, "b");
    for (unsigned i = 0; i < 10; i++) {
        c.posts[i].run = post_ran;
        io_post_send(i % 2 == 0 ? c.host.io : NULL, other.io, &c.posts[i]);
    }
    assert_int_equal(c.posted, 0);
    sim_run_for(c.host.sim, NS_PER_S);
    assert_int_equal(c.posted, 10);
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(c.order[i], i);
    }
    /* A post of a dead life is never run. */
    io_post_send(c.host.io, other.io, &c.posts[0]);
    sim_node_crash(c.host.node, SIM_CRASH_PROCESS);
    sim_run_for(c.host.sim, NS_PER_S);
    assert_int_equal(c.posted, 10);
    sim_free(c.host.sim);
}

static void
test_clocks_differ(void **state)
{
    struct sim *sim = sim_new(1, NULL);
    struct host a = { .setup = NULL };
    struct host b = { .setup = NULL };

    (void)state;
    host_init(&a, sim, "a");
    host_init(&b, sim, "b");
    uint64_t a_ns = io_now_ns(a.io);
    uint64_t b_ns = io_now_ns(b.io);
    assert_int_not_equal(a_ns, b_ns);
    sim_run_for(sim, 1000 * NS_PER_S);
    a_ns = io_now_ns(a.io) - a_ns;
    b_ns = io_now_ns(b.io) - b_ns;
    assert_int_not_equal(a_ns, b_ns);
    assert_in_range(a_ns, 999900 * NS_PER_MS, 1000100 * NS_PER_MS);
    assert_in_range(b_ns, 999900 * NS_PER_MS, 1000100 * NS_PER_MS);
    sim_free(sim);
}

struct flag_alarm {
    struct sim_alarm alarm;
    bool is_set;
};

static void
alarm_sets_flag(struct sim_alarm *alarm)
{
    container_of(alarm, struct flag_alarm, alarm)->is_set = true;
}

static void
test_alarms_and_running(void **state)
{
    struct sim *sim = sim_new(1, NULL);
    struct flag_alarm a = { .alarm = { .fire = alarm_sets_flag } };
    struct flag_alarm b = { .alarm = { .fire = alarm_sets_flag } };
    uint64_t now_ns = sim_now_ns(sim);

    (void)state;
    sim_alarm_set(sim, &a.alarm, now_ns + 50);
    sim_alarm_set(sim, &b.alarm, now_ns + 100);
    assert_false(sim_run_until_set(sim, &b.is_set, 70));
    assert_true(a.is_set);
    assert_int_equal(sim_now_ns(sim), now_ns + 70);
    sim_alarm_cancel(&b.alarm);
    sim_alarm_cancel(&b.alarm);
    assert_false(sim_run_until_set(sim, &b.is_set, 70));
    sim_alarm_set(sim, &b.alarm, 0); /* The past is now. */
    assert_true(sim_run_until_set(sim, &b.is_set, 0));
    sim_alarm_set(sim, &a.alarm, IO_NEVER);
    sim_free(sim);
}

/* ---- Memory of lives (2) ---- */

static void
setup_allocates(struct host *host)
{
    char *text = strdup("gone with the life");
    void *data = malloc(100000);
    void *aligned = NULL;

    assert_non_null(text);
    assert_non_null(data);
    assert_int_equal(posix_memalign(&aligned, 4096, 8192), 0);
    data = realloc(data, 200000);
    assert_non_null(data);
    assert_non_null(calloc(10, 10));
    assert_non_null(sim_node_alloc(host->io, 50));
    free(malloc(10));
    free(text);
    uint8_t *arena = io_arena_alloc(host->io, 10000);
    assert_non_null(arena);
    assert_int_equal((uintptr_t)arena % 4096, 0);
    assert_int_equal(arena[9999], 0);
}

/* AddressSanitizer is the judge: nothing may leak. */
static void
test_memory_goes_with_the_life(void **state)
{
    struct sim *sim = sim_new(1, NULL);
    struct host host = { .setup = setup_allocates };
    struct sim_holdings holdings;

    (void)state;
    host_init(&host, sim, "a");
    sim_node_holdings(host.node, &holdings);
    assert_int_equal(holdings.heap_count, 3);
    assert_int_equal(holdings.heap_bytes, 200000 + 8192 + 100);
    sim_node_crash(host.node, SIM_CRASH_PROCESS);
    assert_int_equal(host.crashes, 1);
    sim_node_start(host.node, &host.program);
    assert_int_equal(host.boots, 2);

    sim_node_enter(host.node);
    void *of_life = malloc(10);
    sim_world_begin(sim);
    void *of_test = malloc(10);
    sim_world_end(sim);
    sim_node_leave(host.node);
    assert_non_null(of_life);
    sim_node_crash(host.node, SIM_CRASH_POWER);
    free(of_test);
    sim_free(sim);
}

static void
test_arena_has_an_end(void **state)
{
    struct sim_options options;
    struct host host = { .setup = NULL };

    (void)state;
    sim_options_default(&options);
    options.arena_bytes = 16384;
    struct sim *sim = sim_new(1, &options);
    host_init(&host, sim, "a");
    assert_non_null(io_arena_alloc(host.io, 12288));
    assert_null(io_arena_alloc(host.io, 4097));
    assert_non_null(io_arena_alloc(host.io, 1));
    assert_null(io_arena_alloc(host.io, 1));
    assert_null(io_arena_alloc(host.io, SIZE_MAX));
    sim_free(sim);
}

/* A node that crashes itself runs on without effect until it returns. */
struct suicide {
    struct host host;
    struct io_timer timer;
    struct io_task task;
    unsigned after;
};

static void
suicide_task(struct io_task *task)
{
    container_of(task, struct suicide, task)->after++;
}

static void
suicide_fire(struct io_timer *timer)
{
    struct suicide *s = container_of(timer, struct suicide, timer);
    struct io *io = s->host.io;
    char *memory = malloc(100);
    struct io_file *file;

    sim_node_crash(s->host.node, SIM_CRASH_POWER);
    assert_null(s->host.io);
    memory[99] = 1;
    io_timer_set(io, &s->timer, 0);
    io_task_defer(io, &s->task);
    assert_int_equal(io_file_open(io, "/d", IO_CACHE_AUTO, &file), -EIO);
}

static void
test_a_node_may_crash_itself(void **state)
{
    struct suicide s = { .after = 0 };

    (void)state;
    host_init(&s.host, sim_new(1, NULL), "a");
    sim_disk_add(s.host.node, "/d", MIB, true);
    io_timer_init(&s.timer, suicide_fire);
    io_task_init(&s.task, suicide_task);
    io_timer_set(s.host.io, &s.timer, 0);
    sim_run_for(s.host.sim, NS_PER_S);
    assert_int_equal(s.host.crashes, 1);
    assert_int_equal(s.after, 0);
    sim_free(s.host.sim);
}

/* ---- Misuse is caught ---- */

struct misuse {
    struct host host;
    struct io_file *file;
    struct io_file_op op;
    void *memory;
};

static void
never_done(struct io_op *op, int result)
{
    (void)op;
    (void)result;
}

static void
misuse_setup(struct misuse *m)
{
    *m = (struct misuse){ .host = { .setup = NULL } };
    host_init(&m->host, sim_new(1, NULL), "a");
    sim_disk_add(m->host.node, "/d", MIB, true);
    assert_int_equal(io_file_open(m->host.io, "/d", IO_CACHE_AUTO, &m->file),
                     0);
    m->memory = io_arena_alloc(m->host.io, 8192);
    m->op = (struct io_file_op){
        .op = { .done = never_done },
        .file = m->file,
        .kind = IO_FILE_WRITE,
        .size_bytes = 4096,
        .data = m->memory,
    };
}

static void
misuse_start_twice(void)
{
    struct misuse m;
    misuse_setup(&m);
    io_file_start(m.host.io, &m.op);
    io_file_start(m.host.io, &m.op);
}

static void
misuse_change_pending(void)
{
    struct misuse m;
    misuse_setup(&m);
    io_file_start(m.host.io, &m.op);
    m.op.offset_bytes = 4096;
    sim_run_for(m.host.sim, NS_PER_S);
}

static void
misuse_unaligned(void)
{
    struct misuse m;
    misuse_setup(&m);
    m.op.offset_bytes = 100;
    io_file_start(m.host.io, &m.op);
}

static void
misuse_close_pending(void)
{
    struct misuse m;
    misuse_setup(&m);
    io_file_start(m.host.io, &m.op);
    io_file_close(m.host.io, m.file);
}

static void
misuse_free_pending(void)
{
    struct misuse m;
    misuse_setup(&m);
    sim_node_enter(m.host.node);
    struct io_file_op *op = malloc(sizeof *op);
    *op = m.op;
    io_file_start(m.host.io, op);
    free(op);
}

static void
misuse_free_armed_timer(void)
{
    struct misuse m;
    misuse_setup(&m);
    sim_node_enter(m.host.node);
    struct io_timer *timer = malloc(sizeof *timer);
    io_timer_init(timer, timer_fired);
    io_timer_set(m.host.io, timer, UINT64_MAX - 1);
    free(timer);
}

static void
misuse_wrong_node(void)
{
    struct misuse m;
    misuse_setup(&m);
    sim_node_enter(sim_node_of(m.host.io));
    struct host other = { .setup = NULL };
    host_init(&other, m.host.sim, "b");
    io_now_ns(m.host.io);
    io_file_start(other.io, &m.op);
}

static void
misuse_closed_conn(void)
{
    struct misuse m;
    struct io_conn conn = { .impl = NULL };
    misuse_setup(&m);
    io_conn_resume(m.host.io, &conn);
}

typedef void misuse_fn(void);

static void
assert_aborts(misuse_fn *misuse)
{
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        /* Quietly: the message and the trace are expected. */
        if (freopen("/dev/null", "w", stderr) == NULL) {
            _exit(1);
        }
        signal(SIGALRM, SIG_DFL);
        alarm(20);
        misuse();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void
test_misuse_aborts(void **state)
{
    (void)state;
    assert_aborts(misuse_start_twice);
    assert_aborts(misuse_change_pending);
    assert_aborts(misuse_unaligned);
    assert_aborts(misuse_close_pending);
    assert_aborts(misuse_free_pending);
    assert_aborts(misuse_free_armed_timer);
    assert_aborts(misuse_wrong_node);
    assert_aborts(misuse_closed_conn);
}

/* ---- Trace ---- */

static void
test_trace_keeps_the_last_lines(void **state)
{
    struct sim_options options;
    char text[4096] = "";

    (void)state;
    sim_options_default(&options);
    options.trace_lines = 3;
    struct sim *sim = sim_new(77, &options);
    sim_node_add(sim, "a");
    for (int i = 0; i < 10; i++) {
        sim_trace(sim, "line %d", i);
    }
    FILE *file = fmemopen(text, sizeof text, "w");
    assert_non_null(file);
    sim_trace_dump(sim, file);
    fclose(file);
    assert_non_null(strstr(text, "seed 77"));
    assert_null(strstr(text, "line 6"));
    assert_non_null(strstr(text, "line 7"));
    assert_non_null(strstr(text, "line 9"));
    sim_free(sim);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timers_fire_in_order_and_not_early),
        cmocka_unit_test(test_a_past_deadline_fires_later_not_inside),
        cmocka_unit_test(test_tasks_run_once_in_order_in_one_turn),
        cmocka_unit_test(test_posts_keep_their_order),
        cmocka_unit_test(test_clocks_differ),
        cmocka_unit_test(test_alarms_and_running),
        cmocka_unit_test(test_memory_goes_with_the_life),
        cmocka_unit_test(test_arena_has_an_end),
        cmocka_unit_test(test_a_node_may_crash_itself),
        cmocka_unit_test(test_misuse_aborts),
        cmocka_unit_test(test_trace_keeps_the_last_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
