/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/net_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "netd/compile/emit.h"

/* ---- Reading a line ---- */

#define WORDS_MAX 16

struct line {
    struct compile *compile;
    char *words[WORDS_MAX]; /* [0]: kind, [1]: name, then key=value or flags. */
    size_t count;
};

static void
fail(const struct line *line, const char *why)
{
    fprintf(stderr, "net_model: %s:", why);
    for (size_t i = 0; i < line->count; i++) {
        fprintf(stderr, " %s", line->words[i]);
    }
    fprintf(stderr, "\n");
    exit(1);
}

/* The value of a key; NULL: it is not there. */
static const char *
value_of(const struct line *line, const char *key)
{
    size_t length = strlen(key);

    for (size_t i = 2; i < line->count; i++) {
        if (strncmp(line->words[i], key, length) == 0 &&
            line->words[i][length] == '=') {
            return line->words[i] + length + 1;
        }
    }
    return NULL;
}

static const char *
text_of(const struct line *line, const char *key)
{
    const char *value = value_of(line, key);
    return value == NULL ? "" : value;
}

static bool
has(const struct line *line, const char *flag)
{
    for (size_t i = 2; i < line->count; i++) {
        if (strcmp(line->words[i], flag) == 0) {
            return true;
        }
    }
    return false;
}

static uint32_t
number_of(const struct line *line, const char *key, uint32_t otherwise)
{
    const char *value = value_of(line, key);
    return value == NULL ? otherwise : (uint32_t)strtoul(value, NULL, 0);
}

static uint32_t
number_needed(const struct line *line, const char *key)
{
    if (value_of(line, key) == NULL) {
        fail(line, key);
    }
    return number_of(line, key, 0);
}

void
net_model_uuid(const char *kind, const char *name, struct weft_uuid *ret_uuid)
{
    state_uuid_derive(name, kind, ret_uuid);
}

/* Nil without such a key. */
static struct weft_uuid
reference(const struct line *line, const char *key, const char *kind)
{
    const char *name = value_of(line, key);
    struct weft_uuid uuid = { { 0 } };

    if (name != NULL) {
        net_model_uuid(kind, name, &uuid);
    }
    return uuid;
}

/* The row of the line itself; addresses and bindings are named by two things.
 */
static struct state_row
row_of(const struct line *line, enum state_table table, const char *more)
{
    struct state_row row = { .table = table };
    char name[192];

    (void)snprintf(name, sizeof name, "%s/%s", line->words[1], more);
    net_model_uuid(line->words[0], more[0] == '\0' ? line->words[1] : name,
                   &row.uuid);
    return row;
}

/* ---- One function per kind ---- */

static void
put_self(struct line *line)
{
    struct compile_self self = {
        .tunnel_ofport = number_of(line, "tunnel", 0),
        .underlay_mtu = number_of(line, "mtu", 1500),
    };
    (void)snprintf(self.host, sizeof self.host, "%s", line->words[1]);
    compile_set_self(line->compile, &self);
}

static void
put_local(struct line *line)
{
    struct local_port local = {
        .ofport = number_needed(line, "ofport"),
        .zone = number_needed(line, "zone"),
    };
    net_model_uuid("port", line->words[1], &local.port);
    compile_put_local(line->compile, &local);
}

static void
put_host(struct line *line)
{
    struct state_net_host host = {
        .row = row_of(line, STATE_TABLE_NET_HOST, ""),
        .host = line->words[1],
        .encap_ip = text_of(line, "ip"),
        .enabled = !has(line, "disabled"),
    };
    compile_put_row(line->compile, &host.row);
}

static void
put_network(struct line *line)
{
    struct state_network network = {
        .row = row_of(line, STATE_TABLE_NETWORK, ""),
        .project = "p",
        .name = line->words[1],
        .vni = number_needed(line, "vni"),
        .mtu = number_of(line, "mtu", 1442),
        .flood = has(line, "flood"),
        .request_id = "",
    };
    compile_put_row(line->compile, &network.row);
}

