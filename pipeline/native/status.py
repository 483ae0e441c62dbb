"""What the functions of the C++ library return, as errors of the product.

It does not know the functions: whoever declares one sets `raise_on_failure` as its `errcheck`.
"""

from __future__ import annotations

from typing import Any

from pipeline.errors import OutOfMemory

#: `Status` in parallel.h.
_OK, _OUT_OF_MEMORY = 0, 1


def raise_on_failure(status: int, function: Any, _arguments: tuple[Any, ...]) -> None:
    """`errcheck` of a function that returns a status.

    Raises:
        OutOfMemory: the function could not get the memory it needed.
        ValueError: arguments that no caller in the product passes, or a bug.
    """
    if status == _OUT_OF_MEMORY:
        raise OutOfMemory.openly(f"Not enough memory on this host for {function.__name__}.")
    if status != _OK:
        raise ValueError(f"{function.__name__} cannot do this: status {status}")
