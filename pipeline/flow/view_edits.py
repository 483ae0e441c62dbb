"""Views that somebody edited: replaced by another picture, struck out, brought back.

It knows views and pictures; not who keeps the edits, nor where.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from pipeline.errors import InvalidImage, InvalidOption
from pipeline.imaging.framing import picture_on_white
from pipeline.rig import HELD_OUT_VIEWS, VIEW_COUNT
from pipeline.types import Cutout, UInt8Array, ViewSet

#: Fewest views that must be left to fit. Four of them, spread over the turn, still say where a
#: surface is; fewer leave most of it to the photo alone.
MIN_FITTED_VIEWS = 4

#: Largest side in pixels of a picture that replaces a view.
MAX_PICTURE_SIZE = 4096


class EditKind(StrEnum):
    """What somebody did to a view."""

    #: Another picture stands in its place.
    REPLACE = "replace"
    #: It is not used for anything.
    STRIKE = "strike"
    #: The view as the engine made it stands there again.
    RESTORE = "restore"


@dataclass(frozen=True)
class ViewEdit:
    """One edit of one view.

    Attributes:
        view: its index in the rig.
        rgba: uint8 [S, S, 4] of a view that is replaced, straight alpha, of any size.
        source: of a view that is restored, the views that have it as the engine made it.
    """

    kind: EditKind
    view: int
    rgba: UInt8Array | None = None
    source: ViewSet | None = None


@dataclass(frozen=True)
class EditRecord:
    """What was done to a view before a generation went on from it.

    Attributes:
        view: its index.
        sha256: content hash of the picture that replaced it, RGBA PNG; None where none did.
        source_version: the version that has the view as the engine made it; None unless it was
            restored.
    """

    view: int
    kind: EditKind
    sha256: str | None = None
    source_version: int | None = None

    @property
    def file(self) -> str | None:
        """What the picture is called beside a manifest."""
        if self.sha256 is None:
            return None
        return f"edits/{self.sha256.removeprefix('sha256:')[:16]}.png"


def apply_edits(views: ViewSet, edits: Iterable[ViewEdit]) -> ViewSet:
    """The views with the edits, each of another view.

    Of a picture that somebody made the depth is not known, whatever the engine knew of its own.
    A struck view stays in its place.

    Raises:
        InvalidOption: so many are struck out that too few are left.
    """
    images, alphas = views.images.copy(), views.alphas.copy()
    planes = {
        name: plane.copy()
        for name in ("surface_depth", "surface_confidence")
        if (plane := getattr(views, name)) is not None
    }
    struck = set(views.struck)
    for edit in edits:
        i = edit.view
        struck.discard(i)
        if edit.kind is EditKind.STRIKE:
            struck.add(i)
        elif edit.kind is EditKind.REPLACE:
            assert edit.rgba is not None, "a view is replaced by a picture"
            images[i], alphas[i] = picture_on_white(Cutout(edit.rgba, ""), views.cameras.width)
            for plane in planes.values():
                plane[i] = 0
        else:
            assert edit.source is not None, "a view is restored from views"
            images[i], alphas[i] = edit.source.images[i], edit.source.alphas[i]
            for name, plane in planes.items():
                known = getattr(edit.source, name)
                plane[i] = 0 if known is None else known[i]
    check_struck(struck)
    return replace(views, images=images, alphas=alphas, struck=tuple(sorted(struck)), **planes)


def changed_files(edits: Collection[ViewEdit]) -> frozenset[str]:
    """Names, of those of `pipeline.flow.artifacts.encode_views`, whose content the edits change;
    all others are those of the views before."""
    pictures = (f"{edit.view:02d}.png" for edit in edits if edit.kind is not EditKind.STRIKE)
    return frozenset({"geometry.npz", *pictures}) if edits else frozenset()


def check_struck(struck: Collection[int]) -> None:
    """Raises InvalidOption where so many views are struck out that no model can be fitted, or none
    be scored."""
    left = [i for i in range(VIEW_COUNT) if i not in HELD_OUT_VIEWS and i not in struck]
    if len(left) < MIN_FITTED_VIEWS:
        raise InvalidOption(
            f"Too few views would be left to fit: {len(left)} of at least {MIN_FITTED_VIEWS}. "
            f"Struck out are {sorted(struck)}: restore or replace one before another is struck out."
        )
    if set(HELD_OUT_VIEWS) <= set(struck):
        raise InvalidOption(
            f"Views {list(HELD_OUT_VIEWS)} are what scores come from: one of them must stay. "
            "Replace it, or restore the other one."
        )


def check_picture(
    rgba: UInt8Array, size: int, source_size: tuple[int, int] | None = None
) -> tuple[str, ...]:
    """What a user should read about a picture that is to replace a view of `size` pixels.

    Args:
        rgba: uint8 [H, W, 4], straight alpha.
        source_size: (width, height) of its file, pixels, where that was scaled down.

    Raises:
        InvalidImage: it is not square, too large, or shows nothing.
    """
    width, height = source_size or (rgba.shape[1], rgba.shape[0])
    if height != width or width > MAX_PICTURE_SIZE:
        raise InvalidImage(
            f"The picture has {width} x {height} pixels: a view is square, {size} x {size} or "
            f"another size up to {MAX_PICTURE_SIZE}."
        )
    if not (picture_on_white(Cutout(rgba, ""), size)[1] > 127).any():
        raise InvalidImage("The picture shows nothing: its alpha is below one half everywhere.")
    if width == size:
        return ()
    return (f"The picture is resampled from {width} to {size} pixels along each side.",)
