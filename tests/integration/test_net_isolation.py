#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Two tenants with the same addresses on the same hosts: whatever one sends, the
other sees no packet of it, and nobody else is taken in by it (N21).  Security
groups: what they allow and deny, also on connections that are under way.  A
guest that sends garbage harms nobody."""

import os
import pathlib
import random
import socket
import subprocess
import sys
import threading
import time
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP), str(TOP / 'tests/support')]
# pylint: disable=wrong-import-position
import weft_net  # noqa: E402
import weft_testbed  # noqa: E402
from tests.oracle import wire  # noqa: E402
from scapy.contrib.geneve import GENEVE  # noqa: E402
from scapy.contrib.mpls import MPLS  # noqa: E402
from scapy.layers.dhcp import BOOTP, DHCP  # noqa: E402
from scapy.layers.dhcp6 import DHCP6_Advertise  # noqa: E402
from scapy.layers.inet import (  # noqa: E402
    IP, UDP, IPOption_LSRR, fragment)
from scapy.layers.inet6 import (  # noqa: E402
    ICMPv6MLReport, ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6ND_RA, ICMPv6ND_Redirect,
    ICMPv6NDOptDstLLAddr, ICMPv6NDOptSrcLLAddr, IPv6, IPv6ExtHdrFragment)
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether  # noqa: E402
from scapy.packet import Raw, fuzz  # noqa: E402

TESTBED = weft_testbed.Testbed(hosts=2, block=False, net=True)
NET = weft_net.Net(TESTBED)
PROJECTS = ('red', 'blue')
PORTS = {}       # (project, name): the port, with 'netns'
ROUTER = {}      # project: {4: MAC of its router, 6: ...}
VNI = {}
FOREIGN = '02:66:6f:72:65:69'
ALL = 'ff:ff:ff:ff:ff:ff'


def meet():
    """So that no first packet is lost to the tunnels' own ARP."""
    for host, other in ('h1', 2), ('h2', 1):
        TESTBED.exec(host, 'arping', '-I', 'br-phy', '-c', '1', '-w', '5',
                     f'10.78.0.{other}')


def weft(project, *arguments, **options):
    return NET.weft(*arguments, '--project', project, **options)


def make_tenant(project):
    """A network of both families with a router, and a silent VM a host."""
    weft(project, 'network', 'create', 'n')
    weft(project, 'router', 'create', 'r')
    for name, cidr in ('n4', '10.0.0.0/24'), ('n6', 'fd00::/64'):
        weft(project, 'subnet', 'create', name, '--network', 'n', '--cidr',
             cidr)
        weft(project, 'router', 'attach', 'r', '--subnet', name)
    weft(project, 'security-group', 'create', 'open')
    weft(project, 'security-rule', 'create', '--group', 'open', '--direction',
         'in', '--proto', 'any')
    for name, host in ('a', 'h1'), ('b', 'h2'):
        netns = f'{TESTBED.tag}-iso-{project}-{name}'
        subprocess.run(['ip', 'netns', 'add', netns], check=True)
        subprocess.run(['ip', 'netns', 'exec', netns, 'sysctl', '-qw',
                        'net.ipv6.conf.default.disable_ipv6=1',
                        'net.ipv6.conf.all.disable_ipv6=1'], check=True)
        weft(project, 'port', 'create', name, '--network', 'n', '--group',
             'open')
        weft(project, 'port', 'plug', name, '--host', host, '--netns', netns,
             '--wait')
        port = NET.json('port', 'show', name, '--project', project)
        PORTS[project, name] = dict(port, netns=netns)


def setUpModule():
    TESTBED.up()
    try:
        for project in PROJECTS:
            make_tenant(project)
        networks = {row['_uuid'][1]: row for row in NET.rows('Network')}
        subnets = {row['_uuid'][1]: row for row in NET.rows('Subnet')}
        for row in NET.rows('Router_Port'):
            network = networks[row['network'][1]]
            subnet = subnets[row['subnet'][1]]
            ROUTER.setdefault(network['project'], {})[
                6 if ':' in subnet['cidr'] else 4] = row['mac']
            VNI[network['project']] = network['vni']
        meet()
    except BaseException:
        tearDownModule()
        raise


