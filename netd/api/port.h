/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_API_PORT_H
#define NETD_API_PORT_H

/* What changes of ports share. */

#include "netd/api/internal.h"

void net_port_answer(struct netd_api *api, struct rpc_call *call,
                     const struct weft_uuid *uuid);
/* In build(): NULL, refused. */
const struct state_port *net_port_find(struct api_op *op, struct state *state,
                                       const char *name);
/* In build(): the change is about this port. */
void net_port_concern(struct api_op *op, const struct state_port *row);
/* In build(): the enabled host "netHosts/{host}"; NULL, refused. */
const struct state_net_host *
net_port_host(struct api_op *op, const struct state *state, const char *text);
void net_port_check_groups(size_t count, struct rpc_error *error);

/* port_plug.c */
void net_port_plug(struct rpc_call *call, const ProtobufCMessage *message);
void net_port_unplug(struct rpc_call *call, const ProtobufCMessage *message);

#endif /* NETD_API_PORT_H */
