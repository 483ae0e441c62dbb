"""What a user may choose for a generation, a refinement or an export, checked, with defaults.

It does not know JSON, HTTP or the command line; it raises `InvalidOption` naming the option.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from enum import StrEnum
from functools import cache
from typing import Any, Self, get_type_hints

from pydantic import TypeAdapter, ValidationError

from pipeline.errors import InvalidOption
from pipeline.file_types import find_format
from pipeline.rig import HELD_OUT_VIEWS, VIEW_COUNT
from pipeline.seeds import SEED_LIMIT

#: Samplers of a diffusion view engine.
SAMPLERS = ("ddim", "dpm++")

#: Stages that a generation by views may begin with, in their order.
FROM_STAGES = ("views", "depth", "splats")

#: What a generation by a generator may begin with: what an earlier pass kept.
FROM_LATENT = "latent"

#: `engine` of a generation by views, depth and a fit; every other word is a generator's name.
BY_VIEWS = "views"

#: How a generator may be told to crop a photo.
IMAGE_TYPES = ("synthetic", "real")

#: Most candidates of one generation.
MAX_CANDIDATES = 8

#: How far above the horizon a photo may have been taken, degrees; engines may allow less
#: (`EngineSpec.check`). From higher up hardly more than the top of an object is seen.
ELEVATION_LIMITS_DEG = (-10.0, 60.0)

#: Fewest and most splats of a fit.
SPLAT_LIMITS = (500, 500_000)

#: Fewest splats of a generator, and most of any engine.
FEWEST_GENERATED, MOST_SPLATS = 32_768, 1_048_576

#: Fewest and most faces of an exported mesh.
FACE_LIMITS = (100, 200_000)

#: Smallest and largest texture of an exported mesh, pixels along each side.
TEXTURE_SIZES = (64, 4096)

#: Lowest and highest exported model, metres.
HEIGHT_LIMITS_M = (0.001, 1000.0)


class DeviceName(StrEnum):
    """Where the engines that can use a GPU compute; `auto` takes a GPU where torch can use one."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Preset(StrEnum):
    """How much work a generation does."""

    DRAFT = "draft"
    STANDARD = "standard"
    HIGH = "high"


# Splats and optimisation steps of each preset. Measured on two cores with the CPU rasteriser and
# the 16 relief views of scikit-image's coffee cup; see docs/decisions.md.
_SPLATS = {Preset.DRAFT: 8_000, Preset.STANDARD: 20_000, Preset.HIGH: 60_000}
# Of a generator: more of them are denser, not better, above 262,144.
_GENERATED = {Preset.DRAFT: 32_768, Preset.STANDARD: 262_144, Preset.HIGH: 262_144}
_FIT_STEPS = {Preset.DRAFT: 100, Preset.STANDARD: 250, Preset.HIGH: 600}
# Sides of the photos as targets, pixels; views are as large as their engine makes them.
_PHOTO_PIXELS = {Preset.DRAFT: 256, Preset.STANDARD: 512, Preset.HIGH: 1024}


#: By the code of pydantic's error, what a value must be.
_WANTED = {
    "bool_type": "true or false",
    "float_type": "a number",
    "int_type": "a whole number",
    "string_type": "a text",
    "tuple_type": "a list of whole numbers",
}


@cache
def _types_of(kind: Any) -> dict[str, TypeAdapter[Any]]:
    return {name: TypeAdapter(declared) for name, declared in get_type_hints(kind).items()}


def _check_types(options: _Options) -> None:
    """Raises InvalidOption that names an option of another type than it is declared with: seed "7",
    1.5 and true are no whole numbers, and nothing that is not finite is a number."""
    kind: Any = type(options)
    for name, adapter in _types_of(kind).items():
        value = getattr(options, name)
        try:
            adapter.validate_python(value, strict=True)
        except ValidationError as error:
            codes = [fault["type"] for fault in error.errors()]
            # Where items are wrong, what is wanted is a list of others.
            codes += ["tuple_type"] if error.errors()[0]["loc"] else []
            known = [_WANTED[code] for code in reversed(codes) if code in _WANTED]
            wanted = known[0] if known else "of another type"
            raise InvalidOption(f"{name} must be {wanted}, got {value!r}.") from None
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidOption(f"{name} must be a number, got {value!r}.")


