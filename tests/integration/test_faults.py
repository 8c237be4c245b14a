#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What fails under load, and what a client sees of it: no error, no wrong
byte, and redundancy comes back by itself.

The load (tests/support/nbd_load.py) writes and verifies at random, connects
again when its server goes, and at the end reads all it ever wrote.  The
longest time that a request took is printed, not judged: the aim is a second."""

import contextlib
import json
import pathlib
import re
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent /
                       'support'))
# pylint: disable=wrong-import-position
import weft_testbed  # noqa: E402
from weft_testbed import replica_of, wait_for  # noqa: E402

# h4 has no disk and is dead.
TESTBED = weft_testbed.Testbed(hosts=4, bare=True)
HOSTS = TESTBED.hosts[:3]


def setUpModule():
    TESTBED.up()
    TESTBED.kill('h4')
    TESTBED.weft('pool', 'create', 'default', '--replicas', '3')
    TESTBED.weft('pool', 'create', 'two', '--replicas', '2', '--min-in-sync',
                 '1')
    TESTBED.weft('pool', 'create', 'one', '--replicas', '1')
    TESTBED.weft('pool', 'create', 'striped', '--replicas', '2',
                 '--stripe-width', '3')
    for host in HOSTS:
        TESTBED.weft('disk', 'add', TESTBED.disk_path(host), '--host', host)


def tearDownModule():
    TESTBED.down()


class Fault(unittest.TestCase):
    """A volume of its own for each test, with a load on it."""

    SIZE = '32M'

    def setUp(self):
        self.name = self.id().rpartition('.')[2].replace('_', '-')

    def tearDown(self):
        """Whatever a failed test left, the next finds a whole cluster."""
        for child in TESTBED.children:
            child.close()
        TESTBED.children.clear()
        for host in HOSTS:
            TESTBED.link(host, 'up')
            for daemon in 'db', 'blockd':
                if TESTBED.is_running(host, daemon):
                    TESTBED.kill(host, daemon, 'CONT')
                else:
                    TESTBED.start(host, daemon)
        for host in HOSTS:
            TESTBED.wait_hosts(HOSTS, 'UP', host)
        TESTBED.drop(self.name)

    @contextlib.contextmanager
    def load(self, pool='default', host='h1', reconnects=False):
        """Yields a running load, and then has it verify everything."""
        TESTBED.create(self.name, self.SIZE, pool)
        uri = TESTBED.attach(self.name, host)
        load = TESTBED.load(host, uri)
        yield load
        load.wait_progress()
        self.judge(load.finish(), reconnects)

    def judge(self, report, reconnects=False):
        self.assertEqual(report['error_count'], 0, report)
        self.assertEqual(report['mismatch_count'], 0, report)
        if not reconnects:
            self.assertEqual(report['reconnects'], 0, report)
        print(f'longest stall {report["longest_s"]:.2f} s, '
              f'{sum(report["operations"].values())} requests', end=' ',
              flush=True)

    def wait_stale(self, host, seen_by='h1'):
        """Until a replica is out, and 'weft volume show' says why."""
        volume = TESTBED.wait_volume(
            self.name, f'to go on without {host}', lambda volume:
            volume['health'] == 'DEGRADED' and all(
                replica['state'] == 'STALE'
                for replica in replica_of(volume, host)), seen_by)
        for replica in replica_of(volume, host):
            self.assertNotEqual(replica['stateReason'], '', volume)
        return volume

    def story(self, host='h1'):
        """The events of this volume, oldest first."""
        return [event for event in reversed(TESTBED.events(host))
                if re.search(rf'\b{re.escape(self.name)}$',
                             event['subject'])]

    def check_story(self, host='h1'):
        """A replica was lost, and is back: in words, in this order."""
        reasons = ' '.join(event['reason'] + ' ' + event['message']
                           for event in self.story(host)).lower()
        self.assertRegex(reasons, r'(?s)stale.*in.sync')


class Replica(Fault):
    """A replica's host fails, and comes back."""

    def test_kill(self):
        with self.load() as load:
            TESTBED.kill('h2')
            load.wait_progress()
            self.wait_stale('h2')
            load.wait_progress()
            TESTBED.start('h2')
            TESTBED.wait_healthy(self.name)
        self.check_story()

    def test_kill_often(self):
        """One after the other, each as soon as the last is back."""
        with self.load() as load:
            for host in 'h2', 'h3', 'h2', 'h3':
                TESTBED.kill(host)
                load.wait_progress()
                TESTBED.start(host)
                # It may be back before anyone looked: a moment is no story.
                TESTBED.wait_healthy(self.name)

    def test_kill_two_replicas(self):
        with self.load('two') as load:
            volume = TESTBED.volume(self.name)
            hosts = [replica['host'].rpartition('/')[2]
                     for replica in volume['mirrors'][0]['replicas']]
            victim = [host for host in hosts if host != 'h1'][0]
            TESTBED.kill(victim)
            self.wait_stale(victim)
            load.wait_progress()
            TESTBED.start(victim)
            TESTBED.wait_healthy(self.name)

    def test_kill_striped(self):
        with self.load('striped') as load:
            TESTBED.kill('h3')
            load.wait_progress()
            TESTBED.start('h3')
            TESTBED.wait_healthy(self.name)

    def test_freeze(self):
        """It does not answer, but its connections live."""
        with self.load() as load:
            TESTBED.kill('h2', signum='STOP')
            load.wait_progress()
            self.wait_stale('h2')
            TESTBED.kill('h2', signum='CONT')
            TESTBED.wait_healthy(self.name)

    def test_cut(self):
        """The network between it and all others."""
        with self.load() as load:
            TESTBED.link('h3', 'down')
            load.wait_progress()
            self.wait_stale('h3')
            TESTBED.link('h3', 'up')
            TESTBED.wait_healthy(self.name)

    def test_host_dies(self):
        """blockd and a database server at once."""
        with self.load() as load:
            TESTBED.kill('h3', 'db')
            TESTBED.kill('h3')
            load.wait_progress()
            self.wait_stale('h3')
            TESTBED.start('h3', 'db')
            TESTBED.start('h3')
            TESTBED.wait_healthy(self.name)

    def test_too_few(self):
        """Fewer than min_in_sync: I/O waits, says so, and goes on."""
        with self.load() as load:
            TESTBED.kill('h2')
            self.wait_stale('h2')
            TESTBED.kill('h3')
            volume = TESTBED.wait_volume(
                self.name, 'to be held',
                lambda volume: volume['health'] == 'HELD')
            self.assertNotEqual(volume['heldReason'], '')
            status = TESTBED.weft_json('status')
            self.assertIn(self.name, json.dumps(status['heldVolumes']))
            TESTBED.start('h3')
            load.wait_progress()
            TESTBED.start('h2')
            TESTBED.wait_healthy(self.name)
            self.assertEqual(TESTBED.volume(self.name)['heldReason'], '')

    def test_only_one(self):
        """The only replica, on another host: I/O waits for it."""
        TESTBED.create(self.name, self.SIZE, 'one')
        volume = TESTBED.volume(self.name)
        where = volume['mirrors'][0]['replicas'][0]['host'].rpartition('/')[2]
        owner = [host for host in TESTBED.hosts if host != where][0]
        uri = TESTBED.attach(self.name, owner, at='h1')
        load = TESTBED.load(owner, uri)
        TESTBED.kill(where)
        TESTBED.wait_volume(self.name, 'to be held',
                            lambda volume: volume['health'] == 'HELD', owner)
        TESTBED.start(where)
        load.wait_progress()
        self.judge(load.finish())

    def test_fio(self):
        """fio verifies across the loss and the return of a replica."""
        TESTBED.create(self.name, self.SIZE)
        uri = TESTBED.attach(self.name)
        fio = TESTBED.start_process(
            'h1', 'fio', '--name=verify', '--ioengine=nbd', f'--uri={uri}',
            '--rw=randwrite', '--bsrange=4k-32k', '--size=32M',
            '--iodepth=8', '--verify=crc32c', '--verify_fatal=1',
            '--rate_iops=700', '--verify_backlog=256',
            '--output-format=json',
            cwd=TESTBED.dir / 'files')
        TESTBED.kill('h2')
        self.wait_stale('h2')
        TESTBED.start('h2')
        TESTBED.wait_healthy(self.name)
        out = fio.wait(90)
        job = json.loads(out[out.index('{'):])['jobs'][0]
        self.assertEqual(job['error'], 0)


