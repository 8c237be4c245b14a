/* SPDX-License-Identifier: Apache-2.0 */
/* weft pool ... */

#include <stdio.h>

#include "client/cli/list.h"
#include "client/cli/words.h"
#include "lib/base/units.h"
#include "proto/weft/v1/pool.pb-c.h"

#define POOL_SERVICE (&weft__v1__pool_service__descriptor)
#define POOL_TRASH_MAX_S 2592000u

static const struct cli_option pool_create_options[] = {
    { "replicas", 0, "N", "copies of all data, 1 to 3 (3)" },
    { "min-in-sync", 0, "N",
      "fewest copies in sync with which I/O goes on (replicas - 1)" },
    { "failure-domain", 0, "host|rack", "what copies must not share (host)" },
    { "device-class", 0, "CLASS", "only hdd, ssd, nvme or file disks (any)" },
    { "stripe-width", 0, "N", "mirrors that a volume is striped over (1)" },
    { "extent-size", 0, "SIZE", "bytes on one mirror before the next (1M)" },
    { "trash", 0, "DURATION", "how long deleted data is kept (0s)" },
    { NULL, 0, NULL, NULL },
};

/* A number option that may be missing: then '*number' stays as it is. */
static enum cli_exit
pool_number(const struct cli *cli, const char *option, uint64_t max,
            int32_t *number)
{
    char what[32];
    uint64_t value;
    const char *text = cli_value(cli, option);

    if (text == NULL) {
        return CLI_DONE;
    }
    snprintf(what, sizeof what, "--%s", option);
    enum cli_exit code = cli_check_number(cli, what, text, 1, max, &value);
    if (code == CLI_DONE) {
        *number = (int32_t)value;
    }
    return code;
}

static enum cli_exit
pool_trash(const struct cli *cli, int32_t *trash_seconds)
{
    const char *text = cli_value(cli, "trash");
    uint64_t ns;

    if (text == NULL) {
        return CLI_DONE;
    }
    if (units_parse_duration(text, &ns) < 0 ||
        ns / NS_PER_S > POOL_TRASH_MAX_S) {
        return cli_usage_error(cli,
                               "--trash \"%s\" is not a duration of at most "
                               "720h; give a number and s, m or h",
                               text);
    }
    *trash_seconds = (int32_t)units_divide_up(ns, NS_PER_S);
    return CLI_DONE;
}

/* Fills 'pool' from the options. */
static enum cli_exit
pool_options(const struct cli *cli, Weft__V1__Pool *pool)
{
    const char *domain = cli_value(cli, "failure-domain");
    const char *class = cli_value(cli, "device-class");
    const char *extent = cli_value(cli, "extent-size");
    uint64_t bytes;
    enum cli_exit code;

    pool->replicas = 3;
    code = pool_number(cli, "replicas", 3, &pool->replicas);
    if (code == CLI_DONE) {
        code = pool_number(cli, "min-in-sync", 3, &pool->min_in_sync);
    }
    if (code == CLI_DONE && pool->min_in_sync > pool->replicas) {
        code = cli_usage_error(cli,
                               "--min-in-sync %d is more than --replicas %d; "
                               "I/O could never go on",
                               (int)pool->min_in_sync, (int)pool->replicas);
    }
    if (code == CLI_DONE && domain != NULL) {
        code = cli_check_failure_domain(cli, domain, &pool->failure_domain);
    }
    if (code == CLI_DONE && class != NULL) {
        code = cli_check_device_class(cli, class, &pool->device_class);
    }
    if (code == CLI_DONE) {
        code = pool_number(cli, "stripe-width", 64, &pool->stripe_width);
    }
    if (code == CLI_DONE && extent != NULL) {
        code = cli_check_size(cli, "--extent-size", extent, MIB, GIB, &bytes);
        if (code == CLI_DONE && !units_is_power_of_two(bytes)) {
            code = cli_usage_error(cli,
                                   "--extent-size \"%s\" is not a power of "
                                   "two, such as 1M",
                                   extent);
        }
        pool->extent_size_bytes = code == CLI_DONE ? (int64_t)bytes : 0;
    }
    if (code == CLI_DONE) {
        code = pool_trash(cli, &pool->trash_seconds);
    }
    return code;
}

static void
pool_print(const ProtobufCMessage *message)
{
    const Weft__V1__Pool *pool = (const Weft__V1__Pool *)(const void *)message;
    char text[TABLE_TEXT_SIZE];

    cli_print_field("name:", pool->name);
    cli_print_field("uid:", pool->uid);
    table_format_time(pool->create_time, text);
    cli_print_field("created:", text);
    printf("%-16s %d\n%-16s %d\n", "replicas:", (int)pool->replicas,
           "min in sync:", (int)pool->min_in_sync);
    table_format_enum(&weft__v1__failure_domain__descriptor,
                      (int)pool->failure_domain, "FAILURE_DOMAIN_", text);
    cli_print_field("failure domain:", text);
    table_format_enum(&weft__v1__device_class__descriptor,
                      (int)pool->device_class, "", text);
    cli_print_field("device class:", text[0] != '\0' ? text : "any");
    table_format_size((uint64_t)pool->extent_size_bytes, text);
    printf("%-16s %d mirrors, %s each\n", "stripe:", (int)pool->stripe_width,
           text);
    printf("%-16s %ds\n", "trash:", (int)pool->trash_seconds);
    table_format_size((uint64_t)pool->size_bytes, text);
    cli_print_field("size:", text);
    table_format_size((uint64_t)pool->used_bytes, text);
    cli_print_field("used:", text);
    printf("%-16s %d\n%-16s %d\n", "disks:", (int)pool->disk_count,
           "volumes:", (int)pool->volume_count);
}

