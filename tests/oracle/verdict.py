# SPDX-License-Identifier: Apache-2.0
"""The oracle: what happens to a packet that a port sends, by the tenants'
tables alone (proto/weft-schema.md says what they mean).

    verdict = judge(tables, port, packet)

judge() is about a packet that begins a connection.  For an answer to one that
was delivered see judge_reply()."""

import dataclasses
import ipaddress

from tests.oracle.tables import ROUTER

ICMP, TCP, UDP, ICMP6, ANY = 1, 6, 17, 58, 256
LINK_LOCAL = ipaddress.ip_network('fe80::/64')


@dataclasses.dataclass
class Packet:
    """An IPv4 or IPv6 packet.  'a' and 'b' are ports, or ICMP type and code."""
    eth_src: str
    eth_dst: str
    src: object
    dst: object
    proto: int
    a: int = 0
    b: int = 0
    ttl: int = 64
    is_reply: bool = False    # Of TCP: not a lone SYN.

    @property
    def version(self):
        return self.src.version


@dataclasses.dataclass
class Verdict:
    """What becomes of a packet.  'kind': delivered, flooded, dropped,
    answered."""
    kind: str
    reason: str
    port: str = None       # Delivered: to whom.
    eth_src: str = None    # Delivered: as changed.
    eth_dst: str = None
    ttl: int = None
    ports: frozenset = frozenset()  # Flooded: to whom, unchanged.
    answer: str = None     # Answered: echo-reply, time-exceeded, unreachable

    def same(self, other):
        """Compares what can be seen from outside."""
        keys = ('kind', 'port', 'eth_src', 'eth_dst', 'ttl', 'ports', 'answer')
        return all(getattr(self, k) == getattr(other, k) for k in keys)


def drop(reason):
    return Verdict('dropped', reason)


def _link_local(mac):
    """The address that RFC 4291 makes of a MAC."""
    b = [int(x, 16) for x in mac.split(':')]
    b = [b[0] ^ 2, *b[1:3], 0xff, 0xfe, *b[3:]]
    return ipaddress.IPv6Address(bytes([0xfe, 0x80] + [0] * 6 + b))


def _may_send(tables, port, packet):
    """Anti-spoofing (N21): None, or why not."""
    row = tables.ports[port]
    if packet.eth_src != row['mac']:
        return 'not its MAC'
    if packet.src in tables.addresses[port]:
        return None
    if packet.version == 6 and packet.src in LINK_LOCAL:
        gateways = {_link_local(r['mac']) for r in tables.router_ports
                    if r['network'] == row['network']}
        return 'the link-local address of a router' \
            if packet.src in gateways else None
    return 'not its address'


def _rule_matches(tables, rule, packet, peer):
    """'peer': the other side's port, or None."""
    family = {'any': None, 'ipv4': 4, 'ipv6': 6}[rule['family']]
    if family not in (None, packet.version):
        return False
    other = packet.src if rule['direction'] == 'in' else packet.dst
    if rule['cidr']:
        network = ipaddress.ip_network(rule['cidr'])
        if network.version != packet.version or other not in network:
            return False
    group = tables.optional(rule['peer_group'])
    if group and (peer is None or group not in tables.groups_of[peer]):
        return False
    proto = rule['protocol']
    if proto == ANY:
        return True
    if proto in (ICMP, ICMP6):
        if packet.proto != (ICMP if packet.version == 4 else ICMP6):
            return False
        return rule['icmp_type'] in (ANY, packet.a) and \
            rule['icmp_code'] in (ANY, packet.b)
    if proto != packet.proto:
        return False
    if proto in (TCP, UDP, 132):
        return rule['port_first'] <= packet.b <= rule['port_last']
    return True


def _allowed(tables, port, direction, packet, peer):
    rules = [r for r in tables.rules if r['direction'] == direction and
             r['group'] in tables.groups_of[port]]
    if direction == 'out' and not rules:
        return True
    return any(_rule_matches(tables, r, packet, peer) for r in rules)


def _to_port(tables, source, target, packet, after):
    """Egress and ingress rules, and delivery; 'after' as it arrives."""
    if target == source:
        return drop('to itself')
    if target not in tables.bound:
        return drop('the target is on no host')
    if not tables.ports[target]['enabled']:
        return drop('the target is disabled')
    if not _allowed(tables, source, 'out', packet, target):
        return drop('no rule lets it out')
    if not _allowed(tables, target, 'in', packet, source):
        return drop('no rule lets it in')
    return Verdict('delivered', 'allowed', port=target, eth_src=after.eth_src,
                   eth_dst=after.eth_dst, ttl=after.ttl)


