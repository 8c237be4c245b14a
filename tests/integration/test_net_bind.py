#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Interfaces that others make (N13, N15, N23): claimed by their iface-id, given
back when they go; what is refused, and how that is said; which cloud (N7)."""

import os
import sys
import unittest
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '../support'))
# pylint: disable=wrong-import-position
import weft_net  # noqa: E402
import weft_testbed  # noqa: E402
from weft_testbed import wait_for  # noqa: E402

TESTBED = weft_testbed.Testbed(hosts=2, block=False, net=True)
NET = weft_net.Net(TESTBED)


def setUpModule():
    TESTBED.up()
    NET.network('n1', '10.0.0.0/24')
    NET.open_group('open')


def tearDownModule():
    TESTBED.down()


def add_interface(host, name, port, netns=None):
    """As libvirt would: a device on the bridge with the port's id."""
    TESTBED.exec(host, 'ip', 'link', 'add', name, 'type', 'veth', 'peer',
                 'name', f'{name}-in')
    for end in name, f'{name}-in':
        TESTBED.exec(host, 'ethtool', '-K', end, 'tx', 'off')
        TESTBED.exec(host, 'ip', 'link', 'set', end, 'up')
    if netns:
        TESTBED.exec(host, 'ip', 'link', 'set', f'{name}-in', 'netns', netns)
    NET.vsctl(host, 'add-port', 'br-int', name, '--', 'set', 'interface', name,
              f'external_ids:iface-id={port}')


def remove_interface(host, name):
    NET.vsctl(host, 'del-port', 'br-int', name)
    TESTBED.exec(host, 'ip', 'link', 'delete', name)


def make_port(name, *options):
    NET.weft('port', 'create', name, '--network', 'n1', '--group', 'open',
             *options)
    return NET.port(name)['uid']


def wait_port(name, what, condition):
    return wait_for(f'port {name} {what}', lambda: condition(NET.port(name)))


def zones(host):
    return [line for line in NET.vsctl(
        host, 'get', 'bridge', 'br-int', 'external_ids').split(', ')
        if 'weft-zone' in line]


