"""One picture of a whole project: input, cut-out, views, and renders of the final model.

It lays out images that others made and knows nothing of stages or stores.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.imaging.decoding import encode_png
from pipeline.types import UInt8Array

_CELL = 160
_GAP = 6
_LABEL = 22
_COLUMNS = 8


def contact_sheet(rows: Sequence[tuple[str, Sequence[UInt8Array]]]) -> bytes:
    """PNG bytes of labelled rows of pictures.

    Args:
        rows: a label and its pictures, uint8 [H, W, 3] or [H, W, 4] of any size; a row of more
            than eight wraps, an empty one keeps its place. Transparency is shown on a chequered
            ground.
    """
    lines = sum(max(1, -(-len(pictures) // _COLUMNS)) for _, pictures in rows)
    width = _COLUMNS * (_CELL + _GAP) + _GAP
    height = lines * (_CELL + _GAP) + len(rows) * _LABEL + _GAP
    sheet = Image.new("RGB", (width, height), (250, 250, 250))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=14)
    y = _GAP
    for label, pictures in rows:
        draw.text((_GAP, y), label, fill=(40, 40, 40), font=font)
        y += _LABEL
        for i, picture in enumerate(pictures):
            column = i % _COLUMNS
            if i and column == 0:
                y += _CELL + _GAP
            sheet.paste(_fit(picture), (_GAP + column * (_CELL + _GAP), y))
        y += _CELL + _GAP
    return encode_png(np.asarray(sheet))


def _fit(picture: UInt8Array) -> Image.Image:
    """The picture inside a square cell, its aspect kept."""
    image = Image.fromarray(picture)
    image.thumbnail((_CELL, _CELL), Image.Resampling.LANCZOS)
    if image.width < _CELL and image.height < _CELL:
        scale = _CELL / max(image.size)
        image = image.resize(
            (round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS
        )
    cell = Image.new("RGB", (_CELL, _CELL), (255, 255, 255))
    if image.mode == "RGBA":
        steps = np.add.outer(np.arange(_CELL) // 10, np.arange(_CELL) // 10) % 2
        cell = Image.fromarray(np.where(steps[..., None], 225, 245).astype(np.uint8).repeat(3, -1))
    at = ((_CELL - image.width) // 2, (_CELL - image.height) // 2)
    cell.paste(image, at, image if image.mode == "RGBA" else None)
    return cell
