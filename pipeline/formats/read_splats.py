"""What reading a file of splats gives: the model and notes, and what is done with damaged splats.

One damaged splat is no reason to refuse a million good ones. It does not know how a format lays
its numbers out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.errors import InvalidModelFile
from pipeline.geometry.core import core
from pipeline.geometry.frames import rotate_model
from pipeline.types import FloatArray, SplatModel

#: Stands for an infinite logit: an opacity of 1, exactly, in float32, or of 2e-9.
_SURE_LOGIT = 20.0
#: Stands for the logarithm of a scale of zero, 2e-9: flat, and still a number in every format.
_FLAT = -20.0
#: Sizes of splats that are lengths, in units in which an object is about 1, or a room 10.
_LENGTHS = 0.3
#: Hints are given for models of at least so many splats; fewer may be anything.
_ENOUGH_TO_JUDGE = 100
#: A model is so many steps of float32 large, or it is seen that they are steps.
_SEEN_STEPS = 4096
#: What a compressed file may say it holds.
_FEW_SPLATS, _MOST_IN_A_BYTE = 1_000_000, 8


@dataclass(frozen=True)
class ReadModel:
    """A model from a file.

    Attributes:
        faults: sentences for the user: what of the file is damaged and was left out.
        remarks: further ones: what was taken for something else, and what looks odd.
    """

    model: SplatModel
    faults: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """All sentences."""
        return self.faults + self.remarks


def finish(
    raw: SplatModel,
    R: FloatArray,
    kind: str,
    *,
    faults: tuple[str, ...] = (),
    remarks: tuple[str, ...] = (),
) -> ReadModel:
    """The model of a file as the product takes it, in the world frame.

    Infinite opacities and scales of zero, which mean something, become finite. Splats that hold
    NaN, another infinity or a rotation of length zero are left out with a note.

    Args:
        raw: as the file has it; arrays may hold anything.
        R: float32 [3, 3], rotation from the file's frame to the world.
        kind: what the file is called in sentences, ".ply".
        faults: what its reader found damaged.
        remarks: what its reader took for something else.

    Raises:
        InvalidModelFile: there are splats and all of them are damaged.
    """
    n = len(raw)
    log_scales, logits = raw.log_scales, raw.logit_opacities
    if np.isinf(log_scales).any():
        log_scales = np.where(np.isneginf(log_scales), np.float32(_FLAT), log_scales)
    if np.isinf(logits).any():
        sure = np.copysign(np.float32(_SURE_LOGIT), logits)
        logits = np.where(np.isinf(logits), sure, logits)
    with np.errstate(over="ignore", invalid="ignore"):
        model = rotate_model(replace(raw, log_scales=log_scales, logit_opacities=logits), R)
    # After the turn, because numbers at the end of float32 overflow in it.
    finite = np.isfinite(model.logit_opacities)
    for values in (model.means, model.quats, model.log_scales, model.sh):
        finite &= np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
    turned = np.abs(model.quats).max(axis=1, initial=0) >= np.finfo(np.float32).tiny
    good = finite & turned
    bad = n - int(good.sum())
    if bad:
        unturned = int((finite & ~turned).sum())
        causes = [
            f"{count:,} {words}"
            for count, words in (
                (bad - unturned, "with NaN, infinity or numbers that are too large"),
                (unturned, "with a rotation of length zero"),
            )
            if count
        ]
        if bad == n:
            raise InvalidModelFile(
                f"All {n:,} splats of the {kind} are damaged: {', '.join(causes)}."
            )
        faults += (f"Left out {bad:,} damaged of {n:,} splats of the {kind}: {', '.join(causes)}.",)
        model = model.select(good)
    return ReadModel(model, faults, remarks + _hints(model, kind))


def _hints(model: SplatModel, kind: str) -> tuple[str, ...]:
    """What looks as if the file's author had meant other units."""
    if len(model) < _ENOUGH_TO_JUDGE:
        return ()
    hints = []
    logits = model.logit_opacities
    if logits.min() >= 0 and logits.max() <= 1 and np.ptp(logits) > 0:
        hints.append(
            f"All opacities of the {kind} lie between 0 and 1. They are read as logits, as the "
            "format says; if they are opacities, the model looks too faint."
        )
    if model.log_scales.min() >= 0:
        size = float(np.median(model.log_scales.max(axis=1)))
        bulk = model.means[core(model)].astype(np.float64)
        larger = np.log(max(float(np.ptp(bulk, axis=0).max()), 1e-30)) < size
        # Of lengths most are small; as logarithms they are all a little more than 1.
        if larger or (model.log_scales.min() > 0 and size < _LENGTHS):
            what = "larger than the whole object" if larger else "a little larger than 1"
            hints.append(
                f"Nearly every splat of the {kind} is {what}. Scales are read as logarithms, as "
                "the format says; if they are lengths, the model is a blur."
            )
    return tuple(hints)