static void
put_subnet(struct line *line)
{
    struct state_subnet subnet = {
        .row = row_of(line, STATE_TABLE_SUBNET, ""),
        .network = reference(line, "network", "network"),
        .project = "p",
        .name = line->words[1],
        .cidr = text_of(line, "cidr"),
        .gateway = text_of(line, "gateway"),
        .dhcp = has(line, "dhcp"),
        .request_id = "",
    };
    compile_put_row(line->compile, &subnet.row);
}

static void
put_group(struct line *line)
{
    struct state_security_group group = {
        .row = row_of(line, STATE_TABLE_SECURITY_GROUP, ""),
        .project = "p",
        .name = line->words[1],
        .tag = number_needed(line, "tag"),
        .request_id = "",
    };
    compile_put_row(line->compile, &group.row);
}

static void
put_rule(struct line *line)
{
    const char *family = text_of(line, "family");
    const char *ports = value_of(line, "ports");
    const char *icmp = value_of(line, "icmp");
    struct state_security_rule rule = {
        .row = row_of(line, STATE_TABLE_SECURITY_RULE, ""),
        .group = reference(line, "group", "group"),
        .canonical = line->words[1],
        .direction = strcmp(text_of(line, "dir"), "out") == 0
                         ? STATE_SECURITY_RULE_DIRECTION_OUT
                         : STATE_SECURITY_RULE_DIRECTION_IN,
        .family = strcmp(family, "ipv4") == 0
                      ? STATE_SECURITY_RULE_FAMILY_IPV4
                      : (strcmp(family, "ipv6") == 0
                             ? STATE_SECURITY_RULE_FAMILY_IPV6
                             : STATE_SECURITY_RULE_FAMILY_ANY),
        .protocol = number_of(line, "proto", 256),
        .port_first = 0,
        .port_last = 65535,
        .icmp_type = 256,
        .icmp_code = 256,
        .cidr = text_of(line, "cidr"),
        .peer_group = reference(line, "peer", "group"),
        .tag = number_needed(line, "tag"),
        .request_id = "",
    };

    if (ports != NULL) {
        const char *dash = strchr(ports, '-');
        rule.port_first = (uint32_t)strtoul(ports, NULL, 10);
        rule.port_last = dash == NULL ? rule.port_first
                                      : (uint32_t)strtoul(dash + 1, NULL, 10);
    }
    if (icmp != NULL) {
        const char *slash = strchr(icmp, '/');
        rule.icmp_type = (uint32_t)strtoul(icmp, NULL, 10);
        rule.icmp_code =
            slash == NULL ? 256 : (uint32_t)strtoul(slash + 1, NULL, 10);
    }
    compile_put_row(line->compile, &rule.row);
}

/* An identity, and a member for each of its groups. */
static void
put_identity(struct line *line)
{
    struct state_identity identity = {
        .row = row_of(line, STATE_TABLE_IDENTITY, ""),
        .number = number_needed(line, "number"),
        .combination = text_of(line, "groups"),
    };
    char groups[700];
    char *rest = groups;

    compile_put_row(line->compile, &identity.row);
    (void)snprintf(groups, sizeof groups, "%s", text_of(line, "groups"));
    while (rest != NULL && *rest != '\0') {
        const char *group = strsep(&rest, ",");
        struct state_identity_member member = {
            .row = row_of(line, STATE_TABLE_IDENTITY_MEMBER, group),
            .identity = identity.row.uuid,
        };
        net_model_uuid("group", group, &member.group);
        compile_put_row(line->compile, &member.row);
    }
}

static void
put_port(struct line *line)
{
    struct state_port port = {
        .row = row_of(line, STATE_TABLE_PORT, ""),
        .network = reference(line, "network", "network"),
        .project = "p",
        .name = line->words[1],
        .mac = text_of(line, "mac"),
        .identity = reference(line, "identity", "identity"),
        .host = text_of(line, "host"),
        .migrate_host = text_of(line, "migrate"),
        .enabled = !has(line, "disabled"),
        .hostname = "",
        .request_id = "",
    };
    compile_put_row(line->compile, &port.row);
}

