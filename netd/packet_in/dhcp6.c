/* SPDX-License-Identifier: Apache-2.0 */
/* DHCPv6 (RFC 8415): like DHCPv4, one answer for each port, and no memory.
 *
 *     SOLICIT                       -> ADVERTISE, or REPLY with rapid commit
 *     REQUEST, RENEW, REBIND        -> REPLY with the port's addresses; those
 *                                      of others get lifetimes of 0
 *     CONFIRM                       -> REPLY: on this link or not
 *     INFORMATION-REQUEST           -> REPLY with name servers
 *     RELEASE, DECLINE              -> REPLY, success
 *
 * The server's DUID is a DUID-LL of the service's MAC, the same on every host,
 * so that a client may renew wherever its VM is now. */

#include <errno.h>
#include <string.h>

#include "netd/packet_in/view.h"

#define DHCP6_LIFETIME_S 86400u
#define DHCP6_ASKED_MAX 8u
#define DUID_SIZE 10u
#define DUID_MAX 130u

enum {
    DHCP6_SOLICIT = 1,
    DHCP6_ADVERTISE = 2,
    DHCP6_REQUEST = 3,
    DHCP6_CONFIRM = 4,
    DHCP6_RENEW = 5,
    DHCP6_REBIND = 6,
    DHCP6_REPLY = 7,
    DHCP6_RELEASE = 8,
    DHCP6_DECLINE = 9,
    DHCP6_INFORMATION = 11,
};

enum {
    OPTION_CLIENT_ID = 1,
    OPTION_SERVER_ID = 2,
    OPTION_IA_NA = 3,
    OPTION_IA_TA = 4,
    OPTION_IAADDR = 5,
    OPTION_PREFERENCE = 7,
    OPTION_STATUS = 13,
    OPTION_RAPID_COMMIT = 14,
    OPTION_DNS = 23,
    OPTION_IA_PD = 25,
};

enum {
    STATUS_SUCCESS = 0,
    STATUS_NO_ADDRESSES = 2,
    STATUS_NOT_ON_LINK = 4,
    STATUS_NO_PREFIX = 6,
};

/* One identity association that the client speaks of. */
struct dhcp6_ia {
    uint16_t code;
    uint32_t id;
    uint8_t asked[DHCP6_ASKED_MAX][16];
    uint32_t asked_count;
};

struct dhcp6_request {
    uint8_t type;
    const uint8_t *transaction; /* 3 bytes */
    const uint8_t *client_id;
    size_t client_id_size;
    const uint8_t *server_id;
    size_t server_id_size;
    bool rapid_commit;
    struct dhcp6_ia ias[DHCP6_ASKED_MAX];
    uint32_t ia_count;
};

static void
server_duid(uint8_t ret_duid[DUID_SIZE])
{
    ret_duid[0] = 0;
    ret_duid[1] = 3; /* DUID-LL */
    ret_duid[2] = 0;
    ret_duid[3] = 1; /* Ethernet */
    memcpy(ret_duid + 4, view_service_mac.bytes, 6);
}

/* The addresses inside of an IA. */
static int
dhcp6_take_ia_options(struct dhcp6_ia *ia, const uint8_t *data, size_t size)
{
    while (size > 0) {
        if (size < 4 || size - 4 < packet_u16(data + 2)) {
            return -EBADMSG;
        }
        size_t length = packet_u16(data + 2);
        if (packet_u16(data) == OPTION_IAADDR) {
            if (length < 24) {
                return -EBADMSG;
            }
            if (ia->asked_count < DHCP6_ASKED_MAX) {
                memcpy(ia->asked[ia->asked_count++], data + 4, 16);
            }
        }
        data += 4 + length;
        size -= 4 + length;
    }
    return 0;
}

static int
dhcp6_take_ia(struct dhcp6_request *request, uint16_t code, const uint8_t *data,
              size_t size)
{
    size_t header = code == OPTION_IA_TA ? 4 : 12;

    if (size < header) {
        return -EBADMSG;
    }
    if (request->ia_count == DHCP6_ASKED_MAX) {
        return 0; /* More than any client has: not answered. */
    }
    struct dhcp6_ia *ia = &request->ias[request->ia_count++];
    *ia = (struct dhcp6_ia){ .code = code, .id = packet_u32(data) };
    if (code == OPTION_IA_PD) {
        return 0;
    }
    return dhcp6_take_ia_options(ia, data + header, size - header);
}

