# SPDX-License-Identifier: Apache-2.0
"""Networks on a test bed: ports with network namespaces as VMs.

    TESTBED = weft_testbed.Testbed(hosts=2, block=False, net=True)
    NET = weft_net.Net(TESTBED)
    ...
    vm = NET.vm('a', 'h1', 'n1')       a port, plugged into a namespace
    vm.dhcp()
    vm.ping(other.ip)

DHCP clients are run with a script of our own: that of the distribution would
write this machine's /etc/resolv.conf, which namespaces share."""

import json
import re
import subprocess

import weft_testbed

# For udhcpc (argument and $ip, $subnet) and dhclient ($reason, ...) alike.
SCRIPT = '''#!/bin/sh
case "${reason:-$1}" in
bound|renew)
    ip address flush dev "$interface" scope global
    ip address add "$ip/$mask" dev "$interface" ;;
BOUND|RENEW|REBOOT|REBIND)
    ip address flush dev "$interface" scope global
    ip address add "$new_ip_address/$new_subnet_mask" dev "$interface"
    router=$new_routers interface=$interface ;;
BOUND6|RENEW6|REBIND6)
    ip address add "$new_ip6_address/128" dev "$interface" ;;
esac
if [ -n "$router" ]; then
    ip route replace default via "${router%% *}" dev "$interface"
fi
{
    env
    echo "${reason:-$1}"    # Last: now all of it is there.
} >>"$WEFT_DHCP_LOG"
'''


class Vm:
    """A namespace with the inner end of a port."""

    def __init__(self, net, name, host):
        self.net, self.name, self.host = net, name, host
        self.fixed = self.port      # What stays: addresses and MAC.
        self.netns = f'{net.testbed.tag}-vm-{name}'
        net.testbed.exec(None, 'ip', 'netns', 'add', self.netns)
        self.exec('ip', 'link', 'set', 'lo', 'up')

    @property
    def port(self):
        return self.net.port(self.name)

    @property
    def ips(self):
        return self.fixed['addresses']

    @property
    def ip(self):
        return next(ip for ip in self.ips if '.' in ip)

    @property
    def ip6(self):
        return next(ip for ip in self.ips if ':' in ip)

    @property
    def mac(self):
        return self.fixed['mac']

    def inside(self, *command):
        return ['ip', 'netns', 'exec', self.netns, *map(str, command)]

    def exec(self, *command, check=True, seconds=60, **options):
        return self.net.testbed.exec(None, *self.inside(*command),
                                     check=check, seconds=seconds, **options)

    def start(self, *command, **options):
        return self.net.testbed.start_process(None, *self.inside(*command),
                                              **options)

    # ---- Plug ----

    def plug(self, wait=True):
        self.net.weft('port', 'plug', self.name, '--host', self.host,
                      '--netns', self.netns, *['--wait'] * wait)

    def unplug(self, wait=True):
        self.net.weft('port', 'unplug', self.name, *['--wait'] * wait)

    def state(self):
        return self.port['state'].lower()

    def wait_state(self, state, seconds=20):
        weft_testbed.wait_for(f'port {self.name} to be {state}',
                              lambda: self.state() == state, seconds)

    # ---- Addresses ----

    def configure(self):
        """The port's addresses, without DHCP."""
        for ip in self.ips:
            size, extra = (64, ['nodad']) if ':' in ip else (24, [])
            self.exec('ip', 'address', 'replace', f'{ip}/{size}', 'dev',
                      'eth0', *extra)

    def dhcp(self, client='udhcpc'):
        """A lease by a real client; what it was told."""
        testbed = self.net.testbed
        script = testbed.file('dhcp-script')
        log = testbed.file(f'dhcp-{self.name}.log')
        log.unlink(missing_ok=True)
        script.write_text(SCRIPT)
        script.chmod(0o755)
        if client == 'udhcpc':
            command = ['udhcpc', '-i', 'eth0', '-n', '-q', '-f', '-t', '5',
                       '-T', '1', '-s', script]
        else:
            command = ['dhclient', '-1', '-d', '-sf', script, '-lf',
                       testbed.file(f'{self.name}.leases'), '-pf',
                       testbed.file(f'{self.name}.pid'), '-cf', '/dev/null',
                       '-e', f'WEFT_DHCP_LOG={log}', 'eth0']
        child = self.start('env', f'WEFT_DHCP_LOG={log}', *command)
        try:
            weft_testbed.wait_for(
                f'a lease by {client}; it says {child.errors()[-500:]}',
                lambda: log.exists() and
                re.search(r'^(bound|BOUND)$', log.read_text(), re.M))
        finally:
            child.close()
        return log.read_text()

    # ---- Traffic ----

    def ping(self, address, count=3, check=True, extra=()):
        """Whether all of 'count' came back; a lost one may be repeated."""
        command = ['ping', '-n', '-i', '0.1', '-c', count, '-W', '2', *extra,
                   address]
        done = self.exec(*command, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f'{self.name} to {address}: {done.stdout}')
        return done.returncode == 0

    def wait_ping(self, address, seconds=20):
        weft_testbed.wait_for(
            f'{self.name} to reach {address}',
            lambda: self.ping(address, 1, check=False), seconds)

    def is_deaf(self, address):
        """Whether nothing comes back."""
        done = self.exec('ping', '-n', '-i', '0.1', '-c', 5, '-W', '1',
                         address, check=False)
        return ' 0 received' in done.stdout


