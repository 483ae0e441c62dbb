"""What the pipeline hands to its neighbours and what they answer, beside `pipeline.types`.

Frozen values that cross process borders; they do not know who computes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.rig import ELEVATION_DEG
from pipeline.types import (
    CameraEstimate,
    Cameras,
    Cutout,
    DepthMaps,
    FloatArray,
    FurtherPhoto,
    PhotoRegistration,
    SplatModel,
    UInt8Array,
    ViewSet,
)


@dataclass(frozen=True)
class Foreground:
    """What a background remover found.

    Attributes:
        alpha: uint8 [H, W], 255 on the object.
        engine: name of the remover.
    """

    alpha: UInt8Array
    engine: str


@dataclass(frozen=True)
class ViewRequest:
    """Input of view synthesis; what is None is left to the engine.

    Attributes:
        elevation_deg: of the photo's camera above the horizon.
        steps, guidance_scale: of a diffusion engine.
        sampler: of a diffusion engine: "ddim" or "dpm++".
        photos: further photos of the object. An engine that can use them answers with those it
            used in `ViewSet.photos`, and with one registration for every photo.
    """

    cutout: Cutout
    elevation_deg: float | None
    seed: int
    steps: int | None = None
    guidance_scale: float | None = None
    sampler: str | None = None
    photos: tuple[FurtherPhoto, ...] = ()

    @property
    def assumed_elevation_deg(self) -> float:
        """The elevation; where none was given the rig's, which an engine takes that sees nothing
        of it in the photo."""
        return ELEVATION_DEG if self.elevation_deg is None else self.elevation_deg


@dataclass(frozen=True)
class WholePhoto:
    """A photo at its own resolution, with the object that was found in it.

    Attributes:
        rgba: uint8 [H, W, 4], sRGB, straight alpha; the colours outside of the object are the
            photo's own.
        azimuth_deg, elevation_deg: as in `FurtherPhoto`; of the first photo the azimuth is 0.
    """

    rgba: UInt8Array
    azimuth_deg: float | None = None
    elevation_deg: float | None = None


@dataclass(frozen=True)
class KeptLatent:
    """What a generator keeps of a pass: enough to make the model again, also with more splats.

    Attributes:
        engine: that made it, and can read it.
        latent: float32 [Q, C].
        cameras: float32 [P, K], what it found out of the camera of each photo, in its own numbers.
        decode_seed: of the random choices of the model that was made of it.
        settings: of the pass, JSON-ready.
    """

    engine: str
    latent: FloatArray
    cameras: FloatArray
    decode_seed: int
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GeneratorRequest:
    """Input of a generator; what is None is left to the engine.

    Attributes:
        photos: the first one first.
        num_gaussians: splats of the model; engines say how they round it.
        seed: of the random choices of the pass.
        decode_seed: of those that make splats of what the pass found; None: the one that `kept`
            has, else one derived from `seed`.
        steps, guidance_scale, shift: of the pass.
        image_type: "synthetic" or "real", how close the photo is cropped.
        kept: of an earlier pass, which is not made again.
    """

    photos: tuple[WholePhoto, ...]
    num_gaussians: int
    seed: int
    decode_seed: int | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    shift: float | None = None
    image_type: str | None = None
    kept: KeptLatent | None = None


@dataclass(frozen=True)
class RegisterRequest:
    """Input of the registration of an object's photos.

    Attributes:
        cutout: the first photo.
        photos: the further ones.
        views, depths: what they are registered against.
        assumed: one camera, of the first photo.
        known: `assumed` is the engine's, which made the views of it: it is confirmed, not sought.
        elevation_deg: of the first photo, as it was given.
    """

    cutout: Cutout
    photos: tuple[FurtherPhoto, ...]
    views: ViewSet
    depths: DepthMaps
    assumed: Cameras
    known: bool
    elevation_deg: float | None


@dataclass(frozen=True)
class RegisteredPhotos:
    """The photos as targets.

    Attributes:
        photos: those that were accepted, from their registered cameras, the first one first.
        registrations: one for each that was given, as `ViewSet.registrations` has them.
        notes: sentences a user should read: which photo is unsure or was left out, and why.
        estimate: of the first photo's camera, where it was sought.
    """

    photos: ViewSet
    registrations: tuple[PhotoRegistration, ...]
    notes: tuple[str, ...] = ()
    estimate: CameraEstimate | None = None

    def on(self, views: ViewSet) -> ViewSet:
        """The views with these photos."""
        return replace(
            views,
            photos=self.photos,
            registrations=self.registrations,
            notes=(*views.notes, *self.notes),
            estimate=views.estimate or self.estimate,
        )


@dataclass(frozen=True)
class Generated:
    """A model that a generator made.

    Attributes:
        model: in the world frame, the first photo's camera at azimuth 0.
        photos: the photos as the engine saw them, on white, each from the camera that it found,
            with intrinsics of its own; None where it found none of the first photo: `notes` say
            why, and the camera is sought against the model.
        engine: its name.
        notes: sentences a user should read.
    """

    model: SplatModel
    latent: KeptLatent
    photos: RegisteredPhotos | None
    engine: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FitRequest:
    """Input of the first reconstruction.

    Attributes:
        views: what to fit; views listed in `held_out` are not shown to the optimiser.
        depths: where the splats start.
        num_gaussians: cap on the number of splats.
        iterations: optimisation steps.
    """

    views: ViewSet
    depths: DepthMaps
    held_out: tuple[int, ...]
    num_gaussians: int
    iterations: int
    seed: int


@dataclass(frozen=True)
class RefineRequest:
    """Input of one refinement round.

    Attributes:
        model: where to start.
        originals: the views of the first reconstruction, without the held-out ones; their `photos`
            are further targets.
        enhanced: uint8 [E, H, W, 3], enhanced renders of `enhanced_views`, on white.
        enhanced_views: which of the originals each enhanced image replaces, as indices into
            `originals`.
        depths: of `originals`, for the disparity loss; None leaves that loss out.
        learning_rate: of the colours; other parameters scale with it.
    """

    model: SplatModel
    originals: ViewSet
    enhanced: UInt8Array
    enhanced_views: tuple[int, ...]
    learning_rate: float
    iterations: int
    seed: int
    depths: DepthMaps | None = None


@dataclass(frozen=True)
class Improvement:
    """What a refinement round made of a model.

    Attributes:
        model: the candidate; as many splats as before.
        view_weights: float32 [O], how far each original target was trusted at the end, 0..1.
        enhanced_weights: float32 [E], the same of the enhanced targets.
        parameters: what the engine used, JSON-ready (rates, loss weights, steps).
    """

    model: SplatModel
    view_weights: FloatArray
    enhanced_weights: FloatArray
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Renders:
    """Pictures of a model.

    Attributes:
        images: uint8 [V, H, W, 3] on white.
        alphas: uint8 [V, H, W].
        depth: float32 [V, H, W], z-depth in world units, 0 where there is nothing; None unless
            asked for.
        views: what each picture is called, by which an enhancer draws its noise: an index in the
            rig. None: 0, 1, ...
    """

    images: UInt8Array
    alphas: UInt8Array
    depth: FloatArray | None = None
    views: tuple[int, ...] | None = None

    @property
    def names(self) -> tuple[int, ...]:
        """`views`, or what stands for it."""
        return tuple(range(len(self.images))) if self.views is None else self.views

    def select(self, indices: list[int]) -> Renders:
        """The pictures at `indices`, in that order."""
        depth = self.depth
        return Renders(
            self.images[indices],
            self.alphas[indices],
            None if depth is None else depth[indices],
            tuple(self.names[i] for i in indices),
        )


@dataclass(frozen=True)
class EnhanceSettings:
    """How renders are enhanced.

    Attributes:
        strength: above 0 and at most 1; engines say how they round it.
        seed: of a round; an engine that draws noise draws another one for each view, from this
            and the view's name.
        prompt, negative_prompt: for an engine that reads text.
    """

    strength: float
    seed: int = 0
    prompt: str | None = None
    negative_prompt: str | None = None


@dataclass(frozen=True)
class References:
    """What a model is judged by; no optimiser saw the images.

    Attributes:
        images: uint8 [V, H, W, 3] on white.
        cameras: V cameras.
        views: index of each image in the rig.
        alphas: uint8 [V, H, W], or None: no silhouettes are compared.
        depth: float32 [V, H, W], z-depth up to scale and shift of its inverse, 0 where unknown, or
            None.
        photos: the photos as views. They are targets of the refinement, so they are no score, but
            they must not get worse: a guard.
        confidence: 0..1, how sure the views' engine is of its own surface; None where it does not
            say.
        photo_numbers: of each of `photos` its number among all that were given; (): they are all.
    """

    images: UInt8Array
    cameras: Cameras
    views: tuple[int, ...] = ()
    alphas: UInt8Array | None = None
    depth: FloatArray | None = None
    photos: ViewSet | None = None
    confidence: float | None = None
    photo_numbers: tuple[int, ...] = ()


@dataclass(frozen=True)
class EnhancedImages:
    """Output of an enhancer: uint8 [V, H, W, 3] on white, and the engine's name."""

    images: UInt8Array
    engine: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExportedFile:
    """A model in a file format.

    Attributes:
        data: the whole file.
        contents: what is in it: `splats`, or `vertices`, `faces`, `parts` (closed surfaces that
            do not touch) and `texture_size` (absent where colours are per vertex).
        saved: what `optimize` left out, by the same names and in `bytes`; empty without it.
        notes: sentences a user should read: what had to be done to get a closed surface, which
            splats were left out.
    """

    data: bytes
    contents: dict[str, int]
    saved: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