def near_origin(exact: npt.NDArray[np.floating]) -> tuple[FloatArray, tuple[str, ...]]:
    """Positions [N, 3] as float32, and a note where they had to be moved for that.

    A geo-referenced scan stands millions of units from the origin, where float32 has steps of
    half a unit. Where that would be seen, the middle is moved to the origin, by whole units.
    """
    with np.errstate(over="ignore"):
        plain = exact.astype(np.float32, copy=False)
    if exact.dtype == np.float32:
        return plain, ()
    finite = np.isfinite(plain).all(axis=1)
    if not finite.any():
        return plain, ()
    low, middle, high = np.quantile(exact[finite], (0.1, 0.5, 0.9), axis=0)
    step = float(np.spacing(np.abs(middle).max().astype(np.float32)))
    if step * _SEEN_STEPS <= (high - low).max():
        return plain, ()
    offset = np.round(middle)
    with np.errstate(over="ignore"):
        moved = (exact - offset).astype(np.float32)
    if np.array_equal(moved[finite] + offset, plain[finite]):  # nothing would be lost
        return plain, ()
    x, y, z = -offset + 0.0  # no minus zero
    note = (
        f"The positions were moved by {x:,.0f}, {y:,.0f}, {z:,.0f} along the axes of the file: so "
        "far from the origin their detail would be lost."
    )
    return moved, (note,)


def joined(parts: Sequence[SplatModel]) -> SplatModel:
    """One model of at least one; the harmonics that some lack are zero."""
    most = max(part.sh.shape[1] for part in parts)
    full = [replace(p, sh=np.pad(p.sh, ((0, 0), (0, most - p.sh.shape[1]), (0, 0)))) for p in parts]
    return SplatModel(*(np.concatenate([getattr(p, name) for p in full]) for name in vars(full[0])))


def refuse_too_many(count: int, size: int, kind: str) -> None:
    """Raises InvalidModelFile where a compressed file says it holds more than it plausibly can.

    Before anything is allocated: a few bytes may unpack to all of a machine's memory. A million
    splats are few enough for any file, and no real one has eight in a byte.

    Args:
        count: of splats, as the file says.
        size: of the file, in bytes.
        kind: what the file is called in sentences, ".spz".
    """
    if not 0 <= count <= _FEW_SPLATS + _MOST_IN_A_BYTE * size:
        raise InvalidModelFile(
            f"The {kind} is damaged or truncated: it says it holds {count:,} splats in {size:,} "
            "bytes."
        )


def with_largest(three: FloatArray, which: npt.NDArray[np.integer]) -> FloatArray:
    """Unit quaternions [N, 4] of which one component, positive and the largest, was left out.

    Args:
        three: float32 [N, 3], the others in their order.
        which: [N], 0..3, the place of the largest.
    """
    largest = np.sqrt(np.maximum(0.0, 1.0 - (three**2).sum(axis=1)))
    quats = np.empty((len(three), 4), np.float32)
    for place in range(4):
        of_place = which == place
        quats[of_place] = np.insert(three[of_place], place, largest[of_place], axis=1)
    return quats


def clipped_logits(opacities: npt.NDArray[np.floating], step: float) -> FloatArray:
    """Logits of opacities 0..1, float32; those of 0 and 1 of half a `step` beside them."""
    exact = np.clip(opacities.astype(np.float64), step / 2, 1 - step / 2)
    logits: FloatArray = np.log(exact / (1 - exact)).astype(np.float32)
    return logits
