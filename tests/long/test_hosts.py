#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""docs/operations.md, from beginning to end, on hosts that run systemd.

  WEFT_BUILD_DIR=BUILD tests/long/test_hosts.py

Four machines (tests/support/machine.py: clean Debians in namespaces) get the
package, and what an administrator does to them is done: install, first host,
further hosts, disks, guests, upgrade under load, loss of a host, a new host
in its place, loss of the database's majority, backup and restore, taking a
host out, purge.  Open vSwitch and the daemons run as Debian's and our units
say, in the sandboxes that these units ask for.  As root; minutes; not in
deploy/check.  The switch is the one in user space: a namespace can load no
kernel module."""

import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import unittest

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(TOP / 'tests/support'))
# pylint: disable=wrong-import-position
import clean_debian  # noqa: E402
import guest  # noqa: E402
import machine  # noqa: E402
from machine import must, wait_for  # noqa: E402

BUILD = pathlib.Path(os.environ.get('WEFT_BUILD_DIR', ''))
UNITS = ['weft-db', 'weft-blockd', 'weft-netd']
PINGS_PER_S = 50
CAP_NET_ADMIN, CAP_SYS_ADMIN = 1 << 12, 1 << 21


def renumber(package, version, folder):
    """The same package as another version, which dpkg unpacks like any."""
    root = folder / 'unpacked'
    must('dpkg-deb', '-R', package, root)
    control = root / 'DEBIAN/control'
    control.write_text(re.sub(r'(?m)^Version: .*$', f'Version: {version}',
                              control.read_text()))
    target = folder / f'weft_{version}_amd64.deb'
    must('dpkg-deb', '--root-owner-group', '-Zxz', '-z0', '--build', root,
         target)
    return target


def count(report):
    """A report of nbd_load.py in a few words."""
    return f'{sum(report["operations"].values())} requests, the longest ' \
        f'{report["longest_s"]:.2f} s'


class Load:
    """nbd_load.py against a volume, on its host; one that comes later knows
    what the one before wrote."""

    def __init__(self, host, volume):
        self.host = host
        self.process = host.popen(
            '/usr/bin/python3', '/nbd_load.py', '--uri',
            f'nbd+unix:///default/{volume}?socket=/run/weft/nbd.sock',
            '--size', str(16 << 20), '--depth', '4', '--model',
            f'/{volume}.model', stdin=subprocess.PIPE,
            stdout=subprocess.PIPE)

    def finish(self):
        """Its report, after it has read all back."""
        out, _ = self.process.communicate('\n', timeout=180)
        report = json.loads(out.strip().split('\n')[-1])
        if self.process.returncode != 0:
            raise AssertionError(f'the load saw: {report}')
        return report


class Pings:
    """From one port to another until it is stopped."""

    def __init__(self, host, space, target):
        self.process = host.popen(
            'ip', 'netns', 'exec', space, 'ping', '-q', '-W', '1', '-i',
            str(1 / PINGS_PER_S), target, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE)
        self.host = host

    def finish(self):
        """Sent, and lost."""
        self.host.run('pkill', '-INT', '-x', 'ping')
        out, _ = self.process.communicate(timeout=30)
        found = re.search(r'(\d+) packets transmitted, (\d+) received', out)
        sent, got = map(int, found.groups())
        return sent, sent - got


class Hosts(unittest.TestCase):
    """One story; each method goes on where the one before ended."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.wire, self.hosts, self.package, self.newer = None, {}, None, None

    # ---- Words of an administrator ----

    def weft(self, host, *words):
        return self.hosts[host].must('weft', *words)

    def weft_json(self, host, *words):
        return json.loads(self.weft(host, *words, '-o', 'json'))

    def say(self, text):
        print(f'  {time.monotonic() - self.began:5.0f} s  {text}', flush=True)

    def is_well(self, host='h1'):
        done = self.hosts[host].run('weft', 'status')
        return done.returncode == 0 and 'all is well' in done.stdout

    def wait_well(self, host='h1'):
        try:
            wait_for('all to be well', lambda: self.is_well(host), 90)
        except AssertionError as error:
            raise AssertionError(
                self.hosts[host].run('weft', 'status').stdout) from error

    def remotes(self, *hosts):
        return ','.join(f'tcp:{self.hosts[host].address}:6641'
                        for host in hosts)

    def use_remotes(self, everywhere, servers):
        for host in everywhere:
            self.hosts[host].must('weft-deploy', 'remotes',
                                  self.remotes(*servers))

    # ---- Machines ----

    def add_host(self, base, number):
        """A machine with the package and, for the switch in user space, the
        bridge of the tunnels (docs/configuration.md)."""
        host = machine.Machine(self.wire, base, number)
        host.boot()
        self.hosts[host.name] = host
        for source, target in ((self.package, '/weft.deb'),
                               (self.newer, '/newer.deb'),
                               (TOP / 'tests/support/nbd_load.py',
                                '/nbd_load.py')):
            host.path(target).write_bytes(source.read_bytes())
        said = host.must('apt-get', '-q', '-y', 'install', '/weft.deb')
        self.assertIn('weft-deploy init', said)
        self.assertNotIn('weft-blockd', host.must('systemctl', 'list-units'))
        self.raise_switch(host, fresh=True)
        return host

    @staticmethod
    def raise_switch(host, fresh=False):
        if fresh:
            host.must('ovs-vsctl', 'add-br', 'br-phy', '--', 'set', 'bridge',
                      'br-phy', 'datapath_type=netdev', '--', 'add-port',
                      'br-phy', 'eth1')
        host.must('sysctl', '-qw', 'net.ipv4.conf.eth1.arp_ignore=8')
        host.must('ip', 'address', 'add', f'10.0.1.{host.number}/24', 'dev',
                  'br-phy')
        host.must('ip', 'link', 'set', 'br-phy', 'mtu', machine.MTU, 'up')

    def deploy(self, host, *words):
        return host.must('weft-deploy', *words, '--name', host.name,
                         '--address', host.address, '--tunnel-address',
                         f'10.0.1.{host.number}', '--datapath', 'netdev')

    def test_hosts(self):
        self.began = time.monotonic()
        with contextlib.ExitStack() as stack:
            folder = pathlib.Path(stack.enter_context(
                tempfile.TemporaryDirectory(prefix='weft-test-hosts-')))
            self.package = pathlib.Path(must(
                TOP / 'deploy/package', BUILD, '--out', folder).strip())
            version = must('dpkg-deb', '-f', self.package, 'Version').strip()
            self.newer = renumber(self.package, version + '+1', folder)
            tar, reason = clean_debian.find(self.package)
            if tar is None:
                self.skipTest(f'no clean Debian: {reason}')
            base = folder / 'base'
            clean_debian.unpack(tar, base)
            self.wire = stack.enter_context(machine.Wire())
            stack.callback(self.tell)
            self.story(base)
            self.is_done = True

    is_done = False

    def tell(self):
        """What the services said, if the story ended badly."""
        if self.is_done:
            return
        for host in self.hosts.values():
            if host.pid is not None:
                print(f'---- {host.name}', host.run(
                    'journalctl', '--no-pager', '-q', '-n', '40', '-u',
                    'weft-*').stdout, flush=True)

    def story(self, base):
        self.install(base)
        self.sandboxes()
        self.guests()
        self.look()
        self.tighten()
        self.upgrade()
        self.restart_switch()
        self.add_and_remove_disk()
        self.lose_host()
        self.replace_host(base)
        self.back_up_and_restore()
        self.lose_majority()
        self.take_out()

    # ---- Chapters ----

    def install(self, base):
        h1 = self.add_host(base, 1)
        self.deploy(h1, 'init', '--disk', h1.add_disk())
        refused = h1.run('weft-deploy', 'init', '--address', h1.address)
        self.assertIn('part of a cloud already', refused.stderr)
        for number in 2, 3:
            host = self.add_host(base, number)
            command = re.search(r'(?m)^new host +weft-deploy (.*)$',
                                h1.must('weft-deploy', 'status')).group(1)
            self.deploy(host, *command.split(), '--disk', host.add_disk())
            servers = list(self.hosts)
            self.use_remotes(servers, servers)
        self.wait_well()
        for host in self.hosts.values():
            said = host.must('weft-deploy', 'status')
            self.assertNotIn('differs', said)
            self.assertIn('status: cluster member', said)
        self.say('three hosts, a database of three servers')

    def sandboxes(self):
        """What the units ask for is what the kernel has."""
        h1 = self.hosts['h1']
        outside = os.readlink(h1.path('/proc/1/ns/mnt'))
        for unit, capabilities in (
                ('weft-db', 0), ('weft-blockd', 0),
                ('weft-netd', CAP_NET_ADMIN | CAP_SYS_ADMIN)):
            pid = h1.must('systemctl', 'show', '-P', 'MainPID', unit).strip()
            status = h1.path(f'/proc/{pid}/status').read_text()
            fields = dict(line.split(':', 1) for line in
                          status.strip().split('\n'))
            self.assertEqual(fields['NoNewPrivs'].strip(), '1', unit)
            self.assertEqual(fields['Seccomp'].strip(), '2', unit)
            for one in 'CapEff', 'CapPrm', 'CapBnd':
                self.assertEqual(int(fields[one], 16), capabilities, unit)
            self.assertEqual(fields['Uid'].split()[0] == '0',
                             unit == 'weft-netd')
            self.assertNotEqual(os.readlink(h1.path(f'/proc/{pid}/ns/mnt')),
                                outside, unit)
        self.say('the units are in their sandboxes')

    def guests(self):
        """A disk by vhost-user for QEMU, volumes by NBD, ports on two hosts."""
        for number in 1, 2, 3:
            self.weft('h1', 'volume', 'create', f'v{number}', '--size', '64M',
                      '--pool', 'default')
        self.weft('h1', 'volume', 'attach', 'v1', '--host', 'h1', '--nbd')
        self.weft('h1', 'volume', 'attach', 'v3', '--host', 'h3', '--nbd')
        path = self.weft('h1', 'volume', 'attach', 'v2', '--host', 'h1',
                         '--vhost-user').strip().split('\n')[-1]
        h1 = self.hosts['h1']
        # As libvirt's QEMU: a user whose only right is group weft.
        h1.must('setpriv', '--reuid', 'nobody', '--regid', 'weft',
                '--clear-groups', '/usr/bin/python3', '-c',
                'import socket; socket.socket(socket.AF_UNIX).connect('
                f'"{path}")')
        refused = h1.run('setpriv', '--reuid', 'nobody', '--regid', 'nogroup',
                         '--clear-groups', '/usr/bin/python3', '-c',
                         'import socket; socket.socket(socket.AF_UNIX).connect'
                         f'("{path}")')
        self.assertIn('PermissionError', refused.stderr)
        command = 'fio --name=verify --filename=/dev/vda --direct=1 ' \
            '--ioengine=libaio --verify=crc32c --rw=randwrite --bs=4k ' \
            '--size=8M --iodepth=4'
        with guest.Guest(str(h1.path(path)), [command]) as vm:
            result = vm.result(0, 240)
        self.assertEqual(result.status, 0, result.output)
        self.say('a guest wrote and verified by vhost-user')

        self.weft('h1', 'network', 'create', 'blue')
        self.weft('h1', 'subnet', 'create', 'blue-v4', '--network', 'blue',
                  '--cidr', '10.9.0.0/24')
        self.weft('h1', 'security-group', 'create', 'open')
        self.weft('h1', 'security-rule', 'create', '--group', 'open',
                  '--direction', 'in', '--from-group', 'open', '--proto',
                  'icmp')
        for number in 1, 2:
            host = self.hosts[f'h{number}']
            host.must('ip', 'netns', 'add', 'guest')
            self.weft('h1', 'port', 'create', f'p{number}', '--network',
                      'blue', '--group', 'open')
            self.weft('h1', 'port', 'plug', f'p{number}', '--host', host.name,
                      '--netns', 'guest', '--wait')
            address = self.weft_json('h1', 'port', 'show',
                                     f'p{number}')['addresses'][0]
            host.must('ip', '-n', 'guest', 'address', 'add', f'{address}/24',
                      'dev', 'eth0')
        self.target = address
        wait_for('a first ping', lambda: h1.run(
            'ip', 'netns', 'exec', 'guest', 'ping', '-c', '1', '-W', '1',
            self.target).returncode == 0)
        # A tap device: /dev/net/tun, which the unit allows.
        self.weft('h1', 'port', 'create', 'p3', '--network', 'blue')
        self.weft('h1', 'port', 'plug', 'p3', '--host', 'h3', '--tap', 'tap3',
                  '--wait')
        self.say('two ports on two hosts ping each other')

    def look(self):
        """The table 'What to look at'."""
        h1 = self.hosts['h1']
        for words in (('status',), ('event', 'list'), ('operation', 'list'),
                      ('volume', 'show', 'v1'), ('net', 'hosts')):
            self.assertNotEqual(self.weft('h1', *words), '')
        self.assertIn('delivered', self.weft(
            'h1', 'net', 'trace', '--from', 'p1', '--to', self.target,
            '--proto', 'icmp'))
        for command in (['blockd', '--check'], ['netd', '--check'],
                        ['weft-deploy', 'status'],
                        ['systemctl', 'status', *UNITS],
                        ['journalctl', '-u', 'weft-blockd'],
                        ['systemd-analyze', 'security', 'weft-netd'],
                        ['ovs-appctl', '-t',
                         '/run/weft/db/ovsdb-server.ctl', 'cluster/status',
                         'Weft']):
            h1.must(*command)
        for port in 9701, 9711:
            for page in 'metrics', 'healthz':
                h1.must('/usr/bin/python3', '-c', 'import urllib.request; '
                        'urllib.request.urlopen("http://127.0.0.1:'
                        f'{port}/{page}")')
        self.say('all that is to be looked at answers')

    def tighten(self):
        """netd of a host whose ports are all tap devices or QEMU's own."""
        h3 = self.hosts['h3']
        h3.shell("""
            mkdir /etc/systemd/system/weft-netd.service.d
            printf '%s\\n' '[Service]' CapabilityBoundingSet= \
                CapabilityBoundingSet=CAP_NET_ADMIN \
                >/etc/systemd/system/weft-netd.service.d/override.conf
            systemctl daemon-reload
            systemctl restart weft-netd""")
        pid = h3.must('systemctl', 'show', '-P', 'MainPID', 'weft-netd')
        self.assertIn(f'CapEff:\t{CAP_NET_ADMIN:016x}', h3.path(
            f'/proc/{pid.strip()}/status').read_text())
        self.weft('h1', 'port', 'unplug', 'p3')
        self.weft('h1', 'port', 'plug', 'p3', '--host', 'h3', '--tap', 'tap3',
                  '--wait')
        self.say('netd made a tap device without CAP_SYS_ADMIN')

    def upgrade(self):
        """Under I/O and pings, host by host."""
        h1 = self.hosts['h1']
        load, pings = Load(h1, 'v1'), Pings(h1, 'guest', self.target)
        restarted = {}
        for host in self.hosts.values():
            before = {unit: host.must('systemctl', 'show', '-P', 'MainPID',
                                      unit) for unit in UNITS}
            said = host.must('apt-get', '-q', '-y', 'install', '/newer.deb')
            self.assertIn('running daemons are the old ones', said)
            for unit in UNITS:
                self.assertEqual(before[unit], host.must(
                    'systemctl', 'show', '-P', 'MainPID', unit))
            host.must('systemctl', 'restart', 'weft-netd')
            host.must('systemctl', 'restart', 'weft-blockd')
            for unit in UNITS[1:]:
                restarted[unit] = host.must('systemctl', 'show', '-P',
                                            'MainPID', unit)
                self.assertNotEqual(before[unit], restarted[unit])
            self.wait_well()
        sent, lost = pings.finish()
        report = load.finish()
        self.say(f'upgraded under load: {count(report)}; {lost} of {sent} '
                 'pings lost')
        self.assertLessEqual(lost, 3)

    def restart_switch(self):
        """Its sockets are made anew under netd's eyes."""
        h1 = self.hosts['h1']
        netd = h1.must('systemctl', 'show', '-P', 'MainPID', 'weft-netd')
        h1.must('systemctl', 'restart', 'openvswitch-switch')
        self.raise_bridge(h1)
        wait_for('pings after a restart of the switch', lambda: h1.run(
            'ip', 'netns', 'exec', 'guest', 'ping', '-c', '1', '-W', '1',
            self.target).returncode == 0)
        self.assertEqual(netd, h1.must('systemctl', 'show', '-P', 'MainPID',
                                       'weft-netd'))
        self.say('the switch was restarted')

    @staticmethod
    def raise_bridge(host):
        """The address, if the switch has made its bridge's device anew."""
        if f'10.0.1.{host.number}/' not in host.must('ip', 'address'):
            Hosts.raise_switch(host)

    def add_and_remove_disk(self):
        h2 = self.hosts['h2']
        disk = h2.add_disk()
        h2.must('mke2fs', '-q', disk)
        refused = h2.run('weft', 'disk', 'add', disk, '--host', 'h2',
                         '--pool', 'default')
        self.assertNotEqual(refused.returncode, 0)
        name = self.weft('h2', 'disk', 'add', disk, '--host', 'h2', '--pool',
                         'default', '--force').strip().split('/')[-1]
        self.assertIn(name, self.weft('h2', 'disk', 'list'))
        self.weft('h2', 'disk', 'remove', name, '--host', 'h2')
        self.assertNotIn(name, self.weft('h2', 'disk', 'list'))
        self.say('a disk was added and removed')

    def lose_host(self):
        """It loses power, and comes back by itself."""
        h1, h3 = self.hosts['h1'], self.hosts['h3']
        load = Load(h1, 'v1')
        h3.crash()
        wait_for('h3 to be missed', lambda: not self.is_well(), 60)
        self.weft('h1', 'volume', 'detach', '--force', 'v3')
        self.weft('h1', 'volume', 'attach', 'v3', '--host', 'h2', '--nbd')
        self.weft('h1', 'port', 'unplug', 'p3')
        self.hosts['h2'].must('ip', 'netns', 'add', 'other')
        self.weft('h1', 'port', 'plug', 'p3', '--host', 'h2', '--netns',
                  'other', '--wait')
        h3.boot()
        self.raise_bridge(h3)
        self.wait_well()
        report = load.finish()
        self.say(f'h3 was lost and came back: {count(report)}')

    def replace_host(self, base):
        """h3 is gone for ever; h4 takes its place in the database."""
        self.hosts['h3'].crash()
        h1 = self.hosts['h1']
        status = h1.must('ovs-appctl', '-t', '/run/weft/db/ovsdb-server.ctl',
                         'cluster/status', 'Weft')
        server = re.search(r'(?m)^ +(\w{4}) \(\w+ at tcp:10.0.0.3:', status)
        h1.must('ovs-appctl', '-t', '/run/weft/db/ovsdb-server.ctl',
                'cluster/kick', 'Weft', server.group(1))
        del self.hosts['h3']
        self.use_remotes(('h1', 'h2'), ('h1', 'h2'))
        h4 = self.add_host(base, 4)
        self.deploy(h4, 'join', '--database', self.remotes('h1', 'h2'),
                    '--disk', h4.add_disk())
        self.use_remotes(self.hosts, self.hosts)
        wait_for('h4 to be up', lambda: any(
            host['name'] == 'hosts/h4' and host['state'] == 'UP'
            for host in self.weft_json('h1', 'host', 'list')['hosts']))
        self.weft('h1', 'volume', 'create', 'v4', '--size', '64M', '--pool',
                  'default')
        self.weft('h1', 'volume', 'attach', 'v4', '--host', 'h1', '--nbd')
        Load(h1, 'v4').finish()
        self.say('h3 was replaced by h4')

    def back_up_and_restore(self):
        h1 = self.hosts['h1']
        h1.must('weft-deploy', 'backup', '/root/weft.db')
        self.assertEqual(h1.path('/root/weft.db').stat().st_mode & 0o777,
                         0o600)
        for host in self.hosts.values():
            host.must('systemctl', 'stop', 'weft-blockd', 'weft-netd')
        for name in 'h2', 'h4':
            self.hosts[name].must('systemctl', 'stop', 'weft-db')
        h1.shell('''
            systemctl stop weft-db
            cd /var/lib/weft/db && mv weft.db weft.db.old
            ovsdb-tool create-cluster weft.db /root/weft.db tcp:10.0.0.1:6642
            chown weft-db:weft-db weft.db
            systemctl start weft-db''')
        self.join_anew('h1', ('h2', 'h4'))
        Load(h1, 'v4').finish()
        self.say('the database was restored from a backup')

    def join_anew(self, first, others):
        """As after the loss of a majority."""
        self.use_remotes(self.hosts, (first,))
        for name in others:
            host = self.hosts[name]
            host.shell(f'''
                systemctl stop weft-db
                rm -f /var/lib/weft/db/weft.db
                ovsdb-tool join-cluster /var/lib/weft/db/weft.db Weft \
                    tcp:{host.address}:6642 \
                    tcp:{self.hosts[first].address}:6642
                chown weft-db: /var/lib/weft/db/weft.db
                systemctl start weft-db''')
        wait_for('all servers to be members', lambda: all(
            'status: cluster member' in host.run('weft-deploy',
                                                 'status').stdout
            for host in self.hosts.values()))
        self.use_remotes(self.hosts, self.hosts)
        for host in self.hosts.values():
            host.must('systemctl', 'start', 'weft-blockd', 'weft-netd')
        wait_for('v4 to be healthy', lambda: self.weft_json(
            'h1', 'volume', 'show', 'v4')['health'] == 'HEALTHY')

    def lose_majority(self):
        """h2 and h4 lose their databases; h1 goes on alone."""
        for name in 'h2', 'h4':
            self.hosts[name].must('systemctl', 'kill', '-s', 'KILL',
                                  'weft-db')
            self.hosts[name].must('systemctl', 'stop', 'weft-db')
        h1 = self.hosts['h1']
        load = Load(h1, 'v4')
        h1.shell('''
            systemctl stop weft-db
            cd /var/lib/weft/db
            mv weft.db weft.db.lost
            ovsdb-tool cluster-to-standalone alone.db weft.db.lost
            ovsdb-tool create-cluster weft.db alone.db tcp:10.0.0.1:6642
            chown weft-db:weft-db weft.db
            systemctl start weft-db''')
        self.join_anew('h1', ('h2', 'h4'))
        # Until then a volume that lost a replica would have waited.
        load.finish()
        self.say('the database had lost its majority, and is whole again')

    def take_out(self):
        h4 = self.hosts['h4']
        refused = h4.run('weft-deploy', 'uninstall')
        self.assertIn('say --yes', refused.stderr)
        self.assertTrue(h4.path('/var/lib/weft/db/weft.db').exists())
        h4.must('weft-deploy', 'uninstall', '--keep-data', '--yes')
        h4.must('systemctl', 'enable', '--now', *UNITS)
        said = h4.must('apt-get', '-q', '-y', 'purge', 'weft')
        self.assertIn('/var/lib/weft stays', said)
        self.assertTrue(h4.path('/var/lib/weft/db/weft.db').exists())
        self.assertNotIn('weft-blockd', h4.must('systemctl', 'list-units'))
        h4.must('apt-get', '-q', '-y', 'install', '/newer.deb')
        h4.must('systemctl', 'enable', '--now', *UNITS)
        wait_for('h4 to be back', lambda: any(
            host['name'] == 'hosts/h4' and host['state'] == 'UP'
            for host in self.weft_json('h1', 'host', 'list')['hosts']))
        h4.must('weft-deploy', 'uninstall', '--yes')
        for folder in '/var/lib/weft', '/etc/weft':
            self.assertFalse(h4.path(folder).exists())
        members = self.hosts['h1'].must('weft-deploy', 'status')
        self.assertNotIn(h4.address, members.split('members')[1])
        self.say('h4 was purged, installed again, and taken out')


if __name__ == '__main__':
    if not (BUILD / 'blockd/blockd').exists():
        sys.exit('WEFT_BUILD_DIR: where Weft was built is not set')
    why = machine.reason_against()
    if why is not None:
        print(f'1..0 # SKIP {why}')
        sys.exit(77)
    unittest.main()
