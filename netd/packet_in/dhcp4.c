/* SPDX-License-Identifier: Apache-2.0 */
/* DHCPv4 (RFC 2131, 2132, 3442, 6842): each port's address is known beforehand,
 * so there is one offer, and nothing to remember.
 *
 *     DISCOVER  -> OFFER
 *     REQUEST   -> ACK, or NAK for any address but the port's
 *     INFORM    -> ACK without an address
 *     RELEASE, DECLINE: nothing
 *
 * The server's identity is the gateway's address, or, in a subnet without one,
 * 169.254.169.254. */

#include <errno.h>
#include <string.h>

#include "lib/base/array.h"
#include "netd/packet_in/view.h"

#define DHCP_HEADER_SIZE 240u /* With the magic cookie. */
#define DHCP_MIN_SIZE 300u    /* Of a BOOTP message (RFC 1542 2.1). */
#define DHCP_COOKIE 0x63825363u
#define DHCP_LEASE_S 86400u
#define DHCP_CLIENT_ID_MAX 255u

enum {
    DHCP_DISCOVER = 1,
    DHCP_OFFER = 2,
    DHCP_REQUEST = 3,
    DHCP_ACK = 5,
    DHCP_NAK = 6,
    DHCP_INFORM = 8,
};

enum {
    OPTION_PAD = 0,
    OPTION_MASK = 1,
    OPTION_ROUTER = 3,
    OPTION_DNS = 6,
    OPTION_HOST_NAME = 12,
    OPTION_MTU = 26,
    OPTION_BROADCAST = 28,
    OPTION_REQUESTED_IP = 50,
    OPTION_LEASE = 51,
    OPTION_TYPE = 53,
    OPTION_SERVER = 54,
    OPTION_RENEW = 58,
    OPTION_REBIND = 59,
    OPTION_CLIENT_ID = 61,
    OPTION_ROUTES = 121,
    OPTION_END = 255,
};

/* What the client said. */
struct dhcp4_request {
    const uint8_t *header;
    const uint8_t *requested_ip; /* NULL: absent. */
    const uint8_t *server;
    const uint8_t *client_id;
    uint8_t client_id_size;
    uint8_t type;
};

static int
dhcp4_take_option(struct dhcp4_request *request, uint8_t code,
                  const uint8_t *data, uint8_t size)
{
    switch (code) {
    case OPTION_TYPE:
        if (size != 1) {
            return -EBADMSG;
        }
        request->type = data[0];
        return 0;
    case OPTION_REQUESTED_IP:
        if (size != 4) {
            return -EBADMSG;
        }
        request->requested_ip = data;
        return 0;
    case OPTION_SERVER:
        if (size != 4) {
            return -EBADMSG;
        }
        request->server = data;
        return 0;
    case OPTION_CLIENT_ID:
        request->client_id = data;
        request->client_id_size = size;
        return 0;
    default:
        return 0; /* What it asks for, it gets anyway. */
    }
}

static int
dhcp4_parse(const uint8_t *data, size_t size, struct dhcp4_request *request)
{
    if (size < DHCP_HEADER_SIZE || data[0] != 1 || data[1] != 1 ||
        data[2] != 6 || packet_u32(data + 236) != DHCP_COOKIE) {
        return -EBADMSG;
    }
    request->header = data;
    for (size_t at = DHCP_HEADER_SIZE; at < size && data[at] != OPTION_END;) {
        if (data[at] == OPTION_PAD) {
            at++;
            continue;
        }
        if (size - at < 2 || size - at - 2 < data[at + 1]) {
            return -EBADMSG;
        }
        int result =
            dhcp4_take_option(request, data[at], data + at + 2, data[at + 1]);
        if (result != 0) {
            return result;
        }
        at += 2u + data[at + 1];
    }
    return request->type != 0 ? 0 : -EBADMSG;
}

/* The type of the answer, or -ENOENT. */
static int
dhcp4_decide(const struct dhcp4_request *request,
             const struct view_address *address,
             const struct ip_address *server)
{
    const uint8_t *client_ip = request->header + 12;
    static const uint8_t none[4] = { 0 };

    switch (request->type) {
    case DHCP_DISCOVER:
        return DHCP_OFFER;
    case DHCP_INFORM:
        return DHCP_ACK;
    case DHCP_REQUEST:
        if (request->server != NULL &&
            memcmp(request->server, server->bytes, 4) != 0) {
            return -ENOENT; /* It chose another server. */
        }
        if (request->requested_ip != NULL) {
            client_ip = request->requested_ip;
        } else if (memcmp(client_ip, none, 4) == 0) {
            return -EBADMSG;
        }
        return memcmp(client_ip, address->ip.bytes, 4) == 0 ? DHCP_ACK
                                                            : DHCP_NAK;
    default:
        return -ENOENT;
    }
}

static void
put_option(struct packet_writer *writer, uint8_t code, const void *data,
           size_t size)
{
    packet_put_u8(writer, code);
    packet_put_u8(writer, (uint8_t)size);
    packet_put(writer, data, size);
}

static void
put_option_u32(struct packet_writer *writer, uint8_t code, uint32_t value)
{
    struct be32 wire = be32_make(value);
    put_option(writer, code, &wire, sizeof wire);
}

static uint32_t
prefix_mask(uint32_t length)
{
    return length == 0 ? 0 : UINT32_MAX << (32 - length);
}

