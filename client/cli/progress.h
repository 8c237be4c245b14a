/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_CLI_PROGRESS_H
#define CLIENT_CLI_PROGRESS_H

/* A progress bar on stderr, if that is a terminal; else nothing. */

#include <stdbool.h>
#include <stdint.h>

struct cli_progress {
    const char *label; /* Borrowed. */
    bool is_on;
    bool is_shown;
    uint32_t last; /* Per mille shown last. */
};

void cli_progress_init(struct cli_progress *progress, const char *label);
void cli_progress_show(struct cli_progress *progress, uint64_t done,
                       uint64_t total);
/* Takes it off the screen. */
void cli_progress_clear(struct cli_progress *progress);

#endif /* CLIENT_CLI_PROGRESS_H */
