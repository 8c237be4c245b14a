/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "service/service.h"

/* Takes "COLLECTION/ID" off the front of *text, up to the next '/' or the end.
 * The ID "-" (all) is let through. */
static bool
api_name_take(const char **text, const char *collection,
              char ret_id[API_NAME_PART_SIZE])
{
    size_t size = strlen(collection);

    if (strncmp(*text, collection, size) != 0 || (*text)[size] != '/') {
        return false;
    }
    const char *id = *text + size + 1;
    size_t id_size = strcspn(id, "/");
    if (id_size >= API_NAME_PART_SIZE) {
        return false;
    }
    memcpy(ret_id, id, id_size);
    ret_id[id_size] = '\0';
    *text = id + id_size;
    return name_is_valid(ret_id) || strcmp(ret_id, "-") == 0;
}

bool
api_name_parse(const char *name, const char *collection,
               char ret_id[API_NAME_PART_SIZE])
{
    return api_name_take(&name, collection, ret_id) && *name == '\0';
}

bool
api_name_parse_two(const char *name, const char *first, const char *second,
                   char ret_first[API_NAME_PART_SIZE],
                   char ret_second[API_NAME_PART_SIZE])
{
    if (!api_name_take(&name, first, ret_first) || *name != '/') {
        return false;
    }
    name++;
    return api_name_take(&name, second, ret_second) && *name == '\0';
}

static void
api_name_refuse(struct rpc_call *call, const char *field, const char *name,
                const char *first, const char *second)
{
    struct rpc_error error;

    rpc_error_set_invalid(&error);
    if (second == NULL) {
        rpc_error_add_violation(&error, field,
                                "\"%s\" is not of the form %s/NAME; %s", name,
                                first, NAME_RULE_TEXT);
    } else {
        rpc_error_add_violation(&error, field,
                                "\"%s\" is not of the form %s/NAME/%s/NAME; "
                                "%s",
                                name, first, second, NAME_RULE_TEXT);
    }
    rpc_call_fail(call, &error);
}

bool
api_take_name(struct rpc_call *call, const char *field, const char *name,
              const char *collection, char ret_id[API_NAME_PART_SIZE])
{
    if (api_name_parse(name, collection, ret_id)) {
        return true;
    }
    api_name_refuse(call, field, name, collection, NULL);
    return false;
}

bool
api_take_name_two(struct rpc_call *call, const char *field, const char *name,
                  const char *first, const char *second,
                  char ret_first[API_NAME_PART_SIZE],
                  char ret_second[API_NAME_PART_SIZE])
{
    if (api_name_parse_two(name, first, second, ret_first, ret_second)) {
        return true;
    }
    api_name_refuse(call, field, name, first, second);
    return false;
}
