# SPDX-License-Identifier: Apache-2.0
"""A test bed (deploy/testbed) for one file of tests, and what they need of it.

    TESTBED = weft_testbed.Testbed(hosts=3)
    setUpModule, tearDownModule = TESTBED.up, TESTBED.down
    ...
    if __name__ == '__main__':
        weft_testbed.main()

Each has a directory of its own, which is gone at the end, as are its
processes, namespaces and mounts: also after a failure, Ctrl-C or SIGTERM.  What
a killed test left behind is removed by the next.

WEFT_BUILD_DIR says where blockd and weft are."""

import atexit
import contextlib
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
SCRIPT = TOP / 'deploy/testbed'
LOAD = TOP / 'tests/support/nbd_load.py'
PYTHON = '/usr/bin/python3'
PREFIX = 'weft-e2e-'
CLONE_NEWNET = 0x40000000
# A sanitizer's build is slower: deadlines are, times are not compared.
SCALE = float(os.environ.get('WEFT_TIME_SCALE', '1'))

# What no daemon may ever print.
TROUBLE = re.compile(r'AddressSanitizer|LeakSanitizer|runtime error:|'
                     r'check failed|Assertion|stack smashing|double free')


def build_dir():
    """Where blockd and weft were built."""
    if 'WEFT_BUILD_DIR' not in os.environ:
        sys.exit('WEFT_BUILD_DIR: the build directory is not set')
    return pathlib.Path(os.environ['WEFT_BUILD_DIR'])


def wait_for(what, condition, seconds=30, step=0.1):
    """Waits for a condition with a deadline; returns what it returned.  What
    the condition returned last is part of the complaint."""
    end = time.monotonic() + seconds * SCALE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f'waited {seconds} s in vain for {what}')
        time.sleep(step)


LIBC = ctypes.CDLL(None, use_errno=True)


def _die_with_parent():
    """In a child: ends it when the test ends, however that may be."""
    LIBC.prctl(1, signal.SIGKILL)


def _interrupt(_number, _frame):
    """As Ctrl-C, the one thing that unittest takes for no failed test."""
    raise KeyboardInterrupt


class Process:
    """A child inside a host, with its output in a file."""

    def __init__(self, testbed, host, command, **options):
        self.testbed = testbed
        self.name = ' '.join(map(str, command))[:100]
        # Not in the test bed's directory: it may outlive that.  To append,
        # since the child's offset is ours.
        self.out = tempfile.TemporaryFile(mode='a+b')
        self.err = tempfile.TemporaryFile(mode='a+b')
        # pylint: disable=consider-using-with,subprocess-popen-preexec-fn
        self.child = subprocess.Popen(
            testbed.inside(host, *command), stdout=self.out, stderr=self.err,
            env=testbed.environment(host), preexec_fn=_die_with_parent,
            text=True, **{'stdin': subprocess.DEVNULL, **options})
        testbed.children.append(self)

    def is_running(self):
        return self.child.poll() is None

    def output(self):
        self.out.seek(0)
        return self.out.read().decode(errors='replace')

    def errors(self):
        self.err.seek(0)
        return self.err.read().decode(errors='replace')

    def terminate(self):
        if self.is_running():
            self.child.terminate()

    def wait(self, seconds=60, check=True):
        """Waits for its end; its stdout."""
        try:
            code = self.child.wait(seconds * SCALE)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            raise AssertionError(
                f'"{self.name}" did not end within {seconds} s: '
                f'{self.output()}{self.errors()}') from None
        if check and code != 0:
            raise AssertionError(f'"{self.name}" ended with {code}: '
                                 f'{self.output()}{self.errors()}')
        return self.output()

    def close(self):
        if self.is_running():
            self.child.kill()
            self.child.wait()
        self.out.close()
        self.err.close()


