"""Every fake of the tests. Each says what it makes observable.

`FakeModels` stand in for the models: they answer at once with small, valid values. `SleepingPorts`
take time and fail on demand, in processes of their own; `FaultyStores` make the store fail.
`Pooler` keeps a database's notices to itself.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from deployments.jobs.commits import StageCommit
from deployments.jobs.store import Records
from deployments.model_host import ModelHost
from pipeline.control import Control, Progress, Report, ignore_progress
from pipeline.engines import registry
from pipeline.engines.engine_spec import EngineSpec
from pipeline.engines.registry import EngineChoice
from pipeline.errors import Cancelled, DeviceLost, InvalidImage, OutOfMemory, Unavailable
from pipeline.flow.local import LocalPorts
from pipeline.geometry.cameras import orbit_cameras, rig_cameras
from pipeline.imaging.framing import picture_on_white
from pipeline.journals import Candidate, IterationOutcome
from pipeline.lane import Lane
from pipeline.options import ExportOptions
from pipeline.ports import PortName, Ports
from pipeline.requests import (
    EnhancedImages,
    EnhanceSettings,
    ExportedFile,
    FitRequest,
    Foreground,
    Generated,
    GeneratorRequest,
    Improvement,
    KeptLatent,
    References,
    RefineRequest,
    RegisteredPhotos,
    RegisterRequest,
    Renders,
    ViewRequest,
)
from pipeline.rig import VIEW_COUNT
from pipeline.types import (
    CameraEstimate,
    Cameras,
    Cutout,
    DepthMaps,
    PhotoRegistration,
    PhotoScore,
    Scores,
    SplatModel,
    UInt8Array,
    ViewScore,
    ViewSet,
)
from serve_app.stores import ServedStore, StoreSettings
from serve_app.stores.opened import Pace

SIZE = 32


def some_model(count: int = 20, *, sh_degree: int = 0, seed: int = 0) -> SplatModel:
    """A random valid model."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    return SplatModel(
        means=0.2 * normal(count, 3),
        quats=normal(count, 4),
        log_scales=-3 + 0.3 * normal(count, 3),
        logit_opacities=normal(count),
        sh=normal(count, (sh_degree + 1) ** 2, 3),
    )


def sixty(sh_degree: int = 1) -> SplatModel:
    """Sixty splats whose view-dependent colours are of four kinds, which a palette can hold."""
    model = some_model(60, sh_degree=sh_degree, seed=16)
    model.sh[:, 1:] = model.sh[np.arange(60) % 4, 1:]
    return model


