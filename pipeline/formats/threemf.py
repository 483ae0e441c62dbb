"""Meshes as .3mf for printers: closed solids in millimetres with a colour per vertex.

It does not know how large the thing is to be (`pipeline.engines.exporter` does). Our own because
trimesh writes no colours, needs lxml and draws a new UUID for every file. Source: 3MF Core
Specification 1.3 and Materials and Properties Extension 1.2 (color groups).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from pipeline.formats.surface import to_print_solid
from pipeline.mesh.mesh_types import TexturedMesh

_MODEL_PATH = "3D/3dmodel.model"
_CONTENT_TYPES = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" '
    'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="model" '
    'ContentType="application/vnd.ms-package.3dmanufacturing-3dmodel+xml"/>'
    "</Types>"
)
_RELATIONSHIPS = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    f'<Relationship Id="rel0" Target="/{_MODEL_PATH}" '
    'Type="http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"/>'
    "</Relationships>"
)
_HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<model unit="millimeter" xml:lang="en-US" '
    'xmlns="http://schemas.microsoft.com/3dmanufacturing/core/2015/02" '
    'xmlns:m="http://schemas.microsoft.com/3dmanufacturing/material/2015/02">'
    '<metadata name="Application">Glimpse3D</metadata><resources>'
)

#: What is shorter keeps its digits in compact files, too.
_LARGE_MM = 20.0


def write_3mf(mesh: TexturedMesh, *, compact: bool = False) -> bytes:
    """The file's bytes: one object of millimetres, z up, its front turned to -y, the front of a
    printer. Triangles name the colours of their corners; deterministic.

    Args:
        compact: colours in steps of 17 of 255 instead of 1, and places, of what is at least
            20 mm long, to 1/100 mm instead of 1/10,000.

    Raises:
        InvalidInput: the mesh is empty or not finite.
    """
    solid = to_print_solid(mesh)
    colors = np.round(solid.colors / 17).astype(np.uint8) * 17 if compact else solid.colors
    palette, number = np.unique(colors, axis=0, return_inverse=True)
    number = number.reshape(-1)
    coarse = compact and float(np.ptp(solid.vertices, axis=0).max()) >= _LARGE_MM
    digits = 2 if coarse else 4
    vertex = f'<vertex x="%.{digits}f" y="%.{digits}f" z="%.{digits}f"/>'
    corners = np.concatenate([solid.faces, number[solid.faces]], axis=1)
    triangle = '<triangle v1="%d" v2="%d" v3="%d" pid="1" p1="%d" p2="%d" p3="%d"/>'
    text = "".join(
        [
            _HEAD,
            '<m:colorgroup id="1">',
            *_rows('<m:color color="#%02X%02X%02X"/>', palette),
            '</m:colorgroup><object id="2" type="model" name="model" pid="1" pindex="0"><mesh>',
            "<vertices>",
            *_rows(vertex, solid.vertices),
            "</vertices><triangles>",
            *_rows(triangle, corners),
            '</triangles></mesh></object></resources><build><item objectid="2"/></build></model>',
        ]
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in (
            ("[Content_Types].xml", _CONTENT_TYPES),
            ("_rels/.rels", _RELATIONSHIPS),
            (_MODEL_PATH, text),
        ):
            # The oldest time a zip can hold: the same mesh gives the same bytes.
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content.encode("ascii"))
    return buffer.getvalue()


def _rows(template: str, rows: npt.NDArray[np.number]) -> Iterable[str]:
    """`template` filled with every row [N, C]."""
    return (template % tuple(row) for row in rows.tolist())
