"""Pictures that show a model to somebody who has no viewer: a thumbnail and a turntable film.

It asks the splat engine for renders and ffmpeg for the film; it does not know where the model
comes from or where the files go.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from pipeline.control import Progress, Report, ignore_progress, part_of
from pipeline.errors import InvalidOption
from pipeline.geometry.cameras import thumbnail_camera, turntable_cameras
from pipeline.imaging.decoding import encode_png
from pipeline.imaging.video import VideoWriter, find_encoder
from pipeline.ports import SplatFitter
from pipeline.splats.bounds import framed
from pipeline.types import SplatModel

#: Frames of one turn, and pixels along each side of thumbnail and film.
FRAMES, SIZE = 60, 512

#: Fewest and most frames of a turn.
FRAME_LIMITS = (2, 1000)

#: Smallest and largest side, pixels.
SIZE_LIMITS = (64, 2048)

#: A turn of 60 frames takes 2.5 s.
_FPS = 24

#: Pixels that one call of the engine draws: 12 frames of 512 px, in 60 MB. Between the calls the
#: work can be cancelled and reports.
_PIXELS_AT_ONCE = 12 * 512 * 512

#: Where the thumbnail ends in the progress of both.
_THUMBNAIL_SHARE = 0.04


@dataclass(frozen=True)
class Previews:
    """Both pictures of a model as files.

    Attributes:
        thumbnail: PNG, square, on white.
        turntable: MP4 (H.264, yuv420p), square, on white; one full turn that loops.
    """

    thumbnail: bytes
    turntable: bytes


def check_picture(*, frames: int = FRAMES, size: int = SIZE) -> None:
    """Raises InvalidOption naming the number that no picture can be made with."""
    low, high = FRAME_LIMITS
    if not low <= frames <= high:
        raise InvalidOption(f"frames must be between {low} and {high}, got {frames}.")
    low, high = SIZE_LIMITS
    if not low <= size <= high:
        raise InvalidOption(f"size must be between {low} and {high}, got {size}.")
    if size % 2:
        raise InvalidOption(f"size must be even, got {size}: H.264 films have even sides.")


async def make_previews(
    model: SplatModel,
    splats: SplatFitter,
    report: Report = ignore_progress,
    *,
    frames: int = FRAMES,
    size: int = SIZE,
) -> Previews:
    """Thumbnail and turntable of a model. Cancelling leaves no process and no file behind.

    Raises:
        InvalidInput: the model has no splats, or holds NaN or infinity.
        InvalidOption: `frames` or `size` (pixels along each side).
        ModelFailed: ffmpeg failed; the text is the last line it wrote.
        Unavailable: there is no ffmpeg.
    """
    check_picture(frames=frames, size=size)
    thumbnail = await make_thumbnail(model, splats, size=size)
    report(Progress(_THUMBNAIL_SHARE, "Thumbnail"))
    film = part_of(report, _THUMBNAIL_SHARE, 1.0)
    return Previews(thumbnail, await make_turntable(model, splats, film, frames=frames, size=size))


async def make_thumbnail(model: SplatModel, splats: SplatFitter, *, size: int = SIZE) -> bytes:
    """PNG of the photo's side, `size` pixels a side, on white. Errors as `make_previews`."""
    check_picture(size=size)
    model = await asyncio.to_thread(framed, model)
    renders = await splats.render(model, thumbnail_camera(size))
    return await asyncio.to_thread(encode_png, renders.images[0])


async def make_turntable(
    model: SplatModel,
    splats: SplatFitter,
    report: Report = ignore_progress,
    *,
    frames: int = FRAMES,
    size: int = SIZE,
) -> bytes:
    """MP4 of one full turn, `size` pixels along each side, on white, 24 frames a second.

    It begins at the photo's side, and its last frame is one step before the first. Cancelling
    leaves no process and no file behind. Errors as `make_previews`.
    """
    check_picture(frames=frames, size=size)
    model = await asyncio.to_thread(framed, model)
    encoder = await asyncio.to_thread(find_encoder)
    cameras = turntable_cameras(frames, size)
    step = max(1, _PIXELS_AT_ONCE // size**2)
    with VideoWriter(encoder, width=size, height=size, fps=_FPS) as video:
        # Frames are compressed while the next ones are drawn.
        writing: asyncio.Task[None] | None = None
        try:
            for start in range(0, frames, step):
                stop = min(start + step, frames)
                renders = await splats.render(model, cameras.select(list(range(start, stop))))
                if writing is not None:
                    await writing
                writing = asyncio.create_task(asyncio.to_thread(video.write, renders.images))
                report(Progress(stop / frames, f"Frame {stop} of {frames}"))
        finally:
            # Not before the thread has let go of it is the film given up.
            if writing is not None:
                await writing
        return await asyncio.to_thread(video.finish)
