/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "netd/link/private.h"

/* Foreign: libnl and the kernel. */
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/ip.h>
#include <linux/sockios.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>
#include <netlink/route/link/inet.h>
#include <netlink/route/link/inet6.h>
#include <netlink/route/link/veth.h>

/* Making and removing devices.
 *
 * A device is complete or not there: whatever fails after it was made removes
 * it again, so that the next try begins afresh.
 *
 * link_shut().  The end that stays here is the switch's, which gets copies of
 * its packets (userspace datapath): the kernel's own stack sees them as well,
 * and would answer a guest's ARP and ND for addresses of this host, and let it
 * talk to this host's daemons.  So it is told to answer nothing there, to drop
 * what comes from a source it has no route to over this device (that is all),
 * and to have no IPv6. */

/* ---- Settings of one end, in the namespace that the thread is in ---- */

static int
link_ioctl(int fd, unsigned long request, struct ifreq *ifreq)
{
    return ioctl(fd, request, ifreq) < 0 ? -errno : 0;
}

static void
link_name_ifreq(struct ifreq *ifreq, const char *device)
{
    memset(ifreq, 0, sizeof *ifreq);
    (void)snprintf(ifreq->ifr_name, sizeof ifreq->ifr_name, "%s", device);
}

/* MTU, no transmit checksum offload, up. */
static int
link_set_up(const char *device, uint32_t mtu)
{
    struct ethtool_value off = { .cmd = ETHTOOL_STXCSUM, .data = 0 };
    CLEANUP_FD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq ifreq;
    int result;

    if (fd < 0) {
        return -errno;
    }
    link_name_ifreq(&ifreq, device);
    ifreq.ifr_mtu = (int)mtu;
    result = link_ioctl(fd, SIOCSIFMTU, &ifreq);
    if (result != 0) {
        return result;
    }
    link_name_ifreq(&ifreq, device);
    ifreq.ifr_data = (char *)&off;
    result = link_ioctl(fd, SIOCETHTOOL, &ifreq);
    if (result != 0 && result != -EOPNOTSUPP) {
        return result;
    }
    link_name_ifreq(&ifreq, device);
    result = link_ioctl(fd, SIOCGIFFLAGS, &ifreq);
    if (result != 0) {
        return result;
    }
    ifreq.ifr_flags = (short)(ifreq.ifr_flags | IFF_UP);
    return link_ioctl(fd, SIOCSIFFLAGS, &ifreq);
}

int
link_shut(struct link *link, const char *device)
{
    struct rtnl_link *found = NULL, *change = rtnl_link_alloc();
    char path[128];
    int result;

    if (change == NULL) {
        return -ENOMEM;
    }
    result =
        link_error(rtnl_link_get_kernel(link->requests, 0, device, &found));
    if (result == 0) {
        (void)rtnl_link_inet_set_conf(change, IPV4_DEVCONF_ARP_IGNORE, 8);
        (void)rtnl_link_inet_set_conf(change, IPV4_DEVCONF_RP_FILTER, 1);
        (void)rtnl_link_inet6_set_addr_gen_mode(change, IN6_ADDR_GEN_MODE_NONE);
        result = link_error(rtnl_link_change(link->requests, found, change, 0));
        rtnl_link_put(found);
    }
    rtnl_link_put(change);
    /* There is no other way to this one.  Where it is not to be had, the
     * device has no IPv6 address at least. */
    (void)snprintf(path, sizeof path, "/proc/sys/net/ipv6/conf/%s/disable_ipv6",
                   device);
    CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!write(fd, "1", 1);
    }
    return result;
}

static bool
link_name_is_valid(const char *name)
{
    size_t size = strlen(name);

    if (size == 0 || size >= LINK_NAME_SIZE || strcmp(name, ".") == 0 ||
        strcmp(name, "..") == 0) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if (name[i] <= ' ' || name[i] >= 127 || name[i] == '/' ||
            name[i] == ':') {
            return false;
        }
    }
    return true;
}

/* ---- Taps ---- */

static int
link_open_tap(const char *device)
{
    CLEANUP_FD int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    struct ifreq ifreq;
    int result;

    if (fd < 0) {
        return -errno;
    }
    link_name_ifreq(&ifreq, device);
    ifreq.ifr_flags = IFF_TAP | IFF_NO_PI;
    result = link_ioctl(fd, TUNSETIFF, &ifreq);
    if (result == 0 && ioctl(fd, TUNSETPERSIST, 1UL) < 0) {
        result = -errno;
    }
    return result;
}

int
link_make_tap(struct link *link, const char *device, uint32_t mtu,
              struct err *err)
{
    struct link_info info;
    bool is_new = false;
    int result;

    if (!link_name_is_valid(device)) {
        err_set(err, "\"%s\" is no name for a network device", device);
        return -EINVAL;
    }
    result = link_find(link, device, &info);
    if (result == 0 && !info.is_tap) {
        err_set(err, "there is another device %s already", device);
        return -EEXIST;
    }
    if (result == -ENODEV) {
        is_new = true;
        result = link_open_tap(device);
    }
    if (result == 0) {
        result = link_shut(link, device);
        if (result == 0) {
            result = link_set_up(device, mtu);
        }
        if (result != 0 && is_new) {
            (void)!link_remove(link, device, NULL);
        }
    }
    if (result != 0) {
        err_set(err, "the tap %s cannot be made: %s", device,
                strerror(-result));
    }
    return result;
}