class Owner(Fault):
    """The host that runs the volume fails."""

    def test_kill(self):
        with self.load(reconnects=True) as load:
            epoch = int(TESTBED.volume(self.name)['epoch'])
            TESTBED.kill('h1')
            TESTBED.start('h1')
            load.wait_progress()
            volume = TESTBED.wait_healthy(self.name)
            self.assertEqual(volume['ownerHost'], 'hosts/h1')
            self.assertGreater(int(volume['epoch']), epoch)

    def test_kill_often(self):
        with self.load(reconnects=True) as load:
            for _ in range(3):
                TESTBED.kill('h1')
                TESTBED.start('h1')
                load.wait_progress()
            TESTBED.wait_healthy(self.name)

    def test_kill_striped(self):
        with self.load('striped', reconnects=True) as load:
            TESTBED.kill('h1')
            TESTBED.start('h1')
            load.wait_progress()
            TESTBED.wait_healthy(self.name)

    def test_kill_one_replica(self):
        with self.load('one', reconnects=True) as load:
            TESTBED.kill('h1')
            TESTBED.start('h1')
            load.wait_progress()

    def test_kill_while_degraded(self):
        """The owner goes while a replica is out; that one is not believed."""
        with self.load(reconnects=True) as load:
            TESTBED.kill('h2')
            self.wait_stale('h2')
            load.wait_progress()
            TESTBED.kill('h1')
            TESTBED.start('h1')
            load.wait_progress()
            TESTBED.start('h2')
            TESTBED.wait_healthy(self.name)

    def test_kill_all(self):
        """Every blockd at once."""
        with self.load(reconnects=True) as load:
            for host in HOSTS:
                TESTBED.kill(host)
            for host in reversed(HOSTS):
                TESTBED.start(host)
            load.wait_progress()
            TESTBED.wait_healthy(self.name)

    def test_freeze(self):
        """Nobody takes the volume away; the client waits."""
        with self.load() as load:
            TESTBED.kill('h1', signum='STOP')
            time.sleep(3)
            TESTBED.kill('h1', signum='CONT')
            load.wait_progress()
            TESTBED.wait_healthy(self.name)

    def test_stop(self):
        """SIGTERM: clean, and after a start the volume is there again."""
        with self.load(reconnects=True) as load:
            TESTBED.kill('h1', signum='TERM')
            self.assertIn('event=stopped', TESTBED.log('h1')[-500:])
            TESTBED.start('h1')
            load.wait_progress()
            TESTBED.wait_healthy(self.name)

    def test_qemu_reconnects(self):
        """qemu's own client, with its reconnect-delay."""
        TESTBED.create(self.name, self.SIZE)
        TESTBED.attach(self.name)
        options = ('driver=nbd,server.type=inet,server.host=10.77.0.1,'
                   f'server.port=10809,export=default/{self.name},'
                   'reconnect-delay=60')
        qemu = TESTBED.start_process('h1', 'stdbuf', '-oL', 'qemu-io',
                                     '--image-opts', options, stdin=-1)

        def order(command):
            """It takes one at a time: its own buffer would hide a second."""
            count = qemu.output().count('ops;')
            qemu.child.stdin.write(command + '\n')
            qemu.child.stdin.flush()
            return lambda: qemu.output().count('ops;') > count
        for command in 'write -P 0x51 0 8M', 'write -P 0x52 8M 8M':
            wait_for(command, order(command))
        TESTBED.kill('h1')
        is_done = order('write -P 0x53 4M 8M')
        TESTBED.start('h1')
        wait_for('the write after the return', is_done)
        for command in ('read -P 0x51 0 4M', 'read -P 0x53 4M 8M',
                        'read -P 0x52 12M 4M', 'read -P 0 16M 1M'):
            wait_for(command, order(command))
        qemu.child.stdin.write('quit\n')
        qemu.child.stdin.close()
        out = qemu.wait()
        self.assertNotRegex(out + qemu.errors(),
                            '(?i)error|verification failed')


