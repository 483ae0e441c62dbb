"""Numbers to the 8 bits of pictures and file formats.

It does not know what the numbers mean.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.types import UInt8Array


def to_bytes(values: npt.NDArray[np.floating]) -> UInt8Array:
    """Finite values around 0..255 of any shape, rounded (halves to even) and cut off."""
    rounded: UInt8Array = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return rounded
