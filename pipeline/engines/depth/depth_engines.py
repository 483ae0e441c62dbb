"""Which engine estimates depth: built once by name.

It knows how each is loaded and not where it runs or what is made of the depth maps.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.device import Device
from pipeline.engines.depth.surface_depth import SurfaceDepth
from pipeline.engines.engine_options import with_options
from pipeline.ports import DepthEngine
from pipeline.weights.folders import find_bundle

__all__ = ["make_depth_engine"]


def make_depth_engine(
    choice: str, model_dir: Path | None, device: Device, options: Mapping[str, Any]
) -> DepthEngine:
    """The engine named by `choice`: "surface", or the bundle of a network.

    Args:
        options: of `MidasDepth.load`.

    Raises:
        InvalidOption: there is no such option.
        Unavailable: its weights, or the packages that load them, are not there.
    """
    if choice == "surface":
        return SurfaceDepth()
    from pipeline.engines.depth.midas import MidasDepth

    folder = find_bundle(choice, model_dir)
    return with_options(MidasDepth.load, choice, options, folder, device, name=choice)
