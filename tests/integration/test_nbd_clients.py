#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Other people's NBD clients on our server, over a volume in memory: libnbd and
its tools, qemu's tools, fio.  By unix socket and by TCP.  NBD_RAM is the
program tests/support/nbd_ram.c."""

import json
import os
import pathlib
import random
import shutil
import socket
import struct
import subprocess
import tempfile
import unittest

import nbd

NBD_RAM = os.environ['NBD_RAM']
SIZE = 96 << 20
READ, WRITE, FLUSH, DISCARD, ZEROES, STATUS = range(6)


class Server:
    """A running nbd_ram; stop() returns what was asked of its volume."""

    def __init__(self, size=SIZE, delay_us=0, error_ppm=0):
        self.folder = tempfile.TemporaryDirectory(prefix='weft-nbd-')
        self.path = self.folder.name + '/s'
        self.process = subprocess.Popen(
            [NBD_RAM, self.path, str(size), str(delay_us), str(error_ppm)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        assert self.process.stdout.readline() == 'ready\n'
        self.unix = f'nbd+unix:///p/v?socket={self.path}'
        self.tcp = f'nbd://127.0.0.1:{self.port}/p/v'
        # As qemu's tools want them.
        self.qemu_unix = f'nbd+unix:///p/v?socket={self.path}'
        self.qemu_tcp = self.tcp

    def stop(self):
        out, _ = self.process.communicate(timeout=60)
        self.folder.cleanup()
        if self.process.returncode != 0:
            raise AssertionError(f'nbd_ram: {self.process.returncode}')
        return [tuple(int(word) for word in line.split())
                for line in out.splitlines()]


def run(*command, **options):
    """A tool's standard output; an error of it is one of the test."""
    done = subprocess.run(command, capture_output=True, text=True,
                          timeout=300, check=False, **options)
    if done.returncode != 0:
        raise AssertionError(f'{command}: {done.returncode}\n{done.stdout}'
                             f'\n{done.stderr}')
    return done.stdout


