#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The flows of netd/compile on two real switches: accepted, and doing what is
meant, packet by packet (docs/pipeline.md)."""

import os
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.support import net_switch  # noqa: E402

os.environ.setdefault('XDG_CACHE_HOME', '/tmp')
from scapy.all import (  # noqa: E402
    ARP, BOOTP, DHCP, ICMP, IP, TCP, UDP, Dot1Q, Ether, ICMPv6EchoReply,
    ICMPv6EchoRequest, ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6ND_RA, ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr, ICMPv6NDOptSrcLLAddr, IPerror, IPv6,
    IPv6ExtHdrFragment, Raw, fragment, fragment6)

DHCP4, DHCP6, RS, NS, TTL, TOO_BIG, UNREACHABLE, ROUTER = range(1, 9)
BROADCAST = 'ff:ff:ff:ff:ff:ff'
ROUTER_A, ROUTER_B = '02:00:00:00:00:fa', '02:00:00:00:00:fb'
ROUTER_A6 = '02:00:00:00:00:f6'
ROUTER_A6_LL = 'fe80::ff:fe00:f6'


def mac(port):
    return f'02:00:00:00:00:{port:02x}'


# Network a: 1, 2 on h1; 3 on h2.  Network b, behind the router: 4 on h1, 5 on
# h2; its MTU is smaller.  Network c has the addresses of a, and is flooded: 6
# and 7 on h1, 8 on h2.  All may talk to all where a path leads.
MODEL = f'''
host h1 ip=198.18.77.1
host h2 ip=198.18.77.2
network a vni=10 mtu=1442
network b vni=11 mtu=1300
network c vni=12 flood
subnet a4 network=a cidr=10.0.0.0/24 dhcp
subnet a6 network=a cidr=fd00:a::/64 dhcp
subnet b4 network=b cidr=10.0.1.0/24
subnet c4 network=c cidr=10.0.0.0/24
group g tag=1
rule any4 group=g dir=in tag=2
identity open number=7 groups=g
identity shut number=8
router r tag=9
router_port ra router=r subnet=a4 network=a mac={ROUTER_A}
router_port ra6 router=r subnet=a6 network=a mac={ROUTER_A6}
router_port rb router=r subnet=b4 network=b mac={ROUTER_B}
address 10.0.0.1 network=a subnet=a4 router_port=ra
address fd00:a::1 network=a subnet=a6 router_port=ra6
address 10.0.1.1 network=b subnet=b4 router_port=rb
'''


def port_lines(number, network, host, identity='open', bound=True,
               more='', address=None):
    name = f'p{number}'
    third = {'a': 0, 'b': 1, 'c': 0}[network]
    address = address or f'10.0.{third}.{number + 10}'
    lines = [f'port {name} network={network} mac={mac(number)} '
             f'identity={identity} host={host} {more}',
             f'address {address} network={network} subnet={network}4 '
             f'port={name}']
    if network == 'a':
        lines.append(f'address fd00:a::{number + 10:x} network=a subnet=a6 '
                     f'port={name}')
    if bound:
        lines.append(f'binding {name} host={host}')
    return '\n'.join(lines) + '\n'


PLACES = {1: ('a', 'h1'), 2: ('a', 'h1'), 3: ('a', 'h2'), 4: ('b', 'h1'),
          5: ('b', 'h2'), 6: ('c', 'h1'), 7: ('c', 'h1'), 8: ('c', 'h2')}
MODEL += ''.join(port_lines(n, *place) for n, place in PLACES.items())
MODEL += port_lines(20, 'a', 'h1', bound=False)


def locals_of(host):
    return ''.join(f'local p{n} ofport={n} zone={1024 + n}\n'
                   for n, (_, where) in PLACES.items() if where == host)


class PipelineTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.hosts = net_switch.Hosts(['h1', 'h2'])
        cls.addClassCleanup(cls.hosts.close)
        for number, (_, where) in PLACES.items():
            cls.hosts[where].add_port(f'p{number}', number)

    def setUp(self):
        self.install('')

    def install(self, more):
        for name, host in self.hosts.items():
            host.install(MODEL + locals_of(name) + more)
            host.appctl('dpctl/flush-conntrack')
        self.drain()

    def drain(self):
        for number, (_, where) in PLACES.items():
            self.hosts[where].take(f'p{number}')

    def host_of(self, number):
        return self.hosts[PLACES[number][1]]

    def send(self, number, packet):
        self.host_of(number).send(f'p{number}', packet)

    def arrivals(self, sent):
        """{port: packets} of all that came out; 'sent' is [(port, packet)]."""
        own = {}
        for number, packet in sent:
            own.setdefault(number, []).append(bytes(packet))
        found = {}
        for number in PLACES:
            new = self.host_of(number).take(f'p{number}')
            for packet in own.get(number, []):
                self.assertIn(packet, new)
                new.remove(packet)
            if new:
                found[number] = [Ether(data) for data in new]
        return found

    def captured(self):
        return [len(self.host_of(p).captured(f'p{p}')) for p in PLACES]

    def settle(self, before_sent=None, at_least=0):
        """Until 'at_least' packets more are on the ports, and no switch moves
        any: tunnels and slow paths take a moment."""
        if at_least:
            net_switch.wait_for(
                lambda: sum(self.captured()) >= before_sent + at_least,
                f'{at_least} packets')
        before = None
        while True:
            now = (self.captured(),
                   [host.ofctl('dump-aggregate').split('flow')[0]
                    for host in self.hosts.values()])
            if now == before:
                return
            before = now
            net_switch.time.sleep(0.05)

    def exchange(self, number, packets, expected=0):
        if isinstance(packets, Ether):
            packets = [packets]
        self.drain()
        before = sum(self.captured())
        for packet in packets:
            self.send(number, packet)
        self.settle(before, expected and len(packets) + expected)
        return self.arrivals([(number, packet) for packet in packets])

    def assert_reaches(self, sender, packet, receiver):
        found = self.exchange(sender, packet, expected=1)
        self.assertEqual(list(found), [receiver],
                         f'{packet.summary()} -> {found}')
        self.assertEqual(len(found[receiver]), 1)
        return found[receiver][0]

    def assert_nowhere(self, sender, packet):
        found = self.exchange(sender, packet)
        self.assertEqual(found, {}, packet.summary())

    def ip(self, number):
        third = 1 if number in (4, 5) else 0
        return f'10.0.{third}.{number + 10}'

    def ip6(self, number):
        return f'fd00:a::{number + 10:x}'

    def frame(self, number, to):
        return Ether(src=mac(number), dst=to)

    def udp(self, sender, receiver, to=None):
        return (self.frame(sender, to or mac(receiver)) /
                IP(src=self.ip(sender), dst=self.ip(receiver)) /
                UDP(sport=1000 + sender, dport=2000 + receiver) / b'x')

    # ---- Within a network ----

    def test_local(self):
        got = self.assert_reaches(1, self.udp(1, 2), 2)
        self.assertEqual(bytes(got), bytes(self.udp(1, 2)))

    def test_across_hosts(self):
        for a, b in (1, 3), (3, 1), (3, 2):
            got = self.assert_reaches(a, self.udp(a, b), b)
            self.assertEqual(bytes(got), bytes(self.udp(a, b)))

    def test_ipv6_across_hosts(self):
        packet = (self.frame(1, mac(3)) /
                  IPv6(src=self.ip6(1), dst=self.ip6(3)) /
                  ICMPv6EchoRequest(data=b'x'))
        self.assert_reaches(1, packet, 3)

    def test_overlapping_networks_are_apart(self):
        """6 in network c has 10.0.0.16, too; MACs of a mean nothing in c."""
        self.assert_nowhere(6, self.frame(6, mac(1)) /
                            IP(src=self.ip(6), dst=self.ip(1)) / UDP() / b'x')
        self.assert_reaches(6, self.udp(6, 8), 8)

    def test_unknown_unicast(self):
        self.assert_nowhere(1, self.udp(1, 2, to='02:00:00:00:00:77'))

    def test_unbound_port(self):
        self.assert_nowhere(1, self.udp(1, 20))

    def test_disabled_port(self):
        self.install(port_lines(2, 'a', 'h1', more='disabled'))
        self.assert_nowhere(1, self.udp(1, 2))
        self.assert_nowhere(2, self.udp(2, 1))

    def test_binding_of_another_host(self):
        """N13."""
        self.install('binding p2 host=h2\n')
        self.assert_reaches(3, self.udp(3, 2), 2)
        self.assert_reaches(1, self.udp(1, 2), 2)

    def test_migration(self):
        """N14: both hosts get the packets, the target's guest is mute."""
        self.hosts['h2'].add_port('q2', 32)
        self.install(port_lines(2, 'a', 'h1', more='migrate=h2') +
                     'binding p2 host=h2\n')
        self.hosts['h2'].install(
            MODEL + locals_of('h2') +
            port_lines(2, 'a', 'h1', more='migrate=h2') +
            'binding p2 host=h2\nlocal p2 ofport=32 zone=1060\n')
        for sender in 1, 3:
            self.hosts['h2'].take('q2')
            self.assert_reaches(sender, self.udp(sender, 2), 2)
            self.assertEqual(self.hosts['h2'].take('q2'),
                             [bytes(self.udp(sender, 2))])
        self.hosts['h2'].send('q2', bytes(self.udp(2, 3)))
        self.settle()
        self.assertEqual(self.arrivals([]), {})

    def test_disabled_host(self):
        """N2, N3."""
        self.install('host h2 ip=198.18.77.2 disabled\n')
        self.assert_nowhere(3, self.udp(3, 1))
        self.assert_nowhere(1, self.udp(1, 3))

    def test_tunnel_source_and_version(self):
        """N3: not from others, no other version, no way out again."""
        h1 = self.hosts['h1']
        flow = (f'in_port={net_switch.TUNNEL_OFPORT},tun_dst=198.18.77.1,'
                f'tun_id=10,dl_dst={mac(1)},dl_src={mac(3)},ip,'
                'nw_src=10.0.0.13,nw_dst=10.0.0.11,nw_proto=17,nw_ttl=9,')
        good = flow + 'tun_src=198.18.77.2,tun_metadata0=0x01000007'
        self.assertIn(' output:1\n', h1.trace(good))
        for bad in ('tun_src=198.18.77.3,tun_metadata0=0x01000007',
                    'tun_src=198.18.77.2,tun_metadata0=0x02000007',
                    'tun_src=198.18.77.2'):
            self.assertIn('Datapath actions: drop', h1.trace(flow + bad))
        self.assertIn('Datapath actions: drop',
                      h1.trace(good.replace(mac(1), mac(3))))
        self.assertIn('Datapath actions: drop',
                      h1.trace(good.replace(mac(1), ROUTER_A)))

    # ---- Anti-spoofing (N21) ----

    def test_spoofed(self):
        good = self.udp(1, 2)
        self.assert_reaches(1, good, 2)
        wrong_mac = good.copy()
        wrong_mac.src = mac(2)
        wrong_ip = good.copy()
        wrong_ip[IP].src = '10.0.0.99'
        tagged = (self.frame(1, mac(2)) / Dot1Q(vlan=5) / good[IP])
        mpls = self.frame(1, mac(2))
        mpls.type = 0x8847
        ipv6 = (self.frame(1, mac(2)) /
                IPv6(src=self.ip6(2), dst=self.ip6(3)) / UDP() / b'x')
        for packet in (wrong_mac, wrong_ip, tagged, mpls / (b'x' * 50), ipv6,
                       self.frame(1, '01:80:c2:00:00:00') / (b'x' * 50)):
            self.assert_nowhere(1, packet)

    def test_counters(self):
        """N21: a flow counts for each reason."""
        h1 = self.hosts['h1']
        spoofed = self.udp(1, 2)
        spoofed[IP].src = '10.0.0.99'
        self.exchange(1, spoofed)
        self.exchange(1, spoofed)
        h1.appctl('revalidator/wait')
        self.assertEqual(h1.counted(2, 'priority=10,ip,in_port=1,'), 2)

    def test_dhcp_server_and_router_guard(self):
        self.assert_nowhere(1, self.frame(1, mac(2)) /
                            IP(src=self.ip(1), dst=self.ip(2)) /
                            UDP(sport=67, dport=68) / b'x')
        self.assert_nowhere(1, self.frame(1, mac(2)) /
                            IPv6(src='fe80::9', dst='ff02::1', hlim=255) /
                            ICMPv6ND_RA())

    def test_link_local_is_free_but_the_routers(self):
        packet = (self.frame(1, mac(2)) / IPv6(src='fe80::1234', dst='fe80::5')
                  / UDP() / b'x')
        self.assert_reaches(1, packet, 2)
        packet[IPv6].src = ROUTER_A6_LL
        self.assert_nowhere(1, packet)

    def test_fragments(self):
        big = (self.frame(1, mac(3)) / IP(src=self.ip(1), dst=self.ip(3)) /
               UDP(sport=5, dport=6) / (b'x' * 2400))
        pieces = fragment(big, fragsize=1200)
        found = self.exchange(1, pieces, expected=len(pieces))
        self.assertEqual(list(found), [3])
        self.assertEqual(sum(len(p[IP].payload) for p in found[3]), 2408)

    def test_fragments_meet_rules(self):
        self.install('group h tag=30\nrule h6 group=h dir=in proto=17 '
                     'ports=6 tag=31\nidentity six number=40 groups=h\n' +
                     port_lines(3, 'a', 'h2', identity='six'))
        for port, may in (6, True), (7, False):
            pieces = fragment(
                self.frame(1, mac(3)) /
                IP(src=self.ip(1), dst=self.ip(3), id=port) /
                UDP(sport=5, dport=port) / (b'x' * 2400), fragsize=1200)
            found = self.exchange(1, pieces, expected=3 if may else 0)
            firsts = [p for got in found.values() for p in got
                      if p[IP].frag == 0]
            self.assertEqual(len(firsts), int(may))

    def test_ipv6_fragments_meet_rules(self):
        """Later ones have no protocol but that of the fragment header."""
        for ports in 'ports=6 ', '':
            self.install(f'group h tag=30\nrule h6 group=h dir=in proto=17 '
                         f'{ports}tag=31\nidentity six number=40 groups=h\n' +
                         port_lines(3, 'a', 'h2', identity='six'))
            for port, may in (6, True), (7, not ports):
                pieces = fragment6(
                    self.frame(1, mac(3)) /
                    IPv6(src=self.ip6(1), dst=self.ip6(3)) /
                    IPv6ExtHdrFragment(id=port) /
                    UDP(sport=5, dport=port) / (b'x' * 2400), 1400)
                found = self.exchange(1, pieces,
                                      expected=len(pieces) if may else 0)
                # What conntrack held back in another test may come out here.
                firsts = [p for got in found.values() for p in got
                          if IPv6ExtHdrFragment in p and
                          p[IPv6ExtHdrFragment].offset == 0]
                self.assertEqual(len(firsts), int(may))

    def test_stale_fragments(self):
        """Fragments that conntrack gives up after 15 s go on with somebody
        else's packet: not out of that one's port."""
        self.install('group h tag=30\nrule h6 group=h dir=in proto=17 '
                     'ports=6 tag=31\nidentity six number=40 groups=h\n' +
                     port_lines(3, 'a', 'h2', identity='six'))
        pieces = fragment(self.frame(1, mac(3)) /
                          IP(src=self.ip(1), dst=self.ip(3), id=99) /
                          UDP(sport=5, dport=7) / (b'x' * 2400), fragsize=1200)
        self.exchange(1, pieces)

        def are_stale():
            self.assert_reaches(1, self.udp(1, 5, to=ROUTER_A), 5)
            status = self.hosts['h2'].appctl('dpctl/ipf-get-status')
            return 'num frag: 0' in ' '.join(status.split()) or \
                'v4 frags expired: 0' not in status

        net_switch.wait_for(are_stale, 'fragments to expire', 40)

    # ---- ARP and ND (N20) ----

    def arp(self, sender, target, spa=None, sha=None):
        return self.frame(sender, BROADCAST) / ARP(
            hwsrc=sha or mac(sender), psrc=spa or self.ip(sender),
            pdst=target)

    def test_arp_is_answered(self):
        for target, owner in ((self.ip(2), mac(2)), (self.ip(3), mac(3)),
                              ('10.0.0.1', ROUTER_A)):
            got = self.assert_reaches(1, self.arp(1, target), 1)
            self.assertEqual((got.dst, got.src, got[ARP].op, got[ARP].hwsrc,
                              got[ARP].psrc, got[ARP].hwdst, got[ARP].pdst),
                             (mac(1), owner, 2, owner, target, mac(1),
                              self.ip(1)))

    def test_arp_is_not_answered(self):
        """Own address, nobody's, an unbound port's, another network's; and
        claims to be another."""
        for target in self.ip(1), '10.0.0.200', self.ip(20), self.ip(4):
            self.assert_nowhere(1, self.arp(1, target))
        self.assert_nowhere(1, self.arp(1, self.ip(1), spa='0.0.0.0'))
        self.assert_nowhere(1, self.arp(1, self.ip(2), spa=self.ip(3)))
        self.assert_nowhere(1, self.arp(1, self.ip(2), sha=mac(2)))
        self.assert_nowhere(1, self.frame(1, BROADCAST) / ARP(
            op=2, hwsrc=mac(1), psrc=self.ip(1), pdst=self.ip(1)))
        self.assert_reaches(1, self.arp(1, self.ip(2), spa='0.0.0.0'), 1)

    def packet_ins(self, number, packet, expected):
        monitor = net_switch.Monitor(self.host_of(number))
        try:
            found = self.exchange(number, packet)
            monitor.sync(expected)
            return found, [p[0] for p in monitor.packets]
        finally:
            monitor.close()

    def assert_packet_in(self, number, packet, *kinds):
        found, got = self.packet_ins(number, packet, len(kinds))
        self.assertEqual(found, {})
        self.assertEqual(got, list(kinds), packet.summary())

    def test_nd(self):
        def solicit(source, target, option=mac(1), hlim=255):
            packet = (self.frame(1, '33:33:ff:00:00:01') /
                      IPv6(src=source, dst='ff02::1:ff00:1', hlim=hlim) /
                      ICMPv6ND_NS(tgt=target))
            if option:
                packet /= ICMPv6NDOptSrcLLAddr(lladdr=option)
            return packet

        self.assert_packet_in(1, solicit(self.ip6(1), self.ip6(2)), NS)
        self.assert_packet_in(1, solicit(self.ip6(1), self.ip6(2), None), NS)
        self.assert_packet_in(1, solicit('fe80::7', self.ip6(2)), NS)
        # Duplicate address detection: never for what is one's own.
        self.assert_packet_in(1, solicit('::', self.ip6(1), None))
        self.assert_packet_in(1, solicit('::', self.ip6(2), None), NS)
        # Spoofed.
        self.assert_packet_in(1, solicit('::', self.ip6(2)))
        self.assert_packet_in(1, solicit(self.ip6(1), self.ip6(2), mac(2)))
        self.assert_packet_in(1, solicit(self.ip6(3), self.ip6(2)))
        self.assert_packet_in(1, solicit(self.ip6(1), self.ip6(2), hlim=64))
        self.assert_packet_in(1, solicit(ROUTER_A6_LL, self.ip6(2)))
        advertise = (self.frame(1, mac(2)) /
                     IPv6(src=self.ip6(1), dst=self.ip6(2), hlim=255) /
                     ICMPv6ND_NA(tgt=self.ip6(1)) /
                     ICMPv6NDOptDstLLAddr(lladdr=mac(1)))
        self.assert_packet_in(1, advertise)
        fragmented = (self.frame(1, mac(2)) /
                      IPv6(src=self.ip6(1), dst=self.ip6(2), hlim=255) /
                      IPv6ExtHdrFragment(m=1, id=9) /
                      ICMPv6ND_NS(tgt=self.ip6(2)))
        self.assert_packet_in(1, fragmented)

    # ---- Services ----

    def discover(self, number):
        return (self.frame(number, BROADCAST) /
                IP(src='0.0.0.0', dst='255.255.255.255') /
                UDP(sport=68, dport=67) / BOOTP(chaddr=b'\2\0\0\0\0\1') /
                DHCP(options=[('message-type', 'discover'), 'end']))

    def test_dhcp(self):
        self.assert_packet_in(1, self.discover(1), DHCP4)
        self.assert_packet_in(4, self.discover(4))  # No dhcp there.
        self.assert_packet_in(6, self.discover(6))  # Nor flooded.
        renew = (self.frame(1, ROUTER_A) /
                 IP(src=self.ip(1), dst='10.0.0.1') /
                 UDP(sport=68, dport=67) / b'x')
        self.assert_packet_in(1, renew, DHCP4)

    def test_rs_and_dhcp6(self):
        rs = (self.frame(1, '33:33:00:00:00:02') /
              IPv6(src='fe80::9', dst='ff02::2', hlim=255) / ICMPv6ND_RS())
        self.assert_packet_in(1, rs, RS)
        rs[IPv6].src = '::'
        self.assert_packet_in(1, rs, RS)
        solicit = (self.frame(1, '33:33:00:01:00:02') /
                   IPv6(src='fe80::9', dst='ff02::1:2') /
                   UDP(sport=546, dport=547) / b'x')
        self.assert_packet_in(1, solicit, DHCP6)

    # ---- Routers ----

    def test_routed(self):
        for sender, receiver in (1, 4), (1, 5), (3, 4):
            packet = self.udp(sender, receiver, to=ROUTER_A)
            packet[IP].ttl = 9
            got = self.assert_reaches(sender, packet, receiver)
            self.assertEqual((got.src, got.dst, got[IP].ttl),
                             (ROUTER_B, mac(receiver), 8))
            self.assertEqual(got[IP].src, self.ip(sender))
            checked = got.copy()
            del checked[IP].chksum
            self.assertEqual(bytes(Ether(bytes(checked))), bytes(got))

    def test_router_answers_ping(self):
        for sender, target, via in ((1, '10.0.0.1', ROUTER_A),
                                    (1, '10.0.1.1', ROUTER_A),
                                    (5, '10.0.0.1', ROUTER_B)):
            ping = (self.frame(sender, via) /
                    IP(src=self.ip(sender), dst=target, ttl=1) /
                    ICMP(id=4, seq=5) / b'ping')
            got = self.assert_reaches(sender, ping, sender)
            self.assertEqual((got.src, got.dst, got[IP].src, got[IP].dst,
                              got[IP].ttl, got[ICMP].type, got[ICMP].id),
                             (via, mac(sender), target, self.ip(sender), 64, 0,
                              4))
            checked = got.copy()
            del checked[IP].chksum, checked[ICMP].chksum
            self.assertEqual(bytes(Ether(bytes(checked))), bytes(got))

    def test_router_answers_ping6(self):
        for source, target in ((self.ip6(1), 'fd00:a::1'),
                               ('fe80::9', ROUTER_A6_LL)):
            ping = (self.frame(1, ROUTER_A6) / IPv6(src=source, dst=target) /
                    ICMPv6EchoRequest(id=3, data=b'ping'))
            got = self.assert_reaches(1, ping, 1)
            self.assertEqual((got.src, got.dst, got[IPv6].src, got[IPv6].dst,
                              got[IPv6].hlim),
                             (ROUTER_A6, mac(1), target, source, 64))
            checked = got.copy()
            del checked[ICMPv6EchoReply].cksum
            self.assertEqual(bytes(Ether(bytes(checked))), bytes(got))

    def test_large_ping_to_router(self):
        pieces = fragment(self.frame(1, ROUTER_A) /
                          IP(src=self.ip(1), dst='10.0.0.1') / ICMP() /
                          (b'x' * 3000), fragsize=1400)
        found = self.exchange(1, pieces, expected=len(pieces))
        self.assertEqual(sum(len(p[IP].payload) for p in found[1]), 3008)
        self.assertEqual({(p[IP].src, p.src) for p in found[1]},
                         {('10.0.0.1', ROUTER_A)})
        whole = b''.join(bytes(p[IP].payload) for p in sorted(
            found[1], key=lambda p: p[IP].frag))
        checked = ICMP(whole)
        self.assertEqual(checked.type, 0)
        del checked.chksum
        self.assertEqual(bytes(checked), whole)

    def test_large_ping6_to_router(self):
        pieces = fragment6(
            self.frame(1, ROUTER_A6) /
            IPv6(src=self.ip6(1), dst='fd00:a::1') / IPv6ExtHdrFragment(id=4) /
            ICMPv6EchoRequest(data=b'x' * 3000), 1400)
        found = self.exchange(1, pieces, expected=len(pieces))
        whole = b''.join(bytes(p[IPv6ExtHdrFragment].payload) for p in sorted(
            found[1], key=lambda p: p[IPv6ExtHdrFragment].offset))
        got = found[1][0]
        checked = (IPv6(src=got[IPv6].src, dst=got[IPv6].dst) /
                   ICMPv6EchoReply(whole))
        del checked[ICMPv6EchoReply].cksum
        self.assertEqual(bytes(checked)[40:], whole)

    def test_large_ping6(self):
        pieces = fragment6(
            self.frame(1, mac(3)) / IPv6(src=self.ip6(1), dst=self.ip6(3)) /
            IPv6ExtHdrFragment(id=4) /
            ICMPv6EchoRequest(data=b'x' * 3000), 1400)
        found = self.exchange(1, pieces, expected=len(pieces))
        self.assertEqual(list(found), [3])

    def test_icmp_errors(self):
        def routed(dst, ttl=9, payload=UDP() / b'x'):
            return (self.frame(1, ROUTER_A) /
                    IP(src=self.ip(1), dst=dst, ttl=ttl) / payload)

        self.assert_packet_in(1, routed(self.ip(4), ttl=1), TTL)
        self.assert_packet_in(1, routed(self.ip(4), ttl=0), TTL)
        self.assert_packet_in(1, routed('10.9.9.9'), UNREACHABLE)
        self.assert_packet_in(1, routed('10.0.1.200'), UNREACHABLE)
        self.assert_packet_in(1, routed('10.0.0.1', ttl=1), ROUTER)
        self.assert_packet_in(1, routed('10.0.0.1', payload=TCP()), ROUTER)
        # Never about an error, a multicast or a later fragment (N19).
        error = ICMP(type=3, code=1) / IPerror() / UDP()
        for dst, ttl in ((self.ip(4), 1), ('10.9.9.9', 9), ('10.0.0.1', 9)):
            self.assert_packet_in(1, routed(dst, ttl, error))
        self.assert_packet_in(1, routed('224.0.0.9', ttl=1))
        later = routed('10.9.9.9')
        later[IP].frag = 100
        self.assert_packet_in(1, later)
        for never in '169.254.1.1', '127.0.0.1', '0.0.0.1':
            self.assert_packet_in(1, routed(never))

    def test_icmp6_errors(self):
        def routed(dst, hlim=9, src=self.ip6(1)):
            return (self.frame(1, ROUTER_A6) /
                    IPv6(src=src, dst=dst, hlim=hlim) / UDP() / b'x')

        self.assert_packet_in(1, routed('fd00:b::1', 1), TTL)
        self.assert_packet_in(1, routed('fd00:b::1'), UNREACHABLE)
        self.assert_packet_in(1, routed('fe80::99'))
        self.assert_packet_in(1, routed('fd00:b::1', src='fe80::99'))

    def test_too_big(self):
        """N23: network b takes 1300 bytes, a 1442."""
        def sized(size):
            packet = self.udp(1, 5, to=ROUTER_A)
            packet[UDP].payload = Raw(b'x' * (size - 28))
            return packet

        self.assert_reaches(1, sized(1300), 5)
        self.assert_packet_in(1, sized(1301), TOO_BIG)

    def test_the_controller_sees_what_was_sent(self):
        monitor = net_switch.Monitor(self.hosts['h1'])
        packet = self.udp(1, 4, to=ROUTER_A)
        packet[IP].dst = '10.0.1.200'
        self.exchange(1, packet)
        monitor.sync(1)
        self.assertEqual([p[2] for p in monitor.packets], [bytes(packet)])
        monitor.close()

    # ---- Flood (N18) ----

    def test_no_flood(self):
        self.assert_nowhere(1, self.frame(1, BROADCAST) /
                            IP(src=self.ip(1), dst='10.0.0.255') / UDP())

    def test_flood(self):
        self.install('rule none group=g2 dir=in tag=5\ngroup g2 tag=6\n')
        packet = (self.frame(6, BROADCAST) /
                  IP(src=self.ip(6), dst='10.0.0.255') / UDP() / b'x')
        found = self.exchange(6, packet, expected=2)
        self.assertEqual({n: [bytes(p) for p in got]
                          for n, got in found.items()},
                         {7: [bytes(packet)], 8: [bytes(packet)]})
        back = packet.copy()
        back.src, back[IP].src = mac(8), self.ip(8)
        self.assertEqual(sorted(self.exchange(8, back, expected=2)), [6, 7])

    def test_flood_out_rules(self):
        """Rules of direction out apply to floods, here and to other hosts."""
        packet = (self.frame(6, BROADCAST) /
                  IP(src=self.ip(6), dst='10.0.0.255') / UDP(dport=9) / b'x')
        for rule, expected in (('cidr=192.0.2.0/24', 0),
                               ('proto=6', 0), ('peer=g', 0),
                               ('proto=17 ports=9-9', 2),
                               ('proto=17 ports=10-10', 0),
                               ('cidr=10.0.0.255/32', 2)):
            self.install('group m tag=20\nidentity mute number=9 groups=g,m\n'
                         f'rule o group=m dir=out tag=21 {rule}\n' +
                         port_lines(6, 'c', 'h1', identity='mute'))
            with self.subTest(rule=rule):
                if expected == 0:
                    self.assert_nowhere(6, packet)
                else:
                    self.assertEqual(sorted(self.exchange(
                        6, packet, expected=expected)), [7, 8])

    # ---- Security groups, end to end ----

    def test_denied(self):
        self.install(port_lines(2, 'a', 'h1', identity='shut') +
                     port_lines(3, 'a', 'h2', identity='shut'))
        self.assert_nowhere(1, self.udp(1, 2))
        self.assert_nowhere(1, self.udp(1, 3))
        # What they begin is answered.
        self.assert_reaches(3, self.udp(3, 1), 1)
        answer = (self.frame(1, mac(3)) / IP(src=self.ip(1), dst=self.ip(3)) /
                  UDP(sport=2001, dport=1003) / b'x')
        self.assert_reaches(1, answer, 3)


if __name__ == '__main__':
    unittest.main()
