"""What a training step descends, and that a training can be made again, stopped and lengthened."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from pipeline.engines.views.prior.prior_network import HYPOTHESES, Answer, PriorNetwork
from training.prior import shards as shards_module
from training.prior import train as training
from training.prior.batches import batch_of, pool_size
from training.prior.losses import Truth, loss_of
from training.prior.recipe import FIRST_CHECK_SEED, Recipe
from training.prior.shards import RECORD, SHARD_SIZE, Shards

ROOT = Path(__file__).parents[2]
SMALL = Recipe(steps=6, batch=4, warm_up=2, first_objects=1, widths=(8, 8, 16), depths=(1, 1, 1))


def write_random_shards(folder: Path, first: int, count: int) -> None:
    rng = np.random.default_rng(first)
    shards = Shards(folder, first)
    shards.folder.mkdir(parents=True, exist_ok=True)
    for shard in range(count):
        records = np.zeros(SHARD_SIZE, RECORD)
        for name in ("rgba", "hit", "back_color"):
            records[name] = rng.integers(0, 256, records[name].shape, np.uint8)
        for name in ("front", "back", "inflated"):
            records[name] = rng.uniform(0, 0.3, records[name].shape)
        records["elevation_deg"], records["focal"] = rng.uniform(1, 30, (2, SHARD_SIZE))
        np.save(shards.path(shard), records)


@pytest.fixture(scope="session")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of noise for `SMALL`."""
    folder = tmp_path_factory.mktemp("objects")
    write_random_shards(folder, 0, 1)
    write_random_shards(folder, FIRST_CHECK_SEED, 1)
    return Shards(folder).folder


