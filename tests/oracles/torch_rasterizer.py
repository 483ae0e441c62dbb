"""A splat rasteriser in plain torch: the semantics of gsplat 1.5.3, gradients by autograd.

`draw` compares every pixel with every splat; in float64 it is the reference of the tests. With
`tiled=True` it compares each 16 px tile with the splats that touch it and can handle 20,000 of
them; the image is the same. Works in the dtype of its input, one camera per call.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

MIN_ALPHA = 1.0 / 255.0
MAX_ALPHA = 0.999
MIN_TRANSMITTANCE = 1e-4
TILE = 16


@dataclass(frozen=True)
class Projected:
    """n visible splats, front to back, in the order of `ids` [n].

    means2d [n, 2] pixels; covariances [n, 2, 2] with the blur; depths, opacities [n];
    boxes [n, 4] = left, top, right, bottom in pixels.
    """

    ids: Tensor
    means2d: Tensor
    covariances: Tensor
    depths: Tensor
    opacities: Tensor
    boxes: Tensor


def rotation_of(quats: Tensor) -> Tensor:
    """Rotation matrices [N, 3, 3] of quaternions [N, 4], wxyz, any length."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
    ]
    return torch.stack(rows, -2)


def project(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    viewmat: Tensor,
    K: Tensor,
    width: int,
    height: int,
    *,
    near_plane: float = 0.01,
    eps2d: float = 0.3,
    antialiased: bool = False,
) -> Projected:
    """EWA projection: the image of the covariance under the Jacobian at the mean."""
    fx, fy, cx, cy = (float(v) for v in (K[0, 0], K[1, 1], K[0, 2], K[1, 2]))
    R, t = viewmat[:3, :3], viewmat[:3, 3]
    p = means @ R.T + t
    ids = torch.nonzero(p[:, 2] >= near_plane)[:, 0]
    p, M = p[ids], (rotation_of(quats) * scales[:, None, :])[ids]
    x, y, z = p.unbind(-1)
    covariance = R @ (M @ M.transpose(1, 2)) @ R.T

    # The Jacobian is taken no further out than 15 % beyond the image.
    tan_x = (x / z).clamp(-(cx / fx + 0.15 * width / fx), (width - cx) / fx + 0.15 * width / fx)
    tan_y = (y / z).clamp(-(cy / fy + 0.15 * height / fy), (height - cy) / fy + 0.15 * height / fy)
    zero = torch.zeros_like(z)
    J = torch.stack(
        [
            torch.stack([fx / z, zero, -fx * tan_x / z], -1),
            torch.stack([zero, fy / z, -fy * tan_y / z], -1),
        ],
        -2,
    )
    sharp = J @ covariance @ J.transpose(1, 2)
    blurred = sharp + eps2d * torch.eye(2, dtype=means.dtype)
    opacity = opacities[ids]
    if antialiased:
        opacity = opacity * (torch.linalg.det(sharp) / torch.linalg.det(blurred)).sqrt()
    means2d = torch.stack([fx * x / z + cx, fy * y / z + cy], -1)

    with torch.no_grad():
        seen = opacity >= MIN_ALPHA
        extent = (2 * (opacity / MIN_ALPHA).clamp_min(1.0).log()).sqrt().clamp_max(3.33)
        radii = (extent[:, None] * blurred.diagonal(dim1=1, dim2=2).sqrt()).ceil()
        boxes = torch.cat([means2d - radii, means2d + radii], -1)
        seen &= (boxes[:, 2] > 0) & (boxes[:, 0] < width)
        seen &= (boxes[:, 3] > 0) & (boxes[:, 1] < height)
        keep = torch.nonzero(seen)[:, 0]
        keep = keep[torch.argsort(z[keep], stable=True)]
    return Projected(ids[keep], means2d[keep], blurred[keep], z[keep], opacity[keep], boxes[keep])


