"""The C++ library of the pipeline: built on first use, loaded once per process.

It does not know tensors: `pipeline.splats` and `pipeline.mesh` declare the functions they call.
"""

from __future__ import annotations

from pipeline.native.compile import build_library, default_threads, load_library, set_threads
from pipeline.native.status import raise_on_failure

__all__ = [
    "build_library",
    "default_threads",
    "load_library",
    "raise_on_failure",
    "set_threads",
]
