"""Gaussian splats as .ply in the layout of the 3DGS paper's code (INRIA).

Written binary_little_endian, one float32 property per column, colours as spherical harmonics
stored channel by channel; read in every layout and type of number that a .ply may have. It does
not know where files are kept.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from pipeline.errors import InvalidModelFile
from pipeline.formats.ply_compressed import is_compressed, read_compressed
from pipeline.formats.ply_header import Element, Header, read_header
from pipeline.formats.ply_tables import Table, read_tables, size_of_rest
from pipeline.formats.read_splats import ReadModel, finish, near_origin
from pipeline.geometry.frames import PLY_FROM_WORLD, rotate_model
from pipeline.types import SH_C0, FloatArray, SplatModel

#: A file of 2D Gaussians has no third scale. The third axis is so much thinner than the thinner
#: one of the others, as a logarithm: a thousand times.
_FLATTER = 6.9
#: Colours as shares of white may lie a little above 1, where they were fitted.
_BRIGHTEST_SHARE = 2.0
_COLORS = (("red", "green", "blue"), ("diffuse_red", "diffuse_green", "diffuse_blue"))
#: Rows of a block that stays in the processor's cache while its columns are read one by one.
_ROWS_AT_ONCE = 4096
_SPLAT_PROPERTIES = ("opacity", "scale_0", "rot_0")
_MOST_REST = 45


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
    """The model of a .ply, in the world frame; `load_ply` without its notes."""
    return load_ply(data).model


def load_ply(data: bytes) -> ReadModel:
    """The model of a .ply, in the world frame, and what of the file was left out.

    Read are ascii and both byte orders, numbers of every type, properties in any order, elements
    besides `vertex`, SuperSplat's compressed layout, and lines of the header that end with CR LF
    or blanks. Further properties are ignored. Where colours are missing, `red green blue` are
    taken; where the third scale is missing, the splats are flat; where the second is, too, round.

    Raises:
        InvalidModelFile: not a .ply, not Gaussian splats (a mesh, a point cloud, or the missing
            property is named), truncated, or holding no splat that is not damaged.
    """
    header = read_header(data)
    vertex = header.element("vertex")
    if vertex is None:
        raise InvalidModelFile("The .ply has no vertex element.")
    if is_compressed(header):
        raw, end, last = read_compressed(data, header)
        notes: tuple[str, ...] = ()
    else:
        _refuse_what_is_no_splats(header, vertex)
        tables, end = read_tables(data, header, frozenset({"vertex"}))
        raw, notes = _model_of(tables["vertex"], vertex, is_text=header.layout == "ascii")
        last = "vertex"
    faults = _about_the_end(data, header, end, last)
    return finish(raw, PLY_FROM_WORLD.T, ".ply", faults=faults, remarks=notes)


def _about_the_end(data: bytes, header: Header, end: int, last: str) -> tuple[str, ...]:
    rest = size_of_rest(header, last)
    if rest is None or len(data) == end + rest:
        return ()
    if len(data) < end + rest:
        return ("The .ply is truncated behind its splats, which are all there.",)
    extra = len(data) - end - rest
    what = "byte was" if extra == 1 else f"{extra:,} bytes were"
    return (f"The .ply is longer than its header says; its last {what} ignored.",)


def _refuse_what_is_no_splats(header: Header, vertex: Element) -> None:
    names = {p.name for p in vertex.properties}
    if not names:
        raise InvalidModelFile(
            "The .ply holds no Gaussian splats: its vertices have no properties."
        )
    if names.isdisjoint(_SPLAT_PROPERTIES) and not any(n.startswith("f_") for n in names):
        faces = header.element("face") or header.element("tristrips")
        if faces is not None and faces.count:
            raise InvalidModelFile(
                "The .ply holds a mesh, not Gaussian splats: its vertices have no opacity, scale "
                "and rotation."
            )
        raise InvalidModelFile(
            "The .ply holds a point cloud, not Gaussian splats: its points have no opacity, scale "
            "and rotation. Fit splats to it first."
        )


def _model_of(
    table: Table, vertex: Element, *, is_text: bool
) -> tuple[SplatModel, tuple[str, ...]]:
    """The model in the file's frame, with whatever numbers the file holds; and notes."""
    count = vertex.count
    types = {p.name: p.dtype for p in vertex.properties}

    def exact_columns(*wanted: str) -> npt.NDArray[np.floating]:
        """float32, or float64 where the file has more than float32 can hold."""
        missing = [name for name in wanted if name not in types]
        if missing:
            raise InvalidModelFile(
                f"The .ply holds no Gaussian splats: property {missing[0]!r} is missing."
            )
        wide = any(np.dtype(types[name]).itemsize > 4 for name in wanted) or is_text
        picked = np.empty((count, len(wanted)), np.float64 if wide else np.float32)
        for start in range(0, count, _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            for i, name in enumerate(wanted):
                picked[rows, i] = table[name][rows]
        return picked

    def columns(*wanted: str) -> FloatArray:
        with np.errstate(over="ignore"):  # a double may be infinite in float32
            return exact_columns(*wanted).astype(np.float32, copy=False)

    notes: tuple[str, ...] = ()
    rest = sum(name.startswith("f_rest_") for name in types)
    coefficients = 1 + rest // 3
    if rest % 3 or round(coefficients**0.5) ** 2 != coefficients:
        raise InvalidModelFile(
            f"The .ply has {rest} f_rest properties; 0, 9, 24 or 45 are possible."
        )
    kept = min(rest, _MOST_REST)
    if kept < rest:
        notes += ("Spherical harmonics above degree 3 were left out.",)
    # Channel by channel.
    higher = columns(*(f"f_rest_{c * (rest // 3) + i}" for c in range(3) for i in range(kept // 3)))
    sh = np.empty((count, 1 + kept // 3, 3), np.float32)
    sh[:, 0] = _zeroth_harmonic(columns, types)
    sh[:, 1:] = higher.reshape(count, 3, kept // 3).transpose(0, 2, 1)
    turned = True
    if "scale_2" in types or "scale_0" not in types:
        log_scales = columns("scale_0", "scale_1", "scale_2")
    elif "scale_1" not in types:
        log_scales = columns("scale_0", "scale_0", "scale_0")
        turned = "rot_0" in types
        notes += ("The .ply holds round splats: one scale counts for all three axes.",)
    else:
        two = columns("scale_0", "scale_1")
        log_scales = np.column_stack([two, two.min(axis=1) - np.float32(_FLATTER)])
        notes += ("The .ply holds 2D Gaussians; their third axis was made a thousandth thick.",)
    means, moved = near_origin(exact_columns("x", "y", "z"))
    notes += moved
    model = SplatModel(
        means=means,
        quats=(
            columns("rot_0", "rot_1", "rot_2", "rot_3")
            if turned
            else np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1))
        ),
        log_scales=log_scales,
        logit_opacities=columns("opacity")[:, 0],
        sh=sh,
    )
    return model, notes


def _zeroth_harmonic(columns: Callable[..., FloatArray], types: dict[str, str]) -> FloatArray:
    """float32 [N, 3], from f_dc or else from colours."""
    if "f_dc_0" not in types:
        for names in _COLORS:
            if all(name in types for name in names):
                colors = columns(*names)
                with np.errstate(invalid="ignore"):  # `finish` judges what is not finite
                    return (colors / _white(colors, types[names[0]]) - 0.5) / np.float32(SH_C0)
    return columns("f_dc_0", "f_dc_1", "f_dc_2")


def _white(colors: FloatArray, kind: str) -> np.float32:
    """What stands for full light: 1 or 255 in floats, 255 or their largest value in integers. Which
    one, the brightest colour tells: nothing is everywhere darker than 1/250 of white.
    """
    brightest = colors.max(initial=0.0, where=np.isfinite(colors))
    whole = np.dtype(kind).kind in "iu"
    if (whole or brightest > _BRIGHTEST_SHARE) and brightest <= 255:
        return np.float32(255)
    return np.float32(np.iinfo(kind).max if whole else 1)
