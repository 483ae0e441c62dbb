"""The folder of a command line run holds that run and what was never ours."""

from __future__ import annotations

from pathlib import Path

from pipeline.flow.folder_journal import FolderJournal
from pipeline.flow.manifest import StepKind, content_hash
from pipeline.formats.ply import read_ply
from pipeline.journals import IterationOutcome
from pipeline.types import Scores
from tests.fakes import some_model, some_views

OWN = (
    "views/00.png",
    "views/geometry.npz",
    "views/auxiliary.npz",
    "views/photos.npz",
    "depth/15.npy",
    "depth/15.png",
    "depth/confidence.npz",
    "models/v0.ply",
    "models/v12.ply",
    "models/final.ply",
    "models/final.splat",
    "models/final.spz",
    "models/final.glb",
    "models/final.obj.zip",
    "models/final.usdz",
    "models/final.splat.glb",
    "models/v0.png",
    "models/v0.mp4",
    "enhanced/1/00.png",
    "enhanced/1/00.before.png",
    "enhanced/1/00.after.png",
    "steps/2/views/00.png",
    "steps/2/views/geometry.npz",
    "steps/3/depth/00.npy",
    "steps/3/enhanced/1/00.before.png",
)
FOREIGN = (
    "holiday.png",
    "v1.ply",
    "00.png",
    "views/holiday.png",
    "models/mine.ply",
    "models/mine.png",
    "models/final.obj",
    "models/final.zip",
    "models/final_ply",
    "models/old/v1.ply",
    "enhanced/notes.txt",
    "enhanced/best/00.png",
    "enhanced/1/00.later.png",
    "manifest.json",
    "steps/notes.txt",
    "steps/2/notes.txt",
)


def write(folder: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"earlier")


def files(folder: Path) -> set[str]:
    return {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}


def test_an_earlier_run_is_removed_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, OWN + FOREIGN)
    FolderJournal(tmp_path)
    assert files(tmp_path) == set(FOREIGN)


def test_folders_left_empty_go_too(tmp_path: Path) -> None:
    write(tmp_path, OWN)
    FolderJournal(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_does_not_exist_is_no_trouble_and_not_made(tmp_path: Path) -> None:
    FolderJournal(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_linked_folder_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", ("v1.ply",))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "models").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    FolderJournal(tmp_path / "out")
    assert (tmp_path / "elsewhere" / "v1.ply").exists()


async def test_a_run_leaves_its_own_files(tmp_path: Path) -> None:
    write(tmp_path, ("models/v0.ply", "models/v1.ply", "models/v2.ply"))
    journal = FolderJournal(tmp_path)
    await journal.save_views(some_views(), 0.1)
    await journal.save_model(some_model(), Scores(30, 0.9, None, 0.9), "fake", 0.2)
    assert {name for name in files(tmp_path) if name.startswith("models")} == {"models/v0.ply"}
    assert len(read_ply((tmp_path / "models" / "v0.ply").read_bytes())) == len(some_model())
    assert "views/00.png" in files(tmp_path)
    assert [s.stage for s in journal.seconds] == ["views", "splats"]


async def test_every_step_has_the_hashes_of_its_own_files(tmp_path: Path) -> None:
    journal = FolderJournal(tmp_path)
    journal.begin(StepKind.GENERATE, {"seed": 1}, {"background": "given"})
    await journal.save_views(some_views(), 0.1)
    await journal.save_model(some_model(), Scores(30, 0.9, None, 0.9), "fake", 0.2)
    journal.begin(StepKind.REFINE, {"seed": 2}, {})
    pictures = some_views().images[:2]
    await journal.save_iteration(
        IterationOutcome(
            iteration=1,
            accepted=True,
            scores=Scores(31, 0.9, None, 0.91),
            model=some_model(seed=1),
            enhance_engine="fake-enhancer",
            strength=0.5,
            learning_rate=0.01,
            seconds=0.1,
            enhanced=pictures,
            before=pictures,
            after=pictures,
            enhanced_views=(0, 3),
        )
    )
    generated, refined = journal.steps
    assert generated.engines == {
        "background": "given",
        "views": "fake-views",
        "splats": "fake",
    }
    assert refined.engines == {"enhancer": "fake-enhancer"}
    pngs = {f"enhanced/1/{i}{kind}.png" for i in ("00", "03") for kind in ("", ".before", ".after")}
    assert set(refined.artefacts) == {"models/v1.ply", *pngs}
    noted = generated.artefacts | refined.artefacts
    assert set(noted) == files(tmp_path)
    for name, digest in noted.items():
        assert content_hash((tmp_path / name).read_bytes()) == digest