def some_views() -> ViewSet:
    """16 views of a disc, each with a brightness of its own."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    inside = x**2 + y**2 < (SIZE / 3) ** 2
    images = np.full((VIEW_COUNT, SIZE, SIZE, 3), 255, np.uint8)
    for i in range(VIEW_COUNT):
        images[i][inside] = 10 * i
    alphas = np.repeat((inside * 255).astype(np.uint8)[None], VIEW_COUNT, axis=0)
    depth = np.where(alphas > 0, 1.5, 0).astype(np.float32)
    return ViewSet(
        images,
        alphas,
        rig_cameras(SIZE),
        "fake-views",
        depth,
        ("A fake.",),
        surface_confidence=depth / 2,
        estimate=CameraEstimate(17.5, 6.25, 1.1, 0.125),
    )


def some_registration(photo: int) -> PhotoRegistration:
    """Of a photo that fits well."""
    return PhotoRegistration(
        photo=photo,
        accepted=True,
        trust=0.75,
        azimuth_deg=90.0 * photo,
        elevation_deg=12.5,
        roll_deg=0.5,
        focal=1.5,
        outline_iou=0.875,
        color_error=0.0625,
        azimuth_error_deg=None if photo == 0 else 2.5,
    )


def some_generated(request: GeneratorRequest, *, finds_cameras: bool = True) -> Generated:
    """Of a generator: as many splats as are asked for by the thousand, and what it keeps."""
    kept = request.kept or KeptLatent(
        "fake-generator",
        np.random.default_rng(request.seed).standard_normal((8, 4)).astype(np.float32),
        np.float32([[1, 0, 0.25, 0.5, 0.8]] * len(request.photos)),
        request.seed + 1 if request.decode_seed is None else request.decode_seed,
        {"steps": request.steps or 20},
    )
    size = 2 * SIZE
    pictures = np.full((len(request.photos), size, size, 3), 90, np.uint8)
    alphas = np.full(pictures.shape[:3], 255, np.uint8)
    cameras = orbit_cameras([0.0] * len(pictures), [12.5] * len(pictures), size=size)
    photos = ViewSet(pictures, alphas, cameras, "fake-generator")
    found = tuple(some_registration(number) for number in range(len(pictures)))
    return Generated(
        model=some_model(request.num_gaussians // 1000, seed=kept.decode_seed),
        latent=kept,
        photos=RegisteredPhotos(photos, found) if finds_cameras else None,
        engine="fake-generator",
        notes=("A fake model.",),
    )


#: Of the generator of `FakeModels`; `with_fake_generator` makes it one that can be chosen.
FAKE_GENERATOR = EngineSpec(PortName.GENERATOR, "fake-generator", lambda _setup: None)


@contextmanager
def with_fake_generator() -> Iterator[EngineChoice]:
    """Engines among which there is the fake generator."""
    with pytest.MonkeyPatch.context() as patch:
        paths = (*registry.ENGINE_PATHS, "tests.fakes:FAKE_GENERATOR")
        patch.setattr(registry, "ENGINE_PATHS", paths)
        yield EngineChoice(generator=FAKE_GENERATOR.name)


def some_cutout() -> Cutout:
    """An opaque square on a transparent ground."""
    rgba = np.zeros((SIZE, SIZE, 4), np.uint8)
    rgba[8:-8, 8:-8] = (200, 80, 40, 255)
    return Cutout(rgba, "fake-background")


@dataclass
class FakeModels:
    """All ports. `calls` lists the names of the calls in order.

    Attributes:
        qualities: view agreement of every evaluation, one after another; the last one repeats.
        qualities_by_seed: view agreement of a reconstruction by its seed; goes before that.
        fail_at: name of the call that raises `failure`.
        hold_at: name of the call that waits until `release` is set; `cancelled` lists the calls
            that were cancelled while they waited.
        view_requests, fits, registered, refinements, strengths, exports: the requests as they came.
        registers: photos come with a registration each.
        noises: seed and views of every enhancement.
        generated: requests of the generator, as they came.
        finds_cameras: the generator answers with the photos and their cameras.
    """

    qualities: Sequence[float] = (0.5,)
    qualities_by_seed: Mapping[int, float] = field(default_factory=dict)
    fail_at: str | None = None
    failure: Exception | None = None
    hold_at: str | None = None
    release: asyncio.Event = field(default_factory=asyncio.Event)
    holding: asyncio.Event = field(default_factory=asyncio.Event)
    calls: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    registers: bool = False
    view_requests: list[ViewRequest] = field(default_factory=list)
    fits: list[FitRequest] = field(default_factory=list)
    registered: list[RegisterRequest] = field(default_factory=list)
    refinements: list[RefineRequest] = field(default_factory=list)
    strengths: list[float] = field(default_factory=list)
    noises: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    exports: list[ExportOptions] = field(default_factory=list)
    generated: list[GeneratorRequest] = field(default_factory=list)
    finds_cameras: bool = True
    evaluations: int = 0

    def ports(self) -> Ports:
        return Ports(self, self, self, self, self, self, self)

    async def _called(self, name: str, report: Report = ignore_progress) -> None:
        self.calls.append(name)
        if self.fail_at == name and self.failure is not None:
            raise self.failure
        report(Progress(0.5, "half"))
        if self.hold_at == name:
            self.holding.set()
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.cancelled.append(name)
                raise

    async def remove_background(self, rgb: UInt8Array) -> Foreground:
        await self._called("background")
        alpha = np.zeros(rgb.shape[:2], np.uint8)
        if rgb.std() == 0:
            raise InvalidImage("No foreground was found in the photo.")
        h, w = alpha.shape
        alpha[h // 4 : -h // 4, w // 4 : -w // 4] = 255
        return Foreground(alpha, "fake-background")

    async def synthesize_views(
        self, request: ViewRequest, report: Report = ignore_progress
    ) -> ViewSet:
        await self._called("views", report)
        self.view_requests.append(request)
        return some_views()

    async def generate_model(
        self, request: GeneratorRequest, report: Report = ignore_progress
    ) -> Generated:
        await self._called("generator", report)
        self.generated.append(request)
        return some_generated(request, finds_cameras=self.finds_cameras)

    async def estimate_depth(self, views: ViewSet, report: Report = ignore_progress) -> DepthMaps:
        await self._called("depth", report)
        depth = views.surface_depth
        assert depth is not None
        return DepthMaps(depth, (depth > 0).astype(np.float32), "fake-depth")

    async def register(
        self, request: RegisterRequest, report: Report = ignore_progress
    ) -> RegisteredPhotos:
        await self._called("photos", report)
        self.registered.append(request)
        size = request.views.cameras.width
        picture, alpha = picture_on_white(request.cutout, size)
        photos = ViewSet(picture[None], alpha[None], request.assumed, "fake-views")
        found = [some_registration(number) for number in range(1 + len(request.photos))]
        registrations = tuple(found) if self.registers else ()
        notes = ("A fake registration.",) if request.photos else ()
        return RegisteredPhotos(photos, registrations, notes)

    async def reconstruct(
        self, request: FitRequest, report: Report = ignore_progress
    ) -> SplatModel:
        await self._called("splats", report)
        self.fits.append(request)
        return some_model(seed=request.seed)

    async def improve(
        self, request: RefineRequest, report: Report = ignore_progress
    ) -> Improvement:
        await self._called("improve", report)
        self.refinements.append(request)
        count = len(request.originals)
        return Improvement(
            model=some_model(seed=request.seed),
            view_weights=np.linspace(0.5, 1, count, dtype=np.float32),
            enhanced_weights=np.linspace(0.2, 0.9, len(request.enhanced), dtype=np.float32),
            parameters={"steps": request.iterations},
        )

    async def render(
        self, model: SplatModel, cameras: Cameras, *, with_depth: bool = False
    ) -> Renders:
        await self._called("render")
        shape = (len(cameras), cameras.height, cameras.width)
        depth = np.full(shape, 1.5, np.float32) if with_depth else None
        return Renders(np.full((*shape, 3), 99, np.uint8), np.full(shape, 255, np.uint8), depth)

    async def evaluate(self, model: SplatModel, references: References) -> Scores:
        await self._called("evaluate")
        quality = self.qualities[min(self.evaluations, len(self.qualities) - 1)]
        self.evaluations += 1
        for seed, of_seed in self.qualities_by_seed.items():
            if np.array_equal(model.means, some_model(seed=seed).means):
                quality = of_seed
        views = tuple(
            ViewScore(view, 30 * quality + i, quality, None, 0.9)
            for i, view in enumerate(references.views)
        )
        known = (PhotoScore(0, 30 * quality, 0.9),) if references.photos is not None else ()
        return Scores(
            *(30 * quality, quality, None, quality, 0.9, 0.01, 0.002, views, {"photo_psnr": 20.0}),
            photos=known,
        )

    async def engine_name(self) -> str:
        return "fake-splats"

    async def enhance(
        self,
        renders: Renders,
        settings: EnhanceSettings,
        report: Report = ignore_progress,
    ) -> EnhancedImages:
        await self._called("enhance", report)
        assert renders.depth is not None, "an enhancer may want to see the depth"
        self.strengths.append(settings.strength)
        self.noises.append((settings.seed, renders.names))
        notes = () if settings.prompt is None else ("The fake has no use for prompt.",)
        return EnhancedImages(renders.images, "fake-enhancer", notes)

    async def export_model(
        self, model: SplatModel, options: ExportOptions, report: Report = ignore_progress
    ) -> ExportedFile:
        await self._called("export", report)
        self.exports.append(options)
        data = f"{options.format} of {len(model)} splats".encode()
        saved = {"bytes": 7} if options.optimize else {}
        return ExportedFile(data, {"splats": len(model)}, saved, ("A fake file.",))


@dataclass
class MemoryJournal:
    """Both journals in memory. `stages` lists what was entered, `saved` what was saved."""

    views: ViewSet | None = None
    depths: DepthMaps | None = None
    model: SplatModel | None = None
    ranking: tuple[Candidate, ...] | None = None
    photos: RegisteredPhotos | None = None
    shown: ViewSet | None = None
    generated: Generated | None = None
    latent: KeptLatent | None = None
    iterations: list[IterationOutcome] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)
    saved: list[str] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)

    async def enter(self, stage: str, start: float, end: float) -> None:
        assert 0 <= start <= end <= 1
        self.stages.append(stage)

    def report(self, progress: Progress) -> None:
        self.progress.append(progress)

    async def load_views(self) -> ViewSet | None:
        return self.views

    async def generated_views(self) -> ViewSet:
        assert self.views is not None
        return self.views if self.shown is None else self.shown

    async def save_views(self, views: ViewSet, seconds: float) -> None:
        self.views = views
        self.saved.append("views")

    async def load_depths(self) -> DepthMaps | None:
        return self.depths

    async def save_depths(self, depths: DepthMaps, seconds: float) -> None:
        self.depths = depths
        self.saved.append("depth")

    async def generated_depths(self) -> DepthMaps:
        assert self.depths is not None
        return self.depths

    async def load_generated(self) -> Generated | None:
        return self.generated

    async def save_generated(self, generated: Generated, seconds: float) -> None:
        self.generated = generated
        self.saved.append("generator")

    async def load_latent(self) -> KeptLatent:
        assert self.latent is not None
        return self.latent

    async def load_photos(self) -> RegisteredPhotos | None:
        return self.photos

    async def save_photos(self, photos: RegisteredPhotos, seconds: float) -> None:
        self.photos = photos
        if self.views is not None:
            self.shown = photos.on(self.views)
        self.saved.append("photos")

    async def load_model(self) -> SplatModel | None:
        return self.model

    async def load_start(self) -> SplatModel:
        assert self.model is not None
        return self.model

    async def save_model(
        self, model: SplatModel, scores: Scores, engine: str, seconds: float
    ) -> None:
        self.model = model
        self.saved.append("model")

    async def load_ranking(self) -> tuple[Candidate, ...] | None:
        return self.ranking

    async def save_ranking(self, ranking: tuple[Candidate, ...], seconds: float) -> None:
        self.ranking = ranking
        self.saved.append("ranking")

    async def load_iterations(self) -> tuple[IterationOutcome, ...]:
        return tuple(self.iterations)

    async def save_iteration(self, outcome: IterationOutcome) -> None:
        self.iterations.append(outcome)
        self.saved.append(f"iteration-{outcome.iteration}")


@dataclass
class SleepingPorts(FakeModels):
    """Engines that sleep in a lane, as real ones compute in one, and fail on demand.

    What they do stands in files of `folder`, so that a test in another process can change it:
    `naps.json` says how many seconds each call takes (default `nap_s`), and `fault-{call}` names a
    fault and how often it strikes: "raise 1", "hang 1", "lost 1", "oom 2". `hang` ignores that it
    should stop; it ends when `unhang` exists, for a thread cannot be killed. `called.log` gets a
    line per call (process, name, number of splats asked for), and one that says "stopped" when it
    was.
    """

    lane: Lane = field(default_factory=lambda: Lane("sleeping"))
    folder: Path = Path()
    nap_s: float = 0.0
    engine: object = None

    async def _called(self, name: str, report: Report = ignore_progress) -> None:
        await self.lane.run(lambda control: self._sleep(name, control), report)

    async def reconstruct(
        self, request: FitRequest, report: Report = ignore_progress
    ) -> SplatModel:
        self._log("fit-of", request.num_gaussians)
        return await super().reconstruct(request, report)

    async def estimate_many(self, sets: Sequence[ViewSet]) -> list[DepthMaps]:
        return [await self.estimate_depth(views) for views in sets]

    def _log(self, name: str, count: int) -> None:
        with (self.folder / "called.log").open("a") as log:
            log.write(f"{os.getpid()} {name} {count}\n")

    def _sleep(self, name: str, control: Control) -> None:
        self._log(name, 0)
        naps = self.folder / "naps.json"
        left_s = json.loads(naps.read_text()).get(name, self.nap_s) if naps.exists() else self.nap_s
        self._fail(name)
        until, began = time.monotonic() + left_s, time.monotonic()
        try:
            while (now := time.monotonic()) < until:
                control.step((now - began) / left_s, f"{name} sleeps")
                time.sleep(min(0.01, until - now))
        except Cancelled:
            self._log("stopped", 0)
            raise

    def _fail(self, name: str) -> None:
        fault = self.folder / f"fault-{name}"
        if not fault.exists():
            return
        kind, times = fault.read_text().split()
        if int(times) > 1:
            fault.write_text(f"{kind} {int(times) - 1}")
        else:
            fault.unlink()
        if kind == "raise":
            raise RuntimeError("the engine was told to raise")
        if kind == "lost":
            raise DeviceLost("The engine was told that its GPU failed.")
        if kind == "oom":
            raise OutOfMemory("The engine was told to run out of memory.")
        while not (self.folder / "unhang").exists():
            time.sleep(0.05)


class SleepingHost(ModelHost):
    """A `ModelHost` whose engines sleep; `EngineChoice.model_dir` is the folder they look into."""

    stuck_after_s = 1.0

    def _build(self) -> LocalPorts:
        folder = self._choice.model_dir
        assert folder is not None
        lane = Lane("sleeping", limit_s=self._call_limit_s)
        ports: Any = SleepingPorts(lane=lane, folder=folder)
        return LocalPorts(lane, ports, ports, ports, ports, ports, ports)


@dataclass(frozen=True)
class FakeStores:
    """Settings of a store that is never opened; `calls` has what was asked of them."""

    calls: list[str]
    is_of_one_node: bool = True
    is_keeper: bool = False

    pace = Pace(poll_s=0.05, tidy_s=2.0)

    def prepare(self) -> FakeStores:
        self.calls.append("prepared")
        return self

    def for_keeper(self) -> FakeStores:
        return replace(self, is_keeper=True)

    def stop(self) -> None:
        self.calls.append("stopped")

    def open(self) -> Any:
        raise Unavailable("There is no store.")


@dataclass(frozen=True)
class FaultyStores(StoreSettings):
    """A real store with faults that files in `data_dir` switch on.

    `disk-full`: no file can be written. `unmounted`: nobody can open the store any more.
    `die-at-commit` and `freeze-at-commit`: the process that commits next gets SIGKILL or SIGSTOP
    before it asks the database; the file is removed first, and `frozen` then holds the process id.
    """

    @asynccontextmanager
    async def open(self) -> AsyncIterator[ServedStore]:
        if (self.data_dir / "unmounted").exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        os.fsync = partial(_fsync, self.data_dir / "disk-full")
        async with super().open() as store:
            records: Any = _FaultyRecords(self.data_dir, store.records)
            yield replace(store, records=records)


_real_fsync = os.fsync


def _fsync(marker: Path, descriptor: int) -> None:
    """The store's own code meets the error where the system would raise it."""
    if marker.exists():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    _real_fsync(descriptor)


