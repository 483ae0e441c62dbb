"""What requests may say: bodies and queries that forbid unknown fields.

It knows the contract's words and the pipeline's options; not what is done with them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from deployments.jobs.rows import ProjectStatus
from pipeline.errors import InvalidOption
from pipeline.file_types import FORMATS
from pipeline.flow.photo_list import MAX_PHOTOS
from pipeline.options import (
    ELEVATION_LIMITS_DEG,
    FACE_LIMITS,
    FROM_LATENT,
    HEIGHT_LIMITS_M,
    MAX_CANDIDATES,
    MOST_SPLATS,
    SPLAT_LIMITS,
    TEXTURE_SIZES,
    ExportOptions,
    GenerateOptions,
    RefineOptions,
)
from pipeline.rig import HELD_OUT_VIEWS, VIEW_COUNT
from pipeline.seeds import SEED_LIMIT, random_seed


def _whole(value: object) -> object:
    """7.0 is the integer 7 for JSON Schema; 7.5, "7" and true are not."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


#: Stands behind the limits of a field, or JSON Schema would not have them.
WHOLE = BeforeValidator(_whole)

Seed = Annotated[int, Field(ge=0, lt=SEED_LIMIT, strict=True), WHOLE]
#: Of a model.
Version = Annotated[int, Field(ge=0, lt=2**31, strict=True), WHOLE]
#: No text and no boolean.
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
#: Of an export; what is none is refused by the options, which list those that exist.
FormatName = Annotated[str, Field(json_schema_extra={"enum": [*FORMATS]})]


def _without_nul(text: str) -> str:
    """No text of PostgreSQL can hold it."""
    if "\0" in text:
        raise ValueError("it holds the character U+0000, which no text may hold.")
    return text


_Prompt = Annotated[
    str,
    Field(max_length=1000, json_schema_extra={"pattern": r"^[^\u0000]*$"}),
    AfterValidator(_without_nul),
]

#: Its length here; what it may say is `deployments.jobs.egress`'.
WebhookUrl = Annotated[
    str, Field(min_length=1, max_length=2000, json_schema_extra={"format": "uri"})
]

#: Those that are kept for the scores are refused by the options, which say so.
_View = Annotated[
    int,
    Field(ge=0, lt=VIEW_COUNT, strict=True, json_schema_extra={"not": {"enum": [*HELD_OUT_VIEWS]}}),
    WHOLE,
]


def _each_once(values: list[int]) -> list[int]:
    if len(set(values)) < len(values):
        raise ValueError("Name each of them once.")
    return values


class _Asked(BaseModel):
    """Unknown fields and parameters are refused."""

    model_config = ConfigDict(extra="forbid")


def _shape(*words: object) -> str:
    """One word for jobs that take about as long; what was not asked for is the same for all."""
    return ":".join("-" if word is None else str(word) for word in words)


class GenerateBody(_Asked):
    """Options of `POST /generate`; all optional."""

    preset: Literal["draft", "standard", "high"] = "standard"
    seed: Seed | None = None
    elevation_deg: (
        Annotated[Number, Field(ge=ELEVATION_LIMITS_DEG[0], le=ELEVATION_LIMITS_DEG[1])] | None
    ) = None
    steps: Annotated[int, Field(ge=1, le=1000, strict=True), WHOLE] | None = None
    guidance_scale: Annotated[Number, Field(ge=0, le=20)] | None = None
    sampler: Literal["ddim", "dpm++"] | None = None
    num_gaussians: (
        Annotated[int, Field(ge=SPLAT_LIMITS[0], le=MOST_SPLATS, strict=True), WHOLE] | None
    ) = None
    candidates: Annotated[int, Field(ge=1, le=MAX_CANDIDATES, strict=True), WHOLE] = 1
    from_stage: Annotated[
        Literal["views", "depth", "splats", "latent"] | None, Field(alias="from")
    ] = None
    version: Version | None = None
    engine: Annotated[str, Field(min_length=1, max_length=40)] | None = None
    shift: Annotated[Number, Field(ge=0.1, le=20)] | None = None
    image_type: Literal["synthetic", "real"] | None = None
    decode_seed: Seed | None = None
    webhook_url: WebhookUrl | None = None

    def options(self) -> GenerateOptions:
        """As the pipeline wants them; a missing seed is drawn here.

        Raises InvalidOption, also for the seed of a pass that is not made again.
        """
        if self.from_stage == FROM_LATENT and self.seed is not None:
            raise InvalidOption(
                f"seed is of what from={FROM_LATENT} keeps: leave it out, or give decode_seed for "
                "other splats of the same pass."
            )
        values = self.model_dump(exclude={"seed", "webhook_url"})
        return GenerateOptions(seed=random_seed() if self.seed is None else self.seed, **values)

    def shape(self) -> str:
        """What the job's time depends on: see `NewJob.shape`."""
        more = [word for word in (self.from_stage, self.engine) if word is not None]
        return _shape(self.preset, self.num_gaussians, self.candidates, self.steps, *more)


