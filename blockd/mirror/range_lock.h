/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_MIRROR_RANGE_LOCK_H
#define BLOCKD_MIRROR_RANGE_LOCK_H

/* Range locks over the 4 KiB blocks of one mirror (S15): shared for reads,
 * exclusive for writes, read-modify-write, repair and resync.
 *
 * Fair: a lock waits for every earlier overlapping lock, held or waiting,
 * unless both are shared; so nobody starves.  granted() never runs inside
 * acquire or release: it is deferred to the same turn of the loop.
 *
 * They live in mirror rather than in volume (DESIGN 3.1) because resync and
 * repair, which are the mirror's, must take them, too, and dependencies run
 * downward only; a volume's request that spans mirrors takes one in each, and
 * only a single 4 KiB block is atomic.
 *
 * Cost: acquire and release walk the locks that are out, a few dozen at the
 * depths that a volume allows. */

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/list.h"
#include "lib/io/io.h"

struct range_lock;
typedef void range_lock_fn(struct range_lock *lock);

struct range_lock {
    range_lock_fn *granted; /* Set by the caller. */
    /* Private. */
    struct list node;
    uint64_t first, end;
    uint64_t sequence;   /* Order of arrival. */
    uint32_t blocked_by; /* Earlier overlapping locks not yet released. */
    bool exclusive;
    bool held;
};

struct range_lock_table {
    struct io *io;
    struct io_task task;
    struct list held, waiting, grantable;
    uint64_t sequence;
};

void range_lock_table_init(struct range_lock_table *table, struct io *io);
/* No lock may be held or waiting. */
void range_lock_table_done(struct range_lock_table *table);
void range_lock_acquire(struct range_lock_table *table, struct range_lock *lock,
                        uint64_t first, uint64_t count, bool exclusive);
/* Takes the lock at once if nobody is in the way: granted() is not called.
 * False: nothing happened. */
bool range_lock_try(struct range_lock_table *table, struct range_lock *lock,
                    uint64_t first, uint64_t count, bool exclusive);
/* Held, or still waiting (then it is withdrawn and granted() never runs). */
void range_lock_release(struct range_lock_table *table,
                        struct range_lock *lock);

#endif /* BLOCKD_MIRROR_RANGE_LOCK_H */
