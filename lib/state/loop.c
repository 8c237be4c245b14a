/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/state/loop.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/container_of.h"

/* Foreign: libopenvswitch. */
#include <openvswitch/poll-loop.h>
#include <openvswitch/vlog.h>

/* libopenvswitch's poll_block() tells nobody which descriptor woke it, so
 * each turn asks poll() again, without waiting, for ours.
 *
 * Callbacks may remove anything from any list.  Whatever is about to be called
 * is therefore first moved from its home list to a private one (a remove takes
 * it off that one as well), and goes home just before its callback. */

struct loop {
    struct list fds;
    struct list timers;
    struct list runners;
    struct loop_fd wake; /* An eventfd, for posts. */

    pthread_mutex_t lock; /* Guards what follows. */
    struct list posts;
    bool is_stopped;
};

static pthread_once_t vlog_once = PTHREAD_ONCE_INIT;

static loop_fd_fn drain_wake;

/* The format of lib/base/log.h, as far as vlog's patterns can. */
static void
set_up_vlog(void)
{
    vlog_set_levels(NULL, VLF_ANY_DESTINATION, VLL_OFF);
    vlog_set_levels(NULL, VLF_CONSOLE, VLL_WARN);
    vlog_set_pattern(VLF_CONSOLE, "time=%D{%Y-%m-%dT%H:%M:%S.###Z} "
                                  "level=warning module=ovs/%c event=\"%m\"");
    /* A lost connection is the user's to report (state_status()), and a slow
     * turn of a control loop is nobody's concern. */
    free(vlog_set_levels_from_string("jsonrpc:console:err"));
    free(vlog_set_levels_from_string("reconnect:console:off"));
    free(vlog_set_levels_from_string("timeval:console:err"));
    free(vlog_set_levels_from_string("poll_loop:console:err"));
}

uint64_t
loop_now_ns(void)
{
    struct timespec now;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

int
loop_new(struct loop **ret_loop)
{
    struct loop *loop = calloc(1, sizeof *loop);
    if (loop == NULL) {
        return -ENOMEM;
    }

    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) {
        int error = -errno;
        free(loop);
        return error;
    }

    pthread_once(&vlog_once, set_up_vlog);
    list_init(&loop->fds);
    list_init(&loop->timers);
    list_init(&loop->runners);
    list_init(&loop->posts);
    CHECK(pthread_mutex_init(&loop->lock, NULL) == 0);
    loop->wake = (struct loop_fd){
        .fd = fd,
        .events = POLLIN,
        .ready = drain_wake,
    };
    loop_add_fd(loop, &loop->wake);
    *ret_loop = loop;
    return 0;
}

void
loop_free(struct loop *loop)
{
    if (loop == NULL) {
        return;
    }

    loop_remove_fd(loop, &loop->wake);
    CHECK(list_is_empty(&loop->fds));
    CHECK(list_is_empty(&loop->timers));
    CHECK(list_is_empty(&loop->runners));
    CHECK(list_is_empty(&loop->posts));
    close(loop->wake.fd);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}

/* ---- Posts ---- */

static void
wake(struct loop *loop)
{
    uint64_t one = 1;
    ssize_t written;

    do {
        written = write(loop->wake.fd, &one, sizeof one);
    } while (written < 0 && errno == EINTR);
    /* EAGAIN: the counter is full, so it is readable already. */
    CHECK(written == (ssize_t)sizeof one || errno == EAGAIN);
}

void
loop_post_send(struct loop *loop, struct loop_post *post)
{
    pthread_mutex_lock(&loop->lock);
    list_push_back(&loop->posts, &post->node);
    pthread_mutex_unlock(&loop->lock);
    wake(loop);
}

void
loop_stop(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    loop->is_stopped = true;
    pthread_mutex_unlock(&loop->lock);
    wake(loop);
}

static bool
take_stop(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    bool is_stopped = loop->is_stopped;
    loop->is_stopped = false;
    pthread_mutex_unlock(&loop->lock);
    return is_stopped;
}

/* Posts that callbacks send meanwhile wait for the next turn, so that the
 * others get theirs. */
static void
run_posts(struct loop *loop)
{
    struct list taken;
    struct list *node;

    list_init(&taken);
    pthread_mutex_lock(&loop->lock);
    list_splice_back(&taken, &loop->posts);
    pthread_mutex_unlock(&loop->lock);
    while ((node = list_pop_front(&taken)) != NULL) {
        struct loop_post *post = container_of(node, struct loop_post, node);
        post->run(post);
    }
}

/* First the eventfd, then the posts: one that is sent in between wakes the loop
 * again.  The other way round its wake-up would be drained, and it forgotten.
 */
static void
drain_wake(struct loop_fd *fd, short revents)
{
    uint64_t count;
    (void)revents;
    if (read(fd->fd, &count, sizeof count) < 0) {
        CHECK(errno == EAGAIN || errno == EINTR);
    }
    run_posts(container_of(fd, struct loop, wake));
}

