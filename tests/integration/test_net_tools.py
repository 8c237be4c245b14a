#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What guests' own programs see, on four hosts: DHCP clients of both families,
router advertisements, ping, arping, traceroute, nc and iperf3 within a network
and across two, of different MTU, that a router joins."""

import os
import pathlib
import re
import signal
import socket
import sys
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP), str(TOP / 'tests/support')]
# pylint: disable=wrong-import-position
import weft_net  # noqa: E402
import weft_testbed  # noqa: E402
from weft_testbed import wait_for  # noqa: E402
from tests.oracle import wire  # noqa: E402

TESTBED = weft_testbed.Testbed(hosts=4, block=False, net=True)
NET = weft_net.Net(TESTBED)
VMS = {}
SMALL = 1400     # MTU of 'blue'
# Project, name of the network: its ranges.
NETWORKS = {'red': ('10.0.1.0/24', 'fd00:1::/64'),
            'blue': ('10.0.2.0/24', 'fd00:2::/64')}


def setUpModule():
    TESTBED.up()
    try:
        NET.weft('router', 'create', 'r')
        for name, cidrs in NETWORKS.items():
            NET.weft('network', 'create', name,
                     *['--mtu', SMALL] * (name == 'blue'))
            for version, cidr in zip((4, 6), cidrs):
                dns = '10.9.9.9' if version == 4 else 'fd09::9'
                NET.weft('subnet', 'create', f'{name}{version}', '--network',
                         name, '--cidr', cidr, '--dns', dns)
                NET.weft('router', 'attach', 'r', '--subnet',
                         f'{name}{version}')
        NET.open_group('open')
        for index, name in enumerate('abcd'):
            VMS[name] = NET.vm(
                name, f'h{index + 1}', 'red' if name in 'ab' else 'blue',
                '--group', 'open', '--hostname', f'guest-{name}')
            configure(VMS[name])
    except BaseException:
        tearDownModule()
        raise


def tearDownModule():
    for vm in NET.vms.values():
        TESTBED.exec(None, 'ip', 'netns', 'delete', vm.netns, check=False)
    TESTBED.down()


def gateway(vm, version):
    """Of its own network."""
    cidr = NETWORKS['red' if vm.name in 'ab' else 'blue'][version == 6]
    return cidr.rpartition('0/' if version == 4 else '/')[0] + '1'


def configure(vm):
    """Addresses and routes by hand.  The address that dhclient left is of a
    network of its own: replaced, it would stay so."""
    vm.exec('ip', '-6', 'address', 'flush', 'dev', 'eth0', 'scope', 'global')
    vm.configure()
    vm.exec('ip', 'route', 'replace', 'default', 'via', gateway(vm, 4))
    vm.exec('ip', '-6', 'route', 'replace', 'default', 'via', gateway(vm, 6),
            'dev', 'eth0', 'metric', '1')


class Leases(unittest.TestCase):
    def setUp(self):
        self.vm = VMS['c']
        self.log = TESTBED.file('lease.log')
        self.log.unlink(missing_ok=True)
        self.script = TESTBED.file('lease-script')
        self.script.write_text(weft_net.SCRIPT)
        self.script.chmod(0o755)
        self.addCleanup(configure, self.vm)

    def wait_said(self, word, client):
        def is_said():
            self.assertTrue(client.is_running(), client.errors())
            return self.log.exists() and re.search(
                rf'^{word}$', self.log.read_text(), re.M)
        wait_for(word, is_said)
        return self.log.read_text()

    def dhclient(self, *options):
        client = self.vm.start(
            'dhclient', *options, '-d', '-sf', self.script, '-lf',
            TESTBED.file(f'{self.id()}.leases'), '-pf',
            TESTBED.file(f'{self.id()}.pid'), '-cf', '/dev/null', '-e',
            f'WEFT_DHCP_LOG={self.log}', 'eth0')
        self.addCleanup(client.close)
        return client

    def test_udhcpc(self):
        """All that a guest is told, and again when it asks for more time."""
        client = self.vm.start(
            'env', f'WEFT_DHCP_LOG={self.log}', 'udhcpc', '-i', 'eth0', '-f',
            '-t', '5', '-T', '1', '-O', 'mtu', '-O', 'hostname', '-s',
            self.script)
        self.addCleanup(client.close)
        said = self.wait_said('bound', client)
        for wanted in (f'ip={self.vm.ip}', 'mask=24', 'router=10.0.2.1',
                       'dns=10.9.9.9', 'hostname=guest-c', f'mtu={SMALL}'):
            self.assertIn(wanted + '\n', said)
        self.assertRegex(said, r'(?m)^lease=[1-9]\d+$')
        # The client's own address is there now: this one is unicast.
        client.child.send_signal(signal.SIGUSR1)
        said = self.wait_said('renew', client)
        self.assertIn(f'ip={self.vm.ip}\n', said.partition('\nbound\n')[2])
        VMS['a'].wait_ping(self.vm.ip)

    def test_dhclient(self):
        said = self.wait_said('BOUND', self.dhclient())
        for wanted in (f'ip_address={self.vm.ip}', 'routers=10.0.2.1',
                       'subnet_mask=255.255.255.0', 'host_name=guest-c',
                       'domain_name_servers=10.9.9.9'):
            self.assertIn(f'new_{wanted}\n', said)

    def test_dhclient6(self):
        self.vm.exec('ip', 'address', 'delete', f'{self.vm.ip6}/64', 'dev',
                     'eth0')
        # It binds to the link-local address.
        wait_for('DAD to be over', lambda: 'tentative' not in self.vm.exec(
            'ip', '-6', 'address').stdout)
        said = self.wait_said('BOUND6', self.dhclient('-6'))
        self.assertIn(f'new_ip6_address={self.vm.ip6}\n', said)
        self.assertIn('new_dhcp6_name_servers=fd09::9\n', said)
        VMS['a'].wait_ping(self.vm.ip6)

    def test_router_advertisement(self):
        """The kernel's own client: a default route, and the MTU."""
        self.vm.exec('ip', '-6', 'route', 'delete', 'default')
        self.vm.exec('sysctl', '-qw', 'net.ipv6.conf.eth0.accept_ra=2')
        for state in 'down', 'up':
            self.vm.exec('ip', 'link', 'set', 'eth0', state)
        route = wait_for('a default route', lambda: self.vm.exec(
            'ip', '-6', 'route', 'show', 'default').stdout)
        self.assertRegex(route, r'via fe80::\S+ dev eth0 proto ra')
        self.assertEqual(self.vm.exec(
            'cat', '/proc/sys/net/ipv6/conf/eth0/mtu').stdout, f'{SMALL}\n')
        # Addresses are the ports' own, never autoconfigured (N21).
        self.assertNotIn('scope global dynamic', self.vm.exec(
            'ip', '-6', 'address').stdout)
        configure(self.vm)
        self.vm.exec('ip', '-6', 'route', 'delete', 'default', 'metric', '1')
        VMS['a'].wait_ping(self.vm.ip6)