/* What configures the client, in ACK and OFFER. */
static void
dhcp4_put_configuration(struct packet_writer *writer,
                        const struct port_view *view,
                        const struct view_address *address, bool with_lease)
{
    uint32_t mask = prefix_mask(address->prefix.length);
    struct be16 mtu = be16_make((uint16_t)view->mtu);

    if (with_lease) {
        put_option_u32(writer, OPTION_LEASE, DHCP_LEASE_S);
        put_option_u32(writer, OPTION_RENEW, DHCP_LEASE_S / 2);
        put_option_u32(writer, OPTION_REBIND, DHCP_LEASE_S / 8 * 7);
    }
    put_option_u32(writer, OPTION_MASK, mask);
    put_option_u32(writer, OPTION_BROADCAST,
                   packet_u32(address->ip.bytes) | ~mask);
    if (address->has_gateway) {
        uint8_t route[5] = { 0 }; /* 0.0.0.0/0 by the gateway: RFC 3442. */
        memcpy(route + 1, address->gateway.bytes, 4);
        put_option(writer, OPTION_ROUTER, address->gateway.bytes, 4);
        put_option(writer, OPTION_ROUTES, route, sizeof route);
    }
    uint8_t dns[4 * VIEW_DNS];
    uint32_t count = 0;
    for (uint32_t i = 0; i < address->dns_count; i++) {
        if (!address->dns[i].is_ipv6) {
            memcpy(dns + (size_t)4 * count++, address->dns[i].bytes, 4);
        }
    }
    if (count > 0) {
        put_option(writer, OPTION_DNS, dns, (size_t)4 * count);
    }
    put_option(writer, OPTION_MTU, &mtu, sizeof mtu);
    if (view->hostname[0] != '\0') {
        put_option(writer, OPTION_HOST_NAME, view->hostname,
                   strnlen(view->hostname, sizeof view->hostname));
    }
}

/* The fixed part of the answer. */
static void
dhcp4_put_header(struct packet_writer *writer,
                 const struct dhcp4_request *request, uint8_t type,
                 const struct view_address *address,
                 const struct ip_address *server)
{
    static const uint8_t none[4] = { 0 };
    const uint8_t *in = request->header;
    bool has_address = type != DHCP_NAK && request->type != DHCP_INFORM;

    packet_put_u8(writer, 2);
    packet_put(writer, in + 1, 2);
    packet_put_u8(writer, 0);
    packet_put(writer, in + 4, 4); /* xid */
    packet_put_u16(writer, 0);
    packet_put(writer, in + 10, 2); /* flags */
    packet_put(writer, type == DHCP_NAK ? none : in + 12, 4);
    packet_put(writer, has_address ? address->ip.bytes : none, 4);
    packet_put(writer, type == DHCP_NAK ? none : server->bytes, 4);
    packet_put_zeros(writer, 4);
    packet_put(writer, in + 28, 16); /* chaddr */
    packet_put_zeros(writer, 64 + 128);
    packet_put_u32(writer, DHCP_COOKIE);
    put_option(writer, OPTION_TYPE, &type, 1);
    put_option(writer, OPTION_SERVER, server->bytes, 4);
}

/* Where the answer goes (RFC 2131 4.1). */
static struct ip_address
dhcp4_destination(const struct dhcp4_request *request, uint8_t type,
                  const struct view_address *address)
{
    struct ip_address to = { .bytes = { 255, 255, 255, 255 } };
    const uint8_t *in = request->header;
    static const uint8_t none[4] = { 0 };

    if (type != DHCP_NAK && memcmp(in + 12, none, 4) != 0) {
        /* Only the port's own address gets through, whatever it says. */
        to = address->ip;
    } else if (type != DHCP_NAK && (in[10] & 0x80) == 0) {
        to = address->ip;
    }
    return to;
}

int
dhcp4_answer(const struct port_view *view, const struct packet *packet,
             struct packet_in_reply *ret_reply)
{
    static const struct ip_address fallback = { .bytes = { 169, 254, 169,
                                                           254 } };
    static const uint8_t none[4] = { 0 };
    const struct view_address *address = view_find_dhcp(view, false);
    struct dhcp4_request request = { .header = NULL };
    struct packet_writer writer;
    const uint8_t *data;
    size_t size;

    int result = packet->source.is_ipv6
                     ? -EBADMSG
                     : packet_udp(packet, 68, 67, &data, &size);
    if (result == 0) {
        result = dhcp4_parse(data, size, &request);
    }
    if (result != 0) {
        return result;
    }
    if (memcmp(request.header + 28, view->mac.bytes, 6) != 0) {
        return -EPERM; /* N21: chaddr of another. */
    }
    if (address == NULL || memcmp(request.header + 24, none, 4) != 0) {
        return -ENOENT; /* Relayed requests are not for us. */
    }
    const struct ip_address *server =
        address->has_gateway ? &address->gateway : &fallback;
    int type = dhcp4_decide(&request, address, server);
    if (type < 0) {
        return type;
    }
    struct ip_address to = dhcp4_destination(&request, (uint8_t)type, address);
    packet_begin(&writer, ret_reply,
                 address->has_router ? &address->router_mac : &view_service_mac,
                 &view->mac);
    packet_put_ip(&writer, server, &to, IP_PROTO_UDP, 64);
    packet_put_udp(&writer, 67, 68);
    size_t start = packet_offset(&writer);
    dhcp4_put_header(&writer, &request, (uint8_t)type, address, server);
    if (request.client_id != NULL) {
        put_option(&writer, OPTION_CLIENT_ID, request.client_id,
                   request.client_id_size);
    }
    if (type != DHCP_NAK) {
        dhcp4_put_configuration(&writer, view, address,
                                request.type != DHCP_INFORM);
    }
    packet_put_u8(&writer, OPTION_END);
    if (packet_offset(&writer) - start < DHCP_MIN_SIZE) {
        packet_put_zeros(&writer,
                         DHCP_MIN_SIZE - (packet_offset(&writer) - start));
    }
    return packet_end(&writer);
}
