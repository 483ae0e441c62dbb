"""What a full or a lost device raises, in whichever library, as errors of the product.

It does not know what was computed: whoever guards a computation names it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pipeline.errors import DeviceLost, GlimpseError, OutOfMemory

#: In the text of an error that says that the host is full: torch's allocator on the CPU (Linux,
#: Windows), the kernel's word for a mapped file, C++'s own, ONNX Runtime's and OpenCV's.
_FULL_HOST = (
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "std::bad_alloc",
    "bad allocation",
    "failed to allocate",
    "insufficient memory",
    "host_allocation_failed",
)
#: The same of the device: the CUDA runtime outside of torch's allocator, and its libraries. cuBLAS
#: that cannot make its workspace says that it is not initialised.
_FULL_DEVICE = (
    "cuda error: out of memory",
    "cuda driver error: out of memory",
    "cuda out of memory",
    "_status_alloc_failed",
    "device_allocation_failed",
    "cublas_status_not_initialized",
    "cusparse_status_insufficient_resources",
)
#: Errors of the CUDA runtime after which the context goes on: the next call may succeed, and the
#: same call fails in a new process, too. Errors of its libraries (`_STATUS_`) are such as well:
#: where one stands for a lost context, the runtime says so at the next call.
_HARMLESS = (
    "_status_",
    "invalid argument",
    "invalid configuration argument",
    "invalid device function",
    "invalid device ordinal",
    "invalid resource handle",
    "no cuda-capable device",
    "no kernel image",
    "not permitted",
    "not supported",
    "driver version is insufficient",
    "peer access",
    "too many resources requested",
)


def _text(error: BaseException) -> str:
    return str(error).lower()


def _is_full_host(error: BaseException) -> bool:
    if isinstance(error, MemoryError):  # numpy's too
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return any(words in _text(error) for words in _FULL_HOST)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that the host or the device had too little memory."""
    if isinstance(error, OutOfMemory | torch.OutOfMemoryError):
        return True
    if isinstance(error, GlimpseError):
        return False
    return _is_full_host(error) or any(words in _text(error) for words in _FULL_DEVICE)


def is_lost_device(error: BaseException) -> bool:
    """Whether no call of this process can use the device any more."""
    if isinstance(error, GlimpseError) or is_out_of_memory(error):
        return isinstance(error, DeviceLost)
    said = _text(error)
    of_runtime = isinstance(error, torch.AcceleratorError) or (
        isinstance(error, RuntimeError) and "cuda error" in said
    )
    return of_runtime and not any(words in said for words in _HARMLESS)


def device_fault(error: BaseException, what: str, device: str) -> GlimpseError | None:
    """The error of the product that says what a full or a lost device means; None of any other.

    Args:
        what: was computed, such as "Drawing splats".
        device: as in `pipeline.device.Device.description`.
    """
    if isinstance(error, GlimpseError):
        return None
    if is_out_of_memory(error):
        of_host = _is_full_host(error) and not isinstance(error, torch.OutOfMemoryError)
        place = "into this machine's memory" if of_host else f"on {device}"
        return OutOfMemory.openly(f"{what} did not fit {place}.")
    if is_lost_device(error):
        said = str(error).partition("\n")[0].rstrip(" .")
        lost = f"{what} failed and the GPU cannot be used by this process"
        return DeviceLost(f"{lost}: {said}.", public=f"{lost}.")
    return None


@contextmanager
def reporting_faults(what: str, device: str = "this machine") -> Iterator[None]:
    """Errors of a full device leave the block as `OutOfMemory`, those of a lost one as
    `DeviceLost`; all others as they are.

    Args:
        what, device: as in `device_fault`.
    """
    try:
        yield
    except Exception as error:
        fault = device_fault(error, what, device)
        if fault is None:
            raise
        raise fault from error
