"""Seconds of work on a device, where what is started goes on after the call.

It does not know what is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from pipeline.device import Device


def median_seconds(work: Callable[[], Any], device: Device, repeats: int = 3) -> float:
    """Median, after one run that does not count."""
    times = [seconds_of(work, device) for _ in range(repeats + 1)][1:]
    return sorted(times)[len(times) // 2]


def seconds_of(work: Callable[[], Any], device: Device) -> float:
    """Of one run, until the device has finished it."""
    wait_for(device)
    start = time.perf_counter()
    work()
    wait_for(device)
    return time.perf_counter() - start


def wait_for(device: Device) -> None:
    """Until everything that was started is done."""
    if device.is_cuda:
        torch.cuda.synchronize(device.torch_device)
