"""The functions of the C++ library as Python sees them; nothing else is called through ctypes.

It does not check arguments: shapes, dtypes and finite values are the callers' business.
"""

from __future__ import annotations

import ctypes
from functools import cache

from torch import Tensor

from pipeline.native import load_library, raise_on_failure

_INT, _LONG, _FLOAT, _POINTER = ctypes.c_int, ctypes.c_int64, ctypes.c_float, ctypes.c_void_p

#: Marks functions that return a status; in Python they return nothing or raise.
_STATUS = None

#: name: (result, arguments), as in project.cpp, tiles.cpp, splats.cpp and losses.cpp.
_FUNCTIONS: dict[str, tuple[type | None, list[type]]] = {
    "splats_tile_size": (_INT, []),
    "splats_project": (
        _STATUS,
        [_INT, _LONG, *[_POINTER] * 6, _INT, _INT, *[_FLOAT] * 4, _INT, *[_POINTER] * 5],
    ),
    "splats_project_backward": (
        _STATUS,
        [_INT, _LONG, *[_POINTER] * 5, _INT, _INT, _FLOAT, *[_POINTER] * 9],
    ),
    "splats_count_pairs": (_LONG, [_INT, _LONG, _INT, _INT, _INT, *[_POINTER] * 4]),
    "splats_list_pairs": (_STATUS, [_INT, _LONG, _INT, _INT, _INT, *[_POINTER] * 7]),
    "splats_pack": (_STATUS, [_LONG, *[_POINTER] * 6]),
    "splats_forward": (_STATUS, [_INT, _LONG, _INT, _INT, _INT, *[_POINTER] * 7]),
    "splats_backward": (_STATUS, [_INT, _LONG, _INT, _INT, _INT, *[_POINTER] * 16]),
    "loss_forward": (_STATUS, [*[_INT] * 4, *[_POINTER] * 5]),
    "loss_backward": (_STATUS, [*[_INT] * 4, *[_POINTER] * 6]),
    "splats_median_depth": (_STATUS, [_INT, _LONG, _INT, _INT, *[_POINTER] * 4]),
}


@cache
def library() -> ctypes.CDLL:
    """The loaded library with its signatures declared.

    Its functions raise OutOfMemory when the host is too small for what they are asked to do.
    """
    loaded = load_library()
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(loaded, name)
        function.argtypes = arguments
        if result is _STATUS:
            function.restype, function.errcheck = _INT, raise_on_failure
        else:
            function.restype = result
    return loaded


def pointer(tensor: Tensor) -> int:
    """Address of the first element; the caller keeps `tensor` alive and contiguous."""
    assert tensor.is_contiguous()
    return tensor.data_ptr()
