"""Attention of the DeG networks: a key that stands for several, and the choice of a kernel."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend

from pipeline.engines.deg.fused_attention import (
    Attention,
    AttentionKernel,
    RepeatedKey,
    _works,
    choose_kernel,
    use_kernel,
)
from pipeline.errors import Unavailable


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def slow_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """[n, width], [m, width], [m, width] -> [n, width], as the formula says it."""
    rows = []
    for query in q.double():
        weights = torch.exp((k.double() @ query) * q.shape[-1] ** -0.5)
        rows.append((weights[:, None] * v.double()).sum(0) / weights.sum())
    return torch.stack(rows)


@pytest.mark.parametrize("width", [8, 12, 64])
def test_attention_is_the_formula_and_a_repeated_key_is_its_copies(width: int):
    q, k, v = numbers(1, 1, 5, 2, width), numbers(2, 1, 7, 2, width), numbers(3, 1, 7, 2, width)
    attend = Attention()
    found = attend(q, k, v).unflatten(-1, (2, width))
    repeated = attend(q, k, v, RepeatedKey(3, 4101)).unflatten(-1, (2, width))
    for head in range(2):
        one = q[0, :, head], k[0, :, head], v[0, :, head]
        torch.testing.assert_close(
            found[0, :, head].double(), slow_attention(*one), atol=2e-6, rtol=1e-5
        )
        copies = [*range(7), *[3] * 4100]
        wanted = slow_attention(one[0], one[1][copies], one[2][copies])
        torch.testing.assert_close(repeated[0, :, head].double(), wanted, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_weight_of_a_repeated_key_survives_sixteen_bits(dtype: torch.dtype):
    q, k, v = (numbers(seed, 1, 6, 1, 64).to(dtype) for seed in (1, 2, 3))
    exact = Attention()(q.float(), k.float(), v.float(), RepeatedKey(2, 4101))
    found = Attention()(q, k, v, RepeatedKey(2, 4101))
    assert found.dtype == dtype
    # ln(4101) * 8 alone, rounded to bf16, would be off by .03 in the logit's exponent.
    torch.testing.assert_close(found.float(), exact, atol=2 * torch.finfo(dtype).eps, rtol=0.01)


def test_queries_that_came_back_in_float32_meet_values_of_sixteen_bits():
    q, k = numbers(1, 1, 4, 2, 8), numbers(2, 1, 4, 2, 8)
    v = numbers(3, 1, 4, 2, 8).bfloat16()
    assert Attention()(q, k, v).dtype == torch.bfloat16


def test_the_cpu_leaves_the_choice_to_torch():
    kernel = choose_kernel(torch.device("cpu"), torch.float32, 64)
    assert kernel.name == "plain"


def test_the_first_kernel_that_works_for_both_widths_is_taken():
    asked: list[tuple[str, int]] = []

    def works(backend: SDPBackend, device: torch.device, dtype: torch.dtype, width: int) -> bool:
        asked.append((backend.name, width))
        return (backend, width) != (SDPBackend.FLASH_ATTENTION, 72)

    kernel = choose_kernel(torch.device("cuda"), torch.bfloat16, 64, works=works)
    assert kernel.name == "cudnn_attention"
    assert asked[:2] == [("FLASH_ATTENTION", 64), ("FLASH_ATTENTION", 72)]


def test_a_kernel_is_tried_on_numbers():
    cpu = torch.device("cpu")
    assert _works(SDPBackend.MATH, cpu, torch.float32, 72)
    # It is for another kind of device.
    assert not _works(SDPBackend.CUDNN_ATTENTION, cpu, torch.float32, 72)


@pytest.mark.parametrize("backend", [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION])
def test_a_chosen_kernel_counts_a_repeated_key_too(backend: SDPBackend):
    """Its heads are wider by the key's own channels, and the softmax scale stays the old one."""
    q, k, v = (numbers(seed, 1, 7, 2, 64) for seed in (1, 2, 3))
    chosen = Attention()
    chosen.kernel = AttentionKernel(backend)
    for repeated in (None, RepeatedKey(3, 4101)):
        torch.testing.assert_close(chosen(q, k, v, repeated), Attention()(q, k, v, repeated))


def test_no_fused_kernel_is_an_error_that_says_what_to_do():
    with pytest.raises(Unavailable, match=r"flash_attention, .*bf16 or fp16.*or the device cpu"):
        choose_kernel(torch.device("cuda"), torch.float32, 64, works=lambda *_: False)


def test_a_kernel_is_told_to_every_attention_and_is_used():
    network = nn.ModuleList([Attention(), nn.Sequential(Attention())])
    use_kernel(network, AttentionKernel(SDPBackend.MATH))
    found = [module for module in network.modules() if isinstance(module, Attention)]
    assert [attention.kernel.name for attention in found] == ["math", "math"]
    q = numbers(1, 1, 5, 2, 8)
    torch.testing.assert_close(found[0](q, q, q), Attention()(q, q, q))
    found[0].kernel = AttentionKernel(SDPBackend.CUDNN_ATTENTION)
    with pytest.raises(RuntimeError, match="No viable backend"):
        found[0](q, q, q)
