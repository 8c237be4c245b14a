/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_API_INTERNAL_H
#define NETD_API_INTERNAL_H

/* What the files of the API share; README.md says what each is for. */

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/ip.h"
#include "lib/base/rng.h"
#include "netd/api/api.h"
#include "netd/api/ipam.h"
#include "proto/weft/v1/diagnosis.pb-c.h"
#include "proto/weft/v1/net_host.pb-c.h"
#include "proto/weft/v1/network.pb-c.h"
#include "proto/weft/v1/port.pb-c.h"
#include "proto/weft/v1/router.pb-c.h"
#include "proto/weft/v1/security.pb-c.h"
#include "service/service.h"

#define NET_GROUPS_MAX 16u      /* Of a port. */
#define NET_ADDRESSES_MAX 16u   /* Of a port. */
#define NET_SUBNETS_MAX 256u    /* Of a network. */
#define NET_SCOPES_MAX 80u      /* Of a change. */
#define NET_CONFLICTS_MAX 50u   /* See api_op_options. */
#define NET_ROUTER_SUBNETS 64u  /* Of a router (N10). */
#define NET_NETWORK_ROUTERS 16u /* On a network (N10). */
#define NET_NUMBER_MAX 16777215u
#define NET_IDENTITY_FIRST 2u /* 0 is the world, 1 a router. */

struct netd_api {
    struct netd_api_options options;
    struct loop *loop;
    struct state *state;
    struct service service;
    struct state_listener listener;
    struct loop_timer tick;
    struct loop_timer deadline; /* Of the first wait. */
    struct rng rng;
    struct ipam_hints hints;
    struct list reservations; /* struct net_reservation */
    struct list waits;        /* struct net_wait */
    struct list watches;      /* struct net_watch */
    struct list traces;       /* struct net_trace */
    struct list alive;        /* struct net_alive */
    uint64_t beat_ns;         /* The latest of any host. */
    uint32_t local_traces;    /* TraceLocally under way. */
    struct net_gc *gc;
};

struct netd_api *netd_api_of(const struct rpc_call *call);

/* ---- op.c: changes ---- */

/* Answers; 'uuid' is the row that the change was about. */
typedef void net_answer_fn(struct netd_api *api, struct rpc_call *call,
                           const struct weft_uuid *uuid);

enum net_wait_kind {
    NET_WAIT_ACKS, /* All hosts concerned have acknowledged the scopes. */
    NET_WAIT_UP,   /* The port is up on its host; then the above. */
    NET_WAIT_GONE, /* No living host has it any more; then the above. */
};

struct net_op {
    struct api_op op;
    net_answer_fn *answer;
    api_build_fn *build;
    bool wait;
    /* Set by build(), which finds them empty. */
    enum net_wait_kind wait_kind;
    struct weft_uuid uuid;
    struct weft_uuid scopes[NET_SCOPES_MAX];
    uint32_t scope_count;
    char host[64]; /* That has to acknowledge in any case; "": none. */
};

struct net_op *net_op_of(struct api_op *op);
struct netd_api *net_op_api(const struct api_op *op);

void net_op_start(struct rpc_call *call, const ProtobufCMessage *request,
                  const char *request_id, bool wait, api_build_fn *build,
                  net_answer_fn *answer);
/* In build(): a scope that this change concerns. */
void net_op_scope(struct api_op *op, const struct weft_uuid *scope);
/* The same, and of all changes that say so of a scope each has seen the one
 * before: for conditions that no index can hold. */
void net_op_serialize(struct api_op *op, const struct weft_uuid *scope);
/* In build(): the Operation row, about "projects/PROJECT/COLLECTION/NAME". */
void net_op_record(struct api_op *op, struct state_txn *txn,
                   const char *project, const char *collection,
                   const char *name);
/* Answers with Empty. */
void net_answer_empty(struct netd_api *api, struct rpc_call *call,
                      const struct weft_uuid *uuid);
/* The row that is to be shown is not there. */
void net_answer_gone(struct rpc_call *call);

/* ---- find.c: names ---- */

enum net_kind {
    NET_NETWORK,
    NET_SUBNET,
    NET_PORT,
    NET_GROUP,
    NET_RULE,
    NET_ROUTER,
    NET_KINDS,
};

/* "networks" */
const char *net_collection(enum net_kind kind);
const char *net_kind_word(enum net_kind kind);
/* The row of that full name.  NULL: 'error' says why. */
const struct state_row *net_find(const struct state *state, enum net_kind kind,
                                 const char *field, const char *name,
                                 struct rpc_error *error);
/* In build(): NULL, refused. */
const struct state_row *net_op_find(struct api_op *op, struct state *state,
                                    enum net_kind kind, const char *field,
                                    const char *name);
/* In a handler: NULL, the call has failed. */
const struct state_row *net_take(struct rpc_call *call, enum net_kind kind,
                                 const char *name);
/* Checks parent and identifier of a create request; adds violations. */
void net_check_new(struct rpc_error *error, const char *parent,
                   const char *id_field, const char *id);
/* "projects/{project}" alone; "-" is let through.  False: call failed. */
bool net_take_parent(struct rpc_call *call, const char *parent,
                     char ret_project[API_NAME_PART_SIZE]);
