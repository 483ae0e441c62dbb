"""Media types of the files this product writes, by suffix: one table for stores and HTTP."""

from __future__ import annotations

__all__ = ["media_type"]

_BINARY = "application/octet-stream"

# Not `mimetypes`: what it answers depends on tables of the system.
_BY_SUFFIX = {
    "glb": "model/gltf-binary",
    "jpg": "image/jpeg",
    "json": "application/json",
    "mp4": "video/mp4",
    "obj": "model/obj",
    "png": "image/png",
    "usdz": "model/vnd.usdz+zip",
    "webp": "image/webp",
    "zip": "application/zip",
}


def media_type(path: str) -> str:
    """The media type of a file by its name; unknown suffixes are plain bytes."""
    return _BY_SUFFIX.get(path.rpartition(".")[2].lower(), _BINARY)
