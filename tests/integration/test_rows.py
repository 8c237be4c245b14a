#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Rows that another hand has changed: what runs follows them, or refuses, and
no blockd ever falls over it.  Rules are those of STORAGE.md."""

import json
import os
import sys
import tempfile
import threading
import time
import unittest
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '../support'))
# pylint: disable=wrong-import-position
import weft_testbed  # noqa: E402
from weft_testbed import wait_for  # noqa: E402

os.environ.setdefault('SOURCE_ROOT', str(weft_testbed.TOP))
import fake_server  # noqa: E402
import grpc  # noqa: E402

STUBS = tempfile.TemporaryDirectory()
fake_server.make_stubs(STUBS.name)
# pylint: disable=no-name-in-module
from weft.v1 import (  # noqa: E402
    common_pb2, host_pb2, host_pb2_grpc, operation_pb2, operation_pb2_grpc,
    volume_pb2, volume_pb2_grpc)

TESTBED = weft_testbed.Testbed(hosts=3)
setUpModule, tearDownModule = TESTBED.up, TESTBED.down


def transact(*operations):
    """Commits; the results."""
    remotes = ','.join(f'tcp:{TESTBED.address(host)}:6641'
                       for host in TESTBED.hosts)
    done = TESTBED.exec('h1', 'ovsdb-client', 'transact', remotes,
                        json.dumps(['Weft', *operations]))
    results = json.loads(done.stdout)
    for result in results:
        if 'error' in result:
            raise AssertionError(result)
    return results


def select(table, *where):
    return transact({'op': 'select', 'table': table,
                     'where': list(where)})[0]['rows']


def update(table, row, **columns):
    transact({'op': 'update', 'table': table, 'row': columns,
              'where': [['_uuid', '==', row['_uuid']]]})


def delete(table, row):
    transact({'op': 'delete', 'table': table,
              'where': [['_uuid', '==', row['_uuid']]]})


def volume_row(name):
    return select('Volume', ['name', '==', name])[0]


class Rows(unittest.TestCase):
    def setUp(self):
        wait_for('all disks to be in service', lambda: all(
            row['state'] == 'serving' for row in select('Disk_Status')) and
            len(select('Disk_Status')) == 3)

    def test_disk_row_is_deleted(self):
        """Under a volume that runs: its replica there is gone, no more."""
        self.addCleanup(TESTBED.drop, 'a')
        TESTBED.create('a', '64M')
        uri = TESTBED.attach('a', 'h2')
        load = TESTBED.load('h1', uri)
        disk = select('Disk', ['host', '==', 'h2'])[0]
        delete('Disk', disk)
        TESTBED.wait_volume(
            'a', 'to lack a replica',
            lambda volume: volume['health'] == 'DEGRADED', seconds=60)
        load.wait_progress()
        # As it was: it belongs here, and knows its claim.
        disk.pop('_version')
        _, row_uuid = disk.pop('_uuid')
        del row_uuid
        transact({'op': 'insert', 'table': 'Disk', 'row': disk})
        TESTBED.wait_healthy('a', seconds=60)
        load.wait_progress()
        load.finish()

    def test_disk_is_claimed_by_another(self):
        """S13: the row decides; and the true claim, when it comes back."""
        self.addCleanup(TESTBED.drop, 'a')
        TESTBED.create('a', '64M')
        load = TESTBED.load('h1', TESTBED.attach('a', 'h2'))
        disk = select('Disk', ['host', '==', 'h2'])[0]
        update('Disk', disk, claim=['uuid', str(uuid.uuid4())])
        wait_for('the disk to be refused', lambda: select(
            'Disk_Status', ['host', '==', 'h2'])[0]['state'] == 'failed')
        load.wait_progress()
        # Whoever starts now is refused as well.
        TESTBED.kill('h2')
        TESTBED.start('h2')
        time.sleep(2)
        status = select('Disk_Status', ['host', '==', 'h2'])[0]
        self.assertNotEqual(status['state'], 'serving', status)
        update('Disk', disk, claim=disk['claim'])
        TESTBED.wait_healthy('a', seconds=60)
        load.wait_progress()
        load.finish()

    def test_disk_restarts_often(self):
        """S13, a crash at any step of a claim: it never refuses itself."""
        for number in range(12):
            TESTBED.kill('h3')
            TESTBED.start('h3')
            time.sleep(0.02 * number)
        wait_for('the disk to be in service', lambda: select(
            'Disk_Status', ['host', '==', 'h3'])[0]['state'] == 'serving')
        self.assertEqual(select('Disk', ['host', '==', 'h3'])[0]['state'],
                         'ready')

    def test_owner_is_taken(self):
        """Another instance's epoch: I/O here ends, and it is claimed anew."""
        self.addCleanup(TESTBED.drop, 'a')
        TESTBED.create('a', '64M')
        uri = TESTBED.attach('a', 'h2')
        load = TESTBED.load('h1', uri)
        row = volume_row('a')
        update('Volume', row, owner_instance=['uuid', str(uuid.uuid4())],
               epoch=row['epoch'] + 1, clean=False)
        wait_for('another claim',
                 lambda: volume_row('a')['epoch'] > row['epoch'] + 1)
        load.wait_progress()
        load.finish()
        # By another host, which does not exist: held off, then let go.
        row = volume_row('a')
        update('Volume', row, owner_instance=['uuid', str(uuid.uuid4())],
               epoch=row['epoch'] + 1, clean=False, owner_host='h9')
        TESTBED.wait_volume('a', 'to be attaching',
                            lambda volume: volume['state'] == 'ATTACHING')
        TESTBED.weft('volume', 'detach', 'a', '--force')
        TESTBED.attach('a', 'h2')

    def test_owner_is_taken_at_any_time(self):
        """While claiming, starting, stopping."""
        self.addCleanup(TESTBED.drop, 'a')
        TESTBED.create('a', '64M')
        for number in range(8):
            attach = TESTBED.start_process('h2', 'weft', 'volume', 'attach',
                                           'a', '--host', 'h2', '--nbd')
            time.sleep(0.03 * number)
            row = volume_row('a')
            update('Volume', row, owner_instance=['uuid', str(uuid.uuid4())],
                   owner_host='h2', epoch=row['epoch'] + 1, clean=False)
            attach.wait()
            TESTBED.weft('volume', 'detach', 'a')
        self.assertEqual(volume_row('a')['owner_host'], '')

    def test_volume_is_deleted(self):
        """All its rows, under a running export."""
        TESTBED.create('a', '64M')
        TESTBED.attach('a', 'h2')
        row = volume_row('a')
        where = [['volume', '==', row['_uuid']]]
        transact({'op': 'delete', 'table': 'Attachment', 'where': where},
                 {'op': 'delete', 'table': 'Mirror', 'where': where},
                 {'op': 'delete', 'table': 'Volume',
                  'where': [['_uuid', '==', row['_uuid']]]})
        wait_for('its status to go', lambda: not select(
            'Attachment_Status', ['volume', '==', row['_uuid']]))

    def test_kind_is_changed(self):
        """From NBD to vhost-user and back, faster than it can follow."""
        self.addCleanup(TESTBED.drop, 'a', 'h2')
        TESTBED.create('a', '64M')
        TESTBED.attach('a', 'h2')
        row = select('Attachment')[0]
        for kind in ('vhost_user', 'nbd', 'vhost_user'):
            update('Attachment', row, kind=kind)
        wait_for('the socket', lambda: any(
            status['uri'].endswith('.sock')
            for status in select('Attachment_Status')))
        update('Attachment', row, host='h3')
        wait_for('the other host', lambda: [
            (status['host'], status['state'])
            for status in select('Attachment_Status')] == [('h3', 'ready')])

    def test_status_is_deleted(self):
        """It is told again."""
        self.addCleanup(TESTBED.drop, 'a')
        TESTBED.create('a', '64M')
        uri = TESTBED.attach('a', 'h2')
        delete('Attachment_Status', select('Attachment_Status')[0])
        wait_for('the status', lambda: [
            status['uri'] for status in select('Attachment_Status')] == [uri])
        # One of a volume and a host that nobody knows of is not.
        transact({'op': 'insert', 'table': 'Attachment_Status', 'row': {
            'volume': ['uuid', str(uuid.uuid4())], 'host': 'h1',
            'state': 'ready', 'uri': 'nbd://nowhere/'}})
        wait_for('it to go', lambda: len(select('Attachment_Status')) == 1)

    def test_view_is_raised(self):
        """A membership change by another hand (a repair, say) is followed."""
        self.addCleanup(TESTBED.drop, 'a')
        TESTBED.create('a', '64M')
        load = TESTBED.load('h1', TESTBED.attach('a', 'h2'))
        row = select('Mirror')[0]
        in_sync = row['in_sync'][1]
        update('Mirror', row, view=row['view'] + 1,
               in_sync=['set', in_sync[:2]])
        wait_for('all to be in sync again',
                 lambda: len(select('Mirror')[0]['in_sync'][1]) == 3)
        load.wait_progress()
        load.finish()

    def test_pending_is_not_resumed(self):
        """S22: a membership commit was under way when the database went: its
        outcome is not known, so a blockd that restarts waits for it."""
        self.addCleanup(TESTBED.drop, 'a')
        TESTBED.create('a', '64M')
        load = TESTBED.load('h1', TESTBED.attach('a', 'h2'))
        load.wait_progress()
        for host in TESTBED.hosts:
            TESTBED.kill(host, 'db')
        TESTBED.kill('h3')
        wait_for('the volume to need the database', lambda:
                 'kind=mirror-held' in TESTBED.log('h2'))
        TESTBED.kill('h2')
        TESTBED.start('h3')
        size = len(TESTBED.log('h2'))
        TESTBED.start('h2')
        time.sleep(5)   # It would be resumed after 2 s.
        self.assertNotIn('resuming', TESTBED.log('h2')[size:])
        for host in TESTBED.hosts:
            TESTBED.start(host, 'db')
        TESTBED.wait_healthy('a', seconds=60)
        load.wait_progress()
        load.finish()

    def test_detached_while_its_host_is_dead(self):
        """The next blockd there lets go of it; then it can be elsewhere."""
        self.addCleanup(TESTBED.drop, 'a')
        TESTBED.create('a', '64M')
        TESTBED.attach('a', 'h2')
        TESTBED.kill('h2')
        TESTBED.weft('volume', 'detach', 'a', '--timeout', '1s', check=False)
        attach = TESTBED.start_process('h1', 'weft', 'volume', 'attach', 'a',
                                       '--host', 'h3', '--nbd')
        time.sleep(1)
        self.assertTrue(attach.is_running())
        TESTBED.start('h2')
        attach.wait()
        wait_for('one status', lambda: [
            status['host'] for status in select('Attachment_Status')] ==
            ['h3'])

    def test_watch_of_many(self):
        """More resources than a stream has room for at once."""
        pool = select('Pool')[0]['_uuid']
        count = 300
        transact(*({'op': 'insert', 'table': 'Volume', 'row': {
            'project': 'many', 'name': f'v{number}', 'pool': pool,
            'size_bytes': 1 << 20, 'stripe_width': 1,
            'extent_bytes': 1 << 20, 'state': 'creating'}}
            for number in range(count)))
        channel = grpc.insecure_channel(TESTBED.endpoint('h1'))
        self.addCleanup(channel.close)
        stream = volume_pb2_grpc.VolumeServiceStub(channel).WatchVolumes(
            volume_pb2.WatchVolumesRequest(parent='projects/many'))
        seen = {'ADDED': set(), 'MODIFIED': set(), 'REMOVED': set()}

        def until(kind):
            """Reads, as slowly as a client may, until all are known so."""
            while len(seen[kind]) < count:
                message = next(stream)
                name = volume_pb2.WatchVolumesResponse.DESCRIPTOR.fields_by_name[
                    'type'].enum_type.values_by_number[message.type].name
                if name != 'SYNCED':
                    self.assertNotIn(message.volume.name, seen[name])
                    seen[name].add(message.volume.name)

        time.sleep(0.5)     # The stream's queue is full, and waits.
        until('ADDED')
        self.assertEqual(seen['REMOVED'] | seen['MODIFIED'], set())
        every = [['project', '==', 'many']]
        transact({'op': 'update', 'table': 'Volume',
                  'row': {'state': 'ready'}, 'where': every})
        time.sleep(0.5)
        until('MODIFIED')
        transact({'op': 'delete', 'table': 'Volume', 'where': every})
        until('REMOVED')
        self.assertEqual(seen['ADDED'], seen['REMOVED'])
        timer = threading.Timer(1, stream.cancel)
        timer.start()
        with self.assertRaises(grpc.RpcError):
            next(stream)    # Nothing more comes.
        timer.join()


