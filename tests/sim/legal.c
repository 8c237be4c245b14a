/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/legal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/check.h"

#define LEGAL_WRITES_MAX 4096u

static void
set_add(struct legal_set *set, const struct legal_write *write)
{
    if (set->count == set->room) {
        set->room = set->room == 0 ? 4 : set->room * 2;
        set->writes = realloc(set->writes, set->room * sizeof *set->writes);
        CHECK(set->writes != NULL);
    }
    set->writes[set->count++] = *write;
}

/* Whether 'write' was overwritten by one that was acknowledged by 'time_ns'. */
static bool
is_superseded(const struct legal_set *set, const struct legal_write *write,
              uint64_t time_ns)
{
    for (uint32_t i = 0; i < set->count; i++) {
        const struct legal_write *later = &set->writes[i];
        if (later->acked && later->end_ns <= time_ns &&
            later->begin_ns >= write->end_ns &&
            later->number != write->number) {
            return true;
        }
    }
    return false;
}

static void
set_prune(struct legal_set *set, uint64_t time_ns)
{
    uint32_t kept = 0;
    struct legal_set all = { .writes = set->writes, .count = set->count };
    bool gone[LEGAL_WRITES_MAX];

    CHECK(set->count <= LEGAL_WRITES_MAX);

    for (uint32_t i = 0; i < set->count; i++) {
        gone[i] = set->writes[i].dead_ns <= time_ns ||
                  is_superseded(&all, &set->writes[i], time_ns);
    }
    for (uint32_t i = 0; i < set->count; i++) {
        if (!gone[i]) {
            set->writes[kept++] = set->writes[i];
        }
    }
    set->count = kept;
}

static struct legal_write *
set_find(struct legal_set *set, uint64_t number)
{
    for (uint32_t i = 0; i < set->count; i++) {
        if (set->writes[i].number == number) {
            return &set->writes[i];
        }
    }
    return NULL;
}

void
legal_init(struct legal *legal, uint64_t count)
{
    static const struct legal_write zeros = { .acked = true,
                                              .dead_ns = UINT64_MAX };

    *legal = (struct legal){ .count = count };
    legal->cells = calloc(count, sizeof *legal->cells);
    CHECK(legal->cells != NULL);
    for (uint64_t i = 0; i < count; i++) {
        set_add(&legal->cells[i].live, &zeros);
        set_add(&legal->cells[i].hist, &zeros);
    }
}

void
legal_done(struct legal *legal)
{
    for (uint64_t i = 0; i < legal->count; i++) {
        free(legal->cells[i].live.writes);
        free(legal->cells[i].hist.writes);
    }
    free(legal->cells);
    legal->cells = NULL;
    legal->count = 0;
}

void
legal_begin(struct legal *legal, uint64_t first, uint64_t count,
            uint64_t number, uint64_t value, uint64_t now_ns)
{
    struct legal_write write = { .number = number,
                                 .value = value,
                                 .begin_ns = now_ns,
                                 .end_ns = UINT64_MAX,
                                 .dead_ns = UINT64_MAX };

    for (uint64_t i = first; i < first + count; i++) {
        CHECK(i < legal->count);
        set_prune(&legal->cells[i].live, legal->horizon_ns);
        set_add(&legal->cells[i].live, &write);
        set_prune(&legal->cells[i].hist, legal->flushed_ns);
        set_add(&legal->cells[i].hist, &write);
    }
}

void
legal_ack(struct legal *legal, uint64_t first, uint64_t count, uint64_t number,
          uint64_t now_ns)
{
    for (uint64_t i = first; i < first + count; i++) {
        struct legal_set *sets[] = { &legal->cells[i].live,
                                     &legal->cells[i].hist };
        for (uint32_t k = 0; k < 2; k++) {
            struct legal_write *write = set_find(sets[k], number);
            if (write != NULL) {
                write->end_ns = now_ns;
                write->acked = true;
            }
        }
    }
}

void
legal_fail(struct legal *legal, uint64_t first, uint64_t count, uint64_t number,
           uint64_t now_ns)
{
    for (uint64_t i = first; i < first + count; i++) {
        struct legal_set *sets[] = { &legal->cells[i].live,
                                     &legal->cells[i].hist };
        for (uint32_t k = 0; k < 2; k++) {
            struct legal_write *write = set_find(sets[k], number);
            if (write != NULL) {
                write->end_ns = now_ns;
            }
        }
    }
}

