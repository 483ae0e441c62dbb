from types import SimpleNamespace

import pytest
import torch

from pipeline.device import CONTEXT_BYTES, Device, Precision, retry_with_half_batch
from pipeline.engines.enhance.sdxl.sdxl_memory import memory_plan
from pipeline.engines.views.syncdreamer.config import SyncDreamerConfig
from pipeline.engines.views.syncdreamer.syncdreamer_views import _estimated_fit
from pipeline.errors import InvalidOption, OutOfMemory, Unavailable

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


def test_the_cpu_computes_in_fp32_unless_told_otherwise():
    assert Device.choose("cpu").dtype == torch.float32
    assert Device.choose("cpu", "bf16").dtype == torch.bfloat16
    assert not Device.choose("cpu").is_cuda
    assert Device.choose("cpu").free_bytes() is None
    assert Device.choose("cpu", share=0.5).description == "cpu, fp32"


@no_gpu
def test_without_a_gpu_auto_is_the_cpu_and_cuda_says_what_to_do():
    assert Device.choose().torch_device.type == "cpu"
    with pytest.raises(Unavailable, match=r"torch .* sees none.*nvidia-smi"):
        Device.choose("cuda")


@pytest.mark.gpu
@needs_gpu
def test_a_share_of_a_gpu_is_kept():
    device = Device.choose("cuda", share=0.1)
    total = torch.cuda.get_device_properties(0).total_memory
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(int(0.11 * total), dtype=torch.uint8, device=device.torch_device)
    torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"name": "tpu"}, "device must be one of"),
        ({"precision": "fp8"}, "precision must be one of"),
        ({"share": 0.0}, "share"),
        ({"share": 1.5}, "share"),
    ],
)
def test_what_does_not_exist_is_refused(arguments, told):
    with pytest.raises(InvalidOption, match=told):
        Device.choose(**arguments)


class Full:
    """Work that fits with at most `room` at once."""

    def __init__(self, room: int) -> None:
        self.room, self.tried = room, []

    def __call__(self, batch: int) -> int:
        self.tried.append(batch)
        if batch > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return batch


@pytest.mark.parametrize(("room", "tried"), [(16, [16]), (8, [16, 8]), (15, [16, 8])])
def test_what_does_not_fit_is_tried_once_more_with_half(room, tried):
    work = Full(room)
    assert retry_with_half_batch(work, 16, Device.choose("cpu"), "work") == tried[-1]
    assert work.tried == tried


def test_a_second_failure_is_an_error_that_says_what_was_tried():
    work = Full(4)
    with pytest.raises(OutOfMemory, match=r"view synthesis did not fit .* 16 items .* with 8"):
        retry_with_half_batch(work, 16, Device.choose("cpu"), "view synthesis")
    assert work.tried == [16, 8]


def test_one_item_cannot_be_halved():
    work = Full(0)
    with pytest.raises(OutOfMemory, match="one item at a time"):
        retry_with_half_batch(work, 1, Device.choose("cpu"), "work")
    assert work.tried == [1]


def test_other_errors_are_not_tried_again():
    def broken(_batch: int) -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        retry_with_half_batch(broken, 4, Device.choose("cpu"), "work")


def card(monkeypatch, *, total: float, free: float, reserved: float, used: float, share: float):
    """A GPU that is not there, GiB; a device on it."""
    gib = 2**30
    answers = {
        "mem_get_info": (int(free * gib), int(total * gib)),
        "memory_reserved": int(reserved * gib),
        "memory_allocated": int(used * gib),
        "get_per_process_memory_fraction": share,
        "get_device_properties": SimpleNamespace(total_memory=int(total * gib)),
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda _device, answer=answer: answer)
    return Device(torch.device("cuda", 0), Precision.BF16)


@pytest.mark.parametrize(
    ("share", "free", "reserved", "used", "expected"),
    [
        # Of 24 GiB. The whole card: what is free, and what the allocator holds unused.
        (1.0, 20.0, 3.0, 2.5, 20.5),
        # A quarter: 6 may be taken, 3 are, of which half a GiB is unused.
        (0.25, 20.0, 3.0, 2.5, 3.5),
        # Others have taken what the share would allow.
        (0.25, 1.0, 3.0, 2.5, 1.5),
        # More is held than the share, as after it was lowered.
        (0.1, 20.0, 3.0, 2.5, 0.5),
    ],
)
def test_free_memory_is_what_the_share_leaves(monkeypatch, share, free, reserved, used, expected):
    device = card(monkeypatch, total=24, free=free, reserved=reserved, used=used, share=share)
    assert device.free_bytes() == pytest.approx(expected * 2**30, abs=2)


def test_an_enhancer_with_a_share_of_a_card_plans_for_its_share(monkeypatch):
    # .46 of 24 GiB, less what CUDA takes for itself; the weights lie there.
    share = 0.46 - CONTEXT_BYTES / (24 * 2**30)
    lent = card(monkeypatch, total=24, free=16, reserved=7.27, used=7.27, share=share)
    plan = memory_plan(lent.free_bytes(), 14, 1024**2)
    assert (plan.views_at_once, plan.vae_tiling) == (7, False)
    whole = card(monkeypatch, total=24, free=16, reserved=7.27, used=7.27, share=1.0)
    assert memory_plan(whole.free_bytes(), 14, 1024**2).views_at_once == 14


def test_view_synthesis_with_a_share_of_a_card_plans_for_its_share(monkeypatch):
    config = SyncDreamerConfig()
    whole = card(monkeypatch, total=24, free=20, reserved=2.5, used=2.5, share=1.0)
    assert _estimated_fit(config, whole) == 16
    lent = card(monkeypatch, total=24, free=20, reserved=2.5, used=2.5, share=0.15)
    assert 1 <= _estimated_fit(config, lent) < 16


def test_every_precision_is_a_dtype():
    assert {p.dtype for p in Precision} == {torch.float32, torch.float16, torch.bfloat16}
