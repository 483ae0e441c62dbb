"""View synthesiser "syncdreamer": 16 views of the rig from one cut-out, by diffusion.

It does not know who asks, where the cut-out came from or how the views are used. Method and
weights: SyncDreamer, arXiv 2309.03453, (c) 2023 Yuan Liu, MIT.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.control import Control
from pipeline.device import Device, retry_with_half_batch
from pipeline.engines.views.elevation_note import (
    CameraSeer,
    note_on_elevation,
    note_on_estimate,
)
from pipeline.engines.views.syncdreamer.config import (
    IMAGE_SIZE,
    LATENT_CHANNELS,
    LATENT_SIZE,
    PHOTO_ELEVATIONS_DEG,
    SyncDreamerConfig,
)
from pipeline.engines.views.syncdreamer.sampler import seeded_noise
from pipeline.engines.views.syncdreamer.sampler_settings import (
    DEFAULT_GUIDANCE,
    DEFAULT_STEPS,
    Sampler,
    SamplerSettings,
)
from pipeline.engines.views.syncdreamer.view_hints import view_mattes
from pipeline.errors import ModelFailed, Unavailable
from pipeline.geometry.cameras import rig_cameras
from pipeline.imaging.framing import composite_on_white, picture_on_white
from pipeline.ports import BackgroundEngine
from pipeline.requests import ViewRequest
from pipeline.rig import ELEVATION_DEG, VIEW_COUNT
from pipeline.types import CameraEstimate, UInt8Array, ViewSet

if TYPE_CHECKING:
    from pipeline.engines.views.syncdreamer.network import SyncDreamerNetwork

#: Where sampling ends in the progress of a request; decoding and mattes are the rest.
_SAMPLED = 0.9
#: The view of the rig that looks from where the photo was taken, if that was so near its elevation.
_PHOTO_VIEW, _NEAR_DEG = 0, 7.5


class SyncDreamerViews:
    """The loaded network and how much of it runs at once. One call at a time.

    Args:
        network: with 16 views; its cameras must be the product's rig.
        device: where the network is.
        remover: finds the object in the views that were made, where they are nearly white; None:
            colours alone do.
        seer: tells from how far above the horizon a photo was taken, where nobody said it; None:
            the rig's elevation is assumed.
        views_at_once: views per run of the UNet; None takes as many of the 16 as free memory is
            estimated to hold. Halved once for good when the device is full all the same.
        channels_last: store convolution weights with channels last.
        compile: run UNet and volume networks through torch.compile; the first run takes minutes.

    Raises:
        Unavailable: the cameras are not the rig.
    """

    name: str = "syncdreamer"

    def __init__(
        self,
        network: SyncDreamerNetwork,
        device: Device,
        *,
        remover: BackgroundEngine | None = None,
        seer: CameraSeer | None = None,
        views_at_once: int | None = None,
        channels_last: bool = False,
        compile: bool = False,
    ) -> None:
        from pipeline.engines.views.syncdreamer.rig_buffers import check_cameras

        if network.config.views != VIEW_COUNT:
            raise Unavailable(
                f"The SyncDreamer model makes {network.config.views} views, not {VIEW_COUNT}."
            )
        check_cameras(network.poses, network.Ks, network.azimuth)
        self.network = network
        self.device = device
        self.remover = remover
        self.seer = seer
        if channels_last:
            network.use_channels_last()
        if compile:
            network.compile_parts()
        wanted = _estimated_fit(network.config, device) if views_at_once is None else views_at_once
        #: Views per run of the UNet, now.
        self.views_at_once = min(max(wanted, 1), VIEW_COUNT)

    @classmethod
    def load(
        cls,
        folder: Path,
        device: Device,
        *,
        remover: BackgroundEngine | None = None,
        seer: CameraSeer | None = None,
        views_at_once: int | None = None,
        channels_last: bool = False,
        compile: bool = False,
    ) -> SyncDreamerViews:
        """The engine from a folder that `checkpoint.convert_checkpoint` wrote.

        Raises:
            Unavailable: a package, file or tensor is missing or broken; the text says which.
        """
        _need_packages()
        from pipeline.engines.views.syncdreamer.network_folder import load_network

        with device.reporting_faults("loading SyncDreamer"):
            network = load_network(folder, device.torch_device, device.dtype)
        return cls(
            network,
            device,
            remover=remover,
            seer=seer,
            views_at_once=views_at_once,
            channels_last=channels_last,
            compile=compile,
        )

    def synthesize(self, request: ViewRequest, control: Control) -> ViewSet:
        """The 16 views of the rig; the same seed gives the same views on the same machine.

        An elevation that nobody gave is estimated from the photo where somebody can, and held to
        what the network was trained with.

        Raises:
            InvalidOption: steps, sampler or guidance scale cannot be used.
            ModelFailed: the network returned numbers that are not finite.
            OutOfMemory: the device was too small for half of `views_at_once`, too.
            Cancelled: a stop was asked for.
        """
        settings = SamplerSettings.choose(request.sampler, request.steps, request.guidance_scale)
        image = _as_input(request.cutout.rgba).to(self.device.torch_device)
        estimate, on_elevation = self._seen(request)
        if estimate is not None:
            request = replace(request, elevation_deg=estimate.elevation_deg)
        elevation_rad = math.radians(request.assumed_elevation_deg)
        pictures = self._run(image, elevation_rad, settings, request.seed, control)
        alphas, unsure = view_mattes(
            pictures, self.remover, control.part(_SAMPLED, 1.0), photo=_photo_of(request)
        )
        # Ground is exactly white, as everywhere in the product.
        pictures[alphas == 0] = 255
        control.step(1.0, "views")
        return ViewSet(
            images=pictures,
            alphas=alphas,
            cameras=rig_cameras(IMAGE_SIZE),
            engine=self.name,
            notes=on_elevation + _notes(settings) + unsure,
            estimate=estimate,
        )

    def _seen(self, request: ViewRequest) -> tuple[CameraEstimate | None, tuple[str, ...]]:
        """The photo's camera where nobody said its elevation and somebody can see it, and notes."""
        if request.elevation_deg is not None or self.seer is None:
            return None, note_on_elevation(request, self.name)
        seen = self.seer.camera_of(request.cutout.rgba)
        elevation_deg = float(np.clip(seen.elevation_deg, *PHOTO_ELEVATIONS_DEG))
        note = note_on_estimate(elevation_deg, seen.elevation_error_deg or 0.0)
        return replace(seen, elevation_deg=elevation_deg), note

    def warm_up(self) -> None:
        """Every network once at the shapes of a request, and the views at once that fit.

        Raises:
            OutOfMemory: see `synthesize`.
        """
        image = torch.ones(1, 3, IMAGE_SIZE, IMAGE_SIZE, device=self.device.torch_device)

        def work(views_at_once: int) -> None:
            network = self.network
            with torch.inference_mode(), _repeatable():
                photo, _ = network.encode(image)
                conditions = network.condition(photo, network.embed_image(image), 0.0)
                latents = torch.zeros(VIEW_COUNT, LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE)
                network.predict_noise(
                    latents.to(image.device),
                    1,
                    conditions,
                    guidance_scale=DEFAULT_GUIDANCE,
                    views_at_once=views_at_once,
                )
                network.decode(latents[:views_at_once].to(image.device))
            self.views_at_once = views_at_once

        retry_with_half_batch(work, self.views_at_once, self.device, "view synthesis")

    def _run(
        self,
        image: Tensor,
        elevation_rad: float,
        settings: SamplerSettings,
        seed: int,
        control: Control,
    ) -> UInt8Array:
        """Sample and decode: uint8 [16, 256, 256, 3]."""
        from pipeline.engines.views.syncdreamer.diffusion import decode_views, sample_views

        def work(views_at_once: int) -> UInt8Array:
            with _repeatable():
                latents = sample_views(
                    self.network,
                    image,
                    elevation_rad,
                    seeded_noise(seed, image.device),
                    settings,
                    control.part(0.0, _SAMPLED),
                    views_at_once=views_at_once,
                )
                images = decode_views(self.network, latents, views_at_once=views_at_once)
            if not torch.isfinite(images).all():
                raise ModelFailed.openly(
                    f"SyncDreamer returned numbers that are not finite in {self.device.precision}; "
                    "bf16 and fp32 have a wider range than fp16."
                )
            self.views_at_once = views_at_once
            pixels = ((images + 1) * 127.5).round().to(torch.uint8)
            array: UInt8Array = pixels.permute(0, 2, 3, 1).cpu().numpy().copy()
            return array

        return retry_with_half_batch(work, self.views_at_once, self.device, "view synthesis")


