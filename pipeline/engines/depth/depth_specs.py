"""What is known of the engines that estimate depth; it imports none of them."""

from __future__ import annotations

from functools import partial

from pipeline.engines.engine_spec import Demand, EngineSpec, Setup
from pipeline.ports import DepthEngine, PortName
from pipeline.weights.catalogue import Hub, WeightFile, Weights
from pipeline.weights.folders import find


def _surface(_setup: Setup) -> DepthEngine:
    from pipeline.engines.depth.surface_depth import SurfaceDepth

    return SurfaceDepth()


SURFACE = EngineSpec(PortName.DEPTH, "surface", _surface, presets=("embedded",))


def _network(weights: Weights, setup: Setup) -> DepthEngine:
    from pipeline.engines.depth.midas import MidasDepth

    folder = find(weights, setup.model_dir)
    return setup.with_options(MidasDepth.load, folder, setup.device, name=setup.engine)


def _midas(weights: Weights, demand: Demand, presets: tuple[str, ...] = ()) -> EngineSpec:
    """A network in transformers' layout is called as its weights are."""
    return EngineSpec(
        PortName.DEPTH,
        weights.name,
        partial(_network, weights),
        presets=presets,
        demand=demand,
        options=("images_at_once",),
        weights=(weights,),
        packages=("safetensors", "transformers"),
    )


def _files(sha256: str | None) -> tuple[WeightFile, ...]:
    return (
        WeightFile("config.json"),
        WeightFile("preprocessor_config.json"),
        WeightFile("model.safetensors", sha256),
    )


MIDAS_LARGE = _midas(
    Weights(
        name="midas-large",
        files=_files("c173e7fd575c4d6c2164621063fed3a0e7e2eb6adbfb7c1845b364bc0fed9ce8"),
        licence="Apache-2.0",
        size_bytes=1_367_456_044,
        purpose="Relative depth of a view.",
        source=Hub("Intel/dpt-large", "bc15f29aa3a80d532f2ed650b5e16ac48d8958f9"),
        engine="midas",
    ),
    Demand(weights=0.64, working=1.3),
    presets=("gpu",),
)
MIDAS_HYBRID = _midas(
    Weights(
        name="midas-hybrid",
        files=_files("9599793d3ce64d7ebc85657360831596c1df9abc61f6820fe623fe7efb2e29c5"),
        licence="Apache-2.0",
        size_bytes=490_000_000,
        purpose="Relative depth of a view, a third of the size of midas-large.",
        # Of a conversion to safetensors that its authors have not merged; main has a pickle.
        source=Hub("Intel/dpt-hybrid-midas", "17fb43d4437eb62c260a593400db13c22b04511a"),
        engine="midas",
        needed=False,
    ),
    Demand(weights=0.23, working=1.0),
)
ANYTHING_SMALL = _midas(
    Weights(
        name="depth-anything-v2-small",
        files=_files("3152477ce0d8d6978d76b995120de97cb5b928701fd0f817769f59e249a16b70"),
        licence="Apache-2.0",
        size_bytes=99_173_660,
        purpose="Relative depth of a view from a small network.",
        source=Hub(
            "depth-anything/Depth-Anything-V2-Small-hf", "5426e4f0f36572d16453bbda7a8389317b1bef99"
        ),
        engine="midas",
        needed=False,
    ),
    Demand(weights=0.05, working=1.0),
)
ANYTHING_BASE = _midas(
    Weights(
        name="depth-anything-v2-base",
        files=_files(None),
        licence="CC-BY-NC-4.0",
        commercial=False,
        size_bytes=390_000_000,
        purpose="Relative depth of a view, sharper than the small network.",
        source=Hub(
            "depth-anything/Depth-Anything-V2-Base-hf", "b1958afc87fb45a9e3746cb387596094de553ed8"
        ),
        engine="midas",
        needed=False,
    ),
    Demand(weights=0.18, working=1.2),
)
