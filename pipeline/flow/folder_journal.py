"""Journals that keep a run in one folder, for the command line.

The files have the names and contents of the service's object paths, without the project, and
their hashes are collected by step. It does not resume: the command line starts afresh. It does
not know what draws the progress.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.control import Progress, Report, ignore_progress
from pipeline.errors import Conflict, InvalidInput
from pipeline.file_types import FORMATS
from pipeline.flow.artifacts import (
    LATENT_FILE,
    encode_depths,
    encode_generated,
    encode_registered,
    encode_views,
)
from pipeline.flow.manifest import Step, StepKind, content_hash
from pipeline.flow.stored_photos import PlacedPhoto
from pipeline.flow.view_edits import EditRecord, ViewEdit, apply_edits, changed_files
from pipeline.formats.ply import write_ply
from pipeline.imaging.decoding import encode_png
from pipeline.journals import Candidate, IterationOutcome
from pipeline.requests import Generated, KeptLatent, RegisteredPhotos
from pipeline.types import DepthMaps, Scores, SplatModel, ViewSet

_FINAL = "|".join(re.escape(known.suffix) for known in FORMATS.values())

#: What a run writes, by subfolder: file names that are removed when the next run begins. The
#: final models and the previews stand beside the versions.
_OWN_FILES = {
    "views": r"\d\d\.png|(geometry|auxiliary|photos|registered)\.npz",
    "depth": r"\d\d\.(npy|png)|confidence\.npz",
    "models": rf"v\d+\.(ply|png|mp4)|final\.({_FINAL})|{re.escape(LATENT_FILE)}",
    "enhanced": r"\d+/\d\d(\.before|\.after)?\.png",
    "photos": r"\d+/(original|processed)\.png",
    "edits": r"[0-9a-f]{16}\.png",
    "steps": r"\d+/(views|depth|enhanced|models)/.*\.(png|npy|npz)",
}

#: Called when a stage is entered, with its name.
EnterStage = Callable[[str], None]


@dataclass(frozen=True)
class StageSeconds:
    """One line of the table at the end of a run."""

    stage: str
    seconds: float
    engine: str


@dataclass(frozen=True)
class FolderVersion:
    """A version of a run, with the views and depth of the generation that it comes from, as far as
    the journal was given them.

    Attributes:
        views: before the photos were registered against them.
        photos: as they were registered; None where they were not.
        generation: number of the version which that generation made.
        latent: that its generator kept, where one made it.
    """

    model: SplatModel
    views: ViewSet | None
    depths: DepthMaps | None
    photos: RegisteredPhotos | None
    generation: int
    latent: KeptLatent | None = None


@dataclass(frozen=True)
class GoingOn:
    """What a step begins with, beside the photo.

    Attributes:
        version: that is refined, or whose stages are kept; None: the newest one for a refinement,
            none for a generation.
        kept: names of the stages that a generation keeps.
        edits, records: of the views that it keeps: what is done, and what the manifest says of it.
        first_number: of the versions that the step makes; None: the next one.
    """

    version: int | None = None
    kept: tuple[str, ...] = ()
    edits: tuple[ViewEdit, ...] = ()
    records: tuple[EditRecord, ...] = ()
    first_number: int | None = None


@dataclass
class FolderJournal:
    """Both journals of the pipeline over one folder.

    It is the only mutable part of a run: `seconds` grows by one entry per stage, `versions` by
    one entry per version, `steps` by one per call of `begin`. Files of an earlier run in the
    folder are removed when it is made, so that the folder never shows two runs as one; files of
    other names are left alone. Nothing of this run is overwritten: what has the name of a file of
    an earlier step stands below `steps/` and the number of its own.
    """

    folder: Path
    on_enter: EnterStage = lambda _stage: None
    on_progress: Report = ignore_progress
    seconds: list[StageSeconds] = field(default_factory=list)
    versions: dict[int, FolderVersion] = field(default_factory=dict)
    #: For the manifest; engines and artefacts of the last one grow while it runs.
    steps: list[Step] = field(default_factory=list)
    _views: ViewSet | None = None
    _depths: DepthMaps | None = None
    _photos: RegisteredPhotos | None = None
    _latent: KeptLatent | None = None
    _going_on: GoingOn = GoingOn()
    _next_number: int = 0

    def __post_init__(self) -> None:
        for subfolder, own in _OWN_FILES.items():
            _remove_files(self.folder / subfolder, re.compile(own))

    def begin(
        self,
        kind: StepKind,
        options: Mapping[str, Any],
        engines: Mapping[str, str],
        photos: Sequence[PlacedPhoto] = (),
        going_on: GoingOn | None = None,
    ) -> None:
        """What is written from now on belongs to a new step.

        Args:
            options: JSON-ready.
            engines: those that only the caller knows; the journal adds the others.
            photos: of a generation.
            going_on: what the step begins with; None: a generation with the photos, a refinement
                with the newest version.

        Raises:
            InvalidInput: it goes on from a version that no step has made.
        """
        going_on, self._latent = going_on or GoingOn(), None
        if kind is StepKind.REFINE and going_on.version is None:
            going_on = replace(going_on, version=max(self.versions, default=None))
        parent: int | None = None
        if going_on.version is not None:
            if going_on.version not in self.versions:
                raise InvalidInput(
                    f"Step {len(self.steps) + 1} begins with version {going_on.version}, which no "
                    f"step before it has made: there are {sorted(self.versions)}."
                )
            base = self.versions[going_on.version]
            self._views, self._depths, self._photos = base.views, base.depths, base.photos
            self._latent = base.latent
            parent = going_on.version if kind is StepKind.REFINE else base.generation
        self._going_on = going_on
        if going_on.first_number is not None:
            self._next_number = going_on.first_number
        self.steps.append(
            Step(
                kind,
                dict(options),
                dict(engines),
                {},
                photos=tuple(photos),
                parent=parent,
                edits=going_on.records,
            )
        )

    def _used(self, port: str, engine: str) -> None:
        if not self.steps:
            return
        engines = self.steps[-1].engines
        # Views, depth and splats of a generator are no other engine's work.
        if "generator" not in engines or port not in ("views", "depth", "splats"):
            engines[port] = engine

    async def enter(self, stage: str, start: float, end: float) -> None:
        del start, end  # a bar per stage: the share of the whole does not matter here
        self.on_enter(stage)

    def report(self, progress: Progress) -> None:
        self.on_progress(progress)

    def _write(self, subfolder: str, files: dict[str, bytes]) -> None:
        for name, data in files.items():
            artefact = f"{subfolder}/{name}"
            target = self.folder / artefact
            if any(artefact in step.artefacts for step in self.steps[:-1]):
                target = self.folder / "steps" / str(len(self.steps)) / artefact
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            if self.steps:
                self.steps[-1].artefacts[artefact] = content_hash(data)

    def _add_version(self, model: SplatModel, generation: int | None = None) -> None:
        number = self._next_number
        self._next_number += 1
        self._write("models", {f"v{number}.ply": write_ply(model)})
        self.versions[number] = FolderVersion(
            model,
            self._views,
            self._depths,
            self._photos,
            number if generation is None else generation,
            self._latent,
        )

    # generation

    async def load_views(self) -> ViewSet | None:
        """Those that are kept, with what was done to them."""
        going_on = self._going_on
        if "views" not in going_on.kept or self._views is None:
            return None
        if going_on.edits:
            self._views = apply_edits(self._views, going_on.edits)
            changed, whole = changed_files(going_on.edits), encode_views(self._views)
            self._write("views", {name: whole[name] for name in sorted(changed)})
        self._used("views", self._views.engine)
        self.steps[-1] = replace(self.steps[-1], camera=self._views.estimate)
        return self._views

    async def load_generated(self) -> Generated | None:
        return None

    async def load_latent(self) -> KeptLatent:
        if self._latent is None:
            raise Conflict(
                f"Version {self._going_on.version} was made by views: nothing of a pass was kept."
            )
        return self._latent

    async def save_generated(self, generated: Generated, seconds: float) -> None:
        # The model is written with its version.
        self._write("models", encode_generated(generated))
        self._latent = generated.latent
        self._used("generator", generated.engine)
        self.seconds.append(StageSeconds("generator", seconds, generated.engine))

    async def load_depths(self) -> DepthMaps | None:
        if "depth" not in self._going_on.kept or self._depths is None:
            return None
        self._used("depth", self._depths.engine)
        return self._depths

    async def load_model(self) -> SplatModel | None:
        return None

    async def load_ranking(self) -> tuple[Candidate, ...] | None:
        return None

    async def save_ranking(self, ranking: tuple[Candidate, ...], seconds: float) -> None:
        # Printed by the caller. The table has the stages of the chosen one below it.
        self.seconds.append(StageSeconds("candidates", seconds, f"all {len(ranking)}"))

    async def save_views(self, views: ViewSet, seconds: float) -> None:
        self._write("views", encode_views(views))
        self._views, self._photos = views, None
        self._used("views", views.engine)
        if self.steps:
            self.steps[-1] = replace(self.steps[-1], camera=views.estimate)
        self.seconds.append(StageSeconds("views", seconds, views.engine))

    async def save_depths(self, depths: DepthMaps, seconds: float) -> None:
        self._write("depth", encode_depths(depths))
        self._depths = depths
        self._used("depth", depths.engine)
        self.seconds.append(StageSeconds("depth", seconds, depths.engine))

    async def load_photos(self) -> RegisteredPhotos | None:
        if "photos" not in self._going_on.kept or self._photos is None or self._views is None:
            return None
        self.steps[-1] = replace(self.steps[-1], camera=self._photos.on(self._views).estimate)
        return self._photos

    async def save_photos(self, photos: RegisteredPhotos, seconds: float) -> None:
        assert self._views is not None, "photos are registered against views"
        self._write("views", encode_registered(photos))
        self._photos = photos
        if self.steps:
            self.steps[-1] = replace(self.steps[-1], camera=photos.on(self._views).estimate)
        self.seconds.append(StageSeconds("photos", seconds, photos.photos.engine))

    async def save_model(
        self, model: SplatModel, scores: Scores, engine: str, seconds: float
    ) -> None:
        del scores  # printed by the caller
        self._used("splats", engine)
        self._add_version(model)
        self.seconds.append(StageSeconds("splats", seconds, engine))

    # refinement

    async def generated_views(self) -> ViewSet:
        assert self._views is not None, "refine runs after generate"
        return self._views if self._photos is None else self._photos.on(self._views)

    async def generated_depths(self) -> DepthMaps:
        assert self._depths is not None, "refine runs after generate"
        return self._depths

    async def load_start(self) -> SplatModel:
        assert self._going_on.version is not None, "refine runs after generate"
        return self.versions[self._going_on.version].model

    async def load_iterations(self) -> tuple[IterationOutcome, ...]:
        return ()

    async def save_iteration(self, outcome: IterationOutcome) -> None:
        if outcome.iteration == 0:
            return
        self._used("enhancer", outcome.enhance_engine)
        pictures = (("", outcome.enhanced), (".before", outcome.before), (".after", outcome.after))
        for suffix, images in pictures:
            if images is not None:
                files = {
                    f"{view:02d}{suffix}.png": encode_png(image)
                    for view, image in zip(outcome.enhanced_views, images, strict=True)
                }
                self._write(f"enhanced/{outcome.iteration}", files)
        if outcome.model is not None:
            assert self._going_on.version is not None, "refine runs after generate"
            self._add_version(outcome.model, self.versions[self._going_on.version].generation)
        self.seconds.append(
            StageSeconds(f"iteration {outcome.iteration}", outcome.seconds, outcome.enhance_engine)
        )


def _folders_in(top: Path) -> list[Path]:
    """All folders below `top`, each behind the one that it lies in."""
    found: list[Path] = []
    for folder in top.iterdir():
        if folder.is_dir() and not folder.is_symlink():
            found += [folder, *_folders_in(folder)]
    return found


def _remove_files(top: Path, own: re.Pattern[str]) -> None:
    """Remove the files under `top` whose path relative to it is `own`, and folders left empty.

    A link is never followed: what lies behind it is somebody else's.
    """
    if top.is_symlink() or not top.is_dir():
        return
    for folder in [*reversed(_folders_in(top)), top]:
        for file in folder.iterdir():
            name = file.relative_to(top).as_posix()
            if own.fullmatch(name) and (file.is_symlink() or file.is_file()):
                file.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()
