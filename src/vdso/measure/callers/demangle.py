"""Names of C++ and Rust as their programmers wrote them.

LLVM's demangler (pycxxfilt) does the work; where it is not installed names stay as the linker has them.
"""

import re
from collections.abc import Callable
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


@lru_cache(maxsize=1)
def library() -> Callable[[str], str | None] | None:
    """LLVM's demangler, None where it is not installed."""
    try:
        from pycxxfilt import demangle
    except ImportError:
        return None
    return demangle
