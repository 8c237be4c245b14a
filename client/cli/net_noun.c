/* SPDX-License-Identifier: Apache-2.0 */
#include "client/cli/net_noun.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/json.h"
#include "lib/base/name.h"
#include "lib/base/units.h"

#define WAIT_TIMEOUT_NS (60 * NS_PER_S)
#define METHOD_SIZE 64

enum cli_exit
net_check_new(const struct cli *cli, const char *text)
{
    if (name_is_valid(text)) {
        return CLI_DONE;
    }
    return cli_usage_error(cli, "NAME \"%s\" is not a name; " NAME_RULE_TEXT,
                           text);
}

enum cli_exit
net_check(const struct cli *cli, const char *what, const char *collection,
          const char *text, char ret_name[CLI_NAME_SIZE])
{
    char project[CLI_NAME_SIZE];
    enum cli_exit code;

    if (strncmp(text, "projects/", 9) == 0 && strlen(text) < CLI_NAME_SIZE) {
        snprintf(ret_name, CLI_NAME_SIZE, "%s", text);
        return CLI_DONE; /* The server checks its form. */
    }
    if (!name_is_valid(text)) {
        return cli_usage_error(cli, "%s \"%s\" is not a name; " NAME_RULE_TEXT,
                               what, text);
    }
    code = cli_check_project(cli, project);
    if (code == CLI_DONE) {
        int size = snprintf(ret_name, CLI_NAME_SIZE, "%s/%s/%s", project,
                            collection, text);
        CHECK(size < CLI_NAME_SIZE); /* Both parts have at most 63 bytes. */
    }
    return code;
}

enum cli_exit
net_need(const struct cli *cli, const char *name, const char **ret_value)
{
    *ret_value = cli_value(cli, name);
    if (*ret_value == NULL) {
        return cli_usage_error(cli, "--%s is missing", name);
    }
    return CLI_DONE;
}

enum cli_exit
net_names(const struct cli *cli, const char *option, const char *collection,
          struct net_names *ret_names)
{
    struct net_names names = { calloc(CLI_REPEAT_MAX, sizeof(char *)), 0 };
    enum cli_exit code = CLI_DONE;
    uint32_t cursor = 0;
    const char *value;

    CHECK(names.names != NULL);
    while (code == CLI_DONE &&
           (value = cli_next_value(cli, option, &cursor)) != NULL) {
        char name[CLI_NAME_SIZE], what[64];
        snprintf(what, sizeof what, "--%s", option);
        if (collection != NULL) {
            code = net_check(cli, what, collection, value, name);
            value = name;
        }
        if (code == CLI_DONE) {
            names.names[names.count] = strdup(value);
            CHECK(names.names[names.count] != NULL);
            names.count++;
        }
    }
    if (code != CLI_DONE) {
        net_names_free(&names);
        return code;
    }
    *ret_names = names;
    return CLI_DONE;
}

void
net_names_free(struct net_names *names)
{
    for (size_t i = 0; i < names->count; i++) {
        free(names->names[i]);
    }
    free(names->names);
    *names = (struct net_names){ NULL, 0 };
}

/* ---- Requests by their descriptors ---- */

static ProtobufCMessage *
request_new(const struct net_noun *noun, const char *method)
{
    const ProtobufCMethodDescriptor *descriptor =
        protobuf_c_service_descriptor_get_method_by_name(noun->service, method);
    CHECK(descriptor != NULL);
    ProtobufCMessage *request = calloc(1, descriptor->input->sizeof_message);
    CHECK(request != NULL);
    protobuf_c_message_init(descriptor->input, request);
    return request;
}

static void *
request_field(ProtobufCMessage *request, const char *name)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(request->descriptor,
                                                        name);
    CHECK(field != NULL);
    return (char *)request + field->offset;
}

static void
request_put_text(ProtobufCMessage *request, const char *name, const char *text)
{
    memcpy(request_field(request, name), &text, sizeof text);
}

/* ---- Verbs ---- */

