"""What a person should know of the object that was found in a photo: that it is cut off, tiny, or
perhaps its ground.

It does not know who found it.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from pipeline.imaging.object_alpha import PHOTO_ALPHA
from pipeline.types import UInt8Array

#: Share of an edge of the photo that the object covers where it is cut off there.
_CUT_SHARE = 0.03
#: The same of a given cut-out that touches all four edges.
_TRIMMED_CUT_SHARE = 0.25
#: A separate part that has so large a share of the largest one is an object of its own.
_PART_SHARE = 0.2
#: An object smaller than this share of the photo may be a part of the one that was meant.
_SMALL_SHARE = 0.08
#: A ground touches nearly all of the photo's rim, and its hole is the object.
_RIM_SHARE, _HOLE_SHARE = 0.9, 0.03


def looks_inverted(alpha: UInt8Array) -> bool:
    """Whether alpha uint8 [H, W] keeps all of the rim and cuts out a middle."""
    solid = alpha >= 128
    if float(np.concatenate([solid[0], solid[-1], solid[:, 0], solid[:, -1]]).mean()) < _RIM_SHARE:
        return False
    # With a rim of ground around it, the largest part that is not solid, if enclosed.
    parts, _ = ndimage.label(~solid)
    sizes = np.bincount(parts.ravel())
    sizes[np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))] = 0
    return bool(sizes.max(initial=0) >= _HOLE_SHARE * solid.size)


def notes_on_object(alpha: UInt8Array, *, given: bool, name: str = PHOTO_ALPHA) -> tuple[str, ...]:
    """Sentences for the user about alpha uint8 [H, W].

    Args:
        given: somebody sent this alpha; else it was found.
        name: what it is called, where it was sent.
    """
    if given and looks_inverted(alpha):
        return (
            f"{name[0].upper()}{name[1:]} keeps all of its rim and cuts out its middle: it may be "
            "inverted, with the ground taken for the object.",
        )
    solid = alpha >= 128
    edges = {"top": solid[0], "bottom": solid[-1], "left": solid[:, 0], "right": solid[:, -1]}
    notes: list[str] = []
    shares = {name: float(edge.mean()) for name, edge in edges.items()}
    cut = [name for name, share in shares.items() if share >= _CUT_SHARE]
    if given and all(edge.any() for edge in edges.values()):
        # A cut-out that was trimmed touches all four with what sticks out, and is whole.
        cut = [name for name in cut if shares[name] >= _TRIMMED_CUT_SHARE]
    if cut and given:
        notes.append(
            f"The object touches the photo's edge ({', '.join(cut)}): if it is cut off there, what "
            "lies beyond is not known and the model ends there."
        )
    elif cut:
        notes.append(
            f"The object is cut off by the photo's edge ({', '.join(cut)}): what lies beyond is "
            "not known and the model ends there. A photo with some ground all around is better."
        )
    if given and sum(share >= _RIM_SHARE for share in shares.values()) == 3:
        notes.append(
            f"It fills three of the four edges: is {name} inverted, with the ground taken for the "
            "object?"
        )
    parts, count = ndimage.label(solid, np.ones((3, 3)))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    several = int((sizes >= _PART_SHARE * sizes.max(initial=1)).sum())
    if not given and several > 1:
        notes.append(
            f"{several} separate objects were found, which become one model. If one of them was "
            "meant, crop the photo to it."
        )
    share = float(solid.mean())
    if not given and share < _SMALL_SHARE:
        notes.append(
            f"The object that was found covers {100 * share:.0f} % of the photo. If a larger one "
            "was meant, perhaps it fills the photo: show it whole, with some ground around it."
        )
    return tuple(notes)
