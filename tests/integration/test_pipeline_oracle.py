#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Random topologies, compiled for two real switches; random packets go in, and
what comes out is what the oracle (tests/oracle) says.  No netd and no database
is in between, so a topology takes about a second.

WEFT_PIPELINE_TOPOLOGIES (12), WEFT_PIPELINE_SEED (1), WEFT_PIPELINE_PACKETS
(80)."""

import dataclasses
import ipaddress
import os
import pathlib
import random
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.oracle import verdict, wire  # noqa: E402
from tests.support import net_switch, net_topology  # noqa: E402

TOPOLOGIES = int(os.environ.get('WEFT_PIPELINE_TOPOLOGIES', '12'))
SEED = int(os.environ.get('WEFT_PIPELINE_SEED', '1'))
PACKETS = int(os.environ.get('WEFT_PIPELINE_PACKETS', '80'))
# Kinds of pipeline.h, as the answers that they lead to.
ANSWERS = {5: 'time-exceeded', 7: 'unreachable', 8: 'unreachable'}


class Packets:
    """Random packets of a topology, each the first of its connection."""

    def __init__(self, topology, seed):
        self.topology, self.random = topology, random.Random(seed)
        self.next_port = 5000

    def any_mac(self, source):
        rng, t = self.random, self.topology
        network = t.ports[source]['network']
        routers = [r['mac'] for r in t.router_ports
                   if r['network'] == network]
        kind = rng.random()
        if kind < 0.5 and routers:
            return rng.choice(routers)
        if kind < 0.9:
            return rng.choice([p['mac'] for p in t.ports.values()
                               if p['network'] == network])
        return rng.choice([p['mac'] for p in t.ports.values()] +
                          ['02:00:00:00:01:01', 'ff:ff:ff:ff:ff:ff'])

    def right_mac(self, source, dst):
        """Of the owner in the same network, or of a router."""
        t = self.topology
        network = t.ports[source]['network']
        owner = t.owner.get((network, dst))
        if owner in t.ports:
            return t.ports[owner]['mac']
        routers = [r['mac'] for r in t.router_ports
                   if r['network'] == network]
        return self.random.choice(routers) if routers else None

    def any_destination(self, version):
        rng, t = self.random, self.topology
        known = [ipaddress.ip_address(a['ip']) for a in t.rows['Address']]
        known = [a for a in known if a.version == version]
        if known and rng.random() < 0.9:
            return rng.choice(known)
        return ipaddress.ip_address(rng.choice(
            ['10.0.0.77', '10.0.1.78', '172.16.1.1'] if version == 4 else
            ['fd00:1::77', 'fd00:9::1']))

    def one(self):
        rng, t = self.random, self.topology
        source = rng.choice(list(t.local))
        own = t.addresses[source]
        if own and rng.random() < 0.95:
            src = rng.choice(own)
        else:
            src = ipaddress.ip_address(rng.choice(['10.0.0.99', 'fd00::99']))
        mac = t.ports[source]['mac'] if rng.random() < 0.97 \
            else '02:00:00:00:01:02'
        dst = self.any_destination(src.version)
        to = self.any_mac(source)
        if rng.random() < 0.85:
            to = self.right_mac(source, dst) or to
        if rng.random() < 0.1:
            to = 'ff:ff:ff:ff:ff:ff'
            dst = ipaddress.ip_address(rng.choice(
                ['10.0.0.255', '10.0.1.15', '239.1.2.3'] if src.version == 4
                else ['ff02::99', 'fd00:1::5']))
        self.next_port += 1
        proto = rng.choice([6, 17, 1 if src.version == 4 else 58])
        a, b = self.next_port, rng.choice([22, 80, 81, 1001, 40000])
        if proto in (1, 58):
            a, b = (8 if proto == 1 else 128), 0
        return source, verdict.Packet(
            eth_src=mac, eth_dst=to, src=src, dst=dst, proto=proto, a=a, b=b,
            ttl=rng.choice([64, 64, 64, 2, 1]))


class PipelineOracleTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.hosts = net_switch.Hosts(net_topology.HOSTS)
        cls.addClassCleanup(cls.hosts.close)
        for host in cls.hosts.values():
            for ofport in range(1, net_topology.PORTS_PER_HOST + 1):
                host.add_port(f'q{ofport}', ofport)

    def send_all(self, topology, sent, expected):
        """{tag: [Seen or kinds]} for {tag: (port, packet, frame)}.  Waits for
        what is expected, and then until nothing moves any more."""
        monitors = {name: net_switch.Monitor(host)
                    for name, host in self.hosts.items()}
        asked = {name: 0 for name in self.hosts}
        frames = len(sent)
        for tag, want in expected.items():
            if want.answer in ANSWERS.values():
                asked[topology.local[sent[tag][0]][0]] += 1
            elif want.kind == 'flooded':
                frames += len(want.ports)
            elif want.kind != 'dropped':
                frames += 1
        for host in self.hosts.values():
            for name in host.seen:
                host.take(name)
        for port, _, frame in sent.values():
            host, ofport = topology.local[port]
            self.hosts[host].send(f'q{ofport}', frame)
        try:
            net_switch.wait_for(lambda: frames <= sum(
                len(host.captured(name)) - host.seen[name]
                for host in self.hosts.values() for name in host.seen), '')
            for name, monitor in monitors.items():
                monitor.sync(asked[name])
        except TimeoutError:
            pass  # The comparison says what is missing.
        self.settle()
        found = {tag: [] for tag in sent}
        for port, (host, ofport) in topology.local.items():
            own = [f for p, _, f in sent.values() if p == port]
            for frame in self.hosts[host].take(f'q{ofport}'):
                if frame in own:
                    own.remove(frame)
                    continue
                found[self.tag_of(sent, frame)].append(wire.Seen(port, frame))
        for monitor in monitors.values():
            monitor.sync()
            for kind, _, frame in monitor.packets:
                found[self.tag_of(sent, frame)].append(kind)
            monitor.close()
        return found

    @staticmethod
    def tag_of(sent, frame):
        return next(tag for tag in sent if tag in frame)

    def settle(self):
        before, same = None, 0
        while same < 3:
            now = [host.appctl('dpctl/show', '-s') + str(
                [(host.directory / f'{n}.pcap').stat().st_size
                 for n in host.seen]) for host in self.hosts.values()]
            same = same + 1 if now == before else 0
            before = now
            net_switch.time.sleep(0.03)

    def check(self, topology, sent, expected, found):
        for tag, (port, packet, _) in sent.items():
            want, got = expected[tag], found[tag]
            text = f'\nfrom {port}: {packet}\nexpected {want}\nseen {got}'
            if want.kind == 'dropped':
                self.assertEqual(got, [], text)
                continue
            if want.kind == 'flooded':
                self.assertEqual(
                    sorted((one.port, one.eth_src, one.eth_dst, one.ttl)
                           for one in got),
                    sorted((port, want.eth_src, want.eth_dst, want.ttl)
                           for port in want.ports), text)
                continue
            self.assertEqual(len(got), 1, text)
            seen = got[0]
            if want.kind == 'delivered':
                self.assertNotIsInstance(seen, int, text)
                self.assertEqual(
                    (seen.port, seen.eth_src, seen.eth_dst, seen.ttl),
                    (want.port, want.eth_src, want.eth_dst, want.ttl), text)
                continue
            answer = ANSWERS[seen] if isinstance(seen, int) else seen.answer
            self.assertEqual(answer, want.answer, text)
            if not isinstance(seen, int):
                self.assertEqual(seen.port, port, text)

    def replies(self, topology, sent, expected):
        """Answers to what was delivered."""
        again, verdicts = {}, {}
        for number, (tag, (_, packet, _)) in enumerate(sent.items()):
            want = expected[tag]
            if want.kind != 'delivered':
                continue
            back = dataclasses.replace(
                packet, eth_src=topology.ports[want.port]['mac'],
                eth_dst=want.eth_src, src=packet.dst, dst=packet.src,
                a=packet.b, b=packet.a, ttl=64)
            if packet.proto in (1, 58):
                continue
            tag = b'reply' + number.to_bytes(11, 'big')
            frame = wire.encode(back, tag)
            if packet.proto == 6:
                answer = wire.Ether(frame)
                answer[wire.TCP].flags, answer[wire.TCP].ack = 'SA', 1
                del answer[wire.TCP].chksum
                frame = bytes(answer)
            again[tag] = want.port, back, frame
            verdicts[tag] = verdict.judge_reply(topology, want, packet, back)
        return again, verdicts

    def one_topology(self, seed):
        topology = net_topology.Topology(seed)
        for name, host in self.hosts.items():
            host.install(topology.model(name))
            host.appctl('dpctl/flush-conntrack')
        if not topology.local:
            return
        maker = Packets(topology, seed)
        sent, expected = {}, {}
        for number in range(PACKETS):
            port, packet = maker.one()
            tag = b'first' + number.to_bytes(11, 'big')
            sent[tag] = port, packet, wire.encode(packet, tag)
            expected[tag] = verdict.judge(topology, port, packet)
        self.check(topology, sent, expected,
                   self.send_all(topology, sent, expected))
        for want in expected.values():
            self.count[want.kind] = self.count.get(want.kind, 0) + 1
        sent, expected = self.replies(topology, sent, expected)
        self.check(topology, sent, expected,
                   self.send_all(topology, sent, expected))

    def test_topologies(self):
        self.count = {}
        for seed in range(SEED, SEED + TOPOLOGIES):
            with self.subTest(seed=seed):
                self.one_topology(seed)
        print(self.count)
        if TOPOLOGIES >= 12:    # Else chance may leave one out.
            for kind in 'delivered', 'dropped', 'answered':
                self.assertGreater(self.count.get(kind, 0), 0)


if __name__ == '__main__':
    unittest.main()
