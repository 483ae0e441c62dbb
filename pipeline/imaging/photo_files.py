"""What can be told and mended of a photo's bytes before they are decoded, as browsers do it.

It does not decode: a file that is mended here may still turn out to be damaged.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_PNG = b"\x89PNG\r\n\x1a\n"
#: The last chunk of every PNG, with its checksum.
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_JPEG_END = b"\xff\xd9"

_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_HOW_HEIC = (
    "Convert it to JPEG or PNG first (an iPhone takes JPEGs with Settings > Camera > Formats > "
    "Most Compatible)"
)

#: Transfer functions of light that is no sRGB: PQ and HLG (ITU-T H.273).
_HDR = {16: "PQ", 18: "HLG"}


def foreign_kind(data: bytes) -> str | None:
    """What a file is that no photo decoder of ours knows, with what to do; None if unknown."""
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        if brand in _HEIC:
            return f"The file is a HEIC photo, which cannot be read. {_HOW_HEIC}."
        if brand in (b"avif", b"avis"):
            return "The file is an AVIF photo that is damaged, or AVIF cannot be read here."
        return "The file is a video: send one of its pictures, as JPEG or PNG."
    for magic, name in _FOREIGN.items():
        if data.startswith(magic):
            return f"The file is {name}: send a photo, as JPEG or PNG."
    for magic, name in ((_PNG, "PNG"), (b"\xff\xd8\xff", "JPEG")):
        if data.startswith(magic):
            return f"The file is a {name} that is damaged or truncated."
    return None


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
        if chunk.kind == b"cICP" and len(chunk.body) == 4 and chunk.body[1] in _HDR:
            notes.append(hdr_note(_HDR[chunk.body[1]]))
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


def hdr_note(transfer: str) -> str:
    """What is said of a photo whose light is coded for HDR screens."""
    return (
        f"The photo is HDR ({transfer}), which is taken for sRGB: its colours are paler than they "
        "should be. Export it for standard screens to keep them."
    )


def avif_notes(data: bytes) -> tuple[str, ...]:
    """Notes on an AVIF: whether its light is coded for HDR screens."""
    at = data.find(b"colrnclx", 0, 1 << 16)
    if at < 0 or at + 12 > len(data):
        return ()
    (transfer,) = struct.unpack_from(">H", data, at + 10)
    return (hdr_note(_HDR[transfer]),) if transfer in _HDR else ()


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
