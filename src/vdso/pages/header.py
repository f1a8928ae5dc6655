"""The C header of a published page: the record as a struct, the functions of its live library, and two ways
to find them at run time, by dlopen and, for static programs, by a loader of a hundred lines.

Text only: from a layout and names to C that a C99 or C++ compiler takes without a warning. What does not
depend on the page is header.h beside this module.
"""

import os
from collections.abc import Callable, Iterator

from vdso.pages.functions import KEYWORDS, Function, c_name, functions, unique_members
from vdso.pages.schema import SCALARS, Field, Layout

COMMON = os.path.join(os.path.dirname(__file__), "header.h")


def header(layout: Layout, name: str, path: str) -> str:
    """The header for the page of this layout that is published under `name`; `path` is where it looks by
    default."""
    with open(COMMON, encoding="utf-8") as file:
        common = file.read()
    prefix = c_name(name)
    record = f"{prefix}_" if prefix in KEYWORDS else prefix  # the struct's tag, and the stem of nested ones
    upper = prefix.upper()
    # The plain snapshot copies whatever layout the file has: here one asks for the layout that the struct
    # has.
    exported = tuple(function for function in functions(layout, 4, 0) if function.name != "snapshot")
    parts = [
        f"/* The live page {name}, a record of {layout.size} bytes: `vdso header {name}` wrote this. */",
        f"#ifndef VDSO_PAGE_{upper}_H\n#define VDSO_PAGE_{upper}_H\n",
        common.rstrip("\n") + "\n",
        f"#define {upper}_PATH {_literal(path)}",
        f"#define {upper}_SCHEMA UINT64_C({layout.hash:#018x})\n",
        *_structs(layout, record, {record: 0, "": 0}),
        '#ifdef __cplusplus\nextern "C" {\n#endif\n',
        "/* For a program that is linked with the page's file. */",
        *(_prototype(prefix, function) for function in exported),
        "\n#ifdef __cplusplus\n}\n#endif\n",
        _linked(layout, prefix, record, upper),
        *_found(layout, prefix, record, upper, exported),
        "#endif",
    ]
    return "\n".join(parts) + "\n"


def _literal(text: str) -> str:
    escaped = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\?' else f"\\{byte:03o}"
        for byte in os.fsencode(text)
    )
    return f'"{escaped}"'


# ---- structs ----


def _structs(layout: Layout, tag: str, taken: dict[str, int]) -> Iterator[str]:
    """The nested records' structs first, each named by the way to its field.

    `taken` has the tags so far, and how many checks have been written.
    """
    tags = {}
    for field in layout.fields:
        if field.record is not None:
            tags[field.name] = f"{tag}_{field.name}"
            while tags[field.name] in taken:
                tags[field.name] += "_"
            taken[tags[field.name]] = 0
            yield from _structs(field.record, tags[field.name], taken)
    members = unique_members([field.name for field in layout.fields])
    checks = [f"sizeof(struct {tag}) == {layout.size}"]
    checks += [f"offsetof(struct {tag}, {members[field.name]}) == {field.offset}" for field in layout.fields]
    lines = [f"struct {tag} {{"]
    lines += [
        f"\t{_member(field, members[field.name], tags.get(field.name, ''))};{_remark(field)}"
        for field in layout.fields
    ]
    lines.append("};")
    for check in checks:
        taken[""] += 1
        lines.append(f"VDSO_CHECK({_root(taken)}_{taken['']}, {check});")
    yield "\n".join(lines) + "\n"


def _root(taken: dict[str, int]) -> str:
    return next(tag for tag in taken if tag)


def _member(field: Field, name: str, tag: str) -> str:
    lengths = "".join(f"[{length}]" for length in field.shape)
    if field.record is not None:
        return f"struct {tag} {name}{lengths}"
    if field.kind in SCALARS:
        return f"{SCALARS[field.kind][1]} {name}{lengths}"
    kind = "char" if field.kind == "str" else "uint8_t"
    return f"{kind} {name}{lengths}[{field.item_size}]"


def _remark(field: Field) -> str:
    return " /* UTF-8; no NUL behind it when it is full */" if field.kind == "str" else ""


# ---- functions ----


def _parameters(function: Function) -> str:
    return ", ".join(function.parameters) or "void"


def _prototype(prefix: str, function: Function) -> str:
    name = f"{prefix}_{function.name}"
    label = name if function.tag is None else f"{name}.{function.tag}"
    declared = f'{_spaced(function.returns)}{name}({_parameters(function)}) VDSO_SYMBOL("{label}");'
    return declared if function.about == function.name else f"{declared} /* {function.about} */"


def _spaced(c_type: str) -> str:
    return c_type if c_type.endswith("*") else f"{c_type} "


def _linked(layout: Layout, prefix: str, record: str, upper: str) -> str:
    body = _snapshot(layout, upper, lambda name: f"{prefix}_{name}", "NULL")
    return f"""\
/* One whole record, as {prefix}_snapshot_from() takes it of an open page. */
static inline int {prefix}_snapshot(struct {record} *out)
{{
{body}
}}
"""


