#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""SIGTERM ends blockd with 0 within seconds, whatever it is doing: idle, just
starting, serving clients, with volumes that are held or half attached, without a
database; and a blockd started afterwards goes on from there."""

import os
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '../support'))
# pylint: disable=wrong-import-position
import weft_testbed  # noqa: E402
from weft_testbed import SCALE, wait_for  # noqa: E402

os.environ.setdefault('SOURCE_ROOT', str(weft_testbed.TOP))
import fake_server  # noqa: E402
import grpc  # noqa: E402

STUBS = tempfile.TemporaryDirectory()
fake_server.make_stubs(STUBS.name)
# pylint: disable=no-name-in-module
from weft.v1 import event_pb2, event_pb2_grpc  # noqa: E402
from weft.v1 import volume_pb2, volume_pb2_grpc  # noqa: E402

TESTBED = weft_testbed.Testbed(hosts=3)

# It gives itself 20 s, then says so and ends with 1.
SECONDS = 10


class Daemon:
    """The blockd of h1, as a child of ours: its exit code is seen."""

    process = None

    @classmethod
    def start(cls, wait=True):
        host_dir = TESTBED.host_dir('h1')
        cls.process = TESTBED.start_process(
            'h1', weft_testbed.build_dir() / 'blockd/blockd', '--config',
            host_dir / 'blockd.conf')
        if wait:
            wait_for('blockd to answer', lambda: TESTBED.weft(
                'status', check=False).returncode == 0)

    @classmethod
    def stop(cls):
        """Ends it as an administrator would; how long that took."""
        begun = time.monotonic()
        cls.process.terminate()
        try:
            cls.process.wait(25)
        finally:
            errors = cls.process.errors()
            if weft_testbed.TROUBLE.search(errors):
                raise AssertionError(errors[-5000:])
        took = time.monotonic() - begun
        if took > SECONDS * SCALE:
            raise AssertionError(f'took {took:.1f} s: {errors[-3000:]}')
        print(f'  ended after {took:.2f} s', flush=True)


def set_up():
    """A test bed whose first blockd is our own child, with two reactors."""
    TESTBED.up()
    TESTBED.kill('h1', signum='TERM')
    with open(TESTBED.host_dir('h1') / 'blockd.conf', 'a',
              encoding='ascii') as file:
        file.write('[reactor]\ncount = 2\n')
    Daemon.start()


setUpModule, tearDownModule = set_up, TESTBED.down


class Stop(unittest.TestCase):
    def tearDown(self):
        """All is well again after a start."""
        for host in TESTBED.hosts:
            for daemon in ('db', 'blockd'):
                if (host, daemon) in TESTBED.killed and \
                        (host, daemon) != ('h1', 'blockd'):
                    TESTBED.start(host, daemon)
        if not Daemon.process.is_running():
            Daemon.start(wait=False)
        for name in ('a', 'b', 'c'):
            def is_gone(name=name):
                TESTBED.weft('volume', 'detach', name, '--timeout', '10s',
                             check=False)
                done = TESTBED.weft('volume', 'delete', name, '--timeout',
                                    '10s', check=False)
                return done.returncode == 0 or 'there is no' in done.stderr
            wait_for(f'volume {name} to be deleted', is_gone, 60)

    def create(self, name, size='64M'):
        """When all disks are in service, that is."""
        wait_for(f'volume {name}', lambda: TESTBED.weft(
            'volume', 'create', name, '--size', size, '--pool', 'default',
            '--timeout', '10s', check=False).returncode == 0)

    def test_idle(self):
        Daemon.stop()
        Daemon.start()
        Daemon.stop()

    def test_just_started(self):
        Daemon.stop()
        for wait in (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1):
            Daemon.start(wait=False)
            # libc's and our start before the signals are taken: not of
            # interest.
            wait_for('its signals to be its own', lambda: (
                'SigBlk:\t0000000000000000' not in
                open(f'/proc/{Daemon.process.child.pid}/status').read()),
                step=0.001)
            time.sleep(wait)
            Daemon.stop()

    def test_serving(self):
        self.create('a')
        self.create('b')
        uri = TESTBED.attach('a')
        TESTBED.attach('b', kind='--vhost-user')
        load = TESTBED.load('h2', uri)
        channel = grpc.insecure_channel(TESTBED.endpoint('h1'))
        watches = [
            volume_pb2_grpc.VolumeServiceStub(channel).WatchVolumes(
                volume_pb2.WatchVolumesRequest(parent='projects/-')),
            event_pb2_grpc.EventServiceStub(channel).WatchEvents(
                event_pb2.WatchEventsRequest(history_count=5))]
        for watch in watches:
            next(watch)
        waiting = TESTBED.start_process('h1', 'weft', 'volume', 'attach', 'a',
                                        '--host', 'h1', '--vhost-user')
        Daemon.stop()
        Daemon.start()
        load.wait_progress()
        load.finish()
        for watch in watches:
            with self.assertRaises(grpc.RpcError) as caught:
                while True:
                    next(watch)
            self.assertEqual(caught.exception.code(),
                             grpc.StatusCode.UNAVAILABLE)
        channel.close()
        waiting.close()

    def test_held(self):
        """With requests of clients that cannot be done now."""
        self.create('a')
        uri = TESTBED.attach('a')
        load = TESTBED.load('h1', uri)
        for host in ('h2', 'h3'):
            TESTBED.kill(host)
        TESTBED.wait_volume('a', 'to be held',
                            lambda volume: volume['health'] == 'HELD')
        Daemon.stop()
        Daemon.start(wait=False)
        for host in ('h2', 'h3'):
            TESTBED.start(host)
        load.wait_progress()
        load.finish()

    def test_half_attached(self):
        self.create('a')
        for host in ('h2', 'h3'):
            TESTBED.kill(host)
        TESTBED.weft('volume', 'attach', 'a', '--host', 'h1', '--nbd',
                     '--timeout', '3s', check=False)
        TESTBED.wait_volume(
            'a', 'to have an owner', lambda volume: volume['ownerHost'] != '')
        Daemon.stop()

    def test_detaching(self):
        """A detach that waits, because the volume is held."""
        self.create('a')
        uri = TESTBED.attach('a')
        load = TESTBED.load('h1', uri, '--abandon')
        for host in ('h2', 'h3'):
            TESTBED.kill(host)
        TESTBED.wait_volume('a', 'to be held',
                            lambda volume: volume['health'] == 'HELD')
        TESTBED.weft('volume', 'detach', 'a', '--timeout', '2s', check=False)
        Daemon.stop()
        load.close()

    def test_forced_detach(self):
        """Does not wait for a volume that is held."""
        self.create('a')
        uri = TESTBED.attach('a')
        load = TESTBED.load('h1', uri, '--abandon')
        for host in ('h2', 'h3'):
            TESTBED.kill(host)
        TESTBED.wait_volume('a', 'to be held',
                            lambda volume: volume['health'] == 'HELD')
        TESTBED.weft('volume', 'detach', 'a', '--timeout', '2s', check=False)
        TESTBED.weft('volume', 'detach', 'a', '--force')
        load.close()
        wait_for('the export to be gone', lambda: 'ended without a flush'
                 in Daemon.process.errors(), 10)
        TESTBED.weft('volume', 'delete', 'a', '--timeout', '5s')
        Daemon.stop()

    def test_no_database(self):
        self.create('a')
        self.create('b')
        uri = TESTBED.attach('a')
        TESTBED.attach('b', kind='--vhost-user')
        load = TESTBED.load('h2', uri)
        for host in TESTBED.hosts:
            TESTBED.kill(host, 'db')
        load.wait_progress()
        Daemon.stop()
        # By its local records (S22).
        Daemon.start(wait=False)
        load.wait_progress()
        Daemon.stop()
        for host in TESTBED.hosts:
            TESTBED.start(host, 'db')
        Daemon.start()
        load.wait_progress()
        load.finish()

    def test_never_a_database(self):
        for host in TESTBED.hosts:
            TESTBED.kill(host, 'db')
        Daemon.stop()
        Daemon.start(wait=False)
        time.sleep(1)
        Daemon.stop()


if __name__ == '__main__':
    weft_testbed.main()