static void
put_address(struct line *line)
{
    struct state_address address = {
        .row = row_of(line, STATE_TABLE_ADDRESS, text_of(line, "network")),
        .network = reference(line, "network", "network"),
        .subnet = reference(line, "subnet", "subnet"),
        .ip = line->words[1],
        .port = reference(line, "port", "port"),
        .router_port = reference(line, "router_port", "router_port"),
    };
    compile_put_row(line->compile, &address.row);
}

/* The network is found by the port, whose line comes before. */
static void
put_binding(struct line *line)
{
    struct state_binding binding = {
        .row = row_of(line, STATE_TABLE_BINDING, text_of(line, "host")),
        .host = text_of(line, "host"),
    };
    const struct state_row *port;

    net_model_uuid("port", line->words[1], &binding.port);
    port = compile_row(line->compile, STATE_TABLE_PORT, &binding.port);
    if (port == NULL) {
        fail(line, "no such port");
    } else {
        binding.network = state_port_from(port)->network;
        compile_put_row(line->compile, &binding.row);
    }
}

static void
put_router(struct line *line)
{
    struct state_router router = {
        .row = row_of(line, STATE_TABLE_ROUTER, ""),
        .project = "p",
        .name = line->words[1],
        .tag = number_needed(line, "tag"),
        .request_id = "",
    };
    compile_put_row(line->compile, &router.row);
}

static void
put_router_port(struct line *line)
{
    struct state_router_port port = {
        .row = row_of(line, STATE_TABLE_ROUTER_PORT, ""),
        .router = reference(line, "router", "router"),
        .subnet = reference(line, "subnet", "subnet"),
        .network = reference(line, "network", "network"),
        .mac = text_of(line, "mac"),
    };
    compile_put_row(line->compile, &port.row);
}

/* ---- Lines ---- */

struct kind {
    const char *name;
    void (*put)(struct line *line);
    enum state_table table;
    const char *more; /* The key that the name of a row goes on with. */
};

static const struct kind kinds[] = {
    { "self", put_self, STATE_TABLE_COUNT, NULL },
    { "local", put_local, STATE_TABLE_COUNT, NULL },
    { "host", put_host, STATE_TABLE_NET_HOST, NULL },
    { "network", put_network, STATE_TABLE_NETWORK, NULL },
    { "subnet", put_subnet, STATE_TABLE_SUBNET, NULL },
    { "group", put_group, STATE_TABLE_SECURITY_GROUP, NULL },
    { "rule", put_rule, STATE_TABLE_SECURITY_RULE, NULL },
    { "identity", put_identity, STATE_TABLE_IDENTITY, NULL },
    { "port", put_port, STATE_TABLE_PORT, NULL },
    { "address", put_address, STATE_TABLE_ADDRESS, "network" },
    { "binding", put_binding, STATE_TABLE_BINDING, "host" },
    { "router", put_router, STATE_TABLE_ROUTER, NULL },
    { "router_port", put_router_port, STATE_TABLE_ROUTER_PORT, NULL },
};

static const struct kind *
find_kind(const struct line *line)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(kinds[i].name, line->words[0]) == 0) {
            return &kinds[i];
        }
    }
    fail(line, "no such kind");
    return NULL;
}

/* "delete KIND NAME ..." becomes "KIND NAME ...". */
static void
delete_line(struct line *line)
{
    struct weft_uuid uuid;

    line->count--;
    memmove(&line->words[0], &line->words[1],
            line->count * sizeof line->words[0]);
    const struct kind *kind = find_kind(line);
    if (kind->put == put_local) {
        net_model_uuid("port", line->words[1], &uuid);
        compile_delete_local(line->compile, &uuid);
        return;
    }
    if (kind->table == STATE_TABLE_COUNT) {
        fail(line, "cannot be deleted");
    }
    struct state_row row =
        row_of(line, kind->table,
               kind->more == NULL ? "" : text_of(line, kind->more));
    compile_delete_row(line->compile, kind->table, &row.uuid);
}

