"""Which deployments fit on which GPUs, and how many projects an hour they finish.

It knows what engines need (`pipeline.engines.registry`) and what a bench measured; it asks no
machine.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.table import Table

from deployments.jobs.rows import JobKind
from pipeline.engines.by_views import NO_GENERATOR
from pipeline.engines.engine_spec import Demand
from pipeline.engines.registry import PRESETS, spec_of
from pipeline.errors import InvalidInput, InvalidOption
from pipeline.ports import PortName
from serve_app.cli.console import summary_table

#: Deployments of `serve_config.yaml` that use a GPU, in the order of the pipeline.
HOSTS = {
    "Generator": PortName.GENERATOR,
    "Views": PortName.VIEWS,
    "Depth": PortName.DEPTH,
    "Splats": PortName.SPLATS,
    "Enhancer": PortName.ENHANCER,
}

#: Kinds of the jobs that come to a host that scales, and how many of them keep one replica busy:
#: a job is in one stage at a time, and the first fit is short beside the diffusion models. Guesses
#: until a cluster of cards is measured. A host that is missing goes by its calls alone.
_JOBS: dict[str, tuple[tuple[JobKind, ...], int]] = {
    "Generator": ((JobKind.GENERATE,), 4),
    "Views": ((JobKind.GENERATE,), 2),
    "Splats": ((JobKind.GENERATE, JobKind.REFINE), 4),
    "Enhancer": ((JobKind.REFINE,), 2),
}

#: Where the controller asks, on the machine of the proxy and with the port of the files.
_QUEUE_URL = "http://127.0.0.1:8000/api/v1/queue"

#: Those that may have GPUs of their own; the others are short and share. Where a generator makes
#: the models, views are made only of who asks for them.
_LARGE = {False: ("Views", "Enhancer"), True: ("Generator", "Enhancer")}


class StageTimes(BaseModel):
    """Seconds of each stage on one GPU of its own, as `python -m bench.gpu --json` writes them.

    None is a stage that was not measured.

    Attributes:
        device: the card they were measured on.
        generate: a model in one pass, `python -m bench.gpu deg --json`.
        views: 16 views with the default steps.
        depth: of 16 views.
        fit: the first fit.
        enhance: of the views of one refinement round.
        improve: the optimisation of one round.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    device: str
    generate: float | None = Field(default=None, gt=0)
    views: float | None = Field(default=None, gt=0)
    depth: float | None = Field(default=None, gt=0)
    fit: float | None = Field(default=None, gt=0)
    enhance: float | None = Field(default=None, gt=0)
    improve: float | None = Field(default=None, gt=0)

    def loads(self, rounds: int, *, by_generator: bool = False) -> dict[str, float]:
        """Seconds that one project keeps each host busy.

        Raises:
            InvalidInput: a stage that the project has was not measured.
        """
        refined = {
            "Splats": rounds * self._measured("improve"),
            "Enhancer": rounds * self._measured("enhance"),
        }
        if by_generator:
            return {"Generator": self._measured("generate"), "Views": 0.0, "Depth": 0.0} | refined
        return {
            "Views": self._measured("views"),
            "Depth": self._measured("depth"),
            **refined,
            "Splats": self._measured("fit") + refined["Splats"],
        }

    def _measured(self, stage: str) -> float:
        seconds: float | None = getattr(self, stage)
        if seconds is None:
            deg = " deg" if stage == "generate" else ""
            raise InvalidInput(
                f"The times lack the stage {stage}; `python -m bench.gpu{deg} --json FILE` "
                "measures it. Files of both are named together: `--times A --times B`."
            )
        return seconds


@dataclass(frozen=True)
class Placement:
    """A deployment and its part of the GPUs.

    Attributes:
        share: of one GPU, for each replica; 1 is a whole one.
        replicas: at most so many; where it is more than 1, the deployment scales by itself.
        demand: of each replica.
    """

    host: str
    engine: str
    share: float
    replicas: int
    demand: Demand


