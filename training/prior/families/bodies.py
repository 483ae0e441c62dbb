"""Families of living things and of toys shaped like them.

It does not know how they are built.
"""

from __future__ import annotations

from training.prior.families.animals import ANIMALS
from training.prior.families.critters import CRITTERS
from training.prior.families.family import Family
from training.prior.families.people import PEOPLE

FAMILIES: dict[str, Family] = {**PEOPLE, **ANIMALS, **CRITTERS}
