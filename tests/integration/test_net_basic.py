#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Tenant networks on real switches: DHCP, ARP, ND, ping, TCP, within and across
hosts; plugging and unplugging; statuses."""

import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '../support'))
# pylint: disable=wrong-import-position
import weft_net  # noqa: E402
import weft_testbed  # noqa: E402

TESTBED = weft_testbed.Testbed(hosts=2, block=False, net=True)
NET = weft_net.Net(TESTBED)
VMS = {}


def setUpModule():
    TESTBED.up()
    NET.network('n1', '10.0.0.0/24', 'fd00:1::/64')
    group = NET.open_group('open')
    for name, host in ('a', 'h1'), ('b', 'h1'), ('c', 'h2'):
        VMS[name] = NET.vm(name, host, 'n1', '--group', group)


def tearDownModule():
    TESTBED.down()


class Basic(unittest.TestCase):
    def test_dhcp_udhcpc(self):
        told = VMS['a'].dhcp()
        self.assertIn(f'ip={VMS["a"].ip}\n', told)
        self.assertIn('mask=24\n', told)
        self.assertRegex(told, r'(?m)^mtu=\d+$')
        self.assertIn(f'inet {VMS["a"].ip}/24',
                      VMS['a'].exec('ip', 'address').stdout)

    def test_dhcp_dhclient(self):
        told = VMS['c'].dhcp('dhclient')
        self.assertIn(f'new_ip_address={VMS["c"].ip}\n', told)
        self.assertIn('new_subnet_mask=255.255.255.0\n', told)

    def test_ping_and_arp(self):
        for vm in VMS.values():
            vm.configure()
        for one in VMS.values():
            for other in VMS.values():
                if one is not other:
                    one.wait_ping(other.ip)
                    one.wait_ping(other.ip6)
                    self.assertIn(other.mac, one.exec(
                        'arping', '-I', 'eth0', '-c', '2', '-w', '5',
                        other.ip).stdout.lower())

    def test_tcp_across_hosts(self):
        for vm in VMS.values():
            vm.configure()
        server = VMS['c'].start('iperf3', '-s', '-1')
        weft_testbed.wait_for('iperf3 to listen', lambda: ':5201' in VMS[
            'c'].exec('ss', '-ltn').stdout)
        out = VMS['a'].exec('iperf3', '-c', VMS['c'].ip, '-t', '2',
                            '-J').stdout
        server.close()
        self.assertIn('"sum_received"', out)

    def test_mtu(self):
        """A full packet passes, a longer one does not."""
        for vm in VMS.values():
            vm.configure()
        mtu = int(VMS['a'].exec('cat', '/sys/class/net/eth0/mtu').stdout)
        size = mtu - 28
        VMS['a'].wait_ping(VMS['c'].ip)
        self.assertTrue(VMS['a'].ping(VMS['c'].ip, 2,
                                      extra=('-M', 'do', '-s', size)))

    def test_status(self):
        port = VMS['a'].port
        self.assertEqual(port['state'], 'UP')
        self.assertEqual(port['boundHost'], 'netHosts/h1')
        self.assertGreater(int(port['flowsDurationUs']), 0)

    def test_unplug(self):
        vm = NET.vm('gone', 'h2', 'n1', '--group', 'open')
        device = vm.port['device']
        self.assertIn(device, NET.vsctl('h2', 'list-ports', 'br-int'))
        vm.unplug()
        weft_testbed.wait_for('the device to go', lambda: device not in
                              TESTBED.exec('h2', 'ip', 'link').stdout)
        weft_testbed.wait_for('the switch port to go', lambda: device not in
                              NET.vsctl('h2', 'list-ports', 'br-int'))
        self.assertNotIn('gone', vm.exec('ip', 'link').stdout)
        vm.plug()
        vm.configure()
        VMS['a'].configure()
        vm.wait_ping(VMS['a'].ip)
        vm.unplug()
        NET.weft('port', 'delete', 'gone')

    def test_tap(self):
        NET.weft('port', 'create', 'tap', '--network', 'n1')
        NET.weft('port', 'plug', 'tap', '--host', 'h1', '--tap', 'tap-web',
                 '--wait')
        link = TESTBED.exec('h1', 'ip', '-d', 'link', 'show', 'tap-web').stdout
        self.assertIn('tun type tap', link)
        self.assertIn('persist on', link)
        NET.weft('port', 'unplug', 'tap', '--wait')
        weft_testbed.wait_for('the tap to go', lambda: 'tap-web' not in
                              TESTBED.exec('h1', 'ip', 'link').stdout)
        NET.weft('port', 'delete', 'tap')

    def test_no_namespace(self):
        NET.weft('port', 'create', 'lost', '--network', 'n1')
        NET.weft('port', 'plug', 'lost', '--host', 'h1', '--netns', 'nowhere')
        port = weft_testbed.wait_for('a complaint', lambda: (
            lambda port: port if port['state'] == 'DOWN' else None)(
                NET.port('lost')))
        self.assertIn('nowhere', port['stateReason'])
        NET.weft('port', 'unplug', 'lost')
        NET.weft('port', 'delete', 'lost')


if __name__ == '__main__':
    weft_testbed.main()
