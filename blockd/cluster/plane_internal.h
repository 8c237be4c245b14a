/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_CLUSTER_PLANE_INTERNAL_H
#define BLOCKD_CLUSTER_PLANE_INTERNAL_H

/* What the files of the reactor's side share: plane.c (birth, links, peers),
 * plane_disk.c, plane_volume.c. */

#include "blockd/cluster/plane.h"
#include "blockd/peer/peer_client.h"
#include "blockd/peer/peer_server.h"

#define PLANE_HOST_SIZE 64

struct plane {
    struct loop *loop;
    struct io *io;
    char host[PLANE_HOST_SIZE];
    struct weft_uuid instance;
    struct weft_uuid cloud;
    struct peer_directory directory;
    struct peer_server *peer_server;
    struct nbd_server *nbd_server;
    struct payload_pool *payloads;
    struct list publications;
    struct list links;   /* struct plane_link: with users, can be shared. */
    struct list closing; /* struct plane_link: not quiet or not freed yet. */
    struct list drops;   /* struct plane_drop: wait for links to be quiet. */
    struct plane_teardown *teardown; /* Waits for 'closing'. */
    char peer_address[IO_ADDRESS_SIZE];
    char nbd_address[IO_ADDRESS_SIZE]; /* TCP; "": none. */
    char nbd_unix[IO_ADDRESS_SIZE];
    uint32_t spin_us;
};

/* A link that volumes of this reactor share.  It is closed when the last one
 * puts it back, or when its store is dropped; it is freed after both the close
 * and the last user. */
struct plane_link {
    struct plane *plane;
    struct list node;
    struct weft_uuid disk;
    struct store *store; /* NULL: remote. */
    char address[IO_ADDRESS_SIZE];
    struct link *link;
    uint32_t users;
    bool is_closing, is_quiet, is_closed;
    struct link_close close;
};

/* Reactor.  NULL: no memory. */
struct plane_link *plane_link_get(struct plane *plane,
                                  const struct plane_replica *replica);
/* Accepts NULL. */
void plane_link_put(struct plane_link *link);

#endif /* BLOCKD_CLUSTER_PLANE_INTERNAL_H */
