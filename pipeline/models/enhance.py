"""Which engine makes renders sharper: chosen once by name, with the reason in the log.

It knows how each is built and not where it runs or what its pictures are used for.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Protocol

from pipeline.control import Control
from pipeline.errors import InvalidOption, Unavailable
from pipeline.models.realesrgan import RealEsrgan
from pipeline.models.unsharp import Unsharp
from pipeline.models.weights import REALESRGAN_BIN, REALESRGAN_PARAM, locate
from pipeline.types import UInt8Array

__all__ = ["EnhancerEngine", "make_enhancer_engine"]

log = logging.getLogger(__name__)


class EnhancerEngine(Protocol):
    """Makes views sharper without changing their colours."""

    @property
    def name(self) -> str:
        """Stable name for rows and manifests."""
        ...

    def enhance(
        self, images: UInt8Array, alphas: UInt8Array, strength: float, control: Control
    ) -> UInt8Array:
        """Sharper copies of uint8 [V, H, W, 3] on white; alphas uint8 [V, H, W], strength 0..1.

        Raises:
            InvalidOption: strength is out of range.
            Cancelled: a stop was asked for.
        """
        ...


def make_enhancer_engine(
    choice: str = "auto", model_dir: Path | None = None, threads: int | None = None
) -> EnhancerEngine:
    """The engine named by `choice`; "auto" takes the network where it can be loaded.

    Args:
        choice: "auto", "realesrgan" or "unsharp".
        model_dir: where weights lie; None looks only into installed packages.
        threads: of the network; None takes as many as the process may use.

    Raises:
        InvalidOption: `choice` is none of the names.
        Unavailable: "realesrgan" was asked for and its weights or ncnn are not there.
    """
    if choice == "unsharp":
        return Unsharp()
    if choice == "realesrgan":
        return _realesrgan(model_dir, threads)
    if choice != "auto":
        raise InvalidOption(f"enhancer engine {choice!r}: choose auto, realesrgan or unsharp")
    try:
        engine = _realesrgan(model_dir, threads)
    except Unavailable as error:
        log.warning("enhancer engine: unsharp, because realesrgan cannot be used. %s", error)
        return Unsharp()
    log.info("enhancer engine: realesrgan, its weights were found")
    return engine


def _realesrgan(model_dir: Path | None, threads: int | None) -> RealEsrgan:
    return RealEsrgan(
        locate(REALESRGAN_PARAM, model_dir), locate(REALESRGAN_BIN, model_dir), threads=threads
    )
