/* SPDX-License-Identifier: Apache-2.0 */
/* A thread that waits for SIGINT and SIGTERM, which all others have blocked. */

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "client/cli/command.h"

static pthread_mutex_t interrupt_lock = PTHREAD_MUTEX_INITIALIZER;
static struct weft *interrupt_weft; /* Under the lock, as are the others. */
static int interrupt_pid;
static atomic_bool interrupt_seen;

static void *
interrupt_thread(void *argument)
{
    sigset_t *signals = argument;
    int number;

    for (bool is_first = true; sigwait(signals, &number) == 0;
         is_first = false) {
        if (!is_first) {
            _exit(CLI_FAILED);
        }
        pthread_mutex_lock(&interrupt_lock);
        interrupt_seen = true;
        if (interrupt_weft != NULL) {
            weft_interrupt(interrupt_weft, true);
        }
        if (interrupt_pid != 0) {
            kill(interrupt_pid, SIGTERM);
        }
        pthread_mutex_unlock(&interrupt_lock);
    }
    return NULL;
}

void
cli_interrupt_init(void)
{
    static sigset_t signals;
    pthread_t thread;

    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    int result = pthread_create(&thread, NULL, interrupt_thread, &signals);
    CHECK(result == 0);
    pthread_detach(thread);
}

void
cli_interrupt_watch(struct weft *weft)
{
    pthread_mutex_lock(&interrupt_lock);
    interrupt_weft = weft;
    if (weft != NULL && interrupt_seen) {
        weft_interrupt(weft, true);
    }
    pthread_mutex_unlock(&interrupt_lock);
}

void
cli_interrupt_child(int pid)
{
    pthread_mutex_lock(&interrupt_lock);
    interrupt_pid = pid;
    if (pid != 0 && interrupt_seen) {
        kill(pid, SIGTERM);
    }
    pthread_mutex_unlock(&interrupt_lock);
}

bool
cli_is_interrupted(void)
{
    return interrupt_seen;
}

void
cli_interrupt_clear(void)
{
    pthread_mutex_lock(&interrupt_lock);
    if (interrupt_weft != NULL) {
        weft_interrupt(interrupt_weft, false);
    }
    interrupt_weft = NULL; /* Only a second signal ends the clean-up. */
    pthread_mutex_unlock(&interrupt_lock);
}
