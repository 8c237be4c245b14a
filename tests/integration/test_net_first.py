#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The first packet between two hosts is not lost: on fresh hosts, right after
both ports are up, in both directions; and again after ovs-vswitchd, which
knows the ways between hosts, was restarted."""

import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '../support'))
# pylint: disable=wrong-import-position
import weft_net  # noqa: E402
import weft_testbed  # noqa: E402

BEDS = int(os.environ.get('WEFT_BEDS', '3'))


class First(unittest.TestCase):
    def first_ping(self, one, other):
        done = one.exec('ping', '-n', '-c', '1', '-W', '5', other.ip,
                        check=False)
        self.assertEqual(done.returncode, 0,
                         f'{one.name} to {other.name}: {done.stdout}')

    def one_bed(self, testbed, turn):
        net = weft_net.Net(testbed)
        net.network('n', '10.0.0.0/24')
        net.open_group('open')
        vms = [net.vm(name, host, 'n', '--group', 'open', plug=False)
               for name, host in (('a', 'h1'), ('b', 'h2'))]
        try:
            if turn % 2 == 1:
                vms.reverse()
            for vm in vms:
                vm.plug()
                vm.configure()
            self.first_ping(*vms)
            # What the switch learned is gone with it.
            before = net.flows('h1')
            testbed.kill('h1', 'ovs')
            testbed.start('h1', 'ovs')
            weft_testbed.wait_for('the same flows', lambda: weft_net.holds(
                lambda: net.flows('h1') == before))
            self.first_ping(*vms)
        finally:
            for vm in vms:
                testbed.exec(None, 'ip', 'netns', 'delete', vm.netns,
                             check=False)

    def test_fresh_beds(self):
        for turn in range(BEDS):
            testbed = weft_testbed.Testbed(hosts=2, block=False, net=True)
            with self.subTest(turn=turn):
                testbed.up()
                try:
                    self.one_bed(testbed, turn)
                finally:
                    testbed.down()


if __name__ == '__main__':
    weft_testbed.main()
