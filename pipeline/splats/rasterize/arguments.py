"""What a caller asks of a rasteriser, checked: every backend may rely on it.

It does not know how anything is drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from pipeline.errors import InvalidInput, Unavailable
from pipeline.geometry.spherical_harmonics import MAX_DEGREE, sh_count

RenderMode = Literal["RGB", "RGB+ED"]

#: Colour channels, with the one of depth.
MAX_CHANNELS = 32

#: Means (world units, either sign) and scales beyond this are not drawn: near 1e19 they overflow
#: 32-bit floats on their way to the screen and make gradients NaN. Objects measure 1.
MAX_EXTENT = 1e6

#: How gsplat draws without options, and viewers that know nothing better: every splat is blurred by
#: half a pixel, which adds light to small ones.
AS_VIEWERS: dict[str, Any] = {"eps2d": 0.3, "antialiased": False}

#: Beyond this, 32-bit pixel arithmetic and memory give out.
MAX_SIDE = 16384


@dataclass(frozen=True)
class RasterRequest:
    """N splats, C cameras and how to draw them: names, meanings and defaults of gsplat 1.5.3
    but for those of `eps2d` and `antialiased`, with which pictures of few and of many pixels show
    the same (docs/decisions.md, "Splats are drawn as they are").

    Attributes:
        means: float32 [N, 3], world frame, at most 1e6 away. All tensors share one device.
        quats: float32 [N, 4], wxyz, any length but zero.
        scales: float32 [N, 3], standard deviations in world units (linear), at most 1e6.
        opacities: float32 [N], 0..1.
        colors: float32 [N, D] or [C, N, D] with D up to 32 (31 with depth); with `sh_degree`,
            spherical harmonics [N, K, 3].
        viewmats: float32 [C, 4, 4], world-to-camera, OpenCV axes.
        Ks: float32 [C, 3, 3], pixels; pixel centres at +0.5.
        width, height: image size in pixels.
        near_plane, far_plane: splats with z-depth outside of these are not drawn, world units.
        radius_clip: splats whose box is this small or smaller are not drawn, pixels.
        eps2d: variance added to each projected splat, pixels squared. A pixel's own is 1/12.
        antialiased: take the light that `eps2d` adds out of the opacity again (Mip-Splatting,
            arXiv 2311.16493, equation 9).
        sh_degree: 0..3, or None when `colors` holds colours.
        backgrounds: float32 [C, D], drawn behind the splats; black without.
        render_mode: RGB, or RGB+ED with the depth of the splats, weighted by and divided by alpha,
            as last channel.
        absgrad: keep `Projection.absgrad` in the backward pass.

    Raises:
        InvalidInput: a shape, dtype, device, value or mode is wrong (NaN, infinity, out of range);
            the text names the argument.
        Unavailable: there is no backend for the device.
    """

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    colors: Tensor
    viewmats: Tensor
    Ks: Tensor
    width: int
    height: int
    near_plane: float = 0.01
    far_plane: float = 1e10
    radius_clip: float = 0.0
    eps2d: float = 0.1
    antialiased: bool = True
    sh_degree: int | None = None
    backgrounds: Tensor | None = None
    render_mode: RenderMode = "RGB"
    absgrad: bool = False

    def __post_init__(self) -> None:
        kind = self.means.device.type if isinstance(self.means, Tensor) else "cpu"
        if kind not in ("cpu", "cuda"):
            raise Unavailable(
                f"There is no rasteriser for {kind} tensors; "
                "move the splats and cameras to the CPU or to a CUDA device."
            )
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
        channels = self._check_colors(C, N)
        if self.backgrounds is not None:
            self._check_shape("backgrounds", "[C, D]", (C, channels))
        self._check_values()

    def _check_numbers(self) -> None:
        for name in ("width", "height"):
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
        modes = get_args(RenderMode)
        if self.render_mode not in modes:
            raise InvalidInput(f"render_mode must be one of {modes}: {self.render_mode!r}")
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
        if not ok:
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


@dataclass(frozen=True)
class Projection:
    """Splats on the screens of C cameras. On a GPU means2d, depths and conics of what is not drawn
    are undefined.

    Attributes:
        radii: int32 [C, N, 2], half box in pixels, 0 = not drawn.
        means2d: float32 [C, N, 2], pixels; `retain_grad` works.
        depths: float32 [C, N], z in camera axes.
        conics: float32 [C, N, 3], inverse 2D covariance xx, xy, yy.
        opacities: float32 [C, N], as they are blended.
    """

    radii: Tensor
    means2d: Tensor
    depths: Tensor
    conics: Tensor
    opacities: Tensor

    @property
    def absgrad(self) -> Tensor:
        """Sums over pixels of the absolute gradients of means2d, float32 [C, N, 2]; there after a
        backward pass of a request with `absgrad`, as gsplat leaves them."""
        gradients: Tensor = self.means2d.absgrad  # type: ignore[attr-defined]
        return gradients


def _describe(value: object) -> str:
    return str(list(value.shape)) if isinstance(value, Tensor) else type(value).__name__
