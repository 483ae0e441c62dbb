"""What of a photo's alpha is the object: litter, haze and soft shadows go, glass becomes solid.

It does not know whether the alpha was given or found, or what is made of the object.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.imaging.rounding import to_bytes
from pipeline.types import UInt8Array

Mask = npt.NDArray[np.bool_]

#: What notes call an alpha that came with the photo.
PHOTO_ALPHA = "the photo's alpha"

#: Pixels with more alpha than this belong to the object or to what lies around it.
BOX_ALPHA = 8
#: Pixels with at least so much are the object's body.
BODY_ALPHA = 128
#: An object smaller than this share of the photo cannot be told from dirt on the lens.
MIN_OBJECT_SHARE = 0.002

#: A separate part whose body is smaller than this share of the largest one's is litter, as it is to
#: those who take the outline of a cut-out.
_MIN_PART_SHARE = 0.02
#: So many pixels around its body are the object's rim, whatever lies behind it.
_RIM_PX = 3
#: What is faint and wider than this share of the object, twice, is no hair and no soft focus.
_WIDE_SHARE = 1 / 64
#: What stands out of haze by so much of 255 is not of it: hair before a shadow.
_OUT_OF_HAZE = 24

#: Before haze, alpha rises at least so much within a few pixels where the object begins; at the end
#: of an object that is out of focus it does not.
_EDGE = 96

#: An object of which so large a share has an alpha below this is made of glass, all of it. One with
#: solid parts is not: its faint ones may be its shadow.
_GLASS_SHARE, _GLASS_ALPHA = 0.98, 160
#: A wide faint part is a pane of glass, not a shadow or a reflection, if its alpha is at least
#: this, nearly the same everywhere (share of its pixels, how near) and its colour is not dark.
_PANE_ALPHA, _PANE_SHARE, _PANE_SPREAD, _PANE_LIGHT = 64, 0.8, 16, 64


@dataclass(frozen=True)
class CleanAlpha:
    """An alpha without what is not the object.

    Attributes:
        alpha: uint8 [H, W].
        litter: separate specks that were removed.
        haze: the largest alpha of a removed haze or shadow, 0 where there was none.
        panes: the alpha of see-through parts beside solid ones, 0 where there are none; they are
            kept as they are.
    """

    alpha: UInt8Array
    litter: int = 0
    haze: int = 0
    panes: int = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for whoever gave the alpha with the photo."""
        return self.notes_on(PHOTO_ALPHA)

    def notes_on(self, name: str) -> tuple[str, ...]:
        """Sentences for whoever gave an alpha that is called so."""
        notes: list[str] = []
        if self.litter:
            specks = "A stray speck" if self.litter == 1 else f"{self.litter} stray specks"
            were = "was" if self.litter == 1 else "were"
            notes.append(f"{specks} beside the object {were} removed from {name}.")
        if self.haze:
            notes.append(
                "A haze or soft shadow around the object (its alpha is up to "
                f"{self.haze} of 255) was removed from {name}."
            )
        if self.panes:
            notes.append(
                f"Parts of the object are see-through (their alpha is {self.panes} of 255); they "
                "are made solid, in the colours that the photo gives them."
            )
        return tuple(notes)


def glass_alpha(counts: npt.NDArray[np.int64]) -> int | None:
    """The alpha that stands for solid where nearly all of an object is see-through, else None.

    Args:
        counts: how many pixels have each alpha, int64 [256].
    """
    visible = counts.copy()
    visible[: BOX_ALPHA + 1] = 0
    if visible.sum() < MIN_OBJECT_SHARE * counts.sum():
        return None
    upto = np.cumsum(visible)
    most = int(np.searchsorted(upto, _GLASS_SHARE * upto[-1]))
    return most if most < _GLASS_ALPHA else None


def glass_of(alpha: UInt8Array) -> int | None:
    """`glass_alpha` of alpha uint8 [H, W]."""
    return glass_alpha(np.bincount(alpha.ravel(), minlength=256))


