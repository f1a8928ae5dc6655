"""What a record is: its fields' names, types and places.

A schema is a class (a page class, a dataclass, a msgspec.Struct, a ctypes.Structure) or a numpy structured
dtype; a Layout is what all of them come down to. Places are those of the C struct, and of
`numpy.dtype(..., align=True)`.

Knows nothing of files, and imports neither numpy, msgspec nor ctypes: who hands in one of theirs has
imported it.
"""

import dataclasses
import sys
import typing
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar, dataclass_transform

from vdso.errors import BadSchema

# kind: (bytes, the C type, numpy's code, struct's code)
SCALARS = {
    "i8": (1, "int8_t", "i1", "b"),
    "i16": (2, "int16_t", "i2", "h"),
    "i32": (4, "int32_t", "i4", "i"),
    "i64": (8, "int64_t", "i8", "q"),
    "u8": (1, "uint8_t", "u1", "B"),
    "u16": (2, "uint16_t", "u2", "H"),
    "u32": (4, "uint32_t", "u4", "I"),
    "u64": (8, "uint64_t", "u8", "Q"),
    "f32": (4, "float", "f4", "f"),
    "f64": (8, "double", "f8", "d"),
    "bool": (1, "bool", "?", "?"),
}
KINDS = (*SCALARS, "str", "bytes", "record")

RECORD_BYTES_MAX = 1 << 26
FIELDS_MAX = 4096  # of one record, those of nested records too
DEPTH_MAX = 16
DIMENSIONS_MAX = 4
NAME_BYTES_MAX = 64

# A page class's layout, and its fields' types by name, as attributes.
LAYOUT = "__vdso_layout__"
TYPES = "__vdso_types__"

# What readers, snapshots and live libraries call their own things: no field has one of these names.
RESERVED = frozenset(
    [
        *("age", "as_", "asdict", "astuple", "close", "open", "page", "publisher_alive"),
        *("reopen", "replaced", "snapshot", "version", "wait", "watch"),
    ]
)

