"""What is known of the engines that make the views of the rig; it imports none of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.engines.background.background_specs import network_remover
from pipeline.engines.engine_spec import Demand, EngineSpec, Setup, fault_of
from pipeline.engines.views.elevation_note import CameraSeer
from pipeline.engines.views.prior.prior_weights import PRIOR_WEIGHTS
from pipeline.engines.views.syncdreamer.config import PHOTO_ELEVATIONS_DEG
from pipeline.engines.views.syncdreamer.sampler_settings import SamplerSettings
from pipeline.errors import Unavailable
from pipeline.options import GenerateOptions, JobOptions
from pipeline.ports import PortName, ViewEngine
from pipeline.weights.catalogue import Hub, WeightFile, Weights
from pipeline.weights.folders import find

log = logging.getLogger(__name__)


def _relief(_setup: Setup) -> ViewEngine:
    from pipeline.engines.views.relief.relief_views import Relief

    return Relief()


def _prior(setup: Setup) -> ViewEngine:
    from pipeline.engines.views.prior.prior_views import PriorViews

    return PriorViews.load(find(PRIOR_WEIGHTS, setup.model_dir), setup.device)


def _syncdreamer(setup: Setup) -> ViewEngine:
    from pipeline.engines.views.syncdreamer.syncdreamer_views import SyncDreamerViews

    folder = find(_SYNCDREAMER_WEIGHTS, setup.model_dir)
    return setup.with_options(
        SyncDreamerViews.load,
        folder,
        setup.device,
        remover=network_remover(setup),
        seer=_camera_seer(setup),
    )


def _camera_seer(setup: Setup) -> CameraSeer | None:
    """The learned prior, for an engine that cannot tell the elevation itself; None, and a line in
    the log, where its weights are not."""
    from pipeline.device import Device
    from pipeline.engines.views.prior.trained_prior import load_prior

    try:
        # On the CPU: half a second before minutes of diffusion, and none of the GPU's memory.
        return load_prior(find(PRIOR_WEIGHTS, setup.model_dir), Device.choose("cpu"))
    except Unavailable as error:
        log.warning("the learned prior cannot be used for %s: %s", setup.engine, error)
        return None


def _convert(sources: Sequence[Path], folder: Path, **options: Any) -> None:
    from pipeline.engines.views.syncdreamer.checkpoint import convert_checkpoint

    (source,) = sources
    convert_checkpoint(source, folder, **options)


def _check_syncdreamer(options: JobOptions) -> tuple[str, ...]:
    if not isinstance(options, GenerateOptions):
        return ()
    asked = (options.sampler, options.steps, options.guidance_scale)
    return _fault_of_elevation(options) + fault_of(lambda: SamplerSettings.choose(*asked))


def _fault_of_elevation(options: GenerateOptions) -> tuple[str, ...]:
    elevation, (low, high) = options.elevation_deg, PHOTO_ELEVATIONS_DEG
    if elevation is None or low <= elevation <= high:
        return ()
    return (
        f"elevation_deg of the syncdreamer engine must be between {low:g} and {high:g}, "
        f"got {elevation:g}.",
    )


_SYNCDREAMER_WEIGHTS = Weights(
    name="syncdreamer",
    files=(
        WeightFile(
            "ckpt/syncdreamer-pretrain.ckpt",
            "5ebb31334d9e4002b2590dd805e25238beaf95fa082f6e39a132344624448dcb",
        ),
    ),
    licence="MIT",
    size_bytes=5_570_034_171,
    purpose="Sixteen views of the object from one photo.",
    source=Hub(
        "liuyuan-pal/SyncDreamer",
        "979cb09b52ec88d0a57994b4c7867e40d10492ca",
        space=True,
        convert=_convert,
        by_hand=(
            "The README of github.com/liuyuan-pal/SyncDreamer says where its authors keep "
            "syncdreamer-pretrain.ckpt."
        ),
    ),
    engine="syncdreamer",
)

PRIOR = EngineSpec(
    PortName.VIEWS,
    "prior",
    _prior,
    presets=("embedded",),
    native=True,
    demand=Demand(weights=0.01, working=0.2),
    weights=(PRIOR_WEIGHTS,),
)
RELIEF = EngineSpec(PortName.VIEWS, "relief", _relief, native=True)
SYNCDREAMER = EngineSpec(
    PortName.VIEWS,
    "syncdreamer",
    _syncdreamer,
    presets=("gpu",),
    demand=Demand(weights=2.52, working=3.6),
    options=("views_at_once", "channels_last", "compile"),
    weights=(_SYNCDREAMER_WEIGHTS,),
    packages=("diffusers", "safetensors", "transformers"),
    check=_check_syncdreamer,
)