def glass_note(most: int) -> str:
    """What is said of an object that is see-through all over."""
    return (
        f"The object in the photo is see-through (its alpha is {most} of 255 or less); its cut-out "
        "keeps that, and the model is made solid, in the colours that the photo gives it."
    )


def clean(rgb: UInt8Array, alpha: UInt8Array, *, given: bool) -> CleanAlpha:
    """The object of an alpha: bodies (alpha >= 1/2) with their soft rims, hair and panes.

    Haze and shadows are what is faint, wide and beyond the rim. There the alpha is 0, and in the
    rim, where the object lies over them, theirs is taken out: t = a + (1 - a) b, so
    a = (t - b) / (1 - b). What is faint and thin stays, if it hangs on a body. Separate parts
    without a body of some size go. A clean alpha is returned as it is, bit for bit.

    Args:
        rgb: uint8 [H, W, 3], straight colours.
        alpha: uint8 [H, W]; nothing changes where nothing of it reaches 1/2.
        given: by whoever sent the photo, and not found: only then it may show panes of glass.
    """
    if not (alpha >= BODY_ALPHA).any():
        return CleanAlpha(alpha)
    without_haze, haze, panes = _without_haze(rgb, alpha, given=given)
    kept, litter = _without_litter(without_haze, alpha)
    return CleanAlpha(kept, litter, haze, panes)


def solid(rgb: UInt8Array, alpha: UInt8Array) -> UInt8Array:
    """A given alpha whose glass is solid, as what comes after the framing knows only solid things.

    Args:
        rgb: uint8 [H, W, 3].
        alpha: uint8 [H, W].
    """
    most = glass_of(alpha)
    if most is not None:
        return to_bytes(alpha.astype(np.float32) * np.float32(255 / most))
    wide = _wide_and_faint(alpha)
    if wide is None:
        return alpha
    lifted = alpha.copy()
    for pane, level in _panes(rgb, alpha, wide):
        # Out to the pane's own rim, which ends within so few pixels.
        reached = ndimage.maximum_filter(pane, 2 * _RIM_PX + 1)
        faint = alpha[reached].astype(np.float32)
        lifted[reached] = to_bytes(faint * np.float32(255 / level))
    return lifted


def _wide_and_faint(alpha: UInt8Array) -> Mask | None:
    """Where alpha is faint, beyond the rim of all bodies, and not thin; None: nowhere."""
    body = alpha >= BODY_ALPHA
    # The largest of the neighbours: haze may be noisy, hair is drawn with gaps.
    far = ndimage.maximum_filter(alpha, 3) > BOX_ALPHA
    far &= ~ndimage.maximum_filter(body, 2 * _RIM_PX + 1)
    if not far.any():
        return None
    radius = _wide_radius(body)
    core = ndimage.minimum_filter(far, 2 * radius + 1)
    if not core.any():
        return None
    # Twice the radius: corners and frayed ends belong to what they hang on.
    wide: Mask = ndimage.maximum_filter(core, 4 * radius + 1) & far
    return wide


def _wide_radius(body: Mask) -> int:
    rows, columns = np.flatnonzero(body.any(1)), np.flatnonzero(body.any(0))
    longest = max(int(np.ptp(rows)), int(np.ptp(columns))) + 1
    return max(_RIM_PX, round(longest * _WIDE_SHARE))


def _panes(rgb: UInt8Array, alpha: UInt8Array, wide: Mask) -> list[tuple[Mask, int]]:
    """Parts of `wide` that are glass, each with its alpha."""
    labels, count = ndimage.label(wide, np.ones((3, 3)))
    if not count:
        return []
    least = _MIN_PART_SHARE * float((alpha >= BODY_ALPHA).sum())
    found: list[tuple[Mask, int]] = []
    for number in np.flatnonzero(np.bincount(labels.ravel())[1:] >= least) + 1:
        part: Mask = labels == number
        values = alpha[part]
        level = int(np.median(values))
        spread = np.abs(values.astype(np.int16) - level)
        light = float(np.median(rgb[part].max(1)))
        alike = float((spread <= _PANE_SPREAD).mean()) >= _PANE_SHARE
        if level >= _PANE_ALPHA and alike and light >= _PANE_LIGHT:
            found.append((part, level))
    return found