def tearDownModule():
    for port in PORTS.values():
        subprocess.run(['ip', 'netns', 'delete', port['netns']], check=False)
    for vm in NET.vms.values():
        subprocess.run(['ip', 'netns', 'delete', vm.netns], check=False)
    TESTBED.down()


def v4(port):
    return next(ip for ip in port['addresses'] if '.' in ip)


def v6(port):
    return next(ip for ip in port['addresses'] if ':' in ip)


def link_local(mac):
    b = [int(x, 16) for x in mac.split(':')]
    return socket.inet_ntop(socket.AF_INET6, bytes(
        [0xfe, 0x80, *[0] * 6, b[0] ^ 2, b[1], b[2], 0xff, 0xfe, *b[3:]]))


def honest(me, peer, tag):
    """What must arrive: so that silence means something."""
    eth = Ether(src=me['mac'], dst=peer['mac'])
    yield 'IPv4', eth / IP(src=v4(me), dst=v4(peer)) / UDP(
        sport=1000, dport=2000) / Raw(tag())
    yield 'IPv6', eth / IPv6(src=v6(me), dst=v6(peer)) / UDP(
        sport=1000, dport=2000) / Raw(tag())


def spoofed(me, peer, other, routers, vni, tag):
    """(what, frame) of all that nobody may receive.  'other' is a port of the
    other tenant, 'vni' its network's."""
    # pylint: disable=too-many-locals
    mine, router = me['mac'], routers[4]
    gateway = link_local(routers[6])
    udp = UDP(sport=68, dport=2000)
    for to_what, dst in (('peer', peer['mac']), ('other', other['mac']),
                         ('router', router), ('router 6', routers[6]),
                         ('all', ALL)):
        eth = Ether(src=mine, dst=dst)
        for where in v4(peer), v4(other), '255.255.255.255':
            yield f'foreign MAC, {to_what}', Ether(src=FOREIGN, dst=dst) / \
                IP(src=v4(me), dst=where) / udp / Raw(tag())
            for src in '10.0.0.99', '10.0.0.1', '10.78.0.1', '127.0.0.1':
                yield f'foreign IP {src}, {to_what}', eth / \
                    IP(src=src, dst=where) / udp / Raw(tag())
        for src in gateway, 'fd00::99', 'fd00::1', '::1', 'ff02::1':
            yield f'foreign IPv6 {src}, {to_what}', eth / \
                IPv6(src=src, dst=v6(peer)) / udp / Raw(tag())
        for sha, spa in (FOREIGN, v4(me)), (mine, '10.0.0.1'), \
                (router, '10.0.0.1'), (mine, '10.0.0.99'):
            for op in 1, 2:
                yield f'ARP {op} {sha} {spa}, {to_what}', eth / ARP(
                    op=op, hwsrc=sha, psrc=spa, hwdst=dst,
                    pdst='10.0.0.77') / Raw(tag())
        ip6 = eth / IPv6(src=link_local(mine), dst='ff02::1', hlim=255)
        yield f'RA, {to_what}', ip6 / ICMPv6ND_RA() / \
            ICMPv6NDOptSrcLLAddr(lladdr=mine) / Raw(tag())
        yield f'redirect, {to_what}', ip6 / ICMPv6ND_Redirect(
            tgt='fd00::1', dst=v6(peer)) / Raw(tag())
        yield f'NA of another, {to_what}', ip6 / ICMPv6ND_NA(
            tgt='fd00::1', R=1, O=1) / ICMPv6NDOptDstLLAddr(lladdr=mine) / \
            Raw(tag())
        yield f'NA with a foreign MAC, {to_what}', ip6 / ICMPv6ND_NA(
            tgt=v6(me), O=1) / ICMPv6NDOptDstLLAddr(lladdr=FOREIGN) / \
            Raw(tag())
        yield f'NS with a foreign MAC, {to_what}', ip6 / ICMPv6ND_NS(
            tgt='fd00::1') / ICMPv6NDOptSrcLLAddr(lladdr=FOREIGN) / Raw(tag())
        yield f'RA in a fragment, {to_what}', ip6 / IPv6ExtHdrFragment(
            nh=58, m=1) / Raw(bytes(ICMPv6ND_RA()) + tag())
        yield f'MLD, {to_what}', ip6 / ICMPv6MLReport() / Raw(tag())
        yield f'DHCP server, {to_what}', eth / IP(
            src=v4(me), dst='255.255.255.255') / UDP(sport=67, dport=68) / \
            BOOTP(op=2, yiaddr='10.0.0.66') / DHCP(
                options=[('message-type', 'offer'), 'end']) / Raw(tag())
        yield f'DHCPv6 server, {to_what}', eth / IPv6(
            src=link_local(mine), dst=v6(peer)) / UDP(
                sport=547, dport=546) / DHCP6_Advertise() / Raw(tag())
        inner = IP(src=v4(me), dst=v4(peer)) / udp
        yield f'VLAN, {to_what}', eth / Dot1Q(vlan=vni % 4094 + 1) / inner / \
            Raw(tag())
        yield f'QinQ, {to_what}', eth / Dot1AD(vlan=1) / Dot1Q(vlan=2) / \
            inner / Raw(tag())
        yield f'MPLS, {to_what}', Ether(src=mine, dst=dst, type=0x8847) / \
            MPLS(label=vni % (1 << 20), ttl=9) / inner / Raw(tag())
        for ethertype in 0x88cc, 0x8863, 0x9000, 0x88f7, 0x0100:
            yield f'ethertype {ethertype:x}, {to_what}', Ether(
                src=mine, dst=dst, type=ethertype) / Raw(tag() * 4)
        for part in fragment(IP(src='10.0.0.99', dst=v4(peer), id=7) / udp /
                             Raw(tag() * 40), 320):
            yield f'foreign fragments, {to_what}', eth / part
    for last in 0, 3, 14:
        yield 'bridge group', Ether(
            src=mine, dst=f'01:80:c2:00:00:{last:02x}', type=0x8809) / \
            Raw(tag() * 4)
    # Our own tunnel, made by a guest: neither by its router nor straight.
    for where in '10.78.0.1', '10.78.0.2':
        for dst in *routers.values(), other['mac'], ALL:
            yield 'Geneve', Ether(src=mine, dst=dst) / IP(
                src=v4(me), dst=where) / UDP(sport=9, dport=6081) / GENEVE(
                    vni=vni, proto=0x6558) / Ether(
                        src=router, dst=other['mac']) / IP(
                            src='10.0.0.99', dst=v4(other)) / udp / Raw(tag())


