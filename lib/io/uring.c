/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/io/uring.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/io/uring_internal.h"

/* Making, starting, calling and ending a reactor. */

#define URING_RECV_BUFFERS_MAX 32768
#define URING_RING_ENTRIES_MAX 32768
#define URING_OBJECTS_MAX (1U << 20)

void
reactor_options_init(struct reactor_options *options)
{
    *options = (struct reactor_options){
        .name = "reactor",
        .cpu = -1,
        .ring_entries = 256,
        .file_ops_max = 1024,
        .memory_inline = true,
        .files_max = 64,
        .conns_max = 512,
        .listeners_max = 16,
        .timers_max = 1U << 20,
        .arena_bytes = 4U << 20,
        .recv_buffer_count = 128,
        .recv_buffer_bytes = 32U << 10,
        .zerocopy_min_bytes = 0,
    };
}

static bool
reactor_is_power_of_two(uint32_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

static bool
reactor_options_are_valid(const struct reactor_options *options)
{
    return reactor_is_power_of_two(options->ring_entries) &&
           options->ring_entries >= 8 &&
           options->ring_entries <= URING_RING_ENTRIES_MAX &&
           options->file_ops_max > 0 &&
           options->file_ops_max <= URING_OBJECTS_MAX &&
           options->files_max > 0 && options->files_max <= URING_OBJECTS_MAX &&
           options->conns_max > 0 && options->conns_max <= URING_OBJECTS_MAX &&
           options->listeners_max > 0 &&
           options->listeners_max <= URING_OBJECTS_MAX &&
           options->timers_max > 0 &&
           reactor_is_power_of_two(options->recv_buffer_count) &&
           options->recv_buffer_count <= URING_RECV_BUFFERS_MAX &&
           options->recv_buffer_bytes > 0 &&
           options->recv_buffer_bytes <= (1U << 30) && options->cpu >= -1 &&
           options->cpu < CPU_SETSIZE &&
           memchr(options->name, '\0', sizeof(options->name)) != NULL;
}

/* ---- Memory ---- */

/* Zeroed pages, large ones where the kernel has them; NULL if it has none. */
static uint8_t *
reactor_map(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED) {
        return NULL;
    }
    (void)madvise(memory, size, MADV_HUGEPAGE);
    return memory;
}

static void
reactor_init_lists(struct reactor *reactor)
{
    list_init(&reactor->tasks);
    list_init(&reactor->settled);
    list_init(&reactor->attention);
    list_init(&reactor->refused);
    list_init(&reactor->flush);
    list_init(&reactor->backlog);
    list_init(&reactor->inlined);
    list_init(&reactor->pollers);
    list_init(&reactor->watches);
    list_init(&reactor->watches_stopped);
    list_init(&reactor->files_free);
    list_init(&reactor->conns_free);
    list_init(&reactor->listeners_free);
}

static int
reactor_init_pools(struct reactor *reactor)
{
    const struct reactor_options *options = &reactor->options;

    reactor->files = calloc(options->files_max, sizeof(*reactor->files));
    reactor->conns = calloc(options->conns_max, sizeof(*reactor->conns));
    reactor->listeners =
        calloc(options->listeners_max, sizeof(*reactor->listeners));
    if (reactor->files == NULL || reactor->conns == NULL ||
        reactor->listeners == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < options->conns_max; i++) {
        struct uring_conn *slot = &reactor->conns[i];

        slot->reactor = reactor;
        slot->index = i;
        slot->fd = -1;
        slot->message.msg_iov = slot->iov;
        list_init(&slot->flush);
        list_init(&slot->attention);
        list_init(&slot->sends);
        list_init(&slot->notifies);
        list_push_back(&reactor->conns_free, &slot->node);
    }
    for (uint32_t i = 0; i < options->files_max; i++) {
        struct uring_file *file = &reactor->files[i];

        file->index = options->conns_max + i;
        file->fd = -1;
        list_push_back(&reactor->files_free, &file->node);
    }
    for (uint32_t i = 0; i < options->listeners_max; i++) {
        struct uring_listener *slot = &reactor->listeners[i];

        slot->impl.io = &reactor->io;
        slot->fd = -1;
        list_push_back(&reactor->listeners_free, &slot->node);
    }
    return 0;
}

