#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The NBD clients that people have, on volumes with 1, 2 and 3 replicas on
three hosts: each finds what another wrote."""

import json
import os
import pathlib
import random
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent /
                       'support'))
# pylint: disable=wrong-import-position
import weft_testbed  # noqa: E402
from weft_testbed import PYTHON  # noqa: E402

TESTBED = weft_testbed.Testbed(hosts=3, disk_size='2G')
MIB = 1 << 20
POOLS = {
    'one': ('--replicas', '1'),
    'two': ('--replicas', '2', '--min-in-sync', '1'),
    'striped': ('--replicas', '2', '--min-in-sync', '1', '--stripe-width',
                '3', '--extent-size', '1M'),
}


def setUpModule():
    TESTBED.up()
    for name, options in POOLS.items():
        TESTBED.weft('pool', 'create', name, '--failure-domain', 'host',
                     *options)
    # Disks that serve every pool.
    for host in TESTBED.hosts:
        path = TESTBED.file(f'{host}-shared.img')
        with open(path, 'wb') as file:
            file.truncate(1 << 30)
        TESTBED.weft('disk', 'add', path, '--host', host)


def tearDownModule():
    TESTBED.down()


def make_image(name, size, seed=1):
    """A raw file: random data, zeros and holes by turns."""
    rng = random.Random(seed)
    path = TESTBED.file(name)
    with open(path, 'wb') as file:
        file.truncate(size)
        offset = 0
        while offset < size:
            length = min(rng.choice((4096, 65536, 300 * 1024, MIB)),
                         size - offset)
            kind = rng.randrange(3)
            if kind < 2:
                file.seek(offset)
                file.write(rng.randbytes(length) if kind == 0
                           else bytes(length))
            offset += length
    return path


def same(left, right):
    """Compares two files by their bytes."""
    return TESTBED.exec(None, 'cmp', left, right, check=False).returncode == 0


class Nbdinfo(unittest.TestCase):
    """What the server says of itself and of a volume."""

    def test_info(self):
        with TESTBED.attached('info', '64M') as uri:
            whole = json.loads(TESTBED.exec('h1', 'nbdinfo', '--json',
                                            uri).stdout)
            self.assertEqual(whole['protocol'], 'newstyle-fixed')
            self.assertTrue(whole['structured'])
            export = whole['exports'][0]
            self.assertEqual(export['export-size'], 64 * MIB)
            self.assertIn('base:allocation', export['contexts'])
            for word in ('can_flush', 'can_fua', 'can_trim', 'can_zero',
                         'can_multi_conn'):
                self.assertTrue(export[word], word)
            self.assertFalse(export['is_read_only'])
            self.assertEqual(TESTBED.exec('h1', 'nbdinfo', '--size',
                                          uri).stdout.strip(), str(64 * MIB))

    def test_from_another_host(self):
        """TCP: the client need not be on the owner's host."""
        with TESTBED.attached('far', '16M', host='h2') as uri:
            self.assertEqual(TESTBED.exec('h3', 'nbdinfo', '--size',
                                          uri).stdout.strip(), str(16 * MIB))

    def test_list(self):
        with TESTBED.attached('a', '16M') as uri, \
                TESTBED.attached('b', '32M'):
            root = uri.rpartition('/default/')[0]
            whole = json.loads(TESTBED.exec('h1', 'nbdinfo', '--list',
                                            '--json', root).stdout)
            sizes = {export['export-name'].rpartition('/')[2]:
                     export['export-size'] for export in whole['exports']}
            self.assertEqual(sizes.get('a'), 16 * MIB)
            self.assertEqual(sizes.get('b'), 32 * MIB)

    def test_map(self):
        """Written is data; never written, trimmed and zeroed is a hole."""
        with TESTBED.attached('map', '64M') as uri:
            self.assertEqual(self.extents(uri), [(0, 64 * MIB, 'hole')])
            TESTBED.exec('h1', 'qemu-io', '-f', 'raw',
                         '-c', 'write -P 1 8M 8M', '-c', 'write -P 2 32M 64k',
                         '-c', 'discard 10M 1M', '-c', 'write -z -u 12M 1M',
                         uri)
            self.assertEqual(self.extents(uri), [
                (0, 8 * MIB, 'hole'), (8 * MIB, 2 * MIB, 'data'),
                (10 * MIB, MIB, 'hole'), (11 * MIB, MIB, 'data'),
                (12 * MIB, MIB, 'hole'), (13 * MIB, 3 * MIB, 'data'),
                (16 * MIB, 16 * MIB, 'hole'), (32 * MIB, 65536, 'data'),
                (32 * MIB + 65536, 32 * MIB - 65536, 'hole')])

    def extents(self, uri):
        """The map, neighbours of one kind joined."""
        result = []
        for item in json.loads(TESTBED.exec('h1', 'nbdinfo', '--map',
                                            '--json', uri).stdout):
            self.assertIn(item['type'], (0, 2, 3), item)
            kind = 'data' if item['type'] == 0 else 'hole'
            if result and result[-1][2] == kind:
                result[-1] = (result[-1][0], result[-1][1] + item['length'],
                              kind)
            else:
                result.append((item['offset'], item['length'], kind))
        return result


