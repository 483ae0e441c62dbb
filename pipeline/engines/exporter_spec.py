"""What is known of the exporter; it imports nothing of it."""

from __future__ import annotations

from pipeline.engines.engine_spec import EngineSpec, Setup
from pipeline.ports import ExporterEngine, PortName


def _cpu(_setup: Setup) -> ExporterEngine:
    from pipeline.engines.exporter import FileExporter

    return FileExporter()


CPU = EngineSpec(PortName.EXPORTER, "cpu", _cpu, presets=("embedded", "gpu"), native=True)
