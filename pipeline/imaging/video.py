"""Frames to an .mp4 that browsers and telephones play: H.264, yuv420p, index at the front.

ffmpeg (imageio-ffmpeg's build, GPL) runs as a process of its own, fed through a pipe, so that
nothing of it is linked or imported; this module does not know what the frames show.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import imageio_ffmpeg
import numpy as np

from pipeline.cores import worker_threads
from pipeline.errors import ModelFailed, Unavailable
from pipeline.types import UInt8Array

#: x264's effort and quality. Of 60 turntable frames at 512 px, "veryfast" takes half the
#: time of "medium" (.18 s) for 1 dB less, and 18 leaves no visible blocks on a white ground.
_PRESET, _QUALITY = "veryfast", "18"

#: Added to the niceness of ffmpeg, which takes every core for a moment: answers to people go first.
_NICENESS = 10

#: Seconds that ffmpeg may take to finish after its last frame.
_FINISH_S = 60.0


def find_encoder() -> str:
    """Path of the ffmpeg program. Blocking: starts it once per process to see that it runs.

    Raises:
        Unavailable: there is none.
    """
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (RuntimeError, OSError) as error:
        raise Unavailable(f"No video can be written: {error}") from error


class VideoWriter:
    """One film: `write` frames, then `finish`; `abort` or leaving the `with` block ends it.

    ffmpeg is in a session of its own: a Ctrl-C in the terminal reaches this process only, and
    this process decides. Nothing is left behind, however the block ends: no process, no file.
    """

    def __init__(self, encoder: str, *, width: int, height: int, fps: int) -> None:
        """Start ffmpeg; a few milliseconds.

        Args:
            encoder: what `find_encoder` answers.
            width, height: even, pixels.

        Raises:
            ValueError: an odd side, which yuv420p does not have.
            Unavailable: ffmpeg does not start.
        """
        if width % 2 or height % 2 or min(width, height) < 2:
            raise ValueError(f"width and height must be even, got {width} x {height}")
        self._shape = (height, width, 3)
        self._busy = threading.Lock()
        # Its finaliser removes it when the interpreter is interrupted before `abort`.
        self._folder = tempfile.TemporaryDirectory(prefix="glimpse3d-video-")
        self._file = Path(self._folder.name) / "video.mp4"
        self._log = Path(self._folder.name) / "ffmpeg.log"
        try:
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    [encoder, *_arguments(width, height, fps), str(self._file)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    bufsize=0,
                    start_new_session=True,
                )
            with contextlib.suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, self._process.pid, _NICENESS)
        except OSError as error:
            self._folder.cleanup()
            raise Unavailable(f"No video can be written: {error}") from error
        except BaseException:
            self._folder.cleanup()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.abort()

    def write(self, images: UInt8Array) -> None:
        """Append frames, uint8 [F, H, W, 3]. Blocks until ffmpeg has taken them.

        Raises:
            ModelFailed: ffmpeg has ended, of itself or by `abort`; the text is its last line.
        """
        if images.dtype != np.uint8 or images.shape[1:] != self._shape:
            raise ValueError(
                f"frames must be uint8 [F, *{self._shape}], got {images.dtype} {images.shape}"
            )
        left = np.ascontiguousarray(images).reshape(-1).data
        with self._busy:
            pipe = self._process.stdin
            if pipe is None or pipe.closed:
                raise ModelFailed("The video was closed before its last frame.")
            try:
                while left:
                    left = left[pipe.write(left) :]
            except BrokenPipeError:
                raise self._failure() from None

    def finish(self) -> bytes:
        """The whole file. Blocks until ffmpeg has encoded what it was given.

        Raises:
            ModelFailed: ffmpeg failed, does not end or wrote nothing; the text is its last line.
        """
        with self._busy:
            self._close_pipe()
        try:
            status = self._process.wait(_FINISH_S)
        except subprocess.TimeoutExpired:
            raise ModelFailed(f"ffmpeg did not finish within {_FINISH_S:g} s.") from None
        if status != 0:
            raise self._failure()
        try:
            return self._file.read_bytes()
        except FileNotFoundError:  # or `abort` was quicker
            raise ModelFailed("ffmpeg ended without an error and without a video.") from None

    def abort(self) -> None:
        """End ffmpeg if it runs and remove its files; milliseconds. May be called twice.

        Safe while another thread is in `write` or `finish`: that call raises ModelFailed.
        """
        if self._process.poll() is None:
            # The whole session: the encoder may be a script that started the real one, which would
            # go on reading from the pipe. An error says that it has just ended.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        with self._busy:  # a blocked write has been woken by the end of the pipe's reader
            self._close_pipe()
        self._folder.cleanup()

    def _close_pipe(self) -> None:
        pipe = self._process.stdin
        if pipe is not None:
            pipe.close()

    def _failure(self) -> ModelFailed:
        """What ffmpeg said last, once it has ended."""
        try:
            status = self._process.wait(_FINISH_S)
        except subprocess.TimeoutExpired:
            return ModelFailed("ffmpeg stopped reading frames.")
        try:
            said = self._log.read_text(errors="replace").splitlines()
        except FileNotFoundError:  # `abort` was quicker
            said = []
        lines = [line.strip() for line in said if line.strip()]
        why = lines[-1] if lines else f"it ended with status {status}"
        return ModelFailed(f"ffmpeg could not write the video: {why}")


def _arguments(width: int, height: int, fps: int) -> list[str]:
    """ffmpeg's command line without the program and the output."""
    return [
        *("-hide_banner", "-loglevel", "error", "-y"),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps)),
        *("-i", "pipe:0", "-an"),
        # Without tags players guess from the size: BT.601 for a film this small. The tags of the
        # frames count: ffmpeg lets them overrule -color_primaries and -color_trc.
        "-vf",
        "scale=out_color_matrix=bt709:out_range=tv,setparams=color_primaries=bt709:color_trc=bt709",
        # ffmpeg counts the host's cores, whatever a container's quota leaves.
        *("-threads", str(worker_threads()), "-filter_threads", str(worker_threads())),
        *("-c:v", "libx264", "-preset", _PRESET, "-crf", _QUALITY, "-pix_fmt", "yuv420p"),
        *("-movflags", "+faststart"),
    ]
