#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes lib/state/tables.h, values.h and values.c out of an OVSDB schema.

    gen_values.py SCHEMA RET_TABLES RET_HEADER RET_SOURCE

Each table becomes a plain C structure, 'struct state_<table>', that begins
with a 'struct state_row' and has one member a column:

    integer             uint32_t, uint64_t or int64_t by the column's limits
    boolean             bool
    uuid, reference     struct weft_uuid; nil stands for an empty optional
    string              const char *, never NULL in rows that lib/state hands
                        out
    string with enum    enum state_<table>_<column>, 0 for a value that this
                        version does not know
    set                 const T *<column>; size_t <column>_count, sorted
    map                 const struct state_pair_K_V *<column>; and the count

and a table of descriptors that lib/state/row.c and codec.c work by.  What the
generator does not know (reals, optional numbers, sets of booleans) it refuses,
so that a schema change that needs thought fails the build."""

import json
import sys

# Columns by which rows are looked for though many may be alike in them; kept
# by connections that ask for it (state_options.has_lookups).
LOOKUPS = {
    "Address": [["port"], ["router_port"], ["subnet"]],
    "Binding": [["host"]],
    "Follow": [["host"]],
    "Identity_Member": [["identity"], ["group"]],
    "Network_Route": [["network"]],
    "Plug": [["host", "device"]],
    "Port": [["network"], ["identity"], ["host"]],
    "Port_Status": [["port"], ["host"]],
    "Router_Port": [["router"]],
    "Security_Rule": [["group"], ["peer_group"]],
    "Subnet": [["network"]],
}
I64_MAX = 2**63 - 1
U32_MAX = 2**32 - 1
PAIRS = [("uuid", "uuid"), ("string", "string"), ("int", "int")]
ATOM_C = {"uuid": "struct weft_uuid", "string": "const char *",
          "int": "int64_t"}


def fail(text):
    sys.exit("gen_values.py: " + text)


def snake(name):
    return name.lower()


class Column:
    """One column: its OVSDB type, and what it becomes in C."""

    def __init__(self, table, name, spec):
        self.table, self.name = table, name
        kind = spec["type"]
        if isinstance(kind, str):
            kind = {"key": kind}
        self.key = self.base(kind["key"])
        self.value = self.base(kind["value"]) if "value" in kind else None
        self.min, self.max = kind.get("min", 1), kind.get("max", 1)
        if self.max == "unlimited":
            self.max = U32_MAX
        self.enum = self.key.get("enum")
        self.shape = ("map" if self.value else "set" if self.max > 1
                      else "scalar")
        self.is_optional = self.shape == "scalar" and self.min == 0
        self.kind = self.find_kind()

    @staticmethod
    def base(spec):
        spec = {"type": spec} if isinstance(spec, str) else dict(spec)
        if "enum" in spec:
            spec["enum"] = spec["enum"][1]
        return spec

    def where(self):
        return f"{self.table}.{self.name}"

    def atom(self, base):
        kind = base["type"]
        if kind == "integer":
            return "int"
        if kind in ("uuid", "string"):
            return kind
        fail(f"{self.where()}: no sets or maps of '{kind}'")

    def find_kind(self):
        """The name of an enum state_kind, without its prefix."""
        kind = self.key["type"]
        if self.shape != "scalar":
            if self.enum:
                fail(f"{self.where()}: no sets of enums")
            return self.atom(self.key)
        if self.is_optional and kind != "uuid":
            fail(f"{self.where()}: only a uuid may be optional")
        if self.enum:
            return "enum"
        if kind == "integer":
            if self.key.get("minInteger", -1) < 0:
                return "int"
            return "u32" if self.key.get("maxInteger", I64_MAX) <= U32_MAX \
                else "u64"
        if kind == "boolean":
            return "bool"
        if kind in ("uuid", "string"):
            return kind
        fail(f"{self.where()}: no columns of type '{kind}'")

    def pair(self):
        pair = (self.atom(self.key), self.atom(self.value))
        if pair not in PAIRS:
            fail(f"{self.where()}: no maps from {pair[0]} to {pair[1]}")
        return "state_pair_%s_%s" % pair

    def enum_type(self):
        return f"state_{snake(self.table)}_{self.name}"

    def member_lines(self):
        if self.shape == "map":
            return [f"const struct {self.pair()} *{self.name};",
                    f"size_t {self.name}_count;"]
        if self.shape == "set":
            c_type = ATOM_C[self.kind]
            space = "" if c_type.endswith("*") else " "
            return [f"const {c_type}{space}*{self.name};"
                    if self.kind != "string"
                    else f"const char *const *{self.name};",
                    f"size_t {self.name}_count;"]
        c_type = {"u32": "uint32_t ", "u64": "uint64_t ", "int": "int64_t ",
                  "bool": "bool ", "uuid": "struct weft_uuid ",
                  "string": "const char *",
                  "enum": f"enum {self.enum_type()} "}[self.kind]
        return [f"{c_type}{self.name};"]

    def argument(self):
        """A parameter that holds a value to look for."""
        return {"u32": "uint32_t ", "u64": "uint64_t ", "int": "int64_t ",
                "uuid": "const struct weft_uuid *",
                "string": "const char *"}.get(self.kind) + self.name


class Table:
    def __init__(self, name, spec):
        self.name, self.low, self.up = name, snake(name), name.upper()
        self.columns = [Column(name, n, s)
                        for n, s in spec["columns"].items()]
        self.indexes = spec.get("indexes", [])
        self.lookups = LOOKUPS.get(name, [])
        if len(self.columns) > 64:
            fail(f"{name}: more than 64 columns")

    def column(self, name):
        return next(c for c in self.columns if c.name == name)


def header_table(table, out):
    low, up = table.low, table.up
    for column in table.columns:
        if not column.enum:
            continue
        prefix = column.enum_type().upper()
        out.append(f"enum {column.enum_type()} {{")
        out.append(f"    {prefix}_UNKNOWN,")
        out += [f"    {prefix}_{value.upper()}," for value in column.enum]
        out.append("};\n")
        out.append("/* The text in the database; \"unknown\" for others. */")
        out.append(f"const char *{column.enum_type()}_name("
                   f"enum {column.enum_type()} value);\n")
    for i, column in enumerate(table.columns):
        out.append(f"#define STATE_{up}_COL_{column.name.upper()} "
                   f"(UINT64_C(1) << {i})")
    mask = "UINT64_MAX" if len(table.columns) == 64 \
        else f"((UINT64_C(1) << {len(table.columns)}) - 1)"
    out.append(f"#define STATE_{up}_COL_ALL {mask}\n")
    out.append(f"struct state_{low} {{")
    out.append("    struct state_row row;")
    for column in table.columns:
        out += ["    " + line for line in column.member_lines()]
    out.append("};\n")
    out.append(f"const struct state_{low} *state_{low}_from("
               "const struct state_row *row);")
    out.append(f"struct state_{low} *state_{low}_clone("
               f"const struct state_{low} *value);")
    out.append(f"const struct state_{low} *state_{low}_get("
               "const struct state *state,\n    const struct weft_uuid *uuid);")
    out.append(f"const struct state_{low} *state_{low}_next("
               "const struct state *state,\n"
               f"    const struct state_{low} *previous);")
    for index in table.indexes:
        out.append(find_prototype(table, index) + ";")
    for lookup in table.lookups:
        out.append(next_prototype(table, lookup) + ";")
        out.append(count_prototype(table, lookup) + ";")
    out.append("")


def find_prototype(table, index):
    arguments = ", ".join(table.column(name).argument() for name in index)
    return (f"const struct state_{table.low} *"
            f"state_{table.low}_find_by_{'_'.join(index)}("
            f"\n    const struct state *state, {arguments})")


def next_prototype(table, lookup):
    arguments = ", ".join(table.column(name).argument() for name in lookup)
    return (f"const struct state_{table.low} *"
            f"state_{table.low}_next_by_{'_'.join(lookup)}("
            f"\n    const struct state *state, {arguments},"
            f"\n    const struct state_{table.low} *previous)")


def count_prototype(table, lookup):
    arguments = ", ".join(table.column(name).argument() for name in lookup)
    return (f"size_t state_{table.low}_count_by_{'_'.join(lookup)}("
            f"\n    const struct state *state, {arguments})")


def source_key(table, columns, out):
    """A row with the values to look for."""
    out.append(f"    const struct state_{table.low} key = {{\n"
               f"        .row = {{ .table = STATE_TABLE_{table.up} }},")
    for name in columns:
        star = "*" if table.column(name).kind == "uuid" else ""
        out.append(f"        .{name} = {star}{name},")
    out.append("    };")


def source_column(table, column):
    up, low = table.up, table.low
    fields = [f'.name = "{column.name}"',
              f".shape = STATE_SHAPE_{column.shape.upper()}",
              f".kind = STATE_KIND_{column.kind.upper()}",
              f".offset = offsetof(struct state_{low}, {column.name})"]
    if column.is_optional:
        fields.append(".is_optional = true")
    if column.shape != "scalar":
        fields.append(f".count_offset = offsetof(struct state_{low}, "
                      f"{column.name}_count)")
        fields.append(f".min_count = {column.min}u")
        fields.append(f".max_count = {column.max}u")
        size = ATOM_C[column.kind]
        if column.shape == "map":
            size = f"struct {column.pair()}"
            fields.append(
                f".value_kind = STATE_KIND_{column.atom(column.value).upper()}")
            fields.append(f".value_offset = offsetof({size}, value)")
        fields.append(f".item_size = sizeof({size})")
    if column.enum:
        fields.append(f".enum_names = {column.enum_type()}_names")
        fields.append(f".enum_count = {len(column.enum) + 1}")
    body = ",\n          ".join(fields)
    return "        { " + body + " },"


def source_table(table, out):
    low, up = table.low, table.up
    for column in table.columns:
        if not column.enum:
            continue
        name = column.enum_type()
        values = ", ".join(f'"{v}"' for v in ["unknown"] + column.enum)
        out.append(f"static const char *const {name}_names[] = "
                   f"{{ {values} }};\n")
        out.append(f"const char *\n{name}_name(enum {name} value)\n{{")
        out.append(f"    return (size_t)value <= {len(column.enum)} ? "
                   f"{name}_names[value] : {name}_names[0];\n}}\n")
    out.append(f"const struct state_{low} *\nstate_{low}_from("
               "const struct state_row *row)\n{")
    out.append("    if (row == NULL) {\n        return NULL;\n    }")
    out.append(f"    CHECK(row->table == STATE_TABLE_{up});")
    out.append(f"    static_assert(offsetof(struct state_{low}, row) == 0, "
               "\"first\");")
    out.append(f"    return (const struct state_{low} *)(const void *)row;"
               "\n}\n")
    out.append(f"struct state_{low} *\nstate_{low}_clone("
               f"const struct state_{low} *value)\n{{")
    out.append(f"    CHECK(value->row.table == STATE_TABLE_{up});")
    out.append(f"    return container_of(state_row_clone(&value->row), "
               f"struct state_{low}, row);\n}}\n")
    out.append(f"const struct state_{low} *\nstate_{low}_get("
               "const struct state *state,\n    "
               "const struct weft_uuid *uuid)\n{")
    out.append(f"    return state_{low}_from(state_row_get(state, "
               f"STATE_TABLE_{up}, uuid));\n}}\n")
    out.append(f"const struct state_{low} *\nstate_{low}_next("
               "const struct state *state,\n"
               f"    const struct state_{low} *previous)\n{{")
    out.append(f"    return state_{low}_from(state_row_next(state, "
               f"STATE_TABLE_{up},\n        previous == NULL ? NULL "
               ": &previous->row));\n}\n")
    for i, index in enumerate(table.indexes):
        prototype = find_prototype(table, index)
        out.append(prototype.replace(" *state_", " *\nstate_", 1) + "\n{")
        source_key(table, index, out)
        out.append(f"    return state_{low}_from(state_row_find(state, "
                   f"&key.row, {i}));\n}}\n")
    for i, lookup in enumerate(table.lookups):
        prototype = next_prototype(table, lookup)
        out.append(prototype.replace(" *state_", " *\nstate_", 1) + "\n{")
        source_key(table, lookup, out)
        out.append(f"    return state_{low}_from(state_row_next_alike(state, "
                   f"&key.row, {i},\n        previous == NULL ? NULL "
                   ": &previous->row));\n}\n")
        prototype = count_prototype(table, lookup)
        out.append(prototype.replace("size_t ", "size_t\n", 1) + "\n{")
        source_key(table, lookup, out)
        out.append("    return state_row_count_alike(state, &key.row, "
                   f"{i});\n}}\n")


def column_mask(table, names):
    return " | ".join(f"STATE_{table.up}_COL_{n.upper()}" for n in names)


def source_class(table):
    lines = [f'    [STATE_TABLE_{table.up}] = {{ .name = "{table.name}",',
             f"      .size = sizeof(struct state_{table.low}),",
             f"      .column_count = {len(table.columns)},",
             f"      .columns = {table.low}_columns,"]
    masks = [column_mask(table, index) for index in table.indexes]
    lines.append(f"      .index_count = {len(masks)},")
    if masks:
        lines.append("      .indexes = { " + ", ".join(masks) + " },")
    masks = [column_mask(table, lookup) for lookup in table.lookups]
    if masks:
        lines.append(f"      .lookup_count = {len(masks)},")
        lines.append("      .lookups = { " + ", ".join(masks) + " },")
    lines.append("    },")
    return "\n".join(lines)


MADE = "/* Made by lib/state/gen_values.py; see there.  Do not edit. */"


def make_tables(schema, tables):
    out = [MADE, "#ifndef LIB_STATE_TABLES_H", "#define LIB_STATE_TABLES_H\n",
           f'#define STATE_SCHEMA_NAME "{schema["name"]}"',
           f'#define STATE_SCHEMA_VERSION "{schema["version"]}"\n',
           "enum state_table {"]
    out += [f"    STATE_TABLE_{t.up}," for t in tables]
    out += ["};\n", f"#define STATE_TABLE_COUNT {len(tables)}\n",
            "#endif /* LIB_STATE_TABLES_H */\n"]
    return "\n".join(out)


def make_header(tables):
    out = [MADE, "#ifndef LIB_STATE_VALUES_H", "#define LIB_STATE_VALUES_H\n",
           "#include <stdbool.h>", "#include <stddef.h>",
           "#include <stdint.h>\n", '#include "lib/base/uuid.h"',
           '#include "lib/state/row.h"', '#include "lib/state/tables.h"\n',
           "struct state;\n"]
    for table in tables:
        header_table(table, out)
    out.append("#endif /* LIB_STATE_VALUES_H */\n")
    return "\n".join(out)


def make_source(tables):
    out = [MADE, '#include "lib/state/values.h"\n', "#include <assert.h>\n",
           '#include "lib/base/check.h"',
           '#include "lib/base/container_of.h"',
           '#include "lib/state/row_class.h"\n']
    for table in tables:
        source_table(table, out)
        out.append(f"static const struct state_column {table.low}_columns[] "
                   "= {")
        out += [source_column(table, column) for column in table.columns]
        out.append("};\n")
    out.append("const struct state_class "
               "state_classes[STATE_TABLE_COUNT] = {")
    out += [source_class(table) for table in tables]
    out.append("};\n")
    return "\n".join(out)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        schema = json.load(file)
    tables = [Table(n, s) for n, s in schema["tables"].items()]
    if any(len(t.indexes) > 2 for t in tables):
        fail("more than two indexes on a table: raise STATE_INDEX_MAX")
    if len(tables) > 64:
        fail("more than 64 tables: masks of tables have 64 bits")
    for path, text in ((sys.argv[2], make_tables(schema, tables)),
                       (sys.argv[3], make_header(tables)),
                       (sys.argv[4], make_source(tables))):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    main()
