"""Every number that decides what a training gives: the same recipe gives the same weights.

It does not know how the work is shared, or on which device it runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

#: Seeds of the objects to learn from begin here, those to look at while learning there. The test
#: set has its own beyond both.
FIRST_SEED = 0
FIRST_CHECK_SEED = 2**39
CHECK_OBJECTS = 500


@dataclass(frozen=True)
class Recipe:
    """A training from nothing.

    The rates stay constant after a warm-up and fall to zero over the last part ("warm-up, stable,
    decay": Hu et al., 2024). So a training can be lengthened from any state before that part, and
    gives what the longer one would have given from nothing.

    Attributes:
        steps: of the optimiser.
        batch: samples per step, over all processes.
        seed: of the network's first weights and of every draw of samples.
        matrix_rate: of the matrices (Muon: Jordan et al., 2024, scaled to match AdamW).
        other_rate: of everything else (AdamW).
        warm_up: steps.
        decay_share: last part of the steps.
        average: decay of the running mean of the weights; the mean is what is kept.
        passes_per_object: how often an object is seen, about: objects are made while it runs.
        first_objects: how many are made before it begins.
        widths, depths: of `PriorNetwork`.
    """

    steps: int
    batch: int = 32
    seed: int = 0
    matrix_rate: float = 3e-3
    other_rate: float = 1.5e-3
    weight_decay: float = 0.02
    warm_up: int = 200
    decay_share: float = 0.3
    average: float = 0.999
    passes_per_object: int = 5
    first_objects: int = 2_000
    widths: tuple[int, int, int] = (48, 96, 192)
    depths: tuple[int, int, int] = field(default=(1, 2, 3))

    def rate(self, step: int) -> float:
        """Factor of the rates at a step, 0..1."""
        left = (self.steps - step) / max(1.0, self.decay_share * self.steps)
        return min(1.0, (step + 1) / self.warm_up, left)

    @property
    def decay_begins(self) -> int:
        return round((1.0 - self.decay_share) * self.steps)