static void
apply_line(struct compile *compile, char *text)
{
    struct line line = { .compile = compile };
    char *comment = strchr(text, '#');
    char *rest = text;

    if (comment != NULL) {
        *comment = '\0';
    }
    while (rest != NULL) {
        char *word = strsep(&rest, " \t");
        if (*word != '\0') {
            if (line.count == WORDS_MAX) {
                fail(&line, "too many words");
            }
            line.words[line.count++] = word;
        }
    }
    if (line.count == 0) {
        return;
    }
    if (line.count < 2) {
        fail(&line, "no name");
    }
    if (strcmp(line.words[0], "delete") == 0) {
        delete_line(&line);
    } else {
        find_kind(&line)->put(&line);
    }
}

void
net_model_apply(struct compile *compile, const char *text)
{
    char *copy = strdup(text);
    char *rest = copy;

    CHECK(copy != NULL);
    while (rest != NULL) {
        apply_line(compile, strsep(&rest, "\n"));
    }
    free(copy);
}

/* ---- Flows ---- */

struct collector {
    struct compile_sink sink;
    struct flow_spec **flows;
    size_t count, room;
};

static void
collect(struct compile_sink *sink, uint64_t unit,
        struct flow_spec *const *old_flows, size_t old_count,
        struct flow_spec *const *new_flows, size_t new_count)
{
    struct collector *collector = container_of(sink, struct collector, sink);

    (void)unit;
    (void)old_flows;
    CHECK(old_count == 0);
    for (size_t i = 0; i < new_count; i++) {
        if (collector->count == collector->room) {
            collector->room = collector->room * 2 + 64;
            collector->flows =
                realloc(collector->flows,
                        collector->room * sizeof collector->flows[0]);
            CHECK(collector->flows != NULL);
        }
        collector->flows[collector->count++] = flow_spec_ref(new_flows[i]);
    }
}

static int
compare_flows(const void *a, const void *b)
{
    const struct flow_spec *const *x = a;
    const struct flow_spec *const *y = b;
    return flow_spec_compare(*x, *y);
}

/* Shared flows become one, conjunctions of one key are merged (N9). */
static void
merge_flows(struct collector *collector)
{
    size_t left = 0;

    for (size_t i = 0; i < collector->count; i++) {
        struct flow_spec *flow = collector->flows[i];
        struct flow_spec **last =
            left == 0 ? NULL : &collector->flows[left - 1];
        if (last == NULL || !flow_spec_same_key(*last, flow)) {
            collector->flows[left++] = flow;
            continue;
        }
        if (flow_spec_is_conjunctive(*last) && flow_spec_is_conjunctive(flow)) {
            struct flow_spec *merged = flow_spec_merge(*last, flow);
            flow_spec_unref(*last);
            *last = merged;
        } else if (!flow_spec_same_actions(*last, flow)) {
            char text[2][1024];
            flow_spec_format(*last, text[0], sizeof text[0]);
            flow_spec_format(flow, text[1], sizeof text[1]);
            fprintf(stderr, "net_model: two flows of one key:\n%s\n%s\n",
                    text[0], text[1]);
            exit(1);
        }
        flow_spec_unref(flow);
    }
    collector->count = left;
}

#define FLOW_TEXT_SIZE 65536

char *
net_model_flows(struct compile *compile, int table)
{
    struct collector collector = { .sink = { .replace = collect } };
    char *line = malloc(FLOW_TEXT_SIZE);
    char *text = NULL;
    size_t size;

    compile_oracle(compile, &collector.sink);
    if (collector.count > 0) {
        qsort(collector.flows, collector.count, sizeof collector.flows[0],
              compare_flows);
    }
    merge_flows(&collector);

    FILE *stream = open_memstream(&text, &size);
    CHECK(stream != NULL);
    CHECK(line != NULL);
    for (size_t i = 0; i < collector.count; i++) {
        struct flow_spec *flow = collector.flows[i];
        if (table < 0 || flow->table == table) {
            flow_spec_format(flow, line, FLOW_TEXT_SIZE);
            fprintf(stream, "%s\n", line);
        }
        flow_spec_unref(flow);
    }
    (void)fclose(stream);
    free(collector.flows);
    free(line);
    return text;
}
