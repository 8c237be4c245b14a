#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Random topologies on a test bed: what the oracle (tests/oracle) predicts for
random packets is what the live switches do, by real packets and by
'weft net trace'.

WEFT_ORACLE_TOPOLOGIES (3), WEFT_ORACLE_SEED (1), WEFT_ORACLE_PACKETS (60)."""

import dataclasses
import json
import os
import pathlib
import random
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.oracle import tables, topology, verdict, wire  # noqa: E402
from tests.support import weft_testbed  # noqa: E402

TOPOLOGIES = int(os.environ.get('WEFT_ORACLE_TOPOLOGIES', '3'))
SEED = int(os.environ.get('WEFT_ORACLE_SEED', '1'))
PACKETS = int(os.environ.get('WEFT_ORACLE_PACKETS', '60'))
TRACES = 8
HOSTS = 2
TESTBED = weft_testbed.Testbed(hosts=HOSTS, block=False, net=True)
setUpModule, tearDownModule = TESTBED.up, TESTBED.down


class OracleTest(unittest.TestCase):
    def setUp(self):
        self.namespaces = []
        self.addCleanup(self.remove)
        self.made = None

    def weft(self, *arguments, check=True):
        return TESTBED.weft(*arguments, check=check)

    def remove(self):
        for name in self.namespaces:
            subprocess.run(['ip', 'netns', 'delete', name], check=False)
        self.namespaces = []

    def plug(self, made):
        """Every port into a namespace of its own; {port uuid: (netns, if)}."""
        for i, (project, name, host) in enumerate(made.ports):
            netns = f'{TESTBED.tag}-o{made.tag}{i}'
            subprocess.run(['ip', 'netns', 'add', netns], check=True)
            self.namespaces.append(netns)
            subprocess.run(['ip', 'netns', 'exec', netns, 'sysctl', '-qw',
                            'net.ipv6.conf.default.disable_ipv6=1',
                            'net.ipv6.conf.all.disable_ipv6=1'], check=True)
            self.weft('port', 'plug', name, '--host', host, '--netns', netns,
                      '--project', project, '--wait')
        return {(project, name): self.namespaces[i]
                for i, (project, name, _) in enumerate(made.ports)}

    def compare(self, now, sent, found):
        """All that differs, in one complaint."""
        wrong = []
        for tag, (port, packet, expected) in sent.items():
            seen = found[tag]
            if expected.kind == 'dropped':
                good = not seen
            elif expected.kind == 'flooded':
                good = sorted((s.port, s.eth_src, s.eth_dst, s.ttl)
                              for s in seen) == \
                    sorted((one, expected.eth_src, expected.eth_dst,
                            expected.ttl) for one in expected.ports)
            elif len(seen) != 1:
                good = False
            elif expected.kind == 'answered':
                good = (seen[0].port, seen[0].answer) == \
                    (port, expected.answer)
            else:
                good = (seen[0].port, seen[0].eth_src, seen[0].eth_dst,
                        seen[0].ttl) == (expected.port, expected.eth_src,
                                         expected.eth_dst, expected.ttl)
            if not good:
                wrong.append(f'from {now.ports[port]["name"]}: {packet}'
                             f'\n  expected {expected}\n  seen {seen}')
        self.assertFalse(wrong, f'{len(wrong)} of {len(sent)} packets:\n' +
                         '\n'.join(wrong))

    def exchange(self, live, now, batch):
        """Sends [(port, packet, expected)], and compares what came."""
        sent = {}
        for port, packet, expected in batch:
            tag = b'WFT' + os.urandom(wire.TAG_SIZE - 3)
            sent[tag] = (port, packet, expected)
            live.send(port, wire.encode(packet, tag))
        wanted = sum(len(e.ports) if e.kind == 'flooded' else
                     e.kind != 'dropped' for _, _, e in batch)
        found = live.collect(sent, wanted, 5 * weft_testbed.SCALE)
        self.compare(now, sent, found)

    def fragments(self, live, now, batch):
        """The same as datagrams in pieces.  Of one that is not delivered the
        first piece may be seen nowhere; others are of no use to anybody."""
        sent, pieces, wanted = {}, {}, 0
        for port, packet, expected in batch:
            if packet.proto != 17 or packet.ttl != 64 or \
                    expected.kind not in ('delivered', 'dropped'):
                continue
            # A connection of its own.
            packet = dataclasses.replace(packet, a=packet.a + 1)
            tag = b'WFT' + os.urandom(wire.TAG_SIZE - 3)
            sent[tag] = (port, packet, expected)
            pieces[tag] = wire.encode_fragments(packet, tag)
            wanted += len(pieces[tag]) * (expected.kind == 'delivered')
            for piece in pieces[tag]:
                live.send(port, piece)
        found = live.collect(sent, wanted, 5 * weft_testbed.SCALE)
        for tag, (port, packet, expected) in sent.items():
            seen, text = found[tag], f'from {now.ports[port]["name"]}: ' \
                f'{packet} in pieces\n  expected {expected}\n  seen '
            if expected.kind == 'dropped':
                self.assertFalse([s for s in seen if not s.is_later],
                                 text + str(seen))
                continue
            self.assertEqual(
                [(s.port, s.eth_src, s.eth_dst, s.ttl) for s in seen],
                [(expected.port, expected.eth_src, expected.eth_dst,
                  expected.ttl)] * len(pieces[tag]), text + str(seen))
            self.assertEqual(sum(not s.is_later for s in seen), 1)
        return len(sent)

    def replies(self, now, batch):
        """Answers by UDP and TCP to what was delivered."""
        for port, packet, given in batch:
            if given.kind != 'delivered' or packet.proto not in (6, 17):
                continue
            mac = now.ports[given.port]['mac']
            reply = verdict.Packet(
                eth_src=mac, eth_dst=given.eth_src, src=packet.dst,
                dst=packet.src, proto=packet.proto, a=packet.b, b=packet.a,
                is_reply=True)
            yield given.port, reply, verdict.judge_reply(now, given, packet,
                                                         reply)

    def check_trace(self, now, batch):
        for port, packet, expected in batch:
            if packet.eth_src != now.ports[port]['mac'] or \
                    packet.src not in now.addresses[port] or \
                    packet.ttl != 64 or \
                    expected.kind in ('answered', 'flooded') or \
                    int(packet.eth_dst[:2], 16) & 1:
                continue    # What a tenant would not ask.
            row = now.ports[port]
            proto = {1: 'icmp', 58: 'icmp', 6: 'tcp', 17: 'udp'}[packet.proto]
            arguments = ['net', 'trace', '--from', row['name'], '--to',
                         str(packet.dst), '--proto', proto, '--project',
                         row['project'], '-o', 'json']
            if proto != 'icmp':
                arguments += ['--port', str(packet.b)]
            out = self.weft(*arguments, check=False)
            answer = json.loads(out.stdout)
            if answer['live']['reason'] == 'NOTHING_TO_SEND':
                self.assertNotEqual(answer['intent']['outcome'], 'DELIVERED',
                                    f'{packet}: {answer}')
                continue
            self.assertEqual(answer.get('agreement'), 'AGREES',
                             f'{packet}: {answer}')
            # The trace asks for what a guest would send: by the gateway or
            # straight.
            if f'-> {packet.eth_dst})' in answer['packet']:
                self.assertEqual(answer['live']['outcome'],
                                 expected.kind.upper(),
                                 f'{packet}: {expected}: {answer}')

    def run_seed(self, seed):
        rng = random.Random(seed)
        made = topology.Topology(
            seed, [f'h{i + 1}' for i in range(HOSTS)], self.weft,
            'o').build()
        where = self.plug(made)
        now = tables.Tables(f'tcp:{TESTBED.address("h1")}:6641',
                            TESTBED.inside('h1'))
        ports = {now.port_by_name[key]: (netns, 'eth0')
                 for key, netns in where.items()}
        with wire.Wire(ports) as live:
            batch = []
            for _ in range(PACKETS):
                port = rng.choice(sorted(ports))
                packet = topology.random_packet(rng, now, port, verdict.Packet)
                if packet is not None:
                    batch.append((port, packet,
                                  verdict.judge(now, port, packet)))
            live.drain()
            self.exchange(live, now, batch)
            self.exchange(live, now, list(self.replies(now, batch)))
            in_pieces = self.fragments(live, now, batch)
        self.check_trace(now, batch[:TRACES])
        kinds = [e.kind for _, _, e in batch]
        print(f'# seed {seed}: {len(ports)} ports, {len(made.rules)} rules, '
              f'{kinds.count("delivered")} delivered, '
              f'{kinds.count("flooded")} flooded, '
              f'{kinds.count("dropped")} dropped, '
              f'{kinds.count("answered")} answered, {in_pieces} more in '
              'pieces', flush=True)
        for project, name, _ in made.ports:
            self.weft('port', 'unplug', name, '--project', project)
            self.weft('port', 'delete', name, '--project', project)
        self.remove()

    def test_topologies(self):
        for seed in range(SEED, SEED + TOPOLOGIES):
            with self.subTest(seed=seed):
                self.remove()
                self.run_seed(seed)


if __name__ == '__main__':
    weft_testbed.main()
