# SPDX-License-Identifier: Apache-2.0
"""What tests of the network API share: stubs, and a project for each test.

    net_case.Case.testbed = TESTBED     before the first test
    class Forms(net_case.Case): ...

'one' is netd of h1 by its unix socket, 'two' that of h2 by TCP."""

import json
import os
import tempfile
import unittest
import uuid

import fake_server
import grpc
import weft_testbed

os.environ.setdefault('SOURCE_ROOT', str(weft_testbed.TOP))
STUBS = tempfile.TemporaryDirectory()
fake_server.make_stubs(STUBS.name)

# pylint: disable=no-name-in-module,wrong-import-position
from google.rpc import error_details_pb2, status_pb2  # noqa: E402
from weft.v1 import (  # noqa: E402
    diagnosis_pb2_grpc, net_host_pb2_grpc, network_pb2_grpc, port_pb2,
    port_pb2_grpc, router_pb2_grpc, security_pb2_grpc)

TIMEOUT = 30


class Stubs:
    """All services of one host's netd."""

    def __init__(self, endpoint):
        self.channel = grpc.insecure_channel(endpoint)
        self.networks = network_pb2_grpc.NetworkServiceStub(self.channel)
        self.subnets = network_pb2_grpc.SubnetServiceStub(self.channel)
        self.ports = port_pb2_grpc.PortServiceStub(self.channel)
        self.groups = security_pb2_grpc.SecurityGroupServiceStub(self.channel)
        self.rules = security_pb2_grpc.SecurityRuleServiceStub(self.channel)
        self.routers = router_pb2_grpc.RouterServiceStub(self.channel)
        self.hosts = net_host_pb2_grpc.NetHostServiceStub(self.channel)
        self.diagnosis = diagnosis_pb2_grpc.DiagnosisServiceStub(self.channel)


def reason_of(error):
    """The ErrorInfo.reason of a failed call, and the fields it names."""
    reason, fields = '', []
    for key, value in error.trailing_metadata() or ():
        if key != 'grpc-status-details-bin':
            continue
        for detail in status_pb2.Status.FromString(value).details:
            info = error_details_pb2.ErrorInfo()
            request = error_details_pb2.BadRequest()
            if detail.Unpack(info):
                reason = info.reason
            if detail.Unpack(request):
                fields = [one.field for one in request.field_violations]
    return reason, fields


class Case(unittest.TestCase):
    """Each test has a project of its own."""

    testbed = None

    @classmethod
    def setUpClass(cls):
        cls.one = Stubs(cls.testbed.net_endpoint('h1'))
        cls.two = Stubs(f'{cls.testbed.address("h2")}:7710')

    @classmethod
    def tearDownClass(cls):
        cls.one.channel.close()
        cls.two.channel.close()

    def setUp(self):
        self.project = 'p' + uuid.uuid4().hex[:12]
        self.parent = f'projects/{self.project}'

    def name(self, collection, one):
        return f'{self.parent}/{collection}/{one}'

    def weft(self, *arguments, **options):
        return self.testbed.weft('--project', self.project, *arguments, **options)

    def weft_json(self, *arguments, **options):
        return json.loads(self.weft(*arguments, '-o', 'json', **options))

    def refused(self, *arguments, words, code=1):
        """A command that fails, with these words on stderr and no trace of a
        crash."""
        done = self.weft(*arguments, check=False)
        self.assertEqual(done.returncode, code, (arguments, done.stderr))
        for word in words if isinstance(words, tuple) else (words,):
            self.assertIn(word, done.stderr)
        self.assertEqual(done.stdout, '')

    def fails(self, code, method, request, reason=None, field=None):
        with self.assertRaises(grpc.RpcError) as caught:
            method(request, timeout=TIMEOUT)
        error = caught.exception
        self.assertEqual(error.code(), code, error.details())
        found, fields = reason_of(error)
        if reason is not None:
            self.assertEqual(found, reason)
        if field is not None:
            self.assertIn(field, fields)
        return error.details()

    def network(self, name='n', *subnets, **fields):
        """A network with subnets n-0, n-1, ..."""
        self.weft('network', 'create', name)
        for index, cidr in enumerate(subnets):
            self.weft('subnet', 'create', f'{name}-{index}', '--network', name,
                      '--cidr', cidr)
        return self.name('networks', name)

    def create_port(self, port_id, stubs=None, request_id='', **fields):
        return (stubs or self.one).ports.CreatePort(
            port_pb2.CreatePortRequest(
                parent=self.parent, port_id=port_id, request_id=request_id,
                port=port_pb2.Port(**{'network': self.name('networks', 'n'),
                             **fields})), timeout=TIMEOUT)

    def port(self, name):
        return self.weft_json('port', 'show', name)
