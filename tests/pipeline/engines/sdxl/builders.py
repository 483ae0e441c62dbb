"""Renders for the SDXL enhancer on small networks, and the ways to run it."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import torch

from pipeline.control import Control
from pipeline.device import Device, Precision
from pipeline.engines.enhance.sdxl import DEFAULT_PROMPT, SdxlEnhancer, SdxlOptions
from pipeline.requests import EnhanceSettings, Renders
from pipeline.types import FloatArray
from tests.tiny.sdxl import TINY_RESOLUTION

CPU = Device(torch.device("cpu"), Precision.FP32)
GRID = SdxlOptions(resolution=TINY_RESOLUTION)
SINGLE = replace(GRID, grid=False)
CROSS = replace(SINGLE, cross_view=True)
HALF = EnhanceSettings(strength=0.5)
SIZE = 96


def renders(views: int, size: int = SIZE) -> Renders:
    """Discs with soft noise on white, each another one."""
    rng = np.random.default_rng(7)
    alpha = cv2.circle(np.zeros((size, size), np.uint8), (size // 2, size // 2), size // 3, 255, -1)
    images = np.full((views, size, size, 3), 255, np.uint8)
    for image in images:
        paint = cv2.GaussianBlur(rng.normal(120.0, 300.0, (size, size, 3)), (0, 0), 3.0)
        image[alpha > 0] = np.clip(paint, 0.0, 255.0)[alpha > 0].astype(np.uint8)
    depth = np.where(alpha > 0, 1.5 + 0.01 * np.arange(size), 0.0).astype(np.float32)
    given = Renders(images, np.stack([alpha] * views), np.stack([depth] * views))
    for array in (given.images, given.alphas, given.depth):
        assert array is not None
        # As Ray hands them over.
        array.setflags(write=False)
    return given


def draw(engine: SdxlEnhancer, given: Renders) -> FloatArray:
    """What the networks change, float32 [V, H, W, 3]; before colours are held."""
    return engine._draw_all(given, DEFAULT_PROMPT, 4, 0, Control())[0]
