# SPDX-License-Identifier: Apache-2.0
"""A guest with a vhost-user-blk disk: QEMU (TCG), a Debian kernel, fio.

    with Guest('/run/weft/vhost/x.sock', ['fio --name=x ...']) as guest:
        print(guest.result(0, timeout=120).output)

The commands run one after the other in the guest's shell, as root, with the
disk as /dev/vda; then the guest powers off.  Meanwhile the caller may kill and
restart the back end: QEMU reconnects once a second.

From the command line:

    python3 tests/support/guest.py --socket PATH 'command' ['command' ...]

prints what they print; exit status 1 if one of them failed.

What the guest boots is made by deploy/guest/build, once, and kept in $WEFT_CACHE.
"""

import argparse
import collections
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))

Result = collections.namedtuple('Result', 'status output')


class GuestError(Exception):
    """The guest did not do what it was to do; says what it printed last."""


def build():
    """Makes the kernel and its files if need be; their folder."""
    done = subprocess.run([os.path.join(TOP, 'deploy', 'guest', 'build')], check=True,
                          stdout=subprocess.PIPE, text=True)
    return done.stdout.strip().split('\n')[-1]


def cpio_entry(number, name, mode, data):
    """One file in the 'newc' format, which the kernel unpacks."""
    raw = name.encode() + b'\0'
    fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw), 0]
    head = b'070701' + b''.join(b'%08X' % field for field in fields)
    head += raw
    head += b'\0' * (-len(head) % 4)
    return head + data + b'\0' * (-len(data) % 4)


def cpio_commands(commands):
    """An archive with run.d/0, run.d/1, ..."""
    parts = [cpio_entry(1, 'run.d', 0o040755, b'')]
    for i, command in enumerate(commands):
        parts.append(cpio_entry(i + 2, f'run.d/{i:03}', 0o100755,
                                command.encode() + b'\n'))
    parts.append(cpio_entry(0, 'TRAILER!!!', 0, b''))
    return b''.join(parts)


