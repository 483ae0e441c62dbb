"""What a person should know of the object that was found in a photo: that it is cut off, tiny, or
perhaps its ground.

It does not know who found it.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from pipeline.types import UInt8Array

#: Share of an edge of the photo that the object covers where it is cut off there.
_CUT_SHARE = 0.03
#: An object smaller than this share of the photo may be a part of the one that was meant.
_SMALL_SHARE = 0.08
#: A ground touches nearly all of the photo's rim, and its hole is the object.
_RIM_SHARE, _HOLE_SHARE = 0.9, 0.03


def notes_on_object(alpha: UInt8Array, *, given: bool) -> tuple[str, ...]:
    """Sentences for the user about alpha uint8 [H, W].

    Args:
        given: the photo came with this alpha; else it was found.
    """
    solid = alpha >= 128
    edges = {"top": solid[0], "bottom": solid[-1], "left": solid[:, 0], "right": solid[:, -1]}
    if given and float(np.concatenate(list(edges.values())).mean()) >= _RIM_SHARE:
        # With a rim of ground around it, the largest part that is not solid, if enclosed.
        parts, _ = ndimage.label(~solid)
        sizes = np.bincount(parts.ravel())
        sizes[np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))] = 0
        if sizes.max(initial=0) >= _HOLE_SHARE * solid.size:
            return (
                "The alpha of the photo keeps all of its rim and cuts out its middle: it may be "
                "inverted, with the ground taken for the object.",
            )
    notes: list[str] = []
    cut = [name for name, edge in edges.items() if float(edge.mean()) >= _CUT_SHARE]
    if cut:
        notes.append(
            f"The object is cut off by the photo's edge ({', '.join(cut)}): what lies beyond is "
            "not known and the model ends there. A photo with some ground all around is better."
        )
    share = float(solid.mean())
    if not given and share < _SMALL_SHARE:
        notes.append(
            f"The object that was found covers {100 * share:.0f} % of the photo. If a larger one "
            "was meant, perhaps it fills the photo: show it whole, with some ground around it."
        )
    return tuple(notes)