class Database(Fault):
    """Running volumes do not wait for it."""

    def wait_database(self, host):
        wait_for(f'the database as {host} sees it', lambda: TESTBED.weft_json(
            'status', host=host)['database']['state'] == 'CONNECTED')

    def test_each(self):
        """Each server is killed and comes back."""
        with self.load() as load:
            for host in HOSTS:
                TESTBED.kill(host, 'db')
                load.wait_progress()
                # Changes go on with the two that are left.
                TESTBED.weft('volume', 'create', 'other', '--size', '1M',
                             '--pool', 'default', host='h2')
                TESTBED.weft('volume', 'delete', 'other', host='h3')
                TESTBED.start(host, 'db')
                for seen_by in HOSTS:
                    self.wait_database(seen_by)
            TESTBED.wait_healthy(self.name)

    def test_all(self):
        """All servers: volumes run on, changes wait or are refused clearly."""
        with self.load() as load:
            for host in HOSTS:
                TESTBED.kill(host, 'db')
            for _ in range(3):
                load.wait_progress()
            wait_for('the loss to be seen', lambda: TESTBED.weft_json(
                'status')['database']['state'] == 'UNAVAILABLE')
            self.assertEqual(TESTBED.weft_json('status')['health'],
                             'CRITICAL')
            done = TESTBED.weft('volume', 'create', 'other', '--size', '1M',
                                '--pool', 'default', '--timeout', '2s',
                                check=False)
            self.assertEqual(done.returncode, 1)
            self.assertNotEqual(done.stderr, '')
            load.wait_progress()
            for host in HOSTS:
                TESTBED.start(host, 'db')
            for host in HOSTS:
                self.wait_database(host)
            TESTBED.wait_healthy(self.name)
        TESTBED.drop('other')

    def test_all_and_replica(self):
        """A replica is lost with the database away: I/O is held until the
        loss can be recorded, and then goes on."""
        with self.load() as load:
            for host in HOSTS:
                TESTBED.kill(host, 'db')
            load.wait_progress()
            TESTBED.kill('h2')
            for host in HOSTS:
                TESTBED.start(host, 'db')
            load.wait_progress()
            TESTBED.start('h2')
            TESTBED.wait_healthy(self.name)

    def test_all_and_owner(self):
        """The owner's blockd restarts with the database away: it goes on from
        its own record (S22)."""
        with self.load(reconnects=True) as load:
            for host in HOSTS:
                TESTBED.kill(host, 'db')
            load.wait_progress()
            TESTBED.kill('h1')
            TESTBED.start('h1')
            load.wait_progress()
            for host in HOSTS:
                TESTBED.start(host, 'db')
            for host in HOSTS:
                self.wait_database(host)
            load.wait_progress()
            TESTBED.wait_healthy(self.name)