class Bind(unittest.TestCase):
    def test_claim_and_release(self):
        port = make_port('claimed')
        add_interface('h1', 'vnet0', port)
        wait_port('claimed', 'to be up', lambda p: p['state'] == 'UP' and
                  p['host'] == 'netHosts/h1' and p['device'] == 'vnet0')
        self.assertEqual(len([z for z in zones('h1') if port in z]), 1)
        # A stale one elsewhere changes nothing (N13).
        add_interface('h2', 'vnet0', port)
        wait_for('a warning', lambda: port in TESTBED.log('h2', 'netd'))
        self.assertEqual(NET.port('claimed')['boundHost'], 'netHosts/h1')
        remove_interface('h1', 'vnet0')
        # Given back, so that the other may have it.
        wait_port('claimed', 'to move', lambda p: p['state'] == 'UP' and
                  p['host'] == 'netHosts/h2')
        remove_interface('h2', 'vnet0')
        wait_port('claimed', 'to be nowhere', lambda p: p['host'] == '')
        NET.weft('port', 'delete', 'claimed')
        for host in 'h1', 'h2':
            wait_for('its zone to be free', lambda host=host: not any(
                port in zone for zone in zones(host)))

    def test_claim_survives_restart(self):
        """A netd that starts again knows which claims are its own."""
        port = make_port('kept')
        add_interface('h1', 'vnet1', port)
        wait_port('kept', 'to be up', lambda p: p['state'] == 'UP')
        TESTBED.kill('h1', 'netd')
        remove_interface('h1', 'vnet1')
        TESTBED.start('h1', 'netd')
        wait_for('it to be given back', lambda: NET.weft(
            'port', 'show', 'kept', check=False).returncode == 0 and
            NET.port('kept')['host'] == '')
        NET.weft('port', 'delete', 'kept')

    def test_two_interfaces(self):
        port = make_port('twice')
        add_interface('h1', 'vnet2', port)
        wait_port('twice', 'to be up', lambda p: p['state'] == 'UP')
        add_interface('h1', 'vnet3', port)
        down = wait_port('twice', 'to be down', lambda p: p if
                         p['state'] == 'DOWN' else None)
        self.assertIn('2 interfaces', down['stateReason'])
        remove_interface('h1', 'vnet3')
        wait_port('twice', 'to be up again', lambda p: p['state'] == 'UP')
        remove_interface('h1', 'vnet2')
        wait_port('twice', 'to be nowhere', lambda p: p['host'] == '')
        NET.weft('port', 'delete', 'twice')

    def test_claimed_and_plugged(self):
        """What the API has plugged is not given back with the interface that
        once claimed it."""
        port = make_port('both')
        add_interface('h1', 'vnet5', port)
        wait_port('both', 'to be up', lambda p: p['state'] == 'UP')
        NET.weft('port', 'plug', 'both', '--host', 'h1', '--tap', 'tap-both')
        wait_port('both', 'to be down', lambda p: p['state'] == 'DOWN')
        remove_interface('h1', 'vnet5')
        wait_port('both', 'to be up', lambda p: p['state'] == 'UP' and
                  p['device'] == 'tap-both')
        self.assertEqual(NET.port('both')['host'], 'netHosts/h1')
        NET.weft('port', 'unplug', 'both', '--wait')
        self.assertEqual(NET.port('both')['host'], '')
        NET.weft('port', 'delete', 'both')

    def test_numbers_of_ports(self):
        """N8: the number that the switch has given is the one that it is asked
        for when it starts again, whoever else asks for that."""
        def number(name, column):
            return NET.vsctl('h1', 'get', 'interface', name, column).strip()
        ports = [make_port(name) for name in ('one', 'two')]
        for name, port in zip(('vnet6', 'vnet7'), ports):
            add_interface('h1', name, port)
        for name in 'one', 'two':
            wait_port(name, 'to be up', lambda p: p['state'] == 'UP')
        NET.vsctl('h1', 'set', 'interface', 'vnet7',
                  f'ofport_request={number("vnet6", "ofport")}')
        wait_for('the request to be right', lambda: number(
            'vnet7', 'ofport_request') == number('vnet7', 'ofport') !=
            number('vnet6', 'ofport'))
        for name in 'vnet6', 'vnet7':
            remove_interface('h1', name)
        for name in 'one', 'two':
            wait_port(name, 'to be nowhere', lambda p: p['host'] == '')
            NET.weft('port', 'delete', name)

    def test_own_namespace(self):
        """netd touches no device of its own namespace for a plug."""
        make_port('root')
        before = TESTBED.exec('h1', 'ip', '-o', 'link', 'show', 'br-phy').stdout
        done = NET.weft('port', 'plug', 'root', '--host', 'h1', '--netns',
                        '/proc/self/ns/net', '--ifname', 'br-phy', '--wait',
                        check=False)
        self.assertIn("this host's own network namespace", done.stderr)
        self.assertEqual(TESTBED.exec('h1', 'ip', '-o', 'link', 'show',
                                      'br-phy').stdout, before)
        NET.weft('port', 'unplug', 'root', '--wait')
        NET.weft('port', 'delete', 'root')

    def test_own_stack(self):
        """A guest does not reach the host itself, by no address of it."""
        vm = NET.vm('nosy', 'h1', 'n1', '--group', 'open')
        port = make_port('nosy2')
        add_interface('h1', 'vnet8', port, vm.netns)
        wait_port('nosy2', 'to be up', lambda p: p['state'] == 'UP')
        vm.exec('ip', 'link', 'set', 'vnet8-in', 'up')
        for device in 'eth0', 'vnet8-in':
            vm.exec('ip', 'address', 'flush', 'dev', device)
            vm.exec('ip', 'address', 'add', '10.78.0.77/24', 'dev', device)
            self.assertNotIn('reply from', vm.exec(
                'arping', '-I', device, '-c', '2', '-w', '2', '10.78.0.1',
                check=False).stdout)
            # All nodes: nobody but the guest itself.
            own = vm.exec('ip', '-6', '-o', 'address', 'show', 'dev', device,
                          'scope', 'link').stdout
            for line in vm.exec('ping', '-6', '-c', '2', '-W', '1', '-I',
                                device, 'ff02::1', check=False).stdout.split(
                                    '\n'):
                if 'bytes from' in line:
                    self.assertIn(line.split()[3].split('%')[0].rstrip(':'),
                                  own)
            vm.exec('ip', 'address', 'flush', 'dev', device)
        remove_interface('h1', 'vnet8')
        vm.unplug()
        NET.weft('port', 'delete', 'nosy')
        NET.weft('port', 'delete', 'nosy2')

    def test_odd_ids(self):
        """Of no port, of no form: ignored, and others go on."""
        for name, text in ('odd0', uuid.uuid4()), ('odd1', 'x' * 200), \
                ('odd2', '--'):
            add_interface('h1', name, text)
        port = make_port('fine')
        add_interface('h1', 'vnet4', port)
        wait_port('fine', 'to be up', lambda p: p['state'] == 'UP')
        for name in 'odd0', 'odd1', 'odd2', 'vnet4':
            remove_interface('h1', name)
        wait_port('fine', 'to be nowhere', lambda p: p['host'] == '')
        NET.weft('port', 'delete', 'fine')

    def test_disabled(self):
        vm = NET.vm('off', 'h1', 'n1', '--group', 'open')
        NET.weft('port', 'disable', 'off')
        wait_port('off', 'to be down', lambda p: p['state'] == 'DOWN' and
                  'disabled' in p['stateReason'])
        NET.weft('port', 'enable', 'off')
        vm.wait_state('up')
        vm.unplug()
        NET.weft('port', 'delete', 'off')

    def test_underlay_too_small(self):
        """N23: refused where it does not fit, and served when it does."""
        vm = NET.vm('big', 'h2', 'n1', '--group', 'open')
        NET.vsctl('h2', 'set', 'interface', 'br-phy', 'mtu_request=1400')
        down = wait_port('big', 'to be down', lambda p: p if
                         p['state'] == 'DOWN' else None)
        self.assertIn('1400', down['stateReason'])
        NET.vsctl('h2', 'set', 'interface', 'br-phy', 'mtu_request=1600')
        vm.wait_state('up')
        vm.unplug()
        NET.weft('port', 'delete', 'big')

    def test_namespace_deleted(self):
        """It takes the device along; a new one of that name is plugged."""
        vm = NET.vm('reborn', 'h1', 'n1', '--group', 'open')
        TESTBED.exec(None, 'ip', 'netns', 'delete', vm.netns)
        vm.wait_state('down')
        TESTBED.exec(None, 'ip', 'netns', 'add', vm.netns)
        vm.wait_state('up')
        vm.unplug()
        NET.weft('port', 'delete', 'reborn')

    def test_device_of_others(self):
        """What netd has not made for the port it neither takes nor removes."""
        TESTBED.exec('h1', 'ip', 'tuntap', 'add', 'theirs', 'mode', 'tap')
        make_port('greedy')
        for device in 'theirs', 'br-int':
            NET.weft('port', 'plug', 'greedy', '--host', 'h1', '--tap', device)
            down = wait_port('greedy', 'to be down', lambda p: p if
                             p['state'] == 'DOWN' else None)
            self.assertIn('not made for this port', down['stateReason'])
            NET.weft('port', 'unplug', 'greedy', '--wait')
            TESTBED.exec('h1', 'ip', 'link', 'show', device)
        NET.weft('port', 'delete', 'greedy')
        TESTBED.exec('h1', 'ip', 'link', 'delete', 'theirs')

    def test_other_cloud(self):
        """N7: the database of another cloud is refused, and said to be."""
        flows = NET.flows('h2')
        TESTBED.kill('h2', 'netd')
        pin = TESTBED.host_dir('h2') / 'state/netd/cloud'
        ours = pin.read_text()
        pin.write_text(f'{uuid.uuid4()}\n')
        TESTBED.start('h2', 'netd')
        wait_for('a complaint', lambda: 'of another cloud' in
                 TESTBED.log('h2', 'netd'))
        self.assertEqual(NET.flows('h2'), flows)
        self.assertEqual(NET.metric('h2', 'weft_netd_rows_complete'), 0)
        TESTBED.kill('h2', 'netd')
        pin.write_text(ours)
        TESTBED.start('h2', 'netd')
        wait_for('all rows', lambda: weft_net.holds(
            lambda: NET.metric('h2', 'weft_netd_rows_complete') == 1))


if __name__ == '__main__':
    weft_testbed.main()
