"""The header of a .ply of any kind: its elements and their properties, and where the data begin.

It does not know what a vertex means. Our own, because plyfile holds a list property as Python
objects and reads what a header claims before it has looked whether the file is long enough.
Source: Greg Turk, "The PLY Polygon File Format".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.errors import InvalidModelFile

_MAX_HEADER_BYTES = 256 * 1024
#: More of anything than this many digits can say does not fit on a disk.
_MAX_COUNT_DIGITS = 12

_TYPES = {
    "char": "i1",
    "int8": "i1",
    "uchar": "u1",
    "uint8": "u1",
    "short": "i2",
    "int16": "i2",
    "ushort": "u2",
    "uint16": "u2",
    "int": "i4",
    "int32": "i4",
    "uint": "u4",
    "uint32": "u4",
    "int64": "i8",
    "uint64": "u8",
    "half": "f2",
    "float16": "f2",
    "float": "f4",
    "float32": "f4",
    "double": "f8",
    "float64": "f8",
}
Layout = Literal["ascii", "binary_little_endian", "binary_big_endian"]
_LAYOUTS: dict[str, Layout] = {
    name: name for name in ("ascii", "binary_little_endian", "binary_big_endian")
}


@dataclass(frozen=True)
class Property:
    """A number, or a list of numbers, of every row.

    Attributes:
        dtype: numpy's name of the type without byte order, "f4".
        count_dtype: of the number that stands before a list; None for a single number.
    """

    name: str
    dtype: str
    count_dtype: str | None = None


@dataclass(frozen=True)
class Element:
    """A table of `count` rows."""

    name: str
    count: int
    properties: tuple[Property, ...]

    @property
    def has_lists(self) -> bool:
        """Whether rows may differ in length."""
        return any(p.count_dtype is not None for p in self.properties)

    def dtype(self, byte_order: str, lengths: dict[str, int] | None = None) -> np.dtype[np.void]:
        """Of a row. A list is a count `n NAME` and the column NAME of `lengths[NAME]` numbers."""
        fields: list[tuple[str, str] | tuple[str, str, tuple[int]]] = []
        for p in self.properties:
            if p.count_dtype is None:
                fields.append((p.name, byte_order + p.dtype))
            else:
                fields.append((f"n {p.name}", byte_order + p.count_dtype))
                fields.append((p.name, byte_order + p.dtype, ((lengths or {})[p.name],)))
        return np.dtype(fields)


@dataclass(frozen=True)
class Header:
    """What stands before the data.

    Attributes:
        offset: of the first byte of data.
    """

    layout: Layout
    elements: tuple[Element, ...]
    offset: int

    def element(self, name: str) -> Element | None:
        """The element of that name."""
        return next((e for e in self.elements if e.name == name), None)


def read_header(data: bytes) -> Header:
    """The header of a .ply; nothing behind it is looked at.

    Lines may end with LF, CR LF or CR and with blanks, and comments may hold any byte.

    Raises:
        InvalidModelFile: it is none, or a line of it makes no sense; the text names the line.
    """
    start = data[:_MAX_HEADER_BYTES]
    first = re.match(rb"ply[ \t]*(\r\n|\n|\r)", start)
    if first is None:
        raise InvalidModelFile("Not a .ply file: it does not begin with a PLY header.")
    # A file whose lines end with CR only has none in its header that ends with LF.
    newline = rb"\r" if first[1] == b"\r" else rb"\r?\n"
    end = re.search(newline + rb"end_header[ \t]*" + newline, start)
    if end is None:
        raise InvalidModelFile("Not a .ply file: its PLY header has no end.")
    # Latin-1 because a comment may hold any byte, such as a name in UTF-8.
    lines = re.split(newline.decode(), start[first.end() : end.start()].decode("latin-1"))
    layout: Layout | None = None
    elements: list[tuple[str, int, list[Property]]] = []
    for line in lines:
        match line.split():
            case [] | ["comment" | "obj_info", *_]:
                pass
            case ["format", name, version] if name in _LAYOUTS and version.startswith("1"):
                layout = _LAYOUTS[name]
            case ["element", name, count] if count.isascii() and count.isdecimal():
                if len(count) > _MAX_COUNT_DIGITS:
                    raise InvalidModelFile(
                        f"The .ply says it holds a number of {name[:40]!r} with {len(count)} "
                        "digits."
                    )
                if name in (known for known, _, _ in elements):
                    raise InvalidModelFile(f"The .ply has two elements {name[:40]!r}.")
                elements.append((name, int(count), []))
            case ["property", "list", counts, kind, name] if {counts, kind} <= _TYPES.keys():
                _add(elements, Property(name, _TYPES[kind], _TYPES[counts]), line)
            case ["property", kind, name] if kind in _TYPES:
                _add(elements, Property(name, _TYPES[kind]), line)
            case _:
                raise InvalidModelFile(
                    f"The .ply has a line in its header that makes no sense: {line[:80]!r}."
                )
    if layout is None:
        raise InvalidModelFile("The .ply does not say its format (ascii or binary).")
    found = tuple(Element(name, count, tuple(columns)) for name, count, columns in elements)
    return Header(layout, found, end.end())


def _add(elements: list[tuple[str, int, list[Property]]], added: Property, line: str) -> None:
    if not elements:
        raise InvalidModelFile(f"The .ply has a property before any element: {line[:80]!r}.")
    name, _, columns = elements[-1]
    if added.name in (known.name for known in columns):
        raise InvalidModelFile(
            f"The .ply has the property {added.name[:40]!r} of {name[:40]!r} twice."
        )
    columns.append(added)
