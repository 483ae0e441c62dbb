"""How good engines are on objects that nothing was trained on: `python -m training.prior.evaluate`.

Each makes a surface of the cut-out photo of each of sixty objects. Eight other views of it are
compared with those of the true object, after the scale and the shift that suit it best. No engine
is told where the photo was taken from. It does not know how an engine works.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from pipeline.engines.perceptual.lpips import find_lpips
from pipeline.errors import GlimpseError
from pipeline.imaging.contact_sheet import contact_sheet
from pipeline.imaging.rounding import to_bytes
from pipeline.types import UInt8Array
from training.prior.kept_back.fixed_set import KeptBack, kept_back, names
from training.prior.score import Likeness, Thing, likeness, mesh_thing
from training.prior.surfaces import ENGINES, Maker, maker

#: Where the objects are kept between runs, beside everything else that is made here.
CACHE = Path("out/kept-back")
#: Of the eight views, those on the contact sheet.
SHOWN = [0, 2, 3, 5, 6]
OBJECTS_PER_PAGE = 6


@dataclass(frozen=True)
class Measured:
    """One engine on one object.

    Attributes:
        elevation_error_deg: None of engines that do not estimate it.
        seconds: the engine's own, of the whole process.
    """

    engine: str
    name: str
    score: Likeness
    elevation_error_deg: float | None
    seconds: float


def measured(
    objects: Iterable[KeptBack],
    makers: dict[str, Maker],
    *,
    clean: bool = False,
    rows: list[tuple[str, list[UInt8Array]]] | None = None,
) -> list[Measured]:
    """Every engine on every object.

    Args:
        clean: with the true matte instead of the background remover's.
        rows: gets the rows of a contact sheet.
    """
    lpips = find_lpips()
    found = []
    for thing in objects:
        cutout = thing.clean if clean else thing.cutout
        shown = thing.truth.select(SHOWN)
        if rows is not None:
            rows.append((thing.name, [thing.photo, cutout.rgba, *shown.images]))
        for engine, make in makers.items():
            began = time.process_time()
            surface = make(cutout)
            seconds = time.process_time() - began
            mesh = surface.mesh
            drawn = mesh_thing(mesh.vertices, mesh.faces, mesh.colors)
            score = likeness(drawn, thing.truth, lpips)
            if rows is not None:
                rows.append((_caption(engine, score), _seen(drawn, score, thing)))
            said = surface.elevation_deg
            off = None if said is None else abs(said - thing.elevation_deg)
            found.append(Measured(engine, thing.name, score, off, seconds))
    return found


def mean(found: Sequence[Measured], engine: str, what: str) -> float | None:
    """Mean of an attribute of `Likeness` over an engine's objects; None where one lacks it."""
    values = [getattr(one.score, what) for one in found if one.engine == engine]
    return None if None in values or not values else float(np.mean(values))


def share_better(found: Sequence[Measured], engine: str, what: str = "psnr") -> float:
    """On which share of the objects an engine is better than every other one."""
    sign = -1 if what == "lpips" else 1
    values: dict[str, dict[str, float]] = {}
    for one in found:
        value = getattr(one.score, what)
        values.setdefault(one.name, {})[one.engine] = -math.inf if value is None else sign * value
    won = [
        all(scores[engine] > value for other, value in scores.items() if other != engine)
        for scores in values.values()
    ]
    return float(np.mean(won))


def elevation_error_deg(found: Sequence[Measured], engine: str) -> float | None:
    """Median over the objects; None of an engine that does not estimate it."""
    errors = [one.elevation_error_deg for one in found if one.engine == engine]
    known = [error for error in errors if error is not None]
    return float(np.median(known)) if known else None


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m training.prior.evaluate", description=__doc__)
    parser.add_argument(
        "--engine", action="append", choices=ENGINES, help="may be repeated; default: all"
    )
    parser.add_argument("--objects", type=int, default=len(names()), help="the first N of the 60")
    parser.add_argument("--only", default="", help="only objects whose name contains this")
    parser.add_argument("--weights", type=Path, help="of prior; default: the product's")
    parser.add_argument("--matte", choices=("removed", "true"), default="removed")
    parser.add_argument("--sheet", type=Path, help="draw pages PNG-1.png, PNG-2.png, ...")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of the made objects")
    given = parser.parse_args(arguments)
    chosen = [name for name in names()[: given.objects] if given.only in name]
    if not chosen:
        parser.error(f"no object of the first {given.objects} has {given.only!r} in its name")
    rows: list[tuple[str, list[UInt8Array]]] | None = [] if given.sheet else None
    objects = (kept_back(name, given.cache) for name in chosen)
    try:
        makers = {name: maker(name, given.weights) for name in given.engine or ENGINES}
        found = measured(objects, makers, clean=given.matte == "true", rows=rows)
    except GlimpseError as error:
        parser.error(str(error))
    if given.sheet:
        given.sheet.parent.mkdir(parents=True, exist_ok=True)
        lines = OBJECTS_PER_PAGE * (1 + len(makers))
        for page, first in enumerate(range(0, len(rows or []), lines), start=1):
            path = given.sheet.with_stem(f"{given.sheet.stem}-{page}")
            path.write_bytes(contact_sheet((rows or [])[first : first + lines]))
    _print(found, list(makers))


def _print(found: Sequence[Measured], engines: list[str]) -> None:
    console = Console(width=100)
    each = Table("object", *engines, title="PSNR dB / IoU / LPIPS", title_justify="left")
    by_name: dict[str, list[str]] = {}
    for one in found:
        by_name.setdefault(one.name, []).append(_numbers(one.score))
    for name, cells in by_name.items():
        each.add_row(name, *cells)
    console.print(each)
    title = f"means of {len(by_name)} objects"
    columns = (
        "engine",
        "PSNR",
        "SSIM",
        "IoU",
        "LPIPS",
        "elevation",
        "best by PSNR",
        "by LPIPS",
        "s",
    )
    means = Table(*columns, title=title, title_justify="left")
    for engine in engines:
        numbers = [mean(found, engine, what) for what in ("psnr", "ssim", "iou", "lpips")]
        error = elevation_error_deg(found, engine)
        seconds = float(np.mean([one.seconds for one in found if one.engine == engine]))
        means.add_row(
            engine,
            *(_cell(value, digits) for value, digits in zip(numbers, (2, 3, 3, 3), strict=True)),
            _cell(error, 1),
            f"{share_better(found, engine):.0%}",
            f"{share_better(found, engine, 'lpips'):.0%}",
            f"{seconds:.2f}",
        )
    console.print(means)


def _cell(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _numbers(score: Likeness) -> str:
    return f"{score.psnr:.2f} / {score.iou:.3f} / {_cell(score.lpips, 3)}"


def _caption(engine: str, score: Likeness) -> str:
    return f"{engine}: {_numbers(score)}"


def _seen(drawn: Thing, score: Likeness, thing: KeptBack) -> list[UInt8Array]:
    """A row below the true views: two cells empty, then the same views of the engine's surface."""
    cameras = thing.truth.cameras.select(SHOWN)
    images, _ = drawn.draw(score.similarity.seen_by(cameras))
    empty = np.full((2, 2, 3), 255, np.uint8)
    return [empty, empty, *to_bytes(255 * images)]


if __name__ == "__main__":
    main(sys.argv[1:])
