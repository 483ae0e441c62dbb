"""Depth from networks of the MiDaS family (DPT, Depth Anything) through transformers.

It knows how a view becomes the network's input and its answer a map of the view's size; what that
answer means in the world is `pipeline.engines.depth.alignment`'s to find out.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.control import Control
from pipeline.device import Device, retry_with_half_batch
from pipeline.engines.depth.alignment import align
from pipeline.errors import Unavailable
from pipeline.types import DepthMaps, FloatArray, UInt8Array, ViewSet

log = logging.getLogger(__name__)

#: What the object stands on while the network looks, 0..255. On white, networks see a bright wall
#: close behind the object or take white parts of it for ground.
_GROUND = 127.5

#: Progress of an estimate that is the network's; aligning takes the rest.
_NETWORK_SHARE = 0.7

#: Released DPT files lack this layer, whose output nobody uses: the first fusion has no second
#: input (https://github.com/huggingface/transformers/issues/28292).
_UNUSED_LAYER = "neck.fusion_stage.layers.0.residual_layer1."

#: Names of torch's interpolations by the number that PIL, and so preprocessor_config.json, gives.
_RESAMPLINGS = {2: "bilinear", 3: "bicubic"}


@dataclass(frozen=True)
class Preparation:
    """How pictures become the input of a network, as its preprocessor_config.json says.

    Attributes:
        height, width: of the input that the network was trained with.
        multiple: both sides of the input are multiples of it.
        keep_aspect_ratio: the side that changes less sets the scale of both.
        resampling: "bilinear" or "bicubic", with antialiasing as in PIL.
        mean, std: of the colours 0..1.
    """

    height: int
    width: int
    multiple: int
    keep_aspect_ratio: bool
    resampling: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def read(cls, folder: Path) -> Preparation:
        """Of a folder in transformers' layout.

        Raises:
            Unavailable: the file is absent, damaged, or asks for something else than resizing and
                normalising.
        """
        from transformers import DPTImageProcessorPil

        try:
            # It also reads the spellings of older releases ("size": 384).
            processor = DPTImageProcessorPil.from_pretrained(str(folder), local_files_only=True)
            mean, std = map(_three_floats, (processor.image_mean, processor.image_std))
            if processor.do_pad or abs(processor.rescale_factor * 255 - 1) > 1e-6:
                raise ValueError("it pads or rescales in a way of its own")
            return cls(
                height=int(processor.size["height"]),
                width=int(processor.size["width"]),
                multiple=int(processor.ensure_multiple_of),
                keep_aspect_ratio=bool(processor.keep_aspect_ratio),
                resampling=_RESAMPLINGS[int(processor.resample)],
                mean=mean,
                std=std,
            )
        except (OSError, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise Unavailable(
                f"{folder / 'preprocessor_config.json'} cannot be used: {error}"
            ) from error

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the input for pictures of a size."""
        tall, wide = self.height / height, self.width / width
        if self.keep_aspect_ratio:
            tall = wide = wide if abs(1 - wide) < abs(1 - tall) else tall
        sides = (
            max(1, round(side * scale / self.multiple)) * self.multiple
            for side, scale in ((height, tall), (width, wide))
        )
        return next(sides), next(sides)

    def __call__(self, colours: Tensor) -> Tensor:
        """float32 [N, 3, H, W] of 0..255 -> the network's input, float32 [N, 3, h, w]."""
        resized = functional.interpolate(
            colours,
            self.size(*colours.shape[2:]),
            mode=self.resampling,
            align_corners=False,
            antialias=True,
        ).clamp(0, 255)
        mean, std = (
            torch.tensor(values, device=colours.device).view(1, 3, 1, 1)
            for values in (self.mean, self.std)
        )
        normalised: Tensor = (resized / 255 - mean) / std
        return normalised


def _three_floats(values: Sequence[Any]) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