/* ---- Pairs ---- */

/* Whether it is a namespace other than our own: there a name that some tenant
 * has chosen could be that of any device of this host. */
static bool
link_is_other_netns(int fd)
{
    struct stat theirs, ours;

    return fstat(fd, &theirs) == 0 &&
           stat("/proc/thread-self/ns/net", &ours) == 0 &&
           (theirs.st_dev != ours.st_dev || theirs.st_ino != ours.st_ino);
}

static int
link_open_netns(const char *netns, struct err *err)
{
    char path[512];
    int fd;

    if (strchr(netns, '/') != NULL) {
        (void)snprintf(path, sizeof path, "%s", netns);
    } else {
        (void)snprintf(path, sizeof path, LINK_NETNS_DIRECTORY "/%s", netns);
    }
    fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* Not on a FIFO. */
    if (fd < 0) {
        int result = -errno;
        err_set(err, "there is no network namespace %s: %s", netns,
                strerror(errno));
        return result;
    }
    if (!link_is_other_netns(fd)) {
        close(fd);
        err_set(err, "%s is this host's own network namespace", netns);
        return -EINVAL;
    }
    return fd;
}

/* Does link_set_up() inside a namespace.  The thread comes back from there, or
 * the process ends: it could do nothing right any more. */
static int
link_set_up_inside(int netns, const char *device, uint32_t mtu)
{
    CLEANUP_FD int home =
        open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    int result;

    if (home < 0 || setns(netns, CLONE_NEWNET) != 0) {
        return -errno;
    }
    result = link_set_up(device, mtu);
    CHECK(setns(home, CLONE_NEWNET) == 0);
    return result;
}

static int
link_add_veth(struct link *link, const struct link_veth *veth, int netns)
{
    struct rtnl_link *here = rtnl_link_veth_alloc();
    int result = -ENOMEM;

    if (here == NULL) {
        return -ENOMEM;
    }
    struct rtnl_link *there = rtnl_link_veth_get_peer(here);
    struct nl_addr *address = nl_addr_build(AF_LLC, veth->mac, 6);
    if (address != NULL) {
        rtnl_link_set_name(here, veth->device);
        rtnl_link_set_mtu(here, veth->mtu);
        rtnl_link_set_name(there, veth->ifname);
        rtnl_link_set_mtu(there, veth->mtu);
        rtnl_link_set_addr(there, address);
        rtnl_link_set_ns_fd(there, netns);
        result = link_error(
            rtnl_link_add(link->requests, here, NLM_F_CREATE | NLM_F_EXCL));
        nl_addr_put(address);
    }
    rtnl_link_put(there);
    rtnl_link_put(here);
    return result;
}

int
link_make_veth(struct link *link, const struct link_veth *veth, struct err *err)
{
    struct link_info info;
    bool is_new;
    int result;

    if (!link_name_is_valid(veth->device) ||
        !link_name_is_valid(veth->ifname)) {
        err_set(err, "\"%s\" is no name for a network device",
                link_name_is_valid(veth->device) ? veth->ifname : veth->device);
        return -EINVAL;
    }
    CLEANUP_FD int netns = link_open_netns(veth->netns, err);
    if (netns < 0) {
        return netns;
    }
    result = link_add_veth(link, veth, netns);
    is_new = result == 0;
    if (result == -EEXIST) { /* Here, or in there? */
        result = link_find(link, veth->device, &info);
        if (result == -ENODEV) {
            err_set(err, "namespace %s has a device %s already", veth->netns,
                    veth->ifname);
            return -EEXIST;
        }
        if (result == 0 && !info.is_veth) {
            err_set(err, "there is another device %s already", veth->device);
            return -EEXIST;
        }
    }
    if (result == 0) {
        result = link_shut(link, veth->device);
    }
    if (result == 0) {
        result = link_set_up_inside(netns, veth->ifname, veth->mtu);
        if (result == -ENODEV && !is_new) {
            err_set(err, "the device %s has its other end elsewhere than %s",
                    veth->device, veth->netns);
            return -EEXIST;
        }
        if (result == 0) {
            result = link_set_up(veth->device, veth->mtu);
        }
        if (result != 0 && is_new) {
            (void)!link_remove(link, veth->device, NULL);
        }
    }
    if (result != 0) {
        err_set(err, "the pair %s cannot be made: %s", veth->device,
                strerror(-result));
    }
    return result;
}

/* ---- Removing ---- */

int
link_remove(struct link *link, const char *device, struct err *err)
{
    struct rtnl_link *found = NULL;
    int result;

    result =
        link_error(rtnl_link_get_kernel(link->requests, 0, device, &found));
    if (result == 0) {
        result = link_error(rtnl_link_delete(link->requests, found));
        rtnl_link_put(found);
    }
    if (result == -ENODEV) {
        return 0;
    }
    if (result != 0) {
        err_set(err, "the device %s cannot be removed: %s", device,
                strerror(-result));
    }
    return result;
}
