/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/container_of.h"
#include "lib/base/crc32c.h"
#include "lib/base/log.h"
#include "lib/base/units.h"
#include "netd/sync/cloud_private.h"
#include "netd/sync/pin.h"

/* The rows that this host follows, in state_dir/snapshot, so that a netd that
 * starts while the database is away knows what its flows should be (N7).
 *
 *     weft-netd 2 <cloud's UUID>
 *     <table> <UUID> <columns as JSON>
 *     ...
 *     end <number of rows> <CRC-32C of all before this line>
 *     <table> <UUID> <columns as JSON, or "-" if it is gone>
 *     ...
 *     end <number of rows> <CRC-32C of this part before this line>
 *     ...
 *
 * Some seconds after a change what has changed is appended as another part;
 * when the parts have become as large as the whole once was, it is written
 * anew.  So a change costs the same however many rows there are.  Only while
 * the rows are complete.
 *
 * It may be older than the database: the rows that come from there in the end
 * are what counts.  So a part that is damaged ends it, as a crash of the host
 * may leave it; without a first part, or of another cloud, it is as good as
 * none. */

#define SNAPSHOT_NAME "snapshot"
#define SNAPSHOT_DELAY_NS (2 * NS_PER_S)
#define SNAPSHOT_REST_NS (10 * NS_PER_S)
#define SNAPSHOT_REST_FACTOR 50u
/* Parts may grow to this in any case. */
#define SNAPSHOT_ADD_MIN ((size_t)64 << 10)
#define SNAPSHOT_GONE "-"
#define SNAPSHOT_HEAD "weft-netd 2 %s\n"
#define SNAPSHOT_SIZE_MAX ((size_t)1 << 30)

/* ---- Writing ---- */

struct text {
    char *bytes;
    size_t size, capacity;
};

static void
append(struct text *text, const char *bytes, size_t size)
{
    if (text->size + size > text->capacity) {
        text->capacity = (text->size + size) * 2;
        text->bytes = realloc(text->bytes, text->capacity);
        CHECK(text->bytes != NULL);
    }
    memcpy(text->bytes + text->size, bytes, size);
    text->size += size;
}

/* 'row' NULL: it is gone. */
static void
append_row(struct text *text, enum state_table table,
           const struct weft_uuid *uuid, const struct state_row *row)
{
    char uuid_text[UUID_TEXT_SIZE], head[128];
    CLEANUP_FREE char *columns = row == NULL ? NULL : state_row_encode(row);
    const char *rest = row == NULL ? SNAPSHOT_GONE : columns;

    uuid_format(uuid, uuid_text);
    int size = snprintf(head, sizeof head, "%s %s ", state_table_name(table),
                        uuid_text);
    append(text, head, (size_t)size);
    append(text, rest, strlen(rest));
    append(text, "\n", 1);
}

static void
append_end(struct text *text, size_t count)
{
    char line[128];
    int size = snprintf(line, sizeof line, "end %zu %08x\n", count,
                        crc32c(0, text->bytes, text->size));

    append(text, line, (size_t)size);
}

static bool
is_kept(enum state_table table)
{
    return (scope_table_mask() >> table & 1) != 0;
}

static int
write_all(struct cloud *cloud, struct err *err)
{
    struct text text = { NULL, 0, 0 };
    char line[128], uuid[UUID_TEXT_SIZE];
    size_t count = 0;

    uuid_format(&cloud->pinned, uuid);
    int size = snprintf(line, sizeof line, SNAPSHOT_HEAD, uuid);
    append(&text, line, (size_t)size);
    for (enum state_table table = 0; table < STATE_TABLE_COUNT; table++) {
        for (const struct state_row *row = NULL;
             is_kept(table) &&
             (row = state_row_next(cloud->state, table, row)) != NULL;) {
            append_row(&text, table, &row->uuid, row);
            count++;
        }
    }
    append_end(&text, count);
    int result = pin_replace_file(cloud->state_dir, SNAPSHOT_NAME, text.bytes,
                                  text.size, err);
    cloud->snapshot_size = text.size;
    cloud->snapshot_added = 0;
    cloud->is_snapshot_stale = result != 0;
    free(text.bytes);
    return result;
}

/* In a write of its own, that of a file which ends there; not synced: see the
 * head. */
static int
write_news(struct cloud *cloud, const struct text *text, struct err *err)
{
    char path[600];

    (void)snprintf(path, sizeof path, "%s/" SNAPSHOT_NAME, cloud->state_dir);
    CLEANUP_FD int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd < 0 || write(fd, text->bytes, text->size) != (ssize_t)text->size) {
        int result = fd < 0 || errno != 0 ? -errno : -EIO;
        err_set(err, "%s cannot be written: %s", path, strerror(-result));
        return result;
    }
    return 0;
}

