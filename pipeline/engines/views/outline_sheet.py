"""The inside of an outline cut into triangles, with a vertex at each pixel and along the line.

It works in the picture plane and knows neither depth nor cameras nor colours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.engines.views.outline import Plane, Silhouette

Indices = npt.NDArray[np.int32]

#: Rim vertices keep this distance (share of a pixel) from pixel centres, so that none coincide.
RIM_MARGIN = 0.02


@dataclass(frozen=True)
class Sheet:
    """The silhouette cut into triangles, in the picture plane.

    Attributes:
        pixels: int64 [N, 2], (row, column) of the pixel centres inside: the first N points.
        points: float64 [N + M, 2], (u, v) in pixels, pixel centres at +0.5; the last M points
            lie on the outline.
        triangles: int32 [T, 3], clockwise as seen in the picture.
    """

    pixels: npt.NDArray[np.int64]
    points: Plane
    triangles: Indices


def _cell_polygons() -> dict[int, list[list[int]]]:
    """Marching squares: polygons of every case of inside corners.

    Corners 0..3 are top left, top right, bottom right, bottom left (bits 1, 2, 4, 8); 4..7 are
    the crossings of the edges that begin at these corners, clockwise. Two opposite corners are
    taken as separate, so that every edge of the mesh has two faces.
    """
    polygons: dict[int, list[list[int]]] = {}
    for case in range(1, 16):
        inside = [bool(case >> corner & 1) for corner in range(4)]
        if case in (5, 10):
            polygons[case] = [[k, 4 + k, 4 + (k - 1) % 4] for k in range(4) if inside[k]]
            continue
        outline: list[int] = []
        for k in range(4):
            if inside[k]:
                outline.append(k)
            if inside[k] != inside[(k + 1) % 4]:
                outline.append(4 + k)
        polygons[case] = [outline]
    return polygons


_POLYGONS = _cell_polygons()


def triangulate(outline: Silhouette) -> Sheet:
    """Triangles over all pixel centres inside, out to the sub-pixel outline."""
    field, inside = outline.field, outline.inside
    pixels = np.argwhere(inside)
    node = np.full(inside.shape, -1, np.int64)
    node[inside] = np.arange(len(pixels))
    count = len(pixels)

    rows = inside[:, :-1] != inside[:, 1:]
    columns = inside[:-1] != inside[1:]
    across = np.full(rows.shape, -1, np.int64)
    across[rows] = count + np.arange(int(rows.sum()))
    count += int(rows.sum())
    down = np.full(columns.shape, -1, np.int64)
    down[columns] = count + np.arange(int(columns.sum()))

    points = [pixels[:, ::-1] + 0.5]
    for crossed, first, second, axis in (
        (rows, field[:, :-1], field[:, 1:], 0),
        (columns, field[:-1], field[1:], 1),
    ):
        where = np.argwhere(crossed)[:, ::-1] + 0.5
        start, end = first[crossed], second[crossed]
        where[:, axis] += np.clip((0.5 - start) / (end - start), RIM_MARGIN, 1.0 - RIM_MARGIN)
        points.append(where)

    corners = [node[:-1, :-1], node[:-1, 1:], node[1:, 1:], node[1:, :-1]]
    edges = [across[:-1], down[:, 1:], across[1:], down[:, :-1]]
    index = np.stack(corners + edges, -1)
    case = sum(
        inside_corner.astype(np.int64) << k
        for k, inside_corner in enumerate(
            [inside[:-1, :-1], inside[:-1, 1:], inside[1:, 1:], inside[1:, :-1]]
        )
    )
    triangles = []
    for number, polygons in _POLYGONS.items():
        cells = index[case == number]
        for polygon in polygons:
            for i in range(1, len(polygon) - 1):
                triangles.append(cells[:, [polygon[0], polygon[i], polygon[i + 1]]])
    return Sheet(pixels, np.concatenate(points), np.concatenate(triangles).astype(np.int32))
