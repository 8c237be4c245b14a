/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_API_TRACE_WIRE_H
#define NETD_API_TRACE_WIRE_H

/* Packets of a trace on their way to another host. */

#include <stdbool.h>

#include "netd/api/trace_ops.h"
#include "proto/weft/v1/diagnosis.pb-c.h"

/* Memory for the texts of a message. */
struct trace_texts {
    char port[UUID_TEXT_SIZE];
    char tunnel_src[IP_TEXT_SIZE], ip_src[IP_TEXT_SIZE], ip_dst[IP_TEXT_SIZE];
    char mac_src[MAC_TEXT_SIZE], mac_dst[MAC_TEXT_SIZE];
};

void trace_encode(const struct netd_trace_packet *packet,
                  struct trace_texts *texts,
                  Weft__V1__TracePacketHeaders *ret_headers);
/* False: malformed. */
bool trace_decode(const Weft__V1__TracePacketHeaders *headers,
                  struct netd_trace_packet *ret_packet);

#endif /* NETD_API_TRACE_WIRE_H */