static int
add_news(struct cloud *cloud, struct err *err)
{
    struct text text = { NULL, 0, 0 };
    int result = 0;

    for (size_t i = 0; i < cloud->snapshot_news.capacity; i++) {
        const struct row_key *key = &cloud->snapshot_news.slots[i];
        if (key->table != 0) {
            enum state_table table = (enum state_table)(key->table - 1);
            append_row(&text, table, &key->uuid,
                       state_row_get(cloud->state, table, &key->uuid));
        }
    }
    if (cloud->snapshot_news.count > 0) {
        append_end(&text, cloud->snapshot_news.count);
        errno = 0;
        result = write_news(cloud, &text, err);
    }
    cloud->snapshot_added += text.size;
    /* What may end in half a part takes no more. */
    cloud->is_snapshot_stale = result != 0;
    free(text.bytes);
    return result;
}

static bool
is_due(const struct cloud *cloud)
{
    return cloud->is_snapshot_stale || cloud->snapshot_news.count > 0;
}

static void
write_snapshot(struct cloud *cloud)
{
    uint64_t begin_ns = loop_now_ns();
    size_t limit = cloud->snapshot_size < SNAPSHOT_ADD_MIN
                       ? SNAPSHOT_ADD_MIN
                       : cloud->snapshot_size;
    struct err err = { "" };
    bool is_whole = cloud->is_snapshot_stale || cloud->snapshot_added > limit;

    if ((is_whole ? write_all(cloud, &err) : add_news(cloud, &err)) != 0) {
        log_warning("sync", "no snapshot of the rows reason=%s", err.text);
    }
    row_set_done(&cloud->snapshot_news);
    uint64_t now_ns = loop_now_ns();
    uint64_t rest_ns = (now_ns - begin_ns) * SNAPSHOT_REST_FACTOR;
    cloud->snapshot_ns =
        now_ns + (rest_ns > SNAPSHOT_REST_NS ? rest_ns : SNAPSHOT_REST_NS);
    if (is_due(cloud)) { /* It failed. */
        loop_timer_set(cloud->loop, &cloud->snapshot_timer, cloud->snapshot_ns);
    }
}

static void
note_news(struct cloud *cloud, bool was_due)
{
    uint64_t when_ns = loop_now_ns() + SNAPSHOT_DELAY_NS;

    if (!was_due && cloud->is_snapshot_over) {
        loop_timer_set(cloud->loop, &cloud->snapshot_timer,
                       when_ns > cloud->snapshot_ns ? when_ns
                                                    : cloud->snapshot_ns);
    }
}

void
cloud_snapshot_touch(struct cloud *cloud, enum state_table table,
                     const struct weft_uuid *uuid)
{
    bool was_due = is_due(cloud);

    if (table == STATE_TABLE_NET_HOST_STATUS) {
        return; /* Our own heartbeat is no news. */
    }
    if (!cloud->is_snapshot_stale) {
        (void)row_set_add(&cloud->snapshot_news, table, uuid);
    }
    note_news(cloud, was_due);
}

void
cloud_snapshot_touch_all(struct cloud *cloud)
{
    bool was_due = is_due(cloud);

    cloud->is_snapshot_stale = true;
    row_set_done(&cloud->snapshot_news);
    note_news(cloud, was_due);
}

/* ---- Reading ---- */

static int
read_file(const char *state_dir, struct text *ret_text)
{
    char path[600];
    struct stat stat;
    size_t done = 0;

    (void)snprintf(path, sizeof path, "%s/" SNAPSHOT_NAME, state_dir);
    CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &stat) != 0) {
        return -errno;
    }
    if (stat.st_size < 0 || (size_t)stat.st_size > SNAPSHOT_SIZE_MAX) {
        return -EFBIG;
    }
    size_t size = (size_t)stat.st_size;
    char *bytes = malloc(size + 1);
    CHECK(bytes != NULL);
    while (done < size) {
        ssize_t got = read(fd, bytes + done, size - done);
        if (got <= 0) {
            free(bytes);
            return got < 0 ? -errno : -EBADMSG;
        }
        done += (size_t)got;
    }
    bytes[size] = '\0';
    *ret_text = (struct text){ .bytes = bytes, .size = size };
    return 0;
}

/* A row as it was read; a later one replaces an earlier. */
struct read_row {
    struct state_row *row;
    size_t number;
    bool is_gone;
};

