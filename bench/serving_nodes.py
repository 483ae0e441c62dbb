"""Three nodes with pretended GPUs on this machine; one is killed while jobs run on it.

`python -m bench.serving_nodes` prints the rows as JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

# First: it sets what Ray reads when it is imported, so that the cluster listens on loopback only.
from bench.serving_app import ONE_HOST, App, sleeping_app, small_photo  # isort: skip

import ray
from ray.cluster_utils import Cluster

from bench.serving_host import LoggingHost
from bench.table import Row
from deployments.jobs.rows import EventKind, JobEvent, JobState
from deployments.jobs.store import Store
from serve_app.server import APP_NAME
from serve_app.stores import EmbeddedPostgres
from serve_app.stores.server_programs import passable_folder

__all__ = ["nodes"]

_LOOPBACK = "127.0.0.1"

_GPUS_A_NODE = 2

#: One job for every GPU.
_JOBS = 2 * _GPUS_A_NODE

_NAPS = {"views": 2.0, "depth": 1.0, "splats": 12.0}

#: So long after all jobs have begun their fit.
_KILL_AFTER_S = 3.0

#: Ingress, dispatcher and controller stay; a driver is where the resource of its name is.
_STAYS = {"num_cpus": 0, "resources": {"stays": 0.01}}
_DRIVES = {"num_cpus": 0, "resources": {"driver": 1}}


class _Nodes:
    """A head and two workers; `doomed` has GPUs and a driver, as the other worker has GPUs."""

    def __init__(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # `Cluster` makes no token as `ray.init` does; all of it listens on loopback.
        os.environ["RAY_AUTH_MODE"] = "disabled"
        common: dict[str, Any] = {"node_ip_address": _LOOPBACK, "include_dashboard": False}
        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={**common, "num_cpus": 2, "resources": {"stays": 1, "driver": 1}},
        )
        gpus = {**common, "num_cpus": 1, "num_gpus": _GPUS_A_NODE}
        self.cluster.add_node(**gpus)
        self.doomed = self.cluster.add_node(**gpus, resources={"driver": 1})

    @contextmanager
    def connected(self) -> Iterator[None]:
        """This process as a driver of the cluster; the cluster is stopped on the way out."""
        try:
            ray.init(
                address=self.cluster.address,
                logging_level=logging.ERROR,
                log_to_driver=False,
                namespace=APP_NAME,
            )
            yield
        finally:
            ray.shutdown()
            self.cluster.shutdown()

    def kill(self) -> None:
        """SIGKILL to the raylet; its workers die with it."""
        self.cluster.remove_node(self.doomed, allow_graceful=False)


def nodes(*, quick: bool) -> list[Row]:
    """A job on every GPU, then a node with half of the GPUs and of the drivers dies."""
    naps = {name: s / 4 for name, s in _NAPS.items()} if quick else _NAPS
    with (
        # A folder of its own: there Ray also notes which cluster runs on this machine.
        tempfile.TemporaryDirectory(prefix="g3d-ray-") as folder,
        # Several nodes have a database that all of them reach; that of one node would be refused.
        passable_folder("glimpse3d-bench-") as database,
        EmbeddedPostgres(database) as server,
    ):
        os.environ["RAY_TMPDIR"] = folder
        cluster = _Nodes()
        with sleeping_app(
            LoggingHost,
            driver={"pictures": (2, 64)},
            options={
                "Ingress": {"ray_actor_options": _STAYS},
                "Dispatcher": {"ray_actor_options": _STAYS},
                "Driver": {"ray_actor_options": _DRIVES, "num_replicas": 2},
                "Models": {"num_replicas": _JOBS},
            },
            ray_cluster=cluster.connected,
            database_url=server.dsn,
            hosts=ONE_HOST,
            gpu_shares={"Models": 1.0},
            max_running_jobs=2 * _JOBS,
            # Uploads ask the engines, too.
            call_limit_s=120.0,
        ) as app:
            return _rows(_lose_a_node(app, cluster, naps, 0.5 if quick else _KILL_AFTER_S))


@dataclass(frozen=True)
class _Lost:
    """When the node was killed, every job as it ended, its events, and later engine calls."""

    killed_at: datetime
    jobs: Sequence[dict[str, Any]]
    events: Sequence[Sequence[JobEvent]]
    naps: Sequence[dict[str, Any]]


def _lose_a_node(app: App, cluster: _Nodes, naps: dict[str, float], kill_after_s: float) -> _Lost:
    photo = small_photo()
    projects = [app.upload(photo) for _ in range(_JOBS)]
    app.naps(naps)
    ids = [app.start(project) for project in projects]
    for job_id in ids:
        app.until(job_id, lambda job: job["stage"] == "splats")
    time.sleep(kill_after_s)
    killed_at = datetime.now(UTC)
    cluster.kill()
    jobs = [app.ended(job_id) for job_id in ids]

    async def read(store: Store) -> list[list[JobEvent]]:
        return [list(await store.records.job_events(job_id, limit=1000)) for job_id in ids]

    naps_after = app.slept(since=killed_at.timestamp())
    return _Lost(killed_at, jobs, app.on_store(read), naps_after)


def _rows(lost: _Lost) -> list[Row]:
    killed_at, jobs, events = lost.killed_at, lost.jobs, lost.events

    def after(at: datetime | str) -> float:
        moment = datetime.fromisoformat(at) if isinstance(at, str) else at
        return (moment - killed_at).total_seconds()

    affected = [i for i, job in enumerate(jobs) if job["attempt"] > 1]
    resumed = [
        after(event.at)
        for i in affected
        for event in events[i]
        if event.kind is EventKind.STATE
        and event.data["state"] == JobState.RUNNING
        and event.at > killed_at
    ]
    ends = [after(job["finished_at"]) for job in jobs]
    attempts = [job["attempt"] for job in jobs]
    details = {
        "attempts": attempts,
        "ends_s": ends,
        "resumed_s": resumed,
        "calls": [
            [
                nap["name"],
                *(round(nap[end] - killed_at.timestamp(), 2) for end in ("began", "ended")),
            ]
            for nap in lost.naps
        ],
        "states": [
            [after(event.at), dict(event.data)]
            for i in affected
            for event in events[i]
            if event.kind is EventKind.STATE and event.at > killed_at
        ],
    }
    failed = sum(job["state"] != "succeeded" for job in jobs)
    return [
        Row("a node killed: jobs that did not succeed", failed, "", 0, details=details),
        Row("  jobs under way", len(jobs), ""),
        Row("  that lost their engine or driver", len(affected), "", 1, at_least=True),
        Row("  most attempts of one job", max(attempts), ""),
        Row("  from the kill until all of them went on", max(resumed, default=0.0), "s"),
        Row(
            "  from the kill to the end of the last one",
            max((ends[i] for i in affected), default=0.0),
            "s",
        ),
        Row("  to the end of the last other one", max(_others(ends, affected), default=0.0), "s"),
    ]


def _others(ends: Sequence[float], affected: Sequence[int]) -> list[float]:
    return [end for i, end in enumerate(ends) if i not in affected]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    rows = nodes(quick=parser.parse_args().quick)
    print(json.dumps([asdict(row) for row in rows], indent=2))


if __name__ == "__main__":
    main()