class Operations(unittest.TestCase):
    """What the manager makes of their rows."""

    def ended(self, kind):
        """The row of the last operation of a kind, when it says how it
        ended."""
        def find():
            rows = select('Operation', ['kind', '==', kind])
            last = max(rows, key=lambda row: row['create_time_ms'])
            return last['state'] != 'running' and last
        return wait_for(f'the end of {kind} to be written down', find)

    def shown(self, row):
        """The same by the API."""
        channel = grpc.insecure_channel(TESTBED.endpoint('h1'))
        self.addCleanup(channel.close)
        return operation_pb2_grpc.OperationServiceStub(channel).GetOperation(
            operation_pb2.GetOperationRequest(
                name=f'operations/{row["_uuid"][1]}'), timeout=30)

    def test_done(self):
        self.addCleanup(TESTBED.drop, 'a')
        TESTBED.create('a', '64M')
        row = self.ended('CreateVolume')
        self.assertEqual((row['state'], row['error']), ('done', ''))
        self.assertGreaterEqual(row['update_time_ms'], row['create_time_ms'])
        shown = self.shown(row)
        self.assertTrue(shown.done)
        self.assertFalse(shown.HasField('error'))
        self.assertEqual(shown.end_time.ToMilliseconds(),
                         row['update_time_ms'])

    def test_failed(self):
        """It stays so, whatever becomes of its target."""
        TESTBED.file('not-a-disk').write_bytes(b'data that counts' * 1000)
        TESTBED.weft('disk', 'add', TESTBED.file('not-a-disk'), '--host',
                     'h1', check=False)
        row = self.ended('CreateDisk')
        self.assertEqual(row['state'], 'failed')
        self.assertNotEqual(row['error'], '')
        for disk in select('Disk', ['state', '==', 'refused']):
            TESTBED.weft('disk', 'remove', disk['disk_uuid'][1], '--host',
                         'h1')
        shown = self.shown(row)
        self.assertEqual(shown.error.message, row['error'])
        self.assertEqual(shown.end_time.ToMilliseconds(),
                         row['update_time_ms'])

    def test_old_ones_go(self):
        now = int(time.time() * 1000)

        def insert(state, age_ms):
            return transact({'op': 'insert', 'table': 'Operation', 'row': {
                'request_id': str(uuid.uuid4()), 'kind': 'Test',
                'state': state, 'create_time_ms': now - age_ms,
                'update_time_ms': now - age_ms}})[0]['uuid']
        gone = [insert('done', 3_700_000), insert('failed', 3_700_000)]
        kept = [insert('done', 3_000_000), insert('failed', 60_000),
                insert('running', 7_200_000)]
        wait_for('the old ones to go', lambda: not any(
            select('Operation', ['_uuid', '==', row]) for row in gone))
        for row in kept:
            self.assertTrue(select('Operation', ['_uuid', '==', row]))
        wait_for('the one that ran to have ended', lambda: select(
            'Operation', ['_uuid', '==', kept[2]])[0]['state'] == 'done')


