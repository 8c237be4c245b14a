/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "netd/api/internal.h"
#include "netd/api/rule_text.h"

#define RULES_MAX 20000u /* Of a group. */

static Weft__V1__SecurityRule *
rule_message(struct reply_arena *arena, const struct state *state,
             const struct state_security_rule *row)
{
    Weft__V1__SecurityRule *rule = reply_alloc(arena, sizeof *rule);
    const struct state_security_group *group =
        state_security_group_get(state, &row->group);
    char protocol[16];

    weft__v1__security_rule__init(rule);
    rule->uid = reply_uuid(arena, &row->row.uuid);
    rule->name = reply_text(arena, "projects/%s/securityRules/%s",
                            group != NULL ? group->project : "-", rule->uid);
    rule->create_time = api_time(arena, row->create_time_ms);
    rule->group = net_name(arena, state, NET_GROUP, &row->group);
    rule->direction = row->direction == STATE_SECURITY_RULE_DIRECTION_OUT
                          ? WEFT__V1__SECURITY_RULE__DIRECTION__OUT
                          : WEFT__V1__SECURITY_RULE__DIRECTION__IN;
    rule->family = row->family == STATE_SECURITY_RULE_FAMILY_IPV4
                       ? WEFT__V1__SECURITY_RULE__FAMILY__IPV4
                   : row->family == STATE_SECURITY_RULE_FAMILY_IPV6
                       ? WEFT__V1__SECURITY_RULE__FAMILY__IPV6
                       : WEFT__V1__SECURITY_RULE__FAMILY__FAMILY_UNSPECIFIED;
    rule_format_protocol(row->protocol, protocol);
    rule->protocol = reply_text(arena, "%s", protocol);
    if (rule_has_ports(row->protocol) &&
        (row->port_first > 0 || row->port_last < 65535)) {
        rule->ports =
            row->port_first == row->port_last
                ? reply_text(arena, "%u", row->port_first)
                : reply_text(arena, "%u-%u", row->port_first, row->port_last);
    }
    if (row->icmp_type != RULE_ANY) {
        rule->icmp =
            row->icmp_code == RULE_ANY
                ? reply_text(arena, "%u", row->icmp_type)
                : reply_text(arena, "%u/%u", row->icmp_type, row->icmp_code);
    }
    rule->cidr = reply_text(arena, "%s", row->cidr);
    if (!uuid_is_nil(&row->peer_group)) {
        rule->peer_group = net_name(arena, state, NET_GROUP, &row->peer_group);
    }
    return rule;
}

static void
rule_answer(struct netd_api *api, struct rpc_call *call,
            const struct weft_uuid *uuid)
{
    const struct state_security_rule *row =
        state_security_rule_get(api->state, uuid);
    struct reply_arena arena = { NULL };

    if (row == NULL) {
        net_answer_gone(call);
        return;
    }
    rpc_call_reply(call, &rule_message(&arena, api->state, row)->base);
    reply_free(&arena);
}

/* ---- Create ---- */

static struct rule_wish
rule_wish_of(const Weft__V1__SecurityRule *rule)
{
    return (struct rule_wish){
        .is_out = rule->direction == WEFT__V1__SECURITY_RULE__DIRECTION__OUT,
        .family = rule->family == WEFT__V1__SECURITY_RULE__FAMILY__IPV4
                      ? RULE_FAMILY_IPV4
                  : rule->family == WEFT__V1__SECURITY_RULE__FAMILY__IPV6
                      ? RULE_FAMILY_IPV6
                      : RULE_FAMILY_ANY,
        .protocol = rule->protocol,
        .ports = rule->ports,
        .icmp = rule->icmp,
        .cidr = rule->cidr,
        .has_peer = rule->peer_group[0] != '\0',
    };
}

static void
rule_fill_row(const struct rule_spec *spec, struct state_security_rule *row)
{
    row->direction = spec->is_out ? STATE_SECURITY_RULE_DIRECTION_OUT
                                  : STATE_SECURITY_RULE_DIRECTION_IN;
    row->family =
        spec->family == RULE_FAMILY_IPV4   ? STATE_SECURITY_RULE_FAMILY_IPV4
        : spec->family == RULE_FAMILY_IPV6 ? STATE_SECURITY_RULE_FAMILY_IPV6
                                           : STATE_SECURITY_RULE_FAMILY_ANY;
    row->protocol = spec->protocol;
    row->port_first = spec->port_first;
    row->port_last = spec->port_last;
    row->icmp_type = spec->icmp_type;
    row->icmp_code = spec->icmp_code;
    row->cidr = spec->cidr;
    if (spec->has_peer) {
        row->peer_group = spec->peer;
    }
}