enum cli_exit
net_list(struct cli *cli, const struct net_noun *noun)
{
    char method[METHOD_SIZE], what[METHOD_SIZE], project[CLI_NAME_SIZE];
    enum cli_exit code = strcmp(cli->project, "-") == 0
                             ? CLI_DONE
                             : cli_check_project(cli, project);

    if (code != CLI_DONE) {
        return code;
    }
    snprintf(project, sizeof project, "projects/%s",
             cli_short_name(cli->project));
    snprintf(method, sizeof method, "List%s", noun->plural);
    snprintf(what, sizeof what, "list %s", noun->words);
    ProtobufCMessage *request = request_new(noun, method);
    request_put_text(request, "parent", project);
    code = cli_list(cli,
                    &(const struct cli_list){
                        .service = noun->service,
                        .method = method,
                        .what = what,
                        .json = noun->json,
                        .header = noun->header,
                        .row = noun->row,
                    },
                    request);
    free(request);
    return code;
}

enum cli_exit
net_show(struct cli *cli, const struct net_noun *noun)
{
    char method[METHOD_SIZE], name[CLI_NAME_SIZE], what[CLI_NAME_SIZE + 64];
    ProtobufCMessage *reply;
    enum cli_exit code =
        net_check(cli, "NAME", noun->collection, cli->arguments[0], name);

    if (code != CLI_DONE) {
        return code;
    }
    snprintf(method, sizeof method, "Get%s", noun->single);
    snprintf(what, sizeof what, "show %s \"%s\"", noun->word,
             cli_short_name(name));
    ProtobufCMessage *request = request_new(noun, method);
    request_put_text(request, "name", name);
    code = cli_call(cli, noun->service, method, request, what, &reply);
    if (code == CLI_DONE) {
        cli_show(cli, reply, noun->print);
        weft_message_free(reply);
    }
    free(request);
    return code;
}

bool
net_wait(struct cli *cli)
{
    return cli_flag(cli, "wait");
}

enum cli_exit
net_change(struct cli *cli, const struct net_noun *noun, const char *method,
           const ProtobufCMessage *request, const char *verb, const char *name,
           ProtobufCMessage **ret_reply)
{
    char what[CLI_NAME_SIZE + 64];
    ProtobufCMessage *reply;
    enum cli_exit code = cli_connect(cli);

    if (code != CLI_DONE) {
        return code;
    }
    if (cli->timeout_ns == RPC_NO_TIMEOUT && net_wait(cli)) {
        weft_set_timeout(cli->weft, WAIT_TIMEOUT_NS);
    }
    snprintf(what, sizeof what, "%s %s%s%s%s", verb, noun->word,
             name[0] != '\0' ? " \"" : "", cli_short_name(name),
             name[0] != '\0' ? "\"" : "");
    code = cli_call(cli, noun->service, method, request, what, &reply);
    if (code != CLI_DONE) {
        return code;
    }
    if (cli->output == CLI_JSON &&
        protobuf_c_message_descriptor_get_field_by_name(reply->descriptor,
                                                        "name") != NULL) {
        json_print_message(stdout, reply, 0);
        fputc('\n', stdout);
    }
    if (ret_reply != NULL) {
        *ret_reply = reply;
    } else {
        weft_message_free(reply);
    }
    return CLI_DONE;
}

enum cli_exit
net_delete(struct cli *cli, const struct net_noun *noun)
{
    char method[METHOD_SIZE], name[CLI_NAME_SIZE], id[UUID_TEXT_SIZE];
    const protobuf_c_boolean wait = net_wait(cli);
    enum cli_exit code =
        net_check(cli, "NAME", noun->collection, cli->arguments[0], name);

    if (code != CLI_DONE) {
        return code;
    }
    weft_request_id(id);
    snprintf(method, sizeof method, "Delete%s", noun->single);
    ProtobufCMessage *request = request_new(noun, method);
    request_put_text(request, "name", name);
    request_put_text(request, "request_id", id);
    memcpy(request_field(request, "wait"), &wait, sizeof wait);
    code = net_change(cli, noun, method, request, "delete", name, NULL);
    free(request);
    return code;
}
