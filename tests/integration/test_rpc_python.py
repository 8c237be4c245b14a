#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""lib/rpc against grpcio, a gRPC implementation that is not ours: with stubs
made from proto/, as any user would make them."""

import random
import socket
import tempfile
import threading
import unittest

import fake_server
import grpc

STUBS = tempfile.TemporaryDirectory()
fake_server.make_stubs(STUBS.name)

# pylint: disable=wrong-import-position,no-name-in-module
from google.protobuf import descriptor_pb2, descriptor_pool  # noqa: E402
from google.rpc import error_details_pb2, status_pb2  # noqa: E402
from grpc.health.v1 import health_pb2, health_pb2_grpc  # noqa: E402
from grpc.reflection.v1alpha import (  # noqa: E402
    reflection_pb2, reflection_pb2_grpc)
from weft.v1 import (  # noqa: E402
    common_pb2, pool_pb2, pool_pb2_grpc, volume_pb2, volume_pb2_grpc)

TIMEOUT = 30


class Case(unittest.TestCase):
    """One server for all; each test asks by unix socket and by TCP."""

    @classmethod
    def setUpClass(cls):
        cls.fake = fake_server.FakeWeft()
        cls.channels = [
            grpc.insecure_channel(cls.fake.endpoint),
            grpc.insecure_channel(f'127.0.0.1:{cls.fake.port}')]

    @classmethod
    def tearDownClass(cls):
        for channel in cls.channels:
            channel.close()
        cls.fake.stop()

    def fails(self, code, function, *arguments, **options):
        """The error that a call must end with."""
        with self.assertRaises(grpc.RpcError) as caught:
            function(*arguments, timeout=TIMEOUT, **options)
        self.assertEqual(caught.exception.code(), code)
        return caught.exception


class Unary(Case):
    def test_volume(self):
        for channel in self.channels:
            stub = volume_pb2_grpc.VolumeServiceStub(channel)
            volume = stub.GetVolume(volume_pb2.GetVolumeRequest(
                name='projects/p/volumes/\u00e4'), timeout=TIMEOUT)
            self.assertEqual(volume.name, 'projects/p/volumes/\u00e4')
            self.assertEqual(volume.size_bytes, 20 << 30)
            self.assertEqual(volume.create_time.ToJsonString(),
                             '2023-11-14T22:13:20.005Z')
            operation = stub.CreateVolume(volume_pb2.CreateVolumeRequest(
                parent='projects/p', volume_id='v',
                volume=volume_pb2.Volume(size_bytes=1 << 30, pool='pools/p'),
                request_id='r'), timeout=TIMEOUT)
            self.assertTrue(operation.done)
            self.assertEqual(operation.target, 'projects/p/volumes/v')

    def test_error_details(self):
        for channel in self.channels:
            stub = volume_pb2_grpc.VolumeServiceStub(channel)
            error = self.fails(
                grpc.StatusCode.INVALID_ARGUMENT, stub.GetVolume,
                volume_pb2.GetVolumeRequest(name='invalid'))
            trailer = dict(error.trailing_metadata())
            status = status_pb2.Status.FromString(
                trailer['grpc-status-details-bin'])
            self.assertEqual(status.code, 3)
            self.assertEqual(status.message, error.details())
            info = error_details_pb2.ErrorInfo()
            self.assertTrue(status.details[0].Unpack(info))
            self.assertEqual(info.domain, 'weft')
            request = error_details_pb2.BadRequest()
            self.assertTrue(status.details[1].Unpack(request))
            self.assertEqual([violation.field for violation
                              in request.field_violations],
                             ['volume.size_bytes', 'volume.pool'])

    def test_unimplemented(self):
        for channel in self.channels:
            for path in '/weft.v1.HostService/Nothing', '/x/y', '/':
                call = channel.unary_unary(path)
                self.fails(grpc.StatusCode.UNIMPLEMENTED, call, b'')

    def test_malformed(self):
        """Bytes that are no such message, straight from a client."""
        rng = random.Random(1)
        for channel in self.channels:
            call = channel.unary_unary('/weft.v1.VolumeService/GetVolume')
            for bad in (b'\x0a', b'\x0a\x05abc', b'\x08\x01', b'\xff' * 20,
                        b'\x0a\x01\xff', b'\x0a\x03a\0b', b'\x0b\x0c'):
                self.fails(grpc.StatusCode.INVALID_ARGUMENT, call, bad)
            for _ in range(200):
                bad = bytes(rng.randrange(256)
                            for _ in range(rng.randrange(40)))
                try:
                    call(bad, timeout=TIMEOUT)
                except grpc.RpcError as error:
                    self.assertEqual(error.code(),
                                     grpc.StatusCode.INVALID_ARGUMENT)

    def test_oversize(self):
        for channel in self.channels:
            stub = pool_pb2_grpc.PoolServiceStub(channel)
            self.fails(grpc.StatusCode.RESOURCE_EXHAUSTED, stub.GetPool,
                       pool_pb2.GetPoolRequest(name='n' * (2 << 20)))

    def test_compressed(self):
        """A compressed request could grow to any size: refused."""
        stub = pool_pb2_grpc.PoolServiceStub(self.channels[1])
        self.fails(grpc.StatusCode.UNIMPLEMENTED, stub.GetPool,
                   pool_pb2.GetPoolRequest(name='n' * 10000),
                   compression=grpc.Compression.Gzip)

    def test_deadline_and_cancel(self):
        for channel in self.channels:
            stub = volume_pb2_grpc.VolumeServiceStub(channel)
            request = volume_pb2.GetVolumeRequest(name='hang')
            with self.assertRaises(grpc.RpcError) as caught:
                stub.GetVolume(request, timeout=0.05)
            self.assertEqual(caught.exception.code(),
                             grpc.StatusCode.DEADLINE_EXCEEDED)
            future = stub.GetVolume.future(request)
            future.cancel()
            self.assertEqual(future.code(), grpc.StatusCode.CANCELLED)


class Streams(Case):
    def test_watch(self):
        for channel in self.channels:
            stub = volume_pb2_grpc.VolumeServiceStub(channel)
            stream = stub.WatchVolumes(volume_pb2.WatchVolumesRequest(
                parent='projects/-'), timeout=TIMEOUT)
            first, second = next(stream), next(stream)
            self.assertEqual(first.type, common_pb2.ADDED)
            self.assertEqual(first.volume.name, 'projects/default/volumes/a')
            self.assertEqual(second.type, common_pb2.SYNCED)
            self.assertFalse(second.HasField('volume'))
            stream.cancel()
            with self.assertRaises(grpc.RpcError):
                next(stream)

    def test_many(self):
        """Fifty watches and fifty calls at once on each connection."""
        failures = []

        def work(channel, index):
            try:
                stub = volume_pb2_grpc.VolumeServiceStub(channel)
                if index % 2:
                    stream = stub.WatchVolumes(
                        volume_pb2.WatchVolumesRequest(), timeout=TIMEOUT)
                    next(stream)
                    stream.cancel()
                else:
                    name = f'projects/p/volumes/{index}'
                    volume = stub.GetVolume(volume_pb2.GetVolumeRequest(
                        name=name), timeout=TIMEOUT)
                    assert volume.name == name
            except Exception as error:  # pylint: disable=broad-except
                failures.append(error)

        threads = [threading.Thread(target=work, args=(channel, index))
                   for channel in self.channels for index in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])


class Standard(Case):
    def test_health(self):
        for channel in self.channels:
            stub = health_pb2_grpc.HealthStub(channel)
            for service in '', 'weft.v1.VolumeService':
                response = stub.Check(health_pb2.HealthCheckRequest(
                    service=service), timeout=TIMEOUT)
                self.assertEqual(response.status,
                                 health_pb2.HealthCheckResponse.SERVING)
            self.fails(grpc.StatusCode.NOT_FOUND, stub.Check,
                       health_pb2.HealthCheckRequest(service='nobody'))
            stream = stub.Watch(health_pb2.HealthCheckRequest(
                service='nobody'), timeout=TIMEOUT)
            self.assertEqual(next(stream).status,
                             health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
            stream.cancel()

    def reflect(self, channel, requests):
        """The responses to a list of requests on one stream."""
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        return list(stub.ServerReflectionInfo(iter(requests),
                                              timeout=TIMEOUT))

    def test_reflection(self):
        for channel in self.channels:
            request = reflection_pb2.ServerReflectionRequest
            responses = self.reflect(channel, [
                request(list_services=''),
                request(file_containing_symbol='weft.v1.VolumeService'),
                request(file_by_filename='weft/v1/nothing.proto'),
                request(file_containing_symbol='weft.v1.Volume.State'),
                request()])
            self.assertEqual(len(responses), 5)
            services = {service.name for service
                        in responses[0].list_services_response.service}
            self.assertEqual(services, {
                'grpc.health.v1.Health',
                'grpc.reflection.v1alpha.ServerReflection',
                'weft.v1.DiskService', 'weft.v1.EventService',
                'weft.v1.HostService', 'weft.v1.OperationService',
                'weft.v1.PoolService', 'weft.v1.StatusService',
                'weft.v1.VolumeService'})
            self.assertEqual(responses[2].error_response.error_code,
                             grpc.StatusCode.NOT_FOUND.value[0])
            self.assertEqual(responses[4].error_response.error_code,
                             grpc.StatusCode.INVALID_ARGUMENT.value[0])

            # The answer is enough to build the service from nothing.
            pool = descriptor_pool.DescriptorPool()
            files = [descriptor_pb2.FileDescriptorProto.FromString(data)
                     for data in responses[1].file_descriptor_response
                     .file_descriptor_proto]
            pending = {file.name: file for file in files}
            while pending:
                ready = [file for file in pending.values()
                         if not any(name in pending
                                    for name in file.dependency)]
                self.assertTrue(ready)
                for file in ready:
                    pool.Add(pending.pop(file.name))
            service = pool.FindServiceByName('weft.v1.VolumeService')
            self.assertIn('AttachVolume', service.methods_by_name)


class Strangers(Case):
    def test_garbage(self):
        """Random bytes on either socket, some behind a good preface; then the
        server still answers."""
        rng = random.Random(2)
        for number in range(100):
            if number % 2:
                connection = socket.create_connection(
                    ('127.0.0.1', int(self.fake.port)))
            else:
                connection = socket.socket(socket.AF_UNIX)
                connection.connect(self.fake.endpoint[5:])
            data = rng.randbytes(rng.randrange(2000))
            if number % 3 == 0:
                data = b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' + data
            try:
                connection.sendall(data)
            except OSError:
                pass
            connection.close()
        for channel in self.channels:
            stub = health_pb2_grpc.HealthStub(channel)
            stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT)


if __name__ == '__main__':
    unittest.main()