@dataclass(frozen=True)
class Plan:
    """What fits.

    Attributes:
        projects_per_hour: None where nobody has measured the stages.
        bottleneck: the host that decides about it.
    """

    gpus: int
    memory_gib: float
    placements: tuple[Placement, ...]
    projects_per_hour: float | None = None
    bottleneck: str | None = None

    def shares(self) -> dict[str, float]:
        """`AppArgs.gpu_shares`."""
        return {placement.host: placement.share for placement in self.placements}

    def deployments(self) -> list[dict[str, Any]]:
        """What belongs under `deployments:` in `serve_config.yaml`, for the hosts with a GPU."""
        found = []
        for placement in self.placements:
            entry: dict[str, Any] = {"name": placement.host}
            if placement.replicas == 1:
                entry["num_replicas"] = 1
            else:
                entry["autoscaling_config"] = scaling(placement.host, placement.replicas)
            entry["ray_actor_options"] = {"num_cpus": 0, "num_gpus": placement.share}
            found.append(entry)
        return found


def scaling(host: str, replicas: int) -> dict[str, Any]:
    """The `autoscaling_config` of a host with a GPU and up to so many replicas."""
    config: dict[str, Any] = {
        "min_replicas": 1,
        "max_replicas": replicas,
        "target_ongoing_requests": 1,
        "upscale_delay_s": 10,
        "downscale_delay_s": 600,
    }
    if host in _JOBS:
        kinds, jobs = _JOBS[host]
        config["policy"] = {
            "policy_function": "deployments.scaling:QueuedWork",
            "policy_kwargs": {
                "url": _QUEUE_URL,
                "jobs_per_replica": jobs,
                "kinds": [kind.value for kind in kinds],
            },
        }
    return config


def read_times(*paths: Path) -> StageTimes:
    """The stage times of benches of one card; of what several have measured, the last.

    Raises:
        InvalidInput: a file is none of them, or they are of different cards.
    """
    read = [_read_times(path) for path in paths]
    cards = {times.device for times in read}
    if len(cards) > 1:
        raise InvalidInput(f"The times are of different cards: {', '.join(sorted(cards))}.")
    found: dict[str, Any] = {}
    for times in read:
        found |= times.model_dump(exclude_none=True)
    return StageTimes.model_validate(found)


def _read_times(path: Path) -> StageTimes:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        times = StageTimes.model_validate(found["stages"])
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise InvalidInput(
            f"{path} holds no stage times; `python -m bench.gpu --json {path}` writes them."
        ) from error
    if found.get("tiny"):
        raise InvalidInput(f"{path} is of a bench with small networks: its times mean nothing.")
    return times


def make_plan(
    gpus: int,
    memory_gib: float,
    *,
    engines: Mapping[PortName, str] = PRESETS["gpu"],
    times: StageTimes | None = None,
    rounds: int = 3,
) -> Plan:
    """Where the GPU engines go.

    On one card all share it. With more, what makes the models (view synthesis or a generator) and
    the enhancer get cards of their own as far as there are any; the others share one.

    Args:
        gpus: cards, all alike.
        memory_gib: of one card.
        engines: of each port; without one named there is no generator.
        times: of the stages; None leaves the throughput open.
        rounds: refinement rounds of a project.

    Raises:
        InvalidOption: a number is out of range, or the engines do not fit; the text says what
            would.
    """
    if not 1 <= gpus <= 1024:
        raise InvalidOption(f"gpus must be between 1 and 1024, got {gpus}.")
    if not 1 <= memory_gib <= 1024:
        raise InvalidOption(f"memory must be between 1 and 1024 GiB, got {memory_gib:g}.")
    if not 0 <= rounds <= 100:
        raise InvalidOption(f"rounds must be between 0 and 100, got {rounds}.")
    named = {PortName.GENERATOR: NO_GENERATOR, **engines}
    by_generator = named[PortName.GENERATOR] != NO_GENERATOR
    specs = {host: spec_of(port, named[port]) for host, port in HOSTS.items()}
    demands = {host: spec.demand for host, spec in specs.items() if spec.demand}
    needs = {host: demand.total for host, demand in demands.items()}
    for host, gib in needs.items():
        if gib > memory_gib:
            raise InvalidOption(
                f"{host} ({specs[host].name}) needs {gib:.1f} GiB of one GPU, which has "
                f"{memory_gib:g}. {_SMALLER[host]}"
            )
    loads = None if times is None else times.loads(rounds, by_generator=by_generator)
    large = [host for host in _LARGE[by_generator] if host in needs]
    cards = _cards(gpus, memory_gib, needs, large, loads)
    placements = tuple(
        Placement(
            host,
            specs[host].name,
            *_share(host, [card for card in cards if host in card], memory_gib, needs),
            demand,
        )
        for host, demand in demands.items()
    )
    if loads is None:
        return Plan(gpus, memory_gib, placements)
    rate, bottleneck = _throughput(cards, loads)
    return Plan(gpus, memory_gib, placements, 3600 * rate, bottleneck)


