#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The network half of the API on a real cloud of two hosts: repeated and
concurrent changes, lists and watches, --wait and weft net trace."""

import concurrent.futures
import ipaddress
import json
import pathlib
import sys
import threading
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent /
                       'support'))
# pylint: disable=wrong-import-position
import weft_net  # noqa: E402
import weft_testbed  # noqa: E402
from weft_testbed import wait_for  # noqa: E402
from net_case import TIMEOUT, Case, reason_of  # noqa: E402
import grpc  # noqa: E402
# pylint: disable=no-name-in-module
from weft.v1 import (  # noqa: E402
    common_pb2, diagnosis_pb2, network_pb2, port_pb2)

Port = port_pb2.Port

TESTBED = weft_testbed.Testbed(hosts=2, block=False, net=True)
NET = weft_net.Net(TESTBED)
Code = grpc.StatusCode


def setUpModule():
    Case.testbed = TESTBED
    TESTBED.up()
    # Channels make their sockets in threads that begin here.
    TESTBED.enter('h1')


def tearDownModule():
    TESTBED.down()


class Idempotency(Case):
    """A request_id counts once, at any host."""

    def test_create(self):
        self.network('n', '10.0.0.0/24')
        one = str(uuid.uuid4())
        first = self.create_port('a', request_id=one)
        again = self.create_port('a', self.two, request_id=one)
        self.assertEqual((first.uid, first.addresses, first.mac),
                         (again.uid, again.addresses, again.mac))
        self.fails(Code.INVALID_ARGUMENT, self.one.ports.CreatePort,
                   port_pb2.CreatePortRequest(
                       parent=self.parent, port_id='b', request_id=one,
                       port=Port(network=self.name('networks', 'n'))),
                   'REQUEST_ID_REUSED', 'request_id')
        self.fails(Code.INVALID_ARGUMENT, self.one.ports.CreatePort,
                   port_pb2.CreatePortRequest(
                       parent=self.parent, port_id='b', request_id='x',
                       port=Port(network=self.name('networks', 'n'))),
                   field='request_id')

    def test_delete(self):
        self.network('n', '10.0.0.0/24')
        self.create_port('a')
        request = port_pb2.DeletePortRequest(name=self.name('ports', 'a'),
                                             request_id=str(uuid.uuid4()))
        self.one.ports.DeletePort(request, timeout=TIMEOUT)
        self.two.ports.DeletePort(request, timeout=TIMEOUT)
        self.fails(Code.NOT_FOUND, self.one.ports.DeletePort,
                   port_pb2.DeletePortRequest(name=self.name('ports', 'a')),
                   'PORT_NOT_FOUND')


class Concurrency(Case):
    """Many at once, by two hosts: the indexes decide (N16)."""

    def test_addresses(self):
        self.network('n', '10.0.0.0/24', 'fd00::/64')
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            ports = list(pool.map(
                lambda index: self.create_port(
                    f'p{index}', self.two if index % 2 else self.one),
                range(120)))
        seen = [address for port in ports for address in port.addresses]
        self.assertEqual(len(seen), 240)
        self.assertEqual(len(set(seen)), 240)
        self.assertEqual(len({port.mac for port in ports}), 120)
        network = ipaddress.ip_network('10.0.0.0/24')
        for address in seen:
            if '.' in address:
                self.assertIn(ipaddress.ip_address(address), network)
        # Then the rest of the range, to the last one.
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            done = list(pool.map(self.try_port, range(120, 270)))
        self.assertEqual(sum(done), 253 - 120)

    def try_port(self, index):
        try:
            self.create_port(f'p{index}', self.two if index % 2 else self.one)
        except grpc.RpcError as error:
            self.assertEqual(error.code(), Code.RESOURCE_EXHAUSTED,
                             error.details())
            return False
        return True

    def test_names(self):
        """Of twenty that want one name, one gets it."""
        def create(index):
            stubs = self.two if index % 2 else self.one
            try:
                stubs.networks.CreateNetwork(
                    network_pb2.CreateNetworkRequest(
                        parent=self.parent, network_id='n'), timeout=TIMEOUT)
            except grpc.RpcError as error:
                self.assertEqual(error.code(), Code.ALREADY_EXISTS)
                return False
            return True
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            self.assertEqual(sum(pool.map(create, range(20))), 1)

    def test_overlaps(self):
        """No index can see that two ranges overlap: changes of one network
        come one after the other."""
        self.network('n')

        def create(index):
            stubs = self.two if index % 2 else self.one
            try:
                stubs.subnets.CreateSubnet(network_pb2.CreateSubnetRequest(
                    parent=self.parent, subnet_id=f's{index}',
                    subnet=network_pb2.Subnet(
                        network=self.name('networks', 'n'),
                        cidr=f'10.0.0.0/{16 + index}')), timeout=TIMEOUT)
            except grpc.RpcError as error:
                self.assertEqual(reason_of(error)[0], 'SUBNET_OVERLAPS',
                                 error.details())
                return False
            return True
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            self.assertEqual(sum(pool.map(create, range(12))), 1)


class Cleaning(Case):
    """Numbers on the wire come back when all hosts know (N2)."""

    def rows(self, table, where, columns):
        command = json.dumps(['Weft', {'op': 'select', 'table': table,
                                       'where': where, 'columns': columns}])
        remotes = TESTBED.exec('h1', 'sh', '-c',
                               f'grep remotes {TESTBED.host_dir("h1")}'
                               '/netd.conf').stdout.split('=')[1].strip()
        done = TESTBED.exec('h1', 'ovsdb-client', 'transact', remotes, command)
        return json.loads(done.stdout)[0]['rows']

    def test_numbers(self):
        self.network('n', '10.0.0.0/24')
        self.weft('security-group', 'create', 'g')
        self.weft('security-rule', 'create', '--group', 'g', '--direction',
                  'in')
        self.create_port('a', security_groups=[self.name('securityGroups',
                                                         'g')])
        identity = self.port('a')['identity']
        vni = self.weft_json('network', 'show', 'n')['vni']
        self.weft('port', 'delete', 'a')
        self.weft('security-group', 'delete', 'g')  # With the identity.
        self.weft('subnet', 'delete', 'n-0')
        self.weft('network', 'delete', 'n')
        for kind, number in ('identity', identity), ('vni', vni):
            where = [['kind', '==', kind], ['number', '==', number]]
            for row in self.rows('Wire_Number', where, ['is_freed']):
                self.assertTrue(row['is_freed'])
            wait_for(f'{kind} {number} to be free', lambda: not self.rows(
                'Wire_Number', where, ['is_freed']), seconds=70, step=0.5)

    def test_identities(self):
        """A combination that no port has any more goes."""
        self.network('n', '10.0.0.0/24')
        self.weft('security-group', 'create', 'g')
        self.create_port('a', security_groups=[self.name('securityGroups',
                                                         'g')])
        identity = self.port('a')['identity']
        where = [['number', '==', identity]]
        self.weft('port', 'set-groups', 'a')
        self.assertEqual(len(self.rows('Identity', where, ['number'])), 1)
        wait_for('the identity to go', lambda: not self.rows(
            'Identity', where, ['number']), seconds=70, step=0.5)


class Lists(Case):
    """Pages, filters, watches."""

    def test_pages(self):
        self.network('n', '10.0.0.0/24')
        for index in range(7):
            self.create_port(f'p{index}', disabled=index % 2 == 1)
        names, token = [], ''
        while True:
            page = self.one.ports.ListPorts(port_pb2.ListPortsRequest(
                parent=self.parent, page_size=3, page_token=token),
                timeout=TIMEOUT)
            names += [port.name for port in page.ports]
            token = page.next_page_token
            if not token:
                break
        self.assertEqual(names, [self.name('ports', f'p{index}')
                                 for index in range(7)])
        page = self.one.ports.ListPorts(port_pb2.ListPortsRequest(
            parent=self.parent, filter='disabled = "true"'), timeout=TIMEOUT)
        self.assertEqual(len(page.ports), 3)
        everybody = self.one.ports.ListPorts(port_pb2.ListPortsRequest(
            parent='projects/-', page_size=1000), timeout=TIMEOUT)
        self.assertGreaterEqual(len(everybody.ports), 7)

    def test_watch(self):
        self.network('n', '10.0.0.0/24')
        self.create_port('a')
        wait_for('h2 to know of it', lambda: self.weft(
            'port', 'show', 'a', host='h2', check=False).returncode == 0)
        seen, synced = [], threading.Event()
        stream = self.two.ports.WatchPorts(port_pb2.WatchPortsRequest(
            parent=self.parent))

        def read():
            try:
                for change in stream:
                    seen.append((change.type, change.port.name,
                                 change.port.disabled))
                    if change.type == common_pb2.SYNCED:
                        synced.set()
            except grpc.RpcError:
                pass
        reader = threading.Thread(target=read)
        reader.start()
        self.assertTrue(synced.wait(TIMEOUT))
        self.assertEqual([change[0] for change in seen],
                         [common_pb2.ADDED, common_pb2.SYNCED])
        name = self.name('ports', 'b')
        self.create_port('b')
        self.weft('port', 'disable', 'b')
        wait_for('b disabled', lambda: (common_pb2.MODIFIED, name, True)
                 in seen or (common_pb2.ADDED, name, True) in seen)
        self.weft('port', 'delete', 'b')
        wait_for('b removed', lambda: (common_pb2.REMOVED, name, True) in seen)
        stream.cancel()
        reader.join(TIMEOUT)


class Waiting(Case):
    """--wait (N11), and what the switches say."""

    def setUp(self):
        super().setUp()
        self.netns = []

    def tearDown(self):
        for name in self.netns:
            TESTBED.exec(None, 'ip', 'netns', 'del', name, check=False)

    def plug(self, port, host):
        name = f'{TESTBED.tag}-{self.project}-{port}'
        TESTBED.exec(None, 'ip', 'netns', 'add', name)
        self.netns.append(name)
        self.weft('port', 'plug', port, '--host', host, '--netns', name,
                  '--wait')

    def trace(self, port, to, *more):
        return self.weft_json('net', 'trace', '--from', port, '--to', to,
                              *more)

    def assert_agree(self, port, to, *more, outcome, reason):
        found = self.trace(port, to, *more)
        self.assertEqual(found['agreement'], 'AGREES', found)
        self.assertEqual(found['intent']['outcome'], outcome, found)
        self.assertEqual(found['intent']['reason'], reason, found)

    def test_trace(self):
        """On two hosts, in one network and two: both verdicts, and a rule's
        coming and going at once effective."""
        self.network('n', '10.0.0.0/24', 'fd00::/64')
        self.network('m', '10.0.1.0/24')
        self.weft('router', 'create', 'r')
        for subnet in 'n-0', 'n-1', 'm-0':
            self.weft('router', 'attach', 'r', '--subnet', subnet)
        for group in 'web', 'db':
            self.weft('security-group', 'create', group)
        self.weft('security-rule', 'create', '--group', 'db', '--direction',
                  'in', '--proto', 'tcp', '--ports', '5432', '--from-group',
                  'web')
        for port, network, group, host in (
                ('a', 'n', 'web', 'h1'), ('b', 'n', 'db', 'h2'),
                ('c', 'm', 'db', 'h1'), ('d', 'n', 'web', 'h1')):
            self.weft('port', 'create', port, '--network', network, '--group',
                      group)
            self.plug(port, host)
        ip = {port: self.port(port)['addresses'] for port in 'abcd'}
        self.assertEqual(self.port('b')['state'], 'UP')
        self.assertEqual(self.port('b')['boundHost'], 'netHosts/h2')
        tcp = ('--proto', 'tcp', '--port', '5432')
        denied = {'outcome': 'DROPPED', 'reason': 'INGRESS_DENIED'}
        good = {'outcome': 'DELIVERED', 'reason': 'DELIVERED'}
        self.assert_agree('a', ip['b'][0], *tcp, **good)
        self.assert_agree('a', ip['b'][1], *tcp, **good)
        self.assert_agree('a', ip['c'][0], *tcp, **good)
        self.assert_agree('b', ip['c'][0], *tcp, **denied)
        self.assert_agree('a', ip['b'][0], **denied)
        self.assert_agree('a', ip['d'][0], *tcp, **denied)
        self.assert_agree('a', '10.0.0.1', outcome='ANSWERED',
                          reason='ROUTER')
        self.assert_agree('a', '10.0.0.77', outcome='DROPPED',
                          reason='NO_SUCH_ADDRESS')
        self.assert_agree('b', '192.0.2.1', outcome='DROPPED',
                          reason='NO_ROUTE')

        rule = self.weft('security-rule', 'create', '--group', 'db',
                         '--direction', 'in', '--proto', 'icmp',
                         '--wait').strip()
        self.assert_agree('a', ip['b'][0], **good)
        self.assert_agree('a', ip['b'][1], **good)
        self.weft('security-rule', 'delete', rule, '--wait')
        self.assert_agree('a', ip['b'][0], **denied)
        self.weft('port', 'set-groups', 'd', '--group', 'db', '--wait')
        self.assert_agree('a', ip['d'][0], *tcp, **good)
        self.weft('router', 'detach', 'r', '--subnet', 'm-0', '--wait')
        self.assert_agree('a', ip['c'][0], *tcp, outcome='DROPPED',
                          reason='NO_ROUTE')
        self.weft('port', 'unplug', 'b', '--wait')
        found = self.trace('a', ip['b'][0], *tcp)
        self.assertEqual(found['intent']['reason'], 'TARGET_NOT_UP')
        self.assertEqual(found['agreement'], 'AGREES', found)

    def test_trace_refusals(self):
        self.network('n', '10.0.0.0/24')
        self.weft('port', 'create', 'a', '--network', 'n')
        trace = ('net', 'trace', '--from', 'a', '--to')
        self.refused(*trace, 'x', words='not an IP address')
        self.refused(*trace, '10.0.0.9', '--proto', 'tcp', words='needed')
        self.refused(*trace, '10.0.0.9', '--proto', 'any', words='protocol')
        self.refused(*trace, '10.0.0.9', '--port', '22', words='only')
        self.refused('net', 'trace', '--from', 'z', '--to', '10.0.0.1',
                     words='no port "z"')
        found = self.trace('a', '10.0.0.9')
        self.assertEqual(found['intent']['reason'], 'PORT_NOT_UP')
        self.assertEqual(found.get('agreement', 'AGREEMENT_UNSPECIFIED'),
                         'AGREEMENT_UNSPECIFIED')
        packet = diagnosis_pb2.TracePacketHeaders
        for bad in (None, packet(), packet(port_uid='x'),
                    packet(port_uid=str(uuid.uuid4()), ip_source='10.0.0.1',
                           ip_destination='fd00::1')):
            self.fails(Code.INVALID_ARGUMENT, self.one.diagnosis.TraceLocally,
                       diagnosis_pb2.TraceLocallyRequest(packet=bad))

    def test_silent_host(self):
        """A host that lives but does not confirm is named; one that is dead
        is not waited for."""
        self.network('n', '10.0.0.0/24')
        self.weft('port', 'create', 'a', '--network', 'n')
        self.plug('a', 'h2')
        TESTBED.kill('h2', 'netd', 'STOP')
        try:
            self.refused('port', 'create', 'b', '--network', 'n', '--wait',
                         '--timeout', '2s',
                         words=('the change was made', 'h2'))
            self.assertEqual(self.port('b')['state'], 'UNPLUGGED')
            # Later it counts as dead, and is not waited for any more.
            wait_for('h2 to be given up', lambda: self.weft(
                'port', 'disable', 'b', '--wait', '--timeout', '20s',
                check=False).returncode == 0, seconds=60)
        finally:
            TESTBED.kill('h2', 'netd', 'CONT')
        wait_for('h2 to be back', lambda: all(
            host['state'] == 'UP'
            for host in self.weft_json('net', 'hosts')['netHosts']))
        self.weft('port', 'enable', 'b', '--wait')


    def test_plug_again(self):
        """N11: what an earlier plug has left behind is not taken for this
        one's."""
        self.network('n', '10.0.0.0/24')
        self.weft('port', 'create', 'a', '--network', 'n')
        names = [f'{TESTBED.tag}-again-{i}' for i in range(2)]
        for name in names:
            TESTBED.exec(None, 'ip', 'netns', 'add', name)
        try:
            for turn in range(6):
                name = names[turn % 2]
                self.weft('port', 'plug', 'a', '--host', 'h2', '--netns', name,
                          '--wait')
                self.assertIn('eth0', TESTBED.exec(
                    None, 'ip', '-n', name, 'link').stdout)
                self.assertEqual(self.port('a')['state'], 'UP')
                # That of this device: the switch has opened it.
                device = self.port('a')['device']
                index = TESTBED.exec('h2', 'cat', '/sys/class/net/'
                                     f'{device}/ifindex').stdout.strip()
                self.assertEqual(NET.vsctl(
                    'h2', 'get', 'interface', device, 'ifindex').strip(),
                    index)
                self.weft('port', 'unplug', 'a')
            # A refusal is this plug's, too.
            TESTBED.exec(None, 'ip', 'netns', 'delete', names[0])
            self.refused('port', 'plug', 'a', '--host', 'h2', '--netns',
                         names[0], '--wait', words='no network namespace')
            TESTBED.kill('h2', 'netd', 'STOP')
            try:
                self.weft('port', 'unplug', 'a')
                with concurrent.futures.ThreadPoolExecutor(1) as pool:
                    plug = pool.submit(
                        self.weft, 'port', 'plug', 'a', '--host', 'h2',
                        '--netns', names[1], '--wait', check=False)
                    wait_for('the change', lambda: self.port('a').get(
                        'plug', {}).get('netns') == names[1])
                    TESTBED.kill('h2', 'netd', 'CONT')
                    done = plug.result()
            finally:
                TESTBED.kill('h2', 'netd', 'CONT')
            self.assertEqual(done.returncode, 0, done.stderr)
            self.weft('port', 'unplug', 'a', '--wait')
        finally:
            for name in names:
                TESTBED.exec(None, 'ip', 'netns', 'delete', name, check=False)

    def test_forget(self):
        """A host that will not come back; one that does registers itself."""
        def hosts():
            return [host['name'] for host in
                    self.weft_json('net', 'hosts')['netHosts']]
        self.network('n', '10.0.0.0/24')
        self.weft('port', 'create', 'a', '--network', 'n')
        self.plug('a', 'h2')
        self.refused('net', 'forget', 'h9', words='no host "h9"')
        self.refused('net', 'forget', 'h2', words='gives signs of life')
        TESTBED.kill('h2', 'netd', 'STOP')
        try:
            wait_for('h2 to count as dead', lambda: self.weft(
                'net', 'forget', 'h2', check=False).returncode == 0 or
                'DOWN' in [host['state'] for host in
                           self.weft_json('net', 'hosts')['netHosts']])
            self.refused('net', 'forget', 'h2', words=('1 port is', '"a"'))
            self.weft('port', 'unplug', 'a')
            self.weft('net', 'forget', 'h2')
            self.assertEqual(hosts(), ['netHosts/h1'])
            self.refused('port', 'plug', 'a', '--host', 'h2', '--tap', 'auto',
                         words='no host "h2"')
            # Nobody waits for it.
            self.weft('port', 'delete', 'a', '--wait')
        finally:
            TESTBED.kill('h2', 'netd', 'CONT')
        wait_for('h2 to be back', lambda: [
            host['state'] for host in
            self.weft_json('net', 'hosts')['netHosts']] == ['UP', 'UP'])


class Life(Case):
    """Starting and stopping."""

    def test_stop(self):
        """netd ends in time with calls, watches and waits open."""
        self.network('n', '10.0.0.0/24')
        stream = self.two.ports.WatchPorts(port_pb2.WatchPortsRequest(
            parent=self.parent))
        self.assertEqual(next(iter(stream)).type, common_pb2.SYNCED)
        TESTBED.kill('h2', 'netd', 'TERM')
        try:
            with self.assertRaises(grpc.RpcError):
                for _ in stream:
                    pass
            wait_for('netd to end', lambda: not TESTBED.is_running('h2',
                                                                   'netd'))
        finally:
            TESTBED.start('h2', 'netd')
        wait_for('h2 to answer', lambda: self.weft(
            'network', 'show', 'n', host='h2', check=False).returncode == 0)


if __name__ == '__main__':
    weft_testbed.main()
