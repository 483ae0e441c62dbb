"""Families of flowers in vases and of mushrooms.

It does not know how petals, leaves or glass are painted.
"""

from __future__ import annotations

import numpy as np

from training.prior.families.builder import Builder, triple
from training.prior.families.family import Family
from training.prior.families.foliage import leaves
from training.prior.solids import Points, Shape, Solid


def _blossom(b: Builder, kind: str, r: float) -> Solid:
    """A flower that looks up from the origin; slot 0 petals, 1 middle."""
    part = Builder(b.rng)
    petal, eye = part.slot("plain"), part.slot("plain")
    if kind == "daisy":
        n = b.count(8, 14)
        turn = np.arange(n) * 2 * np.pi / n
        one = np.ones(n)
        part.add(
            leaves(
                np.zeros((n, 3)),
                turn,
                r * one,
                0.25 * one,
                0.4 * one,
                2.2 * r / n * one,
                blunt=1.2,
                rows=6,
            ),
            petal,
        )
        part.ball((r * 0.35, r * 0.35, r * 0.2), (0, 0, 0), eye)
    elif kind == "tulip":
        rings = [
            (0, 0),
            (r * 0.5, r * 0.1),
            (r * 0.7, r * 0.6),
            (r * 0.6, r * 1.2),
            (r * 0.45, r * 1.4),
        ]
        part.turned([*rings, (0, r * 0.5)], petal, columns=18)
    else:
        for k in range(3):
            n, size = 6, r * (1 - 0.25 * k)
            turn = np.arange(n) * 2 * np.pi / n + k * 0.5
            one = np.ones(n)
            part.add(leaves(np.zeros((n, 3)), turn, size * one, (0.5 + 0.35 * k) * one, -0.4 * one,
                            size * 0.42 * one, blunt=1.3, fold=0.6, rows=6), petal)  # fmt: skip
        part.ball((r * 0.3, r * 0.3, r * 0.35), (0, 0, r * 0.3), petal)
    return part.shape().solid


def _tilted(way: Points) -> Points:
    """The rotation that maps +z to `way`."""
    x = np.cross([0.0, 1.0, 0.0], way)
    x /= np.linalg.norm(x) + 1e-9
    return np.stack([x, np.cross(way, x), way], 1)


def vase_of_flowers(rng: np.random.Generator) -> Shape:
    """A vase with one to nine flowers and some leaves."""
    b = Builder(rng)
    glass, green = b.slot("glaze", "plain", "pattern", "metal"), b.slot("leaf")
    petals, eye = b.slot("plain", "plain", "cloth"), b.slot("plain", "food")
    t = np.linspace(0, 1, 16)
    r, high = b.u(0.1, 0.22), b.u(0.35, 0.65)
    wave = r * (1 + 0.45 * np.cos(t * b.u(2.0, 6.5) + b.u(0, 6)))
    wave = np.clip(wave, 0.05, None)
    mouth = float(wave[-1])
    rings = [(0, 0), *zip(wave.tolist(), (t * high).tolist(), strict=True)]
    b.turned([*rings, (mouth * 0.85, high), (mouth * 0.8, high * 0.8), (0, high * 0.78)], glass)
    kind, n = b.pick("daisy", "tulip", "rose", "rose"), int(rng.choice([1, 3, 5, 7, 9]))
    size, tall, spread = b.u(0.08, 0.15), b.u(0.3, 0.7), b.u(0.15, 0.45) * (n > 1)
    flower = _blossom(b, kind, size)
    for k in range(n):
        a, out = k * 2.4 + b.u(-0.3, 0.3), spread * np.sqrt(k / n) + b.u(0, 0.04)
        end = np.array(
            [out * np.cos(a), out * np.sin(a), high + tall * b.u(0.8, 1.1) * (1 - 0.4 * (k / n))]
        )
        start = np.array([end[0] * 0.1, end[1] * 0.1, high * 0.75])
        bend = np.array([end[0] * 0.35, end[1] * 0.35, high + 0.05])
        b.limb([triple(q) for q in (start, bend, end)], 0.01, green, columns=6)
        way = (end - bend) / np.linalg.norm(end - bend)
        b.add(flower.rotated(_tilted(way)).shifted(*end), [petals, eye])
    m = b.count(0, 10)
    if m:
        turn, root = rng.uniform(0, 6.3, m), np.tile([0.0, 0.0, high * 0.9], (m, 1))
        root[:, 0], root[:, 1] = 0.3 * mouth * np.cos(turn), 0.3 * mouth * np.sin(turn)
        b.add(leaves(root, turn, rng.uniform(0.2, 0.5, m), rng.uniform(0.7, 1.3, m),
                     rng.uniform(0.2, 1.4, m), rng.uniform(0.03, 0.06, m)), green)  # fmt: skip
    return b.shape()


def mushroom(rng: np.random.Generator) -> Shape:
    """One to three mushrooms, some with dots, some on a tuft of earth."""
    b = Builder(rng)
    stem, cap, dots = b.slot("food", "plain"), b.slot("food", "plain", "leather"), b.slot("plain")
    gills = b.slot("food", "plain")
    spotted, count = b.chance(0.45), int(rng.choice([1, 1, 2, 3]))
    dome = b.u(0.35, 1.1)
    for k in range(count):
        s = 1.0 if k == 0 else b.u(0.4, 0.7)
        a = b.u(0, 2 * np.pi)
        x, y = (0.0, 0.0) if k == 0 else (0.32 * np.cos(a), 0.32 * np.sin(a))
        r, thick, tall = s * b.u(0.28, 0.45), s * b.u(0.07, 0.15), s * b.u(0.35, 0.75)
        foot = thick * b.u(1.0, 1.7)
        b.turned(
            [
                (0, 0),
                (foot, 0),
                (foot, 0.04),
                (thick, tall * 0.4),
                (thick * 0.9, tall * 1.05),
                (0, tall * 1.05),
            ],
            stem,
            (x, y, 0),
        )
        u = np.linspace(0, np.pi / 2, 9)
        top = [(r * float(np.cos(q)), tall + r * dome * float(np.sin(q))) for q in u]
        b.turned([(thick * 0.5, tall + 0.03), (r * 0.92, tall - 0.03 * s)], gills, (x, y, 0))
        b.turned([(r * 0.92, tall - 0.03 * s), *top[:-1], (0.0, top[-1][1])], cap, (x, y, 0))
        for _ in range(b.count(6, 12) if spotted else 0):
            up, way = b.u(0.15, 1.4), b.u(0, 2 * np.pi)
            c, size = r * np.cos(up), r * b.u(0.07, 0.14)
            spot = (x + c * np.cos(way), y + c * np.sin(way), tall + r * dome * np.sin(up))
            b.ball((size, size, size * 0.6), spot, dots, small=True)
    if count > 1 or b.chance(0.3):
        b.ball((0.5, 0.5, 0.08), (0, 0, 0), b.slot("soil", "leaf", "wood"))
    return b.shape()


BLOSSOMS: dict[str, Family] = {
    "vase of flowers": Family(vase_of_flowers, 1.6),
    "mushroom": Family(mushroom, 0.8),
}
