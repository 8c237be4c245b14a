/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_RPC_FIXTURE_H
#define TESTS_UNIT_RPC_FIXTURE_H

/* A server for the tests of lib/rpc.
 *
 * It is a VolumeService whose method GetVolume does what the name in the
 * request says, and WatchVolumes sends as many volumes as the name says.  Its
 * handlers run on a thread with an rpc_queue, as those of blockd do. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "lib/base/units.h"
#include "lib/rpc/client.h"
#include "lib/rpc/server.h"
#include "proto/weft/v1/volume.pb-c.h"

#define TIMEOUT (20 * NS_PER_S)
#define SERVICE weft__v1__volume_service__descriptor

struct fixture {
    char folder[32];
    char unix_endpoint[64];
    char tcp_endpoint[64];
    struct rpc_server *server;
    struct rpc_service service;
    struct rpc_authorizer authorizer;
    struct rpc_server_events events;
    struct rpc_queue queue;
    pthread_t thread;
    int stop_fd;
    atomic_int cancelled;     /* Calls that were told so. */
    atomic_int held;          /* Calls that are held at present. */
    atomic_int stopped;       /* The server told so. */
    struct rpc_call *parked;  /* By "park"; the queue's thread only. */
    struct rpc_peer peers[2]; /* Of the last GetVolume by transport, */
    atomic_int gets;          /* before it was counted here. */
};

struct getter {
    pthread_t thread;
    struct rpc_channel *channel;
    const char *name;
    int result;
    int64_t epoch;
};

/* On a unix socket and a TCP port; 0 calls at a time: the default. */
void fixture_start(struct fixture *fixture, uint32_t call_count_max);

/* Frees the server and checks that nothing was left over. */
void fixture_stop(struct fixture *fixture);

struct rpc_channel *fixture_channel(const char *endpoint);

/* GetVolume of 'name'; '*ret_epoch' of the volume may be NULL. */
int fixture_get(struct rpc_channel *channel, const char *name,
                uint64_t timeout_ns, int64_t *ret_epoch,
                struct rpc_error *error);

/* WatchVolumes. */
struct rpc_reader *fixture_watch(struct rpc_channel *channel, const char *name);

/* Reads to the end; the number of messages, which come in order. */
uint32_t fixture_read_all(struct rpc_reader *reader, int *ret_result);

/* Answers the call 'argument' on the thread that asks; a thread's function. */
void *fixture_reply(void *argument);

/* Gives the other threads time until '*value' is 'wanted'. */
void fixture_wait(const atomic_int *value, int wanted);

/* fixture_get() on a thread of its own. */
void getter_start(struct getter *getter, struct rpc_channel *channel,
                  const char *name);

#endif /* TESTS_UNIT_RPC_FIXTURE_H */
