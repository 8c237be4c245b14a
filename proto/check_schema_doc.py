#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Compares proto/weft-schema.md with proto/weft.ovsschema.

    check_schema_doc.py SCHEMA DOCUMENT

Every table has a section '## Name' that names its indexes and has a row for
each column, in the schema's order, with its type in the words of
type_text(); and there is nothing else.  Prints TAP, one test a table."""

import json
import re
import sys


def base_text(base):
    """One atom, in words."""
    if isinstance(base, str):
        base = {"type": base}
    kind = base["type"]
    if "enum" in base:
        return "one of " + ", ".join(f"`{v}`" for v in base["enum"][1])
    if kind == "string":
        if "maxLength" not in base:
            return "text"
        return f"text {base.get('minLength', 0)}..{base['maxLength']}"
    if kind == "integer" and "minInteger" in base:
        return f"integer {base['minInteger']}..{base.get('maxInteger', '')}"
    if kind == "uuid" and "refTable" in base:
        return f"uuid → {base['refTable']}"
    return kind


def item_text(base):
    """An atom in a set or map, whose limits would only be noise."""
    return base_text(base).split(" ")[0]


def type_text(spec):
    """A column's type, in words."""
    if isinstance(spec, str):
        return spec
    low, high = spec.get("min", 1), spec.get("max", 1)
    count = f"{low}..{'' if high == 'unlimited' else high}"
    if "value" in spec:
        return (f"map of {count} {item_text(spec['key'])} to "
                f"{item_text(spec['value'])}")
    if high != 1:
        return f"set of {count} {item_text(spec['key'])}"
    return ("optional " if low == 0 else "") + base_text(spec["key"])


def index_text(indexes):
    """The indexes of a table, in words."""
    return ", ".join("(" + ", ".join(f"`{c}`" for c in index) + ")"
                     for index in indexes)


def read_sections(text):
    """{table: (prose, [(column, type, meaning)])}"""
    sections = {}
    for part in re.split(r"^## ", text, flags=re.M)[1:]:
        name, _, body = part.partition("\n")
        rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", body, re.M)
        sections[name.strip()] = (body.split("\n|")[0], rows)
    return sections


def problems_of(table, section):
    """What is wrong with the section of one table."""
    prose, rows = section
    wanted = {c: type_text(s["type"]) for c, s in table["columns"].items()}
    if list(wanted) != [row[0] for row in rows]:
        yield (f"columns are {', '.join(r[0] for r in rows)} in the document, "
               f"{', '.join(wanted)} in the schema")
    for column, text, meaning in rows:
        if column in wanted and text != wanted[column]:
            yield f"{column}: '{text}' should be '{wanted[column]}'"
        if len(meaning) < 8:
            yield f"{column}: no meaning"
    found = re.search(r"Index: (.*?)\.(\n|$)", prose)
    found = found.group(1) if found else ""
    if found != index_text(table.get("indexes", [])):
        yield (f"index: '{found}' should be "
               f"'{index_text(table.get('indexes', []))}'")


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        tables = json.load(file)["tables"]
    with open(sys.argv[2], encoding="utf-8") as file:
        sections = read_sections(file.read())

    failed = False
    print(f"1..{len(tables) + 1}")
    for number, (name, table) in enumerate(tables.items(), 1):
        problems = ["no section"] if name not in sections \
            else list(problems_of(table, sections[name]))
        print(f"{'not ok' if problems else 'ok'} {number} - {name}")
        for problem in problems:
            print(f"# {name}: {problem}")
        failed = failed or bool(problems)
    unknown = sorted(set(sections) - set(tables))
    print(f"{'not ok' if unknown else 'ok'} {len(tables) + 1} - nothing else")
    for name in unknown:
        print(f"# there is no table {name}")
    sys.exit(failed or bool(unknown))


if __name__ == "__main__":
    main()
