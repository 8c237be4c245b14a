/* SPDX-License-Identifier: Apache-2.0 */

/* Pages and filters, the same for all resources.
 *
 * A page token is the key of the last item sent, its name as a rule: items that
 * come and go in between neither repeat nor hide others.  Before it stands a
 * check of the method, parent and filter that it is good for.  Events have
 * names that sort by time.
 *
 * Filter: FIELD = "VALUE" { AND FIELD = "VALUE" }, where FIELD is a string,
 * enum or bool of the message (a subset of AIP-160). */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/crc32c.h"
#include "service/service.h"

#define FILTER_TERMS_MAX 8u
#define LIST_CHECK_SIZE 9u /* "0123abcd-" */

struct api_list_item {
    ProtobufCMessage *message;
    const char *key;
};

struct api_filter_term {
    const ProtobufCFieldDescriptor *field;
    char value[128];
};

struct api_filter {
    struct api_filter_term terms[FILTER_TERMS_MAX];
    uint32_t count;
};

/* ---- Filters ---- */

static void
filter_skip_blanks(const char **text)
{
    *text += strspn(*text, " \t");
}

static bool
filter_take_word(const char **text, char *ret_word, size_t size)
{
    size_t length = strspn(*text, "abcdefghijklmnopqrstuvwxyz_");

    if (length == 0 || length >= size) {
        return false;
    }
    memcpy(ret_word, *text, length);
    ret_word[length] = '\0';
    *text += length;
    return true;
}

/* A misspelt value would silently match nothing. */
static bool
filter_value_is_possible(const struct api_filter_term *term)
{
    if (term->field->type == PROTOBUF_C_TYPE_ENUM) {
        return protobuf_c_enum_descriptor_get_value_by_name(
                   term->field->descriptor, term->value) != NULL;
    }
    return term->field->type != PROTOBUF_C_TYPE_BOOL ||
           strcmp(term->value, "true") == 0 ||
           strcmp(term->value, "false") == 0;
}

static bool
filter_take_term(const char **text,
                 const ProtobufCMessageDescriptor *descriptor,
                 struct api_filter_term *term)
{
    char word[64];

    filter_skip_blanks(text);
    if (!filter_take_word(text, word, sizeof word)) {
        return false;
    }
    term->field =
        protobuf_c_message_descriptor_get_field_by_name(descriptor, word);
    if (term->field == NULL ||
        term->field->label == PROTOBUF_C_LABEL_REPEATED ||
        (term->field->type != PROTOBUF_C_TYPE_STRING &&
         term->field->type != PROTOBUF_C_TYPE_ENUM &&
         term->field->type != PROTOBUF_C_TYPE_BOOL)) {
        return false;
    }
    filter_skip_blanks(text);
    if (**text != '=') {
        return false;
    }
    (*text)++;
    filter_skip_blanks(text);
    if (**text != '"') {
        return false;
    }
    (*text)++;
    size_t length = strcspn(*text, "\"");
    if ((*text)[length] != '"' || length >= sizeof term->value) {
        return false;
    }
    memcpy(term->value, *text, length);
    term->value[length] = '\0';
    *text += length + 1;
    filter_skip_blanks(text);
    return filter_value_is_possible(term);
}

static bool
filter_take_all(const char *text, const ProtobufCMessageDescriptor *descriptor,
                struct api_filter *filter)
{
    for (;;) {
        if (filter->count == FILTER_TERMS_MAX ||
            !filter_take_term(&text, descriptor,
                              &filter->terms[filter->count])) {
            return false;
        }
        filter->count++;
        if (*text == '\0') {
            return true;
        }
        if (strncmp(text, "AND ", 4) != 0) {
            return false;
        }
        text += 4;
    }
}

bool
api_filter_parse(struct rpc_call *call,
                 const ProtobufCMessageDescriptor *descriptor, const char *text,
                 struct api_filter **ret_filter)
{
    *ret_filter = NULL;
    if (text[0] == '\0') {
        return true;
    }
    struct api_filter *filter = calloc(1, sizeof *filter);
    CHECK(filter != NULL);
    if (!filter_take_all(text, descriptor, filter)) {
        struct rpc_error error;
        free(filter);
        rpc_error_set_invalid(&error);
        rpc_error_add_violation(&error, "filter",
                                "is not understood; write FIELD = \"VALUE\", "
                                "joined by AND, with fields of the resource "
                                "that are strings, enums or bools, and values "
                                "that they can have");
        rpc_call_fail(call, &error);
        return false;
    }
    *ret_filter = filter;
    return true;
}

static bool
filter_term_matches(const struct api_filter_term *term,
                    const ProtobufCMessage *message)
{
    const char *member = (const char *)message + term->field->offset;

    if (term->field->type == PROTOBUF_C_TYPE_STRING) {
        char *text;
        memcpy(&text, member, sizeof text);
        return strcmp(text, term->value) == 0;
    }
    if (term->field->type == PROTOBUF_C_TYPE_BOOL) {
        protobuf_c_boolean value;
        memcpy(&value, member, sizeof value);
        return strcmp(value ? "true" : "false", term->value) == 0;
    }
    int number;
    memcpy(&number, member, sizeof number);
    const ProtobufCEnumValue *value =
        protobuf_c_enum_descriptor_get_value(term->field->descriptor, number);
    return value != NULL && strcmp(value->name, term->value) == 0;
}