class MidasDepth:
    """Depth estimators "midas-large", "midas-hybrid" and "depth-anything-v2-small"."""

    def __init__(
        self,
        network: Any,
        preparation: Preparation,
        device: Device,
        *,
        name: str,
        images_at_once: int = 64,
    ) -> None:
        """An engine around a network that is loaded.

        Args:
            network: a transformers model for depth estimation; it is moved to `device`.
            images_at_once: at most so many images a pass.
        """
        self.name = name
        self._device = device
        self._preparation = preparation
        self._images_at_once = images_at_once
        self._network = network.to(device.torch_device, device.dtype).eval()
        # bf16 tells 128 to 256 depths apart in one octave: steps that show in the normals.
        self._network.head.float()
        self._network.head.register_forward_pre_hook(_in_float)

    @classmethod
    def load(
        cls, folder: Path, device: Device, *, name: str, images_at_once: int = 64
    ) -> MidasDepth:
        """Read a network from a folder in transformers' layout: config.json, model.safetensors,
        preprocessor_config.json. Nothing is downloaded.

        Raises:
            Unavailable: transformers is not installed, or the folder is absent or damaged.
        """
        try:
            from transformers import AutoModelForDepthEstimation
            from transformers.utils import logging as transformers_logging
        except ImportError as error:
            needs = f"The depth engine {name} needs the package transformers"
            run = "run `pip install -e '.[models]'` in the project's folder."
            raise Unavailable(f"{needs} ({error}): {run}", public=f"{needs}: {run}") from error
        # It draws a bar on standard error for a load of seconds, in services as in terminals.
        transformers_logging.disable_progress_bar()
        if not (folder / "config.json").is_file():
            raise Unavailable(f"The weights of {name} are not in {folder}: it has no config.json.")
        preparation = Preparation.read(folder)
        try:
            network, loading = AutoModelForDepthEstimation.from_pretrained(
                str(folder), local_files_only=True, output_loading_info=True, use_safetensors=True
            )
        # The reader of .safetensors has an error class of its own, derived from Exception.
        except Exception as error:
            raise Unavailable(
                f"The weights of {name} in {folder} cannot be read: {error}"
            ) from error
        missing = [key for key in loading["missing_keys"] if _UNUSED_LAYER not in key]
        if missing:
            raise Unavailable(
                f"The weights of {name} in {folder} lack {len(missing)} tensors, such as "
                f"{min(missing)}."
            )
        return cls(network, preparation, device, name=name, images_at_once=images_at_once)

    def warm_up(self) -> None:
        """One pass with a full set of views, so that the first request finds kernels chosen."""
        self._disparity(np.zeros((16, 256, 256, 3), np.uint8), np.zeros((16, 256, 256), np.uint8))

    def estimate_many(self, sets: Sequence[ViewSet], control: Control) -> list[DepthMaps]:
        """Depth of several sets of views; the network sees the images of all in common batches.

        Views whose depth cannot be aligned with the object are unknown everywhere (confidence 0),
        and a note says which and why.

        Args:
            sets: their views may differ in number, and in size between sets.

        Raises:
            Cancelled: between two batches or two views.
            OutOfMemory: half of `images_at_once` did not fit either.
        """
        seeing, aligning = control.part(0.0, _NETWORK_SHARE), control.part(_NETWORK_SHARE, 1.0)
        disparities = retry_with_half_batch(
            lambda batch: self._disparities(sets, batch, seeing),
            self._images_at_once,
            self._device,
            "depth estimation",
        )
        maps = []
        for i, (views, disparity) in enumerate(zip(sets, disparities, strict=True)):
            share = aligning.part(i / len(sets), (i + 1) / len(sets))
            aligned = align(disparity, views, share)
            notes = _notes(aligned.discarded, len(views))
            for note in notes:
                log.warning("%s: %s", self.name, note)
            maps.append(DepthMaps(aligned.depth, aligned.confidence, self.name, notes))
        return maps

    def _disparities(
        self, sets: Sequence[ViewSet], batch: int, control: Control
    ) -> list[FloatArray]:
        """The network's answer to all views, float32 [V, H, W] per set; larger is nearer."""
        answers = [np.zeros(views.alphas.shape, np.float32) for views in sets]
        everything = [(i, view) for i, views in enumerate(sets) for view in range(len(views))]
        # Pictures of one size share a pass, whichever set they are of.
        sizes = sorted({views.alphas.shape[1:] for views in sets})
        done = 0
        for size in sizes:
            alike = [(i, view) for i, view in everything if sets[i].alphas.shape[1:] == size]
            for start in range(0, len(alike), batch):
                control.step(done / len(everything), "estimating depth")
                part = alike[start : start + batch]
                images = np.stack([sets[i].images[view] for i, view in part])
                alphas = np.stack([sets[i].alphas[view] for i, view in part])
                for (i, view), answer in zip(part, self._disparity(images, alphas), strict=True):
                    answers[i][view] = answer
                done += len(part)
        control.step(1.0, "estimating depth")
        return answers

    @torch.inference_mode()
    def _disparity(self, images: UInt8Array, alphas: UInt8Array) -> FloatArray:
        """One pass: uint8 [N, H, W, 3] on white, uint8 [N, H, W] -> float32 [N, H, W]."""
        where = self._device.torch_device
        # Arrays from other processes are read-only, which torch does not know.
        on_white = torch.from_numpy(np.array(images)).to(where).permute(0, 3, 1, 2).float()
        uncovered = 1 - torch.from_numpy(np.array(alphas)).to(where)[:, None].float() / 255
        on_ground = (on_white - uncovered * (255 - _GROUND)).clamp(0, 255)
        answer = self._network(pixel_values=self._preparation(on_ground).to(self._device.dtype))
        # Where transformers itself brings the answer to the picture's size, it does so bicubically.
        resized = functional.interpolate(
            answer.predicted_depth.float()[:, None],
            images.shape[1:3],
            mode="bicubic",
            align_corners=False,
        )
        disparity: FloatArray = resized[:, 0].cpu().numpy()
        return disparity


def _notes(discarded: Mapping[int, str], count: int) -> tuple[str, ...]:
    if not discarded:
        return ()
    reasons = "; ".join(f"view {view}: {why}" for view, why in sorted(discarded.items()))
    return (f"The depth of {len(discarded)} of {count} views was not used: {reasons}.",)


def _in_float(_head: torch.nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    """The head's arguments with their lists of features [N, C, h, w] in float32."""
    return tuple(
        [features.float() for features in argument] if isinstance(argument, list) else argument
        for argument in given
    )
