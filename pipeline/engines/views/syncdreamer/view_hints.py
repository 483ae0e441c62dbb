"""Who says what the object is where a view of the diffusion model is nearly white: the photo's own
alpha in the view that is nearest to it, a background remover in the others.

It does not know where the remover comes from or which network it has.
"""

from __future__ import annotations

import numpy as np

from pipeline.control import Control
from pipeline.engines.views.syncdreamer.matte import fits, matte
from pipeline.errors import InvalidImage
from pipeline.ports import BackgroundEngine
from pipeline.types import UInt8Array

#: The photo's outline is that of the nearest view if they share so much of both.
_SAME_OUTLINE = 0.85

NO_REMOVER_NOTE = (
    "The outlines of the views were found by colour alone, because no background remover is "
    "installed where they are made: white parts at the outline may be missing and small holes be "
    "filled. `glimpse3d weights list` says how to get u2netp."
)


def view_mattes(
    images: UInt8Array,
    remover: BackgroundEngine | None,
    control: Control,
    *,
    photo: tuple[int, UInt8Array] | None,
) -> tuple[UInt8Array, tuple[str, ...]]:
    """The alpha of every view, uint8 [V, H, W], and notes.

    Args:
        images: uint8 [V, H, W, 3], on white.
        remover: None: there is none here.
        photo: the view from where the photo was taken, nearly, and the photo's alpha as large as
            it, uint8 [H, W]; None: the photo was taken from elsewhere.

    Raises:
        Cancelled: a stop was asked for.
    """
    alphas: list[UInt8Array] = []
    for view, image in enumerate(images):
        hint = None if remover is None else _found(remover, image, control)
        if photo is not None and view == photo[0] and _is_outline(photo[1], image, hint):
            hint = photo[1]
        alphas.append(matte(image, hint))
        control.step((view + 1) / len(images), "mattes")
    return np.stack(alphas), () if remover is not None else (NO_REMOVER_NOTE,)


def _found(remover: BackgroundEngine, image: UInt8Array, control: Control) -> UInt8Array | None:
    """What the remover finds; None: no object."""
    control.check()
    try:
        return remover.remove(image, Control(stop=control.stop))
    except InvalidImage:
        return None


def _is_outline(photo: UInt8Array, image: UInt8Array, found: UInt8Array | None) -> bool:
    """Whether the photo's alpha may be taken for the view's: colours, and the remover, agree."""
    if not fits(photo, image):
        return False
    if found is None:
        return True
    one, other = photo >= 128, found >= 128
    return float((one & other).sum()) >= _SAME_OUTLINE * float((one | other).sum())
