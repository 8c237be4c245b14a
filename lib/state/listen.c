/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/state/private.h"

#include "lib/base/container_of.h"

/* Who hears of changes.  A listener that is being called may unsubscribe, and
 * so may any other from within its callbacks: 'next_listener' is moved on by
 * state_unsubscribe(), and 'this_listener' becomes NULL. */

typedef void deliver_fn(struct state *state, struct state_listener *listener,
                        const struct change_set *changes);

void
state_subscribe(struct state *state, struct state_listener *listener,
                uint64_t tables)
{
    listener->tables = tables;
    listener->is_primed = false;
    list_push_back(&state->listeners, &listener->node);
    state->has_unprimed = true;
}

void
state_unsubscribe(struct state *state, struct state_listener *listener)
{
    if (state->next_listener == &listener->node) {
        state->next_listener = listener->node.next;
    }
    if (state->this_listener == listener) {
        state->this_listener = NULL;
    }
    CHECK(list_is_linked(&listener->node));
    list_remove(&listener->node);
}

static void
for_each_listener(struct state *state, deliver_fn *deliver,
                  const struct change_set *changes)
{
    struct list *node = state->listeners.next;

    CHECK(!state->is_calling);
    state->is_calling = true;
    while (node != &state->listeners) {
        state->next_listener = node->next;
        state->this_listener = container_of(node, struct state_listener, node);
        deliver(state, state->this_listener, changes);
        node = state->next_listener;
    }
    state->next_listener = NULL;
    state->this_listener = NULL;
    state->is_calling = false;
}

static bool
wants(const struct state_listener *listener, enum state_table table)
{
    return (listener->tables & STATE_TABLE_BIT(table)) != 0;
}

static bool
wants_any(const struct state_listener *listener,
          const struct change_set *changes)
{
    for (size_t i = 0; i < changes->count; i++) {
        if (wants(listener, changes->changes[i].table)) {
            return true;
        }
    }
    return false;
}

static void
call_begin(struct state_listener *listener)
{
    if (listener->begin != NULL) {
        listener->begin(listener);
    }
}

static void
call_end(struct state *state, struct state_listener *listener)
{
    if (state->this_listener == listener && listener->end != NULL) {
        listener->end(listener);
    }
}

static void
deliver_changes(struct state *state, struct state_listener *listener,
                const struct change_set *changes)
{
    if (!listener->is_primed || !wants_any(listener, changes)) {
        return;
    }
    call_begin(listener);
    for (size_t i = 0; i < changes->count; i++) {
        if (state->this_listener != listener) {
            return; /* It is gone, and perhaps freed. */
        }
        if (wants(listener, changes->changes[i].table) &&
            listener->change != NULL) {
            listener->change(listener, &changes->changes[i]);
        }
    }
    call_end(state, listener);
}

static void
deliver_all_rows(struct state *state, struct state_listener *listener,
                 const struct change_set *unused)
{
    (void)unused;
    if (listener->is_primed) {
        return;
    }
    listener->is_primed = true;
    call_begin(listener);
    for (size_t i = 0; i < STATE_TABLE_COUNT; i++) {
        struct state_change change = {
            .kind = STATE_CHANGE_INSERT,
            .table = (enum state_table)i,
        };
        const struct state_row *row = NULL;
        if (state->this_listener != listener) {
            return;
        }
        if (!wants(listener, change.table) || listener->change == NULL) {
            continue;
        }
        while (state->this_listener == listener &&
               (row = state_row_next(state, change.table, row)) != NULL) {
            change.new_row = row;
            listener->change(listener, &change);
        }
    }
    call_end(state, listener);
}

static void
deliver_status(struct state *state, struct state_listener *listener,
               const struct change_set *unused)
{
    (void)state;
    (void)unused;
    if (listener->status != NULL) {
        listener->status(listener);
    }
}

void
listen_deliver(struct state *state, const struct change_set *changes)
{
    if (changes->count > 0) {
        for_each_listener(state, deliver_changes, changes);
    }
}

void
listen_prime(struct state *state)
{
    if (state->has_unprimed && state->status.has_contents) {
        state->has_unprimed = false;
        for_each_listener(state, deliver_all_rows, NULL);
    }
}

void
listen_status(struct state *state)
{
    for_each_listener(state, deliver_status, NULL);
}
