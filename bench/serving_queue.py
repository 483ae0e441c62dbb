"""A long queue of four clients, drained by four drivers: lost jobs, order, speed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from statistics import mean, median

from bench.serving_app import API, ONE_HOST, App, sleeping_app, small_photo
from bench.serving_host import LoggingHost
from bench.table import Row
from deployments.jobs.rows import EventKind, JobState
from deployments.jobs.store import Store

__all__ = ["largest_lead", "queue"]

_CLIENTS = 4
_SLOTS = 8
_LANES = 4

_NAPS = {"views": 0.3, "depth": 0.2, "splats": 0.5}

#: Of the jobs that fill all slots until everybody has queued up.
_BLOCKED = {"views": 3600.0}


@dataclass(frozen=True)
class _Ran:
    """One job, from its events. Times as the database saw them.

    Attributes:
        claims: how often an attempt began.
        entered_at: when its first stage was told of.
    """

    client: str
    state: str
    claims: int
    started_at: datetime
    entered_at: datetime
    ended_at: datetime


def queue(*, quick: bool) -> list[Row]:
    """The clients come one after another, each with all its jobs: first come would be unfair."""
    per_client = 5 if quick else 50
    with sleeping_app(
        LoggingHost,
        hosts=ONE_HOST,
        # Small pictures: this is about the queue.
        driver={"pictures": (2, 64)},
        options={"Driver": {"num_replicas": 4}, "Models": {"num_replicas": _LANES}},
        max_running_jobs=_SLOTS,
        max_queued_jobs=10 * _CLIENTS * per_client,
        client_header="X-Client",
    ) as app:
        photo = small_photo()
        with ThreadPoolExecutor(4) as threads:
            count = _SLOTS + _CLIENTS * per_client
            projects = list(threads.map(lambda _: app.upload(photo), range(count)))
        blockers = _block(app, projects[:_SLOTS])
        clients: dict[str, str] = {}
        began = time.perf_counter()
        for i, project in enumerate(projects[_SLOTS:]):
            client = f"client {i // per_client}"
            clients[app.start(project, client=client)] = client
        submit_s = time.perf_counter() - began
        app.naps(_NAPS)
        drain_began = time.time()
        for blocker in blockers:
            app.http.post(f"{API}/jobs/{blocker}/cancel").raise_for_status()
        for job_id in clients:
            app.ended(job_id)
        jobs = app.on_store(lambda store: _read(store, clients))
        engines_s = sum(nap["ended"] - nap["began"] for nap in app.slept(since=drain_began))
    return _rows(jobs, engines_s, submit_s / len(clients))


def _block(app: App, projects: Sequence[str]) -> list[str]:
    """Jobs that fill all slots, so that nothing begins before everything is queued."""
    app.naps(_BLOCKED)
    blockers = [app.start(project, client="blocker") for project in projects]
    for blocker in blockers:
        app.until(blocker, lambda job: job["state"] == "running")
    return blockers


async def _read(store: Store, clients: dict[str, str]) -> list[_Ran]:
    jobs = []
    for job_id, client in clients.items():
        events = await store.records.job_events(job_id, limit=1000)
        states = [event for event in events if event.kind is EventKind.STATE]
        claims = [event.at for event in states if event.data["state"] == JobState.RUNNING]
        stages = [event.at for event in events if event.kind is EventKind.STAGE]
        last = states[-1]
        jobs.append(_Ran(client, last.data["state"], len(claims), claims[0], stages[0], last.at))
    return sorted(jobs, key=lambda job: job.started_at)


def largest_lead(started: Sequence[str], waiting: dict[str, int]) -> int:
    """Most by which one client was ahead of another while all of them still had jobs waiting.

    Args:
        started: whose job began, in order.
        waiting: how many jobs each client had at the beginning.
    """
    counts: Counter[str] = Counter(dict.fromkeys(waiting, 0))
    lead = 0
    for client in started:
        counts[client] += 1
        if any(counts[name] >= waiting[name] for name in waiting):
            break
        lead = max(lead, max(counts.values()) - min(counts.values()))
    return lead


def _rows(jobs: list[_Ran], engines_s: float, submit_s: float) -> list[Row]:
    first, last = jobs[0].started_at, max(job.ended_at for job in jobs)
    drain_s = (last - first).total_seconds()
    started = [job.client for job in jobs]
    lost = sum(job.state != "succeeded" for job in jobs)
    idle = _idle_s(jobs)
    claimed = [(job.entered_at - job.started_at).total_seconds() for job in jobs]
    lanes = 100 * engines_s / (_LANES * drain_s)
    lead = largest_lead(started, dict(Counter(started)))
    return [
        Row(f"queue of {len(jobs)}: jobs that did not succeed", lost, "", 0),
        Row("  claimed more than once", sum(job.claims != 1 for job in jobs), "", 0),
        Row(
            "  largest lead of a client over another",
            lead,
            "jobs",
            _SLOTS,
            details={"started": [int(client.split()[1]) for client in started]},
        ),
        Row("  jobs a second", len(jobs) / drain_s, "1/s", details={"drain_s": drain_s}),
        Row("  engines' time a job", engines_s / len(jobs), "s"),
        Row("  engines at work", lanes, "%"),
        Row("  slot empty between two jobs, mean", 1e3 * mean(idle), "ms"),
        Row("  from claim to first stage, median", 1e3 * median(claimed), "ms"),
        Row("  submit, mean", 1e3 * submit_s, "ms"),
    ]


def _idle_s(jobs: Sequence[_Ran]) -> list[float]:
    """How long a slot was empty before each job but the first ones: the dispatcher's own time.

    The job takes the slot that has been empty for longest.
    """
    ends = sorted(job.ended_at for job in jobs)
    later = list(jobs)[_SLOTS:]
    return [
        max((job.started_at - end).total_seconds(), 0.0)
        for job, end in zip(later, ends, strict=False)
    ] or [0.0]
