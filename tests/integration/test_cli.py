#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""weft, the command line client: what it sends, prints and exits with."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

import fake_server

WEFT = os.environ['WEFT']


def run(fake, *arguments, **options):
    """Runs weft against a server, or without one."""
    environment = dict(os.environ, TZ='UTC')
    environment.pop('WEFT_ENDPOINT', None)
    if fake is not None:
        environment['WEFT_ENDPOINT'] = fake.endpoint
    return subprocess.run([WEFT, *arguments], env=environment,
                          stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=60, check=False, **options)


class Usage(unittest.TestCase):
    """All that needs no server."""

    def check(self, code, pattern, *arguments):
        done = run(None, *arguments)
        self.assertEqual(done.returncode, code, (arguments, done.stderr))
        text = done.stdout if code == 0 else done.stderr
        self.assertRegex(text, pattern)
        self.assertEqual(done.stderr if code == 0 else done.stdout, '')

    def test_help(self):
        self.check(0, 'volume attach', '--help')
        self.check(0, 'volume attach', '-h')
        self.check(2, 'volume attach')
        for noun in ('host', 'disk', 'pool', 'volume', 'event', 'operation',
                     'completion'):
            self.check(0, f'Usage: weft {noun} VERB', noun, '--help')
            self.check(2, f'Usage: weft {noun} VERB', noun)
            self.check(2, 'there is no command', noun, 'nonsense')
        for command in re.findall(r'^  (\w+ \w+) ',
                                  run(None, '--help').stdout, re.MULTILINE):
            self.check(0, f'Usage: weft {command}', *command.split(),
                       '--help')
            self.check(2, 'there is no option --nonsense', *command.split(),
                       '--nonsense')
        self.check(0, 'Usage: weft status', 'status', '--help')
        self.check(0, r'^weft \d', '--version')

    def test_commands(self):
        self.check(2, 'there is no command "nonsense"', 'nonsense')
        self.check(2, 'NAME is missing', 'volume', 'show')
        self.check(2, 'what is "b" for', 'volume', 'show', 'a', 'b')
        self.check(2, 'what is "x" for', 'status', 'x')
        self.check(2, '--size needs a value', 'volume', 'create', 'a',
                   '--size')
        self.check(2, 'given twice', 'volume', 'create', 'a', '--size', '1G',
                   '--size=2G')
        self.check(2, '--nbd takes no value', 'volume', 'attach', 'a',
                   '--nbd=yes')
        self.check(2, '--output must be "table" or "json"', 'host', 'list',
                   '-oxml')
        self.check(2, 'is not an endpoint', 'host', 'list', '-e', 'http://x')
        self.check(2, 'is not a duration', 'host', 'list', '--timeout', '5')
        self.check(2, 'too many', 'host', 'list', *'abcdefgh')

    def test_names(self):
        for name in ('', 'A', '-a', 'a-', '.', 'a/b', 'a b', 'x' * 64,
                     '\u00e4', 'a\n', '../a'):
            self.check(2, 'is not a name; a name has', 'volume', 'show', '--',
                       name)
            self.check(2, 'is not a name; a name has', 'volume', 'list',
                       f'--project={name}')
            self.check(2, 'is not a name; a name has', 'pool', 'show', '--',
                       name)

    def test_sizes(self):
        for size, why in (('0', 'out of range'), ('-5', 'is not a size'),
                          ('', 'is not a size'), ('20X', 'is not a size'),
                          ('1.5G', 'is not a size'), ('5000', 'multiple'),
                          ('2P', 'out of range'), ('16384P', 'out of range'),
                          ('99999999999999999999', 'out of range'),
                          ('0x1000', 'is not a size'),
                          (' 4K', 'is not a size'), ('1K', 'out of range')):
            self.check(2, f'--size "{re.escape(size)}".*{why}', 'volume',
                       'create', 'a', '--pool', 'p', '--size', size)

    def test_missing(self):
        self.check(2, '--size is missing', 'volume', 'create', 'a')
        self.check(2, '--pool is missing', 'volume', 'create', 'a', '--size',
                   '1G')
        self.check(2, '--host is missing', 'volume', 'attach', 'a', '--nbd')
        self.check(2, 'either --nbd or --vhost-user', 'volume', 'attach', 'a',
                   '--host', 'h')
        self.check(2, 'either --nbd or --vhost-user', 'volume', 'attach', 'a',
                   '--host', 'h', '--nbd', '--vhost-user')
        self.check(2, '--host is missing', 'disk', 'add', '/dev/x')
        self.check(2, 'absolute path', 'disk', 'add', 'x', '--host', 'h')
        self.check(2, '--pool is missing', 'volume', 'import', '/x', 'a')

    def test_pool(self):
        for arguments, why in (
                (['--replicas', '4'], 'from 1 to 3'),
                (['--replicas', '0'], 'from 1 to 3'),
                (['--replicas', '-1'], 'from 1 to 3'),
                (['--replicas', '2', '--min-in-sync', '3'], 'more than'),
                (['--failure-domain', 'planet'], '"host" or "rack"'),
                (['--device-class', 'tape'], '"hdd", "ssd", "nvme"'),
                (['--stripe-width', '65'], 'from 1 to 64'),
                (['--extent-size', '3M'], 'power of two'),
                (['--extent-size', '4K'], 'out of range'),
                (['--trash', '721h'], 'at most')):
            self.check(2, why, 'pool', 'create', 'p', *arguments)

    def test_nobody_there(self):
        self.check(1, 'no blockd answers at "unix:/nonexistent/s"', 'host',
                   'list', '--endpoint', 'unix:/nonexistent/s')
        self.check(1, 'no blockd answers', 'volume', 'create', 'a', '--size',
                   '1G', '--pool', 'p', '-etcp:127.0.0.1:1')

    def test_completion(self):
        script = run(None, 'completion', 'bash').stdout

        def complete(*words):
            done = subprocess.run(
                ['bash', '-c', script + '\n'
                 f'COMP_WORDS=({" ".join(words)} "")\n'
                 f'COMP_CWORD={len(words) - 1}\n'
                 '_weft; printf "%s\\n" "${COMPREPLY[@]}"'],
                capture_output=True, text=True, check=True)
            self.assertEqual(done.stderr, '')
            return done.stdout.split()

        self.assertEqual(complete('weft', 'vol'), ['volume'])
        self.assertEqual(complete('weft', 'volume', 'det'), ['detach'])
        self.assertEqual(complete('weft', 'volume', 'attach', '--vh'),
                         ['--vhost-user'])
        self.assertEqual(complete('weft', 'host', 'list', '-o', 'j'),
                         ['json'])


