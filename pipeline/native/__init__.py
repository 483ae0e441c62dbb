"""The C++ library of the pipeline: built on first use, loaded once per process.

It does not know tensors: `pipeline.splats` and `pipeline.mesh` declare the functions they call.
"""

from __future__ import annotations

from pipeline.native.compile import build_library, default_threads, load_library, set_threads
from pipeline.native.functions import FLOAT, FLOATS, INT, INTS, LONG, native_function
from pipeline.native.status import raise_on_failure

__all__ = [
    "FLOAT",
    "FLOATS",
    "INT",
    "INTS",
    "LONG",
    "build_library",
    "default_threads",
    "load_library",
    "native_function",
    "raise_on_failure",
    "set_threads",
]
