/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "netd/api/internal.h"

/* A port that is in the group, or NULL; and how many are. */
static const struct state_port *
group_find_port(const struct state *state, const struct weft_uuid *group,
                size_t *ret_count)
{
    const struct state_port *found = NULL;

    *ret_count = 0;
    for (const struct state_identity_member *row = NULL;
         (row = state_identity_member_next_by_group(state, group, row)) !=
         NULL;) {
        if (found == NULL) {
            found = state_port_next_by_identity(state, &row->identity, NULL);
        }
        *ret_count += state_port_count_by_identity(state, &row->identity);
    }
    return found;
}

static Weft__V1__SecurityGroup *
group_message(struct reply_arena *arena, const struct state *state,
              const struct state_security_group *row)
{
    Weft__V1__SecurityGroup *group = reply_alloc(arena, sizeof *group);
    size_t port_count;

    weft__v1__security_group__init(group);
    group->name = net_name(arena, state, NET_GROUP, &row->row.uuid);
    group->uid = reply_uuid(arena, &row->row.uuid);
    group->create_time = api_time(arena, row->create_time_ms);
    group->rule_count =
        (int32_t)state_security_rule_count_by_group(state, &row->row.uuid);
    (void)group_find_port(state, &row->row.uuid, &port_count);
    group->port_count = (int32_t)port_count;
    return group;
}

static void
group_answer(struct netd_api *api, struct rpc_call *call,
             const struct weft_uuid *uuid)
{
    const struct state_security_group *row =
        state_security_group_get(api->state, uuid);
    struct reply_arena arena = { NULL };

    if (row == NULL) {
        net_answer_gone(call);
        return;
    }
    rpc_call_reply(call, &group_message(&arena, api->state, row)->base);
    reply_free(&arena);
}

/* ---- Create ---- */

static int
group_create_build(struct api_op *op, struct state_txn *txn,
                   struct state *state)
{
    const Weft__V1__CreateSecurityGroupRequest *request =
        (const void *)op->request;
    char project[API_NAME_PART_SIZE];
    struct state_security_group row = {
        .row.table = STATE_TABLE_SECURITY_GROUP,
        .project = project,
        .name = request->security_group_id,
        .create_time_ms = service_wall_ms(),
        .request_id = op->request_id,
    };

    net_project(request->parent, project);
    if (state_security_group_find_by_project_name(state, project, row.name) !=
        NULL) {
        return api_op_refuse(op, RPC_ALREADY_EXISTS, "SECURITY_GROUP_EXISTS",
                             "there is a security group \"%s\" in project "
                             "\"%s\" already",
                             row.name, project);
    }
    api_op_uuid(op, "group", &row.row.uuid);
    row.tag = net_number_take(op, txn, "group", &row.row.uuid);
    state_txn_insert(txn, &row.row, STATE_SECURITY_GROUP_COL_ALL);
    net_op_record(op, txn, project, "securityGroups", row.name);
    net_op_of(op)->uuid = row.row.uuid;
    return 0;
}

static void
group_create(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__CreateSecurityGroupRequest *request = (const void *)message;
    struct rpc_error error;

    rpc_error_set_invalid(&error);
    net_check_new(&error, request->parent, "security_group_id",
                  request->security_group_id);
    if (error.violation_count > 0) {
        rpc_call_fail(call, &error);
        return;
    }
    net_op_start(call, message, request->request_id, request->wait,
                 group_create_build, group_answer);
}

/* ---- Delete ---- */

static int
group_check_unused(struct api_op *op, const struct state *state,
                   const struct state_security_group *row)
{
    size_t count;
    const struct state_port *port =
        group_find_port(state, &row->row.uuid, &count);

    if (port != NULL) {
        return api_op_refuse(op, RPC_FAILED_PRECONDITION,
                             "SECURITY_GROUP_IN_USE",
                             "%zu port%s in security group \"%s\" (\"%s\" is "
                             "one); take them out first, by 'weft port "
                             "set-groups'",
                             count, count == 1 ? " is" : "s are", row->name,
                             port->name);
    }
    for (const struct state_security_rule *rule = NULL;
         (rule = state_security_rule_next_by_peer_group(state, &row->row.uuid,
                                                        rule)) != NULL;) {
        if (uuid_equal(&rule->group, &row->row.uuid)) {
            continue;
        }
        const struct state_security_group *user =
            state_security_group_get(state, &rule->group);
        return api_op_refuse(op, RPC_FAILED_PRECONDITION,
                             "SECURITY_GROUP_IN_USE",
                             "a rule of security group \"%s\" names group "
                             "\"%s\"; delete it first",
                             user != NULL ? user->name : "?", row->name);
    }
    return 0;
}