class Moved(Fault):
    """A host is dead, or thought to be, and its volume goes on elsewhere."""

    def begin(self):
        """A load at h1 that leaves its model behind."""
        TESTBED.create(self.name, self.SIZE)
        uri = TESTBED.attach(self.name)
        self.model = TESTBED.file(f'{self.name}.model')
        return TESTBED.load('h1', uri, '--model', self.model, '--abandon')

    def move(self, load, to):
        """Takes the volume away from h1; a load at its new place."""
        load.child.stdin.close()
        load.wait(check=False)
        self.judge(json.loads(load.output().strip().split('\n')[-1]), True)
        done = TESTBED.weft('volume', 'attach', self.name, '--host', to,
                            '--nbd', '--timeout', '5s', host=to, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn('h1', done.stderr)
        done = TESTBED.weft('volume', 'detach', self.name, '--timeout', '2s',
                            host=to, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertNotEqual(done.stderr, '')
        TESTBED.weft('volume', 'detach', self.name, '--force', host=to)
        uri = TESTBED.attach(self.name, to)
        # All that h1 acknowledged is there.
        verify = TESTBED.start_process(to, weft_testbed.PYTHON,
                                       weft_testbed.LOAD, '--uri', uri,
                                       '--model', self.model,
                                       '--verify-only')
        verify.wait()
        return TESTBED.load(to, uri, '--model', self.model)

    def test_dead(self):
        load = self.begin()
        TESTBED.kill('h1')
        load = self.move(load, 'h3')
        TESTBED.start('h1')
        TESTBED.wait_healthy(self.name, 'h3')
        load.wait_progress()
        volume = TESTBED.volume(self.name)
        self.assertEqual(volume['ownerHost'], 'hosts/h3')
        self.judge(load.finish())

    def test_cut_off(self):
        """h1 is alive behind a cut and thinks that it owns the volume; when
        it is back, it must not write, nor answer reads with what was."""
        load = self.begin()
        old_uri = TESTBED.volume(self.name)['attachments'][0]['uri']
        TESTBED.link('h1', 'down')
        load = self.move(load, 'h2')
        load.wait_progress()
        # What h1 still takes, it cannot acknowledge.
        late = TESTBED.start_process(
            'h1', 'qemu-io', '-f', 'raw', '-c', 'write -P 0xee 0 4k',
            '-c', 'flush', old_uri)
        load.wait_progress()
        self.assertNotIn('wrote', late.output())
        TESTBED.link('h1', 'up')
        TESTBED.wait_healthy(self.name, 'h2')
        load.wait_progress()
        self.assertEqual(TESTBED.volume(self.name, 'h1')['ownerHost'],
                         'hosts/h2')

        def is_gone():
            listed = TESTBED.exec('h1', 'nbdinfo', '--list', '--json',
                                  'nbd://10.77.0.1', check=False)
            return self.name not in listed.stdout
        wait_for('h1 to let go of the volume', is_gone)
        late.wait(check=False)
        self.assertNotIn('wrote', late.output())
        self.judge(load.finish())

    def test_handed_over(self):
        """Nothing fails: detached here, attached there, all of it there."""
        TESTBED.create(self.name, self.SIZE)
        model = TESTBED.file(f'{self.name}.model')
        for host in 'h1', 'h2', 'h3', 'h1':
            uri = TESTBED.attach(self.name, host, at='h1')
            load = TESTBED.load(host, uri, '--model', model)
            report = load.finish()
            self.assertEqual(report['mismatch_count'], 0)
            TESTBED.weft('volume', 'detach', self.name)


class Watched(unittest.TestCase):
    """The last one: what is known of h4, which has been dead all the time."""

    def test_host_down(self):
        TESTBED.wait_hosts(['h4'], 'DOWN', seconds=40)
        TESTBED.wait_hosts(HOSTS, 'UP')
        status = TESTBED.weft_json('status')
        self.assertEqual(status['health'], 'DEGRADED')
        self.assertRegex(TESTBED.weft('host', 'list'), r'(?m)^h4 +down')
        TESTBED.start('h4')
        TESTBED.wait_hosts(TESTBED.hosts, 'UP')
        wait_for('all to be well', lambda: TESTBED.weft_json(
            'status')['health'] == 'OK')


if __name__ == '__main__':
    weft_testbed.main()
