"""The two ways to a first model, by views or by a generator, and what may be asked of each.

It knows options alone: not the limits of single engines, and no engine.
"""

from __future__ import annotations

from dataclasses import replace

from pipeline.engines.engine_spec import EngineSpec, Setup
from pipeline.options import BY_VIEWS, FROM_STAGES, SPLAT_LIMITS, GenerateOptions
from pipeline.ports import PortName

#: Of the port that may be empty: the engine that is none.
NO_GENERATOR = "none"

#: Options that only a generator has, and those that it has not.
_OF_GENERATORS = ("shift", "image_type", "decode_seed")
_OF_VIEWS = ("sampler", "fit_steps", "elevation_deg")

#: Ports that only one of the ways uses.
VIEW_PORTS, GENERATOR_PORTS = (PortName.VIEWS, PortName.DEPTH), (PortName.GENERATOR,)


def settled(options: GenerateOptions, generator: str) -> GenerateOptions:
    """The options with their engine named, where there is a generator: what runs later is what
    was asked for, whatever engines there are then."""
    if options.engine is not None or generator == NO_GENERATOR:
        return options
    return replace(options, engine=BY_VIEWS if options.from_stage in FROM_STAGES else generator)


def faults_of(options: GenerateOptions, generator: str) -> tuple[str, ...]:
    """Sentences on what does not go together.

    Args:
        options: settled.
        generator: that there is.
    """
    if not options.by_generator:
        return _by_views(options)
    if options.engine != generator:
        there = [BY_VIEWS] if generator == NO_GENERATOR else [generator, BY_VIEWS]
        return (f"engine must be one of {there} at this service, got {options.engine!r}.",)
    faults = [
        f"{name} is of a model made by views, and the {options.engine} engine has no use for it: "
        f"leave it out, or ask for engine={BY_VIEWS}."
        for name in _OF_VIEWS
        if getattr(options, name) is not None
    ]
    if options.candidates > 1:
        faults.append(
            f"candidates are of models made by views: leave it out, or ask for engine={BY_VIEWS}."
        )
    if options.from_stage in FROM_STAGES:
        faults.append(
            f"from={options.from_stage} begins within a model made by views: leave out engine, or "
            "from."
        )
    return tuple(faults)


def _by_views(options: GenerateOptions) -> tuple[str, ...]:
    faults = [
        f"{name} is of an engine that makes the model in one pass, and this generation is by "
        "views: leave it out, or name such an engine."
        for name in _OF_GENERATORS
        if getattr(options, name) is not None
    ]
    most = SPLAT_LIMITS[1]
    if options.num_gaussians is not None and options.num_gaussians > most:
        faults.append(
            f"num_gaussians of a model made by views must be between {SPLAT_LIMITS[0]} and {most}, "
            f"got {options.num_gaussians}."
        )
    if options.from_stage is not None and options.from_stage not in FROM_STAGES:
        faults.append(
            f"from={options.from_stage} begins with what an engine kept that makes the model in "
            "one pass, and there is none here."
        )
    return tuple(faults)


def _nothing(_setup: Setup) -> None:
    return None


NONE = EngineSpec(PortName.GENERATOR, NO_GENERATOR, _nothing, presets=("embedded", "gpu"))
