/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/api/internal.h"

void
net_trace_stop_all(struct netd_api *api)
{
    (void)api;
}

bool
net_trace_is_idle(const struct netd_api *api)
{
    return list_is_empty(&api->traces);
}

const struct rpc_method net_diagnosis_methods[] = {
    { "TracePacket", RPC_UNARY, NULL },
    { "TraceLocally", RPC_UNARY, NULL },
};
const size_t net_diagnosis_method_count =
    sizeof net_diagnosis_methods / sizeof net_diagnosis_methods[0];
