/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_BIND_HOST_H
#define NETD_BIND_HOST_H

/* This host's own rows: Net_Host, made once (its 'enabled' is the API's from
 * then on), and Net_Host_Status, every HOST_HEARTBEAT_NS.  The first host of a
 * new cloud also gives that its UUID (Global).
 *
 * Thread: that of the loop. */

#include <stdint.h>

#include "netd/sync/cloud.h"
#include "netd/sync/report.h"

#define HOST_HEARTBEAT_NS UINT64_C(3000000000)

struct host;

struct host_options {
    struct loop *loop;
    struct cloud *cloud;
    struct report *report;
    const char *host;
    const char *encap_ip;
    const char *version;
    const char *api_endpoint;
};

/* Borrows what the options point to.  Aborts when memory is out. */
struct host *host_new(const struct host_options *options);
/* After the connection was closed. */
void host_free(struct host *host);

/* Registers if need be. */
void host_step(struct host *host);
void host_set_underlay_mtu(struct host *host, uint32_t mtu);
/* Why this host realises less than it should; "": all is well. */
void host_set_error(struct host *host, const char *error);

#endif /* NETD_BIND_HOST_H */
