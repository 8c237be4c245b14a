/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_LINK_LINK_H
#define NETD_LINK_LINK_H

/* Network devices of this host: taps and veth pairs for ports that netd plugs
 * itself, the MTU of the underlay, and a word when something changes.
 *
 * Netlink stops here.  The calls are short and synchronous: the kernel answers
 * at once.  Addresses are not set: guests get theirs by DHCP.
 *
 * Two things that the userspace datapath wants are done here (FACTS.md): the
 * transmit checksum offload is off at both ends, since nobody would fill the
 * checksums in (ping works without, TCP stalls); and both ends of a pair get
 * the MTU, since a peer does not inherit it.
 *
 * Thread: that of the loop. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/check.h"
#include "lib/base/err.h"
#include "lib/state/loop.h"

#define LINK_NAME_SIZE 16u /* With the NUL. */
#define LINK_NETNS_DIRECTORY "/run/netns"

struct link;

/* Called from the loop when some device or address of this host's namespace
 * has changed, appeared or gone; several changes may be one call. */
struct link_listener;
typedef void link_changed_fn(struct link_listener *listener);
struct link_listener {
    link_changed_fn *changed;
};

/* 'listener' is borrowed until link_free().  -errno. */
WEFT_MUST_CHECK int link_new(struct loop *loop, struct link_listener *listener,
                             struct link **ret_link);
/* Accepts NULL.  Devices stay. */
void link_free(struct link *link);

struct link_info {
    uint32_t mtu;
    bool is_up;
    bool is_veth;
    bool is_tap;
};
/* -ENODEV: there is none of that name. */
WEFT_MUST_CHECK int link_find(struct link *link, const char *device,
                              struct link_info *ret_info);

/* Whether a device of that name may have gone since link_forget_gone(). */
bool link_may_be_gone(const struct link *link, const char *device);
void link_forget_gone(struct link *link);

/* Shuts this host's own network stack off from what comes in by a device whose
 * other end is a guest's.  Done by link_make_...() as well. */
WEFT_MUST_CHECK int link_shut(struct link *link, const char *device);

/* A persistent tap, for QEMU to open by name.  What is there already is
 * adopted: MTU, offloads and state are set (anew).  -EEXIST: the name belongs
 * to a device of another kind.  Failures have a text in 'err'. */
WEFT_MUST_CHECK int link_make_tap(struct link *link, const char *device,
                                  uint32_t mtu, struct err *err);

struct link_veth {
    const char *device; /* The end that stays here. */
    const char *netns;  /* A name in /run/netns, or a path. */
    const char *ifname; /* The end in there, ... */
    uint8_t mac[6];     /* with this address. */
    uint32_t mtu;
};
/* As link_make_tap(), for a pair.  -ENOENT: no such namespace. */
WEFT_MUST_CHECK int link_make_veth(struct link *link,
                                   const struct link_veth *veth,
                                   struct err *err);

/* Removes a device; both ends of a pair.  0 if there is none. */
WEFT_MUST_CHECK int link_remove(struct link *link, const char *device,
                                struct err *err);

/* The MTU of the device that has 'address' (IPv4 or IPv6 text).  -ENODEV: none
 * has it. */
WEFT_MUST_CHECK int link_mtu_of_address(struct link *link, const char *address,
                                        uint32_t *ret_mtu);

#endif /* NETD_LINK_LINK_H */
