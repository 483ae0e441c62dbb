"""Which engine makes renders sharper: chosen once by name, with the reason in the log.

It knows how each is built and not where it runs or what its pictures are used for.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.device import Device
from pipeline.engines.engine_options import with_options
from pipeline.engines.enhance.realesrgan import RealEsrgan
from pipeline.engines.enhance.unsharp import Unsharp
from pipeline.errors import InvalidOption, Unavailable
from pipeline.ports import EnhancerEngine
from pipeline.weights.folders import find_bundles
from pipeline.weights.single_files import REALESRGAN_BIN, REALESRGAN_PARAM, locate

__all__ = ["make_enhancer_engine"]

log = logging.getLogger(__name__)

#: Bundles that SDXL may be held to the depth with; the first is the default.
CONTROLNETS = ("controlnet-depth-sdxl", "controlnet-depth-sdxl-diffusers")


def make_enhancer_engine(
    choice: str = "auto",
    model_dir: Path | None = None,
    threads: int | None = None,
    device: Device | None = None,
    options: Mapping[str, Any] | None = None,
) -> EnhancerEngine:
    """The engine named by `choice`; "auto" takes the network where it can be loaded.

    Args:
        choice: "auto", "realesrgan", "unsharp" or "sdxl".
        model_dir: where weights lie; None looks only into installed packages.
        threads: of Real-ESRGAN; None takes as many as the process may use.
        device: of SDXL; None is a GPU where there is one.
        options: of SDXL, the fields of `SdxlOptions` and `controlnet`, one of `CONTROLNETS`.

    Raises:
        InvalidOption: `choice` is none of the names.
        Unavailable: "realesrgan" or "sdxl" was asked for, and its weights or the packages that
            load them are not there.
    """
    if choice == "unsharp":
        return Unsharp()
    if choice == "realesrgan":
        return _realesrgan(model_dir, threads)
    if choice == "sdxl":
        return _sdxl(model_dir, device or Device.choose(), options or {})
    if choice != "auto":
        raise InvalidOption(f"enhancer engine {choice!r}: choose auto, realesrgan, unsharp or sdxl")
    try:
        engine = _realesrgan(model_dir, threads)
    except Unavailable as error:
        log.warning("enhancer engine: unsharp, because realesrgan cannot be used. %s", error)
        return Unsharp()
    log.info("enhancer engine: realesrgan, its weights were found")
    return engine


def _realesrgan(model_dir: Path | None, threads: int | None) -> RealEsrgan:
    return RealEsrgan(
        locate(REALESRGAN_PARAM, model_dir), locate(REALESRGAN_BIN, model_dir), threads=threads
    )


def _sdxl(model_dir: Path | None, device: Device, options: Mapping[str, Any]) -> EnhancerEngine:
    from pipeline.engines.enhance.sdxl import SdxlEnhancer, SdxlFolders, SdxlOptions

    rest = dict(options)
    net = rest.pop("controlnet", CONTROLNETS[0])
    if net not in CONTROLNETS:
        raise InvalidOption(f"controlnet must be one of {list(CONTROLNETS)}, got {net!r}")
    chosen = with_options(SdxlOptions, "sdxl", rest)
    unet, base, controlnet, vae = find_bundles(
        ("sdxl-lightning-8step", "sdxl-base", net, "sdxl-vae-fp16-fix"), model_dir
    ).values()
    return SdxlEnhancer.load(
        SdxlFolders(base, unet / "sdxl_lightning_8step_unet.safetensors", controlnet, vae),
        device,
        chosen,
    )
