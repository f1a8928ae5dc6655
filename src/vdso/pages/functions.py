"""What a live library exports for a layout: which functions, by which names, and what each knows of the page.

Read by library.py, which makes the functions, and by header.py, which declares them. Knows neither ELF nor
C syntax beyond the names of types.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vdso.errors import BadSchema
from vdso.pages.schema import SCALARS, Field, Layout

# Words that C or C++ keeps to itself, and macros of its headers.
KEYWORDS = frozenset(
    """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t
    char8_t class co_await co_return co_yield compl concept const const_cast consteval constexpr constinit
    continue decltype default delete do double dynamic_cast else enum explicit export extern false float for
    friend goto if inline int long mutable namespace new noexcept not not_eq nullptr operator or or_eq
    private protected public register reinterpret_cast requires restrict return short signed sizeof static
    static_assert static_cast struct switch template this thread_local throw true try typedef typeid
    typename typeof union unsigned using virtual void volatile wchar_t while xor xor_eq linux unix errno
    stdin stdout stderr NULL EOF
    """.split()  # noqa: SIM905
)

# Beginnings of C library functions: the page `sem` would export a sem_wait() of its own, and whoever is
# linked with it would wait there.
C_LIBRARY = frozenset(
    """
    aio argp argz atomic call clnt clock cnd dl envz epoll error ether eventfd fanotify getopt if inet
    inotify io key memfd mq mtx obstack pidfd pkey posix process pthread quick_exit res sched sem shm
    signalfd svc thrd timer timerfd tss xdr
    """.split()  # noqa: SIM905
)


@dataclass(frozen=True, slots=True)
class Constant:
    """A number that a trampoline hands to the reader code: 32 bits wide, or 64."""

    value: int
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Function:
    """One exported function.

    `name` is without the page's own. `tag` is the type that the second name (`name.tag`) carries; None:
    there is no second name, the function is the same in every library. `target` is the function of
    c/reader/reader.h that it jumps into, with the caller's arguments (`parameters`, in C), then the page
    unless `pageless`, then `constants`. `derived`: it gives way to a field's own function of the same name.
    """

    name: str
    target: str
    returns: str
    parameters: tuple[str, ...]
    constants: tuple[Constant, ...]
    tag: str | None
    about: str
    pageless: bool = False
    derived: bool = False


def c_name(name: str) -> str:
    """The page's name as the beginning of C identifiers: what no identifier can have becomes `_`.

    With `page_` in front where it would begin with a digit, or as the C library's own.
    """
    word = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name)
    return f"page_{word}" if not word or word[0].isdigit() or word in C_LIBRARY else word


def unique_members(names: Sequence[str]) -> dict[str, str]:
    """The names of a struct's members for these names: their own, or with `_` behind it where that is no
    name in C."""
    taken = set(names)
    members = {}
    for name in names:
        member = name
        while member in KEYWORDS or (member != name and member in taken):
            member += "_"
        members[name] = member
        taken.add(member)
    return members


def functions(layout: Layout, slots: int, stride: int) -> tuple[Function, ...]:
    """All functions, in the order of the fields, and then those that every library has.

    `slots` and `stride` are the page's. What is only convenient (`_count`, `_copy`) gives way to a field
    whose function has that name: `levels_count` is the `count` of the records in `levels`. Raises BadSchema
    when two fields would have one function.
    """
    seen = {"snapshot_from": "a function of the header"}
    found = [*_of_fields(layout, _Place(slots, stride)), *_of_pages(layout, slots, stride)]
    for function in found:
        if function.derived:
            continue
        if function.name in seen:
            both = f"{seen[function.name]} and {function.about}"
            raise BadSchema(
                f"{layout.name}: {both} would both be {function.name}() in C", "rename one of the fields"
            )
        seen[function.name] = function.about
    return tuple(function for function in found if not function.derived or function.name not in seen)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a walk through nested records stands. `row`: step and count of the array of records that it is
    in."""

    slots: int
    stride: int
    prefix: str = ""
    offset: int = 0
    row: tuple[int, int] | None = None

    def inside(self, field: Field) -> "_Place":
        row = self.row if field.count is None else (field.item_size, field.count)
        return _Place(self.slots, self.stride, f"{self.prefix}{field.name}_", self.offset + field.offset, row)


