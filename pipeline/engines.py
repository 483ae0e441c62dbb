"""Which engine does each stage, and how the chosen ones are built.

It knows every embedded engine by name; not where it will run. `auto` chooses once, when the
engine is built, and logs why: nothing falls back silently later.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pipeline.errors import InvalidOption

__all__ = ["ENGINES", "EngineChoice", "PortName"]


class PortName(StrEnum):
    """The ports of the pipeline, one engine each."""

    BACKGROUND = "background"
    VIEWS = "views"
    DEPTH = "depth"
    SPLATS = "splats"
    ENHANCER = "enhancer"
    EXPORTER = "exporter"


#: Engines of each port; the first is the default.
ENGINES: dict[PortName, tuple[str, ...]] = {
    PortName.BACKGROUND: ("auto", "rembg", "grabcut"),
    PortName.VIEWS: ("relief",),
    PortName.DEPTH: ("surface",),
    PortName.SPLATS: ("cpu",),
    PortName.ENHANCER: ("auto", "realesrgan", "unsharp"),
    PortName.EXPORTER: ("cpu",),
}


@dataclass(frozen=True)
class EngineChoice:
    """An engine for every port, and what they share.

    Attributes:
        model_dir: where weights lie; None looks only into installed packages.
        threads: of the native code and of torch in one process; None takes as many as the
            process may use (affinity and container quota).
    """

    background: str = "auto"
    views: str = "relief"
    depth: str = "surface"
    splats: str = "cpu"
    enhancer: str = "auto"
    exporter: str = "cpu"
    model_dir: Path | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        for port, known in ENGINES.items():
            chosen = getattr(self, port.value)
            if chosen not in known:
                raise InvalidOption(
                    f"There is no {port.value} engine {chosen!r}; there are {list(known)}."
                )
