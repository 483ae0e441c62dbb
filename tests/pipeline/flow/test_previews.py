"""Thumbnail and film of models whose look is known, decoded with ffmpeg itself.

Fake encoders are shell scripts: they make observable what happens when ffmpeg fails or hangs.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import numpy.typing as npt
import psutil
import pytest

from pipeline.control import Progress
from pipeline.engines.registry import EngineChoice
from pipeline.errors import InvalidInput, InvalidOption, ModelFailed, Unavailable
from pipeline.flow import previews
from pipeline.flow.local import build_ports
from pipeline.flow.previews import check_picture, make_previews, make_thumbnail, make_turntable
from pipeline.geometry.cameras import thumbnail_camera, turntable_cameras
from pipeline.imaging.decoding import decode_png
from pipeline.imaging.video import VideoWriter, find_encoder
from pipeline.ports import PortName, SplatFitter
from pipeline.splats.bounds import bounding_sphere, framed
from pipeline.types import SH_C0, SplatModel, UInt8Array
from tests.fakes import FakeModels, some_model
from tests.oracles.shells import Kind, shell

FRAMES, SIZE = 12, 128


@pytest.fixture(scope="module")
def splats() -> Iterator[SplatFitter]:
    ports = build_ports(EngineChoice(), [PortName.SPLATS])
    assert ports.splats is not None
    yield ports.splats
    ports.lane.close()


@pytest.fixture(scope="module")
def torus() -> SplatModel:
    """As large and as central as a model of the product."""
    return placed(shell("torus"), 1.2)


@pytest.fixture
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which temporary folders are made."""
    folder = tmp_path / "temp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def fake_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Puts a shell script in the place of ffmpeg."""

    def install(script: str) -> str:
        path = tmp_path / "ffmpeg"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(path))
        return str(path)

    return install


def placed(
    model: SplatModel, scale: float = 1.0, offset: tuple[float, float, float] = (0, 0, 0)
) -> SplatModel:
    """The model scaled around the origin, then moved."""
    return replace(
        model,
        means=(scale * model.means.astype(np.float64) + offset).astype(np.float32),
        log_scales=(model.log_scales + np.log(scale)).astype(np.float32),
    )


def together(*models: SplatModel) -> SplatModel:
    """All splats in one model."""
    return SplatModel(
        *(np.concatenate([getattr(m, f.name) for m in models]) for f in fields(models[0]))
    )


def without(model: SplatModel, index: int) -> SplatModel:
    """The model without one of its splats."""
    return SplatModel(*(np.delete(getattr(model, f.name), index, axis=0) for f in fields(model)))


def two_faced(kind: Kind = "sphere") -> SplatModel:
    """Red on the side of the photo, blue behind."""
    model = shell(kind)
    front = model.means[:, :1] > 0
    colors = np.where(front, (0.9, 0.1, 0.1), (0.1, 0.1, 0.9))
    return replace(model, sh=((colors - 0.5) / SH_C0)[:, None].astype(np.float32))


@dataclass(frozen=True)
class Film:
    """A decoded film: uint8 [F, H, W, 3] and what ffmpeg says of the file."""

    frames: UInt8Array
    meta: dict[str, Any]


def decode(data: bytes, folder: Path) -> Film:
    path = folder / "decoded.mp4"
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # imageio-ffmpeg leaves its pipes open
        reader = imageio_ffmpeg.read_frames(str(path))
        meta = next(reader)
        pictures = [np.frombuffer(picture, np.uint8) for picture in reader]
        del reader
    width, height = meta["size"]
    assert imageio_ffmpeg.count_frames_and_secs(str(path))[0] == len(pictures)
    return Film(np.stack(pictures).reshape(-1, height, width, 3), meta)


def psnr(a: UInt8Array, b: UInt8Array) -> float:
    error = float(np.mean((a.astype(float) - b) ** 2))
    return float("inf") if error == 0 else 10 * np.log10(255**2 / error)


def drawn(image: UInt8Array) -> npt.NDArray[np.bool_]:
    """Where a picture is not white [..., H, W]."""
    return np.asarray(image.min(-1) < 240)


def border(image: UInt8Array) -> UInt8Array:
    """The outermost pixels [B, 3]."""
    return np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])


def empty(folder: Path) -> bool:
    return not any(folder.iterdir())


def children() -> set[psutil.Process]:
    """Of this process, living or not waited for."""
    return set(psutil.Process().children())


