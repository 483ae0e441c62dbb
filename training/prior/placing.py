"""How an object lies, and where the camera stands: it fills its frame as a framed cut-out does.

It does not know colours, families or light.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.prior.solids import Points, axis_rotation

#: Longest side of a framed object, in frame widths (`frame_object`).
FILL = 200 / 256

#: Fields of view of photos from the top to the bottom, and how much of that an object takes.
FIELD_OF_VIEW_DEG = (30.0, 75.0)
SHARE_OF_PHOTO = (0.35, 0.95)
FOCAL_RANGE = (0.7, 5.0)

#: It takes three steps, seldom more than six, to find where an object fills the frame.
FRAMING_STEPS = 30


@dataclass(frozen=True)
class Viewpoint:
    """The photo's camera.

    Attributes:
        rotation: float64 [3, 3], from the world to the camera (x right, y down, z forward).
        eye: float64 [3], in the world.
        focal: focal length in frame widths; the axis goes through the middle of the frame.
        elevation_deg: of the axis above the horizon.
        roll_deg: about the axis.
    """

    rotation: Points
    eye: Points
    focal: float
    elevation_deg: float
    roll_deg: float


def deform(rng: np.random.Generator, v: Points) -> Points:
    """Some objects tapered, twisted, bent, stretched or dented; centred, longest side 1."""
    v = v - (v.max(0) + v.min(0)) / 2
    v = v / max(float(np.ptp(v, axis=0).max()), 1e-9)
    if rng.random() < 0.1:
        factor = 1 + rng.uniform(-0.6, 0.6) * v[:, 2]
        v = v * np.stack([factor, factor, np.ones(len(v))], -1)
    if rng.random() < 0.05:
        angle = rng.uniform(-0.6, 0.6) * v[:, 2]
        c, s = np.cos(angle), np.sin(angle)
        v = np.stack([c * v[:, 0] - s * v[:, 1], s * v[:, 0] + c * v[:, 1], v[:, 2]], -1)
    if rng.random() < 0.07:
        v = v + np.outer(v[:, 2] ** 2, rng.uniform(-0.4, 0.4, 3) * [1, 1, 0])
    if rng.random() < 0.2:
        v = v * np.exp(rng.uniform(-0.25, 0.25, 3))
    if rng.random() < 0.08:
        for _ in range(3):
            wave = np.sin(v @ rng.normal(0, 7, 3) + rng.uniform(0, 6))
            v = v + rng.normal(0, 0.01, 3) * wave[:, None]
    return v


def random_rotation(rng: np.random.Generator) -> Points:
    """Any rotation, all equally likely, float64 [3, 3]."""
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    q = q * np.sign(np.diag(r))
    return np.asarray(q * np.sign(np.linalg.det(q)))


def rest(rng: np.random.Generator, rests: str) -> Points:
    """How it was put down, float64 [3, 3]; `rests` as in `Family`. Its front may be anywhere."""
    turn = np.eye(3)
    kind = rng.random()
    if rests == "flat":
        if kind < 0.5:  # on its back
            turn = axis_rotation(1, -np.pi / 2)
        elif kind < 0.8:  # leaning back
            turn = axis_rotation(1, -np.deg2rad(rng.uniform(0, 30)))
    elif rests == "any":
        turn = axis_rotation(int(rng.integers(0, 2)), rng.integers(0, 4) * np.pi / 2)
    elif kind < 0.06:  # fallen over
        turn = axis_rotation(int(rng.integers(0, 2)), rng.choice([-1, 1]) * np.pi / 2)
    elif kind < 0.14:  # leaning
        turn = axis_rotation(int(rng.integers(0, 2)), rng.normal(0, 0.15))
    if rng.random() < (0.4 if rests == "any" else 0.06):
        turn = random_rotation(rng)
    yaw = rng.uniform(0, 2 * np.pi)
    if rng.random() < 0.45:
        quarter = rng.choice([0, 0, 0, 1, 2, 3])
        yaw = quarter * np.pi / 2 + np.deg2rad(rng.normal(0, 20))
    return np.asarray(axis_rotation(2, yaw) @ turn)


def camera_rotation(elevation_deg: float, roll_deg: float) -> Points:
    """From the world to a camera at azimuth 0 that looks at the origin, float64 [3, 3]."""
    e, r = np.deg2rad(elevation_deg), np.deg2rad(roll_deg)
    forward = np.array([-np.cos(e), 0.0, -np.sin(e)])
    right = np.array([0.0, 1.0, 0.0])
    level = np.stack([right, np.cross(forward, right), forward])
    c, s = np.cos(r), np.sin(r)
    return np.asarray(np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]]) @ level)


def framed(points: Points, focal: float, longest: float, middle: Points) -> Points:
    """Camera points moved and scaled so that they fill the frame, float64 [V, 3].

    The middle of their depths comes to lie at `focal`, where the frame is 1 wide.

    Args:
        points: [V, 3], camera axes, any origin and scale.
        focal: in frame widths.
        longest: longest side of the projected box, in frame widths.
        middle: [2], where the box's middle goes, in frame widths from the frame's.

    Raises:
        ValueError: no place was found.
    """
    low, high = points.min(0), points.max(0)
    p = points - (low + high) / 2
    nearest = float(p[:, 2].min())
    size = max(float((high - low)[:2].max()), 1e-6)
    near = max(focal * size / longest + nearest, 0.3 * size)  # depth of the nearest point
    offset = np.zeros(2)
    both = np.arange(2)
    for _ in range(FRAMING_STEPS):
        depth = p[:, 2] + (near - nearest)
        across = p[:, :2] + offset
        seen = across * (focal / depth)[:, None]
        ends = np.stack([seen.argmin(0), seen.argmax(0)])
        box = seen[ends, both]
        sides = box[1] - box[0]
        wide = int(sides.argmax())
        if abs(sides[wide] / longest - 1) < 2e-4 and np.abs(box.mean(0) - middle).max() < 2e-4:
            return np.asarray(
                (p + np.array([*offset, near - nearest])) * (focal / (near - nearest))
            )
        # Newton's step for the places of the points that make the box: near ones move faster.
        offset = offset - (box.mean(0) - middle) / (focal / depth[ends]).mean(0)
        slopes = box[:, wide] / depth[ends[:, wide]]
        falls = max(float(slopes[1] - slopes[0]) * near / float(sides[wide]), 0.2)
        near *= float(np.clip((sides[wide] / longest) ** (1 / falls), 0.5, 2.0))
    raise ValueError("it does not fit into a frame")


def draw_viewpoint(rng: np.random.Generator, vertices: Points) -> tuple[Points, Viewpoint]:
    """The vertices in a world whose unit is the frame's width, and who looks at them there.

    The origin of that world is where the camera's axis meets the middle of the object's depths.

    Args:
        vertices: [V, 3], z up, any origin and scale; seen from azimuth 0.
    """
    kind = rng.random()
    if kind < 0.12:
        elevation = rng.uniform(-10, 5)
    elif kind < 0.88:
        elevation = rng.uniform(5, 45) if rng.random() < 0.6 else rng.triangular(5, 20, 45)
    else:
        elevation = rng.uniform(45, 60)
    roll = float(np.clip(rng.normal(0, 1.2), -3, 3))
    view, share = rng.uniform(*FIELD_OF_VIEW_DEG), rng.uniform(*SHARE_OF_PHOTO)
    focal = float(np.clip(0.5 / np.tan(np.deg2rad(view) / 2) * FILL / share, *FOCAL_RANGE))
    # Mattes that lost a tip or kept a shadow frame the object a little wrongly.
    longest = FILL * rng.uniform(0.97, 1.03)
    middle = rng.uniform(-0.015, 0.015, 2)
    rotation = camera_rotation(elevation, roll)
    seen = framed(vertices @ rotation.T, focal, longest, middle)
    eye = -rotation.T @ [0.0, 0.0, focal]
    return seen @ rotation + eye, Viewpoint(rotation, eye, focal, float(elevation), roll)
