"""Which engine makes the sixteen views: built once by name.

It knows how each is loaded and not where it runs or what is made of the views.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.device import Device
from pipeline.engines.engine_options import with_options
from pipeline.engines.views.relief.relief_views import Relief
from pipeline.errors import InvalidOption
from pipeline.ports import ViewEngine
from pipeline.weights.folders import find_bundle

__all__ = ["make_view_engine"]


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
        return Relief()
    if choice == "syncdreamer":
        from pipeline.engines.views.syncdreamer.syncdreamer_views import SyncDreamerViews

        folder = find_bundle("syncdreamer", model_dir)
        return with_options(SyncDreamerViews.load, "syncdreamer", options, folder, device)
    raise InvalidOption(f"view engine {choice!r}: choose relief or syncdreamer")