class TestFilm:
    async def test_is_what_browsers_play(
        self, splats: SplatFitter, torus: SplatModel, tmp_path: Path
    ):
        data = await make_turntable(torus, splats, size=64)
        film = decode(data, tmp_path)
        assert film.frames.shape == (60, 64, 64, 3), "60 frames unless told otherwise"
        assert film.meta["codec"] == "h264"
        assert film.meta["fps"] == 24
        assert film.meta["duration"] == pytest.approx(2.5, abs=0.01)
        # One name: matrix, primaries and transfer are all tagged.
        assert film.meta["pix_fmt"].startswith("yuv420p(tv, bt709, ")
        assert data[4:8] == b"ftyp"
        assert data.index(b"moov") < data.index(b"mdat"), "plays before it has arrived whole"

    async def test_frames_are_the_renders(
        self, splats: SplatFitter, torus: SplatModel, tmp_path: Path, monkeypatch: Any
    ):
        monkeypatch.setattr(previews, "_PIXELS_AT_ONCE", 5 * SIZE**2)  # 5, 5 and 2 frames
        film = decode(await make_turntable(torus, splats, frames=FRAMES, size=SIZE), tmp_path)
        renders = (await splats.render(torus, turntable_cameras(FRAMES, SIZE))).images
        assert film.frames.shape == renders.shape
        worst = min(psnr(a, b) for a, b in zip(film.frames, renders, strict=True))
        assert worst >= 30
        for k, frame in enumerate(film.frames):
            assert int(np.argmax([psnr(frame, other) for other in renders])) == k

    async def test_keeps_the_colours(self, splats: SplatFitter, tmp_path: Path):
        model = two_faced()
        film = decode(await make_turntable(model, splats, frames=4, size=SIZE), tmp_path)
        renders = (await splats.render(model, turntable_cameras(4, SIZE))).images
        difference = film.frames.astype(int) - renders
        assert np.abs(difference[drawn(renders)].mean(0)).max() < 3
        assert np.abs(difference[renders.min(-1) == 255].mean(0)).max() < 1

    async def test_begins_at_the_front_and_has_the_back_in_the_middle(
        self, splats: SplatFitter, tmp_path: Path
    ):
        film = decode(await make_turntable(two_faced(), splats, frames=8, size=SIZE), tmp_path)
        red, _, blue = np.moveaxis(film.frames.astype(int), -1, 0)
        shows_red = [(red - blue)[k][drawn(film.frames[k])].mean() for k in range(8)]
        assert shows_red[0] > 100
        assert shows_red[4] < -100
        assert int(np.argmax(shows_red)) == 0

    async def test_loops_without_a_jump_or_a_stop(self, splats: SplatFitter, tmp_path: Path):
        film = decode(await make_turntable(two_faced(), splats, frames=36, size=64), tmp_path)
        steps = [
            float(np.abs(film.frames[k].astype(int) - film.frames[k - 1]).mean()) for k in range(36)
        ]
        closing, others = steps[0], steps[1:]
        assert 0.5 * min(others) < closing < 1.5 * max(others)

    async def test_has_a_size_and_a_length(
        self, splats: SplatFitter, torus: SplatModel, tmp_path: Path
    ):
        film = decode(await make_turntable(torus, splats, frames=2, size=70), tmp_path)
        assert film.frames.shape == (2, 70, 70, 3)


class TestThumbnail:
    async def test_is_the_object_on_white(self, splats: SplatFitter, torus: SplatModel):
        data = await make_thumbnail(torus, splats)
        assert data.startswith(b"\x89PNG")
        image = decode_png(data)
        assert image.shape == (512, 512, 3)
        assert (border(image) == 255).all()
        assert 0.1 < drawn(image).mean() < 0.6
        renders = await splats.render(torus, thumbnail_camera(512))
        np.testing.assert_array_equal(image, renders.images[0])

    async def test_shows_the_front(self, splats: SplatFitter):
        image = decode_png(await make_thumbnail(two_faced(), splats, size=SIZE)).astype(int)
        red, _, blue = np.moveaxis(image[drawn(image)], -1, 0)
        assert (red > blue).mean() > 0.8

    async def test_does_not_change(self, splats: SplatFitter, torus: SplatModel):
        pictures = [await make_thumbnail(torus, splats, size=SIZE) for _ in range(2)]
        assert pictures[0] == pictures[1]