class Copies(unittest.TestCase):
    """Images to a volume and back, by different clients."""

    def check_copies(self, pool):
        image = make_image('in.raw', 40 * MIB, seed=hash(pool) & 0xffff)
        back = TESTBED.file('back.raw')
        with TESTBED.attached('copy', '40M', pool=pool) as uri:
            TESTBED.exec('h1', 'nbdcopy', '--flush', image, uri)
            TESTBED.exec('h1', 'nbdcopy', uri, back)
            self.assertTrue(same(image, back))
            TESTBED.exec('h1', 'qemu-img', 'compare', '-f', 'raw', '-F',
                         'raw', image, uri)
            # One more time over it, with four connections at once.
            image = make_image('in2.raw', 40 * MIB, seed=99)
            TESTBED.exec('h1', 'nbdcopy', '--flush', '--connections=4',
                         '--threads=4', image, uri)
            TESTBED.exec('h1', 'qemu-img', 'compare', '-f', 'raw', '-F',
                         'raw', image, uri)
            # Attached elsewhere it is the same.
            TESTBED.weft('volume', 'detach', 'copy')
            uri = TESTBED.attach('copy', 'h3', at='h1')
            TESTBED.exec('h2', 'qemu-img', 'compare', '-f', 'raw', '-F',
                         'raw', image, uri)

    def test_one_replica(self):
        self.check_copies('one')

    def test_two_replicas(self):
        self.check_copies('two')

    def test_three_replicas(self):
        self.check_copies('default')

    def test_striped(self):
        self.check_copies('striped')
        TESTBED.create('wide', '1M', 'striped')
        self.assertEqual(len(TESTBED.volume('wide')['mirrors']), 3)
        TESTBED.weft('volume', 'delete', 'wide')

    def test_qemu_img(self):
        """qcow2 to a volume, and a volume to qcow2."""
        image = make_image('q.raw', 32 * MIB, seed=7)
        qcow2, second = TESTBED.file('q.qcow2'), TESTBED.file('q2.qcow2')
        TESTBED.exec(None, 'qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2',
                     image, qcow2)
        with TESTBED.attached('q', '32M') as uri:
            TESTBED.exec('h1', 'qemu-img', 'convert', '-n', '-f', 'qcow2',
                         '-O', 'raw', '-t', 'writeback', qcow2, uri)
            TESTBED.exec('h1', 'qemu-img', 'compare', '-f', 'qcow2', '-F',
                         'raw', qcow2, uri)
            TESTBED.exec('h1', 'qemu-img', 'convert', '-f', 'raw', '-O',
                         'qcow2', uri, second)
            TESTBED.exec(None, 'qemu-img', 'compare', '-s', '-f', 'raw',
                         '-F', 'qcow2', image, second, check=False)
            self.assertEqual(TESTBED.exec(
                None, 'qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2',
                image, second).returncode, 0)
            # What is zero in the image is no data in the volume.
            mapped = json.loads(TESTBED.exec(
                'h1', 'qemu-img', 'map', '--output=json', '-f', 'raw',
                uri).stdout)
            self.assertEqual(sum(item['length'] for item in mapped),
                             32 * MIB)
            data = sum(item['length'] for item in mapped if item['data'])
            self.assertLess(data, 32 * MIB)
            self.assertGreater(data, 0)

    def test_qcow2_inside(self):
        """A qcow2 image that lives in a volume, as a file would."""
        image = make_image('inner.raw', 16 * MIB, seed=8)
        with TESTBED.attached('inside', '32M') as uri:
            TESTBED.exec('h1', 'qemu-img', 'create', '-f', 'qcow2', uri,
                         '16M')
            TESTBED.exec('h1', 'qemu-img', 'convert', '-n', '-f', 'raw',
                         '-O', 'qcow2', image, uri)
            TESTBED.exec('h1', 'qemu-img', 'check', '-f', 'qcow2', uri)
            TESTBED.exec('h1', 'qemu-img', 'compare', '-f', 'raw', '-F',
                         'qcow2', image, uri)


