/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_RPC_UNIX_LISTENER_H
#define LIB_RPC_UNIX_LISTENER_H

/* Unix sockets whose clients are known: private to lib/rpc.
 *
 * gRPC tells of a unix peer no more than "unix:".  So we accept, ask the socket
 * for the peer's credentials and hand it over to gRPC, which then calls the
 * peer "fd:N".  N finds the credentials again.
 *
 * But gRPC closes N when it likes, and the number could come back for another
 * client while a call of the first is still on its way through gRPC.  That call
 * would run with the other's rights.  Hence:
 *
 *   (1) A number once used by a (uid, gid) is used only for the same pair,
 *       for as long as the server lives.
 *
 * Numbers are taken from the upper half of the descriptors that the process
 * may have; that also bounds the number of connections. */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/un.h>

#include "lib/base/check.h"
#include "lib/base/err.h"
#include "lib/rpc/server.h"

struct unix_binding {
    bool is_bound;
    uid_t uid;
    gid_t gid;
    pid_t pid; /* Of the last connection. */
};

/* Written by the watch thread, read by the queue's thread. */
struct unix_numbers {
    struct unix_binding *bindings; /* Index: number - first. */
    int first;
    int count;
    int next;
    pthread_mutex_t lock;
};

struct unix_listener {
    int fd;
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

/* -ENOMEM and the like. */
WEFT_MUST_CHECK int unix_numbers_init(struct unix_numbers *numbers);
void unix_numbers_done(struct unix_numbers *numbers);

/* Moves 'fd', which is closed, to a number that satisfies (1).  -EMFILE: none
 * is free. */
WEFT_MUST_CHECK int unix_numbers_take(struct unix_numbers *numbers, int fd,
                                      const struct unix_binding *owner,
                                      int *ret_number);

/* Fills 'peer' for the client on a number; false if it was never taken. */
bool unix_numbers_find(struct unix_numbers *numbers, int number,
                       struct rpc_peer *peer);

WEFT_MUST_CHECK int unix_listener_open(const char *path, mode_t mode,
                                       struct unix_listener *ret_listener,
                                       struct err *err);

/* Closes and removes the path. */
void unix_listener_close(struct unix_listener *listener);

/* Accepts one connection, non-blocking, whose number is then in use.  -EAGAIN:
 * there is none. */
WEFT_MUST_CHECK int unix_listener_accept(struct unix_listener *listener,
                                         struct unix_numbers *numbers,
                                         int *ret_fd);

#endif /* LIB_RPC_UNIX_LISTENER_H */
