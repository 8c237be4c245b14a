# SPDX-License-Identifier: Apache-2.0
"""Random tenants' tables: as rows for the oracle (tests/oracle) and as the text
of net_model.h for the compiler."""

import ipaddress
import random

from tests.oracle.tables import Tables

HOSTS = ['h1', 'h2']
PORTS_PER_HOST = 6
FIRST_ZONE = 1024


class Topology(Tables):
    """'seed' decides all of it."""

    def __init__(self, seed):  # pylint: disable=super-init-not-called
        self.random = random.Random(seed)
        self.rows = {name: [] for name in (
            'Network', 'Subnet', 'Port', 'Address', 'Binding', 'Router',
            'Router_Port', 'Security_Group', 'Security_Rule', 'Identity',
            'Identity_Member')}
        self.rows['Net_Host'] = [{'_uuid': h, 'host': h, 'enabled': True}
                                 for h in HOSTS]
        self.lines = ['host h1 ip=198.18.77.1', 'host h2 ip=198.18.77.2']
        self.local = {}  # Port: (host, ofport)
        self.macs = 0
        self.networks_and_routers()
        self.groups_and_rules()
        self.make_ports()
        self._index()
        # A disabled port is nowhere: "nobody has the address".
        self.bound = {port: host for port, host in self.bound.items()
                      if self.ports[port]['enabled']}

    def mac(self):
        self.macs += 1
        return f'02:00:00:00:00:{self.macs:02x}'

    def add(self, table, uuid, **columns):
        self.rows[table].append({'_uuid': uuid, **columns})
        return uuid

    def networks_and_routers(self):
        rng = self.random
        routers = [f'r{i}' for i in range(rng.randrange(0, 3))]
        for i, name in enumerate(routers):
            self.add('Router', name)
            self.lines.append(f'router {name} tag={50 + i}')
        taken = {name: set() for name in routers}
        for i in range(rng.randrange(1, 4)):
            flood = rng.random() < 0.5
            network = self.add('Network', f'n{i}', flood=flood)
            mtu = rng.choice([1442, 1442, 1342])
            self.lines.append(f'network {network} vni={100 + i} mtu={mtu}' +
                              ' flood' * flood)
            numbers = rng.sample(range(3), rng.randrange(1, 3))
            cidrs = [f'10.0.{n}.0/24' for n in numbers]
            if rng.random() < 0.6:
                cidrs.append(f'fd00:{rng.randrange(3)}::/64')
            for k, cidr in enumerate(cidrs):
                subnet = f's{i}{k}'
                gateway = ipaddress.ip_network(cidr)[1]
                self.add('Subnet', subnet, network=network, cidr=cidr,
                         gateway=str(gateway))
                self.lines.append(f'subnet {subnet} network={network} '
                                  f'cidr={cidr}')
                free = [r for r in routers if cidr not in taken[r]]
                if free and rng.random() < 0.8:
                    self.attach(rng.choice(free), network, subnet, cidr,
                                gateway, taken)

    def attach(self, router, network, subnet, cidr, gateway, taken):
        taken[router].add(cidr)
        mac = self.mac()
        name = self.add('Router_Port', f'rp-{subnet}', router=router,
                        subnet=subnet, network=network, mac=mac)
        self.add('Address', f'a-{name}', network=network, ip=str(gateway),
                 port=None, router_port=name)
        self.lines.append(f'router_port {name} router={router} '
                          f'subnet={subnet} network={network} mac={mac}')
        self.lines.append(f'address {gateway} network={network} '
                          f'subnet={subnet} router_port={name}')

    def groups_and_rules(self):
        rng = self.random
        groups = [f'g{i}' for i in range(rng.randrange(1, 5))]
        for i, name in enumerate(groups):
            self.add('Security_Group', name)
            self.lines.append(f'group {name} tag={20 + i}')
        for i in range(rng.randrange(0, 14)):
            self.add_rule(i, rng.choice(groups), groups)
        combinations = [(), *((g,) for g in groups), tuple(groups)]
        for i, combination in enumerate(dict.fromkeys(combinations)):
            name = self.add('Identity', f'i{i}', number=10 + i)
            for group in combination:
                self.add('Identity_Member', f'{name}/{group}', identity=name,
                         group=group)
            groups_text = f' groups={",".join(combination)}' \
                if combination else ''
            self.lines.append(f'identity {name} number={10 + i}{groups_text}')

    def add_rule(self, number, group, groups):
        rng = self.random
        rule = {'group': group, 'direction': rng.choice(['in', 'in', 'out']),
                'family': rng.choice(['any', 'any', 'ipv4', 'ipv6']),
                'protocol': rng.choice([256, 6, 17, 1]), 'port_first': 0,
                'port_last': 65535, 'icmp_type': 256, 'icmp_code': 256,
                'cidr': '', 'peer_group': None}
        text = f'rule u{number} group={group} dir={rule["direction"]}'
        if rng.random() < 0.4:
            rule['peer_group'] = rng.choice(groups)
            text += f' peer={rule["peer_group"]}'
        elif rng.random() < 0.4:
            rule['cidr'] = rng.choice(['10.0.0.0/24', '10.0.1.0/28',
                                       'fd00:1::/64', '0.0.0.0/0', '::/0'])
            rule['family'] = 'ipv6' if ':' in rule['cidr'] else 'ipv4'
            text += f' cidr={rule["cidr"]}'
        text += f' family={rule["family"]} proto={rule["protocol"]}'
        if rule['protocol'] in (6, 17) and rng.random() < 0.7:
            rule['port_first'] = rng.choice([20, 80, 1000])
            rule['port_last'] = rule['port_first'] + rng.choice([0, 5, 1000])
            text += f' ports={rule["port_first"]}-{rule["port_last"]}'
        if rule['protocol'] == 1 and rng.random() < 0.5:
            rule['icmp_type'] = rng.choice([0, 8, 128])
            text += f' icmp={rule["icmp_type"]}'
        self.add('Security_Rule', f'u{number}', **rule)
        self.lines.append(f'{text} tag={1 + number}')

    def make_ports(self):
        rng = self.random
        for number in range(rng.randrange(4, 2 * PORTS_PER_HOST + 1)):
            network = rng.choice(self.rows['Network'])['_uuid']
            identity = rng.choice(self.rows['Identity'])['_uuid']
            host = HOSTS[number % 2]
            name, mac = f'p{number}', self.mac()
            enabled = rng.random() < 0.95
            self.add('Port', name, network=network, identity=identity,
                     mac=mac, host=host, enabled=enabled, project='p',
                     name=name)
            self.lines.append(
                f'port {name} network={network} mac={mac} '
                f'identity={identity} host={host}'
                f'{"" if enabled else " disabled"}')
            for subnet in self.rows['Subnet']:
                if subnet['network'] == network and rng.random() < 0.8:
                    address = ipaddress.ip_network(
                        subnet['cidr'])[10 + number]
                    self.add('Address', f'a-{address}-{network}',
                             network=network, ip=str(address), port=name,
                             router_port=None)
                    self.lines.append(
                        f'address {address} network={network} '
                        f'subnet={subnet["_uuid"]} port={name}')
            if rng.random() < 0.9:
                self.add('Binding', f'b-{name}', port=name, host=host)
                self.lines.append(f'binding {name} host={host}')
                self.local[name] = host, number // 2 + 1

    def model(self, host):
        """For the compiler of one host."""
        lines = list(self.lines)
        for port, (where, ofport) in self.local.items():
            if where == host:
                lines.append(f'local {port} ofport={ofport} '
                             f'zone={FIRST_ZONE + ofport}')
        return '\n'.join(lines) + '\n'