def blend(pixels: Tensor, splats: Projected, colors: Tensor, chosen: Tensor) -> tuple[Tensor, ...]:
    """Colour [P, D], alpha [P] and median depth [P] at `pixels` [P, 2] of the splats `chosen`."""
    d = pixels[:, None] - splats.means2d[chosen][None]
    conics = torch.linalg.inv(splats.covariances[chosen])
    sigma = 0.5 * torch.einsum("pni,nij,pnj->pn", d, conics, d)
    alpha = (splats.opacities[chosen] * torch.exp(-sigma)).clamp_max(MAX_ALPHA)
    alpha = torch.where(alpha >= MIN_ALPHA, alpha, torch.zeros_like(alpha))
    after = torch.cumprod(1 - alpha, dim=1)
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], dim=1)
    # A pixel stops before the splat that would bring it to 1e-4; `after` falls, so this is a
    # prefix of the list.
    weights = torch.where(after > MIN_TRANSMITTANCE, alpha * before, torch.zeros_like(alpha))
    total = weights.sum(1)
    left = 1 - weights.detach().cumsum(1)
    half = (left <= 0.5) & (left + weights.detach() > 0.5)
    median = (half * splats.depths[chosen]).sum(1)
    return weights @ colors[chosen], total, median


def screen_gradients(
    splats: Projected, colors: Tensor, background: Tensor, v_image: Tensor, v_alpha: Tensor
) -> Tensor:
    """Gradient of each pixel's share of the loss with respect to `means2d`, [H, W, n, 2].

    Args:
        colors: [N, D], of all splats; background: [D].
        v_image: [H, W, D], v_alpha: [H, W], the loss is the sum of image * v_image + alpha *
            v_alpha.
    """
    H, W = v_alpha.shape
    means2d = splats.means2d.detach().requires_grad_()
    moved, everything = replace(splats, means2d=means2d), torch.arange(len(splats.ids))
    gradients = torch.empty(H, W, *means2d.shape, dtype=means2d.dtype)
    for y in range(H):
        for x in range(W):
            pixel = torch.tensor([[x + 0.5, y + 0.5]], dtype=means2d.dtype)
            color, alpha, _ = blend(pixel, moved, colors[splats.ids], everything)
            image = color[0] + (1 - alpha[0]) * background
            loss = (image * v_image[y, x]).sum() + alpha[0] * v_alpha[y, x]
            (gradients[y, x],) = torch.autograd.grad(loss, means2d)
    return gradients


def draw(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmat: Tensor,
    K: Tensor,
    width: int,
    height: int,
    *,
    with_depth: bool = False,
    background: Tensor | None = None,
    tiled: bool = False,
    eps2d: float = 0.3,
    antialiased: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Image [H, W, D'], alpha [H, W] and median depth [H, W]; `colors` [N, D]."""
    style = {"eps2d": eps2d, "antialiased": antialiased}
    splats = project(means, quats, scales, opacities, viewmat, K, width, height, **style)
    channels = colors[splats.ids]
    if with_depth:
        channels = torch.cat([channels, splats.depths[:, None]], -1)
    ys, xs = torch.meshgrid(
        torch.arange(height, dtype=means.dtype) + 0.5,
        torch.arange(width, dtype=means.dtype) + 0.5,
        indexing="ij",
    )
    pixels = torch.stack([xs, ys], -1)
    rows = []
    step = TILE if tiled else max(1, math.ceil(1e6 / (width * max(1, len(splats.ids)))))
    for y in range(0, height, step):
        row = []
        for x in range(0, width, TILE if tiled else width):
            part = pixels[y : y + step, x : x + TILE] if tiled else pixels[y : y + step]
            chosen = torch.arange(len(splats.ids))
            if tiled:
                box = splats.boxes
                inside = (box[:, 2] > x) & (box[:, 0] < x + TILE)
                inside &= (box[:, 3] > y) & (box[:, 1] < y + TILE)
                chosen = chosen[inside]
            color, alpha, median = blend(part.reshape(-1, 2), splats, channels, chosen)
            values = torch.cat([color, alpha[:, None], median[:, None]], -1)
            row.append(values.reshape(*part.shape[:2], -1))
        rows.append(torch.cat(row, 1))
    image, alpha, median = torch.cat(rows).split([channels.shape[-1], 1, 1], -1)
    if background is not None:
        padding = image.shape[-1] - background.shape[-1]
        image = image + (1 - alpha) * torch.nn.functional.pad(background, (0, padding))
    return image, alpha[..., 0], median[..., 0]
