/* SPDX-License-Identifier: Apache-2.0 */

/* The cluster simulation: command line, seeds, processes.
 *
 *     cluster_sim --seeds 1..500 -j 2     a campaign; prints failing seeds
 *     cluster_sim --seed 17 --trace       one seed, told step by step
 *     cluster_sim --seeds 1..9 --hashes   the hash of all events of each: the
 *                                         same on every machine
 *     cluster_sim --seeds 1..2000 --planted 4
 *                                         with a planted bug of the mirror:
 *                                         prints the first seed that finds it
 *     cluster_sim --seeds 1..2000 --all-planted
 *                                         each of them must be found
 *
 * See cluster.h. */

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "blockd/mirror/planted.h"
#include "tests/sim/cluster.h"

#define FAILED_MAX 20u

struct arguments {
    uint64_t first, last;
    uint32_t jobs;
    bool all_planted, keep_going;
    struct world_options options;
};

static bool
parse(int argc, char **argv, struct arguments *ret)
{
    *ret = (struct arguments){ .first = 1, .last = 100, .jobs = 1 };
    for (int i = 1; i < argc; i++) {
        char *end;
        bool more = i + 1 < argc;
        if (strcmp(argv[i], "--seeds") == 0 && more) {
            ret->first = strtoull(argv[++i], &end, 10);
            if (strncmp(end, "..", 2) != 0) {
                return false;
            }
            ret->last = strtoull(end + 2, &end, 10);
        } else if (strcmp(argv[i], "--seed") == 0 && more) {
            ret->first = ret->last = strtoull(argv[++i], &end, 10);
        } else if (strcmp(argv[i], "--planted") == 0 && more) {
            ret->options.planted = (uint32_t)strtoul(argv[++i], &end, 10);
        } else if (strcmp(argv[i], "--planted-store") == 0 && more) {
            ret->options.planted_store = (uint32_t)strtoul(argv[++i], &end, 10);
        } else if (strcmp(argv[i], "-j") == 0 && more) {
            ret->jobs = (uint32_t)strtoul(argv[++i], &end, 10);
        } else if (strcmp(argv[i], "--trace") == 0) {
            ret->options.trace = true;
        } else if (strcmp(argv[i], "--all-planted") == 0) {
            ret->all_planted = true;
        } else if (strcmp(argv[i], "--hashes") == 0) {
            ret->options.hashes = true;
        } else if (strcmp(argv[i], "--keep-going") == 0) {
            ret->keep_going = true;
        } else {
            return false;
        }
    }
    return ret->first <= ret->last && ret->jobs >= 1 && ret->jobs <= 64;
}

/* What a process that runs seeds tells the one that waits for it. */
struct progress {
    uint64_t seed;
    uint32_t failed;
};

static bool
run_seed(const struct arguments *arguments, uint64_t seed)
{
    char why[512];

    if (world_run_seed(seed, &arguments->options, why, sizeof why) == 0) {
        return true;
    }
    printf("seed %llu: %s\n", (unsigned long long)seed, why);
    fflush(stdout);
    return false;
}

/* Whether a campaign that has found so much goes on. */
static bool
is_enough(const struct arguments *arguments, uint32_t failed)
{
    return !arguments->keep_going && failed >= FAILED_MAX;
}

static void
run_from(const struct arguments *arguments, struct progress *progress)
{
    while (progress->seed <= arguments->last &&
           !is_enough(arguments, progress->failed)) {
        progress->failed += !run_seed(arguments, progress->seed);
        progress->seed += arguments->jobs;
    }
}

/* Seeds first, first + jobs, ...; the number of those that failed.  They run in
 * a child, so that a seed that aborts is one more failure and not the end of
 * the campaign; one child for many, because memory that was used before costs
 * half the time. */
static uint32_t
run_share(const struct arguments *arguments, uint32_t job)
{
    struct progress *progress =
        mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (progress == MAP_FAILED) {
        return 1;
    }
    progress->seed = arguments->first + job;
    while (progress->seed <= arguments->last &&
           !is_enough(arguments, progress->failed)) {
        pid_t pid = fork();
        if (pid == 0) {
            run_from(arguments, progress);
            _exit(0);
        }
        int status = 0;
        if (pid < 0 || waitpid(pid, &status, 0) < 0) {
            progress->failed++;
            break;
        }
        if (status != 0) {
            printf("seed %llu: aborted\n", (unsigned long long)progress->seed);
            fflush(stdout);
            progress->failed++;
            progress->seed += arguments->jobs;
        }
    }
    uint32_t failed = progress->failed;
    munmap(progress, sizeof *progress);
    return failed;
}