class Load(Process):
    """nbd_load.py on a volume: a client with many requests in flight that
    verifies what it reads, and connects again when it is cut off."""

    def __init__(self, testbed, host, uri, *arguments):
        super().__init__(testbed, host,
                         [PYTHON, LOAD, '--uri', uri, *arguments],
                         stdin=subprocess.PIPE)

    def wait_running(self):
        """Until it has done some work."""
        wait_for('the load to begin', lambda: self.count() > 50)
        return self

    def last(self):
        """What it said last."""
        lines = self.output().split('\n')[:-1]
        if not self.is_running():
            raise AssertionError(f'the load ended: {self.output()[-2000:]}'
                                 f'{self.errors()}')
        return json.loads(lines[-1]) if lines else {'done': 0, 'no_space': 0}

    def count(self):
        """Requests done so far."""
        return self.last()['done']

    def wait_progress(self, seconds=30):
        """Until it has done more than it had when this was called."""
        start = self.count()
        wait_for('the load to go on', lambda: self.count() > start + 50,
                 seconds)

    def finish(self, seconds=60):
        """Ends it, which verifies all it ever wrote; its report."""
        self.child.stdin.close()
        out = self.wait(seconds, check=False)
        try:
            report = json.loads(out.strip().split('\n')[-1])
        except ValueError:
            report = {}
        if self.child.returncode != 0 or 'mismatches' not in report:
            raise AssertionError(
                f'load: exit code {self.child.returncode}: {out[-3000:]}'
                f'{self.errors()[-3000:]}')
        return report


