#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Random topologies on a test bed: what the oracle (tests/oracle) predicts for
random packets is what the live switches do, by real packets and by
'weft net trace'.

WEFT_ORACLE_TOPOLOGIES (3), WEFT_ORACLE_SEED (1), WEFT_ORACLE_PACKETS (60)."""

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

    @staticmethod
    def meet():
        """Open vSwitch drops the first packets for a tunnel's other end, until
        it has seen an ARP reply of that: here are some."""
        for host in TESTBED.hosts:
            for other in TESTBED.hosts:
                if other != host:
                    TESTBED.exec(host, 'arping', '-I', 'br-phy', '-c', '1', '-w', '5',
                                 TESTBED.address(other).replace('77', '78'))

    def exchange(self, live, now, batch):
        """Sends [(port, packet, expected)], and compares what came."""
        sent = {}
        for port, packet, expected in batch:
            tag = b'WFT' + os.urandom(wire.TAG_SIZE - 3)
            sent[tag] = (port, packet, expected)
            live.send(port, wire.encode(packet, tag))
        wanted = sum(e.kind != 'dropped' for _, _, e in batch)
        found = live.collect(sent, wanted, 5 * weft_testbed.SCALE)
        self.compare(now, sent, found)

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
                    packet.ttl != 64 or expected.kind == 'answered':
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
        self.meet()
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
        self.check_trace(now, batch[:TRACES])
        kinds = [e.kind for _, _, e in batch]
        print(f'# seed {seed}: {len(ports)} ports, {len(made.rules)} rules, '
              f'{kinds.count("delivered")} delivered, '
              f'{kinds.count("dropped")} dropped, '
              f'{kinds.count("answered")} answered', flush=True)
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
