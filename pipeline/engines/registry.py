"""Which engine does each stage, and how the chosen ones are built.

It knows every engine by name; not where it will run. `auto` chooses once, when the
engine is built, and logs why: nothing falls back silently later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import InvalidOption
from pipeline.ports import PortName

__all__ = ["ENGINES", "NATIVE", "ON_DEVICE", "PRESETS", "EngineChoice"]


#: Engines of each port; the first is the default.
ENGINES: dict[PortName, tuple[str, ...]] = {
    PortName.BACKGROUND: ("auto", "rembg", "grabcut"),
    PortName.VIEWS: ("relief", "syncdreamer"),
    PortName.DEPTH: (
        "surface",
        "midas-large",
        "midas-hybrid",
        "depth-anything-v2-small",
        "depth-anything-v2-base",  # not for commercial use
    ),
    PortName.SPLATS: ("cpu", "gsplat"),
    PortName.ENHANCER: ("auto", "realesrgan", "unsharp", "sdxl"),
    PortName.EXPORTER: ("cpu",),
}

#: Engines that compute on `EngineChoice.device`; the others use the CPU wherever they run.
ON_DEVICE = frozenset(
    {
        "syncdreamer",
        "midas-large",
        "midas-hybrid",
        "depth-anything-v2-small",
        "depth-anything-v2-base",
        "gsplat",
        "sdxl",
    }
)

#: Engines that call the native library. `gsplat` judges with it, whatever draws the fit.
NATIVE = frozenset({"relief", "cpu", "gsplat"})

#: Whole sets of engines, by name: what a machine without a GPU runs, and what one with GPUs runs.
PRESETS: dict[str, dict[PortName, str]] = {
    "embedded": {port: names[0] for port, names in ENGINES.items()},
    "gpu": {
        PortName.BACKGROUND: "rembg",
        PortName.VIEWS: "syncdreamer",
        PortName.DEPTH: "midas-large",
        PortName.SPLATS: "gsplat",
        PortName.ENHANCER: "sdxl",
        PortName.EXPORTER: "cpu",
    },
}


@dataclass(frozen=True)
class EngineChoice:
    """An engine for every port, and what they share.

    Attributes:
        model_dir: where weights lie; None looks only into installed packages.
        threads: of the native code and of torch in one process; None takes as many as the
            process may use (affinity and container quota).
        device: of the engines that can use a GPU: "auto", "cuda" or "cpu". The other engines
            compute on the CPU wherever they run.
        precision: of their networks, "fp32", "fp16" or "bf16"; None is bf16 on a GPU, else fp32.
        options: keyword arguments of the engines of some ports: of "syncdreamer" what
            `SyncDreamerViews.load` takes, of the depth networks `MidasDepth.load`, of "gsplat"
            `GsplatSplats`, of "sdxl" the fields of `SdxlOptions` and `controlnet`. Other engines
            take none.
    """

    background: str = "auto"
    views: str = "relief"
    depth: str = "surface"
    splats: str = "cpu"
    enhancer: str = "auto"
    exporter: str = "cpu"
    model_dir: Path | None = None
    threads: int | None = None
    device: str = "auto"
    precision: str | None = None
    options: Mapping[PortName, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for port, known in ENGINES.items():
            if self.engine(port) not in known:
                raise InvalidOption(
                    f"There is no {port.value} engine {self.engine(port)!r}; "
                    f"there are {list(known)}."
                )
        for port in self.options:
            if self.engine(port) not in ON_DEVICE:
                raise InvalidOption(
                    f"The {port.value} engine {self.engine(port)!r} takes no options."
                )

    def engine(self, port: PortName) -> str:
        """The engine of a port."""
        chosen: str = getattr(self, port.value)
        return chosen

    def options_of(self, port: PortName) -> dict[str, Any]:
        """Keyword arguments of the engine of a port."""
        return dict(self.options.get(port, {}))

    @classmethod
    def preset(cls, name: str) -> EngineChoice:
        """The engines of `PRESETS[name]`. Raises InvalidOption for another name."""
        if name not in PRESETS:
            raise InvalidOption(f"There are no {name!r} engines; there are {[*PRESETS]}.")
        chosen: dict[str, Any] = {port.value: engine for port, engine in PRESETS[name].items()}
        return cls(**chosen)