class QemuIo(unittest.TestCase):
    """Patterns at odd offsets: 512-byte logical blocks over 4 KiB ones."""

    def qemu_io(self, uri, *commands):
        arguments = [word for command in commands for word in ('-c', command)]
        done = TESTBED.exec('h1', 'qemu-io', '-f', 'raw', *arguments, uri)
        self.assertNotRegex(done.stdout + done.stderr,
                            r'(?i)error|failed|verification')
        return done.stdout

    def test_patterns(self):
        with TESTBED.attached('io', '16M') as uri:
            self.qemu_io(uri, 'write -P 0x11 0 1M', 'write -P 0x22 512 512',
                         'write -P 0x33 4608 7168', 'flush',
                         'read -P 0x11 0 512', 'read -P 0x22 512 512',
                         'read -P 0x11 1024 3584', 'read -P 0x33 4608 7168',
                         'read -P 0x11 11776 1036800', 'read -P 0 1M 1M')
            self.qemu_io(uri, 'read -P 0x11 0 512', 'read -P 0x22 512 512',
                         'read -P 0x11 1024 3584', 'read -P 0x33 4608 7168')
            # Pieces of blocks zeroed and trimmed; FUA; the last sector.
            self.qemu_io(uri, 'write -z 1536 1024', 'discard 12288 4096',
                         'write -f -P 0x44 16776704 512',
                         'read -P 0x11 1024 512', 'read -P 0 1536 1024',
                         'read -P 0x11 2560 1536', 'read -P 0 12288 4096',
                         'read -P 0x44 16776704 512',
                         'read -P 0 16773120 3584')

    def test_end(self):
        """Beyond the end nothing is read or written."""
        with TESTBED.attached('end', '16M') as uri:
            done = TESTBED.exec('h1', PYTHON, '-c', BEYOND, uri)
            self.assertEqual(done.stdout.split(),
                             ['EINVAL', 'ENOSPC', 'ok'], done.stderr)


# libnbd checks nothing itself here, so that the server has to.
BEYOND = '''
import errno, nbd, sys
h = nbd.NBD()
h.set_strict_mode(0)
h.connect_uri(sys.argv[1])
size = h.get_size()
for call in (lambda: h.pread(8192, size - 4096),
             lambda: h.pwrite(bytes(8192), size - 4096),
             lambda: h.pread(4096, size - 4096)):
    try:
        call()
        print('ok')
    except nbd.Error as error:
        print(errno.errorcode[error.errnum])
'''


class Fio(unittest.TestCase):
    """fio through its NBD engine, verifying each block's CRC."""

    def fio(self, uri, *options):
        done = TESTBED.exec(
            'h1', 'fio', '--name=verify', '--ioengine=nbd', f'--uri={uri}',
            '--verify=crc32c', '--verify_fatal=1', '--do_verify=1',
            '--randseed=1', '--output-format=json', *options,
            cwd=TESTBED.dir / 'files', seconds=120)
        job = json.loads(done.stdout[done.stdout.index('{'):])['jobs'][0]
        self.assertEqual(job['error'], 0, done.stdout)
        self.assertGreater(job['read']['total_ios'], 0)
        return job

    def check_fio(self, pool):
        with TESTBED.attached('fio', '48M', pool=pool) as uri:
            self.fio(uri, '--rw=randwrite', '--bsrange=4k-64k',
                     '--size=24M', '--iodepth=16')
            # Odd sizes and offsets.
            self.fio(uri, '--rw=randwrite', '--bsrange=512-20k',
                     '--bs_unaligned', '--size=8M', '--offset=24M',
                     '--iodepth=8')

    def test_one_replica(self):
        self.check_fio('one')

    def test_two_replicas(self):
        self.check_fio('two')

    def test_three_replicas(self):
        self.check_fio('default')

    def test_striped(self):
        self.check_fio('striped')

    def test_trim(self):
        with TESTBED.attached('trim', '32M') as uri:
            self.fio(uri, '--rw=randtrimwrite', '--bs=16k', '--size=16M',
                     '--iodepth=8')