static int
reactor_init_memory(struct reactor *reactor)
{
    const struct reactor_options *options = &reactor->options;
    uint32_t count = options->recv_buffer_count;

    /* One more than the ring has: the reserve buffer. */
    reactor->buffers_size_bytes =
        ((size_t)count + 1) * options->recv_buffer_bytes;
    reactor->buffers = reactor_map(reactor->buffers_size_bytes);
    reactor->held_next = calloc(count, sizeof(*reactor->held_next));
    reactor->held_bytes = calloc(count, sizeof(*reactor->held_bytes));
    if (reactor->buffers == NULL || reactor->held_next == NULL ||
        reactor->held_bytes == NULL) {
        return -ENOMEM;
    }
    reactor->reserve_buffer =
        reactor->buffers + (size_t)count * options->recv_buffer_bytes;
    if (options->arena_bytes > 0) {
        reactor->arena_size_bytes =
            (options->arena_bytes + 4095) & ~(size_t)4095;
        reactor->arena = reactor_map(reactor->arena_size_bytes);
        if (reactor->arena == NULL) {
            return -ENOMEM;
        }
    }
    return timer_heap_init(&reactor->timers, options->timers_max);
}

int
reactor_new(const struct reactor_options *options, struct reactor **ret_reactor)
{
    struct reactor *reactor;
    int rc;

    if (!reactor_options_are_valid(options)) {
        return -EINVAL;
    }
    reactor = calloc(1, sizeof(*reactor));
    if (reactor == NULL) {
        return -ENOMEM;
    }
    reactor->io.vtable = &uring_vtable;
    reactor->options = *options;
    reactor_init_lists(reactor);
    pthread_mutex_init(&reactor->lock, NULL);
    pthread_cond_init(&reactor->changed, NULL);
    atomic_init(&reactor->posts.head, NULL);
    atomic_init(&reactor->asleep, false);
    reactor->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rc = reactor->event_fd < 0 ? -errno : reactor_init_pools(reactor);
    if (rc == 0) {
        rc = reactor_init_memory(reactor);
    }
    if (rc != 0) {
        reactor_free(reactor);
        return rc;
    }
    *ret_reactor = reactor;
    return 0;
}

void
reactor_free(struct reactor *reactor)
{
    if (reactor == NULL) {
        return;
    }
    reactor_stop(reactor);
    /* Only now: until then others could address the ring by its number. */
    uring_teardown(reactor);
    timer_heap_done(&reactor->timers);
    if (reactor->arena != NULL) {
        munmap(reactor->arena, reactor->arena_size_bytes);
    }
    if (reactor->buffers != NULL) {
        munmap(reactor->buffers, reactor->buffers_size_bytes);
    }
    free(reactor->held_next);
    free(reactor->held_bytes);
    free(reactor->files);
    free(reactor->conns);
    free(reactor->listeners);
    if (reactor->event_fd >= 0) {
        close(reactor->event_fd);
    }
    pthread_cond_destroy(&reactor->changed);
    pthread_mutex_destroy(&reactor->lock);
    free(reactor);
}

/* ---- The thread ---- */

/* One line each: the message names what was left behind. */
static void
reactor_check_nothing_lives(const struct reactor *reactor)
{
    CHECK(reactor->files_open == 0);
    CHECK(reactor->file_ops == 0);
    CHECK(reactor->conns_open == 0);
    CHECK(reactor->listeners_open == 0);
    CHECK(reactor->timers.count == 0);
    CHECK(list_is_empty(&reactor->watches));
    CHECK(list_is_empty(&reactor->watches_stopped));
    CHECK(list_is_empty(&reactor->pollers));
    CHECK(list_is_empty(&reactor->tasks));
    CHECK(list_is_empty(&reactor->settled));
    CHECK(list_is_empty(&reactor->refused));
    CHECK(list_is_empty(&reactor->backlog));
    CHECK(list_is_empty(&reactor->inlined));
}

