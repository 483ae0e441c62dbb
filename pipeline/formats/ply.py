"""Gaussian splats as .ply in the layout of the 3DGS paper's code (INRIA).

binary_little_endian, one float32 property per column, colours as spherical harmonics stored
channel by channel. It does not know where files are kept.
"""

from __future__ import annotations

import numpy as np

from pipeline.errors import InvalidModelFile
from pipeline.geometry.frames import PLY_FROM_WORLD, rotate_model
from pipeline.types import FloatArray, SplatModel

_MAX_HEADER_BYTES = 64 * 1024
#: More splats than this many digits can say do not fit on a disk.
_MAX_COUNT_DIGITS = 12


def write_ply(model: SplatModel, *, compact: bool = False) -> bytes:
    """The file's bytes, in the file frame of `pipeline.geometry.frames`.

    Args:
        compact: without nx, ny, nz, which are zero. The paper's code writes them and no reader
            uses them; without them a splat of degree 0 takes 56 bytes instead of 68.
    """
    model = rotate_model(model, PLY_FROM_WORLD)
    n, rest = len(model), 3 * (model.sh.shape[1] - 1)
    names = [
        *("x", "y", "z"),
        *(() if compact else ("nx", "ny", "nz")),
        *(f"f_dc_{i}" for i in range(3)),
        *(f"f_rest_{i}" for i in range(rest)),
        "opacity",
        *(f"scale_{i}" for i in range(3)),
        *(f"rot_{i}" for i in range(4)),
    ]
    columns = np.concatenate(
        [
            model.means,
            np.zeros((n, 0 if compact else 3), np.float32),
            model.sh[:, 0],
            model.sh[:, 1:].transpose(0, 2, 1).reshape(n, rest),
            model.logit_opacities[:, None],
            model.log_scales,
            model.quats,
        ],
        axis=1,
    ).astype("<f4")
    header = "\n".join(
        [
            "ply",
            "format binary_little_endian 1.0",
            "comment Gaussian splats by Glimpse3D",
            f"element vertex {n}",
            *(f"property float {name}" for name in names),
            "end_header\n",
        ]
    )
    return header.encode("ascii") + columns.tobytes()


def read_ply(data: bytes) -> SplatModel:
    """The model of a .ply, in the world frame.

    Columns may stand in any order, further ones are ignored and normals may be missing; lines of
    the header may end with CR LF.

    Raises:
        InvalidModelFile: not a binary little-endian .ply, not Gaussian splats (the missing
            property is named), truncated, too long, or holding NaN, infinity or a quaternion
            of length zero.
    """
    count, names, offset = _read_header(data)
    expected = offset + 4 * count * len(names)
    if len(data) != expected:
        what = "truncated" if len(data) < expected else "longer than its header says"
        raise InvalidModelFile(
            f"The .ply is {what}: {len(data)} bytes, {expected} expected for {count} splats."
        )
    table = np.frombuffer(data, "<f4", offset=offset).reshape(count, len(names))
    index = {name: i for i, name in enumerate(names)}

    def columns(*wanted: str) -> FloatArray:
        missing = [name for name in wanted if name not in index]
        if missing:
            raise InvalidModelFile(
                f"The .ply holds no Gaussian splats: property {missing[0]!r} is missing."
            )
        picked: FloatArray = table[:, [index[name] for name in wanted]].astype(np.float32)
        for name, column in zip(wanted, picked.T, strict=True):
            if not np.isfinite(column).all():
                row = int(np.flatnonzero(~np.isfinite(column))[0])
                raise InvalidModelFile(
                    f"The .ply holds {column[row]} in property {name!r} of splat {row}."
                )
        return picked

    rest = sum(name.startswith("f_rest_") for name in names)
    if rest not in (0, 9, 24, 45):
        raise InvalidModelFile(
            f"The .ply has {rest} f_rest properties; 0, 9, 24 or 45 are possible."
        )
    dc = columns("f_dc_0", "f_dc_1", "f_dc_2")
    higher = columns(*(f"f_rest_{i}" for i in range(rest))).reshape(count, 3, rest // 3)
    quats = columns("rot_0", "rot_1", "rot_2", "rot_3")
    zero = np.flatnonzero(np.abs(quats).max(axis=1, initial=0) < np.finfo(np.float32).tiny)
    if zero.size:
        raise InvalidModelFile(f"The .ply holds a quaternion of length zero in splat {zero[0]}.")
    model = SplatModel(
        means=columns("x", "y", "z"),
        quats=quats,
        log_scales=columns("scale_0", "scale_1", "scale_2"),
        logit_opacities=columns("opacity")[:, 0],
        sh=np.concatenate([dc[:, None], higher.transpose(0, 2, 1)], axis=1),
    )
    with np.errstate(over="ignore", invalid="ignore"):
        turned = rotate_model(model, PLY_FROM_WORLD.T)
    for name in ("means", "quats", "sh"):
        if not np.isfinite(getattr(turned, name)).all():
            raise InvalidModelFile(f"The .ply holds {name} that are too large to be turned.")
    return turned


def _read_header(data: bytes) -> tuple[int, list[str], int]:
    """Number of vertices, property names in file order, and where the data begin."""
    newline = b"\r\n" if data.startswith(b"ply\r") else b"\n"
    last_line = b"end_header" + newline
    end = data.find(newline + last_line, 0, _MAX_HEADER_BYTES)
    if not data.startswith(b"ply" + newline) or end < 0:
        raise InvalidModelFile("Not a .ply file: it does not begin with a PLY header.")
    # Latin-1 because a comment may hold any byte, such as a name in UTF-8.
    lines = data[:end].decode("latin-1").split(newline.decode())[1:]
    if "format binary_little_endian 1.0" not in lines:
        raise InvalidModelFile("The .ply must be binary_little_endian 1.0.")
    count: int | None = None
    names: list[str] = []
    for line in lines:
        match line.split():
            case ["element", "vertex", number] if number.isdecimal():
                if len(number) > _MAX_COUNT_DIGITS:
                    raise InvalidModelFile(
                        f"The .ply says it holds a number of splats with {len(number)} digits."
                    )
                count = int(number)
            case ["element", kind, _] if count is None or kind != "vertex":
                raise InvalidModelFile(f"The .ply holds an element {kind!r}: not a splat file.")
            case ["property", "float" | "float32", name]:
                names.append(name)
            case ["property", *_]:
                raise InvalidModelFile(f"The .ply has a property that is not a float: {line!r}.")
            case _:
                pass
    if count is None:
        raise InvalidModelFile("The .ply has no vertex element.")
    if not names:
        raise InvalidModelFile(
            "The .ply holds no Gaussian splats: its vertices have no properties."
        )
    return count, names, end + len(newline) + len(last_line)
