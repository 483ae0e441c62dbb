"""An engine by its name, as the flow loads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.device import Device
from pipeline.engines.engine_spec import Setup
from pipeline.engines.registry import spec_of
from pipeline.ports import PortName

__all__ = ["load"]


def load(port: PortName, name: str, model_dir: Path | None = None, **options: Any) -> Any:
    """On the CPU, with one thread."""
    setup = Setup(name, model_dir, Device.choose("cpu"), 1, options)
    return spec_of(port, name).load(setup)
