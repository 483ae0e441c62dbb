"""Plane outlines: area, inset, triangles, corners.

It does not know the third dimension or what is cut out along the outline.
"""

from __future__ import annotations

import numpy as np

from training.prior.solids import Numbers, Points

#: A bend is an edge, not a curve, when the cosine between its two sides is below this.
CREASE = 0.72


def signed_area(ring: Points) -> float:
    """Of an outline [m, 2]; positive when it runs counter-clockwise."""
    x, y = ring.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def inset(ring: Points, width: float) -> Points:
    """The counter-clockwise outline [m, 2] moved inwards, point by point; narrow parts less.

    Width is reduced until the outline keeps its way around everywhere that it matters.
    """
    forward = np.roll(ring, -1, axis=0) - ring
    forward /= np.linalg.norm(forward, axis=1, keepdims=True) + 1e-12
    inwards = np.stack([-forward[:, 1], forward[:, 0]], -1)
    corner = inwards + np.roll(inwards, 1, axis=0)
    # The mitre of a sharp corner is cut to twice the width.
    corner *= 2 / np.maximum((corner**2).sum(1, keepdims=True), 1)
    whole = signed_area(ring)
    border = float(np.linalg.norm(np.roll(ring, -1, axis=0) - ring, axis=1).sum())
    width = min(width, 0.6 * whole / border)
    return ring + width * corner


def filled(ring: Points) -> tuple[Points, Numbers]:
    """Triangles that fill a simple counter-clockwise outline [m, 2].

    Returns:
        points [p, 2], the outline first, and counter-clockwise triangles [t, 3].
    """
    m = len(ring)
    middle = ring.mean(0)
    spokes = ring - middle
    onward = np.roll(spokes, -1, axis=0)
    if (spokes[:, 0] * onward[:, 1] - spokes[:, 1] * onward[:, 0]).min() <= 0:
        return ring, _ears(ring)
    # Seen whole from its middle: rings, which bend with the object as a few long triangles do not.
    shares = (1.0, 0.6, 0.25)
    points = np.concatenate([*(middle + share * spokes for share in shares), middle[None]])
    k = np.arange(m)
    after = (k + 1) % m
    triangles = [np.stack([k + 2 * m, after + 2 * m, np.full(m, 3 * m)], 1)]
    for j in range(2):
        a, b, c, d = k + j * m, after + j * m, after + (j + 1) * m, k + (j + 1) * m
        triangles += [np.stack([a, b, c], 1), np.stack([a, c, d], 1)]
    return points, np.concatenate(triangles)


def corners_twice(ring: Points) -> Numbers:
    """Order of a closed outline's points: its first again at its end, sharp corners twice."""
    back = ring - np.roll(ring, 1, axis=0)
    back /= np.linalg.norm(back, axis=1, keepdims=True) + 1e-12
    sharp = (back * np.roll(back, -1, axis=0)).sum(1) < CREASE
    sharp[0] = False  # it is there twice already
    order = np.repeat(np.arange(len(ring)), np.where(sharp, 2, 1))
    return np.append(order, 0)


def bends_twice(line: Points) -> Numbers:
    """Order of an open line's points with those doubled where it bends sharply."""
    steps = np.diff(line, axis=0)
    steps /= np.linalg.norm(steps, axis=1, keepdims=True) + 1e-12
    sharp = (steps[1:] * steps[:-1]).sum(1) < CREASE
    return np.repeat(np.arange(len(line)), np.r_[1, np.where(sharp, 2, 1), 1])


def _ears(ring: Points) -> Numbers:
    """Ear clipping, in plain numbers: outlines have some ten to hundred points."""
    x, y = ring[:, 0].tolist(), ring[:, 1].tolist()
    left = list(range(len(x)))
    triangles: list[tuple[int, int, int]] = []

    def turn(a: int, b: int, c: int) -> float:
        return float((x[b] - x[a]) * (y[c] - y[a]) - (y[b] - y[a]) * (x[c] - x[a]))

    def is_ear(k: int) -> bool:
        a, b, c = left[k - 1], left[k], left[(k + 1) % len(left)]
        if turn(a, b, c) <= 0:
            return False
        return not any(
            turn(a, b, p) > 0 and turn(b, c, p) > 0 and turn(c, a, p) > 0
            for p in left
            if p not in {a, b, c} and reflex[p]
        )

    count = len(left)
    reflex = [turn(k - 1, k, (k + 1) % count) <= 0 for k in range(count)]
    k, missed = 0, 0
    while len(left) > 3:
        k %= len(left)
        # An outline that crosses itself has no ear at some point: any corner is cut then.
        if missed > len(left) or is_ear(k):
            a, b, c = left[k - 1], left[k], left[(k + 1) % len(left)]
            triangles.append((a, b, c))
            del left[k]
            missed = 0
            for p in (a, c):
                i = left.index(p)
                reflex[p] = turn(left[i - 1], p, left[(i + 1) % len(left)]) <= 0
            k += 1  # around the outline, not a fan from one corner
        else:
            missed += 1
            k += 1
    triangles.append((left[0], left[1], left[2]))
    return np.array(triangles, np.int64)
