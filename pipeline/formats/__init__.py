"""File formats of a model: which there are, what they are called, how they are written.

It does not know where files are kept or who asked for them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pipeline.errors import InvalidOption, NotImplementedYet
from pipeline.formats.ply import read_ply, write_ply
from pipeline.formats.splat import read_splat, write_splat
from pipeline.types import SplatModel

__all__ = [
    "ANNOUNCED_FORMATS",
    "FORMATS",
    "Format",
    "export_model",
    "find_format",
    "prune_invisible",
    "read_ply",
    "read_splat",
    "write_ply",
    "write_splat",
]


@dataclass(frozen=True)
class Format:
    """A way to write a model. `name` is also the file's suffix."""

    name: str
    write: Callable[[SplatModel], bytes]


FORMATS = {
    f.name: f
    for f in (
        Format("ply", write_ply),
        Format("splat", write_splat),
    )
}

#: Documented formats that this version cannot write yet.
ANNOUNCED_FORMATS = ("glb", "obj", "usdz")


def find_format(name: str) -> Format:
    """The format called `name`.

    Raises:
        NotImplementedYet: documented, but this version cannot write it.
        InvalidOption: no such format; the text lists those that exist.
    """
    if name in FORMATS:
        return FORMATS[name]
    if name in ANNOUNCED_FORMATS:
        raise NotImplementedYet(
            f"Export to {name} is not available in this version; {' and '.join(FORMATS)} are."
        )
    raise InvalidOption(f"format must be one of {[*FORMATS, *ANNOUNCED_FORMATS]}, got {name!r}.")


def prune_invisible(model: SplatModel) -> SplatModel:
    """Without the splats no renderer draws: 3DGS rasterisers skip an opacity below 1/255."""
    keep = model.opacities >= 1 / 255
    return replace(
        model,
        means=model.means[keep],
        quats=model.quats[keep],
        log_scales=model.log_scales[keep],
        logit_opacities=model.logit_opacities[keep],
        sh=model.sh[keep],
    )


def export_model(model: SplatModel, format_name: str, *, optimize: bool) -> bytes:
    """The bytes of `model` in a format; `optimize` leaves out what no viewer would draw."""
    chosen = find_format(format_name)
    return chosen.write(prune_invisible(model) if optimize else model)
