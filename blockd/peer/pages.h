/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_PEER_PAGES_H
#define BLOCKD_PEER_PAGES_H

/* A pool of page runs: 4 KiB to 1 MiB in powers of two, out of one arena
 * allocation (a buddy allocator).  Runs are aligned to 4 KiB and come with
 * whatever they last held.  One thread. */

#include <stdint.h>

#include "lib/base/check.h"
#include "lib/base/list.h"
#include "lib/io/io.h"

#define PAGES_ORDERS 9u /* 4 KiB << 8 is 1 MiB. */

struct pages_state {
    struct list node; /* Of the first page of a free run. */
    uint8_t order;
    bool is_free; /* First page of a free run. */
    bool is_used; /* First page of a run in use. */
};

struct pages {
    uint8_t *memory;
    struct pages_state *states; /* One a page. */
    struct list free[PAGES_ORDERS];
    uint32_t page_count;
    uint32_t used_count;
};

/* Set-up only.  'size_bytes' is a multiple of 1 MiB.  -ENOMEM. */
WEFT_MUST_CHECK int pages_init(struct pages *pages, struct io *io,
                               uint64_t size_bytes);
/* The same in the caller's memory, aligned to 4 KiB, which must last. */
WEFT_MUST_CHECK int pages_init_at(struct pages *pages, void *memory,
                                  uint64_t size_bytes);
/* Arena or caller keep the memory; the rest is freed.  Accepts zeros. */
void pages_done(struct pages *pages);

/* 1 to 1 MiB.  NULL: there is no such run now. */
void *pages_get(struct pages *pages, uint32_t size_bytes);
void pages_put(struct pages *pages, void *run);

#endif /* BLOCKD_PEER_PAGES_H */
