/* SPDX-License-Identifier: Apache-2.0 */
#include "client/cli/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PROGRESS_WIDTH 40

void
cli_progress_init(struct cli_progress *progress, const char *label)
{
    *progress = (struct cli_progress){
        .label = label,
        .is_on = isatty(STDERR_FILENO) == 1,
        .last = UINT32_MAX,
    };
}

void
cli_progress_show(struct cli_progress *progress, uint64_t done, uint64_t total)
{
    char bar[PROGRESS_WIDTH + 1];

    if (!progress->is_on || total == 0) {
        return;
    }
    done = done < total ? done : total;
    uint32_t share = (uint32_t)((double)done / (double)total * 1000);
    if (share == progress->last) {
        return;
    }
    progress->last = share;
    progress->is_shown = true;
    memset(bar, '-', PROGRESS_WIDTH);
    memset(bar, '#', share * PROGRESS_WIDTH / 1000);
    bar[PROGRESS_WIDTH] = '\0';
    fprintf(stderr, "\r%s [%s] %3u.%u%%", progress->label, bar, share / 10,
            share % 10);
    fflush(stderr);
}

void
cli_progress_clear(struct cli_progress *progress)
{
    if (progress->is_shown) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
        progress->is_shown = false;
        progress->last = UINT32_MAX;
    }
}
