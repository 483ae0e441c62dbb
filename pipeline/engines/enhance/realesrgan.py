"""Detail from a trained network: Real-ESRGAN x4plus (Wang et al. 2021) through ncnn on the CPU.

It does not know what the pictures show or which views belong together: every view is enhanced by
itself, and what it draws is plausible, not true.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.control import Control
from pipeline.cores import worker_threads
from pipeline.engines.enhance.detail import add_detail, inner_weight
from pipeline.engines.enhance.sharpener import Sharpener
from pipeline.errors import ModelFailed, OutOfMemory, Unavailable
from pipeline.imaging.rounding import to_bytes
from pipeline.types import FloatArray, UInt8Array

# Measured beside other networks and sizes: docs/decisions.md, "Real-ESRGAN x4plus at half size".
#: The network sees the view shrunk by this and draws it four times as large.
SHRINK = 2
SCALE = 4
#: Only what this blur (pixels of the view) does not see of the change is kept: colours and shading
#: stay those of the render. With 4 and with 8 the PSNR of the table falls by .3 and .5 dB.
LOCK_SIGMA = 2.0
#: Over so many pixels from the rim of the object inwards the change grows from nothing to full. A
#: plain grey disc changes by 7 of 255 then at strength 1 and by 3 at one half; without it by 36.
RIM = 4.0
#: Longest side of what the network sees at once (0.9 GB then), and how far two tiles overlap.
TILE, OVERLAP = 112, 20
#: Pixels of the view that are shown to the network around the object.
MARGIN = 8

#: What ncnn's layers return when memory for their answer cannot be had.
_NCNN_FULL = -100


class RealEsrgan(Sharpener):
    """Enhancer "realesrgan": about 1.2 s for a view of 256 px on two free cores."""

    name = "realesrgan"
    _done = "enhanced"

    def __init__(self, param: Path, weights: Path, *, threads: int | None = None) -> None:
        """Load the network.

        Args:
            param: verified path of the .param file (the layers).
            weights: verified path of the .bin file.
            threads: of ncnn; None takes as many as the process may use.

        Raises:
            Unavailable: ncnn is not installed or cannot read the files.
        """
        try:
            import ncnn
        except ImportError as error:
            needs, run = "The realesrgan enhancer needs the package ncnn", "run `pip install ncnn`."
            raise Unavailable(f"{needs} ({error}): {run}", public=f"{needs}: {run}") from error
        self._ncnn = ncnn
        self._net: Any = ncnn.Net()
        self._net.opt.use_vulkan_compute = False
        self._net.opt.num_threads = threads or worker_threads()
        if self._net.load_param(str(param)) != 0 or self._net.load_model(str(weights)) != 0:
            raise Unavailable(f"ncnn cannot read {param} and {weights}: install them again.")

    def _sharpen_view(
        self, image: UInt8Array, alpha: UInt8Array, strength: float, control: Control
    ) -> UInt8Array:
        """Unchanged where alpha is below one half. Raises ModelFailed, OutOfMemory and
        Cancelled."""
        solid = alpha >= 128
        if not solid.any():
            return image.copy()
        rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
        box = (_span(rows, image.shape[0]), _span(columns, image.shape[1]))
        picture = image[box].astype(np.float32)
        # White around the object stays: the network judges by the rim how sharp a picture is meant
        # to be. With the object continued over the ground instead it takes renders of fits for soft
        # and draws hard stripes (LPIPS .006 -> .010).
        change = self._redraw(picture, control) - picture
        weight = inner_weight(alpha[box], RIM)
        enhanced = image.copy()
        enhanced[box] = add_detail(picture, change, weight, LOCK_SIGMA, strength=strength)
        return enhanced

    def _redraw(self, colour: FloatArray, control: Control) -> FloatArray:
        """What the network makes of float32 [H, W, 3] (0..255), same size."""
        height, width = colour.shape[:2]
        size = (max(1, width // SHRINK), max(1, height // SHRINK))
        small = to_bytes(cv2.resize(colour, size, interpolation=cv2.INTER_AREA))
        tiles_y, tiles_x = _tiles(size[1]), _tiles(size[0])
        total = np.zeros((size[1] * SCALE, size[0] * SCALE, 3), np.float32)
        done, count = 0, len(tiles_y) * len(tiles_x)
        for y, fade_y in tiles_y:
            for x, fade_x in tiles_x:
                control.step(done / count, "drawing detail")
                drawn = self._run(small[y, x])
                area = tuple(slice(SCALE * s.start, SCALE * s.stop) for s in (y, x))
                total[area] += drawn * (fade_y[:, None] * fade_x)[..., None]
                done += 1
        redrawn: FloatArray = cv2.resize(total, (width, height), interpolation=cv2.INTER_AREA)
        return redrawn

    def _run(self, tile: UInt8Array) -> FloatArray:
        """The network itself: uint8 [h, w, 3] -> float32 [4 h, 4 w, 3] around 0..255."""
        height, width = tile.shape[:2]
        # An array handed to ncnn.Mat() directly has other strides than ncnn expects.
        fed = self._ncnn.Mat.from_pixels(
            np.ascontiguousarray(tile), self._ncnn.Mat.PixelType.PIXEL_RGB, width, height
        )
        fed.substract_mean_normalize([], [1 / 255] * 3)
        extractor = self._net.create_extractor()
        extractor.input("data", fed)
        status, drawn = extractor.extract("output")
        picture = np.array(drawn, np.float32)
        if status == _NCNN_FULL:
            said = f"Real-ESRGAN had too little memory for {width} x {height} pixels."
            raise OutOfMemory.openly(said)
        if status != 0 or picture.shape != (3, SCALE * height, SCALE * width):
            raise ModelFailed.openly(f"Real-ESRGAN stopped with status {status}, {picture.shape}.")
        if not np.isfinite(picture).all():
            raise ModelFailed.openly("Real-ESRGAN answered with numbers that are not finite.")
        scaled: FloatArray = picture.transpose(1, 2, 0) * 255.0
        return scaled


def _span(used: np.ndarray, size: int) -> slice:
    """Where the network looks along one axis: an even number of pixels around the used ones."""
    start, stop = max(0, int(used[0]) - MARGIN), min(size, int(used[-1]) + 1 + MARGIN)
    if (stop - start) % SHRINK:
        start, stop = (start - 1, stop) if start > 0 else (start, min(size, stop + 1))
    return slice(start, stop)


def _tiles(size: int) -> list[tuple[slice, FloatArray]]:
    """Overlapping pieces of equal length along one axis, with their weights after enlarging.

    Weights are float32 [4 * piece]; they fade linearly where pieces overlap and add up to 1.
    """
    if size <= TILE:
        return [(slice(0, size), np.ones(SCALE * size, np.float32))]
    count = -(-(size - OVERLAP) // (TILE - OVERLAP))
    length = -(-(size + (count - 1) * OVERLAP) // count)
    starts = np.rint(np.linspace(0, size - length, count)).astype(int)
    raw = []
    for start in starts:
        at = np.arange(SCALE * length) + 0.5
        rise = np.ones_like(at) if start == 0 else at
        fall = np.ones_like(at) if start + length == size else at[::-1]
        raw.append(np.clip(np.minimum(rise, fall) / (SCALE * OVERLAP), 1e-3, 1.0))
    total = np.zeros(SCALE * size)
    for start, weight in zip(starts, raw, strict=True):
        total[SCALE * start : SCALE * (start + length)] += weight
    return [
        (
            slice(int(start), int(start + length)),
            (weight / total[SCALE * start : SCALE * (start + length)]).astype(np.float32),
        )
        for start, weight in zip(starts, raw, strict=True)
    ]