static int
group_delete_build(struct api_op *op, struct state_txn *txn,
                   struct state *state)
{
    const Weft__V1__DeleteSecurityGroupRequest *request =
        (const void *)op->request;
    const struct state_row *found =
        net_op_find(op, state, NET_GROUP, "name", request->name);

    if (found == NULL) {
        return -EPROTO;
    }
    const struct state_security_group *row = state_security_group_from(found);
    int result = group_check_unused(op, state, row);
    if (result != 0) {
        return result;
    }
    for (const struct state_security_rule *rule = NULL;
         (rule = state_security_rule_next_by_group(state, &row->row.uuid,
                                                   rule)) != NULL;) {
        state_txn_delete(txn, STATE_TABLE_SECURITY_RULE, &rule->row.uuid);
        net_number_free(txn, state, "rule", rule->tag);
    }
    /* Combinations that no port has any more. */
    for (const struct state_identity_member *member = NULL;
         (member = state_identity_member_next_by_group(state, &row->row.uuid,
                                                       member)) != NULL;) {
        const struct state_identity *identity =
            state_identity_get(state, &member->identity);
        if (identity != NULL) {
            net_identity_delete(txn, state, identity);
        }
    }
    state_txn_delete(txn, STATE_TABLE_SECURITY_GROUP, &row->row.uuid);
    net_number_free(txn, state, "group", row->tag);
    net_op_scope(op, &row->row.uuid);
    net_op_record(op, txn, row->project, "securityGroups", row->name);
    return 0;
}

static void
group_delete(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__DeleteSecurityGroupRequest *request = (const void *)message;

    net_op_start(call, message, request->request_id, request->wait,
                 group_delete_build, net_answer_empty);
}

/* ---- Read ---- */

static void
group_get(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__GetSecurityGroupRequest *request = (const void *)message;
    const struct state_row *row = net_take(call, NET_GROUP, request->name);

    if (row != NULL) {
        group_answer(netd_api_of(call), call, &row->uuid);
    }
}

static void
group_list(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__ListSecurityGroupsRequest *request = (const void *)message;
    struct state *state = netd_api_of(call)->state;
    Weft__V1__ListSecurityGroupsResponse reply =
        WEFT__V1__LIST_SECURITY_GROUPS_RESPONSE__INIT;
    char project[API_NAME_PART_SIZE];
    struct api_list list;

    if (!net_take_parent(call, request->parent, project) ||
        !api_list_begin(&list, call, &weft__v1__security_group__descriptor,
                        request->parent, request->page_size,
                        request->page_token, request->filter)) {
        return;
    }
    for (const struct state_security_group *row =
             state_security_group_next(state, NULL);
         row != NULL; row = state_security_group_next(state, row)) {
        if (net_project_fits(project, row->project)) {
            api_list_add(&list, &group_message(&list.arena, state, row)->base,
                         NULL);
        }
    }
    api_list_page(&list, (ProtobufCMessage ***)(void *)&reply.security_groups,
                  &reply.n_security_groups, &reply.next_page_token);
    rpc_call_reply(call, &reply.base);
    api_list_end(&list);
}

const struct rpc_method net_group_methods[] = {
    { "CreateSecurityGroup", RPC_UNARY, group_create },
    { "GetSecurityGroup", RPC_UNARY, group_get },
    { "ListSecurityGroups", RPC_UNARY, group_list },
    { "DeleteSecurityGroup", RPC_UNARY, group_delete },
};
const size_t net_group_method_count =
    sizeof net_group_methods / sizeof net_group_methods[0];