class _FaultyRecords:
    def __init__(self, folder: Path, records: Records) -> None:
        self._folder, self._records = folder, records

    def __getattr__(self, name: str) -> Any:
        return getattr(self._records, name)

    async def commit_stage(self, job_id: str, fence: int, commit: StageCommit) -> None:
        for marker, number in (("die", signal.SIGKILL), ("freeze", signal.SIGSTOP)):
            file = self._folder / f"{marker}-at-commit"
            if file.exists():
                file.unlink()
                (self._folder / "frozen").write_text(str(os.getpid()))
                os.kill(os.getpid(), number)
        await self._records.commit_stage(job_id, fence, commit)


@dataclass
class Pooler:
    """Stands before a database at a socket as a transaction pooler does: LISTEN is taken, and while
    it is `deaf` no notice is passed on."""

    dsn: str
    deaf: bool = True
    #: Notices that were swallowed.
    swallowed: int = 0
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """The database's URL, through the pooler."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        parts = urlsplit(self.dsn)
        port = server.sockets[0].getsockname()[1]
        try:
            yield f"postgresql://{parts.username}@127.0.0.1:{port}{parts.path}?sslmode=disable"
        finally:
            server.close()
            for writer in self._open:
                writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        folder = parse_qs(urlsplit(self.dsn).query)["host"][0]
        answers, requests = await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.5432")
        self._open |= {writer, requests}
        with suppress(OSError, EOFError):
            await asyncio.gather(self._pass(reader, requests), self._filter(answers, writer))
        requests.close()
        writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    async def _filter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A message is its kind, one byte, then its length with the length itself, four."""
        while True:
            head = await reader.readexactly(5)
            body = await reader.readexactly(int.from_bytes(head[1:]) - 4)
            if head[:1] == b"A" and self.deaf:  # NotificationResponse
                self.swallowed += 1
                continue
            writer.write(head + body)
            await writer.drain()


class RememberedRemover:
    """A background engine that was told the alphas of some pictures, and finds nothing in others.

    Args:
        images: N of uint8 [H, W, 3].
        alphas: N of uint8 [H, W].
    """

    name = "remembered"

    def __init__(
        self, images: Sequence[UInt8Array] = (), alphas: Sequence[UInt8Array] = ()
    ) -> None:
        self._alphas = {image.tobytes(): alpha for image, alpha in zip(images, alphas, strict=True)}

    def remove(self, rgb: UInt8Array, control: Control) -> UInt8Array:
        control.check()
        alpha = self._alphas.get(rgb.tobytes())
        if alpha is None or not alpha.any():
            raise InvalidImage("No foreground was found.")
        return alpha


class RememberedCamera:
    """Sees the same camera in every photo, and remembers the photos."""

    def __init__(self, estimate: CameraEstimate) -> None:
        self.estimate = estimate
        self.photos: list[UInt8Array] = []

    def camera_of(self, rgba: UInt8Array) -> CameraEstimate:
        self.photos.append(rgba)
        return self.estimate
