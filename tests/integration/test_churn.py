#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Volumes come and go on all hosts, while blockds are killed and started: at
the end nothing may be left behind.

Several clients create, attach, write, detach and delete volumes of their own, at
whichever host answers; meanwhile a blockd is killed every few seconds.  Calls
may fail meanwhile.  Afterwards all that was made is deleted, and then there is
no row that tells of a volume, no slot in use on any disk, no event of an error,
and every daemon runs.

WEFT_CHURN_SECONDS: for how long (20); WEFT_CHURN_SEED: the choices."""

import json
import os
import random
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '../support'))
# pylint: disable=wrong-import-position
import weft_testbed  # noqa: E402
from weft_testbed import wait_for  # noqa: E402

TESTBED = weft_testbed.Testbed(hosts=3, disk_size='2G')
setUpModule, tearDownModule = TESTBED.up, TESTBED.down

SECONDS = float(os.environ.get('WEFT_CHURN_SECONDS', '20'))
SEED = int(os.environ.get('WEFT_CHURN_SEED', str(time.time_ns() % 100000)))
CLIENTS = 5
# What tells of volumes, and has to be gone with them.
TABLES = ('Volume', 'Mirror', 'Attachment', 'Attachment_Status',
          'Replica_Status', 'Tombstone')


def rows(table):
    """The rows of a table, as the database has them."""
    remotes = ','.join(f'tcp:{TESTBED.address(host)}:6641'
                       for host in TESTBED.hosts)
    done = TESTBED.exec(
        'h1', 'ovsdb-client', '--no-leader-only', 'transact', remotes,
        json.dumps(['Weft', {'op': 'select', 'table': table, 'where': []}]))
    return json.loads(done.stdout)[0]['rows']


class Client(threading.Thread):
    """Works on one volume after the other until it is told to end."""

    def __init__(self, index, end):
        super().__init__(name=f'client {index}')
        self.index = index
        self.end = end
        self.random = random.Random(f'{SEED}/{index}')
        self.names = []
        self.left = []
        self.done = {}
        self.failure = None

    def weft(self, *arguments):
        """Whether it succeeded, at some host; failures are part of the day."""
        host = self.random.choice(TESTBED.hosts)
        try:
            done = TESTBED.weft(*arguments, '--timeout', '6s', host=host,
                                check=False)
        except subprocess.TimeoutExpired:
            self.failure = f'weft hangs: {arguments}'
            return False
        verb = arguments[1]
        good = done.returncode == 0
        self.done[verb, good] = self.done.get((verb, good), 0) + 1
        return good and (done.stdout.strip() or True)

    def write(self, uri):
        """A little I/O over NBD, in the host's namespace."""
        host = self.random.choice(TESTBED.hosts)
        TESTBED.exec(host, 'timeout', '3', 'nbdsh', '-u', uri, '-c',
                     'h.pwrite(b"x" * 65536, 0); h.flush(); '
                     'assert h.pread(65536, 0) == b"x" * 65536', check=False)

    def one(self, number):
        name = f'c{self.index}-{number}'
        self.names.append(name)
        if len(self.left) > 4 or not self.weft(
                'volume', 'create', name, '--size', '64M', '--pool',
                'default'):
            self.clean_up()
            return
        for _ in range(self.random.randint(1, 3)):
            if time.monotonic() > self.end:
                return
            host = self.random.choice(TESTBED.hosts)
            kind = self.random.choice(['--nbd', '--nbd', '--vhost-user'])
            uri = self.weft('volume', 'attach', name, '--host', host, kind)
            if uri and kind == '--nbd' and self.random.random() < 0.5:
                self.write(uri)
            force = ['--force'] if self.random.random() < 0.3 else []
            self.weft('volume', 'detach', name, *force)
        # A disk of this size has room for 30 replicas.
        self.left.append(name)
        if self.random.random() < 0.7 or len(self.left) > 3:
            for name in list(self.left):
                if self.weft('volume', 'delete', name):
                    self.left.remove(name)

    def clean_up(self):
        for name in list(self.left):
            self.weft('volume', 'detach', name)
            if self.weft('volume', 'delete', name):
                self.left.remove(name)

    def run(self):
        number = 0
        while time.monotonic() < self.end and self.failure is None:
            self.one(number)
            number += 1


def chaos(end):
    """Kills one blockd after the other; in the end all run."""
    chance = random.Random(f'{SEED}/chaos')
    while time.monotonic() < end:
        time.sleep(chance.uniform(0.5, 2))
        host = chance.choice(TESTBED.hosts)
        TESTBED.kill(host, signum=chance.choice(['KILL', 'KILL', 'TERM']))
        time.sleep(chance.uniform(0, 2))
        TESTBED.start(host)


class Churn(unittest.TestCase):
    def delete_all(self, names):
        """Deletes what is left, however long its host needs."""
        for name in names:
            def is_gone(name=name):
                if TESTBED.volume(name) is None:
                    shown = TESTBED.weft('volume', 'show', name, check=False)
                    return 'VOLUME_NOT_FOUND' in shown.stderr or \
                        'no volume' in shown.stderr
                TESTBED.weft('volume', 'detach', name, '--timeout', '10s',
                             check=False)
                TESTBED.weft('volume', 'delete', name, '--timeout', '10s',
                             check=False)
                return False
            wait_for(f'volume {name} to be deleted', is_gone, 60)

    def test_nothing_is_left(self):
        print(f'WEFT_CHURN_SEED={SEED}', flush=True)
        end = time.monotonic() + SECONDS
        clients = [Client(index, end) for index in range(CLIENTS)]
        for client in clients:
            client.start()
        chaos(end)
        for client in clients:
            client.join()
        for host in TESTBED.hosts:
            wait_for(f'{host} to answer', lambda host=host: TESTBED.weft(
                'status', host=host, check=False).returncode == 0)
        done = {}
        for client in clients:
            self.assertIsNone(client.failure)
            for key, count in client.done.items():
                done[key] = done.get(key, 0) + count
        print(', '.join(f'{verb} {"done" if good else "failed"}: {count}'
                        for (verb, good), count in sorted(done.items())),
              flush=True)
        self.assertGreater(done.get(('delete', True), 0), 0)

        for client in clients:
            self.delete_all(client.names)
        for table in TABLES:
            try:
                wait_for(f'no row in {table}', lambda: not rows(table), 20)
            except AssertionError as error:
                raise AssertionError(f'{error}: {rows(table)}\n'
                                     f'{TESTBED.logs()}') from None
        for host in TESTBED.hosts:
            wait_for(f'free slots of {host}',
                     lambda: TESTBED.metric(host, 'weft_disk_slots') ==
                     TESTBED.metric(host, 'weft_disk_slots_free') and
                     TESTBED.metric(host, 'weft_disk_slots'), 20)
            self.assertEqual(TESTBED.metric(host, 'weft_disk_replicas'), 0)
            self.assertEqual(
                os.listdir(TESTBED.host_dir(host) / 'state/volumes'), [],
                f'records of volumes on {host}')
        errors = [event for event in TESTBED.events()
                  if event['severity'] == 'ERROR']
        self.assertEqual(errors, [])


if __name__ == '__main__':
    weft_testbed.main()
