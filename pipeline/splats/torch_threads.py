"""Keeps torch's own threads off the cores while the C++ library works.

It does not know what runs inside; work on a GPU does not notice it. Idle OpenMP threads of torch
spin for milliseconds after each operation: forward and backward of 20,000 splats at 256 px take
30 ms with two torch threads and 18 ms with one (or with OMP_WAIT_POLICY=passive set before torch is
loaded).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Runs the torch operations of this thread without helpers; 0.5 us. Nests."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