static enum cli_exit
pool_create(struct cli *cli)
{
    Weft__V1__CreatePoolRequest request = WEFT__V1__CREATE_POOL_REQUEST__INIT;
    Weft__V1__Pool pool = WEFT__V1__POOL__INIT;
    char name[CLI_NAME_SIZE], what[CLI_NAME_SIZE + 32], id[UUID_TEXT_SIZE];
    ProtobufCMessage *reply;
    enum cli_exit code =
        cli_check_name(cli, "NAME", "pools", cli->arguments[0], name);

    if (code == CLI_DONE) {
        code = pool_options(cli, &pool);
    }
    if (code != CLI_DONE) {
        return code;
    }
    weft_request_id(id);
    request.pool_id = (char *)cli_short_name(name);
    request.pool = &pool;
    request.request_id = id;
    snprintf(what, sizeof what, "create pool \"%s\"", cli_short_name(name));
    code =
        cli_call(cli, POOL_SERVICE, "CreatePool", &request.base, what, &reply);
    if (code == CLI_DONE) {
        if (cli->output == CLI_JSON) {
            cli_show(cli, reply, pool_print);
        }
        weft_message_free(reply);
    }
    return code;
}

static void
pool_row(struct table *table, const ProtobufCMessage *message)
{
    const Weft__V1__Pool *pool = (const Weft__V1__Pool *)(const void *)message;
    char text[TABLE_TEXT_SIZE];

    table_add(table, cli_short_name(pool->name));
    table_add_format(table, "%d", (int)pool->replicas);
    table_add_format(table, "%d", (int)pool->min_in_sync);
    table_format_enum(&weft__v1__failure_domain__descriptor,
                      (int)pool->failure_domain, "FAILURE_DOMAIN_", text);
    table_add(table, text);
    table_add_enum(table, &weft__v1__device_class__descriptor,
                   (int)pool->device_class);
    table_add_size(table, pool->size_bytes);
    table_add_size(table, pool->used_bytes);
    table_add_format(table, "%d", (int)pool->disk_count);
    table_add_format(table, "%d", (int)pool->volume_count);
}

static enum cli_exit
pool_list(struct cli *cli)
{
    static const char *const header[] = { "NAME",   "REPLICAS", "MIN-IN-SYNC",
                                          "DOMAIN", "CLASS",    "SIZE",
                                          "USED",   "DISKS",    "VOLUMES",
                                          NULL };
    Weft__V1__ListPoolsRequest request = WEFT__V1__LIST_POOLS_REQUEST__INIT;
    return cli_list(cli,
                    &(const struct cli_list){
                        .service = POOL_SERVICE,
                        .method = "ListPools",
                        .what = "list pools",
                        .json = "pools",
                        .header = header,
                        .row = pool_row,
                    },
                    &request.base);
}

static enum cli_exit
pool_show(struct cli *cli)
{
    Weft__V1__GetPoolRequest request = WEFT__V1__GET_POOL_REQUEST__INIT;
    char name[CLI_NAME_SIZE], what[CLI_NAME_SIZE + 32];
    ProtobufCMessage *pool;
    enum cli_exit code =
        cli_check_name(cli, "NAME", "pools", cli->arguments[0], name);

    if (code != CLI_DONE) {
        return code;
    }
    request.name = name;
    snprintf(what, sizeof what, "show pool \"%s\"", cli_short_name(name));
    code = cli_call(cli, POOL_SERVICE, "GetPool", &request.base, what, &pool);
    if (code == CLI_DONE) {
        cli_show(cli, pool, pool_print);
        weft_message_free(pool);
    }
    return code;
}

static enum cli_exit
pool_delete(struct cli *cli)
{
    Weft__V1__DeletePoolRequest request = WEFT__V1__DELETE_POOL_REQUEST__INIT;
    char name[CLI_NAME_SIZE], what[CLI_NAME_SIZE + 32], id[UUID_TEXT_SIZE];
    ProtobufCMessage *reply;
    enum cli_exit code =
        cli_check_name(cli, "NAME", "pools", cli->arguments[0], name);

    if (code != CLI_DONE) {
        return code;
    }
    weft_request_id(id);
    request.name = name;
    request.request_id = id;
    snprintf(what, sizeof what, "delete pool \"%s\"", cli_short_name(name));
    code =
        cli_call(cli, POOL_SERVICE, "DeletePool", &request.base, what, &reply);
    if (code == CLI_DONE) {
        weft_message_free(reply);
    }
    return code;
}

const struct cli_command cli_pool_commands[] = {
    { "pool", "create", "NAME", "Create a pool", pool_create_options,
      pool_create },
    { "pool", "list", "", "List the pools", NULL, pool_list },
    { "pool", "show", "NAME", "Show one pool", NULL, pool_show },
    { "pool", "delete", "NAME", "Delete an empty pool", NULL, pool_delete },
    { .noun = NULL },
};