class Testbed:
    """One test bed.  Hosts are 'h1', 'h2', ..."""

    def __init__(self, hosts=3, disk_size='1G', medium='file', bare=False,
                 log_level='info', block=True, net=False):
        self.has_block, self.has_net = block, net
        self.options = ['--hosts', str(hosts), '--disk-size', disk_size,
                        '--medium', medium, '--log-level', log_level,
                        '--bin', str(build_dir())]
        if bare:
            self.options.append('--bare')
        if not block:
            self.options.append('--no-block')
        if not net:
            self.options.append('--no-net')
        self.hosts = [f'h{index + 1}' for index in range(hosts)]
        self.dir = None
        self.tag = None
        self.children = []
        self.killed = set()      # (host, daemon) that are not to run.
        self.own_netns = None

    # ---- Up and down ----

    def up(self):
        """Brings it up; whatever happens then, atexit takes it down."""
        if os.geteuid() != 0:
            print('1..0 # SKIP network namespaces need root')
            sys.exit(77)
        remove_leftovers()
        for signum in signal.SIGTERM, signal.SIGHUP:
            signal.signal(signum, _interrupt)
        atexit.register(self.down)
        self.dir = pathlib.Path(tempfile.mkdtemp(
            prefix=f'{PREFIX}{os.getpid()}-', dir='/tmp'))
        (self.dir / 'files').mkdir()
        self.script('up', *self.options)
        self.tag = self.state()['tag']

    def down(self):
        """Ends and removes it; complains about what daemons should not have
        said or done."""
        if self.dir is None:
            return
        self.leave()
        for child in self.children:
            child.close()
        self.children = []
        complaints = []
        try:
            if (self.dir / 'testbed.json').exists():
                complaints = self.complaints()
                self.script('down')
        finally:
            shutil.rmtree(self.dir, ignore_errors=True)
            self.dir = None
        if complaints:
            raise AssertionError('\n'.join(complaints))

    def complaints(self):
        """Daemons that died by themselves, and alarming log lines."""
        found = []
        for host, daemons in self.state()['pids'].items():
            for daemon in daemons:
                if (host, daemon) not in self.killed and \
                        not self.is_running(host, daemon):
                    found.append(f'{daemon} of {host} is dead; last said: '
                                 f'{self.log(host, daemon)[-1500:]}')
            for daemon in 'blockd', 'netd', 'ovs':
                for line in self.log(host, daemon).split('\n'):
                    if TROUBLE.search(line):
                        found.append(f'{daemon} of {host} says: {line}')
        return found

    def script(self, *arguments):
        """Runs deploy/testbed."""
        done = subprocess.run(
            [PYTHON, SCRIPT, '--dir', self.dir, *arguments],
            capture_output=True, text=True, check=False,
            stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise AssertionError(f'deploy/testbed {" ".join(arguments)}: '
                                 f'{done.stdout}{done.stderr}\n'
                                 f'{self.logs()}')
        return done.stdout

    def state(self):
        return json.loads((self.dir / 'testbed.json').read_text())

    # ---- Inside hosts ----

    def netns(self, host):
        return f'{self.tag}-{host}'

    def inside(self, host, *command):
        """The command that runs a command in a host; None: right here."""
        command = [str(word) for word in command]
        if host is None:
            return command
        return ['ip', 'netns', 'exec', self.netns(host), *command]

    def environment(self, host):
        environment = dict(os.environ, TZ='UTC', LC_ALL='C.UTF-8')
        environment.pop('WEFT_ENDPOINT', None)
        environment.pop('WEFT_NET_ENDPOINT', None)
        environment['PATH'] = f'{build_dir()}/client:{environment["PATH"]}'
        if host is not None:
            environment['WEFT_ENDPOINT'] = self.endpoint(host)
            environment['WEFT_NET_ENDPOINT'] = self.net_endpoint(host)
        return environment

    def exec(self, host, *command, check=True, seconds=60, **options):
        """Runs a command in a host to its end."""
        done = subprocess.run(
            self.inside(host, *command), capture_output=True, check=False,
            env=self.environment(host), timeout=seconds * SCALE,
            **{'text': True, 'stdin': subprocess.DEVNULL, **options})
        if check and done.returncode != 0:
            raise AssertionError(f'{" ".join(map(str, command))} ended with '
                                 f'{done.returncode}: {done.stdout}'
                                 f'{done.stderr}')
        return done

    def start_process(self, host, *command, **options):
        return Process(self, host, command, **options)

    def load(self, host, uri, *arguments):
        """Starts a verifying load, and waits until it runs."""
        return Load(self, host, uri, *arguments).wait_running()

    def enter(self, host):
        """Puts this thread, and those that it starts, into a host."""
        if self.own_netns is None:
            self.own_netns = os.open('/proc/thread-self/ns/net', os.O_RDONLY)
        with open(f'/run/netns/{self.netns(host)}', 'rb') as file:
            _setns(file.fileno())

    def leave(self):
        if self.own_netns is not None:
            _setns(self.own_netns)
            os.close(self.own_netns)
            self.own_netns = None

    def connect(self, host, port, of_host=None, seconds=10):
        """A TCP connection from inside a host to one of its ports, or to that
        of another."""
        address = self.address(of_host or host), port
        result = []

        def work():
            with open(f'/run/netns/{self.netns(host)}', 'rb') as file:
                _setns(file.fileno())
            try:
                result.append(socket.create_connection(address, seconds))
            except OSError as error:
                result.append(error)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if isinstance(result[0], OSError):
            raise result[0]
        return result[0]

    # ---- Hosts and daemons ----

    @staticmethod
    def address(host):
        return f'10.77.0.{int(host[1:])}'

    def host_dir(self, host):
        return self.dir / host

    def file(self, name):
        """A path for a test's own use."""
        return self.dir / 'files' / name

    def disk_path(self, host):
        return pathlib.Path(self.state()['disks'][host])

    def endpoint(self, host):
        return f'unix:{self.host_dir(host)}/run/blockd.sock'

    def net_endpoint(self, host):
        return f'unix:{self.host_dir(host)}/run/netd.sock'

    def pid(self, host, daemon):
        return self.state()['pids'][host][daemon][0]

    def is_running(self, host, daemon):
        try:
            stat = pathlib.Path(
                f'/proc/{self.pid(host, daemon)}/stat').read_text()
        except OSError:
            return False
        return stat.rpartition(')')[2].split()[0] not in ('Z', 'X')

    def log(self, host, daemon='blockd'):
        try:
            return (self.host_dir(host) / f'{daemon}.log').read_text(
                errors='replace')
        except OSError:
            return ''

    def logs(self, size=2500):
        """The end of all daemons' logs, for complaints."""
        daemons = ['blockd'] * self.has_block + ['netd'] * self.has_net
        return '\n'.join(
            f'--- {daemon} of {host}:\n{self.log(host, daemon)[-size:]}'
            for host in self.hosts for daemon in daemons)

    def kill(self, host, daemon='blockd', signum='KILL'):
        self.script('kill', host, daemon, '--signal', signum)
        if signum in ('KILL', 'TERM'):
            self.killed.add((host, daemon))

    def start(self, host, daemon='blockd'):
        self.script('start', host, daemon)
        self.killed.discard((host, daemon))

    def link(self, host, state):
        self.script('link', host, state)

    def metric(self, host, name):
        """The first number of that name in blockd's metrics, or None."""
        text = self.exec(host, 'curl', '-s', '--max-time', '5',
                         f'http://{self.address(host)}:9701/metrics',
                         check=False).stdout
        for line in text.split('\n'):
            if line.startswith(name + '{'):
                return int(line.rpartition(' ')[2])
        return None

    # ---- weft ----

    def weft(self, *arguments, host='h1', check=True, seconds=60, **options):
        """Runs weft at a host's blockd; its standard output."""
        done = self.exec(host, 'weft', *arguments, check=check,
                         seconds=seconds, **options)
        return done.stdout if check else done

    def weft_json(self, *arguments, host='h1', **options):
        return json.loads(self.weft(*arguments, '-o', 'json', host=host,
                                    **options))

    def volume(self, name, host='h1'):
        """'weft volume show' as a dictionary; None if it cannot be had."""
        done = self.weft('volume', 'show', name, '-o', 'json', '--timeout',
                         '10s', host=host, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def wait_volume(self, name, what, condition, host='h1', seconds=30):
        """Waits until a volume is as it should be; returns it."""
        last = None

        def is_so():
            nonlocal last
            last = self.volume(name, host)
            return last is not None and condition(last) and last
        try:
            return wait_for(f'volume {name} {what}', is_so, seconds, 0.15)
        except AssertionError as error:
            raise AssertionError(
                f'{error}; it is {json.dumps(last, indent=1)}\n'
                f'{self.logs()}') from None

    def wait_healthy(self, name, host='h1', seconds=30):
        """Waits until all replicas are in sync again, by themselves."""
        return self.wait_volume(name, 'to be healthy', is_healthy, host,
                                seconds)

    def wait_hosts(self, names, state, host='h1', seconds=30):
        """Waits until hosts have a state, as one sees it."""
        def is_so():
            done = self.weft('host', 'list', '-o', 'json', host=host,
                             check=False)
            if done.returncode != 0:
                return False
            states = {item['name'].rpartition('/')[2]: item['state']
                      for item in json.loads(done.stdout)['hosts']}
            return all(states.get(name) == state for name in names)
        wait_for(f'{", ".join(names)} to be {state}', is_so, seconds)

    def events(self, host='h1'):
        return self.weft_json('event', 'list', host=host)['events']

    def create(self, name, size, pool='default', host='h1'):
        self.weft('volume', 'create', name, '--size', size, '--pool', pool,
                  host=host)

    def attach(self, name, host='h1', kind='--nbd', at=None):
        """Attaches a volume; its URI or socket path."""
        return self.weft('volume', 'attach', name, '--host', host, kind,
                         host=at or host).strip()

    @contextlib.contextmanager
    def attached(self, name, size, pool='default', host='h1', kind='--nbd'):
        """A volume for the time of a 'with'; its URI."""
        self.create(name, size, pool, host)
        try:
            yield self.attach(name, host, kind)
        finally:
            self.drop(name, host)

    def drop(self, name, host='h1'):
        """Detaches and deletes, as far as it is there."""
        self.weft('volume', 'detach', name, host=host, check=False)
        self.weft('volume', 'delete', name, host=host, check=False)


def is_healthy(volume):
    """Whether all replicas of an attached volume are in sync."""
    return volume['health'] == 'HEALTHY' and all(
        replica['state'] == 'IN_SYNC'
        for mirror in volume['mirrors'] for replica in mirror['replicas'])


def replica_of(volume, host):
    """The replicas of a volume on one host."""
    return [replica for mirror in volume['mirrors']
            for replica in mirror['replicas']
            if replica['host'] == f'hosts/{host}']


def _setns(fd):
    if LIBC.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), 'setns')


