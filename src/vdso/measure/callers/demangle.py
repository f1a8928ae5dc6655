"""Names of C++ and Rust as their programmers wrote them.

LLVM's demangler (pycxxfilt) does the work; where it is not installed names stay as the linker has them.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache

# What C++'s templates make is longer than anybody reads, and nothing is gained by taking it apart.
NAME_CHARACTERS_MAX = 4096
# Rust before v0 writes a path as C++ would, the crate's hash last, with what C++ has no letters for spelled
# out.
RUST_HASH = re.compile(r"::h[0-9a-f]{16}(?= |$)")
SPELLED = {
    "$SP$": "@", "$BP$": "*", "$RF$": "&", "$LT$": "<", "$GT$": ">", "$LP$": "(", "$RP$": ")", "$C$": ",",
}  # fmt: skip
SPELLED_CODE = re.compile(r"\$u([0-9a-f]{1,6})\$")
# What compilers and LLVM's passes put behind a name.
SUFFIX = re.compile(r"(?:\.llvm\.[0-9A-F]+|@@?[A-Za-z_][\w.]*)$")

# Parts of a C++ name that have brackets and do not mean by them what others do.
BRACKETED = re.compile(
    r"\(anonymous namespace\)|\{lambda\([^{}]*\)#\d+\}|decltype ?\("
    r"|operator(?:\(\)|<<=|>>=|<=>|<<(?: (?=<))?|>>|<=|>=|->\*|->|<(?: (?=<))?|>| [\w:]+[ *&]*(?=\())"
)
# The last character of a name, before its parameters.
PARAMETERS = re.compile(r"[\w>}\ue000-\uefff](?=\()")
SPLIT_OFF = re.compile(r" \(\.[\w.]+\)$")
# What stands for them meanwhile: Unicode's private area, of which no name has anything.
PRIVATE = re.compile("[\ue000-\uefff]")
HELD, HELD_MAX = 0xE000, 0x1000
BRIEF_CHARACTERS = 60


@lru_cache(maxsize=4096)
def demangled(name: str) -> str:
    """The name as written in the source; the same where it is not mangled, or cannot be taken apart."""
    name = SUFFIX.sub("", name)
    if not name.startswith(("_Z", "_R")) or len(name) > NAME_CHARACTERS_MAX:
        return name
    demangle = library()
    try:
        plain = demangle(name) if demangle is not None else None
    except ValueError:  # it looks mangled, and is not
        plain = None
    if plain is None:
        return name
    return _rust(plain) if RUST_HASH.search(plain) else plain


def _rust(name: str) -> str:
    # An underscore stands before what would not begin a name.
    name = RUST_HASH.sub("", name).replace("::_$", "::$").removeprefix("_" if name.startswith("_$") else "")
    for spelled, meant in SPELLED.items():
        name = name.replace(spelled, meant)
    return SPELLED_CODE.sub(_character, name).replace("..", "::")


def _character(match: re.Match[str]) -> str:
    code = int(match[1], 16)
    return chr(code) if code < 0x110000 and chr(code).isprintable() else match[0]


def brief(name: str) -> str:
    """A name for a line: of a C++ function without its parameters and return type, and without the arguments
    of templates where it is long all the same.
    """
    held: list[str] = []

    def hold(match: re.Match[str]) -> str:
        held.append(match[0])
        return chr(HELD + len(held) - 1)

    rest = BRACKETED.sub(hold, name)
    parameters = next((at for at, _ in _outside(rest) if PARAMETERS.match(rest, at)), None)
    if parameters is None or len(held) > HELD_MAX or PRIVATE.search(name):
        return name
    suffix = SPLIT_OFF.search(rest)
    rest = rest[: parameters + 1]
    start = max((at + 1 for at, character in _outside(rest) if character == " "), default=0)
    rest = rest[start:]
    if len(rest) > BRIEF_CHARACTERS:
        rest = "".join("<..." if character == "<" else character for _, character in _outside(rest))
    rest += suffix[0] if suffix is not None else ""
    return PRIVATE.sub(lambda match: held[ord(match[0]) - HELD], rest)


def _outside(name: str) -> Iterator[tuple[int, str]]:
    """The characters that are not between < and >, with their places; the brackets are outside themselves."""
    depth = 0
    for at, character in enumerate(name):
        depth -= character == ">"
        if depth == 0:
            yield at, character
        depth += character == "<"


@lru_cache(maxsize=1)
def library() -> Callable[[str], str | None] | None:
    """LLVM's demangler, None where it is not installed."""
    try:
        from pycxxfilt import demangle
    except ImportError:
        return None
    return demangle