/* ---- Timers ---- */

void
loop_timer_init(struct loop_timer *timer, loop_timer_fn *fire)
{
    timer->fire = fire;
    timer->deadline_ns = LOOP_NEVER;
    list_init(&timer->node);
}

void
loop_timer_set(struct loop *loop, struct loop_timer *timer,
               uint64_t deadline_ns)
{
    list_remove(&timer->node);
    timer->deadline_ns = deadline_ns;
    list_push_back(&loop->timers, &timer->node);
}

void
loop_timer_cancel(struct loop *loop, struct loop_timer *timer)
{
    (void)loop;
    list_remove(&timer->node);
}

/* Before the first that is due later: equal ones keep the order in which they
 * were set. */
static void
push_due(struct list *due, struct loop_timer *timer)
{
    LIST_FOREACH (at, due) {
        if (container_of(at, struct loop_timer, node)->deadline_ns >
            timer->deadline_ns) {
            list_push_back(at, &timer->node);
            return;
        }
    }
    list_push_back(due, &timer->node);
}

/* By deadline: a turn that comes late must not turn their order round. */
static void
run_timers(struct loop *loop)
{
    uint64_t now_ns = loop_now_ns();
    struct list due;
    struct list *node;

    list_init(&due);
    LIST_FOREACH (at, &loop->timers) {
        struct loop_timer *timer = container_of(at, struct loop_timer, node);

        if (timer->deadline_ns <= now_ns) {
            list_remove(at);
            push_due(&due, timer);
        }
    }
    while ((node = list_pop_front(&due)) != NULL) {
        struct loop_timer *timer = container_of(node, struct loop_timer, node);
        timer->fire(timer);
    }
}

/* ---- Descriptors ---- */

void
loop_add_fd(struct loop *loop, struct loop_fd *fd)
{
    CHECK(fd->fd >= 0);
    CHECK(fd->ready != NULL);
    list_push_back(&loop->fds, &fd->node);
}

void
loop_remove_fd(struct loop *loop, struct loop_fd *fd)
{
    (void)loop;
    CHECK(list_is_linked(&fd->node));
    list_remove(&fd->node);
}

static void
run_fds(struct loop *loop)
{
    struct list pending;
    struct list *node;

    list_init(&pending);
    list_splice_back(&pending, &loop->fds);
    while ((node = list_pop_front(&pending)) != NULL) {
        struct loop_fd *fd = container_of(node, struct loop_fd, node);
        struct pollfd one = { .fd = fd->fd, .events = fd->events };

        list_push_back(&loop->fds, node);
        if (poll(&one, 1, 0) > 0) {
            fd->ready(fd, one.revents);
        }
    }
}

/* ---- Runners ---- */

void
loop_add_runner(struct loop *loop, struct loop_runner *runner)
{
    list_push_back(&loop->runners, &runner->node);
}

void
loop_remove_runner(struct loop *loop, struct loop_runner *runner)
{
    (void)loop;
    CHECK(list_is_linked(&runner->node));
    list_remove(&runner->node);
}

static void
run_runners(struct loop *loop)
{
    struct list pending;
    struct list *node;

    list_init(&pending);
    list_splice_back(&pending, &loop->runners);
    while ((node = list_pop_front(&pending)) != NULL) {
        struct loop_runner *runner =
            container_of(node, struct loop_runner, node);
        list_push_back(&loop->runners, node);
        runner->run(runner);
    }
}

/* ---- The turn ---- */

static void
wait_until(uint64_t deadline_ns)
{
    uint64_t now_ns = loop_now_ns();

    if (deadline_ns == LOOP_NEVER) {
        return;
    }
    if (deadline_ns <= now_ns) {
        poll_immediate_wake();
        return;
    }
    /* Rounded up: waking early would spin. */
    uint64_t wait_ms = (deadline_ns - now_ns + 999999) / 1000000;
    poll_timer_wait(wait_ms > INT_MAX ? INT_MAX : (int)wait_ms);
}

void
loop_run_once(struct loop *loop, uint64_t deadline_ns)
{
    LIST_FOREACH (node, &loop->runners) {
        struct loop_runner *runner =
            container_of(node, struct loop_runner, node);
        runner->wait(runner);
    }
    LIST_FOREACH (node, &loop->fds) {
        struct loop_fd *fd = container_of(node, struct loop_fd, node);
        if (fd->events != 0) {
            poll_fd_wait(fd->fd, fd->events);
        }
    }
    LIST_FOREACH (node, &loop->timers) {
        wait_until(container_of(node, struct loop_timer, node)->deadline_ns);
    }
    wait_until(deadline_ns);
    poll_block();

    run_posts(loop);
    run_timers(loop);
    run_fds(loop);
    run_runners(loop);
}

void
loop_run(struct loop *loop)
{
    while (!take_stop(loop)) {
        loop_run_once(loop, LOOP_NEVER);
    }
}
