"""Reads PlayCanvas' .sog of versions 1 and 2: numbers as pixels of WebP images, and a meta.json.

It reads the zip that is called .sog, or the same files lying side by side, for which its caller
fetches them. It does not know where. Sources: playcanvas/splat-transform,
src/lib/readers/read-sog.ts and read-sog-v1.ts.
"""

from __future__ import annotations

import io
import json
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.errors import InvalidModelFile
from pipeline.formats.read_splats import (
    ReadModel,
    clipped_logits,
    finish,
    refuse_too_many,
    with_largest,
)
from pipeline.geometry.frames import PLY_FROM_WORLD
from pipeline.types import FloatArray, SplatModel, UInt8Array

META_NAME = "meta.json"
#: Coefficients above degree 0, of models of degree 1, 2 and 3.
_HIGHER = (3, 8, 15)
#: Entries of the palette of harmonics in one row of its image, and most of them.
_PALETTE_ROW, _PALETTE_MOST = 64, 1 << 16
#: An image has a pixel for each splat, and is filled up to a rectangle.
_MOST_FILLING = 1 << 16
#: A file in the archive is no more times larger than the archive, or than this.
_MOST_TIMES, _SMALL = 20, 1 << 20
#: The first of four values of the alpha of a rotation, which tell the largest component.
_FIRST_TAG = 252

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Files:
    """Where the pixels come from.

    Attributes:
        meta: the document.
        fetch: the bytes of a file by its name; InvalidModelFile where there is none.
        count: splats, and so pixels of every image but the palette.
    """

    meta: dict[str, Any]
    fetch: Callable[[str], bytes]
    count: int

    def rows(self, part: str, which: int = 0) -> UInt8Array:
        """RGBA of each splat, uint8 [N, 4]."""
        image = self.image(part, which, self.count, 2 * self.count + _MOST_FILLING)
        return image.reshape(-1, 4)[: self.count]

    def image(self, part: str, which: int, least: int, most: int) -> UInt8Array:
        """RGBA, uint8 [H, W, 4], of so many pixels."""
        name = self.meta[part]["files"][which]
        if not isinstance(name, str) or {"/", "\\", "\0"} & set(name) or name.startswith("."):
            raise InvalidModelFile("The .sog names a file outside of itself.")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # measured below
                image = Image.open(io.BytesIO(self.fetch(name)), formats=["WEBP", "PNG"])
            width, height = image.size
            if not least <= width * height <= most:
                raise InvalidModelFile(
                    f"The .sog is damaged: {name[:40]!r} has {width} x {height} pixels for "
                    f"{self.count:,} splats."
                )
            decoded: UInt8Array = np.asarray(image.convert("RGBA"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise InvalidModelFile(f"The .sog has a damaged image {name[:40]!r}.") from error
        return decoded


def load_sog(data: bytes) -> ReadModel:
    """The model of a .sog, in the world frame, and notes.

    Raises:
        InvalidModelFile: no zip with a meta.json, of another version, damaged or truncated.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        known = {info.filename: info for info in archive.infolist()}
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, OSError) as error:
        raise InvalidModelFile("The .sog is truncated or damaged: it is no whole zip.") from error
    metas = [name for name in known if name.rpartition("/")[2] == META_NAME]
    if not metas:
        raise InvalidModelFile(f"The file is a zip without {META_NAME}: no .sog of splats.")
    folder = min(metas, key=len).removesuffix(META_NAME)

    def fetch(name: str) -> bytes:
        info = known.get(folder + name)
        if info is None:
            raise InvalidModelFile(f"The .sog has no file {name[:40]!r}.")
        if info.file_size > max(_MOST_TIMES * len(data), _SMALL):
            raise InvalidModelFile(f"The .sog is damaged: {name[:40]!r} is larger than it can be.")
        try:
            return archive.read(info)
        except (
            zipfile.BadZipFile,
            NotImplementedError,
            RuntimeError,  # encrypted
            ValueError,
            EOFError,
            OSError,
            zlib.error,
            struct.error,
        ) as error:
            raise InvalidModelFile(f"The .sog has a damaged file {name[:40]!r}.") from error

    return load_sog_files(fetch, len(data))


def load_sog_files(fetch: Callable[[str], bytes], size: int) -> ReadModel:
    """The model of the files of a .sog that lie side by side, in the world frame, and notes.

    Args:
        fetch: the bytes of a file by its name, which has no folder; raises InvalidModelFile where
            there is none.
        size: bytes of all files, for what they can hold.

    Raises:
        InvalidModelFile: of another version, damaged or truncated.
    """
    try:
        meta = json.loads(fetch(META_NAME))
        version = meta.get("version", 1)
        if version not in (1, 2):
            raise InvalidModelFile(
                f"The .sog is of version {str(version)[:20]}; only 1 and 2 can be read. Convert "
                "it to .ply."
            )
        count = int(meta["count"] if version == 2 else meta["means"]["shape"][0])
        refuse_too_many(count, size, ".sog")
        files = _Files(meta, fetch, count)
        with np.errstate(over="ignore", invalid="ignore"):  # `finish` judges what comes of it
            model = _model(files, version)
    except InvalidModelFile:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InvalidModelFile("The .sog is damaged: its meta.json makes no sense.") from error
    except RecursionError as error:
        raise InvalidModelFile("The .sog is damaged: its meta.json has no end.") from error
    return finish(model, PLY_FROM_WORLD.T, ".sog")


def _model(files: _Files, version: int) -> SplatModel:
    """In the file's frame, with whatever numbers the file holds."""
    meta = files.meta
    fine = files.rows("means")[:, :3] + 256.0 * files.rows("means", 1)[:, :3]
    logs = _between(meta["means"], fine / 65535, 3)
    turns = files.rows("quats")
    three = (turns[:, :3] / 255.0 - 0.5) * np.sqrt(2)
    tags = turns[:, 3].astype(np.int64) - _FIRST_TAG
    quats = with_largest(three.astype(np.float32), np.maximum(tags, 0))
    quats[tags < 0] = (1, 0, 0, 0)
    scales, colors = files.rows("scales")[:, :3], files.rows("sh0")
    if version == 2:
        log_scales = _codebook(meta["scales"])[scales]
        first = _codebook(meta["sh0"])[colors[:, :3]]
        logits = clipped_logits(colors[:, 3] / 255.0, 1 / 255)
    else:
        log_scales = _between(meta["scales"], scales / 255.0, 3)
        shares = _between(meta["sh0"], colors / 255.0, 4)
        first, logits = shares[:, :3], shares[:, 3].astype(np.float32)
    sh = first[:, None].astype(np.float32)
    if meta.get("shN") and (version == 1 or meta["shN"]["bands"]):
        sh = np.concatenate([sh, _harmonics(files, version)], axis=1)
    return SplatModel(
        means=(np.sign(logs) * np.expm1(np.abs(logs))).astype(np.float32),
        quats=quats,
        log_scales=log_scales.astype(np.float32),
        logit_opacities=logits,
        sh=sh,
    )


def _between(part: dict[str, Any], shares: Floats, width: int) -> Floats:
    """Shares 0..1 [N, width] of the way from `mins` to `maxs`."""
    low, high = (np.array(part[end], np.float64).reshape(width) for end in ("mins", "maxs"))
    return low + (high - low) * shares


def _codebook(part: dict[str, Any]) -> Floats:
    """The 256 values that a byte may stand for; shorter ones are no .sog's."""
    values = list(part["codebook"])
    # A writer put null for the first one; the engine of PlayCanvas mends it so.
    if values[0] is None:
        values[0] = values[1] + (values[1] - values[255]) / 255
    return np.array(values, np.float64).reshape(256)


def _harmonics(files: _Files, version: int) -> FloatArray:
    """Degrees 1 and up, float32 [N, K - 1, 3]: entries of a palette.

    Their image has 64 entries in a row, so that its width says how many coefficients one has.
    """
    part = files.meta["shN"]
    image = files.image("shN", 0, 1, _PALETTE_MOST * max(_HIGHER))
    higher, odd = divmod(image.shape[1], _PALETTE_ROW)
    if odd or higher not in _HIGHER or (version == 2 and higher != _HIGHER[part["bands"] - 1]):
        raise InvalidModelFile("The .sog has a palette of harmonics of an impossible width.")
    levels = image[..., :3].reshape(-1, higher, 3)
    if version == 2:
        values = _codebook(part)[levels][: int(part["count"])]
    else:
        values = part["mins"] + (part["maxs"] - part["mins"]) * (levels / 255.0)
    labels = files.rows("shN", 1)[:, :2] @ np.array([1, 256])
    # What points behind the palette has none.
    values = np.concatenate([values, np.zeros((1, higher, 3))]).astype(np.float32)
    found: FloatArray = values[np.minimum(labels, len(values) - 1)]
    return found
