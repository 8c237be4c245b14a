/* SPDX-License-Identifier: Apache-2.0 */
/* weft security-group ..., weft security-rule ... */

#include <stdio.h>
#include <string.h>

#include "client/cli/net_noun.h"
#include "proto/weft/v1/security.pb-c.h"

/* ---- Groups ---- */

static void
group_row(struct table *table, const ProtobufCMessage *message)
{
    const Weft__V1__SecurityGroup *group =
        (const Weft__V1__SecurityGroup *)(const void *)message;

    table_add(table, cli_short_name(group->name));
    table_add_format(table, "%d", (int)group->rule_count);
    table_add_format(table, "%d", (int)group->port_count);
}

static void
group_print(const ProtobufCMessage *message)
{
    const Weft__V1__SecurityGroup *group =
        (const Weft__V1__SecurityGroup *)(const void *)message;
    char text[TABLE_TEXT_SIZE];

    cli_print_field("name:", group->name);
    cli_print_field("uid:", group->uid);
    table_format_time(group->create_time, text);
    cli_print_field("created:", text);
    printf("%-16s %d\n%-16s %d\n", "rules:", (int)group->rule_count,
           "ports:", (int)group->port_count);
}

static const char *const group_header[] = { "NAME", "RULES", "PORTS", NULL };
static const struct net_noun group_noun = {
    .service = &weft__v1__security_group_service__descriptor,
    .single = "SecurityGroup",
    .plural = "SecurityGroups",
    .json = "securityGroups",
    .collection = "securityGroups",
    .word = "security group",
    .words = "security groups",
    .header = group_header,
    .row = group_row,
    .print = group_print,
};

static const struct cli_option security_wait_options[] = {
    NET_WAIT_OPTION,
    { NULL, 0, NULL, NULL },
};

static enum cli_exit
group_create(struct cli *cli)
{
    Weft__V1__CreateSecurityGroupRequest request =
        WEFT__V1__CREATE_SECURITY_GROUP_REQUEST__INIT;
    Weft__V1__SecurityGroup group = WEFT__V1__SECURITY_GROUP__INIT;
    char project[CLI_NAME_SIZE], id[UUID_TEXT_SIZE];
    enum cli_exit code = net_check_new(cli, cli->arguments[0]);

    if (code == CLI_DONE) {
        code = cli_check_project(cli, project);
    }
    if (code != CLI_DONE) {
        return code;
    }
    weft_request_id(id);
    request.parent = project;
    request.security_group_id = (char *)cli->arguments[0];
    request.security_group = &group;
    request.request_id = id;
    request.wait = net_wait(cli);
    return net_change(cli, &group_noun, "CreateSecurityGroup", &request.base,
                      "create", cli->arguments[0], NULL);
}

static enum cli_exit
group_list(struct cli *cli)
{
    return net_list(cli, &group_noun);
}

static enum cli_exit
group_show(struct cli *cli)
{
    return net_show(cli, &group_noun);
}

static enum cli_exit
group_delete(struct cli *cli)
{
    return net_delete(cli, &group_noun);
}

const struct cli_command cli_security_group_commands[] = {
    { "security-group", "create", "NAME", "Create a security group",
      security_wait_options, group_create },
    { "security-group", "list", "", "List the security groups", NULL,
      group_list },
    { "security-group", "show", "NAME", "Show one security group", NULL,
      group_show },
    { "security-group", "delete", "NAME",
      "Delete a security group and its rules", security_wait_options,
      group_delete },
    { .noun = NULL },
};

/* ---- Rules ---- */

/* The other side, for people. */
static const char *
rule_peer(const Weft__V1__SecurityRule *rule)
{
    return rule->peer_group[0] != '\0' ? cli_short_name(rule->peer_group)
           : rule->cidr[0] != '\0'     ? rule->cidr
                                       : "any";
}

static const char *
rule_detail(const Weft__V1__SecurityRule *rule)
{
    return rule->ports[0] != '\0' ? rule->ports : rule->icmp;
}

