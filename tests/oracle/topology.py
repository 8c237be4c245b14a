# SPDX-License-Identifier: Apache-2.0
"""Random topologies, made through the weft command as a tenant would: projects
with overlapping addresses, networks of both families, routers, groups that
refer to each other and to themselves, and ports on all hosts."""

import ipaddress
import random


class Topology:
    """What was asked for; the database says what came of it."""

    def __init__(self, seed, hosts, weft, tag):
        """weft(*arguments): runs the command, raises when it fails."""
        self.random = random.Random(seed)
        self.hosts, self.weft, self.tag = hosts, weft, f'{tag}{seed}'
        self.networks, self.subnets, self.groups = [], [], []
        self.ports, self.routers, self.rules = [], [], []

    def name(self, kind, index):
        return f'{self.tag}-{kind}{index}'

    def build(self):
        rng = self.random
        for project in ('default', 'other')[:rng.randint(1, 2)]:
            self.build_project(project)
        return self

    def build_project(self, project):
        rng = self.random
        networks = []
        for i in range(rng.randint(1, 3)):
            name = self.name('n', i)
            self.weft('network', 'create', name, '--project', project,
                      *['--flood'] * (rng.random() < 0.4))
            subnets = [(self.name(f's{i}v', 4), f'10.{i}.0.0/24')]
            if rng.random() < 0.6:
                subnets.append((self.name(f's{i}v', 6), f'fd00:{i}::/64'))
            for subnet, cidr in subnets:
                self.weft('subnet', 'create', subnet, '--network', name,
                          '--cidr', cidr, '--project', project)
            networks.append((name, subnets))
            self.networks.append((project, name))
        if len(networks) > 1 and rng.random() < 0.8:
            router = self.name('r', 0)
            self.weft('router', 'create', router, '--project', project)
            self.routers.append((project, router))
            joined = rng.sample(networks, rng.randint(2, len(networks)))
            for _, subnets in joined:
                for subnet, _ in subnets:
                    if rng.random() < 0.9:
                        self.weft('router', 'attach', router, '--subnet',
                                  subnet, '--project', project)
        groups = [self.name('g', i) for i in range(rng.randint(1, 3))]
        for group in groups:
            self.weft('security-group', 'create', group, '--project', project)
            self.groups.append((project, group))
        for i in range(rng.randint(2, 10)):
            self.build_rule(project, groups, i)
        for i in range(rng.randint(3, 6)):
            self.build_port(project, networks, groups, i)

    def build_rule(self, project, groups, index):
        rng = self.random
        arguments = ['--group', rng.choice(groups), '--direction',
                     'in' if rng.random() < 0.85 else 'out']
        proto = rng.choice(['tcp', 'udp', 'icmp', 'any'])
        if proto != 'any':
            arguments += ['--proto', proto]
        if proto in ('tcp', 'udp') and rng.random() < 0.8:
            first = rng.choice([1, 22, 80, 1000, 1023])
            last = rng.choice([first, first + 1, first + 500, 65535])
            arguments += ['--ports', str(first) if first == last
                          else f'{first}-{last}']
        where = rng.random()
        if where < 0.4:
            arguments += ['--from-group' if arguments[3] == 'in'
                          else '--to-group', rng.choice(groups)]
        elif where < 0.8:
            cidr = rng.choice(['10.0.0.0/8', '10.1.0.0/24', '10.0.0.2/31',
                               '0.0.0.0/0', '0.0.0.0/0', 'fd00::/16', '::/0',
                               '::/0'])
            arguments += ['--from' if arguments[3] == 'in' else '--to', cidr]
        self.weft('security-rule', 'create', *arguments, '--project', project,
                  check=False)    # The same rule twice is refused.
        self.rules.append((project, index))

    def build_port(self, project, networks, groups, index):
        rng = self.random
        name = f'{self.tag}-{project[0]}p{index}'
        arguments = ['--network', rng.choice(networks)[0]]
        for group in rng.sample(groups, min(rng.choice([0, 1, 1, 1, 2, 2]),
                                            len(groups))):
            arguments += ['--group', group]
        self.weft('port', 'create', name, *arguments, '--project', project)
        self.ports.append((project, name, rng.choice(self.hosts)))


def random_packet(rng, tables, port, make):
    """A packet from 'port', mostly sensible.  make(**fields) builds it."""
    row = tables.ports[port]
    own = tables.addresses[port]
    if not own:
        return None
    src = rng.choice(own)
    everyone = [(n, ip) for (n, ip) in tables.owner if ip.version ==
                src.version]
    same = [x for x in everyone if x[0] == row['network']]
    # Mostly to plugged ports, or few packets would get anywhere.
    likely = [x for x in everyone if tables.owner[x] != port and
              tables.owner[x] in tables.bound]
    if likely and rng.random() < 0.8:
        everyone = likely
        same = [x for x in likely if x in same]
    network, dst = rng.choice(same if same and rng.random() < 0.6
                              else everyone)
    if rng.random() < 0.05:
        dst = ipaddress.ip_address(int(dst) + rng.randint(1, 9))
    eth_src, eth_dst = row['mac'], None
    owner = tables.owner.get((network, dst))
    if network == row['network'] and owner in tables.ports:
        eth_dst = tables.ports[owner]['mac']
    gateways = [r['mac'] for r in tables.router_ports
                if r['network'] == row['network'] and
                tables.gateway(r).version == src.version]
    if gateways and (eth_dst is None or rng.random() < 0.1):
        eth_dst = rng.choice(gateways)
    if eth_dst is None or rng.random() < 0.03:
        eth_dst = '02:aa:bb:cc:dd:ee'
    if rng.random() < 0.05:
        eth_dst, dst = 'ff:ff:ff:ff:ff:ff', ipaddress.ip_address(
            '239.1.2.3' if src.version == 4 else 'ff02::99')
    spoof = rng.random()
    if spoof < 0.04:
        src = rng.choice([x[1] for x in tables.owner
                          if x[1].version == src.version])
    elif spoof < 0.08:
        eth_src = '02:de:ad:be:ef:00'
    v6 = src.version == 6
    proto = rng.choice([6, 17, 58 if v6 else 1])
    if proto in (6, 17):
        a = rng.randint(2000, 60000)
        wanted = [r for r in tables.rules if r['protocol'] == proto]
        b = rng.choice([1, 21, 22, 23, 80, 81, 999, 1000, 1023, 1024, 1500,
                        1501, 40000, 65535])
        if wanted and rng.random() < 0.5:
            rule = rng.choice(wanted)
            b = max(1, rng.choice([rule['port_first'], rule['port_last']]))
    else:
        a, b = (128 if v6 else 8), 0
    return make(eth_src=eth_src, eth_dst=eth_dst, src=src, dst=dst,
                proto=proto, a=a, b=b,
                ttl=rng.choice([64, 64, 64, 64, 2, 1]))
