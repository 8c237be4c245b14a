/* SPDX-License-Identifier: Apache-2.0 */

/* Pages and filters, the same for all resources.
 *
 * A page token is the name of the last item sent: items that come and go in
 * between neither repeat nor hide others.  Events have names that sort by time.
 *
 * Filter: FIELD = "VALUE" { AND FIELD = "VALUE" }, where FIELD is a string,
 * enum or bool of the message (a subset of AIP-160). */

#include <stdlib.h>
#include <string.h>

#include "blockd/api/api_internal.h"

#define FILTER_TERMS_MAX 8u

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
    return true;
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
                                "that are strings, enums or bools");
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
    const ProtobufCMessage *const *left = a;
    const ProtobufCMessage *const *right = b;

    return strcmp(list_key(*left), list_key(*right));
}

bool
api_list_begin(struct api_list *list, struct rpc_call *call,
               const ProtobufCMessageDescriptor *descriptor, int32_t page_size,
               const char *page_token, const char *filter)
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
        .page_token = page_token,
        .page_size = page_size == 0 ? API_PAGE_SIZE_DEFAULT
                     : (uint32_t)page_size > API_PAGE_SIZE_MAX
                         ? API_PAGE_SIZE_MAX
                         : (uint32_t)page_size,
    };
    return api_filter_parse(call, descriptor, filter, &list->filter);
}

void
api_list_add(struct api_list *list, ProtobufCMessage *item)
{
    if (!api_filter_matches(list->filter, item)) {
        return;
    }
    if (list->count == list->capacity) {
        list->capacity = list->capacity == 0 ? 64 : list->capacity * 2;
        list->items =
            realloc(list->items, list->capacity * sizeof *list->items);
        CHECK(list->items != NULL);
    }
    list->items[list->count++] = item;
}

void
api_list_page(struct api_list *list, ProtobufCMessage ***ret_items,
              size_t *ret_count, char **ret_next_token)
{
    size_t first = 0, count;

    if (list->count > 0) {
        qsort(list->items, list->count, sizeof *list->items, list_compare);
    }
    if (list->descending) {
        for (size_t i = 0; i < list->count / 2; i++) {
            ProtobufCMessage *swap = list->items[i];
            list->items[i] = list->items[list->count - 1 - i];
            list->items[list->count - 1 - i] = swap;
        }
    }
    while (list->page_token[0] != '\0' && first < list->count) {
        int order = strcmp(list_key(list->items[first]), list->page_token);
        if (list->descending ? order < 0 : order > 0) {
            break;
        }
        first++;
    }
    count = list->count - first;
    *ret_next_token = reply_text(&list->arena, "%s", "");
    if (count > list->page_size) {
        count = list->page_size;
        *ret_next_token = reply_text(&list->arena, "%s",
                                     list_key(list->items[first + count - 1]));
    }
    *ret_items = count > 0 ? list->items + first : NULL;
    *ret_count = count;
}

void
api_list_end(struct api_list *list)
{
    free(list->items);
    api_filter_free(list->filter);
    reply_free(&list->arena);
}
