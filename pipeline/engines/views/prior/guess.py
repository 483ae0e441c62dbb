"""What the learned prior says about one photo: both sides of the object, its back, its camera.

It does not know how that was found, or what is made of it.

Offsets are distances along the axis of the photo's camera from the object's middle, half way
between its nearest and its farthest point, in widths of the frame there. With the focal length F
in frame widths and the middle at depth D the frame is D / F wide there, and an offset d lies at
depth D (1 + d / F). The scale of the world is not observable, so it does not occur.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.types import CameraEstimate, FloatArray

#: Side of the maps of a guess, which cover the whole frame of the cut-out.
GUESS_SIZE = 128


@dataclass(frozen=True)
class Guess:
    """Maps of [128, 128] over the frame of the cut-out, defined everywhere, rows from the top.

    Attributes:
        front: float32 [128, 128], offset of the first surface behind each pixel.
        back: float32 [128, 128], offset of the last one, never less than `front`.
        front_error, back_error: float32 [128, 128], expected absolute error of these offsets.
        back_colors: float32 [H, 128, 128, 3], sRGB 0..1: H hypotheses of the colours of the last
            surface, the likeliest first.
        back_copies: float32 [H, 128, 128], 0..1: how much of it is the photo's own colour at that
            pixel instead, so that fine patterns which go round the object stay sharp. The colour
            behind a pixel is `copies * photo + (1 - copies) * colors`.
        elevation_deg: of the camera's axis above the horizon.
        elevation_error_deg: its expected absolute error.
        focal: focal length F in frame widths.
        focal_error: expected absolute error of its natural logarithm.
    """

    front: FloatArray
    back: FloatArray
    front_error: FloatArray
    back_error: FloatArray
    back_colors: FloatArray
    back_copies: FloatArray
    elevation_deg: float
    elevation_error_deg: float
    focal: float
    focal_error: float

    @property
    def camera(self) -> CameraEstimate:
        """What it says of the photo's camera."""
        return CameraEstimate(
            self.elevation_deg, self.elevation_error_deg, self.focal, self.focal_error
        )
