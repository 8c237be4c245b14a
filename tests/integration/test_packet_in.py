#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""netd's answers to DHCP, neighbour discovery and routed packets, judged by
scapy, which knows these protocols without us.

    test_packet_in.py TOOL

TOOL is tests/support/packet_in_tool: one port, 10.0.0.10/24 and
2001:db8::a/64, with a router."""

import logging
import subprocess
import sys
import unittest

logging.getLogger("scapy.runtime").setLevel(logging.ERROR)
from scapy.layers.dhcp import BOOTP, DHCP  # noqa: E402
from scapy.layers.dhcp6 import (  # noqa: E402
    DHCP6_Advertise, DHCP6_Confirm, DHCP6_InfoRequest, DHCP6_Renew, DHCP6_Reply,
    DHCP6_Request, DHCP6_Solicit, DHCP6OptClientId, DHCP6OptDNSServers,
    DHCP6OptIA_NA, DHCP6OptIA_PD, DHCP6OptIAAddress, DHCP6OptRapidCommit,
    DHCP6OptServerId, DHCP6OptStatusCode, DUID_LL)
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror, UDPerror  # noqa: E402
from scapy.layers.inet6 import (  # noqa: E402
    ICMPv6DestUnreach, ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6ND_NA,
    ICMPv6ND_NS, ICMPv6ND_RA, ICMPv6ND_RS, ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptMTU, ICMPv6NDOptPrefixInfo, ICMPv6NDOptRDNSS,
    ICMPv6NDOptSrcLLAddr, ICMPv6PacketTooBig, ICMPv6TimeExceeded, IPv6,
    IPv6ExtHdrFragment, IPerror6)
from scapy.layers.l2 import Ether  # noqa: E402
from scapy.packet import Raw  # noqa: E402

DHCP4, DHCP6, RS, NS, TTL, TOO_BIG, UNREACHABLE, ROUTER = range(1, 9)
MAC, ROUTER_MAC = "02:00:00:00:00:0a", "02:00:00:00:00:01"
LINK_LOCAL, ROUTER_LINK_LOCAL = "fe80::ff:fe00:a", "fe80::ff:fe00:1"
ENOENT, EBADMSG, EPERM = 2, 74, 1


class Answers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tool = subprocess.Popen([TOOL], stdin=subprocess.PIPE,
                                    stdout=subprocess.PIPE, text=True)

    @classmethod
    def tearDownClass(cls):
        cls.tool.stdin.close()
        cls.tool.wait(timeout=10)
        cls.tool.stdout.close()

    def ask(self, kind, packet):
        """(result, answer or None); the answer's sums have been checked."""
        self.tool.stdin.write(f"{kind} {bytes(packet).hex()}\n")
        self.tool.stdin.flush()
        words = self.tool.stdout.readline().split()
        if int(words[0]) != 0:
            return -int(words[0]), None
        raw = bytes.fromhex(words[1])
        answer = Ether(raw)
        self.assertEqual(answer.dst, MAC)
        # What scapy makes of it with sums and lengths of its own.
        self.assertEqual(self.with_own_sums(raw).hex(), raw.hex())
        return 0, answer

    @staticmethod
    def with_own_sums(raw):
        packet = Ether(raw)
        layer = packet
        quoted = False
        while layer and layer.name != "NoPayload":
            quoted = quoted or "in ICMP" in layer.name
            if not quoted:
                for field in ("chksum", "cksum"):
                    if field in layer.fields:
                        delattr(layer, field)
            layer = layer.payload
        return bytes(packet)

    def refuse(self, kind, packet, error):
        self.assertEqual(self.ask(kind, packet)[0], error)

    # ---- DHCPv4 ----

    @staticmethod
    def dhcp4(kind, *options, mac=MAC, **bootp):
        return Ether(src=MAC, dst="ff:ff:ff:ff:ff:ff") / \
            IP(src=bootp.get("ciaddr", "0.0.0.0"), dst="255.255.255.255") / \
            UDP(sport=68, dport=67) / \
            BOOTP(chaddr=bytes.fromhex(mac.replace(":", "")), xid=0x12345678,
                  **bootp) / \
            DHCP(options=[("message-type", kind), *options, "end"])

    def options(self, answer):
        return {o[0]: o[1] if len(o) == 2 else o[1:]
                for o in answer[DHCP].options if isinstance(o, tuple)}

    def test_discover_is_offered(self):
        _, answer = self.ask(DHCP4, self.dhcp4("discover"))
        options = self.options(answer)
        self.assertEqual(options["message-type"], 2)
        self.assertEqual(answer[BOOTP].yiaddr, "10.0.0.10")
        self.assertEqual(answer[BOOTP].xid, 0x12345678)
        self.assertEqual(answer[IP].src, "10.0.0.1")
        self.assertEqual(answer.src, ROUTER_MAC)
        self.assertEqual(options["subnet_mask"], "255.255.255.0")
        self.assertEqual(options["router"], "10.0.0.1")
        self.assertEqual(options["name_server"], "9.9.9.9")
        self.assertEqual(options["interface-mtu"], 1442)
        self.assertEqual(options["hostname"], b"vm-a")
        self.assertEqual(options["server_id"], "10.0.0.1")
        self.assertGreaterEqual(len(answer[BOOTP]), 300)

    def test_request_is_acknowledged(self):
        _, answer = self.ask(DHCP4, self.dhcp4(
            "request", ("requested_addr", "10.0.0.10"),
            ("server_id", "10.0.0.1")))
        self.assertEqual(self.options(answer)["message-type"], 5)
        self.assertEqual(answer[BOOTP].yiaddr, "10.0.0.10")

    def test_renewal_is_acknowledged(self):
        _, answer = self.ask(DHCP4, self.dhcp4("request", ciaddr="10.0.0.10"))
        self.assertEqual(self.options(answer)["message-type"], 5)
        self.assertEqual(answer[IP].dst, "10.0.0.10")

    def test_another_address_is_refused(self):
        _, answer = self.ask(DHCP4, self.dhcp4(
            "request", ("requested_addr", "10.0.0.11")))
        self.assertEqual(self.options(answer)["message-type"], 6)
        self.assertEqual(answer[BOOTP].yiaddr, "0.0.0.0")
        self.assertEqual(answer[IP].dst, "255.255.255.255")

    def test_another_server_is_left_alone(self):
        self.refuse(DHCP4, self.dhcp4(
            "request", ("requested_addr", "10.0.0.10"),
            ("server_id", "10.0.0.2")), ENOENT)
        self.refuse(DHCP4, self.dhcp4("release", ciaddr="10.0.0.10"), ENOENT)

    def test_another_client_is_refused(self):
        """N21: chaddr is the port's."""
        self.refuse(DHCP4, self.dhcp4("discover", mac="02:00:00:00:00:99"),
                    EPERM)

    def test_relayed_is_left_alone(self):
        self.refuse(DHCP4, self.dhcp4("discover", giaddr="10.0.0.5"), ENOENT)

    def test_client_id_comes_back(self):
        """RFC 6842."""
        _, answer = self.ask(DHCP4, self.dhcp4(
            "discover", ("client_id", b"\x01abcdef")))
        self.assertEqual(self.options(answer)["client_id"], b"\x01abcdef")

    # ---- DHCPv6 ----

    @staticmethod
    def dhcp6(message, *options, client=True):
        packet = Ether(src=MAC, dst="33:33:00:01:00:02") / \
            IPv6(src=LINK_LOCAL, dst="ff02::1:2") / \
            UDP(sport=546, dport=547) / message(trid=0x123456)
        if client:
            packet /= DHCP6OptClientId(duid=DUID_LL(lladdr=MAC))
        for option in options:
            packet /= option
        return packet

    def test_solicit_is_advertised(self):
        _, answer = self.ask(DHCP6, self.dhcp6(DHCP6_Solicit,
                                               DHCP6OptIA_NA(iaid=7)))
        self.assertEqual(answer[DHCP6_Advertise].trid, 0x123456)
        self.assertEqual(answer[DHCP6OptIA_NA].iaid, 7)
        given = answer[DHCP6OptIA_NA].ianaopts
        self.assertEqual([a.addr for a in given], ["2001:db8::a"])
        self.assertEqual(answer[DHCP6OptDNSServers].dnsservers,
                         ["2620:fe::fe"])
        self.assertEqual(answer[DHCP6OptClientId].duid.lladdr, MAC)
        self.assertEqual(answer[IPv6].src, ROUTER_LINK_LOCAL)

    def test_rapid_commit(self):
        _, answer = self.ask(DHCP6, self.dhcp6(
            DHCP6_Solicit, DHCP6OptIA_NA(iaid=7), DHCP6OptRapidCommit()))
        self.assertIn(DHCP6_Reply, answer)
        self.assertIn(DHCP6OptRapidCommit, answer)

    def server_id(self):
        _, answer = self.ask(DHCP6, self.dhcp6(DHCP6_Solicit,
                                               DHCP6OptIA_NA(iaid=7)))
        return DHCP6OptServerId(duid=answer[DHCP6OptServerId].duid)

    def test_request_and_renewal_are_replied_to(self):
        for message in (DHCP6_Request, DHCP6_Renew):
            _, answer = self.ask(DHCP6, self.dhcp6(
                message, self.server_id(), DHCP6OptIA_NA(iaid=7, ianaopts=[
                    DHCP6OptIAAddress(addr="2001:db8::a")])))
            given = answer[DHCP6OptIA_NA].ianaopts
            self.assertEqual([(a.addr, a.validlft > 0) for a in given],
                             [("2001:db8::a", True)])

    def test_another_address_is_withdrawn(self):
        _, answer = self.ask(DHCP6, self.dhcp6(
            DHCP6_Renew, self.server_id(), DHCP6OptIA_NA(iaid=7, ianaopts=[
                DHCP6OptIAAddress(addr="2001:db8::66")])))
        given = {a.addr: a.validlft for a in answer[DHCP6OptIA_NA].ianaopts}
        self.assertEqual(given["2001:db8::66"], 0)
        self.assertGreater(given["2001:db8::a"], 0)

    def test_confirm(self):
        for address, status in (("2001:db8::a", 0), ("2001:db8::66", 4)):
            _, answer = self.ask(DHCP6, self.dhcp6(
                DHCP6_Confirm, DHCP6OptIA_NA(iaid=7, ianaopts=[
                    DHCP6OptIAAddress(addr=address)])))
            self.assertEqual(answer[DHCP6OptStatusCode].statuscode, status)

    def test_no_prefixes(self):
        _, answer = self.ask(DHCP6, self.dhcp6(DHCP6_Solicit,
                                               DHCP6OptIA_PD(iaid=9)))
        self.assertEqual(
            answer[DHCP6OptIA_PD].iapdopt[0].statuscode
            if hasattr(answer[DHCP6OptIA_PD], "iapdopt")
            else answer[DHCP6OptStatusCode].statuscode, 6)

    def test_information(self):
        _, answer = self.ask(DHCP6, self.dhcp6(DHCP6_InfoRequest))
        self.assertEqual(answer[DHCP6OptDNSServers].dnsservers,
                         ["2620:fe::fe"])

    def test_dhcp6_that_must_be_discarded(self):
        """RFC 8415 16."""
        self.refuse(DHCP6, self.dhcp6(DHCP6_Solicit, client=False), ENOENT)
        self.refuse(DHCP6, self.dhcp6(DHCP6_Request), ENOENT)
        self.refuse(DHCP6, self.dhcp6(DHCP6_Confirm, DHCP6OptIA_NA(iaid=7)),
                    ENOENT)    # 18.3.3
        self.refuse(DHCP6, self.dhcp6(DHCP6_Solicit, self.server_id()), ENOENT)

    # ---- Neighbour discovery ----

    def test_router_advertisement(self):
        _, answer = self.ask(RS, Ether(src=MAC, dst="33:33:00:00:00:02") /
                             IPv6(src=LINK_LOCAL, dst="ff02::2", hlim=255) /
                             ICMPv6ND_RS() / ICMPv6NDOptSrcLLAddr(lladdr=MAC))
        advertisement = answer[ICMPv6ND_RA]
        self.assertEqual((advertisement.M, advertisement.O), (1, 1))
        self.assertGreater(advertisement.routerlifetime, 0)
        self.assertEqual(answer[ICMPv6NDOptMTU].mtu, 1442)
        self.assertEqual(answer[ICMPv6NDOptSrcLLAddr].lladdr, ROUTER_MAC)
        self.assertEqual(answer[ICMPv6NDOptPrefixInfo].prefix, "2001:db8::")
        self.assertEqual((answer[ICMPv6NDOptPrefixInfo].L,
                          answer[ICMPv6NDOptPrefixInfo].A), (1, 0))
        self.assertEqual(answer[ICMPv6NDOptRDNSS].dns, ["2620:fe::fe"])
        self.assertEqual(answer[IPv6].hlim, 255)
        self.assertEqual(answer[IPv6].dst, LINK_LOCAL)

    @staticmethod
    def solicitation(target, source="2001:db8::a", hlim=255):
        return Ether(src=MAC, dst="33:33:ff:00:00:0b") / \
            IPv6(src=source, dst="ff02::1:ff00:b", hlim=hlim) / \
            ICMPv6ND_NS(tgt=target) / ICMPv6NDOptSrcLLAddr(lladdr=MAC)

    def test_neighbour(self):
        _, answer = self.ask(NS, self.solicitation("2001:db8::b"))
        self.assertEqual(answer.src, "02:00:00:00:00:0b")
        self.assertEqual(answer[ICMPv6NDOptDstLLAddr].lladdr,
                         "02:00:00:00:00:0b")
        self.assertEqual((answer[ICMPv6ND_NA].R, answer[ICMPv6ND_NA].S), (0, 1))
        self.assertEqual(answer[IPv6].src, "2001:db8::b")

    def test_router_is_a_neighbour(self):
        for target in ("2001:db8::1", ROUTER_LINK_LOCAL):
            _, answer = self.ask(NS, self.solicitation(target))
            self.assertEqual(answer[ICMPv6ND_NA].R, 1)

    def test_own_address_is_never_answered_for(self):
        """N20"""
        for target in ("2001:db8::a", LINK_LOCAL):
            self.refuse(NS, self.solicitation(target, "::"), ENOENT)

    def test_duplicate_of_another(self):
        _, answer = self.ask(NS, self.solicitation("2001:db8::b", "::"))
        self.assertEqual(answer[IPv6].dst, "ff02::1")
        self.assertEqual(answer[ICMPv6ND_NA].S, 0)

    def test_solicitation_from_afar(self):
        """RFC 4861 7.1.1"""
        self.refuse(NS, self.solicitation("2001:db8::b", hlim=64), EBADMSG)

    # ---- ICMP ----

    @staticmethod
    def routed(payload, **ip):
        return Ether(src=MAC, dst=ROUTER_MAC) / \
            IP(src="10.0.0.10", dst="10.9.0.9", ttl=1, **ip) / payload

    @staticmethod
    def routed6(payload):
        return Ether(src=MAC, dst=ROUTER_MAC) / \
            IPv6(src="2001:db8::a", dst="2001:db8:9::9", hlim=1) / payload

    def test_time_exceeded(self):
        _, answer = self.ask(TTL, self.routed(UDP(sport=5, dport=33434) /
                                              Raw(b"x" * 900)))
        self.assertEqual((answer[ICMP].type, answer[ICMP].code), (11, 0))
        self.assertEqual(answer[IP].src, "10.0.0.1")
        self.assertEqual(answer[UDPerror].dport, 33434)
        self.assertLessEqual(len(answer[IP]), 576)
        _, answer = self.ask(TTL, self.routed6(UDP(dport=33434)))
        self.assertIn(ICMPv6TimeExceeded, answer)
        self.assertEqual(answer[IPv6].src, "2001:db8::1")

    def test_too_big(self):
        _, answer = self.ask(TOO_BIG, self.routed(
            UDP() / Raw(b"x" * 1400), flags="DF"))
        self.assertEqual((answer[ICMP].type, answer[ICMP].code,
                          answer[ICMP].nexthopmtu), (3, 4, 1280))
        _, answer = self.ask(TOO_BIG, self.routed6(UDP() / Raw(b"x" * 1400)))
        self.assertEqual(answer[ICMPv6PacketTooBig].mtu, 1280)
        self.assertLessEqual(len(answer[IPv6]), 1280)

    def test_unreachable(self):
        _, answer = self.ask(UNREACHABLE, self.routed(TCP(dport=80)))
        self.assertEqual((answer[ICMP].type, answer[ICMP].code), (3, 1))
        _, answer = self.ask(UNREACHABLE, self.routed6(TCP(dport=80)))
        self.assertEqual(answer[ICMPv6DestUnreach].code, 3)
        self.assertIn(IPerror6, answer)

    def test_router_itself(self):
        _, answer = self.ask(ROUTER, self.routed(UDP(dport=53)))
        self.assertEqual((answer[ICMP].type, answer[ICMP].code), (3, 3))
        _, answer = self.ask(ROUTER, self.routed(ICMP(id=3, seq=4) /
                                                 Raw(b"hello")))
        self.assertEqual((answer[ICMP].type, answer[ICMP].id,
                          answer[ICMP].seq), (0, 3, 4))
        self.assertEqual(bytes(answer[Raw])[:5], b"hello")
        _, answer = self.ask(ROUTER, self.routed6(ICMPv6EchoRequest(
            id=3, seq=4, data=b"hello")))
        self.assertEqual(answer[ICMPv6EchoReply].data, b"hello")

    def test_no_error_about_these(self):
        """N19, RFC 1122 3.2.2"""
        self.refuse(TTL, self.routed(ICMP(type=3, code=1) / IP() / UDP()),
                    ENOENT)
        self.refuse(TTL, self.routed(Raw(b"x" * 64), frag=10, proto=17),
                    ENOENT)
        multicast = self.routed(UDP())
        multicast[IP].dst = "224.0.0.9"
        self.refuse(TTL, multicast, ENOENT)
        self.refuse(TTL, self.routed6(ICMPv6DestUnreach() / IPv6() / UDP()),
                    ENOENT)
        self.refuse(TTL, self.routed6(
            IPv6ExtHdrFragment(offset=10, nh=17) / Raw(b"x" * 64)), ENOENT)

    def test_cut_packets(self):
        """Each packet cut at each length: refused or answered, never worse."""
        for kind, packet in ((DHCP4, self.dhcp4("discover")),
                             (DHCP6, self.dhcp6(DHCP6_Solicit,
                                                DHCP6OptIA_NA(iaid=7))),
                             (NS, self.solicitation("2001:db8::b")),
                             (TTL, self.routed(UDP()))):
            raw = bytes(packet)
            for size in range(1, len(raw)):
                self.tool.stdin.write(f"{kind} {raw[:size].hex()}\n")
                self.tool.stdin.flush()
                self.assertTrue(self.tool.stdout.readline())


if __name__ == "__main__":
    TOOL = sys.argv.pop(1)
    unittest.main(verbosity=2)
