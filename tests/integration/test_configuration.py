#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""docs/configuration.md says what the daemons' --options say, and its examples
are configurations that they take."""

import os
import pathlib
import re
import subprocess
import tempfile
import unittest

BLOCKD = os.environ.get('BLOCKD', '/tmp/b/review/blockd/blockd')
NETD = os.environ.get('NETD', '/tmp/b/review/netd/netd')
TOP = pathlib.Path(__file__).resolve().parent.parent.parent
TEXT = (TOP / 'docs/configuration.md').read_text()


def check(daemon, text):
    """What '--check' says of a configuration, and its exit code."""
    with tempfile.NamedTemporaryFile('w', suffix='.conf') as file:
        file.write(text)
        file.flush()
        done = subprocess.run([daemon, '--check', '--config', file.name],
                              capture_output=True, text=True, check=False)
        return done.stderr, done.returncode


class Cases:
    """What holds for each daemon."""
    daemon = None
    blocks = None
    values = {}
    mistakes = ()

    def test_options(self):
        done = subprocess.run([self.daemon, '--options'], capture_output=True,
                              text=True, check=True)
        # Editors take blanks at the end of a line away.
        said = [line.rstrip() for line in done.stdout.split('\n')]
        self.assertEqual(self.blocks[-1].split('\n'), said,
                         'replace the last block of this daemon in '
                         'docs/configuration.md by what "--options" prints')

    def test_example(self):
        self.assertEqual(check(self.daemon, self.blocks[0]), ('', 0))

    def test_defaults(self):
        """What is printed, without its comment signs, is a configuration."""
        text = re.sub(r'^#([a-z_]+) =', r'\1 =', self.blocks[-1],
                      flags=re.MULTILINE)
        for key, value in self.values.items():
            text = text.replace(f'\n{key} =', f'\n{key} = {value}')
        self.assertEqual(check(self.daemon, text), ('', 0))

    def test_mistakes(self):
        for line, said in self.mistakes:
            error, code = check(self.daemon, self.blocks[0] + '\n' + line + '\n')
            self.assertEqual(code, 2, line)
            self.assertIn(said, error)
        error, code = check(self.daemon, '')
        self.assertEqual(code, 2)
        self.assertIn('name', error)


def blocks_of(text):
    return re.findall(r'```ini\n(.*?)```', text, re.DOTALL)


class Blockd(Cases, unittest.TestCase):
    daemon = BLOCKD
    blocks = blocks_of(TEXT.partition('# Configuration of netd')[0])
    values = {'name': 'h1', 'remotes': 'unix:/db'}
    mistakes = (('[host]\nnam = x', 'nam'),
                ('[hots]\nname = x', 'hots'),
                ('[reactor]\ncount = 0', 'count'),
                ('[reactor]\ncount = many', 'count'),
                ('[reactor]\nmemory = 1K', 'memory'),
                ('[storage]\ncache = maybe', 'cache'),
                ('[log]\nlevel = info\nlevel = info', 'level'),
                ('garbage', 'garbage'))


class Netd(Cases, unittest.TestCase):
    daemon = NETD
    blocks = blocks_of(TEXT.partition('# Configuration of netd')[2])
    values = {'name': 'h1', 'remotes': 'unix:/db', 'address': '10.0.0.1'}
    mistakes = (('[host]\nnam = x', 'nam'),
                ('[switch]\ndatapath = fast', 'datapath'),
                ('[switch]\ncheck_interval = 0s', 'check_interval'),
                ('[switch]\nbridge = a-name-that-is-too-long', 'bridge'),
                ('garbage', 'garbage'))


if __name__ == '__main__':
    unittest.main()
