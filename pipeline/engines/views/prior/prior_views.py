"""Views of a two-sided surface that a small network guesses of one photo: no GPU is needed.

It does not know how the network was trained or where the cut-out came from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from pipeline.control import Control
from pipeline.device import Device
from pipeline.engines.views.diffusion_notes import notes_on_diffusion
from pipeline.engines.views.elevation_note import note_on_estimate
from pipeline.engines.views.many_photos import columns_of, views_of_photos, with_photos
from pipeline.engines.views.outline import Plane, silhouette
from pipeline.engines.views.outline_sheet import triangulate
from pipeline.engines.views.prior.guess import Guess
from pipeline.engines.views.prior.two_sided import place_in_world, sides_of, with_walls
from pipeline.engines.views.prior.two_sided_paint import confidence_of, paint
from pipeline.engines.views.second_sheet import SIDE, OwnSurface
from pipeline.engines.views.surface_views import ColoredMesh, reduced_to
from pipeline.engines.views.two_sheets import TwoSheets
from pipeline.errors import InvalidOption, ModelFailed
from pipeline.requests import ViewRequest
from pipeline.types import Cameras, Cutout, FloatArray, UInt8Array, ViewSet

GUESS_NOTE = (
    "The prior engine shows the photographed side as it is; the back and the sides are the guess "
    "of a small network that learned from objects made in code."
)

#: Cut-outs above this side are reduced: 400 px of object over 200 px of view is detail enough.
MESH_SIZE = 512
MAX_ELEVATION_DEG = 80.0


class Guesser(Protocol):
    """What the trained prior does (`trained_prior.TrainedPrior`)."""

    def guess(self, rgba: UInt8Array, elevation_deg: float | None) -> Guess: ...


@dataclass(frozen=True)
class TwoSidedModel:
    """The surface of a cut-out.

    Attributes:
        mesh: closed, in the world.
        confidence: float32 [V], 0..1, of each vertex.
        camera: the one that took the photo, as large as the cut-out that the mesh was made from.
        points: how many the near side has, and as many the far side; they come first.
        rim: how many of them lie on the outline.
    """

    mesh: ColoredMesh
    confidence: FloatArray
    camera: Cameras
    points: int
    rim: int

    @property
    def sheets(self) -> TwoSheets:
        """The same surface as other photos may reshape it."""
        near, far = self.mesh.vertices[: self.points], self.mesh.vertices[self.points :]

        def build(near: Plane, far: Plane) -> FloatArray:
            return with_walls(near, far, self.rim).astype(np.float32)

        return TwoSheets(self.camera, *columns_of(self.camera, near, far[: self.points]), build)


def two_sided_model(
    cutout: Cutout, guess: Guess, *, hypothesis: int = 0, control: Control | None = None
) -> TwoSidedModel:
    """The surface that a guess describes, seen by the photo's camera exactly as in the photo.

    Args:
        hypothesis: which of the guessed backs.

    Raises:
        InvalidImage: the cut-out is empty.
        ModelFailed: the guess cannot be used.
    """
    control = control or Control()
    _check(guess)
    rgba = reduced_to(cutout.rgba, MESH_SIZE)
    size = rgba.shape[0]
    outline = silhouette(rgba[..., 3])
    sheet = triangulate(outline)
    control.step(0.3, "outline")
    sides = sides_of(guess, outline.inside, sheet)
    elevation = float(np.clip(guess.elevation_deg, -MAX_ELEVATION_DEG, MAX_ELEVATION_DEG))
    placed = place_in_world(sheet, sides, size, guess.focal, elevation)
    control.step(0.6, "shape")
    colors = paint(rgba, outline.inside, sheet, sides, guess, hypothesis)
    control.step(1.0, "colours")
    mesh = ColoredMesh(placed.vertices, placed.faces, colors)
    confidence, points = confidence_of(sheet, guess, size), len(sheet.points)
    return TwoSidedModel(mesh, confidence, placed.camera, points, points - len(sheet.pixels))


def _check(guess: Guess) -> None:
    """Raises ModelFailed: not everything that is guessed is a number."""
    for what, value in vars(guess).items():
        if not np.isfinite(value).all():
            raise ModelFailed.openly(f"The prior engine's guess is damaged: {what} is no number.")
    if guess.focal <= 0:
        raise ModelFailed.openly("The prior engine's guess is damaged: focal is not positive.")


class PriorViews:
    """View synthesiser "prior"."""

    name = "prior"

    def __init__(self, prior: Guesser) -> None:
        self.prior = prior

    @classmethod
    def load(cls, weights: Path, device: Device) -> PriorViews:
        """Raises Unavailable: the file is damaged or of another network."""
        from pipeline.engines.views.prior.trained_prior import load_prior

        return cls(load_prior(weights, device))

    def synthesize(self, request: ViewRequest, control: Control) -> ViewSet:
        """Views of the rig, auxiliary ones from below, and the photo from its own camera.

        Seeds 0, 1, ... choose among the guessed backs, the likeliest first, and begin anew after
        the last: candidates with consecutive seeds have different backs. Nothing else is random.

        Raises:
            InvalidOption: the elevation is out of range.
            InvalidImage: the cut-out is empty.
            ModelFailed: the network's answer cannot be used.
            Cancelled: `control` asked for it.
        """
        asked = request.elevation_deg
        if asked is not None and not abs(asked) <= MAX_ELEVATION_DEG:
            raise InvalidOption(
                f"elevation_deg must be within {MAX_ELEVATION_DEG:g} degrees of the horizon, "
                f"got {asked}"
            )
        control.step(0.0, "looking at the photo")
        guess = self.prior.guess(request.cutout.rgba, asked)
        control.step(0.2, "looking at the photo")
        hypothesis = request.seed % len(guess.back_colors)
        model = two_sided_model(
            request.cutout, guess, hypothesis=hypothesis, control=control.part(0.2, 0.4)
        )
        notes = (GUESS_NOTE, *_on_elevation(request, guess))
        every = with_photos(
            request.cutout,
            request.photos,
            model.sheets,
            model.mesh,
            self.name,
            control.part(0.4, 0.6),
            self._own_surface,
        )
        return replace(
            views_of_photos(every, self.name, control.part(0.6, 1.0), model.confidence),
            notes=notes + every.notes + notes_on_diffusion(request, self.name),
            photos=every.photos,
            registrations=every.registrations,
            estimate=guess.camera
            if asked is None
            else replace(guess.camera, elevation_error_deg=None),
        )

    def _own_surface(self, cutout: Cutout, elevation_deg: float) -> OwnSurface:
        """What another photo alone shows, as fine as its sheets are looked up."""
        small = Cutout(reduced_to(cutout.rgba, SIDE), cutout.engine)
        model = two_sided_model(small, self.prior.guess(cutout.rgba, elevation_deg))
        return OwnSurface(model.mesh, model.camera)


def _on_elevation(request: ViewRequest, guess: Guess) -> tuple[str, ...]:
    """What is said of an elevation that nobody gave."""
    if request.elevation_deg is not None:
        return ()
    return note_on_estimate(guess.elevation_deg, guess.elevation_error_deg)
