"""The cameras of a network: those of the product's rig, as the buffers of the checkpoint hold them.

It knows cameras and neither files nor networks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pipeline.errors import Unavailable
from pipeline.geometry.cameras import rig_cameras
from pipeline.rig import VIEW_COUNT

#: Cameras may differ from the product's rig by so much; the released ones differ by 1e-7.
_CAMERA_TOLERANCE = 1e-4


def rig_buffers(views: int) -> dict[str, Tensor]:
    """Camera buffers of `views` cameras, evenly taken from the product's rig."""
    every = VIEW_COUNT // views
    cameras = rig_cameras().select(list(range(0, VIEW_COUNT, every))[:views])
    azimuths = torch.arange(views, dtype=torch.float64) * (2 * math.pi * every / VIEW_COUNT)
    return {
        "poses": torch.from_numpy(cameras.viewmats[:, :3].copy()),
        "Ks": torch.from_numpy(cameras.intrinsics.copy()),
        "azimuth": azimuths.float(),
    }


def check_cameras(poses: Tensor, Ks: Tensor, azimuth: Tensor) -> None:
    """The views are the rig of `pipeline.geometry.cameras`, or every n-th camera of it.

    Args:
        poses: [V, 3, 4], world-to-camera, OpenCV axes.
        Ks: [V, 3, 3], pixels of a 256 x 256 image.
        azimuth: [V], radians, up to full turns.

    Raises:
        Unavailable: one of them is off by more than 1e-4.
    """
    ours = rig_buffers(len(poses))
    turn = azimuth.cpu() - ours["azimuth"]
    errors = {
        "poses": (poses.cpu() - ours["poses"]).abs().max().item(),
        # Pixels: the same share of the image as 1e-4 is of the unit cube.
        "Ks": (Ks.cpu() - ours["Ks"]).abs().max().item() / 256,
        "azimuth": torch.atan2(turn.sin(), turn.cos()).abs().max().item(),
    }
    for name, error in errors.items():
        if not error < _CAMERA_TOLERANCE:
            raise Unavailable(
                f"The SyncDreamer checkpoint's {name} are not the product's cameras: they differ "
                f"by {error:.2g}."
            )
