"""The families of made objects, from all modules of this package.

It does not know how an object is placed, painted or photographed.
"""

from __future__ import annotations

from training.prior.families import (
    arrangements,
    bags,
    bodies,
    bottles,
    cutouts,
    devices,
    food,
    footwear,
    forms,
    furniture,
    household,
    packages,
    plants,
    thin,
    tools,
    toys,
    vehicles,
    vessels,
)
from training.prior.families.family import Family, Rests

_MODULES = (
    packages,
    bottles,
    vessels,
    devices,
    bags,
    footwear,
    food,
    toys,
    thin,
    tools,
    household,
    cutouts,
    forms,
    bodies,
    furniture,
    vehicles,
    plants,
    arrangements,
)


def _merged() -> dict[str, Family]:
    """Raises: ValueError: two modules use one name."""
    families: dict[str, Family] = {}
    for module in _MODULES:
        twice = families.keys() & module.FAMILIES.keys()
        if twice:
            raise ValueError(f"families of one name in two modules: {sorted(twice)}")
        families |= module.FAMILIES
    return families


#: By name, in a fixed order: the same seed draws the same family.
FAMILIES: dict[str, Family] = _merged()

__all__ = ["FAMILIES", "Family", "Rests"]
