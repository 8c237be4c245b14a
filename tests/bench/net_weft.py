# SPDX-License-Identifier: Apache-2.0
"""Weft for tests/bench/net: a test bed of two hosts with netd."""

import concurrent.futures
import subprocess
import time
import types

from net_device import add_to_switch, make_device

GROUP = 'projects/default/securityGroups/open'
NETWORK = 'projects/default/networks/n'


class Weft:
    name = 'weft'

    def __init__(self, modules):
        self.m = modules
        self.bed = modules.weft_testbed.Testbed(hosts=2, block=False, net=True)
        self.net = modules.weft_net.Net(self.bed)
        self.stubs, self.namespaces, self.others = None, [], 0
        self.peer = self.far = self.peer_mtu = None

    # ---- Up and down ----

    def netns(self, name):
        name = f'{self.bed.tag}-bench-{name}'
        subprocess.run(['ip', 'netns', 'add', name], check=True)
        self.namespaces.append(name)
        return name

    def up(self):
        self.bed.up()
        self.stubs = self.m.net_case.Stubs(self.bed.net_endpoint('h1'))
        self.net.network('n', '10.0.0.0/16')
        self.net.open_group('open')
        self.peer = self.net.vm('peer', 'h1', 'n', '--group', 'open')
        self.far = self.net.vm('far', 'h2', 'n', '--group', 'open')
        for vm in self.peer, self.far:
            self.namespaces.append(vm.netns)
            vm.exec('ip', 'address', 'add', f'{vm.ip}/16', 'dev', 'eth0')
        self.peer.wait_ping(self.far.ip)
        self.peer_mtu = self.peer.exec(
            'cat', '/sys/class/net/eth0/mtu').stdout.strip()

    def down(self):
        for name in self.namespaces:
            subprocess.run(['ip', 'netns', 'delete', name], check=False)
        self.bed.down()

    def mtu(self):
        return self.peer_mtu

    # ---- Ports ----

    def create(self, name, wait=False, **port):
        pb = self.m.port_pb2
        return self.stubs.ports.CreatePort(pb.CreatePortRequest(
            parent='projects/default', port_id=name, wait=wait, port=pb.Port(
                network=NETWORK, security_groups=[GROUP], **port)),
            timeout=120)

    def start_plug(self, name, wait, **plug):
        pb = self.m.port_pb2
        self.stubs.ports.PlugPort(pb.PlugPortRequest(
            name=name, host='netHosts/h2', wait=wait,
            plug=pb.PortPlug(**plug)), timeout=60)

    def fill(self, wanted, is_late):
        """Other ports, by eight clients at once."""
        def one(index):
            if is_late():
                return 0
            self.create(f'other-{index}')
            return 1
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            self.others += sum(pool.map(one, range(self.others, wanted)))

    def prepare(self, name):
        return types.SimpleNamespace(name=name, netns=self.netns(name))

    def add(self, port, mark):
        """Calls mark() with what has just come to pass."""
        made = self.create(port.name)
        port.mac, port.path = made.mac, made.name
        port.ip = next(a for a in made.addresses if '.' in a)
        mark('created')
        self.start_plug(made.name, True, kind=self.m.port_pb2.PortPlug.NETNS,
                        netns=port.netns)
        mark('confirmed')

    def remove(self, port):
        self.net.weft('port', 'unplug', port.name, '--wait')
        self.net.weft('port', 'delete', port.name)

    def plug_taps(self, count):
        """Ports with taps on h2, until all of them are up."""
        tap = self.m.port_pb2.PortPlug.TAP

        def one(index):
            self.start_plug(self.create(f'tap-{index}').name, False, kind=tap)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(one, range(count)))
        # The VM is one more.
        self.m.weft_testbed.wait_for(
            f'{count} taps', lambda: self.ports_up() >= count + 1, 300, 0.5)

    def ports_up(self):
        return self.net.metric('h2', 'weft_netd_ports{state="up"}')

    # ---- The agent, and readings ----

    def kill_agent(self, host):
        self.bed.kill(host, 'netd')

    def start_agent(self, host):
        self.bed.start(host, 'netd')

    def wait_ready(self):
        """After a start of netd: until a change is confirmed by all hosts."""
        self.create(f'ready-{time.monotonic_ns()}', wait=True)

    def flow_mods(self):
        return self.net.metric('h2', 'weft_netd_flow_mods_total')

    def pids(self):
        """{column: [pid]}"""
        def of(*names):
            return [self.bed.pid(host, name) for host in self.bed.hosts
                    for name in names]
        return {'agent': of('netd'), 'ovs': of('ovs'),
                'db': of('ovsdb') + [self.bed.pid('h1', 'db')]}

    def memory_pids(self):
        """The agent of each host, and all that is central."""
        return ([[self.bed.pid(host, 'netd')] for host in self.bed.hosts],
                [self.bed.pid('h1', 'db')])


class Interfaces:
    """Ports of the same bed, whose devices somebody else made before the clock
    runs and adds to the switch with their iface-id, as OVN's are."""
    name = 'iface'

    def __init__(self, weft):
        self.weft, self.number = weft, 0

    def __getattr__(self, name):
        return getattr(self.weft, name)

    def prepare(self, name):
        self.number += 1
        # Not an address that another MAC had before: the peer remembers.
        port = types.SimpleNamespace(
            name=name, mac=f'0a:ff:00:00:00:{self.number:02x}',
            ip=f'10.0.200.{self.number}')
        make_device(self.bed, 'h2', port, self.mtu())
        self.namespaces.append(port.netns)
        return port

    def add(self, port, mark):
        made = self.create(port.name, mac=port.mac, addresses=[port.ip])
        mark('created')
        add_to_switch(self.bed, port, made.uid, self.mtu())

    def remove(self, port):
        self.net.vsctl('h2', 'del-port', 'br-int', port.device)
        self.net.weft('port', 'delete', port.name)
