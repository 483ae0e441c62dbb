"""Attention of the DeG networks, and which kernel computes it.

It does not know what the tokens are. On a GPU the kernel is chosen once and by name: 12,294 tokens
would need 4.8 GB a block if the table of all pairs were written out, so nothing falls back to that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import pad, scaled_dot_product_attention

from pipeline.errors import Unavailable

#: Kernels that never write the table of all pairs, in the order of preference.
FUSED = (
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
)
#: Less than this in a logit is nothing to float32.
_NOTHING = 1e-7
#: Kernels want head widths that are multiples of this.
_STEP = 8


@dataclass(frozen=True)
class AttentionKernel:
    """`backend` None leaves the choice to torch: the CPU has one fused kernel."""

    backend: SDPBackend | None = None

    @property
    def name(self) -> str:
        """For logs and benches: "flash_attention", "plain"."""
        return "plain" if self.backend is None else str(self.backend.name).lower()


@dataclass(frozen=True)
class RepeatedKey:
    """The key and value at `index` stand for `count` equal ones."""

    index: int
    count: int


def choose_kernel(
    device: torch.device,
    dtype: torch.dtype,
    head_width: int,
    among: Sequence[SDPBackend] = FUSED,
    works: Callable[[SDPBackend, torch.device, torch.dtype, int], bool] | None = None,
) -> AttentionKernel:
    """The first kernel that computes heads of this width, and of one with room for a repeated key.

    Args:
        device: where the networks are; on the CPU torch chooses.
        dtype: of queries, keys and values.
        among: kernels to try, in order.
        works: tries a kernel; None runs it on a few numbers.

    Raises:
        Unavailable: none works on this device.
    """
    if device.type == "cpu":
        return AttentionKernel()
    works = works or _works
    for backend in among:
        if all(works(backend, device, dtype, width) for width in (head_width, _wider(head_width))):
            return AttentionKernel(backend)
    names = ", ".join(str(backend.name).lower() for backend in among)
    raise Unavailable(
        f"No fused attention kernel works on this {device.type} device in {dtype} with heads of "
        f"{head_width} channels (tried {names}), and without one the DeG networks need several "
        "gigabytes for every block. Choose the precision bf16 or fp16 on a card of compute "
        "capability 8.0 or later with torch's own CUDA build, or the device cpu."
    )


def use_kernel(network: nn.Module, kernel: AttentionKernel) -> None:
    """Every attention inside `network` computes with this kernel from now on."""
    for module in network.modules():
        if isinstance(module, Attention):
            module.kernel = kernel


class Attention(nn.Module):
    """Softmax attention of heads; it has no weights."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = AttentionKernel()

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, repeated: RepeatedKey | None = None
    ) -> Tensor:
        """Attend; q and k are cast to v's dtype, or a fused kernel would refuse them.

        Args:
            q: [1, n, heads, width].
            k, v: [1, m, heads, width].
            repeated: a key that counts as often as it says: ln(count) is added to its logits. It
                goes into channels of its own, so no mask is needed and every kernel can do it.

        Returns:
            [1, n, heads * width] in v's dtype.
        """
        width = q.shape[-1]
        q, k = q.to(v.dtype), k.to(v.dtype)
        if repeated is not None:
            q, k, v = _with_repeated(q, k, v, repeated)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        if self.kernel.backend is None:
            out = scaled_dot_product_attention(q, k, v, scale=width**-0.5)
        else:
            # The choice is the whole process's while this one call is dispatched: engines on one
            # device take turns, so nobody else asks in between.
            with sdpa_kernel([self.kernel.backend]):
                out = scaled_dot_product_attention(q, k, v, scale=width**-0.5)
        return out.transpose(1, 2)[..., :width].flatten(2)


def _wider(width: int) -> int:
    return (width // _STEP + 1) * _STEP


def _with_repeated(
    q: Tensor, k: Tensor, v: Tensor, repeated: RepeatedKey
) -> tuple[Tensor, Tensor, Tensor]:
    """q with channels of 1 and k with channels that are 0 but at the repeated key.

    There they add up to ln(count) * sqrt(width), which the softmax scale makes ln(count). A 16-bit
    number is too coarse for it (.03 at 66), so each channel holds what the ones before it miss.
    """
    width = q.shape[-1]
    room = _wider(width) - width
    q, k, v = (pad(x, (0, room)) for x in (q, k, v))
    q[..., width:] = 1
    missing = math.log(repeated.count) * math.sqrt(width)
    for channel in range(width, width + room):
        part = torch.tensor(missing, dtype=k.dtype, device="cpu").item()
        if abs(part) < _NOTHING:
            break
        k[:, repeated.index, :, channel] = part
        missing -= part
    return q, k, v


def _works(backend: SDPBackend, device: torch.device, dtype: torch.dtype, width: int) -> bool:
    numbers = torch.zeros(1, 1, 16, width, device=device, dtype=dtype)
    try:
        with sdpa_kernel([backend]):
            scaled_dot_product_attention(numbers, numbers, numbers)
    except RuntimeError:  # "No available kernel": torch has no other word for it.
        return False
    return True
