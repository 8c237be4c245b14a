/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/link/link.h"

#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "netd/link/private.h"

/* Foreign: libnl. */
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/errno.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/socket.h>

/* Requests go over one socket, which waits for the answer; news comes on
 * another, of whose messages only the names of devices that are gone are kept:
 * whoever wants to know more looks at how things are now.  So a message that
 * the kernel had to drop (ENOBUFS) is no loss. */

int
link_error(int nl_error)
{
    static const struct {
        int nl, error;
    } known[] = {
        { NLE_EXIST, EEXIST },         { NLE_NODEV, ENODEV },
        { NLE_OBJ_NOTFOUND, ENODEV },  { NLE_PERM, EPERM },
        { NLE_NOACCESS, EACCES },      { NLE_BUSY, EBUSY },
        { NLE_INVAL, EINVAL },         { NLE_NOMEM, ENOMEM },
        { NLE_OPNOTSUPP, EOPNOTSUPP }, { NLE_RANGE, ERANGE },
        { NLE_AGAIN, EAGAIN },
    };

    if (nl_error >= 0) {
        return 0;
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (known[i].nl == -nl_error) {
            return -known[i].error;
        }
    }
    return -EIO;
}

/* ---- News ---- */

static void
link_note_gone(struct link *link, struct nlmsghdr *header, int size)
{
    for (; nlmsg_ok(header, size); header = nlmsg_next(header, &size)) {
        if (header->nlmsg_type != RTM_DELLINK) {
            continue;
        }
        struct nlattr *name =
            nlmsg_find_attr(header, sizeof(struct ifinfomsg), IFLA_IFNAME);
        if (name == NULL || link->gone_count == LINK_GONE_MAX) {
            link->is_any_gone = true;
            continue;
        }
        (void)nla_strlcpy(link->gone[link->gone_count++], name, LINK_NAME_SIZE);
    }
}

bool
link_may_be_gone(const struct link *link, const char *device)
{
    for (size_t i = 0; i < link->gone_count; i++) {
        if (strcmp(link->gone[i], device) == 0) {
            return true;
        }
    }
    return link->is_any_gone;
}

void
link_forget_gone(struct link *link)
{
    link->gone_count = 0;
    link->is_any_gone = false;
}

static void
link_events_ready(struct loop_fd *fd, short revents)
{
    struct link *link = container_of(fd, struct link, events_fd);
    bool has_news = false;
    (void)revents;

    for (unsigned i = 0; i < 64; i++) {
        struct sockaddr_nl from;
        unsigned char *message = NULL;
        int result = nl_recv(link->events, &from, &message, NULL);

        if (result > 0) {
            link_note_gone(link, (struct nlmsghdr *)message, result);
            free(message);
        }
        if (result == 0 || result == -NLE_AGAIN) {
            break;
        }
        has_news = true; /* Also when some were lost. */
        if (result < 0) {
            link->is_any_gone = true;
            break;
        }
    }
    if (has_news) {
        link->listener->changed(link->listener);
    }
}

static int
link_open_events(struct link *link)
{
    int result;

    link->events = nl_socket_alloc();
    if (link->events == NULL) {
        return -ENOMEM;
    }
    nl_socket_disable_seq_check(link->events);
    result = nl_connect(link->events, NETLINK_ROUTE);
    if (result == 0) {
        result = nl_socket_set_nonblocking(link->events);
    }
    if (result == 0) {
        result = nl_socket_add_memberships(link->events, RTNLGRP_LINK,
                                           RTNLGRP_IPV4_IFADDR,
                                           RTNLGRP_IPV6_IFADDR, 0);
    }
    return link_error(result);
}

int
link_new(struct loop *loop, struct link_listener *listener,
         struct link **ret_link)
{
    struct link *link = calloc(1, sizeof *link);
    int result;

    if (link == NULL) {
        return -ENOMEM;
    }
    link->loop = loop;
    link->listener = listener;
    link->is_any_gone = true; /* Who knows. */
    link->requests = nl_socket_alloc();
    if (link->requests == NULL) {
        free(link);
        return -ENOMEM;
    }
    result = link_error(nl_connect(link->requests, NETLINK_ROUTE));
    if (result == 0) {
        result = link_open_events(link);
    }
    if (result != 0) {
        nl_socket_free(link->events);
        nl_socket_free(link->requests);
        free(link);
        return result;
    }
    link->events_fd = (struct loop_fd){
        .fd = nl_socket_get_fd(link->events),
        .events = POLLIN,
        .ready = link_events_ready,
    };
    loop_add_fd(loop, &link->events_fd);
    *ret_link = link;
    return 0;
}

void
link_free(struct link *link)
{
    if (link == NULL) {
        return;
    }
    loop_remove_fd(link->loop, &link->events_fd);
    nl_socket_free(link->events);
    nl_socket_free(link->requests);
    free(link);
}

/* ---- Looking ---- */

int
link_find(struct link *link, const char *device, struct link_info *ret_info)
{
    struct rtnl_link *found = NULL;
    int result;

    if (strlen(device) >= LINK_NAME_SIZE) {
        return -ENODEV;
    }
    result =
        link_error(rtnl_link_get_kernel(link->requests, 0, device, &found));
    if (result != 0) {
        return result;
    }
    const char *type = rtnl_link_get_type(found);
    *ret_info = (struct link_info){
        .mtu = rtnl_link_get_mtu(found),
        .is_up = (rtnl_link_get_flags(found) & IFF_UP) != 0,
        .is_veth = type != NULL && strcmp(type, "veth") == 0,
        .is_tap = type != NULL && strcmp(type, "tun") == 0,
    };
    rtnl_link_put(found);
    return 0;
}

int
link_mtu_of_address(struct link *link, const char *address, uint32_t *ret_mtu)
{
    struct nl_cache *cache = NULL;
    struct nl_addr *wanted = NULL;
    struct rtnl_link *found = NULL;
    int index = 0;
    int result;

    if (nl_addr_parse(address, AF_UNSPEC, &wanted) != 0) {
        return -EINVAL;
    }
    result = rtnl_addr_alloc_cache(link->requests, &cache);
    if (result != 0) {
        nl_addr_put(wanted);
        return link_error(result);
    }
    for (struct nl_object *at = nl_cache_get_first(cache); at != NULL;
         at = nl_cache_get_next(at)) {
        struct rtnl_addr *one = (struct rtnl_addr *)at;
        const struct nl_addr *local = rtnl_addr_get_local(one);
        /* Without the prefix, which is not in 'wanted'. */
        if (local != NULL &&
            nl_addr_get_family(local) == nl_addr_get_family(wanted) &&
            nl_addr_get_len(local) == nl_addr_get_len(wanted) &&
            memcmp(nl_addr_get_binary_addr(local),
                   nl_addr_get_binary_addr(wanted),
                   nl_addr_get_len(wanted)) == 0) {
            index = rtnl_addr_get_ifindex(one);
        }
    }
    nl_cache_free(cache);
    nl_addr_put(wanted);
    if (index == 0) {
        return -ENODEV;
    }
    result =
        link_error(rtnl_link_get_kernel(link->requests, index, NULL, &found));
    if (result == 0) {
        *ret_mtu = rtnl_link_get_mtu(found);
        rtnl_link_put(found);
    }
    return result;
}
