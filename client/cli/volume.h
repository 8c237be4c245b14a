/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_CLI_VOLUME_H
#define CLIENT_CLI_VOLUME_H

/* What "weft volume import" and "export" do with a volume besides copying.  All
 * report their failures; names are whole resource names. */

#include "client/cli/command.h"
#include "proto/weft/v1/volume.pb-c.h"

#define VOLUME_SIZE_MAX (UINT64_C(1) << 50) /* 1 PiB */

extern const struct cli_option volume_import_options[];
extern const struct cli_option volume_export_options[];
enum cli_exit volume_import(struct cli *cli);
enum cli_exit volume_export(struct cli *cli);

WEFT_MUST_CHECK enum cli_exit volume_do_create(struct cli *cli,
                                               const char *name,
                                               const char *pool,
                                               uint64_t bytes);
WEFT_MUST_CHECK enum cli_exit volume_do_delete(struct cli *cli,
                                               const char *name);
/* '*ret_address' is the URI or the path, to be freed. */
WEFT_MUST_CHECK enum cli_exit
volume_do_attach(struct cli *cli, const char *name, const char *host,
                 Weft__V1__ExportKind kind, char **ret_address);
WEFT_MUST_CHECK enum cli_exit volume_do_detach(struct cli *cli,
                                               const char *name, bool force);
/* The caller frees '*ret_volume' with weft_message_free(). */
WEFT_MUST_CHECK enum cli_exit volume_do_get(struct cli *cli, const char *name,
                                            const char *what,
                                            Weft__V1__Volume **ret_volume);

#endif /* CLIENT_CLI_VOLUME_H */