class Calls(unittest.TestCase):
    """What goes over the wire."""

    def setUp(self):
        self.fake = fake_server.FakeWeft()
        self.stopped = False

    def tearDown(self):
        if not self.stopped:
            self.fake.stop()

    def requests(self):
        """The requests so far, each (method, message without request_id)."""
        self.stopped = True
        found = []
        for line in self.fake.stop():
            method, _, text = line.partition(' ')
            if method == 'cancelled':
                continue
            message = json.loads(text)
            if message.get('requestId'):
                self.assertRegex(message['requestId'], r'^[0-9a-f-]{36}$')
                del message['requestId']
            found.append((method, message))
        return found

    def weft(self, *arguments, code=0):
        done = run(self.fake, *arguments)
        self.assertEqual(done.returncode, code,
                         (arguments, done.stdout, done.stderr))
        return done.stdout if code == 0 else done.stderr

    def test_create_and_attach(self):
        weft = self.weft
        self.assertEqual(weft('pool', 'create', 'p', '--replicas', '3',
                              '--min-in-sync', '2', '--failure-domain',
                              'host'), '')
        self.assertEqual(weft('disk', 'add', '/dev/x', '--host', 'h1',
                              '--pool', 'p'), 'hosts/h1/disks/d1\n')
        self.assertEqual(weft('volume', 'create', 'v', '--size', '20G',
                              '--pool', 'p'), '')
        self.assertEqual(weft('volume', 'attach', 'v', '--host', 'h1',
                              '--nbd'), 'nbd://192.0.2.1:10809/volume\n')
        self.assertEqual(weft('volume', 'detach', 'v', '--force'), '')
        self.assertEqual(weft('volume', 'attach', 'v', '--host', 'hosts/h1',
                              '--vhost-user'), '/run/weft/v.sock\n')
        self.assertEqual(weft('volume', 'delete', '-p', 'other', 'v'), '')
        calls = self.requests()
        self.assertEqual([method for method, _ in calls],
                         ['CreatePool', 'CreateDisk', 'CreateVolume',
                          'AttachVolume', 'GetVolume', 'DetachVolume',
                          'AttachVolume', 'GetVolume', 'DeleteVolume'])
        pool = calls[0][1]['pool']
        self.assertEqual(calls[0][1]['poolId'], 'p')
        self.assertEqual((pool['replicas'], pool['minInSync'],
                          pool['failureDomain']),
                         (3, 2, 'FAILURE_DOMAIN_HOST'))
        self.assertEqual(calls[1][1]['parent'], 'hosts/h1')
        self.assertEqual(calls[1][1]['disk']['path'], '/dev/x')
        self.assertEqual(calls[1][1]['disk']['pool'], 'pools/p')
        self.assertEqual(calls[2][1]['parent'], 'projects/default')
        self.assertEqual(calls[2][1]['volume']['sizeBytes'], str(20 << 30))
        self.assertEqual(calls[3][1]['exportKind'], 'NBD')
        self.assertEqual(calls[3][1]['host'], 'hosts/h1')
        self.assertTrue(calls[5][1]['force'])
        self.assertEqual(calls[6][1]['exportKind'], 'VHOST_USER')
        self.assertEqual(calls[8][1]['name'], 'projects/other/volumes/v')

    def test_output(self):
        weft = self.weft
        lines = weft('volume', 'list').splitlines()
        self.assertEqual([line.split()[0] for line in lines],
                         ['NAME', 'a', 'b', 'c'])
        volumes = json.loads(weft('volume', 'list', '-o', 'json'))
        self.assertEqual([volume['name'][-1] for volume
                          in volumes['volumes']], ['a', 'b', 'c'])
        self.assertEqual(json.loads(weft('pool', 'list', '-ojson')),
                         {'pools': []})
        self.assertRegex(weft('pool', 'list'), '^NAME ')
        self.assertRegex(weft('host', 'list'), 'h1 +up')
        # A name with a control character cannot disturb the terminal.
        self.assertRegex(weft('disk', 'list'), r'd1 +h1 +/dev/x\? .* 1\.5G')
        volume = json.loads(weft('volume', 'show', 'v', '-o', 'json'))
        self.assertEqual(volume['sizeBytes'], str(20 << 30))
        self.assertEqual(volume['createTime'], '2023-11-14T22:13:20.005Z')
        self.assertEqual(volume['state'], 'AVAILABLE')
        self.assertEqual(volume['mirrors'], [])
        self.assertNotIn('heldTime', volume)
        self.assertRegex(weft('volume', 'show', 'v'), 'size: +20G')
        self.assertRegex(weft('status'), '(?s)health: +critical.*held '
                                         'volumes: 1.*min_in_sync')
        self.assertRegex(weft('event', 'list'), 'REPLICA_STALE')
        self.assertRegex(weft('operation', 'list'), '^NAME')

    def test_errors(self):
        weft = self.weft
        self.assertRegex(weft('volume', 'show', 'missing', code=1),
                         'cannot show volume "missing": .*does not exist')
        self.assertRegex(weft('pool', 'create', 'taken', code=1),
                         'cannot create pool "taken": .*choose another name')
        text = weft('volume', 'create', 'invalid', '--size', '1G', '--pool',
                    'p', code=1)
        self.assertRegex(text, 'volume.size_bytes: is too big')
        self.assertRegex(text, 'volume.pool: does not exist')
        self.assertRegex(weft('volume', 'create', 'broken', '--size', '1G',
                              '--pool', 'p', code=1),
                         'cannot create volume "broken": two disks')
        self.assertRegex(weft('volume', 'show', 'hang', '--timeout', '50ms',
                              code=1), 'did not answer in time')
        self.assertRegex(weft('disk', 'remove', 'd', '--host', 'h', code=1),
                         'there is no method')

    def test_waiting(self):
        """A slow operation is waited for, and what it waits for is said."""
        done = run(self.fake, 'volume', 'create', 'slow', '--size', '1G',
                   '--pool', 'p')
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stderr, 'waiting: still at it')
        self.assertEqual([method for method, _ in self.requests()],
                         ['CreateVolume', 'WaitOperation', 'WaitOperation'])

    def start(self, *arguments):
        environment = dict(os.environ, WEFT_ENDPOINT=self.fake.endpoint)
        return subprocess.Popen([WEFT, *arguments], env=environment,
                                stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def test_interrupt(self):
        child = self.start('volume', 'show', 'hang')
        self.fake.process.stdout.readline()
        child.send_signal(signal.SIGINT)
        _, text = child.communicate(timeout=30)
        self.assertEqual(child.returncode, 1)
        self.assertRegex(text, 'interrupted')
        self.assertEqual(self.fake.process.stdout.readline(),
                         'cancelled GetVolume\n')

    def test_event_watch(self):
        child = self.start('event', 'list', '--watch', '-ojson')
        event = json.loads(child.stdout.readline())
        self.assertEqual(event['reason'], 'REPLICA_STALE')
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=30)
        self.assertEqual(child.returncode, 0)

    def test_stdout_full(self):
        with open('/dev/full', 'w', encoding='utf-8') as full:
            environment = dict(os.environ, WEFT_ENDPOINT=self.fake.endpoint)
            done = subprocess.run([WEFT, 'host', 'list'], env=environment,
                                  stdout=full, stderr=subprocess.PIPE,
                                  text=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, 'cannot write to stdout')


