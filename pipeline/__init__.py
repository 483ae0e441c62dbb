"""From one photo to a refined 3D Gaussian splat: everything that is computed, and nothing else.

    photo ─ flow.intake ─▶ cut-out ─ flow.generate ─▶ model v0 ─ flow.refine ─▶ v1 .. vn ─▶ files
               │                        │                           │               │
        ports: background     views, depth, splats        splats, enhancer      exporter

The flow knows its neighbours as ports; engines (`pipeline.engines`) stand behind them, in this
process or in another. From the bottom up, each room knows only those below it:

    errors, types, rig, options, control, requests, journals, ports, device, lane
    geometry < imaging < native < splats < mesh < formats < weights < engines < flow

World: right-handed, z up, object in [-0.5, 0.5]^3, the photographed side faces +x. Cameras: OpenCV,
world-to-camera. Quaternions: wxyz. `docs/architecture.md` has pictures, rooms and a glossary.

It does not know Ray, HTTP, databases or environment variables. The names below are what others
build on; each is imported when it is first asked for, so `import pipeline` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.control import Control, Progress
    from pipeline.engines.registry import EngineChoice
    from pipeline.errors import GlimpseError
    from pipeline.flow.generate import generate
    from pipeline.flow.intake import prepare_upload
    from pipeline.flow.local import build_ports
    from pipeline.flow.refine import refine
    from pipeline.options import ExportOptions, GenerateOptions, RefineOptions
    from pipeline.ports import Ports
    from pipeline.types import Cameras, Cutout, DepthMaps, Scores, SplatModel, ViewSet

__all__ = [
    "Cameras",
    "Control",
    "Cutout",
    "DepthMaps",
    "EngineChoice",
    "ExportOptions",
    "GenerateOptions",
    "GlimpseError",
    "Ports",
    "Progress",
    "RefineOptions",
    "Scores",
    "SplatModel",
    "ViewSet",
    "build_ports",
    "generate",
    "prepare_upload",
    "refine",
]

_MODULE_OF = {
    "control": ("Control", "Progress"),
    "engines.registry": ("EngineChoice",),
    "errors": ("GlimpseError",),
    "flow.generate": ("generate",),
    "flow.intake": ("prepare_upload",),
    "flow.local": ("build_ports",),
    "flow.refine": ("refine",),
    "options": ("ExportOptions", "GenerateOptions", "RefineOptions"),
    "ports": ("Ports",),
    "types": ("Cameras", "Cutout", "DepthMaps", "Scores", "SplatModel", "ViewSet"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULE_OF.items():
        if name in names:
            return getattr(import_module(f"pipeline.{module}"), name)
    raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
