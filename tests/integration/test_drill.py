#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""'deploy/quickstart --drill', as a new user runs it: two guests on a fabric of
three hosts see no error and no wrong byte whatever fails, and nothing is left
of it afterwards."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent /
                       'support'))
# pylint: disable=wrong-import-position
import weft_testbed  # noqa: E402

QUICKSTART = weft_testbed.TOP / 'deploy/quickstart'
FAULTS = ('a replica', 'blockd under guest A', 'blockd under guest B', 'netd',
          'ovs-vswitchd', 'the database', 'a whole host', 'the storage link',
          'afterwards')


PREFIX = 'weft-drill-'


def quickstart(directory, *arguments, seconds=300):
    """Runs it; status and output."""
    command = [QUICKSTART, '--dir', directory / 'quickstart', *arguments]
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, stdin=subprocess.DEVNULL, check=False,
            timeout=seconds * weft_testbed.SCALE)
    except subprocess.TimeoutExpired as late:
        raise AssertionError(f'{command} took more than {late.timeout} s:\n'
                             f'{(late.stdout or b"").decode()}') from late
    return done.returncode, done.stdout


def remove_leftovers():
    """Takes down what tests that were killed left behind."""
    for path in pathlib.Path('/tmp').glob(PREFIX + '*'):
        pid = path.name[len(PREFIX):].partition('-')[0]
        if not pathlib.Path(f'/proc/{pid}').exists():
            quickstart(path, 'down')
            shutil.rmtree(path, ignore_errors=True)


def interrupt(_number, _frame):
    raise KeyboardInterrupt


def setUpModule():
    signal.signal(signal.SIGTERM, interrupt)
    remove_leftovers()


class Drill(unittest.TestCase):
    """It takes itself down, also when it failed."""

    @contextlib.contextmanager
    def fabric(self, *arguments):
        """Brings one up; its directory, and what was said."""
        directory = pathlib.Path(tempfile.mkdtemp(
            prefix=f'{PREFIX}{os.getpid()}-', dir='/tmp'))
        try:
            status, out = quickstart(directory, '--bin',
                                     weft_testbed.build_dir(), *arguments)
            self.assertEqual(status, 0, out)
            tag = json.loads((directory / 'quickstart/fabric/testbed.json')
                             .read_text())['tag']
            yield directory, out
        finally:
            status, out = quickstart(directory, 'down')
            left = list(directory.iterdir())
            shutil.rmtree(directory)
        self.assertEqual(status, 0, out)
        self.assertEqual(left, [])
        for command in ['pgrep', '-fl', directory.name], ['ip', 'netns']:
            found = subprocess.run(command, text=True, capture_output=True,
                                   check=False)
            self.assertNotRegex(found.stdout, f'{directory.name}|{tag}')

    def test_drill(self):
        with self.fabric('--drill') as (_, out):
            print(out[out.rindex('\nFAULT'):out.rindex('\nLONGEST')])
            for fault in FAULTS:
                row = re.search(rf'(?m)^{fault}.*? {{2,}}(\d+) +(\d+)\b',
                                out)
                self.assertIsNotNone(row, f'{fault}:\n{out}')
                self.assertEqual(row.groups(), ('0', '0'), out)

    def test_single(self):
        """One host: all of it but the drill."""
        with self.fabric('--single') as (directory, _):
            status, out = quickstart(directory, '--drill')
            self.assertEqual(status, 1, out)
            self.assertIn('three hosts', out)


if __name__ == '__main__':
    if os.geteuid() != 0:
        print('1..0 # SKIP network namespaces need root')
        sys.exit(77)
    weft_testbed.main()
