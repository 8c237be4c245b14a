/* SPDX-License-Identifier: Apache-2.0 */
#include "client/libweft.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "google/protobuf/duration.pb-c.h"
#include "lib/base/units.h"

#define WAIT_STEP_S 1
/* How long a server may be away while an operation is waited for. */
#define WAIT_AWAY_NS (30 * NS_PER_S)
#define WAIT_RETRY_NS (200 * NS_PER_MS)

struct weft {
    struct rpc_channel *channel;
    uint64_t timeout_ns;
};

static uint64_t
weft_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

int
weft_open(const char *endpoint, struct weft **ret_weft, struct err *err)
{
    struct weft *weft = calloc(1, sizeof *weft);
    if (weft == NULL) {
        err_set(err, "out of memory");
        return -ENOMEM;
    }
    weft->timeout_ns = WEFT_CALL_TIMEOUT_NS;
    int result = rpc_channel_new(endpoint, &weft->channel, err);
    if (result < 0) {
        free(weft);
        return result;
    }
    *ret_weft = weft;
    return 0;
}

void
weft_close(struct weft *weft)
{
    if (weft != NULL) {
        rpc_channel_free(weft->channel);
        free(weft);
    }
}

void
weft_interrupt(struct weft *weft, bool is_on)
{
    rpc_channel_interrupt(weft->channel, is_on);
}

void
weft_set_timeout(struct weft *weft, uint64_t timeout_ns)
{
    weft->timeout_ns = timeout_ns;
}

int
weft_call(struct weft *weft, const ProtobufCServiceDescriptor *service,
          const char *method, const ProtobufCMessage *request,
          ProtobufCMessage **ret_reply, struct rpc_error *error)
{
    return rpc_channel_call(weft->channel, service, method, request,
                            weft->timeout_ns, ret_reply, error);
}

void
weft_message_free(ProtobufCMessage *message)
{
    if (message != NULL) {
        protobuf_c_message_free_unpacked(message, NULL);
    }
}

int
weft_watch(struct weft *weft, const ProtobufCServiceDescriptor *service,
           const char *method, const ProtobufCMessage *request,
           struct rpc_reader **ret_reader, struct rpc_error *error)
{
    return rpc_reader_open(weft->channel, service, method, request,
                           RPC_NO_TIMEOUT, ret_reader, error);
}

void
weft_request_id(char ret_text[UUID_TEXT_SIZE])
{
    uint64_t random[2];
    struct weft_uuid uuid;
    ssize_t size = getrandom(random, sizeof random, 0);
    CHECK(size == sizeof random);
    uuid_make_random(random[0], random[1], &uuid);
    uuid_format(&uuid, ret_text);
}

/* ---- Lists ---- */

/* The member 'name' of a message, by protobuf-c's reflection. */
static void *
list_member(ProtobufCMessage *message, const char *name)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(message->descriptor,
                                                        name);
    CHECK(field != NULL);
    return (char *)message + field->offset;
}

void
weft_list_init(struct weft_list *list, struct weft *weft,
               const ProtobufCServiceDescriptor *service, const char *method,
               ProtobufCMessage *request)
{
    *list = (struct weft_list){
        .weft = weft,
        .service = service,
        .method = method,
        .request = request,
    };
    char **token = list_member(request, "page_token");
    list->saved = *token;
}

/* The repeated field of a page. */
static void
list_items(ProtobufCMessage *page, ProtobufCMessage ***ret_items,
           size_t *ret_count)
{
    const ProtobufCMessageDescriptor *descriptor = page->descriptor;
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            char *base = (char *)page;
            memcpy(ret_count, base + field->quantifier_offset,
                   sizeof *ret_count);
            memcpy(ret_items, base + field->offset, sizeof *ret_items);
            return;
        }
    }
    CHECK(false); /* Not the response of a List method. */
}

