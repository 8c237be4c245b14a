/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_PEERS_H
#define NETD_PEERS_H

/* Keeps the ways to the other hosts open.
 *
 * Open vSwitch's userspace datapath learns the MAC of a tunnel's other end when
 * the first packet for it comes by, and drops that packet; after 15 minutes
 * without any it forgets it again.  So each enabled host gets a small packet,
 * which it drops: often in the beginning, as nobody knows when it has come up,
 * then once in a while, and when it is heard of: a binding says that it is
 * there, and that somebody is about to talk to it.  What has no neighbours to
 * learn (the kernel's datapath) just sends that packet.
 *
 * Pure: no clock, no I/O; the user sends.  Times are CLOCK_MONOTONIC. */

#include <stdint.h>

#include "lib/base/uuid.h"

struct peers;

struct peers_prober;
typedef void peers_probe_fn(struct peers_prober *prober, uint32_t address);
struct peers_prober {
    peers_probe_fn *probe; /* May not call back into peers. */
};

#define PEERS_NEVER UINT64_MAX
#define PEERS_FIRST_NS UINT64_C(10000000)   /* Doubles from here */
#define PEERS_LAST_NS UINT64_C(60000000000) /* to this, less than 15 min. */
#define PEERS_HEARD_NS UINT64_C(100000000)  /* Not more often than that. */
#define PEERS_AT_ONCE 64u /* Probes of one step; the next is soon. */

/* 'prober' is borrowed until peers_free().  Aborts when memory is out. */
struct peers *peers_new(struct peers_prober *prober, uint64_t seed);
void peers_free(struct peers *peers); /* Accepts NULL. */

/* A host, by the UUID of its row.  'address' is its IPv4 tunnel address; 0:
 * there is no way to it, which removes it. */
void peers_put(struct peers *peers, const struct weft_uuid *row,
               const char *name, uint32_t address, uint64_t now_ns);
/* Something of this host came: probe soon.  Unknown names are ignored. */
void peers_heard(struct peers *peers, const char *name, uint64_t now_ns);
/* The switch has forgotten all: as if every host were new. */
void peers_start_over(struct peers *peers, uint64_t now_ns);

/* Sends what is due; when to call it again, or PEERS_NEVER. */
uint64_t peers_step(struct peers *peers, uint64_t now_ns);

#endif /* NETD_PEERS_H */
