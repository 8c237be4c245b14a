/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_CLI_VOLUME_SHOW_H
#define CLIENT_CLI_VOLUME_SHOW_H

#include <protobuf-c/protobuf-c.h>

/* A volume with its attachments, mirrors and replicas on stdout. */
void volume_print(const ProtobufCMessage *message);

#endif /* CLIENT_CLI_VOLUME_SHOW_H */