struct read_rows {
    struct read_row *items;
    size_t count, capacity;
};

static void
read_rows_cut(struct read_rows *rows, size_t count)
{
    while (rows->count > count) {
        state_row_free(rows->items[--rows->count].row);
    }
}

static void
read_rows_add(struct read_rows *rows, struct state_row *row, bool is_gone)
{
    if (rows->count == rows->capacity) {
        rows->capacity = rows->capacity == 0 ? 64 : rows->capacity * 2;
        rows->items =
            realloc(rows->items, rows->capacity * sizeof rows->items[0]);
        CHECK(rows->items != NULL);
    }
    rows->items[rows->count] = (struct read_row){ .row = row,
                                                  .number = rows->count,
                                                  .is_gone = is_gone };
    rows->count++;
}

static int
parse_row(char *line, struct read_rows *rows)
{
    char *uuid_text = strchr(line, ' ');
    char *columns = uuid_text == NULL ? NULL : strchr(uuid_text + 1, ' ');
    struct weft_uuid uuid;

    if (columns == NULL) {
        return -EBADMSG;
    }
    *uuid_text = '\0';
    *columns = '\0';
    if (uuid_parse(uuid_text + 1, &uuid) != 0) {
        return -EBADMSG;
    }
    for (enum state_table table = 0; table < STATE_TABLE_COUNT; table++) {
        if (strcmp(state_table_name(table), line) == 0 && is_kept(table)) {
            bool is_gone = strcmp(columns + 1, SNAPSHOT_GONE) == 0;
            struct state_row *row;
            int result = state_row_decode(table, &uuid,
                                          is_gone ? "{}" : columns + 1, &row);
            if (result == 0) {
                read_rows_add(rows, row, is_gone);
            }
            return result;
        }
    }
    return -EBADMSG;
}

/* The lines of a part behind its head. */
static int
parse_rows(char *begin, size_t size, size_t head, unsigned crc,
           struct read_rows *rows)
{
    int result = crc32c(0, begin, size) == crc ? 0 : -EBADMSG;