@pytest.fixture
def folder(tmp_path: Path, objects: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a training whose objects are made; it looks at few of them."""
    monkeypatch.setattr(training, "CHECK_OBJECTS", 4)
    (tmp_path / objects.name).symlink_to(objects)
    return tmp_path


def weights(folder: Path) -> bytes:
    return (folder / "prior.npz").read_bytes()


def trained(recipe: Recipe, folder: Path) -> bytes:
    trainer = training.Trainer(recipe, folder, "cpu")
    trainer.resume()
    trainer.run()
    return weights(folder)


@pytest.mark.long
def test_a_training_gives_the_same_weights_again(folder: Path) -> None:
    first = trained(SMALL, folder)
    (folder / "state.pt").unlink()
    (folder / "before-decay.pt").unlink()
    assert trained(SMALL, folder) == first


@pytest.mark.long
def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(folder: Path) -> None:
    whole = trained(SMALL, folder)
    for name in ("state.pt", "before-decay.pt"):
        (folder / name).unlink()
    stopped = training.Trainer(SMALL, folder, "cpu")
    for _ in range(3):
        stopped.learn()
        stopped.step += 1
    stopped.save("state.pt")
    assert trained(SMALL, folder) == whole


@pytest.mark.long
def test_a_longer_training_goes_on_from_before_the_decay_of_a_shorter_one(folder: Path) -> None:
    longer = replace(SMALL, steps=10)
    from_nothing = trained(longer, folder)
    for name in ("state.pt", "before-decay.pt"):
        (folder / name).unlink()
    trained(SMALL, folder)
    continued = training.Trainer(longer, folder, "cpu")
    continued.resume()
    assert continued.step == SMALL.decay_begins
    continued.run()
    assert weights(folder) == from_nothing


def test_the_state_of_another_recipe_is_not_taken(folder: Path) -> None:
    trained(SMALL, folder)
    with pytest.raises(ValueError, match="another recipe"):
        trained(replace(SMALL, batch=8), folder)


def test_a_shorter_training_does_not_write_over_a_longer_one(folder: Path) -> None:
    trained(SMALL, folder)
    before = (folder / "state.pt").read_bytes(), weights(folder)
    with pytest.raises(ValueError, match="6 steps that has done 6: one of 2 needs another folder"):
        trained(replace(SMALL, steps=2), folder)
    assert ((folder / "state.pt").read_bytes(), weights(folder)) == before


def test_a_batch_that_cannot_be_divided_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="batch of 4 has no 3 equal parts"):
        training.train(SMALL, folder, processes=3)


def cannot_make(recipe: Recipe, folder: Path, worker: int, workers: int) -> None:
    raise OSError("no space left")


def waits(rank: int, recipe: Recipe, folder: Path, device: str, processes: int) -> None:
    time.sleep(600)  # as a step that waits for objects: it ends by being killed


@pytest.mark.faults
def test_a_training_without_objects_ends(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training, "make_objects", cannot_make)
    monkeypatch.setattr(training, "_process", waits)
    with pytest.raises(RuntimeError, match="makes objects has failed"):
        training.train(SMALL, folder)
    assert "no space left" in capfd.readouterr().err
    assert not active_children()


@pytest.mark.faults
def test_a_training_that_is_killed_leaves_no_process(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from dataclasses import replace\n"
        "from tests.training.test_training import SMALL, training\n"
        "training.train(replace(SMALL, steps=10**6), Path(sys.argv[1]), processes=2)\n"
    )
    main = subprocess.Popen([sys.executable, "-c", code, str(folder)], cwd=ROOT)
    children: list[psutil.Process] = []
    try:
        wait_for((folder / "log.jsonl").exists)
        children = psutil.Process(main.pid).children(recursive=True)
        assert len(children) >= 3  # two that train and one that makes objects
        main.kill()
        main.wait()
        wait_for(lambda: not any(child.is_running() for child in children))
    finally:
        for process in (main, *children):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        main.wait()


def wait_for(there: Callable[[], bool]) -> None:
    for _ in range(1200):
        if there():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen in two minutes")


@pytest.mark.faults
def test_two_processes_give_what_one_does(folder: Path) -> None:
    alone = training.Trainer(SMALL, folder, "cpu")
    alone.run()
    theirs = [p.detach().clone() for p in alone.mean.parameters()]
    (folder / "state.pt").unlink()
    (folder / "before-decay.pt").unlink()
    training.train(SMALL, folder, processes=2, makers=1)
    state = torch.load(folder / "state.pt", weights_only=True)["mean"]
    for (name, both), one in zip(state.items(), theirs, strict=True):
        # The masks of the halves weigh a little differently than those of the whole.
        assert torch.allclose(both, one, atol=0.02), name


def test_a_step_sees_the_same_samples_whatever_the_part(folder: Path) -> None:
    shards = Shards(folder)
    whole = batch_of(shards, SHARD_SIZE, 6, seed=1, step=7)
    half = batch_of(shards, SHARD_SIZE, 6, seed=1, step=7, part=slice(3, 6))
    assert torch.equal(whole.rgba[3:], half.rgba)
    assert torch.equal(whole.truth.front[3:], half.truth.front)
    other = batch_of(shards, SHARD_SIZE, 6, seed=1, step=8)
    assert not torch.equal(whole.rgba, other.rgba)


def test_few_files_are_held_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_module, "SHARD_SIZE", 1)
    monkeypatch.setattr(shards_module, "MOST_OPEN", 3)
    shards = Shards(tmp_path)
    shards.folder.mkdir()
    for shard in range(8):
        records = np.zeros(1, RECORD)
        records["focal"] = shard
        np.save(shards.path(shard), records)
    read = shards.read(np.array([*range(8), 0, 7, 3]))
    assert read["focal"].tolist() == [*range(8), 0, 7, 3]
    held = [path.resolve() for path in Path("/proc/self/fd").iterdir() if path.exists()]
    assert sum(path.parent == shards.folder.resolve() for path in held) == 3


def test_objects_are_made_as_they_are_needed() -> None:
    assert pool_size(0, 64, 8, 2000) == 2000
    assert pool_size(1000, 64, 8, 2000) == 10_000
    assert pool_size(1001, 64, 8, 2000) == 10_500  # whole shards


def perfect(truth: Truth) -> Answer:
    b = len(truth.front)
    colors = truth.back_color[:, None].expand(-1, HYPOTHESES, -1, -1, -1)
    return Answer(
        front=truth.front,
        back=truth.back,
        log_errors=torch.full((b, 2, 56, 56), -6.0),
        colors=colors,
        copies=torch.zeros(b, HYPOTHESES, 1, 56, 56),
        scores=torch.zeros(b, HYPOTHESES),
        camera=torch.stack(
            [truth.elevation_deg / 30, torch.zeros(b), truth.log_focal, torch.zeros(b)], 1
        ),
    )


@pytest.fixture
def truth() -> Truth:
    generator = torch.Generator().manual_seed(0)

    def maps(*channels: int) -> torch.Tensor:
        return torch.rand(2, *channels, 56, 56, generator=generator)

    front = maps(1)
    hit = torch.zeros(2, 1, 56, 56)
    hit[:, :, 10:40, 20:50] = 1
    return Truth(front, front + 0.2, hit, maps(3), maps(3), torch.tensor([10.0, 20]), torch.ones(2))


def test_the_parts_of_the_loss_are_absolute_errors_where_the_object_is(truth: Truth) -> None:
    answer = perfect(truth)
    assert all(float(part) < 1e-6 for part in loss_of(answer, truth).parts.values())

    off = replace(answer, front=answer.front - 0.1, camera=answer.camera + 0.1)
    parts = loss_of(off, truth).parts
    assert float(parts["thickness"]) == pytest.approx(0.1, rel=1e-2)
    assert float(parts["shift"]) == pytest.approx(0.05, rel=1e-2)
    assert float(parts["front"]) == pytest.approx(0.05, rel=1e-2)
    assert float(parts["back"]) == pytest.approx(0.05, rel=1e-2)
    assert float(parts["elevation"]) == pytest.approx(3.0, rel=1e-4)
    assert float(parts["focal"]) == pytest.approx(0.1, rel=1e-4)

    outside = replace(answer, back=torch.where(truth.hit > 0, answer.back, 9.0))
    assert float(loss_of(outside, truth).parts["back"]) < 1e-6


def test_where_the_whole_object_lies_hardly_counts(truth: Truth) -> None:
    answer = perfect(truth)
    moved = replace(answer, front=answer.front + 0.2, back=answer.back + 0.2)
    parts = loss_of(moved, truth).parts
    assert float(parts["shift"]) == pytest.approx(0.2, rel=1e-2)
    assert float(parts["front"]) < 1e-3
    bent = replace(answer, front=answer.front - 0.1, back=answer.back + 0.1)
    assert float(loss_of(moved, truth).total) < float(loss_of(bent, truth).total)


def test_only_the_best_hypothesis_of_the_back_has_to_be_right(truth: Truth) -> None:
    answer = perfect(truth)
    colors = answer.colors.clone()
    colors[:, 1:] = 0.5
    one_right = loss_of(replace(answer, colors=colors), truth)
    assert float(one_right.parts["color"]) < 1e-6
    scores = torch.zeros(2, HYPOTHESES)
    scores[:, 2] = 9.0
    misjudged = loss_of(replace(answer, colors=colors, scores=scores), truth)
    assert float(misjudged.parts["likely_color"]) > 0.1
    assert float(misjudged.total) > float(one_right.total)


def test_a_copied_photo_counts_as_the_colour_of_the_back(truth: Truth) -> None:
    same = replace(truth, back_color=truth.photo)
    answer = replace(
        perfect(same),
        colors=torch.zeros(2, HYPOTHESES, 3, 56, 56),
        copies=torch.ones(2, HYPOTHESES, 1, 56, 56),
    )
    assert float(loss_of(answer, same).parts["color"]) < 1e-6


def test_another_light_on_the_back_is_no_other_back(truth: Truth) -> None:
    answer = perfect(truth)
    darker = replace(truth, back_color=0.7 * truth.back_color)
    assert float(loss_of(answer, darker).parts["color"]) < 0.005
    assert float(loss_of(answer, darker).total) > float(loss_of(answer, truth).total)
    tinted = replace(truth, back_color=truth.back_color.flip(1))
    assert float(loss_of(answer, tinted).parts["color"]) > 0.05


def test_an_honest_error_costs_least(truth: Truth) -> None:
    answer = replace(perfect(truth), front=truth.front - 0.1, back=truth.back + 0.1)

    def total(expected: float) -> float:
        log_errors = torch.full((2, 2, 56, 56), float(np.log(expected)))
        return float(loss_of(replace(answer, log_errors=log_errors), truth).total)

    assert total(0.1) < min(total(0.05), total(0.2))


def test_an_untrained_network_gives_the_inflated_outline() -> None:
    torch.manual_seed(0)
    network = PriorNetwork().eval()
    inflated = torch.full((1, 1, 56, 56), 0.3)
    with torch.no_grad():
        answer = network(torch.rand(1, 4, 112, 112), inflated, torch.zeros(1), torch.zeros(1))
    assert answer.front.mean() == pytest.approx(-0.3, abs=0.03)
    assert answer.back.mean() == pytest.approx(0.3, abs=0.03)
    assert bool((answer.back > answer.front).all())