/* The first seed that fails, by a complaint or by an abort; 0: none.  As in
 * run_share(), one child runs them all. */
static uint64_t
first_failing(const struct arguments *arguments, bool *ret_aborted)
{
    uint64_t *seed = mmap(NULL, sizeof *seed, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (seed == MAP_FAILED) {
        return 0;
    }
    pid_t pid = fork();
    if (pid == 0) {
        char why[512];
        if (freopen("/dev/null", "w", stderr) == NULL) {
            _exit(2);
        }
        for (*seed = arguments->first; *seed <= arguments->last; ++*seed) {
            if (world_run_seed(*seed, &arguments->options, why, sizeof why) !=
                0) {
                _exit(1);
            }
        }
        _exit(0);
    }
    int status = 0;
    uint64_t found = 0;
    if (pid >= 0 && waitpid(pid, &status, 0) >= 0 && status != 0) {
        *ret_aborted = !WIFEXITED(status);
        found = *seed;
    }
    munmap(seed, sizeof *seed);
    return found;
}

static int
run_planted(struct arguments *arguments)
{
    uint32_t missed = 0;

    for (uint32_t bug = 1; bug < MIRROR_PLANTED_COUNT; bug++) {
        bool aborted = false;
        if (bug == MIRROR_PLANTED_G_COMPLETE ||
            bug == MIRROR_PLANTED_TOUCH_STAYS ||
            bug == MIRROR_PLANTED_ADOPT_KEEPS) {
            continue; /* Rare here: the tests of the mirror find them. */
        }
        arguments->options.planted = bug;
        uint64_t seed = first_failing(arguments, &aborted);
        if (seed == 0) {
            printf("planted bug %u: not found\n", bug);
            missed++;
        } else {
            printf("planted bug %u: seed %llu%s\n", bug,
                   (unsigned long long)seed, aborted ? " (check failed)" : "");
        }
        fflush(stdout);
    }
    return missed == 0 ? 0 : 1;
}

static int
run_all(const struct arguments *arguments)
{
    struct timespec begin, end;
    uint32_t failed = 0;

    clock_gettime(CLOCK_MONOTONIC, &begin);
    if (arguments->first == arguments->last) {
        failed = !run_seed(arguments, arguments->first); /* For debuggers. */
    } else if (arguments->jobs == 1) {
        failed = run_share(arguments, 0);
    } else {
        for (uint32_t job = 0; job < arguments->jobs; job++) {
            if (fork() == 0) {
                _exit(run_share(arguments, job) == 0 ? 0 : 1);
            }
        }
        int status;
        while (wait(&status) > 0) {
            failed += status != 0;
        }
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    double seconds = (double)(end.tv_sec - begin.tv_sec) +
                     (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
    double count = (double)(arguments->last - arguments->first + 1);
    printf("%s: seeds %llu..%llu, %.1f s, %.1f ms a seed\n",
           failed == 0 ? "clean" : "FAILED",
           (unsigned long long)arguments->first,
           (unsigned long long)arguments->last, seconds,
           seconds * 1000 / count * arguments->jobs);
    return failed == 0 ? 0 : 1;
}

int
main(int argc, char **argv)
{
    struct arguments arguments;

    if (!parse(argc, argv, &arguments)) {
        fprintf(stderr,
                "usage: %s --seeds A..B | --seed S [--trace] [--hashes] [-j N] "
                "[--keep-going] [--planted N | --all-planted]\n",
                argv[0]);
        return 2;
    }
    /* Lives come and go, and their memory is to be used again. */
    (void)mallopt(M_MMAP_THRESHOLD, 1 << 30);
    (void)mallopt(M_TRIM_THRESHOLD, 1 << 30);
    (void)mallopt(M_TOP_PAD, 16 << 20);
    return arguments.all_planted ? run_planted(&arguments)
                                 : run_all(&arguments);
}