def _of_fields(layout: Layout, place: _Place) -> Iterator[Function]:
    for field in layout.fields:
        if field.count is not None and place.row is None:
            yield _count(field, place)
        if field.kind == "record":
            # A row of rows has no functions: two indexes are for the snapshot.
            if field.count is None or place.row is None:
                assert field.record is not None
                yield from _of_fields(field.record, place.inside(field))
        elif field.count is not None and place.row is not None:
            continue
        elif field.kind in SCALARS:
            yield from _of_numbers(field, place)
        else:
            yield _of_bytes(field, place)


def _count(field: Field, place: _Place) -> Function:
    name = f"{place.prefix}{field.name}"
    assert field.count is not None
    return Function(
        f"{name}_count",
        "count",
        "size_t",
        (),
        (Constant(field.count),),
        "n",
        f"how many {name} has",
        pageless=True,
        derived=True,
    )


def _of_numbers(field: Field, place: _Place) -> Iterator[Function]:
    name, offset = f"{place.prefix}{field.name}", place.offset + field.offset
    c_type = SCALARS[field.kind][1]
    row = place.row if field.count is None else (field.item_size, field.count)
    if row is None:
        constants = Constant(place.slots - 1), Constant(place.stride), Constant(offset)
        yield Function(name, field.kind, c_type, (), constants, field.kind, name)
        return
    constants = Constant(offset), Constant(row[0]), Constant(row[1])
    yield Function(
        name,
        f"{field.kind}_at",
        c_type,
        ("size_t index",),
        constants,
        f"{field.kind}_at",
        f"an element of {name}",
    )
    if field.count is not None:
        yield Function(
            f"{name}_copy",
            "items",
            "int",
            (f"{c_type} *out", "size_t count"),
            constants,
            field.kind,
            f"elements of {name}, of one version",
            derived=True,
        )


def _of_bytes(field: Field, place: _Place) -> Function:
    name, offset = f"{place.prefix}{field.name}", place.offset + field.offset
    text = field.kind == "str"
    returns, out = ("size_t", "char *out") if text else ("int", "void *out")
    row = place.row if field.count is None else (field.item_size, field.count)
    if row is not None:
        constants = (
            Constant(offset << 32 | field.item_size, wide=True),
            Constant(row[0] << 32 | row[1], wide=True),
        )
        return Function(
            name,
            "text_at" if text else "bytes_at",
            returns,
            ("size_t index", out, "size_t size"),
            constants,
            f"{field.kind}_at",
            f"an element of {name}",
        )
    if text:
        return Function(
            name,
            "text",
            returns,
            (out, "size_t size"),
            (Constant(offset), Constant(field.item_size)),
            "str",
            name,
        )
    constants_3 = Constant(offset), Constant(1), Constant(field.item_size)
    return Function(name, "items", returns, (out, "size_t size"), constants_3, "bytes", name)


def _of_pages(layout: Layout, slots: int, stride: int) -> Iterator[Function]:
    yield Function(
        "snapshot",
        "snapshot",
        "int",
        ("void *out",),
        (Constant(slots - 1), Constant(stride), Constant(layout.size)),
        None,
        "the record, in this file's layout",
    )
    yield Function(
        "snapshot_of",
        "snapshot_of",
        "int",
        ("void *out", "uint64_t schema", "uint64_t *version"),
        (Constant(layout.hash, wide=True), Constant(layout.size)),
        None,
        "the record, for who was built for the layout `schema`, and its version",
    )
    yield Function("version", "version", "uint64_t", (), (), None, "the newest version, 0: never written")
    yield Function("snapshot_schema", "schema", "uint64_t", (), (), None, "the hash of the layout")
    yield Function(
        "wait",
        "wait",
        "int",
        ("uint64_t seen", "int64_t timeout_ns"),
        (),
        None,
        "sleeps until the version is no longer `seen`",
    )
    yield Function(
        "replaced", "replaced", "bool", (), (), None, "whether another page has the name by now, or none"
    )
    yield Function(
        "publisher_alive", "alive", "bool", (), (), None, "whether the publisher lives, in this pid namespace"
    )
