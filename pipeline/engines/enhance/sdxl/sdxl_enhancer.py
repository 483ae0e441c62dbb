"""Renders made sharper by SDXL-Lightning: a little noise, a few steps under the rendered depth.

It does not know the object or the loop. Whatever the network draws, the colours at low frequencies
and the white ground stay those of the renders.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from pipeline.control import Control
from pipeline.device import Device, retry_with_half_batch
from pipeline.engines.enhance.sdxl.cross_view_attention import join_views
from pipeline.engines.enhance.sdxl.sdxl_memory import VIEWS_PER_GRID, MemoryPlan, memory_plan
from pipeline.engines.enhance.sdxl.sdxl_networks import Networks, load_networks
from pipeline.engines.enhance.sdxl.sdxl_options import SdxlFolders, SdxlOptions
from pipeline.engines.enhance.sdxl.sdxl_pictures import (
    depth_pictures,
    keep_detail,
    pack_grids,
    resized,
    unpack_grids,
    work_size,
)
from pipeline.engines.enhance.sdxl.sdxl_text import Embedding, Prompts, TextEncoders
from pipeline.engines.enhance.sdxl_limits import STEPS, refuse_negative_prompt, steps_for
from pipeline.errors import InvalidInput, InvalidOption, ModelFailed
from pipeline.requests import EnhancedImages, EnhanceSettings, Renders
from pipeline.seeds import derived_seed
from pipeline.types import FloatArray

log = logging.getLogger(__name__)

#: The networks' condition says that they draw pictures of this size even where they are smaller:
#: for small originals SDXL draws blurred pictures (Podell et al. 2023, section 2.2).
_CLAIMED_SIZE = 1024
#: Share of the progress at which the steps begin and end; the VAE works before and after.
_STEPS_SPAN = (0.1, 0.9)
_DEFAULTS = SdxlOptions()


class SdxlEnhancer:
    """Enhancer "sdxl". One call at a time."""

    name = "sdxl"

    def __init__(
        self, networks: Networks, prompts: Prompts, device: Device, options: SdxlOptions
    ) -> None:
        """Put the parts together; `load` makes them.

        Raises:
            InvalidOption: the networks cannot work at this resolution.
        """
        from diffusers import StableDiffusionXLControlNetImg2ImgPipeline

        self._device = device
        self._options = options
        self._vae = networks.vae
        self._unet = networks.unet
        self._prompts = prompts
        self._pipe: Any = StableDiffusionXLControlNetImg2ImgPipeline(
            vae=networks.vae,
            text_encoder=None,
            text_encoder_2=None,
            tokenizer=None,
            tokenizer_2=None,
            unet=networks.unet,
            controlnet=networks.controlnet,
            scheduler=networks.scheduler,
            add_watermarker=False,
        )
        self._pipe.set_progress_bar_config(disable=True)
        self._slicing = False
        #: Pixels of a latent pixel, and what a side must be a multiple of so that every level of
        #: the UNet has whole pixels.
        self._latent_pixels = int(self._pipe.vae_scale_factor)
        self._multiple = self._latent_pixels * 2 ** (
            len(networks.unet.config.block_out_channels) - 1
        )
        if options.resolution % self._multiple:
            raise InvalidOption(
                f"resolution must be a multiple of {self._multiple}, got {options.resolution}"
            )
        self._arrange_attention(slicing=False)

    @classmethod
    def load(
        cls, folders: SdxlFolders, device: Device, options: SdxlOptions = _DEFAULTS
    ) -> SdxlEnhancer:
        """Read the released weights and the default prompt. Nothing is downloaded.

        Raises:
            InvalidOption: an option does not fit the weights.
            Unavailable: diffusers is missing, or a file is, or it does not fit its network.
        """
        networks = load_networks(folders, device)
        prompts = Prompts(lambda: TextEncoders.load(folders.base), keep=options.keep_text_encoders)
        engine = cls(networks, prompts, device, options)
        prompts.embed(options.prompt)
        log.info("enhancer sdxl: loaded on %s", device.description)
        return engine

    def warm_up(self) -> None:
        """Run one step on an empty view, so that the first call does not pay for first times."""
        side = self._options.resolution
        white = np.full((1, side, side, 3), 255, np.uint8)
        alpha = np.full((1, side, side), 255, np.uint8)
        depth = np.ones((1, side, side), np.float32)
        self._draw_all(Renders(white, alpha, depth), self._options.prompt, 1, 0, Control())

    def enhance(
        self, renders: Renders, settings: EnhanceSettings, control: Control
    ) -> EnhancedImages:
        """Sharper versions of the renders.

        Args:
            renders: V views of one object with depth, in the order of the ring.
            settings: `strength` is rounded to the nearest eighth; the notes say so. The seed
                and a view's name (`Renders.views`) draw its noise, whichever views it comes with;
                on one machine they give the same bits again.
            control: asked for a stop, and given progress, between the steps.

        Returns:
            uint8 [V, H, W, 3] on white: 255 where alpha is 0, the render's low frequencies, the
            network's detail inside the object. It does not depend on how many views were computed
            at once beyond rounding.

        Raises:
            InvalidInput: the renders have no depth or differ in shape.
            InvalidOption: strength is below 1/8 or above 1, there is a negative prompt, or
                `cross_view` was asked for fewer views at once than there are.
            Cancelled: between two steps; the next call is not affected.
            OutOfMemory: it did not fit, nor did half of it.
            ModelFailed: the networks answered with numbers that are not finite.
            Unavailable: the prompt is new and the text encoders' folder is gone.
        """
        steps = steps_for(settings.strength)
        refuse_negative_prompt(settings.negative_prompt)
        _check(renders)
        prompt = self._options.prompt if settings.prompt is None else settings.prompt
        if len(renders.images) == 0:
            return EnhancedImages(renders.images.copy(), self.name)
        change, truncated = self._draw_all(renders, prompt, steps, settings.seed, control)
        images = keep_detail(
            renders.images, renders.alphas, change, self._options.low_frequency_sigma
        )
        notes = []
        if settings.strength != steps / STEPS:
            notes.append(f"Strength {settings.strength:g} was run as {steps}/{STEPS}.")
        if truncated:
            notes.append("The prompt was longer than the text encoders read: its end was cut off.")
        return EnhancedImages(images, self.name, tuple(notes))

    def _draw_all(
        self, renders: Renders, prompt: str, steps: int, seed: int, control: Control
    ) -> tuple[FloatArray, bool]:
        """What the networks change, float32 [V, H, W, 3] in 0..255; whether the prompt was cut."""
        assert renders.depth is not None
        height, width = renders.images.shape[1:3]
        size = work_size(height, width, self._options.resolution, self._multiple)
        shown = np.clip(resized(renders.images.astype(np.float32), size), 0.0, 255.0)
        depth = resized(depth_pictures(renders.depth, renders.alphas), size, overshoot=False)
        control.step(0.0, "reading the prompt")
        embedding = self._prompts.embed(prompt)

        seeds = [derived_seed(seed, view) for view in renders.names]
        views, plan = len(shown), self._plan(len(shown), size)
        self._arrange_attention(slicing=plan.attention_slicing)
        self._arrange_tiles(size, tiling=plan.vae_tiling)
        per_picture = VIEWS_PER_GRID if self._options.grid else 1

        def draw(pictures_at_once: int) -> FloatArray:
            return self._draw(shown, depth, embedding, steps, seeds, pictures_at_once, control)

        what = f"Enhancing {views} views of {size[1]} x {size[0]} pixels"
        if self._options.cross_view:
            with self._device.reporting_faults(what):
                drawn = draw(views)
        else:
            drawn = retry_with_half_batch(
                draw, plan.views_at_once // per_picture, self._device, what
            )
        # On the grid of the network, so that resampling a render does not count as a change.
        return resized(drawn - shown, (height, width)), embedding.truncated

    def _plan(self, views: int, size: tuple[int, int]) -> MemoryPlan:
        """By free memory, or as the options say."""
        options = self._options
        plan = memory_plan(
            self._device.free_bytes(),
            views,
            size[0] * size[1],
            grid=options.grid,
            cross_view=options.cross_view,
            bytes_per_number=self._device.dtype.itemsize,
        )
        wanted = options.views_at_once
        if wanted is None:
            return plan
        if options.cross_view and wanted < views:
            raise InvalidOption(
                f"cross_view needs all {views} views at once, views_at_once is {wanted}"
            )
        whole = max(1, wanted // VIEWS_PER_GRID) * VIEWS_PER_GRID if options.grid else wanted
        return MemoryPlan(whole, plan.attention_slicing, plan.vae_tiling)

    def _arrange_attention(self, *, slicing: bool) -> None:
        if slicing != self._slicing:
            # Where attention is not sliced, diffusers goes back to torch's fused kernels.
            self._pipe.enable_attention_slicing("max" if slicing else None)
            self._slicing = slicing
        if self._options.cross_view:
            join_views(self._unet)

    def _arrange_tiles(self, size: tuple[int, int], *, tiling: bool) -> None:
        """Tiles of half a view: what diffusers tiles by itself is larger than our views."""
        self._vae.use_tiling = tiling
        latents = max(1, max(size) // self._latent_pixels // 2)
        self._vae.tile_latent_min_size = latents
        self._vae.tile_sample_min_size = latents * self._latent_pixels

    @torch.no_grad()
    def _draw(
        self,
        shown: FloatArray,
        depth: FloatArray,
        embedding: Embedding,
        steps: int,
        seeds: Sequence[int],
        pictures_at_once: int,
        control: Control,
    ) -> FloatArray:
        """Through the networks: float32 [V, h, w, 3] in 0..255 -> the same.

        `depth`: float32 [V, h, w, 3] within 0..1. `seeds`: V, of the views' noise.
        `pictures_at_once`: views, or grids of four.
        """
        begin, end = _STEPS_SPAN
        latents = self._encode(shown, control.part(0.0, begin))
        noisy = latents + self._noise(latents, steps, seeds)
        controls = torch.from_numpy(depth).permute(0, 3, 1, 2)
        if self._options.grid:
            noisy, controls = pack_grids(noisy), pack_grids(controls)
        parts = []
        for start in range(0, len(noisy), pictures_at_once):
            chunk = slice(start, start + pictures_at_once)
            share = control.part(
                begin + (end - begin) * start / len(noisy),
                begin + (end - begin) * min(chunk.stop, len(noisy)) / len(noisy),
            )
            parts.append(self._denoise(noisy[chunk], controls[chunk], embedding, steps, share))
        drawn = torch.cat(parts)
        if self._options.grid:
            drawn = unpack_grids(drawn, len(shown))
        return self._decode(drawn, control.part(end, 1.0))

    def _noise(self, latents: torch.Tensor, steps: int, seeds: Sequence[int]) -> torch.Tensor:
        """Noise [V, 4, h, w] at the level where the last `steps` steps begin, of a seed for each
        view.

        Drawn on the CPU: the same on every device.
        """
        scheduler = self._pipe.scheduler
        scheduler.set_timesteps(STEPS)
        shape = latents.shape[1:]
        drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(s)) for s in seeds]
        return (torch.stack(drawn) * float(scheduler.sigmas[STEPS - steps])).to(latents)

    def _denoise(
        self,
        noisy: torch.Tensor,
        controls: torch.Tensor,
        embedding: Embedding,
        steps: int,
        control: Control,
    ) -> torch.Tensor:
        """The last `steps` of 8 steps: noisy latents [B, 4, h, w] -> latents without noise.

        `controls`: the depth pictures, float32 [B, 3, H, W] within 0..1.
        """
        count, _, height, width = noisy.shape
        side = max(_CLAIMED_SIZE, self._latent_pixels * max(height, width))

        def on_step_end(
            _pipe: Any, index: int, _timestep: Any, tensors: dict[str, Any]
        ) -> dict[str, Any]:
            control.step((index + 1) / steps, f"step {index + 1} of {steps}")
            return tensors

        denoised: torch.Tensor = self._pipe(
            # The latents are what the steps begin with. The picture is asked for and not read.
            image=noisy,
            latents=noisy,
            control_image=controls,
            prompt_embeds=embedding.tokens.to(noisy).expand(count, -1, -1),
            pooled_prompt_embeds=embedding.pooled.to(noisy).expand(count, -1),
            strength=steps / STEPS,
            num_inference_steps=STEPS,
            guidance_scale=0.0,
            controlnet_conditioning_scale=self._options.controlnet_scale,
            original_size=(side, side),
            target_size=(side, side),
            output_type="latent",
            callback_on_step_end=on_step_end,
        ).images
        return denoised

    def _encode(self, shown: FloatArray, control: Control) -> torch.Tensor:
        """Pictures float32 [V, h, w, 3] in 0..255 -> scaled latents [V, 4, h / 8, w / 8].

        One view after another: larger batches of the VAE cost much memory and save no time. The
        mean of what the encoder finds, not a draw: two runs begin with the same picture.
        """
        encoded = []
        for i, picture in enumerate(shown):
            control.step(i / len(shown), f"encoding view {i + 1}")
            pixels = torch.from_numpy(picture).permute(2, 0, 1)[None] / 127.5 - 1.0
            encoding = self._vae.encode(pixels.to(self._device.torch_device, self._vae.dtype))
            encoded.append(encoding.latent_dist.mode())
        latents = torch.cat(encoded) * float(self._vae.config.scaling_factor)
        return latents.to(self._device.dtype)

    def _decode(self, latents: torch.Tensor, control: Control) -> FloatArray:
        """Scaled latents -> pictures float32 [V, h, w, 3] in 0..255."""
        pictures = []
        for i, latent in enumerate(latents):
            control.step(i / len(latents), f"decoding view {i + 1}")
            unscaled = latent[None].to(self._vae.dtype) / self._vae.config.scaling_factor
            decoded = self._vae.decode(unscaled, return_dict=False)[0][0]
            pictures.append(decoded.float().permute(1, 2, 0).cpu().numpy())
        drawn = np.stack(pictures)
        finite = np.isfinite(drawn).all((1, 2, 3))
        if not finite.all():
            wrong = ", ".join(str(i) for i in np.flatnonzero(~finite))
            raise ModelFailed.openly(
                f"SDXL answered with numbers that are not finite in view {wrong} of "
                f"{len(drawn)} (counted from 0)."
            )
        pixels: FloatArray = np.clip((drawn + 1.0) * 127.5, 0.0, 255.0)
        return pixels


def _check(renders: Renders) -> None:
    if renders.depth is None:
        raise InvalidInput("The sdxl enhancer needs the depth of the renders: render with depth.")
    shape = renders.images.shape[:3]
    if renders.alphas.shape != shape or renders.depth.shape != shape:
        raise InvalidInput(
            f"images {renders.images.shape}, alphas {renders.alphas.shape} and depth "
            f"{renders.depth.shape} of the renders do not belong together."
        )