class Guest:
    """One boot.  'sockets': a path, or several: /dev/vda, /dev/vdb, ..."""

    def __init__(self, sockets, commands, *, queues=1, memory='256M', cpus=1,
                 device='', echo=None):
        self.sockets = [sockets] if isinstance(sockets, str) else list(sockets)
        self.commands = list(commands)
        self.queues = queues
        self.memory = memory
        self.cpus = cpus
        self.device = device    # More properties, such as "queue-size=256".
        self.echo = echo        # A stream to copy the console to.
        self.console = []       # All lines.
        self.results = {}
        self.current = None
        self.is_done = False
        self.changed = threading.Condition()
        self.process = None
        self.folder = None
        self.reader = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self.stop()

    def arguments(self, boot):
        args = ['qemu-system-x86_64', '-accel', 'tcg', '-nodefaults',
                '-no-user-config', '-display', 'none', '-no-reboot',
                '-smp', str(self.cpus), '-m', self.memory,
                '-object', f'memory-backend-memfd,id=mem,size={self.memory},'
                           'share=on',
                '-machine', 'pc,memory-backend=mem',
                '-kernel', os.path.join(boot, 'vmlinux'),
                '-initrd', os.path.join(self.folder, 'initrd'),
                '-append', 'console=ttyS0 quiet panic=-1 no_timer_check '
                           'rdinit=/init',
                '-serial', 'stdio']
        for i, path in enumerate(self.sockets):
            more = f',{self.device}' if self.device else ''
            args += ['-chardev', f'socket,id=c{i},path={path},reconnect=1',
                     '-device', f'vhost-user-blk-pci,chardev=c{i},'
                                f'num-queues={self.queues},addr={4 + i}{more}']
        args += ['-drive', 'if=none,id=tools,format=raw,readonly=on,file='
                           + os.path.join(boot, 'tools.ext4'),
                 '-device', 'virtio-blk-pci,drive=tools,serial=tools,addr=1d']
        return args

    def start(self):
        boot = build()
        self.folder = tempfile.mkdtemp(prefix='weft-guest-')
        with open(os.path.join(self.folder, 'initrd'), 'wb') as out:
            with open(os.path.join(boot, 'base.cpio'), 'rb') as base:
                shutil.copyfileobj(base, out)
            out.write(b'\0' * (-out.tell() % 512))
            out.write(cpio_commands(self.commands))
        # QEMU's own messages (it complains when a back end dies) apart.
        with open(os.path.join(self.folder, 'qemu.log'), 'wb') as log:
            self.process = subprocess.Popen(
                self.arguments(boot), stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=log)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for raw in self.process.stdout:
            line = raw.decode(errors='replace').rstrip('\r\n')
            if self.echo is not None:
                print(line, file=self.echo, flush=True)
            with self.changed:
                self.take_line(line)
                self.changed.notify_all()
        with self.changed:
            self.is_done = True
            self.changed.notify_all()

    def take_line(self, line):
        self.console.append(line)
        marker = re.match(r'@@ (begin|end) (\d+)(?: (\d+))?$', line)
        if marker and marker.group(1) == 'begin':
            self.current = []
        elif marker:
            output = '\n'.join(self.current or [])
            self.results[int(marker.group(2))] = Result(int(marker.group(3)),
                                                        output)
            self.current = None
        elif self.current is not None:
            self.current.append(line)

    def qemu_log(self):
        """What QEMU has said on stderr."""
        with open(os.path.join(self.folder, 'qemu.log'),
                  encoding='utf-8', errors='replace') as log:
            return log.read()

    def fail(self, what):
        raise GuestError(what + '; the console ends with:\n'
                         + '\n'.join(self.console[-30:])
                         + '\nand QEMU said:\n' + self.qemu_log()[-2000:])

    def wait(self, condition, timeout, what):
        with self.changed:
            end = time.monotonic() + timeout
            while not condition():
                left = end - time.monotonic()
                if self.is_done:
                    self.fail(f'the guest has ended without {what}')
                if left <= 0:
                    self.fail(f'no {what} within {timeout} s')
                self.changed.wait(left)

    def wait_for(self, text, timeout):
        """Until a line of the console contains 'text'."""
        self.wait(lambda: any(text in line for line in self.console), timeout,
                  f'"{text}"')

    def say(self, line):
        """A line for whoever reads /dev/ttyS0 in the guest."""
        self.process.stdin.write(line.encode() + b'\n')
        self.process.stdin.flush()

    def result(self, index, timeout):
        """Of command 'index', once it has ended."""
        self.wait(lambda: index in self.results, timeout,
                  f'end of command {index}')
        return self.results[index]

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.reader.join(10)
            self.process.stdout.close()
            self.process.stdin.close()
            self.process = None
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None


def run(sockets, commands, timeout=300, **options):
    """Boots, runs the commands, and returns their results."""
    with Guest(sockets, commands, **options) as guest:
        return [guest.result(i, timeout) for i in range(len(commands))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--socket', action='append', required=True)
    parser.add_argument('--queues', type=int, default=1)
    parser.add_argument('--cpus', type=int, default=1)
    parser.add_argument('--memory', default='256M')
    parser.add_argument('--timeout', type=float, default=300)
    parser.add_argument('--console', action='store_true',
                        help='copy the console to stderr')
    parser.add_argument('commands', nargs='+')
    arguments = parser.parse_args()
    status = 0
    try:
        results = run(arguments.socket, arguments.commands,
                      timeout=arguments.timeout, queues=arguments.queues,
                      cpus=arguments.cpus, memory=arguments.memory,
                      echo=sys.stderr if arguments.console else None)
    except GuestError as error:
        print(f'guest: {error}', file=sys.stderr)
        return 1
    for result in results:
        print(result.output)
        status = status or (1 if result.status else 0)
    return status


if __name__ == '__main__':
    sys.exit(main())
