# SPDX-License-Identifier: Apache-2.0
"""A clean Debian 12 to install a package into, made by debootstrap.

    base, reason = clean_debian.find('weft_0.1.0_amd64.deb')

A tar of a minimal Debian with what the package depends on, systemd, and a few
tools, kept in $WEFT_CACHE; making it takes two minutes and a mirror.  Where
that is not possible 'base' is None, and 'reason' says why."""

import fcntl
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

CACHE = pathlib.Path(os.environ.get('WEFT_CACHE', '/var/cache/weft'))
MIRROR_SECONDS = 420
TOOLS = ['systemd-sysv', 'iproute2', 'iputils-ping']
ENVIRONMENT = ['env', '-i', 'PATH=/usr/sbin:/usr/bin:/sbin:/bin',
               'LC_ALL=C.UTF-8', 'DEBIAN_FRONTEND=noninteractive']
# /proc goes with the mount namespace of each command.
INSIDE = ('mount -t proc proc "$1/proc" && root=$1 && shift && '
          'exec chroot "$root" "$@"')


def run(*command, timeout=60):
    return subprocess.run([str(word) for word in command], text=True,
                          stdin=subprocess.DEVNULL, capture_output=True,
                          check=False, timeout=timeout)


def must(*command, timeout=60):
    done = run(*command, timeout=timeout)
    if done.returncode != 0:
        raise AssertionError(f"{command} ended with {done.returncode}:\n"
                             f"{done.stdout}{done.stderr}")
    return done.stdout


def inside(root, *command, timeout=60):
    """A command in a root, by chroot."""
    return run('unshare', '--mount', 'bash', '-c', INSIDE, 'inside', root,
               *ENVIRONMENT, *command, timeout=timeout)


def depends(package):
    """Names of the packages that a .deb depends on, without versions."""
    text = must('dpkg-deb', '-f', package, 'Depends')
    return [re.split(r'[ :(]', one.strip())[0] for one in text.split(',')]


def unpack(base, root):
    """The tar, as a directory that 'inside' can use."""
    root.mkdir()
    must('tar', '-C', root, '-xf', base, timeout=120)
    os.mknod(root / 'dev/null', 0o20666, os.makedev(1, 3))
    os.mknod(root / 'dev/urandom', 0o20666, os.makedev(1, 9))
    for device in 'null', 'urandom':
        (root / 'dev' / device).chmod(0o666)


def make(packages, target):
    """A tar of a clean Debian with these packages; a reason if it cannot."""
    with tempfile.TemporaryDirectory(dir=CACHE, prefix='debian-') as folder:
        root = pathlib.Path(folder) / 'root'
        try:
            done = run('debootstrap', '--variant=minbase', 'bookworm', root,
                       timeout=MIRROR_SECONDS)
            if done.returncode != 0:
                return f"debootstrap: {done.stdout[-300:]}{done.stderr[-300:]}"
            policy = root / 'usr/sbin/policy-rc.d'
            policy.write_text('#!/bin/sh\nexit 101\n')
            policy.chmod(0o755)
            done = inside(root, 'apt-get', '-q', '-y', 'install',
                          '--no-install-recommends', *packages,
                          timeout=MIRROR_SECONDS)
            if done.returncode != 0:
                return f"apt-get in the clean root: {done.stderr[-300:]}"
        except subprocess.TimeoutExpired:
            return f"the mirror needed more than {MIRROR_SECONDS} s"
        shutil.rmtree(root / 'var/lib/apt/lists')
        for deb in (root / 'var/cache/apt').rglob('*.*'):
            if deb.is_file():
                deb.unlink()
        policy.unlink()
        fresh = target.with_suffix('.new')
        must('tar', '-C', root, '--exclude=./proc/*', '--exclude=./sys/*',
             '--exclude=./dev/*', '-cf', fresh, '.', timeout=120)
        fresh.rename(target)
    return None


def find(package):
    """The tar, and None; or None, and why there is none."""
    packages = depends(package) + TOOLS
    if os.geteuid() != 0:
        return None, 'chroot needs root'
    if shutil.which('debootstrap') is None:
        return None, 'debootstrap is not installed'
    source = pathlib.Path(__file__).read_bytes()
    key = hashlib.sha256(repr(sorted(packages)).encode() +
                         re.search(rb'def make.*?\ndef ', source,
                                   re.S).group()).hexdigest()[:16]
    CACHE.mkdir(parents=True, exist_ok=True)
    target = CACHE / f'debian-{key}.tar'
    with open(CACHE / 'debian.lock', 'w', encoding='utf-8') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        reason = None if target.exists() else make(packages, target)
    return (target, None) if reason is None else (None, reason)
