#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A QEMU guest on a vhost-user-blk volume with three replicas: fio verifies what
it writes while a replica's blockd and then the owner's blockd are killed and
come back.  The guest sees no error."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent /
                       'support'))
# pylint: disable=wrong-import-position
import guest  # noqa: E402
import weft_testbed  # noqa: E402

TESTBED = weft_testbed.Testbed(hosts=3, disk_size='1G')

FIO = ('fio --name=guest --filename=/dev/vda --direct=1 --ioengine=libaio '
       '--rw=randwrite --bs=4k --size=96M --iodepth=8 --verify=crc32c '
       '--verify_fatal=1 --do_verify=1 --end_fsync=1')


def setUpModule():
    TESTBED.up()


def tearDownModule():
    TESTBED.down()


class Guest(unittest.TestCase):
    def test_fio_lives_through_kills(self):
        TESTBED.create('disk', '128M')
        socket = TESTBED.attach('disk', kind='--vhost-user')
        commands = ['cat /sys/block/vda/queue/write_cache',
                    f'echo load-begins; {FIO}',
                    f'{FIO} --verify_only']
        with guest.Guest(socket, commands) as vm:
            self.assertIn('write back', vm.result(0, timeout=120).output)
            vm.wait_for('load-begins', timeout=60)
            TESTBED.kill('h2')
            TESTBED.wait_volume('disk', 'the replica to be stale',
                                lambda v: weft_testbed.replica_of(
                                    v, 'h2')[0]['state'] == 'STALE')
            TESTBED.start('h2')
            TESTBED.wait_healthy('disk')
            TESTBED.kill('h1')
            TESTBED.start('h1')
            TESTBED.wait_healthy('disk', host='h2')
            for index in (1, 2):
                result = vm.result(index, timeout=240)
                self.assertEqual(result.status, 0, result.output)


if __name__ == '__main__':
    weft_testbed.main()