class Ping:
    """Pings every 10 ms in the background."""

    def __init__(self, vm, address):
        self.process = vm.start('ping', '-n', '-i', '0.01', address)
        self.wait_more(20)

    def received(self):
        return len(re.findall(r'icmp_seq=', self.process.output()))

    def wait_more(self, count):
        start = self.received()
        weft_testbed.wait_for('pings to go on',
                              lambda: self.received() >= start + count)

    def finish(self):
        """(sent, received), of those up to the last that came back: of the few
        after it nobody knows."""
        self.process.child.send_signal(2)
        self.process.child.wait(10)
        numbers = {int(number) for number in
                   re.findall(r'bytes from .*icmp_seq=(\d+)',
                              self.process.output())}
        return max(numbers), len(numbers)


class Net:
    def __init__(self, testbed):
        self.testbed = testbed
        self.vms = {}

    def weft(self, *arguments, check=True, host='h1', **options):
        return self.testbed.weft(*arguments, check=check, host=host, **options)

    def json(self, *arguments, host='h1'):
        return self.testbed.weft_json(*arguments, host=host)

    def port(self, name):
        return self.json('port', 'show', name)

    def network(self, name, *cidrs):
        """A network with subnets; returns its name."""
        self.weft('network', 'create', name)
        for index, cidr in enumerate(cidrs):
            self.weft('subnet', 'create', f'{name}-{index}', '--network', name,
                      '--cidr', cidr)
        return name

    def open_group(self, name):
        """A group that lets everything in."""
        self.weft('security-group', 'create', name)
        for cidr in '0.0.0.0/0', '::/0':
            self.weft('security-rule', 'create', '--group', name,
                      '--direction', 'in', '--proto', 'any', '--from', cidr)
        return name

    def vm(self, name, host, network, *options, plug=True):
        """A port and a namespace, plugged on a host and up."""
        self.weft('port', 'create', name, '--network', network, *options)
        vm = self.vms[name] = Vm(self, name, host)
        if plug:
            vm.plug()
        return vm

    # ---- The switch ----

    def ovs(self, host, *command, check=True):
        directory = self.testbed.host_dir(host) / 'ovs'
        environment = self.testbed.environment(host)
        environment['OVS_RUNDIR'] = str(directory)
        done = subprocess.run(self.testbed.inside(host, *command), check=False,
                              capture_output=True, text=True, timeout=60,
                              env=environment)
        if check and done.returncode != 0:
            raise AssertionError(f'{command}: {done.stdout}{done.stderr}')
        return done.stdout

    def vsctl(self, host, *command, check=True):
        directory = self.testbed.host_dir(host) / 'ovs'
        return self.ovs(host, 'ovs-vsctl', f'--db=unix:{directory}/db.sock',
                        '--timeout=20', *command, check=check)

    def flows(self, host):
        """The switch's flows, without what counts or ages."""
        directory = self.testbed.host_dir(host) / 'ovs'
        text = self.ovs(host, 'ovs-ofctl', '-O', 'OpenFlow15', '--no-stats',
                        'dump-flows', f'unix:{directory}/br-int.mgmt')
        return sorted(line.strip() for line in text.split('\n')
                      if 'table=' in line)

    def metric(self, host, name):
        """A value of netd's metrics, with its labels as printed."""
        text = self.testbed.exec(
            host, 'curl', '-s',
            f'http://{self.testbed.address(host)}:9711/metrics').stdout
        for line in text.split('\n'):
            if line.startswith(name + ' '):
                return float(line.split()[1])
        raise AssertionError(f'no metric {name}: {text[:500]}')

    def rows(self, table, host='h1'):
        """All rows of a table of the database, as dictionaries."""
        request = json.dumps(['Weft', {'op': 'select', 'table': table,
                                       'where': []}])
        remotes = ','.join(f'tcp:{self.testbed.address(h)}:6641'
                           for h in self.testbed.hosts[:3])
        done = self.testbed.exec(host, 'ovsdb-client', 'transact',
                                 remotes if len(self.testbed.hosts) >= 3
                                 else f'tcp:{self.testbed.address("h1")}:6641',
                                 request)
        return json.loads(done.stdout)[0]['rows']


def holds(condition):
    """For wait_for(): false as long as what is asked does not answer."""
    try:
        return condition()
    except AssertionError:
        return False
