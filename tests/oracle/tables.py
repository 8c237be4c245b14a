# SPDX-License-Identifier: Apache-2.0
"""The tenants' tables, read from the Weft database by ovsdb-client.

Each row is a dictionary of its columns with '_uuid'; sets become lists, uuids
texts, an empty optional None."""

import ipaddress
import json
import subprocess

ROUTER = 'router'


def _value(value):
    if isinstance(value, list) and len(value) == 2:
        kind, inner = value
        if kind == 'uuid':
            return inner
        if kind == 'set':
            return [_value(v) for v in inner]
        if kind == 'map':
            return {_value(k): _value(v) for k, v in inner}
    return value


class Tables:
    """A consistent reading of all tables."""

    def __init__(self, remote, prefix=()):
        """'prefix': a command that runs another where the database is."""
        out = subprocess.run(
            [*prefix, 'ovsdb-client', '-f', 'json', '--timeout=10', 'dump',
             remote, 'Weft'], check=True, capture_output=True,
            text=True).stdout
        self.rows = {}
        decoder = json.JSONDecoder()
        while out.strip():
            out = out.lstrip()
            table, end = decoder.raw_decode(out)
            out = out[end:]
            name = table['caption'].removesuffix(' table')
            heads = table['headings']
            self.rows[name] = [dict(zip(heads, map(_value, row)))
                               for row in table['data']]
        self._index()

    @staticmethod
    def optional(value):
        """An optional reference: its uuid, or None."""
        if isinstance(value, list):
            return value[0] if value else None
        return value

    def _index(self):
        rows = self.rows
        by_uuid = {name: {r['_uuid']: r for r in table}
                   for name, table in rows.items()}
        self.networks = by_uuid.get('Network', {})
        self.ports = by_uuid.get('Port', {})
        self.subnets = by_uuid.get('Subnet', {})
        self.routers = by_uuid.get('Router', {})
        self.groups = by_uuid.get('Security_Group', {})
        self.bound = {b['port']: b['host'] for b in rows.get('Binding', [])}
        self.router_ports = rows.get('Router_Port', [])
        self.rules = rows.get('Security_Rule', [])
        members = rows.get('Identity_Member', [])
        # Groups of each port, by its identity.
        self.groups_of = {
            uuid: {m['group'] for m in members
                   if m['identity'] == port['identity']}
            for uuid, port in self.ports.items()}
        # (network, ip) -> port uuid or the router port's row
        self.owner = {}
        self.addresses = {uuid: [] for uuid in self.ports}
        for row in rows.get('Address', []):
            ip = ipaddress.ip_address(row['ip'])
            port = self.optional(row['port'])
            router_port = self.optional(row['router_port'])
            if port:
                self.owner[row['network'], ip] = port
                self.addresses[port].append(ip)
            elif router_port:
                self.owner[row['network'], ip] = ROUTER
        self.port_by_name = {(p['project'], p['name']): u
                             for u, p in self.ports.items()}
        self.port_by_mac = {(p['network'], p['mac']): u
                            for u, p in self.ports.items()}
        self.router_port_by_mac = {(r['network'], r['mac']): r
                                   for r in self.router_ports}

    def host_enabled(self, name):
        return any(h['host'] == name and h['enabled']
                   for h in self.rows.get('Net_Host', []))

    def gateway(self, router_port):
        """The address of a router's interface."""
        return ipaddress.ip_address(
            self.subnets[router_port['subnet']]['gateway'])
