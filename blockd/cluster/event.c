/* SPDX-License-Identifier: Apache-2.0 */

/* Events: rows for people.  They are best effort: with no database, or when
 * too many wait, they are only logged. */

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "blockd/cluster/cluster_internal.h"
#include "lib/base/container_of.h"
#include "lib/base/log.h"

#define EVENTS_PENDING_MAX 64u

struct event_txn {
    struct cluster *cluster;
    struct list node;
    struct state_txn txn;
    struct weft_uuid uuid;
    enum state_event_severity severity;
    uint64_t time_ms;
    char object[CLUSTER_NAME_SIZE + 16];
    char kind[64];
    char text[512];
};

static int
event_build(struct state_txn *txn, struct state *state)
{
    struct event_txn *event = container_of(txn, struct event_txn, txn);
    struct state_event row = {
        .row = { .table = STATE_TABLE_EVENT, .uuid = event->uuid },
        .time_ms = event->time_ms,
        .severity = event->severity,
        .object = event->object,
        .kind = event->kind,
        .text = event->text,
        .host = event->cluster->host,
    };
    (void)state;

    state_txn_insert(txn, &row.row, STATE_EVENT_COL_ALL);
    return 0;
}

static void
event_done(struct state_txn *txn, int result)
{
    struct event_txn *event = container_of(txn, struct event_txn, txn);

    if (result != 0) {
        log_debug("cluster", "event not recorded object=%s result=%d",
                  event->object, result);
    }
    event->cluster->events_pending--;
    list_remove(&event->node);
    if (event->cluster->is_stopping) {
        cluster_touch(event->cluster);
    }
    free(event);
}

void
cluster_cancel_events(struct cluster *cluster)
{
    LIST_FOREACH (node, &cluster->events) {
        state_txn_cancel(&container_of(node, struct event_txn, node)->txn);
    }
}

/* FNV-1a over what makes two events the same to people. */
static uint64_t
event_hash(uint64_t hash, const char *text)
{
    for (; *text != '\0'; text++) {
        hash = (hash ^ (uint8_t)*text) * UINT64_C(0x100000001b3);
    }
    return (hash ^ 0xff) * UINT64_C(0x100000001b3);
}

/* Whether the same was said a short while ago: a job that fails is tried again
 * each second, and people want to hear it once. */
static bool
event_is_repeated(struct cluster *cluster, const char *object, const char *kind,
                  const char *text)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    uint64_t now_ns = loop_now_ns();

    hash = event_hash(event_hash(event_hash(hash, object), kind), text);
    for (uint32_t i = 0; i < CLUSTER_RECENT_EVENTS; i++) {
        if (cluster->recent[i].hash == hash &&
            now_ns < cluster->recent[i].time_ns + 60 * NS_PER_S) {
            return true;
        }
    }
    cluster->recent[cluster->recent_next] =
        (struct cluster_recent){ .hash = hash, .time_ns = now_ns };
    cluster->recent_next = (cluster->recent_next + 1) % CLUSTER_RECENT_EVENTS;
    return false;
}

/* "replica-stale" of a mirror becomes REPLICA_STALE, as event.proto has it. */
static void
event_copy_kind(char *ret_kind, size_t size, const char *kind)
{
    size_t i = 0;

    for (; kind[i] != '\0' && i + 1 < size; i++) {
        char c = kind[i];
        ret_kind[i] = c == '-'               ? '_'
                      : c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A')
                                             : c;
    }
    ret_kind[i] = '\0';
}

void
cluster_event(struct cluster *cluster, enum state_event_severity severity,
              const char *object, const char *kind, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (severity != STATE_EVENT_SEVERITY_INFO &&
        event_is_repeated(cluster, object, kind, text)) {
        return;
    }
    if (severity == STATE_EVENT_SEVERITY_INFO) {
        log_info("cluster", "event object=%s kind=%s text=%s", object, kind,
                 text);
    } else {
        log_warning("cluster", "event object=%s kind=%s text=%s", object, kind,
                    text);
    }
    if (cluster->events_pending >= EVENTS_PENDING_MAX) {
        return;
    }
    struct event_txn *event = calloc(1, sizeof *event);
    if (event == NULL) {
        return;
    }
    event->cluster = cluster;
    event->severity = severity;
    event->time_ms = cluster_wall_ms();
    state_uuid_random(&event->uuid);
    (void)snprintf(event->object, sizeof event->object, "%s", object);
    event_copy_kind(event->kind, sizeof event->kind, kind);
    (void)snprintf(event->text, sizeof event->text, "%s", text);
    event->txn = (struct state_txn){
        .build = event_build,
        .done = event_done,
        .comment = "event",
        .deadline_ns = loop_now_ns() + 60 * NS_PER_S,
    };
    cluster->events_pending++;
    list_push_back(&cluster->events, &event->node);
    state_txn_start(cluster->state, &event->txn);
}
