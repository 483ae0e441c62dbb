"""One photo in, other views of the true object compared: the learned prior, relief and a card.

It does not know how an engine works. Surfaces are measured on sixty objects that nothing is
trained on and on four analytic ones, splats on six of the sixty.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from bench.table import Row
from pipeline.engines.perceptual.lpips import find_lpips
from pipeline.engines.registry import EngineChoice
from pipeline.flow.generate import generate
from pipeline.flow.local import build_ports
from pipeline.geometry.cameras import held_out_cameras, photo_camera
from pipeline.imaging.framing import GIVEN_ALPHA, frame_object
from pipeline.options import GenerateOptions
from pipeline.types import UInt8Array, ViewSet
from tests.fakes import MemoryJournal
from tests.oracles.objects import Object, photograph
from training.prior.evaluate import (
    CACHE,
    Measured,
    elevation_error_deg,
    mean,
    measured,
    share_better,
)
from training.prior.kept_back.fixed_set import KeptBack, kept_back, names
from training.prior.score import likeness, splat_thing
from training.prior.surfaces import ENGINES, maker

#: How many of the kept-back objects go through the whole pipeline, the first ones.
WHOLE = 6
#: What the analytic objects are photographed from: what relief assumes of every photo.
ELEVATION_DEG = 30.0

#: Peak memory, MB, of a process that makes views of one cut-out with the engine named last. Not
#: `ru_maxrss`: a process inherits that from the one that starts it, which is larger here.
MEMORY = """
import sys
from pathlib import Path
import numpy as np
from pipeline.control import Control
from pipeline.engines.registry import EngineChoice
from pipeline.flow.local import build_ports
from pipeline.requests import ViewRequest
from pipeline.types import Cutout

rgba = np.full((512, 512, 4), 128, np.uint8)
rgba[..., 3] = 0
rgba[100:412, 130:382, 3] = 255
views = build_ports(EngineChoice(views=sys.argv[1])).views
views.engine.synthesize(ViewRequest(Cutout(rgba, "given"), None, 0), Control())
print(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024)
"""


def rows(analytic: Mapping[str, Callable[[], Object]]) -> list[Row]:
    """All of it: scores, seconds, memory."""
    objects = [kept_back(name, CACHE) for name in names()]
    makers = {name: maker(name) for name in ENGINES}
    surfaces = measured(objects, makers)
    others = measured((_analytic(name, make) for name, make in analytic.items()), makers)
    whole, seconds = _whole(objects[:WHOLE])
    return [
        *_scores(f"{len(objects)} objects, surfaces", surfaces, targets=True),
        *_others(surfaces, [thing.elevation_deg for thing in objects]),
        *_scores(f"{len(others) // len(ENGINES)} analytic objects, surfaces", others),
        *_scores(f"{WHOLE} objects, splats", whole),
        Row("photo to model, prior: slowest generate", max(seconds["prior"]), "s", 15),
        Row("photo to model, relief: slowest generate", max(seconds["relief"]), "s"),
        _memory(),
    ]


def _scores(title: str, found: Sequence[Measured], *, targets: bool = False) -> list[Row]:
    """Means of every engine, and what the learned prior adds to relief."""
    engines = [name for name in ENGINES if any(one.engine == name for one in found)]
    made = []
    for what, unit in (("psnr", "dB"), ("ssim", ""), ("iou", ""), ("lpips", "")):
        values = {engine: mean(found, engine, what) for engine in engines}
        known = {engine: value for engine, value in values.items() if value is not None}
        for engine, value in known.items():
            floor = 0.88 if targets and (what, engine) == ("iou", "prior") else None
            details = {one.name: getattr(one.score, what) for one in found if one.engine == engine}
            made.append(Row(f"{title}, {what}: {engine}", value, unit, floor, True, None, details))
        if not {"prior", "relief"} <= known.keys():
            continue
        prior, relief = known["prior"], known["relief"]
        if what == "psnr":
            least = 2.5 if targets else 0.0
            made.append(
                Row(f"{title}, psnr: prior better by", prior - relief, "dB", least, at_least=True)
            )
        if what == "lpips":
            most = 0.75 if targets else 1.0
            made.append(Row(f"{title}, lpips: prior by relief", prior / relief, "of 1", most))
    return made


def _others(found: Sequence[Measured], elevations_deg: Sequence[float]) -> list[Row]:
    """Of the sixty objects alone.

    Args:
        elevations_deg: where their photos were taken from.
    """
    share = share_better(found, "prior")
    off = elevation_error_deg(found, "prior")
    seconds = [one.seconds for one in found if one.engine == "prior"]
    made = [
        Row("objects on which prior is best by PSNR", share, "of 1", 0.9, at_least=True),
        Row("prior: network and surface, mean", float(np.mean(seconds)), "s of one core", 1.0),
    ]
    if off is not None:
        # Most photos are taken from alike: who says the same of all is not far off either.
        unseen = float(np.median(np.abs(elevations_deg - np.median(elevations_deg))))
        made.append(Row("prior: elevation off by, median", off, "deg", 5))
        made.append(Row("elevation off by, their median said of all", unseen, "deg"))
    return made


def _analytic(name: str, make: Callable[[], Object]) -> KeptBack:
    """A known object as the kept-back ones are, with its true matte."""
    thing = make()
    photo, _ = photograph(thing, photo_camera(ELEVATION_DEG, 512))
    elsewhere, _ = photograph(thing, held_out_cameras())
    cutout = frame_object(_straight(photo)[0], photo.alphas[0], engine=GIVEN_ALPHA)
    focal = float(photo.cameras.intrinsics[0, 0, 0]) / 512
    return KeptBack(name, photo.images[0], cutout, cutout, elsewhere, ELEVATION_DEG, focal)


def _whole(objects: Sequence[KeptBack]) -> tuple[list[Measured], dict[str, list[float]]]:
    """The product's splats of each cut-out, and how long they took."""
    lpips = find_lpips()
    found, seconds = [], {}
    for engine in ("relief", "prior"):
        ports = build_ports(EngineChoice(views=engine, enhancer="unsharp")).complete()
        seconds[engine] = []
        for thing in objects:
            began = time.perf_counter()
            made = generate(thing.cutout, GenerateOptions(seed=0), ports, MemoryJournal())
            model = asyncio.run(made).model
            seconds[engine].append(time.perf_counter() - began)
            score = likeness(splat_thing(model), thing.truth, lpips)
            found.append(Measured(engine, thing.name, score, None, seconds[engine][-1]))
    return found, seconds


def _memory() -> Row:
    """What a process holds more at its height with the network than with relief."""
    peaks = {}
    for engine in ("relief", "prior"):
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, engine],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[1],
        )
        peaks[engine] = float(done.stdout.split()[-1])
    more = peaks["prior"] - peaks["relief"]
    return Row("prior: memory beyond relief's", more, "MB", 300, details=peaks)


def _straight(views: ViewSet) -> UInt8Array:
    """Colours of the object without the white that shines through its edge."""
    alphas = (views.alphas / 255)[..., None]
    colors = (views.images / 255 - (1 - alphas)) / np.maximum(alphas, 1e-3)
    straight: UInt8Array = np.round(255 * colors.clip(0, 1)).astype(np.uint8)
    return straight
