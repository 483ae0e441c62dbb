"""Which engine estimates depth: built once by name.

It knows how each is loaded and not where it runs or what is made of the depth maps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pipeline.control import Control
from pipeline.device import Device
from pipeline.engines.depth.surface_depth import SurfaceDepth
from pipeline.engines.engine_options import with_options
from pipeline.types import DepthMaps, ViewSet
from pipeline.weights.folders import find_bundle

__all__ = ["DepthEngine", "make_depth_engine"]


class DepthEngine(Protocol):
    """Depth of every view of one or several objects."""

    @property
    def name(self) -> str:
        """Stable name for rows and manifests."""
        ...

    def estimate_many(self, sets: Sequence[ViewSet], control: Control) -> list[DepthMaps]:
        """Depth maps of every set, in that order. Raises ModelFailed, OutOfMemory, Cancelled."""
        ...


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