class RefineBody(_Asked):
    """Options of `POST /refine`; all optional."""

    num_iterations: Annotated[int, Field(ge=1, le=100, strict=True), WHOLE] = 3
    learning_rate: Annotated[Number, Field(ge=1e-5, le=1)] = 0.01
    views_to_refine: (
        Annotated[
            list[_View],
            Field(min_length=1, max_length=VIEW_COUNT, json_schema_extra={"uniqueItems": True}),
        ]
        | None
    ) = None
    strength: Annotated[Number, Field(ge=0, le=1)] = 0.5
    prompt: _Prompt | None = None
    negative_prompt: _Prompt | None = None
    seed: Seed | None = None
    version: Version | None = None
    webhook_url: WebhookUrl | None = None

    def options(self) -> RefineOptions:
        """As the pipeline wants them; a missing seed is drawn here."""
        values = self.model_dump(exclude={"seed", "views_to_refine", "webhook_url"})
        views = None if self.views_to_refine is None else tuple(self.views_to_refine)
        seed = random_seed() if self.seed is None else self.seed
        return RefineOptions(seed=seed, views_to_refine=views, **values)

    def shape(self) -> str:
        """What the job's time depends on: see `NewJob.shape`."""
        views = "all" if self.views_to_refine is None else len(self.views_to_refine)
        return _shape(self.num_iterations, views)


class ExportQuery(_Asked):
    """Query of `GET /export`; unknown parameters are refused."""

    format: FormatName = "ply"
    optimize: bool = False
    face_limit: Annotated[int, Field(ge=FACE_LIMITS[0], le=FACE_LIMITS[1])] = 10_000
    texture_size: Annotated[int, Field(ge=TEXTURE_SIZES[0], le=TEXTURE_SIZES[1])] = 1024
    unlit: bool = False
    # Not a `Number`: in a query every number is a text.
    height_m: (
        Annotated[float, Field(ge=HEIGHT_LIMITS_M[0], le=HEIGHT_LIMITS_M[1], allow_inf_nan=False)]
        | None
    ) = None
    version: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    webhook_url: WebhookUrl | None = None

    def options(self) -> ExportOptions:
        """As the pipeline wants them, canonical. Raises InvalidOption, which lists the formats."""
        return ExportOptions(**self.model_dump(exclude={"webhook_url"})).canonical()

    def shape(self) -> str:
        """What the job's time depends on: see `NewJob.shape`."""
        return _shape(self.format, self.optimize)


class OrderBody(_Asked):
    """Body of `PUT /photos/order`: the positions that the photos have, as they are to stand."""

    order: Annotated[
        list[Annotated[int, Field(ge=0, lt=MAX_PHOTOS, strict=True), WHOLE]],
        Field(min_length=1, max_length=MAX_PHOTOS, json_schema_extra={"uniqueItems": True}),
        AfterValidator(_each_once),
    ]


class ReportQuery(_Asked):
    """Query of a project's report; unknown parameters are refused."""

    format: Literal["json", "html"] | None = None
    version: Annotated[int, Field(ge=0, lt=2**31)] | None = None


class ProjectsQuery(_Asked):
    """Query of the list of projects; unknown parameters are refused."""

    status: ProjectStatus | None = None
    cursor: Annotated[str, Field(max_length=200, json_schema_extra={"minLength": 1})] | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20
