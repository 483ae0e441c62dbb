"""What a family of made objects is.

It does not know which families there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from training.prior.solids import Shape

#: How a thing lies when somebody has put it down: upright as it is made, on any side, or flat.
Rests = Literal["stands", "any", "flat"]


@dataclass(frozen=True)
class Family:
    """Objects of one kind.

    Attributes:
        make: draws one; everything random comes from the generator.
        weight: how often it is drawn, compared with the other families'.
        rests: "stands" things are photographed upright, "flat" ones mostly lie on their broad side
            (they are made upright, that side towards +x) or are held up to the camera, "any" ones
            lie as they fell.
    """

    make: Callable[[np.random.Generator], Shape]
    weight: float
    rests: Rests = "stands"
