"""The light of a scene, as rooms, skies and lamps give it: mostly soft, never a dark side.

It does not know what is lit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.types import FloatArray

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Light:
    """Sky and ground from all sides, and one to three distant lights.

    Attributes:
        numbers: float32 [9 + 7 lights]: linear colours of sky and ground, the number of lights, the
            strength (0..1) and softness (frame widths) of the first one's shadows, and each one's
            direction, colour and wrap (0 hard, .6 as soft as a cloudy window).
        contact: 0..1, how dark it is where the object touches the ground.
    """

    numbers: FloatArray
    contact: float

    @property
    def key(self) -> FloatArray:
        """Towards the first light, float32 [3]."""
        return self.numbers[9:12]


def _direction(azimuth_deg: float, elevation_deg: float) -> Vector:
    a, e = np.deg2rad(azimuth_deg), np.deg2rad(elevation_deg)
    return np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])


def _white(rng: np.random.Generator, spread: float) -> Vector:
    """A white from candle (warm) to shade (cool), of mean 1."""
    warm, green = rng.normal(0, spread), rng.normal(0, spread / 4)
    tint = np.exp([warm, green, -warm])
    return np.asarray(tint / tint.mean())


def draw_light(rng: np.random.Generator, toward_camera: Vector) -> Light:
    """Light as in photos, exposed for them.

    Args:
        toward_camera: unit vector [3] from the object to the camera, whose side is the lit one
            more often than not.
    """
    side = np.rad2deg(np.arctan2(toward_camera[1], toward_camera[0]))
    hard = rng.random() < 0.22
    key_azimuth = side + rng.normal(0, 75)
    key = rng.uniform(0.6, 2.0) if hard else rng.uniform(0.15, 1.3)
    wrap = rng.uniform(0, 0.15) if hard else rng.uniform(0.25, 0.7)
    tint = _white(rng, 0.06)
    sky = tint * _white(rng, 0.05)
    ground = sky * rng.uniform(0.3, 0.9) * _white(rng, 0.08)
    lights = [(_direction(key_azimuth, rng.uniform(10, 80)), key * tint * _white(rng, 0.06), wrap)]
    if rng.random() < 0.5:  # a fill from the other side
        way = _direction(key_azimuth + rng.uniform(90, 200), rng.uniform(5, 60))
        lights.append((way, key * rng.uniform(0.15, 0.6) * tint * _white(rng, 0.08), 0.5))
    if rng.random() < 0.25:  # from behind
        way = _direction(side + 180 + rng.normal(0, 40), rng.uniform(10, 60))
        lights.append((way, rng.uniform(0.2, 0.8) * tint * _white(rng, 0.08), 0.2))

    # Exposure: what faces the camera, the ceiling and the sides is bright enough on the whole.
    left = np.array([-toward_camera[1], toward_camera[0], 0.0])
    normals = np.stack([toward_camera, toward_camera, [0, 0, 1], left, -left])
    high = 0.5 + 0.5 * normals[:, 2:]
    arriving = high * sky + (1 - high) * ground
    for way, color, soft in lights:
        arriving = arriving + np.maximum((normals @ way + soft) / (1 + soft), 0)[:, None] * color
    gain = rng.uniform(0.7, 1.25) / float(arriving.mean())
    rows = [np.concatenate([way, gain * color, [soft]]) for way, color, soft in lights]
    # As deep as the light is hard; a large window's shadow is wide and faint.
    shadow = (rng.uniform(0.6, 1), rng.uniform(0, 0.03)) if hard else (0.8, rng.uniform(0.03, 0.09))
    numbers = np.concatenate([gain * sky, gain * ground, [len(lights), *shadow], *rows])
    return Light(numbers.astype(np.float32), float(rng.uniform(0, 0.6)))
