/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SUPPORT_NET_MODEL_H
#define TESTS_SUPPORT_NET_MODEL_H

/* A compiler's model out of a text, and its flows as a text: what tests of
 * emitters are written in.  One row a line, references by name:
 *
 *     self h1 tunnel=100 mtu=1500
 *     host h2 ip=192.0.2.2 [disabled]
 *     network n1 vni=5 [mtu=1442] [flood]
 *     subnet s1 network=n1 cidr=10.0.0.0/24 [dhcp]
 *     group g1 tag=1
 *     rule u1 group=g1 dir=in [family=ipv4] [proto=6] [ports=22-23]
 *             [icmp=8/0] [cidr=10.0.0.0/8] [peer=g2] tag=7     (on one line)
 *     identity i1 number=3 [groups=g1,g2]
 *     port p1 network=n1 mac=02:00:00:00:00:01 identity=i1 [host=h1]
 *             [migrate=h2] [disabled]
 *     address 10.0.0.5 network=n1 subnet=s1 port=p1 | router_port=rp1
 *     binding p1 host=h1
 *     router r1 tag=9
 *     router_port rp1 router=r1 subnet=s1 network=n1 mac=02:00:00:00:00:fe
 *     local p1 ofport=1 zone=1024
 *     delete KIND NAME [host=... | network=...]
 *
 * "#" begins a comment.  A line for what there is already replaces it.  The
 * UUID of a row is made of its kind and name, so that nothing is random. */

#include "netd/compile/compile.h"

/* What is wrong with the text ends the process with a message. */
void net_model_apply(struct compile *compile, const char *text);

/* The UUID that 'kind' (as above) and 'name' stand for. */
void net_model_uuid(const char *kind, const char *name,
                    struct weft_uuid *ret_uuid);

/* All flows of 'table' (-1: of all), as compile_oracle() gives them, sorted,
 * one a line, with conjunctions merged.  For free(). */
char *net_model_flows(struct compile *compile, int table);

#endif /* TESTS_SUPPORT_NET_MODEL_H */
