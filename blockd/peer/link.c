/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/peer/link.h"

/* What all kinds of links share: users, state, the end.
 *
 * A user's changed() may do anything to the link: submit, add and remove users
 * (itself or others), begin to close it.  Memory is only ever freed in
 * close_step(), which runs as a task of its own. */

#include <stddef.h>

#include "lib/base/container_of.h"

static io_task_fn close_step;

void
link_init(struct link *link, const struct link_vtable *vtable, struct io *io,
          const struct weft_uuid *disk, bool local)
{
    *link = (struct link){
        .vtable = vtable,
        .io = io,
        .disk = *disk,
        .state = LINK_DOWN,
        .local = local,
    };
    list_init(&link->users);
    io_task_init(&link->close_task, close_step);
}

void
link_submit(struct link *link, struct store_req *req)
{
    CHECK(req->done != NULL);
    link->vtable->submit(link, req);
}

void
link_user_add(struct link *link, struct link_user *user, link_user_fn *changed)
{
    bool is_first = list_is_empty(&link->users);

    user->changed = changed;
    user->told = link->state;
    list_init(&user->node);
    list_push_back(&link->users, &user->node);
    if (is_first && link->close_op == NULL && link->vtable->start != NULL) {
        link->vtable->start(link);
    }
}

void
link_user_remove(struct link *link, struct link_user *user)
{
    CHECK(list_is_linked(&user->node));
    list_remove(&user->node);
    if (!list_is_empty(&link->users)) {
        return;
    }
    if (link->close_op != NULL) {
        if (link->is_quiet) {
            io_task_defer(link->io, &link->close_task);
        }
    } else if (link->vtable->stop != NULL) {
        link->vtable->stop(link);
    }
}

/* Searched anew each time, because a user may remove others, and may bring
 * about the next change of state. */
static struct link_user *
find_untold(struct link *link)
{
    LIST_FOREACH (node, &link->users) {
        struct link_user *user = container_of(node, struct link_user, node);
        if (user->told != link->state) {
            return user;
        }
    }
    return NULL;
}

void
link_set_state(struct link *link, enum link_state state, int reason)
{
    struct link_user *user;

    if (state == LINK_DOWN) {
        link->reason = reason;
    }
    if (link->state == state) {
        return;
    }
    link->state = state;

    while ((user = find_untold(link)) != NULL) {
        user->told = link->state;
        user->changed(user, link->state);
    }
}

void
link_note_latency(struct link *link, uint64_t sample_ns)
{
    if (link->latency_ns == 0) {
        link->latency_ns = sample_ns;
    } else {
        link->latency_ns += sample_ns / 8;
        link->latency_ns -= link->latency_ns / 8;
    }
}

/* ---- The end ---- */

void
link_close_start(struct link *link, struct link_close *op)
{
    CHECK(link->close_op == NULL);
    CHECK(op->done != NULL);
    link->close_op = op;
    link->vtable->close(link);
}

void
link_quiet(struct link *link)
{
    CHECK(link->close_op != NULL);
    CHECK(!link->is_quiet);
    CHECK(link->state == LINK_DOWN);
    link->is_quiet = true;
    io_task_defer(link->io, &link->close_task);
}

static void
close_step(struct io_task *task)
{
    struct link *link = container_of(task, struct link, close_task);
    struct link_close *op = link->close_op;

    if (!link->quiet_told) {
        link->quiet_told = true;
        if (op->quiet != NULL) {
            op->quiet(op);
        }
    }
    if (!list_is_empty(&link->users)) {
        return; /* The last to leave comes back here. */
    }
    io_task_cancel(link->io, &link->close_task);
    link->vtable->free(link);
    op->done(op);
}