def _need_packages() -> None:
    try:
        import diffusers  # noqa: F401
        import safetensors  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise Unavailable.openly(
            f"The syncdreamer engine needs {error.name}: run `pip install -e '.[models]'` in the "
            "project's folder."
        ) from error


@contextmanager
def _repeatable() -> Iterator[None]:
    """cuDNN takes only algorithms that give the same bits each time; no effect on the CPU."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before


def _as_input(rgba: UInt8Array) -> Tensor:
    """uint8 [S, S, 4] -> the object on white at the network's size, float32 [1, 3, 256, 256].

    Framing scales with the cut-out (`pipeline.imaging.framing.frame_object`), so a larger one only
    shrinks. Values -1..1.
    """
    if rgba.shape[0] != rgba.shape[1]:
        raise ValueError(f"the cut-out must be square, got {rgba.shape}")
    on_white = composite_on_white(rgba)
    if len(on_white) != IMAGE_SIZE:
        # Area averages; on white, so that colour and alpha shrink in step.
        size = (IMAGE_SIZE, IMAGE_SIZE)
        on_white = np.array(Image.fromarray(on_white).resize(size, Image.Resampling.BOX))
    pixels = on_white.astype(np.float32) / 127.5 - 1
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()


def _photo_of(request: ViewRequest) -> tuple[int, UInt8Array] | None:
    """The view that shows what the photo shows, and the photo's alpha at its size; else None."""
    if abs(request.assumed_elevation_deg - ELEVATION_DEG) > _NEAR_DEG:
        return None
    return _PHOTO_VIEW, picture_on_white(request.cutout, IMAGE_SIZE)[1]


def _notes(settings: SamplerSettings) -> tuple[str, ...]:
    if settings.sampler is not Sampler.DPM:
        return ()
    return (
        f"The views were drawn with DPM-Solver++ in {settings.steps} steps, faster than the "
        f"{DEFAULT_STEPS[Sampler.DDIM]} steps of DDIM that SyncDreamer was published with; they "
        "differ from DDIM's for the same seed.",
    )


def _estimated_fit(config: SyncDreamerConfig, device: Device) -> int:
    """Views whose activations free memory holds: 16, 8, 4, 2 or 1.

    Counted from the layers' sizes, not measured: at the finest level a view holds about ten frustum
    volumes, or in the autoencoder's last level about four images of its second width; what is
    shared by the views is under 1 GB.
    """
    free = device.free_bytes()
    if free is None:
        return VIEW_COUNT
    frustum = config.frustum_dims[0] * config.frustum_depths * LATENT_SIZE**2
    decoder = config.vae_channels[1] * IMAGE_SIZE**2
    per_view = max(10 * frustum, 4 * decoder) * max(device.dtype.itemsize, 2)
    fit = VIEW_COUNT
    while fit > 1 and fit * per_view + 10**9 > free:
        fit //= 2
    return fit
