"""The rows of a .ply's elements as numpy tables: ascii, little and big endian.

It reads no more than is asked for and allocates nothing before the file is known to be long
enough. It does not know what the numbers mean.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pipeline.errors import InvalidModelFile
from pipeline.formats.ply_header import Element, Header

#: Columns by property name, [count] of the file's type, float64 in an ascii file.
Table = Mapping[str, npt.NDArray[np.generic]]

#: A list longer than this is no list of a face: the count before it is damaged.
_MAX_LIST = 1 << 20


def read_tables(
    data: bytes, header: Header, wanted: frozenset[str]
) -> tuple[dict[str, Table], int]:
    """The tables of the elements `wanted`, by name, and where the last of them ends.

    Elements before them are passed over, those behind the last are not looked at.

    Raises:
        InvalidModelFile: the file is truncated, or a row is damaged.
    """
    tables: dict[str, Table] = {}
    at = header.offset
    ascii_read = header.layout == "ascii"
    for element in header.elements:
        if wanted <= tables.keys():
            break
        read = _read_ascii if ascii_read else _read_binary
        table, at = read(data, header, element, at, element.name in wanted)
        if element.name in wanted:
            tables[element.name] = table
    return tables, at


def size_of_rest(header: Header, last: str) -> int | None:
    """Bytes of all elements behind `last`; None where only reading them tells."""
    names = [element.name for element in header.elements]
    rest = header.elements[names.index(last) + 1 :]
    if header.layout == "ascii" or any(e.has_lists and e.count for e in rest):
        return None
    return sum(e.count * e.dtype("<").itemsize for e in rest if not e.has_lists)


def _truncated(data: bytes, element: Element, expected: int) -> InvalidModelFile:
    what = "splats" if element.name == "vertex" else f"rows of {element.name[:40]!r}"
    return InvalidModelFile(
        f"The .ply is truncated: {len(data):,} bytes, at least {expected:,} expected for "
        f"{element.count:,} {what}."
    )


def _read_binary(
    data: bytes, header: Header, element: Element, at: int, wanted: bool
) -> tuple[Table, int]:
    order = ">" if header.layout == "binary_big_endian" else "<"
    if not element.count or not element.properties:
        empty = np.zeros(0, element.dtype(order, {p.name: 0 for p in element.properties}))
        return _columns(empty), at
    lengths: dict[str, int] = {}
    if element.has_lists:
        lengths, _ = _lengths_of_row(data, element, order, at)
    dtype = element.dtype(order, lengths)
    end = at + element.count * dtype.itemsize
    if not element.has_lists and len(data) < end:
        raise _truncated(data, element, end)
    # Rows with lists are of one length in nearly every file, a mesh of triangles; then they are
    # a table like any other.
    if len(data) >= end:
        rows = np.frombuffer(data, dtype, element.count, at)
        if all((rows[f"n {name}"] == length).all() for name, length in lengths.items()):
            return _columns(rows), end
    if wanted:
        raise InvalidModelFile(
            f"The .ply has lists of several lengths in its element {element.name[:40]!r}: they "
            "cannot be Gaussian splats."
        )
    if len(element.properties) == 1 and element.properties[0].count_dtype == "u1":
        # The faces of a mesh; there may be tens of millions.
        width = np.dtype(element.properties[0].dtype).itemsize
        try:
            for _ in range(element.count):
                at += 1 + width * data[at]
        except IndexError:
            at = len(data) + 1
        if at > len(data):
            raise _truncated(data, element, at)
        return {}, at
    for _ in range(element.count):
        _, at = _lengths_of_row(data, element, order, at)
    return {}, at


def _lengths_of_row(
    data: bytes, element: Element, order: str, at: int
) -> tuple[dict[str, int], int]:
    """How long each list of the row at `at` is, and where the row ends."""
    lengths = {}
    for p in element.properties:
        count = 1
        if p.count_dtype is not None:
            kind = np.dtype(order + p.count_dtype)
            if at + kind.itemsize > len(data):
                raise _truncated(data, element, at + kind.itemsize)
            count = int(np.frombuffer(data, kind, 1, at)[0])
            if not 0 <= count <= _MAX_LIST:
                raise InvalidModelFile(
                    f"The .ply has a list of {count} numbers in {element.name[:40]!r}."
                )
            lengths[p.name] = count
            at += kind.itemsize
        at += count * np.dtype(p.dtype).itemsize
        if at > len(data):
            raise _truncated(data, element, at)
    return lengths, at


def _columns(rows: npt.NDArray[np.void]) -> Table:
    return {name: rows[name] for name in rows.dtype.names or ()}


def _read_ascii(
    data: bytes, header: Header, element: Element, at: int, wanted: bool
) -> tuple[Table, int]:
    """One row a line; blank lines do not count."""
    least = 2 * len(element.properties)
    if at + element.count * least > len(data) + 1:
        raise _truncated(data, element, at + element.count * least)
    end = _end_of_lines(data, at, element.count)
    if end is None:
        raise InvalidModelFile(
            f"The .ply is truncated: it has fewer than {element.count:,} lines of "
            f"{element.name[:40]!r}."
        )
    if not wanted:
        return {}, end
    if element.has_lists:
        raise InvalidModelFile(
            f"The .ply has lists in its element {element.name[:40]!r}: they cannot be splats."
        )
    width = len(element.properties)
    text = data[at:end]
    try:
        with warnings.catch_warnings():
            # What numpy before 2.3 says where later ones raise.
            warnings.simplefilter("error", DeprecationWarning)
            numbers = np.fromstring(text, np.float64, sep=" ")
    except (ValueError, DeprecationWarning) as error:
        raise InvalidModelFile(
            f"The .ply has a damaged line: a word among its {element.count:,} lines of numbers is "
            "no number."
        ) from error
    if len(numbers) != element.count * width:
        raise InvalidModelFile(
            f"The .ply has a damaged line: {element.count:,} lines of {width} numbers expected, "
            f"{len(numbers):,} numbers found."
        )
    rows = numbers.reshape(element.count, width)
    return {p.name: rows[:, i] for i, p in enumerate(element.properties)}, end


def _end_of_lines(data: bytes, at: int, count: int) -> int | None:
    """Where the next `count` lines that are not blank end; None where there are fewer."""
    newline = b"\r" if data.find(b"\n", at) < 0 else b"\n"
    while count:
        if at >= len(data):
            return None
        end = data.find(newline, at)
        end = len(data) if end < 0 else end + 1
        count -= not data[at:end].isspace()
        at = end
    return at