static void
rule_row(struct table *table, const ProtobufCMessage *message)
{
    const Weft__V1__SecurityRule *rule =
        (const Weft__V1__SecurityRule *)(const void *)message;
    char family[TABLE_TEXT_SIZE];

    table_add(table, rule->uid);
    table_add(table, cli_short_name(rule->group));
    table_add_enum(table, &weft__v1__security_rule__direction__descriptor,
                   (int)rule->direction);
    table_format_enum(&weft__v1__security_rule__family__descriptor,
                      (int)rule->family, "", family);
    table_add(table, rule->family == 0 ? "any" : family);
    table_add(table, rule->protocol);
    table_add(table, rule_detail(rule));
    table_add_format(table, "%s%s", rule->peer_group[0] != '\0' ? "group " : "",
                     rule_peer(rule));
}

static void
rule_print(const ProtobufCMessage *message)
{
    const Weft__V1__SecurityRule *rule =
        (const Weft__V1__SecurityRule *)(const void *)message;
    char text[TABLE_TEXT_SIZE];

    cli_print_field("name:", rule->name);
    cli_print_field("uid:", rule->uid);
    table_format_time(rule->create_time, text);
    cli_print_field("created:", text);
    cli_print_field("group:", rule->group);
    table_format_enum(&weft__v1__security_rule__direction__descriptor,
                      (int)rule->direction, "", text);
    cli_print_field("direction:", text);
    table_format_enum(&weft__v1__security_rule__family__descriptor,
                      (int)rule->family, "", text);
    cli_print_field("family:", rule->family == 0 ? "any" : text);
    cli_print_field("protocol:", rule->protocol);
    cli_print_field("ports:", rule->ports);
    cli_print_field("icmp:", rule->icmp);
    cli_print_field(rule->peer_group[0] != '\0' ? "other group:"
                                                : "other side:",
                    rule_peer(rule));
}

static const char *const rule_header[] = { "UID",    "GROUP", "DIRECTION",
                                           "FAMILY", "PROTO", "PORTS",
                                           "PEER",   NULL };
static const struct net_noun rule_noun = {
    .service = &weft__v1__security_rule_service__descriptor,
    .single = "SecurityRule",
    .plural = "SecurityRules",
    .json = "securityRules",
    .collection = "securityRules",
    .word = "security rule",
    .words = "security rules",
    .header = rule_header,
    .row = rule_row,
    .print = rule_print,
};

static const struct cli_option rule_create_options[] = {
    { "group", 'g', "GROUP", "of which group" },
    { "direction", 'd', "in|out", "to the group's ports, or from them" },
    { "proto", 0, "PROTO", "tcp, udp, sctp, icmp, any or a number (any)" },
    { "ports", 0, "PORTS", "destination ports, such as 22 or 8000-8080 (all)" },
    { "icmp", 0, "TYPE[/CODE]", "ICMP type and code (all)" },
    { "family", 0, "ipv4|ipv6", "addresses of which kind (both)" },
    { "from", 0, "RANGE", "with in: where from, such as 10.0.0.0/8 (any)" },
    { "from-group", 0, "GROUP", "with in: from ports of that group" },
    { "to", 0, "RANGE", "with out: where to (any)" },
    { "to-group", 0, "GROUP", "with out: to ports of that group" },
    NET_WAIT_OPTION,
    { NULL, 0, NULL, NULL },
};

/* --from is for one direction, --to for the other. */
static enum cli_exit
rule_read_peer(struct cli *cli, bool is_out, Weft__V1__SecurityRule *rule,
               char ret_group[CLI_NAME_SIZE])
{
    const char *range = cli_value(cli, is_out ? "to" : "from");
    const char *group = cli_value(cli, is_out ? "to-group" : "from-group");

    if (cli_value(cli, is_out ? "from" : "to") != NULL ||
        cli_value(cli, is_out ? "from-group" : "to-group") != NULL) {
        return cli_usage_error(cli, "a rule with --direction %s has %s",
                               is_out ? "out" : "in",
                               is_out ? "--to or --to-group"
                                      : "--from or --from-group");
    }
    if (range != NULL && group != NULL) {
        return cli_usage_error(cli,
                               "--%s and --%s cannot both say who the other "
                               "side is; make two rules",
                               is_out ? "to" : "from",
                               is_out ? "to-group" : "from-group");
    }
    if (range != NULL) {
        rule->cidr = (char *)range;
    }
    if (group != NULL) {
        rule->peer_group = ret_group;
        return net_check(cli, is_out ? "--to-group" : "--from-group",
                         "securityGroups", group, ret_group);
    }
    return CLI_DONE;
}

