"""Options of an engine that came from a file, handed to it with a clear error.

It does not know any engine.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pipeline.errors import InvalidOption

__all__ = ["with_options"]

T = TypeVar("T")


def with_options(
    make: Callable[..., T], engine: str, options: Mapping[str, Any], *args: Any, **kwargs: Any
) -> T:
    """`make(*args, **kwargs, **options)`.

    Raises:
        InvalidOption: `make` takes no such option, or not from outside; the text lists those that
            it takes.
    """
    parameters = inspect.signature(make).parameters.values()
    free = [p.name for p in parameters if p.name not in kwargs][len(args) :]
    unknown = sorted(set(options) - set(free))
    if unknown:
        raise InvalidOption(
            f"The {engine} engine has no option {unknown[0]!r}; it has {sorted(free)}."
        )
    return make(*args, **kwargs, **options)
