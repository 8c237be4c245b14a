#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""docs/configuration.md says what 'blockd --options' says, and its example is a
configuration that blockd takes."""

import os
import pathlib
import re
import subprocess
import tempfile
import unittest

BLOCKD = os.environ.get('BLOCKD', '/tmp/b/review/blockd/blockd')
TOP = pathlib.Path(__file__).resolve().parent.parent.parent
BLOCKS = re.findall(r'```ini\n(.*?)```',
                    (TOP / 'docs/configuration.md').read_text(), re.DOTALL)


def check(text):
    """What 'blockd --check' says of a configuration, and its exit code."""
    with tempfile.NamedTemporaryFile('w', suffix='.conf') as file:
        file.write(text)
        file.flush()
        done = subprocess.run([BLOCKD, '--check', '--config', file.name],
                              capture_output=True, text=True, check=False)
        return done.stderr, done.returncode


class Configuration(unittest.TestCase):
    def test_options(self):
        done = subprocess.run([BLOCKD, '--options'], capture_output=True,
                              text=True, check=True)
        # Editors take blanks at the end of a line away.
        said = [line.rstrip() for line in done.stdout.split('\n')]
        self.assertEqual(BLOCKS[-1].split('\n'), said,
                         'replace the last block of docs/configuration.md by '
                         'what "blockd --options" prints')

    def test_example(self):
        self.assertEqual(check(BLOCKS[0]), ('', 0))

    def test_defaults(self):
        """What is printed, without its comment signs, is a configuration."""
        text = re.sub(r'^#([a-z_]+) =', r'\1 =', BLOCKS[-1],
                      flags=re.MULTILINE)
        text = text.replace('\nname =', '\nname = h1').replace(
            '\nremotes =', '\nremotes = unix:/db')
        self.assertEqual(check(text), ('', 0))

    def test_mistakes(self):
        for line, said in (('[host]\nnam = x', 'nam'),
                           ('[hots]\nname = x', 'hots'),
                           ('[reactor]\ncount = 0', 'count'),
                           ('[reactor]\ncount = many', 'count'),
                           ('[reactor]\nmemory = 1K', 'memory'),
                           ('[storage]\ncache = maybe', 'cache'),
                           ('[log]\nlevel = info\nlevel = info', 'level'),
                           ('garbage', 'garbage')):
            error, code = check(BLOCKS[0] + '\n' + line + '\n')
            self.assertEqual(code, 2, line)
            self.assertIn(said, error)
        error, code = check('')
        self.assertEqual(code, 2)
        self.assertIn('name', error)


if __name__ == '__main__':
    unittest.main()