def _without_haze(
    rgb: UInt8Array, alpha: UInt8Array, *, given: bool
) -> tuple[UInt8Array, int, int]:
    """The alpha without haze and shadows; their largest alpha; the alpha of panes."""
    wide = _wide_and_faint(alpha)
    if wide is None:
        return alpha, 0, 0
    wide &= ~_ends_softly(alpha, wide)
    panes = 0
    for pane, level in _panes(rgb, alpha, wide) if given else ():
        wide = wide & ~pane
        panes = max(panes, level)
    if not wide.any():
        return alpha, 0, panes
    # The haze's own alpha: what nothing thin stands out of.
    radius = _wide_radius(alpha >= BODY_ALPHA)
    window = 2 * radius + 1
    lowest = ndimage.minimum_filter(np.where(wide, alpha, 255).astype(np.uint8), window)
    haze = np.where(wide, ndimage.maximum_filter(np.where(wide, lowest, 0), window), 0)
    cleaned = _uncovered(alpha, np.minimum(haze, alpha))
    cleaned[wide & (cleaned < _OUT_OF_HAZE)] = 0
    # And beside it: in the rim, where the object lies over it, and in its own frayed ends.
    gone = np.where(wide & (cleaned == 0), alpha, 0).astype(np.uint8)
    beside = ndimage.maximum_filter(gone, 2 * (_RIM_PX + 2 * radius) + 1)
    cleaned = _uncovered(cleaned, np.where(wide, 0, beside))
    return cleaned, int(gone.max()), panes


def _uncovered(alpha: UInt8Array, behind: npt.NDArray[np.integer]) -> UInt8Array:
    """The alpha of what lies over something of alpha `behind`, both [H, W]."""
    b = behind.astype(np.float32)
    over = (alpha.astype(np.float32) - b) / np.maximum(255.0 - b, 1.0)
    changed = (behind > 0) & (alpha < 255)
    return np.where(changed, to_bytes(255.0 * np.maximum(over, 0.0)), alpha).astype(np.uint8)


def _ends_softly(alpha: UInt8Array, wide: Mask) -> Mask:
    """Parts of `wide` that a body goes over into without an edge: it is out of focus there."""
    labels, count = ndimage.label(wide, np.ones((3, 3)))
    # What a body reaches so near to it: just beside the rim, as far again inside.
    next_to_rim = wide & ndimage.maximum_filter(alpha >= BODY_ALPHA, 2 * (_RIM_PX + 1) + 1)
    if not count or not next_to_rim.any():
        return np.zeros_like(wide)
    highest = ndimage.maximum_filter(alpha, 2 * (2 * _RIM_PX + 2) + 1)
    step = np.where(next_to_rim, highest.astype(np.int16) - alpha, 0)
    touching = np.unique(labels[next_to_rim])
    steps = ndimage.median(step, np.where(next_to_rim, labels, 0), touching)
    soft: Mask = np.isin(labels, touching[np.asarray(steps) < _EDGE])
    return soft


def _without_litter(alpha: UInt8Array, given: UInt8Array) -> tuple[UInt8Array, int]:
    """The alpha without separate parts that have no body to speak of, and how many went.

    Args:
        given: as it was before the haze went: what then is left of haze is not counted.
    """
    # Gaps of a pixel do not separate: hair is drawn so.
    labels, count = ndimage.label(
        ndimage.maximum_filter(alpha > BOX_ALPHA, 3), np.ones((3, 3), bool)
    )
    if count <= 1:
        return alpha, 0
    bodies = np.bincount(labels.ravel(), weights=(alpha >= BODY_ALPHA).ravel())
    litter = bodies < max(1.0, _MIN_PART_SHARE * float(bodies[1:].max()))
    litter[0] = False
    if not litter.any():
        return alpha, 0
    gone = litter[labels]
    told = np.unique(labels[gone & (alpha == given) & (alpha > BOX_ALPHA)])
    return np.where(gone, 0, alpha).astype(np.uint8), len(told)
