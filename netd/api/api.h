/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_API_API_H
#define NETD_API_API_H

/* The gRPC API of netd: the network services of weft.v1 (proto/weft/v1).
 *
 * Handlers run on the control thread.  They read the database's rows, write
 * what should be (never how), and answer; generated protobuf types stop here.
 * Any host answers for the whole cloud.
 *
 * Thread: the control thread. */

#include "lib/base/check.h"
#include "lib/base/err.h"
#include "lib/state/state.h"
#include "netd/api/trace_ops.h"

struct netd_api;

struct netd_api_options {
    struct loop *loop;
    /* A connection of its own, without conditions: the API sees all rows
     * (N10).  Borrowed until netd_api_free(). */
    struct state *state;
    const char *const *listen; /* Ends with NULL; borrowed until
                                * netd_api_free(). */
    const char *version;       /* These three are borrowed, too. */
    const char *database;      /* The remotes, for messages. */
    const char *host;          /* Net_Host.host of this host. */
    /* How to try a packet on this host's switch; NULL: it cannot be. */
    struct netd_trace_ops *trace;
};

/* Listens and serves.  -errno with text. */
WEFT_MUST_CHECK int netd_api_new(const struct netd_api_options *options,
                                 struct err *err, struct netd_api **ret_api);
/* Refuses new calls and cancels those that wait.  NULL is accepted. */
void netd_api_stop(struct netd_api *api);
/* After netd_api_stop() and loop_run(): turns the loop until all calls have
 * been answered.  'state' and 'trace' must still be there.  NULL is
 * accepted. */
void netd_api_free(struct netd_api *api);

#endif /* NETD_API_API_H */