class TestFraming:
    @pytest.mark.parametrize(
        ("scale", "offset"),
        [
            (100.0, (5000.0, -5000.0, 5000.0)),
            (0.001, (0.3, 0.0, 0.0)),
            (1e6, (0.0, 0.0, 0.0)),
            (1.0, (0.0, 0.0, 40.0)),
        ],
        ids=["huge and far", "tiny", "gigantic", "aside"],
    )
    async def test_of_a_model_from_elsewhere_is_that_of_one_of_the_product(
        self,
        splats: SplatFitter,
        torus: SplatModel,
        scale: float,
        offset: tuple[float, float, float],
        tmp_path: Path,
    ):
        plain = framed(placed(torus, 0.1))  # fills the picture just as they do
        assert framed(plain) is plain
        moved = placed(plain, scale, offset)
        wanted = decode_png(await make_thumbnail(plain, splats, size=SIZE))
        image = decode_png(await make_thumbnail(moved, splats, size=SIZE))
        assert drawn(wanted).mean() > 0.2
        assert (border(image) == 255).all()
        assert psnr(image, wanted) > 35
        film = decode(await make_turntable(moved, splats, frames=2, size=SIZE), tmp_path)
        assert (border(film.frames[1]) > 240).all()

    def test_leaves_out_a_few_splats_that_would_cover_it(self, torus: SplatModel):
        log_scales = torus.log_scales.copy()
        log_scales[[3, 70, 200]] = [[4], [20], [80]]
        drawn_of = framed(replace(torus, log_scales=log_scales))
        kept = np.delete(np.arange(len(torus)), [3, 70, 200])
        np.testing.assert_array_equal(drawn_of.means, torus.means[kept])

    async def test_does_not_touch_a_model_of_the_product(
        self, splats: SplatFitter, torus: SplatModel
    ):
        outermost = int(np.argmax(np.linalg.norm(torus.means, axis=1)))
        version = without(torus, outermost)
        assert framed(torus) is torus
        assert framed(version) is version
        a, b = [
            decode_png(await make_thumbnail(model, splats, size=SIZE)) for model in (torus, version)
        ]
        assert psnr(a, b) > 45
        assert (a != b).any(-1).mean() < 0.01, "nothing has moved"

    @pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (100.0, 5000.0)])
    async def test_is_not_shrunk_by_a_few_floaters(
        self, splats: SplatFitter, torus: SplatModel, scale: float, offset: float
    ):
        plain = framed(placed(torus, 0.1))
        rng = np.random.default_rng(0)
        stray = some_model(40)
        stray = replace(stray, means=rng.uniform(-60, 60, (40, 3)).astype(np.float32))
        model = placed(together(plain, stray), scale, (offset, offset, offset))
        alone, image = [
            decode_png(await make_thumbnail(m, splats, size=256)) for m in (plain, model)
        ]
        assert drawn(image).sum() == pytest.approx(drawn(alone).sum(), rel=0.15)

    async def test_survives_a_splat_at_the_end_of_the_numbers(
        self, splats: SplatFitter, torus: SplatModel
    ):
        means, log_scales = torus.means.copy(), torus.log_scales.copy()
        means[:3] = np.diag([3e38, -3e38, 3e38])
        means[3] = 3e38
        log_scales[4] = 3e38
        model = replace(torus, means=means, log_scales=log_scales)
        image, wanted = [
            decode_png(await make_thumbnail(m, splats, size=SIZE)) for m in (model, torus)
        ]
        assert psnr(image, wanted) > 35

    def test_sees_that_most_of_a_model_is_not_in_the_picture(self, torus: SplatModel):
        means = torus.means.copy()
        means[: len(means) // 2] = 3e38
        assert np.abs(framed(replace(torus, means=means)).means).max() < 1000

    def test_of_a_single_splat(self):
        model = replace(some_model(1), means=np.full((1, 3), 7, np.float32))
        sphere = bounding_sphere(model)
        np.testing.assert_allclose(sphere.centre, 7)
        assert sphere.radius == pytest.approx(2 * model.scales.max(), rel=1e-5)
        np.testing.assert_allclose(framed(model).means, 0, atol=1e-6)

    def test_of_a_model_too_faint_to_see(self):
        model = replace(some_model(50), logit_opacities=np.full(50, -20, np.float32))
        assert 0.1 < bounding_sphere(model).radius < 2


class TestBadInput:
    @pytest.mark.parametrize("make", [make_thumbnail, make_turntable, make_previews])
    @pytest.mark.parametrize("name", ["means", "log_scales", "logit_opacities", "quats", "sh"])
    async def test_nan_is_named(
        self, make: Callable[..., Any], name: str, splats: SplatFitter, temp: Path
    ):
        broken = getattr(some_model(), name).copy()
        broken[3] = np.nan
        with pytest.raises(InvalidInput, match="NaN"):
            await make(replace(some_model(), **{name: broken}), splats, size=64)
        assert empty(temp)

    @pytest.mark.parametrize("make", [make_thumbnail, make_turntable, make_previews])
    async def test_a_model_without_splats(self, make: Callable[..., Any]):
        with pytest.raises(InvalidInput, match="no splats"):
            await make(some_model(0), FakeModels())

    @pytest.mark.parametrize(
        "options",
        [
            {"frames": 1},
            {"frames": -5},
            {"frames": 1001},
            {"size": 62},
            {"size": 129},
            {"size": 2050},
            {"size": 0},
        ],
        ids=str,
    )
    async def test_numbers_are_refused_before_any_work(self, options: dict[str, int]):
        (name,) = options
        engine = FakeModels()
        with pytest.raises(InvalidOption, match=name):
            check_picture(**options)
        for make in (make_turntable, make_previews):
            with pytest.raises(InvalidOption, match=name):
                await make(some_model(), engine, **options)
        assert engine.calls == []

    def test_the_limits_are_allowed(self):
        for frames, size in ((2, 64), (1000, 2048)):
            check_picture(frames=frames, size=size)


async def test_progress_rises_to_one(splats: SplatFitter, torus: SplatModel, monkeypatch: Any):
    monkeypatch.setattr(previews, "_PIXELS_AT_ONCE", 4 * 64**2)
    reports: list[Progress] = []
    result = await make_previews(torus, splats, reports.append, frames=FRAMES, size=64)
    fractions = [report.fraction for report in reports]
    assert len(fractions) == 4, "the thumbnail and three times four frames"
    assert fractions == sorted(set(fractions))
    assert 0 < fractions[0] < 0.2
    assert fractions[-1] == pytest.approx(1)
    assert reports[-1].message == "Frame 12 of 12"
    assert decode_png(result.thumbnail).shape == (64, 64, 3)
    assert result.turntable[4:8] == b"ftyp"


class TestNothingIsLeft:
    async def test_after_a_film(self, splats: SplatFitter, torus: SplatModel, temp: Path):
        before = children()
        await make_turntable(torus, splats, frames=2, size=64)
        assert children() <= before
        assert empty(temp)

    async def test_when_cancelled_in_the_middle(
        self, splats: SplatFitter, torus: SplatModel, temp: Path, monkeypatch: Any
    ):
        monkeypatch.setattr(previews, "_PIXELS_AT_ONCE", 4 * SIZE**2)
        before, reports = children(), list[Progress]()
        at_work: list[tuple[int, int]] = []

        def cancel(progress: Progress) -> None:
            reports.append(progress)
            at_work.append((len(children() - before), len(list(temp.iterdir()))))
            task.cancel()

        task = asyncio.create_task(make_turntable(torus, splats, cancel, frames=FRAMES, size=SIZE))
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [report.fraction for report in reports] == [pytest.approx(1 / 3)]
        assert at_work == [(1, 1)], "one process and one folder while it ran"
        assert children() <= before
        assert empty(temp)

    async def test_when_cancelled_while_the_engine_draws(self, temp: Path):
        before, engine = children(), FakeModels(hold_at="render")
        task = asyncio.create_task(make_turntable(some_model(), engine, frames=2, size=64))
        await engine.holding.wait()
        assert len(children() - before) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert children() <= before
        assert empty(temp)

    @pytest.mark.parametrize("frames", [2, 40], ids=["in finish", "in write"])
    async def test_when_cancelled_while_ffmpeg_hangs(
        self, frames: int, temp: Path, fake_encoder: Callable[[str], str]
    ):
        # The script is not alone: what it started holds both pipes open as long as it lives.
        alive = temp.parent / "alive"
        os.mkfifo(alive)
        fake_encoder(f"exec 3<&0 4>{alive}\necho started >&4\nsleep 100\ntrue")
        task = asyncio.create_task(
            make_turntable(some_model(), FakeModels(), frames=frames, size=64)
        )
        with await asyncio.to_thread(alive.open) as reader:
            assert await asyncio.to_thread(reader.readline) == "started\n"
            started = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(reader.read) == "", "a process lives on"
        assert time.monotonic() - started < 10
        assert empty(temp)

    async def test_when_the_engine_fails(self, temp: Path):
        before = children()
        engine = FakeModels(fail_at="render", failure=ModelFailed("It broke."))
        with pytest.raises(ModelFailed, match="It broke"):
            await make_turntable(some_model(), engine, frames=2, size=64)
        assert children() <= before
        assert empty(temp)


class TestEncoderFails:
    # 2 frames of 64 pixels fit in the pipe, 40 do not.
    @pytest.mark.parametrize("frames", [2, 40])
    async def test_its_last_line_is_told(
        self, frames: int, temp: Path, fake_encoder: Callable[[str], str]
    ):
        fake_encoder("echo 'To begin with' >&2; echo 'The codec is on holiday.' >&2; exit 1")
        before = children()
        with pytest.raises(ModelFailed, match=r": The codec is on holiday\.$"):
            await make_turntable(some_model(), FakeModels(), frames=frames, size=64)
        assert children() <= before
        assert empty(temp)

    async def test_its_status_is_told_when_it_says_nothing(
        self, temp: Path, fake_encoder: Callable[[str], str]
    ):
        fake_encoder("cat > /dev/null; exit 7")
        with pytest.raises(ModelFailed, match="status 7"):
            await make_turntable(some_model(), FakeModels(), frames=2, size=64)

    async def test_a_success_without_a_file_is_none(
        self, temp: Path, fake_encoder: Callable[[str], str]
    ):
        fake_encoder("cat > /dev/null")
        with pytest.raises(ModelFailed, match="without a video"):
            await make_turntable(some_model(), FakeModels(), frames=2, size=64)
        assert empty(temp)

    async def test_no_ffmpeg_is_unavailable(self, monkeypatch: Any):
        def missing() -> str:
            raise RuntimeError("No ffmpeg exe could be found.")

        monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", missing)
        with pytest.raises(Unavailable, match="No ffmpeg exe could be found"):
            await make_turntable(some_model(), FakeModels(), frames=2, size=64)

    async def test_an_ffmpeg_that_does_not_start_is_unavailable(self, temp: Path, monkeypatch: Any):
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(temp / "nowhere"))
        with pytest.raises(Unavailable, match="nowhere"):
            await make_turntable(some_model(), FakeModels(), frames=2, size=64)
        assert empty(temp)