static int
dhcp6_parse(const uint8_t *data, size_t size, struct dhcp6_request *request)
{
    if (size < 4) {
        return -EBADMSG;
    }
    request->type = data[0];
    request->transaction = data + 1;
    data += 4;
    size -= 4;
    while (size > 0) {
        if (size < 4 || size - 4 < packet_u16(data + 2)) {
            return -EBADMSG;
        }
        uint16_t code = packet_u16(data);
        size_t length = packet_u16(data + 2);
        const uint8_t *value = data + 4;
        int result = 0;
        if (code == OPTION_CLIENT_ID || code == OPTION_SERVER_ID) {
            if (length < 3 || length > DUID_MAX) {
                return -EBADMSG;
            }
            if (code == OPTION_CLIENT_ID) {
                request->client_id = value;
                request->client_id_size = length;
            } else {
                request->server_id = value;
                request->server_id_size = length;
            }
        } else if (code == OPTION_RAPID_COMMIT) {
            request->rapid_commit = true;
        } else if (code == OPTION_IA_NA || code == OPTION_IA_TA ||
                   code == OPTION_IA_PD) {
            result = dhcp6_take_ia(request, code, value, length);
        }
        if (result != 0) {
            return result;
        }
        data += 4 + length;
        size -= 4 + length;
    }
    return 0;
}

static bool
dhcp6_names_addresses(const struct dhcp6_request *request)
{
    for (uint32_t i = 0; i < request->ia_count; i++) {
        if (request->ias[i].asked_count > 0) {
            return true;
        }
    }
    return false;
}

/* RFC 8415 16: what each message must and must not have.  The type of the
 * answer, or -ENOENT. */
static int
dhcp6_decide(const struct dhcp6_request *request)
{
    uint8_t duid[DUID_SIZE];
    bool is_for_us;

    server_duid(duid);
    is_for_us = request->server_id != NULL &&
                request->server_id_size == DUID_SIZE &&
                memcmp(request->server_id, duid, DUID_SIZE) == 0;
    switch (request->type) {
    case DHCP6_SOLICIT:
        if (request->client_id == NULL || request->server_id != NULL) {
            return -ENOENT;
        }
        return request->rapid_commit ? DHCP6_REPLY : DHCP6_ADVERTISE;
    case DHCP6_CONFIRM:
        if (!dhcp6_names_addresses(request)) {
            return -ENOENT; /* 18.3.3 */
        }
        __attribute__((fallthrough));
    case DHCP6_REBIND:
        return request->client_id != NULL && request->server_id == NULL
                   ? DHCP6_REPLY
                   : -ENOENT;
    case DHCP6_REQUEST:
    case DHCP6_RENEW:
    case DHCP6_RELEASE:
    case DHCP6_DECLINE:
        return request->client_id != NULL && is_for_us ? DHCP6_REPLY : -ENOENT;
    case DHCP6_INFORMATION:
        return request->ia_count == 0 &&
                       (request->server_id == NULL || is_for_us)
                   ? DHCP6_REPLY
                   : -ENOENT;
    default:
        return -ENOENT;
    }
}

static void
put_option_header(struct packet_writer *writer, uint16_t code, size_t size)
{
    packet_put_u16(writer, code);
    packet_put_u16(writer, (uint16_t)size);
}

static void
put_status(struct packet_writer *writer, uint16_t status)
{
    put_option_header(writer, OPTION_STATUS, 2);
    packet_put_u16(writer, status);
}

static void
put_iaaddr(struct packet_writer *writer, const uint8_t ip[16],
           uint32_t lifetime_s)
{
    put_option_header(writer, OPTION_IAADDR, 24);
    packet_put(writer, ip, 16);
    packet_put_u32(writer, lifetime_s);
    packet_put_u32(writer, lifetime_s);
}

static bool
view_has_dhcp6(const struct port_view *view, const uint8_t ip[16])
{
    for (uint32_t i = 0; i < view->address_count; i++) {
        const struct view_address *address = &view->addresses[i];
        if (address->ip.is_ipv6 && address->dhcp &&
            memcmp(address->ip.bytes, ip, 16) == 0) {
            return true;
        }
    }
    return false;
}

/* The port's addresses go to the first IA_NA; others have none. */
static void
put_ia(struct packet_writer *writer, const struct port_view *view,
       const struct dhcp6_ia *ia, bool is_first, bool is_renewal)
{
    size_t start = packet_offset(writer);
    uint32_t given = 0;

    put_option_header(writer, ia->code, 0);
    packet_put_u32(writer, ia->id);
    if (ia->code != OPTION_IA_TA) {
        bool is_given = ia->code == OPTION_IA_NA && is_first;
        packet_put_u32(writer, is_given ? DHCP6_LIFETIME_S / 2 : 0);
        packet_put_u32(writer, is_given ? DHCP6_LIFETIME_S / 5 * 4 : 0);
    }
    for (uint32_t i = 0; is_first && i < view->address_count; i++) {
        const struct view_address *address = &view->addresses[i];
        if (address->ip.is_ipv6 && address->dhcp) {
            put_iaaddr(writer, address->ip.bytes, DHCP6_LIFETIME_S);
            given++;
        }
    }
    for (uint32_t i = 0; is_renewal && i < ia->asked_count; i++) {
        if (!is_first || !view_has_dhcp6(view, ia->asked[i])) {
            put_iaaddr(writer, ia->asked[i], 0); /* Not any more. */
            given++;
        }
    }
    if (given == 0) {
        put_status(writer, ia->code == OPTION_IA_PD ? STATUS_NO_PREFIX
                                                    : STATUS_NO_ADDRESSES);
    }
    if (!writer->is_full) {
        packet_patch_u16(writer, start + 2,
                         (uint16_t)(packet_offset(writer) - start - 4));
    }
}

