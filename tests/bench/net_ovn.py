# SPDX-License-Identifier: Apache-2.0
"""OVN for tests/bench/net --with-ovn: its daemons in the hosts of a test bed of
its own, with the same underlay and the same kind of switch as Weft's.

Its best case is measured: one logical switch, one port group with stateful
ACLs that holds all ports, neither DHCP nor routers; what is asked for goes
straight into its northbound database over a socket, so that no command has to
start; a new port's devices are made before the clock runs.

OVN is Debian's, unpacked into $WEFT_CACHE (never installed, no service runs)."""

import os
import pathlib
import re
import subprocess
import tempfile
import types

from net_device import add_to_switch, make_device, transact

CACHE = pathlib.Path(os.environ.get('WEFT_CACHE', '/var/cache/weft'))
PACKAGES = ('ovn-common', 'ovn-central', 'ovn-host')
BATCH = 500
ACLS = (('from-lport', 1002, 'inport == @open && ip', 'allow-related'),
        ('to-lport', 1002, 'outport == @open && ip', 'allow-related'),
        ('to-lport', 1001, 'outport == @open && ip', 'drop'))
CENTRAL = ('nb', 'sb', 'northd')


def unpacked():
    """Where OVN is, downloaded when it is not there yet."""
    version = subprocess.run(
        ['apt-cache', 'show', '--no-all-versions', 'ovn-host'], check=True,
        capture_output=True, text=True).stdout
    version = re.search(r'^Version: (\S+)$', version, re.M).group(1)
    place = CACHE / f'ovn-{version}'
    if place.exists():
        return place
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as work:
        work = pathlib.Path(work)
        os.chmod(work, 0o755)     # For apt's own user.
        subprocess.run(['apt-get', '-qq', '-o', 'APT::Sandbox::User=root',
                        'download', *PACKAGES], check=True, cwd=work)
        for package in work.glob('*.deb'):
            subprocess.run(['dpkg-deb', '-x', package, work / 'out'],
                           check=True)
        try:
            (work / 'out').rename(place)
        except OSError:
            if not place.exists():    # Another one was faster.
                raise
    return place


