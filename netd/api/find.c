/* SPDX-License-Identifier: Apache-2.0 */

/* Resource names, and the rows that they mean. */

#include <string.h>

#include "netd/api/internal.h"

static const struct {
    const char *collection, *word, *command, *reason;
} kinds[NET_KINDS] = {
    [NET_NETWORK] = { "networks", "network", "network", "NETWORK_NOT_FOUND" },
    [NET_SUBNET] = { "subnets", "subnet", "subnet", "SUBNET_NOT_FOUND" },
    [NET_PORT] = { "ports", "port", "port", "PORT_NOT_FOUND" },
    [NET_GROUP] = { "securityGroups", "security group", "security-group",
                    "SECURITY_GROUP_NOT_FOUND" },
    [NET_RULE] = { "securityRules", "security rule", "security-rule",
                   "SECURITY_RULE_NOT_FOUND" },
    [NET_ROUTER] = { "routers", "router", "router", "ROUTER_NOT_FOUND" },
};

const char *
net_collection(enum net_kind kind)
{
    return kinds[kind].collection;
}

const char *
net_kind_word(enum net_kind kind)
{
    return kinds[kind].word;
}

/* A rule is in the project of its group. */
static const struct state_row *
find_rule(const struct state *state, const char *project, const char *id)
{
    const struct state_security_rule *rule = NULL;
    const struct state_security_group *group = NULL;
    struct weft_uuid uuid;

    if (uuid_parse(id, &uuid) == 0) {
        rule = state_security_rule_get(state, &uuid);
    }
    if (rule != NULL) {
        group = state_security_group_get(state, &rule->group);
    }
    return group != NULL && strcmp(group->project, project) == 0 ? &rule->row
                                                                 : NULL;
}

static const struct state_row *
find_row(const struct state *state, enum net_kind kind, const char *project,
         const char *id)
{
    switch (kind) {
    case NET_NETWORK: {
        const struct state_network *row =
            state_network_find_by_project_name(state, project, id);
        return row != NULL ? &row->row : NULL;
    }
    case NET_SUBNET: {
        const struct state_subnet *row =
            state_subnet_find_by_project_name(state, project, id);
        return row != NULL ? &row->row : NULL;
    }
    case NET_PORT: {
        const struct state_port *row =
            state_port_find_by_project_name(state, project, id);
        return row != NULL ? &row->row : NULL;
    }
    case NET_GROUP: {
        const struct state_security_group *row =
            state_security_group_find_by_project_name(state, project, id);
        return row != NULL ? &row->row : NULL;
    }
    case NET_RULE:
        return find_rule(state, project, id);
    case NET_ROUTER: {
        const struct state_router *row =
            state_router_find_by_project_name(state, project, id);
        return row != NULL ? &row->row : NULL;
    }
    case NET_KINDS:
        break;
    }
    return NULL;
}

const struct state_row *
net_find(const struct state *state, enum net_kind kind, const char *field,
         const char *name, struct rpc_error *error)
{
    char project[API_NAME_PART_SIZE], id[API_NAME_PART_SIZE];

    if (!api_name_parse_two(name, "projects", kinds[kind].collection, project,
                            id)) {
        rpc_error_set_invalid(error);
        rpc_error_add_violation(error, field,
                                "\"%.120s\" is not of the form "
                                "projects/NAME/%s/NAME; %s",
                                name, kinds[kind].collection, NAME_RULE_TEXT);
        return NULL;
    }
    const struct state_row *row = find_row(state, kind, project, id);
    if (row == NULL) {
        rpc_error_set(error, RPC_NOT_FOUND, kinds[kind].reason,
                      "there is no %s \"%s\" in project \"%s\"; 'weft %s "
                      "list' shows all",
                      kinds[kind].word, id, project, kinds[kind].command);
        rpc_error_set_resource(error, name);
    }
    return row;
}

const struct state_row *
net_op_find(struct api_op *op, struct state *state, enum net_kind kind,
            const char *field, const char *name)
{
    return net_find(state, kind, field, name, &op->error);
}

const struct state_row *
net_take(struct rpc_call *call, enum net_kind kind, const char *name)
{
    struct rpc_error error;
    const struct state_row *row =
        net_find(netd_api_of(call)->state, kind, "name", name, &error);

    if (row == NULL) {
        rpc_call_fail(call, &error);
    }
    return row;
}

void
net_check_new(struct rpc_error *error, const char *parent, const char *id_field,
              const char *id)
{
    char project[API_NAME_PART_SIZE];

    if (!api_name_parse(parent, "projects", project) ||
        strcmp(project, "-") == 0) {
        rpc_error_add_violation(error, "parent",
                                "\"%.80s\" is not of the form projects/NAME; "
                                "%s",
                                parent, NAME_RULE_TEXT);
    }
    if (id != NULL && !name_is_valid(id)) {
        rpc_error_add_violation(error, id_field, "\"%.80s\" is not a name; %s",
                                id, NAME_RULE_TEXT);
    }
}

bool
net_take_parent(struct rpc_call *call, const char *parent,
                char ret_project[API_NAME_PART_SIZE])
{
    return api_take_name(call, "parent", parent, "projects", ret_project);
}

void
net_project(const char *parent, char ret_project[API_NAME_PART_SIZE])
{
    bool is_good = api_name_parse(parent, "projects", ret_project);

    CHECK(is_good);
}

bool
net_project_fits(const char *wanted, const char *project)
{
    return strcmp(wanted, "-") == 0 || strcmp(wanted, project) == 0;
}

char *
net_name(struct reply_arena *arena, const struct state *state,
         enum net_kind kind, const struct weft_uuid *uuid)
{
    const char *project = NULL, *name = NULL;

    if (kind == NET_NETWORK) {
        const struct state_network *row = state_network_get(state, uuid);
        project = row != NULL ? row->project : NULL;
        name = row != NULL ? row->name : NULL;
    } else if (kind == NET_SUBNET) {
        const struct state_subnet *row = state_subnet_get(state, uuid);
        project = row != NULL ? row->project : NULL;
        name = row != NULL ? row->name : NULL;
    } else if (kind == NET_PORT) {
        const struct state_port *row = state_port_get(state, uuid);
        project = row != NULL ? row->project : NULL;
        name = row != NULL ? row->name : NULL;
    } else if (kind == NET_GROUP) {
        const struct state_security_group *row =
            state_security_group_get(state, uuid);
        project = row != NULL ? row->project : NULL;
        name = row != NULL ? row->name : NULL;
    } else if (kind == NET_ROUTER) {
        const struct state_router *row = state_router_get(state, uuid);
        project = row != NULL ? row->project : NULL;
        name = row != NULL ? row->name : NULL;
    }
    return project != NULL ? reply_text(arena, "projects/%s/%s/%s", project,
                                        kinds[kind].collection, name)
                           : reply_text(arena, "%s", "");
}
