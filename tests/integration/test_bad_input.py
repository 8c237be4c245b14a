#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What nobody should do: each a clear refusal, nothing lost, and everything
else goes on."""

import json
import os
import pathlib
import random
import shutil
import socket
import struct
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent /
                       'support'))
# pylint: disable=wrong-import-position
import weft_testbed  # noqa: E402
from weft_testbed import wait_for  # noqa: E402

TESTBED = weft_testbed.Testbed(hosts=3)
# Another cluster, of one host.
STRANGER = weft_testbed.Testbed(hosts=1, disk_size='256M')
MIB = 1 << 20


def setUpModule():
    STRANGER.up()
    STRANGER.create('theirs', '16M')
    STRANGER.exec('h1', 'qemu-io', '-f', 'raw', '-c', 'write -P 7 0 16M',
                  STRANGER.attach('theirs'))
    STRANGER.weft('volume', 'detach', 'theirs')
    STRANGER.kill('h1', signum='TERM')
    TESTBED.up()


def tearDownModule():
    STRANGER.down()
    TESTBED.down()


def new_file(name, size=256 * MIB):
    path = TESTBED.file(name)
    with open(path, 'wb') as file:
        file.truncate(size)
    return path


def sparse_copy(source, target):
    subprocess.run(['cp', '--sparse=always', source, target], check=True)


class Case(unittest.TestCase):
    """Refusals by the CLI."""

    def refused(self, code, words, *arguments, host='h1'):
        """weft must end with this code and say all of these words."""
        done = TESTBED.weft(*arguments, host=host, check=False)
        text = f'weft {" ".join(map(str, arguments))}: ' \
            f'{done.returncode} {done.stdout}{done.stderr}'
        self.assertEqual(done.returncode, code, text)
        self.assertEqual(done.stdout, '', text)
        self.assertTrue(done.stderr.startswith('weft: '), text)
        for word in words:
            self.assertIn(word, done.stderr, text)
        self.assertNotIn('Errno', text)
        return done.stderr


class Words(Case):
    """Sizes, names and states."""

    def test_sizes(self):
        create = ('volume', 'create', 'v', '--pool', 'default', '--size')
        for bad in '0', '-1', '-4096', '4095', '1', '99999999999999999999', \
                '2P', '1E', 'big', '', '1.5.5G', '10X', '0x1000', '1e9':
            self.refused(2, ['--size', f'"{bad}"'], *create, bad)
        self.refused(2, ['--size'], 'volume', 'create', 'v', '--pool',
                     'default')
        self.assertEqual(TESTBED.weft_json('volume', 'list')['volumes'], [])

    def test_names(self):
        for bad in '', 'UPPER', '-dash', 'dash-', '.dot', 'a/b', 'a b', 'ä', \
                '../x', 'x' * 64, 'a\nb', 'a;b', '%s%n', '$(id)':
            arguments = ['volume', 'create', '--size', '1M', '--pool',
                         'default', '--', bad]
            self.refused(2, ['name'], *arguments)
            self.refused(2, ['--project'], '--project', bad, 'volume', 'list')
        # Odd, but good.
        for good in 'a', '0', 'a.b_c-d', 'x' * 63:
            TESTBED.create(good, '1M')
            TESTBED.weft('volume', 'delete', good)

    def test_absent(self):
        for verb in 'show', 'delete', 'detach':
            self.refused(1, ['"nobody"'], 'volume', verb, 'nobody')
        self.refused(1, ['"nobody"'], 'volume', 'attach', 'nobody', '--host',
                     'h1', '--nbd')
        self.refused(1, ['nowhere', 'weft pool list'], 'volume', 'create',
                     'v', '--size', '1M', '--pool', 'nowhere')
        self.refused(1, ['h9', 'weft host list'], 'disk', 'add', '/x',
                     '--host', 'h9')

    def test_pools(self):
        for options in (['--replicas', '0'], ['--replicas', '4'],
                        ['--replicas', '2', '--min-in-sync', '3'],
                        ['--failure-domain', 'planet'],
                        ['--device-class', 'tape'],
                        ['--stripe-width', '65']):
            self.refused(2, [options[-2]], 'pool', 'create', 'p', *options)
        self.refused(1, ['"default"'], 'pool', 'create', 'default',
                     '--replicas', '1')

    def test_absurd_size(self):
        """Far more than there is: thin, so it can be, up to what the disks'
        tables can hold; what cannot be is refused, and nothing hangs."""
        for size in '1T', '1024T':
            done = TESTBED.weft('volume', 'create', 'huge', '--size', size,
                                '--pool', 'default', '--timeout', '20s',
                                check=False)
            if done.returncode != 0:
                self.assertEqual(done.returncode, 1)
                self.assertNotIn('under way', done.stderr)
                self.assertIn('"huge"', done.stderr)
                volume = TESTBED.volume('huge')
                self.assertEqual(volume['state'], 'ERROR')
                self.assertNotEqual(volume['stateReason'], '')
                self.refused(1, ['"huge"', 'deleted'], 'volume', 'attach',
                             'huge', '--host', 'h1', '--nbd')
            else:
                uri = TESTBED.attach('huge')
                TESTBED.exec('h1', 'qemu-io', '-f', 'raw', '-c',
                             f'write -P 9 {int(size[:-1]) - 1}T 64k', '-c',
                             f'read -P 9 {int(size[:-1]) - 1}T 64k', uri)
            TESTBED.drop('huge')
            self.assertIsNone(TESTBED.volume('huge'))

    def test_in_use(self):
        TESTBED.create('used', '16M')
        uri = TESTBED.attach('used')
        self.assertEqual(TESTBED.attach('used'), uri)
        self.refused(1, ['"used"', '"h1"', 'detach'], 'volume', 'attach',
                     'used', '--host', 'h2', '--nbd')
        self.refused(1, ['"used"', '"h1"'], 'volume', 'attach', 'used',
                     '--host', 'h1', '--vhost-user')
        self.refused(1, ['"used"', '"h1"', 'detach'], 'volume', 'delete',
                     'used')
        self.refused(1, ['"default"'], 'pool', 'delete', 'default')
        disk = TESTBED.weft_json('disk', 'list', '--host', 'h1')['disks'][0]
        self.refused(1, [disk['uid']], 'disk', 'remove', disk['uid'],
                     '--host', 'h1')
        self.refused(1, ['"used"', 'in use'], 'volume', 'export', 'used',
                     TESTBED.file('used.raw'))
        self.assertEqual(TESTBED.volume('used')['ownerHost'], 'hosts/h1')
        TESTBED.drop('used')

    def test_no_blockd(self):
        for endpoint in 'unix:/nowhere/x.sock', 'tcp:10.77.0.1:1':
            self.refused(1, [endpoint], '--endpoint', endpoint, 'status')
        self.refused(2, ['nonsense'], '--endpoint', 'nonsense', 'status')


class Disks(Case):
    """What is no disk of this cluster, or not any more."""

    def add(self, path, *options, host='h1'):
        return ('disk', 'add', path, '--host', host, *options)

    def disks(self, host):
        return [disk for disk in TESTBED.weft_json(
            'disk', 'list', '--host', host)['disks']
            if disk['state'] == 'ONLINE']

    def tearDown(self):
        """What was refused is in the list, with the reason, until it is
        removed; nothing else is."""
        for disk in TESTBED.weft_json('disk', 'list')['disks']:
            if disk['state'] == 'FAILED':
                self.assertNotEqual(disk['stateReason'], '', disk)
                TESTBED.weft('disk', 'remove', disk['uid'], '--host',
                             disk['name'].split('/')[1])
        left = TESTBED.weft_json('disk', 'list')['disks']
        self.assertEqual([disk['state'] for disk in left], ['ONLINE'] * 3,
                         left)

    def test_no_file(self):
        self.refused(1, ['/nowhere/disk'], *self.add('/nowhere/disk'))
        self.refused(2, ['relative'], *self.add('relative/path'))
        self.refused(1, [str(TESTBED.dir)], *self.add(TESTBED.dir))
        self.refused(1, ['/dev/null'], *self.add('/dev/null'))
        self.refused(1, ['/dev/zero'], *self.add('/dev/zero'))
        fifo = TESTBED.file('fifo')
        os.mkfifo(fifo)
        self.refused(1, ['fifo'], *self.add(fifo))

    def test_too_small(self):
        for size in 0, 4096, MIB:
            path = new_file(f'small-{size}', size)
            self.refused(1, [path.name], *self.add(path))
            self.assertEqual(path.stat().st_size, size)

    def test_foreign(self):
        """A file system, a partition table, a qcow2 image, an unknown
        something: refused untouched, but for --force."""
        filesystem = new_file('foreign.ext4')
        subprocess.run(['mkfs.ext4', '-q', filesystem], check=True,
                       stdin=subprocess.DEVNULL)
        mbr = new_file('foreign.mbr')
        with open(mbr, 'r+b') as file:
            file.seek(446)
            file.write(bytes.fromhex('80202100832fa83d0008000000080000'))
            file.seek(510)
            file.write(b'\x55\xaa')
        gpt = new_file('foreign.gpt')
        with open(gpt, 'r+b') as file:
            file.seek(512)
            file.write(b'EFI PART' + bytes.fromhex('000001005c000000'))
        random_bytes = new_file('foreign.random')
        with open(random_bytes, 'r+b') as file:
            file.write(random.Random(5).randbytes(4 * MIB))
        for path in filesystem, mbr, gpt, random_bytes:
            with open(path, 'rb') as file:
                before = file.read(4 * MIB)
            self.refused(1, [path.name, '--force'], *self.add(path))
            with open(path, 'rb') as file:
                self.assertEqual(file.read(4 * MIB), before, path)
        TESTBED.weft(*self.add(filesystem, '--force'))
        self.remove(filesystem)

    def remove(self, path, host='h1'):
        disk = [disk for disk in TESTBED.weft_json(
            'disk', 'list', '--host', host)['disks']
            if disk['path'] == str(path)][0]
        TESTBED.weft('disk', 'remove', disk['uid'], '--host', host)

    def test_twice(self):
        """A disk that is in service already."""
        path = TESTBED.disk_path('h1')
        done = TESTBED.weft(*self.add(path), check=False)
        self.assertIn(done.returncode, (0, 1))
        if done.returncode == 1:
            self.assertIn(str(path), done.stderr)
        self.assertEqual(len(self.disks('h1')), 1)
        # By another name.
        link = TESTBED.file('link')
        link.symlink_to(path)
        done = TESTBED.weft(*self.add(link), check=False)
        self.assertEqual(len(self.disks('h1')), 1, done)

    def test_other_cluster(self):
        """Not even with --force."""
        path = TESTBED.file('theirs.img')
        sparse_copy(STRANGER.disk_path('h1'), path)
        before = path.read_bytes()
        for options in [], ['--force']:
            self.refused(1, [path.name, 'cluster'],
                         *self.add(path, *options))
        self.assertTrue(path.read_bytes() == before)

    def test_copy(self):
        """A copy of a disk that is in service, on the same host and on
        another."""
        path = TESTBED.file('copy.img')
        sparse_copy(TESTBED.disk_path('h1'), path)
        for host in 'h1', 'h2':
            for options in [], ['--force']:
                self.refused(1, [path.name], *self.add(path, *options,
                                                       host=host))
        self.assertEqual(len(self.disks('h1')), 1)
        self.assertEqual(len(self.disks('h2')), 1)

    def test_damaged(self):
        """A disk of ours with both superblocks overwritten, or cut short:
        its host does not serve it; the others carry on; when what was is
        back, so is the replica."""
        TESTBED.create('carried', '32M')
        load = TESTBED.load('h1', TESTBED.attach('carried'))
        path, backup = TESTBED.disk_path('h3'), TESTBED.file('backup.img')
        for damage in self.overwrite, self.cut, self.forget:
            TESTBED.kill('h3', signum='TERM')
            sparse_copy(path, backup)
            damage(path)
            TESTBED.start('h3')

            def is_failed():
                disks = TESTBED.weft_json('disk', 'list', '--host',
                                          'h3')['disks']
                return disks[0]['state'] == 'FAILED' and disks[0]
            disk = wait_for(f'the disk to fail after {damage.__name__}',
                            is_failed)
            self.assertNotEqual(disk['stateReason'], '')
            load.wait_progress()
            TESTBED.kill('h3', signum='TERM')
            if path.exists():
                path.unlink()
            sparse_copy(backup, path)
            TESTBED.start('h3')
            TESTBED.wait_healthy('carried')
        report = load.finish()
        self.assertEqual(report['reconnects'], 0)
        TESTBED.drop('carried')

    @staticmethod
    def overwrite(path):
        with open(path, 'r+b') as file:
            file.write(random.Random(6).randbytes(MIB))
            file.seek(-MIB, os.SEEK_END)
            file.write(random.Random(7).randbytes(MIB))

    @staticmethod
    def cut(path):
        os.truncate(path, path.stat().st_size // 2)

    @staticmethod
    def forget(path):
        path.unlink()

    def test_swapped(self):
        """h2 finds h3's disk where its own was, and the other way round."""
        TESTBED.create('swapped', '32M')
        load = TESTBED.load('h1', TESTBED.attach('swapped'))
        load.wait_progress()
        model = load.finish()
        self.assertEqual(model['mismatch_count'], 0)
        TESTBED.weft('volume', 'detach', 'swapped')
        for host in 'h2', 'h3':
            TESTBED.kill(host, signum='TERM')
        two, three = TESTBED.disk_path('h2'), TESTBED.disk_path('h3')
        aside = TESTBED.file('aside.img')

        def swap():
            shutil.move(two, aside)
            shutil.move(three, two)
            shutil.move(aside, three)
        swap()
        for host in 'h2', 'h3':
            TESTBED.start(host)

        def are_failed():
            disks = TESTBED.weft_json('disk', 'list')['disks']
            return all(disk['state'] == 'FAILED' and disk['stateReason']
                       for disk in disks if '/h1/' not in disk['name'])
        wait_for('both disks to be refused', are_failed)
        for host in 'h2', 'h3':
            TESTBED.kill(host, signum='TERM')
        swap()
        for host in 'h2', 'h3':
            TESTBED.start(host)
        TESTBED.attach('swapped')
        TESTBED.wait_healthy('swapped')
        TESTBED.drop('swapped')