class Several(unittest.TestCase):
    """Several clients of one volume, and several volumes of one host."""

    def test_clients(self):
        with TESTBED.attached('many', '64M') as uri:
            loads = [TESTBED.load(host, uri, '--offset', str(16 * MIB * n),
                                  '--size', str(16 * MIB), '--seed', str(n))
                     for n, host in enumerate(('h1', 'h2', 'h3'))]
            for load in loads:
                load.wait_progress()
            for load in loads:
                report = load.finish()
                self.assertEqual(report['reconnects'], 0)

    def test_volumes(self):
        names = ['va', 'vb', 'vc']
        for name in names:
            TESTBED.create(name, '16M')
        loads = []
        for name, host in zip(names, TESTBED.hosts):
            uri = TESTBED.attach(name, host, at='h1')
            loads.append(TESTBED.load(host, uri, '--seed', str(len(loads))))
        for load in loads:
            load.wait_progress()
        for load in loads:
            self.assertEqual(load.finish()['reconnects'], 0)
        for name in names:
            TESTBED.drop(name)


class Transfer(unittest.TestCase):
    """weft volume import and export."""

    def test_raw(self):
        image, back = make_image('i.raw', 24 * MIB, 3), TESTBED.file('o.raw')
        TESTBED.weft('volume', 'import', image, 'imported', '--pool',
                     'default', seconds=120)
        volume = TESTBED.volume('imported')
        self.assertEqual(volume['sizeBytes'], str(24 * MIB))
        self.assertEqual(volume['state'], 'AVAILABLE')
        TESTBED.weft('volume', 'export', 'imported', back, seconds=120)
        self.assertTrue(same(image, back))
        # What is there is not overwritten.
        done = TESTBED.weft('volume', 'export', 'imported', back, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn('o.raw', done.stderr)
        TESTBED.drop('imported')

    def test_qcow2(self):
        image, back = make_image('j.raw', 24 * MIB, 4), TESTBED.file('p.qcow2')
        qcow2 = TESTBED.file('j.qcow2')
        TESTBED.exec(None, 'qemu-img', 'convert', '-c', '-f', 'raw', '-O',
                     'qcow2', image, qcow2)
        TESTBED.weft('volume', 'import', qcow2, 'imported2', '--pool',
                     'striped', host='h2', seconds=120)
        TESTBED.weft('volume', 'export', 'imported2', back, host='h3',
                     seconds=120)
        TESTBED.exec(None, 'qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2',
                     image, back)
        TESTBED.drop('imported2')

    def test_odd_size(self):
        """An image that is no multiple of 4 KiB is filled up with zeros."""
        path = TESTBED.file('odd.raw')
        data = os.urandom(MIB + 777)
        path.write_bytes(data)
        TESTBED.weft('volume', 'import', path, 'odd', '--pool', 'one')
        back = TESTBED.file('odd.back')
        TESTBED.weft('volume', 'export', 'odd', back)
        self.assertEqual(back.read_bytes(),
                         data + bytes(-len(data) % 4096))
        TESTBED.drop('odd')

    def test_refused(self):
        """Nothing is left of an import that cannot be."""
        for path, words in ((TESTBED.file('nothing.raw'), 'nothing.raw'),
                            (TESTBED.dir, 'neither')):
            done = TESTBED.weft('volume', 'import', path, 'none', '--pool',
                                'default', check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn(words, done.stderr)
        path = TESTBED.file('damaged.qcow2')
        path.write_bytes(b'QFI\xfb' + bytes(20) +
                         (MIB).to_bytes(8, 'big') + os.urandom(4096))
        done = TESTBED.weft('volume', 'import', path, 'none', '--pool',
                            'default', check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIsNone(TESTBED.volume('none'))


if __name__ == '__main__':
    weft_testbed.main()
