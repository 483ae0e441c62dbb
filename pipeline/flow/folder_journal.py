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
from pipeline.file_types import FORMATS
from pipeline.flow.artifacts import encode_depths, encode_registered, encode_views
from pipeline.flow.manifest import Step, StepKind, content_hash
from pipeline.flow.stored_photos import PlacedPhoto
from pipeline.formats.ply import write_ply
from pipeline.imaging.decoding import encode_png
from pipeline.journals import Candidate, IterationOutcome
from pipeline.requests import RegisteredPhotos
from pipeline.types import DepthMaps, Scores, SplatModel, ViewSet

_FINAL = "|".join(re.escape(known.suffix) for known in FORMATS.values())

#: What a run writes, by subfolder: file names that are removed when the next run begins. The
#: final models and the previews stand beside the versions.
_OWN_FILES = {
    "views": r"\d\d\.png|(geometry|auxiliary|photos|registered)\.npz",
    "depth": r"\d\d\.(npy|png)|confidence\.npz",
    "models": rf"v\d+\.(ply|png|mp4)|final\.({_FINAL})",
    "enhanced": r"\d+/\d\d(\.before|\.after)?\.png",
    "photos": r"\d+/(original|processed)\.png",
}

#: Called when a stage is entered, with its name.
EnterStage = Callable[[str], None]


@dataclass(frozen=True)
class StageSeconds:
    """One line of the table at the end of a run."""

    stage: str
    seconds: float
    engine: str


@dataclass
class FolderJournal:
    """Both journals of the pipeline over one folder.

    It is the only mutable part of a run: `seconds` grows by one entry per stage, `versions` by
    one model per version, `steps` by one per call of `begin`. Files of an earlier run in the
    folder are removed when it is made, so that the folder never shows two runs as one; files of
    other names are left alone.
    """

    folder: Path
    on_enter: EnterStage = lambda _stage: None
    on_progress: Report = ignore_progress
    seconds: list[StageSeconds] = field(default_factory=list)
    versions: list[SplatModel] = field(default_factory=list)
    #: For the manifest; engines and artefacts of the last one grow while it runs.
    steps: list[Step] = field(default_factory=list)
    _views: ViewSet | None = None
    _depths: DepthMaps | None = None

    def __post_init__(self) -> None:
        for subfolder, own in _OWN_FILES.items():
            _remove_files(self.folder / subfolder, re.compile(own))

    def begin(
        self,
        kind: StepKind,
        options: Mapping[str, Any],
        engines: Mapping[str, str],
        photos: Sequence[PlacedPhoto] = (),
    ) -> None:
        """What is written from now on belongs to a new step.

        Args:
            options: JSON-ready.
            engines: those that only the caller knows; the journal adds the others.
            photos: of a generation.
        """
        self.steps.append(Step(kind, dict(options), dict(engines), {}, photos=tuple(photos)))

    def _used(self, port: str, engine: str) -> None:
        if self.steps:
            self.steps[-1].engines[port] = engine

    async def enter(self, stage: str, start: float, end: float) -> None:
        del start, end  # a bar per stage: the share of the whole does not matter here
        self.on_enter(stage)

    def report(self, progress: Progress) -> None:
        self.on_progress(progress)

    def _write(self, subfolder: str, files: dict[str, bytes]) -> None:
        target = self.folder / subfolder
        target.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (target / name).write_bytes(data)
            if self.steps:
                self.steps[-1].artefacts[f"{subfolder}/{name}"] = content_hash(data)

    def _add_version(self, model: SplatModel) -> None:
        self._write("models", {f"v{len(self.versions)}.ply": write_ply(model)})
        self.versions.append(model)

    # generation

    async def load_views(self) -> ViewSet | None:
        return None

    async def load_depths(self) -> DepthMaps | None:
        return None

    async def load_model(self) -> SplatModel | None:
        return None

    async def load_ranking(self) -> tuple[Candidate, ...] | None:
        return None

    async def save_ranking(self, ranking: tuple[Candidate, ...], seconds: float) -> None:
        # Printed by the caller. The table has the stages of the chosen one below it.
        self.seconds.append(StageSeconds("candidates", seconds, f"all {len(ranking)}"))

    async def save_views(self, views: ViewSet, seconds: float) -> None:
        self._write("views", encode_views(views))
        self._views = views
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
        return None

    async def save_photos(self, photos: RegisteredPhotos, seconds: float) -> None:
        assert self._views is not None, "photos are registered against views"
        self._write("views", encode_registered(photos))
        self._views = photos.on(self._views)
        if self.steps:
            self.steps[-1] = replace(self.steps[-1], camera=self._views.estimate)
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
        return self._views

    async def generated_depths(self) -> DepthMaps:
        assert self._depths is not None, "refine runs after generate"
        return self._depths

    async def load_start(self) -> SplatModel:
        return self.versions[-1]

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
            self._add_version(outcome.model)
        self.seconds.append(
            StageSeconds(f"iteration {outcome.iteration}", outcome.seconds, outcome.enhance_engine)
        )


def _remove_files(top: Path, own: re.Pattern[str]) -> None:
    """Remove the files under `top` whose path relative to it is `own`, and folders left empty.

    A link is never followed: what lies behind it is somebody else's.
    """
    if top.is_symlink() or not top.is_dir():
        return
    folders = [top, *(f for f in top.iterdir() if f.is_dir() and not f.is_symlink())]
    for folder in reversed(folders):
        for file in folder.iterdir():
            name = file.relative_to(top).as_posix()
            if own.fullmatch(name) and (file.is_symlink() or file.is_file()):
                file.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()
