"""The engine behind the generator's port: photo to canvas, features, latent, splats; three presets.

It composes what the other modules of the room do. It does not know where weights lie, views,
refinement, or what becomes of a model.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from pipeline.control import Control
from pipeline.device import Device
from pipeline.engines.deg.deg_canvas import PreparedPhoto, prepare_photo
from pipeline.engines.deg.deg_config import DegConfig
from pipeline.engines.deg.deg_decoder import (
    DecoderNetworks,
    GeneratedModel,
    PhotoOutlines,
    decode,
    rounded_gaussians,
)
from pipeline.engines.deg.deg_encoders import PhotoEncoders, encode_photo, vae_noise
from pipeline.engines.deg.deg_presets import DegPreset
from pipeline.engines.deg.flow_sampler import (
    FlowNoise,
    FlowSource,
    FlowState,
    SamplerStep,
    sample,
)
from pipeline.engines.deg.found_photos import found_photos
from pipeline.errors import InvalidImage, InvalidInput
from pipeline.geometry.frames import with_exact_quats
from pipeline.requests import Generated, GeneratorRequest, KeptLatent, WholePhoto
from pipeline.splats.render import render_model
from pipeline.types import Cameras, FloatArray, SplatModel

#: Where parts of a pass end in its progress: photos prepared and encoded, latent sampled.
_ENCODED, _SAMPLED = 0.1, 0.85

#: Splats of a live model.
LIVE_GAUSSIANS = 2048

_SEVERAL = (
    "Several photos were made to agree on one model, each pulling towards its own side: where they "
    "contradict each other it is blurred. One photo alone may be better."
)


class DegEngine:
    """Engines "triposplat", "idol" and "idol-turbo"."""

    def __init__(
        self,
        preset: DegPreset,
        config: DegConfig,
        encoders: PhotoEncoders,
        flow: FlowSource,
        decoders: DecoderNetworks,
        device: Device,
        shown: tuple[str, ...] = (),
    ) -> None:
        """
        Args:
            config: sizes of all networks, which are on the device.
            flow: one network, or the phases of Idol Turbo.
            shown: lines that the terms of weights want shown with what is made.
        """
        self._shown = shown
        self._preset = preset
        self._config = config
        self._encoders = encoders
        self._flow = flow
        self._decoders = decoders
        self._device = device

    @property
    def name(self) -> str:
        """For rows and manifests."""
        return self._preset.name

    def warm_up(self) -> None:
        """On a GPU one step and a small model: kernels are loaded before a user waits.

        Raises:
            OutOfMemory: the networks do not fit on the device together with a pass.
        """
        if not self._device.is_cuda:
            return
        side = self._config.canvas
        y, x = np.mgrid[:side, :side] / side - 0.5
        alpha = np.where(np.hypot(x, y) < 0.3, 255, 0).astype(np.uint8)
        photo = WholePhoto(np.dstack([np.full((side, side, 3), 128, np.uint8), alpha]), 0.0)
        steps = 1 if self._preset.steps is None else self._preset.steps[0]
        request = GeneratorRequest((photo,), LIVE_GAUSSIANS, 0, steps=steps)
        sampler = replace(self._preset.sampler, steps=steps)
        prepared = self._prepared(request)
        with self._device.reporting_faults("Warming up the generator"):
            state = self._sampled(prepared, sampler.steps, request, Control())
            self._decoded(state, LIVE_GAUSSIANS, 0, prepared, Control())

    def generate(self, request: GeneratorRequest, control: Control) -> Generated:
        """A model of the photos, or of `request.kept`.

        Raises:
            InvalidOption: the preset cannot do what is asked for.
            InvalidImage: a photo has no object.
            InvalidInput: what was kept is of other photos or other networks.
            ModelFailed: a network gave numbers that are not finite.
            OutOfMemory: the device is too small.
            Cancelled: a stop was asked for; heard between the steps.
        """
        self._preset.check_count(request.num_gaussians)
        control.step(0.0, "Preparing the photo")
        prepared = self._prepared(request)
        with self._device.reporting_faults("A pass of the generator"):
            if request.kept is None:
                state, kept = self._passed(prepared, request, control)
            else:
                state, kept = self._taken_up(request.kept, request)
            count = rounded_gaussians(
                request.num_gaussians,
                self._config.gaussians.gaussians_per_point,
                down=self._preset.rounds_down,
            )
            control.step(_SAMPLED, "Making splats")
            decoding = control.part(_SAMPLED, 1.0)
            made = self._decoded(state, count, kept.decode_seed, prepared, decoding)
            photos = found_photos(made, prepared, self.name, self._render)
        notes = [note for photo in prepared for note in photo.notes]
        notes += [*made.notes, *([_SEVERAL] if len(prepared) > 1 else [])]
        if count != request.num_gaussians:
            notes.append(
                f"{request.num_gaussians:,} splats were asked for; they are made in groups, and "
                f"there are {count:,}."
            )
        notes += self._shown
        control.step(1.0, "Done")
        return Generated(
            model=with_exact_quats(made.model),
            latent=kept,
            photos=photos,
            engine=self.name,
            notes=tuple(dict.fromkeys(notes)),
        )

    def _prepared(self, request: GeneratorRequest) -> list[PreparedPhoto]:
        if not request.photos:
            raise InvalidInput("A pass needs a photo.")
        kept = request.kept
        image_type = request.image_type if kept is None else kept.settings.get("image_type")
        factor = self._preset.crop_factor(image_type)
        made = []
        for number, photo in enumerate(request.photos):
            rgba = photo.rgba
            try:
                made.append(
                    prepare_photo(
                        rgba[..., :3], rgba[..., 3], self._config.canvas, crop_factor=factor
                    )
                )
            except InvalidImage as error:
                if len(request.photos) == 1:
                    raise
                raise InvalidImage.openly(f"Photo {number}: {error.detail}") from error
        return made

    def _passed(
        self, prepared: list[PreparedPhoto], request: GeneratorRequest, control: Control
    ) -> tuple[FlowState, KeptLatent]:
        """A whole pass, and what is kept of it."""
        settings = self._preset.settings(request.steps, request.guidance_scale, request.shift)
        state = self._sampled(prepared, None, request, control)
        kept = KeptLatent(
            engine=self.name,
            latent=_array(state.latent[0]),
            cameras=_array(state.cameras[:, 0]),
            decode_seed=request.seed if request.decode_seed is None else request.decode_seed,
            settings={
                "seed": request.seed,
                "steps": settings.steps,
                "guidance_scale": settings.guidance_scale,
                "shift": settings.shift,
                "image_type": request.image_type,
            },
        )
        return state, kept

    def _sampled(
        self,
        prepared: list[PreparedPhoto],
        steps: int | None,
        request: GeneratorRequest,
        control: Control,
    ) -> FlowState:
        """The latent of prepared photos; `steps` beyond what a request may ask for."""
        settings = (
            self._preset.settings(request.steps, request.guidance_scale, request.shift)
            if steps is None
            else replace(self._preset.sampler, steps=steps)
        )
        features = []
        for number, photo in enumerate(prepared):
            control.step(_ENCODED * (number + 0.2) / len(prepared), "Looking at the photo")
            of_photo = vae_noise(self._config, request.seed, number)
            features.append(encode_photo(self._encoders, photo, of_photo))
        decode_seed = request.seed if request.decode_seed is None else request.decode_seed

        def told(step: SamplerStep) -> None:
            control.show(
                _ENCODED + (_SAMPLED - _ENCODED) * step.step / step.steps,
                f"Step {step.step} of {step.steps}",
                lambda: (
                    self._decoded(
                        step.estimate, LIVE_GAUSSIANS, decode_seed, [], Control(control.stop)
                    ).model
                ),
            )

        noise = FlowNoise.of_seed(self._flow.config, request.seed, len(prepared))
        return sample(self._flow, features, settings, noise, told)

    def _taken_up(
        self, kept: KeptLatent, request: GeneratorRequest
    ) -> tuple[FlowState, KeptLatent]:
        """What an earlier pass kept, with the decode seed of this request."""
        flow = self._config.flow
        wanted = (
            (flow.latent_tokens, flow.latent_channels),
            (
                len(request.photos),
                flow.camera_channels,
            ),
        )
        if kept.engine != self.name:
            raise InvalidInput(
                f"What was kept is {kept.engine}'s, which the {self.name} engine cannot read."
            )
        if (kept.latent.shape, kept.cameras.shape) != wanted:
            raise InvalidInput(
                f"What was kept has the shapes {kept.latent.shape} and {kept.cameras.shape}, the "
                f"{self.name} engine wants {wanted[0]} and {wanted[1]}."
            )
        state = FlowState(_tensor(kept.latent)[None], _tensor(kept.cameras)[:, None])
        if request.decode_seed is not None:
            kept = replace(kept, decode_seed=request.decode_seed)
        return state, kept

    def _decoded(
        self,
        state: FlowState,
        count: int,
        decode_seed: int,
        prepared: list[PreparedPhoto],
        control: Control,
    ) -> GeneratedModel:
        """The model of a latent; without prepared photos no camera is looked for."""
        outlines = None
        if prepared:
            alphas = tuple(photo.alpha for photo in prepared)
            outlines = PhotoOutlines(alphas, lambda model, seen: self._render(model, seen)[1])
        return decode(
            self._decoders,
            state.latent,
            state.cameras,
            num_gaussians=count,
            decode_seed=decode_seed,
            photos=outlines,
            control=control,
        )

    def _render(self, model: SplatModel, cameras: Cameras) -> tuple[FloatArray, FloatArray]:
        """Images on white and opacities of a model, float32 [V, H, W, 3] and [V, H, W], 0..1."""
        drawn = render_model(model, cameras, device=self._device.torch_device)
        return drawn.images, drawn.alphas


def _array(tensor: Tensor) -> FloatArray:
    array: FloatArray = tensor.detach().float().cpu().numpy()
    return array


def _tensor(array: FloatArray) -> Tensor:
    return torch.from_numpy(np.array(array, np.float32))