/* The group that a rule names, of the same project; NULL, refused. */
static const struct state_security_group *
rule_find_group(struct api_op *op, struct state *state, const char *field,
                const char *name, const char *project)
{
    const struct state_row *found =
        net_op_find(op, state, NET_GROUP, field, name);

    if (found == NULL) {
        return NULL;
    }
    const struct state_security_group *group = state_security_group_from(found);
    if (strcmp(group->project, project) != 0) {
        (void)api_op_refuse(op, RPC_FAILED_PRECONDITION, "OTHER_PROJECT",
                            "security group \"%s\" is of project \"%s\", not "
                            "of \"%s\"",
                            group->name, group->project, project);
        return NULL;
    }
    return group;
}

static int
rule_create_build(struct api_op *op, struct state_txn *txn, struct state *state)
{
    const Weft__V1__CreateSecurityRuleRequest *request =
        (const void *)op->request;
    const Weft__V1__SecurityRule *rule = request->security_rule;
    struct rule_wish wish = rule_wish_of(rule);
    struct rule_spec spec;
    struct rule_error ignored;
    char project[API_NAME_PART_SIZE], canonical[RULE_CANONICAL_SIZE];
    char id[UUID_TEXT_SIZE];

    net_project(request->parent, project);
    const struct state_security_group *group =
        rule_find_group(op, state, "security_rule.group", rule->group, project);
    if (group == NULL) {
        return -EPROTO;
    }
    if (wish.has_peer) {
        const struct state_security_group *peer =
            rule_find_group(op, state, "security_rule.peer_group",
                            rule->peer_group, project);
        if (peer == NULL) {
            return -EPROTO;
        }
        wish.peer = peer->row.uuid;
    }
    bool is_good = rule_parse(&wish, &spec, &ignored);
    CHECK(is_good); /* As in the handler. */
    rule_canonical(&spec, canonical);
    const struct state_security_rule *same =
        state_security_rule_find_by_group_canonical(state, &group->row.uuid,
                                                    canonical);
    if (same != NULL) {
        uuid_format(&same->row.uuid, id);
        return api_op_refuse(op, RPC_ALREADY_EXISTS, "SECURITY_RULE_EXISTS",
                             "security group \"%s\" has that rule already "
                             "(%s: %s)",
                             group->name, id, canonical);
    }
    if (state_security_rule_count_by_group(state, &group->row.uuid) >=
        RULES_MAX) {
        return api_op_refuse(op, RPC_RESOURCE_EXHAUSTED, "TOO_MANY_RULES",
                             "security group \"%s\" has %u rules, which is "
                             "the most",
                             group->name, RULES_MAX);
    }
    struct state_security_rule row = {
        .row.table = STATE_TABLE_SECURITY_RULE,
        .group = group->row.uuid,
        .canonical = canonical,
        .create_time_ms = service_wall_ms(),
        .request_id = op->request_id,
    };
    rule_fill_row(&spec, &row);
    api_op_uuid(op, "rule", &row.row.uuid);
    row.tag = net_number_take(op, txn, "rule", &row.row.uuid);
    state_txn_insert(txn, &row.row, STATE_SECURITY_RULE_COL_ALL);
    uuid_format(&row.row.uuid, id);
    net_op_scope(op, &group->row.uuid);
    net_op_record(op, txn, project, "securityRules", id);
    net_op_of(op)->uuid = row.row.uuid;
    return 0;
}

