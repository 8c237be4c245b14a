/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_IO_ADDRESS_H
#define LIB_IO_ADDRESS_H

/* Addresses as text and as the kernel wants them.
 *
 *     tcp:10.1.0.1:7701   tcp:[fd00::1]:7701   unix:/run/weft/x.sock
 *
 * Numeric only: looking up a name would block. */

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "lib/io/io.h"

struct io_address {
    socklen_t size;
    union {
        struct sockaddr any;
        struct sockaddr_in ipv4;
        struct sockaddr_in6 ipv6;
        struct sockaddr_un path;
    } u;
};

/* -EINVAL for anything else than the above. */
WEFT_MUST_CHECK int io_address_parse(const char *text,
                                     struct io_address *ret_address);
void io_address_format(const struct io_address *address,
                       char ret_text[IO_ADDRESS_SIZE]);
bool io_address_is_tcp(const struct io_address *address);

#endif /* LIB_IO_ADDRESS_H */
