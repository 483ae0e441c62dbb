"""Which device the torch engines compute on, how much of it they may take, and what is done when
it is full.

It knows torch and nothing of models: an engine says what it runs and how many items at once.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import torch

from pipeline.device_faults import device_fault, is_out_of_memory, reporting_faults
from pipeline.errors import InvalidOption, OutOfMemory, Unavailable
from pipeline.options import DeviceName

log = logging.getLogger(__name__)

T = TypeVar("T")

#: What a process takes on a card before its first tensor: context, libraries, kernels. Several
#: hundred MB on recent cards; torch does not count it.
CONTEXT_BYTES = 600 * 2**20


class Precision(StrEnum):
    """Number format of weights and activations; what is delicate stays fp32 by itself."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"

    @property
    def dtype(self) -> torch.dtype:
        return {
            Precision.FP32: torch.float32,
            Precision.FP16: torch.float16,
            Precision.BF16: torch.bfloat16,
        }[self]


@dataclass(frozen=True)
class Device:
    """A torch device and the number format of the networks on it.

    Attributes:
        torch_device: where tensors live.
        precision: of the networks; the splat optimiser always computes in fp32.
    """

    torch_device: torch.device
    precision: Precision

    @classmethod
    def choose(
        cls,
        name: str = DeviceName.AUTO,
        precision: str | None = None,
        *,
        share: float | None = None,
    ) -> Device:
        """The device a user asked for.

        Args:
            name: a `DeviceName`.
            precision: a `Precision`; None is bf16 on a GPU and fp32 on the CPU.
            share: 0..1 of the GPU's memory that this process may take, enforced by torch's
                allocator from now on; None, or a CPU, sets no limit.

        Raises:
            InvalidOption: a name is unknown or the share is out of range.
            Unavailable: a GPU was asked for and torch cannot use one.
        """
        if name not in tuple(DeviceName):
            raise InvalidOption(f"device must be one of {[*DeviceName]}, got {name!r}")
        if precision is not None and precision not in tuple(Precision):
            raise InvalidOption(f"precision must be one of {[*Precision]}, got {precision!r}")
        if share is not None and not 0 < share <= 1:
            raise InvalidOption(f"the share of the GPU must be above 0 and at most 1, got {share}")
        there = torch.cuda.is_available()
        if name == DeviceName.CUDA and not there:
            raise Unavailable(
                "A CUDA device was asked for, but torch "
                f"{torch.__version__} sees none. Install a CUDA build of torch and check "
                "`nvidia-smi`, or choose the device cpu."
            )
        on_gpu = there and name != DeviceName.CPU
        if name == DeviceName.AUTO:
            log.info("device: %s", "cuda, a GPU is there" if on_gpu else "cpu, there is no GPU")
        device = (
            torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
        )
        if on_gpu and share is not None:
            _limit(device, share)
        default = Precision.BF16 if on_gpu else Precision.FP32
        return cls(device, default if precision is None else Precision(precision))

    @property
    def is_cuda(self) -> bool:
        return self.torch_device.type == "cuda"

    @property
    def dtype(self) -> torch.dtype:
        """Of the networks."""
        return self.precision.dtype

    @property
    def description(self) -> str:
        """For logs, manifests and benches: the card's name, or "cpu", with the precision."""
        card = torch.cuda.get_device_name(self.torch_device) if self.is_cuda else "cpu"
        return f"{card}, {self.precision}"

    def free_bytes(self) -> int | None:
        """Memory that this process can still take, bytes; None where there is no GPU."""
        if not self.is_cuda:
            return None
        where = self.torch_device
        free, _ = torch.cuda.mem_get_info(where)
        reserved = torch.cuda.memory_reserved(where)
        # What the allocator may still ask CUDA for. It refuses more than its share of the card,
        # however much of the rest is free.
        share = torch.cuda.get_per_process_memory_fraction(where)
        total = torch.cuda.get_device_properties(where).total_memory
        left = max(0.0, min(free, share * total - reserved))
        # What it holds and does not use is free for us, though not for others.
        return int(left + reserved - torch.cuda.memory_allocated(where))

    def forget(self) -> None:
        """Give unused memory back, for others on the card and against fragmentation."""
        gc.collect()
        if self.is_cuda:
            torch.cuda.empty_cache()

    def reporting_faults(self, what: str) -> AbstractContextManager[None]:
        """`pipeline.device_faults.reporting_faults` of this device."""
        return reporting_faults(what, self.description)


def _limit(device: torch.device, share: float) -> None:
    """Tensors of this process may take `share` of the card, without what CUDA itself takes."""
    total = torch.cuda.get_device_properties(device).total_memory
    own = share - CONTEXT_BYTES / total
    if own <= 0:
        raise InvalidOption(
            f"A share of {share:g} of {total / 2**30:.1f} GiB is not even enough for CUDA itself."
        )
    torch.cuda.set_per_process_memory_fraction(own, device)


def retry_with_half_batch(work: Callable[[int], T], batch: int, device: Device, what: str) -> T:
    """`work(batch)`; where the device or the host is full, once more with half the batch.

    Args:
        work: computes everything, at most so many items at once. It is called again from the
            start: it must not have changed its input.
        batch: items at once, at least 1.
        what: for the message, such as "view synthesis".

    Raises:
        OutOfMemory: the second try did not fit either, or there was nothing to halve.
        DeviceLost: the device cannot be used any more.
    """
    tried = [batch, batch // 2] if batch > 1 else [batch]
    for size in tried:
        try:
            return work(size)
        except Exception as error:
            if not is_out_of_memory(error):
                fault = device_fault(error, what, device.description)
                if fault is None:
                    raise
                raise fault from error
        # Outside of the handler: the traceback holds the tensors that filled the device.
        device.forget()
        if size != tried[-1]:
            log.warning("%s did not fit with %d at once, trying %d", what, size, tried[-1])
    how = (
        f"with {batch} items at once and then with {tried[-1]}"
        if batch > 1
        else "one item at a time"
    )
    raise OutOfMemory.openly(f"{what} did not fit on {device.description}, {how}.")
