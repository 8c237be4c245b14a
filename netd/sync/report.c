/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/sync/report.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/array.h"
#include "lib/base/container_of.h"
#include "lib/base/log.h"
#include "lib/base/units.h"

/* Entries are sorted by table and UUID.  One that is removed stays until the
 * database has it no more. */

#define BATCH_MAX 500u
#define RETRY_NS (1 * NS_PER_S)
#define TXN_NS (5 * NS_PER_S)

struct entry {
    enum state_table table;
    struct weft_uuid uuid;
    struct state_row *row; /* NULL: it should not be there. */
    bool is_dirty;
    bool is_sent;
};

struct report {
    struct loop *loop;
    struct state *state;
    const char *host;
    struct loop_timer timer;
    struct entry **entries;
    size_t count, capacity;
    size_t dirty_count;
    bool is_started;
    bool is_held;
    bool is_sweeping;
    struct state_txn txn;
    bool is_busy;
    int last_result;
};

static const enum state_table swept_tables[] = {
    STATE_TABLE_BINDING,
    STATE_TABLE_PORT_STATUS,
    STATE_TABLE_FOLLOW,
};

/* ---- Entries ---- */

static int
compare(const struct entry *entry, enum state_table table,
        const struct weft_uuid *uuid)
{
    return entry->table != table ? (entry->table < table ? -1 : 1)
                                 : uuid_compare(&entry->uuid, uuid);
}

