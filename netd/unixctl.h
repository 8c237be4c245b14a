/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_UNIXCTL_H
#define NETD_UNIXCTL_H

/* One question to ovs-vswitchd by its control socket, as ovs-appctl asks: for
 * what neither OpenFlow nor its database can do.
 *
 * Blocks for up to seconds: for threads that may. */

#include <stddef.h>

#include "lib/base/check.h"

#define UNIXCTL_REASON_SIZE 200

struct unixctl_answer {
    char *text;                       /* The caller frees; NULL on failure. */
    char reason[UNIXCTL_REASON_SIZE]; /* Of a failure. */
};

/* 'run_dir' is the switch's.  Method and parameters are without quotes and
 * backslashes.  -errno of the connection; -ETIMEDOUT; -EPROTO: it refuses. */
WEFT_MUST_CHECK int unixctl_ask(const char *run_dir, const char *method,
                                const char *const *params, size_t count,
                                struct unixctl_answer *ret_answer);

#endif /* NETD_UNIXCTL_H */
