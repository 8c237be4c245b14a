/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/cluster/plane.h"

#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/cluster/plane_internal.h"
#include "blockd/peer/link_local.h"
#include "lib/base/container_of.h"

struct io *
plane_io(struct plane *plane)
{
    return plane->io;
}

const char *
plane_peer_address(const struct plane *plane)
{
    return plane->peer_address;
}

const char *
plane_nbd_address(const struct plane *plane)
{
    return plane->nbd_address;
}

/* ---- Birth and death ----
 *
 * These wait for the reactor: they are called before and after all work. */

struct plane_setup {
    struct io_post post;
    sem_t done;
    const struct plane_options *options;
    struct plane *plane;
    struct err *err;
    int result;
};

static struct link *
plane_find_disk(struct peer_directory *directory, const struct weft_uuid *disk)
{
    struct plane *plane = container_of(directory, struct plane, directory);

    LIST_FOREACH (node, &plane->publications) {
        struct plane_publication *publication =
            container_of(node, struct plane_publication, node);
        if (uuid_equal(&publication->disk, disk)) {
            return publication->link;
        }
    }
    return NULL;
}

static int
plane_open_peer_server(struct plane *plane, const struct plane_options *options,
                       struct err *err)
{
    struct peer_server_options server;
    int result;

    if (options->peer_listen == NULL) {
        return 0;
    }
    plane->directory.find = plane_find_disk;
    peer_server_options_init(&server);
    server.directory = &plane->directory;
    server.host = plane->host;
    server.instance = plane->instance;
    result = peer_server_open(plane->io, options->peer_listen, &server,
                              &plane->peer_server);
    if (result != 0) {
        err_set(err, "[peer] listen = %s: %s", options->peer_listen,
                strerror(-result));
        return result;
    }
    peer_server_address(plane->peer_server, plane->peer_address);
    return 0;
}

static int
plane_open_nbd_server(struct plane *plane, const struct plane_options *options,
                      struct err *err)
{
    struct nbd_server_options server = { .io = plane->io };
    int result;

    if (options->nbd_unix == NULL) {
        return 0;
    }
    result = nbd_server_new(&server, &plane->nbd_server);
    if (result == 0) {
        result = nbd_server_listen(plane->nbd_server, options->nbd_unix,
                                   plane->nbd_unix);
    }
    if (result == 0 && options->nbd_listen != NULL &&
        options->nbd_listen[0] != '\0') {
        result = nbd_server_listen(plane->nbd_server, options->nbd_listen,
                                   plane->nbd_address);
    }
    if (result != 0) {
        err_set(err, "[nbd] listen = %s: %s",
                options->nbd_listen != NULL ? options->nbd_listen
                                            : options->nbd_unix,
                strerror(-result));
    }
    return result;
}

static void
plane_set_up(struct io_post *post)
{
    struct plane_setup *setup = container_of(post, struct plane_setup, post);
    struct payload_pool_options payloads = { .small_count = 0 };

    setup->result =
        payload_pool_new(setup->plane->io, &payloads, &setup->plane->payloads);
    if (setup->result != 0) {
        err_set(setup->err, "[reactor] memory is too small for the buffers");
    }
    if (setup->result == 0) {
        setup->result =
            plane_open_peer_server(setup->plane, setup->options, setup->err);
    }
    if (setup->result == 0) {
        setup->result =
            plane_open_nbd_server(setup->plane, setup->options, setup->err);
    }
    (void)sem_post(&setup->done);
}

int
plane_new(const struct plane_options *options, struct err *err,
          struct plane **ret_plane)
{
    struct plane *plane = calloc(1, sizeof *plane);
    if (plane == NULL) {
        return -ENOMEM;
    }
    plane->loop = options->loop;
    plane->io = options->io;
    plane->instance = options->instance;
    plane->spin_us = options->spin_us;
    (void)snprintf(plane->host, sizeof plane->host, "%s", options->host);
    list_init(&plane->publications);
    list_init(&plane->links);
    list_init(&plane->closing);
    list_init(&plane->drops);

    struct plane_setup setup = {
        .post.run = plane_set_up,
        .options = options,
        .plane = plane,
        .err = err,
    };
    if (sem_init(&setup.done, 0, 0) != 0) {
        free(plane);
        return -ENOMEM;
    }
    io_post_send(NULL, plane->io, &setup.post);
    while (sem_wait(&setup.done) != 0) {
    }
    (void)sem_destroy(&setup.done);
    if (setup.result != 0) {
        return setup.result; /* The process ends; see blockd_run(). */
    }
    *ret_plane = plane;
    return 0;
}

struct plane_teardown {
    struct io_post post;
    sem_t done;
    struct plane *plane;
    struct peer_server_close close;
};

static void
plane_torn_down(struct plane_teardown *teardown)
{
    struct plane *plane = teardown->plane;

    CHECK(list_is_empty(&plane->links));
    if (!list_is_empty(&plane->closing)) {
        plane->teardown = teardown; /* plane_link_free() comes back here. */
        return;
    }
    payload_pool_free(plane->payloads);
    (void)sem_post(&teardown->done);
}

static void
plane_peer_closed(struct peer_server_close *op)
{
    plane_torn_down(container_of(op, struct plane_teardown, close));
}

static void
plane_nbd_stopped(void *owner)
{
    struct plane_teardown *teardown = owner;

    if (teardown->plane->peer_server == NULL) {
        plane_torn_down(teardown);
        return;
    }
    teardown->close.done = plane_peer_closed;
    peer_server_close_start(teardown->plane->peer_server, &teardown->close);
}