/* CONFIRM: whether all the client's addresses may be used here. */
static uint16_t
dhcp6_confirm(const struct dhcp6_request *request, const struct port_view *view)
{
    for (uint32_t i = 0; i < request->ia_count; i++) {
        const struct dhcp6_ia *ia = &request->ias[i];
        for (uint32_t j = 0; j < ia->asked_count; j++) {
            if (!view_has_dhcp6(view, ia->asked[j])) {
                return STATUS_NOT_ON_LINK;
            }
        }
    }
    return STATUS_SUCCESS;
}

static void
put_body(struct packet_writer *writer, const struct port_view *view,
         const struct dhcp6_request *request)
{
    bool is_first = true;

    switch (request->type) {
    case DHCP6_CONFIRM:
        put_status(writer, dhcp6_confirm(request, view));
        return;
    case DHCP6_RELEASE:
    case DHCP6_DECLINE:
        put_status(writer, STATUS_SUCCESS);
        return;
    default:
        break;
    }
    for (uint32_t i = 0; i < request->ia_count; i++) {
        const struct dhcp6_ia *ia = &request->ias[i];
        put_ia(writer, view, ia, is_first && ia->code == OPTION_IA_NA,
               request->type == DHCP6_RENEW || request->type == DHCP6_REBIND ||
                   request->type == DHCP6_REQUEST);
        is_first = is_first && ia->code != OPTION_IA_NA;
    }
}

static void
put_dns(struct packet_writer *writer, const struct view_address *address)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < address->dns_count; i++) {
        count += address->dns[i].is_ipv6;
    }
    if (count == 0) {
        return;
    }
    put_option_header(writer, OPTION_DNS, (size_t)16 * count);
    for (uint32_t i = 0; i < address->dns_count; i++) {
        if (address->dns[i].is_ipv6) {
            packet_put_ip_address(writer, &address->dns[i]);
        }
    }
}

int
dhcp6_answer(const struct port_view *view, const struct packet *packet,
             struct packet_in_reply *ret_reply)
{
    const struct view_address *address = view_find_dhcp(view, true);
    struct dhcp6_request request = { .type = 0 };
    struct packet_writer writer;
    uint8_t duid[DUID_SIZE];
    const uint8_t *data;
    size_t size;

    int result = packet->source.is_ipv6
                     ? packet_udp(packet, 546, 547, &data, &size)
                     : -EBADMSG;
    if (result == 0) {
        result = dhcp6_parse(data, size, &request);
    }
    if (result != 0) {
        return result;
    }
    if (packet_is_unspecified(&packet->source) ||
        packet_is_multicast(&packet->source)) {
        return -EBADMSG;
    }
    int type = address == NULL ? -ENOENT : dhcp6_decide(&request);
    if (type < 0) {
        return type;
    }
    const struct mac_address *mac =
        address->has_router ? &address->router_mac : &view_service_mac;
    struct ip_address source = packet_link_local(mac);
    packet_begin(&writer, ret_reply, mac, &view->mac);
    packet_put_ip(&writer, &source, &packet->source, IP_PROTO_UDP, 64);
    packet_put_udp(&writer, 547, 546);
    packet_put_u8(&writer, (uint8_t)type);
    packet_put(&writer, request.transaction, 3);
    if (request.client_id != NULL) {
        put_option_header(&writer, OPTION_CLIENT_ID, request.client_id_size);
        packet_put(&writer, request.client_id, request.client_id_size);
    }
    server_duid(duid);
    put_option_header(&writer, OPTION_SERVER_ID, DUID_SIZE);
    packet_put(&writer, duid, DUID_SIZE);
    if (type == DHCP6_ADVERTISE) {
        put_option_header(&writer, OPTION_PREFERENCE, 1);
        packet_put_u8(&writer, 255); /* No need to wait for others. */
    } else if (request.type == DHCP6_SOLICIT) {
        put_option_header(&writer, OPTION_RAPID_COMMIT, 0);
    }
    put_body(&writer, view, &request);
    put_dns(&writer, address);
    return packet_end(&writer);
}
