"""How many views go through SDXL at once, and which of its parts work in pieces, by free memory.

It knows sizes and no networks; nothing is measured here.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Two by two.
VIEWS_PER_GRID = 4

# Counted by running the released architecture on meta tensors in half precision, one picture of
# 1024 pixels: the ControlNet holds at most 159 MB beside its weights, the UNet 164 MB with 51 MB
# of the ControlNet's answers, the VAE 1286 MB while encoding and 1536 MB while decoding; a quarter
# of each at 512 pixels. Attention counts nothing there: torch's fused kernels keep no scores.
_UNET_BYTES_PER_PIXEL = (164 + 51) * 2**20 / 1024**2
_VAE_BYTES_PER_PIXEL = 1536 * 2**20 / 1024**2
#: For what the count does not see: the kernels' own memory and fragmentation.
_MARGIN = 2.0
#: Four times the keys and values make the largest moment of the UNet longer by about this.
_CROSS_VIEW = 1.5


@dataclass(frozen=True)
class MemoryPlan:
    """How a call is cut.

    Attributes:
        views_at_once: through the UNet and the ControlNet; whole pictures of four with `grid`.
            The VAE always works on one view.
        attention_slicing: attention head by head. It helps only where torch has no fused kernel
            for the card, and it is slow: the last resort.
        vae_tiling: a view goes through the VAE in overlapping tiles.
    """

    views_at_once: int
    attention_slicing: bool
    vae_tiling: bool


def memory_plan(
    free_bytes: int | None,
    views: int,
    pixels: int,
    *,
    grid: bool = False,
    cross_view: bool = False,
    bytes_per_number: int = 2,
) -> MemoryPlan:
    """The plan for a call.

    Args:
        free_bytes: beside the weights; None (a CPU) gives one picture at a time, uncut: a batch
            is no faster there and cannot be cancelled as soon.
        views: of the call, at least 1.
        pixels: of a view inside the network.
        grid, cross_view: as in `SdxlOptions`; with `cross_view` all views stay together.
        bytes_per_number: of the networks.
    """
    per_picture = VIEWS_PER_GRID if grid else 1
    pictures = -(-views // per_picture)
    if free_bytes is None:
        return MemoryPlan(views if cross_view else per_picture, False, False)
    number = _MARGIN * bytes_per_number / 2
    picture_bytes = number * _UNET_BYTES_PER_PIXEL * pixels * per_picture
    if cross_view:
        picture_bytes *= _CROSS_VIEW
    fitting = int(free_bytes / picture_bytes)
    at_once = pictures if cross_view else max(1, min(fitting, pictures))
    return MemoryPlan(
        views_at_once=at_once * per_picture,
        attention_slicing=fitting < 1 and not cross_view,
        vae_tiling=free_bytes < number * _VAE_BYTES_PER_PIXEL * pixels,
    )
