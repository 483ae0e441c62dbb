"""A function of the C++ library as numpy's callers see it: arrays go in as they are.

It does not know the functions; shapes and finite values are the callers' business.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np

from pipeline.native.compile import load_library
from pipeline.native.status import raise_on_failure

INT, LONG, FLOAT = ctypes.c_int, ctypes.c_int64, ctypes.c_float
#: Contiguous arrays of any shape, float32 and int32; others are a `ctypes.ArgumentError`.
FLOATS: Any = np.ctypeslib.ndpointer(np.float32, flags="C_CONTIGUOUS")
INTS: Any = np.ctypeslib.ndpointer(np.int32, flags="C_CONTIGUOUS")


@cache
def native_function(name: str, *arguments: Any) -> Any:
    """The function, which returns nothing and raises what `raise_on_failure` says."""
    function: Any = getattr(load_library(), name)
    function.argtypes = arguments
    function.restype, function.errcheck = INT, raise_on_failure
    return function