static void
plane_tear_down(struct io_post *post)
{
    struct plane_teardown *teardown =
        container_of(post, struct plane_teardown, post);

    if (teardown->plane->nbd_server == NULL) {
        plane_nbd_stopped(teardown);
        return;
    }
    nbd_server_stop(teardown->plane->nbd_server, plane_nbd_stopped, teardown);
}

void
plane_free(struct plane *plane)
{
    struct plane_teardown teardown = { .post.run = plane_tear_down,
                                       .plane = plane };

    CHECK(sem_init(&teardown.done, 0, 0) == 0);
    io_post_send(NULL, plane->io, &teardown.post);
    while (sem_wait(&teardown.done) != 0) {
    }
    (void)sem_destroy(&teardown.done);
    free(plane);
}

void
plane_set_cloud(struct hop *hop)
{
    struct plane_cloud *set = container_of(hop, struct plane_cloud, hop);

    set->plane->cloud = set->cloud;
    if (set->plane->peer_server != NULL) {
        peer_server_set_cluster(set->plane->peer_server, &set->cloud);
    }
    hop_return(hop);
}

/* ---- Publications ---- */

void
plane_publish(struct hop *hop)
{
    struct plane_publication *publication =
        container_of(hop, struct plane_publication, hop);
    struct plane *plane = publication->plane;

    publication->result =
        link_local_new(plane->io, publication->store, publication->store_io,
                       &publication->disk, &publication->link);
    if (publication->result == 0) {
        list_push_back(&plane->publications, &publication->node);
    }
    hop_return(hop);
}

static void
plane_unpublished(struct link_close *close)
{
    struct plane_publication *publication =
        container_of(close, struct plane_publication, close);

    publication->link = NULL;
    hop_return(&publication->hop);
}

void
plane_unpublish(struct hop *hop)
{
    struct plane_publication *publication =
        container_of(hop, struct plane_publication, hop);

    if (publication->link == NULL) {
        hop_return(hop);
        return;
    }
    list_remove(&publication->node);
    publication->close.quiet = NULL;
    publication->close.done = plane_unpublished;
    link_close_start(publication->link, &publication->close);
}

/* ---- Links ---- */

static void
plane_link_free(struct plane_link *link)
{
    struct plane *plane = link->plane;

    list_remove(&link->node);
    free(link);
    if (plane->teardown != NULL && list_is_empty(&plane->closing)) {
        plane_torn_down(plane->teardown);
    }
}

static void
plane_link_closed(struct link_close *close)
{
    struct plane_link *link = container_of(close, struct plane_link, close);

    link->is_closed = true;
    if (link->users == 0) {
        plane_link_free(link);
    }
}

/* Whether no link refers to the store any more. */
static bool
plane_has_dropped(const struct plane *plane, const struct store *store)
{
    LIST_FOREACH (node, &plane->closing) {
        const struct plane_link *link =
            container_of(node, struct plane_link, node);
        if (link->store == store && !link->is_quiet) {
            return false;
        }
    }
    return true;
}

static void
plane_link_is_quiet(struct link_close *close)
{
    struct plane_link *link = container_of(close, struct plane_link, close);

    link->is_quiet = true;
    LIST_FOREACH (node, &link->plane->drops) {
        struct plane_drop *drop = container_of(node, struct plane_drop, node);
        if (plane_has_dropped(link->plane, drop->store)) {
            list_remove(&drop->node);
            hop_return(&drop->hop);
        }
    }
}

static void
plane_link_close(struct plane_link *link)
{
    list_remove(&link->node);
    list_push_back(&link->plane->closing, &link->node);
    link->is_closing = true;
    link->close.quiet = plane_link_is_quiet;
    link->close.done = plane_link_closed;
    link_close_start(link->link, &link->close);
}

void
plane_drop_store(struct hop *hop)
{
    struct plane_drop *drop = container_of(hop, struct plane_drop, hop);

    LIST_FOREACH (node, &drop->plane->links) {
        struct plane_link *link = container_of(node, struct plane_link, node);
        if (link->store == drop->store) {
            plane_link_close(link);
        }
    }
    if (plane_has_dropped(drop->plane, drop->store)) {
        hop_return(hop);
    } else {
        list_init(&drop->node);
        list_push_back(&drop->plane->drops, &drop->node);
    }
}

static int
plane_link_open(struct plane_link *link, const struct plane_replica *replica)
{
    struct plane *plane = link->plane;

    if (replica->store != NULL) {
        return link_local_new(plane->io, replica->store, replica->store_io,
                              &replica->disk, &link->link);
    }
    struct link_remote_options options;
    link_remote_options_init(&options);
    options.host = plane->host;
    options.instance = plane->instance;
    return link_remote_new(plane->io, replica->address, &plane->cloud,
                           &replica->disk, &options, &link->link);
}

struct plane_link *
plane_link_get(struct plane *plane, const struct plane_replica *replica)
{
    LIST_FOREACH (node, &plane->links) {
        struct plane_link *link = container_of(node, struct plane_link, node);
        if (uuid_equal(&link->disk, &replica->disk) &&
            link->store == replica->store &&
            strcmp(link->address, replica->address) == 0) {
            link->users++;
            return link;
        }
    }
    struct plane_link *link = calloc(1, sizeof *link);
    if (link == NULL) {
        return NULL;
    }
    link->plane = plane;
    link->disk = replica->disk;
    link->store = replica->store;
    link->users = 1;
    list_init(&link->node);
    memcpy(link->address, replica->address, sizeof link->address);
    if (plane_link_open(link, replica) != 0) {
        free(link);
        return NULL;
    }
    list_push_back(&plane->links, &link->node);
    return link;
}

void
plane_link_put(struct plane_link *link)
{
    if (link == NULL || --link->users > 0) {
        return;
    }
    if (!link->is_closing) {
        plane_link_close(link);
    } else if (link->is_closed) {
        plane_link_free(link);
    }
}
