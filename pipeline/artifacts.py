"""How views and depth maps become files and come back, bit for bit.

It knows file names relative to a project and their bytes, not where they are stored.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import ModelFailed
from pipeline.images import decode_png, encode_png
from pipeline.models.surface_depth import heat_map
from pipeline.types import Cameras, DepthMaps, UInt8Array, ViewSet

__all__ = [
    "decode_depths",
    "decode_views",
    "encode_depths",
    "encode_views",
]


def encode_views(views: ViewSet) -> dict[str, bytes]:
    """`00.png`.. (on white), `geometry.npz` (alphas, cameras, surface depth), and
    `auxiliary.npz` (the same and the images of auxiliary views, where there are any)."""
    files = {f"{i:02d}.png": encode_png(image) for i, image in enumerate(views.images)}
    files["geometry.npz"] = _npz(
        **_geometry(views), engine=np.array(views.engine), notes=np.array(views.notes, np.str_)
    )
    extra = views.auxiliary
    if extra is not None:
        files["auxiliary.npz"] = _npz(**_geometry(extra), images=extra.images)
    return files


def decode_views(files: Mapping[str, bytes]) -> ViewSet:
    """Inverse of `encode_views`. Raises ModelFailed when a file is missing or damaged."""
    geometry = _load_npz(files, "geometry.npz")
    count = len(geometry["alphas"])
    missing = [f"{i:02d}.png" for i in range(count) if f"{i:02d}.png" not in files]
    if missing:
        raise ModelFailed(f"The stored views are incomplete: {missing[0]} is missing.")
    images = np.stack([decode_png(files[f"{i:02d}.png"]) for i in range(count)])
    engine = str(geometry["engine"])
    auxiliary = None
    if "auxiliary.npz" in files:
        extra = _load_npz(files, "auxiliary.npz")
        auxiliary = _views(extra["images"].astype(np.uint8), extra, engine)
    notes = tuple(str(note) for note in geometry["notes"])
    return replace(_views(images, geometry, engine), notes=notes, auxiliary=auxiliary)


def _geometry(views: ViewSet) -> dict[str, npt.NDArray[Any]]:
    surface = {} if views.surface_depth is None else {"surface_depth": views.surface_depth}
    return {
        "alphas": views.alphas,
        "viewmats": views.cameras.viewmats,
        "intrinsics": views.cameras.intrinsics,
        "size": np.array([views.cameras.width, views.cameras.height]),
        **surface,
    }


def _views(images: UInt8Array, geometry: dict[str, npt.NDArray[Any]], engine: str) -> ViewSet:
    width, height = (int(v) for v in geometry["size"])
    surface = geometry.get("surface_depth")
    return ViewSet(
        images=images,
        alphas=geometry["alphas"].astype(np.uint8),
        cameras=Cameras(
            geometry["viewmats"].astype(np.float32),
            geometry["intrinsics"].astype(np.float32),
            width,
            height,
        ),
        engine=engine,
        surface_depth=None if surface is None else surface.astype(np.float32),
    )


def encode_depths(depths: DepthMaps) -> dict[str, bytes]:
    """`00.npy` (float32, world units), `00.png` (heat map) per view, `confidence.npz`."""
    files: dict[str, bytes] = {}
    for i, depth in enumerate(depths.depth):
        buffer = io.BytesIO()
        np.save(buffer, depth, allow_pickle=False)
        files[f"{i:02d}.npy"] = buffer.getvalue()
        known = np.where(depths.confidence[i] > 0, 255, 0).astype(np.uint8)
        files[f"{i:02d}.png"] = encode_png(heat_map(depth, known))
    files["confidence.npz"] = _npz(confidence=depths.confidence, engine=np.array(depths.engine))
    return files


def decode_depths(files: Mapping[str, bytes]) -> DepthMaps:
    """Inverse of `encode_depths`. Raises ModelFailed when a file is missing or damaged."""
    extra = _load_npz(files, "confidence.npz")
    names = [f"{i:02d}.npy" for i in range(len(extra["confidence"]))]
    missing = [name for name in names if name not in files]
    if missing:
        raise ModelFailed(f"The stored depth maps are incomplete: {missing[0]} is missing.")
    depth = np.stack([np.load(io.BytesIO(files[name]), allow_pickle=False) for name in names])
    return DepthMaps(depth, extra["confidence"].astype(np.float32), str(extra["engine"]))


def _npz(**arrays: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _load_npz(files: Mapping[str, bytes], name: str) -> dict[str, npt.NDArray[Any]]:
    if name not in files:
        raise ModelFailed(f"The stored artefacts are incomplete: {name} is missing.")
    with np.load(io.BytesIO(files[name]), allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}
