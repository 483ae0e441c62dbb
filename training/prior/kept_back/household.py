"""Recipes of kept-back objects: kitchen, table and desk. They do not know who looks at them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from training.prior.kept_back import paints
from training.prior.kept_back.assembly import Assembly, Builder, arc, block, laid, pillow, rod
from training.prior.kept_back.paints import Rng, any_tone, tone
from training.prior.primitives import ellipsoid, lathe, smooth_path, superquadric, tube
from training.prior.solids import Solid, axis_rotation

WHITE = (0.93, 0.92, 0.89)
BLACK = (0.09, 0.09, 0.1)
STEEL = (0.66, 0.67, 0.69)


def teapot(rng: Rng) -> Assembly:
    made = Builder()
    color = any_tone(rng)
    glaze = paints.dots(rng, color, WHITE, 8) if rng.random() < 0.4 else paints.glazed(rng, color)
    knob = paints.glazed(rng, any_tone(rng, (0.2, 0.8)))
    r, h = rng.uniform(0.42, 0.5), rng.uniform(0.62, 0.85)
    side = smooth_path([(0.55 * r, 0), (r, 0.4 * h), (0.85 * r, 0.75 * h), (0.42 * r, h)], 18)
    made.add(lathe(np.concatenate([[(0, 0)], side, [(0, h)]]), 48, repeat=2), glaze)
    lid = [(0.46 * r, h), (0.4 * r, h + 0.05), (0.12 * r, h + 0.11), (0, h + 0.11)]
    made.add(lathe(lid, 40), glaze)
    made.add(ellipsoid((0.075, 0.075, 0.075), (0, 0, h + 0.16)), knob)
    up = rng.uniform(0.85, 1.0) * h
    spout = smooth_path([(0.75 * r, 0, 0.3 * h), (1.3 * r, 0, 0.45 * h), (1.7 * r, 0, up)], 14)
    made.add(tube(spout, np.linspace(0.15, 0.055, 14), closed_ends=False), glaze)
    handle = arc((-0.78 * r, 0, 0.52 * h), (0.72 * r, 0.36 * h), (75, 285))
    made.add(rod(handle, 0.045), glaze if rng.random() < 0.7 else knob)
    return made.done(axis_rotation(2, np.pi / 2))


def watering_can(rng: Rng) -> Assembly:
    made = Builder()
    color = any_tone(rng, (0.4, 0.8))
    tin = paints.metal(rng) if rng.random() < 0.3 else paints.plain(rng, color, 0.3)
    dark = paints.plain(rng, any_tone(rng, (0.2, 0.5)), 0.2)
    r, h = rng.uniform(0.3, 0.4), rng.uniform(0.5, 0.72)
    wall = [(0, 0), (r, 0), (r, 0.04), (0.93 * r, h), (0.97 * r, h), (0.97 * r, h + 0.03)]
    inside = [(0.88 * r, h + 0.03), (0.86 * r, 0.5 * h), (0, 0.5 * h)]
    made.add(lathe(wall + inside, 44), tin, dark)
    reach, top = rng.uniform(0.95, 1.15), h + rng.uniform(0.0, 0.2)
    tip = np.array([r + reach - 0.3, 0, top])
    spout = np.stack([np.array([0.8 * r, 0, 0.18 * h]), tip])
    made.add(tube(spout, [0.085, 0.045], closed_ends=False), tin)
    along = (spout[1] - spout[0]) / np.linalg.norm(spout[1] - spout[0])
    made.add(tube(np.stack([tip, tip + 0.13 * along]), [0.045, 0.13], columns=20), dark)
    made.add(rod(arc((-0.3 * r, 0, 0.72 * h), (1.25 * r, 0.62 * h), (35, 235), 24), 0.035), tin)
    return made.done(axis_rotation(2, np.pi / 2))


def mug(rng: Rng) -> Assembly:
    """With a handle that has corners."""
    made = Builder()
    color, ink = any_tone(rng), any_tone(rng, (0.2, 0.95))
    outside = (
        paints.band(rng, color, ink, 0.55, 0.8, 0.4)
        if rng.random() < 0.6
        else paints.stripes(rng, color, ink, 5, axis=1)
    )
    inner = paints.glazed(rng, WHITE if rng.random() < 0.6 else ink)
    drink = paints.glazed(rng, tone(0.07, 0.7, rng.uniform(0.15, 0.4)))
    r, h, w = rng.uniform(0.3, 0.4), rng.uniform(0.7, 0.95), 0.035
    slope = rng.uniform(0.82, 1.0)
    made.add(lathe([(0, 0), (slope * r, 0), (r, h)], 44, repeat=2), outside)
    made.add(lathe([(r, h), (r - w, h), (slope * r - w, 0.1), (0, 0.1)], 44), inner, inner)
    level = rng.uniform(0.6, 0.85)
    made.add(lathe([(r - w, level * h), (0, level * h)], 40), drink)
    out, low, high = r + rng.uniform(0.2, 0.28), 0.2 * h, 0.82 * h
    bent = [(0.9 * r, 0, high), (out, 0, high), (out, 0, low + 0.06), (0.9 * r, 0, low)]
    corners = np.concatenate([np.linspace(a, b, 4) for a, b in pairwise(bent)])
    made.add(rod(corners[[0, 1, 2, 3, 5, 6, 7, 9, 10, 11]], 0.05), outside)
    return made.done(axis_rotation(2, np.pi / 2))


def desk_lamp(rng: Rng) -> Assembly:
    made = Builder()
    enamel = paints.plain(rng, any_tone(rng, (0.25, 0.85)), 0.35)
    steel = paints.metal(rng)
    glow = paints.plain(rng, (0.98, 0.94, 0.8), 0.0)
    made.add(lathe([(0, 0), (0.3, 0), (0.3, 0.04), (0.24, 0.07), (0, 0.07)], 40), enamel)
    elbow = np.array([-rng.uniform(0.25, 0.4), 0, rng.uniform(0.6, 0.75)])
    head = elbow + np.array([rng.uniform(0.45, 0.6), 0, rng.uniform(0.25, 0.4)])
    made.add(rod(np.stack([np.array([0, 0, 0.05]), elbow]), 0.028), steel)
    made.add(rod(np.stack([elbow, head]), 0.028), steel)
    made.add(ellipsoid((0.05, 0.05, 0.05), elbow), enamel)
    shade = [(0.05, 0.12), (0.09, 0.1), (0.24, -0.14), (0.225, -0.14), (0.08, 0.07), (0, 0.07)]
    tilt = axis_rotation(1, -rng.uniform(0.3, 0.7))
    made.add(lathe([(0, 0.12), *shade], 40).rotated(tilt).shifted(*head), enamel)
    bulb = ellipsoid((0.08, 0.08, 0.09), (0, 0, -0.05)).rotated(tilt).shifted(*head)
    made.add(bulb, glow)
    return made.done(axis_rotation(2, np.pi / 2 * rng.choice([-1, 1])))


def cup_on_saucer(rng: Rng) -> Assembly:
    """With a spoon beside the cup."""
    made = Builder()
    color = WHITE if rng.random() < 0.5 else any_tone(rng, (0.5, 0.95))
    glaze, steel = paints.glazed(rng, color), paints.metal(rng)
    rim = paints.glazed(rng, any_tone(rng, (0.3, 0.8)))
    coffee = paints.glazed(rng, tone(0.07, 0.75, rng.uniform(0.15, 0.45)))
    plate = [(0, 0), (0.25, 0), (0.45, 0.05), (0.55, 0.1), (0.54, 0.115), (0.43, 0.07), (0, 0.04)]
    made.add(lathe(plate, 52), glaze)
    made.add(tube(_ring(0.545, 0.108), 0.012, columns=8), rim)
    r, h = rng.uniform(0.28, 0.34), rng.uniform(0.32, 0.45)
    side = smooth_path([(0.5 * r, 0.05), (0.85 * r, 0.15), (r, 0.05 + h)], 12)
    inside = np.stack([side[::-1, 0] - 0.02, side[::-1, 1] + 0.01], -1)
    made.add(lathe(np.concatenate([[(0, 0.05)], side, inside]), 48), glaze)
    made.add(lathe([(0.93 * r, 0.78 * h + 0.05), (0, 0.78 * h + 0.05)], 40), coffee)
    handle = arc((0.9 * r, 0, 0.05 + 0.58 * h), (0.55 * r, 0.3 * h), (-100, 100))
    made.add(rod(handle, 0.028).turned(2, rng.uniform(-0.5, 0.8)), glaze)
    spoon = Builder()
    spoon.add(ellipsoid((0.1, 0.062, 0.02), (0.34, 0, 0.012)), steel)
    spoon.add(
        rod([(0.25, 0, 0.012), (0.0, 0, 0.02), (-0.3, 0, 0.035)], [0.012, 0.013, 0.022]), steel
    )
    lying = spoon.done().solid.turned(2, rng.uniform(-0.3, 0.3)).shifted(0, -0.44, 0.105)
    made.add(lying.turned(2, rng.uniform(0.6, 1.6)), steel)
    return made.done(axis_rotation(2, rng.uniform(0.8, 2.2)))


def books(rng: Rng) -> Assembly:
    """A pile, each turned a little."""
    made = Builder()
    z = 0.0
    words = ["ATLAS", "Gardens", "RIVER", "Salt", "HISTORY", "Poems", "North", "COOKING"]
    for _ in range(int(rng.integers(3, 6))):
        w, d, t = rng.uniform(0.75, 1.0), rng.uniform(0.55, 0.72), rng.uniform(0.08, 0.19)
        cover, ink = any_tone(rng, (0.25, 0.85)), any_tone(rng, (0.75, 1.0))
        front = paints.printed(rng, cover, ink, str(rng.choice(words)))
        spine = paints.printed(rng, cover, ink, str(rng.choice(words)))
        edges, c = paints.pages(rng), 0.014
        shift = (rng.uniform(-0.04, 0.04), rng.uniform(-0.05, 0.05), z)
        parts = [
            (block((d, w, c), (0, 0, c / 2)), (front,)),
            (block((d, w, c), (0, 0, t - c / 2)), (front,)),
            (block((c, w, t), (d / 2, 0, t / 2)), (spine,)),
            (block((d - 0.03, w - 0.05, t - 2 * c), (0, 0, t / 2)), (edges,)),
        ]
        turn = rng.normal(0, 0.14)
        for solid, coat in parts:
            made.add(solid.turned(2, turn).shifted(*shift), *coat)
        z += t
    return made.done(axis_rotation(2, rng.normal(0, 0.3)))


def cake(rng: Rng) -> Assembly:
    """On a plate, with candles."""
    made = Builder()
    icing = paints.plain(rng, tone(rng.random(), rng.uniform(0.1, 0.5), 0.95), 0.15, 0.04)
    crumb = paints.stripes(rng, tone(0.08, 0.5, 0.8), tone(0.05, 0.6, 0.45), 4)
    plate = paints.glazed(rng, WHITE)
    r, h = rng.uniform(0.4, 0.46), rng.uniform(0.28, 0.42)
    made.add(lathe([(0, 0), (0.3, 0), (0.58, 0.04), (0.58, 0.055), (0, 0.03)], 48), plate)
    made.add(lathe([(0, 0.03), (r, 0.03), (r, h), (0, h)], 48, repeat=3), crumb)
    over = [(r, 0.62 * h), (r + 0.03, 0.64 * h), (r + 0.03, h), (r - 0.02, h + 0.05), (0, h + 0.05)]
    made.add(lathe(over, 48), icing)
    count = int(rng.integers(5, 9))
    flame = paints.plain(rng, (1.0, 0.8, 0.3), 0.0)
    cherry = paints.glazed(rng, tone(rng.uniform(-0.03, 0.03), 0.85, 0.75))
    for angle in np.linspace(0, 2 * np.pi, count, endpoint=False) + rng.uniform(0, 1):
        x, y = 0.68 * r * np.cos(angle), 0.68 * r * np.sin(angle)
        wax = paints.stripes(rng, WHITE, any_tone(rng), 6)
        made.add(lathe([(0.022, h), (0.022, h + 0.26), (0, h + 0.26)], 12).shifted(x, y), wax)
        made.add(ellipsoid((0.018, 0.018, 0.042), (x, y, h + 0.31), rows=8, columns=10), flame)
        beside = angle + np.pi / count
        place = (0.85 * r * np.cos(beside), 0.85 * r * np.sin(beside), h + 0.08)
        made.add(ellipsoid((0.05, 0.05, 0.05), place, rows=10, columns=14), cherry)
    return made.done()


def toaster(rng: Rng) -> Assembly:
    made = Builder()
    shell = paints.metal(rng) if rng.random() < 0.5 else paints.glazed(rng, any_tone(rng))
    dark = paints.plain(rng, BLACK, 0.2)
    bread = paints.plain(rng, tone(0.09, 0.55, 0.75), 0.0, 0.12)
    w, d, h = rng.uniform(0.85, 1.0), rng.uniform(0.45, 0.55), rng.uniform(0.55, 0.65)
    made.add(pillow((d, w, h), (0, 0, 0.06 + h / 2), 0.14), shell)
    made.add(block((0.92 * d, 0.94 * w, 0.08), (0, 0, 0.04)), dark)
    for x in (-0.22 * d, 0.22 * d):
        made.add(block((0.15 * d, 0.72 * w, 0.02), (x, 0, 0.06 + h)), dark)
        if rng.random() < 0.75:
            slice_ = superquadric(0.3, 0.5).scaled(0.11 * d, 0.6 * w, 0.4)
            made.add(slice_.shifted(x, 0, h + rng.uniform(-0.02, 0.1)), bread)
    made.add(block((0.14, 0.07, 0.05), (0, w / 2 + 0.02, 0.06 + 0.72 * h)), dark)
    made.add(_knob(0.06, 0.05).shifted(0.28 * d, w / 2, 0.06 + 0.3 * h), dark)
    return made.done(axis_rotation(2, rng.choice([-1, 1]) * rng.uniform(0.0, 0.5)))


def dice(rng: Rng) -> Assembly:
    """One die, or one upon another."""
    made = Builder()
    color = any_tone(rng, (0.5, 0.95))
    ink = WHITE if sum(color) < 1.6 else BLACK
    faces = [paints.pips(color, ink, count) for count in (1, 6, 2, 5, 3, 4)]
    made.add(pillow((1, 1, 1), (0, 0, 0.5), 0.1).turned(2, rng.uniform(-0.7, 0.7)), *faces)
    if rng.random() < 0.5:
        turned = pillow((1, 1, 1), (0, 0, 1.5), 0.1).turned(2, rng.uniform(-0.7, 0.7))
        made.add(turned, *faces[::-1])
    return made.done()


def egg_cup(rng: Rng) -> Assembly:
    """With the egg in it."""
    made = Builder()
    glaze = paints.stripes(rng, any_tone(rng), WHITE, int(rng.integers(3, 6)))
    shell = paints.plain(rng, tone(0.07, rng.uniform(0.05, 0.4), 0.9), 0.1, 0.03)
    waist, r = rng.uniform(0.07, 0.14), rng.uniform(0.22, 0.27)
    foot = smooth_path([(0.22, 0.02), (waist, 0.12), (waist, 0.2), (r, 0.4), (r, 0.52)], 18)
    inner = [(r - 0.03, 0.52), (r - 0.05, 0.4), (0, 0.3)]
    made.add(lathe(np.concatenate([[(0, 0), (0.22, 0)], foot, inner]), 44), glaze)
    turn = np.linspace(-np.pi / 2, np.pi / 2, 18)
    egg = np.stack([0.225 * np.cos(turn) * (1 - 0.14 * np.sin(turn)), 0.6 + 0.3 * np.sin(turn)], -1)
    made.add(lathe(egg, 40), shell)
    return made.done()


def camera(rng: Rng) -> Assembly:
    made = Builder()
    body = paints.leather(rng, BLACK if rng.random() < 0.6 else any_tone(rng, (0.2, 0.5)))
    top = paints.metal(rng) if rng.random() < 0.6 else paints.plain(rng, (0.16, 0.16, 0.17), 0.3)
    black = paints.plain(rng, BLACK, 0.4)
    glass = paints.glazed(rng, tone(rng.uniform(0.55, 0.8), 0.6, 0.35))
    w, h, d = rng.uniform(0.95, 1.1), rng.uniform(0.55, 0.65), rng.uniform(0.28, 0.36)
    made.add(pillow((d, w, 0.75 * h), (0, 0, 0.375 * h), 0.06), body)
    made.add(pillow((d, w, 0.3 * h), (0, 0, 0.86 * h), 0.05), top)
    made.add(pillow((0.8 * d, 0.3 * w, 0.25 * h), (0, 0, 1.08 * h), 0.04), top)
    r, reach = rng.uniform(0.2, 0.25), rng.uniform(0.22, 0.45)
    barrel = [(0, 0), (r, 0), (r, 0.6 * reach), (0.9 * r, 0.62 * reach), (0.9 * r, reach)]
    front = [(0.72 * r, reach), (0.6 * r, 0.85 * reach)]
    lens = lathe(barrel + front, 40).turned(1, np.pi / 2).shifted(d / 2, 0, 0.45 * h)
    made.add(lens, black)
    made.add(ellipsoid((0.03, 0.66 * r, 0.66 * r), (d / 2 + 0.83 * reach, 0, 0.45 * h)), glass)
    for y, size in ((-0.36, 0.075), (0.36, 0.055)):
        button = lathe([(size, 0), (size, 0.07), (0, 0.07)], 24)
        made.add(button.shifted(0, y * w, h), top)
    made.add(block((0.02, 0.12, 0.07), (d / 2, 0.32 * w, 0.86 * h)), glass)
    return made.done(axis_rotation(2, rng.uniform(-0.5, 0.5)))


def hammer(rng: Rng) -> Assembly:
    """Lying on its side."""
    made = Builder()
    shaft = paints.wood(rng) if rng.random() < 0.6 else paints.plain(rng, any_tone(rng), 0.1)
    grip = paints.plain(rng, any_tone(rng, (0.15, 0.8)), 0.1)
    iron = paints.metal(rng, (0.38, 0.39, 0.41))
    length = rng.uniform(0.95, 1.15)
    line = [(0, -0.5 * length, 0.07), (0, 0, 0.075), (0, 0.5 * length, 0.09)]
    made.add(tube(line, [0.05, 0.036, 0.04], columns=18), shaft)
    made.add(rod([(0, -0.52 * length, 0.07), (0, -0.2 * length, 0.072)], 0.06), grip)
    at = 0.47 * length
    made.add(block((0.26, 0.13, 0.12), (0, at, 0.09)), iron)
    face = lathe([(0, 0), (0.055, 0), (0.055, 0.08), (0.085, 0.1), (0.085, 0.2), (0, 0.2)], 28)
    made.add(face.turned(1, np.pi / 2).shifted(0.12, at, 0.09), iron)
    claw = smooth_path([(-0.1, 0.0), (-0.26, -0.03), (-0.42, -0.13)], 10)
    width = np.linspace(0.06, 0.008, 10)[:, None] * [0, 1]
    made.add(
        laid(np.concatenate([claw + width, (claw - width)[::-1]]), 0.1).shifted(0, at, 0.09), iron
    )
    return made.done(axis_rotation(2, rng.uniform(-0.6, 0.6)))


def _ring(radius: float, z: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    angle = np.linspace(0, 2 * np.pi, 49)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), np.full(49, z)], -1)


def _knob(radius: float, height: float) -> Solid:
    """A disc that looks along +y."""
    return lathe([(radius, 0), (radius, height), (0, height)], 24).turned(0, -np.pi / 2)
