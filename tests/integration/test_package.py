#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The Debian package: what is in it, and that it installs and runs in a clean
Debian that debootstrap made.

Without a mirror to make it from that test is skipped, the others are not.
Whether it does its work on such hosts is tests/long/test_hosts.py's."""

import os
import pathlib
import re
import shutil
import sys
import tempfile
import unittest

TOP = pathlib.Path(os.environ['SOURCE_ROOT'])
sys.path.insert(0, str(TOP / 'tests/support'))
# pylint: disable=wrong-import-position
import clean_debian  # noqa: E402
from clean_debian import depends, inside, must  # noqa: E402

BUILD = os.environ['WEFT_BUILD_DIR']
UNITS = ['weft-db', 'weft-blockd', 'weft-netd']


class Package(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        # pylint: disable-next=consider-using-with
        cls.folder = tempfile.TemporaryDirectory(prefix='weft-test-package-')
        cls.dir = pathlib.Path(cls.folder.name)
        cls.package = must(TOP / 'deploy/package', BUILD, '--out',
                           cls.dir).strip()

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_contents(self):
        listing = must('dpkg-deb', '-c', self.package)
        found = {}
        for line in listing.splitlines():
            mode, owner, _, _, _, name = line.split(None, 5)
            self.assertEqual(owner, 'root/root', line)
            found[name[1:]] = mode
        for name in ('/usr/sbin/blockd', '/usr/sbin/netd', '/usr/bin/weft',
                     '/usr/sbin/weft-deploy'):
            self.assertEqual(found.get(name), '-rwxr-xr-x', name)
        for name in ('/usr/share/weft/weft.ovsschema',
                     '/usr/share/bash-completion/completions/weft',
                     '/usr/share/doc/weft/copyright',
                     '/usr/share/doc/weft/operations.md',
                     '/usr/lib/tmpfiles.d/weft.conf',
                     *(f'/lib/systemd/system/{unit}.service'
                       for unit in UNITS)):
            self.assertEqual(found.get(name), '-rw-r--r--', name)
        # Nothing that would be lost or asked about at an upgrade.
        self.assertFalse([name for name in found
                          if name.startswith(('/etc', '/var', '/run'))])

    def test_metadata(self):
        text = must('dpkg-deb', '-I', self.package)
        version = must(f'{BUILD}/blockd/blockd', '--version').split()[1]
        self.assertIn(f' Version: {version}\n', text)
        names = depends(self.package)
        for name in ('libc6', 'libgrpc29', 'liburing2', 'libprotobuf-c1',
                     'libssl3', 'libnl-3-200', 'openvswitch-switch', 'adduser',
                     'python3'):
            self.assertIn(name, names)
        self.assertFalse([name for name in names if name.endswith('-dev')])
        self.assertNotRegex(must('dpkg-deb', '-f', self.package), r'@[A-Z]')

    def test_same_again(self):
        """The same build makes the same bytes."""
        other = self.dir / 'again'
        again = must(TOP / 'deploy/package', BUILD, '--out', other).strip()
        self.assertEqual(pathlib.Path(again).read_bytes(),
                         pathlib.Path(self.package).read_bytes())

    def test_clean_root(self):
        base, reason = clean_debian.find(self.package)
        if base is None:
            self.skipTest(f'no clean Debian to install into: {reason}')
        root = self.dir / 'root'
        clean_debian.unpack(base, root)
        shutil.copy(self.package, root / 'weft.deb')
        self.install(root)
        self.try_programs(root)
        self.try_units(root)
        self.try_deploy(root)
        self.remove(root)

    def good(self, root, *command):
        done = inside(root, *command)
        self.assertEqual(done.returncode, 0,
                         f'{command}: {done.stdout}{done.stderr}')
        return done.stdout

    def install(self, root):
        self.good(root, 'dpkg', '-i', '/weft.deb')
        self.assertIn('disk', self.good(root, 'id', '-nG', 'weft-blockd'))
        self.assertIn('weft', self.good(root, 'id', '-nG', 'weft-blockd'))
        self.good(root, 'id', 'weft-db')
        self.assertEqual((root / 'run/weft').stat().st_mode & 0o7777, 0o1775)
        # Nothing is enabled, nothing runs.
        self.assertFalse(list((root / 'etc/systemd').rglob('weft-*')))
        for link in pathlib.Path('/proc').glob('[0-9]*/root'):
            try:
                self.assertNotEqual(os.readlink(link), str(root), link)
            except OSError:
                pass

    def try_programs(self, root):
        for daemon in 'blockd', 'netd':
            self.assertRegex(self.good(root, daemon, '--version'),
                             rf'^{daemon} [0-9]')
        self.assertIn('volume create', self.good(root, 'weft', '--help'))
        config = self.good(root, 'weft-deploy', 'init', '--print-config',
                           '--name', 'h1', '--address', '10.0.0.1', '--rack',
                           'r1')
        parts = re.split(r'(?m)^# ---- (\S+)\n', config)[1:]
        files = dict(zip(parts[::2], parts[1::2]))
        self.assertEqual(sorted(files), ['/etc/weft/blockd.conf',
                                         '/etc/weft/db.env',
                                         '/etc/weft/netd.conf'])
        for daemon in 'blockd', 'netd':
            (root / f'tmp/{daemon}.conf').write_text(
                files[f'/etc/weft/{daemon}.conf'])
            self.good(root, daemon, '--check', '--config',
                      f'/tmp/{daemon}.conf')
        self.assertFalse((root / 'etc/weft').exists())

    def try_units(self, root):
        names = [f'{unit}.service' for unit in UNITS]
        done = inside(root, 'systemd-analyze', 'verify', '--man=no', *names)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        for name in names:
            said = self.good(root, 'systemd-analyze', 'security',
                             '--offline=yes', '--threshold=40', '--no-pager',
                             name)
            self.assertIn('Overall exposure', said)

    def try_deploy(self, root):
        self.good(root, 'weft-deploy', 'init', '--no-start', '--name', 'h1',
                  '--address', '10.0.0.1')
        for daemon in 'blockd', 'netd':
            self.good(root, daemon, '--check')
        database = root / 'var/lib/weft/db/weft.db'
        self.assertNotEqual(database.stat().st_uid, 0)
        again = inside(root, 'weft-deploy', 'init', '--no-start', '--address',
                       '10.0.0.1')
        self.assertEqual(again.returncode, 1)
        self.assertIn('uninstall', again.stderr)
        # Not a terminal, and no --yes: it must not go on.
        refused = inside(root, 'weft-deploy', 'uninstall')
        self.assertEqual(refused.returncode, 1)
        self.assertTrue(database.exists())
        self.good(root, 'weft-deploy', 'uninstall', '--keep-data', '--yes')
        self.assertTrue(database.exists())

    def remove(self, root):
        """A purge leaves data; 'uninstall' does not."""
        said = self.good(root, 'dpkg', '-P', 'weft')
        self.assertIn('/var/lib/weft stays', said)
        self.assertTrue((root / 'var/lib/weft/db/weft.db').exists())
        self.assertFalse((root / 'usr/sbin/blockd').exists())
        self.good(root, 'dpkg', '-i', '/weft.deb')
        self.good(root, 'weft-deploy', 'uninstall', '--yes')
        self.assertFalse((root / 'var/lib/weft').exists())
        self.assertFalse((root / 'etc/weft').exists())


if __name__ == '__main__':
    program = unittest.main(exit=False, verbosity=2)
    result = program.result
    if result.wasSuccessful() and len(result.skipped) == result.testsRun:
        sys.exit(77)
    sys.exit(0 if result.wasSuccessful() else 1)
