"""Splats of a file of any kind: its first bytes, and its name where these tell nothing, say which.

It does not know where files are kept: bytes and a name come in.
"""

from __future__ import annotations

from collections.abc import Callable

from pipeline.errors import InvalidModelFile
from pipeline.formats.glb_splat_reader import load_glb_splat
from pipeline.formats.ksplat_reader import load_ksplat
from pipeline.formats.ply import load_ply
from pipeline.formats.read_splats import ReadModel
from pipeline.formats.sog_reader import load_sog
from pipeline.formats.splat import load_splat
from pipeline.formats.spz_reader import load_spz

#: What can be read, for sentences.
READABLE = ".ply, .splat, .spz, .sog, .ksplat or .splat.glb"

_BY_MAGIC: dict[bytes, Callable[[bytes], ReadModel]] = {
    b"ply": load_ply,
    b"\x1f\x8b\x08": load_spz,
    b"NGSP": load_spz,
    b"glTF": load_glb_splat,
    b"PK\x03\x04": load_sog,
}
#: Files of splats that others read and we do not, by their suffix.
_OTHER_SPLATS = (".lcc", ".lcc2")


def load_splats(data: bytes, name: str) -> ReadModel:
    """The model of a file, in the world frame, and notes.

    Args:
        name: the file's, for its suffix and for sentences; case does not matter.

    Raises:
        InvalidModelFile: the file is empty, damaged, or of another kind; the text says which.
    """
    if not data:
        raise InvalidModelFile(f"{name} is empty.")
    for magic, load in _BY_MAGIC.items():
        if data.startswith(magic):
            return load(data)
    lower = name.lower()
    if lower.endswith(".ply"):
        raise InvalidModelFile(f"{name} is not a .ply file: it does not begin with a PLY header.")
    if lower.endswith(_OTHER_SPLATS):
        raise InvalidModelFile(
            f"{name} holds splats in a format that cannot be read; convert it to .ply, for "
            "instance with splat-transform or SuperSplat."
        )
    if lower.endswith(".ksplat"):
        return load_ksplat(data)
    if lower.endswith(".splat"):
        return load_splat(data)
    raise InvalidModelFile(f"{name} is no {READABLE} file; only these can be read.")


def refuse_damage(read: ReadModel) -> ReadModel:
    """What was read, if nothing of the file was damaged.

    Raises:
        InvalidModelFile: something was; the text says what.
    """
    if read.faults:
        faults = " ".join(read.faults)
        raise InvalidModelFile(f"The file is damaged and was refused. If it were not: {faults}")
    return read
