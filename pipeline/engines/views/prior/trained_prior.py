"""The trained network with its weights: it answers about one photo.

It does not know where the weights file comes from, and makes no surface of the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.device import Device
from pipeline.engines.views.prior.guess import GUESS_SIZE, Guess
from pipeline.engines.views.prior.prior_network import (
    MAP_SIZE,
    PICTURE_SIZE,
    Answer,
    PriorNetwork,
)
from pipeline.engines.views.relief.relief_shape import inflate
from pipeline.errors import Unavailable
from pipeline.torch_threads import one_torch_thread
from pipeline.types import CameraEstimate, FloatArray, UInt8Array

#: The network sees the middle of the frame; `frame_object` leaves more than this free around it.
_MARGIN = (GUESS_SIZE - PICTURE_SIZE) // 2
#: Of the photos that it learned from.
ELEVATIONS_DEG = (-10.0, 60.0)
#: Pixels of a map of 56 in the width of the frame.
_MAP_PIXELS_PER_FRAME = GUESS_SIZE * MAP_SIZE / PICTURE_SIZE


@dataclass(frozen=True)
class TrainedPrior:
    """A network that was trained (`load_prior`), and where it computes."""

    network: PriorNetwork
    device: Device

    def guess(self, rgba: UInt8Array, elevation_deg: float | None) -> Guess:
        """Both sides of the object of a cut-out, its back's colours and the photo's camera.

        The mean of the answers to the picture and to its mirror image, mirrored back; but the
        colours of the picture's alone: the mean of two hypotheses is none.

        An elevation that is not known is asked first and told then: a surface that belongs to the
        camera it is put before stands upright even where both are wrong.

        One torch thread: with more of them the same photo would have other last bits, and no
        replay with another number of threads would make the same files.

        Args:
            rgba: uint8 [S, S, 4], straight alpha, framed by `pipeline.imaging.framing`.
            elevation_deg: of the camera above the horizon, or None: not known.

        Raises:
            DeviceLost: the GPU cannot be used any more.
        """
        picture, inflated = network_inputs(rgba)
        where = self.device.torch_device
        with (
            one_torch_thread(),
            torch.inference_mode(),
            self.device.reporting_faults("The learned prior"),
        ):
            both = torch.stack([picture, picture.flip(2)]).to(where)
            outlines = torch.stack([inflated, inflated.flip(2)]).to(where)
            error_deg = 0.0
            if elevation_deg is None:
                told = self._answer(both, outlines, None).camera.mean(0).tolist()
                elevation_deg = float(np.clip(30.0 * told[0], *ELEVATIONS_DEG))
                error_deg = 30.0 * float(np.exp(told[1]))
            answer = self._answer(both, outlines, elevation_deg)
            return _guess(answer, elevation_deg, error_deg)

    def camera_of(self, rgba: UInt8Array) -> CameraEstimate:
        """The photo's camera alone, as `guess` finds it. Raises DeviceLost."""
        return self.guess(rgba, None).camera

    def _answer(self, rgba: Tensor, inflated: Tensor, elevation_deg: float | None) -> Answer:
        known = torch.full((len(rgba),), float(elevation_deg is not None), device=rgba.device)
        answer = self.network(rgba, inflated, known * (elevation_deg or 0.0), known)
        assert isinstance(answer, Answer)
        return answer


def load_prior(path: Path, device: Device) -> TrainedPrior:
    """The network with the weights of a file that `training.prior.weights` wrote.

    Raises:
        Unavailable: the file is missing, damaged, or of another network.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            state = {name: torch.from_numpy(arrays[name].astype(np.float32)) for name in arrays}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise Unavailable(f"The weights of the learned prior cannot be read: {error}") from error
    network = PriorNetwork()
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise Unavailable(
            f"The weights of the learned prior are of another network: {error}"
        ) from error
    # Half a second of work on one core: a GPU's half precision would gain nothing.
    network.requires_grad_(False).eval().to(device.torch_device)
    return TrainedPrior(network, device)


def network_inputs(rgba: UInt8Array) -> tuple[Tensor, Tensor]:
    """What the network sees of a cut-out uint8 [S, S, 4].

    Returns:
        Straight colours and alpha 0..1, float32 [4, 112, 112], and the half thickness of its
        inflated outline in frame widths, float32 [1, 56, 56].
    """
    small = _reduced(rgba, GUESS_SIZE)[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    thickness = (inflate(_halved(small[..., 3]) >= 0.5) / _MAP_PIXELS_PER_FRAME).astype(np.float32)
    picture = np.ascontiguousarray(small.transpose(2, 0, 1))
    return torch.from_numpy(picture), torch.from_numpy(thickness)[None]


def _reduced(rgba: UInt8Array, size: int) -> FloatArray:
    """Straight colours and alpha 0..1, float32 [size, size, 4], means over areas."""
    alpha = rgba[..., 3:].astype(np.float32) / 255.0
    weighted = np.concatenate([rgba[..., :3].astype(np.float32) / 255.0 * alpha, alpha], -1)
    small = cv2.resize(weighted, (size, size), interpolation=cv2.INTER_AREA)
    small[..., :3] /= np.maximum(small[..., 3:], 1e-3)
    clipped: FloatArray = small.clip(0.0, 1.0)
    return clipped


def _halved(plane: FloatArray) -> FloatArray:
    h, w = plane.shape
    means: FloatArray = plane.reshape(h // 2, 2, w // 2, 2).mean((1, 3))
    return means


def _guess(answer: Answer, elevation_deg: float, elevation_error_deg: float) -> Guess:
    """The mean of an answer [2, ...] about a picture and its mirror image, over the whole frame."""
    order = answer.scores[0].argsort(descending=True)
    camera = answer.camera.mean(0).tolist()
    errors = torch.exp(answer.log_errors)
    return Guess(
        front=_maps(answer.front)[0],
        back=_maps(answer.back)[0],
        front_error=_maps(errors)[0],
        back_error=_maps(errors)[1],
        back_colors=np.ascontiguousarray(
            np.stack([_frame(answer.colors[:1, k]) for k in order]).transpose(0, 2, 3, 1)
        ),
        back_copies=np.stack([_frame(answer.copies[:1, k])[0] for k in order]),
        elevation_deg=elevation_deg,
        elevation_error_deg=elevation_error_deg,
        focal=float(np.exp(camera[2])),
        focal_error=float(np.exp(camera[3])),
    )


def _maps(both: Tensor) -> FloatArray:
    """float32 [C, 128, 128] of [2, C, 56, 56], the second of which is mirrored."""
    return _frame(0.5 * (both[:1] + both[1:].flip(3)))


def _frame(maps: Tensor) -> FloatArray:
    """float32 [C, 128, 128] of [1, C, 56, 56]."""
    middle = functional.interpolate(maps, size=PICTURE_SIZE, mode="bilinear", align_corners=False)
    whole: FloatArray = functional.pad(middle, (_MARGIN,) * 4, mode="replicate")[0].cpu().numpy()
    return whole
