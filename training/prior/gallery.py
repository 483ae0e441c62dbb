"""Pages of samples to look at: photo, front, back, colours of the back, inflated outline.

It does not know how they are made: `python -m training.prior.gallery OUT.png --count 200`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.types import UInt8Array
from training.prior.scene import Half, Sample, make_scene, take

#: Samples on a page, across and down, and the side of their pictures.
ACROSS, DOWN = 4, 10
TILE = 112


def _on_checks(rgba: UInt8Array) -> UInt8Array:
    y, x = np.mgrid[0:TILE, 0:TILE] // 8
    ground = np.where((x + y) % 2, 150.0, 110.0)[..., None]
    alpha = rgba[..., 3:] / 255.0
    return np.round(rgba[..., :3] * alpha + ground * (1 - alpha)).astype(np.uint8)


def _depth(plane: Half, hit: UInt8Array) -> UInt8Array:
    """Near is bright; .6 frame widths each way from the middle span the range."""
    shade = np.where(hit > 0, 255 * np.clip(0.5 - 0.8 * plane.astype(np.float32), 0.05, 1), 0)
    return _large(np.repeat(shade.astype(np.uint8)[..., None], 3, -1))


def _large(picture: UInt8Array) -> UInt8Array:
    return np.asarray(cv2.resize(picture, (TILE, TILE), interpolation=cv2.INTER_NEAREST))


def tile(sample: Sample) -> UInt8Array:
    """One sample's pictures side by side under its name, uint8 [TILE + 12, 5 TILE, 3]."""
    pictures = [
        _on_checks(sample.rgba),
        _depth(sample.front, sample.hit),
        _depth(sample.back, sample.hit),
        _large(sample.back_color),
        _depth(-sample.inflated, np.where(sample.inflated > 0, 255, 0).astype(np.uint8)),
    ]
    row = np.concatenate(pictures, 1)
    image = Image.new("RGB", (row.shape[1], TILE + 12), (255, 255, 255))
    image.paste(Image.fromarray(row), (0, 12))
    text = f"{sample.family}   {sample.elevation_deg:.0f} deg   F {sample.focal:.2f}"
    font = ImageFont.load_default(size=10)
    ImageDraw.Draw(image).text((2, 0), text, fill=(0, 0, 0), font=font)
    return np.asarray(image)


def page(samples: list[Sample]) -> UInt8Array:
    """Up to ACROSS x DOWN samples, row by row."""
    tiles = [tile(sample) for sample in samples]
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % ACROSS)
    rows = [np.concatenate(tiles[i : i + ACROSS], 1) for i in range(0, len(tiles), ACROSS)]
    return np.concatenate(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Pages of samples of made objects.")
    parser.add_argument("out", type=Path, help="OUT.png becomes OUT-1.png, OUT-2.png, ...")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the first; the next ones count up")
    wanted = parser.parse_args()
    size = ACROSS * DOWN
    for number, start in enumerate(range(0, wanted.count, size), 1):
        seeds = range(wanted.seed + start, wanted.seed + min(start + size, wanted.count))
        picture = page([take(make_scene(seed)) for seed in seeds])
        Image.fromarray(picture).save(wanted.out.with_stem(f"{wanted.out.stem}-{number}"))


if __name__ == "__main__":
    main()
