# SPDX-License-Identifier: Apache-2.0
"""Machines: Debian with systemd as its process 1, in namespaces of its own.

    with machine.Wire() as wire:
        host = machine.Machine(wire, base, 1)
        host.boot()
        host.must('systemctl', 'is-active', 'openvswitch-switch')
        host.crash()        # what is not synced would be kept, though
        host.boot()

All mount namespaces, capabilities, device and system call filters of units are
the kernel's own and work as on a real host; the kernel, its time and its block
devices (loop devices, here) are this machine's.  A machine's root is an overlay
over one unpacked base; it has its own cgroup, processes, mounts, host name and
network: eth0 with 10.0.0.N, for Weft's own traffic, and eth1 without an
address, for a switch.  Wire removes what there is of its machines."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

import clean_debian

CGROUPS = pathlib.Path('/sys/fs/cgroup')
MTU = 1600
BOOT_S = 120
BOOT = r'''
set -e
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" \
    "$2/root"
cd "$2/root"
hostname "$3"
echo "$3" >etc/hostname
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup sys/fs/cgroup
mount -t tmpfs -o mode=755 dev dev
for node in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
    IFS=: read -r name major minor <<<"$node"
    mknod -m 666 "dev/$name" c "$major" "$minor"
done
mkdir dev/net dev/pts dev/shm
mknod -m 600 dev/net/tun c 10 200
mount -t devpts -o newinstance,ptmxmode=666,gid=5,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs shm dev/shm
mount -t tmpfs -o mode=755 run run
mkdir -p old
pivot_root . old
umount -l /old
# As systemd does on real hosts: mounts of later reach the units.
mount --make-rshared /
exec env -i container=weft PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --log-target=null --show-status=0
'''


def run(*command, timeout=60):
    return clean_debian.run(*command, timeout=timeout)


def must(*command, timeout=60):
    return clean_debian.must(*command, timeout=timeout)


def wait_for(what, condition, seconds=60):
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f'waited {seconds} s in vain for {what}')
        time.sleep(0.05)


def unified():
    """Where cgroup v2 is: alone, or beside v1."""
    beside = CGROUPS / 'unified'
    return beside if beside.is_dir() else CGROUPS


def reason_against():
    """Why there can be no machines here; None if there can."""
    if os.geteuid() != 0:
        return 'namespaces need root'
    if not (unified() / 'cgroup.procs').exists():
        return 'there is no cgroup v2'
    if 'overlay' not in pathlib.Path('/proc/filesystems').read_text():
        return 'this kernel has no overlay file system'
    return None


class Wire:
    """The network between machines, and all that there is of them."""

    def __init__(self, name='weft-hosts'):
        self.name = f'{name}-{os.getpid()}'
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix=f'{name}-'))
        self.machines = []

    def __enter__(self):
        must('ip', 'netns', 'add', self.name)
        for bridge in 'br0', 'br1':
            self.ip('link', 'add', bridge, 'type', 'bridge')
            self.ip('link', 'set', bridge, 'up')
        return self

    def __exit__(self, *_):
        for one in self.machines:
            one.crash()
            one.remove()
        run('ip', 'netns', 'delete', self.name)
        shutil.rmtree(self.dir)

    def ip(self, *words):
        return must('ip', '-n', self.name, *words)

    def connect(self, one):
        """eth0 and eth1 of a machine that has just begun."""
        space = str(one.pid)
        for i in 0, 1:
            self.ip('link', 'add', f'{one.name}-{i}', 'mtu', MTU, 'type',
                    'veth', 'peer', 'name', f'eth{i}', 'mtu', MTU, 'netns',
                    space)
            self.ip('link', 'set', f'{one.name}-{i}', 'master', f'br{i}',
                    'up')
        inside = 'nsenter', '-t', space, '-n', 'ip'
        must(*inside, 'address', 'add', f'{one.address}/24', 'dev', 'eth0')
        for device in 'lo', 'eth0', 'eth1':
            must(*inside, 'link', 'set', device, 'up')


class Machine:

    def __init__(self, wire, base, number):
        """'base': a directory (clean_debian.unpack)."""
        self.wire, self.base, self.number = wire, base, number
        self.name, self.address = f'h{number}', f'10.0.0.{number}'
        self.dir = wire.dir / self.name
        self.cgroup = unified() / f'{wire.name}-{self.name}'
        self.process, self.pid = None, None
        self.loops = []
        for folder in 'upper', 'work', 'root':
            (self.dir / folder).mkdir(parents=True)
        wire.machines.append(self)

    def boot(self):
        self.cgroup.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            ['bash', '-c', 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"',
             'boot', self.cgroup, 'unshare', '--mount', '--pid', '--fork',
             '--kill-child=KILL', '--uts', '--ipc', '--cgroup', '--net',
             'bash', '-c', BOOT, 'boot', self.base, self.dir, self.name],
            stdin=subprocess.DEVNULL, start_new_session=True)
        self.pid = int(wait_for(
            f'{self.name} to begin', lambda: self.first_process(), BOOT_S))
        self.wire.connect(self)
        for loop in self.loops:
            self.add_node(loop)
        wait_for(f'{self.name} to be up', lambda: self.run(
            'systemctl', 'is-system-running').stdout.strip() in (
                'running', 'degraded'), BOOT_S)

    def first_process(self):
        """Its systemd, as soon as that is what runs."""
        with contextlib.suppress(OSError, IndexError):
            pid = pathlib.Path(
                f'/proc/{self.process.pid}/task/{self.process.pid}/children'
            ).read_text().split()[0]
            name = pathlib.Path(f'/proc/{pid}/comm').read_text().strip()
            return pid if name == 'systemd' else None
        return None

    def crash(self):
        """Without a word to anything that runs there."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        kill = self.cgroup / 'cgroup.kill'
        kill.write_text('1')
        wait_for(f'{self.name} to end', lambda: 'populated 0' in (
            self.cgroup / 'cgroup.events').read_text())
        for i in 0, 1:
            run('ip', '-n', self.wire.name, 'link', 'delete',
                f'{self.name}-{i}')
        self.process = self.pid = None

    def remove(self):
        for loop in self.loops:
            run('losetup', '-d', loop)
        folders = [path for path in self.cgroup.rglob('*') if path.is_dir()]
        for folder in sorted(folders, reverse=True) + [self.cgroup]:
            with contextlib.suppress(FileNotFoundError):
                folder.rmdir()

    def add_disk(self, size='2G'):
        """A block device of its own; its path there."""
        image = self.dir / f'disk{len(self.loops)}.img'
        must('truncate', '-s', size, image)
        loop = must('losetup', '--find', '--show', image).strip()
        self.loops.append(loop)
        self.add_node(loop)
        return loop

    def add_node(self, loop):
        status = os.stat(loop)
        self.must('mknod', '-m', '660', loop, 'b', os.major(status.st_rdev),
                  os.minor(status.st_rdev))
        self.must('chgrp', 'disk', loop)

    def command(self, *words):
        return ['nsenter', '-t', self.pid, '-m', '-p', '-n', '-u', '-i', '-C',
                '-r', '-w', *clean_debian.ENVIRONMENT, *words]

    def run(self, *words, timeout=120):
        return run(*self.command(*words), timeout=timeout)

    def must(self, *words, timeout=120):
        return must(*self.command(*words), timeout=timeout)

    def shell(self, script, timeout=120):
        """Lines of an administrator; stops at the first that fails."""
        return self.must('bash', '-ec', script, timeout=timeout)

    def popen(self, *words, **options):
        return subprocess.Popen([str(word) for word in self.command(*words)],
                                text=True, **options)

    def path(self, inside):
        """A file of the machine, seen from outside."""
        return pathlib.Path(f'/proc/{self.pid}/root{inside}')
