"""File formats of a model, and the media types of all files that the product writes.

It does not know how they are written (`pipeline.formats` does) nor where files are kept, and it
imports nothing heavy: the HTTP ingress and the driver read it.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import InvalidOption


@dataclass(frozen=True)
class Format:
    """A way to write a model.

    Attributes:
        name: what users call it.
        suffix: of the file's name, without the leading dot.
        is_mesh: a surface is made of the splats first.
        for_printers: in millimetres, standing on the build plate.
    """

    name: str
    suffix: str
    is_mesh: bool
    for_printers: bool = False


#: Every format, by name.
FORMATS = {
    f.name: f
    for f in (
        Format("ply", "ply", is_mesh=False),
        Format("splat", "splat", is_mesh=False),
        Format("spz", "spz", is_mesh=False),
        Format("glb", "glb", is_mesh=True),
        Format("obj", "obj.zip", is_mesh=True),
        Format("usdz", "usdz", is_mesh=True),
        Format("stl", "stl", is_mesh=True, for_printers=True),
        Format("3mf", "3mf", is_mesh=True, for_printers=True),
        Format("glb-splat", "splat.glb", is_mesh=False),
    )
}


def find_format(name: str) -> Format:
    """The format called `name`. Raises InvalidOption, which lists those that exist."""
    if name not in FORMATS:
        raise InvalidOption(f"format must be one of {', '.join(FORMATS)}; got {name!r}.")
    return FORMATS[name]


_BINARY = "application/octet-stream"

# Not `mimetypes`: what it answers depends on tables of the system.
_BY_SUFFIX = {
    "3mf": "model/3mf",
    "glb": "model/gltf-binary",
    "jpg": "image/jpeg",
    "json": "application/json",
    "mp4": "video/mp4",
    "obj": "model/obj",
    "png": "image/png",
    "stl": "model/stl",
    "usdz": "model/vnd.usdz+zip",
    "webp": "image/webp",
    "zip": "application/zip",
}


def media_type(path: str) -> str:
    """The media type of a file by its name; unknown suffixes are plain bytes."""
    return _BY_SUFFIX.get(path.rpartition(".")[2].lower(), _BINARY)
