import pytest
import torch

from pipeline.device import Device, Precision, retry_with_half_batch
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


def test_a_full_device_leaves_a_block_as_our_error():
    device = Device.choose("cpu")
    with (
        pytest.raises(OutOfMemory, match="depth did not fit on cpu"),
        device.reporting_full_memory("depth"),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_every_precision_is_a_dtype():
    assert {p.dtype for p in Precision} == {torch.float32, torch.float16, torch.bfloat16}
