/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/rpc/grpc_init.h"

#include <grpc/grpc.h>
#include <grpc/support/log.h>
#include <pthread.h>

#include "lib/base/log.h"

/* gRPC calls errors what is a client's bad luck; who calls us is told by the
 * result of the function. */
static void
grpc_log(gpr_log_func_args *line)
{
    log_debug("grpc", "library says text=%s file=%s line=%d", line->message,
              line->file, line->line);
}

static void
grpc_log_install(void)
{
    gpr_set_log_function(grpc_log);
}

void
rpc_grpc_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, grpc_log_install);
    grpc_init();
}

void
rpc_grpc_done(void)
{
    grpc_shutdown();
}
