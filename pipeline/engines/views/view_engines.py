"""Which engine makes the sixteen views: built once by name.

It knows how each is loaded and not where it runs or what is made of the views.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from pipeline.control import Control
from pipeline.device import Device
from pipeline.engines.engine_options import with_options
from pipeline.engines.views.relief.relief_views import Relief
from pipeline.errors import InvalidOption
from pipeline.requests import ViewRequest
from pipeline.types import ViewSet
from pipeline.weights.folders import find_bundle

__all__ = ["ViewEngine", "make_view_engine"]


class ViewEngine(Protocol):
    """Makes the views of the rig from one cut-out."""

    @property
    def name(self) -> str:
        """Stable name for rows and manifests."""
        ...

    def synthesize(self, request: ViewRequest, control: Control) -> ViewSet:
        """The 16 views. Raises InvalidOption, ModelFailed, OutOfMemory, Cancelled."""
        ...


class ReliefViews:
    """The inflated silhouette: it draws nothing at random and takes no steps, and says so."""

    name = Relief.name

    def __init__(self) -> None:
        self._relief = Relief()

    def synthesize(self, request: ViewRequest, control: Control) -> ViewSet:
        """See `ViewEngine.synthesize`."""
        views = self._relief.synthesize(request.cutout, request.elevation_deg, control)
        unused = [
            option
            for option in ("steps", "guidance_scale", "sampler")
            if getattr(request, option) is not None
        ]
        notes = tuple(f"The {self.name} engine has no use for {option}." for option in unused)
        return replace(views, notes=views.notes + notes)


def make_view_engine(
    choice: str, model_dir: Path | None, device: Device, options: Mapping[str, Any]
) -> ViewEngine:
    """The engine named by `choice`: "relief" or "syncdreamer".

    Args:
        options: of `SyncDreamerViews.load`.

    Raises:
        InvalidOption: `choice` is none of the names, or there is no such option.
        Unavailable: its weights, or the packages that load them, are not there.
    """
    if choice == "relief":
        return ReliefViews()
    if choice == "syncdreamer":
        from pipeline.engines.views.syncdreamer.syncdreamer_views import SyncDreamerViews

        folder = find_bundle("syncdreamer", model_dir)
        return with_options(SyncDreamerViews.load, "syncdreamer", options, folder, device)
    raise InvalidOption(f"view engine {choice!r}: choose relief or syncdreamer")