class Hosts(unittest.TestCase):
    """Signs of life."""

    def test_dead_host(self):
        """A watch tells that a host is silent, and that it is back."""
        channel = grpc.insecure_channel(TESTBED.endpoint('h1'))
        self.addCleanup(channel.close)
        stream = host_pb2_grpc.HostServiceStub(channel).WatchHosts(
            host_pb2.WatchHostsRequest(), timeout=120)
        for change in stream:
            if change.type == common_pb2.SYNCED:
                break

        def until(state):
            for change in stream:
                if change.host.name == 'hosts/h3' and \
                        change.host.state == state:
                    return change.host.state_reason
            return self.fail('the stream ended')
        TESTBED.kill('h3', signum='STOP')
        try:
            self.assertIn('no sign of life', until(host_pb2.Host.DOWN))
        finally:
            TESTBED.kill('h3', signum='CONT')
        until(host_pb2.Host.UP)

    def test_clock_is_wrong(self):
        """What a row says of the time is not believed, once it moves."""
        def state():
            return next(host['state'] for host in TESTBED.weft_json(
                'host', 'list')['hosts'] if host['name'] == 'hosts/h3')
        row = select('Host_Status', ['host', '==', 'h3'])[0]
        TESTBED.kill('h3', signum='STOP')
        try:
            for ago in 3_600_000, 3_599_000:
                update('Host_Status', row,
                       last_seen_ms=int(time.time() * 1000) - ago)
                self.assertEqual(state(), 'UP')
        finally:
            TESTBED.kill('h3', signum='CONT')


