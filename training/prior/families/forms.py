"""Abstract bodies: superquadrics, pebbles, unions at random, melted blobs.

It does not know any thing of this world; its purpose is that the others are not learned by heart.
"""

from __future__ import annotations

import numpy as np

from training.prior.families.bottles import turned_stack, vase
from training.prior.families.cutouts import cutout
from training.prior.families.family import Family
from training.prior.families.parts import pick
from training.prior.primitives import (
    Blob,
    box,
    melt,
    random_rotation,
    rounded_box,
    superquadric,
    tube,
)
from training.prior.solids import Shape, Solid, join

#: What abstract bodies are made of.
ANY = ("any", "plain", "pattern", "any")


def soft(rng: np.random.Generator) -> Shape:
    """A superquadric: from a soap to a spindle; some uneven, as pebbles are."""
    body = superquadric(
        pick(rng, (0.15, 0.3, 0.6, 1.0, 1.4)), pick(rng, (0.15, 0.3, 0.6, 1.0, 1.0)), 26, 40
    )
    body = body.scaled(*np.exp(rng.uniform(np.log(0.35), 0, 3)))
    if rng.random() < 0.4:
        waves, ways = rng.normal(0, 5, (3, 3)), rng.normal(0, 0.025, (3, 3))
        phase = rng.uniform(0, 6, 3)
        body = body.deformed(lambda v: v + np.sin(v @ waves.T + phase) @ ways)
    return Shape(body, (pick(rng, ("any", "plain", "pattern", "food", "soil", "glaze")),))


def union(rng: np.random.Generator) -> Shape:
    """Simple bodies thrust into one another at random, many of them mirrored."""
    parts: list[Solid] = []
    for k in range(int(rng.integers(2, 6))):
        kind = int(rng.integers(5))
        if kind == 0:
            one = box(3).painted([0, 0, 1, 1, 1, 1])
        elif kind == 1:
            one = superquadric(pick(rng, (0.2, 0.6, 1.0)), pick(rng, (0.2, 0.6, 1.0)), 14, 22)
        elif kind == 2:
            one = turned_stack(rng).solid if rng.random() < 0.5 else vase(rng).solid
        elif kind == 3:
            one = cutout(rng).solid
        else:
            one = rounded_box((1, 1, 1), rng.uniform(0.05, 0.4)).painted(0)
        low, high = one.box
        one = one.shifted(*(-(low + high) / 2)).scaled(
            *np.exp(rng.uniform(np.log(0.2), np.log(0.8), 3))
        )
        if rng.random() < 0.5:
            one = one.rotated(random_rotation(rng))
        one = one.shifted(*rng.uniform(-0.2, 0.2, 3))
        slots = one.slots % 2 + 2 * (k % 2)
        one = Solid(one.vertices, one.faces, one.uv, slots, one.smooth)
        parts.append(one)
        if rng.random() < 0.35:
            parts.append(one.mirrored())
    return Shape(join(parts), ANY)


def blobs(rng: np.random.Generator) -> Shape:
    """Ellipsoids melted together, some cut away."""
    all_blobs: list[Blob] = []
    for k in range(int(rng.integers(2, 6))):
        sign = 1 if k == 0 or rng.random() < 0.8 else -1
        one = Blob(
            rng.uniform(-0.24, 0.24, 3),
            rng.uniform(0.13, 0.35, 3),
            random_rotation(rng),
            int(rng.integers(3)),
            sign,
        )
        all_blobs.append(one)
        if rng.random() < 0.5:
            flip = np.diag([1.0, -1.0, 1.0])
            all_blobs.append(
                Blob(
                    one.centre * flip.diagonal(), one.semi_axes, flip @ one.rotation, one.slot, sign
                )
            )
    try:
        solid = melt(all_blobs, rng.uniform(0.01, 0.12), 34)
    except ValueError:  # all is cut away
        solid = melt([blob for blob in all_blobs if blob.sign > 0], 0.05, 34)
    return Shape(solid, ANY)


def worm(rng: np.random.Generator) -> Shape:
    """A thick line through space: a knot, a hose, a pretzel."""
    t = np.linspace(0, 2 * np.pi, 60)
    waves = rng.normal(0, 0.3, (3, 3)) / np.arange(1, 4)
    phase = rng.uniform(0, 6, (3, 3))
    path = np.stack(
        [sum(waves[i, j] * np.sin((j + 1) * t + phase[i, j]) for j in range(3)) for i in range(3)],
        -1,
    )
    path = path / max(float(np.ptp(path, axis=0).max()), 0.2)
    if rng.random() < 0.5:
        path = path[:45]
    return Shape(
        tube(path, rng.uniform(0.03, 0.12), round_ends=True),
        (pick(rng, ("plain", "any", "food", "metal")),),
    )


FAMILIES = {
    "soft": Family(soft, 2.0, "any"),
    "union": Family(union, 1.5, "any"),
    "blobs": Family(blobs, 1.5, "any"),
    "worm": Family(worm, 0.4, "any"),
}
