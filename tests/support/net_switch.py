# SPDX-License-Identifier: Apache-2.0
"""Hosts of real Open vSwitches with dummy ports, without root or namespaces:
flows of net_flows go in, packets are given to ports and taken from them, and
ofproto/trace says why.

    with Hosts(['h1', 'h2']) as hosts:
        hosts['h1'].add_port('p1', 1)
        hosts['h1'].install(model)
        hosts['h1'].send('p1', bytes)
        hosts['h2'].expect('p2', count=1)

Each host has an ovs-vswitchd of its own.  Their br-phy are joined pairwise by
dummy ports over sockets, so tunnel packets really travel."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

TUNNEL_OFPORT = 100
DEADLINE_S = 20
TLV_MAP = ('{class=0xff57,type=0x1,len=4}->tun_metadata0,'
           '{class=0xff57,type=0x2,len=4}->tun_metadata1')
FRAGMENTS = {'0x0': 'no', '0x1/0x1': 'yes', '0x2/0x2': 'later',
             '0x0/0x2': 'not_later', '0x1': 'first'}


def to_ofctl(line):
    """A line of flow_spec_format() in the words of ovs-ofctl."""
    match, actions = line.split(' actions=')
    match = re.sub(r'ip_frag=([^,]+)',
                   lambda m: 'ip_frag=' + FRAGMENTS[m.group(1)], match)
    match = re.sub(r'/0x([0-9a-f]{12})(?=,|$)',
                   lambda m: '/' + ':'.join(re.findall('..', m.group(1))),
                   match)
    actions = re.sub(r'zone=(reg\d+)', r'zone=\1[0..15]', actions)
    actions = re.sub(r'output:(reg\d+)', r'output:\1[]', actions)
    actions = re.sub(
        r'controller\(meter_id=(\d+),kind=(\d+),uuid=([0-9a-f]{32})\)',
        lambda m: 'controller(reason=action,max_len=65535,meter_id={},'
                  'userdata=57.45.46.54.00.00.00.{:02x}.{})'.format(
                      m.group(1), int(m.group(2)),
                      '.'.join(re.findall('..', m.group(3)))), actions)
    return match + ',actions=' + actions


def compile_model(model, tool=None):
    tool = tool or os.environ['NET_FLOWS']
    return subprocess.run([tool], input=model, text=True, check=True,
                          stdout=subprocess.PIPE).stdout.splitlines()


def wait_for(condition, what, deadline_s=DEADLINE_S):
    deadline = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.02)


class Host:
    def __init__(self, name, index, directory):
        self.name, self.index = name, index
        self.directory = pathlib.Path(directory) / name
        self.directory.mkdir()
        self.ip = f'198.18.77.{index + 1}'
        self.mac = f'aa:00:00:00:00:{index + 1:02x}'
        self.children = []
        self.seen = {}
        self.control = None
        self.flows = []
        self.environment = dict(os.environ, OVS_RUNDIR=str(self.directory),
                                OVS_DBDIR=str(self.directory),
                                OVS_LOGDIR=str(self.directory),
                                OVS_SYSCONFDIR=str(self.directory))

    def run(self, *command, check=True, **more):
        result = subprocess.run(command, env=self.environment, text=True,
                                stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, timeout=DEADLINE_S,
                                **more)
        if check and result.returncode != 0:
            raise RuntimeError(f'{command}: {result.stdout}')
        return result.stdout

    def spawn(self, *command):
        log = open(self.directory / (os.path.basename(command[0]) + '.log'),
                   'wb')
        self.children.append(subprocess.Popen(
            command, env=self.environment, stdout=log, stderr=log,
            stdin=subprocess.DEVNULL))
        log.close()

    def vsctl(self, *words):
        return self.run('ovs-vsctl', '--timeout=20',
                        f'--db=unix:{self.directory}/db.sock', *words)

    def appctl(self, *words):
        """As ovs-appctl, over one connection: packets go in by the thousand."""
        if self.control is None:
            self.control = socket.socket(socket.AF_UNIX)
            self.control.settimeout(DEADLINE_S)
            self.control.connect(f'{self.directory}/vs.ctl')
        self.control.sendall(json.dumps(
            {'id': 0, 'method': words[0], 'params': words[1:]}).encode())
        data = b''
        while True:
            more = self.control.recv(1 << 20)
            if not more:
                raise EOFError(words)
            data += more
            try:
                reply = json.loads(data)
                break
            except ValueError:
                continue
        if reply['error'] is not None:
            raise RuntimeError(f'{words}: {reply["error"]}')
        return reply['result']

    def ofctl(self, command, *words, **more):
        version = 'OpenFlow13' if command == 'set-frags' else 'OpenFlow15'
        return self.run('ovs-ofctl', '-O', version, command,
                        f'unix:{self.directory}/br-int.mgmt', *words, **more)

    def start(self):
        d = self.directory
        self.run('ovsdb-tool', 'create', f'{d}/conf.db',
                 '/usr/share/openvswitch/vswitch.ovsschema')
        self.spawn('/usr/sbin/ovsdb-server', '--no-chdir',
                   f'--remote=punix:{d}/db.sock', f'--pidfile={d}/db.pid',
                   f'--unixctl={d}/db.ctl', f'{d}/conf.db')
        wait_for((d / 'db.sock').exists, 'ovsdb-server')
        # The socket is there a moment before somebody listens.
        self.vsctl('--retry', '--no-wait', 'init')
        self.spawn('/usr/sbin/ovs-vswitchd', '--no-chdir',
                   '--enable-dummy', '--disable-system',
                   f'--pidfile={d}/vs.pid', f'--unixctl={d}/vs.ctl',
                   f'unix:{d}/db.sock')
        wait_for((d / 'vs.ctl').exists, 'ovs-vswitchd')
        self.vsctl('add-br', 'br-phy', '--', 'set', 'bridge', 'br-phy',
                   'datapath_type=dummy', 'fail-mode=standalone',
                   f'other-config:hwaddr={self.mac}')
        self.vsctl('add-br', 'br-int', '--', 'set', 'bridge', 'br-int',
                   'datapath_type=dummy', 'fail-mode=secure',
                   'protocols=OpenFlow13,OpenFlow15')
        self.vsctl('add-port', 'br-int', 'tun', '--', 'set', 'interface',
                   'tun', 'type=geneve', f'ofport_request={TUNNEL_OFPORT}',
                   'options:remote_ip=flow', 'options:key=flow')
        self.ofctl('add-tlv-map', TLV_MAP)
        self.ofctl('set-frags', 'nx-match')
        self.appctl('netdev-dummy/ip4addr', 'br-phy', f'{self.ip}/24')
        self.appctl('ovs/route/add', '198.18.77.0/24', 'br-phy')

    def stop(self):
        if self.control is not None:
            self.control.close()
        for child in reversed(self.children):
            child.send_signal(signal.SIGKILL)
            child.wait()

    def join(self, other):
        """A wire between two br-phy."""
        path = f'{other.directory}/wire{self.index}.sock'
        name = f'w{self.index}{other.index}'
        other.vsctl('add-port', 'br-phy', name, '--', 'set', 'interface', name,
                    'type=dummy', f'options:pstream=punix:{path}')
        wait_for(pathlib.Path(path).exists, path)
        self.vsctl('add-port', 'br-phy', name, '--', 'set', 'interface', name,
                   'type=dummy', f'options:stream=unix:{path}')
        for here, there in (self, other), (other, self):
            here.appctl('tnl/arp/set', 'br-phy', there.ip, there.mac)
        wait_for(lambda: 'connected' in self.appctl('netdev-dummy/conn-state',
                                                    name), 'wire')

    def add_port(self, name, ofport):
        self.vsctl('add-port', 'br-int', name, '--', 'set', 'interface', name,
                   'type=dummy', f'ofport_request={ofport}',
                   f'options:pcap={self.directory}/{name}.pcap')
        self.seen[name] = 0

    def install(self, model, tool=None):
        """Compiles and replaces all flows; the switch must take each."""
        self.flows = compile_model(f'self {self.name} tunnel={TUNNEL_OFPORT}\n'
                                   + model, tool)
        for meter in sorted({int(m) for m in re.findall(
                r'meter(?:_id=|:)(\d+)', '\n'.join(self.flows))}):
            self.ofctl('add-meter', f'meter={meter},pktps,band=type=drop,'
                       'rate=100000', check=False)
        path = self.directory / 'flows'
        path.write_text('\n'.join(map(to_ofctl, self.flows)) + '\n')
        self.ofctl('replace-flows', '--bundle', str(path))
        # Or packets could still meet what was made of the flows before.
        self.appctl('revalidator/wait')

    def trace(self, flow, *options):
        return self.appctl('ofproto/trace', 'br-int', flow, *options)

    def counted(self, table, match):
        """n_packets of the flows of a table whose text contains 'match'."""
        text = self.ofctl('dump-flows', f'table={table}')
        return sum(int(re.search(r'n_packets=(\d+)', line).group(1))
                   for line in text.splitlines()
                   if 'n_packets' in line and match in line)

    # Packets.

    def send(self, port, data):
        self.appctl('netdev-dummy/receive', port, bytes(data).hex())

    def captured(self, port):
        """All that went through a port, both ways."""
        data = (self.directory / f'{port}.pcap').read_bytes()
        packets, at = [], 24
        while at + 16 <= len(data):
            length = struct.unpack_from('<I', data, at + 8)[0]
            if at + 16 + length > len(data):
                break
            packets.append(data[at + 16:at + 16 + length])
            at += 16 + length
        return packets

    def take(self, port):
        """What is new since the last take(), without what was sent there."""
        packets = self.captured(port)
        new = packets[self.seen[port]:]
        self.seen[port] = len(packets)
        return new


class Hosts(dict):
    def __init__(self, names):
        super().__init__()
        self.directory = tempfile.mkdtemp(prefix='weft-net-switch.')
        try:
            for index, name in enumerate(names):
                self[name] = Host(name, index, self.directory)
                self[name].start()
                for other in list(self.values())[:-1]:
                    self[name].join(other)
        except BaseException:
            self.close()
            raise

    def close(self):
        for host in self.values():
            host.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Monitor:
    """Packet-ins of a host's br-int, by OpenFlow 1.5 of our own: (kind, uuid,
    packet)."""

    def __init__(self, host):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE_S)
        self.socket.connect(f'{host.directory}/br-int.mgmt')
        self.buffer = b''
        self.packets = []
        self.socket.sendall(struct.pack('!BBHI', 6, 0, 8, 1))  # Hello.
        # SET_CONFIG: fragments as set-frags nx-match has it, whole packets.
        self.socket.sendall(struct.pack('!BBHIHH', 6, 9, 12, 2, 3, 0xffff))
        # NXT_SET_PACKET_IN_FORMAT: the one with userdata.
        self.socket.sendall(struct.pack('!BBHIIII', 6, 4, 20, 3, 0x2320, 16,
                                        2))
        self.sync()

    def close(self):
        self.socket.close()

    def message(self):
        while True:
            if len(self.buffer) >= 8:
                length = struct.unpack_from('!H', self.buffer, 2)[0]
                if len(self.buffer) >= length:
                    message = self.buffer[:length]
                    self.buffer = self.buffer[length:]
                    return message
            data = self.socket.recv(65536)
            if not data:
                raise EOFError
            self.buffer += data

    def sync(self, expected=0):
        """Everything up to a barrier, and 'expected' packets at least."""
        self.socket.sendall(struct.pack('!BBHI', 6, 20, 8, 77))
        is_synced = False
        while not is_synced or len(self.packets) < expected:
            message = self.message()
            kind = message[1]
            if kind == 21:
                is_synced = True
            if kind == 2:
                self.socket.sendall(b'\x06\x03' + message[2:])
            elif kind == 4 and message[8:16] == struct.pack('!II', 0x2320, 30):
                self.packets.append(self.decode(message[16:]))
            elif kind == 1:
                raise RuntimeError(message.hex())

    @staticmethod
    def decode(body):
        """NXPINT properties: 0 is the packet, 7 the userdata."""
        packet = userdata = b''
        at = 0
        while at + 4 <= len(body):
            kind, length = struct.unpack_from('!HH', body, at)
            value = body[at + 4:at + length]
            if kind == 0:
                packet = value
            elif kind == 7:
                userdata = value
            at += (length + 7) // 8 * 8
        magic, reason = struct.unpack_from('!4sI', userdata)
        assert magic == b'WEFT'
        return reason, userdata[8:24], packet