/* Gets the next page: 1, 0 if there is none, or -errno. */
static int
list_turn(struct weft_list *list, struct rpc_error *error)
{
    if (list->page != NULL) {
        char **next = list_member(list->page, "next_page_token");
        free(list->token);
        list->token = strdup(*next);
        weft_message_free(list->page);
        list->page = NULL;
        if (list->token == NULL) {
            return -ENOMEM;
        }
        if (list->token[0] == '\0') {
            return 0;
        }
        char **token = list_member(list->request, "page_token");
        *token = list->token;
    } else if (list->token != NULL) {
        return 0; /* The end was reached before. */
    }
    list->index = 0;
    int result = weft_call(list->weft, list->service, list->method,
                           list->request, &list->page, error);
    return result < 0 ? result : 1;
}

int
weft_list_next(struct weft_list *list, const ProtobufCMessage **ret_item,
               struct rpc_error *error)
{
    for (;;) {
        if (list->page != NULL) {
            ProtobufCMessage **items;
            size_t count;
            list_items(list->page, &items, &count);
            if (list->index < count) {
                *ret_item = items[list->index++];
                return 1;
            }
        }
        int result = list_turn(list, error);
        if (result <= 0) {
            return result;
        }
    }
}

void
weft_list_done(struct weft_list *list)
{
    char **token = list_member(list->request, "page_token");
    *token = list->saved;
    weft_message_free(list->page);
    free(list->token);
    list->page = NULL;
    list->token = NULL;
}

/* ---- Operations ---- */

/* One WaitOperation; replaces '*operation'. */
static int
wait_ask(struct weft *weft, Weft__V1__Operation **operation, int64_t seconds,
         struct rpc_error *error)
{
    Weft__V1__WaitOperationRequest request =
        WEFT__V1__WAIT_OPERATION_REQUEST__INIT;
    Google__Protobuf__Duration timeout = GOOGLE__PROTOBUF__DURATION__INIT;
    ProtobufCMessage *reply;

    timeout.seconds = seconds;
    request.name = (*operation)->name;
    request.timeout = &timeout;
    int result = weft_call(weft, &weft__v1__operation_service__descriptor,
                           "WaitOperation", &request.base, &reply, error);
    if (result == 0) {
        weft_message_free(&(*operation)->base);
        *operation = (Weft__V1__Operation *)(void *)reply;
    }
    return result;
}

/* The result of an operation that is done. */
static int
wait_result(const Weft__V1__Operation *operation, struct rpc_error *error)
{
    const Google__Rpc__Status *status = operation->error;
    if (status == NULL || status->code == 0) {
        return 0;
    }
    if (error != NULL) {
        size_t size = google__rpc__status__get_packed_size(status);
        uint8_t *data = malloc(size + 1);
        size = data != NULL ? google__rpc__status__pack(status, data) : 0;
        rpc_error_decode(error, (enum rpc_code)status->code, status->message,
                         data, size);
        free(data);
    }
    return rpc_code_to_errno((enum rpc_code)status->code);
}

static void
wait_pause(void)
{
    const struct timespec pause = { .tv_nsec = WAIT_RETRY_NS };
    nanosleep(&pause, NULL);
}

int
weft_wait(struct weft *weft, Weft__V1__Operation **operation,
          uint64_t timeout_ns, struct weft_progress *progress,
          struct rpc_error *error)
{
    uint64_t begin_ns = weft_now_ns();
    uint64_t heard_ns = begin_ns;

    while (!(*operation)->done) {
        uint64_t now_ns = weft_now_ns();
        if (now_ns - begin_ns >= timeout_ns) {
            if (error != NULL) {
                rpc_error_set(error, RPC_DEADLINE_EXCEEDED, "STILL_RUNNING",
                              "%s is still under way%s%s; it goes on",
                              (*operation)->name,
                              (*operation)->message[0] != '\0' ? ": " : "",
                              (*operation)->message);
            }
            return -ETIMEDOUT;
        }
        int result = wait_ask(weft, operation, WAIT_STEP_S, error);
        now_ns = weft_now_ns();
        if (result == -EHOSTUNREACH && now_ns - heard_ns < WAIT_AWAY_NS) {
            wait_pause();
            continue;
        }
        if (result < 0) {
            return result;
        }
        heard_ns = now_ns;
        if (progress != NULL) {
            progress->show(progress, *operation);
        }
    }
    return wait_result(*operation, error);
}
