"""The generated C header, as compilers take it."""

import shutil
from pathlib import Path

import pytest
from harness import finish, want

from vdso.pages.header import header
from vdso.pages.schema import arrayed, make, nested, parse_type, scalar

POINT = make("point", [("x", scalar("i16")), ("y", scalar("f64"))])
EVERYTHING = make(
    "everything",
    [
        # Two ways to one tag, which has one struct.
        ("way", nested(make("way", [("to", nested(POINT))]))),
        ("way_to", nested(make("to", [("z", scalar("u8"))]))),
        *(
            (f"n_{kind}", scalar(kind))
            for kind in ("u8", "f64", "i8", "f32", "u16", "i64", "bool", "i32", "u32", "i16", "u64")
        ),
        ("text", parse_type("str[5]", "")),
        ("blob", parse_type("bytes[3]", "")),
        ("row", parse_type("u16[3]", "")),
        ("grid", parse_type("f32[2][3]", "")),
        ("texts", parse_type("str[4][2]", "")),
        ("point", nested(POINT)),
        ("points", arrayed(nested(POINT), (2, 2), "")),
        ("double", scalar("f64")),  # what C, C++ or a header of theirs keeps to itself
        ("operator", scalar("f64")),
        ("errno", scalar("i32")),
        ("handle", scalar("i32")),
        ("size", scalar("u8")),
    ],
)
SHORT = make("short", [("a", scalar("u16"))])

USE = """\
#include <stdio.h>
#include "everything.h"
#include "short.h"
#include "shm.h"
#include "everything.h"
int main(void)
{
	struct everything_page page;
	struct everything record;
	struct short_ record_2;

	if (everything_open(&page, "/nowhere") == NULL)
		return 1;
	(void)record;
	(void)record_2;
	return sizeof(record) == %d ? 0 : 1;
}
"""
COMPILERS = {
    "c99": ["gcc", "-std=c99", "-Wpedantic"],
    "c11": ["gcc", "-std=c11", "-Wpedantic"],
    "gnu17": ["gcc", "-std=gnu17", "-O2"],
    "c99-static": ["gcc", "-std=c99", "-Wpedantic", "-DVDSO_STATIC", "-static"],
    "musl": ["musl-gcc", "-std=c99", "-Wpedantic"],
    "musl-static": ["musl-gcc", "-std=c99", "-DVDSO_STATIC", "-static"],
    "c++98": ["g++", "-std=c++98", "-x", "c++", "-Wno-long-long"],
    "c++11": ["g++", "-std=c++11", "-x", "c++", "-Wpedantic"],
    "c++20": ["g++", "-std=c++20", "-x", "c++", "-O2"],
    "picky": ["gcc", "-std=gnu11", "-O2", "-Wshadow", "-Wconversion", "-Wcast-align", "-Wstrict-prototypes"],
}
PACKAGES = {"gcc": "gcc", "g++": "g++", "musl-gcc": "musl-tools"}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("headers")
    for name, layout in (("everything", EVERYTHING), ("short", SHORT), ("shm", SHORT)):
        (directory / f"{name}.h").write_text(header(layout, name, f'/run/"odd" path\\{name}.so'))
    (directory / "use.c").write_text(USE % EVERYTHING.size)
    return directory


@pytest.mark.parametrize("compiler", COMPILERS)
def test_compiles_without_a_word(compiler: str, directory: Path) -> None:
    """And the compiler has checked every offset: each is asserted."""
    command, *words = COMPILERS[compiler]
    program = directory / compiler
    words = [want(command, PACKAGES[command]), *words, "-Wall", "-Wextra", "-Werror", "-o", str(program)]
    done = finish([*words, directory / "use.c"], timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert finish([program]).returncode == 0


def test_a_wrong_offset_is_an_error(directory: Path, tmp_path: Path) -> None:
    text = (directory / "everything.h").read_text()
    (tmp_path / "everything.h").write_text(text.replace("\tuint16_t row[3];", "\tuint16_t row[9];"))
    (tmp_path / "short.h").write_text((directory / "short.h").read_text())
    shutil.copyfile(directory / "use.c", tmp_path / "use.c")
    for standard in ("c99", "c11"):
        done = finish(["gcc", f"-std={standard}", "-c", tmp_path / "use.c", "-o", tmp_path / "use.o"])
        assert done.returncode != 0


def test_structs(directory: Path) -> None:
    text = (directory / "everything.h").read_text()
    for line in (
        "char text[5]; /*",
        "uint8_t blob[3];",
        "float grid[2][3];",
        "char texts[2][4]; /*",
        "struct everything_point point;",
        "struct everything_points points[2][2];",
        "double double_;",
        "double operator_;",
        "int32_t errno_;",
        'double everything_double(void) VDSO_SYMBOL("everything_double.f64");',
        "int16_t everything_points_x(size_t index)",
        r'#define EVERYTHING_PATH "/run/\042odd\042 path\134everything.so"',
    ):
        assert line in text


def test_another_layout_has_another_hash() -> None:
    first, second = header(SHORT, "a", "/a.so"), header(POINT, "a", "/a.so")
    assert f"#define A_SCHEMA UINT64_C({SHORT.hash:#018x})" in first
    assert f"#define A_SCHEMA UINT64_C({POINT.hash:#018x})" in second
