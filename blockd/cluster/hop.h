/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_CLUSTER_HOP_H
#define BLOCKD_CLUSTER_HOP_H

/* A round trip from the control thread to a reactor and back.
 *
 *     control            reactor
 *     hop_go()   ----->  there(hop)      starts something, may wait for it
 *     back(hop)  <-----  hop_return()    when that is done
 *
 * Embedded in what it carries.  Between hop_go() and back() everything that it
 * carries belongs to the reactor; otherwise to the control thread. */

#include <stdbool.h>

#include "lib/io/io.h"
#include "lib/state/loop.h"

struct hop;
typedef void hop_fn(struct hop *hop);

struct hop {
    /* Set by hop_init(). */
    struct loop *loop;
    struct io *io;
    /* Private. */
    hop_fn *there, *back;
    struct io_post io_post;
    struct loop_post loop_post;
    bool is_away;
};

void hop_init(struct hop *hop, struct loop *loop, struct io *io);
/* Control thread.  The hop must be home. */
void hop_go(struct hop *hop, hop_fn *there, hop_fn *back);
/* The reactor's thread; once for each hop_go(). */
void hop_return(struct hop *hop);
static inline bool
hop_is_away(const struct hop *hop)
{
    return hop->is_away;
}

#endif /* BLOCKD_CLUSTER_HOP_H */
