"""Families of animals and soft toys: on four legs, birds, fish, turtles, dinosaurs, teddies.

It does not know how fur, feathers or scales are painted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from training.prior.families.builder import Builder, Triple
from training.prior.families.family import Family
from training.prior.solids import Shape

SOFT = 0.3


@dataclass(frozen=True)
class _Beast:
    """Proportions in units of the body's length.

    `deep` and `wide` are half the body's height and width, `lean` is the neck's angle above the
    horizon, `ears`, `tail` and `snout` lengths.
    """

    name: str
    deep: float
    wide: float
    leg: float
    thick: float
    neck: float
    lean: float
    head: float
    snout: float
    ears: float
    pointed: bool
    tail: float
    furry: str = "fur"


_BEASTS = (
    _Beast("dog", 0.2, 0.17, 0.42, 0.055, 0.2, 0.9, 0.15, 0.17, 0.16, False, 0.35),
    _Beast("puppy", 0.27, 0.24, 0.3, 0.08, 0.1, 0.9, 0.25, 0.15, 0.2, False, 0.25),
    _Beast("cat", 0.18, 0.15, 0.33, 0.045, 0.12, 0.9, 0.15, 0.06, 0.12, True, 0.6),
    _Beast("horse", 0.22, 0.17, 0.58, 0.055, 0.42, 0.95, 0.13, 0.26, 0.09, True, 0.5),
    _Beast("cow", 0.27, 0.22, 0.4, 0.07, 0.2, 0.4, 0.16, 0.2, 0.12, False, 0.45),
    _Beast("sheep", 0.31, 0.27, 0.3, 0.05, 0.15, 0.8, 0.15, 0.12, 0.12, False, 0.1),
    _Beast("pig", 0.28, 0.26, 0.24, 0.07, 0.06, 0.3, 0.2, 0.12, 0.13, True, 0.12, "skin"),
    _Beast("bear", 0.29, 0.26, 0.32, 0.11, 0.12, 0.5, 0.19, 0.12, 0.08, False, 0.06),
    _Beast("elephant", 0.31, 0.26, 0.38, 0.1, 0.08, 0.7, 0.22, 0.1, 0.3, False, 0.25, "skin"),
    _Beast("giraffe", 0.2, 0.16, 0.75, 0.05, 0.85, 1.2, 0.12, 0.18, 0.09, True, 0.4),
    _Beast("rabbit", 0.26, 0.21, 0.16, 0.06, 0.08, 0.9, 0.19, 0.08, 0.42, True, 0.08),
    _Beast("mouse", 0.24, 0.2, 0.1, 0.04, 0.05, 0.3, 0.18, 0.13, 0.18, False, 0.6),
)


def _varied(b: Builder, beast: _Beast) -> _Beast:
    s = [b.u(0.82, 1.2) for _ in range(8)]
    return replace(
        beast, deep=beast.deep * s[0], wide=beast.wide * s[1], leg=beast.leg * s[2],
        thick=beast.thick * s[3], neck=beast.neck * s[4], head=beast.head * s[5] * b.u(1.0, 1.3),
        snout=beast.snout * s[6], ears=beast.ears * s[7], lean=beast.lean + b.u(-0.25, 0.25),
    )  # fmt: skip


def _beast_head(b: Builder, k: _Beast, at: Triple, coat: int, look: float) -> None:
    """A head with snout, eyes, ears, horns or trunk, its nose lifted by `look`."""
    x, _, z = at
    r, dark = k.head, b.slot("plain")
    b.ball((r, r * b.u(0.85, 1.0), r * b.u(0.85, 1.0)), at, coat)
    c, s = np.cos(look), np.sin(look)

    def spot(ahead: float, side: float, up: float) -> Triple:
        return (x + r * (ahead * c - up * s), r * side, z + r * (ahead * s + up * c))

    muzzle = b.slot(k.furry) if b.chance(0.4) else coat
    reach = 0.6 + k.snout / r
    nose = spot(reach, 0.0, -0.25)
    if k.name == "elephant":
        curl = b.u(-0.3, 0.8)
        path = [spot(0.7, 0, -0.2), spot(1.3, 0, -0.9), spot(1.45, 0, -1.8)]
        b.limb([*path, spot(1.5 + curl, 0, -2.4)], [r * 0.4, r * 0.3, r * 0.22, r * 0.17], coat)
        if b.chance(0.6):
            tusk = b.slot("plain")
            b.limb(
                [spot(0.7, 0.4, -0.5), spot(1.6, 0.5, -0.8)], [r * 0.1, r * 0.03], tusk, pair=True
            )
    else:
        b.limb([spot(0.5, 0, -0.2), nose], [r * b.u(0.52, 0.68), r * b.u(0.36, 0.52)], muzzle)
        if k.name == "pig":
            b.limb([nose, spot(reach + 0.2, 0, -0.25)], r * 0.38, muzzle, hard=True)
        else:
            tip = spot(reach + 0.4, 0.0, -0.08)
            b.ball((r * 0.15, r * 0.19, r * 0.13), tip, dark, hard=True)
    eye = r * b.u(0.11, 0.18)
    b.ball((eye,) * 3, spot(0.72, 0.5, 0.33), dark, pair=True, hard=True)
    if k.name == "elephant":
        b.ball((r * 0.15, k.ears * 0.5, k.ears * 0.7), spot(-0.3, 1.35, 0.1), coat, pair=True)
    elif k.pointed:
        tip = spot(b.u(-0.5, 0.1), b.u(0.55, 0.9), 0.7 + k.ears / r)
        b.limb([spot(-0.1, 0.5, 0.55), tip], [r * 0.32, r * 0.1], coat, pair=True, columns=8)
    else:
        hangs = k.name in {"dog", "puppy", "cow", "sheep"}
        side, drop = (0.92, b.u(-0.6, 0.5)) if hangs else (0.72, 0.75)
        flap = (r * 0.14, k.ears * 0.45, k.ears * 0.6)
        b.ball(flap, spot(-0.1, side, drop), b.slot(k.furry) if b.chance(0.3) else coat, pair=True)
    if k.name in {"cow", "giraffe"}:
        b.limb(
            [spot(0.0, 0.4, 0.8), spot(0.1, 0.75, 1.5)],
            [r * 0.12, r * 0.05],
            b.slot("plain"),
            pair=True,
        )


def _tail(b: Builder, k: _Beast, at: Triple, coat: int, *, up: bool) -> None:
    x, _, z = at
    thick = k.thick * b.u(0.5, 1.1)
    if k.tail < 0.15:
        b.ball((max(k.tail, 0.05),) * 3, (x - 0.03, 0.0, z), coat)
        return
    rise = b.u(0.1, 0.9) if up else -b.u(0.5, 0.9)
    sway = b.u(-0.3, 0.3)
    middle = (x - k.tail * 0.5, sway * k.tail * 0.4, z + k.tail * rise * 0.4)
    tip = (x - k.tail * b.u(0.4, 0.8), sway * k.tail, z + k.tail * rise)
    b.limb([(x + 0.05, 0.0, z), middle, tip], [thick, thick * 0.9, thick * 0.6], coat, columns=8)


def _coat(b: Builder, k: _Beast) -> int:
    return b.slot(k.furry, k.furry, "fur", "plain", "cloth", "glaze", "wood")


def quadruped(rng: np.random.Generator) -> Shape:
    """A dog, cat, horse, cow, elephant, giraffe and so on, standing."""
    b = Builder(rng, soft=rng.random() < SOFT)
    k = _varied(b, _BEASTS[b.count(0, len(_BEASTS) - 1)])
    coat = _coat(b, k)
    legs = b.slot(k.furry, "plain") if k.name == "sheep" or b.chance(0.15) else coat
    z = k.leg + k.deep * 0.75
    b.ball((0.52, k.wide, k.deep), (0.0, 0.0, z), coat, pitch=b.u(-0.05, 0.12))
    b.ball((k.deep * 1.02, k.wide * 1.04, k.deep * 1.05), (0.26, 0.0, z), coat)
    b.ball((k.deep * 0.98, k.wide * 1.02, k.deep * 1.0), (-0.27, 0.0, z), coat)
    foot = k.thick * b.u(1.0, 1.4)
    shoe = b.slot("plain", "leather") if b.chance(0.3) else legs
    for x in (0.33, -0.36):
        for side in (1.0, -1.0):
            y, step = side * k.wide * 0.6, b.u(-0.08, 0.08) * k.leg * 2
            knee = (x + step * 0.4 + (0.02 if x > 0 else -0.04), y, k.leg * 0.5)
            end = (x + step, y, k.thick * 0.6)
            radii = [k.thick * 1.5, k.thick, k.thick * 0.75]
            b.limb([(x, y, z - 0.2 * k.deep), knee, end], radii, legs, columns=8)
            b.ball(
                (foot * 1.2, foot, k.thick * 0.6), (end[0] + 0.3 * foot, y, k.thick * 0.55), shoe
            )
    c, s = np.cos(k.lean), np.sin(k.lean)
    chest = (0.36, 0.0, z + k.deep * 0.35)
    reach = k.neck + k.head * 0.7
    head = (chest[0] + reach * c, b.u(-0.02, 0.02), chest[2] + reach * s)
    b.limb([chest, head], [k.deep * 0.7, k.head * 0.65], coat)
    _beast_head(b, k, head, coat, b.u(-0.45, 0.05) if k.neck > 0.18 else b.u(-0.2, 0.1))
    _tail(b, k, (-0.5, 0.0, z + k.deep * 0.3), coat, up=k.name in {"dog", "puppy", "cat", "mouse"})
    if k.name == "horse":
        back = (head[0] - 0.12, 0.0, head[2] + 0.08)
        b.limb([(0.25, 0.0, z + k.deep), back], [0.05, 0.06], b.slot("fur", "plain"))
    return b.shape()


def sitting_beast(rng: np.random.Generator) -> Shape:
    """A cat, dog, rabbit or bear sitting upright on its haunches."""
    b = Builder(rng, soft=rng.random() < SOFT)
    k = _varied(b, _BEASTS[int(rng.choice([0, 1, 2, 2, 7, 10, 11]))])
    coat = _coat(b, k)
    wide, r = k.wide * b.u(1.0, 1.3), k.thick
    lean, long = b.u(0.9, 1.25), b.u(0.3, 0.42)
    c, s = np.cos(lean), np.sin(lean)
    hip = (0.0, 0.0, k.deep * 0.95)
    chest = (c * long, 0.0, hip[2] + s * long)
    b.ball((k.deep * 1.05, wide * 1.1, k.deep), hip, coat)
    b.limb([hip, chest], [k.deep * 0.95, k.deep * 0.75], coat, columns=16)
    head = (
        chest[0] + 0.05 + k.neck * 0.3,
        b.u(-0.02, 0.02),
        chest[2] + k.deep * 0.5 + k.head * 0.75,
    )
    b.limb([chest, head], [k.deep * 0.65, k.head * 0.6], coat)
    _beast_head(b, k, head, coat, b.u(-0.2, 0.15))
    paw = b.slot(k.furry) if b.chance(0.3) else coat
    for side in (1.0, -1.0):
        y = side * wide * 0.45
        toe = (chest[0] + b.u(0.03, 0.12), y, r * 0.6)
        b.limb([(chest[0], y, chest[2] - 0.05), toe], [r * 1.3, r * 0.85], coat, columns=10)
        b.ball((r * 1.5, r * 1.05, r * 0.75), (toe[0] + r * 0.5, y, r * 0.7), paw)
        b.ball(
            (k.deep * 0.75, wide * 0.45, k.deep * 0.6),
            (0.08, side * wide * 0.85, k.deep * 0.58),
            coat,
        )
        b.ball((r * 2.2, r * 1.1, r * 0.7), (k.deep * 0.9, side * wide * 1.0, r * 0.65), paw)
    _tail(b, k, (-k.deep, 0.0, k.deep * 0.35), coat, up=True)
    return b.shape()


def lying_beast(rng: np.random.Generator) -> Shape:
    """A dog, cat, cow or sheep on its belly, legs folded, head up or on the paws."""
    b = Builder(rng, soft=rng.random() < SOFT)
    k = _varied(b, _BEASTS[int(rng.choice([0, 1, 2, 2, 4, 5]))])
    coat = _coat(b, k)
    z, r = k.deep * 0.85, k.thick
    b.ball((0.52, k.wide * 1.05, k.deep), (0.0, 0.0, z), coat)
    b.ball((k.deep * 1.1, k.wide * 1.2, k.deep), (-0.27, 0.0, z), coat)
    low = b.chance(0.35)
    rise = k.head * (0.0 if low else b.u(0.5, 1.1))
    head = (
        0.5 + k.head * 0.6,
        b.u(-0.03, 0.03),
        max(k.head * 0.95, z * (0.8 if low else 1.4) + rise),
    )
    b.limb([(0.33, 0.0, z * 1.1), head], [k.deep * 0.72, k.head * 0.65], coat)
    _beast_head(b, k, head, coat, b.u(-0.2, 0.1))
    for side in (1.0, -1.0):
        reach = 0.62 + b.u(-0.1, 0.2)
        y = side * k.wide * 0.7
        b.limb([(0.3, y, r * 1.2), (reach, y, r)], [r * 1.3, r], coat, columns=10)
        b.ball(
            (0.2, k.wide * 0.45, k.deep * 0.7), (-0.28, side * k.wide * 0.95, k.deep * 0.65), coat
        )
        b.ball((r * 2.4, r * 1.1, r * 0.8), (-0.06, side * k.wide * 1.15, r * 0.8), coat)
    _tail(b, k, (-0.5, 0.0, k.deep * 0.35), coat, up=False) if k.tail < 0.15 else b.limb(
        [(-0.5, 0, r), (-0.65, 0.2, r * 0.8), (-0.5, 0.4, r * 0.7)], [r, r * 0.8, r * 0.5], coat
    )
    return b.shape()


def teddy(rng: np.random.Generator) -> Shape:
    """A soft toy sitting or standing: round head, ears, belly, short arms and legs."""
    b = Builder(rng, soft=rng.random() < SOFT)
    coat = b.slot("fur", "fur", "cloth", "plain")
    pale = b.slot("fur", "cloth") if b.chance(0.6) else coat
    dark = b.slot("plain")
    belly, r, limb = b.u(0.3, 0.42), b.u(0.26, 0.42), b.u(0.09, 0.15)
    tall = belly * b.u(1.0, 1.35)
    b.ball((belly * 0.85, belly, tall), (0, 0, 0), coat)
    if b.chance(0.4):
        b.ball((belly * 0.3, belly * 0.65, tall * 0.65), (belly * 0.62, 0, -0.02), pale, hard=True)
    z = tall * 0.8 + r * 0.75
    b.ball((r * 0.9, r * b.u(0.95, 1.1), r), (0.02, 0, z), coat)
    b.ball((r * 0.35, r * 0.42, r * 0.33), (r * 0.82, 0, z - r * 0.25), pale)
    b.ball((r * 0.12, r * 0.15, r * 0.1), (r * 1.18, 0, z - r * 0.12), dark, hard=True)
    b.ball(
        (r * b.u(0.09, 0.14),) * 3, (r * 0.83, r * 0.36, z + r * 0.18), dark, pair=True, hard=True
    )
    kind = b.pick("round", "round", "long", "cat")
    if kind == "round":
        b.ball((r * 0.16, r * 0.34, r * 0.34), (0, r * 0.75, z + r * 0.75), coat, pair=True)
        b.ball(
            (r * 0.1, r * 0.22, r * 0.22),
            (r * 0.12, r * 0.75, z + r * 0.75),
            pale,
            pair=True,
            hard=True,
        )
    elif kind == "long":
        long, lean = r * b.u(0.7, 1.2), b.u(-0.1, 0.3)
        b.ball(
            (r * 0.15, r * 0.24, long),
            (0, r * (0.42 + lean), z + r * 0.7 + long * 0.7),
            coat,
            pair=True,
        )
    else:
        b.limb(
            [(0, r * 0.5, z + r * 0.6), (0, r * 0.8, z + r * 1.25)],
            [r * 0.35, r * 0.08],
            coat,
            pair=True,
        )
    for side in (1.0, -1.0):
        hand = (b.u(0.1, 0.4), side * (belly + b.u(0.05, 0.28)), tall * b.u(-0.3, 0.6))
        b.limb([(0.05, side * belly * 0.75, tall * 0.5), hand], [limb, limb * 1.1], coat)
    sits = b.chance(0.65)
    for side in (1.0, -1.0):
        y = side * belly * b.u(0.5, 0.85)
        foot = (
            (belly + b.u(0.15, 0.3), y * 1.25, -tall * 0.68)
            if sits
            else (0.04, y, -tall - b.u(0.1, 0.3))
        )
        b.limb([(0.0, y, -tall * 0.65), foot], [limb * 1.2, limb * 1.2], coat)
        sole = (
            (limb * 0.75, limb * 1.25, limb * 1.5) if sits else (limb * 1.7, limb * 1.2, limb * 0.8)
        )
        b.ball(sole, (foot[0] + limb * 0.5, foot[1], foot[2] + (0.3 * limb if sits else 0)), pale)
    if b.chance(0.3):
        bow, at = b.slot("cloth", "pattern"), (belly * 0.75, 0.0, tall * 0.8)
        b.ball((0.05, 0.13, 0.09), (at[0], 0.13, at[2]), bow, pair=True, hard=True)
        b.ball((0.07,) * 3, at, bow, hard=True)
    return b.shape()


ANIMALS: dict[str, Family] = {
    "quadruped": Family(quadruped, 2.6),
    "sitting beast": Family(sitting_beast, 2.0),
    "lying beast": Family(lying_beast, 1.0),
    "teddy": Family(teddy, 2.2),
}
