"""Trains the network of the prior: `python -m training.prior.train --steps N`.

It makes the objects that it learns from while it runs, saves its state every ten minutes and goes
on from there when it is started again. It does not know what the product does with the weights.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import time
from dataclasses import asdict, fields
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed, nn
from torch.multiprocessing.spawn import spawn

from pipeline.engines.views.prior.prior_network import PriorNetwork
from training.prior.batches import Batch, batch_of, plain_batch, pool_size
from training.prior.losses import loss_of
from training.prior.recipe import CHECK_OBJECTS, FIRST_CHECK_SEED, FIRST_SEED, Recipe
from training.prior.shards import SHARD_SIZE, Shards, end_without_parent, generator_digest
from training.prior.sheet import draw_sheet
from training.prior.weights import write_weights

SAVE_EVERY_S = 600.0
SHEET_EVERY_S = 3600.0
#: A line in the log, with the errors on the objects to look at, after so many steps.
LOG_EVERY = 200


def matrices_and_others(
    network: nn.Module,
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """What Muon steps and what AdamW steps: the first and the last layer are AdamW's."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        edge = name.startswith(("stem.0", "maps", "whole.3"))
        (matrices if parameter.ndim == 2 and not edge else others).append(parameter)
    return matrices, others


class Trainer:
    """One process's part of a training; all processes hold the same weights."""

    def __init__(
        self, recipe: Recipe, folder: Path, device: str, rank: int = 0, processes: int = 1
    ) -> None:
        self.recipe, self.folder, self.rank, self.processes = recipe, folder, rank, processes
        self.device = torch.device(device)
        torch.manual_seed(recipe.seed)
        self.network = PriorNetwork(recipe.widths, recipe.depths).to(self.device)
        self.mean = copy.deepcopy(self.network).requires_grad_(False)
        matrices, others = matrices_and_others(self.network)
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(
                matrices,
                recipe.matrix_rate,
                weight_decay=recipe.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            ),
            torch.optim.AdamW(others, recipe.other_rate, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self.rates = [recipe.matrix_rate, recipe.other_rate]
        self.step = 0
        self.shards = Shards(folder, FIRST_SEED)

    def run(self) -> None:
        """All steps that are left; the first process writes what is kept."""
        saved = sheet = time.monotonic()
        began, sums, count = time.monotonic(), dict[str, float](), 0
        while self.step < self.recipe.steps:
            end_without_parent()
            if self.step == self.recipe.decay_begins and self.rank == 0:
                self.save("before-decay.pt")
            for name, value in self.learn().items():
                sums[name] = sums.get(name, 0.0) + value
            count += 1
            self.step += 1
            last = self.step == self.recipe.steps
            now = time.monotonic()
            if self.rank == 0 and (
                last or self.step % LOG_EVERY == 0 or now > saved + SAVE_EVERY_S
            ):
                means = {name: value / count for name, value in sums.items()}
                self.log(means, (now - began) / count)
                began, sums, count = time.monotonic(), {}, 0
            if self.rank == 0 and (last or now > saved + SAVE_EVERY_S):
                saved = now
                self.save("state.pt")
                write_weights(self.mean, self.folder / "prior.npz")
            if self.rank == 0 and (last or now > sheet + SHEET_EVERY_S):
                sheet = now
                draw_sheet(self.mean, self.check(24), self.folder / f"sheet-{self.step:07d}.png")

    def learn(self) -> dict[str, float]:
        """One step; the parts of the loss."""
        recipe = self.recipe
        share = recipe.batch // self.processes
        pool = pool_size(self.step, recipe.batch, recipe.passes_per_object, recipe.first_objects)
        part = slice(self.rank * share, (self.rank + 1) * share)
        batch = batch_of(self.shards, pool, recipe.batch, recipe.seed, self.step, part)
        batch = batch.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            answer = batch.answered_by(self.network)
        loss = loss_of(answer, batch.truth)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.total.backward()  # type: ignore[no-untyped-call]
        self._share_gradients()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for optimizer, rate in zip(self.optimizers, self.rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * recipe.rate(self.step)
            optimizer.step()
        keep = min(recipe.average, 1.0 - (self.step + 1) ** -0.75)
        with torch.no_grad():
            for mean, new in zip(self.mean.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(new, 1.0 - keep)
        return {name: float(value) for name, value in loss.parts.items()}

    def _share_gradients(self) -> None:
        """The mean over all processes, in the same order every time."""
        if self.processes == 1:
            return
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self.processes
        parts = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def check(self, count: int, known: float = 0.0) -> Batch:
        """Objects to look at, never learned from; the network is not told the elevation."""
        records = Shards(self.folder, FIRST_CHECK_SEED).read(np.arange(count))
        batch = plain_batch(records, records["elevation_deg"], np.full(count, known))
        return batch.to(self.device)

    def log(self, learned: dict[str, float], seconds_per_step: float) -> None:
        with torch.no_grad():
            batch = self.check(CHECK_OBJECTS)
            answer = batch.answered_by(self.mean)
            found = {k: float(v) for k, v in loss_of(answer, batch.truth).parts.items()}
        line: dict[str, Any] = {
            "step": self.step,
            "samples": self.step * self.recipe.batch,
            "samples_per_s": round(self.recipe.batch / seconds_per_step, 1),
            "learned": {name: round(value, 4) for name, value in learned.items()},
            "checked": {name: round(value, 4) for name, value in found.items()},
        }
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    def save(self, name: str) -> None:
        state = {
            "recipe": asdict(self.recipe),
            "generator": generator_digest(),
            "step": self.step,
            "network": self.network.state_dict(),
            "mean": self.mean.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        unfinished = self.folder / f"{name}.unfinished"
        torch.save(state, unfinished)
        unfinished.replace(self.folder / name)

    def resume(self) -> None:
        """Go on from the newest saved state that the recipe could have reached.

        Raises:
            ValueError: the folder holds the state of another recipe, or none that this one could
                have reached: a training from nothing would write over hours of work.
        """
        passed = None
        for name in ("state.pt", "before-decay.pt"):
            path = self.folder / name
            if not path.exists():
                continue
            state = torch.load(path, map_location=self.device, weights_only=True)
            theirs, ours = dict(state["recipe"]), asdict(self.recipe)
            lengthened = theirs.pop("steps") != ours.pop("steps")
            if {k: _plain(v) for k, v in theirs.items()} != {k: _plain(v) for k, v in ours.items()}:
                raise ValueError(f"{path} is of another recipe: {state['recipe']}")
            then = Recipe(**state["recipe"])
            if lengthened and state["step"] > min(then.decay_begins, self.recipe.decay_begins):
                passed = passed or state
                continue
            self.network.load_state_dict(state["network"])
            self.mean.load_state_dict(state["mean"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            self.step = state["step"]
            return
        if passed is not None:
            raise ValueError(
                f"{self.folder} holds a training of {passed['recipe']['steps']} steps that has "
                f"done {passed['step']}: one of {self.recipe.steps} needs another folder."
            )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def make_objects(recipe: Recipe, folder: Path, worker: int, workers: int) -> None:
    """Every `workers`-th shard of a training, in the order in which it needs them."""
    torch.set_num_threads(1)
    # They get what the steps leave over, which is everything while a step waits for objects.
    os.nice(19)
    if worker == 0:
        Shards(folder, FIRST_CHECK_SEED).write(0)
    shards = Shards(folder, FIRST_SEED)
    most = pool_size(recipe.steps, recipe.batch, recipe.passes_per_object, recipe.first_objects)
    for shard in range(worker, most // SHARD_SIZE, workers):
        end_without_parent()
        shards.write(shard)


def _process(rank: int, recipe: Recipe, folder: Path, device: str, processes: int) -> None:
    if device == "cpu":
        torch.set_num_threads(1 if processes > 1 else torch.get_num_threads())
    if processes > 1:
        meeting = folder / "processes"
        distributed.init_process_group(
            "gloo", init_method=meeting.absolute().as_uri(), rank=rank, world_size=processes
        )
    trainer = Trainer(recipe, folder, device, rank, processes)
    trainer.resume()
    trainer.run()
    if processes > 1:
        distributed.destroy_process_group()


def train(
    recipe: Recipe, folder: Path, *, device: str = "cpu", processes: int = 1, makers: int = 1
) -> None:
    """The whole training, or what is left of it.

    Args:
        folder: objects, states, the log, sheets and the weights (`prior.npz`) go here.
        processes: on a CPU; each takes an equal part of every batch and one core.
        makers: processes that make objects.

    Raises:
        ValueError: a batch cannot be divided among so many processes.
        ProcessRaisedException, ProcessExitedException: a process of the training failed.
        RuntimeError: no more objects are made.
    """
    if recipe.batch % processes:
        raise ValueError(f"a batch of {recipe.batch} has no {processes} equal parts")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "processes").unlink(missing_ok=True)
    context = get_context("spawn")
    workers = [
        context.Process(target=make_objects, args=(recipe, folder, k, makers), daemon=True)
        for k in range(makers)
    ]
    for worker in workers:
        worker.start()
    arguments = (recipe, folder, device, processes)
    trainers = spawn(_process, arguments, nprocs=processes, join=False)  # type: ignore[no-untyped-call]
    try:
        while not trainers.join(timeout=1.0):
            if any(worker.exitcode for worker in workers):
                # Whoever waits for their objects would wait for ever.
                raise RuntimeError("A process that makes objects has failed: see above.")
    finally:
        for process in (*trainers.processes, *workers):
            process.terminate()
            process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("out/prior"))
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--processes", type=int, default=1, help="on a CPU, one core each")
    parser.add_argument("--makers", type=int, default=1, help="processes that make objects")
    for field in fields(Recipe):
        if isinstance(field.default, int | float) or field.name == "steps":
            flag = "--" + field.name.replace("_", "-")
            kind = float if isinstance(field.default, float) else int
            required = field.name == "steps"
            parser.add_argument(flag, type=kind, required=required, default=field.default)
    given = vars(parser.parse_args())
    run = {name: given.pop(name) for name in ("folder", "device", "processes", "makers")}
    train(Recipe(**given), **run)


if __name__ == "__main__":
    main()
