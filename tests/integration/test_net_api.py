#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The network half of the API on a real cloud of two hosts, by the command line
and by grpcio: its forms, and what is refused, in which words."""

import pathlib
import sys
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent /
                       'support'))
# pylint: disable=wrong-import-position
import weft_testbed  # noqa: E402
from net_case import TIMEOUT, Case  # noqa: E402
import grpc  # noqa: E402
# pylint: disable=no-name-in-module
from weft.v1 import (  # noqa: E402
    net_host_pb2, network_pb2, security_pb2)

TESTBED = weft_testbed.Testbed(hosts=2, block=False, net=True)
Code = grpc.StatusCode


def setUpModule():
    Case.testbed = TESTBED
    TESTBED.up()
    # Channels make their sockets in threads that begin here.
    TESTBED.enter('h1')


def tearDownModule():
    TESTBED.down()


class Forms(Case):
    """The commands as the documentation has them."""

    def test_all_nouns(self):
        self.weft('network', 'create', 'blue')
        self.weft('subnet', 'create', 'blue4', '--network', 'blue', '--cidr',
                  '10.0.0.0/24')
        self.weft('subnet', 'create', 'blue6', '--network', 'blue', '--cidr',
                  'fd00:1::/64', '--dns', 'fd00:1::53', '--dns', 'fd00:1::54')
        self.weft('security-group', 'create', 'g')
        self.weft('security-group', 'create', 'g2')
        rule = self.weft('security-rule', 'create', '--group', 'g',
                         '--direction', 'in', '--proto', 'tcp', '--ports',
                         '22', '--from', '0.0.0.0/0').strip()
        self.weft('security-rule', 'create', '--group', 'g', '--direction',
                  'in', '--proto', 'tcp', '--ports', '80-90', '--from-group',
                  'g2')
        self.weft('security-rule', 'create', '--group', 'g', '--direction',
                  'in', '--proto', 'icmp', '--from-group', 'g')
        self.weft('port', 'create', 'a', '--network', 'blue', '--ip',
                  '10.0.0.10', '--ip', 'fd00:1::a', '--group', 'g', '--group',
                  'g2', '--hostname', 'alpha')
        self.weft('router', 'create', 'r')
        self.weft('router', 'attach', 'r', '--subnet', 'blue4')
        self.weft('router', 'attach', 'r', '--subnet', 'blue6')

        port = self.port('a')
        self.assertEqual(port['addresses'], ['10.0.0.10', 'fd00:1::a'])
        self.assertEqual(sorted(port['securityGroups']),
                         [self.name('securityGroups', 'g'),
                          self.name('securityGroups', 'g2')])
        self.assertEqual(port['state'], 'UNPLUGGED')
        self.assertEqual(port['hostname'], 'alpha')
        network = self.weft_json('network', 'show', 'blue')
        self.assertEqual(network['subnetCount'], 2)
        self.assertEqual(network['portCount'], 1)
        self.assertEqual(network['mtu'], 1600 - 62)  # N23
        subnet = self.weft_json('subnet', 'show', 'blue6')
        self.assertEqual(subnet['gateway'], 'fd00:1::1')
        self.assertEqual(subnet['dns'], ['fd00:1::53', 'fd00:1::54'])
        self.assertEqual(subnet['router'], self.name('routers', 'r'))
        router = self.weft_json('router', 'show', 'r')
        self.assertEqual({one['address'] for one in router['interfaces']},
                         {'10.0.0.1', 'fd00:1::1'})
        shown = self.weft_json('security-rule', 'show', rule)
        self.assertEqual((shown['protocol'], shown['ports'], shown['family']),
                         ('tcp', '22', 'IPV4'))
        for noun, key, count in (
                ('network', 'networks', 1), ('subnet', 'subnets', 2),
                ('port', 'ports', 1), ('router', 'routers', 1),
                ('security-group', 'securityGroups', 2),
                ('security-rule', 'securityRules', 3)):
            self.assertEqual(len(self.weft_json(noun, 'list')[key]), count)
            self.assertIn('\n', self.weft(noun, 'list'))

        self.weft('port', 'set-groups', 'a', '--group', 'g2')
        self.assertEqual(self.port('a')['securityGroups'],
                         [self.name('securityGroups', 'g2')])
        self.weft('port', 'disable', 'a')
        self.assertTrue(self.port('a')['disabled'])
        self.weft('port', 'enable', 'a')
        self.weft('security-rule', 'delete', rule)
        self.weft('port', 'delete', 'a')
        self.weft('router', 'detach', 'r', '--subnet', 'blue4')
        self.weft('router', 'detach', 'r', '--subnet', 'blue6')
        self.weft('router', 'detach', 'r', '--subnet', 'blue6')  # Again.
        self.weft('router', 'delete', 'r')
        self.weft('security-group', 'delete', 'g')
        self.weft('security-group', 'delete', 'g2')
        self.weft('subnet', 'delete', 'blue4')
        self.weft('subnet', 'delete', 'blue6')
        self.weft('network', 'delete', 'blue')
        self.assertEqual(self.weft_json('network', 'list'), {'networks': []})

    def test_endpoint(self):
        """Without an endpoint of its own netd is found beside blockd."""
        def weft(*words, **environment):
            return TESTBED.exec(
                'h1', 'env', '-u', 'WEFT_NET_ENDPOINT',
                *[f'{name}={value}' for name, value in environment.items()],
                'weft', *words, check=False)
        self.assertEqual(weft('network', 'list').returncode, 0)
        done = weft('net', 'hosts',
                    WEFT_ENDPOINT=f'tcp:{TESTBED.address("h2")}:7700')
        self.assertEqual(done.returncode, 0, done.stderr)
        done = weft('net', 'hosts', WEFT_NET_ENDPOINT='unix:/nowhere')
        self.assertEqual(done.returncode, 1)
        self.assertIn('no netd answers at "unix:/nowhere"', done.stderr)

    def test_completion(self):
        script = self.weft('completion', 'bash')
        for word in 'security-rule)', 'set-groups', '--from-group', '--netns':
            self.assertIn(word, script)

    def test_hosts(self):
        def up():
            hosts = self.weft_json('net', 'hosts')['netHosts']
            return hosts if {host['state'] for host in hosts} == {'UP'} \
                else None
        hosts = weft_testbed.wait_for('the hosts to be up', up)
        self.assertEqual([host['name'] for host in hosts],
                         ['netHosts/h1', 'netHosts/h2'])
        self.assertEqual({host['underlayMtu'] for host in hosts}, {1600})
        got = self.two.hosts.GetNetHost(
            net_host_pb2.GetNetHostRequest(name='netHosts/h1'),
            timeout=TIMEOUT)
        self.assertEqual(got.encap_ip, hosts[0]['encapIp'])
        self.fails(Code.NOT_FOUND, self.one.hosts.GetNetHost,
                   net_host_pb2.GetNetHostRequest(name='netHosts/h9'))


class Refusals(Case):
    """Bad input: what was wrong, and what would be right."""

    def test_names(self):
        for bad in ('', 'A', 'x-', 'x' * 64, 'a/b', 'a b', '\u00e4'):
            self.refused('network', 'create', bad, words='is not a name',
                         code=2)
            self.fails(Code.INVALID_ARGUMENT, self.one.networks.CreateNetwork,
                       network_pb2.CreateNetworkRequest(
                           parent=self.parent, network_id=bad),
                       field='network_id')
        self.fails(Code.INVALID_ARGUMENT, self.one.networks.CreateNetwork,
                   network_pb2.CreateNetworkRequest(
                       parent='projects/-', network_id='n'), field='parent')
        self.refused('network', 'show', 'none', words='there is no network')
        self.weft('network', 'create', 'n')
        self.refused('network', 'create', 'n', words='already')
        self.fails(Code.INVALID_ARGUMENT, self.one.networks.GetNetwork,
                   network_pb2.GetNetworkRequest(name='networks/n'))

    def test_mtu(self):
        for bad in '575', '9001', '-1', 'x':
            self.refused('network', 'create', 'n', '--mtu', bad,
                         words='576 to 9000', code=2)
        self.fails(Code.INVALID_ARGUMENT, self.one.networks.CreateNetwork,
                   network_pb2.CreateNetworkRequest(
                       parent=self.parent, network_id='n',
                       network=network_pb2.Network(mtu=9001)),
                   field='network.mtu')
        self.weft('network', 'create', 'small', '--mtu', '1279')
        self.refused('subnet', 'create', 's', '--network', 'small', '--cidr',
                     'fd00::/64', words='IPv6 needs at least 1280')
        self.weft('subnet', 'create', 's', '--network', 'small', '--cidr',
                  '10.0.0.0/24')

    def test_subnets(self):
        self.network('n', '10.0.0.0/24')
        create = ('subnet', 'create', 's', '--network', 'n', '--cidr')
        for cidr, words in (
                ('10.0.1.1/24', 'the range is 10.0.1.0/24'),
                ('fd00::1/64', 'the range is fd00::/64'),
                ('10.0.1.0', 'ADDRESS/LENGTH'), ('x', 'ADDRESS/LENGTH'),
                ('10.0.1.0/33', 'ADDRESS/LENGTH'),
                ('10.0.1.0/024', 'ADDRESS/LENGTH'),
                ('0.0.0.0/0', 'too large'), ('::/0', 'too large'),
                ('127.0.0.0/24', 'loopback'), ('224.0.0.0/24', 'multicast'),
                ('fe80::/64', 'link-local'),
                ('10.0.0.0/24', 'overlaps subnet "n-0"'),
                ('10.0.0.128/25', 'overlaps subnet "n-0"'),
                ('10.0.0.0/8', 'overlaps subnet "n-0"')):
            self.refused(*create, cidr, words=words)
        create += ('10.0.1.0/24', '--gateway')
        for gateway, words in (
                ('10.0.2.1', 'outside'), ('10.0.1.0', 'first of the range'),
                ('10.0.1.255', 'broadcast'), ('x', 'not an address'),
                ('fd00::1', 'outside')):
            self.refused(*create, gateway, words=words)
        self.refused('subnet', 'create', 's', '--network', 'n', '--cidr',
                     '10.0.1.0/24', '--dns', 'fd00::1', words='family')
        self.refused('subnet', 'create', 's', '--network', 'n', '--cidr',
                     '10.0.1.0/24', *['--dns', '10.0.0.9'] * 5,
                     words='4 are the most')
        self.refused('subnet', 'create', 's', '--network', 'm', '--cidr',
                     '10.0.1.0/24', words='there is no network "m"')
        self.refused('subnet', 'create', 's', '--cidr', '10.0.1.0/24',
                     words='--network is missing', code=2)
        # Overlapping spaces of two networks are two tenants' business.
        self.network('m', '10.0.0.0/24')

    def test_addresses(self):
        self.network('n', '10.0.0.0/29', 'fd00::/64')
        create = ('port', 'create', 'b', '--network', 'n', '--ip')
        self.weft('port', 'create', 'a', '--network', 'n', '--ip', '10.0.0.3')
        for ip, words in (
                ('10.0.0.3', 'is taken by port "a"'),
                ('10.0.0.0', "network's own address"),
                ('10.0.0.7', 'broadcast'), ('10.0.0.1', 'gateway'),
                ('10.0.1.1', 'is in no subnet of network "n"'),
                ('fd01::1', 'is in no subnet'), ('fd00::1', 'gateway'),
                ('x', 'is not an IP address'),
                ('10.0.0.3.4', 'is not an IP address'),
                ('10.0.0.03', 'is not an IP address')):
            self.refused(*create, ip, words=words)
        self.refused(*create, '10.0.0.4', '--ip', '10.0.0.4', words='twice')
        # One text for one address (N16).
        self.weft('port', 'create', 'c', '--network', 'n', '--ip',
                  'FD00:0:0::00AB')
        self.assertEqual(self.port('c')['addresses'], ['fd00::ab'])
        self.refused(*create, 'fd00::ab', words='taken by port "c"')
        for number, expected in enumerate((2, 4, 5, 6)):
            self.weft('port', 'create', f'x{number}', '--network', 'n')
            self.assertEqual(self.port(f'x{number}')['addresses'][0],
                             f'10.0.0.{expected}')
        self.refused('port', 'create', 'b', '--network', 'n',
                     words='no free IPv4 address')
        self.weft('port', 'delete', 'x1')  # The lowest one is given again.
        self.weft('port', 'create', 'b', '--network', 'n')
        self.assertEqual(self.port('b')['addresses'][0], '10.0.0.4')

    def test_macs(self):
        self.network('n', '10.0.0.0/24')
        create = ('port', 'create', 'b', '--network', 'n', '--mac')
        self.weft('port', 'create', 'a', '--network', 'n', '--mac',
                  '0A:00:00:00:00:05')
        self.assertEqual(self.port('a')['mac'], '0a:00:00:00:00:05')
        for mac, words in (
                ('0a:00:00:00:00:05', 'is taken by port "a"'),
                ('01:00:00:00:00:05', "group's address"),
                ('00:00:00:00:00:00', 'zeros'), ('0a:00', 'not a MAC'),
                ('0a-00-00-00-00-05', 'not a MAC')):
            self.refused(*create, mac, words=words)
        self.weft('port', 'create', 'c', '--network', 'n')
        first = int(self.port('c')['mac'].split(':')[0], 16)
        self.assertEqual(first & 3, 2)  # Locally administered, of one.

    def test_groups(self):
        self.network('n', '10.0.0.0/24')
        for index in range(17):
            self.weft('security-group', 'create', f'g{index}')
        groups = [f'--group=g{index}' for index in range(17)]
        self.refused('port', 'create', 'a', '--network', 'n', *groups,
                     words='16 at most')
        self.weft('port', 'create', 'a', '--network', 'n', *groups[:16])
        self.assertEqual(len(self.port('a')['securityGroups']), 16)
        self.refused('port', 'set-groups', 'a', *groups, words='16 at most')
        self.refused('port', 'set-groups', 'a', '--group', 'none',
                     words='there is no security group "none"')
        self.refused('security-group', 'delete', 'g0', words=('1 port is in',
                                                              '"a"'))
        self.weft('security-rule', 'create', '--group', 'g1', '--direction',
                  'in', '--from-group', 'g16')
        self.refused('security-group', 'delete', 'g16',
                     words='a rule of security group "g1"')
        self.weft('port', 'set-groups', 'a')
        self.weft('security-group', 'delete', 'g1')
        self.weft('security-group', 'delete', 'g16')
        # The same combination is one identity, in whatever order (N3).
        self.weft('port', 'create', 'b', '--network', 'n', '--group', 'g2',
                  '--group', 'g3')
        self.weft('port', 'set-groups', 'a', '--group', 'g3', '--group', 'g2',
                  '--group', 'g3')
        self.assertEqual(self.port('a')['identity'], self.port('b')['identity'])
        self.assertGreater(self.port('a')['identity'], 1)

    def test_rules(self):
        self.weft('security-group', 'create', 'g')
        create = ('security-rule', 'create', '--group', 'g', '--direction')
        for arguments, words in (
                (('in', '--proto', 'tpc'), 'not a protocol'),
                (('in', '--ports', '22'), 'tcp, udp or sctp'),
                (('in', '--proto', 'icmp', '--ports', '22'), 'has ports'),
                (('in', '--proto', 'tcp', '--ports', '90-80'),
                 'the range is 80-90'),
                (('in', '--proto', 'tcp', '--ports', '65536'), '0 to 65535'),
                (('in', '--proto', 'tcp', '--icmp', '8'), 'icmp'),
                (('in', '--from', '10.0.0.1/24'), 'the range is 10.0.0.0/24'),
                (('in', '--from', 'x'), 'not a range'),
                (('in', '--family', 'ipv6', '--from', '10.0.0.0/8'), 'IPv4'),
                (('in', '--from-group', 'none'), 'no security group "none"')):
            self.refused(*create, *arguments, words=words)
        for arguments in (('in', '--to', '10.0.0.0/8'), ('up',),
                          ('in', '--from', '10.0.0.0/8', '--from-group', 'g'),
                          ('out', '--from', '10.0.0.0/8')):
            self.refused(*create, *arguments, words='', code=2)
        self.fails(Code.INVALID_ARGUMENT, self.one.rules.CreateSecurityRule,
                   security_pb2.CreateSecurityRuleRequest(
                       parent=self.parent,
                       security_rule=security_pb2.SecurityRule(
                           group=self.name('securityGroups', 'g'),
                           direction='IN', cidr='10.0.0.0/8',
                           peer_group=self.name('securityGroups', 'g'))),
                   field='security_rule.cidr')
        self.fails(Code.INVALID_ARGUMENT, self.one.rules.CreateSecurityRule,
                   security_pb2.CreateSecurityRuleRequest(
                       parent=self.parent,
                       security_rule=security_pb2.SecurityRule(
                           group=self.name('securityGroups', 'g'))),
                   field='security_rule.direction')
        # A group may name itself; the same rule only once, however written.
        self.weft(*create, 'in', '--from-group', 'g')
        self.refused(*create, 'in', '--from-group', 'g', words='already')
        self.weft(*create, 'in', '--proto', 'tcp', '--ports', '22', '--from',
                  '0.0.0.0/0')
        self.refused(*create, 'in', '--proto', '6', '--ports', '22-22',
                     '--family', 'ipv4', words='already')
        self.weft('security-group', 'delete', 'g')  # With its rules.

    def test_routers(self):
        self.network('n', '10.0.0.0/24', 'fd00::/64')
        self.network('m', '10.0.0.0/25', '10.0.1.0/24')
        self.weft('subnet', 'create', 'dead', '--network', 'm', '--cidr',
                  '10.0.2.0/24', '--gateway', 'none')
        self.weft('router', 'create', 'r')
        self.weft('router', 'create', 'r2')
        self.weft('router', 'attach', 'r', '--subnet', 'n-0')
        for router, subnet, words in (
                ('r', 'n-0', 'router "r" is on subnet "n-0" already'),
                ('r2', 'n-0', 'router "r" is on subnet "n-0" already'),
                ('r', 'm-0', 'overlaps 10.0.0.0/24 of "n-0"'),
                ('r', 'dead', 'without a gateway'),
                ('r', 'none', 'there is no subnet "none"'),
                ('r9', 'm-1', 'there is no router "r9"')):
            self.refused('router', 'attach', router, '--subnet', subnet,
                         words=words)
        self.weft('router', 'attach', 'r', '--subnet', 'm-1')
        self.refused('router', 'delete', 'r', words='is on subnets')
        self.refused('subnet', 'delete', 'n-0', words='router "r" is on')
        self.weft('router', 'detach', 'r', '--subnet', 'n-0')
        self.weft('router', 'attach', 'r', '--subnet', 'm-0')

    def test_many_routers(self):
        """N10: what a network brings into a host's scope has a limit."""
        self.network('n', *(f'10.0.{i}.0/24' for i in range(18)))
        for i in range(16):
            self.weft('router', 'create', f'r{i}')
            self.weft('router', 'attach', f'r{i}', '--subnet', f'n-{i}')
        self.weft('router', 'create', 'r16')
        self.refused('router', 'attach', 'r16', '--subnet', 'n-16',
                     words='16 routers are on the network')
        # One that is there already may take another subnet of it.
        self.weft('router', 'attach', 'r3', '--subnet', 'n-17')
        self.weft('router', 'detach', 'r7', '--subnet', 'n-7')
        self.weft('router', 'attach', 'r16', '--subnet', 'n-16')

    def test_in_use(self):
        self.network('n', '10.0.0.0/24')
        self.refused('network', 'delete', 'n', words='"n-0"')
        self.weft('port', 'create', 'a', '--network', 'n')
        self.refused('network', 'delete', 'n', words='port')
        self.refused('subnet', 'delete', 'n-0',
                     words=('port "a"', '10.0.0.2'))

    def test_plug(self):
        self.network('n', '10.0.0.0/24')
        self.weft('port', 'create', 'a', '--network', 'n')
        self.weft('port', 'create', 'b', '--network', 'n')
        plug = ('port', 'plug', 'a', '--host')
        self.refused(*plug, 'h9', '--tap', 'auto', words='no host "h9"')
        self.refused(*plug, 'h1', words='--tap DEVICE or --netns', code=2)
        self.refused(*plug, 'h1', '--tap', 'x', '--netns', 'y',
                     words='either', code=2)
        self.refused(*plug, 'h1', '--tap', 'x' * 16, words='up to 15')
        self.refused(*plug, 'h1', '--tap', 'a/b', words='not a name')
        self.refused(*plug, 'h1', '--netns', '../x', words='namespace')
        self.refused(*plug, 'h1', '--netns', '', words='namespace')
        self.weft(*plug, 'h1', '--tap', 'tapx0', '--wait')
        self.refused(*plug, 'h1', '--tap', 'tapx1',
                     words='plugged on host "h1" already')
        self.refused(*plug, 'h2', '--tap', 'tapx1',
                     words='plugged on host "h1" already')
        self.refused('port', 'plug', 'b', '--host', 'h1', '--tap', 'tapx0',
                     words='is port "a"')
        self.weft('port', 'unplug', 'a', '--wait')
        self.weft('port', 'unplug', 'a')  # Again.
        self.weft('net', 'disable', 'h2')
        try:
            self.refused(*plug, 'h2', '--tap', 'auto', words='is disabled')
        finally:
            self.weft('net', 'enable', 'h2')

    def test_other_projects(self):
        self.network('n', '10.0.0.0/24')
        other = 'p' + uuid.uuid4().hex[:12]
        for noun in (('port', 'create', 'a'),
                     ('subnet', 'create', 'a', '--cidr', '10.1.0.0/24')):
            done = TESTBED.weft('--project', other, *noun, '--network',
                                self.name('networks', 'n'), check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn('is of project', done.stderr)

    def test_hostnames(self):
        self.network('n', '10.0.0.0/24')
        for bad in ('-a', 'a_b', 'a b', 'x' * 64, 'a..b', 'a;b', '$(x)'):
            self.refused('port', 'create', 'a', '--network', 'n', '--hostname',
                         bad, words='not a host name')


if __name__ == '__main__':
    weft_testbed.main()
