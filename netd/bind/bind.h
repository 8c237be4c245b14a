/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_BIND_BIND_H
#define NETD_BIND_BIND_H

/* Which ports are on this host, and what has become of each.
 *
 * bind looks at three things: the rows of the Weft database (sync/cloud.h), the
 * interfaces of the bridge (sync/vswitch.h) and the devices of this host
 * (link/link.h).  It decides by decide.h, and says
 *
 *     to its listener   which ports are to be compiled
 *     to the switch     zones to keep, MTUs, ports to add or take off
 *     to the database   claims, Binding, Port_Status (sync/report.h)
 *     to the kernel     taps and pairs to make or remove (Plug)
 *
 *              interface seen        flows confirmed
 *   scheduled ----------------> bound ----------------> up
 *       ^  interface gone         |                      |
 *       +-------------------------+----------------------+
 *   down: refused or disabled, from and to any of these
 *
 * A zone (conntrack) is handed out once, kept in the switch's database before
 * it is used (N8), emptied before it is used for another port (N17), and freed
 * when the port is no longer here.
 *
 * Thread: that of the loop.  bind_step() does everything; nothing else does. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/check.h"
#include "netd/link/link.h"
#include "netd/sync/cloud.h"
#include "netd/sync/report.h"
#include "netd/sync/vswitch.h"

struct bind;

struct bind_local {
    struct weft_uuid port;
    uint32_t ofport; /* 0: not there yet. */
    uint32_t zone;
};

struct bind_listener;
typedef void bind_put_fn(struct bind_listener *listener,
                         const struct bind_local *local);
typedef void bind_remove_fn(struct bind_listener *listener,
                            const struct weft_uuid *port);
typedef void bind_flush_fn(struct bind_listener *listener, uint32_t zone);
typedef void bind_touch_fn(struct bind_listener *listener);
struct bind_listener {
    bind_put_fn *put;
    bind_remove_fn *remove;
    /* Empty this zone; answer by bind_zone_flushed(), not from inside. */
    bind_flush_fn *flush;
    /* bind_step() is wanted: something of bind's own has come. */
    bind_touch_fn *touch;
};

struct bind_options {
    struct loop *loop;
    const char *host;
    struct cloud *cloud;
    struct vswitch *vswitch;
    struct link *link;
    struct report *report;
    struct bind_listener *listener;
    uint32_t zone_first, zone_last;
    uint32_t overhead; /* Bytes of encapsulation (N23). */
};

/* Borrows what the options point to.  Aborts when memory is out. */
struct bind *bind_new(const struct bind_options *options);
/* After the connection was closed, which settles transactions. */
void bind_free(struct bind *bind);

void bind_set_underlay_mtu(struct bind *bind, uint32_t mtu); /* 0: unknown. */

/* Looks at everything anew, if anything has changed: what it costs is in the
 * number of ports on this host. */
void bind_step(struct bind *bind);

/* Every port that is to be compiled has been put: nothing is missing because
 * bind did not get to it yet (N7). */
bool bind_is_settled(const struct bind *bind);

/* Devices or namespaces have changed: what could not be made may be now. */
void bind_links_changed(struct bind *bind);

void bind_zone_flushed(struct bind *bind, uint32_t zone);

/* All that was put so far goes into the commit 'version', of complete rows. */
void bind_committed(struct bind *bind, uint64_t version);
/* The switch has it. */
void bind_confirmed(struct bind *bind, uint64_t version);

/* The ports (sorted) of which the switch refuses some flows: they are down, and
 * say so.  To be followed by bind_confirmed() or a step. */
void bind_set_refused(struct bind *bind, const struct weft_uuid *ports,
                      size_t count);

struct bind_counts {
    size_t scheduled, bound, up, down;
};
void bind_count(const struct bind *bind, struct bind_counts *ret_counts);

#endif /* NETD_BIND_BIND_H */
