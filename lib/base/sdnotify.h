/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_BASE_SDNOTIFY_H
#define LIB_BASE_SDNOTIFY_H

/* Tells the service manager how we are: sd_notify(3) without libsystemd.
 *
 * All of these succeed and do nothing when $NOTIFY_SOCKET is not set.  They
 * may block for as long as the manager's socket is full: not on a reactor. */

#include "lib/base/check.h"

/* 'state' is lines such as "READY=1" or "STATUS=3 disks open".  -EINVAL: the
 * variable is neither a path nor an abstract name; else what the socket
 * said. */
WEFT_MUST_CHECK int sdnotify_send(const char *state);

WEFT_MUST_CHECK int sdnotify_ready(void);
WEFT_MUST_CHECK int sdnotify_stopping(void);

#endif /* LIB_BASE_SDNOTIFY_H */
