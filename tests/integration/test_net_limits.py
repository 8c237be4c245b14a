#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What must not go wrong when somebody asks for too much or for what is not
his: ten thousand rules, a flood of requests to netd, another project's port, a
group that refers to itself, an address that another one had, flows that
somebody else changed; and changes that were asked for while no database server
was there."""

import concurrent.futures
import os
import pathlib
import socket
import sys
import threading
import time
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP), str(TOP / 'tests/support')]
# pylint: disable=wrong-import-position
import net_case  # noqa: E402
import weft_net  # noqa: E402
import weft_testbed  # noqa: E402
from weft_testbed import wait_for  # noqa: E402
from tests.oracle import wire  # noqa: E402
from scapy.layers.dhcp import BOOTP, DHCP  # noqa: E402
from scapy.layers.inet import ICMP, IP, UDP  # noqa: E402
from scapy.layers.inet6 import (  # noqa: E402
    ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6)
from scapy.layers.l2 import ARP, Ether  # noqa: E402
# pylint: disable=no-name-in-module
from weft.v1 import security_pb2  # noqa: E402

TESTBED = weft_testbed.Testbed(hosts=2, block=False, net=True)
NET = weft_net.Net(TESTBED)
VMS = {}
RULES = 10000
PROJECT = 'projects/default'


def setUpModule():
    TESTBED.up()
    try:
        NET.network('n', '10.0.0.0/24', 'fd00::/64')
        NET.open_group('open')
        for name, host in ('a', 'h1'), ('b', 'h2'):
            VMS[name] = NET.vm(name, host, 'n', '--group', 'open')
            VMS[name].configure()
        VMS['a'].wait_ping(VMS['b'].ip)
    except BaseException:
        tearDownModule()
        raise


def tearDownModule():
    for vm in NET.vms.values():
        TESTBED.exec(None, 'ip', 'netns', 'delete', vm.netns, check=False)
    TESTBED.down()


class Sockets(unittest.TestCase):
    def udp(self, vm, port=0):
        with wire.inside(vm.netns):
            one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(one.close)
        one.settimeout(5 * weft_testbed.SCALE)
        if port:
            one.bind(('0.0.0.0', port))
        return one

    def check(self, sender, receiver, port, wanted):
        """Whether a datagram arrives."""
        into = self.udp(receiver, port)
        out = self.udp(sender)
        if wanted:
            out.sendto(b'x', (receiver.ip, port))
            self.assertEqual(into.recv(9), b'x')
            return
        into.settimeout(0.7)
        out.sendto(b'x', (receiver.ip, port))
        with self.assertRaises(TimeoutError):
            into.recv(9)


class Groups(Sockets):
    def test_of_itself(self):
        """Its members reach each other, and nobody else reaches them."""
        NET.weft('security-group', 'create', 'club')
        NET.weft('security-rule', 'create', '--group', 'club', '--direction',
                 'in', '--proto', 'udp', '--from-group', 'club')
        one, other = (NET.vm(f'club-{host}', host, 'n', '--group', 'club')
                      for host in ('h1', 'h2'))
        for vm in one, other:
            vm.configure()
        self.check(one, other, 700, True)
        self.check(other, one, 700, True)
        self.check(VMS['a'], one, 701, False)
        self.check(VMS['a'], other, 701, False)
        # Whoever joins is in at once, on both sides.
        NET.weft('port', 'set-groups', 'a', '--group', 'open', '--group',
                 'club', '--wait')
        self.addCleanup(NET.weft, 'port', 'set-groups', 'a', '--group', 'open',
                        '--wait')
        self.check(VMS['a'], other, 702, True)

    def test_many_rules(self):
        """On ports of both hosts: the first and the last count, the daemons go
        on, and deleting them is not felt by others."""
        stubs = net_case.Stubs(TESTBED.net_endpoint('h1'))
        NET.weft('security-group', 'create', 'many')
        servers = [NET.vm(f'many-{host}', host, 'n', '--group', 'many')
                   for host in ('h1', 'h2')]
        for vm in servers:
            vm.configure()
        group = f'{PROJECT}/securityGroups/many'

        def create(index):
            return stubs.rules.CreateSecurityRule(
                security_pb2.CreateSecurityRuleRequest(
                    parent=PROJECT, security_rule=security_pb2.SecurityRule(
                        group=group, direction='IN', protocol='udp',
                        ports=str(20000 + index), cidr='10.0.0.0/24')),
                timeout=120)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(create, range(RULES - 1)))
        NET.weft('security-rule', 'create', '--group', 'many', '--direction',
                 'in', '--proto', 'udp', '--ports', '40000', '--from',
                 '10.0.0.0/24', '--wait')
        for vm in servers:
            self.check(VMS['a'], vm, 20000, True)
            self.check(VMS['a'], vm, 20000 + RULES - 2, True)
            self.check(VMS['a'], vm, 40000, True)
            self.check(VMS['a'], vm, 20000 + RULES, False)
        flows = {host: len(NET.flows(host)) for host in TESTBED.hosts}
        print(f'# {RULES} rules: {flows} flows', flush=True)
        for host in TESTBED.hosts:
            self.assertLess(flows[host], 3 * RULES)
        ping = weft_net.Ping(VMS['a'], VMS['b'].ip)
        for vm in servers:
            NET.weft('port', 'set-groups', vm.name, '--wait')
        NET.weft('security-group', 'delete', 'many', seconds=120)
        wait_for('the flows to go', lambda: all(
            len(NET.flows(host)) < RULES for host in TESTBED.hosts), 60)
        sent, received = ping.finish()
        self.assertLessEqual(sent - received, 1)
        stubs.channel.close()


class Addresses(unittest.TestCase):
    def test_reused(self):
        """Who gets an address after another has its MAC, too: what neighbours
        remember is not wrong.  So do gateways."""
        old = NET.vm('old', 'h2', 'n', '--group', 'open')
        old.configure()
        VMS['a'].wait_ping(old.ip)
        old.unplug()
        NET.weft('port', 'delete', 'old')
        new = NET.vm('new', 'h1', 'n', '--group', 'open')
        self.assertEqual((new.ip, new.mac), (old.ip, old.mac))
        new.configure()
        VMS['a'].wait_ping(new.ip)
        macs = set()
        for router in 'r1', 'r2':
            NET.weft('router', 'create', router)
            NET.weft('router', 'attach', router, '--subnet', 'n-0', '--wait')
            self.assertTrue(VMS['a'].ping('10.0.0.1'))
            macs.add(NET.rows('Router_Port')[0]['mac'])
            NET.weft('router', 'detach', router, '--subnet', 'n-0', '--wait')
            NET.weft('router', 'delete', router)
        self.assertEqual(len(macs), 1)
        # Somebody may have taken that MAC by name meanwhile.
        NET.weft('port', 'create', 'named', '--network', 'n', '--mac',
                 macs.pop())
        NET.weft('router', 'create', 'r3')
        NET.weft('router', 'attach', 'r3', '--subnet', 'n-0', '--wait')
        VMS['a'].exec('ip', 'neighbour', 'flush', 'dev', 'eth0')
        self.assertTrue(VMS['a'].ping('10.0.0.1'))
        NET.weft('router', 'detach', 'r3', '--subnet', 'n-0', '--wait')
        for noun, name in ('router', 'r3'), ('port', 'named'):
            NET.weft(noun, 'delete', name)


class Strangers(unittest.TestCase):
    def test_iface_id_of_another_project(self):
        """A port of another tenant that is at work elsewhere: whoever has an
        interface with its id gets none of its packets and sends none in its
        name (N13)."""
        for arguments in (
                ('network', 'create', 'n'),
                ('subnet', 'create', 's', '--network', 'n', '--cidr',
                 '10.0.0.0/24'),
                ('security-group', 'create', 'all'),
                ('security-rule', 'create', '--group', 'all', '--direction',
                 'in', '--from', '0.0.0.0/0')):
            NET.weft(*arguments, '--project', 'blue')
        ports = {}
        for name, host in ('x', 'h2'), ('y', 'h1'):
            NET.weft('port', 'create', name, '--network', 'n', '--group',
                     'all', '--project', 'blue')
            netns = self.netns(name)
            NET.weft('port', 'plug', name, '--host', host, '--netns', netns,
                     '--wait', '--project', 'blue')
            ports[name] = NET.json('port', 'show', name, '--project', 'blue')
        thief = self.netns('thief')
        TESTBED.exec('h1', 'ip', 'link', 'add', 'thief', 'type', 'veth',
                     'peer', 'name', 'eth0', 'netns', thief)
        TESTBED.exec('h1', 'ip', 'link', 'set', 'thief', 'up')
        TESTBED.exec(None, 'ip', '-n', thief, 'link', 'set', 'eth0', 'up')
        NET.vsctl('h1', 'add-port', 'br-int', 'thief', '--', 'set',
                  'interface', 'thief',
                  f'external_ids:iface-id={ports["x"]["uid"]}')
        wait_for('a warning', lambda: ports['x']['uid'] in
                 TESTBED.log('h1', 'netd'))
        x, y = ports['x'], ports['y']
        live = wire.Wire({name: (f'{TESTBED.tag}-lim-{name}', 'eth0')
                          for name in ('x', 'y', 'thief')})
        self.addCleanup(live.close)

        def frame(src, dst, tag):
            return bytes(Ether(src=src['mac'], dst=dst['mac']) / IP(
                src=src['addresses'][0], dst=dst['addresses'][0]) / UDP(
                    sport=5, dport=6) / tag)
        tags = [b'WFT' + os.urandom(13) for _ in range(3)]
        live.send('thief', frame(x, y, tags[0]))
        live.send('y', frame(y, x, tags[1]))
        live.send('x', frame(x, y, tags[2]))
        found = live.collect(tags, 2, 5 * weft_testbed.SCALE)
        self.assertEqual([[seen.port for seen in found[tag]] for tag in tags],
                         [[], ['x'], ['y']])
        again = NET.json('port', 'show', 'x', '--project', 'blue')
        for key in 'state', 'boundHost', 'device', 'upTime':
            self.assertEqual(again[key], x[key])
        NET.vsctl('h1', 'del-port', 'br-int', 'thief')

    def netns(self, name):
        full = f'{TESTBED.tag}-lim-{name}'
        TESTBED.exec(None, 'ip', 'netns', 'add', full)
        self.addCleanup(TESTBED.exec, None, 'ip', 'netns', 'delete', full)
        return full

    def test_flood_of_requests(self):
        """One guest asks netd for all it can, as fast as it can; another one
        of that host is served at once (N19)."""
        me = VMS['a']
        eth = Ether(src=me.mac, dst='ff:ff:ff:ff:ff:ff')
        frames = [bytes(frame) for frame in (
            eth / IP(src='0.0.0.0', dst='255.255.255.255') /
            UDP(sport=68, dport=67) / BOOTP(chaddr=bytes.fromhex(
                me.mac.replace(':', '')), xid=7) /
            DHCP(options=[('message-type', 'discover'), 'end']),
            eth / IPv6(src=me.ip6, dst='ff02::1:ff00:9', hlim=255) /
            ICMPv6ND_NS(tgt='fd00::9') / ICMPv6NDOptSrcLLAddr(lladdr=me.mac),
            eth / IP(src=me.ip, dst='10.9.9.9', ttl=1) / ICMP(),
            eth / ARP(hwsrc=me.mac, psrc=me.ip, pdst=VMS['b'].ip))]
        metric = 'weft_netd_packet_ins_total{kind="dhcp4",result="answered"}'
        before, begin = NET.metric('h1', metric), time.monotonic()
        stop = threading.Event()
        raw = wire.open_inside(me.netns, 'eth0')
        count = 0

        def flood():
            nonlocal count
            while not stop.is_set():
                for one in frames:
                    try:
                        raw.send(one)
                        count += 1
                    except OSError:
                        pass    # The queue is full.
        thread = threading.Thread(target=flood)
        thread.start()
        try:
            vm = NET.vm('calm', 'h1', 'n', '--group', 'open')
            for client in 'udhcpc', 'dhclient':
                self.assertIn(vm.ip, vm.dhcp(client))
            vm.wait_ping(VMS['b'].ip)
        finally:
            stop.set()
            thread.join()
            raw.close()
        asked = NET.metric('h1', metric) - before
        seconds = time.monotonic() - begin
        print(f'# {count} frames sent, {asked:.0f} DHCP answers in '
              f'{seconds:.1f} s', flush=True)
        self.assertGreater(count, 1000)
        # METER_DHCP lets 20 a second through, and once as many.
        self.assertLess(asked, 40 * (seconds + 1))


class Drift(unittest.TestCase):
    def test_self_check(self):
        """What somebody else did to the switch is found, undone and counted,
        by a netd that goes on."""
        config = TESTBED.host_dir('h2') / 'netd.conf'
        TESTBED.kill('h2', 'netd')
        quick = TESTBED.file('quick.conf')
        quick.write_text(config.read_text().replace(
            '[switch]\n', '[switch]\ncheck_interval = 1s\n'))
        netd = TESTBED.start_process(
            'h2', weft_testbed.build_dir() / 'netd/netd', '--config', quick)
        try:
            self.drift()
            self.assertTrue(netd.is_running())
        finally:
            netd.terminate()
            netd.wait()
            netd.close()
            TESTBED.start('h2', 'netd')

    def drift(self):
        def metric(name):
            return NET.metric('h2', f'weft_netd_{name}')
        wait_for('netd to know its switch', lambda: weft_net.holds(
            lambda: metric('switch_in_sync') == 1 and
            metric('rows_complete') == 1))
        before = NET.flows('h2')
        bridge = f'unix:{TESTBED.host_dir("h2")}/ovs/br-int.mgmt'
        for what in (['del-flows', bridge, 'table=21'],
                     ['add-flow', bridge, 'table=2,priority=999,actions=drop'],
                     ['mod-flows', bridge, 'table=11,actions=drop'],
                     ['del-meters', bridge]):
            drifted = metric('flows_drifted_total')
            NET.ovs('h2', 'ovs-ofctl', '-O', 'OpenFlow15', *what)
            wait_for(f'{what[0]} to be noticed', lambda drifted=drifted:
                     metric('flows_drifted_total') > drifted)
            wait_for(f'the same flows after {what[0]}', lambda: NET.flows(
                'h2') == before)
        VMS['a'].wait_ping(VMS['b'].ip)


class Outage(unittest.TestCase):
    def test_changes_wait(self):
        """Without a database server changes wait, and then happen; those of
        this host alone go on meanwhile (N7)."""
        device = VMS['b'].port['device']
        ping = weft_net.Ping(VMS['a'], VMS['b'].ip)
        TESTBED.kill('h1', 'db')
        ping.wait_more(50)
        waiting = [TESTBED.start_process(
            host, 'weft', 'network', 'create', f'late-{host}', '--timeout',
            '90s') for host in TESTBED.hosts]
        # Longer than the API would wait by itself.
        ping.wait_more(1200)
        self.assertTrue(all(one.is_running() for one in waiting),
                        [one.errors() for one in waiting])
        sent, received = ping.finish()
        self.assertLessEqual(sent - received, 1)
        self.assertIn(device, NET.vsctl('h2', 'list-ports', 'br-int'))
        TESTBED.start('h1', 'db')
        for one in waiting:
            one.wait()
            one.close()
        for host in TESTBED.hosts:
            NET.weft('network', 'show', f'late-{host}')
        vm = NET.vm('later', 'h2', 'n', '--group', 'open')
        vm.configure()
        vm.wait_ping(VMS['a'].ip)


if __name__ == '__main__':
    weft_testbed.main()