def _route(tables, source, router_port, packet):
    """A packet to a router's MAC."""
    router = router_port['router']
    mine = [r for r in tables.router_ports if r['router'] == router]
    is_echo = (packet.version == 4 and packet.proto == ICMP and
               packet.a == 8) or \
        (packet.version == 6 and packet.proto == ICMP6 and packet.a == 128)
    if packet.version == 6 and packet.src in LINK_LOCAL:
        return drop('link-local is not routed')
    to_router = any(tables.gateway(r) == packet.dst for r in mine)
    if to_router:
        if is_echo:
            return Verdict('answered', 'the router', answer='echo-reply')
        if packet.proto in (TCP, UDP):
            return Verdict('answered', 'the router', answer='unreachable')
        return drop('the router has no use for it')
    # Of ICMP only echo and the like may be answered with an error.
    may_answer = packet.proto not in (ICMP, ICMP6) or is_echo or \
        (packet.version == 6 and packet.a >= 128) or \
        (packet.version == 4 and packet.a in (0, 13, 14))

    def error(kind, why):
        return Verdict('answered', why, answer=kind) if may_answer \
            else drop(why + ', but it is an ICMP error')
    if packet.ttl <= 1:
        return error('time-exceeded', 'its time is over')
    best = None
    for out in mine:
        cidr = ipaddress.ip_network(tables.subnets[out['subnet']]['cidr'])
        if cidr.version == packet.version and packet.dst in cidr and \
                (best is None or cidr.prefixlen > best[0]):
            best = (cidr.prefixlen, out)
    if best is None:
        return error('unreachable', 'no route')
    out = best[1]
    target = tables.owner.get((out['network'], packet.dst))
    if target in (None, ROUTER) or target not in tables.bound or \
            not tables.ports[target]['enabled']:
        return error('unreachable', 'nobody has the address')
    after = dataclasses.replace(packet, eth_src=out['mac'],
                                eth_dst=tables.ports[target]['mac'],
                                ttl=packet.ttl - 1)
    return _to_port(tables, source, target, packet, after)


def _flood(tables, source, packet):
    """N18: to all of the network whom the rules allow.  A rule to a group lets
    no packet out that has no one target."""
    if not _allowed(tables, source, 'out', packet, None):
        return drop('no rule lets it out')
    network = tables.ports[source]['network']
    ports = frozenset(
        port for port, row in tables.ports.items()
        if port != source and row['network'] == network and
        port in tables.bound and row['enabled'] and
        _allowed(tables, port, 'in', packet, source))
    return Verdict('flooded', 'allowed', ports=ports, eth_src=packet.eth_src,
                   eth_dst=packet.eth_dst, ttl=packet.ttl) \
        if ports else drop('no rule lets it in anywhere')


def judge(tables, port, packet):
    """What becomes of the first packet of a connection."""
    row = tables.ports[port]
    if not row['enabled'] or port not in tables.bound:
        return drop('the port is not up')
    why = _may_send(tables, port, packet)
    if why:
        return drop(why)
    if int(packet.eth_dst[:2], 16) & 1:
        if not tables.networks[row['network']].get('flood'):
            return drop('multicast is off')
        return _flood(tables, port, packet)
    router_port = tables.router_port_by_mac.get((row['network'],
                                                 packet.eth_dst))
    if router_port:
        return _route(tables, port, router_port, packet)
    target = tables.port_by_mac.get((row['network'], packet.eth_dst))
    if target is None:
        return drop('nobody has the MAC')
    return _to_port(tables, port, target, packet, packet)


def judge_reply(tables, verdict, packet, reply):
    """An answer to 'packet', which was delivered by 'verdict': it passes by
    the connection, whatever the rules say of it.  Where it goes is as for any
    packet."""
    why = _may_send(tables, verdict.port, reply)
    if why:
        return drop(why)
    open_tables = _Open(tables)
    return judge(open_tables, verdict.port, reply)


class _Open:
    """The same tables, with everything allowed."""

    def __init__(self, tables):
        self.tables = tables
        self.groups_of = {u: {'open'} for u in tables.ports}
        self.rules = [
            {'direction': d, 'family': 'any', 'cidr': '', 'peer_group': None,
             'protocol': ANY, 'group': 'open'} for d in ('in', 'out')]

    def __getattr__(self, name):
        return getattr(self.tables, name)
