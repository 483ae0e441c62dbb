"""What a caller asks of a rasteriser, checked: every backend may rely on it.

It does not know how anything is drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from pipeline.errors import InvalidInput
from pipeline.geometry.spherical_harmonics import MAX_DEGREE, sh_count

__all__ = ["MAX_CHANNELS", "RENDER_MODES", "RasterRequest"]

RENDER_MODES = ("RGB", "D", "ED", "RGB+D", "RGB+ED")
RASTERIZE_MODES = ("classic", "antialiased")

#: Colour channels, with the one of depth.
MAX_CHANNELS = 32

#: Means (world units, either sign) and scales beyond this are not drawn: near 1e19 they overflow
#: 32-bit floats on their way to the screen and make gradients NaN. Objects measure 1.
MAX_EXTENT = 1e6

#: Beyond this, 32-bit pixel arithmetic and memory give out.
MAX_SIDE = 16384


@dataclass(frozen=True)
class RasterRequest:
    """Arguments of `pipeline.splats.rasterize.rasterizer.rasterize`, with its meanings and shapes.

    Raises:
        InvalidInput: a shape, dtype, device, value or mode is wrong; the text names the argument.
    """

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    colors: Tensor | None
    viewmats: Tensor
    Ks: Tensor
    width: int
    height: int
    near_plane: float = 0.01
    far_plane: float = 1e10
    radius_clip: float = 0.0
    eps2d: float = 0.3
    sh_degree: int | None = None
    tile_size: int = 16
    backgrounds: Tensor | None = None
    render_mode: str = "RGB"
    absgrad: bool = False
    rasterize_mode: str = "classic"

    def __post_init__(self) -> None:
        self._check_numbers()
        if not isinstance(self.means, Tensor) or self.means.ndim != 2:
            raise InvalidInput(f"means must be a tensor [N, 3], got {_describe(self.means)}")
        if not isinstance(self.viewmats, Tensor) or self.viewmats.ndim != 3:
            raise InvalidInput(
                f"viewmats must be a tensor [C, 4, 4], got {_describe(self.viewmats)}"
            )
        N, C = len(self.means), len(self.viewmats)
        self._check_shape("means", "[N, 3]", (N, 3))
        self._check_shape("quats", "[N, 4]", (N, 4))
        self._check_shape("scales", "[N, 3]", (N, 3))
        self._check_shape("opacities", "[N]", (N,))
        self._check_shape("viewmats", "[C, 4, 4]", (C, 4, 4))
        self._check_shape("Ks", "[C, 3, 3]", (C, 3, 3))
        if self.render_mode not in ("D", "ED"):
            channels = self._check_colors(C, N)
            if self.backgrounds is not None:
                self._check_shape("backgrounds", "[C, D]", (C, channels))
        self._check_values()

    def _check_numbers(self) -> None:
        for name in ("width", "height", "tile_size"):
            value = getattr(self, name)
            if not isinstance(value, int) or not 1 <= value <= MAX_SIDE:
                raise InvalidInput(f"{name} must be a whole number from 1 to {MAX_SIDE}: {value!r}")
        for name in ("near_plane", "far_plane", "radius_clip", "eps2d"):
            if not math.isfinite(getattr(self, name)):
                raise InvalidInput(f"{name} must be finite, got {getattr(self, name)}")
        if not 0 < self.near_plane < self.far_plane:
            raise InvalidInput(
                f"near_plane must be positive and below far_plane, got {self.near_plane} "
                f"and {self.far_plane}"
            )
        if self.eps2d < 0:
            raise InvalidInput(f"eps2d must not be negative, got {self.eps2d}")
        if self.render_mode not in RENDER_MODES:
            raise InvalidInput(f"render_mode must be one of {RENDER_MODES}: {self.render_mode!r}")
        if self.rasterize_mode not in RASTERIZE_MODES:
            raise InvalidInput(
                f"rasterize_mode must be one of {RASTERIZE_MODES}: {self.rasterize_mode!r}"
            )
        if self.sh_degree is not None and self.sh_degree not in range(MAX_DEGREE + 1):
            raise InvalidInput(f"sh_degree must be None or 0..{MAX_DEGREE}: {self.sh_degree!r}")

    def _check_shape(self, name: str, axes: str, wanted: tuple[int, ...]) -> None:
        value = getattr(self, name)
        if not isinstance(value, Tensor) or tuple(value.shape) != wanted:
            raise InvalidInput(
                f"{name} must be a tensor {axes} = {list(wanted)}, got {_describe(value)}"
            )

    def _check_colors(self, C: int, N: int) -> int:
        """Checks `colors` and returns its number of channels."""
        colors = self.colors
        if self.sh_degree is not None:
            wanted = f"[N, K >= {sh_count(self.sh_degree)}, 3]"
            ok = (
                isinstance(colors, Tensor)
                and colors.ndim == 3
                and colors.shape[0] == N
                and colors.shape[1] >= sh_count(self.sh_degree)
                and colors.shape[2] == 3
            )
        else:
            wanted = "[N, D] or [C, N, D]"
            ok = isinstance(colors, Tensor) and tuple(colors.shape[:-1]) in ((N,), (C, N))
        if not ok or colors is None:
            raise InvalidInput(
                f"colors must be a tensor {wanted} with N = {N}, C = {C}, got {_describe(colors)}"
            )
        channels = colors.shape[-1]
        most = MAX_CHANNELS if self.render_mode == "RGB" else MAX_CHANNELS - 1
        if not 1 <= channels <= most:
            raise InvalidInput(f"colors must have 1 to {most} channels, got {channels}")
        return channels

    def _check_values(self) -> None:
        rules: dict[str, Tensor] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, Tensor):
                continue
            if value.dtype != torch.float32:
                raise InvalidInput(f"{field.name} must be float32, got {value.dtype}")
            if value.device != self.means.device:
                raise InvalidInput(
                    f"{field.name} is on {value.device} and means on {self.means.device}"
                )
            rules[f"{field.name} contains NaN or infinity"] = torch.isfinite(value).all()
        for name in ("means", "scales"):
            rule = f"{name} must not be larger than {MAX_EXTENT:g} world units"
            rules[rule] = (getattr(self, name).abs() <= MAX_EXTENT).all()
        focal = torch.stack([self.Ks[:, 0, 0], self.Ks[:, 1, 1]])
        rules["Ks must have positive focal lengths"] = (focal > 0).all()
        # Asked for in one go: every answer from a GPU waits until it has drawn what came before.
        for rule, kept in zip(rules, torch.stack([*rules.values()]).tolist(), strict=True):
            if not kept:
                raise InvalidInput(rule)


def _describe(value: object) -> str:
    return str(list(value.shape)) if isinstance(value, Tensor) else type(value).__name__
