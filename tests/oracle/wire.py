# SPDX-License-Identifier: Apache-2.0
"""Real packets: raw sockets on the interfaces of all ports, each in its
network namespace.  The namespaces have no addresses, so no kernel answers for
them; who sends what is ours alone."""

import contextlib
import ctypes
import logging
import os
import select
import socket
import time

logging.getLogger('scapy.runtime').setLevel(logging.ERROR)
# pylint: disable=wrong-import-position
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment  # noqa: E402
from scapy.layers.inet6 import (  # noqa: E402
    ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6TimeExceeded, IPv6,
    IPv6ExtHdrFragment, fragment6)
from scapy.layers.l2 import Ether  # noqa: E402
from scapy.packet import Raw  # noqa: E402

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
TAG_SIZE = 16
FRAGMENTED_SIZE = 3200
FRAGMENT_SIZE = 1400    # The userspace datapath drops IPv6's below 1280.
QUIET_S = 0.3    # Nothing more came for so long: nothing more will.


@contextlib.contextmanager
def inside(netns):
    """In a namespace meanwhile, as far as this thread is concerned: sockets
    made there stay there."""
    with open('/proc/thread-self/ns/net', 'rb') as here, \
            open(f'/run/netns/{netns}', 'rb') as there:
        if LIBC.setns(there.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f'setns {netns}')
        try:
            yield
        finally:
            if LIBC.setns(here.fileno(), CLONE_NEWNET) != 0:
                os._exit(1)


def open_inside(netns, interface):
    """A raw socket on an interface in a namespace."""
    with inside(netns):
        # Without a protocol until it is bound: the kernel would have to wait
        # some milliseconds for whoever may use it.
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        raw.bind((interface, 3))
    return raw


def encode(packet, tag):
    """A verdict.Packet as bytes, with 'tag' for its payload."""
    v6 = packet.version == 6
    if v6:
        layers = IPv6(src=str(packet.src), dst=str(packet.dst),
                      hlim=packet.ttl)
    else:
        layers = IP(src=str(packet.src), dst=str(packet.dst), ttl=packet.ttl,
                    id=1)
    if packet.proto == 6:
        layers /= TCP(sport=packet.a, dport=packet.b,
                      flags='SA' if packet.is_reply else 'S')
    elif packet.proto == 17:
        layers /= UDP(sport=packet.a, dport=packet.b)
    elif v6:
        layers /= ICMPv6EchoRequest(id=int.from_bytes(tag[-2:], 'big'))
    else:
        layers /= ICMP(type=packet.a, code=packet.b,
                       id=int.from_bytes(tag[-2:], 'big'))
    return bytes(Ether(src=packet.eth_src, dst=packet.eth_dst) / layers /
                 Raw(tag))


def encode_fragments(packet, tag):
    """A large datagram in pieces, each with 'tag'."""
    load = Raw(tag * (FRAGMENTED_SIZE // len(tag)))
    whole = UDP(sport=packet.a, dport=packet.b) / load
    ether = Ether(src=packet.eth_src, dst=packet.eth_dst)
    ip = {'src': str(packet.src), 'dst': str(packet.dst)}
    number = int.from_bytes(tag[-2:], 'big')
    if packet.version == 4:
        pieces = fragment(IP(ttl=packet.ttl, id=number, **ip) / whole,
                          FRAGMENT_SIZE)
        return [bytes(ether / piece) for piece in pieces]
    pieces = fragment6(IPv6(hlim=packet.ttl, **ip) /
                       IPv6ExtHdrFragment(id=number) / whole, FRAGMENT_SIZE)
    return [bytes(ether / piece) for piece in pieces]


class Seen:
    """Where a packet turned up, and how it looked."""

    def __init__(self, port, frame):
        self.port, self.frame = port, frame
        ether = Ether(frame)
        self.eth_src, self.eth_dst = ether.src, ether.dst
        self.answer, self.is_later = None, False
        if IP in ether:
            self.is_later = ether[IP].frag != 0
            self.ttl = ether[IP].ttl
            if ICMP in ether:
                self.answer = {0: 'echo-reply', 11: 'time-exceeded',
                               3: 'unreachable'}.get(ether[ICMP].type)
        elif IPv6 in ether:
            self.is_later = IPv6ExtHdrFragment in ether and \
                ether[IPv6ExtHdrFragment].offset != 0
            self.ttl = ether[IPv6].hlim
            if ICMPv6EchoReply in ether:
                self.answer = 'echo-reply'
            elif ICMPv6TimeExceeded in ether:
                self.answer = 'time-exceeded'
            elif ether[IPv6].nh == 58 and bytes(ether[IPv6].payload)[0] == 1:
                self.answer = 'unreachable'

    def __repr__(self):
        return f'at {self.port}: {Ether(self.frame).summary()} ' \
               f'{self.eth_src}>{self.eth_dst} ttl={self.ttl}'


class Wire:
    """Sockets on all ports: {port: (netns, interface)}."""

    def __init__(self, ports):
        self.sockets = {port: open_inside(*where)
                        for port, where in ports.items()}
        self.ports = {s.fileno(): p for p, s in self.sockets.items()}

    def close(self):
        for raw in self.sockets.values():
            raw.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def drain(self):
        self.collect({}, 0, 0)

    def send(self, port, frame):
        self.sockets[port].send(frame)

    def collect(self, tags, wanted, seconds):
        """[Seen] for each tag, until 'wanted' have come and then nothing for a
        while, or the time is over."""
        found = {tag: [] for tag in tags}
        end = time.monotonic() + seconds
        count = 0
        while True:
            left = QUIET_S if count >= wanted else \
                max(0, end - time.monotonic())
            ready, _, _ = select.select(list(self.sockets.values()), [], [],
                                        left if seconds else 0)
            if not ready:
                return found
            for raw in ready:
                frame, address = raw.recvfrom(65535)
                if address[2] == socket.PACKET_OUTGOING:
                    continue
                for tag, seen in found.items():
                    if tag in frame:
                        seen.append(Seen(self.ports[raw.fileno()], frame))
                        count += 1
                        break
