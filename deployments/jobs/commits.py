"""What a stage commits: the rows of its results, one frozen dataclass a table.

A row's fields are the columns, and the names in the JSON of the SQL functions: pydantic reads and
writes them as they stand here. It does not know who commits (`deployments.jobs.store`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import PlainSerializer


def _write_float(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


#: JSON has no infinities: they travel as words that PostgreSQL and Python both read.
WireFloat = Annotated[float, PlainSerializer(_write_float)]


@dataclass(frozen=True)
class ViewRow:
    """One synthesised view: a row of `multiview_generation`.

    Attributes:
        edit: what somebody did to it: "replaced", "struck", or empty.
    """

    view_index: int
    image_path: str
    azimuth_deg: WireFloat
    elevation_deg: WireFloat
    engine: str
    edit: str = ""


@dataclass(frozen=True)
class DepthRow:
    """Depth of one view: a row of `depth_maps`."""

    view_index: int
    depth_path: str
    heat_map_path: str
    engine: str
    min_depth: WireFloat
    max_depth: WireFloat


@dataclass(frozen=True)
class ModelRow:
    """One version of the splat model: a row of `gaussian_splat_models`.

    Attributes:
        origin: "generate" or "refine".
        scores: the scores without a column of their own, JSON-ready: `silhouette_iou`,
            `consistency`, `floaters`, `views`, `extra`, `photos`, `seen_share`, `evidence`.
        parent: the version it was made from: the one that was refined, or whose views (and depth)
            a generation took; None where a generation began with the photo.
    """

    version: int
    model_path: str
    engine: str
    origin: str
    splat_count: int
    file_size_bytes: int
    psnr: WireFloat | None = None
    ssim: WireFloat | None = None
    lpips: WireFloat | None = None
    view_agreement: WireFloat | None = None
    expected_likeness: WireFloat | None = None
    scores: Mapping[str, Any] = field(default_factory=dict)
    parent: int | None = None


@dataclass(frozen=True)
class IterationRow:
    """One refinement iteration, accepted or not.

    It fills a row of `enhancement_iterations` (what ran) and one of `refinement_metrics` (what
    came out). `model_version` is None when the iteration was rolled back. Iteration 0 is the
    model before refinement.

    Attributes:
        scores: as in `ModelRow`.
        detail: `parameters`, `view_weights` (view to trust) and `guards`, JSON-ready.
    """

    iteration_number: int
    accepted: bool
    model_version: int | None
    enhance_engine: str
    strength: WireFloat
    learning_rate: WireFloat
    seconds: WireFloat
    view_agreement: WireFloat
    psnr: WireFloat
    ssim: WireFloat
    lpips: WireFloat | None
    note: str = ""
    scores: Mapping[str, Any] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)
    expected_likeness: WireFloat | None = None


@dataclass(frozen=True)
class EnhancedViewRow:
    """One enhanced target view: a row of `enhanced_views`.

    Attributes:
        before_path, after_path: renders of the model before and after the round, in ENHANCED.
        weight: how far the target was trusted, 0..1.
    """

    iteration_number: int
    view_index: int
    image_path: str
    engine: str
    before_path: str | None = None
    after_path: str | None = None
    weight: WireFloat | None = None


@dataclass(frozen=True)
class ExportRow:
    """One exported file: a row of `export_history`.

    Attributes:
        options: every option with its value, canonical: equal options make equal files.
        contents, saved, notes: of `pipeline.requests.ExportedFile`.
    """

    model_version: int
    format: str
    optimize: bool
    file_path: str
    file_size_bytes: int
    seconds: WireFloat
    options: Mapping[str, Any] = field(default_factory=dict)
    contents: Mapping[str, int] = field(default_factory=dict)
    saved: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PreviewRow:
    """Pictures of one model version: a row of `model_previews`; PNG and MP4 in MODELS."""

    version: int
    thumbnail_path: str
    turntable_path: str


@dataclass(frozen=True)
class SheetRow:
    """One picture of the whole project with renders of one model version: `contact_sheets`."""

    model_version: int
    image_path: str


@dataclass(frozen=True)
class LivePreview:
    """A small model of what a stage has so far: an event, and no row.

    Attributes:
        step: what the stage was doing, a few words.
        path: of the `.splat` file in MODELS, which is gone with the attempt.
    """

    stage: str
    step: str
    path: str
    splat_count: int


@dataclass(frozen=True)
class StageCommit:
    """Everything a stage adds to the records, committed in one atomic step under the fence.

    Committing a stage of a job a second time with the same or a newer fence replaces what the
    stage had committed (the rows are keyed by job and stage).

    Attributes:
        stage: name of the stage; an iteration of refine is a stage of its own.
        seconds: how long the stage took; added to `Job.timings`.
        detail: JSON-ready facts: what the stage needs to be resumed (file names), `hashes` of its
            artefacts, peak memory. `applied_edits` are numbers of `view_edits` that are done with
            this stage.
    """

    stage: str
    seconds: WireFloat
    views: tuple[ViewRow, ...] = ()
    depths: tuple[DepthRow, ...] = ()
    models: tuple[ModelRow, ...] = ()
    iterations: tuple[IterationRow, ...] = ()
    enhanced: tuple[EnhancedViewRow, ...] = ()
    exports: tuple[ExportRow, ...] = ()
    previews: tuple[PreviewRow, ...] = ()
    sheets: tuple[SheetRow, ...] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)
