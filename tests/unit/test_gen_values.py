#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What gen_values.py refuses, and that it always makes the same.

    test_gen_values.py GENERATOR SCHEMA"""

import copy
import json
import os
import subprocess
import sys
import tempfile

GENERATOR, SCHEMA = sys.argv[1:3]
NUMBER = 0


def generate(schema):
    """(status, what was made)"""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "schema")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(schema, file)
        outs = [os.path.join(folder, n) for n in "abc"]
        done = subprocess.run([sys.executable, GENERATOR, path] + outs,
                              capture_output=True, check=False)
        if done.returncode != 0:
            return done.returncode, done.stderr.decode()
        return 0, "".join(open(out, encoding="utf-8").read() for out in outs)


def check(name, truth):
    """One line of TAP."""
    global NUMBER
    NUMBER += 1
    print(f"{'ok' if truth else 'not ok'} {NUMBER} - {name}")
    if not truth:
        check.failed = True


check.failed = False


def main():
    with open(SCHEMA, encoding="utf-8") as file:
        schema = json.load(file)

    status, text = generate(schema)
    check("the schema is accepted", status == 0)
    check("the result is the same each time", generate(schema)[1] == text)
    check("every table has its structure",
          all(f"struct state_{t.lower()} {{" in text
              for t in schema["tables"]))

    refused = {
        "a real": "real",
        "an optional number": {"key": "integer", "min": 0, "max": 1},
        "an optional text": {"key": "string", "min": 0, "max": 1},
        "a set of booleans": {"key": "boolean", "min": 0, "max": 9},
        "a set of enums": {"key": {"type": "string", "enum": ["set", ["a"]]},
                           "min": 0, "max": 9},
        "a map that has no pair type": {"key": "uuid", "value": "integer",
                                        "min": 0, "max": 9},
    }
    for name, kind in refused.items():
        bad = copy.deepcopy(schema)
        bad["tables"]["Pool"]["columns"]["odd"] = {"type": kind}
        status, text = generate(bad)
        check(f"{name} is refused by name", status == 1 and
              "Pool.odd" in text)
    bad = copy.deepcopy(schema)
    bad["tables"]["Pool"]["indexes"] = [["name"], ["replicas"], ["slow_ms"]]
    check("a third index is refused", generate(bad)[0] == 1)
    print(f"1..{NUMBER}")
    sys.exit(check.failed)


if __name__ == "__main__":
    main()
