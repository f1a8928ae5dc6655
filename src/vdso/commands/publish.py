"""`vdso publish`: JSON lines in, a version of a record each."""

import json
import sys
from typing import IO, TYPE_CHECKING

from vdso.commands.parser import Parser
from vdso.errors import SourceError, UsageError, VdsoError

if TYPE_CHECKING:
    from vdso.pages.publisher import Publisher

HELP = """\
usage: vdso publish NAME FIELD:TYPE... [--from FILE|-] [--slots N] [--mode MODE] [--directory DIR] [--quiet]

Publishes a record under NAME. Each line that comes in is a JSON object of fields and their values, and makes
one version; fields that it does not mention stay as they were. At the end of the lines the page stays,
with the last record.

  --from FILE        read the lines from FILE; - is the standard input (default)
  --slots N          versions that the page keeps, a power of two (4)
  --mode MODE        who may read it, as for chmod: 644 everybody (default), 600 only you
  --directory DIR    where, if not in the usual place: see docs/pages.md
  --quiet            say neither where the page is nor that it cannot be loaded as a library there

types: i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 bool str[N] bytes[N], and arrays of them: f64[10], u8[2][3].
bytes are hexadecimal text in JSON; nan, inf and -inf are the words.

example:
  echo '{"bid": 99.5, "venue": "XLON"}' | vdso publish quotes bid:f64 ask:f64 'venue:str[16]'
  vdso show quotes

exit status:
  0 all lines published; 1 a line was refused (the others were published), or the page could not be; 2 usage
"""


def main(words: list[str]) -> int:
    parser = Parser("publish", HELP)
    parser.add_argument("name")
    parser.add_argument("fields", nargs="+")
    parser.add_argument("--from", dest="source", default="-")
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--mode", default="644")
    parser.add_argument("--directory")
    parser.add_argument("--quiet", action="store_true")
    options = parser.read(words)
    if options is None:
        return 0
    try:
        mode = int(options.mode, 8)
    except ValueError:
        raise UsageError(f"--mode {options.mode}: no such mode", "such as 644 or 600") from None

    from vdso.pages import schema
    from vdso.pages.publisher import publish

    types = []
    for field in options.fields:
        name, colon, text = field.partition(":")
        if not colon:
            raise UsageError(f"{field}: a field is NAME:TYPE", "such as bid:f64")
        types.append((name, schema.parse_type(text, name)))
    layout = schema.make(options.name, types)
    source = _open(options.source)
    try:
        with publish(
            options.name, layout, slots=options.slots, mode=mode, directory=options.directory
        ) as published:
            if not options.quiet:
                note = ", from where libraries cannot be loaded (noexec)" if published.noexec else ""
                print(f"vdso: {options.name} is {published.path}{note}", file=sys.stderr)
            return _publish_lines(published, source)
    finally:
        if options.source != "-":
            source.close()


def _open(path: str) -> IO[bytes]:
    if path == "-":
        if sys.stdin is None:
            raise SourceError("the standard input is closed", "--from FILE reads a file")
        return sys.stdin.buffer
    try:
        return open(path, "rb")
    except OSError as error:
        raise SourceError(f"{path}: {str(error.strerror).lower()}") from None


def _publish_lines(published: "Publisher", source: IO[bytes]) -> int:
    from vdso.commands.values import from_json

    code = 0
    for number, line in enumerate(source, 1):
        if not line.strip():
            continue
        try:
            published.update(**from_json(published.layout, json.loads(line)))
        except (ValueError, RecursionError, VdsoError) as error:
            said = error.message if isinstance(error, VdsoError) else f"no JSON: {error}"
            print(f"vdso: line {number}: {said}", file=sys.stderr)
            code = 1
    return code
