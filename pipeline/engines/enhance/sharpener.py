"""What the enhancers that work on pictures alone have in common: no noise, no text, one strength.

It does not know how a picture is made sharper.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from pipeline.control import Control
from pipeline.errors import InvalidOption
from pipeline.requests import EnhancedImages, EnhanceSettings, Renders
from pipeline.types import UInt8Array


class Sharpener(ABC):
    """An enhancer of pictures: it draws no noise and reads no text, and says so."""

    name: ClassVar[str]

    def enhance(
        self, renders: Renders, settings: EnhanceSettings, control: Control
    ) -> EnhancedImages:
        """`pipeline.ports.EnhancerEngine`."""
        images = self.sharpen(renders.images, renders.alphas, settings.strength, control)
        notes = tuple(
            f"The {self.name} engine has no use for {option}."
            for option in ("prompt", "negative_prompt")
            if getattr(settings, option) is not None
        )
        return EnhancedImages(images, self.name, notes)

    def sharpen(
        self, images: UInt8Array, alphas: UInt8Array, strength: float, control: Control
    ) -> UInt8Array:
        """Copies of views on white with more detail and the same colours.

        Args:
            images: uint8 [V, H, W, 3], composited on white.
            alphas: uint8 [V, H, W].
            strength: 0 (nothing) to 1 (all that the engine has to give).

        Returns:
            uint8 [V, H, W, 3] on the same white, unchanged where alpha is 0.

        Raises:
            InvalidOption: strength is out of range.
            Cancelled: a stop was asked for.
        """
        if not 0.0 <= strength <= 1.0:
            raise InvalidOption(f"strength must be within 0..1, got {strength}")
        sharp = images.copy()
        for i, (image, alpha) in enumerate(zip(images, alphas, strict=True)):
            share = control.part(i / len(images), (i + 1) / len(images))
            if strength > 0.0:
                sharp[i] = self._sharpen_view(image, alpha, strength, share)
            share.step(1.0, f"view {i + 1} {self._done}")
        return sharp

    #: What a view is afterwards, for progress.
    _done: ClassVar[str]

    @abstractmethod
    def _sharpen_view(
        self, image: UInt8Array, alpha: UInt8Array, strength: float, control: Control
    ) -> UInt8Array:
        """One view, uint8 [H, W, 3] on white -> the same; strength is above 0."""
