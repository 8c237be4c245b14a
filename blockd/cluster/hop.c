/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/cluster/hop.h"

#include "lib/base/check.h"
#include "lib/base/container_of.h"

static void
hop_arrive(struct io_post *post)
{
    struct hop *hop = container_of(post, struct hop, io_post);

    hop->there(hop);
}

static void
hop_come_back(struct loop_post *post)
{
    struct hop *hop = container_of(post, struct hop, loop_post);

    hop->is_away = false;
    hop->back(hop);
}

void
hop_init(struct hop *hop, struct loop *loop, struct io *io)
{
    *hop = (struct hop){
        .loop = loop,
        .io = io,
        .io_post.run = hop_arrive,
        .loop_post.run = hop_come_back,
    };
}

void
hop_go(struct hop *hop, hop_fn *there, hop_fn *back)
{
    CHECK(!hop->is_away);

    hop->there = there;
    hop->back = back;
    hop->is_away = true;
    io_post_send(NULL, hop->io, &hop->io_post);
}

void
hop_return(struct hop *hop)
{
    loop_post_send(hop->loop, &hop->loop_post);
}
