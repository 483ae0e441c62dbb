"""A full device is one error of ours, whichever allocator says so; so is a lost one."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import onnxruntime
import pytest
import torch

from pipeline.control import Control
from pipeline.device import Device, Precision, retry_with_half_batch
from pipeline.device_faults import reporting_faults
from pipeline.errors import Cancelled, DeviceLost, InvalidInput, ModelFailed, OutOfMemory
from pipeline.flow.local import Laned, LocalPorts
from pipeline.lane import Lane
from pipeline.requests import EnhancedImages, EnhanceSettings, Renders

CPU = Device(torch.device("cpu"), Precision.FP32)
#: More than any machine has.
TOO_MUCH = 2**50


def raised(work: Callable[[], object]) -> Exception:
    """What a real allocator raises."""
    with pytest.raises(Exception) as caught:  # which one is what is asked
        work()
    assert isinstance(caught.value, Exception)
    return caught.value


FULL = {
    "torch on a GPU": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    "torch on the CPU": raised(lambda: torch.empty(TOO_MUCH)),
    "torch on Windows": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: not enough memory: you "
        "tried to allocate 8 bytes."
    ),
    "numpy": raised(lambda: np.empty(TOO_MUCH)),
    "Python": MemoryError(),
    "the kernel": OSError(errno.ENOMEM, "Cannot allocate memory"),
    "a mapped file": RuntimeError(
        "unable to mmap 8 bytes from file <weights>: Cannot allocate memory (12)"
    ),
    "C++": RuntimeError("std::bad_alloc"),
    "the CUDA runtime": torch.AcceleratorError("CUDA error: out of memory"),
    "the CUDA driver": RuntimeError("CUDA driver error: out of memory"),
    "cuBLAS": RuntimeError(
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
    ),
    "cuBLAS without its workspace": RuntimeError(
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"
    ),
    "cuDNN": RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    "cuDNN 9": RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    "cuDNN 9 on the host": RuntimeError(
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"
    ),
    "ONNX Runtime": onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException(
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Exception during initialization: "
        "bfc_arena.cc:376 Failed to allocate memory for requested buffer of size 1099511627776"
    ),
    "OpenCV": cv2.error(
        "OpenCV(5.0.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 8 bytes in "
        "function 'OutOfMemoryError'"
    ),
    "the native library": OutOfMemory("Not enough memory on this host for project."),
}
LOST = {
    "address": "CUDA error: an illegal memory access was encountered",
    "assertion": "CUDA error: device-side assert triggered",
    "ECC": "CUDA error: uncorrectable ECC error encountered",
    "launch": "CUDA error: unspecified launch failure",
    "alignment": "CUDA error: misaligned address",
    "gone": "CUDA error: unknown error",
}
OTHER = {
    "another card's build": "CUDA error: no kernel image is available for execution on the device",
    "a shape": "CUDA error: invalid configuration argument",
    "a type": "CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasGemmEx`",
}
#: Twice: torch has a class of its own for them since 2.9, and extensions raise what they like.
CLASSES = (torch.AcceleratorError, RuntimeError)


def failing(error: Exception) -> Callable[[int], int]:
    def work(_batch: int) -> int:
        raise error

    return work


@pytest.mark.parametrize("error", FULL.values(), ids=FULL)
def test_a_full_device_is_one_error_whichever_allocator_says_so(error):
    with pytest.raises(OutOfMemory), CPU.reporting_faults("Depth"):
        raise error
    tried = []

    def work(batch: int) -> int:
        tried.append(batch)
        if batch > 2:
            raise error
        return batch

    assert retry_with_half_batch(work, 4, CPU, "Depth") == 2 and tried == [4, 2]
    with pytest.raises(OutOfMemory, match="Depth did not fit on cpu, fp32, with 4 items"):
        retry_with_half_batch(failing(error), 4, CPU, "Depth")


@pytest.mark.parametrize("make", CLASSES)
@pytest.mark.parametrize("said", LOST.values(), ids=LOST)
def test_a_lost_device_is_an_error_of_its_own_that_another_process_may_mend(said, make):
    error = make(f"{said}\nCUDA kernel errors might be asynchronously reported.")
    for attempt in (
        failing(error),
        lambda batch: retry_with_half_batch(failing(error), batch, CPU, "Depth"),
    ):
        with pytest.raises(DeviceLost) as caught, CPU.reporting_faults("Depth"):
            attempt(4)
        assert caught.value.retryable and caught.value.code == "device_lost"
        told = caught.value.detail
        assert told.startswith("Depth failed") and told.endswith(f"{said}.") and "\n" not in told


@pytest.mark.parametrize("make", CLASSES)
@pytest.mark.parametrize("said", OTHER.values(), ids=OTHER)
def test_what_a_new_process_would_not_mend_is_no_lost_device(said, make):
    error = make(said)
    with pytest.raises(make) as caught, CPU.reporting_faults("Depth"):
        retry_with_half_batch(failing(error), 4, CPU, "Depth")
    assert caught.value is error


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("The size of tensor a (3) must match."),
        Cancelled("stop"),
        ModelFailed("std::bad_alloc"),
        InvalidInput("out of memory"),
    ],
)
def test_other_errors_pass_untouched(error):
    with pytest.raises(type(error)) as caught, reporting_faults("Depth"):
        retry_with_half_batch(failing(error), 4, CPU, "Depth")
    assert caught.value is error


@dataclass
class Broken:
    """An engine that knows nothing of devices."""

    error: Exception
    name: str = "broken"

    def enhance(
        self, renders: Renders, settings: EnhanceSettings, control: Control
    ) -> EnhancedImages:
        raise self.error

    def warm_up(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "meaning"),
    [(FULL["ONNX Runtime"], OutOfMemory), (torch.AcceleratorError(LOST["ECC"]), DeviceLost)],
)
async def test_every_engine_in_a_lane_reports_them(error, meaning):
    port = Laned(Broken(error), Lane("test"))
    white = np.full((1, 8, 8, 3), 255, np.uint8)
    with pytest.raises(meaning, match="broken engine"):
        await port.enhance(Renders(white, white[..., 0], None), EnhanceSettings(0.5, 0))
    with pytest.raises(meaning, match="Warming up the broken engine"):
        LocalPorts(port.lane, enhancer=port).warm_up()
