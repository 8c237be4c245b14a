/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_SYNC_CLOUD_H
#define NETD_SYNC_CLOUD_H

/* The scoped connection to the Weft database: the rows that this host needs,
 * and no others (N10).
 *
 *     cloud_new()            begins to connect, following almost nothing
 *     cloud_set_interfaces() what shows up here by iface-id
 *     listener->put/remove   rows as they come and go, as values
 *     listener->changed      cloud_is_complete() or the status is another
 *
 * Invariants:
 *   (1) No row is given out before the cloud's UUID was compared with the one
 *       pinned on this host in state_dir; of another cloud none ever is (N7).
 *   (2) While cloud_is_complete() is false rows may be missing: nobody may
 *       conclude from one that is not there.  It is true when the server has
 *       acknowledged all conditions and they are those that the rows call for;
 *       and stays as it was while there is no connection.
 *   (3) What was put and is gone is removed, whatever happened in between.
 *   (4) If the database does not answer for CLOUD_SNAPSHOT_WAIT_NS after the
 *       start, the rows of the last snapshot in state_dir stand in for it; the
 *       differences follow when it answers.
 *
 * Thread: that of the loop.  The listener is called from the loop only. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/check.h"
#include "lib/base/err.h"
#include "lib/state/state.h"
#include "netd/sync/scope.h"

#define CLOUD_SNAPSHOT_WAIT_NS UINT64_C(2000000000)

struct cloud;

struct cloud_listener;
typedef void cloud_put_fn(struct cloud_listener *listener,
                          const struct state_row *row);
typedef void cloud_remove_fn(struct cloud_listener *listener,
                             enum state_table table,
                             const struct weft_uuid *uuid);
typedef void cloud_changed_fn(struct cloud_listener *listener);
struct cloud_listener {
    cloud_put_fn *put; /* Borrowed for the call. */
    cloud_remove_fn *remove;
    cloud_changed_fn *changed;
};

struct cloud_options {
    struct loop *loop;
    const char *remotes;
    const char *host;
    const char *state_dir;
    struct cloud_listener *listener;
};

/* Copies the options.  -errno with 'err' set. */
WEFT_MUST_CHECK int cloud_new(const struct cloud_options *options,
                              struct err *err, struct cloud **ret_cloud);
/* Settles transactions.  Accepts NULL. */
void cloud_free(struct cloud *cloud);

/* The connection, for transactions. */
struct state *cloud_state(struct cloud *cloud);

/* Ports that show up here by an interface, sorted or not; copies. */
void cloud_set_interfaces(struct cloud *cloud, const struct weft_uuid *ports,
                          size_t count);

bool cloud_is_complete(const struct cloud *cloud);

struct cloud_status {
    bool is_connected;
    bool is_complete;
    bool is_from_snapshot; /* The rows are the snapshot's. */
    bool is_refused;       /* It is the database of another cloud. */
    bool is_pinned;        /* This host knows its cloud. */
    uint64_t connects;
    size_t left_out; /* Networks above a router's limit. */
};
void cloud_get_status(const struct cloud *cloud,
                      struct cloud_status *ret_status);

const struct scope *cloud_scope(const struct cloud *cloud);

/* A row as given out, or NULL. */
const struct state_row *cloud_row(const struct cloud *cloud,
                                  enum state_table table,
                                  const struct weft_uuid *uuid);
/* All rows of a table; 'previous' NULL begins, NULL ends. */
const struct state_row *cloud_next(const struct cloud *cloud,
                                   enum state_table table,
                                   const struct state_row *previous);

/* Changes with each change of what concerns ports here: rows of ports, their
 * statuses, networks, plugs and hosts, and whether all are complete. */
uint64_t cloud_ports_seqno(const struct cloud *cloud);
/* The ports with Port.host or migrate_host of this host, or an interface here;
 * sorted.  Some may have gone: cloud_row() tells. */
const struct uuid_set *cloud_ports(const struct cloud *cloud);

#endif /* NETD_SYNC_CLOUD_H */