static enum cli_exit
rule_read(struct cli *cli, Weft__V1__SecurityRule *rule,
          char ret_group[CLI_NAME_SIZE], char ret_peer[CLI_NAME_SIZE])
{
    static const char *const directions[] = { "in", "out", NULL };
    static const char *const families[] = { "ipv4", "ipv6", NULL };
    const char *group, *direction, *family = cli_value(cli, "family");
    uint32_t is_out = 0, index = 0;
    enum cli_exit code = net_need(cli, "group", &group);

    if (code == CLI_DONE) {
        code = net_need(cli, "direction", &direction);
    }
    if (code == CLI_DONE) {
        code =
            cli_check_word(cli, "--direction", direction, directions, &is_out);
    }
    if (code == CLI_DONE && family != NULL) {
        code = cli_check_word(cli, "--family", family, families, &index);
        rule->family = index == 0 ? WEFT__V1__SECURITY_RULE__FAMILY__IPV4
                                  : WEFT__V1__SECURITY_RULE__FAMILY__IPV6;
    }
    if (code == CLI_DONE) {
        code = net_check(cli, "--group", "securityGroups", group, ret_group);
    }
    if (code == CLI_DONE) {
        code = rule_read_peer(cli, is_out != 0, rule, ret_peer);
    }
    rule->group = ret_group;
    rule->direction = is_out != 0 ? WEFT__V1__SECURITY_RULE__DIRECTION__OUT
                                  : WEFT__V1__SECURITY_RULE__DIRECTION__IN;
    return code;
}

static enum cli_exit
rule_create(struct cli *cli)
{
    Weft__V1__CreateSecurityRuleRequest request =
        WEFT__V1__CREATE_SECURITY_RULE_REQUEST__INIT;
    Weft__V1__SecurityRule rule = WEFT__V1__SECURITY_RULE__INIT;
    char project[CLI_NAME_SIZE], id[UUID_TEXT_SIZE];
    char group[CLI_NAME_SIZE], peer[CLI_NAME_SIZE];
    const char *texts[] = { cli_value(cli, "proto"), cli_value(cli, "ports"),
                            cli_value(cli, "icmp") };
    ProtobufCMessage *reply;
    enum cli_exit code = rule_read(cli, &rule, group, peer);

    if (code == CLI_DONE) {
        code = cli_check_project(cli, project);
    }
    if (code != CLI_DONE) {
        return code;
    }
    weft_request_id(id);
    rule.protocol = (char *)(texts[0] != NULL ? texts[0] : "");
    rule.ports = (char *)(texts[1] != NULL ? texts[1] : "");
    rule.icmp = (char *)(texts[2] != NULL ? texts[2] : "");
    request.parent = project;
    request.security_rule = &rule;
    request.request_id = id;
    request.wait = net_wait(cli);
    code = net_change(cli, &rule_noun, "CreateSecurityRule", &request.base,
                      "create", "", &reply);
    if (code == CLI_DONE) {
        if (cli->output == CLI_TABLE) { /* The only name that it has. */
            printf("%s\n",
                   ((const Weft__V1__SecurityRule *)(const void *)reply)->uid);
        }
        weft_message_free(reply);
    }
    return code;
}

static enum cli_exit
rule_list(struct cli *cli)
{
    return net_list(cli, &rule_noun);
}

static enum cli_exit
rule_show(struct cli *cli)
{
    return net_show(cli, &rule_noun);
}

static enum cli_exit
rule_delete(struct cli *cli)
{
    return net_delete(cli, &rule_noun);
}

const struct cli_command cli_security_rule_commands[] = {
    { "security-rule", "create", "", "Let a security group allow more",
      rule_create_options, rule_create },
    { "security-rule", "list", "", "List the rules of all groups", NULL,
      rule_list },
    { "security-rule", "show", "UID", "Show one rule", NULL, rule_show },
    { "security-rule", "delete", "UID", "Delete a rule", security_wait_options,
      rule_delete },
    { .noun = NULL },
};
