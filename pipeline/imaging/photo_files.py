"""What can be told and mended of a photo's bytes before they are decoded, as browsers do it.

It does not decode: a file that is mended here may still turn out to be damaged.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.imaging.coded_light import CodedLight

_PNG = b"\x89PNG\r\n\x1a\n"
#: The last chunk of every PNG, with its checksum.
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_JPEG_END = b"\xff\xd9"

_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF = (b"avif", b"avis")


def coded_as(data: bytes) -> str | None:
    """ "HEIF" or "AVIF" for a photo in a file of boxes (ISO 23008-12), whatever its name says."""
    if data[4:8] != b"ftyp":
        return None
    (length,) = struct.unpack_from(">I", data)
    # The first brand, a version, and the others that it goes by, too.
    box = data[8 : min(length, 256)]
    brands = {box[at : at + 4] for at in range(0, len(box) - 3, 4)}
    if brands & set(_AVIF):
        return "AVIF"
    return "HEIF" if box[:4] in _HEIC else None


def foreign_kind(data: bytes) -> str | None:
    """What a file is that no decoder of ours can open, with what to do; None if unknown."""
    coded = coded_as(data)
    if coded is not None:
        return f"The file is {_NAMES[coded]} photo that is damaged or truncated."
    if data[4:8] == b"ftyp":
        return "The file is a video: send one of its pictures, as JPEG or PNG."
    for magic, name in _FOREIGN.items():
        if data.startswith(magic):
            return f"The file is {name}: send a photo, as JPEG or PNG."
    for magic, name in ((_PNG, "PNG"), (b"\xff\xd8\xff", "JPEG")):
        if data.startswith(magic):
            return f"The file is a {name} that is damaged or truncated."
    return None


_NAMES = {"HEIF": "a HEIC", "AVIF": "an AVIF"}
_FOREIGN = {
    b"%PDF": "a PDF document",
    b"<svg": "an SVG drawing",
    b"<!DOCTYPE html": "a web page",
    b"<html": "a web page",
    b"8BPS": "a Photoshop document",
    b"\xff\x0a": "a JPEG XL picture",
    b"\0\0\0\x0cJXL ": "a JPEG XL picture",
    b"glTF": "a 3D model",
    b"ply\n": "a 3D model",
    b"PK\x03\x04": "a zip archive",
}


@dataclass(frozen=True)
class _Chunk:
    kind: bytes
    body: memoryview
    start: int
    end: int
    is_whole: bool


def _chunks(data: bytes) -> Iterator[_Chunk]:
    """The chunks of a PNG as far as they can be followed; `is_whole`: the checksum is right."""
    view, at = memoryview(data), len(_PNG)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            return
        (checksum,) = struct.unpack_from(">I", data, end - 4)
        is_whole = zlib.crc32(view[at + 4 : end - 4]) == checksum
        yield _Chunk(kind, view[at + 8 : end - 4], at, end, is_whole)
        at = end


def mended_png(data: bytes) -> tuple[bytes, tuple[str, ...]]:
    """A PNG without the chunks that are damaged and that pictures can do without; and notes.

    A PNG that ends behind its pixels, without the chunk that says so or within it, gets it.
    """
    if not data.startswith(_PNG):
        return data, ()
    notes: list[str] = []
    damaged: list[_Chunk] = []
    last: _Chunk | None = None
    for chunk in _chunks(data):
        last = chunk
        # A small first letter says that a reader may ignore the chunk.
        if not chunk.is_whole and chunk.kind[:1].islower():
            damaged.append(chunk)
    if any(chunk.kind == b"iCCP" for chunk in damaged):
        notes.append("The colour profile of the photo is damaged: its colours are taken as sRGB.")
    if any(chunk.kind == b"tRNS" for chunk in damaged):
        notes.append("The transparency of the photo is damaged and is not used.")
    # Whether the pixels are all there, the decoder finds out.
    if last is not None and last.kind != b"IEND" and PNG_END.startswith(data[last.end :]):
        data = data[: last.end] + PNG_END
    for chunk in reversed(damaged):
        data = data[: chunk.start] + data[chunk.end :]
    return data, tuple(notes)


#: Where the boxes that describe the photo stand in a file of boxes, before its pixels.
_DESCRIBED = 1 << 16


def turned_by_itself(data: bytes) -> bool:
    """Whether a HEIF says how it is to be turned or mirrored. What its EXIF block says of that is
    of no account then (ISO 23008-12, 6.5.10)."""
    return any(data.find(kind, 0, _DESCRIBED) >= 0 for kind in (b"irot", b"imir"))


def coded_light(data: bytes) -> CodedLight | None:
    """How a PNG, HEIC or AVIF says that its numbers mean light (ITU-T H.273); None: it does not."""
    if data.startswith(_PNG):
        for chunk in _chunks(data):
            if chunk.kind == b"cICP" and chunk.is_whole and len(chunk.body) == 4:
                return CodedLight(chunk.body[0], chunk.body[1])
            if chunk.kind == b"IDAT":
                break
        return None
    if coded_as(data) is None:
        return None
    # Properties stand before the pixels; the photo's own come first.
    at = data.find(b"colrnclx", 0, _DESCRIBED)
    if at < 0 or at + 12 > len(data):
        return None
    return CodedLight(*struct.unpack_from(">HH", data, at + 8))


def jpeg_with_its_end(data: bytes, pixels_of: Callable[[bytes], bytes]) -> bytes | None:
    """A JPEG that only lacks its end mark, with one; None where pixels are missing, too.

    A decoder paints what is missing from whatever follows. So the picture is whole if it does not
    matter what follows.

    Args:
        pixels_of: decodes a file that has an end; raises what it likes.
    """
    data = data.removesuffix(b"\xff")  # half of the mark
    candidates = [data + filler + _JPEG_END for filler in _FILLERS]
    try:
        first = pixels_of(candidates[0])
        if all(pixels_of(other) == first for other in candidates[1:]):
            return candidates[0]
    except Exception:  # whatever a decoder says of such a file, it is not whole
        return None
    return None


#: Bits that no two codes of a picture read in the same way, no 0xFF among them.
_FILLERS = (b"", b"\x00" * 64, b"\xaa" * 64, bytes(range(37, 101)))
