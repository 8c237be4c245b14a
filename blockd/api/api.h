/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_API_API_H
#define BLOCKD_API_API_H

/* The gRPC API of blockd: weft.v1 services (proto/weft/v1).
 *
 * Handlers run on the control thread.  They read the database's rows, write
 * what should be (never how), and answer; generated protobuf types stop here.
 * Any host answers for the whole cluster.
 *
 * Thread: the control thread. */

#include "blockd/cluster/cluster.h"
#include "lib/base/check.h"
#include "lib/base/err.h"
#include "lib/state/state.h"

struct api;

struct api_options {
    struct loop *loop;
    struct cluster *cluster;
    struct state *manager;     /* To tell who manages; may be NULL. */
    const char *const *listen; /* Ends with NULL; borrowed until api_free(). */
    const char *version;
    const char *database; /* The remotes, for status. */
};

WEFT_MUST_CHECK int api_new(const struct api_options *options, struct err *err,
                            struct api **ret_api);
/* Refuses new calls and cancels those that wait.  NULL is accepted. */
void api_stop(struct api *api);
/* After api_stop() and loop_run(): turns the loop until all calls have been
 * answered.  NULL is accepted. */
void api_free(struct api *api);

#endif /* BLOCKD_API_API_H */