def _found(
    layout: Layout, prefix: str, record: str, upper: str, exported: tuple[Function, ...]
) -> Iterator[str]:
    members = unique_members([function.name for function in exported])
    body = _snapshot(layout, upper, lambda name: f"page->{members[name]}", "version")
    other = " Where the page's record is no longer this struct: "
    if "tries" in body:
        other += "the fields that the struct has, all of one\n"
        other += " * version; after VDSO_LAPPED, `out` has fields of several."
    else:
        other += "VDSO_OTHER_LAYOUT."
    yield "/* For a program that finds the page at run time: page.bid() and so on, once it is open. */"
    yield f"struct {prefix}_page {{\n\tstruct vdso_live _live;"
    for function in exported:
        yield f"\t{_spaced(function.returns)}(*{members[function.name]})({_parameters(function)});"
    yield "};\n"
    entries = "\n".join(
        f'\t\t{{"{prefix}_{function.name}{"." + function.tag if function.tag else ""}", '
        f"offsetof(struct {prefix}_page, {members[function.name]})}},"
        for function in exported
    )
    yield f"""\
/*
 * Opens the page at `path` (NULL: {upper}_PATH) and finds its functions by name and type, so also in a file
 * whose layout is another one by now. Returns NULL, or what is wrong. With VDSO_STATIC defined, by the loader
 * above instead of dlopen.
 */
static inline const char *{prefix}_open(struct {prefix}_page *page, const char *path)
{{
	static const struct vdso_live_name names[] = {{
{entries}
	}};

	return vdso_live_open(&page->_live, path != NULL ? path : {upper}_PATH, page, names,
				sizeof(names) / sizeof(names[0]));
}}

static inline void {prefix}_close(struct {prefix}_page *page)
{{
	vdso_live_close(&page->_live);
}}

/*
 * One whole record of an open page, and its version unless `version` is NULL: VDSO_OK, VDSO_NEVER_WRITTEN or
 * VDSO_LAPPED.{other}
 */
static inline int {prefix}_snapshot_from(const struct {prefix}_page *page, struct {record} *out,
					uint64_t *version)
{{
{body}
}}
"""


# ---- the record of another layout ----

_TRIES = 1000


def _snapshot(layout: Layout, upper: str, call: Callable[[str], str], version: str) -> str:
    """The body of a function that takes a snapshot; `call` says how one calls a function of the page."""
    take = f"{call('snapshot_of')}(out, {upper}_SCHEMA, {version})"
    fills = _fills(layout, call)
    if fills is None:
        return f"\treturn {take};"
    keep = "" if version == "NULL" else f"\t\tif ({version} != NULL)\n\t\t\t*{version} = seen;\n"
    lines = "\n".join(f"\t\t{line}".rstrip() for line in fills)
    index = "\t\tsize_t i;\n" if any("i <" in line for line in fills) else ""
    return f"""\
	int answer = {take}, tries;

	for (tries = 0; answer == VDSO_OTHER_LAYOUT && tries < {_TRIES}; tries++) {{
		uint64_t seen = {call("version")}();
{index}
		if (seen == 0)
			return VDSO_NEVER_WRITTEN;
{lines}
		/* Each field was of the newest version, and that has not changed. */
		if ({call("version")}() != seen)
			continue;
{keep}		return VDSO_OK;
	}}
	return answer == VDSO_OTHER_LAYOUT ? VDSO_LAPPED : answer;"""


def _fills(layout: Layout, call: Callable[[str], str]) -> list[str] | None:
    """Statements that fill `out` field by field; None where a field has no function of its own."""
    try:
        return list(_fill(layout, call, "out->", "", in_row=False))
    except _NoFunction:
        return None


class _NoFunction(Exception):
    """An element of an array that is itself within an array of records."""


def _fill(
    layout: Layout, call: Callable[[str], str], out: str, prefix: str, *, in_row: bool
) -> Iterator[str]:
    members = unique_members([field.name for field in layout.fields])
    for field in layout.fields:
        place, function = f"{out}{members[field.name]}{_indexes(field)}", f"{prefix}{field.name}"
        row = in_row or field.count is not None
        if in_row and field.count is not None:
            raise _NoFunction
        if field.record is not None:
            lines = list(_fill(field.record, call, f"{place}.", f"{function}_", in_row=row))
        else:
            lines = _fill_one(field, place, call(function), "i" if row else "")
        if field.count is None:
            yield from lines
        else:
            yield f"for (i = 0; i < {field.count}; i++) {{"
            yield from (f"\t{line}" for line in lines)
            yield "}"


def _indexes(field: Field) -> str:
    """The place of an array's element `i`, all its dimensions counted as one."""
    text, inner = "", field.count or 1
    for length in field.shape:
        inner //= length
        quotient = "i" if inner == 1 else f"i / {inner}"
        text += f"[{quotient}]" if not text else f"[{quotient} % {length}]"
    return text


def _fill_one(field: Field, place: str, function: str, index: str) -> list[str]:
    first = f"{index}, " if index else ""
    if field.kind in SCALARS:
        return [f"{place} = {function}({index});"]
    if field.kind == "bytes":
        return [f"(void){function}({first}{place}, {field.item_size});"]
    return [
        "{",
        f"\tchar text[{field.item_size + 1}] = {{0}};",
        "",
        f"\t{function}({first}text, sizeof(text));",
        f"\tmemcpy({place}, text, {field.item_size});",
        "}",
    ]