class Places(unittest.TestCase):
    """Replicas that a disk can hold."""

    def test_disks_are_full(self):
        """30 on a small disk; then no more, and that is said."""
        self.assertEqual({row['replica_max']
                          for row in select('Disk_Status')}, {30})
        wait_for('the disks to be empty', lambda: {
            row['replica_count'] for row in select('Disk_Status')} == {0})
        names = [f'full{number}' for number in range(31)]
        # After the volumes have gone: their places are free a little later.
        self.addCleanup(wait_for, 'the disks to be empty again', lambda: {
            row['replica_count'] for row in select('Disk_Status')} == {0})
        for name in names:
            self.addCleanup(TESTBED.drop, name)
        done = [TESTBED.weft('volume', 'create', name, '--size', '1M',
                             '--pool', 'default', check=False)
                for name in names]
        self.assertEqual([ended.returncode for ended in done[:30]], [0] * 30)
        self.assertNotEqual(done[30].returncode, 0)
        self.assertIn('as many replicas as they can', done[30].stderr)
        self.assertEqual({row['state'] for row in select('Volume')},
                         {'ready'})
        wait_for('the disks to say so', lambda: {
            row['replica_count'] for row in select('Disk_Status')} == {30})
        # One that is deleted makes room.
        TESTBED.weft('volume', 'delete', names[0])
        wait_for('its replicas to go', lambda: {
            row['replica_count'] for row in select('Disk_Status')} == {29})
        TESTBED.weft('volume', 'create', names[30], '--size', '1M', '--pool',
                     'default')


if __name__ == '__main__':
    weft_testbed.main()
