/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/manual_io.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "lib/base/container_of.h"

enum { WATCH_IDLE, WATCH_ON, WATCH_STOPPING };

static struct manual_io *
manual_of(struct io *io)
{
    return container_of(io, struct manual_io, io);
}

static uint64_t
manual_now_ns(struct io *io)
{
    return manual_of(io)->now_ns;
}

static void
manual_random_bytes(struct io *io, void *data, size_t size)
{
    (void)io;
    memset(data, 0x5a, size);
}

static void
manual_timer_cancel(struct io *io, struct io_timer *timer)
{
    manual_of(io)->timers[timer->heap_index - 1] = NULL;
    timer->heap_index = 0;
}

static void
manual_timer_set(struct io *io, struct io_timer *timer, uint64_t deadline_ns)
{
    struct manual_io *manual = manual_of(io);

    if (timer->heap_index != 0) {
        manual_timer_cancel(io, timer);
    }
    for (uint32_t i = 0; i < MANUAL_IO_TIMERS_MAX; i++) {
        if (manual->timers[i] == NULL) {
            manual->timers[i] = timer;
            timer->heap_index = i + 1;
            timer->deadline_ns = deadline_ns;
            return;
        }
    }
    CHECK(!"too many timers");
}

static void
manual_task_defer(struct io *io, struct io_task *task)
{
    task->queued = true;
    list_push_back(&manual_of(io)->tasks, &task->node);
}

static void
manual_task_cancel(struct io *io, struct io_task *task)
{
    (void)io;
    task->queued = false;
    list_remove(&task->node);
}

static void *
manual_arena_alloc(struct io *io, size_t size)
{
    struct manual_io *manual = manual_of(io);
    void *memory;

    CHECK(manual->arena_count < MANUAL_IO_ARENAS_MAX);
    if (posix_memalign(&memory, 4096, size) != 0) {
        return NULL;
    }
    memset(memory, 0, size);
    manual->arenas[manual->arena_count++] = memory;
    return memory;
}

static void
manual_watch_start(struct io *io, struct io_watch *watch, int fd)
{
    struct manual_io *manual = manual_of(io);
    struct epoll_event event = {
        .events = EPOLLIN | EPOLLRDHUP | EPOLLET,
        .data.ptr = watch,
    };

    CHECK(watch->state == WATCH_IDLE);
    watch->fd = fd;
    watch->state = WATCH_ON;
    list_push_back(&manual->watches, &watch->node);
    CHECK(epoll_ctl(manual->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0);
}

static void
manual_watch_stop(struct io *io, struct io_watch *watch, io_watch_fn *stopped)
{
    struct manual_io *manual = manual_of(io);

    CHECK(watch->state == WATCH_ON);
    CHECK(epoll_ctl(manual->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL) == 0);
    watch->stopped = stopped;
    watch->state = WATCH_STOPPING;
    list_remove(&watch->node);
    list_push_back(&manual->stopped, &watch->node);
}

static void
manual_poller_add(struct io *io, struct io_poller *poller)
{
    list_push_back(&manual_of(io)->pollers, &poller->node);
}

static void
manual_poller_remove(struct io *io, struct io_poller *poller)
{
    (void)io;
    list_remove(&poller->node);
}

static const struct io_vtable manual_vtable = {
    .now_ns = manual_now_ns,
    .random_bytes = manual_random_bytes,
    .timer_set = manual_timer_set,
    .timer_cancel = manual_timer_cancel,
    .task_defer = manual_task_defer,
    .task_cancel = manual_task_cancel,
    .arena_alloc = manual_arena_alloc,
    .watch_start = manual_watch_start,
    .watch_stop = manual_watch_stop,
    .poller_add = manual_poller_add,
    .poller_remove = manual_poller_remove,
};

void
manual_io_init(struct manual_io *manual)
{
    *manual = (struct manual_io){
        .io.vtable = &manual_vtable,
        .now_ns = 1000000000,
        .epoll_fd = epoll_create1(EPOLL_CLOEXEC),
    };
    CHECK(manual->epoll_fd >= 0);
    list_init(&manual->tasks);
    list_init(&manual->watches);
    list_init(&manual->stopped);
    list_init(&manual->pollers);
}

void
manual_io_done(struct manual_io *manual)
{
    CHECK(list_is_empty(&manual->tasks));
    CHECK(list_is_empty(&manual->watches));
    CHECK(list_is_empty(&manual->stopped));
    CHECK(list_is_empty(&manual->pollers));
    for (uint32_t i = 0; i < MANUAL_IO_TIMERS_MAX; i++) {
        CHECK(manual->timers[i] == NULL);
    }
    for (uint32_t i = 0; i < manual->arena_count; i++) {
        free(manual->arenas[i]);
    }
    close(manual->epoll_fd);
}

static bool
manual_run_tasks(struct manual_io *manual)
{
    struct list *node;
    bool worked = false;

    while ((node = list_pop_front(&manual->tasks)) != NULL) {
        struct io_task *task = container_of(node, struct io_task, node);
        task->queued = false;
        task->run(task);
        worked = true;
    }
    return worked;
}

bool
manual_io_turn(struct manual_io *manual)
{
    struct epoll_event events[32];
    bool worked = false;
    struct list *node;

    while ((node = list_pop_front(&manual->stopped)) != NULL) {
        struct io_watch *watch = container_of(node, struct io_watch, node);
        watch->state = WATCH_IDLE;
        if (watch->stopped != NULL) {
            watch->stopped(watch);
        }
        worked = true;
    }
    int count = epoll_wait(manual->epoll_fd, events, 32, 0);
    for (int i = 0; i < count; i++) {
        struct io_watch *watch = events[i].data.ptr;
        if (watch->state == WATCH_ON) {
            watch->ready(watch);
        }
        worked = true;
    }
    worked = manual_run_tasks(manual) || worked;
    LIST_FOREACH (poller_node, &manual->pollers) {
        struct io_poller *poller =
            container_of(poller_node, struct io_poller, node);
        (void)poller->poll(poller);
    }
    return manual_run_tasks(manual) || worked;
}

void
manual_io_settle(struct manual_io *manual)
{
    uint32_t turns = 0;

    while (manual_io_turn(manual)) {
        CHECK(++turns < 1000000);
    }
}

void
manual_io_advance(struct manual_io *manual, uint64_t ns)
{
    manual->now_ns += ns;
    for (uint32_t i = 0; i < MANUAL_IO_TIMERS_MAX; i++) {
        struct io_timer *timer = manual->timers[i];
        if (timer != NULL && timer->deadline_ns <= manual->now_ns) {
            manual_timer_cancel(&manual->io, timer);
            timer->fire(timer);
        }
    }
    manual_io_settle(manual);
}