bool
api_filter_matches(const struct api_filter *filter,
                   const ProtobufCMessage *message)
{
    for (uint32_t i = 0; filter != NULL && i < filter->count; i++) {
        if (!filter_term_matches(&filter->terms[i], message)) {
            return false;
        }
    }
    return true;
}

void
api_filter_free(struct api_filter *filter)
{
    free(filter);
}

/* ---- Pages ---- */

static const char *
list_key(const ProtobufCMessage *message)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(message->descriptor,
                                                        "name");
    char *text;

    CHECK(field != NULL);
    memcpy(&text, (const char *)message + field->offset, sizeof text);
    return text;
}

static int
list_compare(const void *a, const void *b)
{
    const struct api_list_item *left = a, *right = b;

    return strcmp(left->key, right->key);
}

static int
list_compare_descending(const void *a, const void *b)
{
    return list_compare(b, a);
}

static uint32_t
list_token_check(const struct rpc_call *call, const char *parent,
                 const char *filter)
{
    const char *method = rpc_call_method(call);
    uint32_t check = crc32c(0, method, strlen(method) + 1);

    check = crc32c(check, parent, strlen(parent) + 1);
    return crc32c(check, filter, strlen(filter));
}

/* Sets list->after. */
static bool
list_take_token(struct api_list *list, const char *token)
{
    char check[LIST_CHECK_SIZE + 1];

    (void)snprintf(check, sizeof check, "%08x-", list->token_check);
    if (token[0] == '\0') {
        list->after = token;
        return true;
    }
    if (strncmp(token, check, LIST_CHECK_SIZE) == 0) {
        list->after = token + LIST_CHECK_SIZE;
        return true;
    }
    struct rpc_error error;
    rpc_error_set_invalid(&error);
    rpc_error_add_violation(&error, "page_token",
                            "is not of this method, parent and filter; begin "
                            "again without one");
    rpc_call_fail(list->call, &error);
    return false;
}

bool
api_list_begin(struct api_list *list, struct rpc_call *call,
               const ProtobufCMessageDescriptor *descriptor, const char *parent,
               int32_t page_size, const char *page_token, const char *filter)
{
    if (page_size < 0) {
        struct rpc_error error;
        rpc_error_set_invalid(&error);
        rpc_error_add_violation(&error, "page_size",
                                "is %d; 0 lets the server choose, %u is the "
                                "most",
                                page_size, API_PAGE_SIZE_MAX);
        rpc_call_fail(call, &error);
        return false;
    }
    *list = (struct api_list){
        .call = call,
        .token_check = list_token_check(call, parent, filter),
        .page_size = page_size == 0 ? API_PAGE_SIZE_DEFAULT
                     : (uint32_t)page_size > API_PAGE_SIZE_MAX
                         ? API_PAGE_SIZE_MAX
                         : (uint32_t)page_size,
    };
    return list_take_token(list, page_token) &&
           api_filter_parse(call, descriptor, filter, &list->filter);
}

static int
list_compare_keys(const struct api_list *list, const char *a, const char *b)
{
    return list->descending ? strcmp(b, a) : strcmp(a, b);
}

static void
list_sort(struct api_list *list)
{
    if (list->count > 0) {
        qsort(list->items, list->count, sizeof *list->items,
              list->descending ? list_compare_descending : list_compare);
    }
}

bool
api_list_wants(const struct api_list *list, const char *key)
{
    return (list->after[0] == '\0' ||
            list_compare_keys(list, key, list->after) > 0) &&
           (list->last == NULL || list_compare_keys(list, key, list->last) < 0);
}

/* Of very many only those that the page and its token need are kept. */
static void
list_prune(struct api_list *list)
{
    size_t kept = (size_t)list->page_size + 1;

    if (list->count >= 2 * kept) {
        list_sort(list);
        list->count = kept;
        list->last = list->items[kept - 1].key;
    }
}

void
api_list_add(struct api_list *list, ProtobufCMessage *item, const char *key)
{
    if (key == NULL) {
        key = list_key(item);
    }
    if (!api_list_wants(list, key) || !api_filter_matches(list->filter, item)) {
        return;
    }
    if (list->count == list->capacity) {
        list->capacity = list->capacity == 0 ? 64 : list->capacity * 2;
        list->items =
            realloc(list->items, list->capacity * sizeof *list->items);
        CHECK(list->items != NULL);
    }
    list->items[list->count++] =
        (struct api_list_item){ .message = item, .key = key };
    list_prune(list);
}

void
api_list_page(struct api_list *list, ProtobufCMessage ***ret_items,
              size_t *ret_count, char **ret_next_token)
{
    size_t count = list->count;

    list_sort(list);
    *ret_next_token = reply_text(&list->arena, "%s", "");
    if (count > list->page_size) {
        count = list->page_size;
        *ret_next_token = reply_text(&list->arena, "%08x-%s", list->token_check,
                                     list->items[count - 1].key);
    }
    *ret_items =
        reply_alloc(&list->arena, (count + 1) * sizeof(ProtobufCMessage *));
    for (size_t i = 0; i < count; i++) {
        (*ret_items)[i] = list->items[i].message;
    }
    *ret_count = count;
}

void
api_list_end(struct api_list *list)
{
    free(list->items);
    api_filter_free(list->filter);
    reply_free(&list->arena);
}
