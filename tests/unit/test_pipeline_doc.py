#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""docs/pipeline.md says of tables, registers, flags, meters and kinds what
netd/compile/pipeline.h says."""

import os
import pathlib
import re
import unittest

ROOT = pathlib.Path(os.environ.get(
    'SOURCE_ROOT', pathlib.Path(__file__).resolve().parents[2]))
HEADER = (ROOT / 'netd/compile/pipeline.h').read_text()
DOC = (ROOT / 'docs/pipeline.md').read_text()


def enum(prefix):
    return {name: int(value) for name, value in re.findall(
        rf'^\s+({prefix}\w+) = (\d+),', HEADER, re.M)
        if not name.endswith(('_COUNT', '_CLASSES'))}


def rows(heading):
    """Cells of the first Markdown table after a line that begins so."""
    at = DOC.index('\n' + heading)
    table = re.search(r'\n(\|.*\n)(\| ?-.*\n)((?:\|.*\n)+)', DOC[at:])
    return [[cell.strip() for cell in line.strip('|').split('|')]
            for line in table.group(3).splitlines()]


class PipelineDocTest(unittest.TestCase):
    def test_tables(self):
        said = {'TABLE_' + row[1]: int(row[0]) for row in rows('## Tables')}
        self.assertEqual(said, enum('TABLE_'))

    def test_next_tables_are_higher(self):
        numbers = enum('TABLE_')
        for row in rows('## Tables'):
            for following in filter(None, row[3].split(', ')):
                self.assertGreater(numbers['TABLE_' + following], int(row[0]))

    def test_files(self):
        for row in rows('## Tables'):
            for name in row[4].split(', '):
                path = ROOT / 'netd/compile' / name
                self.assertTrue(path.exists(), name)
                self.assertIn('TABLE_' + row[1], path.read_text(),
                              f'{name} and {row[1]}')

    def test_registers(self):
        said = {row[1]: 'FIELD_' + row[0].upper()
                for row in rows('## Registers')}
        self.assertEqual(said, dict(re.findall(
            r'^#define (REG_\w+) (FIELD_\w+)', HEADER, re.M)))

    def test_flags(self):
        said = {row[1]: int(row[0], 16) for row in rows('| bit of reg0')}
        self.assertEqual(said, {
            name: int(value, 16) for name, value in re.findall(
                r'^#define (FLAG_\w+) (0x[0-9a-f]+)u', HEADER, re.M)})

    def test_meters(self):
        rates = {'METER_' + name: int(rate) for name, rate in re.findall(
            r'^#define METER_RATE_(\w+) (\d+)u', HEADER, re.M)}
        said = {row[0]: (int(row[1]), int(row[2]))
                for row in rows('| meter class')}
        self.assertEqual(said, {name: (number, rates[name])
                                for name, number in enum('METER_').items()})

    def test_kinds(self):
        said = {row[1]: int(row[0])
                for row in rows('## What goes to the controller')}
        self.assertEqual(said, enum('PACKET_IN_'))

    def test_numbers_in_the_text(self):
        for name in 'ZONE_FIRST', 'ZONE_LAST':
            value = re.search(rf'^#define {name} (\d+)u', HEADER, re.M)
            self.assertIn(value.group(1), DOC)
        for name in 'TLV_CLASS', 'TLV_TYPE_IDENTITY', 'TLV_TYPE_TRACE':
            value = re.search(rf'^#define {name} (0x\w+)u', HEADER, re.M)
            self.assertIn(value.group(1), DOC)


if __name__ == '__main__':
    unittest.main()
