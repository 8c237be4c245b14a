/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/mirror/range_lock.h"

#include "lib/base/check.h"
#include "lib/base/container_of.h"

/* A lock is on exactly one list:
 *
 *   waiting    blocked_by > 0, in order of arrival
 *   grantable  blocked_by == 0, granted() is still to be called
 *   held
 *
 * blocked_by counts earlier locks in conflict, on any list.  A release can only
 * unblock locks that came later. */

static bool
range_lock_conflicts(const struct range_lock *a, const struct range_lock *b)
{
    return a->first < b->end && b->first < a->end &&
           (a->exclusive || b->exclusive);
}

static uint32_t
range_lock_count(const struct list *head, const struct range_lock *lock)
{
    uint32_t count = 0;

    LIST_FOREACH (node, head) {
        count +=
            range_lock_conflicts(container_of(node, struct range_lock, node),
                                 lock);
    }
    return count;
}

static void
range_lock_grant(struct io_task *task)
{
    struct range_lock_table *table =
        container_of(task, struct range_lock_table, task);
    struct list *node;

    while ((node = list_pop_front(&table->grantable)) != NULL) {
        struct range_lock *lock = container_of(node, struct range_lock, node);
        lock->held = true;
        list_push_back(&table->held, &lock->node);
        lock->granted(lock);
    }
}

void
range_lock_table_init(struct range_lock_table *table, struct io *io)
{
    *table = (struct range_lock_table){ .io = io };
    io_task_init(&table->task, range_lock_grant);
    list_init(&table->held);
    list_init(&table->waiting);
    list_init(&table->grantable);
}

void
range_lock_table_done(struct range_lock_table *table)
{
    CHECK(list_is_empty(&table->held));
    CHECK(list_is_empty(&table->waiting));
    CHECK(list_is_empty(&table->grantable));
    io_task_cancel(table->io, &table->task);
}

/* Fills 'lock' in and counts who is in its way. */
static void
range_lock_prepare(struct range_lock_table *table, struct range_lock *lock,
                   uint64_t first, uint64_t count, bool exclusive)
{
    CHECK(count > 0);
    CHECK(first + count > first);

    lock->first = first;
    lock->end = first + count;
    lock->exclusive = exclusive;
    lock->held = false;
    lock->blocked_by = range_lock_count(&table->held, lock) +
                       range_lock_count(&table->grantable, lock) +
                       range_lock_count(&table->waiting, lock);
}

void
range_lock_acquire(struct range_lock_table *table, struct range_lock *lock,
                   uint64_t first, uint64_t count, bool exclusive)
{
    CHECK(lock->granted != NULL);

    range_lock_prepare(table, lock, first, count, exclusive);
    lock->sequence = ++table->sequence;
    if (lock->blocked_by != 0) {
        list_push_back(&table->waiting, &lock->node);
        return;
    }
    list_push_back(&table->grantable, &lock->node);
    io_task_defer(table->io, &table->task);
}

bool
range_lock_try(struct range_lock_table *table, struct range_lock *lock,
               uint64_t first, uint64_t count, bool exclusive)
{
    range_lock_prepare(table, lock, first, count, exclusive);
    if (lock->blocked_by != 0) {
        return false;
    }
    lock->sequence = ++table->sequence;
    lock->held = true;
    list_push_back(&table->held, &lock->node);
    return true;
}

void
range_lock_release(struct range_lock_table *table, struct range_lock *lock)
{
    CHECK(list_is_linked(&lock->node));

    list_remove(&lock->node);
    lock->held = false;
    LIST_FOREACH (node, &table->waiting) {
        struct range_lock *later = container_of(node, struct range_lock, node);
        if (later->sequence < lock->sequence ||
            !range_lock_conflicts(later, lock)) {
            continue;
        }
        CHECK(later->blocked_by > 0);
        if (--later->blocked_by == 0) {
            list_remove(&later->node);
            list_push_back(&table->grantable, &later->node);
            io_task_defer(table->io, &table->task);
        }
    }
}