/* Of a parent that was checked. */
void net_project(const char *parent, char ret_project[API_NAME_PART_SIZE]);
/* Resource names of rows; "" if there is none. */
char *net_name(struct reply_arena *arena, const struct state *state,
               enum net_kind kind, const struct weft_uuid *uuid);
bool net_project_fits(const char *wanted, const char *project);

/* ---- number.c: numbers on the wire ---- */

/* In build(): a free number of that kind for 'owner'. */
uint32_t net_number_take(struct api_op *op, struct state_txn *txn,
                         const char *kind, const struct weft_uuid *owner);
/* Its owner goes: quarantine (N2). */
void net_number_free(struct state_txn *txn, const struct state *state,
                     const char *kind, uint32_t number);

struct net_gc;
struct net_gc *net_gc_new(struct netd_api *api);
void net_gc_tick(struct net_gc *gc);
void net_gc_stop(struct net_gc *gc);
bool net_gc_is_idle(const struct net_gc *gc);
void net_gc_free(struct net_gc *gc);

/* ---- identity.c ---- */

struct net_groups {
    const struct state_security_group *rows[NET_GROUPS_MAX];
    uint32_t count; /* Sorted by UUID. */
};

/* In build(): the groups of those names; false: refused. */
bool net_groups_find(struct api_op *op, struct state *state, char **names,
                     size_t count, const char *project,
                     struct net_groups *ret_groups);
/* In build(): the identity of that combination, found or made. */
void net_identity_take(struct api_op *op, struct state_txn *txn,
                       struct state *state, const struct net_groups *groups,
                       struct weft_uuid *ret_identity);
/* The groups of an identity; those that are gone are left out. */
void net_identity_groups(const struct state *state,
                         const struct weft_uuid *identity,
                         struct net_groups *ret_groups);
/* Deletes an identity that no port has, with its members and number. */
void net_identity_delete(struct state_txn *txn, const struct state *state,
                         const struct state_identity *identity);

/* ---- address.c ---- */

/* An address that a change under way has chosen. */
struct net_reservation {
    struct list node;
    const struct api_op *op;
    struct weft_uuid network;
    char ip[IP_TEXT_SIZE];
};

/* In build(): drops what it chose before, then chooses; false: refused.
 * 'wanted' are texts that were checked for form. */
struct net_choice {
    struct {
        const struct state_subnet *subnet;
        char ip[IP_TEXT_SIZE];
    } items[NET_ADDRESSES_MAX];
    uint32_t count;
};
bool net_addresses_choose(struct api_op *op, struct state *state,
                          const struct state_network *network, char **wanted,
                          size_t wanted_count, struct net_choice *ret_choice);
void net_addresses_release(struct api_op *op);
/* A free MAC address; the same for the same 'of', an address or whatever else
 * tells the owner from others, unless it is taken. */
void net_mac_choose(const struct state *state, const struct weft_uuid *network,
                    const char *of, char ret_mac[MAC_TEXT_SIZE]);
/* Puts the row of a MAC into the transaction. */
void net_mac_insert(struct api_op *op, struct state_txn *txn,
                    const struct weft_uuid *network, const char *mac,
                    const struct weft_uuid *owner);
/* The range of a subnet's row. */
struct ipam_range net_subnet_range(const struct state_subnet *row);

/* ---- host.c ---- */

/* Whether its netd has shown a sign of life lately. */
bool net_host_is_alive(const struct netd_api *api, const char *host);
void net_host_changed(struct netd_api *api, const struct state_change *change);
void net_host_free(struct netd_api *api);

/* ---- wait.c, watch.c ---- */

/* Takes over the call. */
void net_wait_start(struct net_op *op);
void net_wait_check_all(struct netd_api *api);
void net_wait_stop_all(struct netd_api *api);
void net_wait_init(struct netd_api *api);
bool net_wait_is_idle(const struct netd_api *api);

void net_watch_ports(struct rpc_call *call, const ProtobufCMessage *message);
void net_watch_changed(struct netd_api *api, const struct state_change *change);
void net_watch_batch_end(struct netd_api *api);
void net_watch_stop_all(struct netd_api *api);

/* ---- trace.c ---- */

void net_trace_stop_all(struct netd_api *api);
bool net_trace_is_idle(const struct netd_api *api);

/* ---- From rows to messages ---- */

Weft__V1__Port *net_port_message(struct reply_arena *arena,
                                 const struct netd_api *api,
                                 const struct state_port *row);
/* Where a port is up, or bound; "" if nowhere. */
const char *net_port_place(const struct state *state,
                           const struct state_port *row,
                           enum state_port_status_state *ret_state);

/* ---- The services' tables ---- */

extern const struct rpc_method net_network_methods[], net_subnet_methods[],
    net_port_methods[], net_group_methods[], net_rule_methods[],
    net_router_methods[], net_host_methods[], net_diagnosis_methods[];
extern const size_t net_network_method_count, net_subnet_method_count,
    net_port_method_count, net_group_method_count, net_rule_method_count,
    net_router_method_count, net_host_method_count, net_diagnosis_method_count;

#endif /* NETD_API_INTERNAL_H */