class Isolation(unittest.TestCase):
    def setUp(self):
        self.wire = wire.Wire({key: (port['netns'], 'eth0')
                               for key, port in PORTS.items()})
        self.addCleanup(self.wire.close)
        self.what = {}

    def tag(self, what):
        value = b'WFT' + os.urandom(13)
        self.what[value] = what
        return value

    def send(self, key, frames):
        """Sends what a generator makes; {tag: (frame's name, [Seen])}"""
        self.what = {}
        count = 0
        for name, frame in frames(lambda: self.tag(None)):
            new = [t for t, n in self.what.items() if n is None]
            for tag in new:
                self.what[tag] = name
            self.wire.send(key, bytes(frame)[:1500])
            count += 1
            if count % 64 == 0:
                time.sleep(0.02)    # So that no queue is what drops them.
        return self.what

    def seen(self, wanted, seconds):
        found = self.wire.collect(self.what, wanted, seconds)
        return [(self.what[tag], one) for tag, all_of in found.items()
                for one in all_of]

    def test_spoofed(self):
        total = 0
        for (project, name), me in PORTS.items():
            other_project = PROJECTS[project == 'red']
            peer = PORTS[project, 'b' if name == 'a' else 'a']
            with self.subTest(sender=f'{project} {name}'):
                self.send((project, name),
                          lambda tag, me=me, peer=peer: honest(me, peer, tag))
                seen = self.seen(2, 5 * weft_testbed.SCALE)
                self.assertEqual(
                    sorted((what, one.port) for what, one in seen),
                    [(ip, (project, 'b' if name == 'a' else 'a'))
                     for ip in ('IPv4', 'IPv6')])
                for other_name in 'a', 'b':
                    other = PORTS[other_project, other_name]
                    self.send((project, name), lambda tag, me=me, peer=peer,
                              other=other: spoofed(
                                  me, peer, other, ROUTER[project],
                                  VNI[other_project], tag))
                    total += len(self.what)
                    leaked = [
                        (what, one) for what, one in
                        self.seen(0, 1)
                        if one.port != (project, name)]
                    self.assertEqual(leaked, [])
        print(f'# {total} spoofed packets from {len(PORTS)} ports: none seen '
              'by anybody', flush=True)

    def test_other_tenant_hears_nothing(self):
        """Source routes and fragments that a tenant may send at home."""
        for (project, name), me in PORTS.items():
            peer = PORTS[project, 'b' if name == 'a' else 'a']
            other = PORTS[PROJECTS[project == 'red'], 'b']

            def frames(tag, me=me, peer=peer, other=other):
                for dst in peer['mac'], other['mac'], ROUTER[project][4]:
                    eth = Ether(src=me['mac'], dst=dst)
                    yield 'source route', eth / IP(
                        src=v4(me), dst=v4(peer), options=IPOption_LSRR(
                            routers=[v4(other), '10.78.0.2'])) / UDP(
                                sport=1, dport=2) / Raw(tag())
                    for part in fragment(IP(src=v4(me), dst=v4(other), id=3) /
                                         UDP(sport=1, dport=2) /
                                         Raw(tag() * 60), 480):
                        yield 'fragment', eth / part
            self.send((project, name), frames)
            for what, one in self.seen(0, 1):
                self.assertEqual(one.port[0], project, (what, one))

    def test_garbage(self):
        """Random DHCP, ARP, ND: netd answers others as before."""
        pid = TESTBED.pid('h1', 'netd')
        me = PORTS['red', 'a']
        eth = Ether(src=me['mac'], dst=ALL)
        kinds = [
            lambda: eth / IP(src='0.0.0.0', dst='255.255.255.255') / UDP(
                sport=68, dport=67) / fuzz(BOOTP()) / fuzz(DHCP()),
            lambda: eth / IP(src='0.0.0.0', dst='255.255.255.255') / UDP(
                sport=68, dport=67) / Raw(os.urandom(random.randint(0, 600))),
            lambda: eth / ARP(op=random.randint(0, 9), hwsrc=me['mac'],
                              psrc=v4(me), pdst='10.0.0.1',
                              hwlen=random.choice([6, 0, 255])),
            lambda: eth / IPv6(src=link_local(me['mac']), dst='ff02::1:2') /
            UDP(sport=546, dport=547) / Raw(os.urandom(
                random.randint(0, 400))),
            lambda: eth / IPv6(src=link_local(me['mac']), dst='ff02::2',
                               hlim=255) /
            Raw(bytes([133, 0, 0, 0]) + os.urandom(random.randint(0, 60))),
            lambda: eth / IPv6(src=v6(me), dst='ff02::1:ff00:1', hlim=255) /
            ICMPv6ND_NS(tgt=v6(me)) / Raw(os.urandom(
                random.randint(0, 40))),
        ]
        for i in range(600):
            frame = bytes(random.choice(kinds)())[:1400]
            if i % 5 == 0:
                frame = frame[:random.randint(14, len(frame))]
            self.wire.send(('red', 'a'), frame)
            time.sleep(0.002)
        self.assertEqual(TESTBED.pid('h1', 'netd'), pid)
        self.assertTrue(TESTBED.is_running('h1', 'netd'))
        # Another port of the host is served as ever.
        blue = PORTS['blue', 'a']
        peer = PORTS['blue', 'b']
        self.send(('blue', 'a'), lambda tag: honest(blue, peer, tag))
        self.assertEqual(len(self.seen(2, 5 * weft_testbed.SCALE)), 2)
        vm = NET.vm('late', 'h1', NET.network('n9', '10.9.0.0/24'))
        self.assertIn(f'ip={vm.ip}\n', vm.dhcp())