/* Where it is, or would be. */
static size_t
find_place(const struct report *report, enum state_table table,
           const struct weft_uuid *uuid)
{
    size_t low = 0, high = report->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare(report->entries[middle], table, uuid) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct entry *
find_entry(const struct report *report, enum state_table table,
           const struct weft_uuid *uuid)
{
    size_t place = find_place(report, table, uuid);

    return place < report->count &&
                   compare(report->entries[place], table, uuid) == 0
               ? report->entries[place]
               : NULL;
}

static struct entry *
need_entry(struct report *report, enum state_table table,
           const struct weft_uuid *uuid)
{
    size_t place = find_place(report, table, uuid);

    if (place < report->count &&
        compare(report->entries[place], table, uuid) == 0) {
        return report->entries[place];
    }
    if (report->count == report->capacity) {
        report->capacity = report->capacity == 0 ? 64 : report->capacity * 2;
        report->entries = realloc(report->entries,
                                  report->capacity * sizeof report->entries[0]);
        CHECK(report->entries != NULL);
    }
    struct entry *entry = calloc(1, sizeof *entry);
    CHECK(entry != NULL);
    entry->table = table;
    entry->uuid = *uuid;
    memmove(&report->entries[place + 1], &report->entries[place],
            (report->count - place) * sizeof report->entries[0]);
    report->entries[place] = entry;
    report->count++;
    return entry;
}

static void
drop_entry(struct report *report, size_t place)
{
    state_row_free(report->entries[place]->row);
    free(report->entries[place]);
    report->count--;
    memmove(&report->entries[place], &report->entries[place + 1],
            (report->count - place) * sizeof report->entries[0]);
}

static void
set_dirty(struct report *report, struct entry *entry, bool is_dirty)
{
    if (entry->is_dirty != is_dirty) {
        entry->is_dirty = is_dirty;
        report->dirty_count += is_dirty ? 1u : (size_t)-1;
    }
}

/* ---- Writing ---- */

static uint64_t
all_columns(enum state_table table)
{
    switch ((int)table) {
    case STATE_TABLE_BINDING:
        return STATE_BINDING_COL_ALL;
    case STATE_TABLE_PORT_STATUS:
        return STATE_PORT_STATUS_COL_ALL;
    case STATE_TABLE_FOLLOW:
        return STATE_FOLLOW_COL_ALL;
    default:
        CHECK(table == STATE_TABLE_NET_HOST_STATUS);
        return STATE_NET_HOST_STATUS_COL_ALL;
    }
}

static uint64_t
columns_of(const struct state_row *a, const struct state_row *b)
{
    return state_row_difference(a, b);
}

/* Whether the database has it as it should be. */
static bool
is_settled(const struct report *report, const struct entry *entry)
{
    const struct state_row *now =
        state_row_get(report->state, entry->table, &entry->uuid);

    if (entry->row == NULL || now == NULL) {
        return entry->row == NULL && now == NULL;
    }
    return columns_of(entry->row, now) == 0;
}

static bool
build_entry(struct state_txn *txn, struct state *state, struct entry *entry)
{
    const struct state_row *now =
        state_row_get(state, entry->table, &entry->uuid);

    if (entry->row == NULL) {
        if (now != NULL) {
            state_txn_delete(txn, entry->table, &entry->uuid);
        }
        return now != NULL;
    }
    if (now == NULL) {
        state_txn_insert(txn, entry->row, all_columns(entry->table));
        return true;
    }
    uint64_t columns = columns_of(entry->row, now);
    if (columns != 0) {
        state_txn_update(txn, entry->row, columns);
    }
    return columns != 0;
}

static const char *
host_of(const struct state_row *row)
{
    switch ((int)row->table) {
    case STATE_TABLE_BINDING:
        return state_binding_from(row)->host;
    case STATE_TABLE_PORT_STATUS:
        return state_port_status_from(row)->host;
    case STATE_TABLE_FOLLOW:
        return state_follow_from(row)->host;
    default:
        return "";
    }
}

static size_t
build_sweep(struct report *report, struct state_txn *txn, size_t room)
{
    size_t count = 0;

    for (size_t i = 0; i < ARRAY_COUNT(swept_tables); i++) {
        for (const struct state_row *row = NULL;
             count < room &&
             (row = state_row_next(report->state, swept_tables[i], row)) !=
                 NULL;) {
            if (strcmp(host_of(row), report->host) == 0 &&
                find_entry(report, row->table, &row->uuid) == NULL) {
                state_txn_delete(txn, row->table, &row->uuid);
                count++;
            }
        }
    }
    return count;
}

static int
report_build(struct state_txn *txn, struct state *state)
{
    struct report *report = container_of(txn, struct report, txn);
    size_t count = 0;

    for (size_t i = 0; i < report->count; i++) {
        report->entries[i]->is_sent = false;
    }
    if (report->is_held) {
        return STATE_TXN_NOTHING; /* It was queued before. */
    }
    for (size_t i = 0; i < report->count; i++) {
        struct entry *entry = report->entries[i];
        if (entry->is_dirty && count < BATCH_MAX) {
            entry->is_sent = true;
            count += build_entry(txn, state, entry) ? 1 : 0;
        }
    }
    if (report->is_sweeping) {
        size_t swept = build_sweep(report, txn, BATCH_MAX);
        report->is_sweeping = swept == BATCH_MAX;
        count += swept;
    }
    return count == 0 ? STATE_TXN_NOTHING : 0;
}

/* What changed meanwhile is no longer "sent", and goes at once; what was sent
 * and yet is not there gives pause. */
static void
report_done(struct state_txn *txn, int result)
{
    struct report *report = container_of(txn, struct report, txn);

    bool is_stuck = false;

    report->is_busy = false;
    for (size_t i = report->count; i-- > 0;) {
        struct entry *entry = report->entries[i];
        if (!entry->is_sent || !is_settled(report, entry)) {
            is_stuck = is_stuck || entry->is_sent;
            continue;
        }
        entry->is_sent = false;
        set_dirty(report, entry, false);
        if (entry->row == NULL) {
            drop_entry(report, i);
        }
    }
    if (result == -ESHUTDOWN) {
        return;
    }
    if (result != 0 && result != -ETIMEDOUT && result != -EREMOTEIO &&
        result != report->last_result) {
        log_warning("sync",
                    "this host's rows cannot be written, trying again "
                    "result=%d text=%s",
                    result, txn->error);
    }
    if (result != 0) {
        report->is_sweeping = true;
    }
    report->last_result = result;
    loop_timer_set(report->loop, &report->timer,
                   loop_now_ns() + (result == 0 && !is_stuck ? 0 : RETRY_NS));
}

static void
report_send(struct report *report)
{
    if (report->is_busy || !report->is_started || report->is_held ||
        (report->dirty_count == 0 && !report->is_sweeping)) {
        return;
    }
    loop_timer_cancel(report->loop, &report->timer);
    report->is_busy = true;
    report->txn = (struct state_txn){
        .build = report_build,
        .done = report_done,
        .comment = "netd: own rows",
        .deadline_ns = loop_now_ns() + TXN_NS,
        .flags = STATE_TXN_RETRY,
    };
    state_txn_start(report->state, &report->txn);
}

/* Once a turn at most, so that what belongs together goes together. */
static void
report_fire(struct loop_timer *timer)
{
    report_send(container_of(timer, struct report, timer));
}

static void
report_schedule(struct report *report)
{
    if (!report->is_busy && report->is_started && !report->is_held &&
        !list_is_linked(&report->timer.node)) {
        loop_timer_set(report->loop, &report->timer, loop_now_ns());
    }
}

/* ---- The door ---- */

struct report *
report_new(struct loop *loop, struct state *state, const char *host)
{
    struct report *report = calloc(1, sizeof *report);

    CHECK(report != NULL);
    report->loop = loop;
    report->state = state;
    report->host = host;
    loop_timer_init(&report->timer, report_fire);
    return report;
}

void
report_free(struct report *report)
{
    if (report == NULL) {
        return;
    }
    CHECK(!report->is_busy);
    loop_timer_cancel(report->loop, &report->timer);
    while (report->count > 0) {
        drop_entry(report, report->count - 1);
    }
    free(report->entries);
    free(report);
}

void
report_uuid(const struct report *report, enum state_table table,
            const struct weft_uuid *subject, struct weft_uuid *ret_uuid)
{
    char purpose[80], text[UUID_TEXT_SIZE];

    uuid_format(subject, text);
    (void)snprintf(purpose, sizeof purpose, "%s/%s", state_table_name(table),
                   text);
    state_uuid_derive(report->host, purpose, ret_uuid);
}

void
report_put(struct report *report, const struct state_row *row)
{
    struct entry *entry = need_entry(report, row->table, &row->uuid);

    if (entry->row != NULL && columns_of(entry->row, row) == 0) {
        return;
    }
    state_row_free(entry->row);
    entry->row = state_row_clone(row);
    entry->is_sent = false;
    set_dirty(report, entry, true);
    report_schedule(report);
}

void
report_remove(struct report *report, enum state_table table,
              const struct weft_uuid *uuid)
{
    struct entry *entry = find_entry(report, table, uuid);

    if (entry == NULL || entry->row == NULL) {
        return;
    }
    state_row_free(entry->row);
    entry->row = NULL;
    entry->is_sent = false;
    set_dirty(report, entry, true);
    report_schedule(report);
}

void
report_hold(struct report *report, bool is_held)
{
    if (report->is_held != is_held) {
        report->is_held = is_held;
        report_schedule(report);
    }
}

void
report_start(struct report *report)
{
    if (!report->is_started) {
        report->is_started = true;
        report_schedule(report);
    }
}

void
report_sweep(struct report *report)
{
    report->is_sweeping = true;
    report_schedule(report);
}

void
report_notice(struct report *report, enum state_table table,
              const struct weft_uuid *uuid)
{
    struct entry *entry = find_entry(report, table, uuid);

    if (entry != NULL && !entry->is_dirty && !is_settled(report, entry)) {
        set_dirty(report, entry, true);
        report_schedule(report);
    }
}

size_t
report_pending(const struct report *report)
{
    return report->dirty_count;
}
