/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/uring_fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/container_of.h"

#define LATCH_PATIENCE_S 60

void
latch_init(struct latch *latch)
{
    pthread_condattr_t attributes;

    memset(latch, 0, sizeof(*latch));
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&latch->lock, NULL);
    pthread_cond_init(&latch->changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

void
latch_done(struct latch *latch)
{
    pthread_cond_destroy(&latch->changed);
    pthread_mutex_destroy(&latch->lock);
}

void
latch_add(struct latch *latch, uint64_t count)
{
    pthread_mutex_lock(&latch->lock);
    latch->count += count;
    pthread_cond_broadcast(&latch->changed);
    pthread_mutex_unlock(&latch->lock);
}

void
latch_wait(struct latch *latch, uint64_t count)
{
    struct timespec end;

    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += LATCH_PATIENCE_S;
    pthread_mutex_lock(&latch->lock);
    while (latch->count < count) {
        int rc = pthread_cond_timedwait(&latch->changed, &latch->lock, &end);

        if (rc != 0) {
            fprintf(stderr, "latch: %llu of %llu after %d s\n",
                    (unsigned long long)latch->count, (unsigned long long)count,
                    LATCH_PATIENCE_S);
        }
        CHECK(rc == 0);
    }
    latch->count -= count;
    pthread_mutex_unlock(&latch->lock);
}

struct reactor *
fixture_reactor(void (*change)(struct reactor_options *))
{
    struct reactor_options options;
    struct reactor *reactor;

    reactor_options_init(&options);
    options.ring_entries = 32;
    options.conns_max = 64;
    options.files_max = 4;
    options.listeners_max = 4;
    options.arena_bytes = 2U << 20;
    options.recv_buffer_count = 16;
    options.recv_buffer_bytes = 4096;
    if (change != NULL) {
        change(&options);
    }
    CHECK(reactor_new(&options, &reactor) == 0);
    CHECK(reactor_start(reactor) == 0);
    return reactor;
}

void
fixture_run(struct reactor *reactor, struct reactor_call *call,
            reactor_call_fn *run)
{
    call->run = run;
    reactor_call(reactor, call);
}

struct info_call {
    struct reactor_call call;
    struct reactor *reactor;
    struct reactor_info info;
};

static void
fixture_info_run(struct reactor_call *call)
{
    struct info_call *info = container_of(call, struct info_call, call);

    reactor_info_get(info->reactor, &info->info);
}

struct reactor_info
fixture_info(struct reactor *reactor)
{
    struct info_call info = { .reactor = reactor };

    fixture_run(reactor, &info.call, fixture_info_run);
    return info.info;
}

uint64_t
fixture_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dULL;
}

uint8_t
fixture_byte(uint64_t position)
{
    return (uint8_t)((position * 0x9e3779b97f4a7c15ULL) >> 56);
}

bool
fixture_aborts(void (*body)(void))
{
    pid_t child = fork();
    int status;

    CHECK(child >= 0);
    if (child == 0) {
        struct rlimit no_core = { 0, 0 };
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

        setrlimit(RLIMIT_CORE, &no_core);
        dup2(null, STDERR_FILENO);
        body();
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}
