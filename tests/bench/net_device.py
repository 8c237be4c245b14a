# SPDX-License-Identifier: Apache-2.0
"""Devices as somebody other than netd makes them, and a database without its
client: for tests/bench/net."""

import json
import socket
import subprocess


def transact(path, database, *operations, seconds=300):
    """One transaction by a connection of its own; the results."""
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(seconds)
        one.connect(str(path))
        one.sendall(json.dumps({'method': 'transact', 'id': 0, 'params': [
            database, *operations]}).encode())
        text, decoder = '', json.JSONDecoder()
        while True:
            got = one.recv(1 << 16)
            if not got:
                raise RuntimeError(f'{database} hung up: {text}')
            text += got.decode()
            try:
                answer, end = decoder.raw_decode(text)
            except ValueError:
                continue
            if answer.get('id') == 0 and 'result' in answer:
                break
            if answer.get('method') == 'echo':
                one.sendall(json.dumps({'id': answer['id'], 'error': None,
                                        'result': []}).encode())
            text = text[end:]
    errors = [r for r in answer['result'] or [answer['error']]
              if r and r.get('error')]
    if errors:
        raise RuntimeError(f'{database}: {errors}')
    return answer['result']



def make_device(bed, host, port, mtu):
    """port.device in a host; its inner end, eth0 with port.mac, in a new
    namespace port.netns."""
    port.netns = f'{bed.tag}-bench-{port.name}'
    port.device, port.host = f'v-{port.name}'[:15], host
    subprocess.run(['ip', 'netns', 'add', port.netns], check=True)
    bed.exec(host, 'ip', 'link', 'add', port.device, 'mtu', mtu, 'type',
             'veth', 'peer', 'name', 'eth0', 'address', port.mac, 'mtu', mtu,
             'netns', port.netns)
    bed.exec(host, 'ip', 'link', 'set', port.device, 'up')
    for command in (['ip', 'link', 'set', 'eth0', 'up'],
                    ['ethtool', '-K', 'eth0', 'tx', 'off']):
        bed.exec(None, 'ip', 'netns', 'exec', port.netns, *command)


def add_to_switch(bed, port, iface_id, mtu):
    """What 'ovs-vsctl --no-wait add-port' does."""
    transact(bed.host_dir(port.host) / 'ovs/db.sock', 'Open_vSwitch',
             {'op': 'insert', 'table': 'Interface', 'uuid-name': 'i',
              'row': {'name': port.device, 'mtu_request': int(mtu),
                      'external_ids': ['map', [['iface-id', iface_id]]]}},
             {'op': 'insert', 'table': 'Port', 'uuid-name': 'p',
              'row': {'name': port.device,
                      'interfaces': ['named-uuid', 'i']}},
             {'op': 'mutate', 'table': 'Bridge',
              'where': [['name', '==', 'br-int']],
              'mutations': [['ports', 'insert', ['named-uuid', 'p']]]},
             {'op': 'mutate', 'table': 'Open_vSwitch', 'where': [],
              'mutations': [['next_cfg', '+=', 1]]})
