/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_CLI_WORDS_H
#define CLIENT_CLI_WORDS_H

/* Words of the command line for values of enums. */

#include "client/cli/command.h"
#include "proto/weft/v1/common.pb-c.h"
#include "proto/weft/v1/pool.pb-c.h"

WEFT_MUST_CHECK enum cli_exit
cli_check_device_class(const struct cli *cli, const char *text,
                       Weft__V1__DeviceClass *ret_class);

WEFT_MUST_CHECK enum cli_exit
cli_check_failure_domain(const struct cli *cli, const char *text,
                         Weft__V1__FailureDomain *ret_domain);

#endif /* CLIENT_CLI_WORDS_H */
