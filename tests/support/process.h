/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SUPPORT_PROCESS_H
#define TESTS_SUPPORT_PROCESS_H

/* Other people's programs, run by a fixture.  They end with the test, however
 * that ends.  What fails here is not what is tested: it says so and aborts. */

#include <stdint.h>
#include <sys/types.h>

/* A healthy run takes a fraction; loaded machines and sanitizers are slow. */
#define PROCESS_DEADLINE_MS 30000u

_Noreturn void process_give_up(const char *format, ...)
    __attribute__((format(printf, 1, 2)));
void process_format(char *to, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
uint64_t process_now_ms(void);

/* Of monotonic 'start_ms': aborts if the deadline has passed, else lets the
 * others go on for a moment, between two looks at 'what'. */
void process_look_again_soon(uint64_t start_ms, const char *what);

/* NULL ends 'arguments'; 'environment' is NULL, or names and values in turn,
 * then NULL; 'output' a descriptor for standard output, or -1 for nowhere. */
pid_t process_start(const char *const arguments[],
                    const char *const environment[], int output);
/* Waits for its end.  The status as of waitpid(). */
int process_wait(pid_t pid);
/* Its standard output, for free(), or NULL if it failed. */
char *process_run(const char *const arguments[],
                  const char *const environment[]);

#endif /* TESTS_SUPPORT_PROCESS_H */
