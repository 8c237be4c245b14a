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
 *     weft-netd 1 <cloud's UUID>
 *     <table> <UUID> <columns as JSON>
 *     ...
 *     end <number of rows> <CRC-32C of all before this line>
 *
 * Replaced as a whole, some seconds after a change, and less often the longer
 * that takes; only while the rows are complete.  It may be older than the
 * database: the rows that come from there in the end are what counts.  A file
 * that is damaged, or of another cloud, is as good as none. */

#define SNAPSHOT_NAME "snapshot"
#define SNAPSHOT_DELAY_NS (2 * NS_PER_S)
#define SNAPSHOT_REST_NS (10 * NS_PER_S)
#define SNAPSHOT_REST_FACTOR 50u
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

static void
append_row(struct text *text, const struct state_row *row)
{
    char uuid[UUID_TEXT_SIZE], head[128];
    CLEANUP_FREE char *columns = state_row_encode(row);

    uuid_format(&row->uuid, uuid);
    int size = snprintf(head, sizeof head, "%s %s ",
                        state_table_name(row->table), uuid);
    append(text, head, (size_t)size);
    append(text, columns, strlen(columns));
    append(text, "\n", 1);
}

static void
write_snapshot(struct cloud *cloud)
{
    struct text text = { NULL, 0, 0 };
    uint64_t begin_ns = loop_now_ns();
    char line[128], uuid[UUID_TEXT_SIZE];
    struct err err = { "" };
    size_t count = 0;

    uuid_format(&cloud->pinned, uuid);
    int size = snprintf(line, sizeof line, "weft-netd 1 %s\n", uuid);
    append(&text, line, (size_t)size);
    for (enum state_table table = 0; table < STATE_TABLE_COUNT; table++) {
        if ((scope_table_mask() >> table & 1) == 0) {
            continue;
        }
        for (const struct state_row *row = NULL;
             (row = state_row_next(cloud->state, table, row)) != NULL;) {
            append_row(&text, row);
            count++;
        }
    }
    size = snprintf(line, sizeof line, "end %zu %08x\n", count,
                    crc32c(0, text.bytes, text.size));
    append(&text, line, (size_t)size);
    cloud->is_snapshot_due = false;
    if (pin_replace_file(cloud->state_dir, SNAPSHOT_NAME, text.bytes, text.size,
                         &err) != 0) {
        log_warning("sync", "no snapshot of the rows reason=%s", err.text);
    }
    free(text.bytes);
    uint64_t now_ns = loop_now_ns();
    uint64_t rest_ns = (now_ns - begin_ns) * SNAPSHOT_REST_FACTOR;
    cloud->snapshot_ns =
        now_ns + (rest_ns > SNAPSHOT_REST_NS ? rest_ns : SNAPSHOT_REST_NS);
}

void
cloud_snapshot_touch(struct cloud *cloud, enum state_table table)
{
    if (table == STATE_TABLE_NET_HOST_STATUS || cloud->is_snapshot_due) {
        return; /* Our own heartbeat is no news. */
    }
    cloud->is_snapshot_due = true;
    uint64_t when_ns = loop_now_ns() + SNAPSHOT_DELAY_NS;
    if (cloud->is_snapshot_over) {
        loop_timer_set(cloud->loop, &cloud->snapshot_timer,
                       when_ns > cloud->snapshot_ns ? when_ns
                                                    : cloud->snapshot_ns);
    }
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

/* Cuts the last line off, and compares what it says; the number of rows. */
static int
check_end(struct text *text, size_t *ret_count)
{
    size_t count;
    unsigned crc;

    if (text->size == 0 || text->bytes[text->size - 1] != '\n') {
        return -EBADMSG;
    }
    size_t begin = text->size - 1;
    while (begin > 0 && text->bytes[begin - 1] != '\n') {
        begin--;
    }
    if (sscanf(text->bytes + begin, "end %zu %8x", &count, &crc) != 2 ||
        crc32c(0, text->bytes, begin) != crc || count > begin) {
        return -EBADMSG;
    }
    text->bytes[begin] = '\0';
    text->size = begin;
    *ret_count = count;
    return 0;
}

static int
parse_row(char *line, struct state_row **ret_row)
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
        if (strcmp(state_table_name(table), line) == 0 &&
            (scope_table_mask() >> table & 1) != 0) {
            return state_row_decode(table, &uuid, columns + 1, ret_row);
        }
    }
    return -EBADMSG;
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
parse_snapshot(struct cloud *cloud, struct text *text)
{
    char expected[128], uuid[UUID_TEXT_SIZE];
    size_t count;
    int result = check_end(text, &count);

    if (result != 0) {
        return result;
    }
    uuid_format(&cloud->pinned, uuid);
    int size = snprintf(expected, sizeof expected, "weft-netd 1 %s\n", uuid);
    if (strncmp(text->bytes, expected, (size_t)size) != 0) {
        return -EXDEV; /* Of another cloud, or another version. */
    }
    cloud->snapshot = calloc(count + 1, sizeof cloud->snapshot[0]);
    CHECK(cloud->snapshot != NULL);
    for (char *line = text->bytes + size, *end;
         result == 0 && (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = '\0';
        if (cloud->snapshot_count == count) {
            return -EBADMSG;
        }
        result = parse_row(line, &cloud->snapshot[cloud->snapshot_count]);
        cloud->snapshot_count += result == 0 ? 1 : 0;
    }
    return result;
}

static void
load_snapshot(struct cloud *cloud)
{
    struct text text = { NULL, 0, 0 };
    int result = uuid_is_nil(&cloud->pinned)
                     ? -ENOENT
                     : read_file(cloud->state_dir, &text);

    if (result == 0) {
        result = parse_snapshot(cloud, &text);
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
    qsort(cloud->snapshot, cloud->snapshot_count, sizeof cloud->snapshot[0],
          compare_rows);
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
    loop_timer_init(&cloud->snapshot_timer, snapshot_fire);
    loop_timer_set(cloud->loop, &cloud->snapshot_timer,
                   loop_now_ns() + CLOUD_SNAPSHOT_WAIT_NS);
}

void
cloud_snapshot_stop(struct cloud *cloud)
{
    loop_timer_cancel(cloud->loop, &cloud->snapshot_timer);
    if (cloud->is_snapshot_over && cloud->is_snapshot_due &&
        cloud->is_complete) {
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
