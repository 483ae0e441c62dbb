"""Which engine does each stage: every engine by name, one line each.

What it knows of one stands in its spec (`pipeline.engines.engine_spec`); choices, plans, manifests
and lists of weights are made of these. It imports no engine and does not know where one will run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar, cast

from pipeline.engines.by_views import (
    GENERATOR_PORTS,
    NO_GENERATOR,
    VIEW_PORTS,
    faults_of,
    settled,
)
from pipeline.engines.engine_spec import EngineSpec
from pipeline.errors import InvalidOption
from pipeline.options import GenerateOptions, JobOptions
from pipeline.ports import PortName
from pipeline.weights.catalogue import Carried, Catalogue

OptionsT = TypeVar("OptionsT", bound=JobOptions)

#: Where the spec of each engine stands. The first of a port is its default.
ENGINE_PATHS: tuple[str, ...] = (
    "pipeline.engines.background.background_specs:AUTO",
    "pipeline.engines.background.background_specs:REMBG",
    "pipeline.engines.background.background_specs:GRABCUT",
    "pipeline.engines.views.view_specs:PRIOR",
    "pipeline.engines.views.view_specs:RELIEF",
    "pipeline.engines.views.view_specs:SYNCDREAMER",
    "pipeline.engines.depth.depth_specs:SURFACE",
    "pipeline.engines.depth.depth_specs:MIDAS_LARGE",
    "pipeline.engines.depth.depth_specs:MIDAS_HYBRID",
    "pipeline.engines.depth.depth_specs:ANYTHING_SMALL",
    "pipeline.engines.depth.depth_specs:ANYTHING_BASE",
    "pipeline.engines.splats.splat_specs:CPU",
    "pipeline.engines.splats.splat_specs:GSPLAT",
    "pipeline.engines.enhance.sharpener_specs:AUTO",
    "pipeline.engines.enhance.sharpener_specs:REALESRGAN",
    "pipeline.engines.enhance.sharpener_specs:UNSHARP",
    "pipeline.engines.enhance.sdxl_spec:SDXL",
    "pipeline.engines.exporter_spec:CPU",
    "pipeline.engines.by_views:NONE",
    "pipeline.engines.deg_spec:TRIPOSPLAT",
    "pipeline.engines.deg_spec:IDOL",
    "pipeline.engines.deg_spec:IDOL_TURBO",
)


def engine_specs() -> tuple[EngineSpec, ...]:
    """Every engine, in the order of `ENGINE_PATHS`."""
    return tuple(_read(path) for path in ENGINE_PATHS)


@cache
def _read(path: str) -> EngineSpec:
    module, _, name = path.partition(":")
    spec = getattr(import_module(module), name)
    assert isinstance(spec, EngineSpec), path
    return spec


def engine_names(port: PortName) -> tuple[str, ...]:
    """The engines of a port; the first is the default."""
    return tuple(spec.name for spec in engine_specs() if spec.port is port)


def spec_of(port: PortName, name: str) -> EngineSpec:
    """Raises InvalidOption where the port has no such engine."""
    for spec in engine_specs():
        if (spec.port, spec.name) == (port, name):
            return spec
    raise InvalidOption(
        f"There is no {port.value} engine {name!r}; there are {list(engine_names(port))}."
    )


def weights_catalogue() -> Catalogue:
    """What all engines load, files of packages first."""
    weights = dict.fromkeys(w for spec in engine_specs() for w in spec.weights)
    sets = {
        name: tuple(w for port, engine in chosen.items() for w in spec_of(port, engine).weights)
        for name, chosen in PRESETS.items()
        if name != "embedded"  # whose weights packages carry
    }
    return Catalogue(tuple(sorted(weights, key=lambda w: not isinstance(w.source, Carried))), sets)


def _sets() -> dict[str, dict[PortName, str]]:
    sets = {
        preset: {spec.port: spec.name for spec in engine_specs() if preset in spec.presets}
        for preset in ("embedded", "gpu")
    }
    embedded = {port: sets["embedded"][port] for port in VIEW_PORTS}
    for name in engine_names(PortName.GENERATOR):
        if name != NO_GENERATOR:
            sets[name] = {**sets["gpu"], **embedded, PortName.GENERATOR: name}
    return sets


#: Whole sets of engines, by name: what a machine without a GPU runs, what one with GPUs runs, and
#: for each generator that one with it, where views are made only of who asks for them.
PRESETS: dict[str, dict[PortName, str]] = _sets()


@dataclass(frozen=True)
class EngineChoice:
    """An engine for every port, or none for the generator, and what they share.

    Attributes:
        model_dir: where weights lie; None looks only into installed packages.
        threads: of the native code and of torch in one process; None takes as many as the
            process may use (affinity and container quota).
        device: of the engines that can use a GPU: "auto", "cuda" or "cpu". The other engines
            compute on the CPU wherever they run.
        precision: of their networks, "fp32", "fp16" or "bf16"; None is bf16 on a GPU, else fp32.
        options: of the engines of some ports, `EngineSpec.options` says which.
    """

    background: str = "auto"
    views: str = "prior"
    depth: str = "surface"
    splats: str = "cpu"
    enhancer: str = "auto"
    exporter: str = "cpu"
    generator: str = NO_GENERATOR
    model_dir: Path | None = None
    threads: int | None = None
    device: str = "auto"
    precision: str | None = None
    options: Mapping[PortName, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for port in PortName:
            self.spec(port)
        for port in self.options:
            if not self.spec(port).options:
                raise InvalidOption(
                    f"The {port.value} engine {self.engine(port)!r} takes no options."
                )

    def engine(self, port: PortName) -> str:
        """The engine of a port."""
        chosen: str = getattr(self, port.value)
        return chosen

    def spec(self, port: PortName) -> EngineSpec:
        """What is known of the engine of a port."""
        return spec_of(port, self.engine(port))

    @property
    def ports(self) -> tuple[PortName, ...]:
        """Those that have an engine."""
        return tuple(port for port in PortName if self.engine(port) != NO_GENERATOR)

    def settled(self, options: OptionsT) -> OptionsT:
        """The options of a job with what depends on the engines there are."""
        if isinstance(options, GenerateOptions):
            return cast(OptionsT, settled(options, self.generator))
        return options

    def check(self, options: JobOptions) -> None:
        """Raises InvalidOption that says what the chosen engines cannot do of `options`."""
        options, idle, faults = self.settled(options), tuple[PortName, ...](), list[str]()
        if isinstance(options, GenerateOptions):
            faults += faults_of(options, self.generator)
            idle = VIEW_PORTS if options.by_generator else GENERATOR_PORTS
        asked = [] if faults else [port for port in self.ports if port not in idle]
        faults += [fault for port in asked for fault in self.spec(port).check(options)]
        if faults:
            raise InvalidOption(" ".join(faults))

    @classmethod
    def preset(cls, name: str) -> EngineChoice:
        """The engines of `PRESETS[name]`. Raises InvalidOption for another name."""
        if name not in PRESETS:
            raise InvalidOption(f"There are no {name!r} engines; there are {[*PRESETS]}.")
        chosen: dict[str, Any] = {port.value: engine for port, engine in PRESETS[name].items()}
        return cls(**chosen)