#: What to do where an engine does not fit.
_SMALLER = {
    "Generator": "The engine none makes models by views instead.",
    "Views": "The prior engine needs hardly any of it, the relief engine no GPU.",
    "Depth": "depth-anything-v2-small needs less.",
    "Splats": "The cpu engine needs no GPU.",
    "Enhancer": "The realesrgan engine needs no GPU.",
}


def _cards(
    gpus: int,
    memory_gib: float,
    needs: Mapping[str, float],
    large: list[str],
    loads: Mapping[str, float] | None,
) -> list[list[str]]:
    """The hosts on each card that is used; a host on several cards has a replica on each."""
    small = [host for host in needs if host not in large]
    # As few cards for the first replicas as leave none of them without room, at most one each.
    fixed = min(gpus, len(large) + bool(small))
    cards = _packed(fixed, memory_gib, needs, large, small)
    # Every further card repeats the one that is busiest by then; where nobody has measured, those
    # of the diffusion models in turn.
    groups = [tuple(card) for card in cards]
    assumed = loads or {host: float(host in large) for host in needs}
    for _ in range(gpus - fixed):
        busiest = max(
            groups,
            key=lambda group: sum(assumed[host] for host in group) / cards.count(list(group)),
        )
        cards.append(list(busiest))
    return cards


def _packed(
    count: int, memory_gib: float, needs: Mapping[str, float], large: list[str], small: list[str]
) -> list[list[str]]:
    """Every host once on `count` cards: largest first, each onto the emptiest card."""
    if count > len(large):
        cards = [*([host] for host in large), small]
    else:
        cards = [[] for _ in range(count)]
        for host in sorted(needs, key=lambda host: -needs[host]):
            min(cards, key=lambda card: sum(needs[other] for other in card)).append(host)
    for card in cards:
        gib = sum(needs[host] for host in card)
        if gib > memory_gib:
            listed = ", ".join(f"{host} {needs[host]:.1f}" for host in card)
            raise InvalidOption(
                f"{listed} need {gib:.1f} GiB together and share a GPU of {memory_gib:g} GiB. "
                "More or larger GPUs, or smaller engines, are needed: "
                + " ".join(_SMALLER[host] for host in card)
            )
    return cards


def _share(
    host: str, cards: list[list[str]], memory_gib: float, needs: Mapping[str, float]
) -> tuple[float, int]:
    """What a host gets of one GPU, and how many replicas, from the cards that it is on."""
    share = 1.0
    if any(len(card) > 1 for card in cards):
        # What is left on a shared card is given to its hosts by need, in hundredths.
        tightest = max(sum(needs[other] for other in card) for card in cards)
        share = math.floor(100 * needs[host] / tightest) / 100
        if share * memory_gib < needs[host]:
            share = math.ceil(100 * needs[host] / memory_gib) / 100
    return share, len(cards)


def _throughput(cards: list[list[str]], loads: Mapping[str, float]) -> tuple[float, str]:
    """Projects a second when all cards are busy, and the host that limits it.

    A card that several hosts share does their work one after the other.
    """
    replicas = {host: sum(host in card for card in cards) for card in cards for host in card}
    slowest, bottleneck = 0.0, ""
    for card in cards:
        busy = {host: loads[host] / replicas[host] for host in card}
        if sum(busy.values()) > slowest:
            slowest, bottleneck = sum(busy.values()), max(busy, key=lambda host: busy[host])
    return (1 / slowest if slowest else math.inf), bottleneck


def plan_table(plan: Plan) -> Table:
    """The placements for people."""
    title = f"{plan.gpus} GPUs of {plan.memory_gib:g} GiB"
    columns = ("deployment", "engine", "GPU each:", "replicas:", "weights:", "working:", "needs:")
    rows = [
        (
            placed.host,
            placed.engine,
            f"{placed.share:g}",
            "1" if placed.replicas == 1 else f"1 to {placed.replicas}",
            f"{placed.demand.weights:.2f} GiB",
            f"{placed.demand.working:.1f} GiB",
            f"{placed.demand.total:.1f} GiB",
        )
        for placed in plan.placements
    ]
    return summary_table(title, columns, rows)