@unittest.skipUnless(shutil.which('nbdkit') and shutil.which('qemu-img'),
                     'needs nbdkit and qemu-img')
class Transfer(unittest.TestCase):
    """Import and export through an NBD server."""

    SIZE = 8 << 20

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix='weft-cli-')
        self.disk = self.path('disk')
        with open(self.disk, 'wb') as file:
            file.truncate(self.SIZE)
        socket = self.path('nbd')
        self.nbdkit = subprocess.Popen(
            ['nbdkit', '-f', '-U', socket, 'file', self.disk])
        while not os.path.exists(socket):
            self.assertIsNone(self.nbdkit.poll())
            time.sleep(0.01)
        self.fake = fake_server.FakeWeft('--nbd',
                                         f'nbd+unix:///?socket={socket}')

    def tearDown(self):
        self.nbdkit.terminate()
        self.nbdkit.wait()
        shutil.rmtree(self.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def read(self, name):
        with open(self.path(name), 'rb') as file:
            return file.read()

    def weft(self, *arguments, code=0):
        done = run(self.fake, *arguments)
        self.assertEqual(done.returncode, code,
                         (arguments, done.stdout, done.stderr))
        return done.stderr

    def methods(self):
        return [line.split()[0] for line in self.fake.stop()]

    def test_both_ways(self):
        image = os.urandom(3 << 20) + bytes(2 << 20) + os.urandom(100)
        with open(self.path('image'), 'wb') as file:
            file.write(image)
        self.weft('volume', 'import', self.path('image'), 'v', '--pool', 'p')
        self.assertEqual(self.read('disk')[:len(image)], image)
        self.weft('volume', 'export', 'v', self.path('out'))
        self.assertEqual(self.read('out'), self.read('disk'))

        # By way of qcow2, onto a disk that is empty again.
        self.weft('volume', 'export', 'v', self.path('out.qcow2'))
        info = json.loads(subprocess.run(
            ['qemu-img', 'info', '--output=json', self.path('out.qcow2')],
            capture_output=True, check=True).stdout)
        self.assertEqual(info['format'], 'qcow2')
        self.assertEqual(info['virtual-size'], self.SIZE)
        with open(self.disk, 'r+b') as file:
            file.truncate(0)
            file.truncate(self.SIZE)
        self.weft('volume', 'import', self.path('out.qcow2'), 'w', '--pool',
                  'p', '--host', 'h2')
        self.assertEqual(self.read('disk'), self.read('out'))

        # What exists is not replaced unasked.
        self.assertIn('exists', self.weft('volume', 'export', 'v',
                                          self.path('out'), code=1))
        self.weft('volume', 'export', 'v', self.path('out'), '--force')
        self.assertEqual(
            sorted(os.listdir(self.folder)),
            ['disk', 'image', 'nbd', 'out', 'out.qcow2'])
        calls = self.methods()
        self.assertEqual(calls.count('AttachVolume'), 5)
        self.assertEqual(calls.count('DetachVolume'), 5)
        self.assertEqual(calls[:5], ['GetStatus', 'CreateVolume',
                                     'AttachVolume', 'GetVolume',
                                     'DetachVolume'])

    def test_bad_files(self):
        self.assertIn('cannot read', self.weft(
            'volume', 'import', self.path('nothing'), 'v', '--pool', 'p',
            code=1))
        self.assertIn('neither a file', self.weft(
            'volume', 'import', self.folder, 'v', '--pool', 'p', code=1))
        with open(self.path('empty'), 'wb'):
            pass
        self.assertIn('is empty', self.weft(
            'volume', 'import', self.path('empty'), 'v', '--pool', 'p',
            code=1))
        # Only its head is a qcow2: the volume that was made is deleted.
        with open(self.path('bad'), 'wb') as file:
            file.write(b'QFI\xfb' + bytes(20) + (1 << 20).to_bytes(8, 'big')
                       + bytes(4000))
        self.assertIn('is deleted again', self.weft(
            'volume', 'import', self.path('bad'), 'v', '--pool', 'p', code=1))
        self.assertIn('cannot', self.weft(
            'volume', 'import', self.path('bad'), 'taken', '--pool', 'p',
            code=1))
        self.assertEqual(self.methods(),
                         ['GetStatus', 'CreateVolume', 'AttachVolume',
                          'GetVolume', 'DetachVolume', 'DeleteVolume',
                          'GetStatus', 'CreateVolume'])

    def test_export_in_use(self):
        self.weft('volume', 'attach', 'v', '--host', 'h1', '--nbd')
        self.assertIn('in use on host "h1"', self.weft(
            'volume', 'export', 'v', self.path('out'), code=1))
        self.assertNotIn('DetachVolume', self.methods())

    def test_interrupt(self):
        """An interrupted import leaves neither attachment nor volume."""
        self.nbdkit.terminate()
        self.nbdkit.wait()
        os.unlink(self.path('nbd'))
        self.nbdkit = subprocess.Popen(
            ['nbdkit', '-f', '-U', self.path('nbd'), '--filter=rate', 'file',
             self.disk, 'rate=100K'])
        while not os.path.exists(self.path('nbd')):
            time.sleep(0.01)
        with open(self.path('image'), 'wb') as file:
            file.write(os.urandom(4 << 20))
        environment = dict(os.environ, WEFT_ENDPOINT=self.fake.endpoint)
        child = subprocess.Popen(
            [WEFT, 'volume', 'import', self.path('image'), 'v', '--pool',
             'p'], env=environment, stderr=subprocess.PIPE, text=True)
        methods = []
        while 'GetVolume' not in methods:
            methods.append(self.fake.process.stdout.readline().split()[0])
        # qemu-img is what comes next.
        children = f'/proc/{child.pid}/task/{child.pid}/children'
        while True:
            with open(children, encoding='ascii') as file:
                if file.read():
                    break
        child.send_signal(signal.SIGINT)
        _, text = child.communicate(timeout=60)
        self.assertEqual(child.returncode, 1)
        self.assertRegex(text, 'interrupted')
        self.assertEqual(self.methods(), ['DetachVolume', 'DeleteVolume'])


if __name__ == '__main__':
    unittest.main()
