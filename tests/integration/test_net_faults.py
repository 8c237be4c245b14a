#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Restarts and outages (N7, N8, N11): netd, the switch, the database.  Traffic
goes on where it can, and what changed meanwhile happens afterwards."""

import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '../support'))
# pylint: disable=wrong-import-position
import weft_net  # noqa: E402
import weft_testbed  # noqa: E402
from weft_testbed import wait_for  # noqa: E402

TESTBED = weft_testbed.Testbed(hosts=3, block=False, net=True)
NET = weft_net.Net(TESTBED)
VMS = {}


def setUpModule():
    TESTBED.up()
    NET.network('n1', '10.0.0.0/24', 'fd00:1::/64')
    group = NET.open_group('open')
    for name, host in ('a', 'h1'), ('b', 'h2'):
        VMS[name] = NET.vm(name, host, 'n1', '--group', group)
        VMS[name].configure()
    VMS['a'].wait_ping(VMS['b'].ip)


def tearDownModule():
    TESTBED.down()


def wait_in_sync(*hosts):
    for host in hosts:
        wait_for(f'{host} to be in sync', lambda host=host: TESTBED.is_running(
            host, 'netd') and is_in_sync(host))


def is_in_sync(host):
    return weft_net.holds(lambda: all(
        NET.metric(host, f'weft_netd_{name}') == 1
        for name in ('switch_in_sync', 'rows_complete')))


def wait_api(host='h1'):
    wait_for(f'the API of {host}', lambda: NET.weft(
        'network', 'list', host=host, check=False).returncode == 0)


class Faults(unittest.TestCase):
    def setUp(self):
        for host, daemon in sorted(TESTBED.killed):
            TESTBED.start(host, daemon)     # Left so by a test that failed.
        wait_in_sync(*TESTBED.hosts)
        wait_api()

    def test_netd_killed(self):
        """No packet is lost, no flow changes, and the status stays (N8)."""
        before = {host: NET.flows(host) for host in TESTBED.hosts}
        status = VMS['a'].port
        ping = weft_net.Ping(VMS['a'], VMS['b'].ip)
        for host in 'h1', 'h2', 'h1':
            TESTBED.kill(host, 'netd')
            ping.wait_more(50)
            TESTBED.start(host, 'netd')
            wait_in_sync(host)
            ping.wait_more(50)
            self.assertEqual(NET.metric(host, 'weft_netd_flow_mods_total'), 0)
            self.assertEqual(NET.metric(host,
                                        'weft_netd_flows_resynced_total'), 0)
        sent, received = ping.finish()
        self.assertEqual(received, sent)
        for host in TESTBED.hosts:
            self.assertEqual(NET.flows(host), before[host])
        wait_api()
        again = VMS['a'].port
        for key in 'state', 'boundTime', 'upTime', 'device':
            self.assertEqual(again[key], status[key])

    def test_netd_stopped(self):
        """A clean end leaves the flows, too."""
        before = NET.flows('h2')
        TESTBED.kill('h2', 'netd', 'TERM')
        self.assertEqual(NET.flows('h2'), before)
        VMS['a'].wait_ping(VMS['b'].ip)
        TESTBED.start('h2', 'netd')

    def test_change_while_netd_is_away(self):
        TESTBED.kill('h2', 'netd')
        vm = NET.vm('late', 'h1', 'n1', '--group', 'open')
        vm.configure()
        TESTBED.start('h2', 'netd')
        vm.wait_ping(VMS['b'].ip)
        vm.unplug()
        NET.weft('port', 'delete', 'late')

    def test_unplug_while_netd_is_away(self):
        """What nobody wants any more is removed by the next netd."""
        vm = NET.vm('left', 'h2', 'n1', '--group', 'open')
        device = vm.port['device']
        TESTBED.kill('h2', 'netd')
        vm.unplug(wait=False)
        NET.weft('port', 'delete', 'left')
        TESTBED.start('h2', 'netd')
        wait_for('the device to go', lambda: device not in
                 TESTBED.exec('h2', 'ip', 'link').stdout)
        wait_for('the port to go', lambda: device not in NET.vsctl(
            'h2', 'list-ports', 'br-int'))

    def test_switch_restarted(self):
        """The flows come back by themselves; how many pings that costs."""
        before = NET.flows('h1')
        ping = weft_net.Ping(VMS['a'], VMS['b'].ip)
        TESTBED.kill('h1', 'ovs')
        TESTBED.start('h1', 'ovs')
        wait_in_sync('h1')
        ping.wait_more(100)
        sent, received = ping.finish()
        print(f'# vswitchd restarted: {sent - received} of {sent} pings lost '
              'at one every 10 ms')
        wait_for('the same flows', lambda: weft_net.holds(
            lambda: NET.flows('h1') == before))
        self.assertEqual(VMS['a'].state(), 'up')

    def test_flows_deleted(self):
        """Somebody clears the switch: the self-check brings it back."""
        before = NET.flows('h1')
        directory = TESTBED.host_dir('h1') / 'ovs'
        NET.ovs('h1', 'ovs-ofctl', '-O', 'OpenFlow15', 'del-flows',
                f'unix:{directory}/br-int.mgmt')
        TESTBED.kill('h1', 'netd')    # Its next dump is at its start.
        TESTBED.start('h1', 'netd')
        wait_for('the same flows', lambda: weft_net.holds(
            lambda: NET.flows('h1') == before))
        VMS['a'].wait_ping(VMS['b'].ip)

    def test_database_leader_killed(self):
        ping = weft_net.Ping(VMS['a'], VMS['b'].ip)
        TESTBED.kill('h1', 'db')
        ping.wait_more(50)
        wait_for('a change to be made', lambda: NET.weft(
            'network', 'create', 'meanwhile', '--timeout', '5s', host='h2',
            check=False).returncode == 0)
        TESTBED.start('h1', 'db')
        ping.wait_more(50)
        sent, received = ping.finish()
        self.assertEqual(received, sent)
        NET.weft('network', 'delete', 'meanwhile', host='h2')

    def test_database_away(self):
        """Nothing is removed; a netd that starts goes by its snapshot (N7);
        what was asked for afterwards happens."""
        for host in 'h1', 'h2':
            wait_for('a snapshot', (TESTBED.host_dir(host) /
                                    'state/netd/snapshot').exists)
        # One that has all of this network's rows.
        wait_for('a new snapshot', lambda: VMS['b'].mac in (
            TESTBED.host_dir('h1') / 'state/netd/snapshot').read_text())
        before = {host: NET.flows(host) for host in ('h1', 'h2')}
        ping = weft_net.Ping(VMS['a'], VMS['b'].ip)
        for host in 'h1', 'h2', 'h3':
            TESTBED.kill(host, 'db')
        ping.wait_more(50)
        TESTBED.kill('h1', 'netd')
        # As a crash of the host may leave the last part.
        with open(TESTBED.host_dir('h1') / 'state/netd/snapshot', 'a',
                  encoding='utf-8') as file:
            file.write('Port 00000000-0000-0000-0000-000000000000 -\nend 1 0')
        TESTBED.start('h1', 'netd')
        wait_for('the snapshot to be used', lambda: 'going by the snapshot' in
                 TESTBED.log('h1', 'netd').rpartition('event=started')[2])
        # Its API does not take what it does not know for what is not there.
        for command in ('port', 'list'), ('port', 'show', 'a'):
            said = NET.weft(*command, check=False)
            self.assertIn('knows nothing yet', said.stderr)
        ping.wait_more(50)
        self.assertEqual(NET.flows('h1'), before['h1'])
        # The switch and netd both start without the database.
        sent, received = ping.finish()
        self.assertEqual(received, sent)
        TESTBED.kill('h2', 'ovs')
        TESTBED.kill('h2', 'netd')
        TESTBED.start('h2', 'ovs')
        TESTBED.start('h2', 'netd')
        wait_for('flows without the database',
                 lambda: weft_net.holds(
                     lambda: NET.flows('h2') == before['h2']))
        VMS['a'].wait_ping(VMS['b'].ip)
        for host in 'h1', 'h2', 'h3':
            TESTBED.start(host, 'db')
        wait_in_sync('h1', 'h2', 'h3')
        wait_api()
        self.assertEqual(NET.flows('h1'), before['h1'])
        vm = NET.vm('after', 'h2', 'n1', '--group', 'open')
        vm.configure()
        vm.wait_ping(VMS['a'].ip)
        vm.unplug()
        NET.weft('port', 'delete', 'after')


if __name__ == '__main__':
    weft_testbed.main()
