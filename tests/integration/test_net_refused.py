#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A port is up only if the switch has taken its flows: here somebody has given
the tunnel option that they need another place, so that the switch refuses
them.  The port says so, and 'plug --wait' does; and it comes up when that is
mended."""

import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '../support'))
# pylint: disable=wrong-import-position
import weft_net  # noqa: E402
import weft_testbed  # noqa: E402
from weft_testbed import wait_for  # noqa: E402

TESTBED = weft_testbed.Testbed(hosts=1, block=False, net=True)
NET = weft_net.Net(TESTBED)
OPTION = '{class=0xff57,type=1,len=4}->'
WORDS = 'the switch refuses some of its flows'


def setUpModule():
    TESTBED.up()


def tearDownModule():
    for vm in NET.vms.values():
        TESTBED.exec(None, 'ip', 'netns', 'delete', vm.netns, check=False)
    try:
        TESTBED.down()
    except AssertionError as error:
        # What netd says of it is an error, and wanted.
        if 'refuse' not in str(error):
            raise


def ofctl(*command):
    run = TESTBED.host_dir('h1') / 'ovs'
    NET.ovs('h1', 'ovs-ofctl', '-O', 'OpenFlow15', command[0],
            f'unix:{run}/br-int.mgmt', *command[1:])


def map_option(field):
    """With netd away, and without flows: those that use it hold it."""
    TESTBED.kill('h1', 'netd', 'TERM')
    ofctl('del-flows')
    ofctl('del-tlv-map')
    ofctl('add-tlv-map', OPTION + field)
    TESTBED.start('h1', 'netd')
    wait_for('netd to answer', lambda: NET.weft(
        'network', 'list', check=False).returncode == 0)


class Refused(unittest.TestCase):
    def test_port_says_so(self):
        NET.network('n', '10.0.0.0/24')
        NET.open_group('open')
        before = NET.vm('before', 'h1', 'n', '--group', 'open')
        vm = NET.vm('vm', 'h1', 'n', '--group', 'open', plug=False)
        self.assertEqual(before.state(), 'up')
        map_option('tun_metadata5')
        done = NET.weft('port', 'plug', 'vm', '--host', 'h1', '--netns',
                        vm.netns, '--wait', check=False)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        self.assertIn(WORDS, done.stderr)
        for one in vm, before:
            one.wait_state('down')
            self.assertIn(WORDS, one.port['stateReason'])
        map_option('tun_metadata0')
        for one in vm, before:
            one.wait_state('up')
            self.assertEqual(one.port['stateReason'], '')
            one.configure()
        vm.wait_ping(before.ip)


if __name__ == '__main__':
    weft_testbed.main()