class Groups(unittest.TestCase):
    """A client on h1, a server in the group 'web' on h2."""

    @classmethod
    def setUpClass(cls):
        NET.network('s', '10.5.0.0/24')
        NET.weft('security-group', 'create', 'web')
        cls.client = NET.vm('client', 'h1', 's')
        cls.server = NET.vm('server', 'h2', 's', '--group', 'web')
        for vm in cls.client, cls.server:
            vm.configure()
        cls.allow('icmp')
        cls.client.wait_ping(cls.server.ip)

    @staticmethod
    def allow(proto, ports=None):
        """Returns the rule's name."""
        return NET.weft(
            'security-rule', 'create', '--group', 'web', '--direction', 'in',
            '--proto', proto, *(['--ports', ports] if ports else []), '--from', '10.5.0.0/24',
            '--wait').strip()

    @staticmethod
    def deny(rule):
        NET.weft('security-rule', 'delete', rule, '--wait')

    def socket(self, vm, kind, port=0):
        with wire.inside(vm.netns):
            one = socket.socket(socket.AF_INET, kind)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.addCleanup(one.close)
        one.settimeout(5 * weft_testbed.SCALE)
        if port:
            one.bind(('0.0.0.0', port))
        return one

    def test_tcp(self):
        rule = self.allow('tcp', '80')
        listeners = {}
        for port in 80, 81:
            listeners[port] = self.socket(self.server, socket.SOCK_STREAM,
                                          port)
            listeners[port].listen()
        refused = self.socket(self.client, socket.SOCK_STREAM)
        refused.settimeout(1.5)
        with self.assertRaises(TimeoutError):
            refused.connect((self.server.ip, 81))
        one = self.socket(self.client, socket.SOCK_STREAM)
        one.connect((self.server.ip, 80))
        other, _ = listeners[80].accept()
        self.addCleanup(other.close)
        other.settimeout(5 * weft_testbed.SCALE)
        one.sendall(b'1')
        self.assertEqual(other.recv(1), b'1')
        # Once more in the other direction of an established connection, and
        # then not any more: neither way.
        other.sendall(b'2')
        self.assertEqual(one.recv(1), b'2')
        self.deny(rule)
        one.sendall(b'3')
        other.settimeout(1)
        with self.assertRaises(TimeoutError):
            other.recv(1)
        other.sendall(b'4')
        one.settimeout(1)
        with self.assertRaises(TimeoutError):
            one.recv(1)
        # Allowed again: it goes on (N6), by TCP's own repetitions.
        rule = self.allow('tcp', '80')
        for end in one, other:
            end.settimeout(30 * weft_testbed.SCALE)
        self.assertEqual(other.recv(1), b'3')
        self.assertEqual(one.recv(1), b'4')
        self.deny(rule)

    def stream(self, seconds_after, change):
        """Datagrams every millisecond meanwhile; (when change() began and
        ended, [when each that arrived was sent])."""
        receiver = self.socket(self.server, socket.SOCK_DGRAM, 90)
        sender = self.socket(self.client, socket.SOCK_DGRAM)
        stop, arrived = threading.Event(), []

        def send():
            while not stop.wait(0.001):
                sender.sendto(b'%d' % time.monotonic_ns(),
                              (self.server.ip, 90))

        def receive():
            while not stop.is_set():
                try:
                    arrived.append(int(receiver.recv(64)) / 1e9)
                except TimeoutError:
                    pass
        receiver.settimeout(0.05)
        threads = [threading.Thread(target=f) for f in (send, receive)]
        for thread in threads:
            thread.start()
        try:
            time.sleep(0.2)
            begin = time.monotonic()
            change()
            end = time.monotonic()
            time.sleep(seconds_after)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        return begin, end, arrived

    def test_change_is_effective(self):
        made = []
        begin, end, arrived = self.stream(
            0.5, lambda: made.append(self.allow('udp', '90')))
        self.assertTrue([t for t in arrived if t > end])
        self.assertFalse([t for t in arrived if t < begin])
        allowed_ms = (min(arrived) - begin) * 1000
        allow_ms = (end - begin) * 1000
        begin, end, arrived = self.stream(0.5, lambda: self.deny(made[0]))
        self.assertTrue([t for t in arrived if t < begin])
        self.assertFalse([t for t in arrived if t > end],
                         'passed after --wait had returned')
        print(f'# UDP stream: allowed {allowed_ms:.0f} ms after the command '
              f'began (--wait returned after {allow_ms:.0f} ms), revoked '
              f'{(max(arrived) - begin) * 1000:.0f} ms after (--wait returned '
              f'after {(end - begin) * 1000:.0f} ms)', flush=True)

    def test_fragments(self):
        rule = self.allow('udp', '91')
        allowed = self.socket(self.server, socket.SOCK_DGRAM, 91)
        denied = self.socket(self.server, socket.SOCK_DGRAM, 92)
        sender = self.socket(self.client, socket.SOCK_DGRAM)
        text = os.urandom(4000)
        sender.sendto(text, (self.server.ip, 91))
        self.assertEqual(allowed.recv(5000), text)
        sender.sendto(text, (self.server.ip, 92))
        denied.settimeout(1)
        with self.assertRaises(TimeoutError):
            denied.recv(5000)
        self.deny(rule)

    def test_icmp_error(self):
        """An error about an allowed connection comes back, although the client
        lets nothing in."""
        rule = self.allow('udp', '93')
        sender = self.socket(self.client, socket.SOCK_DGRAM)
        sender.connect((self.server.ip, 93))
        sender.send(b'anybody?')
        with self.assertRaises(ConnectionRefusedError):
            sender.recv(10)
        self.deny(rule)

    def test_by_group(self):
        """Only members of the group get through, and a new member does."""
        NET.weft('security-group', 'create', 'friends')
        NET.weft('security-rule', 'create', '--group', 'web', '--direction',
                 'in', '--proto', 'udp', '--ports', '94', '--from-group',
                 'friends', '--wait')
        receiver = self.socket(self.server, socket.SOCK_DGRAM, 94)
        sender = self.socket(self.client, socket.SOCK_DGRAM)
        receiver.settimeout(1)
        sender.sendto(b'stranger', (self.server.ip, 94))
        with self.assertRaises(TimeoutError):
            receiver.recv(100)
        NET.weft('port', 'set-groups', 'client', '--group', 'friends',
                 '--wait')
        receiver.settimeout(5 * weft_testbed.SCALE)
        sender.sendto(b'friend', (self.server.ip, 94))
        self.assertEqual(receiver.recv(100), b'friend')
        NET.weft('port', 'set-groups', 'client', '--wait')
        sender.sendto(b'stranger', (self.server.ip, 94))
        receiver.settimeout(1)
        with self.assertRaises(TimeoutError):
            receiver.recv(100)

    def test_to_group(self):
        """A rule towards a group cuts off nobody who is in another one, of
        which this host knows nothing else (N4)."""
        for group in 'sender', 'alone', 'target':
            NET.weft('security-group', 'create', group)
        for arguments in (
                ('sender', 'out', 'udp', '96', '--to-group', 'target'),
                ('sender', 'out', 'udp', '95', '--to', '10.5.0.0/24'),
                ('alone', 'in', 'udp', '95-96', '--from', '10.5.0.0/24')):
            group, direction, proto, ports, *rest = arguments
            NET.weft('security-rule', 'create', '--group', group,
                     '--direction', direction, '--proto', proto, '--ports',
                     ports, *rest, '--wait')
        vm = NET.vm('alone', 'h2', 's', '--group', 'alone')
        vm.configure()
        NET.weft('port', 'set-groups', 'client', '--group', 'sender',
                 '--wait')
        self.addCleanup(NET.weft, 'port', 'set-groups', 'client', '--wait')
        sender = self.socket(self.client, socket.SOCK_DGRAM)
        for port, wanted in (95, True), (96, False):
            receiver = self.socket(vm, socket.SOCK_DGRAM, port)
            sender.sendto(b'by address', (vm.ip, port))
            if wanted:
                self.assertEqual(receiver.recv(100), b'by address')
                continue
            receiver.settimeout(1)
            with self.assertRaises(TimeoutError):
                receiver.recv(100)
        # A member of the group, from now on.
        NET.weft('port', 'set-groups', 'alone', '--group', 'alone', '--group',
                 'target', '--wait')
        receiver.settimeout(5 * weft_testbed.SCALE)
        sender.sendto(b'by group', (vm.ip, 96))
        self.assertEqual(receiver.recv(100), b'by group')


if __name__ == '__main__':
    weft_testbed.main()