class TestVideoWriter:
    def test_writes_read_only_strided_and_no_frames(self, temp: Path, tmp_path: Path):
        wide = np.zeros((3, 64, 128, 3), np.uint8)
        wide[..., 0] = 200
        frames = wide[:, :, ::2]
        frames.flags.writeable = False
        with VideoWriter(find_encoder(), width=64, height=64, fps=24) as video:
            video.write(frames[:0])
            video.write(frames)
            film = decode(video.finish(), tmp_path)
        assert film.frames.shape == frames.shape
        assert psnr(film.frames, frames) > 35
        assert empty(temp)

    def test_is_wide_or_high_too(self, tmp_path: Path):
        picture = np.full((1, 32, 96, 3), 255, np.uint8)
        picture[:, :16] = 0
        with VideoWriter(find_encoder(), width=96, height=32, fps=10) as video:
            video.write(picture)
            film = decode(video.finish(), tmp_path)
        assert film.meta["fps"] == 10
        assert psnr(film.frames, picture) > 30

    @pytest.mark.parametrize("sides", [(63, 64), (64, 63), (0, 64)])
    def test_refuses_odd_sides(self, sides: tuple[int, int], temp: Path):
        with pytest.raises(ValueError, match="even"):
            VideoWriter(find_encoder(), width=sides[0], height=sides[1], fps=24)
        assert empty(temp)

    def test_refuses_other_frames(self, temp: Path):
        with VideoWriter(find_encoder(), width=64, height=64, fps=24) as video:
            for frames in (
                np.zeros((1, 64, 64, 3), np.float32),
                np.zeros((64, 64, 3), np.uint8),
                np.zeros((1, 64, 66, 3), np.uint8),
            ):
                with pytest.raises(ValueError, match="frames must be"):
                    video.write(frames)
        assert empty(temp)

    def test_is_over_after_abort(self, temp: Path):
        video = VideoWriter(find_encoder(), width=64, height=64, fps=24)
        video.abort()
        video.abort()
        with pytest.raises(ModelFailed):
            video.write(np.zeros((1, 64, 64, 3), np.uint8))
        with pytest.raises(ModelFailed):
            video.finish()
        assert empty(temp)
