#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Guests (QEMU, TCG) with vhost-user-blk disks on a three-host test bed: what
they write is there, whatever dies beneath them."""

import json
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent /
                       'support'))
# pylint: disable=wrong-import-position
import guest  # noqa: E402
import weft_testbed  # noqa: E402

TESTBED = weft_testbed.Testbed(hosts=3)
setUpModule, tearDownModule = TESTBED.up, TESTBED.down
BOOT_S = 120 * weft_testbed.SCALE
MIB = 1 << 20
FIO = ('fio --name=verify --filename=/dev/vda --direct=1 --ioengine=libaio '
       '--verify=crc32c --verify_fatal=1 --output-format=json ')


def fio_jobs(result):
    """The jobs of fio's JSON, one for each run of it."""
    text, at, jobs = result.output, result.output.find('{'), []
    if result.status != 0 or at < 0:
        raise AssertionError(f'fio ended with {result.status}: {text[-2000:]}')
    while at >= 0:
        report, end = json.JSONDecoder().raw_decode(text, at)
        jobs += report['jobs']
        at = text.find('{', end)
    return jobs


class Guest(unittest.TestCase):
    """One boot for each test."""

    def setUp(self):
        self.name = self.id().rpartition('.')[2].replace('_', '-')
        TESTBED.create(self.name, '64M')
        self.socket = TESTBED.attach(self.name, kind='--vhost-user')

    def tearDown(self):
        for host in TESTBED.hosts:
            if not TESTBED.is_running(host, 'blockd'):
                TESTBED.start(host)
        TESTBED.drop(self.name)

    def wait_writes(self):
        """Until the guest writes, or does so again after a start of blockd."""
        weft_testbed.wait_for('the guest to write', lambda: (
            TESTBED.metric('h1', 'weft_volume_writes_total') or 0) > 0)

    def test_disk(self):
        """The disk as the guest sees it, and fio on it."""
        commands = [
            'cat /sys/block/vda/size /sys/block/vda/queue/write_cache '
            '/sys/block/vda/queue/logical_block_size',
            FIO + '--rw=randwrite --bsrange=4k-64k --size=16M --iodepth=16',
            FIO + '--rw=randwrite --bs=512 --size=1M --offset=40M '
            '--iodepth=4 --fsync=64',
            'blkdiscard -o 0 -l 33554432 /dev/vda && '
            'cmp -n 33554432 /dev/vda /dev/zero && echo all zeros',
            'dd if=/dev/zero bs=1M count=4 2>/dev/null | tr "\\0" Z | '
            'dd of=/dev/vda bs=1M seek=8 conv=fsync 2>&1',
        ]
        with guest.Guest(self.socket, commands, queues=2, cpus=2) as vm:
            results = [vm.result(index, BOOT_S)
                       for index in range(len(commands))]
        self.assertEqual(results[0].output.split(),
                         [str(64 * MIB // 512), 'write', 'back', '512'])
        self.assertEqual(fio_jobs(results[1])[0]['error'], 0)
        self.assertEqual(fio_jobs(results[2])[0]['error'], 0)
        self.assertIn('all zeros', results[3].output)
        self.assertEqual(results[4].status, 0, results[4].output)
        # The same bytes by another way.
        TESTBED.weft('volume', 'detach', self.name)
        uri = TESTBED.attach(self.name)
        done = TESTBED.exec('h1', 'qemu-io', '-f', 'raw', '-c',
                            'read -P 0x5a 8M 4M', '-c', 'read -P 0 0 8M',
                            uri)
        self.assertNotIn('failed', done.stdout + done.stderr)

    def test_faults(self):
        """fio verifies, again and again until told to stop, while a replica's
        blockd and the owner's are killed and come back."""
        commands = [
            'while ' + FIO + '--rw=randwrite --bs=4k --size=16M --iodepth=8 '
            '--rate_iops=1000 --verify_backlog=1024; do '
            'if read -t 1 -r word </dev/ttyS0; then exit 0; fi; done; exit 1',
            'dmesg | grep -iE "I/O error|vda.*(error|reset|timeout)"']
        with guest.Guest(self.socket, commands) as vm:
            vm.wait_for('@@ begin 000', BOOT_S)
            self.wait_writes()
            TESTBED.kill('h2')
            TESTBED.wait_volume(self.name, 'to be degraded', lambda volume:
                                volume['health'] == 'DEGRADED')
            TESTBED.start('h2')
            TESTBED.wait_healthy(self.name)
            for signum in 'KILL', 'TERM', 'KILL':
                TESTBED.kill('h1', signum=signum)
                TESTBED.start('h1')
                TESTBED.wait_healthy(self.name)
                self.wait_writes()
            vm.say('enough')
            jobs = fio_jobs(vm.result(0, BOOT_S))
            errors = vm.result(1, BOOT_S)
        self.assertEqual([job['error'] for job in jobs], [0] * len(jobs))
        self.assertEqual(errors.output, '')
        longest = max(job[way]['clat_ns']['max'] for job in jobs
                      for way in ('read', 'write'))
        writes = sum(job['write']['total_ios'] for job in jobs)
        print(f'longest stall {longest / 1e9:.2f} s, {writes} writes', end=' ',
              flush=True)
        # Nothing but the export kind says that it was a guest.
        volume = TESTBED.volume(self.name)
        self.assertEqual(volume['attachments'][0]['exportKind'],
                         'VHOST_USER')


if __name__ == '__main__':
    weft_testbed.main()