class Tools(unittest.TestCase):
    def test_ping_everybody(self):
        for one in VMS.values():
            for other in VMS.values():
                if one is not other:
                    one.wait_ping(other.ip)
                    one.wait_ping(other.ip6)

    def test_routers_answer(self):
        """All of its addresses, wherever it is asked; and far more than a
        packet holds (its own link-local address, too)."""
        for vm in VMS['a'], VMS['d']:
            for address in ('10.0.1.1', '10.0.2.1', 'fd00:1::1',
                            'fd00:2::1'):
                self.assertTrue(vm.ping(address))
        mac = re.search(r'lladdr (\S+)', VMS['a'].exec(
            'ip', 'neighbour', 'show', 'fd00:1::1').stdout).group(1)
        b = [int(x, 16) for x in mac.split(':')]
        self.assertTrue(VMS['a'].ping(
            f'fe80::{b[0] ^ 2:02x}{b[1]:02x}:{b[2]:02x}ff:fe{b[3]:02x}:'
            f'{b[4]:02x}{b[5]:02x}%eth0'))

    def test_large_pings(self):
        """In fragments, within and across networks."""
        for name in 'b', 'c':
            for address in VMS[name].ip, VMS[name].ip6:
                VMS['a'].wait_ping(address)
                # The first may find out the path's MTU.
                VMS['a'].ping(address, 1, check=False, extra=('-s', 4000))
                self.assertTrue(VMS['a'].ping(address, 3,
                                              extra=('-s', 4000)))

    def test_too_big(self):
        """A router says so, and senders learn (N23)."""
        a, c = VMS['a'], VMS['c']
        a.exec('ip', 'route', 'flush', 'cache')
        a.wait_ping(c.ip)
        done = a.exec('ping', '-n', '-c', '3', '-i', '0.2', '-W', '2', '-M',
                      'do', '-s', SMALL - 27, c.ip, check=False)
        self.assertRegex(done.stdout + done.stderr, rf'mtu ?= ?{SMALL}')
        self.assertIn(' 0 received', done.stdout)
        self.assertTrue(a.ping(c.ip, extra=('-M', 'do', '-s', SMALL - 28)))
        self.assertTrue(a.ping(c.ip6, extra=('-M', 'do', '-s', SMALL - 48)))

    def test_arping(self):
        a, b = VMS['a'], VMS['b']
        self.assertIn(b.mac, a.exec('arping', '-I', 'eth0', '-c', '2', '-w',
                                    '5', b.ip).stdout.lower())
        # Duplicates: somebody else's is one, the own and a free one not
        # (N20).
        for address, code in (b.ip, 1), (a.ip, 0), ('10.0.1.99', 0):
            self.assertEqual(a.exec(
                'arping', '-D', '-I', 'eth0', '-c', '2', '-w', '2', address,
                check=False).returncode, code, address)

    def trace(self, vm, *command):
        """Hops as traceroute names them."""
        out = vm.exec('traceroute', '-n', '-w', '3', '-q', '1', *command).stdout
        return [line.split()[1] for line in out.split('\n')[1:] if line]

    def test_traceroute(self):
        """By UDP, ICMP and TCP: the own gateway, then the target."""
        a, c, b = (VMS[name] for name in 'acb')
        listener = c.start('nc', '-l', '-k', '-p', '80')
        self.addCleanup(listener.close)
        wait_for('nc to listen', lambda: ':80 ' in c.exec('ss',
                                                          '-ltn').stdout)
        for how in (), ('-I',), ('-T', '-p', '80'):
            self.assertEqual(self.trace(a, *how, c.ip), ['10.0.1.1', c.ip],
                             how)
            self.assertEqual(self.trace(a, *how, b.ip), [b.ip], how)
        for how in (), ('-I',):
            self.assertEqual(self.trace(a, '-6', *how, c.ip6),
                             [gateway(a, 6), c.ip6], how)
            self.assertEqual(self.trace(c, '-6', *how, a.ip6),
                             [gateway(c, 6), a.ip6], how)

    def test_nc(self):
        """TCP and UDP, both families, within and across."""
        text = 'through the fabric\n'
        for number, (server, udp, v6) in enumerate(
                (vm, udp, v6) for vm in ('b', 'c')
                for udp in (False, True) for v6 in (False, True)):
            vm, kind = VMS[server], ['-u'] * udp
            address, port = vm.ip6 if v6 else vm.ip, 5000 + number
            listener = vm.start('nc', '-l', '-n', *kind,
                                '-6' if v6 else '-4', '-p', port)
            try:
                wait_for('nc to listen', lambda port=port, vm=vm: f':{port} '
                         in vm.exec('ss', '-lntu').stdout)
                VMS['a'].exec('nc', '-n', *kind, '-w', '2', *['-N'] *
                              (not udp), address, port, input=text,
                              stdin=None)
                wait_for('the text', lambda listener=listener:
                         listener.output() == text)
            finally:
                listener.close()

    def test_iperf3(self):
        """Both ways across networks and hosts, TCP and UDP; TCP finds the
        smaller MTU by itself."""
        a, c = VMS['a'], VMS['c']
        a.exec('ip', 'route', 'flush', 'cache')
        for how in (), ('-R',), ('-6',), ('-u', '-b', '5M', '-l', '1200'):
            # One for each: it refuses a client while it ends the last one.
            server = c.start('iperf3', '-s', '-1')
            wait_for('iperf3 to listen', lambda: ':5201' in c.exec(
                'ss', '-ltn').stdout)
            to = c.ip6 if '-6' in how else c.ip
            out = a.exec('iperf3', '-c', to, '-t', '1', '-f', 'k',
                         *how).stdout
            server.wait()
            server.close()
            rates = [float(rate) for rate in re.findall(
                r'([\d.]+) Kbits/sec.*receiver', out)]
            self.assertTrue(rates and min(rates) > 1000, (how, out))

    def socket6(self, vm, kind, port=0):
        with wire.inside(vm.netns):
            one = socket.socket(socket.AF_INET6, kind)
        self.addCleanup(one.close)
        one.settimeout(5 * weft_testbed.SCALE)
        if port:
            one.bind(('::', port))
        return one

    def assert_silent(self, one):
        one.settimeout(1)
        with self.assertRaises(TimeoutError):
            one.recv(9000)

    def test_rules_across(self):
        """IPv6 by way of a router: a rule lets fragments through as well, and
        when it ends the connections end that it let in (N6)."""
        NET.weft('security-group', 'create', 'web')
        rules = [NET.weft('security-rule', 'create', '--group', 'web',
                          '--direction', 'in', '--proto', proto, '--ports',
                          '800', '--from', 'fd00:1::/64').strip()
                 for proto in ('tcp', 'udp')]
        a, d = VMS['a'], VMS['d']
        NET.weft('port', 'set-groups', 'd', '--group', 'web', '--wait')
        self.addCleanup(NET.weft, 'port', 'set-groups', 'd', '--group', 'open',
                        '--wait')
        listener = self.socket6(d, socket.SOCK_STREAM, 800)
        listener.listen()
        one = self.socket6(a, socket.SOCK_STREAM)
        one.connect((d.ip6, 800))
        other, _ = listener.accept()
        self.addCleanup(other.close)
        one.sendall(b'1')
        self.assertEqual(other.recv(9), b'1')
        into = {port: self.socket6(d, socket.SOCK_DGRAM, port)
                for port in (800, 801)}
        out, text = self.socket6(a, socket.SOCK_DGRAM), os.urandom(4000)
        # The first ones tell the sender the path's MTU.
        weft_testbed.wait_for('fragments', lambda: self.is_heard(
            out, into[800], (d.ip6, 800), text))
        out.sendto(text, (d.ip6, 801))
        self.assert_silent(into[801])
        for rule in rules:
            NET.weft('security-rule', 'delete', rule, '--wait')
        one.sendall(b'2')
        self.assert_silent(other)
        other.sendall(b'3')
        self.assert_silent(one)
        for data in text, b'4':
            out.sendto(data, (d.ip6, 800))
        self.assert_silent(into[800])

    @staticmethod
    def is_heard(out, into, where, text):
        into.settimeout(0.5)
        out.sendto(text, where)
        try:
            return into.recv(9000) == text
        except TimeoutError:
            return False


if __name__ == '__main__':
    weft_testbed.main()
