"""Keeps torch to one thread: beside the C++ library, and where sums must be the same every time.

It does not know what runs inside; work on a GPU does not notice it. Idle OpenMP threads of torch
spin for milliseconds after each operation: forward and backward of 20,000 splats at 256 px take
30 ms with two torch threads and 18 ms with one (or with OMP_WAIT_POLICY=passive set before torch is
loaded). How many threads share a convolution decides about the last bits of what it gives.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_lock = threading.Lock()
#: Blocks that are open, in whichever thread, and how many threads torch took before the first.
_open = 0
_outside = 1
_own = threading.local()


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Runs the torch operations of this thread without helpers; 1 us. Nests; blocks of several
    threads may overlap in any order.

    torch keeps one number for each thread, and one for the process that threads begin with. Whoever
    leaves last puts the process's back; a thread that began meanwhile and opens no block of its own
    keeps 1 (a lane sets its thread's number before every call).
    """
    global _open, _outside  # noqa: PLW0603  # torch's number is the process's
    depth = getattr(_own, "depth", 0)
    _own.depth = depth + 1
    if depth == 0:
        with _lock:
            # A thread whose first block this is may have begun inside of another's.
            if _open == 0:
                _outside = torch.get_num_threads()
            _open += 1
            torch.set_num_threads(1)
    try:
        yield
    finally:
        _own.depth = depth
        if depth == 0:
            with _lock:
                _open -= 1
                torch.set_num_threads(_outside)
