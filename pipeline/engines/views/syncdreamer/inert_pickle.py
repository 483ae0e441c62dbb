"""A pickle module for `torch.load` that builds tensors and nothing else.

Checkpoints of training frameworks hold callbacks and settings beside their tensors; their classes
are replaced by one that does nothing, so neither their packages nor their code are needed. It does
not know which of the tensors are wanted.
"""

from __future__ import annotations

import collections
import pickle
from typing import Any

import torch

#: All that a state_dict of tensors is made of. Storages are torch's own business: its unpickler
#: answers for them before it asks here.
_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
}


class Inert:
    """In the place of any other class or function: it takes everything and does nothing."""

    def __init__(self, *_args: object, **_kwargs: object) -> None: ...

    def __call__(self, *_args: object, **_kwargs: object) -> Inert:
        return self

    def __setstate__(self, _state: object) -> None: ...

    def __setitem__(self, _key: object, _value: object) -> None: ...

    def append(self, _value: object) -> None: ...

    def extend(self, _values: object) -> None: ...

    def __hash__(self) -> int:
        return id(self)


class Unpickler(pickle.Unpickler):
    """Finds what tensors are made of, and `Inert` for everything else."""

    def find_class(self, module: str, name: str) -> Any:
        return _KNOWN.get((module, name), Inert)


def load(*_args: object, **_kwargs: object) -> Any:
    """torch asks for it in files that are older than its zip format."""
    raise pickle.UnpicklingError("a file in a format from before torch 1.6")