class Ovn:
    name = 'ovn'
    agent = 'controller'

    def __init__(self, modules, mtu):
        self.m, self.mtu = modules, str(mtu)
        self.place = unpacked()
        self.bed = modules.weft_testbed.Testbed(hosts=2, block=False, net=True)
        self.net = modules.weft_net.Net(self.bed)
        self.children, self.namespaces = {}, []
        self.numbers, self.others = iter(range(2, 65000)), 0
        self.peer = self.far = None

    # ---- Up and down ----

    def spawn(self, host, name, *command):
        """A daemon in a host, as a child of ours."""
        log = open(self.bed.file(f'{host}-{name}.log'), 'ab')
        self.children[host, name] = subprocess.Popen(
            self.bed.inside(host, *command), stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, cwd=self.bed.dir, env=self.environment(
                host))
        log.close()

    def environment(self, host):
        ovs = str(self.bed.host_dir(host) / 'ovs')
        return {**os.environ, **{key: ovs for key in (
            'OVS_RUNDIR', 'OVS_DBDIR', 'OVS_LOGDIR', 'OVN_RUNDIR',
            'OVN_LOGDIR', 'OVN_DBDIR')}}

    def sock(self, name):
        return self.bed.file(f'{name}.sock')

    def nbctl(self, *command):
        return self.bed.exec('h1', self.place / 'usr/bin/ovn-nbctl',
                             f'--db=unix:{self.sock("nb")}', *command).stdout

    def start_database(self, name):
        file = self.bed.file(f'{name}.db')
        self.bed.exec(None, 'ovsdb-tool', 'create', file,
                      self.place / f'usr/share/ovn/ovn-{name}.ovsschema')
        remotes = [f'--remote=punix:{self.sock(name)}']
        if name == 'sb':
            remotes.append('--remote=ptcp:6652:10.77.0.1')
        self.spawn('h1', name, 'ovsdb-server', file, *remotes, '--no-chdir',
                   f'--unixctl={self.bed.file(name)}.ctl', '-vconsole:warn',
                   '-vsyslog:off', '-vfile:off')
        self.m.weft_testbed.wait_for(f'the database {name}',
                                     self.sock(name).exists)

    def start_agent(self, host):
        directory = self.bed.host_dir(host) / 'ovs'
        self.spawn(host, self.agent, self.place / 'usr/bin/ovn-controller',
                   f'unix:{directory}/db.sock', '--no-chdir',
                   '-vconsole:warn', '-vsyslog:off', '-vfile:off')

    def kill_agent(self, host):
        child = self.children[host, self.agent]
        child.kill()
        child.wait()

    def up(self):
        """Takes the place of netd in a bed."""
        self.bed.up()
        for host, other in ('h1', 2), ('h2', 1):
            self.bed.exec(host, 'arping', '-I', 'br-phy', '-c', '1', '-w', '5',
                          f'10.78.0.{other}')
        for host in self.bed.hosts:
            self.bed.kill(host, 'netd')
        self.bed.kill('h1', 'db')
        for name in 'nb', 'sb':
            self.start_database(name)
        self.spawn('h1', 'northd', self.place / 'usr/bin/ovn-northd',
                   f'--ovnnb-db=unix:{self.sock("nb")}', '--no-chdir',
                   f'--ovnsb-db=unix:{self.sock("sb")}',
                   f'--unixctl={self.bed.file("northd")}.ctl',
                   '-vconsole:warn', '-vsyslog:off', '-vfile:off')
        for number, host in enumerate(self.bed.hosts, 1):
            self.net.vsctl(
                host, 'del-br', 'br-int', '--', 'set', 'open_vswitch', '.',
                f'external_ids:system-id={host}',
                f'external_ids:hostname={host}',
                'external_ids:ovn-remote=tcp:10.77.0.1:6652',
                'external_ids:ovn-encap-type=geneve',
                'external_ids:ovn-encap-csum=false',    # As Weft's.
                f'external_ids:ovn-encap-ip=10.78.0.{number}',
                'external_ids:ovn-bridge-datapath-type=netdev')
            self.start_agent(host)
        self.nbctl('ls-add', 'n', '--', 'pg-add', 'open')
        for direction, priority, match, action in ACLS:
            self.nbctl('--type=port-group', 'acl-add', 'open', direction,
                       str(priority), match, action)
        self.peer, self.far = self.vm('peer', 'h1'), self.vm('far', 'h2')
        self.m.weft_testbed.wait_for('OVN to carry pings', lambda: self.bed.exec(
            None, 'ip', 'netns', 'exec', self.far.netns, 'ping', '-c', '1',
            '-W', '1', self.peer.ip, check=False).returncode == 0, 60)

    def down(self):
        for child in self.children.values():
            child.kill()
            child.wait()
        for name in self.namespaces:
            subprocess.run(['ip', 'netns', 'delete', name], check=False)
        self.bed.down()

    # ---- Ports ----

    def port(self, name):
        number = next(self.numbers)
        return types.SimpleNamespace(
            name=name, ip=f'10.0.{number >> 8}.{number & 255}',
            mac=f'0a:00:00:00:{number >> 8:02x}:{number & 255:02x}')

    def create(self, *ports):
        """All in one transaction."""
        operations, names = [], []
        for index, port in enumerate(ports):
            addresses = f'{port.mac} {port.ip}'
            operations.append({
                'op': 'insert', 'table': 'Logical_Switch_Port',
                'uuid-name': f'p{index}', 'row': {
                    'name': port.name, 'addresses': addresses,
                    'port_security': addresses}})
            names.append(['named-uuid', f'p{index}'])
        for table, name in ('Logical_Switch', 'n'), ('Port_Group', 'open'):
            operations.append({
                'op': 'mutate', 'table': table,
                'where': [['name', '==', name]],
                'mutations': [['ports', 'insert', ['set', names]]]})
        transact(self.sock('nb'), 'OVN_Northbound', *operations)

    def wait_hv(self):
        """Until all hosts have confirmed what was asked for: --wait=hv."""
        result = transact(
            self.sock('nb'), 'OVN_Northbound',
            {'op': 'mutate', 'table': 'NB_Global', 'where': [],
             'mutations': [['nb_cfg', '+=', 1]]},
            {'op': 'select', 'table': 'NB_Global', 'where': [],
             'columns': ['nb_cfg']})
        wanted = result[1]['rows'][0]['nb_cfg']
        transact(self.sock('nb'), 'OVN_Northbound', {
            'op': 'wait', 'timeout': 290000, 'table': 'NB_Global',
            'where': [], 'columns': ['hv_cfg'], 'until': '==',
            'rows': [{'hv_cfg': wanted}]})

    def fill(self, wanted, is_late):
        while self.others < wanted and not is_late():
            count = min(BATCH, wanted - self.others)
            self.create(*(self.port(f'other-{self.others + i}')
                          for i in range(count)))
            self.others += count
        self.wait_hv()

    def make_device(self, host, port):
        make_device(self.bed, host, port, self.mtu)
        self.namespaces.append(port.netns)

    def plug(self, port):
        add_to_switch(self.bed, port, port.name, self.mtu)

    def vm(self, name, host):
        port = self.port(name)
        self.make_device(host, port)
        self.bed.exec(None, 'ip', 'netns', 'exec', port.netns, 'ip', 'address',
                      'add', f'{port.ip}/16', 'dev', 'eth0')
        self.create(port)
        self.plug(port)
        return port

    def prepare(self, name):
        port = self.port(name)
        self.make_device('h2', port)
        return port

    def add(self, port, mark):
        """Calls mark() with what has just come to pass."""
        self.create(port)
        mark('created')
        self.plug(port)

    def wait_confirmed(self, port):
        self.create(port)
        self.plug(port)
        self.wait_hv()

    def remove(self, port):
        self.net.vsctl('h2', 'del-port', 'br-int', port.device)
        self.nbctl('lsp-del', port.name)

    # ---- Readings ----

    def pids(self):
        """{column: [pid]}"""
        def of(*names):
            return [child.pid for (_, name), child in self.children.items()
                    if name in names]
        return {'agent': of('northd', self.agent),
                'ovs': [self.bed.pid(h, 'ovs') for h in self.bed.hosts],
                'db': of('nb', 'sb') + [self.bed.pid(h, 'ovsdb')
                                        for h in self.bed.hosts]}

    def memory_pids(self):
        """The agent of each host, and all that is central."""
        return ([[self.children[h, self.agent].pid] for h in self.bed.hosts],
                [self.children['h1', name].pid for name in CENTRAL])

    def wait_ready(self):
        self.wait_hv()

    def flow_mods(self):
        return None

