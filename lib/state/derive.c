/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/state/row.h"

#include <string.h>

/* Foreign: libopenvswitch.  Its config.h decides the layout of sha1_ctx. */
#include <config.h>
#include <sha1.h>

/* RFC 9562 section 5.5: SHA-1 over a namespace and a name.  The namespace is
 * this library's own; the two texts are kept apart by the NUL between them. */
void
state_uuid_derive(const char *request_id, const char *purpose,
                  struct weft_uuid *ret_uuid)
{
    static const struct weft_uuid namespace = {
        { 0x9a, 0x1c, 0x6b, 0x52, 0x7e, 0x0d, 0x4f, 0x33, 0xa8, 0x15, 0x5e,
          0x77, 0xc0, 0x42, 0xd9, 0x06 },
    };
    uint8_t digest[SHA1_DIGEST_SIZE];
    struct sha1_ctx context;

    sha1_init(&context);
    sha1_update(&context, namespace.bytes, sizeof namespace.bytes);
    sha1_update(&context, request_id, (uint32_t)strlen(request_id) + 1);
    sha1_update(&context, purpose, (uint32_t)strlen(purpose));
    sha1_final(&context, digest);

    memcpy(ret_uuid->bytes, digest, sizeof ret_uuid->bytes);
    ret_uuid->bytes[6] = (uint8_t)((ret_uuid->bytes[6] & 0x0f) | 0x50);
    ret_uuid->bytes[8] = (uint8_t)((ret_uuid->bytes[8] & 0x3f) | 0x80);
}