class Noise(Case):
    """Random bytes on every port, under load: no daemon dies, no client is
    disturbed."""

    COUNT = 40

    def setUp(self):
        TESTBED.create('noise', '32M')
        self.load = TESTBED.load('h1', TESTBED.attach('noise'))
        self.pids = [TESTBED.pid(host, 'blockd') for host in TESTBED.hosts]
        self.rng = random.Random(self.id())

    def tearDown(self):
        report = self.load.finish()
        self.assertEqual(report['reconnects'], 0, report)
        for host in TESTBED.hosts:
            self.assertTrue(TESTBED.is_running(host, 'blockd'), host)
        TESTBED.wait_healthy('noise')
        TESTBED.drop('noise')

    def throw(self, connect, prefixes):
        """Random bytes, half of them behind a good beginning."""
        for number in range(self.COUNT):
            prefix = prefixes[number % len(prefixes)]
            data = prefix + self.rng.randbytes(
                self.rng.choice((0, 1, 7, 100, 5000, 200_000)))
            connection = connect()
            connection.settimeout(0.3)
            try:
                connection.sendall(data)
                if number % 4 == 0:
                    connection.shutdown(socket.SHUT_WR)
                if number % 2:
                    while connection.recv(65536):
                        pass
            except OSError:
                pass
            connection.close()
        self.load.wait_progress()

    def test_nbd(self):
        name = b'default/noise'
        go = struct.pack('>I', len(name)) + name + struct.pack('>H', 0)
        begin = struct.pack('>I', 3)
        ready = begin + b'IHAVEOPT' + struct.pack('>II', 7, len(go)) + go
        option = begin + b'IHAVEOPT'
        request = struct.pack('>I', 0x25609513)
        self.throw(lambda: TESTBED.connect('h1', 10809), [
            b'', begin, option, option + struct.pack('>II', 7, 0xffffffff),
            ready, ready + request,
            # Writes and reads beyond everything; no reads of what is behind.
            ready + request + struct.pack('>HHQQI', 0, 0, 1, 1 << 63, 4096),
            ready + request + struct.pack('>HHQQI', 0, 0, 1, 0, 0xffffffff),
            ready + request + struct.pack('>HHQQI', 0, 1, 1, 1 << 62, 64),
            ready + request + struct.pack('>HHQQI', 0, 99, 1, 0, 0),
            ready + request + struct.pack('>HHQQI', 0xffff, 7, 1, 0, 512)])
        self.assertEqual(TESTBED.exec('h1', 'nbdinfo', '--size',
                                      'nbd://10.77.0.1/default/noise')
                         .stdout.strip(), str(32 * MIB))

    def test_peer(self):
        hello = struct.pack('<I', 0x50544657)
        for host in TESTBED.hosts:
            self.throw(lambda: TESTBED.connect('h1', 7701, of_host=host),
                       [b'', hello, hello + b'\1\0', hello + bytes(28)])
        # A GET gets no answer that looks like one.
        connection = TESTBED.connect('h1', 7701, of_host='h2')
        connection.settimeout(5)
        connection.sendall(b'GET / HTTP/1.0\r\n\r\n' + bytes(64))
        try:
            self.assertNotIn(b'HTTP', connection.recv(1000))
        except OSError:
            pass
        connection.close()

    def test_vhost_user(self):
        TESTBED.create('vnoise', '16M')
        path = TESTBED.attach('vnoise', kind='--vhost-user')

        def connect():
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(path)
            return connection
        get_features = struct.pack('<III', 1, 1, 0)
        self.throw(connect, [
            b'', get_features, struct.pack('<III', 1, 1, 0xffffffff),
            struct.pack('<III', 5, 1, 264), struct.pack('<III', 8, 1, 8),
            struct.pack('<III', 2, 1, 8) + b'\xff' * 8 +
            struct.pack('<III', 9, 1, 40) + b'\xff' * 40])
        # It still serves.
        connection = connect()
        connection.settimeout(10)
        connection.sendall(get_features)
        self.assertEqual(struct.unpack('<III', connection.recv(20)[:12]),
                         (1, 5, 8))
        connection.close()
        TESTBED.drop('vnoise')

    def test_grpc(self):
        preface = b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
        self.throw(lambda: TESTBED.connect('h1', 7700),
                   [b'', preface, preface + bytes.fromhex('000000040000000000'),
                    b'GET / HTTP/1.1\r\n'])
        path = TESTBED.endpoint('h1')[5:]

        def connect():
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(path)
            return connection
        self.throw(connect, [b'', preface])
        TESTBED.weft('status')

    def test_metrics(self):
        self.throw(lambda: TESTBED.connect('h1', 9701), [
            b'', b'GET ', b'GET /metrics HTTP/1.1\r\nHost: ', b'POST /metrics',
            b'GET /' + b'a' * 100_000, b'GET /metrics HTTP/1.1\r\n' +
            b'X: y\r\n' * 10_000])
        connection = TESTBED.connect('h1', 9701)
        connection.settimeout(10)
        connection.sendall(b'GET /metrics HTTP/1.1\r\nHost: x\r\n'
                           b'Connection: close\r\n\r\n')
        answer = b''
        while True:
            part = connection.recv(65536)
            if not part:
                break
            answer += part
        connection.close()
        head, _, body = answer.partition(b'\r\n\r\n')
        self.assertTrue(head.startswith(b'HTTP/1.1 200'), head)
        self.assertIn(b'application/openmetrics-text', head)
        self.assertTrue(body.rstrip().endswith(b'# EOF'), body[-100:])
        self.assertIn(b'weft_', body)

    def test_crowd(self):
        """Connections that say nothing, on every port."""
        crowd = []
        for port in 10809, 7701, 7700, 9701:
            crowd += [TESTBED.connect('h1', port) for _ in range(60)]
        self.load.wait_progress()
        TESTBED.weft('status')
        for connection in crowd:
            connection.close()


