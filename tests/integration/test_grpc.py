#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The API of a real cluster, by grpcio and stubs made from proto/: what
proto/weft/v1 promises."""

import os
import pathlib
import sys
import tempfile
import threading
import unittest
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent /
                       'support'))
# pylint: disable=wrong-import-position
import weft_testbed  # noqa: E402
from weft_testbed import wait_for  # noqa: E402

os.environ.setdefault('SOURCE_ROOT', str(weft_testbed.TOP))
import fake_server  # noqa: E402
import grpc  # noqa: E402

STUBS = tempfile.TemporaryDirectory()
fake_server.make_stubs(STUBS.name)

# pylint: disable=no-name-in-module
from google.protobuf import duration_pb2  # noqa: E402
from google.rpc import error_details_pb2, status_pb2  # noqa: E402
from grpc.health.v1 import health_pb2, health_pb2_grpc  # noqa: E402
from grpc.reflection.v1alpha import (  # noqa: E402
    reflection_pb2, reflection_pb2_grpc)
from weft.v1 import (  # noqa: E402
    common_pb2, disk_pb2, disk_pb2_grpc, event_pb2, event_pb2_grpc, host_pb2,
    host_pb2_grpc, operation_pb2, operation_pb2_grpc, pool_pb2, pool_pb2_grpc,
    status_pb2 as cluster_pb2, status_pb2_grpc as cluster_pb2_grpc,
    volume_pb2, volume_pb2_grpc)

TESTBED = weft_testbed.Testbed(hosts=3)
TIMEOUT = 30
MIB = 1 << 20
Code = grpc.StatusCode
Volume = volume_pb2.Volume


def setUpModule():
    TESTBED.up()
    # Channels make their sockets in threads that begin here.
    TESTBED.enter('h1')


def tearDownModule():
    TESTBED.down()


class Stubs:
    """All services of one host."""

    def __init__(self, endpoint):
        self.channel = grpc.insecure_channel(endpoint)
        self.disks = disk_pb2_grpc.DiskServiceStub(self.channel)
        self.events = event_pb2_grpc.EventServiceStub(self.channel)
        self.hosts = host_pb2_grpc.HostServiceStub(self.channel)
        self.operations = operation_pb2_grpc.OperationServiceStub(self.channel)
        self.pools = pool_pb2_grpc.PoolServiceStub(self.channel)
        self.cluster = cluster_pb2_grpc.StatusServiceStub(self.channel)
        self.volumes = volume_pb2_grpc.VolumeServiceStub(self.channel)
        self.health = health_pb2_grpc.HealthStub(self.channel)
        self.reflection = reflection_pb2_grpc.ServerReflectionStub(
            self.channel)


class Case(unittest.TestCase):
    """'one' is h1 by its unix socket, 'two' is h2 by TCP."""

    @classmethod
    def setUpClass(cls):
        cls.one = Stubs(TESTBED.endpoint('h1'))
        cls.two = Stubs(f'{TESTBED.address("h2")}:7700')

    @classmethod
    def tearDownClass(cls):
        cls.one.channel.close()
        cls.two.channel.close()

    def setUp(self):
        self.project = 'p' + uuid.uuid4().hex[:12]
        self.parent = f'projects/{self.project}'

    def tearDown(self):
        for volume in self.list_all(self.parent):
            self.wait(self.one.volumes.DetachVolume(
                volume_pb2.DetachVolumeRequest(name=volume.name),
                timeout=TIMEOUT))
            self.wait(self.one.volumes.DeleteVolume(
                volume_pb2.DeleteVolumeRequest(name=volume.name),
                timeout=TIMEOUT))

    def name(self, volume_id):
        return f'{self.parent}/volumes/{volume_id}'

    def list_all(self, parent, **fields):
        return list(self.one.volumes.ListVolumes(
            volume_pb2.ListVolumesRequest(parent=parent, page_size=1000,
                                          **fields),
            timeout=TIMEOUT).volumes)

    def wait(self, operation, stubs=None):
        """The operation when it is done, and well."""
        stubs = stubs or self.one
        while not operation.done:
            operation = stubs.operations.WaitOperation(
                operation_pb2.WaitOperationRequest(name=operation.name),
                timeout=TIMEOUT)
        self.assertFalse(operation.HasField('error'), operation)
        return operation

    def request(self, volume_id, size=16 * MIB, pool='pools/default',
                **fields):
        return volume_pb2.CreateVolumeRequest(
            parent=self.parent, volume_id=volume_id,
            volume=Volume(size_bytes=size, pool=pool), **fields)

    def create(self, volume_id, **fields):
        """Creates a volume to the end; its name."""
        operation = self.wait(self.one.volumes.CreateVolume(
            self.request(volume_id, **fields), timeout=TIMEOUT))
        self.assertEqual(operation.target, self.name(volume_id))
        return operation.target

    def get(self, name, stubs=None):
        return (stubs or self.one).volumes.GetVolume(
            volume_pb2.GetVolumeRequest(name=name), timeout=TIMEOUT)

    def fails(self, code, function, request):
        """The message, reason and violated fields of a call that must
        fail."""
        with self.assertRaises(grpc.RpcError) as caught:
            answer = function(request, timeout=TIMEOUT)
            if hasattr(answer, 'done'):
                self.wait(answer)
        error = caught.exception
        self.assertEqual(error.code(), code, error.details())
        trailer = dict(error.trailing_metadata())
        self.assertIn('grpc-status-details-bin', trailer, error.details())
        status = status_pb2.Status.FromString(
            trailer['grpc-status-details-bin'])
        self.assertEqual(status.code, code.value[0])
        self.assertEqual(status.message, error.details())
        info, fields = error_details_pb2.ErrorInfo(), []
        self.assertTrue(status.details[0].Unpack(info))
        self.assertEqual(info.domain, 'weft')
        self.assertRegex(info.reason, '^[A-Z][A-Z0-9_]+$')
        for detail in status.details:
            bad = error_details_pb2.BadRequest()
            if detail.Unpack(bad):
                fields = [item.field for item in bad.field_violations]
        if code == Code.INVALID_ARGUMENT:
            self.assertNotEqual(fields, [], error.details())
        return error.details(), info.reason, fields


class Life(Case):
    """One volume from its creation to its end, watched all the time."""

    def test_life(self):
        seen, synced = [], threading.Event()
        stream = self.two.volumes.WatchVolumes(
            volume_pb2.WatchVolumesRequest(parent=self.parent), timeout=120)

        def watch():
            try:
                for change in stream:
                    if change.type == common_pb2.SYNCED:
                        synced.set()
                    seen.append(change)
            except grpc.RpcError:
                pass
        thread = threading.Thread(target=watch)
        thread.start()
        self.assertTrue(synced.wait(TIMEOUT))

        name = self.create('life')
        volume = self.get(name)
        self.assertEqual(volume.name, name)
        self.assertEqual(volume.size_bytes, 16 * MIB)
        self.assertEqual(volume.pool, 'pools/default')
        self.assertEqual(volume.state, Volume.AVAILABLE)
        self.assertEqual(str(uuid.UUID(volume.uid)), volume.uid)
        self.assertGreater(volume.create_time.seconds, 1_500_000_000)
        self.assertEqual(len(volume.mirrors), 1)
        self.assertEqual({replica.host
                          for replica in volume.mirrors[0].replicas},
                         {'hosts/h1', 'hosts/h2', 'hosts/h3'})
        self.assertEqual([item.name for item in self.list_all(self.parent)],
                         [name])

        attach = volume_pb2.AttachVolumeRequest(
            name=name, host='hosts/h3', export_kind=volume_pb2.NBD)
        self.wait(self.one.volumes.AttachVolume(attach, timeout=TIMEOUT))
        volume = self.get(name)
        self.assertEqual(volume.state, Volume.ATTACHED)
        self.assertEqual(volume.owner_host, 'hosts/h3')
        self.assertEqual(volume.health, Volume.HEALTHY)
        attachment = volume.attachments[0]
        self.assertEqual(attachment.state, volume_pb2.Attachment.READY)
        self.assertEqual(attachment.host, 'hosts/h3')
        self.assertEqual(TESTBED.exec('h1', 'nbdinfo', '--size',
                                      attachment.uri).stdout.strip(),
                         str(16 * MIB))
        # Again, the same: a success, and nothing changes.
        self.wait(self.two.volumes.AttachVolume(attach, timeout=TIMEOUT),
                  self.two)
        self.assertEqual(self.get(name).epoch, volume.epoch)

        detach = volume_pb2.DetachVolumeRequest(name=name)
        self.wait(self.one.volumes.DetachVolume(detach, timeout=TIMEOUT))
        volume = self.get(name)
        self.assertEqual(volume.state, Volume.AVAILABLE)
        self.assertEqual(volume.owner_host, '')
        self.assertEqual(len(volume.attachments), 0)
        self.wait(self.one.volumes.DetachVolume(detach, timeout=TIMEOUT))

        self.wait(self.one.volumes.DeleteVolume(
            volume_pb2.DeleteVolumeRequest(name=name), timeout=TIMEOUT))
        self.fails(Code.NOT_FOUND, self.one.volumes.GetVolume,
                   volume_pb2.GetVolumeRequest(name=name))
        wait_for('the watch to see the end', lambda: any(
            change.type == common_pb2.REMOVED for change in seen))
        stream.cancel()
        thread.join()
        self.check_watched(seen, name)

    def check_watched(self, seen, name):
        """The story in the order in which it happened."""
        self.assertEqual(seen[0].type, common_pb2.SYNCED)
        self.assertFalse(seen[0].HasField('volume'))
        self.assertEqual(seen[1].type, common_pb2.ADDED)
        self.assertEqual(seen[-1].type, common_pb2.REMOVED)
        self.assertEqual({change.volume.name for change in seen[1:]}, {name})
        states = [change.volume.state for change in seen[1:]]
        places = [states.index(state) for state in (
            Volume.AVAILABLE, Volume.ATTACHED)]
        self.assertEqual(places, sorted(places))
        self.assertIn(Volume.AVAILABLE, states[places[1]:])

    def test_vhost_user(self):
        name = self.create('vhost')
        self.wait(self.one.volumes.AttachVolume(
            volume_pb2.AttachVolumeRequest(
                name=name, host='hosts/h1',
                export_kind=volume_pb2.VHOST_USER), timeout=TIMEOUT))
        attachment = self.get(name).attachments[0]
        self.assertEqual(attachment.export_kind, volume_pb2.VHOST_USER)
        self.assertEqual(attachment.state, volume_pb2.Attachment.READY)
        self.assertTrue(pathlib.Path(attachment.socket_path).is_socket())
        self.assertEqual(attachment.uri, '')
        # Not also by NBD: that would be another way.
        self.fails(Code.FAILED_PRECONDITION, self.one.volumes.AttachVolume,
                   volume_pb2.AttachVolumeRequest(
                       name=name, host='hosts/h1',
                       export_kind=volume_pb2.NBD))


class Idempotency(Case):
    """A request sent again, to any host, takes effect once."""

    def test_create(self):
        request = self.request('twice', request_id=str(uuid.uuid4()))
        first = self.wait(self.one.volumes.CreateVolume(request,
                                                        timeout=TIMEOUT))
        uid = self.get(first.target).uid
        again = self.wait(self.two.volumes.CreateVolume(
            request, timeout=TIMEOUT), self.two)
        self.assertEqual(again.name, first.name)
        self.assertEqual(again.target, first.target)
        self.assertEqual(self.get(first.target).uid, uid)
        # By another request the name is taken.
        request.request_id = str(uuid.uuid4())
        text, _, _ = self.fails(Code.ALREADY_EXISTS,
                                self.one.volumes.CreateVolume, request)
        self.assertIn('twice', text)

    def test_at_once(self):
        """The same request from many at the same time."""
        request = self.request('rush', request_id=str(uuid.uuid4()))
        futures = [stubs.volumes.CreateVolume.future(request, timeout=TIMEOUT)
                   for stubs in (self.one, self.two) for _ in range(8)]
        names = {self.wait(future.result()).name for future in futures}
        self.assertEqual(len(names), 1)
        self.assertEqual(len(self.list_all(self.parent)), 1)

    def test_race(self):
        """One name, many that want it: one wins."""
        futures = [stubs.volumes.CreateVolume.future(
            self.request('won', request_id=str(uuid.uuid4())),
            timeout=TIMEOUT) for stubs in (self.one, self.two)
                   for _ in range(8)]
        codes = [future.code() for future in futures]
        self.assertEqual(codes.count(Code.OK), 1, codes)
        self.assertEqual(codes.count(Code.ALREADY_EXISTS), 15, codes)

    def test_other_content(self):
        request = self.request('first', request_id=str(uuid.uuid4()))
        self.wait(self.one.volumes.CreateVolume(request, timeout=TIMEOUT))
        request.volume.size_bytes = 32 * MIB
        _, _, fields = self.fails(Code.INVALID_ARGUMENT,
                                  self.two.volumes.CreateVolume, request)
        self.assertEqual(fields, ['request_id'])
        # Nor for another method.
        self.fails(Code.INVALID_ARGUMENT, self.one.volumes.DeleteVolume,
                   volume_pb2.DeleteVolumeRequest(
                       name=self.name('first'),
                       request_id=request.request_id))

    def test_bad_id(self):
        for bad in 'x', '123', str(uuid.uuid4()) + '0':
            _, _, fields = self.fails(
                Code.INVALID_ARGUMENT, self.one.volumes.CreateVolume,
                self.request('bad', request_id=bad))
            self.assertEqual(fields, ['request_id'])

    def test_delete(self):
        name = self.create('gone')
        request = volume_pb2.DeleteVolumeRequest(
            name=name, request_id=str(uuid.uuid4()))
        first = self.wait(self.one.volumes.DeleteVolume(request,
                                                        timeout=TIMEOUT))
        again = self.wait(self.two.volumes.DeleteVolume(
            request, timeout=TIMEOUT), self.two)
        self.assertEqual(first.name, again.name)

    def test_pool(self):
        request = pool_pb2.CreatePoolRequest(
            pool_id='idem', pool=pool_pb2.Pool(replicas=2),
            request_id=str(uuid.uuid4()))
        first = self.one.pools.CreatePool(request, timeout=TIMEOUT)
        self.assertEqual(first.name, 'pools/idem')
        self.assertEqual(first.min_in_sync, 1)
        self.assertEqual(first.stripe_width, 1)
        self.assertEqual(first.extent_size_bytes, MIB)
        self.assertEqual(first.slow_ms, 500)
        self.assertEqual(first.failure_domain, pool_pb2.FAILURE_DOMAIN_HOST)
        self.assertEqual(self.two.pools.CreatePool(
            request, timeout=TIMEOUT).uid, first.uid)
        self.one.pools.DeletePool(pool_pb2.DeletePoolRequest(
            name='pools/idem'), timeout=TIMEOUT)


class Pages(Case):
    """Page tokens and filters."""

    def test_pages(self):
        names = [self.create(f'v{number}') for number in range(5)]
        found, token, sizes = [], '', []
        for _ in range(10):
            answer = self.one.volumes.ListVolumes(
                volume_pb2.ListVolumesRequest(
                    parent=self.parent, page_size=2, page_token=token),
                timeout=TIMEOUT)
            found += [volume.name for volume in answer.volumes]
            sizes.append(len(answer.volumes))
            # Created behind the place where we are, or deleted before it:
            # neither repeats nor hides another.
            token = answer.next_page_token
            if not token:
                break
        self.assertEqual(found, names)
        self.assertEqual(sizes, [2, 2, 1])

    def test_token_of_other(self):
        self.create('v0'), self.create('v1')
        token = self.one.volumes.ListVolumes(
            volume_pb2.ListVolumesRequest(parent=self.parent, page_size=1),
            timeout=TIMEOUT).next_page_token
        self.assertNotEqual(token, '')
        for request in (
                volume_pb2.ListVolumesRequest(parent='projects/other',
                                              page_token=token),
                volume_pb2.ListVolumesRequest(parent=self.parent,
                                              filter='state = "AVAILABLE"',
                                              page_token=token),
                volume_pb2.ListVolumesRequest(parent=self.parent,
                                              page_token='nonsense')):
            _, _, fields = self.fails(Code.INVALID_ARGUMENT,
                                      self.one.volumes.ListVolumes, request)
            self.assertEqual(fields, ['page_token'])
        _, _, fields = self.fails(
            Code.INVALID_ARGUMENT, self.one.hosts.ListHosts,
            host_pb2.ListHostsRequest(page_token=token))
        self.assertEqual(fields, ['page_token'])
        # A token is good at every host.
        self.assertEqual([volume.name for volume in
                          self.two.volumes.ListVolumes(
                              volume_pb2.ListVolumesRequest(
                                  parent=self.parent, page_token=token),
                              timeout=TIMEOUT).volumes], [self.name('v1')])

    def test_bad_page_size(self):
        _, _, fields = self.fails(
            Code.INVALID_ARGUMENT, self.one.volumes.ListVolumes,
            volume_pb2.ListVolumesRequest(parent=self.parent, page_size=-1))
        self.assertEqual(fields, ['page_size'])

    def test_filter(self):
        self.create('plain')
        name = self.create('used')
        self.wait(self.one.volumes.AttachVolume(
            volume_pb2.AttachVolumeRequest(
                name=name, host='hosts/h2', export_kind=volume_pb2.NBD),
            timeout=TIMEOUT))
        found = self.list_all(
            self.parent, filter='state = "ATTACHED" AND '
            'owner_host = "hosts/h2"')
        self.assertEqual([volume.name for volume in found], [name])
        self.assertEqual(self.list_all(
            self.parent, filter='state = "ERROR"'), [])
        for bad in 'nonsense', 'state', 'colour = "red"', \
                'state = "PURPLE"', 'state = "ATTACHED" OR state = "ERROR"':
            _, _, fields = self.fails(
                Code.INVALID_ARGUMENT, self.one.volumes.ListVolumes,
                volume_pb2.ListVolumesRequest(parent=self.parent, filter=bad))
            self.assertEqual(fields, ['filter'], bad)

    def test_views(self):
        self.create('view')
        basic = self.list_all(self.parent)[0]
        full = self.list_all(self.parent,
                             view=volume_pb2.VOLUME_VIEW_FULL)[0]
        self.assertEqual(len(basic.mirrors), 0)
        self.assertEqual(len(full.mirrors), 1)
        got = self.one.volumes.GetVolume(volume_pb2.GetVolumeRequest(
            name=full.name, view=volume_pb2.VOLUME_VIEW_BASIC),
            timeout=TIMEOUT)
        self.assertEqual(len(got.mirrors), 0)

    def test_all_projects(self):
        name = self.create('mine')
        self.assertIn(name, [volume.name
                             for volume in self.list_all('projects/-')])

    def test_others(self):
        """Hosts, disks, pools, operations, events."""
        hosts = self.one.hosts.ListHosts(host_pb2.ListHostsRequest(),
                                         timeout=TIMEOUT).hosts
        self.assertEqual([host.name for host in hosts],
                         ['hosts/h1', 'hosts/h2', 'hosts/h3'])
        for host in hosts:
            self.assertEqual(host.state, host_pb2.Host.UP)
            self.assertEqual(host.disk_count, 1)
            self.assertIn(':7701', host.peer_address)
            self.assertEqual(self.two.hosts.GetHost(
                host_pb2.GetHostRequest(name=host.name),
                timeout=TIMEOUT).uid, host.uid)
        disks = self.one.disks.ListDisks(
            disk_pb2.ListDisksRequest(parent='hosts/-'),
            timeout=TIMEOUT).disks
        self.assertEqual(len(disks), 3)
        for disk in disks:
            self.assertEqual(disk.state, disk_pb2.Disk.ONLINE)
            self.assertEqual(disk.device_class, common_pb2.FILE)
            self.assertEqual(disk.pool, 'pools/default')
            self.assertGreater(disk.size_bytes, 512 * MIB)
            self.assertEqual(disk.name.rpartition('/')[2], disk.uid)
            self.assertEqual(self.one.disks.GetDisk(
                disk_pb2.GetDiskRequest(name=disk.name),
                timeout=TIMEOUT).path, disk.path)
        pool = self.one.pools.GetPool(
            pool_pb2.GetPoolRequest(name='pools/default'), timeout=TIMEOUT)
        self.assertEqual(pool.replicas, 3)
        self.assertEqual(pool.disk_count, 3)
        self.create('for-operations')
        operations = self.one.operations.ListOperations(
            operation_pb2.ListOperationsRequest(page_size=1),
            timeout=TIMEOUT)
        self.assertEqual(operations.operations[0].target,
                         self.name('for-operations'))
        self.assertNotEqual(operations.next_page_token, '')


class Watches(Case):
    """Streams: the present, SYNCED, then changes."""

    def until_synced(self, stream, field):
        found = []
        for change in stream:
            if change.type == common_pb2.SYNCED:
                return found
            self.assertEqual(change.type, common_pb2.ADDED)
            found.append(getattr(change, field))
        return self.fail('the stream ended')

    def test_volumes(self):
        name, other = self.create('a'), self.create('b')
        stream = self.one.volumes.WatchVolumes(
            volume_pb2.WatchVolumesRequest(parent=self.parent),
            timeout=TIMEOUT)
        self.assertEqual({volume.name for volume
                          in self.until_synced(stream, 'volume')},
                         {name, other})
        stream.cancel()
        stream = self.one.volumes.WatchVolumes(
            volume_pb2.WatchVolumesRequest(parent=self.parent, name=other),
            timeout=TIMEOUT)
        self.assertEqual([volume.name for volume
                          in self.until_synced(stream, 'volume')], [other])
        self.wait(self.two.volumes.DeleteVolume(
            volume_pb2.DeleteVolumeRequest(name=name), timeout=TIMEOUT))
        self.wait(self.two.volumes.DeleteVolume(
            volume_pb2.DeleteVolumeRequest(name=other), timeout=TIMEOUT))
        change = next(change for change in stream
                      if change.type == common_pb2.REMOVED)
        self.assertEqual(change.volume.name, other)
        stream.cancel()

    def test_hosts(self):
        stream = self.one.hosts.WatchHosts(host_pb2.WatchHostsRequest(),
                                           timeout=TIMEOUT)
        self.assertEqual({host.name for host
                          in self.until_synced(stream, 'host')},
                         {'hosts/h1', 'hosts/h2', 'hosts/h3'})
        stream.cancel()

    def test_events(self):
        stream = self.one.events.WatchEvents(
            event_pb2.WatchEventsRequest(), timeout=TIMEOUT)
        # It is there when it has its first answer; that has none.
        name = self.create('e')
        self.wait(self.one.volumes.AttachVolume(
            volume_pb2.AttachVolumeRequest(
                name=name, host='hosts/h1', export_kind=volume_pb2.NBD),
            timeout=TIMEOUT))
        event = next(event for event in stream if event.subject == name)
        self.assertRegex(event.reason, '^[A-Z][A-Z0-9_]+$')
        self.assertEqual(event.severity, event_pb2.Event.INFO)
        self.assertEqual(event.host, 'hosts/h1')
        self.assertNotEqual(event.message, '')
        stream.cancel()

        def list_events():
            # The other host's database server may be a moment behind.
            listed = self.two.events.ListEvents(
                event_pb2.ListEventsRequest(page_size=1000), timeout=TIMEOUT)
            return listed if event.name in [
                item.name for item in listed.events] else None
        listed = wait_for('the other host to list it', list_events)
        times = [(item.time.seconds, item.time.nanos)
                 for item in listed.events]
        self.assertEqual(times, sorted(times, reverse=True))


class Operations(Case):
    """Long work."""

    def test_wait(self):
        operation = self.one.volumes.CreateVolume(self.request('w'),
                                                  timeout=TIMEOUT)
        self.assertEqual(operation.method, 'CreateVolume')
        self.assertEqual(operation.target, self.name('w'))
        done = self.wait(operation, self.two)
        # The other host's database server may be a moment behind.
        wait_for('the other host to know', lambda:
                 self.one.operations.GetOperation(
                     operation_pb2.GetOperationRequest(name=done.name),
                     timeout=TIMEOUT).done)

    def test_timeout(self):
        """An attach that cannot end: WaitOperation does."""
        name = self.create('held')
        TESTBED.kill('h3', signum='STOP')
        try:
            operation = self.one.volumes.AttachVolume(
                volume_pb2.AttachVolumeRequest(
                    name=name, host='hosts/h3', export_kind=volume_pb2.NBD),
                timeout=TIMEOUT)
            self.assertFalse(operation.done)
            operation = self.one.operations.WaitOperation(
                operation_pb2.WaitOperationRequest(
                    name=operation.name,
                    timeout=duration_pb2.Duration(nanos=200_000_000)),
                timeout=TIMEOUT)
            self.assertFalse(operation.done)
            self.assertEqual(self.get(name).state, Volume.ATTACHING)
        finally:
            TESTBED.kill('h3', signum='CONT')
        self.wait(operation)
        self.assertEqual(self.get(name).owner_host, 'hosts/h3')

    def test_unknown(self):
        text, _, _ = self.fails(
            Code.NOT_FOUND, self.one.operations.GetOperation,
            operation_pb2.GetOperationRequest(
                name=f'operations/{uuid.uuid4()}'))
        self.assertIn('operations/', text)


class Errors(Case):
    """Codes, reasons, fields, and words that name the object."""

    def test_create(self):
        create = self.one.volumes.CreateVolume
        for size in 0, -1, -4096, 4095, 1 << 62, (1 << 50) + 4096:
            _, _, fields = self.fails(Code.INVALID_ARGUMENT, create,
                                      self.request('x', size=size))
            self.assertEqual(fields, ['volume.size_bytes'], size)
        for bad in '', 'A', '-a', 'a-', 'a' * 64, 'a/b', '..', 'a b', 'ä', \
                'a\nb':
            _, _, fields = self.fails(Code.INVALID_ARGUMENT, create,
                                      self.request(bad))
            self.assertEqual(fields, ['volume_id'], bad)
        text, _, _ = self.fails(Code.NOT_FOUND, create,
                                self.request('x', pool='pools/nowhere'))
        self.assertIn('nowhere', text)
        _, _, fields = self.fails(Code.INVALID_ARGUMENT, create,
                                  self.request('x', pool='nowhere'))
        self.assertEqual(fields, ['volume.pool'])
        _, _, fields = self.fails(
            Code.INVALID_ARGUMENT, create,
            volume_pb2.CreateVolumeRequest(parent='hosts/h1', volume_id='A'))
        self.assertEqual(sorted(fields), ['parent', 'volume', 'volume_id'])

    def test_no_place(self):
        """More replicas than hosts with disks of the pool."""
        self.one.pools.CreatePool(pool_pb2.CreatePoolRequest(
            pool_id='bare', pool=pool_pb2.Pool(replicas=2)), timeout=TIMEOUT)
        text, _, _ = self.fails(Code.FAILED_PRECONDITION,
                                self.one.volumes.CreateVolume,
                                self.request('x', pool='pools/bare'))
        self.assertIn('bare', text)
        self.one.pools.DeletePool(pool_pb2.DeletePoolRequest(
            name='pools/bare'), timeout=TIMEOUT)

    def test_pools(self):
        create = self.one.pools.CreatePool
        request = pool_pb2.CreatePoolRequest
        for field, pool in (
                ('pool.replicas', pool_pb2.Pool()),
                ('pool.replicas', pool_pb2.Pool(replicas=4)),
                ('pool.replicas', pool_pb2.Pool(replicas=-1)),
                ('pool.min_in_sync', pool_pb2.Pool(replicas=2,
                                                   min_in_sync=3)),
                ('pool.stripe_width', pool_pb2.Pool(replicas=1,
                                                    stripe_width=65)),
                ('pool.extent_size_bytes', pool_pb2.Pool(
                    replicas=1, extent_size_bytes=12345)),
                ('pool.trash_seconds', pool_pb2.Pool(
                    replicas=1, trash_seconds=-1)),
                ('pool.slow_ms', pool_pb2.Pool(replicas=1,
                                               slow_ms=600001))):
            _, _, fields = self.fails(Code.INVALID_ARGUMENT, create,
                                      request(pool_id='bad', pool=pool))
            self.assertEqual(fields, [field])
        text, _, _ = self.fails(Code.ALREADY_EXISTS, create, request(
            pool_id='default', pool=pool_pb2.Pool(replicas=1)))
        self.assertIn('default', text)
        text, _, _ = self.fails(
            Code.FAILED_PRECONDITION, self.one.pools.DeletePool,
            pool_pb2.DeletePoolRequest(name='pools/default'))
        self.assertIn('default', text)
        self.fails(Code.NOT_FOUND, self.one.pools.DeletePool,
                   pool_pb2.DeletePoolRequest(name='pools/never'))

    def test_volumes(self):
        name = self.create('used')
        attach = self.one.volumes.AttachVolume
        request = volume_pb2.AttachVolumeRequest
        text, _, _ = self.fails(Code.NOT_FOUND, attach, request(
            name=self.name('absent'), host='hosts/h1',
            export_kind=volume_pb2.NBD))
        self.assertIn('absent', text)
        text, _, _ = self.fails(Code.NOT_FOUND, attach, request(
            name=name, host='hosts/h9', export_kind=volume_pb2.NBD))
        self.assertIn('h9', text)
        _, _, fields = self.fails(Code.INVALID_ARGUMENT, attach, request(
            name=name, host='hosts/h1'))
        self.assertEqual(fields, ['export_kind'])
        self.wait(attach(request(name=name, host='hosts/h1',
                                 export_kind=volume_pb2.NBD),
                         timeout=TIMEOUT))
        text, _, _ = self.fails(Code.FAILED_PRECONDITION, attach, request(
            name=name, host='hosts/h2', export_kind=volume_pb2.NBD))
        self.assertIn('h1', text)
        text, _, _ = self.fails(
            Code.FAILED_PRECONDITION, self.one.volumes.DeleteVolume,
            volume_pb2.DeleteVolumeRequest(name=name))
        self.assertIn('h1', text)
        # Only from another host: it stays.
        self.fails(Code.FAILED_PRECONDITION, self.one.volumes.DetachVolume,
                   volume_pb2.DetachVolumeRequest(name=name,
                                                  host='hosts/h2'))
        self.assertEqual(self.get(name).owner_host, 'hosts/h1')

    def test_disks(self):
        disk = self.one.disks.ListDisks(
            disk_pb2.ListDisksRequest(parent='hosts/h1'),
            timeout=TIMEOUT).disks[0]
        self.create('holds-replicas')
        text, _, _ = self.fails(
            Code.FAILED_PRECONDITION, self.one.disks.DeleteDisk,
            disk_pb2.DeleteDiskRequest(name=disk.name))
        self.assertIn(disk.uid, text)
        create = self.one.disks.CreateDisk
        for fields, parent, path in (
                (['disk.path'], 'hosts/h1', ''),
                (['disk.path'], 'hosts/h1', 'relative'),
                (['parent'], 'projects/x', '/x')):
            self.assertEqual(self.fails(
                Code.INVALID_ARGUMENT, create, disk_pb2.CreateDiskRequest(
                    parent=parent, disk=disk_pb2.Disk(path=path)))[2], fields)
        self.fails(Code.NOT_FOUND, create, disk_pb2.CreateDiskRequest(
            parent='hosts/h9', disk=disk_pb2.Disk(path='/x')))


class Standard(Case):
    """Health and reflection."""

    def test_health(self):
        for stubs in self.one, self.two:
            for service in '', 'weft.v1.VolumeService':
                self.assertEqual(stubs.health.Check(
                    health_pb2.HealthCheckRequest(service=service),
                    timeout=TIMEOUT).status,
                                 health_pb2.HealthCheckResponse.SERVING)
            with self.assertRaises(grpc.RpcError) as caught:
                stubs.health.Check(health_pb2.HealthCheckRequest(
                    service='nobody'), timeout=TIMEOUT)
            self.assertEqual(caught.exception.code(), Code.NOT_FOUND)

    def test_reflection(self):
        answer = next(iter(self.two.reflection.ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services='')]),
            timeout=TIMEOUT)))
        services = {service.name for service
                    in answer.list_services_response.service}
        self.assertLessEqual({
            f'weft.v1.{name}Service' for name in (
                'Disk', 'Event', 'Host', 'Operation', 'Pool', 'Status',
                'Volume')} | {'grpc.health.v1.Health'}, services)

    def test_status(self):
        for stubs, host in (self.one, 'hosts/h1'), (self.two, 'hosts/h2'):
            status = stubs.cluster.GetStatus(cluster_pb2.GetStatusRequest(),
                                             timeout=TIMEOUT)
            self.assertEqual(status.host, host)
            self.assertEqual(status.health, cluster_pb2.ClusterStatus.OK)
            self.assertEqual(status.database.state,
                             cluster_pb2.DatabaseStatus.CONNECTED)
            self.assertEqual(len(status.database.remotes), 3)
            self.assertEqual(len(status.hosts), 3)
            self.assertEqual(len(status.disks), 3)

    def test_many(self):
        """A hundred calls and watches at once."""
        futures = [stubs.volumes.ListVolumes.future(
            volume_pb2.ListVolumesRequest(parent='projects/-'),
            timeout=TIMEOUT) for stubs in (self.one, self.two)
                   for _ in range(50)]
        streams = [stubs.volumes.WatchVolumes(
            volume_pb2.WatchVolumesRequest(parent='projects/-'),
            timeout=TIMEOUT) for stubs in (self.one, self.two)
                   for _ in range(20)]
        for stream in streams:
            next(change for change in stream
                 if change.type == common_pb2.SYNCED)
            stream.cancel()
        for future in futures:
            self.assertEqual(future.code(), Code.OK)


if __name__ == '__main__':
    weft_testbed.main()