def remove_leftovers():
    """Takes down test beds whose tests were killed."""
    for path in pathlib.Path('/tmp').glob(PREFIX + '*'):
        pid = path.name[len(PREFIX):].partition('-')[0]
        if pid.isdigit() and not pathlib.Path(f'/proc/{pid}').exists():
            subprocess.run([PYTHON, SCRIPT, '--dir', path, 'down'],
                           check=False, capture_output=True)
            shutil.rmtree(path, ignore_errors=True)


class Result(unittest.TextTestResult):
    """Says how long each test took, and counts."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.passed = 0
        self.begun = 0

    def startTest(self, test):
        self.begun = time.monotonic()
        super().startTest(test)

    def addSuccess(self, test):
        self.passed += 1
        super().addSuccess(test)
        self.stream.write(f'  {time.monotonic() - self.begun:.1f} s\n')

    def getDescription(self, test):
        return test.id().partition('.')[2]


def main():
    """Runs the tests of the file: 'N passed, N failed' is the last line."""
    program = unittest.main(
        exit=False, verbosity=2,
        testRunner=unittest.TextTestRunner(stream=sys.stdout, verbosity=2,
                                           resultclass=Result))
    result = program.result
    failed = len(result.failures) + len(result.errors)
    print(f'{result.passed} passed, {failed} failed', flush=True)
    sys.exit(0 if failed == 0 and result.passed > 0 else 1)