# ---- The result ----


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One field of a record.

    `kind` is one of KINDS; `offset` is in bytes from the record's beginning; `item_size` is the bytes of
    one item (a number, N of a Str[N] or Bytes[N], a nested record with its tail padding); `shape` is ()
    for a single item and the array's lengths, outermost first, otherwise; `record` is a nested record's
    layout.
    """

    name: str
    kind: str
    offset: int
    item_size: int
    shape: tuple[int, ...] = ()
    record: "Layout | None" = None

    @property
    def count(self) -> int | None:
        """Items of an array, all its dimensions together, in C order; None for a single item."""
        if not self.shape:
            return None
        count = 1
        for length in self.shape:
            count *= length
        return count

    @property
    def size(self) -> int:
        """Bytes of the whole field."""
        return self.item_size * (1 if self.count is None else self.count)

    @property
    def align(self) -> int:
        if self.record is not None:
            return self.record.align
        return 1 if self.kind in ("str", "bytes") else self.item_size

    @property
    def type_name(self) -> str:
        """As one writes it: f64, str[16], f64[10], Level[2][3]."""
        base = self.record.name if self.record is not None else self.kind
        if self.kind in ("str", "bytes"):
            base += f"[{self.item_size}]"
        return base + "".join(f"[{length}]" for length in self.shape)


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """A record: `size` is sizeof the C struct, tail padding included, and `align` its alignment, in bytes.

    `hash` is 64 bits over names, types and places of the fields, nested ones too. `name`, which is the
    schema's, does not count when layouts are compared. `depth` is 1 for a record without nested ones;
    `total` counts the fields, those of nested records too.
    """

    name: str = dataclasses.field(compare=False)
    fields: tuple[Field, ...]
    size: int
    align: int
    hash: int
    depth: int = 1
    total: int = 0

    @property
    def record_size(self) -> int:
        """Bytes of one record in a page: `size` up to a multiple of 8."""
        return (self.size + 7) // 8 * 8

    @property
    def dtype(self) -> Any:
        """The numpy dtype with the same places. Imports numpy."""
        import numpy

        return numpy.dtype(
            {
                "names": [field.name for field in self.fields],
                "formats": [_numpy_format(field) for field in self.fields],
                "offsets": [field.offset for field in self.fields],
                "itemsize": self.size,
            },
            align=True,
        )


def _numpy_format(field: Field) -> Any:
    if field.record is not None:
        base: Any = field.record.dtype
    elif field.kind in SCALARS:
        base = SCALARS[field.kind][2]
    else:
        base = f"S{field.item_size}"
    return (base, field.shape) if field.shape else base


def make(name: str, fields: Iterable[tuple[str, "FieldType"]]) -> Layout:
    """Lays fields out as C does. Raises BadSchema."""
    placed: list[Field] = []
    seen: set[str] = set()
    end, align, depth, total = 0, 1, 0, 0
    for field_name, kind in fields:
        check_name(field_name)
        if field_name in seen:
            raise BadSchema(f"{name}: two fields are called {field_name}")
        seen.add(field_name)
        field = Field(field_name, kind.kind, 0, kind.item_size, kind.shape, kind.record)
        offset = (end + field.align - 1) // field.align * field.align
        end = offset + field.size
        total += 1
        if kind.record is not None:
            depth = max(depth, kind.record.depth)
            total += kind.record.total
        if end > RECORD_BYTES_MAX:
            raise BadSchema(f"{name}.{field_name}: a record has at most {RECORD_BYTES_MAX} bytes")
        if total > FIELDS_MAX:
            raise BadSchema(f"{name}: a record has at most {FIELDS_MAX} fields, those of nested records too")
        if depth >= DEPTH_MAX:
            raise BadSchema(f"{name}.{field_name}: records are nested at most {DEPTH_MAX} deep")
        align = max(align, field.align)
        placed.append(dataclasses.replace(field, offset=offset))
    if not placed:
        raise BadSchema(f"{name} has no fields")
    size = (end + align - 1) // align * align
    return Layout(name, tuple(placed), size, align, _hash(placed), depth + 1, total)


def check_name(name: str) -> None:
    """Whether a field may be called so: a name in Python and in C, and none of ours. Raises BadSchema."""
    if not name.isidentifier() or not name.isascii():
        raise BadSchema(f"{name!r} is no name for a field", "letters, digits and _, as in C")
    if name.startswith("_"):
        raise BadSchema(f"{name}: a field's name does not begin with _")
    if len(name) > NAME_BYTES_MAX:
        raise BadSchema(f"{name}: a field's name has at most {NAME_BYTES_MAX} bytes")
    if name in RESERVED:
        raise BadSchema(
            f"{name}: a reader's own {name} would hide a field of that name",
            f"say {name.rstrip('_')}_value or so",
        )


def _hash(fields: Iterable[Field]) -> int:
    """FNV-1a, 64 bits: stable, and a few lines in any language. Whoever must be sure compares the layouts."""
    value = 0xCBF29CE484222325
    for field in fields:
        inner = "" if field.record is None else f"{field.record.hash:016x}"
        text = f"{field.name}:{field.kind}{inner}:{field.item_size}{list(field.shape)}@{field.offset};"
        for byte in text.encode():
            value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def differences(found: Layout, wanted: Layout) -> list[str]:
    """How `found` differs from `wanted`, one phrase a field. Empty when they are the same."""
    said = []
    have = {field.name: field for field in found.fields}
    for field in wanted.fields:
        other = have.pop(field.name, None)
        if other is None:
            said.append(f"{field.name} is not there")
        elif (other.kind, other.shape) != (field.kind, field.shape):
            said.append(f"{field.name} is {other.type_name}, not {field.type_name}")
        elif other.record is not None and field.record is not None:
            said += [f"{field.name}.{phrase}" for phrase in differences(other.record, field.record)]
        elif other.item_size != field.item_size:
            said.append(f"{field.name} is {other.type_name}, not {field.type_name}")
    said += [f"{name} is new" for name in have]
    if not said and found != wanted:
        order = ", ".join(field.name for field in found.fields)
        said.append(f"the order is {order}")
    return said


# ---- Types ----


@dataclasses.dataclass(frozen=True, slots=True)
class FieldType:
    """What an annotation comes down to: a field without name and place."""

    kind: str
    item_size: int
    shape: tuple[int, ...] = ()
    record: Layout | None = None
    cls: type | None = dataclasses.field(default=None, compare=False)  # the class that a record was said by

    def __repr__(self) -> str:
        return f"<{Field('', self.kind, 0, self.item_size, self.shape, self.record).type_name}>"


if TYPE_CHECKING:
    I8: TypeAlias = int
    I16: TypeAlias = int
    I32: TypeAlias = int
    I64: TypeAlias = int
    U8: TypeAlias = int
    U16: TypeAlias = int
    U32: TypeAlias = int
    U64: TypeAlias = int
    F32: TypeAlias = float
    F64: TypeAlias = float
    Bool: TypeAlias = bool
    # Type checkers allow no numbers in brackets: they are Any to mypy; pyright wants Annotated[str, Str[16]]
    Str: Any
    Bytes: Any
    Array: Any
else:
    I8, I16, I32, I64, U8, U16, U32, U64 = (
        Annotated[int, FieldType(kind, SCALARS[kind][0])] for kind in SCALARS if kind[0] in "iu"
    )
    F32, F64 = (Annotated[float, FieldType(kind, SCALARS[kind][0])] for kind in ("f32", "f64"))
    Bool = Annotated[bool, FieldType("bool", 1)]

    class Str:
        """Str[N]: text of at most N bytes of UTF-8, kept with zero bytes behind it."""

        def __class_getitem__(cls, size: int) -> Any:
            return Annotated[str, FieldType("str", length_of("Str", size))]

    class Bytes:
        """Bytes[N]: N bytes. A shorter value is filled up with zero bytes; readers get all N."""

        def __class_getitem__(cls, size: int) -> Any:
            return Annotated[bytes, FieldType("bytes", length_of("Bytes", size))]

    class Array:
        """Array[T, N]: N items of T, which may be an array again; Array[T, N, M] is Array[Array[T, M], N]."""

        def __class_getitem__(cls, words: Any) -> Any:
            if not isinstance(words, tuple) or len(words) < 2:
                raise BadSchema("an array has a type and a length", "such as Array[F64, 10]")
            item, *lengths = words
            shape = tuple(length_of("Array", length) for length in lengths)
            return Annotated[tuple[Any, ...], arrayed(field_type(item, "Array"), shape, "Array")]


def length_of(what: str, size: Any) -> int:
    if isinstance(size, bool) or not hasattr(size, "__index__"):
        raise BadSchema(f"{what}[{size!r}]: a length is a whole number")
    number = int(size.__index__())
    if not 1 <= number <= RECORD_BYTES_MAX:
        raise BadSchema(f"{what}[{number}]: a length is from 1 to {RECORD_BYTES_MAX}")
    return number


def arrayed(inner: FieldType, shape: tuple[int, ...], where: str) -> FieldType:
    """An array of these. Raises BadSchema."""
    shape = shape + inner.shape
    if len(shape) > DIMENSIONS_MAX:
        raise BadSchema(f"{where}: an array has at most {DIMENSIONS_MAX} dimensions")
    return dataclasses.replace(inner, shape=shape)


def scalar(kind: str) -> FieldType:
    return FieldType(kind, SCALARS[kind][0])


def nested(layout: Layout, cls: type | None = None) -> FieldType:
    return FieldType("record", layout.size, (), layout, cls)


def field_type(annotation: Any, where: str) -> FieldType:
    """What an annotation means; `where` names the field in errors. Raises BadSchema."""
    if isinstance(annotation, FieldType):
        return annotation
    if typing.get_origin(annotation) is Annotated:
        plain, *marks = typing.get_args(annotation)
        for mark in marks:
            if isinstance(mark, FieldType) or typing.get_origin(mark) is Annotated:
                return field_type(mark, where)
        return field_type(plain, where)
    if annotation is bool:
        return scalar("bool")
    if annotation is int:
        return scalar("i64")
    if annotation is float:
        return scalar("f64")
    if annotation is str or annotation is Str:
        raise BadSchema(f"{where}: text has a greatest length", "say Str[16], in bytes of UTF-8")
    if annotation is bytes or annotation is Bytes:
        raise BadSchema(f"{where}: bytes have a length", "say Bytes[16]")
    if annotation in (Array, list, tuple) or typing.get_origin(annotation) in (list, tuple):
        raise BadSchema(f"{where}: an array has a type and a length", "say Array[F64, 10]")
    found = _ctypes_type(annotation, where) or _numpy_type(annotation, where)
    if found is not None:
        return found
    if isinstance(annotation, Layout) or _has_fields(annotation):
        return nested(layout_of(annotation), annotation if isinstance(annotation, type) else None)
    said = getattr(annotation, "__name__", None) or repr(annotation)
    raise BadSchema(
        f"{where}: no field can be of type {said}",
        "I8 to I64, U8 to U64, F32, F64, Bool, Str[N], Bytes[N], Array[T, N], int, float, bool, or a record",
    )


# ---- Schemas ----

PageClass = TypeVar("PageClass", bound=type)


@dataclass_transform(field_specifiers=(dataclasses.field,))
def page(cls: PageClass) -> PageClass:
    """Makes a class whose annotations are a record's fields a dataclass that knows its layout.

    Raises BadSchema where a field's name or type cannot be.
    """
    frame = sys._getframe(1)
    dataclasses.dataclass(cls)  # in place
    types = _types(cls, {**frame.f_globals, **frame.f_locals})
    setattr(cls, LAYOUT, make(cls.__name__, types.items()))
    setattr(cls, TYPES, types)
    return cls


def layout_of(schema: Any) -> Layout:
    """The layout of a schema: see this module's docstring.

    Raises BadSchema.
    """
    if isinstance(schema, Layout):
        return schema
    if isinstance(schema, type):
        own = schema.__dict__.get(LAYOUT)
        if own is not None:
            return typing.cast(Layout, own)
        if _has_fields(schema):
            return make(schema.__name__, types_of(schema).items())
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(schema, numpy.dtype) and schema.names:
        return _from_dtype(schema)
    said = schema.__name__ if isinstance(schema, type) else repr(schema)
    raise BadSchema(
        f"{said} says no fields",
        "a class under @vdso.page, a dataclass, msgspec.Struct, ctypes.Structure or numpy structured dtype",
    )


def defaults_of(schema: Any) -> Mapping[str, Any]:
    """The values that a schema gives to its fields, by name; fields without one are not in it."""
    found: dict[str, Any] = {}
    if isinstance(schema, type) and dataclasses.is_dataclass(schema):
        for field in dataclasses.fields(schema):
            if field.default is not dataclasses.MISSING:
                found[field.name] = field.default
            elif field.default_factory is not dataclasses.MISSING:
                found[field.name] = field.default_factory()
    elif hasattr(schema, "__struct_fields__"):
        nothing = sys.modules["msgspec"].NODEFAULT
        names, values = schema.__struct_fields__, schema.__struct_defaults__
        for name, value in zip(names[len(names) - len(values) :], values, strict=True):
            if value is not nothing:
                factory = getattr(value, "factory", None)
                found[name] = value if factory is None else factory()
    return found


def _has_fields(schema: Any) -> bool:
    return isinstance(schema, type) and (
        dataclasses.is_dataclass(schema)
        or hasattr(schema, "__struct_fields__")
        or _is_ctypes_structure(schema)
    )


def _is_ctypes_structure(schema: type) -> bool:
    ctypes = sys.modules.get("ctypes")
    return ctypes is not None and issubclass(schema, ctypes.Structure)


def types_of(cls: type) -> dict[str, "FieldType"]:
    """The types of a page class's, dataclass's, msgspec.Struct's or ctypes.Structure's fields. Raises
    BadSchema.
    """
    if _is_ctypes_structure(cls):
        return _ctypes_types(cls)
    own: dict[str, FieldType] | None = cls.__dict__.get(TYPES)
    return _types(cls, None) if own is None else own


def _types(cls: Any, names: dict[str, Any] | None) -> dict[str, "FieldType"]:
    try:
        hints = typing.get_type_hints(cls, None, names, include_extras=True)
    except NameError as error:
        raise BadSchema(f"{cls.__name__}: {error}") from None
    if dataclasses.is_dataclass(cls):
        order = [field.name for field in dataclasses.fields(cls)]
    else:
        order = list(cls.__struct_fields__)
    return {name: field_type(hints[name], f"{cls.__name__}.{name}") for name in order}


def _ctypes_types(cls: Any) -> dict[str, "FieldType"]:
    fields: dict[str, FieldType] = {}
    for base in reversed(cls.__mro__):
        for entry in base.__dict__.get("_fields_", ()):
            where = f"{cls.__name__}.{entry[0]}"
            if len(entry) > 2:
                raise BadSchema(f"{where}: a bit field has no place of its own")
            fields[entry[0]] = field_type(entry[1], where)
    return fields


# ctypes' codes. Integers go by their size, which is the C compiler's.
_CTYPES_SIGNED = "bhilq"
_CTYPES_UNSIGNED = "BHILQ"


def _ctypes_type(kind: Any, where: str) -> FieldType | None:
    ctypes = sys.modules.get("ctypes")
    if ctypes is None or not isinstance(kind, type):
        return None
    if issubclass(kind, ctypes.Array):
        if kind._type_ is ctypes.c_char:  # type: ignore[attr-defined]
            return FieldType("bytes", length_of("c_char", kind._length_))  # type: ignore[attr-defined]
        inner = field_type(kind._type_, where)  # type: ignore[attr-defined]
        return arrayed(inner, (length_of("array", kind._length_),), where)  # type: ignore[attr-defined]
    if not issubclass(kind, ctypes._SimpleCData):
        return None
    code = getattr(kind, "_type_", "")
    size = ctypes.sizeof(kind)
    if getattr(kind, f"__ctype_{'le' if sys.byteorder == 'little' else 'be'}__", kind) is kind:
        if code in _CTYPES_SIGNED:
            return scalar(f"i{size * 8}")
        if code in _CTYPES_UNSIGNED:
            return scalar(f"u{size * 8}")
        if code in ("f", "d"):
            return scalar(f"f{size * 8}")
        if code == "?":
            return scalar("bool")
        if code == "c":
            return FieldType("bytes", 1)
    raise BadSchema(f"{where}: no field can be of type {kind.__name__}")


def _from_dtype(dtype: Any) -> Layout:
    return make("record", [(name, field_type(dtype.fields[name][0], name)) for name in dtype.names])


def _numpy_type(kind: Any, where: str) -> FieldType | None:
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    if isinstance(kind, type) and issubclass(kind, numpy.generic):
        kind = numpy.dtype(kind)
    if not isinstance(kind, numpy.dtype):
        return None
    if kind.subdtype is not None:
        base, shape = kind.subdtype
        return arrayed(field_type(base, where), tuple(length_of("array", length) for length in shape), where)
    if kind.names:
        return nested(_from_dtype(kind))
    if kind.kind in "iuf" and f"{kind.kind}{kind.itemsize * 8}" in SCALARS:
        return scalar(f"{kind.kind}{kind.itemsize * 8}")
    if kind.kind == "b":
        return scalar("bool")
    if kind.kind == "S" and kind.itemsize:
        return FieldType("bytes", kind.itemsize)
    hint = "text is S, in bytes, not U" if kind.kind == "U" else None
    raise BadSchema(f"{where}: no field can be of type {kind}", hint)


# ---- Types by name ----


def parse_type(text: str, where: str) -> FieldType:
    """A type as the command line has it: f64, u32, bool, str[16], bytes[8], f64[10], u8[2][3].

    Raises BadSchema.
    """
    base, *rest = text.replace(" ", "").split("[")
    lengths = []
    for part in rest:
        number = part.removesuffix("]")
        if part == number or not number.isascii() or not number.isdigit():
            raise BadSchema(
                f"{where}: {text!r} is no type", "such as f64, u32, bool, str[16], bytes[8], f64[10]"
            )
        lengths.append(length_of(base, int(number)))
    base = {"int": "i64", "float": "f64"}.get(base.lower(), base.lower())
    if base in SCALARS:
        inner = scalar(base)
    elif base in ("str", "bytes"):
        if not lengths:
            raise BadSchema(f"{where}: {base} has a length", f"such as {base}[16]")
        inner = FieldType(base, lengths.pop(0))
    else:
        hint = f"{', '.join(SCALARS)}, str[N], bytes[N], and arrays: f64[10]"
        raise BadSchema(f"{where}: no such type: {text!r}", hint)
    return arrayed(inner, tuple(lengths), where) if lengths else inner
