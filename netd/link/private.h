/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_LINK_PRIVATE_H
#define NETD_LINK_PRIVATE_H

/* What link.c and make.c share. */

#include "netd/link/link.h"

struct nl_sock;

#define LINK_GONE_MAX 32u

struct link {
    struct loop *loop;
    struct link_listener *listener;
    struct nl_sock *requests;
    struct nl_sock *events;
    struct loop_fd events_fd;
    /* Names of devices that have gone. */
    char gone[LINK_GONE_MAX][LINK_NAME_SIZE];
    size_t gone_count;
    bool is_any_gone; /* They were too many, or news was lost. */
};

/* libnl's error as -errno. */
int link_error(int nl_error);

#endif /* NETD_LINK_PRIVATE_H */