bool
legal_is_data(const struct legal *legal, uint64_t cell)
{
    const struct legal_set *set = &legal->cells[cell].live;

    for (uint32_t i = 0; i < set->count; i++) {
        if (set->writes[i].value == 0) {
            return false;
        }
    }
    return true;
}

void
legal_refuse(struct legal *legal, uint64_t first, uint64_t count,
             uint64_t number)
{
    for (uint64_t i = first; i < first + count; i++) {
        struct legal_set *sets[] = { &legal->cells[i].live,
                                     &legal->cells[i].hist };
        for (uint32_t k = 0; k < 2; k++) {
            struct legal_write *write = set_find(sets[k], number);
            if (write != NULL) {
                *write = sets[k]->writes[--sets[k]->count];
            }
        }
    }
}

void
legal_flush(struct legal *legal, uint64_t begin_ns)
{
    if (begin_ns > legal->flushed_ns) {
        legal->flushed_ns = begin_ns;
    }
}

static void
set_settle(struct legal_set *set, uint64_t now_ns)
{
    for (uint32_t i = 0; i < set->count; i++) {
        if (set->writes[i].end_ns > now_ns) {
            set->writes[i].end_ns = now_ns;
        }
    }
}

void
legal_take_over(struct legal *legal, bool live_guest, uint64_t now_ns)
{
    for (uint64_t i = 0; i < legal->count; i++) {
        struct legal_cell *cell = &legal->cells[i];
        set_prune(&cell->hist, legal->flushed_ns);
        if (!live_guest) {
            cell->live.count = 0;
            for (uint32_t k = 0; k < cell->hist.count; k++) {
                /* It may be lost: it supersedes nothing any more. */
                cell->hist.writes[k].acked = false;
                cell->hist.writes[k].dead_ns = UINT64_MAX;
                set_add(&cell->live, &cell->hist.writes[k]);
            }
        }
        set_settle(&cell->live, now_ns);
        set_settle(&cell->hist, now_ns);
    }
    if (!live_guest) {
        legal->taken_ns = now_ns;
    }
}

/* Of what had ended by 'time_ns' only 'value' is left from 'now_ns' on. */
static void
set_pin(struct legal_set *set, uint64_t value, uint64_t time_ns,
        uint64_t now_ns)
{
    for (uint32_t i = 0; i < set->count; i++) {
        struct legal_write *write = &set->writes[i];
        if (write->end_ns <= time_ns && write->value != value &&
            write->dead_ns > now_ns) {
            write->dead_ns = now_ns;
        }
    }
}

void
legal_set_horizon(struct legal *legal, uint64_t time_ns)
{
    if (time_ns > legal->horizon_ns) {
        legal->horizon_ns = time_ns;
    }
}

bool
legal_read(struct legal *legal, uint64_t index, uint64_t value,
           uint64_t begin_ns, uint64_t end_ns)
{
    struct legal_set *set = &legal->cells[index].live;
    bool found = false;
    uint64_t end_of_found = UINT64_MAX;

    for (uint32_t i = 0; i < set->count; i++) {
        const struct legal_write *write = &set->writes[i];
        if (write->value == value && write->begin_ns <= end_ns &&
            write->dead_ns > begin_ns && !is_superseded(set, write, begin_ns)) {
            found = true;
            end_of_found = write->end_ns;
        }
    }
    if (!found) {
        return false;
    }
    set_pin(set, value, begin_ns, end_ns);
    if (end_of_found <= legal->taken_ns) {
        /* It is the one that survived: the others will not come back. */
        struct legal_set *hist = &legal->cells[index].hist;
        set_pin(hist, value, legal->taken_ns, legal->taken_ns);
        set_prune(hist, legal->taken_ns);
    }
    return true;
}

void
legal_describe(const struct legal *legal, uint64_t index, char *ret_text,
               uint32_t size)
{
    const struct legal_set *set = &legal->cells[index].live;
    uint32_t used = 0;

    ret_text[0] = '\0';
    for (uint32_t i = 0; i < set->count && used < size; i++) {
        const struct legal_write *write = &set->writes[i];
        int n = snprintf(ret_text + used, size - used, "%s%llu(%s %llu..%llu)",
                         i == 0 ? "" : " ", (unsigned long long)write->value,
                         write->acked ? "acked" : "open",
                         (unsigned long long)(write->begin_ns / 1000),
                         (unsigned long long)(write->end_ns == UINT64_MAX
                                                  ? 0
                                                  : write->end_ns / 1000));
        used += n > 0 ? (uint32_t)n : 0;
    }
}