class Case(unittest.TestCase):
    server_options = {}

    def setUp(self):
        self.server = Server(**self.server_options)
        self.stats = None
        self.folder = tempfile.TemporaryDirectory(prefix='weft-nbd-')

    def tearDown(self):
        if self.stats is None:
            self.stop()
        self.folder.cleanup()

    def stop(self):
        self.stats = self.server.stop()
        return self.stats

    def file(self, name):
        return os.path.join(self.folder.name, name)

    def image(self, name='image.raw', size=SIZE, seed=1):
        """Random data, zeros and holes by turns."""
        rng = random.Random(seed)
        path = self.file(name)
        with open(path, 'wb') as file:
            file.truncate(size)
            for _ in range(40):
                at = rng.randrange(size // 4096) * 4096
                file.seek(at)
                file.write(rng.randbytes(
                    min(size - at, rng.choice([512, 4096, 65536, 1 << 20]))))
        return path

    def uris(self):
        return self.server.unix, self.server.tcp


class Libnbd(Case):
    def connect(self, uri, change=None):
        handle = nbd.NBD()
        handle.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
        if change is not None:
            change(handle)
        handle.connect_uri(uri)
        return handle

    def test_nbdinfo(self):
        for uri in self.uris():
            info = json.loads(run('nbdinfo', '--json', uri))
            self.assertEqual(info['protocol'], 'newstyle-fixed')
            self.assertTrue(info['structured'])
            self.assertFalse(info['TLS'])
            export, = info['exports']
            self.assertEqual(export['export-name'], 'p/v')
            self.assertEqual(export['export-size'], SIZE)
            self.assertEqual(export['contexts'], ['base:allocation'])
            for key in ('can_df', 'can_fua', 'can_flush', 'can_fast_zero',
                        'can_multi_conn', 'can_trim', 'can_zero'):
                self.assertTrue(export[key], key)
            for key in ('is_read_only', 'can_cache', 'is_rotational'):
                self.assertFalse(export[key], key)
            self.assertEqual(export['block_size_minimum'], 1)
            self.assertEqual(export['block_size_preferred'], 4096)
            self.assertEqual(export['block_size_maximum'], 32 << 20)

    def test_nbdinfo_list(self):
        info = json.loads(run('nbdinfo', '--list', '--json',
                              f'nbd://127.0.0.1:{self.server.port}'))
        self.assertEqual([(e['export-name'], e['export-size'])
                          for e in info['exports']],
                         [('p/v', SIZE), ('p/other', 65536)])

    def test_map(self):
        handle = self.connect(self.server.unix)
        for block in (0, 1, 7, 100, SIZE // 4096 - 1):
            handle.pwrite(b'x' * 4096, block * 4096)
        found = json.loads(run('nbdinfo', '--map', '--json', self.server.tcp))
        data = [(e['offset'] // 4096, e['length'] // 4096) for e in found
                if e['type'] == 0]
        self.assertEqual(data, [(0, 2), (7, 1), (100, 1),
                                (SIZE // 4096 - 1, 1)])
        self.assertEqual(sum(e['length'] for e in found), SIZE)
        self.assertEqual({e['type'] for e in found}, {0, 3})
        handle.trim(4096, 7 * 4096)
        handle.zero(4096, 100 * 4096)
        handle.zero(4096, 0, nbd.CMD_FLAG_NO_HOLE)
        found = json.loads(run('nbdinfo', '--map', '--json', self.server.tcp))
        data = [(e['offset'] // 4096, e['length'] // 4096) for e in found
                if e['type'] == 0]
        self.assertEqual(data, [(0, 2), (SIZE // 4096 - 1, 1)])

    def test_nbdcopy(self):
        image = self.image()
        for uri in self.uris():
            for options in ([], ['--allocated'], ['--destination-is-zero'],
                            ['--synchronous'], ['--no-extents'],
                            ['--request-size=1048576', '--requests=32'],
                            ['--request-size=33554432']):
                other = Server()
                try:
                    run('nbdcopy', '--flush', *options, image, uri)
                    target = other.unix
                    run('nbdcopy', *options, uri, target)
                    back = self.file('back.raw')
                    with open(back, 'wb') as file:
                        file.truncate(SIZE)
                    run('nbdcopy', target, back)
                    run('cmp', image, back)
                finally:
                    other.stop()
                if '--destination-is-zero' not in options:
                    continue
                self.connect(uri).zero(SIZE, 0)

    def test_commands(self):
        for uri in self.uris():
            handle = self.connect(uri)
            self.assertEqual(handle.get_size(), SIZE)
            handle.pwrite(b'abc', 4095)
            handle.pwrite(b'def', 8191, nbd.CMD_FLAG_FUA)
            handle.flush()
            self.assertEqual(handle.pread(3, 4095), b'abc')
            chunks = []
            data = handle.pread_structured(
                10000, 8191, lambda *chunk: chunks.append(chunk[1:3]),
                nbd.CMD_FLAG_DF)
            self.assertEqual(data[:4], b'def\0')
            self.assertEqual(chunks, [(8191, nbd.READ_DATA)])
            chunks = []
            data = handle.pread_structured(
                4096, 1 << 20, lambda *chunk: chunks.append(chunk[1:3]))
            self.assertEqual(chunks, [(1 << 20, nbd.READ_HOLE)])
            handle.zero(2, 4096, nbd.CMD_FLAG_FAST_ZERO)
            self.assertEqual(handle.pread(3, 4095), b'a\0\0')
            handle.zero(SIZE, 0)
            self.assertEqual(handle.pread(3, 8191), b'\0\0\0')
            handle.shutdown()

    def test_refusals(self):
        handle = self.connect(
            self.server.unix, lambda h: h.set_strict_mode(0))
        end = handle.get_size()
        for function, code in (
                (lambda: handle.pread(1, end), 'EINVAL'),
                (lambda: handle.pread(33 << 20, 0), 'EINVAL'),
                (lambda: handle.pwrite(b'x', end), 'ENOSPC'),
                (lambda: handle.zero(1, end), 'ENOSPC'),
                (lambda: handle.trim(1, end), 'EINVAL'),
                (lambda: handle.trim(0, 0), 'EINVAL'),
                (lambda: handle.cache(512, 0), 'EINVAL'),
                (lambda: handle.zero(4096, 0, nbd.CMD_FLAG_NO_HOLE |
                                     nbd.CMD_FLAG_FAST_ZERO), 'ENOTSUP'),
                (lambda: handle.pread(2 << 20, 0, nbd.CMD_FLAG_DF),
                 'EOVERFLOW')):
            with self.assertRaises(nbd.Error) as caught:
                function()
            self.assertEqual(caught.exception.errno, code)
        handle.pwrite(b'x', 0)

    def test_without_structured_replies(self):
        def change(handle):
            handle.set_request_structured_replies(False)
        for uri in self.uris():
            handle = self.connect(uri, change)
            self.assertFalse(handle.get_structured_replies_negotiated())
            self.assertFalse(handle.can_df())
            data = random.Random(2).randbytes(20 << 20)
            handle.pwrite(data, 12345)
            self.assertEqual(handle.pread(len(data), 12345), data)

    def test_old_handshake(self):
        """EXPORT_NAME, with and without the zeros after it."""
        for flags in (nbd.HANDSHAKE_FLAG_MASK, nbd.HANDSHAKE_FLAG_FIXED_NEWSTYLE,
                      0):
            handle = self.connect(
                self.server.unix, lambda h: h.set_handshake_flags(flags))
            handle.pwrite(b'old', 1 << 20)
            self.assertEqual(handle.pread(3, 1 << 20), b'old')

    def test_options_one_by_one(self):
        handle = nbd.NBD()
        handle.set_opt_mode(True)
        handle.connect_unix(self.server.path)
        names = []
        handle.opt_list(lambda name, text: names.append(name))
        self.assertEqual(names, ['p/v', 'p/other'])
        handle.set_export_name('p/other')
        handle.opt_info()
        self.assertEqual(handle.get_size(), 65536)
        contexts = []
        handle.opt_list_meta_context(contexts.append)
        self.assertEqual(contexts, ['base:allocation'])
        handle.set_export_name('nowhere')
        with self.assertRaises(nbd.Error) as caught:
            handle.opt_go()
        self.assertEqual(caught.exception.errno, 'ENOENT')
        handle.set_export_name('p/v')
        handle.opt_go()
        self.assertEqual(handle.get_size(), SIZE)
        self.assertEqual(handle.get_canonical_export_name()
                         if handle.get_full_info() else 'p/v', 'p/v')
        handle.shutdown()
        handle = nbd.NBD()
        handle.set_opt_mode(True)
        handle.connect_unix(self.server.path)
        handle.opt_abort()

    def test_many_in_flight(self):
        """16 handles with up to 64 requests each, against a model."""
        rng = random.Random(3)
        part = SIZE // 16
        handles = [self.connect(self.uris()[i % 2]) for i in range(16)]
        want = bytearray(SIZE)
        for _ in range(20):
            for index, handle in enumerate(handles):
                for _ in range(16):
                    at = index * part + rng.randrange(part - 70000)
                    data = rng.randbytes(rng.choice([1, 512, 4096, 65536]))
                    # One after the other where they overlap: libnbd sends in
                    # order, the server does not finish in order.
                    want[at:at + len(data)] = data
                    cookie = handle.aio_pwrite(nbd.Buffer.from_bytearray(
                        bytearray(data)), at)
                    while not handle.aio_command_completed(cookie):
                        handle.poll(-1)
                buffers = []
                for _ in range(48):
                    at = index * part + rng.randrange(part - 70000)
                    size = rng.choice([1, 512, 4096, 65536])
                    buffer = nbd.Buffer(size)
                    buffers.append(
                        (at, size, buffer, handle.aio_pread(buffer, at)))
                for at, size, buffer, cookie in buffers:
                    while not handle.aio_command_completed(cookie):
                        handle.poll(-1)
                    self.assertEqual(buffer.to_bytearray(),
                                     want[at:at + size])

    def test_vanishing(self):
        """Clients that go in the midst of everything."""
        for i in range(60):
            handle = nbd.NBD()
            handle.connect_uri(self.uris()[i % 2])
            for k in range(i % 20):
                handle.aio_pwrite(nbd.Buffer.from_bytearray(
                    bytearray(100000)), k * 100000)
                handle.aio_pread(nbd.Buffer(1 << 20), k << 20)
            del handle  # Its memory, and with it the connection.
        handle = self.connect(self.server.tcp)
        handle.pwrite(b'still here', 0)


class Slow(Libnbd):
    """The same on a volume that takes its time and finishes out of order."""
    server_options = {'delay_us': 300}
    test_nbdcopy = None
    test_nbdinfo = None
    test_nbdinfo_list = None
    test_old_handshake = None
    test_options_one_by_one = None


class Errors(Case):
    server_options = {'error_ppm': 200000, 'delay_us': 100}

    def test_errors(self):
        """A failed request is one failed request."""
        for uri in self.uris():
            handle = nbd.NBD()
            handle.connect_uri(uri)
            failed = 0
            for i in range(300):
                try:
                    handle.pwrite(b'y' * 4096, i * 4096)
                    handle.pread(4096, i * 4096)
                    handle.flush()
                except nbd.Error as error:
                    self.assertEqual(error.errno, 'EIO')
                    failed += 1
            self.assertGreater(failed, 50)
            handle.shutdown()
        self.assertGreater(sum(failed for _, _, failed in self.stop()), 100)


class Qemu(Case):
    def uris(self):
        return self.server.qemu_unix, self.server.qemu_tcp

    def test_convert_compare_map(self):
        image = self.image()
        qcow = self.file('image.qcow2')
        run('qemu-img', 'convert', '-O', 'qcow2', image, qcow)
        for uri in self.uris():
            run('qemu-img', 'convert', '-n', '-O', 'raw', qcow, uri)
            run('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', image, uri)
            run('qemu-img', 'compare', '-f', 'qcow2', '-F', 'raw', qcow, uri)
            extents = json.loads(run('qemu-img', 'map', '--output=json', '-f',
                                     'raw', uri))
            self.assertEqual(sum(e['length'] for e in extents), SIZE)
            self.assertTrue(any(e['zero'] for e in extents))
            with open(image, 'rb') as file:
                for extent in extents:
                    file.seek(extent['start'])
                    data = file.read(extent['length'])
                    if extent['zero']:
                        self.assertEqual(data.count(0), len(data))
            back = self.file('back.raw')
            run('qemu-img', 'convert', '-f', 'raw', '-O', 'raw', uri, back)
            run('cmp', image, back)
            info = json.loads(run('qemu-img', 'info', '--output=json', '-f',
                                  'raw', uri))
            self.assertEqual(info['virtual-size'], SIZE)
            # Over what is there: zeros must be written.
            run('qemu-img', 'convert', '-n', '-S', '0', '-W', '-m', '8', '-O',
                'raw', self.image('second.raw', seed=9), uri)
            run('qemu-img', 'compare', '-f', 'raw', '-F', 'raw',
                self.file('second.raw'), uri)

    def test_io(self):
        for uri in self.uris():
            out = run('qemu-io', '-f', 'raw',
                      '-c', 'write -P 0x11 0 1M',
                      '-c', 'write -f -P 0x22 64k 4k',
                      '-c', 'read -P 0x22 64k 4k',
                      '-c', 'discard 256k 256k',
                      '-c', 'read -P 0 256k 256k',
                      '-c', 'write -z 512k 64k',
                      '-c', 'write -z -u 640k 64k',
                      '-c', 'read -P 0 512k 64k',
                      '-c', 'read -P 0 640k 64k',
                      '-c', 'read -P 0x11 704k 1k',
                      '-c', 'aio_write -P 0x33 2M 16M',
                      '-c', 'aio_write -P 0x34 20M 20M',
                      '-c', 'aio_flush',
                      '-c', 'read -P 0x33 2M 16M',
                      '-c', 'read -P 0x34 20M 20M',
                      '-c', 'writev -P 5 100k 1k 2k 3k',
                      '-c', 'read -P 5 100k 6k',
                      '-c', 'flush', uri)
            self.assertNotIn('verification failed', out)
            self.assertNotIn('rror', out)
        stats = self.stop()
        self.assertGreaterEqual(stats[WRITE][1], 2)   # -f
        self.assertGreaterEqual(stats[DISCARD][0], 2)
        self.assertGreaterEqual(stats[ZEROES][0], 2)  # -z -u
        self.assertGreater(stats[FLUSH][0], 0)

    def test_bench(self):
        for uri in self.uris():
            for options in ([], ['-w'], ['-w', '--flush-interval=64']):
                run('qemu-img', 'bench', '-f', 'raw', '-t', 'none', '-c',
                    '2000', '-d', '32', *options, uri)


class Fio(Case):
    server_options = {'delay_us': 50}

    def test_verify(self):
        for uri in self.uris():
            run('fio', '--name=verify', '--ioengine=nbd', '--uri=' + uri,
                '--rw=randwrite', '--bsrange=4k-256k', '--iodepth=32',
                '--size=64M', '--verify=crc32c', '--verify_fatal=1',
                '--do_verify=1', '--randrepeat=1', '--output-format=terse')
            run('fio', '--name=trim', '--ioengine=nbd', '--uri=' + uri,
                '--rw=randtrim', '--bs=64k', '--iodepth=8', '--size=16M',
                '--output-format=terse')

    def test_jobs(self):
        """Several connections, a part of the volume for each."""
        run('fio', '--ioengine=nbd', '--uri=' + self.server.tcp,
            '--rw=randrw', '--bs=4k', '--iodepth=16', '--size=8M',
            '--offset_increment=8M', '--numjobs=8', '--thread',
            '--verify=crc32c', '--verify_fatal=1', '--name=jobs',
            '--fsync=50', '--output-format=terse')


class Hostile(Case):
    def test_garbage(self):
        rng = random.Random(5)
        for i in range(150):
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(30)
            sock.connect(self.server.path)
            try:
                if i % 3 > 0:
                    sock.sendall(struct.pack('>I', 3))
                if i % 3 > 1:
                    sock.sendall(struct.pack('>8sII', b'IHAVEOPT', 7, 9) +
                                 struct.pack('>I3sH', 3, b'p/v', 0))
                sock.sendall(rng.randbytes(rng.choice([1, 30, 5000])))
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(65536):
                    pass
            except (BrokenPipeError, ConnectionResetError):
                pass
            sock.close()
        self.assertIn(str(SIZE), run('nbdinfo', '--size', self.server.unix))

    def test_stop_with_clients(self):
        """The exports go while clients are at work: they get an error, the
        server ends clean."""
        handles = []
        for i in range(8):
            handle = nbd.NBD()
            handle.connect_uri(self.uris()[i % 2])
            for k in range(50):
                handle.aio_pread(nbd.Buffer(1 << 20), k << 20)
                handle.aio_zero(50 << 20, 0, flags=nbd.CMD_FLAG_NO_HOLE)
            handles.append(handle)
        self.stop()
        for handle in handles:
            with self.assertRaises(nbd.Error):
                handle.pread(512, 0)


def load_tests(loader, tests, pattern):
    """The tools that are not installed are not tried."""
    del loader, pattern
    for tool in ('nbdinfo', 'nbdcopy', 'qemu-img', 'qemu-io', 'fio'):
        if shutil.which(tool) is None:
            raise SystemExit(f'{tool} is missing')
    assert pathlib.Path(NBD_RAM).exists()
    return tests


if __name__ == '__main__':
    unittest.main(verbosity=2)
