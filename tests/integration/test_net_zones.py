#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A guest that opens connections without end takes them from itself alone: each
port's conntrack zone is limited (N17), also after the switch has started
again."""

import os
import re
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '../support'))
# pylint: disable=wrong-import-position
import weft_net  # noqa: E402
import weft_testbed  # noqa: E402
from weft_testbed import wait_for  # noqa: E402

TESTBED = weft_testbed.Testbed(hosts=1, block=False, net=True)
NET = weft_net.Net(TESTBED)
LIMIT = 100
TABLE = 600     # Of the whole switch: more than two zones, less than a flood.
FLOOD = '''
import socket, sys
for port in range(2000, 4000):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.sendto(b'x', (sys.argv[1], port))
    s.close()
'''


def setUpModule():
    """With a netd of our own, that has another limit."""
    TESTBED.up()
    conf = TESTBED.file('netd.conf')
    conf.write_text(
        (TESTBED.host_dir('h1') / 'netd.conf').read_text().replace(
            '[switch]\n', f'[switch]\nport_connections = {LIMIT}\n'))
    TESTBED.kill('h1', 'netd', 'TERM')
    TESTBED.start_process('h1', weft_testbed.build_dir() / 'netd/netd',
                          '--config', conf)
    wait_for('netd to answer', lambda: NET.weft(
        'network', 'list', check=False).returncode == 0)


def tearDownModule():
    for vm in NET.vms.values():
        TESTBED.exec(None, 'ip', 'netns', 'delete', vm.netns, check=False)
    TESTBED.down()


def appctl(*command):
    run = TESTBED.host_dir('h1') / 'ovs'
    return NET.ovs('h1', 'ovs-appctl', '-t', next(run.glob('*vswitchd*.ctl')),
                   *command)


def zone_of(vm):
    ids = NET.vsctl('h1', 'get', 'bridge', 'br-int', 'external_ids')
    return int(re.search(f'weft-zone-{vm.fixed["uid"]}"?="?(\\d+)', ids).group(1))


def limits(vms):
    """{zone: (limit, count)}"""
    text = appctl('dpctl/ct-get-limits', 'netdev@ovs-netdev',
                  'zone=' + ','.join(str(zone_of(vm)) for vm in vms))
    return {int(zone): (int(limit), int(count)) for zone, limit, count in
            re.findall(r'zone=(\d+),limit=(\d+),count=(\d+)', text)}


class Zones(unittest.TestCase):
    def setUp(self):
        NET.network('n', '10.0.0.0/24')
        NET.open_group('open')
        self.vms = [NET.vm(name, 'h1', 'n', '--group', 'open')
                    for name in ('greedy', 'sink', 'one', 'other')]
        for vm in self.vms:
            vm.configure()

    def wait_limited(self):
        wait_for('limits', lambda: weft_net.holds(lambda: [
            limit for limit, _count in limits(self.vms).values()] ==
            [LIMIT] * 4))

    def starve(self):
        greedy, sink, one, other = self.vms
        appctl('dpctl/ct-set-maxconns', str(TABLE))
        greedy.exec(sys.executable, '-c', FLOOD, sink.ip)
        told = limits(self.vms)
        self.assertLessEqual(told[zone_of(greedy)][1], LIMIT)
        self.assertGreater(told[zone_of(greedy)][1], LIMIT // 2)
        one.wait_ping(other.ip)
        self.assertTrue(one.ping(other.ip))

    def test_greedy_guest(self):
        self.wait_limited()
        self.starve()
        TESTBED.kill('h1', 'ovs')
        TESTBED.start('h1', 'ovs')
        self.wait_limited()
        wait_for('traffic', lambda: self.vms[2].ping(self.vms[3].ip, 1,
                                                     check=False))
        self.starve()


if __name__ == '__main__':
    weft_testbed.main()
