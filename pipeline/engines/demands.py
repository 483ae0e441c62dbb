"""How much memory of a GPU each engine takes, for those who decide what shares a card.

It knows numbers of engines and nothing of machines. Weights are counted; room to work in is a
budget, which `python -m bench.gpu` compares with what is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.engines.registry import ON_DEVICE

__all__ = ["CONTEXT_GIB", "DEMANDS", "Demand"]

#: What CUDA itself takes in every process; `pipeline.device.CONTEXT_BYTES`.
CONTEXT_GIB = 600 / 1024


@dataclass(frozen=True)
class Demand:
    """Memory of one replica of an engine, GiB.

    Attributes:
        weights: in bf16 or fp16; counted from the networks
        (`tests/pipeline/engines/test_demands.py`).
        working: most that activations may take beside them.
    """

    weights: float
    working: float

    @property
    def total(self) -> float:
        """What the card must have free for it."""
        return self.weights + self.working + CONTEXT_GIB


#: Of every engine that computes on a GPU. The working room of the networks is for 16 views at once,
#: where less is there they take fewer; that of gsplat is for 500,000 splats in 16 views.
DEMANDS: dict[str, Demand] = {
    "syncdreamer": Demand(weights=2.52, working=3.6),
    "midas-large": Demand(weights=0.64, working=1.3),
    "midas-hybrid": Demand(weights=0.23, working=1.0),
    "depth-anything-v2-small": Demand(weights=0.05, working=1.0),
    "depth-anything-v2-base": Demand(weights=0.18, working=1.2),
    "gsplat": Demand(weights=0.0, working=2.5),
    "sdxl": Demand(weights=7.27, working=3.0),
}

assert set(DEMANDS) == ON_DEVICE