static int
reactor_place_thread(const struct reactor *reactor)
{
    cpu_set_t cpus;

    /* Only a name; a process may run without it. */
    (void)pthread_setname_np(pthread_self(), reactor->options.name);
    if (reactor->options.cpu < 0) {
        return 0;
    }
    CPU_ZERO(&cpus);
    CPU_SET((size_t)reactor->options.cpu, &cpus);
    return -pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus);
}

static void *
reactor_thread(void *argument)
{
    struct reactor *reactor = argument;
    int rc = reactor_place_thread(reactor);

    if (rc == 0) {
        rc = uring_setup(reactor);
    }
    uring_current = reactor;
    pthread_mutex_lock(&reactor->lock);
    reactor->start_result = rc;
    pthread_cond_broadcast(&reactor->changed);
    pthread_mutex_unlock(&reactor->lock);
    if (rc == 0) {
        uring_run(reactor);
        reactor_check_nothing_lives(reactor);
    }
    uring_current = NULL;
    return NULL;
}

int
reactor_start(struct reactor *reactor)
{
    sigset_t all;
    sigset_t before;
    int rc;

    CHECK(!reactor->started);
    if (reactor->ring_ready) {
        return -EALREADY; /* It was stopped, which is for ever. */
    }
    reactor->start_result = 1;
    reactor->stopping = false;
    /* Signals are the control thread's business. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&reactor->thread, NULL, reactor_thread, reactor);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        return -rc;
    }
    pthread_mutex_lock(&reactor->lock);
    while (reactor->start_result == 1) {
        pthread_cond_wait(&reactor->changed, &reactor->lock);
    }
    rc = reactor->start_result;
    pthread_mutex_unlock(&reactor->lock);
    if (rc != 0) {
        pthread_join(reactor->thread, NULL);
        uring_teardown(reactor);
        return rc;
    }
    reactor->started = true;
    return 0;
}

struct io *
reactor_io(struct reactor *reactor)
{
    return &reactor->io;
}

static void
reactor_call_arrived(struct io_post *post)
{
    struct reactor_call *call = container_of(post, struct reactor_call, post);
    struct reactor *reactor = call->reactor;

    call->run(call);
    pthread_mutex_lock(&reactor->lock);
    call->finished = true;
    pthread_cond_broadcast(&reactor->changed);
    pthread_mutex_unlock(&reactor->lock);
}

void
reactor_call(struct reactor *reactor, struct reactor_call *call)
{
    CHECK(reactor->started);
    CHECK(uring_current == NULL); /* It would wait for itself. */
    call->reactor = reactor;
    call->finished = false;
    call->post.run = reactor_call_arrived;
    io_post_send(NULL, &reactor->io, &call->post);
    pthread_mutex_lock(&reactor->lock);
    while (!call->finished) {
        pthread_cond_wait(&reactor->changed, &reactor->lock);
    }
    pthread_mutex_unlock(&reactor->lock);
}

static void
reactor_stop_arrived(struct reactor_call *call)
{
    call->reactor->stopping = true;
}

void
reactor_stop(struct reactor *reactor)
{
    struct reactor_call call = { .run = reactor_stop_arrived };

    if (!reactor->started) {
        return;
    }
    reactor_call(reactor, &call);
    pthread_join(reactor->thread, NULL);
    reactor->started = false;
}

void
reactor_info_get(const struct reactor *reactor, struct reactor_info *ret_info)
{
    *ret_info = reactor->info;
    ret_info->fixed_buffers = reactor->fixed_buffers;
    ret_info->fixed_files = reactor->fixed_files;
    ret_info->conns = reactor->conns_open;
    ret_info->file_ops = reactor->file_ops;
}
