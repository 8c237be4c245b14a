/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_PEER_LINK_H
#define BLOCKD_PEER_LINK_H

/* A link: the way from one reactor to one disk, wherever it is.
 *
 * Three kinds behind one door: a store of this reactor (a direct call), a
 * store of another reactor of this process (by io_post), a store of another
 * host (the peer protocol, docs/peer-protocol.md).  Whoever uses a link does
 * not know which it has, but for link_is_local().
 *
 *   (1) link_submit() never calls done(); done() runs on the link's reactor.
 *   (2) Each request settles: the store answers, the link goes down
 *       (-ENOTCONN) or its deadline passes (-ETIMEDOUT, and the connection is
 *       cut so that nothing late can be confused with it).
 *   (3) After -ENOTCONN or -ETIMEDOUT the outcome is unknown: the request may
 *       still be executing over there, until a new FENCE has been answered.
 *   (4) A remote link that is down connects again by itself (backoff 10 ms..1
 * s) while it has users.  A request submitted while down fails with -ENOTCONN.
 *   (5) Keep-alive: a peer that is silent for link_options.silence_ns (default
 *       800 ms) while it owes us anything is cut; idle links ping.
 *   (6) Requests of one link are delivered in order of submission; they may
 *       complete in any order.
 *
 * Thread: the link's reactor only. */

#include <stdbool.h>
#include <stdint.h>

#include "blockd/store/store.h"
#include "lib/base/list.h"
#include "lib/base/uuid.h"
#include "lib/io/io.h"

struct link;

struct link_vtable {
    void (*submit)(struct link *link, struct store_req *req);
    void (*stop)(struct link *link); /* Users are gone: close.  Or NULL. */
    /* Optional.  Cuts the connection: what is pending fails with -ENOTCONN,
     * later; then the link connects again by itself.  For grey failures (S20):
     * a request's memory cannot be released otherwise while the other side sits
     * on it.  On a local link only requests with a deadline are cut off
     * (link_local.h). */
    void (*cut)(struct link *link);
    /* The first user has come: connect.  Or NULL. */
    void (*start)(struct link *link);
    /* link_close_start(): refuse new requests for good; when the last one has
     * settled set the state DOWN and call link_quiet(), later. */
    void (*close)(struct link *link);
    /* The link is quiet and has no users. */
    void (*free)(struct link *link);
};

enum link_state {
    LINK_DOWN, /* Not connected (or refused: see reason). */
    LINK_UP,
};

struct link_user;
/* The state changed.  Called on the link's reactor, not inside a submit.  On
 * going down, pending requests are failed first. */
typedef void link_user_fn(struct link_user *user, enum link_state state);

/* Embedded in whoever follows a link. */
struct link_user {
    link_user_fn *changed;
    /* Private. */
    struct list node;
    enum link_state told;
};

struct link_close;
typedef void link_close_fn(struct link_close *op);

/* Ends a link.  New requests get -ENOTCONN, those in flight settle, users are
 * told that it is DOWN.  Then quiet() runs (it may be NULL): the store behind a
 * local link is not referenced any more and may be closed.  When the last user
 * has removed itself, too, the link is freed and done() runs. */
struct link_close {
    link_close_fn *quiet;
    link_close_fn *done;
};

/* First member of each kind of link. */
struct link {
    const struct link_vtable *vtable;
    struct io *io;
    struct weft_uuid disk;
    enum link_state state;
    int reason; /* -errno of the last failure while DOWN. */
    struct list users;
    bool local;
    uint64_t latency_ns; /* Smoothed answer time, for choosing a reader. */
    uint32_t in_flight;
    /* Private to link.c. */
    struct link_close *close_op;
    struct io_task close_task;
    bool is_quiet, quiet_told;
};

void link_submit(struct link *link, struct store_req *req);
/* See link_vtable.cut; nothing happens on a link that has none. */
static inline void
link_cut(struct link *link)
{
    if (link->vtable->cut != NULL) {
        link->vtable->cut(link);
    }
}
void link_user_add(struct link *link, struct link_user *user,
                   link_user_fn *changed);
void link_user_remove(struct link *link, struct link_user *user);
/* Whether the disk is of this process. */
static inline bool
link_is_local(const struct link *link)
{
    return link->local;
}
/* 'op' is borrowed until done().  Once for each link. */
void link_close_start(struct link *link, struct link_close *op);

/* ---- For the kinds ---- */

void link_init(struct link *link, const struct link_vtable *vtable,
               struct io *io, const struct weft_uuid *disk, bool local);
/* Sets the state and tells the users if it changed. */
void link_set_state(struct link *link, enum link_state state, int reason);
/* See 'close' above. */
void link_quiet(struct link *link);
/* An answer took so long. */
void link_note_latency(struct link *link, uint64_t sample_ns);

#endif /* BLOCKD_PEER_LINK_H */
