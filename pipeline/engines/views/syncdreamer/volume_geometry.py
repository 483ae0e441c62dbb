"""Where volume vertices fall into the views, and where the pixels of a view lie in the volume.

It knows pinhole cameras and nothing of networks. Everything is float32, whatever the networks
compute in, and worked out on the CPU: every device gets the same numbers, and the reference's (with
float64 the frustum features were 6e-6 away from it, instead of 1.6e-6).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pipeline.engines.views.syncdreamer.config import (
    FRUSTUM_HALF_DEPTH,
    IMAGE_SIZE,
    LATENT_SIZE,
    VOLUME_HALF_SIDE,
)
from pipeline.rig import RADIUS

#: Depth below which a vertex counts as being at the camera, world units.
_MIN_DEPTH = 1e-4


@dataclass(frozen=True)
class Grids:
    """Sampling positions for `torch.nn.functional.grid_sample`, align_corners=True.

    Attributes:
        vertices: float32 [V, S, S * S, 2], where each vertex of the spatial volume, in the order
            [z, y, x], falls into each latent view.
        frustums: float32 [V, D, 32, 32, 3], where each point of each frustum volume lies in the
            spatial volume, xyz.
    """

    vertices: torch.Tensor
    frustums: torch.Tensor

    def to(self, device: torch.device) -> Grids:
        return Grids(self.vertices.to(device), self.frustums.to(device))


def make_grids(poses: torch.Tensor, Ks: torch.Tensor, *, volume_size: int, depths: int) -> Grids:
    """The grids of V cameras, on the CPU; see `vertex_grid` and `frustum_grid`."""
    return Grids(vertex_grid(poses, Ks, volume_size), frustum_grid(poses, Ks, depths))


def _latent_projections(poses: torch.Tensor, Ks: torch.Tensor) -> torch.Tensor:
    """`diag(1/8, 1/8, 1) K [R|t]`, float32 [V, 3, 4]: world to latent pixels."""
    ratio = LATENT_SIZE / IMAGE_SIZE
    reduce = torch.diag(torch.tensor([ratio, ratio, 1.0]))
    return reduce @ Ks.cpu() @ poses.cpu()


def vertex_grid(poses: torch.Tensor, Ks: torch.Tensor, size: int) -> torch.Tensor:
    """Vertices of the cube [-0.5, 0.5]^3 projected into each view.

    Args:
        poses: [V, 3, 4], world-to-camera, OpenCV axes.
        Ks: [V, 3, 3], pixels of a 256 x 256 image.
        size: S, vertices along a side.

    Returns:
        float32 [V, S, S * S, 2] in -1..1 over the 32 x 32 latent pixels, memory order [z, y, x].
    """
    line = torch.linspace(-VOLUME_HALF_SIDE, VOLUME_HALF_SIDE, size)
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    points = torch.stack([x, y, z]).reshape(3, -1)
    projections = _latent_projections(poses, Ks)
    pixels = projections[:, :, :3] @ points + projections[:, :, 3:]
    uv = pixels[:, :2] / pixels[:, 2:].clamp(min=_MIN_DEPTH)
    grid = uv / ((LATENT_SIZE - 1) / 2) - 1
    return grid.transpose(1, 2).reshape(len(poses), size, size * size, 2)


def frustum_grid(poses: torch.Tensor, Ks: torch.Tensor, depths: int) -> torch.Tensor:
    """Points of each view's frustum, in coordinates of the spatial volume.

    Pixel (u, v) is the integer, without half a pixel, as the checkpoint was trained.

    Args:
        poses: [V, 3, 4], world-to-camera, OpenCV axes.
        Ks: [V, 3, 3], pixels of a 256 x 256 image.
        depths: D, planes from the near to the far end, linear in depth.

    Returns:
        float32 [V, D, 32, 32, 3], xyz, -1..1 inside the volume.
    """
    near, far = RADIUS - FRUSTUM_HALF_DEPTH, RADIUS + FRUSTUM_HALF_DEPTH
    depth = torch.linspace(near, far, depths)
    line = torch.arange(LATENT_SIZE, dtype=torch.float32)
    v, u = torch.meshgrid(line, line, indexing="ij")
    rays = torch.stack([u, v, torch.ones_like(u)]).reshape(3, 1, -1)
    pixels = (rays * depth.view(1, -1, 1)).reshape(3, -1)
    last_row = torch.tensor([0.0, 0.0, 0.0, 1.0]).expand(len(poses), 1, 4)
    inverse = torch.linalg.inv(torch.cat([_latent_projections(poses, Ks), last_row], 1))
    xyz = inverse[:, :3, :3] @ pixels + inverse[:, :3, 3:]
    grid = (xyz / VOLUME_HALF_SIDE).transpose(1, 2)
    frustums: torch.Tensor = grid.reshape(len(poses), depths, LATENT_SIZE, LATENT_SIZE, 3)
    return frustums