    for (char *line = begin + head, *end;
         result == 0 && (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = '\0';
        result = parse_row(line, rows);
    }
    return result;
}

/* One part; its end.  NULL: it is damaged, or there is none. */
static char *
parse_part(char *begin, size_t head, struct read_rows *rows)
{
    size_t before = rows->count, count;
    unsigned crc;

    for (char *line = begin + head, *end; (end = strchr(line, '\n')) != NULL;
         line = end + 1) {
        *end = '\0';
        if (sscanf(line, "end %zu %8x", &count, &crc) == 2) {
            *line = '\0';
            return parse_rows(begin, (size_t)(line - begin), head, crc, rows) ==
                               0 &&
                           rows->count - before == count
                       ? end + 1
                       : NULL;
        }
        *end = '\n';
    }
    return NULL;
}

static int
compare_rows(const void *a_, const void *b_)
{
    const struct state_row *a = *(struct state_row *const *)a_;
    const struct state_row *b = *(struct state_row *const *)b_;

    return a->table != b->table ? (a->table < b->table ? -1 : 1)
                                : uuid_compare(&a->uuid, &b->uuid);
}

static int
compare_read_rows(const void *a_, const void *b_)
{
    const struct read_row *a = a_, *b = b_;
    int order = compare_rows(&a->row, &b->row);

    return order != 0 ? order
                      : (a->number > b->number) - (a->number < b->number);
}

/* The last of each, sorted; takes the rows. */
static void
take_rows(struct cloud *cloud, struct read_rows *rows)
{
    cloud->snapshot = calloc(rows->count + 1, sizeof cloud->snapshot[0]);
    CHECK(cloud->snapshot != NULL);
    if (rows->count > 0) {
        qsort(rows->items, rows->count, sizeof rows->items[0],
              compare_read_rows);
    }
    for (size_t i = 0; i < rows->count; i++) {
        struct read_row *one = &rows->items[i];
        bool is_last = i + 1 == rows->count ||
                       compare_rows(&one->row, &rows->items[i + 1].row) != 0;
        if (is_last && !one->is_gone) {
            cloud->snapshot[cloud->snapshot_count++] = one->row;
        } else {
            state_row_free(one->row);
        }
    }
    rows->count = 0;
}

static int
parse_snapshot(struct cloud *cloud, char *bytes)
{
    char expected[128], uuid[UUID_TEXT_SIZE];
    struct read_rows rows = { NULL, 0, 0 };

    uuid_format(&cloud->pinned, uuid);
    int size = snprintf(expected, sizeof expected, SNAPSHOT_HEAD, uuid);
    if (strncmp(bytes, expected, (size_t)size) != 0) {
        return -EXDEV; /* Of another cloud, or another version. */
    }
    size_t head = (size_t)size, good = 0;
    bool has_first = false;
    while ((bytes = parse_part(bytes, head, &rows)) != NULL) {
        has_first = true;
        good = rows.count;
        head = 0;
    }
    read_rows_cut(&rows, good);
    if (has_first) {
        take_rows(cloud, &rows);
    }
    free(rows.items);
    return has_first ? 0 : -EBADMSG;
}

static void
load_snapshot(struct cloud *cloud)
{
    struct text text = { NULL, 0, 0 };
    int result = uuid_is_nil(&cloud->pinned)
                     ? -ENOENT
                     : read_file(cloud->state_dir, &text);

    if (result == 0) {
        result = parse_snapshot(cloud, text.bytes);
    }
    free(text.bytes);
    if (result != 0) {
        cloud_snapshot_forget(cloud);
        log_warning("sync",
                    "the Weft database does not answer, and there is "
                    "no snapshot to go by; everything stays as it is "
                    "reason=%s",
                    strerror(-result));
        return;
    }
    log_warning("sync",
                "the Weft database does not answer, going by the "
                "snapshot rows=%zu",
                cloud->snapshot_count);
    for (size_t i = 0; i < cloud->snapshot_count; i++) {
        cloud_deliver(cloud, cloud->snapshot[i]);
    }
}

/* ---- Life ---- */

static void
snapshot_fire(struct loop_timer *timer)
{
    struct cloud *cloud = container_of(timer, struct cloud, snapshot_timer);

    if (cloud->is_snapshot_over) {
        if (cloud->is_complete && state_status(cloud->state)->is_connected) {
            write_snapshot(cloud);
        } else {
            loop_timer_set(cloud->loop, timer,
                           loop_now_ns() + SNAPSHOT_DELAY_NS);
        }
    } else if (state_status(cloud->state)->is_connected) {
        loop_timer_set(cloud->loop, timer, loop_now_ns() + SNAPSHOT_DELAY_NS);
    } else {
        load_snapshot(cloud);
    }
}

void
cloud_snapshot_start(struct cloud *cloud)
{
    cloud->is_snapshot_stale = true;
    loop_timer_init(&cloud->snapshot_timer, snapshot_fire);
    loop_timer_set(cloud->loop, &cloud->snapshot_timer,
                   loop_now_ns() + CLOUD_SNAPSHOT_WAIT_NS);
}

void
cloud_snapshot_stop(struct cloud *cloud)
{
    loop_timer_cancel(cloud->loop, &cloud->snapshot_timer);
    if (cloud->is_snapshot_over && is_due(cloud) && cloud->is_complete) {
        write_snapshot(cloud);
    }
    cloud_snapshot_forget(cloud);
}

void
cloud_snapshot_forget(struct cloud *cloud)
{
    for (size_t i = 0; i < cloud->snapshot_count; i++) {
        state_row_free(cloud->snapshot[i]);
    }
    free(cloud->snapshot);
    cloud->snapshot = NULL;
    cloud->snapshot_count = 0;
}

/* ---- Its rows ---- */

/* The first that is not before (table, uuid). */
static size_t
find_place(const struct cloud *cloud, enum state_table table,
           const struct weft_uuid *uuid)
{
    struct state_row key = { .table = table, .uuid = *uuid };
    const struct state_row *pointer = &key;
    size_t low = 0, high = cloud->snapshot_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_rows(&cloud->snapshot[middle], &pointer) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

const struct state_row *
cloud_snapshot_row(const struct cloud *cloud, enum state_table table,
                   const struct weft_uuid *uuid)
{
    size_t place = find_place(cloud, table, uuid);

    if (place < cloud->snapshot_count) {
        const struct state_row *row = cloud->snapshot[place];
        if (row->table == table && uuid_equal(&row->uuid, uuid)) {
            return row;
        }
    }
    return NULL;
}

const struct state_row *
cloud_snapshot_next(const struct cloud *cloud, enum state_table table,
                    const struct state_row *previous)
{
    static const struct weft_uuid nil = { { 0 } };
    size_t place = previous == NULL
                       ? find_place(cloud, table, &nil)
                       : find_place(cloud, table, &previous->uuid) + 1;

    return place < cloud->snapshot_count &&
                   cloud->snapshot[place]->table == table
               ? cloud->snapshot[place]
               : NULL;
}
