"""Colours and confidence for both sides of a two-sided surface and for its walls.

It works in the picture plane and does not know cameras or meshes.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy import ndimage

from pipeline.engines.views.cutout_paint import blur_inside, smooth_step, without_fringe
from pipeline.engines.views.outline import Mask, Plane
from pipeline.engines.views.outline_sheet import Sheet
from pipeline.engines.views.prior.guess import Guess
from pipeline.engines.views.prior.two_sided import Sides, sampled, sure_pixels, with_walls
from pipeline.imaging.nearest import nearest_known
from pipeline.types import FloatArray, UInt8Array

#: Blur of what turns away from the camera, and of the middle of walls, shares of the picture.
TURNED_BLUR = 0.012
WALL_BLUR = 0.035
#: Cosines to the line of sight between which the photo's detail gives way to that blur.
TURNED = (0.05, 0.2)
#: Width of the band in which the back takes the colours of the front's rim, share of the picture.
RIM_BAND = 0.005
#: An expected error of so many frame widths halves the confidence.
HALF_BELIEVED = 0.1


def paint(
    rgba: UInt8Array, inside: Mask, sheet: Sheet, sides: Sides, guess: Guess, hypothesis: int
) -> FloatArray:
    """sRGB 0..1, float32 [V, 3], of the vertices that `TwoSided` has.

    The front is the photo. Where the surface turns away, one pixel of the photo covers many of the
    surface: its colour is a blur there, which hides the streaks. The back is what was guessed, fine
    patterns copied from the photo where the guess says so, and has the front's colours along the
    outline. Walls go from one rim to the other and are the softer the deeper they are.

    Args:
        hypothesis: which of the guessed backs.
    """
    size = rgba.shape[0]
    photo = without_fringe(rgba, inside)
    turned = blur_inside(photo, inside, TURNED_BLUR * size)
    detail = smooth_step(*TURNED, _facing(sheet, sides.front, inside))[..., None]
    front_plane = turned + detail * (photo - turned)

    # A point on the outline has the colour of the pixel inside that is nearest to it.
    near = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
    columns, rows = np.clip(np.floor(sheet.points).astype(int), 0, size - 1).T
    rows, columns = near[0][rows, columns], near[1][rows, columns]
    front = front_plane[rows, columns]

    behind = _behind(guess, hypothesis, sheet, inside, photo[rows, columns])
    depth = ndimage.distance_transform_edt(inside)[rows, columns] - 1.0
    depth[len(sheet.pixels) :] = 0.0
    own = smooth_step(0.0, RIM_BAND * size, depth)[:, None]
    rim_colour = turned[rows, columns]
    back = rim_colour + own * (behind - rim_colour)

    painted = with_walls(front, back, len(sheet.points) - len(sheet.pixels))
    walls = painted[2 * len(sheet.points) :]
    edge = slice(len(sheet.pixels), None)
    soft = blur_inside(photo, inside, WALL_BLUR * size)[rows[edge], columns[edge]]
    middle = 0.5 * (soft + behind[edge])
    inner = [rim_colour[edge], middle, 0.5 * (rim_colour + behind)[edge]]
    walls[:] = np.concatenate(inner)
    return np.clip(painted, 0.0, 1.0).astype(np.float32)


def _behind(
    guess: Guess, hypothesis: int, sheet: Sheet, inside: Mask, photo: FloatArray
) -> FloatArray:
    """The guessed colour of the back at the points of the sheet, float32 [P, 3]."""
    size = inside.shape[0]
    sure = sure_pixels(inside, guess.front.shape[0])
    planes = (guess.back_copies[hypothesis], *guess.back_colors[hypothesis].transpose(2, 0, 1))
    copies, *colors = (
        sampled(nearest_known(plane, sure), sheet.points, size).astype(np.float32)
        for plane in planes
    )
    copied = np.clip(copies, 0.0, 1.0)[:, None]
    mixed: FloatArray = copied * photo + (1.0 - copied) * np.stack(colors, -1)
    return mixed


def _facing(sheet: Sheet, offsets: Plane, inside: Mask) -> Plane:
    """Cosine between the normal of a side and the line of sight, float64 [S, S]."""
    size = inside.shape[0]
    plane = np.zeros(inside.shape)
    plane[sheet.pixels[:, 0], sheet.pixels[:, 1]] = offsets[: len(sheet.pixels)]
    plane = nearest_known(plane, inside)
    down, across = np.gradient(cv2.GaussianBlur(plane, (0, 0), 1.5) * size)
    facing: Plane = 1.0 / np.sqrt(1.0 + down**2 + across**2)
    return facing


def confidence_of(sheet: Sheet, guess: Guess, size: int) -> FloatArray:
    """How far each vertex may be believed, float32 [V] in 0..1, from the errors it may have."""
    front, back = (
        sampled(1.0 / (1.0 + (error.astype(np.float64) / HALF_BELIEVED) ** 2), sheet.points, size)
        for error in (guess.front_error, guess.back_error)
    )
    rim = len(sheet.points) - len(sheet.pixels)
    return np.clip(with_walls(front, back, rim), 0.0, 1.0).astype(np.float32)
