/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_LINK_PRIVATE_H
#define NETD_LINK_PRIVATE_H

/* What link.c and make.c share. */

#include "netd/link/link.h"

struct nl_sock;

struct link {
    struct loop *loop;
    struct link_listener *listener;
    struct nl_sock *requests;
    struct nl_sock *events;
    struct loop_fd events_fd;
};

/* libnl's error as -errno. */
int link_error(int nl_error);

#endif /* NETD_LINK_PRIVATE_H */
