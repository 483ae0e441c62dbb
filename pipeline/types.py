"""The values that travel between stages: images, cameras, views, depth maps, splats, scores.

They do not know how they were made or where they are kept. All are frozen; arrays are numpy so
that they cross process borders without a copy (they may arrive read-only).

World frame: right-handed, z up, object centred in [-0.5, 0.5]^3, photographed side facing +x.
Cameras: OpenCV (x right, y down, z forward), world-to-camera, pixel centres at +0.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from scipy import special

UInt8Array = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]

#: Zeroth spherical-harmonics basis value, 1 / (2 sqrt(pi)): rgb = 0.5 + SH_C0 * sh[..., 0, :].
SH_C0 = 0.28209479177387814


@dataclass(frozen=True)
class Cameras:
    """V pinhole cameras that share an image size.

    Attributes:
        viewmats: float32 [V, 4, 4], world-to-camera, OpenCV axes.
        intrinsics: float32 [V, 3, 3], pixels.
        width, height: image size in pixels.
    """

    viewmats: FloatArray
    intrinsics: FloatArray
    width: int
    height: int

    def __len__(self) -> int:
        return len(self.viewmats)

    def __post_init__(self) -> None:
        if self.viewmats.shape[1:] != (4, 4) or self.intrinsics.shape[1:] != (3, 3):
            raise ValueError(
                f"viewmats must be [V,4,4] and intrinsics [V,3,3], "
                f"got {self.viewmats.shape} and {self.intrinsics.shape}"
            )
        if len(self.viewmats) != len(self.intrinsics):
            raise ValueError("viewmats and intrinsics must hold the same number of cameras")

    @property
    def centres(self) -> FloatArray:
        """Camera centres in the world, float32 [V, 3]."""
        R, t = self.viewmats[:, :3, :3], self.viewmats[:, :3, 3]
        centres: FloatArray = -np.einsum("vji,vj->vi", R, t)
        return centres

    @classmethod
    def joined(cls, parts: Sequence[Cameras]) -> Cameras:
        """All cameras of `parts`, which have one size, one after another."""
        viewmats = np.concatenate([part.viewmats for part in parts])
        intrinsics = np.concatenate([part.intrinsics for part in parts])
        return cls(viewmats, intrinsics, parts[0].width, parts[0].height)

    def select(self, indices: list[int]) -> Cameras:
        """The cameras at `indices`, in that order."""
        return Cameras(self.viewmats[indices], self.intrinsics[indices], self.width, self.height)

    def resized(self, width: int, height: int) -> Cameras:
        """The same cameras with pictures of another size of the same scene."""
        scale = np.array([[width / self.width], [height / self.height], [1]], np.float32)
        return Cameras(self.viewmats, self.intrinsics * scale, width, height)


@dataclass(frozen=True)
class Cutout:
    """The object on a transparent ground, prepared for view synthesis.

    Attributes:
        rgba: uint8 [S, S, 4], straight (not premultiplied) alpha; the object's longest side
            is centred and scaled as `pipeline.imaging.framing.frame_object` says.
        engine: name of the background remover, or "given" when the photo had its own alpha.
    """

    rgba: UInt8Array
    engine: str


#: Sides of an object as (azimuth, elevation) in degrees. The first photo is the front; left and
#: right are the object's own, as of a person or a car: its left side is the one that the first
#: photo has on the right of its picture, at azimuth 90.
PHOTO_SIDES: dict[str, tuple[float, float | None]] = {
    "front": (0.0, None),
    "left": (90.0, None),
    "back": (180.0, None),
    "right": (270.0, None),
    "top": (0.0, 90.0),
}


@dataclass(frozen=True)
class FurtherPhoto:
    """A photo of the same object beside the first one.

    Attributes:
        azimuth_deg: of its camera in the world: 0 is the first photo's, and it grows
            counter-clockwise seen from above. None: to be found.
        elevation_deg: of its camera above the horizon; None: to be found.
    """

    cutout: Cutout
    azimuth_deg: float | None = None
    elevation_deg: float | None = None

    @classmethod
    def from_side(cls, cutout: Cutout, side: str) -> FurtherPhoto:
        """A photo of a side of `PHOTO_SIDES`. Raises KeyError for another word."""
        return cls(cutout, *PHOTO_SIDES[side])


@dataclass(frozen=True)
class PhotoRegistration:
    """Where a photo was taken from, as it was found against the model, and how sure that is.

    Attributes:
        photo: its number, also in sentences and addresses; 0 is the first.
        accepted: it is a view of the object from this camera, else it is left out.
        trust: 0..1, how far it may pull; 0 where it is not accepted.
        azimuth_deg, elevation_deg: of the camera, in the world.
        roll_deg: of its picture around its axis, counter-clockwise.
        focal: focal length in widths of the framed cut-out.
        outline_iou: of the photo's outline and the model's from this camera, 0..1.
        color_error: mean absolute difference of their colours inside both, 0..1.
        azimuth_error_deg, elevation_error_deg, scale_error: expected absolute errors; of the
            scale as a share of it. None where the number was given or known by construction.
        note: a sentence for the user where something is unsure or the photo was left out, else
            empty.
    """

    photo: int
    accepted: bool
    trust: float
    azimuth_deg: float
    elevation_deg: float
    roll_deg: float
    focal: float
    outline_iou: float
    color_error: float
    azimuth_error_deg: float | None = None
    elevation_error_deg: float | None = None
    scale_error: float | None = None
    note: str = ""


@dataclass(frozen=True)
class CameraEstimate:
    """The photo's camera as a view engine found it in the photo.

    Attributes:
        elevation_deg: of its axis above the horizon; the one that was given, where one was.
        elevation_error_deg: its expected absolute error; None where it was given.
        focal: focal length in widths of the framed cut-out.
        focal_error: expected absolute error of its natural logarithm.
    """

    elevation_deg: float
    elevation_error_deg: float | None
    focal: float
    focal_error: float


@dataclass(frozen=True)
class ViewSet:
    """V views of one object and the cameras they were taken with.

    Attributes:
        images: uint8 [V, H, W, 3], composited on white.
        alphas: uint8 [V, H, W], 255 inside the object.
        cameras: V cameras of size (W, H).
        engine: name of the view synthesiser.
        surface_depth: float32 [V, H, W] z-depth in world units where the engine knows it from
            its own geometry (0 = no surface), else None.
        surface_confidence: float32 [V, H, W], 0..1, how far `surface_depth` may be believed where
            the engine knows that it guesses, else None.
        notes: sentences a user should read: what is a guess, which option had no effect.
        photos: the photos themselves, uint8 [P, H', W', 3] of one size, each from its own camera,
            where that is known, the first one first: trusted more than any synthesised view.
        registrations: one for each photo that was given, in their order; the accepted ones are
            those of `photos`, in the same order. Empty: nothing was registered, all are believed.
        auxiliary: further views, such as from below, where the engine has them for nothing. They
            are fitted, but never counted, enhanced or scored.
        estimate: of an engine that looks for the photo's camera, which is the first of `photos`.
        struck: indices of views that somebody struck out: nobody fits, enhances or scores them.
        drawn: the views are pictures of a finished model: no evidence of the object.
    """

    images: UInt8Array
    alphas: UInt8Array
    cameras: Cameras
    engine: str
    surface_depth: FloatArray | None = None
    notes: tuple[str, ...] = ()
    auxiliary: ViewSet | None = None
    photos: ViewSet | None = None
    surface_confidence: FloatArray | None = None
    estimate: CameraEstimate | None = None
    registrations: tuple[PhotoRegistration, ...] = ()
    struck: tuple[int, ...] = ()
    drawn: bool = False

    def __len__(self) -> int:
        return len(self.images)

    @property
    def photo_trust(self) -> FloatArray:
        """How far each of `photos` may pull, float32 [P], 0..1."""
        count = 0 if self.photos is None else len(self.photos)
        found = [photo.trust for photo in self.registrations if photo.accepted]
        return np.array(found if len(found) == count else [1.0] * count, np.float32)

    def select(self, indices: list[int]) -> ViewSet:
        """The views at `indices`, in that order, without the auxiliary ones and the photos."""
        depth, confidence = self.surface_depth, self.surface_confidence
        return replace(
            self,
            images=self.images[indices],
            alphas=self.alphas[indices],
            cameras=self.cameras.select(indices),
            surface_depth=None if depth is None else depth[indices],
            surface_confidence=None if confidence is None else confidence[indices],
            auxiliary=None,
            photos=None,
            registrations=(),
            struck=tuple(new for new, old in enumerate(indices) if old in self.struck),
        )


@dataclass(frozen=True)
class DepthMaps:
    """Depth of every view.

    Attributes:
        depth: float32 [V, H, W], z-depth in world units, 0 where unknown.
        confidence: float32 [V, H, W], 0..1, 0 where `depth` is unknown.
        engine: name of the estimator.
        notes: sentences a user should read: which views have no depth, and why.
    """

    depth: FloatArray
    confidence: FloatArray
    engine: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SplatModel:
    """N 3D Gaussians in the world frame, stored as the optimiser and the .ply file hold them.

    Attributes:
        means: float32 [N, 3], world units.
        quats: float32 [N, 4], wxyz, not necessarily normalised.
        log_scales: float32 [N, 3], natural logarithm of the standard deviation in world units.
        logit_opacities: float32 [N], inverse sigmoid of opacity.
        sh: float32 [N, K, 3], spherical harmonics, K = (degree + 1)^2, last axis RGB.
    """

    means: FloatArray
    quats: FloatArray
    log_scales: FloatArray
    logit_opacities: FloatArray
    sh: FloatArray

    def __post_init__(self) -> None:
        n = len(self.means)
        wanted = {"means": (n, 3), "quats": (n, 4), "log_scales": (n, 3), "logit_opacities": (n,)}
        for name, shape in wanted.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} must be {shape}, got {getattr(self, name).shape}")
        if self.sh.ndim != 3 or self.sh.shape[0] != n or self.sh.shape[2] != 3:
            raise ValueError(f"sh must be ({n}, K, 3), got {self.sh.shape}")
        if self.sh.shape[1] not in (1, 4, 9, 16):
            raise ValueError(f"sh must hold 1, 4, 9 or 16 coefficients, got {self.sh.shape[1]}")

    def __len__(self) -> int:
        return len(self.means)

    def select(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.integer]) -> SplatModel:
        """The splats at `which` (mask [N] or indices), in that order."""
        return SplatModel(
            self.means[which],
            self.quats[which],
            self.log_scales[which],
            self.logit_opacities[which],
            self.sh[which],
        )

    @property
    def sh_degree(self) -> int:
        """0..3."""
        return int(self.sh.shape[1] ** 0.5) - 1

    @property
    def scales(self) -> FloatArray:
        """Standard deviations in world units, float32 [N, 3]."""
        return np.exp(self.log_scales)

    @property
    def opacities(self) -> FloatArray:
        """Opacity 0..1, float32 [N]."""
        opacities: FloatArray = special.expit(self.logit_opacities).astype(np.float32)
        return opacities


@dataclass(frozen=True)
class ViewScore:
    """Scores of one view; `view` is its index in the rig. None means "not measured"."""

    view: int
    psnr: float
    ssim: float
    lpips: float | None
    silhouette_iou: float | None


@dataclass(frozen=True)
class PhotoScore:
    """How far a model shows what a photo shows, seen from the photo's own camera.

    Attributes:
        photo: its number, as `PhotoRegistration` has it; 0 is the first.
        psnr: dB, higher is better.
        silhouette_iou: intersection over union of the outlines, 0..1, higher is better.
        lpips: >= 0, lower is better; None without weights.
    """

    photo: int
    psnr: float
    silhouette_iou: float
    lpips: float | None = None


@dataclass(frozen=True)
class Scores:
    """What is known of a model, what is a guess, and how it agrees with images. None means "not
    measured".

    Attributes:
        psnr: dB, higher is better.
        ssim: -1..1, higher is better.
        lpips: >= 0, lower is better; None without weights.
        view_agreement: 0..1, higher is better (`pipeline.splats.scores.view_agreement`).
        silhouette_iou: intersection over union of the outlines, 0..1, higher is better.
        consistency: how far apart neighbouring cameras see the same detail, pixels, lower is
            better.
        floaters: share of the model's opacity that floats far from all other splats, 0..1, lower
            is better.
        views: one entry per reference view.
        extra: further named numbers; the guards of the refinement are among them.
        photos: one entry per photo; what is known.
        seen_share: of the model's surface, what any photo saw, 0..1; the rest is a guess.
        evidence: what `expected_likeness` was found from, by its names.
        expected_likeness: 0..1, how far the model is expected to look like the object from sides
            that no photo showed (`pipeline.splats.likeness`); None without a photo.
    """

    psnr: float
    ssim: float
    lpips: float | None
    view_agreement: float
    silhouette_iou: float | None = None
    consistency: float | None = None
    floaters: float | None = None
    views: tuple[ViewScore, ...] = ()
    extra: dict[str, float] = field(default_factory=dict)
    photos: tuple[PhotoScore, ...] = ()
    seen_share: float | None = None
    evidence: dict[str, float] = field(default_factory=dict)
    expected_likeness: float | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences a user should read: what is a guess, and what the numbers lack."""
        guess: tuple[str, ...] = ()
        if self.seen_share is not None and self.expected_likeness is not None:
            saw = "The photo saw" if len(self.photos) == 1 else "The photos saw"
            guess = (
                f"{saw} {self.seen_share:.0%} of the model's surface. The rest is a guess, "
                f"expected to look {self.expected_likeness:.2f} like the object, where 1 is the "
                "object itself.",
            )
        if self.lpips is not None:
            return guess
        return (
            *guess,
            "LPIPS was not measured, because its weights are not installed: view_agreement is "
            "made of the other scores and does not compare with one that has it, and refinements "
            "do not guard the LPIPS of the photo's own view.",
        )