def _check_range(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        # A whole number may be too large for a float.
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        raise InvalidOption(f"{name} must be between {low:g} and {high:g}, got {shown}.")


def _check_version(version: int | None) -> None:
    _check_range("version", version, 0, 2**31 - 1)


@dataclass(frozen=True)
class _Options:
    """Shared by all option sets: they travel as JSON in the job row."""

    def __post_init__(self) -> None:
        _check_types(self)
        self._check_values()

    def _check_values(self) -> None:
        """Raises InvalidOption for a value out of range."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild from `to_json`. Raises InvalidOption for names that are unknown or missing, and
        for values of another type or out of range."""
        known = {f.name: f for f in fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise InvalidOption(f"Unknown option {unknown[0]!r}; known are {sorted(known)}.")
        for name, field in known.items():
            if field.default is MISSING and name not in values:
                raise InvalidOption(f"The option {name} is missing.")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})

    def to_json(self) -> dict[str, Any]:
        """Every option with its value, JSON-ready."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


@dataclass(frozen=True)
class GenerateOptions(_Options):
    """Options of one generation.

    Attributes:
        seed: of every random choice; the same seed gives the same model on the same machine.
        preset: sets `num_gaussians` and `fit_steps` where they are None.
        elevation_deg: how far above the horizon the photo was taken, -10..60 degrees; None has the
            view engine estimate it from the photo, or take the rig's where it cannot, and say so.
        steps, guidance_scale: of a diffusion view engine or a generator; None leaves the engine's
            default.
        sampler: of a diffusion view engine, "ddim" or "dpm++" (fewer steps); None is its default.
            Others have no use for these three and say so in their notes.
        num_gaussians: cap on the number of splats, 500..500,000; of a generator their number, up
            to 1,048,576.
        fit_steps: optimisation steps of the first fit, 1..10,000.
        candidates: models made with `seed`, `seed` + 1, ..., of which the best is kept, 1..8.
        from_stage: the stage to begin with, one of `FROM_STAGES`; what comes before it is kept from
            an earlier version: the cut-out, its views, its depth. `FROM_LATENT`: with what the
            generator of that version kept. None begins with the photo.
        version: that version; None where it is still to be told: the current one.
        engine: what makes the first model: a generator's name, or `BY_VIEWS`; None is that.
        shift: of a generator, how its steps are spread, .1..20.
        image_type: of a generator, one of `IMAGE_TYPES`.
        decode_seed: of a generator: of the random choices that make splats of what it found.
    """

    seed: int
    preset: str = Preset.STANDARD.value
    elevation_deg: float | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    sampler: str | None = None
    num_gaussians: int | None = None
    fit_steps: int | None = None
    candidates: int = 1
    from_stage: str | None = None
    version: int | None = None
    engine: str | None = None
    shift: float | None = None
    image_type: str | None = None
    decode_seed: int | None = None

    def _check_values(self) -> None:
        _check_range("seed", self.seed, 0, SEED_LIMIT - 1)
        if self.preset not in list(Preset):
            raise InvalidOption(f"preset must be one of {[p.value for p in Preset]}.")
        _check_range("elevation_deg", self.elevation_deg, *ELEVATION_LIMITS_DEG)
        _check_range("steps", self.steps, 1, 1000)
        _check_range("guidance_scale", self.guidance_scale, 0, 20)
        if self.sampler is not None and self.sampler not in SAMPLERS:
            raise InvalidOption(f"sampler must be one of {list(SAMPLERS)}, got {self.sampler!r}.")
        _check_range("num_gaussians", self.num_gaussians, SPLAT_LIMITS[0], MOST_SPLATS)
        _check_range("shift", self.shift, 0.1, 20)
        _check_range("decode_seed", self.decode_seed, 0, SEED_LIMIT - 1)
        if self.image_type is not None and self.image_type not in IMAGE_TYPES:
            raise InvalidOption(
                f"image_type must be one of {list(IMAGE_TYPES)}, got {self.image_type!r}."
            )
        _check_range("fit_steps", self.fit_steps, 1, 10_000)
        _check_range("candidates", self.candidates, 1, MAX_CANDIDATES)
        self._check_from()

    def _check_from(self) -> None:
        if self.from_stage is None:
            if self.version is not None:
                raise InvalidOption(
                    "version is the one whose stages are kept: say with from at which stage to "
                    "begin, or leave it out."
                )
            return
        if self.from_stage not in (*FROM_STAGES, FROM_LATENT):
            raise InvalidOption(f"from must be one of {[*FROM_STAGES, FROM_LATENT]}.")
        _check_version(self.version)
        if self.candidates > 1:
            raise InvalidOption(
                "candidates are made from the photo on: leave out candidates, or from."
            )
        if self.from_stage == "views":
            return
        begin = "the photo" if self.from_stage == FROM_LATENT else "the views"
        for name in ("elevation_deg", "steps", "guidance_scale", "sampler", "shift", "image_type"):
            if getattr(self, name) is not None:
                raise InvalidOption(
                    f"{name} is of what from={self.from_stage} keeps: leave it out, or begin with "
                    f"{begin}."
                )

    @property
    def kept_stages(self) -> tuple[str, ...]:
        """Stages that are taken from an earlier version."""
        if self.from_stage is None or self.from_stage == FROM_LATENT:
            return ()
        kept = FROM_STAGES[: FROM_STAGES.index(self.from_stage)]
        # Photos are registered between depth and splats.
        return (*kept, "photos") if self.from_stage == "splats" else kept

    def kept_of(self, base: GenerateOptions) -> tuple[str, ...]:
        """Of `kept_stages` those that serve as they were made with the options of that version: its
        photos do not where they are to be looked at with another number of pixels."""
        if self.photo_pixels == base.photo_pixels:
            return self.kept_stages
        return tuple(stage for stage in self.kept_stages if stage != "photos")

    @property
    def by_generator(self) -> bool:
        """A generator makes the first model."""
        return self.engine not in (None, BY_VIEWS)

    @property
    def splat_count(self) -> int:
        """The number, or the cap, that applies."""
        of_preset = _GENERATED if self.by_generator else _SPLATS
        return self.num_gaussians or of_preset[Preset(self.preset)]

    @property
    def photo_pixels(self) -> int:
        """Most pixels along each side of a photo that the model is fitted to."""
        return _PHOTO_PIXELS[Preset(self.preset)]

    @property
    def fit_iterations(self) -> int:
        """The number of optimisation steps that applies."""
        return self.fit_steps or _FIT_STEPS[Preset(self.preset)]


@dataclass(frozen=True)
class RefineOptions(_Options):
    """Options of one refinement.

    Attributes:
        seed: of every random choice.
        num_iterations: upper bound on the iterations, 1..100; fewer run when the gain is < 1%.
        learning_rate: base rate of the colours, 1e-5..1; other parameters scale with it.
        views_to_refine: indices of the views to enhance, each 0..15 and none that is held out
            for the scores; None means all of these.
        strength: of the enhancement in the first iteration, 0..1; later ones are weaker.
        prompt, negative_prompt: for a diffusion enhancer; other engines have no use for them and
            say so, and an engine that a negative prompt cannot influence refuses it.
        steps_per_iteration: optimisation steps of one iteration, 1..10,000.
        version: of the model to refine; None where it is still to be told: the current one.
    """

    seed: int
    num_iterations: int = 3
    learning_rate: float = 0.01
    views_to_refine: tuple[int, ...] | None = None
    strength: float = 0.5
    prompt: str | None = None
    negative_prompt: str | None = None
    steps_per_iteration: int = 120
    version: int | None = None

    def _check_values(self) -> None:
        _check_range("seed", self.seed, 0, SEED_LIMIT - 1)
        _check_range("num_iterations", self.num_iterations, 1, 100)
        _check_range("learning_rate", self.learning_rate, 1e-5, 1.0)
        _check_range("strength", self.strength, 0, 1)
        _check_range("steps_per_iteration", self.steps_per_iteration, 1, 10_000)
        _check_version(self.version)
        if self.views_to_refine is not None:
            if not self.views_to_refine:
                raise InvalidOption("views_to_refine must name at least one view.")
            for index in self.views_to_refine:
                if not 0 <= index < VIEW_COUNT:
                    raise InvalidOption(
                        f"views_to_refine must hold indices 0..{VIEW_COUNT - 1}, got {index}."
                    )
            if len(set(self.views_to_refine)) != len(self.views_to_refine):
                raise InvalidOption("views_to_refine names a view twice.")
            kept = sorted(set(self.views_to_refine) & set(HELD_OUT_VIEWS))
            if kept:
                raise InvalidOption(
                    f"views_to_refine must not name {kept[0]}: views {list(HELD_OUT_VIEWS)} are "
                    "kept for the scores."
                )


@dataclass(frozen=True)
class ExportOptions(_Options):
    """Options of one export.

    Attributes:
        format: a name in `pipeline.file_types.FORMATS`.
        optimize: leave out and round off what nobody sees.
        face_limit: most faces of a mesh, 100..200,000; formats of splats have no use for it.
        texture_size: of a mesh's texture, pixels along each side, 64..4096; the same holds.
        unlit: the colours of a mesh are shown as they are, whatever lights a viewer has; splats
            never are lit.
        height_m: the model is so many metres high, .001..1,000, and stands on the ground, its
            middle above the origin; None leaves its size and place, or, in files for printers,
            makes its longest side 100 mm.
        version: of the model; None where it is still to be told: the current one.
    """

    format: str
    optimize: bool = False
    face_limit: int = 10_000
    texture_size: int = 1024
    unlit: bool = False
    height_m: float | None = None
    version: int | None = None

    def _check_values(self) -> None:
        find_format(self.format)
        _check_range("face_limit", self.face_limit, *FACE_LIMITS)
        _check_range("texture_size", self.texture_size, *TEXTURE_SIZES)
        _check_range("height_m", self.height_m, *HEIGHT_LIMITS_M)
        _check_version(self.version)

    def canonical(self) -> ExportOptions:
        """Equal for all options that make the same file: what the format ignores is default."""
        if find_format(self.format).is_mesh:
            return self
        return ExportOptions(
            self.format, self.optimize, height_m=self.height_m, version=self.version
        )

    def of_the_file(self) -> dict[str, Any]:
        """What shapes a file of one model, JSON-ready: every option but the version."""
        return {name: value for name, value in self.to_json().items() if name != "version"}


#: What a job is asked for, whichever kind it is.
JobOptions = GenerateOptions | RefineOptions | ExportOptions