static void
rule_create(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__CreateSecurityRuleRequest *request = (const void *)message;
    const Weft__V1__SecurityRule *rule = request->security_rule;
    struct rpc_error error;

    rpc_error_set_invalid(&error);
    net_check_new(&error, request->parent, "", NULL);
    if (rule == NULL) {
        rpc_error_add_violation(&error, "security_rule", "is missing");
    } else {
        struct rule_wish wish = rule_wish_of(rule);
        struct rule_spec spec;
        struct rule_error why;
        if (rule->direction != WEFT__V1__SECURITY_RULE__DIRECTION__IN &&
            rule->direction != WEFT__V1__SECURITY_RULE__DIRECTION__OUT) {
            rpc_error_add_violation(&error, "security_rule.direction",
                                    "has to be IN or OUT");
        }
        if (!rule_parse(&wish, &spec, &why)) {
            char field[64];
            (void)snprintf(field, sizeof field, "security_rule.%s", why.field);
            rpc_error_add_violation(&error, field, "%s", why.text);
        }
    }
    if (error.violation_count > 0) {
        rpc_call_fail(call, &error);
        return;
    }
    net_op_start(call, message, request->request_id, request->wait,
                 rule_create_build, rule_answer);
}

/* ---- Delete ---- */

static int
rule_delete_build(struct api_op *op, struct state_txn *txn, struct state *state)
{
    const Weft__V1__DeleteSecurityRuleRequest *request =
        (const void *)op->request;
    const struct state_row *found =
        net_op_find(op, state, NET_RULE, "name", request->name);
    char id[UUID_TEXT_SIZE];

    if (found == NULL) {
        return -EPROTO;
    }
    const struct state_security_rule *row = state_security_rule_from(found);
    const struct state_security_group *group =
        state_security_group_get(state, &row->group);
    state_txn_delete(txn, STATE_TABLE_SECURITY_RULE, &row->row.uuid);
    net_number_free(txn, state, "rule", row->tag);
    uuid_format(&row->row.uuid, id);
    net_op_scope(op, &row->group);
    net_op_record(op, txn, group != NULL ? group->project : "-",
                  "securityRules", id);
    return 0;
}

static void
rule_delete(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__DeleteSecurityRuleRequest *request = (const void *)message;

    net_op_start(call, message, request->request_id, request->wait,
                 rule_delete_build, net_answer_empty);
}

/* ---- Read ---- */

static void
rule_get(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__GetSecurityRuleRequest *request = (const void *)message;
    const struct state_row *row = net_take(call, NET_RULE, request->name);

    if (row != NULL) {
        rule_answer(netd_api_of(call), call, &row->uuid);
    }
}

/* Sorts by group, then by what it says. */
static const char *
rule_key(struct reply_arena *arena, const struct state_security_group *group,
         const struct state_security_rule *row)
{
    return reply_text(arena, "%s/%s/%s", group->project, group->name,
                      row->canonical);
}

static void
rule_list(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__ListSecurityRulesRequest *request = (const void *)message;
    struct state *state = netd_api_of(call)->state;
    Weft__V1__ListSecurityRulesResponse reply =
        WEFT__V1__LIST_SECURITY_RULES_RESPONSE__INIT;
    char project[API_NAME_PART_SIZE];
    struct api_list list;

    if (!net_take_parent(call, request->parent, project) ||
        !api_list_begin(&list, call, &weft__v1__security_rule__descriptor,
                        request->parent, request->page_size,
                        request->page_token, request->filter)) {
        return;
    }
    for (const struct state_security_rule *row =
             state_security_rule_next(state, NULL);
         row != NULL; row = state_security_rule_next(state, row)) {
        const struct state_security_group *group =
            state_security_group_get(state, &row->group);
        if (group != NULL && net_project_fits(project, group->project)) {
            api_list_add(&list, &rule_message(&list.arena, state, row)->base,
                         rule_key(&list.arena, group, row));
        }
    }
    api_list_page(&list, (ProtobufCMessage ***)(void *)&reply.security_rules,
                  &reply.n_security_rules, &reply.next_page_token);
    rpc_call_reply(call, &reply.base);
    api_list_end(&list);
}

const struct rpc_method net_rule_methods[] = {
    { "CreateSecurityRule", RPC_UNARY, rule_create },
    { "GetSecurityRule", RPC_UNARY, rule_get },
    { "ListSecurityRules", RPC_UNARY, rule_list },
    { "DeleteSecurityRule", RPC_UNARY, rule_delete },
};
const size_t net_rule_method_count =
    sizeof net_rule_methods / sizeof net_rule_methods[0];
