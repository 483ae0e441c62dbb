"""The families of made objects, from all modules of this package.

It does not know how an object is placed, painted or photographed.
"""

from __future__ import annotations

from training.prior.families.family import Family, Rests

FAMILIES: dict[str, Family] = {}

__all__ = ["FAMILIES", "Family", "Rests"]