class Full(Case):
    """Disks that are full: writes wait or end with ENOSPC, nothing that was
    acknowledged is lost, and room that comes back is used."""

    SIZE = 64 * MIB

    def setUp(self):
        TESTBED.weft('pool', 'create', 'small', '--replicas', '2',
                     '--device-class', 'file')
        self.disks = []
        for host in 'h1', 'h2':
            path = new_file(f'small-{host}.img', self.SIZE)
            TESTBED.weft('disk', 'add', path, '--host', host, '--pool',
                         'small')
            self.disks.append((host, path))
        disks = [disk for disk in TESTBED.weft_json('disk', 'list')['disks']
                 if disk['pool'] == 'pools/small']
        self.room = min(int(disk['sizeBytes']) for disk in disks)
        self.assertGreater(self.room, self.SIZE // 3)

    def tearDown(self):
        for child in TESTBED.children:
            child.close()
        TESTBED.children.clear()
        for name in 'filler', 'victim':
            TESTBED.drop(name)
        # Replicas go a moment after their volume.
        for host, path in self.disks:
            uid = [disk['uid'] for disk in TESTBED.weft_json(
                'disk', 'list', '--host', host)['disks']
                if disk['path'] == str(path)][0]
            wait_for('the small disk to be free', lambda: TESTBED.weft(
                'disk', 'remove', uid, '--host', host,
                check=False).returncode == 0)
            path.unlink()
        TESTBED.weft('pool', 'delete', 'small')

    def fill(self, bytes_left):
        """A volume that takes all but so much; its URI."""
        size = (self.room - bytes_left) // MIB * MIB
        TESTBED.create('filler', str(size), 'small')
        uri = TESTBED.attach('filler')
        TESTBED.exec('h1', 'qemu-io', '-f', 'raw', '-c',
                     f'write -P 0x77 0 {size}', '-c', 'flush', uri)
        return uri, size

    def run_out(self):
        """A load that finds no room; it must wait or be told so."""
        TESTBED.create('victim', str(16 * MIB), 'small')
        load = TESTBED.load('h1', TESTBED.attach('victim'), '--hold-errors')

        def is_out():
            volume = TESTBED.volume('victim')
            return volume['health'] == 'HELD' or load.last()['no_space'] > 0
        wait_for('the volume to be out of space', is_out)
        volume = TESTBED.volume('victim')
        if volume['health'] == 'HELD':
            self.assertRegex(volume['heldReason'], '(?i)space|full')
            self.assertIn('victim', json.dumps(
                TESTBED.weft_json('status')['heldVolumes']))
        return load

    def check_filler(self, uri, size):
        """What was written before is there, whatever happened to others."""
        done = TESTBED.exec('h1', 'qemu-io', '-f', 'raw', '-c',
                            f'read -P 0x77 0 {size}', uri)
        self.assertNotIn('failed', done.stdout + done.stderr)

    def test_discard(self):
        uri, size = self.fill(8 * MIB)
        load = self.run_out()
        self.check_filler(uri, size)
        TESTBED.exec('h1', 'qemu-io', '-f', 'raw', '-c',
                     f'discard 0 {size // 2 // MIB * MIB}', uri)
        self.go_on(load)

    def test_delete(self):
        uri, size = self.fill(8 * MIB)
        load = self.run_out()
        self.check_filler(uri, size)
        TESTBED.drop('filler')
        self.go_on(load)

    def test_restart(self):
        """A full disk is opened again, with all that is on it."""
        uri, size = self.fill(8 * MIB)
        load = self.run_out()
        TESTBED.kill('h1')
        TESTBED.start('h1')
        wait_for('the volumes to be back', lambda: TESTBED.exec(
            'h1', 'nbdinfo', '--size', uri, check=False).returncode == 0)
        self.check_filler(uri, size)
        TESTBED.exec('h1', 'qemu-io', '-f', 'raw', '-c',
                     f'discard 0 {size // 2 // MIB * MIB}', uri)
        self.go_on(load, reconnects=True)

    def go_on(self, load, reconnects=False):
        """There is room again: it goes on by itself, and nothing was lost."""
        begun = time.monotonic()
        wait_for('the volume to go on', lambda: TESTBED.volume(
            'victim')['health'] == 'HEALTHY')
        load.wait_progress()
        print(f'went on after {time.monotonic() - begun:.1f} s', end=' ',
              flush=True)
        report = load.finish()
        self.assertEqual(report['mismatch_count'], 0)
        self.assertEqual(report['error_count'], 0)
        if not reconnects:
            self.assertEqual(report['reconnects'], 0)


if __name__ == '__main__':
    weft_testbed.main()
