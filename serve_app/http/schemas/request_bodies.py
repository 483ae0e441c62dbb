"""What requests may say: bodies and queries that forbid unknown fields.

It knows the contract's words and the pipeline's options; not what is done with them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from deployments.jobs.rows import ProjectStatus
from pipeline.file_types import FORMATS
from pipeline.options import (
    FACE_LIMITS,
    MAX_CANDIDATES,
    SEED_LIMIT,
    TEXTURE_SIZES,
    ExportOptions,
    GenerateOptions,
    RefineOptions,
    random_seed,
)
from pipeline.rig import VIEW_COUNT

__all__ = ["ExportQuery", "GenerateBody", "ProjectsQuery", "RefineBody", "ReportQuery"]

Seed = Annotated[int, Field(ge=0, lt=SEED_LIMIT, strict=True)]
Count = Annotated[int, Field(strict=True)]
#: Its length here; what it may say is `deployments.jobs.egress`'.
WebhookUrl = Annotated[str, Field(min_length=1, max_length=2000)]


class _Body(BaseModel):
    """A request body: unknown fields are refused, numbers are numbers (not strings)."""

    model_config = ConfigDict(extra="forbid")


class _Query(BaseModel):
    """Query parameters: unknown ones are refused."""

    model_config = ConfigDict(extra="forbid")


def _shape(*words: object) -> str:
    """One word for jobs that take about as long; what was not asked for is the same for all."""
    return ":".join("-" if word is None else str(word) for word in words)


class GenerateBody(_Body):
    """Options of `POST /generate`; all optional."""

    preset: Literal["draft", "standard", "high"] = "standard"
    seed: Seed | None = None
    elevation_deg: Annotated[float, Field(ge=-10, le=40, allow_inf_nan=False)] = 30.0
    steps: Annotated[Count, Field(ge=1, le=1000)] | None = None
    guidance_scale: Annotated[float, Field(ge=0, le=20, allow_inf_nan=False)] | None = None
    sampler: Literal["ddim", "dpm++"] | None = None
    num_gaussians: Annotated[Count, Field(ge=500, le=500_000)] | None = None
    candidates: Annotated[Count, Field(ge=1, le=MAX_CANDIDATES)] = 1
    webhook_url: WebhookUrl | None = None

    def options(self) -> GenerateOptions:
        """As the pipeline wants them; a missing seed is drawn here."""
        values = self.model_dump(exclude={"seed", "webhook_url"})
        return GenerateOptions(seed=random_seed() if self.seed is None else self.seed, **values)

    def shape(self) -> str:
        """What the job's time depends on: see `NewJob.shape`."""
        return _shape(self.preset, self.num_gaussians, self.candidates, self.steps)


class RefineBody(_Body):
    """Options of `POST /refine`; all optional."""

    num_iterations: Annotated[Count, Field(ge=1, le=100)] = 3
    learning_rate: Annotated[float, Field(ge=1e-5, le=1, allow_inf_nan=False)] = 0.01
    views_to_refine: (
        Annotated[
            list[Annotated[Count, Field(ge=0, lt=VIEW_COUNT)]],
            Field(min_length=1, max_length=VIEW_COUNT),
        ]
        | None
    ) = None
    strength: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.5
    prompt: Annotated[str, Field(max_length=1000)] | None = None
    negative_prompt: Annotated[str, Field(max_length=1000)] | None = None
    seed: Seed | None = None
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


class ExportQuery(_Query):
    """Query of `GET /export`; unknown parameters are refused."""

    format: Annotated[str, Field(json_schema_extra={"enum": [*FORMATS]})] = "ply"
    optimize: bool = False
    face_limit: Annotated[int, Field(ge=FACE_LIMITS[0], le=FACE_LIMITS[1])] = 10_000
    texture_size: Annotated[int, Field(ge=TEXTURE_SIZES[0], le=TEXTURE_SIZES[1])] = 1024
    webhook_url: WebhookUrl | None = None

    def options(self) -> ExportOptions:
        """As the pipeline wants them, canonical. Raises InvalidOption, which lists the formats."""
        return ExportOptions(**self.model_dump(exclude={"webhook_url"})).canonical()

    def shape(self) -> str:
        """What the job's time depends on: see `NewJob.shape`."""
        return _shape(self.format, self.optimize)


class ReportQuery(_Query):
    """Query of a project's report; unknown parameters are refused."""

    format: Literal["json", "html"] | None = None
    version: Annotated[int, Field(ge=0, lt=2**31)] | None = None


class ProjectsQuery(_Query):
    """Query of the list of projects; unknown parameters are refused."""

    status: ProjectStatus | None = None
    cursor: Annotated[str, Field(max_length=200)] | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20
